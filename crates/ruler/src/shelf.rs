//! A key space for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::keep::{Boxed, Keep, KeepError, MAX_VALUE_BYTES};

/// A key space in memory, which refuses writes after so many.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) keys: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) writes_left: AtomicUsize,
    /// After so many writes one counts although it is said that it may not, as in a cluster.
    pub(crate) doubtful_in: AtomicUsize,
}

impl Shelf {
    pub(crate) fn new() -> Arc<Shelf> {
        let never = || AtomicUsize::new(usize::MAX);
        Arc::new(Shelf { writes_left: never(), doubtful_in: never(), ..Shelf::default() })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Result<(), KeepError> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(KeepError::Unavailable("the shelf is full".to_owned()));
        }
        self.writes_left.store(left - 1, Ordering::SeqCst);
        change(&mut self.keys.lock());
        if self.doubtful_in.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(KeepError::Unavailable("nobody knows whether it counts".to_owned()));
        }
        Ok(())
    }
}

impl Keep for Shelf {
    fn list(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let keys = self.keys.lock();
        let found = keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn put(&self, key: String, value: Vec<u8>) -> Boxed<'_, Result<(), KeepError>> {
        assert!(value.len() <= MAX_VALUE_BYTES);
        Box::pin(async move { self.change(|keys| drop(keys.insert(key, value))) })
    }

    fn delete(&self, key: String) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(async move { self.change(|keys| drop(keys.remove(&key))) })
    }
}
