//! A directory of a disk as a disk.

use std::sync::Arc;

use super::{Disk, DiskFile};
use crate::blobs::{BlobError, BlobInfo, ReadAt};

/// What lies below one directory of another disk, with paths that start there.
#[derive(Clone)]
pub struct DiskBelow {
    disk: Arc<dyn Disk>,
    directory: String,
}

impl DiskBelow {
    /// Creates nothing; `directory` need not exist yet.
    pub fn new(disk: Arc<dyn Disk>, directory: impl Into<String>) -> Self {
        DiskBelow { disk, directory: directory.into() }
    }

    fn path(&self, path: &str) -> String {
        if path.is_empty() { self.directory.clone() } else { format!("{}/{path}", self.directory) }
    }
}

impl Disk for DiskBelow {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, BlobError> {
        self.disk.create(&self.path(path))
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        self.disk.open(&self.path(path))
    }

    fn list(&self, directory: &str) -> Result<Vec<BlobInfo>, BlobError> {
        let mut files = self.disk.list(&self.path(directory))?;
        for file in &mut files {
            file.key.drain(..=self.directory.len());
        }
        Ok(files)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.disk.rename(&self.path(from), &self.path(to))
    }

    fn link(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.disk.link(&self.path(from), &self.path(to))
    }

    fn rename_directory(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.disk.rename_directory(&self.path(from), &self.path(to))
    }

    fn remove_directory(&self, directory: &str) -> Result<(), BlobError> {
        self.disk.remove_directory(&self.path(directory))
    }

    fn remove(&self, path: &str) -> Result<(), BlobError> {
        self.disk.remove(&self.path(path))
    }

    fn truncate(&self, path: &str, size_bytes: u64) -> Result<(), BlobError> {
        self.disk.truncate(&self.path(path), size_bytes)
    }

    fn sync_directory(&self, directory: &str) -> Result<(), BlobError> {
        self.disk.sync_directory(&self.path(directory))
    }

    fn free_space_bytes(&self) -> Result<u64, BlobError> {
        self.disk.free_space_bytes()
    }
}
