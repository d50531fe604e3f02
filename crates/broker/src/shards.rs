//! The threads that own the shards of the head, one each.
//!
//! A shard is never locked: whoever wants something sends a message. Writes arrive only from one
//! place, in the order of the log, so that "first commit wins" is the same before and after a
//! restart. A shard itself is a function from messages to answers, so that a simulation, which has one
//! thread, can have it answer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use metricstore::{AppendOutcome, CutData, HeadChunks, Shard, ShardRows};
use model::TimeRange;
use parking_lot::Mutex;

use crate::changes::Changes;

/// Messages that may wait for one shard. A committer that outruns its shards waits here, which
/// slows the acknowledgements down: backpressure to the senders.
const QUEUE: usize = 64;

enum Message {
    Append { rows: ShardRows, ticket: Arc<Ticket> },
    Select { ordinals: Vec<u32>, range: TimeRange, reply: Sender<HeadChunks> },
    Cut { reply: Sender<Vec<CutData>> },
    BeginAfterDelete { number: u64 },
    DropFlushed { cut_id: u64 },
    Idle { ordinals: Vec<u32>, reply: Sender<Vec<u32>> },
    Active { ordinals: Arc<[u32]>, range: TimeRange, reply: Sender<Vec<u32>> },
}

/// Waits for all shards a batch is spread over.
pub(crate) struct Ticket {
    open: AtomicUsize,
    total: Mutex<AppendOutcome>,
    done: Mutex<Option<Completion>>,
}

/// What to do with the outcome of a batch, on the thread of the last shard.
pub(crate) type Completion = Box<dyn FnOnce(AppendOutcome) + Send>;

/// Where a shard does its work.
enum Place {
    /// On a thread of its own.
    Thread(Sender<Message>),
    /// Wherever it is asked.
    Inline(Box<Mutex<Owned>>),
}

/// A shard with what it shows of itself.
struct Owned {
    shard: Shard,
    index: usize,
    shown: Arc<Mutex<HeadTotals>>,
    changes: Arc<Changes>,
}

/// All shards of one head.
pub(crate) struct Shards {
    places: Vec<Place>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shown: Vec<Arc<Mutex<HeadTotals>>>,
    changes: Arc<Changes>,
}

/// Sizes of one shard, or of all together.
#[derive(Debug, Clone, Copy)]
pub struct HeadTotals {
    /// Bytes of memory.
    pub bytes: u64,
    /// Samples.
    pub rows: u64,
    /// Full chunks.
    pub chunks: u64,
    /// Range of the samples; empty if there are none.
    pub range: TimeRange,
}

impl HeadTotals {
    pub(crate) const EMPTY: HeadTotals =
        HeadTotals { bytes: 0, rows: 0, chunks: 0, range: TimeRange { start_ms: 0, end_ms: 0 } };

    fn of(shard: &Shard) -> Self {
        HeadTotals {
            bytes: shard.bytes() as u64,
            rows: shard.rows(),
            chunks: shard.chunks() as u64,
            range: shard.range(),
        }
    }
}

impl Shards {
    /// Starts `count` shards, each on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(count: usize) -> Result<Self> {
        let mut shards = Self::inline(count);
        let mut threads = Vec::with_capacity(count);
        for (index, place) in shards.places.iter_mut().enumerate() {
            let (sender, receiver) = bounded(QUEUE);
            if let Place::Inline(owned) = std::mem::replace(place, Place::Thread(sender)) {
                let thread = std::thread::Builder::new()
                    .name(format!("shard-{index}"))
                    .spawn(move || serve(owned.into_inner(), &receiver))
                    .context("start a shard's thread")?;
                threads.push(thread);
            }
        }
        shards.threads = Mutex::new(threads);
        Ok(shards)
    }

    /// `count` shards that do their work on the thread of whoever asks.
    pub(crate) fn inline(count: usize) -> Self {
        let changes = Arc::new(Changes::new(count));
        let shown: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(HeadTotals::EMPTY))).collect();
        let own = |(index, shown): (usize, &Arc<Mutex<HeadTotals>>)| {
            let shard = Shard::new(index, count);
            let (shown, changes) = (Arc::clone(shown), Arc::clone(&changes));
            Place::Inline(Box::new(Mutex::new(Owned { shard, index, shown, changes })))
        };
        let places = shown.iter().enumerate().map(own).collect();
        Shards { places, threads: Mutex::default(), shown, changes }
    }

    /// When what queries see was changed.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Number of shards.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Hands rows to their shards; `completion` runs when all have them.
    pub(crate) fn append(&self, rows: Vec<ShardRows>, completion: Completion) {
        let parts = rows.iter().filter(|rows| !rows.is_empty()).count();
        if parts == 0 {
            completion(AppendOutcome::default());
            return;
        }
        let ticket = Arc::new(Ticket {
            open: AtomicUsize::new(parts),
            total: Mutex::default(),
            done: Mutex::new(Some(completion)),
        });
        for (place, rows) in self.places.iter().zip(rows) {
            if !rows.is_empty() {
                send(place, Message::Append { rows, ticket: Arc::clone(&ticket) });
            }
        }
    }

    /// Runs `completion` when every shard has the rows sent so far.
    pub(crate) fn after_all(&self, completion: Completion) {
        let ticket = Arc::new(Ticket {
            open: AtomicUsize::new(self.count()),
            total: Mutex::default(),
            done: Mutex::new(Some(completion)),
        });
        for place in &self.places {
            let rows = ShardRows::default();
            send(place, Message::Append { rows, ticket: Arc::clone(&ticket) });
        }
    }

    /// Samples of `ordinals`, which must be ascending, in `range`; one entry per shard.
    pub(crate) fn select(&self, ordinals: &[u32], range: TimeRange) -> Vec<HeadChunks> {
        let count = self.count();
        let mut split: Vec<Vec<u32>> = vec![Vec::new(); count];
        for &ordinal in ordinals {
            split[ordinal as usize % count].push(ordinal);
        }
        let mut replies = Vec::with_capacity(count);
        for (place, ordinals) in self.places.iter().zip(split) {
            if ordinals.is_empty() {
                continue;
            }
            let (reply, answer) = bounded(1);
            send(place, Message::Select { ordinals, range, reply });
            replies.push(answer);
        }
        replies.iter().map(receive).collect()
    }

    /// Starts a cut on every shard: all rows appended so far. Yields where to wait for the parts,
    /// so that the committer may go on.
    pub(crate) fn start_cut(&self) -> Vec<Receiver<Vec<CutData>>> {
        let ask = |place: &Place| {
            let (reply, answer) = bounded(1);
            send(place, Message::Cut { reply });
            answer
        };
        self.places.iter().map(ask).collect()
    }

    /// Separates the rows appended so far from those after a delete, the highest so far.
    pub(crate) fn begin_after_delete(&self, number: u64) {
        for place in &self.places {
            send(place, Message::BeginAfterDelete { number });
        }
    }

    /// Forgets the rows of cuts; they must be readable from blocks by now.
    pub(crate) fn drop_flushed(&self, cuts: &[CutData]) {
        for cut in cuts {
            send(&self.places[cut.shard()], Message::DropFlushed { cut_id: cut.id() });
        }
    }

    /// Of `ordinals`, those without samples in the head.
    pub(crate) fn without_samples(&self, ordinals: &[u32]) -> Vec<u32> {
        let ask = |place: &Place| {
            let (reply, answer) = bounded(1);
            send(place, Message::Idle { ordinals: ordinals.to_vec(), reply });
            answer
        };
        let answers: Vec<_> = self.places.iter().map(ask).collect();
        answers.iter().flat_map(receive).collect()
    }

    /// Of `ordinals`, those that may have samples in `range`; ascending.
    pub(crate) fn with_samples(&self, ordinals: &[u32], range: TimeRange) -> Vec<u32> {
        let all: Arc<[u32]> = ordinals.into();
        let ask = |place: &Place| {
            let (reply, answer) = bounded(1);
            send(place, Message::Active { ordinals: Arc::clone(&all), range, reply });
            answer
        };
        let answers: Vec<_> = self.places.iter().map(ask).collect();
        let mut active: Vec<u32> = answers.iter().flat_map(receive).collect();
        active.sort_unstable();
        active
    }

    /// Waits until every shard has handled all messages sent so far.
    pub(crate) fn settle(&self) {
        self.without_samples(&[]);
    }

    /// Sizes as of the last message each shard handled; what was acknowledged is counted.
    pub(crate) fn totals(&self) -> HeadTotals {
        self.shown.iter().fold(HeadTotals::EMPTY, |mut all, shown| {
            let one = *shown.lock();
            all.bytes += one.bytes;
            all.rows += one.rows;
            all.chunks += one.chunks;
            all.range = all.range.union(&one.range);
            all
        })
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.places.clear();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(place: &Place, message: Message) {
    match place {
        // `Shards` holds a sender of every thread, and a thread that panics ends the process.
        Place::Thread(sender) => {
            sender.send(message).expect("a shard's thread lives as long as its senders");
        }
        Place::Inline(owned) => {
            let finished = owned.lock().step(message);
            if let Some((ticket, outcome)) = finished {
                ticket.finish(outcome);
            }
        }
    }
}

pub(crate) fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv().expect("a shard answers every message, or the process ends")
}

fn serve(mut owned: Owned, messages: &Receiver<Message>) {
    let _guard = AbortOnPanic("shard");
    for message in messages {
        if let Some((ticket, outcome)) = owned.step(message) {
            ticket.finish(outcome);
        }
    }
}

impl Owned {
    /// Does what one message asks. Yields who waits for rows to be there, if anybody does.
    fn step(&mut self, message: Message) -> Option<(Arc<Ticket>, AppendOutcome)> {
        let shard = &mut self.shard;
        match message {
            Message::Append { rows, ticket } => {
                let outcome = shard.append(&rows);
                // Before the answer: who has it may ask what there is.
                *self.shown.lock() = HeadTotals::of(shard);
                if !rows.is_empty() {
                    let histograms = rows.histograms.iter().map(|row| row.t_ms);
                    let times = rows.timestamps_ms.iter().copied().chain(histograms);
                    self.changes.note_rows(self.index, times);
                }
                return Some((ticket, outcome));
            }
            Message::Select { ordinals, range, reply } => {
                // The reader may have given up meanwhile.
                let _ = reply.send(shard.select(&ordinals, range));
            }
            Message::Cut { reply } => {
                let _ = reply.send(shard.cut());
            }
            Message::BeginAfterDelete { number } => shard.begin_after_delete(number),
            Message::DropFlushed { cut_id } => {
                shard.drop_flushed(cut_id);
                *self.shown.lock() = HeadTotals::of(shard);
            }
            Message::Active { ordinals, range, reply } => {
                let _ = reply.send(shard.with_samples(&ordinals, range));
            }
            Message::Idle { ordinals, reply } => {
                let _ = reply.send(shard.without_samples(&ordinals));
            }
        }
        None
    }
}

/// Ends the process when the thread that holds it panics: what the thread owned is not to be
/// trusted any more, without it nothing is stored or flushed, and the log brings everything back.
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                thread = self.0,
                "a thread of the store has panicked, which is a defect of this program: stopping, \
                 nothing acknowledged is lost; report the panic printed above"
            );
            std::process::abort();
        }
    }
}

impl Ticket {
    fn finish(&self, outcome: AppendOutcome) {
        let total = {
            let mut total = self.total.lock();
            total.add(outcome);
            *total
        };
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(completion) = self.done.lock().take()
        {
            completion(total);
        }
    }
}
