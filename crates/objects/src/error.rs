//! Why an object could not be read or written.

use std::time::Duration;

/// What went wrong, sorted by what can be done about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("the store has no object {key}")]
    NotFound {
        /// The key asked for.
        key: String,
    },
    /// The store does not let us.
    #[error(
        "the store refuses {action} {key}: {why}; check the credentials, whether they have expired, \
         and what they may do"
    )]
    Denied {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// What the store said.
        why: String,
    },
    /// The store has no room, or takes no writes.
    #[error("the store takes no writes ({why}): free space or raise its quota")]
    Full {
        /// What it said.
        why: String,
    },
    /// It did not answer in time. A write may still arrive.
    #[error("the store did not finish {action} {key} within {} s: check the network and the store's load", .waited.as_secs_f64())]
    Late {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// For how long.
        waited: Duration,
    },
    /// It cannot be reached or is in trouble. A write may still arrive.
    #[error("{action} {key} failed: {why}")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// With which object.
        key: String,
        /// What was noticed.
        why: String,
    },
    /// What came back is not what was stored.
    #[error("object {key} is damaged: {why}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The store cannot be set up as configured.
    #[error("{0}")]
    Settings(String),
}

impl StoreError {
    /// Whether the same may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Late { .. } | StoreError::Unavailable { .. })
    }
}
