//! Rollups beside what the samples around them say: deletes, late samples, borders.

mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{Blobs, BlockFormat, DiskBlobs, MemoryDisk, MergeInput, THINNED_LEVEL};
use catalog::{LabelCondition, Signal, Tombstone};
use metricstore::{
    BlockSource, Delete, Deletes, DownsamplingRule, DownsamplingRules, FlushPlan, HeadSnapshot,
    HistogramColumns, MetricBlock, MetricFormat, ROLLED_LEVEL, Registry, Selected, Shard,
    ShardRows,
};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, RollupRow, STALE_NAN_BITS, TimeRange};
use proptest::prelude::*;

const MINUTE_MS: i64 = 60_000;
/// Length of the windows.
const WINDOW_MS: i64 = 5 * MINUTE_MS;
/// … and of those that take their place.
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// First and last time, samples, first and last value, resets.
type Told = (i64, i64, u32, f64, f64, u32);

/// Blocks of a series, in which there may be others.
struct Store {
    registry: Registry,
    shard: Shard,
    blobs: DiskBlobs,
    blocks: Vec<BlockSource>,
    deletes: Vec<Arc<Delete>>,
}

fn format() -> MetricFormat {
    MetricFormat::new(1).with_rollups(&[WINDOW_MS, HOUR_MS])
}

/// The format of a merge that keeps a sample for each minute and series `m`.
fn by_minutes() -> MetricFormat {
    format().with_downsampling(DownsamplingRules::new(vec![DownsamplingRule {
        selector: matchers(),
        after_ms: 1,
        interval_ms: MINUTE_MS,
    }]))
}

fn matchers() -> Vec<Matcher> {
    vec![Matcher::new("__name__", MatchOp::Equal, "m").expect("no pattern")]
}

impl Store {
    fn new() -> Self {
        Store {
            registry: Registry::new(1),
            shard: Shard::new(0, 1),
            blobs: DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory"),
            blocks: Vec::new(),
            deletes: Vec::new(),
        }
    }

    fn append(&mut self, samples: &[(i64, f64)]) {
        self.append_of("m", samples);
    }

    fn append_of(&mut self, name: &str, samples: &[(i64, f64)]) {
        let labels = Labels::from_pairs([("__name__", name)]).expect("labels");
        let ordinal = self.registry.intern(DEFAULT_TENANT, &labels, 0);
        let mut rows = ShardRows::default();
        samples.iter().for_each(|&(t_ms, value)| rows.push(ordinal, t_ms, value));
        self.shard.append(&rows);
    }

    /// What is in the head goes into blocks.
    fn flush(&mut self) {
        let cuts = self.shard.cut();
        let id = cuts[0].id();
        let plan = FlushPlan::new(cuts, &Deletes::default(), &self.registry);
        for planned in plan.blocks() {
            self.write(|registry, out| plan.write(planned, &format(), registry, out).map(drop));
        }
        self.shard.drop_flushed(id);
    }

    fn write<E: std::fmt::Debug>(
        &mut self,
        write: impl FnOnce(&Registry, &mut dyn blockstore::BlobWriter) -> Result<(), E>,
    ) {
        let key = format!("blocks/{}", self.blocks.len());
        let mut out = self.blobs.create(&key).expect("memory");
        write(&self.registry, &mut *out).expect("write");
        out.finish().expect("memory");
        let block = format().open(self.blobs.open(&key).expect("memory")).expect("own block");
        self.blocks.push(BlockSource {
            id: Arc::from(key),
            block: Arc::new(block),
            deletes_through: 0,
        });
    }

    /// Merges the blocks from `first` on, to a level.
    fn merge(&mut self, first: usize, level: u8) -> Arc<MetricBlock> {
        self.merge_by(&format(), first, level)
    }

    fn merge_by(&mut self, format: &MetricFormat, first: usize, level: u8) -> Arc<MetricBlock> {
        let sources = self.blocks.split_off(first);
        let input = |source: &BlockSource| MergeInput {
            block: Arc::clone(&source.block),
            deletes: Vec::new(),
        };
        let inputs: Vec<_> = sources.iter().map(input).collect();
        for source in &sources {
            self.blobs.delete(&source.id).expect("memory");
        }
        self.write(|_, out| format.merge(&inputs, TimeRange::all(), level, out).map(drop));
        Arc::clone(&self.blocks[first].block)
    }

    fn delete(&mut self, range: TimeRange) {
        let (name, value) = ("__name__".to_owned(), "m".to_owned());
        let tombstone = Tombstone {
            number: self.deletes.len() as u64 + 1,
            tenant: DEFAULT_TENANT,
            signal: Signal::Metrics,
            range,
            at_ms: 0,
            selectors: vec![vec![LabelCondition { name, op: MatchOp::Equal, value }]],
        };
        self.deletes.push(Arc::new(Delete::new(Arc::new(tombstone)).expect("no pattern")));
    }

    fn head(&self, range: TimeRange) -> HeadSnapshot {
        let series = self.registry.select(DEFAULT_TENANT, &matchers());
        let chunks = vec![self.shard.select(series.ordinals(), range)];
        let deletes = Deletes::new(self.deletes.clone());
        HeadSnapshot { tenant: DEFAULT_TENANT, deletes, series, chunks }
    }

    /// What is said of windows.
    fn rows(&self, range: TimeRange) -> Vec<Told> {
        let rows = self.rows_of(range, WINDOW_MS).expect("windows that fit");
        let told = |r: &RollupRow| (r.first_ms, r.last_ms, r.count, r.first, r.last, r.resets);
        rows.iter().map(told).collect()
    }

    /// The same, of windows of any length, if they fit.
    fn rows_of(&self, range: TimeRange, window_ms: i64) -> Option<Vec<RollupRow>> {
        let (head, blocks) = (self.head(range), &self.blocks);
        let selected = Selected::with_rollups(&self.registry, head, blocks, &matchers(), range, 9)
            .expect("select");
        let mut rows = Vec::new();
        selected.read_rows(0, window_ms, &mut rows).expect("own blocks").then_some(rows)
    }

    /// When each sample began at zero, by its time; those of which nothing is known are left out.
    fn starts(&self) -> Vec<(i64, i64)> {
        let range = TimeRange::all();
        let (head, blocks) = (self.head(range), &self.blocks);
        let selected =
            Selected::new(&self.registry, head, blocks, &matchers(), range, 9).expect("select");
        let (mut times, mut values, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        selected
            .read_with_starts(
                0,
                (&mut times, &mut values),
                &mut starts,
                &mut HistogramColumns::default(),
            )
            .expect("own blocks");
        times.into_iter().zip(starts).filter(|(_, start_ms)| *start_ms != 0).collect()
    }

    /// Times of the samples.
    fn times(&self, range: TimeRange) -> Vec<i64> {
        let (head, blocks) = (self.head(range), &self.blocks);
        let selected =
            Selected::new(&self.registry, head, blocks, &matchers(), range, 9).expect("select");
        let (mut times, mut values) = (Vec::new(), Vec::new());
        selected.read(0, &mut times, &mut values).expect("own blocks");
        times
    }
}

/// A counter, one sample a minute, in minutes.
fn counter(minutes: std::ops::RangeInclusive<i64>) -> Vec<(i64, f64)> {
    minutes.map(|minute| (minute * MINUTE_MS, minute as f64)).collect()
}

fn minutes(start: i64, end: i64) -> TimeRange {
    TimeRange::new(start * MINUTE_MS + 1, end * MINUTE_MS + 1)
}

#[test]
fn a_delete_beside_the_samples_leaves_rows() {
    let mut store = Store::new();
    store.append(&counter(11..=15));
    // The delete is one within the block.
    store.append_of("other", &counter(1..=3));
    store.flush();
    store.merge(0, ROLLED_LEVEL);
    let all = [(11 * MINUTE_MS, 15 * MINUTE_MS, 5, 11.0, 15.0, 0)];
    assert_eq!(store.rows(minutes(0, 60)), all);
    // As a rule of retention does it: what is older than some time.
    store.delete(TimeRange::new(i64::MIN, 5 * MINUTE_MS));
    assert_eq!(store.rows(minutes(0, 60)), all);
    store.delete(TimeRange::new(i64::MIN, 12 * MINUTE_MS));
    let left = [(12 * MINUTE_MS, 15 * MINUTE_MS, 4, 12.0, 15.0, 0)];
    assert_eq!(store.rows(minutes(0, 60)), left);
}

#[test]
fn late_samples_of_a_thinned_day_go_around_its_rows() {
    let mut store = Store::new();
    store.append(&counter(7..=9));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    // Before the row, in it, and behind it in the same window; and in another window.
    let late = [(6.0, 6.0), (7.5, 7.5), (8.0, 8.0), (8.5, 8.5), (9.5, 9.5), (12.0, 12.0)];
    store.append(&late.map(|(minute, value)| ((minute * 60_000.0) as i64, value)));
    let before = store.rows(minutes(0, 60));
    store.flush();
    assert_eq!(store.rows(minutes(0, 60)), before, "from a block as from the head");
    let block = store.merge(0, THINNED_LEVEL);
    assert_eq!(block.summary().conflicts, 3);
    let expected = [
        (6 * MINUTE_MS, 6 * MINUTE_MS, 1, 6.0, 6.0, 0),
        (7 * MINUTE_MS, 9 * MINUTE_MS, 3, 7.0, 9.0, 0),
        (570_000, 570_000, 1, 9.5, 9.5, 0),
        (12 * MINUTE_MS, 12 * MINUTE_MS, 1, 12.0, 12.0, 0),
    ];
    assert_eq!(store.rows(minutes(0, 60)), expected);
    assert_eq!(before, expected, "before the merge as after it");
    // The same once more changes nothing.
    store.append(&counter(6..=9));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    assert_eq!(store.rows(minutes(0, 60)), expected);
}

/// Of a day of which nobody said when values began, and one late sample that says it for itself.
#[test]
fn a_late_start_is_not_that_of_rows_behind_it() {
    let mut store = Store::new();
    store.append(&counter(1..=20));
    store.append(&counter(40..=60));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    let (late_ms, start_ms) = (30 * MINUTE_MS, 29 * MINUTE_MS);
    let labels = Labels::from_pairs([("__name__", "m")]).expect("labels");
    let ordinal = store.registry.intern(DEFAULT_TENANT, &labels, 0);
    let mut rows = ShardRows::default();
    rows.push(ordinal, late_ms, 1.0);
    rows.set_last_start(start_ms);
    store.shard.append(&rows);
    let expected = [(late_ms, start_ms)];
    assert_eq!(store.starts(), expected, "in the head");
    store.flush();
    assert_eq!(store.starts(), expected, "in a block of its own");
    store.merge(0, THINNED_LEVEL);
    assert_eq!(store.starts(), expected, "merged");
    // Once more, where the rows are in one block with it.
    store.append(&counter(70..=71));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    assert_eq!(store.starts(), expected, "merged again");
}

#[test]
fn samples_on_both_sides_of_a_block_are_two_rows() {
    let mut store = Store::new();
    store.append(&counter(7..=8));
    store.flush();
    store.merge(0, ROLLED_LEVEL);
    // A block without rollups in the same window before it, the head behind it.
    store.append(&counter(6..=6));
    store.flush();
    store.append(&counter(9..=9));
    let at =
        |minute: i64| (minute * MINUTE_MS, minute * MINUTE_MS, 1, minute as f64, minute as f64, 0);
    let middle = (7 * MINUTE_MS, 8 * MINUTE_MS, 2, 7.0, 8.0, 0);
    assert_eq!(store.rows(minutes(5, 10)), [at(6), middle, at(9)]);
}

#[test]
fn a_delete_elsewhere_leaves_the_window_at_the_border() {
    let mut store = Store::new();
    store.append(&counter(6..=30));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    // From within the first window.
    let range = TimeRange::new(8 * MINUTE_MS, 28 * MINUTE_MS);
    let last = |ends: &[i64]| ends.iter().map(|end| end * MINUTE_MS).collect::<Vec<_>>();
    assert_eq!(store.times(range), last(&[10, 15, 20, 25]));
    store.delete(TimeRange::new(17 * MINUTE_MS, 18 * MINUTE_MS));
    assert_eq!(store.times(range), last(&[10, 15, 25]));
    // One that takes the first samples of a window takes the window.
    store.delete(TimeRange::new(21 * MINUTE_MS, 22 * MINUTE_MS));
    assert_eq!(store.times(range), last(&[10, 15]));
    assert_eq!(store.times(TimeRange::all()), last(&[10, 15, 30]));
}

#[test]
fn a_window_of_which_a_part_is_deleted_is_gone_wherever_a_query_begins() {
    let mut store = Store::new();
    store.append(&counter(6..=30));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    // The window is (10, 15]; the query begins behind what is deleted of it, or just there.
    store.delete(TimeRange::new(11 * MINUTE_MS, 12 * MINUTE_MS));
    let last = [20, 25, 30].map(|minute| minute * MINUTE_MS);
    for start in [11, 12, 13, 14] {
        let range = TimeRange::new(start * MINUTE_MS, 40 * MINUTE_MS);
        assert_eq!(store.times(range), last, "from {start}");
        let rows = store.rows_of(range, WINDOW_MS).expect("floats alone");
        assert_eq!(rows.len(), 3, "from {start}");
    }
    // What ends before the window takes nothing of it.
    store.delete(TimeRange::new(16 * MINUTE_MS, 17 * MINUTE_MS));
    let range = TimeRange::new(23 * MINUTE_MS, 40 * MINUTE_MS);
    assert_eq!(store.times(range), last[1..]);
}

#[test]
fn rows_of_hours_take_the_place_of_rows_of_minutes() {
    let mut store = Store::new();
    store.append(&counter(6..=190));
    store.flush();
    store.merge(0, THINNED_LEVEL);
    assert_eq!(store.rows(minutes(0, 240)).len(), 37);
    let fine = store.blocks[0].block.summary().rows;
    store.merge(0, THINNED_LEVEL + 1);
    let block = &store.blocks[0].block;
    assert_eq!((fine, block.summary().rows, block.rollup_ms()), (37, 4, HOUR_MS));
    // Nothing knows the windows of five minutes any more: the last sample of each hour is left.
    let last = store.rows_of(minutes(0, 240), WINDOW_MS).expect("floats alone");
    let last: Vec<_> = last.iter().map(|r| (r.last_ms / MINUTE_MS, r.count, r.first)).collect();
    assert_eq!(last, [(60, 1, 60.), (120, 1, 120.), (180, 1, 180.), (190, 1, 190.)]);
    let rows = store.rows_of(minutes(0, 240), HOUR_MS).expect("windows that fit");
    let told: Vec<_> = rows.iter().map(|r| (r.first, r.last, r.count, r.min, r.max)).collect();
    let row = |from: f64, to: f64| (from, to, (to - from) as u32 + 1, from, to);
    assert_eq!(told, [row(6., 60.), row(61., 120.), row(121., 180.), row(181., 190.)]);
    assert_eq!(rows[1].sum, (61..=120).sum::<i64>() as f64);
    // Where ranges do not fit the last sample of each hour is left.
    let last = [60, 120, 180, 190].map(|minute| minute * MINUTE_MS);
    assert_eq!(store.times(minutes(0, 240)), last);
    // A delete takes the hours it meets.
    store.delete(TimeRange::new(100 * MINUTE_MS, 101 * MINUTE_MS));
    let left = store.rows_of(minutes(0, 240), HOUR_MS).expect("windows that fit");
    assert_eq!(left, [rows[0], rows[2], rows[3]]);
}

/// A counter, one sample a second, in seconds.
fn seconds(seconds: std::ops::RangeInclusive<i64>) -> Vec<(i64, f64)> {
    seconds.map(|second| (second * 1_000, second as f64)).collect()
}

#[test]
fn of_a_downsampled_day_rows_count_what_is_gone() {
    let mut store = Store::new();
    // More than a chunk, in two pieces that meet within a minute.
    store.append(&seconds(301..=2_555));
    store.flush();
    store.append(&seconds(2_556..=3_600));
    store.append_of("other", &seconds(301..=400));
    store.flush();
    let hour = minutes(0, 60);
    let block = store.merge(0, ROLLED_LEVEL);
    let rules = DownsamplingRules::new(vec![DownsamplingRule {
        selector: matchers(),
        after_ms: 1,
        interval_ms: MINUTE_MS,
    }]);
    assert!(!block.is_downsampled() && block.is_denser_than(&rules).expect("own block"));
    let (rows, hours) = (store.rows(hour), store.rows_of(hour, HOUR_MS));
    assert_eq!(rows.len(), 11);

    let block = store.merge_by(&by_minutes(), 0, ROLLED_LEVEL);
    assert!(block.is_downsampled() && !block.is_denser_than(&rules).expect("own block"));
    let each_minute: Vec<i64> = (6..=60).map(|minute| minute * MINUTE_MS).collect();
    assert_eq!(store.times(hour), each_minute);
    assert_eq!(block.summary().rows, 55 + 100, "the other one is whole");
    assert_eq!((store.rows(hour), store.rows_of(hour, HOUR_MS)), (rows.clone(), hours.clone()));

    // Once more, without the rule: nothing comes back, nothing goes.
    store.merge(0, ROLLED_LEVEL);
    assert_eq!(store.times(hour), each_minute);
    assert_eq!((store.rows(hour), store.rows_of(hour, HOUR_MS)), (rows.clone(), hours.clone()));

    // Late samples in a window of their own are rolled up with the next merge, and thinned.
    store.append(&seconds(3_601..=3_700));
    store.flush();
    store.merge_by(&by_minutes(), 0, ROLLED_LEVEL);
    let later = minutes(60, 65);
    assert_eq!(store.times(later), [3_660_000, 3_700_000]);
    assert_eq!(store.rows(later), [(3_601_000, 3_700_000, 100, 3_601.0, 3_700.0, 0)]);
    assert_eq!(store.rows(hour), rows);

    // Late ones among those that are gone change nothing of what rows say, before a merge and after; there
    // they are told, once.
    store.append(&[(1_000_500, 7.0), (2_000_500, 8.0)]);
    assert_eq!((store.rows(hour), store.rows_of(hour, HOUR_MS)), (rows.clone(), hours.clone()));
    store.flush();
    assert_eq!((store.rows(hour), store.rows_of(hour, HOUR_MS)), (rows.clone(), hours.clone()));
    let block = store.merge_by(&by_minutes(), 0, ROLLED_LEVEL);
    assert_eq!((store.rows(hour), store.rows_of(hour, HOUR_MS)), (rows.clone(), hours.clone()));
    assert_eq!(block.summary().conflicts, 2);

    // The samples go, and none of them is called a conflict.
    let block = store.merge(0, THINNED_LEVEL);
    assert!(block.is_thinned() && !block.is_downsampled());
    assert_eq!(block.summary().conflicts, 2);
    assert_eq!((store.rows(hour), store.rows_of(hour, HOUR_MS)), (rows, hours));
}

#[test]
fn a_delete_in_a_downsampled_day_takes_no_more_than_it_says() {
    let mut store = Store::new();
    store.append(&seconds(301..=3_600));
    store.flush();
    store.merge_by(&by_minutes(), 0, ROLLED_LEVEL);
    store.delete(TimeRange::new(900_500, 1_020_500));
    let left: Vec<i64> = (6..=15).chain(18..=60).map(|minute| minute * MINUTE_MS).collect();
    assert_eq!(store.times(minutes(0, 60)), left);
    // What is left of the window is in samples alone; those beside it are counted whole.
    let of_window = [(1_080_000, 1_200_000, 3, 1_080.0, 1_200.0, 0)];
    let beside =
        |start: i64, end: i64| (start * 1_000, end * 1_000, 300, start as f64, end as f64, 0);
    assert_eq!(store.rows(minutes(15, 20)), of_window);
    assert_eq!(store.rows(minutes(10, 25)), [beside(601, 900), of_window[0], beside(1_201, 1_500)]);
}

#[test]
fn what_no_rule_concerns_is_rolled_up_from_all_its_samples() {
    let mut store = Store::new();
    store.append_of("other", &seconds(301..=3_600));
    store.append(&[(301_000, 1.0), (599_000, 2.0)]);
    store.flush();
    store.merge(0, ROLLED_LEVEL);
    let by_name = DownsamplingRule {
        selector: vec![Matcher::new("__name__", MatchOp::Equal, "other").expect("no pattern")],
        after_ms: 1,
        interval_ms: MINUTE_MS,
    };
    let format = format().with_downsampling(DownsamplingRules::new(vec![by_name]));
    assert!(store.merge_by(&format, 0, ROLLED_LEVEL).is_downsampled());
    // Between the first and the last of a row, which has all its samples beside it.
    store.append(&[(400_000, 5.0), (500_000, 6.0)]);
    let expected = [(301_000, 599_000, 4, 1.0, 2.0, 1)];
    assert_eq!(store.rows(minutes(5, 10)), expected);
    store.flush();
    assert_eq!(store.rows(minutes(5, 10)), expected);
    let block = store.merge_by(&format, 0, ROLLED_LEVEL);
    assert_eq!((store.rows(minutes(5, 10)), block.summary().conflicts), (expected.to_vec(), 0));
    assert!(block.is_downsampled());
}

#[test]
fn markers_of_staleness_alone_make_no_block_dense() {
    let mut store = Store::new();
    let stale = f64::from_bits(STALE_NAN_BITS);
    let each = |second: i64| (second * 1_000, if second % 2 == 0 { 1.0 } else { stale });
    store.append(&(300..3_000).map(each).collect::<Vec<_>>());
    store.flush();
    store.merge(0, ROLLED_LEVEL);
    let block = store.merge_by(&by_minutes(), 0, ROLLED_LEVEL);
    let rules = |interval_ms| {
        let rule = DownsamplingRule { selector: matchers(), after_ms: 1, interval_ms };
        DownsamplingRules::new(vec![rule])
    };
    assert!(!block.is_denser_than(&rules(MINUTE_MS)).expect("own block"));
    assert_eq!(block.summary().rows, 2_700);
}

#[test]
fn a_row_that_is_deleted_is_not_joined_over() {
    let mut store = Store::new();
    store.append(&seconds(301..=3_600));
    store.flush();
    store.merge_by(&by_minutes(), 0, ROLLED_LEVEL);
    store.delete(TimeRange::new(1_260_500, 1_320_500));
    let deletes = std::mem::take(&mut store.deletes);
    let source = store.blocks.pop().expect("the day");
    let inputs = [MergeInput { block: source.block, deletes }];
    let coarser = MetricFormat::new(1).with_rollups(&[3 * WINDOW_MS]);
    store.write(|_, out| coarser.merge(&inputs, TimeRange::all(), ROLLED_LEVEL, out).map(drop));
    // Of the window that was cut the floats are left, between those of the rows beside it.
    let rows = store.rows_of(minutes(15, 30), 3 * WINDOW_MS).expect("windows that fit");
    let told: Vec<_> = rows.iter().map(|row| (row.first_ms / 1_000, row.count)).collect();
    assert_eq!(told, [(901, 300), (1_260, 4), (1_501, 300)]);
}

/// Values of a series through a day: what counters and gauges do, and what both may.
fn values() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        6 => (0_i32..50).prop_map(f64::from),
        2 => (0_i32..1_000_000).prop_map(|n| f64::from(n) / 100.0),
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
    ];
    // Gaps between samples, some of hours, some that end at the border of a window.
    let gap = prop_oneof![8 => 1_i64..400_000, 2 => Just(WINDOW_MS), 1 => 1..4 * HOUR_MS];
    proptest::collection::vec((gap, value), 1..160).prop_map(|steps| {
        let mut t_ms = 0;
        let samples = steps.into_iter().map(|(gap_ms, value)| {
            t_ms += gap_ms;
            (t_ms, value)
        });
        samples.take_while(|sample| sample.0 < 24 * HOUR_MS).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A day through all tiers, with samples that come late but in order, and two days of which one
    /// is coarser than the other.
    #[test]
    fn every_tier_says_what_the_samples_said(
        days in [values(), values()],
        through in proptest::sample::subsequence(
            vec![ROLLED_LEVEL, THINNED_LEVEL, THINNED_LEVEL + 1], 1..=3,
        ),
        pieces in 1_usize..4,
        downsampled in any::<bool>(),
    ) {
        let mut store = Store::new();
        let mut model = Vec::new();
        for (day, samples) in days.iter().enumerate() {
            let at_ms = day as i64 * 24 * HOUR_MS;
            let samples: Vec<_> = samples.iter().map(|&(t, value)| (t + at_ms, value)).collect();
            for piece in samples.chunks(samples.len().div_ceil(pieces).max(1)) {
                store.append(piece);
                store.flush();
            }
            if samples.is_empty() {
                continue;
            }
            // The second day is as fine as it comes.
            let levels = if day == 0 { &through[..] } else { &through[..1] };
            let first = usize::from(day == 1 && !days[0].is_empty());
            for level in levels {
                store.merge(first, *level);
                if downsampled && *level == ROLLED_LEVEL {
                    store.merge_by(&by_minutes(), first, ROLLED_LEVEL);
                }
            }
            model.extend(samples);
        }
        model.retain(|(_, value)| value.to_bits() != STALE_NAN_BITS);
        let whole = TimeRange::new(1, 48 * HOUR_MS + 1);
        for window_ms in [WINDOW_MS, HOUR_MS, 3 * HOUR_MS] {
            let mut expected = BTreeMap::new();
            for &(t_ms, value) in &model {
                windows::combine(&mut expected, window_ms, windows::row_of(t_ms, value));
            }
            if store.blocks.is_empty() {
                continue;
            }
            let rows = store.rows_of(whole, window_ms).expect("floats alone");
            let coarsest = store.blocks.iter().filter(|source| source.block.is_thinned());
            let coarsest = coarsest.map(|source| source.block.rollup_ms()).max().unwrap_or(1);
            if window_ms % coarsest != 0 {
                continue;
            }
            prop_assert!(rows.is_sorted_by(|a, b| a.last_ms < b.first_ms), "{rows:?}");
            let mut found = BTreeMap::new();
            for row in rows {
                windows::combine(&mut found, window_ms, row);
            }
            let exact = |rows: &BTreeMap<i64, RollupRow>| {
                rows.values().map(windows::exact).collect::<Vec<_>>()
            };
            prop_assert_eq!(exact(&found), exact(&expected));
            for (found, expected) in found.values().zip(expected.values()) {
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
                prop_assert!(near(found.sum, expected.sum));
                prop_assert!(near(found.before_resets, expected.before_resets));
            }
        }
    }
}
