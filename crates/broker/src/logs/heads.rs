//! The heads of logs, one for each tenant, and the thread that owns them.
//!
//! As the shards of metrics they have no lock: lines reach them in the order of the log, so that of two
//! equal lines the same one stays before and after a restart. A flush takes what is there, and leaves it
//! readable until it is in blocks. Between a delete and what comes after it runs a cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use logstore::{HeadSnapshot, LogHead, NsRange};
use model::LogBatch;
use model::{Matcher, TenantId};
use parking_lot::Mutex;

use super::live::LineHub;
use crate::shards::{AbortOnPanic, receive};

/// Messages that may wait. A committer that outruns the heads waits here.
const QUEUE: usize = 64;

/// What to do when lines are searchable.
pub(crate) type OnShown = Box<dyn FnOnce() + Send>;

enum Message {
    Append { tenant: TenantId, batch: Box<LogBatch>, done: OnShown },
    After { done: OnShown },
    Select { tenant: TenantId, matchers: Vec<Matcher>, range: NsRange, reply: Sender<Vec<Found>> },
    BeginAfterDelete { tenant: Option<TenantId>, number: u64 },
    Tenants { reply: Sender<Vec<TenantId>> },
    Cut { reply: Sender<Vec<Arc<FrozenHead>>> },
    DropFlushed { numbers: Vec<u64> },
}

/// What was found in one part of a tenant's head.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) head: HeadSnapshot,
    /// Deletes with a higher number are younger than all its lines.
    pub(crate) deletes_through: u64,
}

/// Lines of one tenant to which none are added any more.
pub(crate) struct FrozenHead {
    number: u64,
    pub(crate) tenant: TenantId,
    /// As in [`Found`].
    pub(crate) deletes_through: u64,
    pub(crate) head: LogHead,
}

/// How much there is in the heads of logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogHeadTotals {
    /// Lines.
    pub lines: u64,
    /// Streams; one that has lines before and after a flush or delete that is under way counts twice.
    pub streams: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

impl LogHeadTotals {
    fn of(head: &LogHead) -> Self {
        let (streams, bytes) = (head.streams() as u64, head.bytes() as u64);
        LogHeadTotals { lines: head.rows(), streams, bytes }
    }

    fn add(&mut self, other: LogHeadTotals) {
        self.lines += other.lines;
        self.streams += other.streams;
        self.bytes += other.bytes;
    }
}

/// Where the work is done.
enum Place {
    /// On a thread of its own.
    Thread(Sender<Message>),
    /// Wherever it is asked.
    Inline(Box<Mutex<Owned>>),
}

/// All heads of logs.
pub(crate) struct LogHeads {
    /// `None` only while it is dropped.
    place: Option<Place>,
    thread: Option<JoinHandle<()>>,
    shown: Arc<Mutex<LogHeadTotals>>,
    hub: Arc<LineHub>,
}

impl LogHeads {
    /// Who is told of lines that have become searchable.
    pub(crate) fn hub(&self) -> &Arc<LineHub> {
        &self.hub
    }

    /// Starts the thread. `seed` keys hashes of labels.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(seed: u64) -> Result<Self> {
        let (shown, hub): (Arc<_>, Arc<LineHub>) = Default::default();
        let mut owned = Owned::new(seed, Arc::clone(&shown), Arc::clone(&hub));
        let (sender, messages) = bounded(QUEUE);
        let thread = std::thread::Builder::new()
            .name("log-head".to_owned())
            .spawn(move || {
                let _guard = AbortOnPanic("log-head");
                for message in messages {
                    if let Some(done) = owned.step(message) {
                        done();
                    }
                }
            })
            .context("start the thread of the heads of logs")?;
        Ok(LogHeads { place: Some(Place::Thread(sender)), thread: Some(thread), shown, hub })
    }

    /// Heads that do their work on the thread of whoever asks.
    pub(crate) fn inline(seed: u64) -> Self {
        let (shown, hub): (Arc<_>, Arc<LineHub>) = Default::default();
        let owned = Owned::new(seed, Arc::clone(&shown), Arc::clone(&hub));
        let place = Place::Inline(Box::new(Mutex::new(owned)));
        LogHeads { place: Some(place), thread: None, shown, hub }
    }

    /// Adds the lines of a batch; `done` runs when they are searchable.
    pub(crate) fn append(&self, tenant: TenantId, batch: Box<LogBatch>, done: OnShown) {
        self.send(Message::Append { tenant, batch, done });
    }

    /// Runs `done` when all lines sent so far are searchable.
    pub(crate) fn after_all(&self, done: OnShown) {
        self.send(Message::After { done });
    }

    /// Waits until all lines sent so far are searchable.
    pub(crate) fn settle(&self) {
        let (reply, told) = bounded(1);
        self.after_all(Box::new(move || _ = reply.send(())));
        receive(&told);
    }

    /// What a tenant has in a range of the streams that satisfy all matchers, in the order in which it came.
    pub(crate) fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: NsRange,
    ) -> Vec<Found> {
        let (reply, answer) = bounded(1);
        self.send(Message::Select { tenant, matchers: matchers.to_vec(), range, reply });
        receive(&answer)
    }

    /// Tenants that have lines here, ascending.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let (reply, answer) = bounded(1);
        self.send(Message::Tenants { reply });
        receive(&answer)
    }

    /// Separates what is there from what comes after a delete, the highest so far, of a tenant or of all.
    pub(crate) fn begin_after_delete(&self, tenant: Option<TenantId>, number: u64) {
        self.send(Message::BeginAfterDelete { tenant, number });
    }

    /// Freezes what is there. Yields where to wait for everything that is frozen, by tenant and then in the
    /// order in which it came: also what earlier cuts froze and no flush has put into blocks.
    pub(crate) fn start_cut(&self) -> Receiver<Vec<Arc<FrozenHead>>> {
        let (reply, answer) = bounded(1);
        self.send(Message::Cut { reply });
        answer
    }

    /// Forgets what is in blocks, where it must be readable by now.
    pub(crate) fn drop_flushed(&self, flushed: &[Arc<FrozenHead>]) {
        if !flushed.is_empty() {
            let numbers = flushed.iter().map(|frozen| frozen.number).collect();
            self.send(Message::DropFlushed { numbers });
        }
    }

    /// How much there is as of the last message; what was acknowledged is counted.
    pub(crate) fn totals(&self) -> LogHeadTotals {
        *self.shown.lock()
    }

    fn send(&self, message: Message) {
        match self.place.as_ref().expect("it is not being dropped") {
            Place::Thread(sender) => {
                sender.send(message).expect("the thread lives as long as its sender");
            }
            Place::Inline(owned) => {
                let done = owned.lock().step(message);
                if let Some(done) = done {
                    done();
                }
            }
        }
    }
}

impl Drop for LogHeads {
    fn drop(&mut self) {
        self.place = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Owned {
    seed: u64,
    tenants: BTreeMap<TenantId, Parts>,
    next_number: u64,
    /// The last delete before what comes next.
    last_delete: u64,
    totals: LogHeadTotals,
    shown: Arc<Mutex<LogHeadTotals>>,
    hub: Arc<LineHub>,
}

/// Of one tenant.
#[derive(Default)]
struct Parts {
    /// In the order in which they were filled.
    frozen: Vec<Arc<FrozenHead>>,
    open: Option<FrozenHead>,
}

impl Parts {
    fn freeze(&mut self) {
        self.frozen.extend(self.open.take().map(Arc::new));
    }
}

impl Owned {
    fn new(seed: u64, shown: Arc<Mutex<LogHeadTotals>>, hub: Arc<LineHub>) -> Self {
        let (tenants, totals) = (BTreeMap::new(), LogHeadTotals::default());
        Owned { seed, tenants, next_number: 0, last_delete: 0, totals, shown, hub }
    }

    /// Does what one message asks. Yields who waits for it, if anybody does.
    fn step(&mut self, message: Message) -> Option<OnShown> {
        match message {
            Message::Append { tenant, batch, done } => {
                self.append(tenant, &batch);
                self.hub.publish(tenant, &batch);
                return Some(done);
            }
            Message::After { done } => return Some(done),
            Message::Select { tenant, matchers, range, reply } => {
                // The reader may have given up meanwhile.
                let _ = reply.send(self.select(tenant, &matchers, range));
            }
            Message::BeginAfterDelete { tenant, number } => {
                self.last_delete = self.last_delete.max(number);
                match tenant {
                    Some(tenant) => {
                        if let Some(parts) = self.tenants.get_mut(&tenant) {
                            parts.freeze();
                        }
                    }
                    None => self.tenants.values_mut().for_each(Parts::freeze),
                }
            }
            Message::Tenants { reply } => {
                let _ = reply.send(self.tenants.keys().copied().collect());
            }
            Message::Cut { reply } => {
                self.tenants.values_mut().for_each(Parts::freeze);
                let frozen = self.tenants.values().flat_map(|parts| &parts.frozen);
                let _ = reply.send(frozen.cloned().collect());
            }
            Message::DropFlushed { numbers } => self.drop_flushed(&numbers),
        }
        None
    }

    fn append(&mut self, tenant: TenantId, batch: &LogBatch) {
        let Owned { seed, next_number, last_delete, .. } = *self;
        let open = self.tenants.entry(tenant).or_default().open.get_or_insert_with(|| {
            self.next_number += 1;
            let head = LogHead::new(seed);
            FrozenHead { number: next_number, tenant, deletes_through: last_delete, head }
        });
        let before = LogHeadTotals::of(&open.head);
        open.head.push_batch(batch);
        let after = LogHeadTotals::of(&open.head);
        let totals = &mut self.totals;
        totals.lines = totals.lines + after.lines - before.lines;
        totals.streams = totals.streams + after.streams - before.streams;
        totals.bytes = totals.bytes + after.bytes - before.bytes;
        // Before the answer: who has it may ask what there is.
        *self.shown.lock() = *totals;
    }

    fn select(&self, tenant: TenantId, matchers: &[Matcher], range: NsRange) -> Vec<Found> {
        let Some(parts) = self.tenants.get(&tenant) else { return Vec::new() };
        let all = parts.frozen.iter().map(|frozen| &**frozen).chain(&parts.open);
        all.map(|part| Found {
            head: part.head.snapshot(matchers, range),
            deletes_through: part.deletes_through,
        })
        .filter(|found| found.head.labels().len() > 0)
        .collect()
    }

    fn drop_flushed(&mut self, numbers: &[u64]) {
        for parts in self.tenants.values_mut() {
            parts.frozen.retain(|frozen| !numbers.contains(&frozen.number));
        }
        self.tenants.retain(|_, parts| !parts.frozen.is_empty() || parts.open.is_some());
        let mut totals = LogHeadTotals::default();
        for parts in self.tenants.values() {
            let all = parts.frozen.iter().map(|frozen| &**frozen).chain(&parts.open);
            all.for_each(|part| totals.add(LogHeadTotals::of(&part.head)));
        }
        self.totals = totals;
        *self.shown.lock() = totals;
    }
}
