//! Following the log while it is written.

mod support;

use std::sync::Arc;

use blockstore::{Disk, FrameKind, LogPosition, LogTail, MemoryDisk};
use support::{STORE, writer};

/// All payloads between the tail's position and `until`.
fn follow(tail: &mut LogTail, until: LogPosition) -> (Vec<Vec<u8>>, u64, bool) {
    let (mut payloads, mut damaged_bytes, mut is_cut) = (Vec::new(), 0, false);
    while tail.position() < until {
        let tailed = tail.read(until).expect("a sound disk");
        payloads.extend(tailed.frames.iter().map(|frame| frame.payload.to_vec()));
        damaged_bytes += tailed.damaged_bytes;
        is_cut |= tailed.is_cut;
    }
    (payloads, damaged_bytes, is_cut)
}

#[test]
fn what_is_durable_is_read_once_and_in_order_across_files() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut log = writer(&disk, b"snapshot");
    let mut tail = LogTail::new(Arc::clone(&disk), STORE, log.end());
    log.append(FrameKind::Metrics, &[b"a"]).expect("space");
    log.sync().expect("a sound disk");
    let durable = log.end();
    log.append(FrameKind::Metrics, &[b"b"]).expect("space");
    // What is not durable yet is not shown, although its bytes are there.
    assert_eq!(follow(&mut tail, durable), (vec![b"a".to_vec()], 0, false));
    log.append(FrameKind::CatalogCommand, &[b"command"]).expect("space");
    log.rotate(b"next").expect("space");
    log.append(FrameKind::AgentMetrics, &[b"c"]).expect("space");
    log.append(FrameKind::Metrics, &[&[7; 5 << 20]]).expect("space");
    log.append(FrameKind::Metrics, &[b"d"]).expect("space");
    log.sync().expect("a sound disk");
    let (payloads, damaged_bytes, is_cut) = follow(&mut tail, log.end());
    let lengths: Vec<_> = payloads.iter().map(Vec::len).collect();
    assert_eq!((lengths, damaged_bytes, is_cut), (vec![1, 1, 5 << 20, 1], 0, false));
    assert_eq!(tail.position(), log.end());
    // From the beginning, all of it.
    let mut all = LogTail::new(disk, STORE, LogPosition::default());
    assert_eq!(follow(&mut all, log.end()).0.len(), 5);
}

#[test]
fn files_that_somebody_reads_stay_and_those_that_went_are_told() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut log = writer(&disk, b"snapshot");
    let begin = log.end();
    let payload = |letter: u8| vec![letter; 1_000];
    for letter in [b'a', b'b', b'c'] {
        log.append(FrameKind::Metrics, &[&payload(letter)]).expect("space");
        log.rotate(b"next").expect("space");
    }
    log.append(FrameKind::Metrics, &[&payload(b'd')]).expect("space");
    log.sync().expect("a sound disk");
    let end = log.end();
    log.delete_before(end, Some(begin)).expect("a sound disk");
    let mut tail = LogTail::new(Arc::clone(&disk), STORE, begin);
    assert_eq!(follow(&mut tail, end).0, [b'a', b'b', b'c', b'd'].map(payload));
    let all = LogTail::bytes_between(&*disk, begin, end).expect("a sound disk");
    let keep = LogTail::oldest_within(&*disk, end, all * 3 / 5).expect("a sound disk");
    assert_eq!(keep, LogPosition { file: 3, offset: 0 });
    assert!(LogTail::bytes_between(&*disk, keep, end).expect("a sound disk") <= all * 3 / 5);
    // The current file stays, whatever the limit.
    let least = LogTail::oldest_within(&*disk, end, 0).expect("a sound disk");
    assert_eq!(least, LogPosition { file: 4, offset: 0 });
    log.delete_before(end, Some(keep)).expect("a sound disk");
    let mut tail = LogTail::new(Arc::clone(&disk), STORE, begin);
    assert_eq!(follow(&mut tail, end), (vec![payload(b'c'), payload(b'd')], 0, true));
    log.delete_before(LogPosition::default(), None).expect("a sound disk");
    assert_eq!(memory.list("log").expect("a sound disk").len(), 2);
}

#[test]
fn damage_is_passed_over_and_counted() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut log = writer(&disk, b"snapshot");
    let begin = log.end();
    log.append(FrameKind::Metrics, &[b"good"]).expect("space");
    log.append(FrameKind::Metrics, &[b"payload"]).expect("space");
    log.append(FrameKind::Metrics, &[b"after"]).expect("space");
    log.rotate(b"next").expect("space");
    log.append(FrameKind::Metrics, &[b"last"]).expect("space");
    log.sync().expect("a sound disk");
    let path = "log/00000000000000000001.wfl";
    let file = disk.open(path).expect("the first file");
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).expect("small")];
    file.read_exact_at(0, &mut bytes).expect("memory");
    let at = bytes.windows(7).position(|window| window == b"payload").expect("it is there");
    for (broken, lost) in [(at, 27), (at - 20, 27)] {
        let mut bytes = bytes.clone();
        bytes[broken] ^= 0xff;
        disk.remove(path).expect("memory");
        disk.create(path).expect("memory").append(&[&bytes]).expect("memory");
        let mut tail = LogTail::new(Arc::clone(&disk), STORE, begin);
        let found = follow(&mut tail, log.end());
        let wanted = ["good", "after", "last"].map(|text| text.as_bytes().to_vec());
        assert_eq!(found, (wanted.to_vec(), lost, false));
    }
}
