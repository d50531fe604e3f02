//! Where blocks live: a synchronous view of an object store.
//!
//! The local implementation is [`crate::disk`]; adapters to other stores live in `broker`.

use std::sync::Arc;

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no blob with this key.
    #[error("blob {key} does not exist")]
    NotFound {
        /// The key asked for.
        key: String,
    },
    /// What came back is not what was stored.
    #[error("blob {key} is damaged: {why}")]
    Damaged {
        /// The key asked for.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The device or quota is full. Nothing was stored; reads go on.
    #[error("no space left to write {key}: free space or lower the retention")]
    Full {
        /// The key that was written.
        key: String,
    },
    /// Data may not have reached the disk. The process must stop: nothing read back from this
    /// file can be trusted.
    #[error("sync of {key} failed: {source}")]
    SyncFailed {
        /// The key that was written.
        key: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A store that others share cannot be asked, or does not let us. That says nothing about the
    /// blob, which must not be set aside.
    #[error("{action} {key}: {source}")]
    Unavailable {
        /// What was tried, in present tense.
        action: &'static str,
        /// The key.
        key: String,
        /// What the store said, and what to do about it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else the system said.
    #[error("{action} {key}: {source}")]
    Io {
        /// What was tried, in present tense.
        action: &'static str,
        /// The key.
        key: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Key and size of a stored blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// The key, `/`-separated.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
}

/// A flat space of immutable blobs.
pub trait Blobs: Send + Sync {
    /// Starts a new blob. Nothing is visible under `key` before [`BlobWriter::finish`].
    ///
    /// # Errors
    /// Faults of the store.
    fn create(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// Opens a blob for reading. It stays readable until the handle is dropped, even when it is
    /// deleted meanwhile.
    ///
    /// # Errors
    /// `NotFound` and faults of the store.
    fn open(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError>;

    /// As [`Blobs::open`], past copies of its parts that are kept nearer than the store itself.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    fn open_past_copies(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        self.open(key)
    }

    /// Forgets such copies of a blob: they are not what the store has.
    fn forget_copies(&self, _key: &str) {}

    /// All blobs whose keys start with `prefix`, in ascending order of keys.
    ///
    /// # Errors
    /// Faults of the store.
    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, BlobError>;

    /// Removes a blob; removing an absent one is no error.
    ///
    /// # Errors
    /// Faults of the store.
    fn delete(&self, key: &str) -> Result<(), BlobError>;

    /// Moves a damaged blob to `quarantine/` so that it is never opened again, and keeps it for
    /// a human to look at.
    ///
    /// # Errors
    /// Faults of the store.
    fn quarantine(&self, key: &str) -> Result<(), BlobError>;
}

/// Writes one blob front to back.
pub trait BlobWriter: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// `Full` and other faults; the blob is then abandoned by dropping the writer.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError>;

    /// Bytes written so far.
    fn position(&self) -> u64;

    /// Makes the blob durable and visible.
    ///
    /// # Errors
    /// `SyncFailed` is fatal for the process.
    fn finish(self: Box<Self>) -> Result<(), BlobError>;
}

/// Random reads of one blob.
pub trait ReadAt: Send + Sync {
    /// Length of the blob.
    fn size_bytes(&self) -> u64;

    /// Fills `out` from `offset`; a short blob is an error, never a short read.
    ///
    /// # Errors
    /// Faults of the store.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError>;
}
