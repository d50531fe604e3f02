//! What a store can do, once and without patience.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::StoreError;

/// A store as [`crate::Store`] drives it: no deadlines, no further attempts, no counting. Every
/// method may be called again after an error, and dropped at any moment.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Writes an object; it is as durable as this store makes things when this returns. Writing the
    /// same bytes under the same key again is no error.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Reads an object of at most `limit` bytes.
    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError>;

    /// Reads a part of an object. Fewer bytes come where it ends earlier.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Length of an object.
    async fn size(&self, key: &str) -> Result<u64, StoreError>;

    /// All objects whose keys begin with `prefix`, which ends with a slash or is empty; in any order.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Removes an object; an absent one is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Whether it forgets objects by itself when they are old.
    fn forgets(&self) -> bool {
        false
    }

    /// Keeps an object for as long again as if it was written now; for ever, where it forgets nothing.
    async fn renew(&self, _key: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Begins an object that is written in parts of [`crate::PART_BYTES`]; only the last may be
    /// smaller.
    async fn begin(&self, key: &str) -> Result<Arc<dyn PartsBackend>, StoreError>;
}

/// An object that is being written in parts; not visible before it is finished.
#[async_trait]
pub trait PartsBackend: Send + Sync {
    /// Writes a part, counted from 0 in order; the same one again after an error.
    async fn part(&self, number: u32, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the object visible.
    async fn finish(&self) -> Result<(), StoreError>;

    /// Forgets the parts, as far as the store can.
    async fn abort(&self) -> Result<(), StoreError>;
}

/// Key and size of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
}
