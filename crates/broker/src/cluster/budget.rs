//! How much may wait for the store.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::commit::CommitError;

/// Bounds what waits: bytes of memory from the moment a batch is taken until it is answered.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Budget {
        Budget { used: AtomicUsize::new(0), limit }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes a part of it, also more than there is if nothing is used: the largest batch must pass.
    pub(super) fn take(&self, bytes: usize) -> Result<(), CommitError> {
        let before = self.used.fetch_add(bytes, Ordering::AcqRel);
        if before > 0 && before + bytes > self.limit {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
            let (bytes, limit_bytes) = (before as u64, self.limit as u64);
            return Err(CommitError::StoreBehind { bytes, limit_bytes });
        }
        Ok(())
    }

    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}
