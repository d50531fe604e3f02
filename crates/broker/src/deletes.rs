//! Deletes: the list that queries and merges go by, and how one is made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result};
use blockstore::OpenBlock;
use catalog::{BlockId, BlockMeta, LabelCondition, Outcome, Signal, State, Tombstone};
use crossbeam_channel::{Sender, bounded};
use metricstore::{Delete, Deletes, MetricFormat};
use model::{Matcher, TenantId, TimeRange};
use parking_lot::RwLock;

use crate::Broker;
use crate::commit::{CommitError, Message};
use crate::maintenance::Wake;

/// How often a delete is tried again because the head had to be flushed first.
const ATTEMPTS: usize = 3;

/// A delete that is asked for; the committer gives it its place in the order of commits.
#[derive(Debug, Clone)]
pub(crate) struct DeleteRequest {
    /// Of what.
    pub(crate) signal: Signal,
    pub(crate) tenant: TenantId,
    pub(crate) range: TimeRange,
    pub(crate) at_ms: i64,
    pub(crate) selectors: Vec<Vec<LabelCondition>>,
}

impl DeleteRequest {
    /// The tombstone with its number.
    pub(crate) fn numbered(self, number: u64) -> Tombstone {
        let DeleteRequest { signal, tenant, range, at_ms, selectors } = self;
        Tombstone { number, tenant, signal, range, at_ms, selectors }
    }
}

/// The deletes of samples that may hide something, durable ones only.
///
/// A query takes this list first, the head second and the blocks third. So a delete comes into it
/// before it is acknowledged, and leaves it after the last source that it concerns was replaced.
#[derive(Debug)]
pub(crate) struct DeleteBook(RwLock<(Deletes, u64)>);

impl DeleteBook {
    /// Those of the catalog.
    ///
    /// # Errors
    /// A pattern that this program cannot compile and an older one could.
    pub(crate) fn load(state: &State) -> Result<Self> {
        let mut deletes = Vec::new();
        for tombstone in state.tombstones().filter(|one| one.signal == Signal::Metrics) {
            let delete = Delete::new(Arc::clone(tombstone))
                .with_context(|| format!("read the selectors of delete {}", tombstone.number))?;
            deletes.push(Arc::new(delete));
        }
        Ok(DeleteBook(RwLock::new((Deletes::new(deletes), state.last_delete()))))
    }

    /// The list now, and the number of the last delete that came into it.
    pub(crate) fn current(&self) -> (Deletes, u64) {
        self.0.read().clone()
    }

    /// Adds one that is durable, the highest so far.
    pub(crate) fn add(&self, delete: Arc<Delete>) {
        let mut listed = self.0.write();
        let number = delete.tombstone().number;
        let all = listed.0.iter().cloned().chain([delete]).collect();
        *listed = (Deletes::new(all), number);
    }

    /// Notes that all deletes up to a number were heard of; those that are not listed concern nothing any
    /// more.
    pub(crate) fn pass(&self, number: u64) {
        let mut listed = self.0.write();
        listed.1 = listed.1.max(number);
    }

    /// Takes those out that nothing is left of.
    pub(crate) fn forget(&self, gone: &BTreeSet<u64>) {
        let mut listed = self.0.write();
        let is_kept = |delete: &&Arc<Delete>| !gone.contains(&delete.tombstone().number);
        listed.0 = Deletes::new(listed.0.iter().filter(is_kept).cloned().collect());
    }

    /// Of the first `through`, those that may hide rows of a block.
    pub(crate) fn of_block(deletes: &Deletes, through: u64, meta: &BlockMeta) -> Vec<Arc<Delete>> {
        let concerns = |delete: &&Arc<Delete>| {
            delete.tombstone().number <= through && delete.tombstone().concerns(meta)
        };
        deletes.iter().filter(concerns).cloned().collect()
    }
}

/// In which form a block holds its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockForm {
    /// Length of the windows of its rollups, milliseconds; 0 if it has none.
    pub rollup_ms: i64,
    /// Whether there may be fewer floats than came, because they are old.
    pub is_downsampled: bool,
    /// Whether rollups are all that is left of the floats.
    pub is_thinned: bool,
}

impl Broker {
    /// Hides all samples in `range`, stored until now, of the tenant's series that satisfy all
    /// matchers of any of `selectors`. When it returns the delete is durable and in effect.
    /// Whatever is stored later is new, whatever its time. Costs one sync and no search; may wait
    /// for a flush. Not for a thread that serves sockets.
    ///
    /// # Errors
    /// Selectors too large, too many deletes that wait for their rows to be removed (see
    /// [`Broker::clean_deleted`]), a full disk, a flush that failed.
    pub fn delete_series(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<(), CommitError> {
        let request = self.delete_request(Signal::Metrics, tenant, selectors, range);
        let mut outcome = self.send_delete(request.clone());
        for _ in 1..ATTEMPTS {
            if !matches!(outcome, Err(CommitError::HeadInParts { .. })) {
                break;
            }
            self.ask_maintenance(Wake::Flush)?;
            outcome = self.send_delete(request.clone());
        }
        outcome
    }

    /// As [`Broker::delete_series`] where the head need not be flushed first, and calls `done` instead
    /// of waiting for it. In a cluster it never need be.
    pub fn begin_delete(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        done: impl FnOnce(Result<(), CommitError>) + Send + 'static,
    ) {
        let request = self.delete_request(Signal::Metrics, tenant, selectors, range);
        let done = Box::new(move |outcome: Result<Outcome, CommitError>| done(outcome.map(|_| ())));
        if let Err(Message::Delete { done, .. }) = self.send(Message::Delete { request, done }) {
            done(Err(CommitError::Stopping));
        }
    }

    /// Writes every block anew in which a delete hides something, and forgets the deletes that
    /// nothing is left of. Takes as long as a merge of those blocks.
    ///
    /// # Errors
    /// A flush or merge failed, for example because the disk is full; what was done stays done.
    pub fn clean_deleted(&self) -> Result<(), CommitError> {
        self.ask_maintenance(Wake::CleanDeleted)
    }

    /// Writes a copy of the store as of now below `snapshots/<name>` of the data directory: usable
    /// as a data directory, made of links to blocks where the file system has them. It appears
    /// whole and durable or not at all. Without the head it holds what is in blocks.
    ///
    /// # Errors
    /// A flush failed, the disk is full, there is a snapshot of this name, another is being written.
    ///
    /// # Panics
    /// `name` is no plain file name.
    pub fn snapshot(&self, name: &str, with_head: bool) -> Result<(), CommitError> {
        if self.inner.clustered.is_some() {
            let why = "a broker of a cluster has no copy of what the cluster stores: copy the store by its own \
                       means, versions of a bucket for example";
            return Err(CommitError::Maintenance(why.to_owned()));
        }
        let Some(_only_one) = self.inner.copying.try_lock() else {
            return Err(CommitError::Busy("a snapshot is being written"));
        };
        let name = name.to_owned();
        self.ask_maintenance(|reply| Wake::Snapshot { name, with_head, reply })
    }

    /// What the catalog lists of samples, in ascending order of ids, and for each block how many deletes may
    /// hide some of it.
    pub fn block_metas(&self) -> Vec<(BlockMeta, u64)> {
        let (blocks, tombstones): (Vec<BlockMeta>, Vec<Arc<Tombstone>>) =
            self.inner.catalog.read(|state| {
                let blocks = state.blocks().filter(|meta| meta.signal == Signal::Metrics);
                (blocks.copied().collect(), state.tombstones().cloned().collect())
            });
        // Blocks times deletes: the committer must not wait for that.
        let deletes =
            |meta: &BlockMeta| tombstones.iter().filter(|t| t.concerns(meta)).count() as u64;
        blocks.into_iter().map(|meta| (meta, deletes(&meta))).collect()
    }

    /// In which form blocks hold their samples; of those that are open, which all are but for damaged
    /// ones.
    pub fn block_forms(&self) -> HashMap<BlockId, BlockForm> {
        let form = |open: &Arc<OpenBlock<MetricFormat>>| BlockForm {
            rollup_ms: open.block.rollup_ms(),
            is_downsampled: open.block.is_downsampled(),
            is_thinned: open.block.is_thinned(),
        };
        self.inner.blocks.snapshot().iter().map(|open| (open.meta.id, form(open))).collect()
    }

    pub(crate) fn delete_request(
        &self,
        signal: Signal,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> DeleteRequest {
        let condition =
            |m: &Matcher| LabelCondition { name: m.name.clone(), op: m.op, value: m.value.clone() };
        let selectors = selectors.iter().map(|s| s.iter().map(condition).collect()).collect();
        DeleteRequest { signal, tenant, range, at_ms: self.now_ms(), selectors }
    }

    pub(crate) fn send_delete(&self, request: DeleteRequest) -> Result<(), CommitError> {
        let (reply, answer) = bounded(1);
        let done = Box::new(move |outcome| {
            // Whoever asked waits for it.
            let _ = reply.send(outcome);
        });
        let message = Message::Delete { request, done };
        self.send(message).map_err(|_| CommitError::Stopping)?;
        answer.recv().unwrap_or(Err(CommitError::Stopping)).map(|_| ())
    }

    fn ask_maintenance(&self, wake: impl FnOnce(Done) -> Wake) -> Result<(), CommitError> {
        self.ready().map_err(|_| CommitError::Stopping)?;
        let (reply, answer) = bounded(1);
        if !self.inner.wake.send(wake(reply)) {
            return Err(CommitError::Stopping);
        }
        let stopping = Err(CommitError::Stopping);
        answer.recv().map_or(stopping, |done| done.map_err(CommitError::Maintenance))
    }
}

/// Where the maintenance tells how it went, in words.
pub(crate) type Done = Sender<Result<(), String>>;

#[cfg(test)]
mod tests {
    use blockstore::{Disk, MemoryDisk};

    use super::*;
    use crate::BrokerConfig;

    #[test]
    fn a_second_snapshot_is_refused_while_one_is_written() {
        let config = BrokerConfig {
            flush_interval_ms: 86_400_000,
            ..BrokerConfig::new("unused".into(), || 0)
        };
        let disk = Arc::new(MemoryDisk::new());
        let on_disk = Arc::clone(&disk) as Arc<dyn Disk>;
        let broker = Broker::open_on(on_disk, config, Arc::default()).expect("an empty disk");
        let first = broker.inner.copying.lock();
        let error = broker.snapshot("second", true).expect_err("one is being written");
        assert_eq!(
            error.to_string(),
            "a snapshot is being written already: ask again when that is done"
        );
        drop(first);
        assert!(disk.list("snapshots").expect("memory").is_empty());
        broker.snapshot("second", true).expect("none is being written");
    }
}
