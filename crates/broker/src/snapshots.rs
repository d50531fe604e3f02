//! Copies of the store: links to its blocks, and a log with its catalog.

use std::sync::Arc;

use blockstore::{BlobError, Counters, Disk, DiskBelow, LogError, LogReader, LogWriter};
use catalog::{LogPosition, State};

use crate::exemplars;

/// Where copies lie, below the data directory.
const DIRECTORY: &str = "snapshots";
/// Where one is written; what an earlier run left there goes at the start.
const UNFINISHED: &str = "snapshots/unfinished";

/// Removes what an interrupted snapshot left.
///
/// # Errors
/// Faults of the disk.
pub(crate) fn remove_unfinished(disk: &dyn Disk) -> Result<(), BlobError> {
    disk.remove_directory(UNFINISHED)
}

/// Writes a copy with the blocks that `state` lists, which must stay until it returns. `state` is
/// that of a store whose log holds nothing but it; the exemplars are those of the flush at
/// `flushed_through`. `between` is called after every block.
///
/// # Errors
/// Faults of the disk; nothing is left then, at the latest after the next start.
pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    state: &State,
    flushed_through: LogPosition,
    name: &str,
    between: &mut dyn FnMut(),
) -> Result<(), LogError> {
    assert!(!name.is_empty() && !name.contains(['/', '.']), "{name:?} is no plain file name");
    let written = fill(disk, state, flushed_through, between).and_then(|()| {
        disk.rename_directory(UNFINISHED, &format!("{DIRECTORY}/{name}"))?;
        disk.sync_directory(DIRECTORY)?;
        Ok(())
    });
    if written.is_err() {
        // The fault that is told is the one that came first.
        let _ = remove_unfinished(&**disk);
    }
    written
}

fn fill(
    disk: &Arc<dyn Disk>,
    state: &State,
    flushed_through: LogPosition,
    between: &mut dyn FnMut(),
) -> Result<(), LogError> {
    remove_unfinished(&**disk)?;
    // Before anything is flushed in between, which would replace them.
    exemplars::link(&**disk, flushed_through, UNFINISHED)?;
    let mut directories = std::collections::BTreeSet::new();
    for block in state.blocks() {
        let key = block.key();
        disk.link(&key, &format!("{UNFINISHED}/{key}"))?;
        directories.extend(key.rsplit_once('/').map(|(above, _)| above.to_owned()));
        between();
    }
    for directory in directories {
        disk.sync_directory(&format!("{UNFINISHED}/{directory}"))?;
    }
    let below: Arc<dyn Disk> = Arc::new(DiskBelow::new(Arc::clone(disk), UNFINISHED));
    let counters = Arc::new(Counters::default());
    let reader = LogReader::open(Arc::clone(&below), Arc::clone(&counters))?;
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    let store = state.store().expect("a running store has an identity");
    let log = LogWriter::open(reader, counters, store, state.flushed_through(), bytes)?;
    if log.current_file().is_none() {
        // It would wait for space, a copy does not.
        return Err(BlobError::Full { key: UNFINISHED.to_owned() }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use blockstore::{FrameKind, MemoryDisk};
    use catalog::{BlockId, Command, LogPosition, NewBlock, Signal, StoreId};
    use model::{DEFAULT_TENANT, TimeRange};

    use super::*;

    /// A disk with two durable blocks, and the catalog that lists them.
    fn store() -> (MemoryDisk, State) {
        let disk = MemoryDisk::new();
        let block = |id| NewBlock {
            id: BlockId(id),
            tenant: DEFAULT_TENANT,
            signal: Signal::Metrics,
            range: TimeRange::new(0, 1),
            rows: 1,
            series: 1,
            size_bytes: 3,
            level: 0,
        };
        let added = vec![block(1), block(2)];
        for block in &added {
            let mut file = disk.create(&block.id.key(block.signal)).expect("memory");
            file.append(&[b"abc"]).expect("memory");
            file.sync_data().expect("memory");
        }
        disk.sync_directory("blocks/metrics").expect("memory");
        let mut state = State::default();
        let flushed_through = LogPosition { file: 7, offset: 7 };
        for command in [
            Command::CreateStore { store: StoreId([1; 16]) },
            Command::Flush { added, flushed_through, deletes_through: 0 },
        ] {
            state.apply(&command).expect("a new store");
        }
        (disk, state.for_copy())
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_a_whole_copy_or_none() {
        let (disk, state) = store();
        let all: Arc<dyn Disk> = Arc::new(disk.clone());
        let before = disk.steps();
        write(&all, &state, LogPosition::default(), "whole", &mut || ()).expect("memory");
        let steps = disk.steps() - before;
        assert!(steps > 8, "a copy takes {steps} steps");
        let (mut whole, mut none) = (0, 0);
        for (cut, seed) in (0..=steps).flat_map(|cut| (0..8).map(move |seed| (cut, seed))) {
            let (disk, state) = store();
            disk.cut_power_after(cut);
            let shared = Arc::new(disk.clone()) as Arc<dyn Disk>;
            let written = write(&shared, &state, LogPosition::default(), "x", &mut || ());
            let crashed = disk.crash(seed);
            remove_unfinished(&crashed).expect("memory");
            let files = crashed.list(DIRECTORY).expect("memory");
            if files.is_empty() {
                assert!(written.is_err(), "cut {cut}: a copy that was answered is gone");
                none += 1;
                continue;
            }
            whole += 1;
            for block in state.blocks() {
                let file = crashed.open(&format!("snapshots/x/{}", block.key()));
                assert_eq!(file.expect("in the copy").size_bytes(), 3, "cut {cut}, seed {seed}");
            }
            let below = Arc::new(DiskBelow::new(Arc::new(crashed), "snapshots/x"));
            let mut reader = LogReader::open(below, Arc::default()).expect("a log");
            let mut found = None;
            reader
                .replay_catalog(&mut |frame| {
                    assert_eq!(frame.kind, FrameKind::CatalogSnapshot);
                    found = State::decode(&frame.payload).ok();
                })
                .expect("a log");
            assert_eq!(found.as_ref(), Some(&state), "cut {cut}, seed {seed}");
        }
        assert!(whole > 0 && none > 0, "{whole} whole, {none} none");
    }
}
