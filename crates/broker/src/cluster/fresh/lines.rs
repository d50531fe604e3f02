//! Lines that other brokers take, for those who follow them at this one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use model::{Labels, LogBatch, Matcher, TenantName};
use net::rpc::{DroppedLine, LiveLinesPart, LiveLinesRequest};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::{Others, Peer};
use crate::Broker;
use crate::logs::{LineFeed, LineInbox, LiveLines};
use crate::rpc::{messages, tenant_named};

/// Lines of another broker on their way.
pub type LiveLineParts = Pin<Box<dyn Stream<Item = Result<LiveLinesPart, Status>> + Send>>;

/// Between two tries to follow one.
const PAUSE: Duration = Duration::from_millis(250);
/// One that has nothing to say says so this often …
const SAY_EVERY: Duration = Duration::from_secs(2);
/// … and one that says nothing for so long does not answer.
const SILENCE: Duration = Duration::from_secs(6);

impl Broker {
    /// Answers another broker with the lines that this one takes. The stream must be read: nothing else holds it
    /// up, but what is not read is dropped and named.
    pub fn answer_live_lines(&self, request: LiveLinesRequest) -> LiveLineParts {
        match self.live_lines_here(request) {
            Ok(feed) => parts(feed),
            Err(status) => Box::pin(stream::iter([Err(status)])),
        }
    }

    fn live_lines_here(&self, request: LiveLinesRequest) -> Result<LineFeed, Status> {
        let own = self.inner.clustered.as_ref().map_or(0, |clustered| clustered.peers.own.0);
        if request.to != own {
            return Err(Status::failed_precondition(format!(
                "this is broker {own}, not broker {}: its address was given to another",
                request.to
            )));
        }
        let tenant = tenant_named(&request.tenant)?;
        let matchers = messages::matchers(&request.selector.unwrap_or_default())?;
        self.subscribe_lines_here(tenant, matchers).map_err(Status::resource_exhausted)
    }
}

/// First an empty part: from there on nothing is missed. Then what comes, until the broker stops.
fn parts(feed: LineFeed) -> LiveLineParts {
    let open = stream::iter([Ok(LiveLinesPart::default())]);
    let lines = stream::unfold(Some(feed), |feed| async move {
        let mut feed = feed?;
        match timeout(SAY_EVERY, feed.next()).await {
            Ok(Some(lines)) => Some((Ok(part_of(lines)), Some(feed))),
            Ok(None) => Some((Err(Status::unavailable("the broker is stopping")), None)),
            Err(_) => Some((Ok(LiveLinesPart::default()), Some(feed))),
        }
    });
    Box::pin(open.chain(lines))
}

fn part_of(lines: LiveLines) -> LiveLinesPart {
    let dropped = |(labels, timestamp_ns): (Labels, i64)| DroppedLine {
        labels: Bytes::copy_from_slice(labels.as_packed()),
        timestamp_ns,
    };
    LiveLinesPart {
        lines: Bytes::copy_from_slice(lines.batch.as_parts()),
        missed: lines.missed,
        dropped: lines.dropped.into_iter().map(dropped).collect(),
    }
}

fn lines_of(part: LiveLinesPart) -> Result<LiveLines, String> {
    let batch = LogBatch::from_parts(part.lines.into()).map_err(|error| error.to_string())?;
    let dropped = |line: DroppedLine| {
        let labels = Labels::from_packed(&line.labels).map_err(|error| error.to_string())?;
        Ok::<_, String>((labels, line.timestamp_ns))
    };
    let dropped = part.dropped.into_iter().map(dropped).collect::<Result<_, _>>()?;
    Ok(LiveLines { batch, missed: part.missed, dropped, notes: Vec::new() })
}

/// One broker that is followed.
struct Followed {
    address: String,
    name: String,
    request: LiveLinesRequest,
    inbox: LineInbox,
}

impl Others {
    /// Begins to bring what all others take into a subscription; ends when it is aborted. The channel ends when
    /// each of those that there are now has begun to tell, or did not answer. `None` where there is no runtime.
    pub(crate) fn bring_lines(
        self: &Arc<Self>,
        tenant: TenantName,
        matchers: &[Matcher],
        inbox: LineInbox,
    ) -> Option<(AbortHandle, mpsc::Receiver<()>)> {
        let runtime = self.runtime.clone()?;
        let selector = Some(messages::selector_of(matchers));
        let request = LiveLinesRequest { to: 0, tenant: tenant.to_string(), selector };
        let (begun, all_begun) = mpsc::channel(1);
        let following = Arc::clone(self).follow_lines_of_all(request, inbox, begun);
        Some((runtime.spawn(following).abort_handle(), all_begun))
    }

    async fn follow_lines_of_all(
        self: Arc<Self>,
        request: LiveLinesRequest,
        inbox: LineInbox,
        begun: mpsc::Sender<()>,
    ) {
        let begin = |peer: &Peer, begun| {
            let (request, inbox) = (request.clone(), inbox.clone());
            let request = LiveLinesRequest { to: peer.id.0, ..request };
            let (address, name) = (peer.address.clone(), peer.name.clone());
            let one = Followed { address, name, request, inbox };
            Arc::clone(&self).follow_lines_of(one, begun)
        };
        // Only those that were there first are waited for.
        self.follow_each(Some(begun), begin).await;
    }

    /// Reads what one broker takes, again and again. `begun` is dropped when it tells, or does not answer.
    async fn follow_lines_of(self: Arc<Self>, one: Followed, mut begun: Option<mpsc::Sender<()>>) {
        let mut is_told_away = false;
        loop {
            let mut parts = self.peers.live_lines(&one.address, one.request.clone());
            let why = loop {
                let part = match timeout(SILENCE, parts.next()).await {
                    Ok(Some(Ok(part))) => part,
                    Ok(Some(Err(status))) => break net::status_words(&status),
                    Ok(None) => break "its answer ended".to_owned(),
                    Err(_) => break format!("nothing came for {} s", SILENCE.as_secs()),
                };
                drop(begun.take());
                if std::mem::take(&mut is_told_away) {
                    one.inbox.note(format!(
                        "broker {} answers again: its new lines are shown from here on, those that it \
                         took meanwhile are found by a query",
                        one.name
                    ));
                }
                match lines_of(part) {
                    Ok(lines) => one.inbox.take_in(lines),
                    Err(fault) => break format!("its lines cannot be read: {fault}"),
                }
            };
            drop(begun.take());
            if !std::mem::replace(&mut is_told_away, true) {
                let Followed { name, inbox, .. } = &one;
                inbox.note(format!(
                    "broker {name} does not answer ({why}): lines that it takes are not shown until it does"
                ));
            }
            sleep(PAUSE).await;
        }
    }
}
