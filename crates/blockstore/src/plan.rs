//! Decides which blocks to merge and which to forget. Pure: the manifest and the time come in.
//!
//! Time is cut into cells at three scales, all aligned to UTC. A block belongs to every cell that
//! holds its whole range; one that fits no day is left as it is. A cell is *closed* once it ended
//! and late data has had time to arrive.
//!
//! | level | block | made from |
//! |---|---|---|
//! | 0 | flush | a head |
//! | 1 | part of a window | ≥ 4 adjacent flushes of an open window |
//! | 2 | part of a window | ≥ 4 adjacent blocks of level 1 of an open window |
//! | 3 | window, 2 h | all blocks of a closed window |
//! | 4 | quarter, 6 h | all blocks of a closed quarter: three windows |
//! | 5 | day | all blocks of a closed day |
//! | 6 | day, thinned | all blocks of a day whose samples are past their retention, where rollups are kept for longer |
//! | 7 … | the same | all blocks of a day whose rollups are past theirs, where coarser ones are kept for longer |
//!
//! Only the largest closed cell around a block decides, of those that are not too large for a merge. Data that arrives in time is thus written
//! at most six times, flush included, and less if the process was down when cells closed. What
//! arrives after a cell was merged is joined to it when it has grown to a quarter of it, so that
//! each late byte costs at most five; until then late blocks are merged among themselves by the
//! same rule. Blocks that one merge or flush wrote side by side count as one.
//!
//! Of two samples with the same series and time the one committed first wins. A merge hides the
//! order inside it, so no block outside may lie between its inputs in the order of commits while
//! it overlaps them in time. Every plan is checked for that, as `catalog::State` does again.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{BlockId, BlockMeta, Signal};
use model::{TenantId, TimeRange};

const HOUR_MS: i64 = 3_600_000;

/// Scales by length of their cells, each a multiple of the one before, and the level of a block
/// that holds a whole cell.
const SCALES: [(i64, u8); 3] = [(2 * HOUR_MS, 3), (6 * HOUR_MS, 4), (24 * HOUR_MS, 5)];

/// The highest level of a part of a window.
const LAST_PART_LEVEL: u8 = 2;

/// Level of a block that holds a whole day; a format may add rollups from it on.
pub const ROLLED_LEVEL: u8 = 5;
/// Level of a block that keeps nothing but rollups; each level above keeps coarser ones.
pub const THINNED_LEVEL: u8 = 6;

/// Time after the end of a day's retention until the day is thinned: what came in at its end was
/// acknowledged, and reaches blocks later.
const THIN_SETTLE_MS: i64 = HOUR_MS;

/// Blocks that are worth a merge after their cell is closed, and before unless the policy says otherwise.
const FANIN: usize = 4;

/// Late blocks are joined to what is merged when they are this part of it.
const LATE_SHARE: u64 = 4;

/// When a cell counts as closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergePolicy {
    /// Time after its end until most late data has arrived.
    pub settle_ms: i64,
    /// Where the outcome has to lie in memory before it is stored: blocks that are larger than this together
    /// are not made one, below a day. A day of metrics always is one job, whose outcome is several blocks by
    /// ranges of series then: it gets rollups, and is thinned, whatever its size. A day of logs is not: nothing
    /// would be gained by it.
    pub max_bytes: u64,
    /// So many blocks are worth a merge before their cell is closed; two or more. The fewer, the fewer blocks there
    /// are to be read; the more, the less often all is written anew.
    pub fan_in: usize,
}

impl Default for MergePolicy {
    /// Ten minutes: twice the time after which a head is flushed. Any size. Four blocks.
    fn default() -> Self {
        MergePolicy { settle_ms: 600_000, max_bytes: u64::MAX, fan_in: FANIN }
    }
}

/// One merge to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeJob {
    /// Whose blocks.
    pub tenant: TenantId,
    /// Which blocks.
    pub signal: Signal,
    /// In commit order: earlier ones win. One alone is written anew, without what is deleted.
    pub inputs: Vec<BlockId>,
    /// Range of all inputs.
    pub range: TimeRange,
    /// Level of the outcome.
    pub level: u8,
    /// Sum of the inputs' sizes: what is read, and about what is written.
    pub size_bytes: u64,
}

impl MergeJob {
    /// Writes one block anew, at its level.
    pub fn rewrite(block: &BlockMeta) -> Self {
        MergeJob {
            tenant: block.tenant,
            signal: block.signal,
            inputs: vec![block.id],
            range: block.range,
            level: block.level,
            size_bytes: block.size_bytes,
        }
    }
}

/// How long blocks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age after which data is forgotten; `None` keeps it for ever.
    pub time_ms: Option<i64>,
    /// Size of all blocks above which the oldest are forgotten; `None` is no limit.
    pub size_bytes: Option<u64>,
}

impl Default for Retention {
    /// 15 days, any size.
    fn default() -> Self {
        Retention { time_ms: Some(15 * 24 * HOUR_MS), size_bytes: None }
    }
}

/// The most useful merge, if any is due. When it is committed, ask again. Deterministic; the cost
/// is that of sorting the blocks.
pub fn plan_merge(blocks: &[BlockMeta], now_ms: i64, policy: &MergePolicy) -> Option<MergeJob> {
    let settled_ms = now_ms.saturating_sub(policy.settle_ms);
    let owners = by_owner(blocks, settled_ms, policy);
    // Small and frequent merges first: they keep the number of blocks down at the least cost.
    let parts = owners.iter().find_map(Cells::plan_parts);
    parts.or_else(|| {
        (0..SCALES.len()).find_map(|scale| owners.iter().find_map(|o| o.plan_scale(scale)))
    })
}

/// The next day to be thinned: all of it is older than one of `kept_ms`, and some of it is not as thin
/// as is due then. The first of them is for how long samples are kept, the others, ascending, each
/// for how long rollups are before coarser ones take their place. A day that is due for several goes to
/// the coarsest at once. Of `policy` only the bound of size matters.
pub fn plan_thin(
    blocks: &[BlockMeta],
    now_ms: i64,
    kept_ms: &[i64],
    policy: &MergePolicy,
) -> Option<MergeJob> {
    kept_ms.iter().enumerate().rev().find_map(|(tier, kept_ms)| {
        let level = THINNED_LEVEL.saturating_add(u8::try_from(tier).unwrap_or(u8::MAX));
        let horizon_ms = now_ms.saturating_sub(*kept_ms).saturating_sub(THIN_SETTLE_MS);
        let owners = by_owner(blocks, horizon_ms, policy);
        owners.iter().find_map(|owner| owner.plan_thin(level))
    })
}

/// The blocks whose retention is over: those that end before it by time, then the oldest by size;
/// those with samples first, until they take no more than half of the size, then thinned ones. Blocks
/// go whole. Ascending ids.
pub fn plan_expire(blocks: &[BlockMeta], now_ms: i64, retention: &Retention) -> Vec<BlockId> {
    let horizon_ms = retention.time_ms.map_or(i64::MIN, |time_ms| now_ms.saturating_sub(time_ms));
    let (expired, mut kept): (Vec<&BlockMeta>, Vec<&BlockMeta>) =
        blocks.iter().partition(|block| block.range.end_ms <= horizon_ms);
    let mut expired: Vec<BlockId> = expired.into_iter().map(|block| block.id).collect();
    if let Some(limit) = retention.size_bytes {
        kept.sort_unstable_by_key(|block| (block.range.end_ms, block.id));
        let (thinned, with_samples): (Vec<&BlockMeta>, Vec<&BlockMeta>) =
            kept.into_iter().partition(|block| block.level >= THINNED_LEVEL);
        let mut bytes = [sum_bytes(&thinned), sum_bytes(&with_samples)];
        let (mut thinned, mut with_samples) = (thinned.into_iter(), with_samples.into_iter());
        while bytes[0].saturating_add(bytes[1]) > limit {
            let samples_first = bytes[1] > limit / 2 || bytes[0] == 0;
            let next = if samples_first { with_samples.next() } else { thinned.next() };
            let Some(block) = next else { break };
            bytes[usize::from(samples_first)] -= block.size_bytes;
            expired.push(block.id);
        }
    }
    expired.sort_unstable();
    expired
}

/// The blocks of one tenant and signal, by the cells they fit.
struct Cells<'a> {
    /// All, in commit order.
    all: Vec<&'a BlockMeta>,
    /// By scale and index of the cell, in commit order.
    cells: [BTreeMap<i64, Vec<&'a BlockMeta>>; SCALES.len()],
    /// Cells that ended until then are closed.
    settled_ms: i64,
    /// As in [`MergePolicy`].
    max_bytes: u64,
    /// As in [`MergePolicy`].
    fan_in: usize,
    /// Whether a day is one job whatever its size.
    has_whole_days: bool,
}

impl<'a> Cells<'a> {
    fn new(
        signal: Signal,
        mut all: Vec<&'a BlockMeta>,
        settled_ms: i64,
        policy: &MergePolicy,
    ) -> Self {
        all.sort_unstable_by_key(|block| (block.first_sequence, block.last_sequence, block.id));
        let cells = SCALES.map(|(len_ms, _)| {
            let mut cells: BTreeMap<i64, Vec<&BlockMeta>> = BTreeMap::new();
            for &block in &all {
                if let Some(index) = cell_of(block.range, len_ms) {
                    cells.entry(index).or_default().push(block);
                }
            }
            cells
        });
        let has_whole_days = signal == Signal::Metrics;
        let (max_bytes, fan_in) = (policy.max_bytes, policy.fan_in.max(2));
        Cells { all, cells, settled_ms, max_bytes, fan_in, has_whole_days }
    }

    /// Whether the cell of this scale that begins at `start_ms`, or holds it, is closed.
    fn is_closed(&self, start_ms: i64, scale: usize) -> bool {
        SCALES.get(scale).is_some_and(|(len_ms, _)| {
            let end = start_ms.div_euclid(*len_ms).saturating_add(1).saturating_mul(*len_ms);
            end <= self.settled_ms
        })
    }

    /// Whether the next larger cell around one is closed, and may become one block.
    fn is_for_larger(&self, start_ms: i64, scale: usize) -> bool {
        self.is_closed(start_ms, scale + 1)
            && SCALES.get(scale + 1).is_some_and(|(len_ms, level)| {
                let cell = self.cells[scale + 1].get(&start_ms.div_euclid(*len_ms));
                let fits = |blocks: &Vec<_>| sum_bytes(blocks) <= self.max_bytes;
                self.is_of_any_size(*level) || cell.is_none_or(fits)
            })
    }

    /// Whether what is merged to this level may be larger than is wanted.
    fn is_of_any_size(&self, level: u8) -> bool {
        self.has_whole_days && level >= ROLLED_LEVEL
    }

    /// Runs of equal level in windows that still grow, or are too large to become one block.
    fn plan_parts(&self) -> Option<MergeJob> {
        let (window_ms, _) = SCALES[0];
        self.cells[0].iter().find_map(|(index, blocks)| {
            let start_ms = index.saturating_mul(window_ms);
            // What becomes one with a larger cell anyway is not written twice before.
            let is_for_larger = || (0..SCALES.len()).any(|at| self.is_for_larger(start_ms, at));
            let fan_in = match self.is_closed(start_ms, 0) {
                false => self.fan_in,
                // What is left over at its end, or came late.
                true if sum_bytes(blocks) > self.max_bytes && !is_for_larger() => FANIN,
                true => return None,
            };
            let runs = blocks.chunk_by(|a, b| a.level == b.level);
            let runs = runs.filter(|run| run.len() >= fan_in && run[0].level < LAST_PART_LEVEL);
            let mut jobs = runs.filter_map(|run| self.plan_run(run, run[0].level + 1, fan_in));
            jobs.next()
        })
    }

    /// The first of these blocks, as many as fit; behind those that fit nowhere.
    fn plan_run(&self, run: &[&BlockMeta], level: u8, fan_in: usize) -> Option<MergeJob> {
        (0..=run.len() - fan_in).find_map(|first| {
            let mut bytes = 0_u64;
            let fitting = run[first..].iter().take_while(|block| {
                bytes = bytes.saturating_add(block.size_bytes);
                bytes <= self.max_bytes
            });
            // Where that would tear apart what was written side by side, some fewer.
            let most = fitting.count();
            (fan_in..=most).rev().find_map(|len| self.job(&run[first..first + len], level))
        })
    }

    /// Closed cells of this scale inside larger ones that are not closed.
    fn plan_scale(&self, scale: usize) -> Option<MergeJob> {
        let (len_ms, level) = SCALES[scale];
        self.cells[scale]
            .iter()
            .map(|(index, blocks)| (index.saturating_mul(len_ms), blocks))
            .filter(|(start_ms, _)| self.is_closed(*start_ms, scale))
            .filter(|(start_ms, _)| !self.is_for_larger(*start_ms, scale))
            .find_map(|(_, blocks)| self.plan_closed(blocks, level))
    }

    /// All blocks of a closed day, if some of them are of a lower level.
    fn plan_thin(&self, level: u8) -> Option<MergeJob> {
        let (day_ms, _) = SCALES[SCALES.len() - 1];
        self.cells[SCALES.len() - 1]
            .iter()
            .filter(|(index, _)| self.is_closed(index.saturating_mul(day_ms), SCALES.len() - 1))
            .filter(|(_, blocks)| blocks.iter().any(|block| block.level < level))
            .find_map(|(_, blocks)| match blocks.as_slice() {
                [only] => Some(MergeJob { level, ..MergeJob::rewrite(only) }),
                // Nothing becomes finer again, whatever was configured before.
                all => self.job(all, all.iter().map(|block| block.level).fold(level, u8::max)),
            })
    }

    /// Merges all blocks of a closed cell once, to `level`, and later what came late.
    fn plan_closed(&self, blocks: &[&BlockMeta], level: u8) -> Option<MergeJob> {
        if blocks.iter().all(|block| block.level < level) {
            return self.job(blocks, level);
        }
        let begins = |first: &usize| *first == 0 || !is_beside(blocks[first - 1], blocks[*first]);
        (0..blocks.len()).filter(begins).find_map(|first| {
            let suffix = &blocks[first..];
            let beside = suffix.iter().take_while(|block| is_beside(suffix[0], block)).count();
            let (before, late) = (sum_bytes(&suffix[..beside]), sum_bytes(&suffix[beside..]));
            let grown = beside < suffix.len() && late.saturating_mul(LATE_SHARE) >= before;
            let highest = suffix.iter().map(|block| block.level).max()?;
            let worthwhile = highest >= level || suffix.len() >= FANIN;
            (grown && worthwhile).then(|| self.job(suffix, highest.max(1))).flatten()
        })
    }

    /// The job for these inputs, unless there is nothing to merge or the order of commits forbids.
    fn job(&self, inputs: &[&BlockMeta], level: u8) -> Option<MergeJob> {
        let (first, _) = inputs.split_first().filter(|(_, rest)| !rest.is_empty())?;
        if !self.is_of_any_size(level) && sum_bytes(inputs) > self.max_bytes {
            return None;
        }
        let range = inputs.iter().fold(first.range, |all, block| all.union(&block.range));
        let first_sequence = inputs.iter().map(|block| block.first_sequence).min()?;
        let last_sequence = inputs.iter().map(|block| block.last_sequence).max()?;
        let ids: BTreeSet<BlockId> = inputs.iter().map(|block| block.id).collect();
        let between = self.all.iter().any(|block| {
            block.first_sequence <= last_sequence
                && first_sequence <= block.last_sequence
                && block.range.overlaps(&range)
                && !ids.contains(&block.id)
        });
        (!between).then(|| MergeJob {
            tenant: first.tenant,
            signal: first.signal,
            inputs: inputs.iter().map(|block| block.id).collect(),
            range,
            level,
            size_bytes: sum_bytes(inputs),
        })
    }
}

/// The blocks of each tenant and signal.
fn by_owner<'a>(blocks: &'a [BlockMeta], settled_ms: i64, policy: &MergePolicy) -> Vec<Cells<'a>> {
    let mut owners: BTreeMap<(TenantId, Signal), Vec<&BlockMeta>> = BTreeMap::new();
    for block in blocks.iter().filter(|block| !block.range.is_empty()) {
        owners.entry((block.tenant, block.signal)).or_default().push(block);
    }
    let cells = |((_, signal), blocks)| Cells::new(signal, blocks, settled_ms, policy);
    owners.into_iter().map(cells).collect()
}

/// Whether two blocks were written by one flush or merge.
fn is_beside(a: &BlockMeta, b: &BlockMeta) -> bool {
    (a.first_sequence, a.last_sequence) == (b.first_sequence, b.last_sequence)
}

/// Index of the cell of this length that holds the whole range, if one does.
fn cell_of(range: TimeRange, len_ms: i64) -> Option<i64> {
    let first = range.start_ms.div_euclid(len_ms);
    let last = (range.end_ms - 1).div_euclid(len_ms);
    (first == last).then_some(first)
}

fn sum_bytes(blocks: &[&BlockMeta]) -> u64 {
    blocks.iter().fold(0, |sum, block| sum.saturating_add(block.size_bytes))
}
