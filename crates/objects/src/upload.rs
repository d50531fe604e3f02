//! An object that is written part by part.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Operation, PartsBackend, Store, StoreError};

/// Length of every part but the last: what every S3 takes (at least 5 MiB, all of one length), and
/// what may be held in memory for each object that is being written.
pub const PART_BYTES: usize = 8 << 20;

/// An object on its way. Not visible before [`Upload::finish`]; dropped before that, its parts may
/// stay in the store, invisible, until the store's own rule for unfinished uploads removes them.
pub struct Upload {
    store: Store,
    key: String,
    parts: Arc<dyn PartsBackend>,
    number: u32,
    bytes: u64,
    has_ended: bool,
}

impl Upload {
    pub(crate) fn new(store: Store, key: String, parts: Arc<dyn PartsBackend>) -> Self {
        Upload { store, key, parts, number: 0, bytes: 0, has_ended: false }
    }

    /// Bytes of all parts so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the next part.
    ///
    /// # Errors
    /// Those of the store; call [`Upload::abort`] then.
    ///
    /// # Panics
    /// A part follows one that is not of [`PART_BYTES`], or is longer.
    pub async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        assert!(!self.has_ended && bytes.len() <= PART_BYTES, "only the last part is shorter");
        let (number, size) = (self.number, bytes.len());
        let request = || self.parts.part(number, bytes.clone());
        self.store.attempt(Operation::PutPart, &self.key, |_| size, request).await?;
        self.number += 1;
        self.bytes += size as u64;
        self.has_ended = size < PART_BYTES;
        Ok(())
    }

    /// Makes the object visible and durable.
    ///
    /// # Errors
    /// As of [`Store::put`].
    pub async fn finish(self) -> Result<(), StoreError> {
        let request = || self.parts.finish();
        let finished = self.store.attempt(Operation::Put, &self.key, |_| 0, request).await;
        let Err(error) = finished else { return Ok(()) };
        // The first attempt may have been served and its answer lost; the next one then finds no
        // upload any more.
        match self.store.size(&self.key).await {
            Ok(size) if size == self.bytes => Ok(()),
            _ => Err(error),
        }
    }

    /// Gives up, and removes the parts if the store answers.
    pub async fn abort(self) {
        let request = || self.parts.abort();
        // The store's own rule for unfinished uploads does it if this does not.
        let _ = self.store.attempt(Operation::Delete, &self.key, |_| 0, request).await;
    }
}
