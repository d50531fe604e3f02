//! Where series come from, by days, against a naive count; through flushes, merges and deletes.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use blockstore::MemoryDisk;
use broker::Broker;
use model::{
    CensusEntry, CensusOrder, CensusReport, CensusRequest, DEFAULT_TENANT, MatchOp, Matcher,
    TimeRange,
};
use support::chance::Chance;
use support::*;

clock!(CLOCK, now_ms);

const SERIES: u64 = 40;
const YESTERDAY: TimeRange =
    TimeRange { start_ms: START_MS - 2 * DAY_MS, end_ms: START_MS - DAY_MS };
const TODAY: TimeRange = TimeRange { start_ms: START_MS - DAY_MS, end_ms: START_MS };

/// Numbers of the series that have a sample, by day.
type Days = [BTreeSet<usize>; 2];

fn equal(name: &str, value: &str) -> Vec<Matcher> {
    vec![Matcher::new(name, MatchOp::Equal, value).expect("no pattern")]
}

fn request(selectors: Vec<Vec<Matcher>>) -> CensusRequest {
    CensusRequest {
        selectors,
        range: TODAY,
        before: Some(YESTERDAY),
        limit: 1_000,
        order: CensusOrder::Count,
        focus: Some("series".to_owned()),
    }
}

fn census(broker: &Broker, request: &CensusRequest) -> CensusReport {
    broker.reader(DEFAULT_TENANT).census(request).expect("memory suffices")
}

fn entry([before, now]: [&BTreeSet<usize>; 2]) -> (u64, u64, u64) {
    (now.len() as u64, before.len() as u64, now.difference(before).count() as u64)
}

fn told(one: &CensusEntry) -> (u64, u64, u64) {
    (one.count, one.before, one.new)
}

/// What a census of the series that `wanted` chooses must say.
fn check(report: &CensusReport, days: &Days, wanted: impl Fn(usize) -> bool, when: &str) {
    let chosen = days.each_ref().map(|day| -> BTreeSet<usize> {
        day.iter().copied().filter(|series| wanted(*series)).collect()
    });
    assert_eq!(told(&report.series), entry([&chosen[0], &chosen[1]]), "{when}");
    let mut pairs: BTreeMap<String, [BTreeSet<usize>; 2]> = BTreeMap::new();
    for (day, series) in chosen.iter().enumerate() {
        for &one in series {
            for (name, value) in labels(one).iter() {
                pairs.entry(format!("{name}={value}")).or_default()[day].insert(one);
            }
        }
    }
    let expected: BTreeMap<String, (u64, u64, u64)> =
        pairs.iter().map(|(pair, [before, now])| (pair.clone(), entry([before, now]))).collect();
    let found: BTreeMap<String, (u64, u64, u64)> =
        report.series_by_pair.iter().map(|one| (one.name.clone(), told(one))).collect();
    assert_eq!(found, expected, "{when}");
    let is_sorted = report.series_by_pair.is_sorted_by(|a, b| a.count >= b.count);
    assert!(is_sorted, "{when}: the largest come first");
    let values = report.values_by_label.iter().find(|one| one.name == "series");
    assert_eq!(values.map_or((0, 0, 0), told), entry([&chosen[0], &chosen[1]]), "{when}");
    assert_eq!(report.series_by_focus_value.len(), chosen[0].union(&chosen[1]).count(), "{when}");
}

#[test]
fn days_are_counted_as_a_list_of_series_would_be() {
    for seed in 0..8 {
        let mut chance = Chance(seed);
        let disk = MemoryDisk::new();
        let config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
        let broker = open_on(&std::sync::Arc::new(disk), config);
        let mut days = Days::default();
        for step in 0..30 {
            match chance.below(10) {
                0..6 => {
                    let rows: Vec<_> = (0..=chance.below(20))
                        .map(|_| {
                            let t_ms =
                                YESTERDAY.start_ms + MINUTE_MS * chance.below(2 * 24 * 60) as i64;
                            (chance.below(SERIES) as usize, t_ms, chance.below(5) as f64)
                        })
                        .collect();
                    ingest(&broker, &rows).expect("a sound disk");
                    for (series, t_ms, _) in rows {
                        days[usize::from(TODAY.contains(t_ms))].insert(series);
                    }
                }
                6 => {
                    let series = chance.below(SERIES) as usize;
                    let selector = equal("series", &series.to_string());
                    broker
                        .delete_series(DEFAULT_TENANT, &[selector], TimeRange::all())
                        .expect("a sound disk");
                    for day in &mut days {
                        day.remove(&series);
                    }
                }
                7 => broker.clean_deleted().expect("a sound disk"),
                // Everything goes into blocks first.
                _ => broker.snapshot(&format!("copy-{step}"), true).expect("a sound disk"),
            }
            let when = format!("seed {seed}, step {step}");
            check(&census(&broker, &request(Vec::new())), &days, |_| true, &when);
            let odd_or_four = vec![equal("job", "odd"), equal("series", "4"), equal("series", "5")];
            let wanted = |series: usize| !series.is_multiple_of(2) || series == 4;
            check(&census(&broker, &request(odd_or_four)), &days, wanted, &when);
        }
    }
}

#[test]
fn a_census_counts_as_the_memory_of_its_query_and_stops_with_it() {
    let disk = MemoryDisk::new();
    let mut config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    config.flush_bytes = 1 << 30;
    let broker = open_on(&std::sync::Arc::new(disk), config);
    let rows: Vec<_> = (0..5_000).map(|series| (series, TODAY.start_ms, 1.0)).collect();
    ingest(&broker, &rows).expect("a sound disk");
    let governor = governor::Governor::unlimited();
    let account = governor.account();
    let reader = broker.reader_for(DEFAULT_TENANT, std::sync::Arc::clone(&account));
    let report = reader.census(&request(Vec::new())).expect("memory suffices");
    assert_eq!(told(&report.series), (5_000, 0, 5_000));
    assert!(account.peak_bytes() > 5_000 * 20, "{} bytes were counted", account.peak_bytes());
    assert_eq!(account.bytes(), 0);
    account.stop("nobody waits".to_owned());
    reader.census(&request(Vec::new())).expect_err("it is stopped");
}
