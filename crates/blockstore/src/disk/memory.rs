//! A disk in memory that loses what was not synced when its power is cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, assert_plain, parent};
use crate::blobs::{BlobError, BlobInfo, ReadAt};

/// The unit in which a disk writes or does not.
const SECTOR_BYTES: usize = 512;

/// Files in memory. Clones share the files.
///
/// After [`MemoryDisk::crash`] only synced bytes and synced names are certain; of the rest any
/// sector and any name may have made it or not, which is what POSIX allows and file systems do.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    renames: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    /// Writing steps left until the power goes.
    steps_left: Option<u64>,
    steps: u64,
    /// Called at the first step that finds no power.
    on_power_cut: Option<Box<dyn FnOnce() + Send>>,
    syncs_fail: bool,
}

#[derive(Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    /// Space it takes without bytes that anybody could read.
    reserved_bytes: u64,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// Files lost names, got some, or both at once.
#[derive(Clone)]
struct NameChange {
    unlinked: Vec<String>,
    linked: Vec<(String, usize)>,
    /// Syncing any of these makes it durable.
    directories: Vec<String>,
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        MemoryDisk::default()
    }

    /// Lets writes fail with `Full` beyond this many bytes; `None` lifts the limit.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Cuts the power after so many further steps that write, sync, name or remove: they and all
    /// later ones fail. Then call [`MemoryDisk::crash`].
    pub fn cut_power_after(&self, steps: u64) {
        self.lock().steps_left = Some(steps);
    }

    /// Has `tell` called at the first step that finds no power. It is called within that step and must
    /// not ask the disk anything.
    pub fn on_power_cut(&self, tell: impl FnOnce() + Send + 'static) {
        self.lock().on_power_cut = Some(Box::new(tell));
    }

    /// Lets every sync fail, or no longer.
    pub fn set_syncs_fail(&self, fail: bool) {
        self.lock().syncs_fail = fail;
    }

    /// Steps taken so far that write, sync, name or remove.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// The disk as a machine finds it after its power was cut. The seed decides what else than the
    /// synced survives.
    pub fn crash(&self, seed: u64) -> MemoryDisk {
        let inner = self.lock();
        let mut chance = Chance(seed);
        let mut names = inner.durable_names.clone();
        for change in &inner.renames {
            if chance.coin() {
                change.apply(&mut names);
            }
        }
        let files: Vec<Content> =
            inner.files.iter().map(|file| file.crashed(&mut chance)).collect();
        let crashed = Inner {
            files,
            durable_names: names.clone(),
            names,
            capacity_bytes: inner.capacity_bytes,
            ..Inner::default()
        };
        MemoryDisk { inner: Arc::new(Mutex::new(crashed)) }
    }

    /// The disk as the next process finds it after this one was killed: all that was written can be
    /// read, and what was not synced is still not durable.
    pub fn kill(&self) -> MemoryDisk {
        let inner = self.lock();
        let killed = Inner {
            files: inner.files.clone(),
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            renames: inner.renames.clone(),
            capacity_bytes: inner.capacity_bytes,
            ..Inner::default()
        };
        MemoryDisk { inner: Arc::new(Mutex::new(killed)) }
    }

    /// Changes a file's bytes behind everyone's back, durably, as a bad disk does.
    ///
    /// # Panics
    /// There is no such file.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.damage_if_there(path, change), "the file to damage exists");
    }

    /// As [`MemoryDisk::damage`], of a file that may be gone; whether there was one.
    pub fn damage_if_there(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut inner = self.lock();
        let Some(&index) = inner.names.get(path) else { return false };
        let file = &mut inner.files[index];
        change(&mut file.now);
        file.durable = file.now.clone();
        file.changes.clear();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while the disk is locked")
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, BlobError> {
        assert_plain(path);
        let mut inner = self.lock();
        inner.step("create", path)?;
        if inner.names.contains_key(path) {
            return Err(failed("create", path, io::ErrorKind::AlreadyExists.into()));
        }
        let index = inner.files.len();
        inner.files.push(Content::default());
        inner.change_name(None, Some((path.to_owned(), index)));
        Ok(Box::new(MemoryFile { disk: self.clone(), index, path: path.to_owned() }))
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        let inner = self.lock();
        let index = *inner.names.get(path).ok_or_else(|| missing(path))?;
        let size_bytes = inner.files[index].size_bytes();
        let path = path.to_owned();
        Ok(Arc::new(MemoryReader { disk: self.clone(), index, size_bytes, path }))
    }

    fn list(&self, directory: &str) -> Result<Vec<BlobInfo>, BlobError> {
        let inner = self.lock();
        let inside = |path: &str| {
            let rest = path.strip_prefix(directory);
            directory.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let info = |(path, index): (&String, &usize)| BlobInfo {
            key: path.clone(),
            size_bytes: inner.files[*index].size_bytes(),
        };
        Ok(inner.names.iter().filter(|(path, _)| inside(path)).map(info).collect())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), BlobError> {
        assert_plain(to);
        let mut inner = self.lock();
        inner.step("rename", from)?;
        let index = *inner.names.get(from).ok_or_else(|| missing(from))?;
        inner.change_name(Some(from.to_owned()), Some((to.to_owned(), index)));
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> Result<(), BlobError> {
        assert_plain(to);
        let mut inner = self.lock();
        inner.step("link", from)?;
        let index = *inner.names.get(from).ok_or_else(|| missing(from))?;
        if inner.names.contains_key(to) {
            return Err(failed("link", to, io::ErrorKind::AlreadyExists.into()));
        }
        inner.change_name(None, Some((to.to_owned(), index)));
        Ok(())
    }

    fn rename_directory(&self, from: &str, to: &str) -> Result<(), BlobError> {
        assert_plain(to);
        let mut inner = self.lock();
        inner.step("rename", from)?;
        let inside = |path: &str, directory: &str| {
            path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
        };
        if inner.names.keys().any(|path| inside(path, to)) {
            return Err(failed("rename", to, io::ErrorKind::AlreadyExists.into()));
        }
        let moved: Vec<(String, usize)> = inner
            .names
            .iter()
            .filter(|(path, _)| inside(path, from))
            .map(|(path, &index)| (path.clone(), index))
            .collect();
        if moved.is_empty() {
            return Err(missing(from));
        }
        let renamed = moved.iter().map(|(path, index)| {
            let rest = path.strip_prefix(from).expect("it is inside");
            (format!("{to}{rest}"), *index)
        });
        inner.change_names(NameChange {
            linked: renamed.collect(),
            unlinked: moved.into_iter().map(|(path, _)| path).collect(),
            directories: vec![parent(from).to_owned(), parent(to).to_owned()],
        });
        Ok(())
    }

    fn remove_directory(&self, directory: &str) -> Result<(), BlobError> {
        for file in self.list(directory)? {
            self.remove(&file.key)?;
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), BlobError> {
        let mut inner = self.lock();
        inner.step("remove", path)?;
        if inner.names.contains_key(path) {
            inner.change_name(Some(path.to_owned()), None);
        }
        Ok(())
    }

    fn truncate(&self, path: &str, size_bytes: u64) -> Result<(), BlobError> {
        let mut inner = self.lock();
        let index = *inner.names.get(path).ok_or_else(|| missing(path))?;
        inner.step("truncate", path)?;
        inner.files[index].set_len(index_of(size_bytes));
        inner.sync(path, index)
    }

    fn sync_directory(&self, directory: &str) -> Result<(), BlobError> {
        let mut inner = self.lock();
        inner.step("sync", directory)?;
        inner.check_sync(directory)?;
        let (durable, rest) = std::mem::take(&mut inner.renames)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.touches(directory));
        inner.renames = rest;
        for change in durable {
            change.apply(&mut inner.durable_names);
        }
        Ok(())
    }

    fn reserve(&self, path: &str, size_bytes: u64) -> Result<(), BlobError> {
        self.create(path)?.sync_data()?;
        {
            let mut inner = self.lock();
            let left = inner.capacity_bytes.map(|all| all.saturating_sub(inner.used_bytes()));
            if left.is_some_and(|left| left < size_bytes) {
                return Err(BlobError::Full { key: path.to_owned() });
            }
            let index = *inner.names.get(path).ok_or_else(|| missing(path))?;
            inner.files[index].reserved_bytes = size_bytes;
        }
        self.sync_directory(parent(path))
    }

    fn free_space_bytes(&self) -> Result<u64, BlobError> {
        let inner = self.lock();
        Ok(inner.capacity_bytes.map_or(u64::MAX, |all| all.saturating_sub(inner.used_bytes())))
    }
}

impl Inner {
    fn step(&mut self, action: &'static str, path: &str) -> Result<(), BlobError> {
        self.steps += 1;
        match &mut self.steps_left {
            Some(0) => {
                if let Some(tell) = self.on_power_cut.take() {
                    tell();
                }
                Err(failed(action, path, io::Error::other("power is off")))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&index| self.files[index].size_bytes()).sum()
    }

    fn change_name(&mut self, unlinked: Option<String>, linked: Option<(String, usize)>) {
        let names = unlinked.iter().chain(linked.iter().map(|(path, _)| path));
        let directories = names.map(|path| parent(path).to_owned()).collect();
        let (unlinked, linked) = (Vec::from_iter(unlinked), Vec::from_iter(linked));
        self.change_names(NameChange { unlinked, linked, directories });
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.renames.push(change);
    }

    fn check_sync(&self, path: &str) -> Result<(), BlobError> {
        if self.syncs_fail {
            let source = io::Error::other("input/output error");
            return Err(BlobError::SyncFailed { key: path.to_owned(), source });
        }
        Ok(())
    }

    fn sync(&mut self, path: &str, index: usize) -> Result<(), BlobError> {
        self.check_sync(path)?;
        self.files[index].make_durable();
        Ok(())
    }
}

impl Content {
    fn size_bytes(&self) -> u64 {
        self.now.len() as u64 + self.reserved_bytes
    }

    fn set_len(&mut self, len: usize) {
        self.now.resize(len, 0);
        self.changes.push(Change::SetLen(len));
    }

    /// Costs what was written since the last time: a log is synced once per entry.
    fn make_durable(&mut self) {
        for change in self.changes.drain(..) {
            match change {
                Change::SetLen(len) => self.durable.resize(len, 0),
                Change::Write { offset, bytes } => {
                    debug_assert_eq!(self.durable.len(), offset, "files are written at their end");
                    self.durable.extend_from_slice(&bytes);
                }
            }
        }
    }

    /// What is left of the file: the synced, and by chance sectors of the rest.
    fn crashed(&self, chance: &mut Chance) -> Content {
        let mut bytes = self.durable.clone();
        for change in &self.changes {
            match change {
                Change::SetLen(len) if chance.coin() => bytes.resize(*len, 0),
                Change::SetLen(_) => {}
                Change::Write { offset, bytes: written } => {
                    write_some_sectors(&mut bytes, *offset, written, chance);
                }
            }
        }
        let reserved_bytes = self.reserved_bytes;
        Content { now: bytes.clone(), durable: bytes, changes: Vec::new(), reserved_bytes }
    }
}

fn write_some_sectors(file: &mut Vec<u8>, offset: usize, written: &[u8], chance: &mut Chance) {
    // Whole writes survive or vanish as often as they tear.
    let all = [Some(true), Some(false), None][chance.below(3)];
    let mut at = offset;
    while at < offset + written.len() {
        let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + written.len());
        if all.unwrap_or_else(|| chance.coin()) {
            if file.len() < end {
                file.resize(end, 0);
            }
            file[at..end].copy_from_slice(&written[at - offset..end - offset]);
        }
        at = end;
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        for path in &self.unlinked {
            names.remove(path);
        }
        for (path, index) in &self.linked {
            names.insert(path.clone(), *index);
        }
    }

    fn touches(&self, directory: &str) -> bool {
        self.directories.iter().any(|touched| touched == directory)
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    index: usize,
    path: String,
}

impl DiskFile for MemoryFile {
    fn append(&mut self, parts: &[&[u8]]) -> Result<(), BlobError> {
        let mut bytes = parts.concat();
        let mut inner = self.disk.lock();
        inner.step("append to", &self.path)?;
        let left = inner.capacity_bytes.map(|all| all.saturating_sub(inner.used_bytes()));
        let full = left.is_some_and(|left| left < bytes.len() as u64);
        if let Some(left) = left.filter(|_| full) {
            // As a file system does: what fits is written.
            bytes.truncate(index_of(left));
        }
        let file = &mut inner.files[self.index];
        let offset = file.now.len();
        file.now.extend_from_slice(&bytes);
        file.changes.push(Change::Write { offset, bytes });
        if full { Err(BlobError::Full { key: self.path.clone() }) } else { Ok(()) }
    }

    fn sync_data(&mut self) -> Result<(), BlobError> {
        let mut inner = self.disk.lock();
        inner.step("sync", &self.path)?;
        inner.sync(&self.path, self.index)
    }

    fn truncate(&mut self, size_bytes: u64) -> Result<(), BlobError> {
        let mut inner = self.disk.lock();
        inner.step("truncate", &self.path)?;
        inner.files[self.index].set_len(index_of(size_bytes));
        Ok(())
    }
}

struct MemoryReader {
    disk: MemoryDisk,
    index: usize,
    size_bytes: u64,
    path: String,
}

impl ReadAt for MemoryReader {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let inner = self.disk.lock();
        let bytes = &inner.files[self.index].now;
        let found = bytes.get(index_of(offset)..).and_then(|rest| rest.get(..out.len()));
        let found =
            found.ok_or_else(|| failed("read", &self.path, io::ErrorKind::UnexpectedEof.into()))?;
        out.copy_from_slice(found);
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): one seed, one crash.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn below(&mut self, end: usize) -> usize {
        index_of(self.next() % end as u64)
    }
}

/// Sizes of files in memory fit the address space.
fn index_of(size_bytes: u64) -> usize {
    usize::try_from(size_bytes).unwrap_or(usize::MAX)
}

fn missing(path: &str) -> BlobError {
    BlobError::NotFound { key: path.to_owned() }
}

fn failed(action: &'static str, path: &str, source: io::Error) -> BlobError {
    BlobError::Io { action, key: path.to_owned(), source }
}
