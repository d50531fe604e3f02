//! Deletes and copies against a naive model, through flushes, restarts and power cuts.

mod support;

use std::sync::Arc;

use blockstore::{Disk, DiskBelow, MemoryDisk};
use broker::{Broker, CommitError};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use support::chance::Chance;
use support::*;

clock!(CLOCK, now_ms);

fn equal(name: &str, value: &str) -> Vec<Matcher> {
    vec![Matcher::new(name, MatchOp::Equal, value).expect("no pattern")]
}

fn open_memory(disk: &MemoryDisk) -> Broker {
    let config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    open_on(&Arc::new(disk.clone()), config)
}

/// With odd seeds a flush is always urgent: also in the middle of a cleaning or copy.
fn open_seeded(disk: &MemoryDisk, seed: u64) -> Broker {
    let mut config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    if seed % 2 == 1 {
        config.flush_bytes = 1;
    }
    open_on(&Arc::new(disk.clone()), config)
}

fn delete(broker: &Broker, model: &mut Samples, selector: &[Matcher], range: TimeRange) {
    let wanted = [selector.to_vec()];
    broker.delete_series(DEFAULT_TENANT, &wanted, range).expect("a sound disk");
    forget(model, selector, range);
}

/// What a delete does to the model.
fn forget(model: &mut Samples, selector: &[Matcher], range: TimeRange) {
    let is_hit = |name: &str| {
        (0..SERIES).any(|series| {
            let labels = labels(series);
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            labels.to_string() == name && selector.iter().all(matches)
        })
    };
    model.retain(|(name, t_ms), _| !(range.contains(*t_ms) && is_hit(name)));
}

const SERIES: usize = 9;

/// Some rows whose times recur, so that what was deleted is sent again.
fn some_rows(chance: &mut Chance) -> Vec<(usize, i64, f64)> {
    (0..=chance.below(30))
        .map(|_| {
            let series = chance.below(SERIES as u64) as usize;
            let t_ms = START_MS - 2 * HOUR_MS + 60_000 * chance.below(90) as i64;
            (series, t_ms, chance.below(5) as f64)
        })
        .collect()
}

fn some_delete(chance: &mut Chance) -> (Vec<Matcher>, TimeRange) {
    let selector = match chance.below(4) {
        0 => equal("job", "even"),
        1 => equal("series", &chance.below(SERIES as u64).to_string()),
        2 => vec![Matcher::new("series", MatchOp::Regex, "[0-4]").expect("a pattern")],
        _ => equal("__name__", "m"),
    };
    let from = START_MS - 2 * HOUR_MS + 60_000 * chance.below(90) as i64;
    let range = match chance.below(3) {
        0 => TimeRange::all(),
        1 => TimeRange::new(from, from + 1_200_000),
        _ => TimeRange::new(i64::MIN, from),
    };
    (selector, range)
}

#[test]
fn any_writes_deletes_cleanings_and_restarts_answer_as_a_map_would() {
    for seed in 0..12 {
        let mut chance = Chance(seed);
        let mut disk = MemoryDisk::new();
        let mut broker = open_seeded(&disk, seed);
        let mut model = Samples::new();
        for step in 0..60 {
            match chance.below(12) {
                0..6 => {
                    let rows = some_rows(&mut chance);
                    ingest(&broker, &rows).expect("a sound disk");
                    note(&mut model, &rows);
                }
                6..9 => {
                    let (selector, range) = some_delete(&mut chance);
                    delete(&broker, &mut model, &selector, range);
                }
                9 => {
                    broker.clean_deleted().expect("a sound disk");
                    assert_eq!(metric(&broker, "watchfire_broker_deletes_pending"), 0.0);
                }
                10 => {
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
                    let with_head = chance.below(2) == 0;
                    broker.snapshot(&name, with_head).expect("a sound disk");
                    if with_head {
                        check_copy(&disk, &name, &model, seed);
                    }
                }
            }
            assert_same(&read_all(&broker), &model, &format!("seed {seed}, step {step}"));
        }
        broker.clean_deleted().expect("a sound disk");
        assert_same(&read_all(&broker), &model, &format!("seed {seed}, cleaned"));
    }
}

/// The copy answers the same, also after a power cut, and goes on for itself.
fn check_copy(disk: &MemoryDisk, name: &str, model: &Samples, seed: u64) {
    let crashed: Arc<dyn Disk> = Arc::new(disk.crash(seed));
    let below = Arc::new(DiskBelow::new(crashed, format!("snapshots/{name}")));
    let mut expected = model.clone();
    for round in 0..2 {
        let copy = open_on(&below, config(std::path::Path::new("/copy"), now_ms, NEVER_MS));
        assert_same(&read_all(&copy), &expected, &format!("seed {seed}, {name}, start {round}"));
        let rows = [(1, START_MS + 1_000 + round, 7.0)];
        ingest(&copy, &rows).expect("a sound disk");
        note(&mut expected, &rows);
        copy.stop();
    }
}

#[test]
fn a_sample_sent_again_after_a_delete_is_new() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let row = |value| [(1, START_MS, value)];
    ingest(&broker, &row(1.0)).expect("a sound disk");
    broker.clean_deleted().expect("nothing to do");
    let mut model = Samples::new();
    delete(&broker, &mut model, &equal("series", "1"), TimeRange::all());
    assert!(read_all(&broker).is_empty());
    let again = ingest(&broker, &row(2.0)).expect("a sound disk");
    assert_eq!((again.appended.appended, again.appended.conflicts), (1, 0));
    note(&mut model, &row(2.0));
    assert_same(&read_all(&broker), &model, "sent again");
    broker.clean_deleted().expect("a sound disk");
    assert_same(&read_all(&broker), &model, "cleaned");
    drop(broker);
    assert_same(&read_all(&open_memory(&disk.crash(3))), &model, "restarted");
}

#[test]
fn series_and_labels_of_deleted_series_are_gone_before_and_after_cleaning() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    ingest(&broker, &[(1, START_MS, 1.0), (2, START_MS, 1.0), (3, START_MS, 1.0)])
        .expect("a sound disk");
    let listed = |broker: &Broker| {
        let reader = broker.reader(DEFAULT_TENANT);
        let values = reader.label_values("series", &[], TimeRange::all(), 9);
        let values = values.expect("memory suffices");
        let series = reader.series(&[], TimeRange::all(), 9).expect("sound blocks");
        (values, series.len())
    };
    let all = ["1", "2", "3"].map(str::to_owned).to_vec();
    assert_eq!(listed(&broker), (all, 3));
    let mut model = Samples::new();
    delete(&broker, &mut model, &equal("series", "1"), TimeRange::all());
    delete(&broker, &mut model, &equal("series", "3"), TimeRange::all());
    let left = (vec!["2".to_owned()], 1);
    assert_eq!(listed(&broker), left, "hidden");
    broker.clean_deleted().expect("a sound disk");
    assert_eq!(metric(&broker, "watchfire_broker_deletes_pending"), 0.0);
    assert_eq!(listed(&broker), left, "removed");
    assert_eq!(metric(&broker, "watchfire_broker_head_series"), 1.0, "none but that one is kept");
    ingest(&broker, &[(1, START_MS, 4.0)]).expect("a sound disk");
    assert_eq!(listed(&broker).0, ["1", "2"], "stored again");
}

#[test]
fn many_values_of_deleted_series_are_gone_and_those_stored_again_are_not() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let row = |series: usize, value| (series, START_MS, value);
    let rows: Vec<_> = (0..200).map(|series| row(series, 1.0)).collect();
    ingest(&broker, &rows).expect("a sound disk");
    let any = [Matcher::new("job", MatchOp::Regex, ".*").expect("a pattern")];
    let listed = |broker: &Broker, matchers: &[Matcher]| {
        let reader = broker.reader(DEFAULT_TENANT);
        reader
            .label_values("series", &[matchers.to_vec()], TimeRange::all(), 1_000)
            .expect("memory suffices")
    };
    let mut expected: Vec<String> =
        (0..200_usize).filter(|series| series % 2 == 1).map(|series| series.to_string()).collect();
    expected.sort();
    let mut model = Samples::new();
    for in_blocks in [false, true] {
        if in_blocks {
            // A copy with the head flushes.
            ingest(&broker, &(0..200).map(|series| row(series, 3.0)).collect::<Vec<_>>())
                .expect("a sound disk");
            broker.snapshot("flush", true).expect("a sound disk");
        }
        delete(&broker, &mut model, &equal("job", "even"), TimeRange::all());
        assert_eq!(listed(&broker, &any), expected, "in blocks: {in_blocks}");
        assert_eq!(listed(&broker, &[]), expected, "in blocks: {in_blocks}");
        assert_eq!(listed(&broker, &equal("job", "even")), [""; 0]);
    }
    ingest(&broker, &[row(4, 2.0), row(40, 2.0)]).expect("a sound disk");
    assert_eq!(listed(&broker, &equal("job", "even")), ["4", "40"]);
    expected.extend(["4".to_owned(), "40".to_owned()]);
    expected.sort();
    assert_eq!(listed(&broker, &any), expected, "stored again");
}

#[test]
fn many_deletes_between_writes_are_taken_and_cleaning_frees_the_space() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let mut chance = Chance(9);
    let mut row = |n| (n % SERIES, START_MS - n as i64 * 100, chance.below(1 << 50) as f64);
    let rows: Vec<_> = (0..20_000).map(&mut row).collect();
    ingest(&broker, &rows).expect("a sound disk");
    let mut model = Samples::new();
    note(&mut model, &rows);
    // More than the head may be cut into: it is flushed in between.
    for round in 0..20 {
        let row = [(8, START_MS + 1 + round, 1.0)];
        ingest(&broker, &row).expect("a sound disk");
        note(&mut model, &row);
        let hour = START_MS - round * 60_000;
        let range = TimeRange::new(hour - 60_000, hour);
        delete(&broker, &mut model, &equal("job", "even"), range);
    }
    assert_same(&read_all(&broker), &model, "hidden");
    let before = metric(&broker, "watchfire_broker_block_bytes");
    delete(&broker, &mut model, &equal("__name__", "m"), TimeRange::new(i64::MIN, START_MS));
    broker.clean_deleted().expect("a sound disk");
    assert_same(&read_all(&broker), &model, "removed");
    let after = metric(&broker, "watchfire_broker_block_bytes");
    assert!(after * 4.0 < before, "{before} bytes became {after}");
}

#[test]
fn a_copy_on_a_full_disk_says_so_and_leaves_nothing() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let rows: Vec<_> = (0..SERIES).map(|series| (series, START_MS, 1.0)).collect();
    ingest(&broker, &rows).expect("a sound disk");
    broker.snapshot("first", true).expect("space");
    let used: u64 = disk.list("").expect("memory").iter().map(|file| file.size_bytes).sum();
    // Names cost nothing on this disk; the copy's log does.
    disk.set_capacity_bytes(Some(used + 10));
    let error = broker.snapshot("second", false).expect_err("no space");
    assert!(matches!(&error, CommitError::Maintenance(text) if text.contains("space")), "{error}");
    let left = disk.list("snapshots").expect("memory");
    assert!(left.iter().all(|file| file.key.starts_with("snapshots/first/")), "{left:?}");
    disk.set_capacity_bytes(None);
    broker.snapshot("second", false).expect("space again");
    assert!(broker.snapshot("second", false).is_err(), "the name is taken");
}

#[test]
fn all_who_ask_for_a_cleaning_at_once_are_answered() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let rows: Vec<_> = (0..SERIES).map(|series| (series, START_MS, 1.0)).collect();
    ingest(&broker, &rows).expect("a sound disk");
    let mut model = Samples::new();
    note(&mut model, &rows);
    broker.clean_deleted().expect("nothing to do");
    delete(&broker, &mut model, &equal("job", "even"), TimeRange::all());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| broker.clean_deleted().expect("a sound disk"));
        }
    });
    assert_eq!(metric(&broker, "watchfire_broker_deletes_pending"), 0.0);
    assert_same(&read_all(&broker), &model, "cleaned");
}

#[test]
fn too_many_selectors_are_refused_before_they_are_logged() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let rows = [(1, START_MS, 1.0)];
    ingest(&broker, &rows).expect("a sound disk");
    let many = vec![equal("__name__", "m"); 65];
    let error = broker.delete_series(DEFAULT_TENANT, &many, TimeRange::all()).expect_err("65");
    assert!(matches!(&error, CommitError::Catalog(error) if error.to_string().contains("64")));
    let mut model = Samples::new();
    note(&mut model, &rows);
    drop(broker);
    assert_same(&read_all(&open_memory(&disk.crash(1))), &model, "restarted");
}

#[test]
fn a_delete_lost_in_a_damaged_log_hides_nothing_that_was_stored_after_it() {
    let disk = MemoryDisk::new();
    let broker = open_memory(&disk);
    let (before, after) = ([(1, START_MS, 1.0)], [(1, START_MS + 1, 2.0)]);
    ingest(&broker, &before).expect("a sound disk");
    let pattern = [vec![Matcher::new("series", MatchOp::Regex, "[1]").expect("a pattern")]];
    broker.delete_series(DEFAULT_TENANT, &pattern, TimeRange::all()).expect("a sound disk");
    ingest(&broker, &after).expect("a sound disk");
    drop(broker);
    // A start begins a log file with a snapshot that knows the delete.
    let disk = disk.kill();
    let broker = open_memory(&disk);
    let mut model = Samples::new();
    note(&mut model, &after);
    assert_same(&read_all(&broker), &model, "a sound log");
    drop(broker);
    let disk = disk.kill();
    let files = disk.list("log").expect("memory");
    let mut keys: Vec<_> = files.into_iter().map(|file| file.key).collect();
    keys.sort();
    let mut is_hit = false;
    for key in keys {
        disk.damage(&key, |bytes| {
            let at = bytes.windows(3).position(|window| window == b"[1]");
            // The first is the delete's frame, all others are in snapshots.
            if let Some(at) = at.filter(|_| !is_hit) {
                bytes[at] ^= 1;
                is_hit = true;
            }
        });
    }
    assert!(is_hit, "no delete in the log");
    let broker = open_memory(&disk);
    assert_eq!(broker.recovered().damaged_ranges, 1);
    assert_same(&read_all(&broker), &model, "a damaged delete");
    broker.clean_deleted().expect("a sound disk");
    assert_same(&read_all(&broker), &model, "cleaned");
}
