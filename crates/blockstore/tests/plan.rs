//! Plans against the catalog: they end, keep every row, obey the order of commits, and write each
//! row a bounded number of times.

use blockstore::{
    MergePolicy, ROLLED_LEVEL, Retention, THINNED_LEVEL, plan_expire, plan_merge, plan_thin,
};
use catalog::{BlockId, BlockMeta, Command, LogPosition, NewBlock, Outcome, Signal, State};
use model::{TenantId, TimeRange};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A store whose blocks have one byte per row.
#[derive(Default)]
struct Store {
    state: State,
    next_id: u64,
    merged_bytes: u64,
}

impl Store {
    fn flush(&mut self, blocks: &[(u32, TimeRange, u64)]) {
        let added = blocks
            .iter()
            .map(|(tenant, range, rows)| {
                self.next_id += 1;
                NewBlock {
                    id: BlockId(self.next_id),
                    tenant: TenantId(*tenant),
                    signal: Signal::Metrics,
                    range: *range,
                    rows: *rows,
                    series: 1,
                    size_bytes: *rows,
                    level: 0,
                }
            })
            .collect();
        let command =
            Command::Flush { added, flushed_through: LogPosition::default(), deletes_through: 0 };
        self.state.apply(&command).expect("new ids");
    }

    fn blocks(&self) -> Vec<BlockMeta> {
        self.state.blocks().copied().collect()
    }

    fn rows(&self) -> u64 {
        self.state.blocks().map(|block| block.rows).sum()
    }

    /// Does all merges due; the catalog refuses one that breaks the order of commits.
    fn merge_all(&mut self, now_ms: i64) {
        let mut steps = self.blocks().len();
        while let Some(job) = plan_merge(&self.blocks(), now_ms, &MergePolicy::default()) {
            assert!(steps > 0, "every merge removes at least one block");
            steps -= 1;
            let blocks = self.blocks();
            let inputs: Vec<&BlockMeta> = job
                .inputs
                .iter()
                .map(|id| blocks.iter().find(|b| b.id == *id).expect("inputs exist"))
                .collect();
            assert!(inputs.len() >= 2 && job.level <= 5);
            assert!(inputs.is_sorted_by_key(|b| (b.first_sequence, b.last_sequence)));
            assert!(inputs.iter().all(|b| (b.tenant, b.signal) == (job.tenant, job.signal)));
            self.next_id += 1;
            self.merged_bytes += job.size_bytes;
            let merged = NewBlock {
                id: BlockId(self.next_id),
                tenant: job.tenant,
                signal: job.signal,
                range: job.range,
                rows: inputs.iter().map(|b| b.rows).sum(),
                series: 1,
                size_bytes: job.size_bytes,
                level: job.level,
            };
            let swap =
                Command::Swap { removed: job.inputs, added: vec![merged], deletes_through: 0 };
            let outcome = self.state.apply(&swap).expect("the order of commits is kept");
            assert!(matches!(outcome, Outcome::Added(_)));
        }
    }
}

fn any_flush() -> impl Strategy<Value = Vec<(u32, TimeRange, u64)>> {
    let range = prop_oneof![
        // Inside a window of the last days, as a flush cuts it.
        6 => (0..36_i64, 0..100_i64, 1..20_i64).prop_map(|(window, start, len)| {
            let start = window * 2 * HOUR + start * MINUTE;
            TimeRange::new(start, start + len * MINUTE)
        }),
        // Anything, also across all cells.
        1 => (-3 * DAY..3 * DAY, 1..2 * DAY).prop_map(|(s, len)| TimeRange::new(s, s + len)),
        1 => Just(TimeRange::new(i64::MIN, i64::MIN + 1)),
        1 => Just(TimeRange::new(i64::MAX - 1, i64::MAX)),
    ];
    proptest::collection::vec((0..2_u32, range, 1..1000_u64), 0..4)
}

proptest! {
    #[test]
    fn any_flushes_are_merged_without_losing_a_row(
        flushes in proptest::collection::vec(any_flush(), 0..60),
        clock in proptest::collection::vec(-DAY..5 * DAY, 1..6),
    ) {
        let mut store = Store::default();
        let mut rows = 0;
        for (index, flush) in flushes.iter().enumerate() {
            rows += flush.iter().map(|block| block.2).sum::<u64>();
            store.flush(flush);
            if index % 7 == 6 {
                store.merge_all(clock[index % clock.len()]);
            }
            prop_assert_eq!(store.rows(), rows);
        }
        store.merge_all(i64::MAX);
        prop_assert_eq!(store.rows(), rows);
        prop_assert!(plan_merge(&store.blocks(), i64::MAX, &MergePolicy::default()).is_none());
    }

    #[test]
    fn expiry_takes_what_is_too_old_or_too_much_and_no_more(
        flushes in proptest::collection::vec(any_flush(), 0..20),
        now in 0..5 * DAY,
        time in proptest::option::of(0..3 * DAY),
        size in proptest::option::of(0..20_000_u64),
    ) {
        let mut store = Store::default();
        flushes.iter().for_each(|flush| store.flush(flush));
        let retention = Retention { time_ms: time, size_bytes: size };
        let expired = plan_expire(&store.blocks(), now, &retention);
        let (gone, kept): (Vec<BlockMeta>, Vec<BlockMeta>) =
            store.blocks().into_iter().partition(|b| expired.contains(&b.id));
        let too_old = |b: &BlockMeta| time.is_some_and(|time| b.range.end_ms <= now - time);
        prop_assert!(!kept.iter().any(too_old));
        let kept_bytes: u64 = kept.iter().map(|b| b.size_bytes).sum();
        prop_assert!(size.is_none_or(|size| kept_bytes <= size));
        let for_size: Vec<&BlockMeta> = gone.iter().filter(|b| !too_old(b)).collect();
        if let Some(newest) = for_size.iter().max_by_key(|b| (b.range.end_ms, b.id)) {
            // Without the last one removed, the limit would not have been met.
            prop_assert!(kept_bytes + newest.size_bytes > size.unwrap_or(u64::MAX));
            prop_assert!(kept.iter().all(|b| b.range.end_ms >= newest.range.end_ms));
        }
        let swap = Command::Expire { removed: expired };
        prop_assert!(store.state.apply(&swap).is_ok());
    }
}

/// Three days of flushes of one tenant, each `every` long, with merges after each.
fn three_days(every: i64, late: impl Fn(i64) -> Option<TimeRange>) -> Store {
    let mut store = Store::default();
    let mut now = 0;
    while now < 3 * DAY + HOUR {
        let mut blocks = vec![(0, TimeRange::new(now, now + every), 1000)];
        blocks.extend(late(now).map(|range| (0, range, 100)));
        store.flush(&blocks);
        now += every;
        store.merge_all(now);
        assert!(
            store.blocks().len() <= 60,
            "{} blocks at hour {}",
            store.blocks().len(),
            now / HOUR
        );
    }
    store
}

#[test]
fn data_in_time_is_written_at_most_six_times() {
    for every in [MINUTE, 5 * MINUTE, 2 * HOUR] {
        let store = three_days(every, |_| None);
        let days: Vec<u8> = store.blocks().iter().map(|b| b.level).filter(|l| *l == 5).collect();
        assert_eq!(days.len(), 3, "one block per day: {:?}", store.blocks());
        let factor = 1.0 + store.merged_bytes as f64 / store.rows() as f64;
        assert!(factor <= 6.0, "written {factor} times");
    }
}

#[test]
fn late_data_is_joined_at_a_bounded_cost() {
    // With every flush comes a tenth as much that is up to two days old.
    let late = |now: i64| {
        let start = (now - now * 7 % (2 * DAY)).max(0) / (5 * MINUTE) * (5 * MINUTE);
        Some(TimeRange::new(start, start + 5 * MINUTE))
    };
    let store = three_days(5 * MINUTE, late);
    let late_rows = 100 * (store.rows() / 1100);
    let bound = 5 * (store.rows() - late_rows) + 10 * late_rows;
    assert!(store.merged_bytes <= bound, "{} bytes merged, bound {bound}", store.merged_bytes);
}

#[test]
fn a_closed_window_becomes_one_block_and_an_open_one_waits() {
    let mut store = Store::default();
    for minute in [0, 5, 10] {
        let range = TimeRange::new(minute * MINUTE, (minute + 5) * MINUTE);
        store.flush(&[(0, range, 10), (1, range, 10)]);
    }
    let policy = MergePolicy::default();
    let closed = 2 * HOUR + policy.settle_ms;
    assert_eq!(plan_merge(&store.blocks(), closed - 1, &policy), None);
    let job = plan_merge(&store.blocks(), closed, &policy).expect("the window is closed");
    assert_eq!((job.tenant, job.level, job.size_bytes), (TenantId(0), 3, 30));
    assert_eq!(job.inputs, [BlockId(1), BlockId(3), BlockId(5)]);
    assert_eq!(job.range, TimeRange::new(0, 15 * MINUTE));
    store.flush(&[(1, TimeRange::new(20 * MINUTE, 25 * MINUTE), 10)]);
    let job = plan_merge(&store.blocks(), 30 * MINUTE, &policy).expect("four are enough");
    assert_eq!((job.tenant, job.level, job.inputs.len()), (TenantId(1), 1, 4));
}

/// Blocks of one byte per row, as a merge left them: day, hours of it, level, rows.
fn merged(blocks: &[(i64, std::ops::Range<i64>, u8, u64)]) -> Vec<BlockMeta> {
    let mut store = Store::default();
    for (day, hours, _, rows) in blocks {
        let range = TimeRange::new(day * DAY + hours.start * HOUR, day * DAY + hours.end * HOUR);
        store.flush(&[(0, range, *rows)]);
    }
    let levels = blocks.iter().map(|(_, _, level, _)| *level);
    store
        .blocks()
        .into_iter()
        .zip(levels)
        .map(|(meta, level)| BlockMeta { level, ..meta })
        .collect()
}

#[test]
fn days_past_their_retention_are_thinned_whole_and_once() {
    let thin = |blocks: &[BlockMeta], day| {
        plan_thin(blocks, day * DAY, &[15 * DAY], &MergePolicy::default())
            .map(|job| (job.inputs, job.level))
    };
    let one = merged(&[(10, 0..24, ROLLED_LEVEL, 9)]);
    let first = vec![one[0].id];
    assert_eq!(thin(&one, 26), None, "what came in at the end has time to reach a block");
    let hour_later = plan_thin(&one, 26 * DAY + HOUR, &[15 * DAY], &MergePolicy::default())
        .map(|job| job.inputs);
    assert_eq!(hour_later, Some(first));
    assert_eq!(thin(&merged(&[(10, 0..24, THINNED_LEVEL, 9)]), 99), None);
    // With what came late, and although no merge put the day together.
    let late = merged(&[(10, 0..24, THINNED_LEVEL, 9), (10, 3..4, 0, 1), (11, 0..2, 0, 1)]);
    assert_eq!(thin(&late, 27), Some((vec![late[0].id, late[1].id], THINNED_LEVEL)));
    // A block that fits no day stays as it is.
    assert_eq!(thin(&merged(&[(10, 20..30, 1, 9)]), 99), None);
}

#[test]
fn days_go_to_the_coarsest_tier_they_are_due_for() {
    let tiers = [15 * DAY, 90 * DAY];
    let thin = |blocks: &[BlockMeta], day: i64| {
        let job = plan_thin(blocks, day * DAY + HOUR, &tiers, &MergePolicy::default());
        job.map(|job| (job.inputs.len(), job.level))
    };
    let of = |level| merged(&[(10, 0..24, level, 9)]);
    assert_eq!(thin(&of(ROLLED_LEVEL), 26), Some((1, THINNED_LEVEL)));
    assert_eq!(thin(&of(THINNED_LEVEL), 100), None);
    assert_eq!(thin(&of(THINNED_LEVEL), 101), Some((1, THINNED_LEVEL + 1)));
    // The process was down in between.
    assert_eq!(thin(&of(ROLLED_LEVEL), 101), Some((1, THINNED_LEVEL + 1)));
    assert_eq!(thin(&of(THINNED_LEVEL + 1), 999), None);
    // What came late to a day that is in coarse rollups already joins them.
    let late = merged(&[(10, 0..24, THINNED_LEVEL + 1, 9), (10, 3..4, 0, 1)]);
    assert_eq!(thin(&late, 27), Some((2, THINNED_LEVEL + 1)));
    assert_eq!(thin(&late, 200), Some((2, THINNED_LEVEL + 1)));
}

#[test]
fn where_space_is_short_samples_go_before_rollups_down_to_half_of_it() {
    let blocks = merged(&[
        (1, 0..24, THINNED_LEVEL, 10),
        (2, 0..24, THINNED_LEVEL, 10),
        (20, 0..24, ROLLED_LEVEL, 50),
        (21, 0..24, ROLLED_LEVEL, 50),
        (22, 0..2, 3, 5),
    ]);
    let expired = |limit| {
        let retention = Retention { time_ms: None, size_bytes: Some(limit) };
        let expired = plan_expire(&blocks, 0, &retention);
        expired.iter().map(|id| blocks.iter().position(|b| b.id == *id)).collect::<Vec<_>>()
    };
    assert_eq!(expired(125), []);
    assert_eq!(expired(100), [Some(2)]);
    // The samples left are more than half, then less.
    assert_eq!(expired(60), [Some(2), Some(3)]);
    assert_eq!(expired(20), [Some(0), Some(2), Some(3)]);
    assert_eq!(expired(4).len(), 5);
}

#[test]
fn blocks_that_are_too_large_together_stay_as_they_are() {
    let mut store = Store::default();
    for hour in 0..24 {
        store.flush(&[(0, TimeRange::new(hour * HOUR, (hour + 1) * HOUR), 10)]);
    }
    let inputs = |max_bytes| {
        let policy = MergePolicy { max_bytes, ..MergePolicy::default() };
        plan_merge(&store.blocks(), 30 * DAY, &policy).map_or(0, |job| job.inputs.len())
    };
    // Days, which are split, whatever their size.
    assert_eq!([u64::MAX, 240, 1].map(inputs), [24, 24, 24]);
    let inputs = |max_bytes| {
        let policy = MergePolicy { max_bytes, ..MergePolicy::default() };
        let blocks = &store.blocks()[..18];
        plan_merge(blocks, 18 * HOUR + 20 * MINUTE, &policy).map_or(0, |job| job.inputs.len())
    };
    // A quarter of the day, a window, nothing.
    assert_eq!([60, 59, 19].map(inputs), [6, 2, 0]);
}

#[test]
fn a_window_that_grows_is_merged_when_the_policy_says() {
    let mut store = Store::default();
    let mut merged = Vec::new();
    for second in 0..12 {
        let start = second * 1_000;
        store.flush(&[(0, TimeRange::new(start, start + 1_000), 10)]);
        let policy = MergePolicy { fan_in: 12, ..MergePolicy::default() };
        let job = plan_merge(&store.blocks(), MINUTE, &policy);
        merged.push(job.map_or(0, |job| job.inputs.len()));
    }
    assert_eq!(merged, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12]);
}

/// What was left over when its window ended, or came late, does not stay in pieces.
#[test]
fn a_window_that_is_too_large_for_one_block_is_merged_in_parts() {
    let mut store = Store::default();
    for second in 0..11 {
        let start = second * 1_000;
        store.flush(&[(0, TimeRange::new(start, start + 1_000), 10)]);
    }
    let inputs = |max_bytes, now_ms| {
        let policy = MergePolicy { max_bytes, fan_in: 12, ..MergePolicy::default() };
        plan_merge(&store.blocks(), now_ms, &policy)
            .map(|job| (job.inputs.len(), job.level))
            .unwrap_or_default()
    };
    assert_eq!(inputs(109, HOUR), (0, 0));
    assert_eq!(inputs(109, 3 * HOUR), (10, 1));
    assert_eq!(inputs(50, 3 * HOUR), (5, 1));
    assert_eq!(inputs(39, 3 * HOUR), (0, 0));
    assert_eq!(inputs(110, 3 * HOUR), (11, 3));
}

/// As after an outage: its windows are large, and were not merged while the day went on.
#[test]
fn a_closed_day_is_one_job_however_large_its_windows_are() {
    let mut store = Store::default();
    for minute in 0..24 * 60 / 10 {
        let start = minute * 10 * MINUTE;
        store.flush(&[(0, TimeRange::new(start, start + 10 * MINUTE), 10)]);
    }
    let policy = MergePolicy { max_bytes: 50, ..MergePolicy::default() };
    let job = plan_merge(&store.blocks(), 2 * DAY, &policy).expect("a day");
    assert_eq!((job.inputs.len(), job.level), (144, 5));
    // Before it is closed, parts keep down how many there are.
    let job = plan_merge(&store.blocks(), 20 * HOUR, &policy).expect("a part");
    assert_eq!((job.inputs.len(), job.level), (5, 1));
}

/// They grew while nothing was merged for an hour: as many as fit are, not all or none.
#[test]
fn a_run_that_is_too_large_is_merged_in_parts() {
    let mut store = Store::default();
    for minute in 0..20 {
        store.flush(&[(0, TimeRange::new(minute * MINUTE, (minute + 1) * MINUTE), 10)]);
    }
    // Two that one flush wrote side by side are not torn apart.
    let range = TimeRange::new(20 * MINUTE, 21 * MINUTE);
    store.flush(&[(0, range, 10), (0, range, 10)]);
    let inputs = |blocks: &[BlockMeta], max_bytes| {
        let policy = MergePolicy { max_bytes, ..MergePolicy::default() };
        plan_merge(blocks, 30 * MINUTE, &policy)
            .map(|job| job.inputs.iter().map(|id| id.0).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let all = store.blocks();
    assert_eq!(inputs(&all, 220), (1..=22).collect::<Vec<_>>());
    assert_eq!(inputs(&all, 219), (1..=20).collect::<Vec<_>>());
    assert_eq!(inputs(&all, 59), (1..=5).collect::<Vec<_>>());
    assert_eq!(inputs(&all, 39), [0_u64; 0]);
    // One that is too large for all does not keep back those behind it.
    let mut uneven = all.clone();
    uneven[1].size_bytes = 1_000;
    assert_eq!(inputs(&uneven, 49), (3..=6).collect::<Vec<_>>());
}

/// A day that is larger than one block may be is written as several, once.
#[test]
fn a_day_in_several_blocks_is_done_and_is_thinned_as_a_whole() {
    let mut store = Store::default();
    for hour in 0..24 {
        store.flush(&[(0, TimeRange::new(hour * HOUR, (hour + 1) * HOUR), 100)]);
    }
    let policy = MergePolicy { max_bytes: 1_000, ..MergePolicy::default() };
    let split = |store: &mut Store, job: blockstore::MergeJob| {
        let part = |id: u64| NewBlock {
            id: BlockId(1_000 + store.next_id + id),
            tenant: job.tenant,
            signal: job.signal,
            range: job.range,
            rows: job.size_bytes / 3,
            series: 1,
            size_bytes: job.size_bytes / 3,
            level: job.level,
        };
        let added = (0..3).map(part).collect();
        store.next_id += 3;
        let swap = Command::Swap { removed: job.inputs, added, deletes_through: 0 };
        store.state.apply(&swap).expect("the order of commits is kept");
    };
    let job = plan_merge(&store.blocks(), 3 * DAY, &policy).expect("the day is over");
    assert_eq!((job.inputs.len(), job.level), (24, ROLLED_LEVEL));
    split(&mut store, job);
    assert_eq!(plan_merge(&store.blocks(), 3 * DAY, &policy), None);
    // What comes late is joined to all of them, when it has grown.
    store.flush(&[(0, TimeRange::new(0, HOUR), 500)]);
    assert_eq!(plan_merge(&store.blocks(), 3 * DAY, &policy), None);
    store.flush(&[(0, TimeRange::new(0, HOUR), 100)]);
    let job = plan_merge(&store.blocks(), 3 * DAY, &policy).expect("it is a quarter");
    assert_eq!((job.inputs.len(), job.level), (5, ROLLED_LEVEL));
    split(&mut store, job);
    let kept_ms = [5 * DAY];
    assert_eq!(plan_thin(&store.blocks(), 6 * DAY, &kept_ms, &policy), None);
    let job = plan_thin(&store.blocks(), 7 * DAY, &kept_ms, &policy).expect("it is old");
    assert_eq!((job.inputs.len(), job.level), (3, THINNED_LEVEL));
    split(&mut store, job);
    assert_eq!(plan_thin(&store.blocks(), 7 * DAY, &kept_ms, &policy), None);
    assert_eq!(plan_merge(&store.blocks(), 7 * DAY, &policy), None);
}

/// A day of metrics becomes one whatever its size, for its rollups; lines gain nothing by that.
#[test]
fn a_large_day_of_lines_is_not_made_one() {
    let policy = MergePolicy { max_bytes: 40, ..MergePolicy::default() };
    let quarters = |signal| -> Vec<BlockMeta> {
        let quarter = |at: u64| BlockMeta {
            id: BlockId(at),
            tenant: TenantId(0),
            signal,
            range: TimeRange::new(at as i64 * 6 * HOUR, (at as i64 + 1) * 6 * HOUR),
            rows: 20,
            series: 1,
            size_bytes: 20,
            level: 4,
            first_sequence: at,
            last_sequence: at,
            deletes_through: 0,
        };
        (0..4).map(quarter).collect()
    };
    let job = plan_merge(&quarters(Signal::Metrics), 2 * DAY, &policy).expect("a day");
    assert_eq!((job.inputs.len(), job.level), (4, 5));
    assert_eq!(plan_merge(&quarters(Signal::Logs), 2 * DAY, &policy), None);
    let small = MergePolicy { max_bytes: 80, ..policy };
    let job = plan_merge(&quarters(Signal::Logs), 2 * DAY, &small).expect("it fits");
    assert_eq!((job.inputs.len(), job.level, job.signal), (4, 5, Signal::Logs));
    // Parts of a quarter that fit are made one where the day does not.
    let mut parts = quarters(Signal::Logs);
    for (at, part) in parts.iter_mut().enumerate() {
        part.range = TimeRange::new(at as i64 * HOUR, (at as i64 + 1) * HOUR);
        (part.size_bytes, part.level) = (10, 0);
    }
    let far = TimeRange::new(7 * HOUR, 8 * HOUR);
    parts.push(BlockMeta {
        id: BlockId(9),
        range: far,
        size_bytes: 30,
        first_sequence: 9,
        last_sequence: 9,
        ..parts[0]
    });
    let job = plan_merge(&parts, 2 * DAY, &policy).expect("a quarter");
    assert_eq!((job.inputs.len(), job.level), (4, 4));
}
