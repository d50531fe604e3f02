//! The log on a disk in memory and on a real one: what was synced comes back, whatever happens.

mod support;

use std::sync::Arc;

use blockstore::{
    BlobError, Counters, Disk, FileDisk, FrameKind, LogError, LogPosition, LogReader, LogWriter,
    MemoryDisk, OpenError,
};
use catalog::StoreId;
use support::{STORE, data, reader, replay, replay_catalog, writer};

#[test]
fn frames_come_back_in_order_across_files_and_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disks: [Arc<dyn Disk>; 2] = [
        Arc::new(MemoryDisk::new()),
        Arc::new(FileDisk::open(&directory.path().join("a/b")).expect("a new directory")),
    ];
    for disk in disks {
        let mut first = writer(&disk, b"empty");
        let a = first.append(FrameKind::Metrics, &[b"on", b"", b"e"]).expect("space");
        first.sync().expect("a sound disk");
        assert_eq!(first.rotate(b"later").expect("space").file, a.file);
        first.append(FrameKind::CatalogCommand, &[b"command"]).expect("space");
        first.append(FrameKind::Metrics, &[&[0xf7; 1 << 21]]).expect("space");
        first.sync().expect("a sound disk");
        drop(first);
        let mut second = writer(&disk, b"latest");
        let b = second.append(FrameKind::CatalogCommand, &[]).expect("space");
        second.sync().expect("a sound disk");
        assert_eq!((a.file, b.file), (1, 3));

        let (frames, report) = replay(&disk);
        let all: Vec<_> = frames.iter().map(|f| (f.kind, &f.payload[..])).collect();
        let snapshot = FrameKind::CatalogSnapshot;
        let (command, metrics) = (FrameKind::CatalogCommand, FrameKind::Metrics);
        let large = vec![0xf7; 1 << 21];
        assert_eq!(
            all,
            [
                (snapshot, &b"empty"[..]),
                (metrics, b"one"),
                (snapshot, b"later"),
                (command, b"command"),
                (metrics, &large),
                (snapshot, b"latest"),
                (command, b""),
            ]
        );
        assert_eq!(frames[1].position, a);
        assert!(frames.windows(2).all(|pair| pair[0].end <= pair[1].position));
        assert_eq!((report.files, report.frames, report.damage.len()), (3, 7, 0));
        let (catalog, intact) = replay_catalog(&disk);
        assert_eq!(catalog, [(snapshot, b"latest".to_vec()), (command, Vec::new())]);
        assert!(intact);

        // From a position on: frames before it are not handed out.
        let mut late = Vec::new();
        reader(&disk).replay(frames[4].position, &mut |f| late.push(f)).expect("known kinds");
        assert_eq!(late.len(), 3);
        assert_eq!(late[0].position, frames[4].position);
    }
}

#[test]
fn flushed_files_go_and_their_bytes_no_longer_count() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut log = writer(&disk, b"1");
    log.append(FrameKind::Metrics, &[&[1; 1000]]).expect("space");
    let flushed = log.rotate(b"2").expect("space");
    log.append(FrameKind::Metrics, &[&[2; 500]]).expect("space");
    let before = log.bytes_since_flush();
    assert!((1500..1800).contains(&before), "{before}");
    log.delete_before(flushed, None).expect("a sound disk");
    assert_eq!(log.bytes_since_flush(), log.current_file_bytes());
    assert_eq!(log.current_file(), Some(2));
    // The file of the position itself stays until a position behind it is flushed.
    assert_eq!(memory.list("log").expect("a sound disk").len(), 4);
    let end = log.end();
    log.append(FrameKind::Metrics, &[&[3; 100]]).expect("space");
    log.delete_before(end, None).expect("a sound disk");
    assert_eq!(log.bytes_since_flush(), 120);
    assert_eq!(memory.list("log").expect("a sound disk").len(), 2);
    assert_eq!(data(&replay(&disk).0), [vec![2; 500], vec![3; 100]]);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    // A start on a full disk succeeds; only writes are refused.
    memory.set_capacity_bytes(Some(10));
    let mut log = writer(&disk, b"snapshot");
    let full = |result: Result<LogPosition, LogError>| {
        matches!(result, Err(LogError::Disk(BlobError::Full { .. })))
    };
    assert!(full(log.append(FrameKind::Metrics, &[b"a"])));
    assert_eq!(log.current_file(), None);
    memory.set_capacity_bytes(Some(400));
    log.append(FrameKind::Metrics, &[b"b"]).expect("space");
    assert!(full(log.append(FrameKind::Metrics, &[&[b'c'; 300]])));
    assert!(full(log.rotate(&[b's'; 300])));
    log.append(FrameKind::Metrics, &[b"d"]).expect("the refused frames left no trace");
    memory.set_capacity_bytes(None);
    log.append(FrameKind::Metrics, &[&[b'e'; 300]]).expect("space");
    log.rotate(b"next").expect("space");
    log.append(FrameKind::Metrics, &[b"f"]).expect("space");
    log.sync().expect("a sound disk");
    for disk in [memory.clone(), memory.crash(1), memory.crash(2)] {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (frames, report) = replay(&disk);
        assert_eq!(data(&frames), [b"b".to_vec(), b"d".to_vec(), vec![b'e'; 300], b"f".to_vec()]);
        assert_eq!((report.damage.len(), report.torn_bytes), (0, 0));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut log = writer(&disk, b"snapshot");
    log.append(FrameKind::Metrics, &[b"a"]).expect("space");
    memory.set_syncs_fail(true);
    assert!(matches!(log.sync(), Err(LogError::Disk(BlobError::SyncFailed { .. }))));
    memory.set_syncs_fail(false);
    let poisoned = |error: LogError| matches!(error, LogError::Poisoned { .. });
    assert!(log.sync().is_err_and(poisoned));
    assert!(log.append(FrameKind::Metrics, &[b"b"]).is_err_and(poisoned));
    assert!(log.rotate(b"next").is_err_and(poisoned));
}

#[test]
fn what_a_newer_program_wrote_stops_the_start() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    drop(writer(&disk, b"snapshot"));
    memory.damage(&support::log_path(1), |bytes| {
        bytes[8] = 2;
        let checksum = codec::checksum(&bytes[..52]);
        bytes[52..56].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = LogReader::open(disk, Arc::default()).err().expect("version 2 is unknown");
    let message = error.to_string();
    assert!(message.contains("needs a watchfire that knows log format version >= 2"), "{message}");
}

#[test]
fn an_unknown_kind_of_frame_is_skipped_or_stops_the_start() {
    for (kind, optional) in [(0x80, true), (0xff, true), (9, false), (0x7f, false)] {
        let memory = MemoryDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let end = writer(&disk, b"snapshot").end();
        memory.damage(&support::log_path(1), |bytes| {
            bytes.extend(support::frame_bytes(end, kind, b"from the future"));
            let next = LogPosition { offset: bytes.len() as u64, ..end };
            bytes.extend(support::frame_bytes(next, FrameKind::Metrics as u8, b"a"));
        });
        if optional {
            let (frames, report) = replay(&disk);
            assert_eq!(data(&frames), [b"a"]);
            assert_eq!((report.skipped_frames, report.damage.len()), (1, 0));
        } else {
            let error =
                reader(&disk).replay(LogPosition::default(), &mut |_| {}).expect_err("unknown");
            assert!(matches!(error, LogError::Newer { found, supported: 8, .. } if found == kind));
        }
    }
}

#[test]
fn what_a_start_has_read_survives_a_power_cut_after_it() {
    for seed in 0..20 {
        let memory = MemoryDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let mut log = writer(&disk, b"first");
        log.append(FrameKind::Metrics, &[b"a"]).expect("space");
        // The process ends before the sync; what it wrote is still in the system's memory.
        drop(log);
        assert_eq!(data(&replay(&disk).0), [b"a"]);
        drop(writer(&disk, b"second"));
        let disk: Arc<dyn Disk> = Arc::new(memory.crash(seed));
        assert_eq!(data(&replay(&disk).0), [b"a"], "seed {seed}");
    }
}

/// The bytes of version 1 may never change: a later version must still read this file.
#[test]
fn a_log_file_keeps_its_bytes() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    drop(writer(&disk, b"first"));
    let mut log = writer(&disk, b"snapshot");
    log.append(FrameKind::CatalogCommand, &[b"com", b"mand"]).expect("space");
    log.append(FrameKind::Metrics, &[&[0, 1, 2, 255]]).expect("space");
    log.append(FrameKind::AgentMetrics, &[&[1, 9], b"samples"]).expect("space");
    log.sync().expect("a sound disk");
    let bytes = support::read(&*disk, &support::log_path(2));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log.v1");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &bytes).expect("golden files can be written");
    }
    let golden = std::fs::read(&path).expect("the golden file exists");
    assert_eq!(bytes, golden, "the format of the log changed");
}

#[test]
fn all_counters_have_names_of_this_crate_and_count() {
    let counters = Arc::new(Counters::default());
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let reader = LogReader::open(Arc::clone(&disk), Arc::clone(&counters)).expect("an empty disk");
    let position = LogPosition::default();
    let mut log = LogWriter::open(reader, Arc::clone(&counters), STORE, position, Vec::new())
        .expect("a new file can be begun");
    log.append(FrameKind::Metrics, &[b"abc"]).expect("space");
    log.sync().expect("a sound disk");
    log.sync().expect("nothing to do");
    let rows = counters.rows();
    for row in &rows {
        let name = row.name;
        assert!(name.starts_with("watchfire_blockstore_") && name.ends_with("_total"), "{name}");
        assert!(row.help.ends_with('.'));
    }
    let counted: Vec<_> = rows.iter().filter(|row| row.value > 0).collect();
    let counted: Vec<_> = counted.iter().map(|row| (&row.name[21..], row.value)).collect();
    assert_eq!(
        counted,
        [
            ("log_frames_total", 1),
            ("log_bytes_total", 23),
            ("log_syncs_total", 1),
            ("log_files_total", 1),
        ]
    );
}

#[test]
fn a_payload_above_the_limit_is_refused_before_anything_is_written() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut log = writer(&disk, b"snapshot");
    let end = log.end();
    let part = vec![0; 1 << 20];
    let parts = vec![&part[..]; 1025];
    assert!(matches!(
        log.append(FrameKind::Metrics, &parts),
        Err(LogError::TooLarge { found_bytes, .. }) if found_bytes == 1025 << 20
    ));
    assert_eq!(log.end(), end);
}

#[test]
fn a_directory_serves_one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let first = FileDisk::open(directory.path()).expect("a new directory");
    let error = FileDisk::open(directory.path()).expect_err("it is in use");
    assert!(matches!(&error, OpenError::Locked { .. }));
    let message = error.to_string();
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    assert!(message.contains(&*directory.path().to_string_lossy()), "{message}");
    drop(first);
    FileDisk::open(directory.path()).expect("it is free again");
}

#[test]
fn files_of_another_store_are_set_aside() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut log = writer(&disk, b"ours");
    log.append(FrameKind::Metrics, &[b"a"]).expect("space");
    log.sync().expect("a sound disk");
    let foreign: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let other = LogReader::open(Arc::clone(&foreign), Arc::default()).expect("an empty disk");
    let position = LogPosition::default();
    LogWriter::open(other, Arc::default(), StoreId([9; 16]), position, b"theirs".to_vec())
        .expect("a new file can be begun");
    let bytes = support::read(&*foreign, &support::log_path(1));
    let mut file = disk.create(&support::log_path(2)).expect("space");
    file.append(&[&bytes]).expect("space");
    let (frames, report) = replay(&disk);
    assert_eq!(data(&frames), [b"a"]);
    assert_eq!(report.damage[0].cause, "belongs to another store");
    assert_eq!(reader(&disk).store(), Some(STORE));
    assert!(replay(&disk).1.damage.is_empty(), "it was set aside once and for all");
}

#[test]
fn a_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = FileDisk::open(directory.path()).expect("a new directory");
    disk.create("consensus/log/1").expect("a new file").append(&[b"a secret"]).expect("space");
    let file = std::fs::metadata(directory.path().join("consensus/log/1")).expect("it is there");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}
