//! A store that fails as stores do.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Backend, ObjectInfo, StoreError};

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

/// Decides about each request: its kind (`put`, `get`, `list`, `delete`) and its key.
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

    /// What goes wrong before the request; `true` if it goes wrong after it.
    async fn before(&self, kind: &'static str, key: &str) -> Result<Fault, StoreError> {
        let unavailable = |why: &str| StoreError::Unavailable {
            action: kind,
            key: key.to_owned(),
            why: why.to_owned(),
        };
        match (self.decide)(kind, key) {
            Fault::Before => Err(unavailable("connection reset")),
            Fault::Busy => Err(unavailable("503 Slow Down")),
            Fault::Full if kind == "put" => {
                Err(StoreError::Full { why: "507 Insufficient Storage".to_owned() })
            }
            Fault::Hang => std::future::pending().await,
            fault => Ok(fault),
        }
    }

    fn after<T>(kind: &'static str, key: &str, fault: Fault, done: T) -> Result<T, StoreError> {
        if fault != Fault::After {
            return Ok(done);
        }
        let why = "connection reset after the request was sent".to_owned();
        Err(StoreError::Unavailable { action: kind, key: key.to_owned(), why })
    }
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

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let fault = self.before("get", key).await?;
        let bytes = self.behind.get(key).await?;
        let half = bytes.len() / 2;
        Self::after("get", key, fault, if fault == Fault::Torn { bytes.slice(..half) } else { bytes })
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let fault = self.before("get", key).await?;
        let bytes = self.behind.get_range(key, range).await?;
        let half = bytes.len() / 2;
        Self::after("get", key, fault, if fault == Fault::Torn { bytes.slice(..half) } else { bytes })
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let fault = self.before("get", key).await?;
        let size = self.behind.size(key).await?;
        Self::after("get", key, fault, size)
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
}
