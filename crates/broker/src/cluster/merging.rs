//! Merges, rollups, what rules of retention and downsampling take, and deletes: blocks that are written
//! anew.
//!
//! Blocks of different tenants or days have nothing to do with each other. So there is a lease for each
//! tenant and day, and the broker that is nearest to it on the circle looks after it: several work at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use blockstore::{
    BlockFormat, InMemory, MergeError, MergeJob, MergeOut, MergePart, MergedPart, OpenBlock,
};
use bytes::Bytes;
use catalog::{BlockId, BlockMeta, BrokerId, Command, NewBlock, Signal};
use governor::Governor;
use metricstore::MetricFormat;
use model::TenantId;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::blocks::BlockWriting;
use super::damage::SettingAside;
use super::feed::Event;
use super::jobs::Rests;
use super::kept::{Keeping, MayNot};
use super::leases::{Held, Leases, NoResult};
use super::members::Members;
use super::nearest;
use super::signals::named;
use crate::deletes::DeleteBook;
use crate::logs::{Lines, of_block};
use crate::maintenance::{DAY_MS, Due, MergeTerms, Planner, Unreadable, is_damage};

/// How long it is waited for a group that another broker is at, when somebody asked for it.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);
/// So many groups may fail one after the other before something else has its turn.
const MOST_FAILED: u32 = 3;

/// Whose blocks, and of which day since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    signal: Signal,
    tenant: TenantId,
    day: i64,
}

impl Group {
    /// Those that a block belongs to: none fits more than one day, but for those of other times' programs.
    fn of(meta: &BlockMeta) -> BTreeSet<Group> {
        let ends = [meta.range.start_ms, meta.range.end_ms.saturating_sub(1)];
        let (signal, tenant) = (meta.signal, meta.tenant);
        let group = |t_ms: i64| Group { signal, tenant, day: t_ms.div_euclid(DAY_MS) };
        ends.into_iter().map(group).collect()
    }

    pub(super) fn job(self) -> String {
        let Group { signal, tenant, day } = self;
        match signal {
            Signal::Metrics => format!("merge/{}/{day}", tenant.0),
            other => format!("merge/{}/{}/{day}", other.name(), tenant.0),
        }
    }

    /// Its place on the circle.
    fn key(self) -> u64 {
        nearest::place(self.tenant, self.day)
    }
}

type Blocks = Vec<Arc<OpenBlock<MetricFormat>>>;

/// Writes blocks anew.
pub(super) struct Merging {
    pub(super) own: BrokerId,
    pub(super) members: Arc<Members>,
    pub(super) keeping: Keeping,
    pub(super) leases: Leases,
    pub(super) writing: BlockWriting,
    pub(super) planner: Arc<Mutex<Planner>>,
    pub(super) deletes: Arc<DeleteBook>,
    pub(super) lines: Lines,
    pub(super) aside: SettingAside,
    pub(super) governor: Arc<Governor>,
    pub(super) rests: Rests<Group>,
}

impl Merging {
    /// Does one thing that is due and that this broker is nearest to; whether there was one. A group that
    /// fails keeps no other waiting.
    pub(super) async fn step(&mut self) -> bool {
        let ring = self.members.ring();
        let mut failed = 0;
        for (group, blocks) in self.whole_groups() {
            // More than some fail because the store does: each may take long, and others wait for this.
            if failed == MOST_FAILED {
                return false;
            }
            if ring.owner(group.key()) != Some(self.own) || !self.rests.is_over(&group) {
                continue;
            }
            let outcome = self.look_after(group, blocks).await;
            let is_done = matches!(outcome, Ok(true));
            if outcome.is_err() {
                failed += 1;
                self.writing.counters.merge_failures.fetch_add(1, Ordering::Relaxed);
            }
            if is_done || outcome.is_err() {
                let what = format!("a merge of {}", group.job());
                self.rests.note(group, &what, outcome.map(|_| ()));
            }
            if is_done {
                return true;
            }
        }
        self.step_of_lines(failed).await
    }

    /// The same of lines, when `failed` groups of samples did.
    async fn step_of_lines(&mut self, mut failed: u32) -> bool {
        let ring = self.members.ring();
        for (group, blocks) in self.whole_groups_of_lines() {
            if failed == MOST_FAILED {
                return false;
            }
            if ring.owner(group.key()) != Some(self.own) || !self.rests.is_over(&group) {
                continue;
            }
            match self.look_after_lines(group, &blocks).await {
                Ok(false) => {}
                outcome => {
                    let is_done = outcome.is_ok();
                    if !is_done {
                        failed += 1;
                        self.writing.counters.merge_failures.fetch_add(1, Ordering::Relaxed);
                    }
                    let what = format!("a merge of {}", group.job());
                    self.rests.note(group, &what, outcome.map(|_| ()));
                    if is_done {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Does one thing that is due of a group; whether there was one.
    async fn look_after(&self, group: Group, blocks: Blocks) -> Result<bool> {
        let planner = Arc::clone(&self.planner);
        match self.writing.work.run(move || planner.lock().next(&blocks)).await {
            Ok(None) => Ok(false),
            Ok(Some(due)) => {
                // Another one does it: the circle is another there.
                let Some(lease) = self.leases.take(group.job()).await else { return Ok(false) };
                let outcome = lease.keep(self.write(&lease, &due)).await;
                lease.give().await;
                outcome.map(|()| true)
            }
            Err(Unreadable { block, error }) if is_damage(&error) => {
                self.aside.take(block);
                Ok(false)
            }
            Err(Unreadable { error, .. }) => Err(error.into()),
        }
    }

    /// Groups of which all blocks are open here. Where one is missing, because it is damaged or was
    /// written a moment ago, nothing can be told.
    fn whole_groups(&self) -> BTreeMap<Group, Blocks> {
        let snapshot = self.writing.blocks.samples.snapshot();
        self.planner.lock().retain(&snapshot);
        self.whole(&snapshot, Signal::Metrics)
    }

    /// Those of one signal, of the blocks that are open.
    pub(super) fn whole<F: BlockFormat>(
        &self,
        snapshot: &[Arc<OpenBlock<F>>],
        signal: Signal,
    ) -> BTreeMap<Group, Vec<Arc<OpenBlock<F>>>> {
        let mut open: BTreeMap<Group, Vec<Arc<OpenBlock<F>>>> = BTreeMap::new();
        for block in snapshot {
            for group in Group::of(&block.meta) {
                open.entry(group).or_default().push(Arc::clone(block));
            }
        }
        let listed: Vec<BlockMeta> = self
            .writing
            .consensus
            .read(|state| state.blocks().filter(|meta| meta.signal == signal).copied().collect());
        let mut wanted: BTreeMap<Group, Vec<BlockMeta>> = BTreeMap::new();
        for meta in listed {
            for group in Group::of(&meta) {
                wanted.entry(group).or_default().push(meta);
            }
        }
        open.retain(|group, blocks| {
            let mut metas: Vec<BlockMeta> = blocks.iter().map(|open| open.meta).collect();
            metas.sort_unstable_by_key(|meta| meta.id);
            wanted.get(group) == Some(&metas)
        });
        open
    }

    /// Writes what one job asks for, and has it agreed upon.
    async fn write(&self, lease: &Held, due: &Due) -> Result<()> {
        let started = Instant::now();
        let job = due.job();
        let terms = Arc::new(self.planner.lock().terms(job, &self.deletes));
        let (added, conflicts) = match self.write_parts(job, &terms).await? {
            Some(written) => written,
            // A block is damaged.
            None => return Ok(()),
        };
        let ids: Vec<BlockId> = added.iter().map(|new| new.id).collect();
        let written = named(&added);
        if !self.planner.lock().rules_hold(&terms) || self.keeping.may_remove().is_err() {
            // The next step plans by those of now.
            self.writing.discard(written);
            return Ok(());
        }
        self.writing.counters.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        let removed = job.inputs.clone();
        let deletes_through = terms.deletes_through;
        match lease.propose(Command::Swap { removed, added, deletes_through }).await {
            Ok(_) => {}
            Err(NoResult::Refused(error)) => {
                self.writing.discard(written);
                return Err(error).context("replace merged blocks");
            }
            Err(error @ NoResult::Doubtful(_)) => {
                self.writing.forget(&written);
                return Err(error.into());
            }
        }
        for id in ids {
            self.planner.lock().wrote(id, &terms);
        }
        self.shown().await;
        let inputs = job.inputs.iter().map(|id| (*id, Signal::Metrics)).collect();
        self.writing.remove_blocks_later(inputs);
        due.count(&self.writing.counters);
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.writing.counters.merge_micros.fetch_add(micros, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the outcome into the store, in several blocks where one would be too large for memory, and
    /// yields them with the rows that were left out for others; `None` if a block that had to be read is
    /// damaged.
    async fn write_parts(
        &self,
        job: &MergeJob,
        terms: &Arc<MergeTerms>,
    ) -> Result<Option<(Vec<NewBlock>, u64)>> {
        let most_bytes = self.planner.lock().most_bytes();
        // A part lies in memory until it is stored.
        let sizes = self.writing.consensus.read(|state| {
            let inputs = job.inputs.iter().filter_map(|id| state.block(*id));
            inputs.map(|meta| meta.size_bytes).sum::<u64>()
        });
        let no_room = |why: String| anyhow!("there is no memory for a merge: {why}");
        let in_memory = usize::try_from(sizes.min(most_bytes)).unwrap_or(usize::MAX);
        let _room = self.governor.room(in_memory).map_err(no_room)?;
        let mut part = MergePart { behind: None, most_bytes };
        let (mut added, mut conflicts): (Vec<NewBlock>, u64) = (Vec::new(), 0);
        loop {
            let written = self.write_part(job, terms, &part).await;
            match written {
                Ok(Some(merged)) => {
                    added.extend(merged.new);
                    conflicts += merged.conflicts;
                    match merged.last {
                        Some(last) => part.behind = Some(last),
                        None => return Ok(Some((added, conflicts))),
                    }
                }
                other => {
                    self.writing.discard(named(&added));
                    return other.map(|_| None);
                }
            }
        }
    }

    async fn write_part(
        &self,
        job: &MergeJob,
        terms: &Arc<MergeTerms>,
        part: &MergePart,
    ) -> Result<Option<MergedPart>> {
        let id = BlockId(self.writing.reserve(1).await?.start);
        let blocks = Arc::clone(&self.writing.blocks.samples);
        let (of, by) = (job.clone(), Arc::clone(terms));
        let part = part.clone();
        let merge = move || {
            let mut out = InMemory::default();
            let hidden = |meta: &BlockMeta| by.hidden(meta);
            let merged = blocks.merge_into(
                &by.format,
                &of,
                by.keep,
                &hidden,
                &part,
                MergeOut { id, blob: &mut out },
            )?;
            Ok::<_, MergeError>((merged, Bytes::from(out.0)))
        };
        let (merged, bytes) = match self.writing.work.run(merge).await {
            Ok(merged) => merged,
            Err(MergeError { input: Some(index), error }) if is_damage(&error) => {
                tracing::error!(block = %job.inputs[index], %error, "a block is damaged");
                self.aside.take(job.inputs[index]);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if merged.new.is_some()
            && let Err(error) = self.writing.put(id, Signal::Metrics, bytes).await
        {
            self.writing.discard(vec![(id, Signal::Metrics)]);
            return Err(error);
        }
        Ok(Some(merged))
    }

    /// Waits until what was agreed upon is shown here: only then can be told what is due next.
    pub(super) async fn shown(&self) {
        let (told, seen) = oneshot::channel();
        if self.aside.events.send(Event::Shown(told)).is_ok() {
            let _ = seen.await;
        }
    }

    /// Writes every block anew in which a delete hides something, and notes of the others that none does.
    /// What is in no block yet is not looked at.
    ///
    /// # Errors
    /// The store or the cluster failed, or another broker was at some blocks for too long. What was done
    /// stays done.
    pub(super) async fn clean_deleted(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let (deletes, through) = self.deletes.current();
        let (of_lines, _) = self.lines.deletes.current();
        let is_concerned = |meta: &BlockMeta| match meta.signal {
            Signal::Metrics => !DeleteBook::of_block(&deletes, through, meta).is_empty(),
            Signal::Logs => !of_block(&of_lines, through, meta).is_empty(),
        };
        loop {
            // Also those that are not open here yet.
            let listed: Vec<BlockMeta> =
                self.writing.consensus.read(|state| state.blocks().copied().collect());
            let is_damaged = |meta: &BlockMeta| self.aside.damaged.lock().contains_key(&meta.id);
            if !listed.iter().any(|meta| is_concerned(meta) && !is_damaged(meta)) {
                return Ok(());
            }
            match self.keeping.may_remove() {
                Ok(()) => {}
                Err(MayNot::Unheard) if Instant::now() < end => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(why) => return Err(why.into()),
            }
            let mut groups = self.whole_groups();
            groups.retain(|_, blocks| blocks.iter().any(|open| is_concerned(&open.meta)));
            let mut failed = Ok(());
            for (group, blocks) in groups {
                let Some(lease) = self.leases.take(group.job()).await else { continue };
                let outcome = lease.keep(self.clean(&lease, &blocks)).await;
                lease.give().await;
                failed = failed.and(outcome);
            }
            let mut groups = self.whole_groups_of_lines();
            groups.retain(|_, blocks| blocks.iter().any(|open| is_concerned(&open.meta)));
            for (group, blocks) in groups {
                let Some(lease) = self.leases.take(group.job()).await else { continue };
                let outcome = lease.keep(self.clean_lines(&lease, &blocks)).await;
                lease.give().await;
                failed = failed.and(outcome);
            }
            failed?;
            if Instant::now() > end {
                bail!(
                    "other brokers were at some of the blocks for {} s, ask again: what was cleaned \
                     until now is",
                    PATIENCE.as_secs()
                );
            }
            // What was agreed upon is shown in a moment.
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn clean(&self, lease: &Held, blocks: &Blocks) -> Result<()> {
        let (deletes, through) = self.deletes.current();
        let mut untouched = Vec::new();
        for open in blocks {
            let concerning = DeleteBook::of_block(&deletes, through, &open.meta);
            if concerning.is_empty() {
                continue;
            }
            let block = Arc::clone(&open.block);
            let id = open.meta.id;
            match self.writing.work.run(move || block.is_touched_by(&concerning)).await {
                Ok(true) => {
                    self.write(lease, &Due::Clean(MergeJob::rewrite(&open.meta))).await?;
                }
                Ok(false) => untouched.push(id),
                Err(error) if is_damage(&error) => self.aside.take(id),
                Err(error) => return Err(error.into()),
            }
        }
        self.settle(lease, untouched, through).await
    }

    /// Notes of blocks that no delete up to a number hides anything of them.
    pub(super) async fn settle(
        &self,
        lease: &Held,
        blocks: Vec<BlockId>,
        deletes_through: u64,
    ) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        match lease.propose(Command::SettleDeletes { blocks, deletes_through }).await {
            // Some of them are others by now.
            Ok(_) | Err(NoResult::Refused(_)) => self.shown().await,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
