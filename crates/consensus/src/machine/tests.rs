use blockstore::MemoryDisk;

use super::*;

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _: &Command, _: &Result<Outcome, CatalogError>, _: &State) {}

    fn replaced(&self, _: &State) {}
}

fn open(disk: &MemoryDisk) -> Result<Machine, SnapshotError> {
    Machine::open(Arc::new(disk.clone()), "snapshots", (1, 1), Arc::new(Nobody))
}

fn snapshot_at(index: u64) -> Vec<u8> {
    let last = LogId::new(openraft::CommittedLeaderId::new(1, 0), index);
    let mut bytes = Vec::new();
    encode(&Reached { last: Some(last), ..Reached::default() }, &mut bytes);
    bytes
}

/// Review, finding 3: a snapshot that a killed process wrote, and whose name it did not sync, is relied
/// on by the next one.
#[test]
fn a_snapshot_that_a_start_finds_is_durable() {
    for seed in 0..20 {
        let disk = MemoryDisk::new();
        let machine = open(&disk).expect("it is empty");
        // Remove, create, write, sync, name: the sync of the directory is no more.
        disk.cut_power_after(5);
        machine.snapshots.keep(7, &snapshot_at(7)).expect_err("its process was killed");
        let disk = disk.kill();
        assert_eq!(*open(&disk).expect("it is whole").index().borrow(), 7);
        assert_eq!(*open(&disk.crash(seed)).expect("it is whole").index().borrow(), 7, "{seed}");
    }
}

/// Review, finding 9: one that is built while a later one is received does not take its place.
#[test]
fn an_older_snapshot_does_not_replace_a_newer() {
    let disk = MemoryDisk::new();
    let machine = open(&disk).expect("it is empty");
    for index in [7, 9, 8] {
        machine.snapshots.keep(index, &snapshot_at(index)).expect("kept");
    }
    assert_eq!(*machine.durable().borrow(), Ok(9));
    assert_eq!(*open(&disk).expect("it is whole").index().borrow(), 9);
    disk.cut_power_after(0);
    machine.snapshots.keep(10, &snapshot_at(10)).expect_err("no power");
    let told = machine.durable().borrow().clone();
    assert!(told.as_ref().is_err_and(|why| why.contains("power is off")), "{told:?}");
}

/// Review, finding 18.
#[test]
fn a_newer_snapshot_is_not_damage() {
    let disk = MemoryDisk::new();
    open(&disk).expect("it is empty").snapshots.keep(7, &snapshot_at(7)).expect("kept");
    let path = format!("snapshots/{:020}.wfs", 7);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        disk.damage(&path, |bytes| {
            bytes.truncate(bytes.len() - CHECKSUM_BYTES);
            change(bytes);
            let checksum = codec::checksum(bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
        });
        open(&disk).err().expect("this program cannot read it")
    };
    let error = with(&|bytes| bytes[4] = VERSION + 1);
    assert!(matches!(error, SnapshotError::Newer { .. }), "{error}");
    let error = with(&|bytes| bytes[4] = VERSION - 1);
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
}
