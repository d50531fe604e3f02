//! What the maintenance does about what is too old.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockstore::{MergeJob, Retention, plan_expire, plan_thin};
use catalog::{BlockId, BlockMeta, Command};
use metricstore::{Delete, DownsamplingRules, ROLLED_LEVEL, RetentionRules};
use model::TimeRange;

use super::{Fault, Maintenance, is_damage};
use crate::command;

/// How much longer than samples the marks of agents are kept: a batch sent at the end of the
/// retention may come again for a while.
const MARK_MARGIN_MS: i64 = DAY_MS;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Maintenance {
    /// What a merge keeps of all series.
    pub(super) fn keep(&self, now_ms: i64) -> TimeRange {
        let horizon_ms =
            self.kept.time_ms.map_or(i64::MIN, |kept_ms| now_ms.saturating_sub(kept_ms));
        TimeRange::new(horizon_ms, i64::MAX)
    }

    /// The next day of whose samples rollups are to be all that is left, or coarser ones than before.
    pub(super) fn plan_thin(&self, metas: &[BlockMeta]) -> Option<MergeJob> {
        let (_, finer) = self.rollups.split_last()?;
        let samples_ms = self.retention.time_ms?;
        let kept_ms: Vec<i64> =
            [samples_ms].into_iter().chain(finer.iter().map(|tier| tier.kept_ms)).collect();
        plan_thin(metas, (self.now_ms)(), &kept_ms)
    }

    /// The rules in effect.
    pub(super) fn look_at_rules(&mut self) -> &RetentionRules {
        let in_effect = self.in_effect.get();
        if self.rules != in_effect.retention_rules {
            self.rules = in_effect.retention_rules.clone();
            // Counted by the ones of before.
            self.past_rules.clear();
        }
        &self.rules
    }

    /// The next block that holds samples of which a rule of retention keeps nothing, to be written
    /// anew without them. A block waits until the rule has passed it as a whole, so that it is
    /// written once for each rule and not every minute; until then its samples are hidden.
    ///
    /// # Errors
    /// A block cannot be read. One that is damaged is set aside instead.
    pub(super) fn plan_rewrite(&mut self) -> Result<Option<MergeJob>, Fault> {
        self.look_at_rules();
        // Fast path: most stores have no rules.
        if self.rules.is_empty() {
            return Ok(None);
        }
        let now_ms = (self.now_ms)();
        let snapshot = self.blocks.snapshot();
        let ids: BTreeSet<BlockId> = snapshot.iter().map(|open| open.meta.id).collect();
        let known: BTreeMap<BlockId, usize> = std::mem::take(&mut self.past_rules);
        self.past_rules = known.into_iter().filter(|(id, _)| ids.contains(id)).collect();
        for open in snapshot.iter() {
            let BlockMeta { id, tenant, range, .. } = open.meta;
            let past = self.rules.past(range.end_ms, now_ms);
            if past <= self.past_rules.get(&id).copied().unwrap_or(0) {
                continue;
            }
            let hidden: Vec<Arc<Delete>> =
                self.rules.deletes(tenant, range, now_ms).take(past).collect();
            match open.block.is_touched_by(&hidden) {
                Ok(true) => return Ok(Some(MergeJob::rewrite(&open.meta))),
                Ok(false) => {
                    self.past_rules.insert(id, past);
                }
                Err(error) if is_damage(&error) => self.set_aside(id),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The next day that holds more samples than rules of downsampling leave, to be written anew. A day
    /// waits until a rule holds for all of it, and until its rollups are there, which count what goes.
    ///
    /// # Errors
    /// As [`Maintenance::plan_rewrite`].
    pub(super) fn plan_downsampling(&mut self) -> Result<Option<MergeJob>, Fault> {
        if self.downsampling.is_empty() {
            return Ok(None);
        }
        let now_ms = (self.now_ms)();
        let snapshot = self.blocks.snapshot();
        let ids: BTreeSet<BlockId> = snapshot.iter().map(|open| open.meta.id).collect();
        self.past_downsampling.retain(|id, _| ids.contains(id));
        for open in snapshot.iter().filter(|open| open.meta.level <= ROLLED_LEVEL) {
            let id = open.meta.id;
            let rules = self.downsampling.past(whole_days(open.meta.range), now_ms);
            if rules.len() <= self.past_downsampling.get(&id).copied().unwrap_or(0) {
                continue;
            }
            let metas = || snapshot.iter().map(|open| &open.meta);
            if open.meta.level < ROLLED_LEVEL && !is_alone_in_its_day(&open.meta, metas()) {
                continue;
            }
            match open.block.is_denser_than(&rules) {
                Ok(true) => {
                    let job = MergeJob::rewrite(&open.meta);
                    return Ok(Some(MergeJob { level: ROLLED_LEVEL, ..job }));
                }
                Ok(false) => {
                    self.past_downsampling.insert(id, rules.len());
                }
                Err(error) if is_damage(&error) => self.set_aside(id),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The rules that a merge follows now: they hold for a day as a whole, with its rollups.
    pub(super) fn downsampling_of(&self, job: &MergeJob, now_ms: i64) -> DownsamplingRules {
        match job.level {
            ROLLED_LEVEL => self.downsampling.past(whole_days(job.range), now_ms),
            _ => DownsamplingRules::default(),
        }
    }

    /// Forgets what retention no longer keeps; damaged blocks, too, when their time is over.
    pub(super) fn expire(&self, now_ms: i64) {
        let (listed, damaged): (Vec<BlockMeta>, Vec<BlockMeta>) = {
            let catalog = self.catalog.lock();
            (catalog.blocks().copied().collect(), catalog.quarantined().copied().collect())
        };
        let expired = plan_expire(&listed, now_ms, &self.kept);
        let by_time = Retention { size_bytes: None, ..self.kept };
        let mut removed = expired.clone();
        removed.extend(plan_expire(&damaged, now_ms, &by_time));
        if removed.is_empty() {
            return;
        }
        match command(&self.committer, Command::Expire { removed }) {
            Ok(_) => {
                self.blocks.swap(&expired, Vec::new());
                let gone = listed.iter().filter(|meta| expired.contains(&meta.id));
                gone.for_each(|meta| self.shards.changes().note_range(meta.range));
                self.delete_blobs(&expired);
                self.forget_deletes();
                self.count(&self.counters.expired_blocks, expired.len() as u64);
            }
            Err(error) => tracing::warn!(%error, "old blocks are removed later"),
        }
    }

    /// Forgets agents and their marks when they are silent for longer than anything they sent is
    /// kept.
    pub(super) fn forget_agents(&self, now_ms: i64) {
        let Some(kept_ms) = self.retention.time_ms else { return };
        let before_ms = now_ms.saturating_sub(kept_ms).saturating_sub(MARK_MARGIN_MS);
        self.fleet.forget_silent(before_ms, &self.committer);
        if self.catalog.lock().marks().all(|(_, _, marks)| marks.at_ms >= before_ms) {
            return;
        }
        if let Err(error) = command(&self.committer, Command::ExpireMarks { before_ms }) {
            tracing::warn!(%error, "marks of agents long gone are removed later");
        }
    }
}

/// The days in which a range lies.
fn whole_days(range: TimeRange) -> TimeRange {
    let whole = |day: i64| day.saturating_mul(DAY_MS);
    let end = range.end_ms.saturating_sub(1).div_euclid(DAY_MS) + 1;
    TimeRange::new(whole(range.start_ms.div_euclid(DAY_MS)), whole(end))
}

/// Whether a block is all there is of a day: no merge makes one of it then.
fn is_alone_in_its_day<'a>(
    block: &BlockMeta,
    mut all: impl Iterator<Item = &'a BlockMeta>,
) -> bool {
    let day = whole_days(block.range);
    day.end_ms - day.start_ms == DAY_MS
        && all.all(|other| {
            let is_apart = !whole_days(other.range).overlaps(&day);
            other.id == block.id || other.tenant != block.tenant || is_apart
        })
}
