//! What the maintenance does about deletes, and when somebody asks for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use blockstore::MergeJob;
use catalog::Command;
use metricstore::{Delete, Deletes};

use super::{Fault, Maintenance, is_damage};
use crate::command;
use crate::deletes::{DeleteBook, Done};
use crate::snapshots;

impl Maintenance {
    /// Whether deletes wait for a flush to find that they concern nothing any more.
    pub(super) fn has_unflushed_deletes(&self) -> bool {
        let catalog = self.catalog.lock();
        catalog.tombstones().any(|tombstone| tombstone.number > catalog.flushed_deletes())
    }

    /// Copies the store as of now.
    pub(super) fn snapshot(&mut self, name: &str, with_head: bool) -> Result<(), Fault> {
        // Marks speak of what is in the head, too.
        let state = match with_head {
            true => self.flush(true)?.expect("asked for"),
            false => self.catalog.lock().without_marks(),
        };
        snapshots::write(&self.disk, &state.for_copy(), name)?;
        self.count(&self.counters.snapshots, 1);
        Ok(())
    }

    /// Writes every block anew in which a delete hides something.
    pub(super) fn clean_deleted(&mut self) -> Result<(), Fault> {
        if self.has_unflushed_deletes() {
            self.flush(false)?;
        }
        let (deletes, through) = self.deletes.current();
        let mut untouched = Vec::new();
        for open in self.blocks.snapshot().iter() {
            let concerning = DeleteBook::of_block(&deletes, through, &open.meta);
            if concerning.is_empty() {
                continue;
            }
            match open.block.is_touched_by(&concerning) {
                Ok(true) => {
                    self.merge(&MergeJob::rewrite(&open.meta))?;
                    self.count(&self.counters.cleaned_blocks, 1);
                }
                Ok(false) => untouched.push(open.meta.id),
                Err(error) if is_damage(&error) => self.set_aside(open.meta.id),
                Err(error) => return Err(error.into()),
            }
        }
        if !untouched.is_empty() {
            let blocks = untouched.clone();
            command(&self.committer, Command::SettleDeletes { blocks, deletes_through: through })?;
            self.blocks.settle(&untouched, through);
            self.forget_deletes();
        }
        Ok(())
    }

    /// Takes deletes off the list that the catalog has forgotten. To be called when head and blocks
    /// have nothing left that they concern.
    pub(super) fn forget_deletes(&self) {
        let (listed, _) = self.deletes.current();
        if listed.is_empty() {
            return;
        }
        let known: BTreeSet<u64> =
            self.catalog.lock().tombstones().map(|tombstone| tombstone.number).collect();
        let is_gone = |delete: &&Arc<Delete>| !known.contains(&delete.tombstone().number);
        let gone: Vec<Arc<Delete>> = listed.iter().filter(is_gone).cloned().collect();
        if gone.is_empty() {
            return;
        }
        // The shards have dropped what was flushed.
        self.shards.settle();
        self.release_deleted(Deletes::new(gone.clone()));
        self.deletes.forget(&gone.iter().map(|delete| delete.tombstone().number).collect());
    }

    /// Lets the head forget series that were deleted and are silent since: nothing else would take
    /// their labels off its lists for hours.
    fn release_deleted(&self, deletes: Deletes) {
        let now_ms = (self.now_ms)();
        for delete in deletes.iter() {
            let tombstone = delete.tombstone();
            // Times are known by the minute.
            let idle_ms = now_ms.saturating_sub(tombstone.at_ms).saturating_sub(60_000);
            let one = Deletes::new(vec![Arc::clone(delete)]);
            // No batch is resolved meanwhile, and those that were are with the shards: a look-up of
            // the same minute might be younger than the delete.
            let _unresolved = self.resolving.write();
            let concerned = one.concerned(&self.registry, tombstone.tenant, &[]);
            let idle: BTreeSet<u32> = self.registry.idle(now_ms, idle_ms).into_iter().collect();
            let mut silent = concerned.ordinals().to_vec();
            silent.retain(|ordinal| idle.contains(ordinal));
            if silent.is_empty() || !self.fence() {
                continue;
            }
            let empty = self.shards.without_samples(&silent);
            self.live.forget(&empty);
            let released = self.registry.release(&empty, now_ms, idle_ms);
            self.count(&self.counters.released_series, released as u64);
        }
    }
}

/// Tells whoever asked how it went.
pub(super) fn answer(reply: &Done, outcome: Result<(), Fault>) {
    if let Err(error) = &outcome {
        error.stop_if_final();
        tracing::warn!(%error, "a flush, merge or copy that was asked for failed; nothing is lost");
    }
    // They may have gone meanwhile.
    let _ = reply.send(outcome.map_err(|error| error.to_string()));
}
