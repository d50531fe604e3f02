use blockstore::MemoryDisk;
use catalog::{Command, Expected};
use openraft::{CommittedLeaderId, EntryPayload};

use super::*;
use crate::sessions::Place;
use crate::types::Proposal;

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 0), index)
}

fn entry(index: u64, bytes: usize) -> Held {
    let place = Place { origin: 1, process: 1, seq: index, oldest: 0 };
    let (key, value) = ("k".to_owned(), vec![7; bytes]);
    let command = Command::Put { key, value, expected: Expected::Any };
    let proposal = Proposal { place, version: catalog::FORMAT_VERSION, command };
    Held::new(&Entry { log_id: id(index), payload: EntryPayload::Normal(proposal) })
}

fn store(snapshots: watch::Receiver<Durable>) -> LogStore {
    let disk = Arc::new(MemoryDisk::new());
    LogStore::open(disk, "log", Writing::Inline, snapshots, Arc::new(|_| {})).expect("it is empty")
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

/// Review, finding 11: what is sent at once is bounded by its bytes, and one entry always goes.
#[test]
fn entries_are_sent_by_their_bytes() {
    let (_sender, snapshots) = watch::channel(Ok(0));
    let mut store = store(snapshots);
    let sizes = [100 << 10, 100 << 10, 100 << 10, 900 << 10, 1, 1, 1];
    let entries = sizes.iter().zip(1..).map(|(bytes, index)| entry(index, *bytes));
    store.contents.lock().extend(entries);
    let mut sent = |start| {
        let entries = now(store.limited_get_log_entries(start, 8)).expect("they are there");
        entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>()
    };
    assert_eq!(sent(1), [1, 2]);
    assert_eq!(sent(3), [3]);
    assert_eq!(sent(4), [4]);
    assert_eq!(sent(5), [5, 6, 7]);
}

/// Review, finding 8: openraft has entries purged while the snapshot that holds them is on its way.
#[test]
fn nothing_is_purged_before_its_snapshot_is_durable() {
    let (sender, snapshots) = watch::channel(Ok(0));
    let mut store = store(snapshots);
    store.contents.lock().extend((1..9).map(|index| entry(index, 10)));
    now(async {
        let mut purge = std::pin::pin!(store.purge(id(5)));
        for durable in [Ok(0), Ok(4)] {
            sender.send(durable).expect("it listens");
            let early = tokio::time::timeout(std::time::Duration::from_millis(20), &mut purge);
            assert!(early.await.is_err(), "it did not wait");
        }
        sender.send(Ok(5)).expect("it listens");
        purge.await.expect("the snapshot is durable");
    });
    let contents = store.contents.lock().clone();
    assert_eq!((contents.purged, contents.last()), (Some(id(5)), Some(id(8))));
    let left: u64 = contents.entries(..).map(|held| held.bytes.len() as u64).sum();
    assert_eq!(contents.size_bytes(), left);
    // Nor does it wait for ever for one that failed.
    sender.send(Err("the disk is full".to_owned())).expect("it listens");
    let failed = now(store.purge(id(7))).expect_err("there is no snapshot").to_string();
    assert!(failed.contains("the disk is full"), "{failed}");
}
