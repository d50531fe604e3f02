//! What the engines get from a shared store through the cache, when several ask and when things fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use blockstore::{BlobError, Blobs, Disk, MemoryDisk, ReadAt};
use objects::{
    Fault, FaultyStore, MemoryStore, NeighbourCall, Neighbours, Operation, PageCache, SharedBlobs,
    Store, StoreOptions,
};
use tokio::runtime::Runtime;

const CHUNK: usize = 1 << 20;

/// A store that can be switched off, its cache, and a blob of some chunks in it.
struct Setting {
    runtime: Runtime,
    store: Store,
    disk: MemoryDisk,
    cache: Arc<PageCache>,
    blobs: SharedBlobs,
    is_down: Arc<AtomicBool>,
    written: Vec<u8>,
}

fn setting() -> Setting {
    let runtime = Runtime::new().expect("a runtime");
    let is_down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_down);
    let decide = move |_: &'static str, _: &str| match switch.load(Relaxed) {
        true => Fault::Before,
        false => Fault::None,
    };
    let faulty = FaultyStore::new(Arc::new(MemoryStore::default()), Arc::new(decide));
    let deadline = Duration::from_millis(200);
    let options =
        StoreOptions { write_deadline: deadline, read_deadline: deadline, ..StoreOptions::cache() };
    let store = Store::with_backend(Arc::new(faulty), "", "shared", options);
    let disk = MemoryDisk::new();
    let cache = PageCache::open(Arc::new(disk.clone()), 64 << 20).expect("a good disk");
    let cache = Arc::new(cache);
    let kept = Some(Arc::clone(&cache));
    let blobs = SharedBlobs::new(store.clone(), runtime.handle().clone(), kept);
    let written: Vec<u8> = (0..5 * CHUNK + 77).map(|at| (at / 3 % 251) as u8).collect();
    let mut writer = blobs.create("a/block").expect("begun");
    writer.write(&written).expect("taken");
    writer.finish().expect("the store is up");
    Setting { runtime, store, disk, cache, blobs, is_down, written }
}

impl Setting {
    fn open(&self) -> Arc<dyn ReadAt> {
        self.blobs.open("a/block").expect("it is there")
    }

    fn requests(&self) -> u64 {
        self.store.counters().requests(Operation::GetRange)
    }

    fn check(&self, blob: &dyn ReadAt, offset: usize, len: usize) {
        let mut out = vec![0; len];
        blob.read_exact_at(offset as u64, &mut out).expect("it can be read");
        assert!(out == self.written[offset..offset + len], "{len} bytes from {offset}");
    }
}

#[test]
fn what_many_want_at_once_is_fetched_once() {
    let setting = setting();
    let blob = setting.open();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (setting, blob) = (&setting, &blob);
            scope.spawn(move || setting.check(&**blob, CHUNK + thread * 5_000, 4_096));
        }
    });
    assert_eq!(setting.requests(), 1);
    setting.check(&*blob, 0, setting.written.len());
    assert_eq!(setting.requests(), 6, "each of the others once");
    setting.check(&*blob, 0, setting.written.len());
    assert_eq!(setting.requests(), 6);
    assert!(setting.runtime.block_on(async { setting.store.size("a/block").await.is_ok() }));
}

#[test]
fn what_is_damaged_on_the_local_disk_is_fetched_again() {
    let setting = setting();
    let blob = setting.open();
    setting.check(&*blob, 0, setting.written.len());
    for file in setting.disk.list("").expect("a good disk") {
        setting.disk.damage(&file.key, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    let before = setting.requests();
    setting.check(&*blob, 0, setting.written.len());
    assert_eq!(setting.requests(), before + 6);
    assert_eq!(setting.cache.counters().damaged(), 6);
    setting.check(&*blob, 0, setting.written.len());
    assert_eq!(setting.requests(), before + 6, "they are whole again");
}

#[test]
fn a_store_that_is_away_costs_only_what_is_not_cached() {
    let setting = setting();
    let blob = setting.open();
    setting.check(&*blob, 0, 10);
    setting.is_down.store(true, Relaxed);
    setting.check(&*blob, 100, 5_000);
    let error = blob.read_exact_at(CHUNK as u64, &mut [0; 10]).expect_err("nobody has it");
    let told = error.to_string();
    assert!(matches!(error, BlobError::Unavailable { .. }));
    assert!(told.contains("a/block") && told.contains("cannot reach the store"), "{told}");
    let mut writer = setting.blobs.create("a/other").expect("begun");
    writer.write(b"bytes").expect("gathered");
    assert!(matches!(writer.finish(), Err(BlobError::Unavailable { .. })));
    setting.is_down.store(false, Relaxed);
    setting.check(&*blob, CHUNK, 10);
    assert!(matches!(setting.blobs.open("a/other"), Err(BlobError::NotFound { .. })));
}

#[test]
fn a_cache_without_room_only_costs_requests() {
    let setting = setting();
    setting.disk.set_capacity_bytes(Some(0));
    let blob = setting.open();
    for _ in 0..2 {
        setting.check(&*blob, 10, 3 * CHUNK);
    }
    setting.disk.set_capacity_bytes(None);
    assert_eq!(setting.cache.counters().bytes(), 0);
    setting.check(&*blob, 10, 10);
    assert!(setting.cache.counters().bytes() > CHUNK as u64);
}

/// The cache on files of the system, by one process after the other.
#[test]
fn what_is_cached_is_there_after_a_restart() {
    let setting = setting();
    let directory = tempfile::tempdir().expect("a directory");
    let read_all = || {
        let disk = blockstore::FileDisk::open(directory.path()).expect("nobody else has it");
        let cache = Arc::new(PageCache::open(Arc::new(disk), 64 << 20).expect("a good disk"));
        let kept = Some(Arc::clone(&cache));
        let runtime = setting.runtime.handle().clone();
        let blobs = SharedBlobs::new(setting.store.clone(), runtime, kept);
        setting.check(&*blobs.open("a/block").expect("it is there"), 0, setting.written.len());
        cache.counters().hits()
    };
    read_all();
    let asked = setting.requests();
    assert_eq!((read_all(), setting.requests()), (6, asked));
    let cut = std::fs::read_dir(directory.path()).expect("it is there").flatten();
    let chunks = cut.filter(|entry| entry.path().is_dir());
    for file in chunks.flat_map(|entry| std::fs::read_dir(entry.path()).expect("it is there")) {
        let file = std::fs::File::options().write(true).open(file.expect("a file").path());
        file.and_then(|file| file.set_len(70_000)).expect("it can be cut");
    }
    assert_eq!((read_all(), setting.requests()), (0, asked + 6), "all were cut");
}

/// Bytes that were wrong when they were kept stay wrong here, and nowhere else.
#[test]
fn the_store_itself_can_be_read_past_what_is_kept_of_it() {
    let mut setting = setting();
    setting.check(&*setting.open(), 0, setting.written.len());
    let asked = setting.requests();
    setting.written.iter_mut().for_each(|byte| *byte ^= 0x55);
    let other = setting.written.clone().into();
    setting.runtime.block_on(setting.store.put("a/block", other)).expect("the store is up");
    let in_store = setting.blobs.open_past_copies("a/block").expect("it is there");
    for offset in (0..setting.written.len()).step_by(100_000) {
        setting.check(&*in_store, offset, 150_000.min(setting.written.len() - offset));
    }
    assert_eq!(setting.requests(), asked + 6, "each chunk once");
    let mut byte = [0];
    let beyond = in_store.read_exact_at(setting.written.len() as u64, &mut byte);
    assert!(beyond.is_err());
    setting.open().read_exact_at(9, &mut byte).expect("it is kept");
    assert_ne!(byte[0], setting.written[9]);
    setting.blobs.forget_copies("a/block");
    assert_eq!(setting.cache.counters().bytes(), 0);
    setting.check(&*setting.open(), 0, setting.written.len());
}

/// Another process' cache of the same store.
struct Neighbour {
    blobs: SharedBlobs,
    conduct: Arc<AtomicU8>,
    asked: Arc<AtomicU64>,
}

const GIVES: u8 = 0;
const GIVES_NOTHING: u8 = 1;
const CUTS: u8 = 2;

impl Neighbours for Neighbour {
    fn chunk(&self, key: &str, size_bytes: u64, number: u32) -> NeighbourCall {
        self.asked.fetch_add(1, Relaxed);
        let (blobs, key, conduct) =
            (self.blobs.clone(), key.to_owned(), self.conduct.load(Relaxed));
        Box::pin(async move {
            if conduct == GIVES_NOTHING {
                return None;
            }
            let read = move || blobs.chunk(&key, size_bytes, number);
            let mut chunk = tokio::task::spawn_blocking(read).await.ok()?.ok()?;
            if conduct == CUTS {
                chunk.truncate(chunk.len() / 2);
            }
            Some(chunk)
        })
    }
}

#[test]
fn what_a_neighbour_keeps_is_not_fetched_again() {
    let setting = setting();
    let all = setting.written.len();
    let near = PageCache::open(Arc::new(MemoryDisk::new()), 64 << 20).expect("a good disk");
    let near = Arc::new(near);
    let runtime = setting.runtime.handle().clone();
    let blobs = SharedBlobs::new(setting.store.clone(), runtime.clone(), Some(Arc::clone(&near)));
    let (conduct, asked) = (Arc::new(AtomicU8::new(GIVES)), Arc::new(AtomicU64::new(0)));
    let neighbour = Neighbour { blobs, conduct: Arc::clone(&conduct), asked: Arc::clone(&asked) };
    setting.blobs.set_neighbours(Arc::new(neighbour));
    let blob = setting.open();
    setting.check(&*blob, 0, all);
    // The neighbour fetched each chunk once, and nobody else did.
    assert_eq!((setting.requests(), asked.load(Relaxed)), (6, 6));
    assert_eq!(setting.cache.counters().from_neighbours(), 6);
    setting.check(&*blob, 0, all);
    assert_eq!((setting.requests(), asked.load(Relaxed)), (6, 6), "now the own cache has them");
    // Of a third process nobody has to fetch anything.
    let third = PageCache::open(Arc::new(MemoryDisk::new()), 64 << 20).expect("a good disk");
    let third = SharedBlobs::new(setting.store.clone(), runtime.clone(), Some(Arc::new(third)));
    let (near_conduct, near_asked) = (Arc::clone(&conduct), Arc::clone(&asked));
    let blobs = SharedBlobs::new(setting.store.clone(), runtime, Some(near));
    third.set_neighbours(Arc::new(Neighbour { blobs, conduct: near_conduct, asked: near_asked }));
    let blob_of_third = third.open("a/block").expect("it is there");
    setting.is_down.store(true, Relaxed);
    setting.check(&*blob_of_third, 0, all);
    setting.is_down.store(false, Relaxed);
    assert_eq!(setting.requests(), 6);

    // A neighbour that has nothing, or half of it, costs a request and nothing else.
    for fault in [GIVES_NOTHING, CUTS] {
        conduct.store(fault, Relaxed);
        let before = setting.requests();
        let cache = PageCache::open(Arc::new(MemoryDisk::new()), 64 << 20).expect("a good disk");
        let cache = Arc::new(cache);
        let (runtime, kept) = (setting.runtime.handle().clone(), Some(Arc::clone(&cache)));
        let fourth = SharedBlobs::new(setting.store.clone(), runtime, kept);
        let (conduct, asked) = (Arc::clone(&conduct), Arc::clone(&asked));
        let blobs = setting.blobs.clone();
        fourth.set_neighbours(Arc::new(Neighbour { blobs, conduct, asked }));
        setting.check(&*fourth.open("a/block").expect("it is there"), 0, all);
        assert_eq!(setting.requests(), before + 6);
        assert_eq!(cache.counters().from_neighbours(), 0);
    }
    let beyond = setting.blobs.chunk("a/block", all as u64, 6).expect_err("there are six");
    assert!(matches!(beyond, BlobError::Io { .. }));
}

#[test]
fn copies_that_were_damaged_are_not_asked_for_again() {
    let setting = setting();
    let all = setting.written.len();
    let (conduct, asked) = (Arc::new(AtomicU8::new(GIVES)), Arc::new(AtomicU64::new(0)));
    let near = PageCache::open(Arc::new(MemoryDisk::new()), 64 << 20).expect("a good disk");
    let runtime = setting.runtime.handle().clone();
    let blobs = SharedBlobs::new(setting.store.clone(), runtime, Some(Arc::new(near)));
    let neighbour = Neighbour { blobs, conduct, asked: Arc::clone(&asked) };
    setting.blobs.set_neighbours(Arc::new(neighbour));
    setting.check(&*setting.open(), 0, all);
    assert_eq!((setting.requests(), asked.load(Relaxed)), (6, 6));
    // What is read past copies comes from the store.
    let past = setting.blobs.open_past_copies("a/block").expect("it is there");
    setting.check(&*past, 0, all);
    assert_eq!((setting.requests(), asked.load(Relaxed)), (12, 6));
    setting.blobs.forget_copies("a/block");
    setting.check(&*setting.open(), 0, all);
    assert_eq!((setting.requests(), asked.load(Relaxed)), (18, 6), "it may have damaged ones");
}
