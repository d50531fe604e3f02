//! A store that fails as stores do.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Backend, ObjectInfo, PartsBackend, Refusal, StoreError};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails before anything is done.
    Before,
    /// It is done, and then an error is told.
    After,
    /// Nobody answers, and nothing is done.
    Hang,
    /// Nobody answers, and it is done so much later.
    Late(Duration),
    /// The store says that it is overloaded.
    Busy,
    /// Half of the bytes come.
    Torn,
    /// The store takes no more writes.
    Full,
}

/// Decides about each request: its kind (`put`, `get`, `head`, `list`, `delete`, and of uploads `begin`,
/// `part` and `finish`) and its key.
pub type Decide = dyn Fn(&'static str, &str) -> Fault + Send + Sync;

/// Another store, with faults.
#[derive(Clone)]
pub struct FaultyStore {
    behind: Arc<dyn Backend>,
    decide: Arc<Decide>,
}

impl FaultyStore {
    /// The faults are the caller's, so that they can be repeated.
    pub fn new(behind: Arc<dyn Backend>, decide: Arc<Decide>) -> FaultyStore {
        FaultyStore { behind, decide }
    }

    /// What goes wrong before the request; what may go wrong after it.
    async fn before(&self, kind: &'static str, key: &str) -> Result<Fault, StoreError> {
        let (action, key) = (kind, key.to_owned());
        let is_write = matches!(kind, "put" | "begin" | "part" | "finish");
        match (self.decide)(kind, &key) {
            Fault::Before => {
                Err(StoreError::Unreachable { action, key, why: "connection refused".to_owned() })
            }
            Fault::Busy => Err(StoreError::Busy { action, key, why: "503 Slow Down".to_owned() }),
            Fault::Full if is_write => Err(StoreError::Refused {
                refusal: Refusal::Full,
                action,
                key,
                why: "507 Insufficient Storage".to_owned(),
            }),
            Fault::Hang => std::future::pending().await,
            fault => Ok(fault),
        }
    }

    fn after<T>(kind: &'static str, key: &str, fault: Fault, done: T) -> Result<T, StoreError> {
        if fault != Fault::After {
            return Ok(done);
        }
        let why = "connection reset after the request was sent".to_owned();
        Err(StoreError::Failed { action: kind, key: key.to_owned(), why })
    }
}

/// As the connection breaks in the middle of an answer, unnoticed by whoever reads it.
fn torn(fault: Fault, bytes: Bytes) -> Bytes {
    if fault == Fault::Torn { bytes.slice(..bytes.len() / 2) } else { bytes }
}

#[async_trait]
impl Backend for FaultyStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let fault = self.before("put", key).await?;
        if let Fault::Late(by) = fault {
            let (behind, key) = (Arc::clone(&self.behind), key.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(by).await;
                // Nobody hears of it.
                let _ = behind.put(&key, bytes).await;
            });
            return std::future::pending().await;
        }
        self.behind.put(key, bytes).await?;
        Self::after("put", key, fault, ())
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let fault = self.before("get", key).await?;
        let bytes = self.behind.get(key, limit).await?;
        Self::after("get", key, fault, torn(fault, bytes))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let fault = self.before("get", key).await?;
        let bytes = self.behind.get_range(key, range).await?;
        Self::after("get", key, fault, torn(fault, bytes))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let fault = self.before("head", key).await?;
        let size = self.behind.size(key).await?;
        Self::after("head", key, fault, size)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let fault = self.before("list", prefix).await?;
        let listed = self.behind.list(prefix).await?;
        Self::after("list", prefix, fault, listed)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let fault = self.before("delete", key).await?;
        self.behind.delete(key).await?;
        Self::after("delete", key, fault, ())
    }

    async fn begin(&self, key: &str) -> Result<Arc<dyn PartsBackend>, StoreError> {
        let fault = self.before("begin", key).await?;
        let behind = self.behind.begin(key).await?;
        let parts = FaultyParts { store: self.clone(), key: key.to_owned(), behind };
        Self::after("begin", key, fault, Arc::new(parts) as Arc<dyn PartsBackend>)
    }
}

struct FaultyParts {
    store: FaultyStore,
    key: String,
    behind: Arc<dyn PartsBackend>,
}

#[async_trait]
impl PartsBackend for FaultyParts {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<(), StoreError> {
        let fault = self.store.before("part", &self.key).await?;
        self.behind.part(number, bytes).await?;
        FaultyStore::after("part", &self.key, fault, ())
    }

    async fn finish(&self) -> Result<(), StoreError> {
        let fault = self.store.before("finish", &self.key).await?;
        self.behind.finish().await?;
        FaultyStore::after("finish", &self.key, fault, ())
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.behind.abort().await
    }
}
