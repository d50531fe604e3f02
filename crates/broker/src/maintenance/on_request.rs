//! What the maintenance does about deletes, and when somebody asks for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use blockstore::MergeJob;
use catalog::Command;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use metricstore::{Delete, Deletes};
use model::TenantId;

use super::{Fault, Maintenance, TICK, Wake, is_damage};
use crate::command;
use crate::deletes::{DeleteBook, Done};
use crate::snapshots;

impl Maintenance {
    /// Whether deletes wait for a flush to find that they concern nothing any more.
    pub(super) fn has_unflushed_deletes(&self) -> bool {
        let catalog = self.catalog.lock();
        catalog.tombstones().any(|tombstone| tombstone.number > catalog.flushed_deletes())
    }

    /// What is to be done next: what was put off, else what comes within a tick.
    pub(super) fn next_wake(&mut self, woken: &Receiver<Wake>) -> Result<Wake, RecvTimeoutError> {
        let wait = || woken.recv_timeout(TICK.min(self.flush_interval));
        self.put_off.pop_front().map_or_else(wait, Ok)
    }

    /// Cleans once for all who wait for it, and tells them how it went.
    pub(super) fn clean_for_all(&mut self, first: Done, woken: &Receiver<Wake>) {
        self.put_off.extend(woken.try_iter());
        let mut waiting = vec![first];
        waiting.extend(take(&mut self.put_off, |wake| match wake {
            Wake::CleanDeleted(reply) => Ok(reply),
            other => Err(other),
        }));
        let outcome = self.clean_deleted(woken);
        answer(&waiting, outcome);
    }

    /// Flushes once for all who wait for it.
    pub(super) fn flush_for_all(&mut self, waiting: Vec<Done>) {
        let outcome = self.flush(false).map(|_| ());
        answer(&waiting, outcome);
    }

    /// What is done while a merge goes on, which may take minutes: flushes, also for those who wait
    /// for one. A flush takes nothing away from a merge: its blocks come behind all others in the order
    /// of commits.
    pub(super) fn meanwhile(&mut self, woken: &Receiver<Wake>) {
        for wake in woken.try_iter() {
            // Every query that meets a damaged block says so.
            let is_known = |known: &Wake| match (known, &wake) {
                (Wake::Damaged(known), Wake::Damaged(id)) => known == id,
                _ => false,
            };
            if !self.put_off.iter().any(is_known) {
                self.put_off.push_back(wake);
            }
        }
        let waiting = take(&mut self.put_off, |wake| match wake {
            Wake::Flush(reply) => Ok(reply),
            other => Err(other),
        });
        if !waiting.is_empty() {
            self.flush_for_all(waiting);
        }
        if self.has_upkeep {
            self.flush_if_due();
        }
    }

    /// Copies the store as of now.
    pub(super) fn snapshot(&mut self, name: &str, with_head: bool) -> Result<(), Fault> {
        // Marks speak of what is in the head, too.
        let state = match with_head {
            true => self.flush(true)?.expect("asked for"),
            false => self.catalog.lock().without_marks(),
        };
        // What is flushed meanwhile is not in the copy, and takes nothing away that is.
        let mut may_flush = true;
        let disk = Arc::clone(&self.disk);
        let flushed_through = state.flushed_through();
        snapshots::write(&disk, &state.for_copy(), flushed_through, name, &mut || {
            if may_flush && self.flush_is_urgent() {
                may_flush = self.try_flush();
            }
        })?;
        self.count(&self.counters.snapshots, 1);
        Ok(())
    }

    /// Writes every block anew in which a delete hides something. The head is flushed meanwhile, as
    /// ever.
    fn clean_deleted(&mut self, woken: &Receiver<Wake>) -> Result<(), Fault> {
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
                    self.merge(&MergeJob::rewrite(&open.meta), woken)?;
                    self.count(&self.counters.cleaned_blocks, 1);
                }
                Ok(false) => untouched.push(open.meta.id),
                Err(error) if is_damage(&error) => self.set_aside(open.meta.id),
                Err(error) => return Err(error.into()),
            }
            self.meanwhile(woken);
        }
        if !untouched.is_empty() {
            let blocks = untouched.clone();
            command(&self.committer, Command::SettleDeletes { blocks, deletes_through: through })?;
            self.blocks.settle(&untouched, through);
            self.forget_deletes();
        }
        self.clean_deleted_lines(woken)
    }

    /// Takes deletes off the list that the catalog has forgotten. To be called when head and blocks
    /// have nothing left that they concern.
    pub(super) fn forget_deletes(&self) {
        let (listed, _) = self.deletes.current();
        let of_lines = self.lines.deletes.numbers();
        if listed.is_empty() && of_lines.is_empty() {
            return;
        }
        let known: BTreeSet<u64> =
            self.catalog.lock().tombstones().map(|tombstone| tombstone.number).collect();
        // Only those that were there before it was looked: one that came since is not in `known`.
        let is_gone = |number: u64| of_lines.contains(&number) && !known.contains(&number);
        if of_lines.iter().any(|number| is_gone(*number)) {
            // The heads have dropped what was flushed.
            self.lines.heads.settle();
            self.lines.deletes.forget(is_gone);
        }
        let is_gone = |delete: &&Arc<Delete>| !known.contains(&delete.tombstone().number);
        let gone: Vec<Arc<Delete>> = listed.iter().filter(is_gone).cloned().collect();
        if gone.is_empty() {
            return;
        }
        // The shards have dropped what was flushed.
        self.shards.settle();
        self.release_deleted(&gone);
        self.deletes.forget(&gone.iter().map(|delete| delete.tombstone().number).collect());
    }

    /// Lets the head forget series that were deleted and are silent since: nothing else would take
    /// their labels off its lists for hours.
    fn release_deleted(&self, gone: &[Arc<Delete>]) {
        let now_ms = (self.now_ms)();
        let mut by_tenant: BTreeMap<TenantId, Vec<Arc<Delete>>> = BTreeMap::new();
        for delete in gone {
            by_tenant.entry(delete.tombstone().tenant).or_default().push(Arc::clone(delete));
        }
        // The indexes are searched before anything waits for it.
        let mut silent = Vec::new();
        for (tenant, deletes) in by_tenant {
            silent.append(&mut self.registry.silent_since(tenant, &Deletes::new(deletes)));
        }
        let Some(last_ms) = gone.iter().map(|delete| delete.tombstone().at_ms).max() else {
            return;
        };
        if silent.is_empty() {
            return;
        }
        // No batch is resolved meanwhile, and those that were are with the shards: a look-up of
        // the same minute might be younger than the delete. So whatever came since for one of these
        // series shows in its samples.
        let _unresolved = self.resolving.write();
        if !self.fence() {
            return;
        }
        let empty = self.shards.without_samples(&silent);
        if empty.is_empty() {
            return;
        }
        self.live.forget(&empty);
        // Times are known by the minute.
        let idle_ms = now_ms.saturating_sub(last_ms).saturating_sub(60_000);
        let released = self.registry.release(&empty, now_ms, idle_ms);
        self.count(&self.counters.released_series, released as u64);
    }
}

/// Takes out those whom `pick` names; the others stay in their order.
fn take(waiting: &mut VecDeque<Wake>, pick: impl Fn(Wake) -> Result<Done, Wake>) -> Vec<Done> {
    let mut taken = Vec::new();
    for wake in std::mem::take(waiting) {
        match pick(wake) {
            Ok(reply) => taken.push(reply),
            Err(other) => waiting.push_back(other),
        }
    }
    taken
}

/// Tells all who asked how it went.
pub(super) fn answer(waiting: &[Done], outcome: Result<(), Fault>) {
    if let Err(error) = &outcome {
        error.stop_if_final();
        tracing::warn!(%error, "a flush, merge or copy that was asked for failed; nothing is lost");
    }
    let told = outcome.map_err(|error| error.to_string());
    for reply in waiting {
        // They may have gone meanwhile.
        let _ = reply.send(told.clone());
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn those_who_wait_for_one_thing_are_taken_out_and_nobody_else() {
        let (reply, _answer) = bounded(1);
        let mut waiting = VecDeque::from([
            Wake::CleanDeleted(reply.clone()),
            Wake::Flush(reply.clone()),
            Wake::CleanDeleted(reply),
            Wake::Stop,
        ]);
        let cleanings = take(&mut waiting, |wake| match wake {
            Wake::CleanDeleted(reply) => Ok(reply),
            other => Err(other),
        });
        assert_eq!(cleanings.len(), 2);
        let left: Vec<Wake> = waiting.into_iter().collect();
        assert!(matches!(left[..], [Wake::Flush(_), Wake::Stop]), "{} are left", left.len());
    }
}
