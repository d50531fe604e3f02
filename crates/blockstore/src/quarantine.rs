//! Keeps damaged bytes for a human to look at.

use crate::blobs::{BlobError, ReadAt};
use crate::disk::{Disk, parent, read_by_pages};

pub(crate) const DIRECTORY: &str = "quarantine";

/// Bytes copied at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Moves a whole file to quarantine, durably, and returns its new path.
///
/// # Errors
/// Faults of the disk; the file may be at either place.
///
/// # Panics
/// Never: there is always a free name.
pub fn move_file(disk: &dyn Disk, path: &str) -> Result<String, BlobError> {
    let taken = disk.list(DIRECTORY)?;
    let base = format!("{DIRECTORY}/{}", path.replace('/', "-"));
    let names = std::iter::once(base.clone()).chain((1..).map(|n: u64| format!("{base}.{n}")));
    let target = names
        .into_iter()
        .find(|name| taken.iter().all(|file| file.key != *name))
        .expect("one of endless names is free");
    disk.rename(path, &target)?;
    disk.sync_directory(DIRECTORY)?;
    disk.sync_directory(parent(path))?;
    Ok(target)
}

/// Copies a range of a file to quarantine and returns the copy's path. The same range of the same
/// file, found again by a later start, is not copied again.
pub(crate) fn save_range(
    disk: &dyn Disk,
    name: &str,
    file: &dyn ReadAt,
    offset: u64,
    end: u64,
) -> Result<String, BlobError> {
    let path = format!("{DIRECTORY}/{name}");
    let saved = disk.list(DIRECTORY)?;
    if saved.iter().any(|info| info.key == path && info.size_bytes == end - offset) {
        return Ok(path);
    }
    disk.remove(&path)?;
    let copied = copy(disk, &path, file, offset, end);
    if copied.is_err() {
        // Half a copy on a full disk helps nobody.
        disk.remove(&path)?;
    }
    copied.map(|()| path)
}

fn copy(
    disk: &dyn Disk,
    path: &str,
    file: &dyn ReadAt,
    mut offset: u64,
    end: u64,
) -> Result<(), BlobError> {
    let mut target = disk.create(path)?;
    let mut chunk = Vec::new();
    while offset < end {
        let len = (end - offset).min(CHUNK_BYTES);
        chunk.resize(usize::try_from(len).expect("at most a chunk"), 0);
        read_by_pages(file, offset, &mut chunk);
        target.append(&[&chunk])?;
        offset += len;
    }
    target.sync_data()?;
    disk.sync_directory(DIRECTORY)
}
