//! Where the console keeps the little that users save beside the samples.

/// A small, versioned key space that survives a restart; the broker has one.
pub trait Keys: Send + Sync + 'static {
    /// Every key that starts with `prefix`, in ascending order, with its value: one consistent
    /// state. Answers from memory.
    fn list(&self, prefix: &str) -> Vec<(String, Stored)>;

    /// Writes `value` if the key is as `wanted`; durable when it returns. Yields the new version,
    /// which is never 0. Blocks until the disk has synced.
    ///
    /// # Errors
    /// [`KeyError::Conflict`] when the key is not as wanted, and then nothing is written;
    /// [`KeyError::Unavailable`].
    fn put(&self, key: &str, value: Vec<u8>, wanted: Wanted) -> Result<u64, KeyError>;

    /// Removes a key if it is as `wanted`; otherwise as [`Keys::put`].
    ///
    /// # Errors
    /// As [`Keys::put`].
    fn delete(&self, key: &str, wanted: Wanted) -> Result<(), KeyError>;
}

/// A value and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What was put.
    pub value: Vec<u8>,
    /// Differs after each put of the key; never 0.
    pub version: u64,
}

/// What a key must be for a change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Anything.
    Any,
    /// Not there.
    Absent,
    /// There, with this version.
    Version(u64),
}

/// Why a key was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Somebody else changed it.
    #[error("the key was changed by somebody else")]
    Conflict,
    /// Nothing can be written now; the text says why and what to do.
    #[error("{0}")]
    Unavailable(String),
}
