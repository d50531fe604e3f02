//! A store in this process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Backend, ObjectInfo, PartsBackend, StoreError};

/// Objects in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl MemoryStore {
    /// Changes an object behind everyone's back, as a bad disk does.
    pub fn damage(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.0.lock();
        if let Some(bytes) = objects.get_mut(key) {
            let mut changed = bytes.to_vec();
            change(&mut changed);
            *bytes = changed.into();
        }
    }

    fn find(&self, key: &str) -> Result<Bytes, StoreError> {
        let found = self.0.lock().get(key).cloned();
        found.ok_or_else(|| StoreError::NotFound { key: key.to_owned() })
    }
}

#[async_trait]
impl Backend for MemoryStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.0.lock().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let found = self.find(key)?;
        let bytes = found.len() as u64;
        if bytes > limit {
            return Err(StoreError::TooLarge { key: key.to_owned(), bytes, limit });
        }
        Ok(found)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.find(key)?;
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.slice(at(range.start)..at(range.end).max(at(range.start))))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        Ok(self.find(key)?.len() as u64)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.0.lock();
        let from = objects.range(prefix.to_owned()..);
        let below = from.take_while(|(key, _)| key.starts_with(prefix));
        let info = |(key, bytes): (&String, &Bytes)| ObjectInfo {
            key: key.clone(),
            size_bytes: bytes.len() as u64,
        };
        Ok(below.map(info).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.lock().remove(key);
        Ok(())
    }

    async fn begin(&self, key: &str) -> Result<Arc<dyn PartsBackend>, StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        Ok(Arc::new(MemoryParts { store, key, parts: Mutex::default() }))
    }
}

struct MemoryParts {
    store: MemoryStore,
    key: String,
    parts: Mutex<BTreeMap<u32, Bytes>>,
}

#[async_trait]
impl PartsBackend for MemoryParts {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<(), StoreError> {
        self.parts.lock().insert(number, bytes);
        Ok(())
    }

    async fn finish(&self) -> Result<(), StoreError> {
        let whole: Vec<u8> = self.parts.lock().values().flatten().copied().collect();
        self.store.put(&self.key, whole.into()).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.parts.lock().clear();
        Ok(())
    }
}
