//! Exemplars against a searched list, through flushes, deletes, copies, kills and power cuts.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use blockstore::{Disk, DiskBelow, MemoryDisk};
use broker::{Broker, BrokerConfig, IngestOutcome};
use model::{DEFAULT_TENANT, Exemplar, Labels, MatchOp, Matcher, MetricBatch, TimeRange};
use support::chance::Chance;
use support::*;

clock!(CLOCK, now_ms);

/// Fewer than are sent, so that some give way.
const MAX_EXEMPLARS: usize = 25;
const SERIES: u64 = 7;

/// What is kept, in the order in which it came.
#[derive(Default, Clone)]
struct Naive(Vec<(usize, Exemplar)>);

impl Naive {
    fn standing(&self, series: usize, exemplar: &Exemplar) -> &'static str {
        if let Some((_, newest)) = self.0.iter().rev().find(|(of, _)| *of == series) {
            if exemplar.repeats(newest) {
                return "repeated";
            }
            if exemplar.is_before(newest) {
                return "out of order";
            }
        }
        "stored"
    }

    fn push(&mut self, series: usize, exemplar: &Exemplar) -> &'static str {
        let standing = self.standing(series, exemplar);
        if standing == "stored" {
            self.0.push((series, exemplar.clone()));
            if self.0.len() > MAX_EXEMPLARS {
                self.0.remove(0);
            }
        }
        standing
    }

    /// As Prometheus: all of a request are compared with what was there before it, and those that
    /// are left with one another.
    fn push_all(&mut self, exemplars: &[(usize, Exemplar)]) -> BTreeMap<&'static str, u64> {
        let before = self.clone();
        let mut counts = BTreeMap::new();
        for (series, exemplar) in exemplars {
            let standing = match before.standing(*series, exemplar) {
                "stored" => self.push(*series, exemplar),
                known => known,
            };
            *counts.entry(standing).or_default() += 1;
        }
        counts
    }

    fn forget(&mut self, series: usize, range: TimeRange) {
        self.0.retain(|(of, exemplar)| *of != series || !range.contains(exemplar.t_ms));
        for (of, exemplar) in std::mem::take(&mut self.0) {
            self.push(of, &exemplar);
        }
    }

    fn shown(&self) -> Shown {
        let mut shown = Shown::new();
        for (series, exemplar) in &self.0 {
            shown.entry(labels(*series).to_string()).or_default().push(text(exemplar));
        }
        shown
    }
}

type Shown = BTreeMap<String, Vec<String>>;

fn text(exemplar: &Exemplar) -> String {
    let Exemplar { labels, value, t_ms, is_dated } = exemplar;
    format!("{labels} {value} @{t_ms} {is_dated}")
}

fn kept(broker: &Broker) -> Shown {
    let all = [vec![Matcher::new("__name__", MatchOp::Equal, "m").expect("no pattern")]];
    let found = broker.reader(DEFAULT_TENANT).exemplars(&all, TimeRange::all());
    let found = found.expect("memory suffices");
    assert!(found.is_sorted_by(|a, b| a.labels < b.labels));
    found
        .iter()
        .map(|series| (series.labels.to_string(), series.exemplars.iter().map(text).collect()))
        .collect()
}

fn open_seeded(disk: &MemoryDisk, seed: u64) -> Broker {
    open_on(&Arc::new(disk.clone()), settings(seed))
}

/// With odd seeds a flush is always urgent.
fn settings(seed: u64) -> BrokerConfig {
    let mut config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    config.max_exemplars = MAX_EXEMPLARS;
    if seed % 2 == 1 {
        config.flush_bytes = 1;
    }
    config
}

fn exemplar(trace: u64, value: f64, t_ms: i64, is_dated: bool) -> Exemplar {
    let trace = format!("{trace:032x}");
    let labels = Labels::from_pairs([("trace_id", trace.as_str())]).expect("valid");
    Exemplar { labels, value, t_ms, is_dated }
}

fn some_exemplars(chance: &mut Chance) -> Vec<(usize, Exemplar)> {
    (0..=chance.below(12))
        .map(|_| {
            let t_ms = START_MS - 1_000 + 10 * chance.below(60) as i64;
            let value = chance.below(3) as f64;
            let of = exemplar(chance.below(4), value, t_ms, chance.below(4) > 0);
            (chance.below(SERIES) as usize, of)
        })
        .collect()
}

/// A sample of each series and the exemplars.
fn batch_of(exemplars: &[(usize, Exemplar)], t_ms: i64) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for (series, exemplar) in exemplars {
        batch.push(&labels(*series), t_ms, 1.0);
        batch.push_exemplar(&labels(*series), exemplar);
    }
    batch
}

fn write(broker: &Broker, exemplars: &[(usize, Exemplar)], t_ms: i64) -> IngestOutcome {
    send(broker, &batch_of(exemplars, t_ms)).recv().expect("answered").expect("a sound disk")
}

#[test]
fn any_writes_flushes_deletes_and_restarts_keep_what_a_list_would() {
    for seed in 0..10 {
        let mut chance = Chance(seed);
        let mut disk = MemoryDisk::new();
        let mut broker = open_seeded(&disk, seed);
        let mut model = Naive::default();
        for step in 0..80_u64 {
            let when = format!("seed {seed}, step {step}");
            match chance.below(12) {
                0..7 => {
                    let mut exemplars = some_exemplars(&mut chance);
                    // Neighbours of one series are put in order.
                    exemplars.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.order(&b.1)));
                    let outcome = write(&broker, &exemplars, START_MS + step as i64).exemplars;
                    let counts = model.push_all(&exemplars);
                    let count = |what| counts.get(what).copied().unwrap_or(0);
                    assert_eq!(
                        (outcome.stored, outcome.repeated, outcome.out_of_order),
                        (count("stored"), count("repeated"), count("out of order")),
                        "{when}"
                    );
                }
                7 => {
                    let series = chance.below(SERIES) as usize;
                    let from = START_MS - 1_000 + 10 * chance.below(60) as i64;
                    let range = TimeRange::new(from, from + 200);
                    let number = series.to_string();
                    let selector = Matcher::new("series", MatchOp::Equal, number).expect("plain");
                    let deleted = broker.delete_series(DEFAULT_TENANT, &[vec![selector]], range);
                    deleted.expect("a sound disk");
                    model.forget(series, range);
                }
                8 => broker.clean_deleted().expect("a sound disk"),
                9..11 => {
                    // Everything acknowledged is durable.
                    let next = match chance.below(2) {
                        0 => disk.crash(seed * 100 + step),
                        _ => disk.kill(),
                    };
                    drop(broker);
                    disk = next;
                    broker = open_seeded(&disk, seed);
                }
                _ => {
                    let name = format!("copy-{step}");
                    broker.snapshot(&name, true).expect("a sound disk");
                    check_copy(&disk, &name, &model, seed);
                }
            }
            assert_eq!(kept(&broker), model.shown(), "{when}");
        }
    }
}

/// The copy has the same, also after a power cut, and goes on for itself.
fn check_copy(disk: &MemoryDisk, name: &str, model: &Naive, seed: u64) {
    let crashed: Arc<dyn Disk> = Arc::new(disk.crash(seed));
    let below = Arc::new(DiskBelow::new(crashed, format!("snapshots/{name}")));
    let mut model = model.clone();
    for round in 0..3 {
        let copy = open_on(&below, settings(seed));
        assert_eq!(kept(&copy), model.shown(), "seed {seed}, {name}, start {round}");
        let more = [(1, exemplar(9, 1.0, START_MS + round, true))];
        assert_eq!(write(&copy, &more, START_MS + 500 + round).exemplars.stored, 1);
        model.push(1, &more[0].1);
        copy.stop();
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_told_and_samples_are_not_concerned() {
    let disk = MemoryDisk::new();
    let broker = open_seeded(&disk, 0);
    write(&broker, &[(1, exemplar(1, 1.0, START_MS, true))], START_MS);
    broker.snapshot("flushes", true).expect("a sound disk");
    write(&broker, &[(2, exemplar(2, 1.0, START_MS, true))], START_MS + 1);
    broker.stop();
    let file = disk.list("exemplars").expect("memory").remove(0).key;
    let bytes = {
        let file = disk.open(&file).expect("listed");
        let mut bytes = vec![0; file.size_bytes() as usize];
        file.read_exact_at(0, &mut bytes).expect("memory");
        bytes
    };
    disk.remove(&file).expect("memory");
    let mut damaged = disk.create(&file).expect("memory");
    damaged.append(&[&bytes[..bytes.len() - 1], &[!bytes[bytes.len() - 1]]]).expect("memory");
    damaged.sync_data().expect("memory");
    disk.sync_directory("exemplars").expect("memory");
    let broker = open_seeded(&disk, 0);
    let names: Vec<_> = kept(&broker).into_keys().collect();
    assert_eq!(names, [labels(2).to_string()], "what was still in the log is there");
    assert_eq!(read_all(&broker).len(), 2);
    assert_eq!((broker.corruptions(), broker.recovered().damaged_exemplars), (1, 1));
    let set_aside = disk.list("quarantine").expect("memory");
    assert_eq!(set_aside.len(), 1, "{set_aside:?}");
    broker.stop();
    assert_eq!(open_seeded(&disk, 0).corruptions(), 0, "once");
}

#[test]
fn what_cannot_be_kept_is_counted_and_harms_nothing_else() {
    let disk = MemoryDisk::new();
    let broker = open_seeded(&disk, 0);
    let mut batch = batch_of(&[(1, exemplar(1, 1.0, START_MS, true))], START_MS);
    batch.push_exemplar(&labels(2), &exemplar(1, 1.0, START_MS, true));
    let long = "x".repeat(120);
    let too_long = Labels::from_pairs([("trace_id", long.as_str()), ("a", "b")]).expect("valid");
    let of = |labels, t_ms| Exemplar { labels, value: 1.0, t_ms, is_dated: true };
    batch.push_exemplar(&labels(1), &of(too_long, START_MS));
    batch.push_exemplar(&labels(1), &of(Labels::empty(), START_MS + 3_600_000));
    let outcome = send(&broker, &batch).recv().expect("answered").expect("a sound disk");
    assert_eq!((outcome.appended.appended, outcome.exemplars.stored), (1, 1));
    assert_eq!(outcome.complaint(), None, "as in Prometheus");
    for (name, count) in [
        ("exemplars", 1.0),
        ("exemplar_series", 1.0),
        ("exemplars_limit", MAX_EXEMPLARS as f64),
        ("exemplars_stored_total", 1.0),
        ("exemplars_unknown_series_total", 1.0),
        ("exemplars_too_long_total", 1.0),
        ("exemplars_out_of_bounds_total", 1.0),
    ] {
        assert_eq!(metric(&broker, &format!("watchfire_broker_{name}")), count, "{name}");
    }
    // A series without samples in this batch, but in an earlier one; then the same in every scrape.
    let mut alone = MetricBatch::default();
    alone.push_exemplar(&labels(1), &exemplar(5, 5.0, START_MS + 1, false));
    let outcome = send(&broker, &alone).recv().expect("answered").expect("a sound disk");
    assert_eq!(outcome.exemplars.stored, 1);
    let frames = metric(&broker, "watchfire_blockstore_log_frames_total");
    alone.exemplars[0].t_ms += 15_000;
    let outcome = send(&broker, &alone).recv().expect("answered").expect("a sound disk");
    assert_eq!(outcome.exemplars.repeated, 1);
    assert_eq!(metric(&broker, "watchfire_blockstore_log_frames_total"), frames, "not logged");
    broker.stop();
    let mut off = settings(0);
    off.max_exemplars = 0;
    let broker = open_on(&Arc::new(disk.clone()), off);
    let outcome = write(&broker, &[(1, exemplar(6, 1.0, START_MS + 9, true))], START_MS + 9);
    assert_eq!(outcome.exemplars, Default::default());
    assert!(kept(&broker).is_empty());
    assert_eq!(metric(&broker, "watchfire_broker_exemplars_left_out_total"), 1.0);
}

clock!(RETENTION, retention_ms);

#[test]
fn exemplars_older_than_the_retention_are_not_shown() {
    let disk = MemoryDisk::new();
    let mut config = BrokerConfig { now_ms: retention_ms, ..settings(0) };
    config.retention.time_ms = Some(1_000);
    let broker = open_on(&Arc::new(disk), config);
    write(&broker, &[(1, exemplar(1, 1.0, START_MS - 900, true))], START_MS);
    write(&broker, &[(1, exemplar(2, 1.0, START_MS, true))], START_MS + 1);
    assert_eq!(kept(&broker).into_values().next().expect("a series").len(), 2);
    RETENTION.fetch_add(200, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(kept(&broker).into_values().next().expect("a series").len(), 1);
}
