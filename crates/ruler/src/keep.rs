//! Where states are kept: a small, durable key space.

use std::future::Future;
use std::pin::Pin;

/// What a trait object's asynchronous method yields.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A key space that outlives the process; the broker has one. Only one process writes to the keys of
/// this crate at a time.
pub trait Keep: Send + Sync + 'static {
    /// Every key that starts with `prefix`, in ascending order, with its value: one consistent state.
    fn list(&self, prefix: &str) -> Vec<(String, Vec<u8>)>;

    /// Writes a key; it is durable when this is done. Values have at most [`MAX_VALUE_BYTES`].
    fn put(&self, key: String, value: Vec<u8>) -> Boxed<'_, Result<(), KeepError>>;

    /// Proves that no other process writes by now, and that what is listed is what was written.
    fn fence(&self) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Removes a key.
    fn delete(&self, key: String) -> Boxed<'_, Result<(), KeepError>>;
}

/// Longest value that is put.
pub const MAX_VALUE_BYTES: usize = 512 << 10;

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// Another process writes by now; this one must not go on.
    #[error("another broker evaluates rules and notifies by now")]
    Superseded,
    /// It is not written, or nobody knows whether it is; the text says why and what to do.
    #[error("{0}")]
    Unavailable(String),
}
