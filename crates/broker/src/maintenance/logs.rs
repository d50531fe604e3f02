//! Blocks of lines: written by flushes, merged, and written anew without what is deleted.

use std::sync::Arc;

use blockstore::{MergeError, MergeJob, MergePart, OpenBlock};
use catalog::{BlockId, BlockMeta, Command, NewBlock, Signal};
use crossbeam_channel::Receiver;
use logstore::LogBlock;

use super::{Fault, Maintenance, Wake, added_metas, is_damage};
use crate::command;
use crate::logs::{FrozenHead, PlannedLines, of_block, plan_flush};

/// A block of lines that was written and is open.
pub(super) type WrittenLines = (NewBlock, Arc<LogBlock>);

impl Maintenance {
    /// Writes and opens the blocks of lines of a flush; they are not in the manifest yet.
    pub(super) fn write_log_blocks(
        &self,
        heads: &[Arc<FrozenHead>],
        deletes_through: u64,
    ) -> Result<Vec<WrittenLines>, Fault> {
        // Fast path: nobody sends lines.
        if heads.is_empty() {
            return Ok(Vec::new());
        }
        let planned = plan_flush(heads, &self.lines.deletes.current().0, deletes_through)?;
        let ids = self.reserve(planned.len() as u64)?;
        let mut written: Vec<WrittenLines> = Vec::new();
        for (block, id) in planned.iter().zip(ids.map(BlockId)) {
            match self.write_log_block(id, block) {
                Ok(block) => written.extend(block),
                Err(error) => {
                    let ids = written.iter().map(|(new, _)| new.id).chain([id]);
                    self.delete_log_blobs(&ids.collect::<Vec<_>>());
                    return Err(error);
                }
            }
        }
        let lines = written.iter().map(|(new, _)| new.rows).sum();
        self.count(&self.lines.counters.flushed_lines, lines);
        Ok(written)
    }

    /// Shows blocks that the catalog lists as `metas` from now on.
    pub(super) fn show_log_blocks(&self, metas: Vec<BlockMeta>, written: Vec<WrittenLines>) {
        let opened = metas.into_iter().zip(written);
        let opened = opened.map(|(meta, (_, block))| OpenBlock { meta, block });
        self.log_blocks.add(opened.collect());
    }

    /// As of blocks of samples.
    pub(super) fn merge_lines_that_are_due(&mut self, woken: &Receiver<Wake>) -> Result<(), Fault> {
        let flushed = self.flushed;
        while woken.is_empty() && self.put_off.is_empty() && !self.flush_is_urgent() {
            if self.flushed != flushed {
                return Ok(());
            }
            let snapshot = self.log_blocks.snapshot();
            let metas: Vec<BlockMeta> = snapshot.iter().map(|open| open.meta).collect();
            drop(snapshot);
            let Some(job) = self.planner.next_of_lines(&metas) else { return Ok(()) };
            self.merge_lines(&job, woken)?;
            self.count(&self.lines.counters.merges, 1);
        }
        Ok(())
    }

    fn merge_lines(&mut self, job: &MergeJob, woken: &Receiver<Wake>) -> Result<(), Fault> {
        let id = BlockId(self.reserve(1)?.start);
        let (deletes, deletes_through) = self.lines.deletes.current();
        let (blocks, format) = (Arc::clone(&self.log_blocks), self.lines.format.clone());
        let keep = self.planner.terms_of_lines();
        let hidden = |meta: &BlockMeta| of_block(&deletes, deletes_through, meta);
        let meanwhile = &mut || self.meanwhile(woken);
        let merged = match blocks.merge(&format, job, id, keep, &hidden, meanwhile) {
            Ok(merged) => merged,
            Err(MergeError { input: Some(index), error }) if is_damage(&error) => {
                tracing::error!(block = %job.inputs[index], %error, "a block of logs is damaged");
                self.set_aside(job.inputs[index]);
                return Ok(());
            }
            Err(error) => {
                self.delete_log_blobs(&[id]);
                return Err(error.into());
            }
        };
        let removed = job.inputs.clone();
        let added: Vec<NewBlock> = merged.added.iter().map(|(new, _)| *new).collect();
        let swap =
            Command::Swap { removed: removed.clone(), added: added.clone(), deletes_through };
        let metas = added_metas(self.command_or_discard(swap, &added)?);
        let opened = metas.into_iter().zip(merged.added);
        let opened = opened.map(|(meta, (_, block))| OpenBlock { meta, block });
        self.log_blocks.swap(&removed, opened.collect());
        self.delete_log_blobs(&removed);
        self.forget_deletes();
        Ok(())
    }

    /// Writes every block anew in which a delete may hide a line.
    pub(super) fn clean_deleted_lines(&mut self, woken: &Receiver<Wake>) -> Result<(), Fault> {
        let (deletes, through) = self.lines.deletes.current();
        let mut untouched = Vec::new();
        for open in self.log_blocks.snapshot().iter() {
            let concerning = of_block(&deletes, through, &open.meta);
            if concerning.is_empty() {
                continue;
            }
            if open.block.may_be_touched_by(&concerning) {
                self.merge_lines(&MergeJob::rewrite(&open.meta), woken)?;
                self.count(&self.counters.cleaned_blocks, 1);
            } else {
                untouched.push(open.meta.id);
            }
            self.meanwhile(woken);
        }
        if !untouched.is_empty() {
            let blocks = untouched.clone();
            command(&self.committer, Command::SettleDeletes { blocks, deletes_through: through })?;
            self.log_blocks.settle(&untouched, through);
            self.forget_deletes();
        }
        Ok(())
    }

    pub(super) fn delete_log_blobs(&self, ids: &[BlockId]) {
        if let Err(error) = self.log_blocks.delete_blobs(ids) {
            tracing::warn!(%error, "files of removed blocks of logs stay until the next start");
        }
    }

    /// Writes and opens one block; `None` if no line of it is left.
    fn write_log_block(
        &self,
        id: BlockId,
        planned: &PlannedLines,
    ) -> Result<Option<WrittenLines>, Fault> {
        let mut out = self.blobs.create(&id.key(Signal::Logs))?;
        let (summary, _) = planned.write(&self.lines.format, &MergePart::default(), &mut *out)?;
        if summary.rows == 0 {
            return Ok(None);
        }
        let size_bytes = out.position();
        out.finish()?;
        let new = NewBlock {
            id,
            tenant: planned.tenant,
            signal: Signal::Logs,
            range: summary.range,
            rows: summary.rows,
            series: summary.series,
            size_bytes,
            level: 0,
        };
        Ok(Some((new, self.log_blocks.open_block(id)?)))
    }
}
