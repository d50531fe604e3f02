//! One agent's stream: a greeting, then batches in, acknowledgements out.
//!
//! The stream of answers is the whole machine: whoever sends the answers drives the reading of
//! batches. So a stream needs no task and no queue of its own, an agent that does not read its
//! answers is not read either, and when the connection goes everything goes with it.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::{Incarnation, Lane, LaneMarks};
use futures_util::{Stream, stream};
use model::{DEFAULT_TENANT, Limits, MetricBatch};
use net::rpc::agent_message::Message as FromAgent;
use net::rpc::broker_message::Message as ToAgent;
use net::rpc::{self, AgentMessage, BrokerMessage};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tonic::{Status, Streaming};
use wire::WireError;
use wire::agent_batch::{self, MAX_PAYLOAD_BYTES};

use super::acks::{Acks, Answer, Refused, Retry};
use super::ingest::Shared;
use super::lines;
use crate::Broker;
use crate::agents::{BatchIdentity, Delivery};
use crate::commit::CommitError;
use crate::fleet::{AgentHello, AgentSession, AgentStatus};
use crate::tenants::TooFast;

/// Until the first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches that unpack to at most this are unpacked and resolved where they are read: that takes
/// some hundred microseconds, and going to another thread and back would be felt.
const INLINE_BYTES: usize = 64 << 10;
/// Agents that are sent away together come back at this rate.
const RETURNS_PER_SECOND: usize = 2_000;
/// How long a stream that ends waits for what is under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Most that a batch may take in memory, whatever is configured: then it fits a frame of the log.
pub(super) const AGENT_BODY_BYTES: usize = 256 << 20;
/// When to come again after a refusal that ends by itself.
const SOON_MS: u32 = 1_000;
/// … that ends when somebody frees space.
const FULL_MS: u32 = 5_000;
/// … that ends when somebody upgrades this program.
const NEWER_MS: u32 = 60_000;

/// A thread's batch is used again if it was not larger than this.
const KEPT_LABEL_BYTES: usize = 1 << 20;

thread_local! {
    /// Unpacking an ordinary batch allocates nothing.
    static UNPACKED: Cell<MetricBatch> = Cell::default();
}

/// Who opened a stream.
pub(super) struct Caller {
    pub(super) name: Arc<str>,
    pub(super) address: String,
    pub(super) certificate_expires_ms: i64,
}

/// One stream.
pub(super) struct PushStream {
    shared: Arc<Shared>,
    inbound: Streaming<AgentMessage>,
    stopping: watch::Receiver<bool>,
    phase: Phase,
}

enum Phase {
    Greeting(Caller),
    Open(Open),
    Over,
}

/// A stream whose agent has said who it is.
struct Open {
    session: Arc<AgentSession>,
    agent: Arc<str>,
    incarnation: Incarnation,
    /// That of its spool of lines, if it has one.
    lines_incarnation: Option<Incarnation>,
    window_bytes: usize,
    acks: Arc<Acks>,
}

/// What a stream does next.
enum Event {
    Tell(ToAgent),
    Received(FromAgent),
    End(Ending),
}

/// Why a stream ends.
enum Ending {
    /// The agent has closed its side.
    Closed,
    Refused(Refused),
    Replaced,
    Stopping,
}

impl PushStream {
    pub(super) fn new(
        shared: Arc<Shared>,
        caller: Caller,
        inbound: Streaming<AgentMessage>,
    ) -> Self {
        let stopping = shared.broker.stopping();
        PushStream { shared, inbound, stopping, phase: Phase::Greeting(caller) }
    }

    /// The messages to the agent.
    pub(super) fn answers(
        self,
    ) -> Pin<Box<dyn Stream<Item = Result<BrokerMessage, Status>> + Send>> {
        Box::pin(stream::unfold(self, |mut stream| async move {
            let answer = match std::mem::replace(&mut stream.phase, Phase::Over) {
                Phase::Greeting(caller) => stream.greet(caller).await.map(Some),
                Phase::Open(open) => stream.go_on(open).await,
                Phase::Over => Ok(None),
            };
            let answer = answer.transpose()?;
            Some((answer.map(|message| BrokerMessage { message: Some(message) }), stream))
        }))
    }

    async fn greet(&mut self, caller: Caller) -> Result<ToAgent, Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, self.inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Hello in 10 s"))??;
        let Some(AgentMessage { message: Some(FromAgent::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a Hello"));
        };
        let incarnation = incarnation_of(&hello.incarnation)?;
        let lines_incarnation = match &hello.lines_incarnation[..] {
            [] => None,
            bytes => Some(incarnation_of(bytes)?),
        };
        let agent = Arc::clone(&caller.name);
        let broker = &self.shared.broker;
        let hello = AgentHello {
            name: caller.name,
            incarnation,
            address: caller.address,
            hostname: hello.hostname,
            version: hello.version,
            labels: hello.labels.into_iter().collect(),
            config_hash: hello.config_hash,
            started_ms: hello.started_ms,
            certificate_expires_ms: caller.certificate_expires_ms,
        };
        let session = Arc::new(connected(broker, hello).await);
        let marks = match durable_marks(broker, &agent, incarnation).await {
            Ok(marks) => marks,
            Err(error) => return Ok(self.send_away(&agent, None, error.to_string(), SOON_MS)),
        };
        // A broker of a cluster whose others know no logs takes none.
        let takes_lines = lines_incarnation.filter(|_| broker.takes_logs());
        let lines_through_seq = match takes_lines {
            None => 0,
            Some(incarnation) => match durable_marks(broker, &agent, incarnation).await {
                Ok(marks) => marks.live_through,
                Err(error) => return Ok(self.send_away(&agent, None, error.to_string(), SOON_MS)),
            },
        };
        session.marks(marks);
        let agents = self.shared.broker.inner.fleet.connected();
        let window_bytes = self.shared.broker.inner.agent_budget.window_bytes(agents);
        let acks = Arc::default();
        let lines_incarnation = takes_lines;
        self.phase = Phase::Open(Open {
            session,
            agent,
            incarnation,
            lines_incarnation,
            window_bytes,
            acks,
        });
        Ok(ToAgent::Welcome(rpc::Welcome {
            live_through_seq: marks.live_through,
            backlog_through_seq: marks.backlog_through,
            window_bytes: window_bytes as u64,
            broker: self.shared.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            brokers: self.shared.broker.addresses_for_agents(),
            takes_lines: takes_lines.is_some(),
            lines_through_seq,
        }))
    }

    /// Takes batches until there is something to tell.
    async fn go_on(&mut self, open: Open) -> Result<Option<ToAgent>, Status> {
        loop {
            let ending = match self.next_event(&open).await? {
                Event::Tell(message) => {
                    self.phase = Phase::Open(open);
                    return Ok(Some(message));
                }
                Event::Received(FromAgent::Batch(batch)) => {
                    self.take(&open, batch).await?;
                    continue;
                }
                Event::Received(FromAgent::Status(status)) => {
                    open.session.status(said(&status));
                    continue;
                }
                Event::Received(FromAgent::Hello(_)) => {
                    return Err(Status::invalid_argument("a second Hello; open another stream"));
                }
                Event::End(Ending::Replaced) => {
                    return Err(Status::aborted("the same agent has opened another stream"));
                }
                Event::End(ending) => ending,
            };
            // What is under way is told first; then the same end is met again.
            open.finish().await;
            if let Some(message) = open.acks.next() {
                self.phase = Phase::Open(open);
                return Ok(Some(message));
            }
            return self.end(&open, ending);
        }
    }

    async fn next_event(&mut self, open: &Open) -> Result<Event, Status> {
        loop {
            if let Some(message) = open.acks.next() {
                return Ok(Event::Tell(message));
            }
            if let Some(refused) = open.acks.refused() {
                return Ok(Event::End(Ending::Refused(refused)));
            }
            // An agent that keeps to its window never meets this.
            let may_read = open.acks.under_way_bytes() < open.window_bytes;
            tokio::select! {
                biased;
                () = open.acks.answered() => {}
                () = open.session.replaced() => return Ok(Event::End(Ending::Replaced)),
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    return Ok(Event::End(Ending::Stopping));
                }
                message = self.inbound.message(), if may_read => match message? {
                    None => return Ok(Event::End(Ending::Closed)),
                    Some(AgentMessage { message: Some(message) }) => {
                        return Ok(Event::Received(message));
                    }
                    // Something that a newer agent says and that can be left out.
                    Some(AgentMessage { message: None }) => {}
                },
            }
        }
    }

    fn end(&self, open: &Open, ending: Ending) -> Result<Option<ToAgent>, Status> {
        match ending {
            Ending::Closed | Ending::Replaced => Ok(None),
            Ending::Stopping => {
                let reason = CommitError::Stopping.to_string();
                Ok(Some(self.send_away(&open.agent, None, reason, SOON_MS)))
            }
            Ending::Refused(Refused { lane, seq, reason, retry }) => {
                open.session.refused(&reason);
                match retry {
                    Retry::Never => Err(Status::invalid_argument(reason)),
                    Retry::AfterMs(ms) => {
                        Ok(Some(self.send_away(&open.agent, Some((lane, seq)), reason, ms)))
                    }
                }
            }
        }
    }

    /// Unpacks and resolves a batch and hands it to the committer.
    async fn take(&mut self, open: &Open, batch: rpc::Batch) -> Result<(), Status> {
        let stream_lane = batch.lane();
        let (lane, incarnation) = match stream_lane {
            rpc::Lane::Live => (Lane::Live, open.incarnation),
            rpc::Lane::Backlog => (Lane::Backlog, open.incarnation),
            // Their numbers are of a spool of their own, which has but one lane.
            rpc::Lane::Lines => match open.lines_incarnation {
                Some(incarnation) => (Lane::Live, incarnation),
                None => return Err(Status::invalid_argument("lines were not welcome")),
            },
            rpc::Lane::Unspecified => return Err(Status::invalid_argument("a batch of no lane")),
        };
        let rpc::Batch { seq, after_seq, payload, .. } = batch;
        if after_seq >= seq {
            let fault = format!("batch {seq} cannot follow {after_seq}: numbers of a lane grow");
            return Err(Status::invalid_argument(fault));
        }
        let identity =
            BatchIdentity { agent: Arc::clone(&open.agent), incarnation, lane, seq, after_seq };
        let bytes = payload.len();
        let admitted = self.shared.broker.inner.agent_budget.admit(bytes).await;
        open.acks.begin(stream_lane, seq, bytes);
        let broker = self.shared.broker.clone();
        let unpacks_to = agent_batch::body_len(&payload).unwrap_or(0);
        let has_lines = stream_lane == rpc::Lane::Lines;
        let may_block = has_lines || unpacks_to > INLINE_BYTES || broker.is_congested();
        let answering = Answering {
            acks: Arc::clone(&open.acks),
            session: Arc::clone(&open.session),
            lane: stream_lane,
            seq,
            bytes,
            _admitted: admitted,
        };
        let work = move || match has_lines {
            true => lines::store(&broker, &identity, &payload, answering),
            false => store(&broker, &identity, &payload, answering),
        };
        if may_block {
            self.shared.broker.off_the_sockets(work).await;
        } else {
            work();
        }
        Ok(())
    }

    /// The refusal with which the stream ends.
    fn send_away(
        &self,
        agent: &str,
        batch: Option<(rpc::Lane, u64)>,
        reason: String,
        soonest_ms: u32,
    ) -> ToAgent {
        let (lane, seq) = batch.map_or((0, 0), |(lane, seq)| (lane as i32, seq));
        // Not all at the same moment; the agent's name decides whose turn it is.
        let agents = self.shared.broker.inner.fleet.connected();
        let spread_ms = u32::try_from(agents * 1_000 / RETURNS_PER_SECOND).unwrap_or(u32::MAX - 1);
        let turn_ms = codec::checksum(agent.as_bytes()) % (spread_ms + 1);
        let retry_after_ms = soonest_ms.saturating_add(turn_ms);
        ToAgent::Refusal(rpc::Refusal { lane, seq, reason, permanent: false, retry_after_ms })
    }
}

impl Open {
    /// Waits until all that is under way is answered.
    async fn finish(&self) {
        let all = async {
            while self.acks.under_way_bytes() > 0 {
                self.acks.answered().await;
            }
        };
        // What is not answered by then comes again.
        let _ = tokio::time::timeout(STOP_GRACE, all).await;
    }
}

/// Notes that an agent is connected; what it says of itself may have to be logged.
async fn connected(broker: &Broker, hello: AgentHello) -> AgentSession {
    if broker.is_congested() {
        let told = broker.clone();
        broker.off_the_sockets(move || told.agent_connected(&hello)).await
    } else {
        broker.agent_connected(&hello)
    }
}

/// The marks of an incarnation, when everything that came before is durable.
async fn durable_marks(
    broker: &Broker,
    agent: &Arc<str>,
    incarnation: Incarnation,
) -> Result<LaneMarks, CommitError> {
    let (sender, answer) = oneshot::channel();
    let done = |marks| {
        // The stream may be gone.
        let _ = sender.send(marks);
    };
    if broker.is_congested() {
        let (asked, agent) = (broker.clone(), Arc::clone(agent));
        broker.off_the_sockets(move || asked.agent_marks(&agent, incarnation, done)).await;
    } else {
        broker.agent_marks(agent, incarnation, done);
    }
    answer.await.unwrap_or(Err(CommitError::Stopping))
}

/// # Errors
/// It is none.
fn incarnation_of(bytes: &[u8]) -> Result<Incarnation, Status> {
    let bytes = <[u8; 16]>::try_from(bytes);
    let bytes = bytes.map_err(|_| Status::invalid_argument("an incarnation has 16 bytes"))?;
    Ok(Incarnation(bytes))
}

/// Tells what became of one batch.
pub(super) struct Answering {
    acks: Arc<Acks>,
    session: Arc<AgentSession>,
    lane: rpc::Lane,
    seq: u64,
    bytes: usize,
    /// Its share of what may be under way over all agents.
    _admitted: OwnedSemaphorePermit,
}

impl Answering {
    fn end(self, answer: Answer) {
        self.acks.end(self.lane, self.seq, self.bytes, answer);
    }

    fn stored(self, delivery: &Delivery) {
        if let Some(lane) = self.lane_of_samples() {
            self.session.stored(lane, self.seq, delivery);
        }
        let complaint = delivery.outcome.complaint();
        self.end(Answer::Stored { refused: delivery.outcome.refused_samples(), complaint });
    }

    /// Of a batch of lines: whether it was known, how many were not stored, and why.
    pub(super) fn stored_lines(self, was_known: bool, refused: u64, complaint: Option<String>) {
        self.session.stored_lines(was_known, complaint.as_deref());
        self.end(Answer::Stored { refused, complaint });
    }

    pub(super) fn passed_over(self, reason: String) {
        self.session.passed_over(self.lane_of_samples(), self.seq, &reason);
        self.end(Answer::PassedOver(reason));
    }

    pub(super) fn too_fast(self, too_fast: &TooFast) {
        let retry_after_ms = u32::try_from(too_fast.retry_after_ms).unwrap_or(u32::MAX);
        self.end(Answer::Refused(too_fast.text.clone(), Retry::AfterMs(retry_after_ms)));
    }

    /// It may be right: it waits for the upgrade.
    pub(super) fn wait_for_upgrade(self, error: &WireError) {
        self.end(Answer::Refused(error.to_string(), Retry::AfterMs(NEWER_MS)));
    }

    fn lane_of_samples(&self) -> Option<Lane> {
        match self.lane {
            rpc::Lane::Live => Some(Lane::Live),
            rpc::Lane::Backlog => Some(Lane::Backlog),
            rpc::Lane::Lines | rpc::Lane::Unspecified => None,
        }
    }

    pub(super) fn refused(self, error: &CommitError) {
        let retry = match error {
            // It may come again at once, from where the marks say.
            CommitError::Gap { .. } => Retry::AfterMs(0),
            CommitError::HeadFull { .. }
            | CommitError::StoreBehind { .. }
            | CommitError::Store(_)
            | CommitError::NoQuorum(_)
            | CommitError::Unknown(_)
            | CommitError::Fenced(_)
            | CommitError::Draining
            | CommitError::OldBroker
            | CommitError::Stopping => Retry::AfterMs(SOON_MS),
            CommitError::OverRate { retry_after_ms, .. } => {
                Retry::AfterMs(u32::try_from(*retry_after_ms).unwrap_or(u32::MAX))
            }
            CommitError::Full => Retry::AfterMs(FULL_MS),
            // The first is excluded by `AGENT_BODY_BYTES`, the other by `PushStream::take`.
            CommitError::TooLarge(_) | CommitError::Catalog(_) => Retry::Never,
            // Writes of agents are not refused for these.
            CommitError::HeadInParts { .. }
            | CommitError::TooManyTenants { .. }
            | CommitError::Maintenance(_)
            | CommitError::Busy(_) => Retry::AfterMs(SOON_MS),
        };
        self.end(Answer::Refused(error.to_string(), retry));
    }
}

/// Unpacks a batch and hands it to the committer; one that can never be stored is passed over.
fn store(broker: &Broker, identity: &BatchIdentity, payload: &Bytes, answering: Answering) {
    let limits = broker.limits();
    let max_body_bytes = limits.max_body_bytes.min(AGENT_BODY_BYTES);
    let limits = Limits { max_body_bytes, ..Limits::clone(&limits) };
    let mut batch = UNPACKED.take();
    let unpacked = if payload.len() > MAX_PAYLOAD_BYTES {
        Err(agent_batch::too_large(payload.len()))
    } else {
        agent_batch::decode(payload, &limits, &mut batch)
    };
    match unpacked {
        Ok(()) => {
            broker.ingest_from_agent(DEFAULT_TENANT, identity, &batch, |result| match result {
                Ok(delivery) => answering.stored(&delivery),
                Err(error) => answering.refused(&error),
            })
        }
        Err(error @ WireError::Newer { .. }) => answering.wait_for_upgrade(&error),
        Err(error) => pass_over(broker, identity, error.to_string(), answering),
    }
    if batch.label_bytes.capacity() <= KEPT_LABEL_BYTES {
        UNPACKED.set(batch);
    }
}

/// Passes over a batch that can never be stored, for a reason.
pub(super) fn pass_over(
    broker: &Broker,
    identity: &BatchIdentity,
    reason: String,
    answering: Answering,
) {
    broker.pass_over_from_agent(identity, move |result| match result {
        Ok(_) => answering.passed_over(reason),
        Err(error) => answering.refused(&error),
    });
}

fn said(status: &rpc::Status) -> AgentStatus {
    AgentStatus {
        now_ms: status.now_ms,
        spool_bytes: status.spool_bytes,
        spool_limit_bytes: status.spool_limit_bytes,
        oldest_unacknowledged_ms: status.oldest_unacknowledged_ms,
        samples_collected: status.samples_collected,
        samples_dropped: status.samples_dropped,
        batches_dropped: status.batches_dropped,
        active_series: status.active_series,
        resident_bytes: status.resident_bytes,
        cpu_seconds: status.cpu_seconds,
        targets_up: status.targets_up,
        targets_down: status.targets_down,
    }
}
