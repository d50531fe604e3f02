//! Blocks on their way into the shared store, and out of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use blockstore::{BlockError, InMemory, MergePart};
use bytes::Bytes;
use catalog::{BlockId, Command, NewBlock, Outcome, Signal};
use consensus::Consensus;
use logstore::LogFormat;
use metricstore::{Deletes, FlushPlan, MetricFormat, Registry};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Work;
use super::applier::Flushed;
use super::signals::{BlockSets, Frozen, Named, named};
use super::store::{self, ObjectStore};
use super::writer::AGREE_DEADLINE;
use crate::logs::{FrozenHead, LineDeletes, PlannedLines, plan_flush};
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
    pub(super) blocks: BlockSets,
    pub(super) log_format: LogFormat,
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

    /// Writes and opens the blocks of what a cut froze, without what deletes up to a number hide; they are not
    /// in the manifest yet.
    ///
    /// # Errors
    /// The store or the consensus failed; nothing of it is left here.
    pub(super) async fn write_frozen(
        &self,
        Frozen { samples, lines }: Frozen,
        (deletes, of_lines): (Deletes, LineDeletes),
        through: u64,
        registry: &Arc<Registry>,
    ) -> Result<Vec<NewBlock>> {
        let mut added = Vec::new();
        if samples.iter().any(|cut| cut.rows() > 0) {
            let (deletes, of) = (deletes.through(through), Arc::clone(registry));
            let plan = self.work.run(move || FlushPlan::new(samples, &deletes, &of)).await;
            added = self.write_plan(plan, registry).await?;
        }
        match self.write_lines(lines, of_lines, through).await {
            Ok(blocks) => added.extend(blocks),
            Err(error) => {
                self.discard(named(&added));
                return Err(error);
            }
        }
        Ok(added)
    }

    async fn write_lines(
        &self,
        lines: Vec<Arc<FrozenHead>>,
        deletes: LineDeletes,
        through: u64,
    ) -> Result<Vec<NewBlock>> {
        // Fast path: nobody sends lines.
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let plan = move || plan_flush(&lines, &deletes, through);
        let planned = self.work.run(plan).await.context("plan the blocks of lines")?;
        let mut added = Vec::new();
        for block in planned {
            if let Err(error) = self.write_planned_lines(Arc::new(block), &mut added).await {
                self.discard(named(&added));
                return Err(error);
            }
        }
        Ok(added)
    }

    /// Writes and opens one planned block by way of memory, in several where it would be too large for that.
    async fn write_planned_lines(
        &self,
        planned: Arc<PlannedLines>,
        added: &mut Vec<NewBlock>,
    ) -> Result<()> {
        let most_bytes = MAX_BLOCK_BYTES as u64;
        let mut part = MergePart { behind: None, most_bytes };
        loop {
            let id = BlockId(self.reserve(1).await?.start);
            let (block, format, of) = (Arc::clone(&planned), self.log_format.clone(), part.clone());
            let write = move || {
                let mut out = InMemory::default();
                let (summary, last) = block.write(&format, &of, &mut out)?;
                Ok::<_, BlockError>((summary, last, Bytes::from(out.0)))
            };
            let (summary, last, bytes) =
                self.work.run(write).await.context("write a block of lines")?;
            if summary.rows > 0 {
                let size_bytes = bytes.len() as u64;
                if let Err(error) = self.put(id, Signal::Logs, bytes).await {
                    self.discard(vec![(id, Signal::Logs)]);
                    return Err(error);
                }
                added.push(NewBlock {
                    id,
                    tenant: planned.tenant,
                    signal: Signal::Logs,
                    range: summary.range,
                    rows: summary.rows,
                    series: summary.series,
                    size_bytes,
                    level: 0,
                });
            }
            match last {
                Some(last) => part.behind = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Writes and opens the blocks of a flush; they are not in the manifest yet.
    ///
    /// # Errors
    /// The store or the consensus failed; nothing of it is left here.
    async fn write_plan(&self, plan: FlushPlan, registry: &Arc<Registry>) -> Result<Vec<NewBlock>> {
        let plan = Arc::new(plan.in_parts(MAX_BLOCK_BYTES));
        let mut ids = self.reserve(plan.blocks().len() as u64).await?;
        let mut added = Vec::new();
        for place in 0..plan.blocks().len() {
            let id = BlockId(ids.next().expect("as many ids as blocks were reserved"));
            match self.write_planned(Arc::clone(&plan), place, id, Arc::clone(registry)).await {
                Ok(new) => added.extend(new),
                Err(error) => {
                    let mut blocks = named(&added);
                    blocks.push((id, Signal::Metrics));
                    self.discard(blocks);
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
        self.put(id, Signal::Metrics, bytes).await?;
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
    pub(super) async fn put(&self, id: BlockId, signal: Signal, bytes: Bytes) -> Result<()> {
        let key = id.key(signal);
        store::put_block(&*self.store, &key, &bytes)
            .await
            .with_context(|| format!("write {key}"))?;
        let blocks = self.blocks.clone();
        let opened = self.work.run(move || blocks.open_block(id, signal)).await;
        let block = opened.with_context(|| format!("read {key} back"))?;
        self.flushed.lock().opened.insert(id, block);
        Ok(())
    }

    /// Forgets blocks that may count or not: if they do, they are opened like those of others.
    pub(super) fn forget(&self, blocks: &[Named]) {
        let mut flushed = self.flushed.lock();
        for (id, _) in blocks {
            flushed.opened.remove(id);
        }
    }

    /// Removes blocks that do not count and never will.
    pub(super) fn discard(&self, blocks: Vec<Named>) {
        self.forget(&blocks);
        let keys = blocks.into_iter().map(|(id, signal)| id.key(signal)).collect();
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
    pub(super) fn remove_blocks_later(&self, blocks: Vec<Named>) {
        self.remove_later(blocks.into_iter().map(|(id, signal)| id.key(signal)).collect());
    }
}
