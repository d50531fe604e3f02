//! The connection: one stream to one broker at a time, kept up for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use net::rpc::ingest_client::IngestClient;
use net::rpc::{AgentMessage, BrokerMessage, Hello, agent_message, broker_message};
use net::tls::ClientTls;
use net::{ForeignBroker, Identity, NotAPeerPort};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::ShipCounters;
use super::backoff::Backoff;
use super::pace::{Pace, Trouble};
use crate::queue::Bell;
use crate::spool::Lane;

/// From the first packet to the broker's answer to the request.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Words of the broker that wait for the pipeline; while they do, the broker waits.
const EVENTS: usize = 256;

/// Brokers that are tried in turn, whatever a broker tells.
const MAX_BROKERS: usize = 64;

/// What a link needs to know.
pub(crate) struct LinkSettings {
    /// `HOST:PORT` each; tried in turn, and stayed with while it works. Those of the configuration
    /// first, then what brokers told of.
    pub(crate) brokers: Vec<String>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) tls: ClientTls,
    pub(crate) hello: Hello,
    /// Differs between hosts.
    pub(crate) seed: u64,
}

/// What happens on the link.
pub(crate) enum LinkEvent {
    /// A stream is open; the greeting is sent.
    Opened(Outgoing),
    /// The broker says something.
    Message(BrokerMessage),
    /// The stream is gone.
    Closed,
}

/// The sending side of one stream. Dropping it ends the stream.
pub(crate) struct Outgoing {
    live: mpsc::UnboundedSender<AgentMessage>,
    backlog: mpsc::UnboundedSender<AgentMessage>,
    /// How long the link shall wait before the next stream, if the broker asked for it.
    end: oneshot::Sender<Option<Duration>>,
}

impl Outgoing {
    /// Queues a batch; those of the live lane overtake the others. What may be queued is bounded
    /// by the broker's window.
    pub(crate) fn send(&self, lane: Lane, message: AgentMessage) {
        let queue = if lane == Lane::Live { &self.live } else { &self.backlog };
        // A stream that has just ended says so by an event.
        let _ = queue.send(message);
    }

    /// Ends the stream; the next one comes after the backoff, not before `retry_after`.
    pub(crate) fn reset(self, retry_after: Option<Duration>) {
        let _ = self.end.send(retry_after);
    }
}

/// What the request's body is made of: the greeting, then what is queued, live batches first.
struct Outbound {
    hello: Option<AgentMessage>,
    live: mpsc::UnboundedReceiver<AgentMessage>,
    backlog: mpsc::UnboundedReceiver<AgentMessage>,
}

impl Stream for Outbound {
    type Item = AgentMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AgentMessage>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(hello));
        }
        match self.live.poll_recv(cx) {
            Poll::Ready(message) => Poll::Ready(message),
            Poll::Pending => match self.backlog.poll_recv(cx) {
                Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
                // Both ends go at once; the live one says so.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Keeps a stream open until the pipeline is gone.
pub(crate) struct Link {
    settings: LinkSettings,
    events: mpsc::Sender<LinkEvent>,
    bell: Bell,
    counters: Arc<ShipCounters>,
    backoff: Backoff,
}

/// How a stream ended.
enum End {
    /// It broke, or could not be opened.
    Broken(String),
    /// The broker will not have this agent; somebody has to do something.
    Refused(String),
    /// The pipeline gave it up.
    Reset(Option<Duration>),
    /// The pipeline has ended.
    Stopped,
}

impl Link {
    /// A link and where its events arrive.
    pub(crate) fn new(
        settings: LinkSettings,
        bell: Bell,
        counters: Arc<ShipCounters>,
    ) -> (Link, mpsc::Receiver<LinkEvent>) {
        let (events, received) = mpsc::channel(EVENTS);
        let backoff = Backoff::new(settings.seed);
        (Link { settings, events, bell, counters, backoff }, received)
    }

    /// Runs until the pipeline drops the receiver of the events.
    pub(crate) async fn run(mut self) {
        // Agents spread over the brokers, and each stays with its own while that works.
        let mut turn = (self.settings.seed % self.settings.brokers.len() as u64) as usize;
        let mut failures = 0;
        let mut pace = Pace::default();
        loop {
            let asked = turn;
            let broker = self.settings.brokers[turn].clone();
            let mut welcomed = false;
            let end = self.stream(&broker, &mut welcomed).await;
            self.counters.closed();
            self.counters.failed();
            // A broker may have told of others meanwhile.
            let brokers = self.settings.brokers.len();
            failures = if welcomed { 1 } else { failures + 1 };
            // One that ended the stream is going, most often, and one that was given up stores nothing now:
            // the others are there.
            turn = (turn + 1) % brokers;
            let retry_after = match end {
                End::Stopped => return,
                End::Reset(retry_after) => retry_after,
                End::Refused(reason) => {
                    self.counters.refused_by_broker();
                    if pace.may_say(asked, Trouble::Refused, Instant::now()) {
                        tracing::error!(
                            broker,
                            reason,
                            failures,
                            "the broker does not let this agent in; what it collects is kept here"
                        );
                    }
                    None
                }
                End::Broken(reason) => {
                    if pace.may_say(asked, Trouble::Broken, Instant::now()) {
                        tracing::warn!(broker, reason, failures, "no stream to the broker");
                    }
                    None
                }
            };
            let delay = match retry_after {
                None if failures < brokers => self.backoff.first_delay(),
                retry_after => self.backoff.next_delay(retry_after),
            };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.events.closed() => return,
            }
        }
    }

    /// Opens one stream and serves it to its end.
    async fn stream(&mut self, broker: &str, welcomed: &mut bool) -> End {
        // A new connection each time: one that has gone silent must not be used again.
        let channel = match net::channel(broker, &self.settings.tls) {
            Ok(channel) => channel,
            Err(error) => return End::Broken(error.to_string()),
        };
        let (live, live_queue) = mpsc::unbounded_channel();
        let (backlog, backlog_queue) = mpsc::unbounded_channel();
        let (end, mut ended) = oneshot::channel();
        let hello = agent_message::Message::Hello(self.settings.hello.clone());
        let outbound = Outbound {
            hello: Some(AgentMessage { message: Some(hello) }),
            live: live_queue,
            backlog: backlog_queue,
        };
        let mut client = IngestClient::new(channel.clone());
        let opened = tokio::select! {
            opened = timeout(OPEN_TIMEOUT, client.push(outbound)) => opened,
            () = self.events.closed() => return End::Stopped,
        };
        let mut inbound = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return end_of(broker, &status),
            Err(_) => return End::Broken("no answer within 20 s".to_owned()),
        };
        self.counters.opened();
        if !self.tell(LinkEvent::Opened(Outgoing { live, backlog, end })).await {
            return End::Stopped;
        }
        let identity = Arc::clone(&self.settings.identity);
        let mut renewal = std::pin::pin!(identity.keep_fresh(channel, broker.to_owned()));
        let end = loop {
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(broker_message::Message::Welcome(welcome)) = &message.message {
                            *welcomed = true;
                            self.backoff.succeeded();
                            learn(&mut self.settings.brokers, &welcome.brokers);
                        }
                        if !self.tell(LinkEvent::Message(message)).await {
                            return End::Stopped;
                        }
                    }
                    Ok(None) => break End::Broken("the broker ended the stream".to_owned()),
                    Err(status) => break end_of(broker, &status),
                },
                wish = &mut ended => break match wish {
                    Ok(retry_after) => End::Reset(retry_after),
                    Err(_) => End::Stopped,
                },
                () = self.events.closed() => return End::Stopped,
                () = &mut renewal => {}
            }
        };
        if self.tell(LinkEvent::Closed).await { end } else { End::Stopped }
    }

    /// Hands an event over; false if nobody listens any more.
    async fn tell(&self, event: LinkEvent) -> bool {
        let told = self.events.send(event).await.is_ok();
        self.bell.ring();
        told
    }
}

/// Adds brokers that a broker tells of to those that are known. None goes: an address that leads nowhere
/// any more costs an attempt.
fn learn(known: &mut Vec<String>, told: &[String]) {
    for broker in told {
        if known.len() < MAX_BROKERS && !known.contains(broker) {
            tracing::info!(broker, "the cluster has this broker as well");
            known.push(broker.clone());
        }
    }
}

/// What a status says about the next attempt, with all that stands below it.
fn end_of(broker: &str, status: &Status) -> End {
    if let Some(other) = NotAPeerPort::answered(broker, status) {
        return End::Refused(other.to_string());
    }
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(foreign) = inner.and_then(|inner| inner.downcast_ref::<ForeignBroker>()) {
            return End::Refused(foreign.to_string());
        }
        if let Some(other) = inner.and_then(|inner| inner.downcast_ref::<NotAPeerPort>()) {
            return End::Refused(other.to_string());
        }
        cause = error.source();
    }
    let reason = net::status_words(status);
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => End::Refused(reason),
        _ => End::Broken(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_are_told_of_are_known_once_and_not_without_end() {
        let mut known = vec!["a:1".to_owned()];
        learn(&mut known, &["b:1".to_owned(), "a:1".to_owned(), "b:1".to_owned()]);
        assert_eq!(known, ["a:1", "b:1"]);
        let many: Vec<String> = (0..1_000).map(|port| format!("c:{port}")).collect();
        learn(&mut known, &many);
        assert_eq!(known.len(), MAX_BROKERS);
    }
}
