//! A directory, possibly of a network file system that several brokers have mounted.
//!
//! An object is a file of the same path with a footer of 20 bytes behind its bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | length of the object, little endian |
//! | 4 | CRC-32 of the object |
//! | 4 | CRC-32 of the twelve bytes before |
//! | 4 | `WFOB` |
//!
//! It is written to a file of its own below `tmp/`, synced, renamed, and the directory is synced
//! before the write is confirmed: it appears whole or not at all. The footer is for what comes
//! after: a file that was cut is never served, nor is one that was changed when it is read whole.
//!
//! A sync that failed ends all writing of this process: what it was for may be there and not
//! durable, and nobody would be told a second time. Reads go on.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use blockstore::{BlobError, Disk, DiskFile, FileDisk, ReadAt};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Backend, ObjectInfo, PartsBackend, Refusal, StoreError};

const MAGIC: [u8; 4] = *b"WFOB";
const FOOTER_BYTES: u64 = 20;

/// Where unfinished objects are written.
const TEMPORARY: &str = "tmp";

/// An unfinished object that is older belongs to nobody any more: every write has given up long
/// before, also if clocks differ.
const ABANDONED: Duration = Duration::from_secs(24 * 3_600);

/// Objects as files of a [`Disk`].
#[derive(Clone)]
pub struct DirectoryStore(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    /// Tells this process' unfinished objects from those of others.
    process: u64,
    next_temporary: AtomicU64,
    has_failed_sync: AtomicBool,
}

impl DirectoryStore {
    /// In a directory of the operating system, which is made if it is not there; several processes
    /// may have it open.
    ///
    /// # Errors
    /// `Settings`: it cannot be made or read.
    pub async fn open(directory: &Path) -> Result<DirectoryStore, StoreError> {
        let directory = directory.to_owned();
        blocking(move || {
            let shown = directory.display().to_string();
            let unfit = |error: &dyn std::error::Error| {
                StoreError::Settings(format!("the directory of the store, {shown}: {error}"))
            };
            let disk = FileDisk::shared(&directory).map_err(|error| unfit(&error))?;
            let store = DirectoryStore::new(Arc::new(disk));
            store.0.remove_abandoned(unix_now()).map_err(|error| unfit(&error))?;
            Ok(store)
        })
        .await
    }

    /// On a disk of the caller's.
    pub fn new(disk: Arc<dyn Disk>) -> DirectoryStore {
        let mut process = [0; 8];
        // Without chance the clock tells two processes apart.
        let _ = getrandom::fill(&mut process);
        let process = u64::from_le_bytes(process) ^ unix_now().as_nanos() as u64;
        let (next_temporary, has_failed_sync) = (AtomicU64::new(0), AtomicBool::new(false));
        DirectoryStore(Arc::new(Inner { disk, process, next_temporary, has_failed_sync }))
    }

    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        work: impl FnOnce(&Inner, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, key) = (Arc::clone(&self.0), key.to_owned());
        blocking(move || work(&inner, &key).map_err(|fault| fault.sorted(action, &key))).await
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Runs what waits for a disk where it stops nobody else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| StoreError::Settings("the process is stopping".to_owned()))?
}

/// Why the disk did not do it.
#[derive(Debug)]
enum Fault {
    /// Before the object had its name: it is not there, and does not appear.
    Disk(BlobError),
    /// When it had its name: it may stay or vanish with the power.
    Naming(BlobError),
    /// Bytes of the file are not those that were written.
    Damaged(String),
    TooLarge {
        bytes: u64,
        limit: u64,
    },
    /// A sync failed before: nothing was written.
    Poisoned,
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        Fault::Disk(error)
    }
}

impl Fault {
    fn sorted(self, action: &'static str, key: &str) -> StoreError {
        let key = key.to_owned();
        let refused = |refusal, why: &BlobError| StoreError::Refused {
            refusal,
            action,
            key: key.clone(),
            why: why.to_string(),
        };
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self {
            Fault::Damaged(why) => StoreError::Damaged { key, why },
            Fault::TooLarge { bytes, limit } => StoreError::TooLarge { key, bytes, limit },
            Fault::Poisoned => StoreError::Refused {
                refusal: Refusal::ReadOnly,
                action,
                key,
                why: "a sync failed, and nothing is written since: check the disk and its file \
                      system, then restart this process"
                    .to_owned(),
            },
            Fault::Disk(BlobError::NotFound { .. }) => StoreError::NotFound { key },
            Fault::Disk(error @ BlobError::Full { .. }) => refused(Refusal::Full, &error),
            Fault::Disk(error) => match &error {
                BlobError::Io { source, .. } if source.kind() == ReadOnlyFilesystem => {
                    refused(Refusal::ReadOnly, &error)
                }
                BlobError::Io { source, .. } if source.kind() == PermissionDenied => {
                    refused(Refusal::Permission, &error)
                }
                // Also a failed sync: what it was for is thrown away and never looked at again.
                _ => refused(Refusal::Other, &error),
            },
            Fault::Naming(error) => StoreError::Failed { action, key, why: error.to_string() },
        }
    }
}

impl Inner {
    /// Removes what writers that died left, of all processes.
    fn remove_abandoned(&self, now: Duration) -> Result<(), BlobError> {
        for file in self.disk.list(TEMPORARY)? {
            let name = file.key.rsplit('/').next().unwrap_or_default();
            let began = name.split('-').next().and_then(|text| text.parse().ok());
            let age = began.map(|began| now.saturating_sub(Duration::from_secs(began)));
            if age.is_some_and(|age| age > ABANDONED) {
                self.disk.remove(&file.key)?;
            }
        }
        Ok(())
    }

    /// Passes a result on, and notes a sync that failed.
    fn noted<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        use BlobError::SyncFailed;
        if let Err(Fault::Disk(SyncFailed { .. }) | Fault::Naming(SyncFailed { .. })) = &result {
            self.has_failed_sync.store(true, Relaxed);
        }
        result
    }

    fn begin(self: &Arc<Self>, key: &str) -> Result<Writing, Fault> {
        if self.has_failed_sync.load(Relaxed) {
            return Err(Fault::Poisoned);
        }
        let number = self.next_temporary.fetch_add(1, Relaxed);
        let (began, process) = (unix_now().as_secs(), self.process);
        let temporary = format!("{TEMPORARY}/{began}-{process:016x}-{number}");
        let file = self.noted(self.disk.create(&temporary).map_err(Fault::Disk))?;
        Ok(Writing {
            inner: Arc::clone(self),
            key: key.to_owned(),
            temporary,
            file,
            bytes: 0,
            crc: crc32fast::Hasher::new(),
        })
    }

    fn put(self: &Arc<Self>, key: &str, bytes: &[u8]) -> Result<(), Fault> {
        let mut writing = self.begin(key)?;
        writing.append(bytes)?;
        writing.finish()
    }

    /// The file of an object, its length and its checksum.
    fn open(&self, key: &str) -> Result<(Arc<dyn ReadAt>, u64, u32), Fault> {
        let file = self.disk.open(key)?;
        let damaged = |why: String| Err(Fault::Damaged(why));
        let Some(size) = file.size_bytes().checked_sub(FOOTER_BYTES) else {
            return damaged(format!("its file has only {} bytes", file.size_bytes()));
        };
        let mut footer = [0; FOOTER_BYTES as usize];
        file.read_exact_at(size, &mut footer)?;
        let Some((told, crc)) = read_footer(&footer) else {
            return damaged("its file does not end as it was written".to_owned());
        };
        if told != size {
            return damaged(format!("its file has {size} of {told} bytes"));
        }
        Ok((file, size, crc))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes, Fault> {
        let (file, bytes, crc) = self.open(key)?;
        if bytes > limit {
            return Err(Fault::TooLarge { bytes, limit });
        }
        let found = read(&*file, 0..bytes)?;
        if crc32fast::hash(&found) == crc {
            return Ok(found);
        }
        Err(Fault::Damaged("its bytes are not those that were written".to_owned()))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let (file, size, _) = self.open(key)?;
        let (start, end) = (range.start.min(size), range.end.min(size));
        read(&*file, start..end.max(start))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Fault> {
        let mut found = Vec::new();
        for file in self.disk.list(prefix.trim_end_matches('/'))? {
            let is_ours = file.key.starts_with(prefix) && !file.key.starts_with("tmp/");
            // A shorter one is damaged, and told so when it is read.
            let size_bytes = file.size_bytes.saturating_sub(FOOTER_BYTES);
            if is_ours {
                found.push(ObjectInfo { key: file.key, size_bytes });
            }
        }
        Ok(found)
    }
}

fn read(file: &dyn ReadAt, range: Range<u64>) -> Result<Bytes, Fault> {
    let len = range.end - range.start;
    // The file has so many bytes: its length was asked before.
    let mut bytes = vec![0; usize::try_from(len).expect("a range that was checked fits memory")];
    file.read_exact_at(range.start, &mut bytes)?;
    Ok(bytes.into())
}

fn footer(size: u64, crc: u32) -> [u8; FOOTER_BYTES as usize] {
    let mut footer = [0; FOOTER_BYTES as usize];
    footer[..8].copy_from_slice(&size.to_le_bytes());
    footer[8..12].copy_from_slice(&crc.to_le_bytes());
    let own = crc32fast::hash(&footer[..12]);
    footer[12..16].copy_from_slice(&own.to_le_bytes());
    footer[16..].copy_from_slice(&MAGIC);
    footer
}

fn read_footer(footer: &[u8; FOOTER_BYTES as usize]) -> Option<(u64, u32)> {
    let (size, rest) = footer.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (own, magic) = rest.split_first_chunk::<4>()?;
    let is_whole = u32::from_le_bytes(*own) == crc32fast::hash(&footer[..12]) && *magic == MAGIC;
    is_whole.then(|| (u64::from_le_bytes(*size), u32::from_le_bytes(*crc)))
}

/// An object that has no name yet.
struct Writing {
    inner: Arc<Inner>,
    key: String,
    /// Empty when it has.
    temporary: String,
    file: Box<dyn DiskFile>,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Writing {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.append(&[bytes])?;
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let inner = Arc::clone(&self.inner);
        inner.noted(self.sync_and_name())?;
        // Another write's sync may have failed between this one's rename and its sync of the directory.
        if !inner.has_failed_sync.load(Relaxed) {
            return Ok(());
        }
        let source = std::io::Error::other("another sync of this directory failed");
        Err(Fault::Naming(BlobError::SyncFailed { key: self.key.clone(), source }))
    }

    fn sync_and_name(&mut self) -> Result<(), Fault> {
        let footer = footer(self.bytes, self.crc.clone().finalize());
        self.file.append(&[&footer])?;
        self.file.sync_data()?;
        self.inner.disk.rename(&self.temporary, &self.key).map_err(Fault::Naming)?;
        self.temporary.clear();
        let directory = self.key.rsplit_once('/').map_or("", |(directory, _)| directory);
        self.inner.disk.sync_directory(directory).map_err(Fault::Naming)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // What stays is removed by a later start.
            let _ = self.inner.disk.remove(&self.temporary);
        }
    }
}

#[async_trait]
impl Backend for DirectoryStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        self.run("write", key, move |_, key| inner.put(key, &bytes)).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.run("read", key, move |inner, key| inner.get(key, limit)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.run("read", key, move |inner, key| inner.get_range(key, range)).await
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.run("look at", key, |inner, key| Ok(inner.open(key)?.1)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.run("list", prefix, Inner::list).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        // Not synced: what comes back after a power cut is an orphan like others.
        self.run("delete", key, |inner, key| Ok(inner.disk.remove(key)?)).await
    }

    async fn begin(&self, key: &str) -> Result<Arc<dyn PartsBackend>, StoreError> {
        let inner = Arc::clone(&self.0);
        let writing = self.run("write", key, move |_, key| inner.begin(key)).await?;
        let writing = Arc::new(Mutex::new(Some((0, writing))));
        Ok(Arc::new(DirectoryParts { store: self.clone(), key: key.to_owned(), writing }))
    }
}

/// The number of the next part, and where it goes. `None` after a fault: a file to which an append
/// failed holds nobody knows what.
type PartsWriting = Arc<Mutex<Option<(u32, Writing)>>>;

struct DirectoryParts {
    store: DirectoryStore,
    key: String,
    writing: PartsWriting,
}

impl DirectoryParts {
    async fn run(
        &self,
        work: impl FnOnce(&mut (u32, Writing)) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), StoreError> {
        let writing = Arc::clone(&self.writing);
        let run = move |_: &Inner, key: &str| {
            let mut place = writing.lock();
            let Some(mut taken) = place.take() else {
                let source = std::io::Error::other("an earlier part was not written");
                return Err(Fault::Disk(BlobError::Io {
                    action: "write",
                    key: key.to_owned(),
                    source,
                }));
            };
            work(&mut taken)?;
            *place = Some(taken);
            Ok(())
        };
        self.store.run("write", &self.key, run).await
    }
}

#[async_trait]
impl PartsBackend for DirectoryParts {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<(), StoreError> {
        self.run(move |(next, writing)| {
            // One that was written, and whose answer came too late, comes again.
            if number == *next {
                writing.append(&bytes)?;
                *next += 1;
            }
            Ok(())
        })
        .await
    }

    async fn finish(&self) -> Result<(), StoreError> {
        self.run(
            |(_, writing)| if writing.temporary.is_empty() { Ok(()) } else { writing.finish() },
        )
        .await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        *self.writing.lock() = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use blockstore::MemoryDisk;

    use super::*;

    fn inner(disk: &MemoryDisk) -> Arc<Inner> {
        DirectoryStore::new(Arc::new(disk.clone())).0
    }

    fn body(number: u64) -> Vec<u8> {
        (0..1_500 + number * 700).map(|at| (at * 31 + number) as u8).collect()
    }

    /// Power is cut at every step of a few writes, each with many ways to lose what was not synced.
    #[test]
    fn what_was_confirmed_survives_every_power_cut_and_nothing_torn_is_served() {
        let steps = {
            let disk = MemoryDisk::new();
            let store = inner(&disk);
            (0..3).for_each(|n| store.put(&format!("a/b/{n}"), &body(n)).expect("a good disk"));
            disk.steps()
        };
        let mut lost_unconfirmed = 0;
        for step in 0..=steps {
            for seed in 0..64 {
                let disk = MemoryDisk::new();
                disk.cut_power_after(step);
                let store = inner(&disk);
                let confirmed: Vec<bool> =
                    (0..3).map(|n| store.put(&format!("a/b/{n}"), &body(n)).is_ok()).collect();
                let store = inner(&disk.crash(seed));
                for (number, is_confirmed) in (0..3).zip(confirmed) {
                    match store.get(&format!("a/b/{number}"), u64::MAX) {
                        Ok(found) => assert!(found == body(number), "step {step} seed {seed}"),
                        Err(Fault::Disk(BlobError::NotFound { .. })) => {
                            assert!(!is_confirmed, "step {step} seed {seed}: {number} is lost");
                            lost_unconfirmed += 1;
                        }
                        Err(fault) => panic!("step {step} seed {seed}: {number}: {fault:?}"),
                    }
                }
            }
        }
        assert!(lost_unconfirmed > 0, "some cuts came before a write was confirmed");
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_never_served() {
        let disk = MemoryDisk::new();
        let store = inner(&disk);
        store.put("a/k", &body(0)).expect("a good disk");
        let whole = {
            let mut bytes = body(0);
            bytes.extend_from_slice(&footer(1_500, crc32fast::hash(&body(0))));
            bytes
        };
        for len in 0..whole.len() {
            disk.damage("a/k", |bytes| *bytes = whole[..len].to_vec());
            let found = (store.get("a/k", u64::MAX), store.get_range("a/k", 0..10));
            let both = matches!(found, (Err(Fault::Damaged(_)), Err(Fault::Damaged(_))));
            assert!(both, "{len} bytes");
        }
        for place in 0..whole.len() {
            disk.damage("a/k", |bytes| {
                bytes.clone_from(&whole);
                bytes[place] ^= 1;
            });
            let found = store.get("a/k", u64::MAX);
            assert!(matches!(found, Err(Fault::Damaged(_))), "byte {place}: {found:?}");
        }
    }

    #[test]
    fn a_full_disk_and_a_failed_sync_leave_nothing_behind() {
        let disk = MemoryDisk::new();
        let store = inner(&disk);
        disk.set_capacity_bytes(Some(1_000));
        let fault = store.put("a/k", &body(0)).expect_err("no room").sorted("write", "a/k");
        assert_eq!(fault.kind(), "full");
        disk.set_capacity_bytes(None);
        disk.set_syncs_fail(true);
        let fault = store.put("a/k", &body(0)).expect_err("no sync").sorted("write", "a/k");
        assert!(!fault.leaves_doubt() && !fault.is_transient(), "{fault}");
        disk.set_syncs_fail(false);
        assert_eq!(disk.list("").expect("a good disk"), []);
        let fault = store.put("a/k", &body(0)).expect_err("poisoned").sorted("write", "a/k");
        assert!(fault.to_string().contains("restart this process"), "{fault}");
        inner(&disk).put("a/k", &body(0)).expect("another process, a good disk");
        assert_eq!(store.get("a/k", u64::MAX).expect("reads go on"), body(0));
    }

    #[test]
    fn what_dead_writers_left_goes_after_a_day() {
        let disk = MemoryDisk::new();
        let store = inner(&disk);
        let writing = store.begin("a/k").expect("a good disk");
        std::mem::forget(writing);
        let now = unix_now();
        store.remove_abandoned(now).expect("a good disk");
        assert_eq!(disk.list(TEMPORARY).expect("a good disk").len(), 1, "it may be somebody's");
        store.remove_abandoned(now + ABANDONED * 2).expect("a good disk");
        assert_eq!(disk.list(TEMPORARY).expect("a good disk"), []);
    }
}
