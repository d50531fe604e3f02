//! What is left of samples when their retention is over, against a naive model, through merges,
//! power cuts, deletes and the passing of time.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blockstore::{MemoryDisk, THINNED_LEVEL};
use broker::{Broker, BrokerConfig, RollupTier};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use support::chance::Chance;
use support::*;

clock!(CLOCK, now_ms);

const WINDOW_MS: i64 = 5 * MINUTE_MS;
const FINE_MS: i64 = 40 * DAY_MS;
const KEPT_MS: i64 = 100 * DAY_MS;
const SERIES: usize = 7;

fn with_rollups() -> BrokerConfig {
    BrokerConfig {
        rollups: vec![
            RollupTier { resolution_ms: WINDOW_MS, kept_ms: FINE_MS },
            RollupTier { resolution_ms: HOUR_MS, kept_ms: KEPT_MS },
        ],
        ..config(Path::new("/nowhere"), now_ms, 10)
    }
}

/// Samples, first time, first value, last time, last value, sum, increase.
type Row = (u64, i64, f64, i64, f64, f64, f64);
/// By series and window.
type Rows = BTreeMap<(String, i64), Row>;

fn window_of(t_ms: i64, window_ms: i64) -> i64 {
    (t_ms - 1).div_euclid(window_ms)
}

fn expected_rows(model: &Samples, window_ms: i64) -> Rows {
    let mut rows = Rows::new();
    for ((name, t_ms), bits) in model {
        let value = f64::from_bits(*bits);
        let row = rows
            .entry((name.clone(), window_of(*t_ms, window_ms)))
            .or_insert((0, *t_ms, value, *t_ms, value, 0.0, 0.0));
        let rise = if value < row.4 { value } else { value - row.4 };
        *row = (row.0 + 1, row.1, row.2, *t_ms, value, row.5 + value, row.6 + rise);
    }
    rows
}

/// The same rows in longer windows.
fn join(rows: &Rows, window_ms: i64) -> Rows {
    let mut joined = Rows::new();
    for ((name, _), row) in rows {
        add(&mut joined, (name.clone(), window_of(row.3, window_ms)), *row);
    }
    joined
}

/// Adds a row that is later than those before to its window.
fn add(rows: &mut Rows, at: (String, i64), row: Row) {
    rows.entry(at)
        .and_modify(|all| {
            let between = if row.2 < all.4 { row.2 } else { row.2 - all.4 };
            *all =
                (all.0 + row.0, all.1, all.2, row.3, row.4, all.5 + row.5, all.6 + between + row.6);
        })
        .or_insert(row);
}

/// What the broker says of whole windows, and how many rows said it.
fn read_rows(broker: &Broker, window_ms: i64) -> (Rows, usize) {
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no pattern");
    let end = (START_MS + 10 * DAY_MS).div_euclid(window_ms) * window_ms;
    let range = TimeRange::new(1, end + 1);
    let reader = broker.reader(DEFAULT_TENANT);
    let selected = reader.select_windows(&[matcher], range, window_ms).expect("sound blocks");
    let (mut found, mut count) = (Rows::new(), 0);
    for (index, labels) in selected.labels().iter().enumerate() {
        let mut rows = Vec::new();
        let window_ms = selected.window_ms().expect("there are rollups");
        assert!(selected.read_rows(index, window_ms, &mut rows).expect("sound blocks"));
        count += rows.len();
        for row in rows {
            let rise = row.last - row.first + row.before_resets;
            let (samples, sum) = (u64::from(row.count), row.sum);
            let new = (samples, row.first_ms, row.first, row.last_ms, row.last, sum, rise);
            add(&mut found, (labels.to_string(), window_of(row.last_ms, window_ms)), new);
        }
    }
    (found, count)
}

/// Waits until the head is in blocks and no merge is left to do.
#[track_caller]
fn settle(broker: &Broker, is_settled: impl Fn(&[broker::BlockMeta]) -> bool) {
    let started = Instant::now();
    let metas = || broker.block_metas().into_iter().map(|(meta, _)| meta).collect::<Vec<_>>();
    while metric(broker, "watchfire_broker_head_samples") > 0.0 || !is_settled(&metas()) {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", metas());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn to(t_ms: i64) {
    CLOCK.store(t_ms, Ordering::SeqCst);
}

/// Counters with resets and gaps, in steps that do not divide a window; whole numbers, so that sums
/// are exact in any order.
fn some_hours(chance: &mut Chance, start_ms: i64, hours: i64) -> Vec<(usize, i64, f64)> {
    let mut rows = Vec::new();
    for series in 0..SERIES {
        let (mut t_ms, mut value) = (start_ms + chance.below(9_000) as i64, 0.0);
        while t_ms < start_ms + hours * HOUR_MS {
            value = if chance.below(40) == 0 { 0.0 } else { value + chance.below(9) as f64 };
            rows.push((series, t_ms, value));
            let gap_ms = if chance.below(60) == 0 { 40 * MINUTE_MS } else { 0 };
            t_ms += 71_000 + gap_ms;
        }
        // On the border between two days.
        rows.push((series, start_ms, value));
    }
    rows.sort_by_key(|row| row.1);
    rows
}

#[test]
fn rollups_say_what_the_samples_said() {
    for seed in 0..4 {
        let mut chance = Chance(seed);
        to(START_MS);
        let mut disk = MemoryDisk::new();
        let mut broker = open_on(&Arc::new(disk.clone()), with_rollups());
        let mut model = Samples::new();
        for part in 0..12 {
            let start_ms = START_MS + part * 4 * HOUR_MS;
            to(start_ms + 4 * HOUR_MS);
            let rows = some_hours(&mut chance, start_ms, 4);
            ingest(&broker, &rows).expect("a sound disk");
            note(&mut model, &rows);
            if chance.below(3) == 0 {
                drop(broker);
                disk = disk.crash(seed * 100 + part as u64);
                broker = open_on(&Arc::new(disk.clone()), with_rollups());
            }
            settle(&broker, |_| true);
        }
        // The days are complete and merged.
        to(START_MS + 3 * DAY_MS);
        settle(&broker, |metas| metas.iter().all(|meta| meta.level == 5));
        assert_same(&read_all(&broker), &model, &format!("seed {seed}, merged"));
        for window_ms in [WINDOW_MS, 12 * WINDOW_MS] {
            let (found, rows) = read_rows(&broker, window_ms);
            assert_eq!(found, expected_rows(&model, window_ms), "seed {seed}, {window_ms}");
            assert!(rows * 3 < model.len(), "{rows} rows for {} samples", model.len());
        }

        // Late samples among those of before.
        let late: Vec<_> = (0..20).map(|n| (n % 3, START_MS + 7_777 + n as i64, 3.0)).collect();
        ingest(&broker, &late).expect("a sound disk");
        note(&mut model, &late);
        let (found, _) = read_rows(&broker, WINDOW_MS);
        assert_eq!(found, expected_rows(&model, WINDOW_MS), "seed {seed}, late");

        // The samples are past their retention.
        to(START_MS + 18 * DAY_MS);
        settle(&broker, |metas| metas.iter().all(|meta| meta.level == THINNED_LEVEL));
        drop(broker);
        disk = disk.crash(seed);
        broker = open_on(&Arc::new(disk.clone()), with_rollups());
        let windows = expected_rows(&model, WINDOW_MS);
        assert_eq!(read_rows(&broker, WINDOW_MS).0, windows, "seed {seed}, thinned");
        let found = read_rows(&broker, 12 * WINDOW_MS).0;
        assert_eq!(found, expected_rows(&model, 12 * WINDOW_MS), "seed {seed}, thinned");
        let last =
            |((name, _), row): (&(String, i64), &Row)| ((name.clone(), row.3), row.4.to_bits());
        // At midnight a window has a row on either side.
        let mut lasts: Samples = windows.iter().map(last).collect();
        let midnight = START_MS + DAY_MS;
        lasts.extend(
            model.iter().filter(|((_, t), _)| *t == midnight).map(|(k, v)| (k.clone(), *v)),
        );
        let before = TimeRange::new(midnight - WINDOW_MS + 1, midnight);
        for series in 0..SERIES {
            let of_series = |((name, t_ms), _): &(&(String, i64), &u64)| {
                *name == labels(series).to_string() && before.contains(*t_ms)
            };
            let last = model.iter().filter(of_series).max_by_key(|((_, t_ms), _)| *t_ms);
            lasts.extend(last.map(|(k, v)| (k.clone(), *v)));
        }
        assert_same(&read_all(&broker), &lasts, &format!("seed {seed}, last ones"));

        // A delete takes the windows it meets, at once and for good.
        let cut = TimeRange::new(START_MS + HOUR_MS + 30_000, START_MS + 2 * HOUR_MS);
        let odd = [vec![Matcher::new("job", MatchOp::Equal, "odd").expect("no pattern")]];
        broker.delete_series(DEFAULT_TENANT, &odd, cut).expect("a sound disk");
        let is_odd = |name: &str| name.contains("odd");
        let is_cut = |row: &Row| row.1 < cut.end_ms && cut.start_ms <= row.3;
        let left: Rows =
            windows.into_iter().filter(|((name, _), row)| !(is_odd(name) && is_cut(row))).collect();
        assert_eq!(read_rows(&broker, WINDOW_MS).0, left, "seed {seed}, deleted");
        broker.clean_deleted().expect("a sound disk");
        assert_eq!(read_rows(&broker, WINDOW_MS).0, left, "seed {seed}, cleaned");

        // Rows of hours take their place, day by day: what fits both is told across the border.
        let in_hours = join(&left, HOUR_MS);
        for days in [FINE_MS / DAY_MS + 1, FINE_MS / DAY_MS + 3] {
            to(START_MS + days * DAY_MS + 2 * HOUR_MS);
            let is_due =
                |meta: &broker::BlockMeta| meta.range.end_ms <= now_ms() - FINE_MS - HOUR_MS;
            settle(&broker, |metas| {
                metas.iter().all(|meta| (meta.level > THINNED_LEVEL) == is_due(meta))
            });
            assert_eq!(read_rows(&broker, HOUR_MS).0, in_hours, "seed {seed}, day {days}");
        }
        drop(broker);
        disk = disk.crash(seed);
        broker = open_on(&Arc::new(disk.clone()), with_rollups());
        assert_eq!(read_rows(&broker, HOUR_MS).0, in_hours, "seed {seed}, started again");

        to(START_MS + KEPT_MS + 5 * DAY_MS);
        settle(&broker, <[_]>::is_empty);
        broker.stop();
    }
}
