//! What a URL does not say about a store.

use std::time::Duration;

use crate::{Credentials, StoreError, StoreUrl};

/// What a store is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It holds what nobody else has: what it confirmed must not be lost.
    Truth,
    /// It holds copies: its loss only slows.
    Cache,
}

/// How a [`crate::Store`] behaves.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What it is used for.
    pub purpose: Purpose,
    /// Whether a store that can lose confirmed writes may hold the truth.
    pub accept_weaker_durability: bool,
    /// Where credentials come from.
    pub credentials: Credentials,
    /// A write that is not confirmed after so long is given up, all attempts together.
    pub write_deadline: Duration,
    /// … a read, a delete.
    pub read_deadline: Duration,
    /// … a listing, which may take thousands of requests; one that fails is tried again for no longer
    /// than a read.
    pub list_deadline: Duration,
    /// Pause before the second attempt; each further one is twice as long, up to a second, and each
    /// is shortened by up to half, at random.
    pub first_pause: Duration,
    /// Repeats the random parts; `None` takes them from the system.
    pub seed: Option<u64>,
    /// Largest object that is read or written in one piece.
    pub max_object_bytes: u64,
    /// How long objects are kept at all: Redis forgets them then by itself.
    pub retention: Option<Duration>,
}

impl StoreOptions {
    /// For what nobody else has: 15 s for a write, 30 s for a read, 5 min for a listing, objects of
    /// at most 64 MiB in one piece.
    pub fn truth() -> Self {
        StoreOptions {
            purpose: Purpose::Truth,
            accept_weaker_durability: false,
            credentials: Credentials::from_environment(),
            write_deadline: Duration::from_secs(15),
            read_deadline: Duration::from_secs(30),
            list_deadline: Duration::from_secs(300),
            first_pause: Duration::from_millis(50),
            seed: None,
            max_object_bytes: 64 << 20,
            retention: None,
        }
    }

    /// For copies: the same.
    pub fn cache() -> Self {
        StoreOptions { purpose: Purpose::Cache, ..StoreOptions::truth() }
    }

    /// Refuses to trust what cannot be trusted.
    ///
    /// # Errors
    /// `Settings`, which says why.
    pub(crate) fn check(&self, url: &StoreUrl) -> Result<(), StoreError> {
        let Some(weakness) = url.weakness() else { return Ok(()) };
        if self.purpose == Purpose::Cache || self.accept_weaker_durability {
            return Ok(());
        }
        Err(StoreError::Settings(format!(
            "{url} can lose writes that it confirmed, so it is not taken as the only place of data: \
             {weakness}. Choose s3://, gs://, az:// or file://, or accept the loss with \
             --accept-weaker-durability; as a cache it needs no flag"
        )))
    }
}
