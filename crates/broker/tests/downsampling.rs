//! Days that are kept less densely when they are old: the last sample of each interval stays, rollups
//! go on to count all, through power cuts and late samples.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blockstore::MemoryDisk;
use broker::{Broker, BrokerConfig, RollupTier};
use metricstore::{DownsamplingRule, DownsamplingRules};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use support::*;

clock!(CLOCK, now_ms);
clock!(OTHER_CLOCK, other_now_ms);

const WINDOW_MS: i64 = 5 * MINUTE_MS;
const INTERVAL_MS: i64 = 15_000;

fn equal(name: &str, value: &str) -> Matcher {
    Matcher::new(name, MatchOp::Equal, value).expect("no pattern")
}

/// Of one series, not of the others.
fn rule(after_ms: i64, interval_ms: i64) -> DownsamplingRule {
    let labels = labels(1);
    let (name, value) = labels.iter().find(|(name, _)| *name != "__name__").expect("a label");
    DownsamplingRule { selector: vec![equal(name, value)], after_ms, interval_ms }
}

fn with_rules(now_ms: fn() -> i64) -> BrokerConfig {
    let rules = vec![rule(7 * DAY_MS, MINUTE_MS), rule(DAY_MS, INTERVAL_MS)];
    BrokerConfig {
        rollups: vec![RollupTier { resolution_ms: WINDOW_MS, kept_ms: 40 * DAY_MS }],
        downsampling: DownsamplingRules::new(rules),
        ..config(Path::new("/nowhere"), now_ms, 1)
    }
}

fn to(t_ms: i64) {
    CLOCK.store(t_ms, Ordering::SeqCst);
}

/// Two series, each second for half an hour.
fn each_second(start_ms: i64) -> Vec<(usize, i64, f64)> {
    let at = |n: i64| [0, 1].map(|series| (series, start_ms + n * 1_000, (n % 700) as f64));
    (1..=1_800).flat_map(at).collect()
}

/// Number of samples, sum and least value that rollups tell of each window.
fn windows(broker: &Broker) -> Vec<(String, i64, u32, f64, f64)> {
    let range = TimeRange::new(START_MS + 1, START_MS + 2 * DAY_MS + 1);
    let matchers = [equal("__name__", "m")];
    let selected =
        broker.reader(DEFAULT_TENANT).select_windows(&matchers, range, WINDOW_MS).expect("blocks");
    let mut found = Vec::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let mut rows = Vec::new();
        assert!(selected.read_rows(index, WINDOW_MS, &mut rows).expect("blocks"));
        let told = |row: &model::RollupRow| (row.last_ms, row.count, row.sum, row.min);
        found.extend(
            rows.iter().map(told).map(|(t, n, sum, min)| (labels.to_string(), t, n, sum, min)),
        );
    }
    found
}

#[track_caller]
fn wait_until(broker: &Broker, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", broker.block_metas());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a rule leaves of samples each second.
fn last_of(model: &Samples, interval_ms: i64, end_ms: i64) -> Samples {
    let thinned = labels(1).to_string();
    let stays = |((name, t_ms), _): &(&(String, i64), &u64)| {
        *name != thinned || t_ms % interval_ms == 0 || *t_ms == end_ms
    };
    model.iter().filter(stays).map(|(key, value)| (key.clone(), *value)).collect()
}

#[test]
fn old_days_have_the_last_sample_of_each_interval() {
    // Late on a day, so that it is complete before it is a day old.
    let start_ms = (START_MS.div_euclid(DAY_MS) + 1) * DAY_MS - 2 * HOUR_MS;
    to(start_ms + HOUR_MS);
    let mut disk = MemoryDisk::new();
    let broker = open_on(&Arc::new(disk.clone()), with_rules(now_ms));
    let rows = each_second(start_ms);
    let mut model = Samples::new();
    // Four flushes become one block at once, which alone would stay as it is.
    for rows in rows.chunks(720) {
        ingest(&broker, rows).expect("a sound disk");
        wait_until(&broker, || metric(&broker, "watchfire_broker_head_samples") == 0.0);
    }
    note(&mut model, &rows);
    let levels = |broker: &Broker| -> Vec<u8> {
        broker.block_metas().iter().map(|(meta, _)| meta.level).collect()
    };

    // The day is complete, and not a day old.
    to(start_ms + 6 * HOUR_MS);
    wait_until(&broker, || levels(&broker) == [5]);
    assert_same(&read_all(&broker), &model, "a complete day");
    let told = windows(&broker);
    assert_eq!(told.iter().map(|window| window.2).sum::<u32>(), 3_600);
    assert_eq!(metric(&broker, "watchfire_broker_downsampled_blocks_total"), 0.0);

    to(start_ms + 2 * DAY_MS);
    let end_ms = start_ms + 1_800_000;
    let number = |broker: &Broker| metric(broker, "watchfire_broker_downsampled_blocks_total");
    wait_until(&broker, || number(&broker) == 1.0 && read_all(&broker).len() < model.len());
    let fewer = last_of(&model, INTERVAL_MS, end_ms);
    assert_eq!(fewer.len(), 1_800 + 120);
    assert_same(&read_all(&broker), &fewer, "after a day");
    assert_eq!(windows(&broker), told, "rollups count all");

    // It stays so, and is not written anew each time the maintenance looks.
    drop(broker);
    disk = disk.crash(7);
    let broker = open_on(&Arc::new(disk.clone()), with_rules(now_ms));
    assert_same(&read_all(&broker), &fewer, "after a power cut");
    to(start_ms + 3 * DAY_MS);
    let merges = metric(&broker, "watchfire_broker_merges_total");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((number(&broker), metric(&broker, "watchfire_broker_merges_total")), (0.0, merges));

    // The next rule.
    to(start_ms + 8 * DAY_MS);
    wait_until(&broker, || number(&broker) == 1.0 && read_all(&broker).len() < fewer.len());
    assert_same(&read_all(&broker), &last_of(&model, MINUTE_MS, end_ms), "after a week");
    assert_eq!(windows(&broker), told, "rollups count all");

    // The end of retention leaves the rollups, and calls nothing a conflict.
    to(start_ms + 18 * DAY_MS);
    wait_until(&broker, || levels(&broker) == [6]);
    assert_eq!(windows(&broker), told, "rollups count all");
    assert_eq!(metric(&broker, "watchfire_broker_block_conflicts_total"), 0.0);
}

#[test]
fn a_day_of_one_block_is_one_too() {
    let to = |t_ms| OTHER_CLOCK.store(t_ms, Ordering::SeqCst);
    to(START_MS + HOUR_MS);
    let broker = open_on(&Arc::new(MemoryDisk::new()), with_rules(other_now_ms));
    let start_ms = START_MS - START_MS.rem_euclid(MINUTE_MS);
    let rows = each_second(start_ms);
    let mut model = Samples::new();
    ingest(&broker, &rows).expect("a sound disk");
    note(&mut model, &rows);
    wait_until(&broker, || metric(&broker, "watchfire_broker_head_samples") == 0.0);
    to(START_MS + 2 * DAY_MS);
    let number = || metric(&broker, "watchfire_broker_downsampled_blocks_total");
    wait_until(&broker, || number() == 1.0 && read_all(&broker).len() < model.len());
    assert_same(
        &read_all(&broker),
        &last_of(&model, INTERVAL_MS, start_ms + 1_800_000),
        "a day old",
    );
    assert_eq!(windows(&broker).iter().map(|window| window.2).sum::<u32>(), 3_600);
}
