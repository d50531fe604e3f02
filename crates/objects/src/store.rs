//! The one interface of all stores.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::client::HttpConnector;
use tokio::time::Instant;

use crate::cloud::CloudStore;
use crate::{MemoryStore, StoreError, StoreKind, StoreUrl};

/// What a store can do, once and without a deadline.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Writes an object; it is durable, as far as the store is, when this returns. Writing the same
    /// bytes under the same key again is no error.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Reads an object.
    async fn get(&self, key: &str) -> Result<Bytes, StoreError>;

    /// Reads a part of an object, which must be there as a whole.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Length of an object.
    async fn size(&self, key: &str) -> Result<u64, StoreError>;

    /// All objects whose keys begin with `prefix`, which ends with a slash or is empty; ascending.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Removes an object; an absent one is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// Key and size of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
}

/// How patient a [`Store`] is.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// A write that is not confirmed after so long is given up, all attempts together.
    pub write_deadline: Duration,
    /// … a read, a listing, a delete.
    pub read_deadline: Duration,
    /// Pause before the second attempt; each further one is twice as long, up to a second.
    pub first_pause: Duration,
}

impl Default for StoreOptions {
    /// 15 s for a write, 30 s for anything else.
    fn default() -> Self {
        StoreOptions {
            write_deadline: Duration::from_secs(15),
            read_deadline: Duration::from_secs(30),
            first_pause: Duration::from_millis(50),
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Of each kind of request.
    pub puts: RequestCounters,
    /// Whole objects and parts.
    pub gets: RequestCounters,
    /// Sizes, listings, deletes.
    pub others: RequestCounters,
}

/// Of one kind of request.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// That succeeded.
    pub done: AtomicU64,
    /// Attempts that failed and were followed by another.
    pub again: AtomicU64,
    /// That failed.
    pub failed: AtomicU64,
    /// Bytes moved.
    pub bytes: AtomicU64,
    /// Time of those that succeeded, microseconds.
    pub micros: AtomicU64,
}

/// A store with deadlines and further attempts. Clones share it.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    prefix: Arc<str>,
    shown: Arc<str>,
    options: StoreOptions,
    counters: Arc<StoreCounters>,
}

/// Longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Opens the store that a URL names. Nothing is asked of it yet. `connector` makes the connections
    /// to stores that speak HTTP; credentials come from the environment, as the store's own tools take
    /// them.
    ///
    /// # Errors
    /// It cannot be set up like this.
    pub fn open(
        url: &StoreUrl,
        options: StoreOptions,
        connector: impl HttpConnector + Clone,
    ) -> Result<Store, StoreError> {
        let backend: Arc<dyn Backend> = match &url.kind {
            StoreKind::Memory => Arc::new(MemoryStore::default()),
            StoreKind::Redis { .. } => {
                return Err(StoreError::Settings("redis is not built yet".to_owned()));
            }
            _ => Arc::new(CloudStore::open(&url.kind, connector)?),
        };
        Ok(Store::with_backend(backend, &url.prefix, &url.to_string(), options))
    }

    /// A store of the caller's.
    pub fn with_backend(
        backend: Arc<dyn Backend>,
        prefix: &str,
        shown: &str,
        options: StoreOptions,
    ) -> Store {
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Store {
            backend,
            prefix: prefix.into(),
            shown: shown.into(),
            options,
            counters: Arc::default(),
        }
    }

    /// Its URL, without secrets.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// What was done.
    pub fn counters(&self) -> &StoreCounters {
        &self.counters
    }

    /// Writes an object under a key that nobody else uses.
    ///
    /// # Errors
    /// After one the object may still arrive.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let (full, size) = (self.full(key), bytes.len());
        let (counters, deadline) = (&self.counters.puts, self.options.write_deadline);
        self.attempt("write", key, counters, deadline, |_| size, || {
            self.backend.put(&full, bytes.clone())
        })
        .await
    }

    /// Reads an object.
    ///
    /// # Errors
    /// `NotFound` and others.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let full = self.full(key);
        let (counters, deadline) = (&self.counters.gets, self.options.read_deadline);
        let len = |bytes: &Bytes| bytes.len();
        self.attempt("read", key, counters, deadline, len, || self.backend.get(&full)).await
    }

    /// Reads a part of an object.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` if the object is shorter; others.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let full = self.full(key);
        let (counters, deadline) = (&self.counters.gets, self.options.read_deadline);
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self
            .attempt("read", key, counters, deadline, |bytes: &Bytes| bytes.len(), || {
                self.backend.get_range(&full, range.clone())
            })
            .await?;
        if bytes.len() as u64 != wanted {
            let why = format!("{} bytes came where {wanted} were asked for", bytes.len());
            return Err(StoreError::Damaged { key: key.to_owned(), why });
        }
        Ok(bytes)
    }

    /// Length of an object.
    ///
    /// # Errors
    /// `NotFound` and others.
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let full = self.full(key);
        let (counters, deadline) = (&self.counters.others, self.options.read_deadline);
        self.attempt("look at", key, counters, deadline, |_| 0, || self.backend.size(&full)).await
    }

    /// All objects below `prefix`, which ends with a slash or is empty; ascending.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let full = self.full(prefix);
        let (counters, deadline) = (&self.counters.others, self.options.read_deadline);
        let listed =
            self.attempt("list", prefix, counters, deadline, |_| 0, || self.backend.list(&full));
        let strip = |info: ObjectInfo| {
            let key = info.key.strip_prefix(&*self.prefix)?.to_owned();
            Some(ObjectInfo { key, ..info })
        };
        let mut found: Vec<ObjectInfo> = listed.await?.into_iter().filter_map(strip).collect();
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Removes an object; an absent one is no error.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let full = self.full(key);
        let (counters, deadline) = (&self.counters.others, self.options.read_deadline);
        self.attempt("delete", key, counters, deadline, |_| 0, || self.backend.delete(&full)).await
    }

    /// Writes, reads and removes a small object: whether the store can be used at all.
    ///
    /// # Errors
    /// It cannot.
    pub async fn probe(&self, name: &str) -> Result<(), StoreError> {
        let key = format!("probe/{name}");
        let bytes = Bytes::from_static(b"watchfire");
        self.put(&key, bytes.clone()).await?;
        let found = self.get(&key).await?;
        self.delete(&key).await?;
        if found == bytes {
            return Ok(());
        }
        let why = "what was written was not what was read".to_owned();
        Err(StoreError::Damaged { key, why })
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Tries until it succeeds, the time is over, or trying again is of no use.
    async fn attempt<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        action: &'static str,
        key: &str,
        counters: &RequestCounters,
        deadline: Duration,
        size: impl Fn(&T) -> usize,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let mut pause = self.options.first_pause;
        let mut last = None;
        let outcome = loop {
            let left = deadline.saturating_sub(began.elapsed());
            match tokio::time::timeout(left, request()).await {
                Ok(Ok(value)) => break Ok(value),
                Ok(Err(error)) if error.is_transient() && pause < left => last = Some(error),
                Ok(Err(error)) => break Err(error),
                Err(_) => {
                    let late =
                        StoreError::Late { action, key: key.to_owned(), waited: deadline };
                    break Err(last.unwrap_or(late));
                }
            }
            counters.again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(MAX_PAUSE);
        };
        match &outcome {
            Ok(value) => {
                let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                counters.micros.fetch_add(micros, Ordering::Relaxed);
                counters.bytes.fetch_add(size(value) as u64, Ordering::Relaxed);
                counters.done.fetch_add(1, Ordering::Relaxed);
            }
            // An answer, and no fault of the store.
            Err(StoreError::NotFound { .. }) => _ = counters.done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(store = &*self.shown, action, key, %error, "the store failed");
            }
        }
        outcome
    }
}
