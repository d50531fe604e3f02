//! Blocks on their way into the shared store, and out of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use blockstore::{BlockError, BlockSet, InMemory};
use bytes::Bytes;
use catalog::{BlockId, Command, NewBlock, Outcome, Signal};
use consensus::Consensus;
use metricstore::{FlushPlan, MetricBlock, MetricFormat, Registry};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Work;
use super::applier::Flushed;
use super::store::{self, ObjectStore};
use super::writer::AGREE_DEADLINE;
use crate::maintenance::MaintenanceCounters;

/// A block is made of about so much memory at most: it is written to the store in one piece, and one that
/// fails is written anew.
const MAX_BLOCK_BYTES: usize = 32 << 20;

/// What it takes to write blocks and to remove objects.
#[derive(Clone)]
pub(super) struct BlockWriting {
    pub(super) consensus: Consensus,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) work: Work,
    pub(super) format: Arc<MetricFormat>,
    pub(super) blocks: Arc<BlockSet<MetricFormat>>,
    /// Blocks that were written here wait there until they count.
    pub(super) flushed: Arc<Mutex<Flushed>>,
    pub(super) counters: Arc<MaintenanceCounters>,
    /// How long objects stay when nothing refers to them any more: queries that began before may read
    /// them.
    pub(super) keep: Duration,
    /// What removes them then.
    pub(super) removals: Arc<Mutex<JoinSet<()>>>,
}

impl BlockWriting {
    pub(super) async fn reserve(&self, count: u64) -> Result<Range<u64>> {
        let reserved = self.consensus.propose(Command::ReserveIds { count }, AGREE_DEADLINE).await;
        match reserved.context("reserve ids of blocks")? {
            Outcome::Reserved(ids) => Ok(ids),
            other => unreachable!("the catalog answers a reservation with ids, not {other:?}"),
        }
    }

    /// Writes and opens the blocks of a flush; they are not in the manifest yet.
    ///
    /// # Errors
    /// The store or the consensus failed; nothing of it is left here.
    pub(super) async fn write_plan(
        &self,
        plan: FlushPlan,
        registry: &Arc<Registry>,
    ) -> Result<Vec<NewBlock>> {
        let plan = Arc::new(plan.in_parts(MAX_BLOCK_BYTES));
        let mut ids = self.reserve(plan.blocks().len() as u64).await?;
        let mut added = Vec::new();
        for place in 0..plan.blocks().len() {
            let id = BlockId(ids.next().expect("as many ids as blocks were reserved"));
            match self.write_planned(Arc::clone(&plan), place, id, Arc::clone(registry)).await {
                Ok(new) => added.extend(new),
                Err(error) => {
                    self.discard(added.iter().map(|new| new.id).chain([id]).collect());
                    return Err(error);
                }
            }
        }
        Ok(added)
    }

    /// Writes and opens one block, by way of memory; `None` if no row of it is left.
    async fn write_planned(
        &self,
        plan: Arc<FlushPlan>,
        place: usize,
        id: BlockId,
        registry: Arc<Registry>,
    ) -> Result<Option<NewBlock>> {
        let format = Arc::clone(&self.format);
        let tenant = plan.blocks()[place].tenant();
        let write = move || {
            let mut out = InMemory::default();
            let summary = plan.write(&plan.blocks()[place], &format, &registry, &mut out)?;
            Ok::<_, BlockError>((summary, Bytes::from(out.0)))
        };
        let (summary, bytes) = self.work.run(write).await.context("write a block")?;
        self.counters.conflicts.fetch_add(summary.conflicts, Ordering::Relaxed);
        if summary.rows == 0 {
            return Ok(None);
        }
        let size_bytes = bytes.len() as u64;
        self.put(id, bytes).await?;
        Ok(Some(NewBlock {
            id,
            tenant,
            signal: Signal::Metrics,
            range: summary.range,
            rows: summary.rows,
            series: summary.series,
            size_bytes,
            level: 0,
        }))
    }

    /// Puts a block into the store and opens it. It is shown when it counts.
    pub(super) async fn put(&self, id: BlockId, bytes: Bytes) -> Result<Arc<MetricBlock>> {
        let key = id.key(Signal::Metrics);
        store::put_block(&*self.store, &key, &bytes)
            .await
            .with_context(|| format!("write {key}"))?;
        let blocks = Arc::clone(&self.blocks);
        let opened = self.work.run(move || blocks.open_block(id)).await;
        let block = opened.with_context(|| format!("read {key} back"))?;
        self.flushed.lock().opened.insert(id, Arc::clone(&block));
        Ok(block)
    }

    /// Forgets blocks that may count or not: if they do, they are opened like those of others.
    pub(super) fn forget(&self, ids: &[BlockId]) {
        let mut flushed = self.flushed.lock();
        for id in ids {
            flushed.opened.remove(id);
        }
    }

    /// Removes blocks that do not count and never will.
    pub(super) fn discard(&self, ids: Vec<BlockId>) {
        self.forget(&ids);
        let keys = ids.into_iter().map(|id| id.key(Signal::Metrics)).collect();
        self.removals.lock().spawn(store::delete_all(Arc::clone(&self.store), keys));
    }

    /// Removes objects that nothing refers to any more, when nobody can be reading them. If the process
    /// ends before that, they are found as what nothing refers to.
    pub(super) fn remove_later(&self, keys: Vec<String>) {
        let (store, keep) = (Arc::clone(&self.store), self.keep);
        let mut removals = self.removals.lock();
        while removals.try_join_next().is_some() {}
        if !keys.is_empty() {
            removals.spawn(async move {
                tokio::time::sleep(keep).await;
                store::delete_all(store, keys).await;
            });
        }
    }

    /// As [`BlockWriting::remove_later`], of blocks.
    pub(super) fn remove_blocks_later(&self, ids: &[BlockId]) {
        self.remove_later(ids.iter().map(|id| id.key(Signal::Metrics)).collect());
    }
}
