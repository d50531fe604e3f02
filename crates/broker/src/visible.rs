//! What becomes searchable, once it is durable, and in which order.
//!
//! Whoever makes things durable calls this in the order of the catalog, from one place: of two samples
//! with the same series and time the first stays, and a delete hides what came before it and nothing
//! else. Whoever waits for an answer gets it after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::{Signal, Tombstone};
use metricstore::{Delete, ResolvedBatch};
use model::LogBatch;
use model::{MatcherError, TenantId};

use crate::cluster::Rows;
use crate::commit::{OnStored, Stored};
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::logs::{LineDelete, Lines, OnLines, StoredLines};
use crate::shards::Shards;

/// Counters of what became durable.
#[derive(Debug, Default)]
pub(crate) struct CommitCounters {
    /// Syncs of the log, or segments.
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) samples: AtomicU64,
    pub(crate) sync_nanos: AtomicU64,
    /// Writes refused because the disk was full.
    pub(crate) full: AtomicU64,
    /// Bytes of log, or of segments, a restart would have to read.
    pub(crate) unflushed_bytes: AtomicU64,
}

/// Heads, exemplars and deletes.
#[derive(Clone)]
pub(crate) struct Visible {
    pub(crate) shards: Arc<Shards>,
    /// Shared for reading; changed here alone.
    pub(crate) exemplars: Arc<ExemplarBook>,
    pub(crate) deletes: Arc<DeleteBook>,
    pub(crate) counters: Arc<CommitCounters>,
    pub(crate) lines: Lines,
}

/// A delete that is ready to be applied.
pub(crate) enum Hiding {
    /// To samples.
    Samples(Arc<Delete>),
    /// To lines.
    Lines(Arc<LineDelete>),
}

impl Hiding {
    /// Compiles its patterns.
    ///
    /// # Errors
    /// One does not compile.
    pub(crate) fn new(tombstone: Arc<Tombstone>) -> Result<Hiding, MatcherError> {
        Ok(match tombstone.signal {
            Signal::Metrics => Hiding::Samples(Arc::new(Delete::new(tombstone)?)),
            Signal::Logs => Hiding::Lines(Arc::new(LineDelete::new(tombstone)?)),
        })
    }
}

impl Visible {
    /// Shows the rows of a batch that is durable, then answers.
    pub(crate) fn show(&self, mut batch: Box<ResolvedBatch>, done: OnStored) {
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.samples.fetch_add(batch.rows() as u64, Ordering::Relaxed);
        let exemplars = self.exemplars.keep(&mut batch);
        let done = move |outcome| done(Ok(Stored::New(outcome, exemplars)));
        self.shards.append(batch.shards, Box::new(done));
    }

    /// Answers a batch that was stored before, when everything shown so far can be found.
    pub(crate) fn known(&self, done: OnStored) {
        self.shards.after_all(Box::new(|_| done(Ok(Stored::Known))));
    }

    /// Shows lines that are durable, then answers.
    pub(crate) fn show_lines(&self, tenant: TenantId, batch: Box<LogBatch>, done: OnLines) {
        let counters = &self.lines.counters;
        counters.pushes.fetch_add(1, Ordering::Relaxed);
        counters.lines.fetch_add(batch.lines(), Ordering::Relaxed);
        counters.line_bytes.fetch_add(batch.line_bytes(), Ordering::Relaxed);
        let done = Box::new(move || done(Ok(StoredLines::New)));
        self.lines.heads.append(tenant, batch, done);
    }

    /// Answers a push that was stored before, when everything shown so far can be found.
    pub(crate) fn known_lines(&self, done: OnLines) {
        self.lines.counters.known_pushes.fetch_add(1, Ordering::Relaxed);
        self.lines.heads.after_all(Box::new(move || done(Ok(StoredLines::Known))));
    }

    /// Shows rows that were durable before.
    pub(crate) fn bring_back(&self, rows: Rows) {
        match rows {
            Rows::Samples(mut batch) => {
                self.exemplars.keep(&mut batch);
                self.shards.append(batch.shards, Box::new(|_| {}));
            }
            Rows::Lines(tenant, batch) => self.lines.heads.append(tenant, batch, Box::new(|| {})),
        }
    }

    /// Separates what was shown so far from what comes after deletes up to a number, of which some may be
    /// forgotten by now.
    pub(crate) fn begin_after_deletes(&self, number: u64) {
        self.shards.begin_after_delete(number);
        self.lines.heads.begin_after_delete(None, number);
    }

    /// Waits until everything shown so far can be found.
    pub(crate) fn settle(&self) {
        self.shards.settle();
        self.lines.heads.settle();
    }

    /// Bytes of memory of everything shown.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.shards.totals().bytes + self.lines.heads.totals().bytes
    }

    /// Hides what a delete that is durable hides of all that was shown so far. The book of the other signal
    /// hears of its number: both have one row of them.
    pub(crate) fn hide(&self, delete: Hiding) {
        match delete {
            Hiding::Samples(delete) => {
                self.lines.deletes.pass(delete.tombstone().number);
                self.hide_samples(delete);
            }
            Hiding::Lines(delete) => {
                let (tenant, number) = (delete.tombstone.tenant, delete.tombstone.number);
                self.deletes.pass(number);
                self.lines.heads.begin_after_delete(Some(tenant), number);
                self.lines.deletes.add(delete);
            }
        }
    }

    fn hide_samples(&self, delete: Arc<Delete>) {
        // What was written before is with the shards, what comes after is not.
        self.shards.begin_after_delete(delete.tombstone().number);
        self.exemplars.forget_deleted(&delete);
        let range = delete.tombstone().range;
        self.deletes.add(delete);
        self.shards.changes().note_delete(range);
    }
}
