//! Which blocks are to be written anew, which go, and what a merge goes by: the same beside a log and in
//! a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blockstore::{
    BlockError, MergeJob, MergePolicy, OpenBlock, Retention, plan_expire, plan_merge, plan_thin,
};
use catalog::{BlockId, BlockMeta, Signal, State};
use metricstore::{Delete, Deletes, DownsamplingRules, MetricFormat, ROLLED_LEVEL, RetentionRules};
use model::TimeRange;

use super::MaintenanceCounters;
use crate::deletes::DeleteBook;
use crate::in_effect::InEffect;
use crate::{BrokerConfig, RollupTier};

/// Blocks of lines that are larger than this together are not made one: nothing is read faster then, and each
/// merge writes all of it again.
const MAX_BYTES_OF_LINES: u64 = 1 << 30;
/// So many blocks of lines of a window that still grows become one: a merge of lines costs much more than to look into
/// a few more blocks, whose filters tell which of them to read.
const FAN_IN_OF_LINES: usize = 12;

/// How much longer than samples the marks of agents are kept: a batch sent at the end of the
/// retention may come again for a while.
const MARK_MARGIN_MS: i64 = DAY_MS;

pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Blocks that are open, as [`blockstore::BlockSet::snapshot`] yields them.
pub(crate) type Opened = [Arc<OpenBlock<MetricFormat>>];

/// Something that is to be written anew.
#[derive(Debug)]
pub(crate) enum Due {
    /// Several blocks become one.
    Merge(MergeJob),
    /// Rollups are all that is left of a day, or coarser ones than before.
    Thin(MergeJob),
    /// What rules of retention took goes.
    Rewrite(MergeJob),
    /// What rules of downsampling took goes.
    Downsample(MergeJob),
    /// What deletes hide goes.
    Clean(MergeJob),
}

impl Due {
    pub(crate) fn job(&self) -> &MergeJob {
        match self {
            Due::Merge(job)
            | Due::Thin(job)
            | Due::Rewrite(job)
            | Due::Downsample(job)
            | Due::Clean(job) => job,
        }
    }

    /// Counts it as done.
    pub(crate) fn count(&self, counters: &MaintenanceCounters) {
        let (counter, by) = match self {
            Due::Merge(_) => (&counters.merges, 1),
            Due::Thin(job) => (&counters.thinned_blocks, job.inputs.len() as u64),
            Due::Rewrite(_) => (&counters.rewritten_blocks, 1),
            Due::Downsample(_) => (&counters.downsampled_blocks, 1),
            Due::Clean(_) => (&counters.cleaned_blocks, 1),
        };
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// A block that had to be read to know what is due, and could not be.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) block: BlockId,
    pub(crate) error: BlockError,
}

/// What one merge goes by, fixed when it begins.
pub(crate) struct MergeTerms {
    now_ms: i64,
    /// What is kept of all series.
    pub(crate) keep: TimeRange,
    deletes: Deletes,
    /// These deletes are done in the outcome.
    pub(crate) deletes_through: u64,
    rules: RetentionRules,
    downsampling: DownsamplingRules,
    /// With the rules of downsampling that hold for it.
    pub(crate) format: MetricFormat,
}

impl MergeTerms {
    /// What may hide rows of a block.
    pub(crate) fn hidden(&self, meta: &BlockMeta) -> Vec<Arc<Delete>> {
        let mut hidden = DeleteBook::of_block(&self.deletes, self.deletes_through, meta);
        hidden.extend(self.rules.deletes(meta.tenant, meta.range, self.now_ms));
        hidden
    }
}

/// Decides.
pub(crate) struct Planner {
    now_ms: fn() -> i64,
    retention: Retention,
    /// Of samples, in any form; its size is that of all signals.
    kept: Retention,
    /// Of lines.
    logs_kept_ms: Option<i64>,
    rollups: Vec<RollupTier>,
    in_effect: Arc<InEffect>,
    /// Those of the settings in effect when it was looked last.
    rules: RetentionRules,
    /// How many of `rules` have nothing left in a block, if that is known.
    past_rules: BTreeMap<BlockId, usize>,
    downsampling: DownsamplingRules,
    /// How many of `downsampling` have nothing to do in a block, if that is known.
    past_downsampling: BTreeMap<BlockId, usize>,
    policy: MergePolicy,
    format: MetricFormat,
}

impl Planner {
    pub(crate) fn new(
        config: &BrokerConfig,
        in_effect: Arc<InEffect>,
        policy: MergePolicy,
    ) -> Self {
        Planner {
            now_ms: config.now_ms,
            retention: config.retention,
            kept: config.kept(),
            logs_kept_ms: config.logs_retention_ms,
            rollups: config.rollups.clone(),
            rules: in_effect.get().retention_rules.clone(),
            in_effect,
            past_rules: BTreeMap::new(),
            downsampling: config.downsampling.clone(),
            past_downsampling: BTreeMap::new(),
            policy,
            format: config.format(),
        }
    }

    /// Forgets what it knows of blocks that are gone. `blocks` are all there are.
    pub(crate) fn retain(&mut self, blocks: &Opened) {
        if self.past_rules.is_empty() && self.past_downsampling.is_empty() {
            return;
        }
        let ids: BTreeSet<BlockId> = blocks.iter().map(|open| open.meta.id).collect();
        self.past_rules.retain(|id, _| ids.contains(id));
        self.past_downsampling.retain(|id, _| ids.contains(id));
    }

    /// The most useful thing that is due among these blocks, which are all of those that overlap each
    /// other in time.
    ///
    /// # Errors
    /// A block had to be read, and could not be.
    pub(crate) fn next(&mut self, blocks: &Opened) -> Result<Option<Due>, Unreadable> {
        // Not those of the catalog: it may still list a block that is damaged.
        let metas: Vec<BlockMeta> = blocks.iter().map(|open| open.meta).collect();
        if let Some(job) = plan_merge(&metas, (self.now_ms)(), &self.policy) {
            return Ok(Some(Due::Merge(job)));
        }
        if let Some(job) = self.thinning(&metas) {
            return Ok(Some(Due::Thin(job)));
        }
        if let Some(job) = self.rewriting(blocks)? {
            return Ok(Some(Due::Rewrite(job)));
        }
        Ok(self.thinner(blocks)?.map(Due::Downsample))
    }

    /// The most useful merge of blocks of lines that is due among these, which are all of those that overlap
    /// each other in time.
    pub(crate) fn next_of_lines(&self, metas: &[BlockMeta]) -> Option<MergeJob> {
        let max_bytes = self.policy.max_bytes.min(MAX_BYTES_OF_LINES);
        let policy = MergePolicy { max_bytes, fan_in: FAN_IN_OF_LINES, ..self.policy };
        plan_merge(metas, (self.now_ms)(), &policy)
    }

    /// What a merge of lines that begins now keeps.
    pub(crate) fn terms_of_lines(&self) -> TimeRange {
        let now_ms = (self.now_ms)();
        let horizon_ms = self.logs_kept_ms.map_or(i64::MIN, |kept| now_ms.saturating_sub(kept));
        TimeRange::new(horizon_ms, i64::MAX)
    }

    /// The next day of whose samples rollups are to be all that is left, or coarser ones than before.
    fn thinning(&self, metas: &[BlockMeta]) -> Option<MergeJob> {
        let (_, finer) = self.rollups.split_last()?;
        let samples_ms = self.retention.time_ms?;
        let kept_ms: Vec<i64> =
            [samples_ms].into_iter().chain(finer.iter().map(|tier| tier.kept_ms)).collect();
        plan_thin(metas, (self.now_ms)(), &kept_ms, &self.policy)
    }

    /// Takes over the rules in effect.
    fn look_at_rules(&mut self) {
        let in_effect = self.in_effect.get();
        if self.rules != in_effect.retention_rules {
            self.rules = in_effect.retention_rules.clone();
            // Counted by the ones of before.
            self.past_rules.clear();
        }
    }

    /// The next block that holds samples of which a rule of retention keeps nothing, to be written
    /// anew without them. A block waits until the rule has passed it as a whole, so that it is
    /// written once for each rule and not every minute; until then its samples are hidden.
    fn rewriting(&mut self, blocks: &Opened) -> Result<Option<MergeJob>, Unreadable> {
        self.look_at_rules();
        // Fast path: most stores have no rules.
        if self.rules.is_empty() {
            return Ok(None);
        }
        let now_ms = (self.now_ms)();
        for open in blocks {
            let BlockMeta { id, tenant, range, .. } = open.meta;
            let past = self.rules.past(range.end_ms, now_ms);
            if past <= self.past_rules.get(&id).copied().unwrap_or(0) {
                continue;
            }
            let hidden: Vec<Arc<Delete>> =
                self.rules.deletes(tenant, range, now_ms).take(past).collect();
            let is_touched = open.block.is_touched_by(&hidden);
            if is_touched.map_err(|error| Unreadable { block: id, error })? {
                return Ok(Some(MergeJob::rewrite(&open.meta)));
            }
            self.past_rules.insert(id, past);
        }
        Ok(None)
    }

    /// The next day that holds more samples than rules of downsampling leave, to be written anew. A day
    /// waits until a rule holds for all of it, and until its rollups are there, which count what goes.
    fn thinner(&mut self, blocks: &Opened) -> Result<Option<MergeJob>, Unreadable> {
        if self.downsampling.is_empty() {
            return Ok(None);
        }
        let now_ms = (self.now_ms)();
        for open in blocks.iter().filter(|open| open.meta.level <= ROLLED_LEVEL) {
            let id = open.meta.id;
            let rules = self.downsampling.past(whole_days(open.meta.range), now_ms);
            if rules.len() <= self.past_downsampling.get(&id).copied().unwrap_or(0) {
                continue;
            }
            let metas = || blocks.iter().map(|open| &open.meta);
            if open.meta.level < ROLLED_LEVEL && !is_alone_in_its_day(&open.meta, metas()) {
                continue;
            }
            let is_denser = open.block.is_denser_than(&rules);
            if is_denser.map_err(|error| Unreadable { block: id, error })? {
                let job = MergeJob::rewrite(&open.meta);
                return Ok(Some(MergeJob { level: ROLLED_LEVEL, ..job }));
            }
            self.past_downsampling.insert(id, rules.len());
        }
        Ok(None)
    }

    /// What a merge that begins now goes by.
    pub(crate) fn terms(&mut self, job: &MergeJob, deletes: &DeleteBook) -> MergeTerms {
        let now_ms = (self.now_ms)();
        let horizon_ms =
            self.kept.time_ms.map_or(i64::MIN, |kept_ms| now_ms.saturating_sub(kept_ms));
        let (deletes, deletes_through) = deletes.current();
        self.look_at_rules();
        // They hold for a day as a whole, with its rollups.
        let downsampling = match job.level {
            ROLLED_LEVEL => self.downsampling.past(whole_days(job.range), now_ms),
            _ => DownsamplingRules::default(),
        };
        MergeTerms {
            now_ms,
            keep: TimeRange::new(horizon_ms, i64::MAX),
            deletes,
            deletes_through,
            rules: self.rules.clone(),
            format: self.format.clone().with_downsampling(downsampling.clone()),
            downsampling,
        }
    }

    /// Whether the rules of retention are still those that a merge went by. What rules that are gone took
    /// out must not be lost by them.
    pub(crate) fn rules_hold(&self, terms: &MergeTerms) -> bool {
        terms.rules.is_empty() || self.rules_are_same(terms)
    }

    /// Whether the rules of retention changed since a merge began, in either direction.
    pub(crate) fn rules_are_same(&self, terms: &MergeTerms) -> bool {
        terms.rules == self.in_effect.get().retention_rules
    }

    /// Bytes after which the outcome of a merge goes on in another block.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.policy.max_bytes
    }

    /// Takes it that a merge wrote a block.
    pub(crate) fn wrote(&mut self, block: BlockId, terms: &MergeTerms) {
        self.past_downsampling.insert(block, terms.downsampling.len());
    }

    /// What retention no longer keeps: of the blocks that are listed, and of those that are quarantined
    /// when their time is over.
    pub(crate) fn expired(&self, catalog: &State) -> (Vec<BlockId>, Vec<BlockId>) {
        let now_ms = (self.now_ms)();
        let listed: Vec<BlockMeta> = catalog.blocks().copied().collect();
        let damaged: Vec<BlockMeta> = catalog.quarantined().copied().collect();
        let mut expired = self.expired_by_time(&listed, now_ms);
        // The limit of size is one for all signals.
        let kept = listed.iter().filter(|meta| !expired.contains(&meta.id)).copied();
        let by_size = Retention { time_ms: None, size_bytes: self.kept.size_bytes };
        expired.extend(plan_expire(&kept.collect::<Vec<_>>(), now_ms, &by_size));
        (
            expired.into_iter().collect(),
            self.expired_by_time(&damaged, now_ms).into_iter().collect(),
        )
    }

    fn expired_by_time(&self, blocks: &[BlockMeta], now_ms: i64) -> BTreeSet<BlockId> {
        let of_signal = |signal: Signal| {
            let time_ms = match signal {
                Signal::Metrics => self.kept.time_ms,
                Signal::Logs => self.logs_kept_ms,
            };
            let metas = blocks.iter().filter(|meta| meta.signal == signal).copied();
            let by_time = Retention { time_ms, size_bytes: None };
            plan_expire(&metas.collect::<Vec<_>>(), now_ms, &by_time)
        };
        Signal::ALL.into_iter().flat_map(of_signal).collect()
    }

    /// Nothing that is older is kept in any form, of any signal; `None` if all is.
    pub(crate) fn kept_since_ms(&self) -> Option<i64> {
        let kept_ms = self.kept.time_ms?.max(self.logs_kept_ms?);
        Some((self.now_ms)().saturating_sub(kept_ms))
    }

    /// Agents that are silent since then are forgotten with their marks: for longer than anything they
    /// sent is kept. `None` if it is kept for ever.
    pub(crate) fn forgotten_before_ms(&self) -> Option<i64> {
        let kept_ms = self.retention.time_ms?;
        Some((self.now_ms)().saturating_sub(kept_ms).saturating_sub(MARK_MARGIN_MS))
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
