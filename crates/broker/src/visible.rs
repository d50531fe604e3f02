//! What becomes searchable, once it is durable, and in which order.
//!
//! Whoever makes things durable calls this in the order of the catalog, from one place: of two samples
//! with the same series and time the first stays, and a delete hides what came before it and nothing
//! else. Whoever waits for an answer gets it after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metricstore::{Delete, ResolvedBatch};

use crate::commit::{OnStored, Stored};
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
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

    /// Hides what a delete that is durable hides of all that was shown so far.
    pub(crate) fn hide(&self, delete: Arc<Delete>) {
        // What was written before is with the shards, what comes after is not.
        self.shards.begin_after_delete(delete.tombstone().number);
        self.exemplars.forget_deleted(&delete);
        let range = delete.tombstone().range;
        self.deletes.add(delete);
        self.shards.changes().note_delete(range);
    }
}
