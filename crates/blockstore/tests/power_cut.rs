//! The power is cut at every single write, sync, rename and removal: what was acknowledged comes
//! back exactly once and in order, and nothing that was never written does.

mod support;

use std::sync::Arc;

use blockstore::{Blobs, Disk, DiskBlobs, FrameKind, LogError, LogPosition, LogWriter, MemoryDisk};
use proptest::prelude::*;
use support::{STORE, reader};

#[derive(Debug, Clone)]
enum Op {
    Data(usize),
    Command,
    Sync,
    /// Flush: rotate, command, sync, remove old files.
    Flush,
    /// Stop in good order and start again.
    Restart,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3000_usize).prop_map(Op::Data),
        2 => Just(Op::Command),
        4 => Just(Op::Sync),
        1 => Just(Op::Flush),
        1 => Just(Op::Restart),
    ]
}

/// The catalog in these tests: how many commands, and through where data is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Catalog {
    commands: u64,
    flushed: LogPosition,
}

impl Catalog {
    fn encode(self) -> Vec<u8> {
        let numbers = [self.commands, self.flushed.file, self.flushed.offset];
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Catalog {
        let at = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("24"));
        Catalog { commands: at(0), flushed: LogPosition { file: at(1), offset: at(2) } }
    }
}

/// A process that writes, and the ledger of a client outside of it.
struct Run {
    disk: Arc<dyn Disk>,
    log: LogWriter,
    catalog: Catalog,
    ledger: Ledger,
}

#[derive(Default, Clone)]
struct Ledger {
    /// Every data frame whose append returned: its number and payload.
    written: Vec<(u64, Vec<u8>)>,
    /// Numbers of those that a sync confirmed.
    acknowledged: Vec<u64>,
    /// Commands that a sync confirmed.
    catalog: Catalog,
    /// Numbers below it are flushed, and no longer asked for once that is acknowledged.
    flushed_below: u64,
    next: u64,
}

fn payload(number: u64, len: usize) -> Vec<u8> {
    let filler = (0..len).map(|i| (number as usize * 31 + i) as u8);
    number.to_le_bytes().into_iter().chain(filler).collect()
}

/// Starts on what is on the disk and checks it against the ledger.
fn start(disk: &Arc<dyn Disk>, mut ledger: Ledger) -> Result<Run, LogError> {
    let mut reader = reader(disk);
    let mut catalog = Catalog::default();
    reader.replay_catalog(&mut |frame| {
        let next = Catalog::decode(&frame.payload);
        if frame.kind == FrameKind::CatalogCommand {
            // Only what was never acknowledged may be missing between two commands.
            let no_gap = next.commands == catalog.commands + 1;
            let unsynced = catalog.commands >= ledger.catalog.commands;
            assert!(no_gap || unsynced && next.commands > catalog.commands, "{next:?}");
        }
        catalog = next;
    })?;
    assert!(catalog.commands >= ledger.catalog.commands, "a command is lost");
    assert!(catalog.flushed >= ledger.catalog.flushed);
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    reader.replay(catalog.flushed, &mut |frame| {
        if frame.kind == FrameKind::Metrics {
            let number = u64::from_le_bytes(*frame.payload.first_chunk().expect("8 bytes"));
            found.push((number, frame.payload.to_vec()));
        }
    })?;
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "out of order or doubled");
    for frame in &found {
        assert!(ledger.written.contains(frame), "{} was never written", frame.0);
    }
    // A flush that was not acknowledged may have been committed all the same.
    let was_flushed = catalog.flushed > ledger.catalog.flushed;
    for number in &ledger.acknowledged {
        let gone = *number < ledger.flushed_below && was_flushed;
        assert!(gone || found.iter().any(|f| f.0 == *number), "{number} is lost");
    }
    assert!(reader.report().damage.is_empty(), "{:?}", reader.report());
    ledger.acknowledged = found.iter().map(|f| f.0).collect();
    ledger.written = found;
    ledger.catalog = catalog;
    let store = reader.store().unwrap_or(STORE);
    let log = LogWriter::open(reader, Arc::default(), store, catalog.flushed, catalog.encode())?;
    Ok(Run { disk: Arc::clone(disk), log, catalog, ledger })
}

impl Run {
    fn step(&mut self, op: &Op) -> Result<(), LogError> {
        match op {
            Op::Data(len) => {
                let number = self.ledger.next;
                self.ledger.next += 1;
                let payload = payload(number, *len);
                // Before the append: a write that fails halfway may still reach the disk.
                self.ledger.written.push((number, payload.clone()));
                self.log.append(FrameKind::Metrics, &[&payload])?;
            }
            Op::Command => self.command(self.catalog.flushed)?,
            Op::Sync => self.sync()?,
            Op::Flush => self.flush()?,
            Op::Restart => {
                self.sync()?;
                *self = start(&self.disk, self.ledger.clone())?;
            }
        }
        Ok(())
    }

    fn command(&mut self, flushed: LogPosition) -> Result<(), LogError> {
        self.catalog = Catalog { commands: self.catalog.commands + 1, flushed };
        self.log.append(FrameKind::CatalogCommand, &[&self.catalog.encode()])?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.log.sync()?;
        let ledger = &mut self.ledger;
        ledger.acknowledged = ledger.written.iter().map(|frame| frame.0).collect();
        ledger.catalog = self.catalog;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let position = self.log.rotate(&self.catalog.encode())?;
        self.ledger.flushed_below = self.ledger.next;
        self.command(position)?;
        self.sync()?;
        self.ledger.acknowledged.clear();
        self.ledger.written.clear();
        self.log.delete_before(position, None)
    }
}

/// Runs `ops` until the power goes, and returns what the client knows then.
fn run_until_power_cut(disk: &MemoryDisk, ops: &[Op], ledger: Ledger) -> Ledger {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut known = ledger.clone();
    let Ok(mut run) = start(&shared, ledger) else { return known };
    for op in ops {
        let result = run.step(op);
        known = run.ledger.clone();
        if result.is_err() {
            break;
        }
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_frames_survive_a_power_cut_at_every_step(
        first in proptest::collection::vec(any_op(), 1..12),
        second in proptest::collection::vec(any_op(), 1..6),
        seed in any::<u64>(),
    ) {
        let whole = MemoryDisk::new();
        run_until_power_cut(&whole, &first, Ledger::default());
        for cut in 0..=whole.steps() {
            let disk = MemoryDisk::new();
            disk.cut_power_after(cut);
            let ledger = run_until_power_cut(&disk, &first, Ledger::default());
            // The start after it is cut, too, at a step that the seed chooses.
            let crashed = disk.crash(seed ^ cut);
            crashed.cut_power_after((seed >> 8).wrapping_add(cut) % 16);
            let ledger = run_until_power_cut(&crashed, &second, ledger);
            let twice: Arc<dyn Disk> = Arc::new(crashed.crash(seed.wrapping_mul(cut + 1)));
            start(&twice, ledger).expect("the power is on");
        }
    }

    #[test]
    fn blobs_appear_whole_or_not_at_all(
        sizes in proptest::collection::vec(0..400_000_usize, 1..4),
        seed in any::<u64>(),
    ) {
        let blob = |index: usize| format!("blocks/metrics/{index}");
        let write = |disk: &MemoryDisk| -> usize {
            let Ok(blobs) = DiskBlobs::open(Arc::new(disk.clone())) else { return 0 };
            for (index, size) in sizes.iter().enumerate() {
                let written = blobs.create(&blob(index)).and_then(|mut out| {
                    for piece in payload(index as u64, *size).chunks(100_000) {
                        out.write(piece)?;
                    }
                    out.finish()
                });
                if written.is_err() {
                    return index;
                }
            }
            sizes.len()
        };
        let whole = MemoryDisk::new();
        write(&whole);
        for cut in 0..=whole.steps() {
            let disk = MemoryDisk::new();
            disk.cut_power_after(cut);
            let finished = write(&disk);
            let crashed: Arc<dyn Disk> = Arc::new(disk.crash(seed ^ cut));
            let blobs = DiskBlobs::open(Arc::clone(&crashed)).expect("the power is on");
            prop_assert!(crashed.list("tmp").expect("the power is on").is_empty());
            let listed = blobs.list("blocks/").expect("the power is on");
            prop_assert!(listed.len() >= finished && listed.len() <= finished + 1);
            for (index, info) in listed.iter().enumerate() {
                prop_assert_eq!(&info.key, &blob(index));
                let bytes = support::read(&*crashed, &info.key);
                prop_assert!(bytes == payload(index as u64, sizes[index]));
            }
        }
    }
}
