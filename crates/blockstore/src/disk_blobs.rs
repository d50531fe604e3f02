//! Blobs as files of a [`Disk`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::blobs::{BlobError, BlobInfo, BlobWriter, Blobs, ReadAt};
use crate::disk::{Disk, DiskFile, parent};
use crate::quarantine;

/// Where unfinished blobs are written. Nothing in it outlives a start.
const TEMPORARY: &str = "tmp";

/// Bytes gathered before they are handed to the system.
const BUFFER_BYTES: usize = 256 << 10;

/// Keeps each blob in the file of the same path. A blob appears whole and durable or not at all:
/// temporary file, sync, rename, sync of the directory.
pub struct DiskBlobs {
    disk: Arc<dyn Disk>,
    next_temporary: AtomicU64,
}

impl DiskBlobs {
    /// Removes what unfinished writers of an earlier run left.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn open(disk: Arc<dyn Disk>) -> Result<DiskBlobs, BlobError> {
        for file in disk.list(TEMPORARY)? {
            disk.remove(&file.key)?;
        }
        Ok(DiskBlobs { disk, next_temporary: AtomicU64::new(0) })
    }
}

impl Blobs for DiskBlobs {
    fn create(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // The key is there for people who read an error message.
        let temporary = format!("{TEMPORARY}/{number}-{}", key.replace('/', "-"));
        let file = self.disk.create(&temporary)?;
        Ok(Box::new(FileWriter {
            disk: Arc::clone(&self.disk),
            file,
            key: key.to_owned(),
            temporary,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            written: 0,
        }))
    }

    fn open(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        self.disk.open(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, BlobError> {
        let mut files = self.disk.list(parent(prefix))?;
        files.retain(|file| file.key.starts_with(prefix) && parent(&file.key) != TEMPORARY);
        Ok(files)
    }

    fn delete(&self, key: &str) -> Result<(), BlobError> {
        // Not synced: a blob that comes back after a power cut is an orphan, which a start removes.
        self.disk.remove(key)
    }

    fn quarantine(&self, key: &str) -> Result<(), BlobError> {
        quarantine::move_file(&*self.disk, key).map(|_| ())
    }
}

struct FileWriter {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    key: String,
    /// Path until the blob is finished, then empty.
    temporary: String,
    buffer: Vec<u8>,
    /// Bytes handed to the system.
    written: u64,
}

impl BlobWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        if self.buffer.len() + bytes.len() <= BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.file.append(&[&self.buffer, bytes])?;
        self.written = self.position() + bytes.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn finish(mut self: Box<Self>) -> Result<(), BlobError> {
        self.file.append(&[&self.buffer])?;
        self.file.sync_data()?;
        self.disk.rename(&self.temporary, &self.key)?;
        self.temporary.clear();
        self.disk.sync_directory(parent(&self.key))
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // What stays is removed by the next start.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}
