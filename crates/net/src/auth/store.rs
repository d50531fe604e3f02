//! Where users, tokens and sessions are kept.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A small, versioned key space that survives a restart.
///
/// Keys are ASCII below `auth/`, at most 200 bytes; values at most 16 KiB. [`CredentialStore::get`]
/// is asked for every request with a credential and must answer from memory, within microseconds.
/// The others may block until the disk has synced; callers do not run them where sockets are
/// served.
pub trait CredentialStore: Send + Sync + 'static {
    /// The value of `key`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// Every key that starts with `prefix`, in ascending order, with its value.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError>;

    /// Writes `value` if the key is as `expected`; durable when it returns. Yields the new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the key is not as expected, and then nothing is written;
    /// [`StoreError::Unavailable`].
    fn put(&self, key: &str, value: &[u8], expected: Expected) -> Result<u64, StoreError>;

    /// Removes a key if it is as `expected`; durable when it returns. Removing an absent key is no
    /// error unless a version was expected.
    ///
    /// # Errors
    /// As [`CredentialStore::put`].
    fn delete(&self, key: &str, expected: Expected) -> Result<(), StoreError>;
}

/// A value and its version.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// What was put.
    pub value: Vec<u8>,
    /// Grows with every put of the key.
    pub version: u64,
}

/// Without the value: it may hold the hash of a password.
impl std::fmt::Debug for Versioned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Versioned")
            .field("bytes", &self.value.len())
            .field("version", &self.version)
            .finish()
    }
}

/// What a writer believes to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// No such key.
    Absent,
    /// The key with this version.
    Version(u64),
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Someone else wrote the key meanwhile; read it again.
    #[error("{0:?} was changed by someone else at the same time; read it again")]
    Conflict(String),
    /// The store cannot be read or written now, such as when the disk is full.
    #[error("users and tokens cannot be read or written: {0}")]
    Unavailable(String),
}

/// A record as it is stored.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings and numbers are always JSON")
}

/// The inverse of [`encode`]. A record that cannot be read is told, without its content, and
/// counts as absent: whoever it would let in stays out.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, stored: &Versioned) -> Option<T> {
    match serde_json::from_slice(&stored.value) {
        Ok(record) => Some(record),
        Err(error) => {
            let kind = key.rsplit_once('/').map_or(key, |(kind, _)| kind);
            let (line, column) = (error.line(), error.column());
            tracing::error!(kind, line, column, "a stored credential cannot be read");
            None
        }
    }
}
