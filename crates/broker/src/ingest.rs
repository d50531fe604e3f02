//! From a batch to its acknowledgement: resolve → live tap → log → shards → answer.

use std::sync::atomic::{AtomicU64, Ordering};

use metricstore::{Admission, AppendOutcome, Reject, ResolvedBatch};
use model::{MetricBatch, TenantId};
use parking_lot::Mutex;

use crate::Broker;
use crate::committer::{CommitError, Message};

/// Buffers kept for reuse. One per request under way is enough.
const POOLED: usize = 32;
/// A buffer that grew above this many rows is not kept.
const POOLED_ROWS: usize = 1 << 20;

/// What became of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestOutcome {
    /// Counts of what reached the head.
    pub appended: AppendOutcome,
    /// What was refused before it reached the log, by reason.
    pub rejects: Vec<Reject>,
}

impl IngestOutcome {
    /// What the sender should be told, if anything of the batch was not stored as sent.
    pub fn complaint(&self) -> Option<String> {
        let mut parts: Vec<String> = self
            .rejects
            .iter()
            .map(|reject| format!("{} samples refused: {}", reject.samples, reject.reason))
            .collect();
        if self.appended.conflicts > 0 {
            parts.push(format!(
                "{} samples left out: duplicate sample for timestamp, the series already has \
                 another value at that time and the first one stays",
                self.appended.conflicts
            ));
        }
        (!parts.is_empty())
            .then(|| format!("{}; the other samples of the request are stored", parts.join("; ")))
    }
}

/// Counters of ingestion.
#[derive(Debug, Default)]
pub(crate) struct IngestCounters {
    pub(crate) rejected: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) exemplars: AtomicU64,
    pub(crate) metadata_refused: AtomicU64,
}

/// Buffers for resolved batches that did not go through the committer.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Vec<ResolvedBatch>>);

impl Buffers {
    fn take(&self) -> ResolvedBatch {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, batch: ResolvedBatch) {
        let mut kept = self.0.lock();
        if kept.len() < POOLED && batch.rows() <= POOLED_ROWS {
            kept.push(batch);
        }
    }
}

impl Broker {
    /// Stores a batch and calls `done` when it is durable and visible, or refused as a whole.
    /// Waits only for a place in the committer's queue.
    pub fn ingest(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
        done: impl FnOnce(Result<IngestOutcome, CommitError>) + Send + 'static,
    ) {
        let inner = &self.inner;
        let mut resolved = inner.buffers.take();
        inner.registry.resolve(
            tenant,
            batch,
            inner.shards.count(),
            Admission {
                limits: &inner.config.limits,
                now_ms: self.now_ms(),
                oldest_ms: self.oldest_ms(),
            },
            &|form, bytes| {
                wire::decode_labels(form, bytes, &inner.config.limits)
                    .map_err(|error| error.to_string())
            },
            &mut resolved,
        );
        self.store_metadata(tenant, batch);
        let rejects = std::mem::take(&mut resolved.rejects);
        let refused: u64 = rejects.iter().map(|reject| reject.samples).sum();
        inner.ingest_counters.rejected.fetch_add(refused, Ordering::Relaxed);
        if resolved.rows() == 0 {
            inner.buffers.give_back(resolved);
            done(Ok(IngestOutcome { appended: AppendOutcome::default(), rejects }));
            return;
        }
        if !inner.live.is_idle() {
            self.publish(&resolved);
        }
        let counters = std::sync::Arc::clone(&inner.ingest_counters);
        let on_stored = Box::new(move |result: Result<AppendOutcome, CommitError>| {
            done(result.map(|appended| {
                counters.duplicates.fetch_add(appended.duplicates_equal, Ordering::Relaxed);
                counters.conflicts.fetch_add(appended.conflicts, Ordering::Relaxed);
                IngestOutcome { appended, rejects }
            }));
        });
        if let Err(message) = self.send(Message::Write { batch: resolved, done: on_stored })
            && let Message::Write { done, .. } = message
        {
            done(Err(CommitError::Stopping));
        }
    }

    /// Stores a batch and yields when it is durable and visible.
    ///
    /// # Errors
    /// The batch was refused as a whole.
    pub async fn ingest_async(
        &self,
        tenant: TenantId,
        batch: &MetricBatch,
    ) -> Result<IngestOutcome, CommitError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.ingest(tenant, batch, move |result| {
            // The client may have gone; its data is stored all the same.
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or(Err(CommitError::Stopping))
    }

    pub(crate) fn count_exemplars(&self, count: u64) {
        self.inner.ingest_counters.exemplars.fetch_add(count, Ordering::Relaxed);
    }

    fn publish(&self, resolved: &ResolvedBatch) {
        let rows = resolved.shards.iter().flat_map(|shard| {
            let columns = shard.timestamps_ms.iter().zip(&shard.values);
            shard.ordinals.iter().zip(columns).map(|(&o, (&t_ms, &value))| (o, t_ms, value))
        });
        self.inner.live.publish(rows, |ordinal| self.inner.registry.labels(ordinal));
    }
}
