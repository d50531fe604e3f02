use blockstore::MemoryDisk;
use openraft::{CommittedLeaderId, EntryPayload};

use super::*;
use crate::record::Held;
use crate::types::Entry;

const DIRECTORY: &str = "log";

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 0), index)
}

fn entry(index: u64) -> Record {
    Record::Entry(Held::new(&Entry { log_id: id(index), payload: EntryPayload::Blank }))
}

fn open(disk: &MemoryDisk) -> Result<(Journal, Contents), JournalError> {
    Journal::open(Arc::new(disk.clone()), DIRECTORY, 7, 0)
}

fn written(indexes: std::ops::Range<u64>) -> (MemoryDisk, Journal) {
    let disk = MemoryDisk::new();
    let (mut journal, _) = open(&disk).expect("an empty disk");
    for index in indexes {
        journal.add(&entry(index));
        journal.sync().expect("written");
    }
    (disk, journal)
}

/// Review, finding 3: what a killed process wrote and did not sync counts for the next one, so it
/// must be there when the power goes afterwards.
#[test]
fn what_a_start_finds_is_durable() {
    for seed in 0..50 {
        let (disk, mut journal) = written(0..3);
        // The power goes behind the append, in front of the sync: here the process only ends.
        disk.cut_power_after(1);
        journal.add(&entry(3));
        assert!(journal.sync().is_err());
        let disk = disk.kill();
        let (_, contents) = open(&disk).expect("nothing is damaged");
        assert_eq!(contents.last(), Some(id(3)), "it was written");
        let (_, contents) = open(&disk.crash(seed)).expect("nothing is damaged");
        assert_eq!(contents.last(), Some(id(3)), "seed {seed}");
    }
}

/// Review, finding 16: of what one sync writes any sector may be there after a power cut, also the
/// last without the first. Nobody heard of it.
#[test]
fn a_group_that_was_cut_off_is_no_damage() {
    let mut torn = 0;
    for seed in 0..200 {
        let (disk, mut journal) = written(0..3);
        disk.cut_power_after(1);
        for index in 3..400 {
            journal.add(&entry(index));
        }
        assert!(journal.sync().is_err());
        let disk = disk.crash(seed);
        let (_, contents) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let last = contents.last().map_or(0, |id| id.index);
        assert!(last == 2 || last == 399, "seed {seed}: through {last}");
        torn += u64::from(last == 2);
    }
    assert!(torn > 50, "{torn} of 200 were torn");
}

#[test]
fn damage_in_front_of_a_later_sync_is_told() {
    let (disk, _journal) = written(0..3);
    let path = path(DIRECTORY, 1);
    disk.damage(&path, |bytes| {
        let begin = HEADER_BYTES + FRAME_BYTES + framed(&bytes[HEADER_BYTES..]).expect("one").len();
        bytes[begin + FRAME_BYTES] ^= 1;
    });
    let error = open(&disk).err().expect("it is damaged").to_string();
    assert!(error.contains("is damaged at byte"), "{error}");
}

/// Review, finding 18: a newer program is told as such.
#[test]
fn a_newer_command_is_not_damage() {
    let (disk, mut journal) = written(0..1);
    let mut sealed = vec![catalog::FORMAT_VERSION + 1];
    sealed.extend_from_slice(&codec::checksum(&sealed).to_le_bytes());
    let mut bytes = Vec::new();
    codec::varint::put_u64(&mut bytes, 1);
    codec::varint::put_u64(&mut bytes, 1);
    // A proposal: kind, place, command.
    bytes.extend_from_slice(&[1, 0, 0, 0, 0]);
    codec::varint::put_bytes(&mut bytes, &sealed);
    journal.add(&Record::Entry(Held { log_id: id(1), bytes: bytes.into() }));
    journal.sync().expect("written");
    let error = open(&disk).err().expect("this program cannot read it");
    assert!(matches!(error, JournalError::Newer { .. }), "{error}");
}

#[test]
fn an_incarnation_stays_until_the_journal_is_gone() {
    let disk = MemoryDisk::new();
    let begin = |disk: &MemoryDisk, number| {
        let opened = Journal::open(Arc::new(disk.clone()), DIRECTORY, number, 0);
        opened.expect("sound").1.incarnation
    };
    assert_eq!(begin(&disk, 7), 7);
    assert_eq!(begin(&disk, 8), 7);
    assert_eq!(begin(&disk.crash(1), 9), 7);
    assert_eq!(begin(&MemoryDisk::new(), 9), 9);
}

/// Review, finding 8: a log that goes on behind the snapshot has a hole.
#[test]
fn a_hole_between_snapshot_and_log_is_told() {
    let (disk, mut journal) = written(1..9);
    journal.add(&Record::Purged(id(6)));
    journal.sync().expect("written");
    let with = |disk: &MemoryDisk, snapshot| {
        Journal::open(Arc::new(disk.clone()), DIRECTORY, 7, snapshot).map(|(_, found)| found)
    };
    let error = with(&disk, 5).expect_err("6 is nowhere").to_string();
    assert!(error.contains("entries from 7 on beside a snapshot through entry 5"), "{error}");
    assert_eq!(with(&disk, 6).expect("all is there").last(), Some(id(8)));
    // Also when it is asked again: nothing was begun meanwhile.
    let empty = MemoryDisk::new();
    for _ in 0..2 {
        let error = with(&empty, 5).expect_err("a vote is nowhere").to_string();
        assert!(error.contains("no log beside a snapshot"), "{error}");
    }
}
