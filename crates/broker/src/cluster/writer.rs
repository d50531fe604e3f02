//! From batches to segments that count: collect → seal → put → agree. What comes after that, and the
//! answers, are the applier's.
//!
//! Segments are put side by side and agreed upon one after the other, in the order in which their
//! batches came: what an agent sent later never counts before what it sent first. At most one of them
//! is in doubt at a time; it is proposed again until it is known whether it counts, and the catalog takes
//! none twice, because numbers only grow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blockstore::{SegmentName, SegmentWriter};
use bytes::Bytes;
use catalog::{
    BrokerId, CatalogError, Command, Mark, NewSegment, Outcome, PUSHES_LEVEL, PushMark, Signal,
    Standing,
};
use consensus::{Consensus, ProposeError};
use metricstore::{LogEncoder, Registry, ResolvedBatch};
use model::LogBatch;
use model::{TenantId, TimeRange};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::budget::Budget;
use super::feed::Event;
use super::metrics::ClusterCounters;
use super::store::{self, ObjectStore, PUT_DEADLINE};
use super::{OnFault, Work};
use crate::commit::{CommitError, Message, OnStored};
use crate::logs::{Lines, NewLines, OnLines, Push};

/// A segment is sealed when it has so many bytes of payload …
const SEGMENT_BYTES: usize = 1 << 20;
/// Lines that would make it larger than this go into the next.
const MAX_SEGMENT_BYTES: usize = 8 << 20;
/// … or marks of so many batches, or pushes: they are in one command, which has to reach the other brokers in time …
const SEGMENT_MARKS: usize = 1_000;
/// … or when its first batch has waited for so long; and no sooner after the one before, so that a
/// broker with little to do pays for four writes a second at most.
const SEGMENT_WAIT: Duration = Duration::from_millis(250);
/// Segments that may be on their way to the store at once.
const PUTS_IN_FLIGHT: usize = 8;
/// How long the cluster may take to agree before whoever waits is told that nobody knows.
pub(super) const AGREE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a segment may wait to be proposed.
const SEGMENT_PATIENCE: Duration = PUT_DEADLINE.saturating_add(AGREE_DEADLINE);

/// A batch on its way.
pub(super) enum Waiting {
    Samples {
        batch: Box<ResolvedBatch>,
        /// `None` when it was answered already, that nobody knows what became of it.
        done: Option<OnStored>,
    },
    Lines {
        tenant: TenantId,
        batch: Box<LogBatch>,
        push: Option<Push>,
        /// As of samples.
        done: Option<OnLines>,
    },
}

impl Waiting {
    /// Whom to tell of a fault; `None` if that was done already.
    fn take_refusal(&mut self) -> Option<Box<dyn FnOnce(CommitError) + Send>> {
        match self {
            Waiting::Samples { done, .. } => {
                let done = done.take()?;
                Some(Box::new(move |error| done(Err(error))))
            }
            Waiting::Lines { done, .. } => {
                let done = done.take()?;
                Some(Box::new(move |error| done(Err(error))))
            }
        }
    }
}

/// A segment that was proposed and is not known to count.
pub(super) struct Flight {
    /// In their order.
    pub(super) batches: Vec<Waiting>,
    /// By number of the batch.
    pub(super) marks: Vec<(u32, Mark)>,
}

/// All of them, by number.
pub(super) type Flights = Mutex<BTreeMap<u64, Flight>>;

/// A segment on its way to the store.
pub(super) struct Sealed {
    seq: u64,
    batches: Vec<Waiting>,
    marks: Vec<(u32, Mark)>,
    pushes: Vec<(u32, PushMark)>,
    rows: u64,
    range: TimeRange,
    at: Instant,
    /// Its length and checksum, when it is there.
    put: oneshot::Receiver<Result<(u64, u32), CommitError>>,
}

/// What is to be agreed upon, or done behind what is.
pub(super) enum Item {
    Segment(Sealed),
    Then(Box<dyn FnOnce() + Send>),
}

/// The way to the collector, and past it for what needs no segment: keys, deletes and marks do not wait
/// for a store that is slow.
#[derive(Clone)]
pub(crate) struct ClusterQueue {
    pub(super) messages: UnboundedSender<Message>,
    pub(super) asked: UnboundedSender<Message>,
    pub(super) budget: Arc<Budget>,
    /// The broker leaves the cluster and takes no writes.
    pub(super) is_draining: Arc<AtomicBool>,
    pub(super) counters: Arc<ClusterCounters>,
}

impl ClusterQueue {
    /// Hands a message over, or refuses it where too much waits; gives it back if nobody takes any
    /// more. Never waits.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        let message = match message {
            Message::Write { batch, input, mark, done } => {
                if self.is_draining.load(Ordering::Acquire) {
                    done(Err(CommitError::Draining));
                    return Ok(());
                }
                let bytes = bytes_of(&batch);
                if let Err(error) = self.budget.take(bytes) {
                    ClusterCounters::count(&self.counters.refused_behind, 1);
                    done(Err(error));
                    return Ok(());
                }
                let budget = Arc::clone(&self.budget);
                let done: OnStored = Box::new(move |result| {
                    budget.give(bytes);
                    done(result);
                });
                Message::Write { batch, input, mark, done }
            }
            fence @ Message::Fence { .. } => fence,
            Message::WriteLines { lines, done } => {
                if self.is_draining.load(Ordering::Acquire) {
                    done(Err(CommitError::Draining));
                    return Ok(());
                }
                let bytes = lines.batch.bytes() + lines.payload.len();
                if let Err(error) = self.budget.take(bytes) {
                    ClusterCounters::count(&self.counters.refused_behind, 1);
                    done(Err(error));
                    return Ok(());
                }
                let budget = Arc::clone(&self.budget);
                let done: OnLines = Box::new(move |result| {
                    budget.give(bytes);
                    done(result);
                });
                Message::WriteLines { lines, done }
            }
            other => return self.asked.send(other).map_err(|error| error.0),
        };
        self.messages.send(message).map_err(|error| error.0)
    }
}

fn bytes_of(batch: &ResolvedBatch) -> usize {
    const ROW_BYTES: usize = 24;
    const HISTOGRAM_BYTES: usize = 1_024;
    const BATCH_BYTES: usize = 512;
    let floats: usize = batch.shards.iter().map(|rows| rows.ordinals.len()).sum();
    let others = batch.rows() - floats + batch.exemplars.len();
    BATCH_BYTES + ROW_BYTES * floats + HISTOGRAM_BYTES * others
}

/// Collects batches.
pub(super) struct Collector {
    pub(super) broker: BrokerId,
    pub(super) epoch: u64,
    pub(super) next_seq: u64,
    pub(super) consensus: Consensus,
    pub(super) registry: Arc<Registry>,
    /// Knows the pushes that count.
    pub(super) lines: Lines,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) work: Work,
    pub(super) events: UnboundedSender<Event>,
    pub(super) items: UnboundedSender<Item>,
    pub(super) encoder: LogEncoder,
    pub(super) puts: Arc<Semaphore>,
    /// Told when a put is over.
    pub(super) put_done: Arc<Notify>,
    pub(super) open: Open,
    pub(super) sealed_at: Option<Instant>,
    pub(super) counters: Arc<ClusterCounters>,
}

/// The segment that is being filled.
#[derive(Default)]
pub(super) struct Open {
    writer: SegmentWriter,
    batches: Vec<Waiting>,
    marks: Vec<(u32, Mark)>,
    pushes: Vec<(u32, PushMark)>,
    rows: u64,
    range: Option<TimeRange>,
    since: Option<Instant>,
}

impl Collector {
    pub(super) fn puts() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(PUTS_IN_FLIGHT))
    }

    /// Serves messages until all senders are gone, then seals once more.
    pub(super) async fn run(mut self, mut messages: UnboundedReceiver<Message>) {
        let mut payload = Vec::new();
        loop {
            let due = self.due();
            let put_done = Arc::clone(&self.put_done);
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(message) => self.take(message, &mut payload).await,
                    None => break,
                },
                () = sleep_until(due) => self.seal().await,
                () = put_done.notified() => {}
            }
            let is_late = self.open.since.is_some_and(|since| since.elapsed() >= SEGMENT_WAIT);
            let writer = &self.open.writer;
            let is_large = writer.payload_bytes() >= SEGMENT_BYTES
                || writer.is_full()
                || self.open.marks.len() + self.open.pushes.len() >= SEGMENT_MARKS;
            if is_late || is_large {
                self.seal().await;
            }
        }
        self.seal().await;
    }

    /// When the open segment is to be sealed: at once if nothing is on its way and nothing was of late.
    fn due(&self) -> Option<Instant> {
        let latest = self.open.since? + SEGMENT_WAIT;
        if self.puts.available_permits() < PUTS_IN_FLIGHT {
            return Some(latest);
        }
        let earliest = self.sealed_at.map_or_else(Instant::now, |at| at + SEGMENT_WAIT);
        Some(earliest.min(latest))
    }

    async fn take(&mut self, message: Message, payload: &mut Vec<u8>) {
        match message {
            Message::Write { batch, input, mark, done } => {
                if input.is_some() {
                    let why = "stream aggregation has no log to follow in a cluster";
                    done(Err(CommitError::TooLarge(why.to_owned())));
                    return;
                }
                self.add(batch, mark, done, payload);
            }
            Message::WriteLines { lines, done } => self.add_lines(*lines, done).await,
            Message::Fence { done } => {
                self.seal().await;
                let events = self.events.clone();
                let tell = Box::new(move || _ = events.send(Event::Then(done)));
                let _ = self.items.send(Item::Then(tell));
            }
            Message::Marks { .. }
            | Message::Command { .. }
            | Message::Delete { .. }
            | Message::EndWindows { .. }
            | Message::Cut { .. }
            | Message::Truncate { .. }
            | Message::LetGo => unreachable!("the queue sends these another way"),
        }
    }

    /// Fast path of agents that come back: what is known costs no segment. Whether one is missing before
    /// it is the catalog's to say, when those that are on their way have arrived.
    fn is_known(&self, mark: Option<&Mark>) -> bool {
        mark.is_some_and(|mark| self.consensus.read(|s| s.standing(mark)) == Standing::Known)
    }

    /// Whether all brokers can read pushes in a segment's command.
    fn agrees_on_pushes(&self) -> bool {
        self.consensus.read(|state| state.feature_level() >= PUSHES_LEVEL)
    }

    /// As [`Collector::is_known`], of a push that another broker may have stored.
    fn is_known_push(&self, push: Option<&PushMark>) -> bool {
        push.is_some_and(|push| self.consensus.read(|state| state.is_known_push(push)))
    }

    fn add(
        &mut self,
        batch: Box<ResolvedBatch>,
        mark: Option<Box<Mark>>,
        done: OnStored,
        payload: &mut Vec<u8>,
    ) {
        if self.is_known(mark.as_deref()) {
            let _ = self.events.send(Event::Known(done));
            return;
        }
        payload.clear();
        if !batch.is_empty() {
            self.encoder.encode(&batch, &self.registry, payload);
        }
        let open = &mut self.open;
        let number = open.writer.add(batch.tenant, Signal::Metrics, payload);
        open.rows += batch.rows() as u64;
        if let Some(range) = range_of(&batch) {
            open.range = Some(open.range.map_or(range, |all| all.union(&range)));
        }
        open.marks.extend(mark.map(|mark| (number, *mark)));
        open.since.get_or_insert_with(Instant::now);
        open.batches.push(Waiting::Samples { batch, done: Some(done) });
    }

    async fn add_lines(&mut self, lines: NewLines, done: OnLines) {
        let NewLines { tenant, batch, payload, push, is_agreed, mark, at_ms, range } = lines;
        let agreed = push.filter(|_| is_agreed && self.agrees_on_pushes());
        let agreed = agreed.map(|id| PushMark(id.0));
        if self.is_known(mark.as_deref()) || self.is_known_push(agreed.as_ref()) {
            let _ = self.events.send(Event::KnownLines(done));
            return;
        }
        let push = push.map(|id| Push { id, at_ms });
        if push.is_some_and(|push| self.lines.is_known(&push)) {
            let _ = self.events.send(Event::KnownLines(done));
            return;
        }
        // What is read at once must not be much larger than a segment is.
        if self.open.writer.payload_bytes() + payload.len() > MAX_SEGMENT_BYTES {
            self.seal().await;
        }
        let open = &mut self.open;
        let number = open.writer.add(tenant, Signal::Logs, &payload);
        open.rows += batch.lines();
        open.marks.extend(mark.map(|mark| (number, *mark)));
        open.pushes.extend(agreed.map(|push| (number, push)));
        open.range = Some(open.range.map_or(range, |all| all.union(&range)));
        open.since.get_or_insert_with(Instant::now);
        open.batches.push(Waiting::Lines { tenant, batch, push, done: Some(done) });
    }

    /// Sends the open segment on its way, if there is anything in it. Waits while as many as may be are
    /// on theirs.
    async fn seal(&mut self) {
        if self.open.batches.is_empty() {
            return;
        }
        let permits = Arc::clone(&self.puts);
        let permit = permits.acquire_owned().await.expect("nobody closes it");
        let Open { writer, batches, marks, pushes, rows, range, .. } =
            std::mem::take(&mut self.open);
        self.encoder.begin_file();
        let name = SegmentName { broker: self.broker, epoch: self.epoch, seq: self.next_seq };
        self.next_seq += 1;
        let at = Instant::now();
        self.sealed_at = Some(at);
        let (told, put) = oneshot::channel();
        let (store, work, put_done) =
            (Arc::clone(&self.store), self.work, Arc::clone(&self.put_done));
        let counters = Arc::clone(&self.counters);
        tokio::spawn(async move {
            let outcome = put_segment(&*store, work, writer, name, &counters).await;
            let _ = told.send(outcome);
            let permit: OwnedSemaphorePermit = permit;
            drop(permit);
            put_done.notify_one();
        });
        let range = range.unwrap_or(TimeRange { start_ms: 0, end_ms: 0 });
        let sealed = Sealed { seq: name.seq, batches, marks, pushes, rows, range, at, put };
        // Who agrees is gone only when the broker has stopped, and all answers with it.
        let _ = self.items.send(Item::Segment(sealed));
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn range_of(batch: &ResolvedBatch) -> Option<TimeRange> {
    let floats = batch.shards.iter().flat_map(|rows| rows.timestamps_ms.iter().copied());
    let histograms = batch.shards.iter().flat_map(|rows| &rows.histograms).map(|row| row.t_ms);
    let mut range: Option<(i64, i64)> = None;
    for t_ms in floats.chain(histograms) {
        let (least, most) = range.unwrap_or((t_ms, t_ms));
        range = Some((least.min(t_ms), most.max(t_ms)));
    }
    range.map(|(least, most)| TimeRange::new(least, most.saturating_add(1)))
}

async fn put_segment(
    store: &dyn ObjectStore,
    work: Work,
    writer: SegmentWriter,
    name: SegmentName,
    counters: &ClusterCounters,
) -> Result<(u64, u32), CommitError> {
    let bytes = work.run(move || Bytes::from(writer.seal(name))).await;
    let checksum = codec::checksum(&bytes);
    let started = Instant::now();
    match store::put(store, &name.key(), &bytes).await {
        Ok(()) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            ClusterCounters::count(&counters.put_bytes, bytes.len() as u64);
            ClusterCounters::count(&counters.put_micros, micros);
            Ok((bytes.len() as u64, checksum))
        }
        Err(fault) => {
            ClusterCounters::count(&counters.put_failures, 1);
            tracing::warn!(key = name.key(), %fault, "a segment was not written; its batches are refused");
            Err(CommitError::Store(fault.to_string()))
        }
    }
}

/// Has segments agreed upon, one after the other.
pub(super) struct Agreeing {
    pub(super) broker: BrokerId,
    pub(super) epoch: u64,
    pub(super) consensus: Consensus,
    pub(super) flights: Arc<Flights>,
    pub(super) counters: Arc<ClusterCounters>,
    pub(super) on_fault: OnFault,
}

impl Agreeing {
    /// Works until the collector is gone.
    pub(super) async fn run(self, mut items: UnboundedReceiver<Item>) {
        let mut parked = VecDeque::new();
        loop {
            let item = match parked.pop_front() {
                Some(item) => item,
                None => match items.recv().await {
                    Some(item) => item,
                    None => return,
                },
            };
            match item {
                Item::Then(tell) => tell(),
                Item::Segment(sealed) => self.agree_beside(sealed, &mut items, &mut parked).await,
            }
        }
    }

    /// Has one agreed upon, and answers those behind it that wait for too long: they were not proposed and
    /// never will be.
    async fn agree_beside(
        &self,
        sealed: Sealed,
        items: &mut UnboundedReceiver<Item>,
        parked: &mut VecDeque<Item>,
    ) {
        let mut agreed = std::pin::pin!(self.agree(sealed));
        let mut is_over = false;
        loop {
            let oldest = parked.iter().find_map(|item| match item {
                Item::Segment(sealed) => Some(sealed.at + SEGMENT_PATIENCE),
                Item::Then(_) => None,
            });
            tokio::select! {
                biased;
                () = &mut agreed => return,
                item = items.recv(), if !is_over => match item {
                    Some(item) => parked.push_back(item),
                    None => is_over = true,
                },
                () = sleep_until(oldest) => refuse_late(parked),
            }
        }
    }

    async fn agree(&self, sealed: Sealed) {
        let Sealed { seq, batches, marks, pushes, rows, range, at, put } = sealed;
        let stopped = Err(CommitError::Stopping);
        let (size_bytes, checksum) = match put.await.unwrap_or(stopped) {
            Ok(written) => written,
            Err(error) => return refuse(batches, &error),
        };
        if at.elapsed() > SEGMENT_PATIENCE {
            return refuse(batches, &waited_too_long());
        }
        self.flights.lock().insert(seq, Flight { batches, marks: marks.clone() });
        let (broker, epoch) = (self.broker, self.epoch);
        let new =
            NewSegment { broker, epoch, seq, size_bytes, checksum, rows, range, marks, pushes };
        let command = Command::AddSegment(Box::new(new));
        let mut is_in_doubt = false;
        loop {
            match self.consensus.propose(command.clone(), AGREE_DEADLINE).await {
                // The applier has it, or will have: it is told before this one is.
                Ok(Outcome::Segment(_)) => {
                    ClusterCounters::count(&self.counters.segments, 1);
                    return;
                }
                Ok(other) => unreachable!("a segment is answered with what counts, not {other:?}"),
                // An earlier attempt was applied.
                Err(ProposeError::Catalog(CatalogError::StaleSegment { .. })) if is_in_doubt => {
                    ClusterCounters::count(&self.counters.segments, 1);
                    return;
                }
                Err(ProposeError::Catalog(
                    error @ (CatalogError::Fenced { .. }
                    | CatalogError::UnknownBroker { .. }
                    | CatalogError::StaleSegment { .. }),
                )) => {
                    self.refuse_flight(seq, &CommitError::Fenced(error.to_string()));
                    (self.on_fault)(&error.to_string());
                    return;
                }
                Err(ProposeError::Catalog(error)) => {
                    return self.refuse_flight(seq, &not_taken(&error));
                }
                Err(ProposeError::NoLeader(why)) if !is_in_doubt => {
                    return self.refuse_flight(seq, &CommitError::NoQuorum(why));
                }
                Err(ProposeError::Stopping) => {
                    return self.refuse_flight(seq, &CommitError::Stopping);
                }
                Err(error @ (ProposeError::Unknown(_) | ProposeError::NoLeader(_))) => {
                    ClusterCounters::count(&self.counters.in_doubt, u64::from(!is_in_doubt));
                    is_in_doubt = true;
                    self.tell_doubt(seq, &error);
                }
            }
        }
    }

    /// Answers those who wait for a segment that may come to count yet, or does already. Its rows stay,
    /// in case it does.
    fn tell_doubt(&self, seq: u64, error: &ProposeError) {
        let told: Vec<_> = {
            let mut flights = self.flights.lock();
            let batches = flights.get_mut(&seq).into_iter().flat_map(|flight| &mut flight.batches);
            batches.filter_map(Waiting::take_refusal).collect()
        };
        tracing::warn!(seq, %error, "it is not known whether a segment counts: asking again");
        for done in told {
            done(CommitError::Unknown(error.to_string()));
        }
    }

    fn refuse_flight(&self, seq: u64, error: &CommitError) {
        let flight = self.flights.lock().remove(&seq);
        refuse(flight.map(|flight| flight.batches).unwrap_or_default(), error);
    }
}

/// The catalog has no room for a segment, whose batches may be stored later: senders must keep them. That a
/// mark is none is looked at before a batch comes here.
pub(super) fn not_taken(error: &CatalogError) -> CommitError {
    CommitError::Store(format!(
        "the catalog did not take the segment: {error}. Flushes of this broker fail or do not keep up: \
         look for them in its log"
    ))
}

fn waited_too_long() -> CommitError {
    CommitError::NoQuorum("segments before it waited for too long".to_owned())
}

/// Answers parked segments that wait for too long.
fn refuse_late(parked: &mut VecDeque<Item>) {
    for item in std::mem::take(parked) {
        match item {
            Item::Segment(late) if late.at.elapsed() >= SEGMENT_PATIENCE => {
                refuse(late.batches, &waited_too_long());
            }
            other => parked.push_back(other),
        }
    }
}

fn refuse(batches: Vec<Waiting>, error: &CommitError) {
    for done in batches.into_iter().filter_map(|mut waiting| waiting.take_refusal()) {
        done(error.clone());
    }
}
