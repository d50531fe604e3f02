//! Merges of blocks of lines, and deletes of lines: what `merging` does of samples.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow};
use blockstore::{InMemory, MergeError, MergeJob, MergeOut, MergePart, OpenBlock};
use bytes::Bytes;
use catalog::{BlockId, BlockMeta, Command, NewBlock, Signal};
use logstore::LogFormat;

use super::leases::{Held, NoResult};
use super::merging::{Group, Merging};
use super::signals::named;
use crate::logs::of_block;
use crate::maintenance::is_damage;

type Blocks = Vec<Arc<OpenBlock<LogFormat>>>;

impl Merging {
    /// Groups of blocks of lines of which all are open here.
    pub(super) fn whole_groups_of_lines(&self) -> BTreeMap<Group, Blocks> {
        self.whole(&self.writing.blocks.lines.snapshot(), Signal::Logs)
    }

    /// Merges blocks of lines of a group, if that is due; whether it was.
    pub(super) async fn look_after_lines(&self, group: Group, blocks: &Blocks) -> Result<bool> {
        let metas: Vec<BlockMeta> = blocks.iter().map(|open| open.meta).collect();
        let due = self.planner.lock().next_of_lines(&metas);
        let Some(job) = due else { return Ok(false) };
        // Another one does it: the circle is another there.
        let Some(lease) = self.leases.take(group.job()).await else { return Ok(false) };
        let outcome = lease.keep(self.write_lines(&lease, &job)).await;
        lease.give().await;
        outcome?;
        self.lines.counters.merges.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Writes what one job asks for, and has it agreed upon.
    async fn write_lines(&self, lease: &Held, job: &MergeJob) -> Result<()> {
        let Some(added) = self.write_merged_lines(job).await? else { return Ok(()) };
        let (added, deletes_through) = added;
        let (blocks, removed) = (named(&added), job.inputs.clone());
        if self.keeping.may_remove().is_err() {
            self.writing.discard(blocks);
            return Ok(());
        }
        match lease.propose(Command::Swap { removed, added, deletes_through }).await {
            Ok(_) => {}
            Err(NoResult::Refused(error)) => {
                self.writing.discard(blocks);
                return Err(error).context("replace merged blocks of lines");
            }
            Err(error @ NoResult::Doubtful(_)) => {
                self.writing.forget(&blocks);
                return Err(error.into());
            }
        }
        self.shown().await;
        let inputs = job.inputs.iter().map(|id| (*id, Signal::Logs));
        self.writing.remove_blocks_later(inputs.collect());
        Ok(())
    }

    /// Writes the outcome into the store; `None` if a block is damaged.
    async fn write_merged_lines(&self, job: &MergeJob) -> Result<Option<(Vec<NewBlock>, u64)>> {
        let terms = self.planner.lock().terms_of_lines();
        let (deletes, deletes_through) = self.lines.deletes.current();
        let no_room = |why: String| anyhow!("there is no memory for a merge: {why}");
        let in_memory = usize::try_from(job.size_bytes).unwrap_or(usize::MAX);
        let _room = self.governor.room(in_memory).map_err(no_room)?;
        let id = BlockId(self.writing.reserve(1).await?.start);
        let (blocks, of) = (Arc::clone(&self.writing.blocks.lines), job.clone());
        let format = self.lines.format.clone();
        let merge = move || {
            let mut out = InMemory::default();
            let hidden = |meta: &BlockMeta| of_block(&deletes, deletes_through, meta);
            let (all, into) = (MergePart::default(), MergeOut { id, blob: &mut out });
            let merged = blocks.merge_into(&format, &of, terms, &hidden, &all, into)?;
            Ok::<_, MergeError>((merged.new, Bytes::from(out.0)))
        };
        let (new, bytes) = match self.writing.work.run(merge).await {
            Ok(merged) => merged,
            Err(MergeError { input: Some(index), error }) if is_damage(&error) => {
                tracing::error!(block = %job.inputs[index], %error, "a block of lines is damaged");
                self.aside.take(job.inputs[index]);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let added: Vec<NewBlock> = new.into_iter().collect();
        if !added.is_empty()
            && let Err(error) = self.writing.put(id, Signal::Logs, bytes).await
        {
            self.writing.discard(vec![(id, Signal::Logs)]);
            return Err(error);
        }
        Ok(Some((added, deletes_through)))
    }

    /// Writes blocks anew in which a delete may hide a line, and notes of the others that none does.
    pub(super) async fn clean_lines(&self, lease: &Held, blocks: &Blocks) -> Result<()> {
        let (deletes, through) = self.lines.deletes.current();
        let mut untouched = Vec::new();
        for open in blocks {
            let concerning = of_block(&deletes, through, &open.meta);
            if concerning.is_empty() {
                continue;
            }
            if open.block.may_be_touched_by(&concerning) {
                self.write_lines(lease, &MergeJob::rewrite(&open.meta)).await?;
                self.writing.counters.cleaned_blocks.fetch_add(1, Ordering::Relaxed);
            } else {
                untouched.push(open.meta.id);
            }
        }
        self.settle(lease, untouched, through).await
    }
}
