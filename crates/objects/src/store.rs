//! The one interface of all stores.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::cloud::CloudStore;
use crate::redis_store::RedisStore;
use crate::{
    Backend, DirectoryStore, MemoryStore, ObjectInfo, Operation, StoreCounters, StoreError,
    StoreKind, StoreOptions, StoreUrl, Upload,
};

/// A store with deadlines, further attempts and counters. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) backend: Arc<dyn Backend>,
    prefix: Arc<str>,
    shown: Arc<str>,
    options: Arc<StoreOptions>,
    counters: Arc<StoreCounters>,
    chance: Arc<AtomicU64>,
}

/// Longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// An attempt takes at most half of the time that is left, so that a connection on which nothing
/// comes does not cost the whole request; but not less than this, as a slow store would then never
/// be done.
const LEAST_ATTEMPT: Duration = Duration::from_secs(4);

impl Store {
    /// Opens the store that a URL names. Nothing is asked of it yet; [`Store::probe`] does.
    ///
    /// # Errors
    /// `Settings`: it cannot be set up like this, or not for this purpose.
    pub async fn open(url: &StoreUrl, options: StoreOptions) -> Result<Store, StoreError> {
        options.check(url)?;
        let backend: Arc<dyn Backend> = match &url.kind {
            StoreKind::Memory => Arc::new(MemoryStore::default()),
            StoreKind::File { directory } => Arc::new(DirectoryStore::open(directory).await?),
            StoreKind::Redis(place) => Arc::new(RedisStore::open(place, &options).await?),
            StoreKind::S3 { .. } | StoreKind::Gcs { .. } | StoreKind::Azure { .. } => {
                Arc::new(CloudStore::open(&url.kind, &options).await?)
            }
        };
        Ok(Store::with_backend(backend, &url.prefix, &url.to_string(), options))
    }

    /// A store of the caller's. `shown` stands for its URL.
    pub fn with_backend(
        backend: Arc<dyn Backend>,
        prefix: &str,
        shown: &str,
        options: StoreOptions,
    ) -> Store {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let mut seed = [0; 8];
        // Pauses of equal length, where the system has no chance to give, do no harm.
        let _ = getrandom::fill(&mut seed);
        let seed = options.seed.unwrap_or(u64::from_le_bytes(seed));
        Store {
            backend,
            prefix: prefix.into(),
            shown: shown.into(),
            options: Arc::new(options),
            counters: Arc::default(),
            chance: Arc::new(AtomicU64::new(seed)),
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

    /// Largest object that is read or written in one piece.
    pub fn max_object_bytes(&self) -> u64 {
        self.options.max_object_bytes
    }

    /// Writes an object under a key that nobody else uses.
    ///
    /// # Errors
    /// `Unknown`: it may be there, or appear later. After any other error it is not there and does
    /// not appear.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let (full, size) = (self.full(key), bytes.len());
        self.check_size(key, size as u64)?;
        let request = || self.backend.put(&full, bytes.clone());
        self.attempt(Operation::Put, key, |_| size, request).await
    }

    /// Begins an object that is too large for one piece.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn upload(&self, key: &str) -> Result<Upload, StoreError> {
        let full = self.full(key);
        let request = || self.backend.begin(&full);
        let parts = self.attempt(Operation::PutPart, key, |_| 0, request).await?;
        Ok(Upload::new(self.clone(), key.to_owned(), parts))
    }

    /// Reads an object.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge` and others.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let full = self.full(key);
        let request = || self.backend.get(&full, self.options.max_object_bytes);
        self.attempt(Operation::Get, key, Bytes::len, request).await
    }

    /// Reads a part of an object.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` if the object ends before the range does; others.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        self.check_size(key, wanted)?;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let full = self.full(key);
        let request = || async {
            let bytes = self.backend.get_range(&full, range.clone()).await?;
            if bytes.len() as u64 == wanted {
                return Ok(bytes);
            }
            let why = format!("{} bytes came where {wanted} were asked for", bytes.len());
            Err(StoreError::Damaged { key: key.to_owned(), why })
        };
        self.attempt(Operation::GetRange, key, Bytes::len, request).await
    }

    /// Length of an object.
    ///
    /// # Errors
    /// `NotFound` and others.
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let full = self.full(key);
        self.attempt(Operation::Head, key, |_| 0, || self.backend.size(&full)).await
    }

    /// All objects below `prefix`, which ends with a slash or is empty, in ascending order of keys.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let full = self.full(prefix);
        let request = || self.backend.list(&full);
        let listed = self.attempt(Operation::List, prefix, |_| 0, request).await?;
        let strip = |info: ObjectInfo| {
            let key = info.key.strip_prefix(&*self.prefix)?;
            let is_below = key.starts_with(prefix);
            is_below.then(|| ObjectInfo { key: key.to_owned(), size_bytes: info.size_bytes })
        };
        let mut found: Vec<ObjectInfo> = listed.into_iter().filter_map(strip).collect();
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Removes an object; an absent one is no error.
    ///
    /// # Errors
    /// Those of the store; the object may be gone all the same.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let full = self.full(key);
        self.attempt(Operation::Delete, key, |_| 0, || self.backend.delete(&full)).await
    }

    /// Whether it forgets objects by itself when they are old: what has to stay is
    /// [renewed](Store::renew) now and then.
    pub fn forgets(&self) -> bool {
        self.backend.forgets()
    }

    /// Keeps an object for as long again as if it was written now.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` if a part of it is gone; those of the store.
    pub async fn renew(&self, key: &str) -> Result<(), StoreError> {
        let full = self.full(key);
        self.attempt(Operation::Renew, key, |_| 0, || self.backend.renew(&full)).await
    }

    /// Writes, reads, lists and removes a small object: whether the store can be used at all.
    /// `name` must be this process' own.
    ///
    /// # Errors
    /// It cannot, and why.
    pub async fn probe(&self, name: &str) -> Result<(), StoreError> {
        let key = format!("probe/{name}");
        let bytes = Bytes::from_static(b"watchfire");
        self.put(&key, bytes.clone()).await?;
        let (found, listed) = (self.get(&key).await?, self.list("probe/").await?);
        self.delete(&key).await?;
        let damaged = |why: &str| StoreError::Damaged { key: key.clone(), why: why.to_owned() };
        if found != bytes {
            return Err(damaged("what was read is not what was written before"));
        }
        if !listed.iter().any(|info| info.key == key) {
            return Err(damaged("it is not in a listing after it was written"));
        }
        Ok(())
    }

    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn check_size(&self, key: &str, bytes: u64) -> Result<(), StoreError> {
        let limit = self.options.max_object_bytes;
        if bytes <= limit {
            return Ok(());
        }
        Err(StoreError::TooLarge { key: key.to_owned(), bytes, limit })
    }

    /// Tries until it succeeds, the time is over, or trying again is of no use.
    pub(crate) async fn attempt<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        operation: Operation,
        key: &str,
        size: impl Fn(&T) -> usize,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let limit = self.deadline(operation);
        let mut pause = self.options.first_pause;
        let mut doubt = None;
        // What the store said, or why nothing could be asked: more than that nothing came.
        let mut telling = None;
        let outcome = loop {
            let left = limit.saturating_sub(began.elapsed());
            let (share, patience) = match operation {
                // Long because there is much, in many requests that have deadlines of their own; a
                // store that is away is not waited for any longer than by a read.
                Operation::List => (left, limit.min(self.options.read_deadline)),
                _ => ((left / 2).max(LEAST_ATTEMPT).min(left), limit),
            };
            let error = match timeout(share, request()).await {
                Ok(Ok(value)) => break Ok(value),
                Ok(Err(error)) => error,
                Err(_) => StoreError::Late {
                    action: operation.action(),
                    key: key.to_owned(),
                    waited: began.elapsed(),
                },
            };
            // That nothing came says less than what came before.
            if error.leaves_doubt()
                && (doubt.is_none() || !matches!(error, StoreError::Late { .. }))
            {
                doubt = Some(error.to_string());
            }
            let next = self.shortened(pause);
            if !error.is_transient() || began.elapsed() + next >= patience {
                break Err(match (error, telling) {
                    // The last attempt has only what time the others left.
                    (StoreError::Late { .. }, Some(told)) if operation != Operation::Put => told,
                    (error, _) => error,
                });
            }
            tracing::debug!(store = &*self.shown, %error, "trying again");
            self.counters.note_retry(operation);
            if !matches!(error, StoreError::Late { .. }) {
                telling = Some(error);
            }
            sleep(next).await;
            pause = (2 * pause).min(MAX_PAUSE);
        };
        let took = began.elapsed();
        let outcome = outcome.map_err(|error| match (operation, doubt) {
            // An attempt may have been served, or be on its way, whatever the last one met.
            (Operation::Put, Some(met)) => {
                let last = error.to_string();
                let why = if met == last { met } else { format!("{met}; then {last}") };
                StoreError::Unknown { key: key.to_owned(), waited: took, why }
            }
            _ => error,
        });
        self.counters.note(operation, took, outcome.as_ref().map(size));
        outcome
    }

    fn deadline(&self, operation: Operation) -> Duration {
        match operation {
            Operation::Put | Operation::PutPart => self.options.write_deadline,
            Operation::List => self.options.list_deadline,
            _ => self.options.read_deadline,
        }
    }

    /// A pause less up to half of it, so that those who failed together do not come again together.
    fn shortened(&self, pause: Duration) -> Duration {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        let state = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = (z ^ (z >> 31)) as f64 / u64::MAX as f64;
        pause.mul_f64(1.0 - share / 2.0)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Store({})", self.shown)
    }
}
