//! Full disks, damaged blocks, oversize input: an error that says what, nothing else harmed.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use blockstore::{Disk as _, MemoryDisk};
use broker::{CommitError, LineProtocol};
use model::{DEFAULT_TENANT, MatchOp, Matcher, MetricBatch, MetricMetadata, MetricType, TimeRange};
use support::*;

clock!(FULL, full_ms);

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), full_ms, NEVER_MS));
    let mut model = Samples::new();
    let rows =
        |step: i64| -> Vec<_> { (0..50).map(|s| (s, START_MS + step, 0.1 * s as f64)).collect() };
    ingest(&broker, &rows(0)).expect("stored");
    note(&mut model, &rows(0));
    disk.set_capacity_bytes(Some(0));
    let metadata = MetricMetadata { metric: "m".to_owned(), ..MetricMetadata::default() };
    let mut refused = batch(&rows(1));
    refused.metadata.push(metadata.clone());
    let error = send(&broker, &refused).recv().expect("answered").expect_err("full");
    assert_eq!(error, CommitError::Full);
    assert_same(&read_all(&broker), &model, "reads go on, nothing of the refused batch is there");
    assert_eq!(broker.metadata(DEFAULT_TENANT), [], "nor of its metadata");
    disk.set_capacity_bytes(None);
    send(&broker, &refused).recv().expect("answered").expect("stored");
    note(&mut model, &rows(1));
    assert_same(&read_all(&broker), &model, "with space again");
    assert_eq!(broker.metadata(DEFAULT_TENANT), std::slice::from_ref(&metadata));
    broker.stop();
    // The power goes, and the start finds the disk full again.
    let disk = Arc::new(disk.crash(1));
    disk.set_capacity_bytes(Some(0));
    let broker = open_on(&disk, config("unused".as_ref(), full_ms, NEVER_MS));
    assert_same(&read_all(&broker), &model, "after a start on a full disk");
    assert_eq!(broker.metadata(DEFAULT_TENANT), [metadata]);
    assert_eq!(ingest(&broker, &rows(2)).expect_err("full"), CommitError::Full);
    disk.set_capacity_bytes(None);
    ingest(&broker, &rows(2)).expect("stored");
    note(&mut model, &rows(2));
    assert_same(&read_all(&broker), &model, "with space again");
}

clock!(FLUSH, flush_ms);

#[test]
fn a_flush_that_finds_no_space_leaves_nothing_behind_and_loses_nothing() {
    let mut failures = 0.0;
    // With every step a little more of the flush fits: the new log file, ids, blocks, the command.
    for step in 0..20 {
        let disk = Arc::new(MemoryDisk::new());
        let config = config("unused".as_ref(), flush_ms, 100);
        let broker = open_on(&disk, config.clone());
        let mut model = Samples::new();
        let mut write = |n: i64| {
            let rows: Vec<_> = (0..99).map(|s| (s, START_MS + n, 0.3 * s as f64)).collect();
            let answer = ingest(&broker, &rows);
            if answer.is_ok() {
                note(&mut model, &rows);
            }
            answer
        };
        for n in 0..9 {
            write(n).expect("stored");
        }
        disk.set_capacity_bytes(Some(used_bytes(&disk) + 500 + 500 * step));
        for n in 9..12 {
            assert!(matches!(write(n), Ok(_) | Err(CommitError::Full)));
        }
        wait_until("a flush, well or not", || {
            let ended = metric(&broker, "watchfire_broker_flushes_total")
                + metric(&broker, "watchfire_broker_flush_failures_total");
            ended > 0.0
        });
        assert_same(&read_all(&broker), &model, "while the disk is full");
        failures += metric(&broker, "watchfire_broker_flush_failures_total");
        broker.stop();
        assert_eq!(
            files(&disk, "blocks") as f64,
            metric(&broker, "watchfire_broker_blocks"),
            "no file is left over at step {step}"
        );
        drop(broker);
        disk.set_capacity_bytes(None);
        let broker = open_on(&disk, config);
        assert_same(&read_all(&broker), &model, "after a restart with space");
    }
    assert!((2.0..20.0).contains(&failures), "{failures} flushes failed, others did not");
}

clock!(LINES, lines_ms);

#[test]
fn lines_wait_for_room_on_the_disk() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), lines_ms, NEVER_MS));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("starts");
    let take = |lines: String| {
        let broker = broker.clone();
        let lines = lines.into_bytes();
        runtime.spawn(async move { broker.ingest_lines(LineProtocol::Graphite, lines).await })
    };
    let refused = || metric(&broker, "watchfire_broker_lines_refused_total");
    let samples = || read_all(&broker).len();
    disk.set_capacity_bytes(Some(0));
    let seconds = START_MS / 1_000;
    let waiting = take(format!("m 1 {seconds}\nbad\n"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!waiting.is_finished());
    assert_eq!((samples(), refused()), (0, 0.0));
    disk.set_capacity_bytes(None);
    runtime.block_on(waiting).expect("no panic");
    assert_eq!((samples(), refused()), (1, 1.0));
    // What waits when the broker stops is given up, and counted.
    disk.set_capacity_bytes(Some(0));
    let waiting = take(format!("m 2 {}\n", seconds + 1));
    std::thread::sleep(std::time::Duration::from_millis(300));
    broker.stop();
    runtime.block_on(waiting).expect("no panic");
    assert_eq!(refused(), 2.0);
}

fn used_bytes(disk: &MemoryDisk) -> u64 {
    disk.list("").expect("memory").iter().map(|file| file.size_bytes).sum()
}

fn files(disk: &MemoryDisk, directory: &str) -> usize {
    disk.list(directory).expect("memory").len()
}

clock!(EMPTIED, emptied_ms);

#[test]
fn a_disk_without_a_free_byte_is_emptied_by_the_retention() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), emptied_ms, 20);
    let broker = open_on(&disk, config.clone());
    for day in 0..3 {
        EMPTIED.store(START_MS + day * DAY_MS, SeqCst);
        let rows: Vec<_> = (0..200).map(|s| (s, emptied_ms(), 0.7 * s as f64)).collect();
        ingest(&broker, &rows).expect("stored");
        wait_for_empty_head(&broker);
    }
    EMPTIED.fetch_add(2 * MINUTE_MS, SeqCst);
    wait_for(&broker, "watchfire_broker_ballast_bytes", |bytes| bytes > 0.0);
    broker.stop();
    drop(broker);
    // Full to the last byte, and not even a new log file can be begun.
    disk.set_capacity_bytes(Some(used_bytes(&disk)));
    let broker = open_on(&disk, config);
    assert_eq!(ingest(&broker, &[(1, emptied_ms(), 1.0)]).expect_err("full"), CommitError::Full);
    EMPTIED.store(START_MS + 16 * DAY_MS, SeqCst);
    wait_for(&broker, "watchfire_broker_expired_blocks_total", |expired| expired >= 1.0);
    assert_eq!(metric(&broker, "watchfire_broker_ballast_bytes"), 0.0);
    ingest(&broker, &[(1, emptied_ms(), 1.0)]).expect("writes go on by themselves");
    disk.set_capacity_bytes(None);
    EMPTIED.fetch_add(2 * MINUTE_MS, SeqCst);
    wait_for(&broker, "watchfire_broker_ballast_bytes", |bytes| bytes > 0.0);
}

clock!(DAMAGE, damage_ms);

#[test]
fn a_damaged_block_makes_answers_partial_until_its_time_is_over() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), damage_ms, 20);
    let broker = open_on(&disk, config.clone());
    ingest(&broker, &[(1, START_MS, 1.0)]).expect("stored");
    wait_for_empty_head(&broker);
    ingest(&broker, &[(1, START_MS - 5 * HOUR_MS, 2.0)]).expect("stored");
    wait_for_empty_head(&broker);
    let path = first_block(&disk);
    disk.damage(&path, |bytes| bytes[40..].fill(0xa5));
    let everything = TimeRange::all();
    assert_eq!(broker.reader(DEFAULT_TENANT).missing(everything), [] as [String; 0]);
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let reader = broker.reader(DEFAULT_TENANT);
    let result = reader.select(std::slice::from_ref(&matcher), everything).and_then(|selected| {
        let read = selected.read(0, &mut Vec::new(), &mut Vec::new());
        Ok(read.inspect_err(|error| reader.report(error))?)
    });
    result.expect_err("the block is damaged");
    wait_for(&broker, "watchfire_broker_quarantined_blocks_total", |count| count == 1.0);
    wait_until("the catalog to know", || !reader.missing(everything).is_empty());
    assert!(reader.missing(everything)[0].contains("with 1 samples"));
    let mut model = Samples::new();
    note(&mut model, &[(1, START_MS - 5 * HOUR_MS, 2.0)]);
    assert_same(&read_all(&broker), &model, "without the block");
    drop(reader);
    broker.stop();
    drop(broker);
    let broker = open_on(&disk, config);
    assert_eq!(broker.corruptions(), 0, "it was found by the process before");
    assert_eq!(broker.reader(DEFAULT_TENANT).missing(everything).len(), 1);
    DAMAGE.fetch_add(16 * DAY_MS, SeqCst);
    wait_until("the damaged block to expire", || {
        broker.reader(DEFAULT_TENANT).missing(everything).is_empty()
    });
}

fn first_block(disk: &MemoryDisk) -> String {
    disk.list("blocks").expect("memory")[0].key.clone()
}

clock!(START_FULL, start_full_ms);

#[test]
fn a_block_found_damaged_by_a_start_on_a_full_disk_is_told_to_the_catalog_later() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), start_full_ms, 20);
    let broker = open_on(&disk, config.clone());
    ingest(&broker, &[(1, START_MS, 1.0)]).expect("stored");
    wait_for_empty_head(&broker);
    broker.stop();
    drop(broker);
    let path = first_block(&disk);
    disk.damage(&path, |bytes| bytes.truncate(10));
    disk.set_capacity_bytes(Some(0));
    let broker = open_on(&disk, config);
    assert_eq!(broker.corruptions(), 1);
    disk.set_capacity_bytes(None);
    START_FULL.fetch_add(2 * MINUTE_MS, SeqCst);
    wait_until("answers to be marked", || {
        !broker.reader(DEFAULT_TENANT).missing(TimeRange::all()).is_empty()
    });
}

clock!(OVERSIZE, oversize_ms);

#[test]
fn oversize_batches_and_metadata_are_bounded() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(config(directory.path(), oversize_ms, NEVER_MS));
    let huge = MetricBatch { label_bytes: vec![0; (512 << 20) + 1], ..MetricBatch::default() };
    let error = send(&broker, &huge).recv().expect("answered").expect_err("too large");
    assert!(matches!(&error, CommitError::TooLarge(text) if text.contains("536870912")), "{error}");
    drop(huge);
    let said = |metric: String, help: &str, unit: &str| MetricMetadata {
        metric,
        kind: MetricType::Counter,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    let mut much = MetricBatch::default();
    much.metadata.push(said("cut".to_owned(), &"é".repeat(5_000), &"u".repeat(1 << 20)));
    much.metadata.push(said("n".repeat(2_000), "", ""));
    much.metadata.extend((0..6_000).map(|n| said(format!("family_{n}"), &"h".repeat(4_096), "")));
    send(&broker, &much).recv().expect("answered").expect("no sample to refuse");
    let known = broker.metadata(DEFAULT_TENANT);
    let bytes: usize = known.iter().map(|m| m.metric.len() + m.help.len() + m.unit.len()).sum();
    assert!((15 << 20..17 << 20).contains(&bytes), "{bytes} bytes are kept");
    let cut = known.iter().find(|m| m.metric == "cut").expect("cut, but kept");
    assert_eq!((cut.help.len(), cut.unit.len()), (4_096, 256));
    assert!(metric(&broker, "watchfire_broker_metadata_refused_total") > 1_000.0);
    // Known families may still change when there is no room for new ones.
    let mut change = MetricBatch::default();
    change.metadata.push(said("cut".to_owned(), "short", "seconds"));
    send(&broker, &change).recv().expect("answered").expect("no sample to refuse");
    broker.stop();
    drop(broker);
    let broker = open(config(directory.path(), oversize_ms, NEVER_MS));
    let after = broker.metadata(DEFAULT_TENANT);
    assert_eq!(after.len(), known.len());
    assert_eq!(after.iter().find(|m| m.metric == "cut").map(|m| m.help.as_str()), Some("short"));
}
