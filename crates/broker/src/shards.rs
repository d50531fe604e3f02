//! The threads that own the shards of the head, one each.
//!
//! A shard is never locked: whoever wants something sends a message. Writes arrive only from the
//! committer, in the order of the log, so that "first commit wins" is the same before and after a
//! restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use metricstore::{AppendOutcome, CutData, HeadChunks, Shard, ShardRows};
use model::TimeRange;
use parking_lot::Mutex;

/// Messages that may wait for one shard. A committer that outruns its shards waits here, which
/// slows the acknowledgements down: backpressure to the senders.
const QUEUE: usize = 64;

enum Message {
    Append { rows: ShardRows, ticket: Arc<Ticket> },
    Select { ordinals: Vec<u32>, range: TimeRange, reply: Sender<HeadChunks> },
    Cut { reply: Sender<Option<CutData>> },
    DropFlushed { cut_id: u64 },
    Idle { ordinals: Vec<u32>, reply: Sender<Vec<u32>> },
}

/// Waits for all shards a batch is spread over.
pub(crate) struct Ticket {
    open: AtomicUsize,
    total: Mutex<AppendOutcome>,
    done: Mutex<Option<Completion>>,
}

/// What to do with the outcome of a batch, on the thread of the last shard.
pub(crate) type Completion = Box<dyn FnOnce(AppendOutcome) + Send>;

/// All shard threads of one head.
pub(crate) struct Shards {
    senders: Vec<Sender<Message>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    gauges: Vec<Arc<Gauges>>,
}

/// What a shard says about itself, for metrics and for deciding when to flush.
#[derive(Debug, Default)]
struct Gauges {
    bytes: AtomicU64,
    rows: AtomicU64,
    chunks: AtomicU64,
    min_time_ms: AtomicI64,
    max_time_ms: AtomicI64,
}

/// Sums over all shards.
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

impl Shards {
    /// Starts `count` shards.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(count: usize) -> Result<Self> {
        let mut senders = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        let mut gauges = Vec::with_capacity(count);
        for index in 0..count {
            let (sender, receiver) = bounded(QUEUE);
            let gauge = Arc::new(Gauges::default());
            let shown = Arc::clone(&gauge);
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || own(Shard::new(index, count), &receiver, &shown))
                .context("start a shard's thread")?;
            senders.push(sender);
            threads.push(thread);
            gauges.push(gauge);
        }
        Ok(Shards { senders, threads: Mutex::new(threads), gauges })
    }

    /// Number of shards.
    pub(crate) fn count(&self) -> usize {
        self.senders.len()
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
        for (sender, rows) in self.senders.iter().zip(rows) {
            if !rows.is_empty() {
                send(sender, Message::Append { rows, ticket: Arc::clone(&ticket) });
            }
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
        for (sender, ordinals) in self.senders.iter().zip(split) {
            if ordinals.is_empty() {
                continue;
            }
            let (reply, answer) = bounded(1);
            send(sender, Message::Select { ordinals, range, reply });
            replies.push(answer);
        }
        replies.iter().map(receive).collect()
    }

    /// Starts a cut on every shard: all rows appended so far. Yields where to wait for the parts,
    /// so that the committer may go on.
    pub(crate) fn start_cut(&self) -> Vec<Receiver<Option<CutData>>> {
        let ask = |sender: &Sender<Message>| {
            let (reply, answer) = bounded(1);
            send(sender, Message::Cut { reply });
            answer
        };
        self.senders.iter().map(ask).collect()
    }

    /// Forgets the rows of cuts; they must be readable from blocks by now.
    pub(crate) fn drop_flushed(&self, cuts: &[CutData]) {
        for cut in cuts {
            send(&self.senders[cut.shard()], Message::DropFlushed { cut_id: cut.id() });
        }
    }

    /// Of `ordinals`, those without samples in the head.
    pub(crate) fn without_samples(&self, ordinals: &[u32]) -> Vec<u32> {
        let ask = |sender: &Sender<Message>| {
            let (reply, answer) = bounded(1);
            send(sender, Message::Idle { ordinals: ordinals.to_vec(), reply });
            answer
        };
        let answers: Vec<_> = self.senders.iter().map(ask).collect();
        answers.iter().flat_map(receive).collect()
    }

    /// Waits until every shard has handled all messages sent so far.
    pub(crate) fn settle(&self) {
        self.without_samples(&[]);
    }

    /// Sizes as of the last message each shard handled.
    pub(crate) fn totals(&self) -> HeadTotals {
        let mut totals = HeadTotals { bytes: 0, rows: 0, chunks: 0, range: TimeRange::new(0, 0) };
        for gauge in &self.gauges {
            totals.bytes += gauge.bytes.load(Ordering::Relaxed);
            totals.rows += gauge.rows.load(Ordering::Relaxed);
            totals.chunks += gauge.chunks.load(Ordering::Relaxed);
            totals.range = totals.range.union(&TimeRange::new(
                gauge.min_time_ms.load(Ordering::Relaxed),
                gauge.max_time_ms.load(Ordering::Relaxed),
            ));
        }
        totals
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.senders.clear();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(sender: &Sender<Message>, message: Message) {
    // A shard's thread ends only when all senders are gone, or by a panic, after which the head
    // is not to be trusted and the process must not go on.
    if sender.send(message).is_err() {
        tracing::error!("a shard's thread has died; stopping, the log brings everything back");
        std::process::abort();
    }
}

pub(crate) fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv().unwrap_or_else(|_| {
        tracing::error!("a shard's thread has died; stopping, the log brings everything back");
        std::process::abort()
    })
}

fn own(mut shard: Shard, messages: &Receiver<Message>, gauges: &Gauges) {
    for message in messages {
        match message {
            Message::Append { rows, ticket } => {
                let outcome = shard.append(&rows);
                ticket.finish(outcome);
            }
            Message::Select { ordinals, range, reply } => {
                // The reader may have given up meanwhile.
                let _ = reply.send(shard.select(&ordinals, range));
            }
            Message::Cut { reply } => {
                let _ = reply.send(shard.cut());
            }
            Message::DropFlushed { cut_id } => shard.drop_flushed(cut_id),
            Message::Idle { ordinals, reply } => {
                let _ = reply.send(shard.without_samples(&ordinals));
            }
        }
        gauges.bytes.store(shard.bytes() as u64, Ordering::Relaxed);
        gauges.rows.store(shard.rows(), Ordering::Relaxed);
        gauges.chunks.store(shard.chunks() as u64, Ordering::Relaxed);
        let range = shard.range();
        gauges.min_time_ms.store(range.start_ms, Ordering::Relaxed);
        gauges.max_time_ms.store(range.end_ms, Ordering::Relaxed);
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
