//! A disk: files by relative path, with the durability rules of POSIX.
//!
//! What is written becomes durable by [`DiskFile::sync_data`]; that a file exists, is gone or has
//! another name becomes durable by [`Disk::sync_directory`]. [`FileDisk`] is a directory of the
//! operating system; [`MemoryDisk`] forgets what was not synced when its power is cut.

mod below;
mod file;
mod memory;

use std::sync::Arc;

use crate::blobs::{BlobError, BlobInfo, ReadAt};

pub use below::DiskBelow;
pub use file::{FileDisk, OpenError};
pub use memory::MemoryDisk;

/// The unit in which an unreadable chunk is tried again.
const PAGE_BYTES: usize = 1 << 12;
/// What is written at once to take space.
const RESERVE_CHUNK_BYTES: usize = 1 << 18;

/// Files below one root. Paths are relative, `/`-separated, made by this program and never by a
/// client; an absolute path or `..` panics.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist yet, and the directories above it.
    ///
    /// # Errors
    /// `Full` and other faults.
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, BlobError>;

    /// Opens a file for reading. It stays readable when it is removed.
    ///
    /// # Errors
    /// `NotFound` and other faults.
    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>, BlobError>;

    /// All files below a directory at any depth, in ascending order of paths; none if there is no
    /// such directory.
    ///
    /// # Errors
    /// Faults of the disk.
    fn list(&self, directory: &str) -> Result<Vec<BlobInfo>, BlobError>;

    /// Renames a file, replacing what has the new name, and creates the directories above it.
    /// Both directories have to be synced.
    ///
    /// # Errors
    /// `NotFound` and other faults.
    fn rename(&self, from: &str, to: &str) -> Result<(), BlobError>;

    /// Gives a file a second name, or copies it, durably, where a disk has no such names; creates
    /// the directories above. The file must not change any more. The directory has to be synced.
    ///
    /// # Errors
    /// `NotFound`, `Full` and other faults, also if the new name is taken.
    fn link(&self, from: &str, to: &str) -> Result<(), BlobError>;

    /// Renames a directory with all that is below it. The new name must not be taken. The directory
    /// above has to be synced.
    ///
    /// # Errors
    /// `NotFound` and other faults.
    fn rename_directory(&self, from: &str, to: &str) -> Result<(), BlobError>;

    /// Removes a directory with all that is below it; an absent one is no error. Not atomic.
    ///
    /// # Errors
    /// Faults of the disk.
    fn remove_directory(&self, directory: &str) -> Result<(), BlobError>;

    /// Removes a file; removing an absent one is no error.
    ///
    /// # Errors
    /// Faults of the disk.
    fn remove(&self, path: &str) -> Result<(), BlobError>;

    /// Cuts a file to `size_bytes`, durably.
    ///
    /// # Errors
    /// `NotFound`, `SyncFailed` and other faults.
    fn truncate(&self, path: &str, size_bytes: u64) -> Result<(), BlobError>;

    /// Makes the names in a directory durable; an absent directory has none.
    ///
    /// # Errors
    /// `SyncFailed`: the process must stop.
    fn sync_directory(&self, directory: &str) -> Result<(), BlobError>;

    /// Creates a file that takes `size_bytes` of the disk, durably; nobody reads it.
    ///
    /// # Errors
    /// `Full` and other faults; a part of the file may be there.
    fn reserve(&self, path: &str, size_bytes: u64) -> Result<(), BlobError> {
        let mut file = self.create(path)?;
        // Bytes that no file system compresses or leaves out.
        let mut chunk = vec![0; RESERVE_CHUNK_BYTES];
        let mut state = size_bytes;
        let mut left = size_bytes;
        while left > 0 {
            for word in chunk.as_chunks_mut::<8>().0 {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *word = state.to_be_bytes();
            }
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            file.append(&[&chunk[..len]])?;
            left -= len as u64;
        }
        file.sync_data()?;
        self.sync_directory(parent(path))
    }

    /// Bytes an ordinary user may still write.
    ///
    /// # Errors
    /// Faults of the disk.
    fn free_space_bytes(&self) -> Result<u64, BlobError>;
}

/// A file that is written front to back.
pub trait DiskFile: Send {
    /// Appends `parts` one after the other.
    ///
    /// # Errors
    /// `Full` and other faults; some of the bytes may have been written.
    fn append(&mut self, parts: &[&[u8]]) -> Result<(), BlobError>;

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// `SyncFailed`: the process must stop.
    fn sync_data(&mut self) -> Result<(), BlobError>;

    /// Cuts the file to `size_bytes`; the next append begins there. Durable with the next sync.
    ///
    /// # Errors
    /// Faults of the disk.
    fn truncate(&mut self, size_bytes: u64) -> Result<(), BlobError>;
}

/// The directory part of a path; empty for the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Refuses paths that could leave the root.
fn assert_plain(path: &str) {
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    assert!(plain || path.is_empty(), "{path:?} was not made by this program");
}

/// Sorts an error of the system by what a caller can do about it.
fn fault(action: &'static str, path: &str, source: std::io::Error) -> BlobError {
    use std::io::ErrorKind::{FileTooLarge, NotFound, QuotaExceeded, StorageFull};
    let key = path.to_owned();
    match source.kind() {
        NotFound => BlobError::NotFound { key },
        // A file at its size limit takes no more, and a new one does: as on a full disk.
        StorageFull | QuotaExceeded | FileTooLarge => BlobError::Full { key },
        _ => BlobError::Io { action, key, source },
    }
}

/// Fills `out`, with zeros where the disk cannot read: checksums then tell which frames are lost.
pub(crate) fn read_by_pages(file: &dyn ReadAt, offset: u64, out: &mut [u8]) {
    let mut at = offset;
    for page in out.chunks_mut(PAGE_BYTES) {
        if file.read_exact_at(at, page).is_err() {
            page.fill(0);
        }
        at += page.len() as u64;
    }
}
