//! The skip indexes that searches used lately, for those to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rapidhash::fast::RandomState;

use crate::skip::SkipIndex;

/// Bounded memory for the skip indexes of open blocks.
#[derive(Debug)]
pub struct IndexCache {
    limit_bytes: usize,
    next_block: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_block: HashMap<u64, Entry, RandomState>,
    bytes: usize,
    /// How often something was asked for.
    asked: u64,
}

#[derive(Debug)]
struct Entry {
    index: Arc<SkipIndex>,
    bytes: usize,
    last_used: u64,
}

impl IndexCache {
    /// Room for so many bytes; 0 keeps nothing.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(IndexCache { limit_bytes, next_block: AtomicU64::new(0), held })
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.held.lock().bytes
    }

    /// A number for a block, which no other has.
    pub(crate) fn number_block(&self) -> u64 {
        self.next_block.fetch_add(1, Ordering::Relaxed)
    }

    /// The index of a block; `load` reads it and tells its size.
    pub(crate) fn get<E>(
        &self,
        block: u64,
        load: impl FnOnce() -> Result<(SkipIndex, usize), E>,
    ) -> Result<Arc<SkipIndex>, E> {
        {
            let mut held = self.held.lock();
            held.asked += 1;
            let now = held.asked;
            if let Some(entry) = held.by_block.get_mut(&block) {
                entry.last_used = now;
                return Ok(Arc::clone(&entry.index));
            }
        }
        // Others go on meanwhile; two may read the same.
        let (index, bytes) = load()?;
        let index = Arc::new(index);
        if bytes > self.limit_bytes {
            return Ok(index);
        }
        let mut held = self.held.lock();
        let last_used = held.asked;
        let entry = Entry { index: Arc::clone(&index), bytes, last_used };
        held.bytes += bytes;
        if let Some(before) = held.by_block.insert(block, entry) {
            held.bytes -= before.bytes;
        }
        while held.bytes > self.limit_bytes {
            let others = held.by_block.iter().filter(|(other, _)| **other != block);
            let oldest = others.min_by_key(|(_, entry)| entry.last_used).map(|(other, _)| *other);
            let Some(oldest) = oldest else { break };
            held.forget(oldest);
        }
        Ok(index)
    }

    /// Gives up what it has of a block.
    pub(crate) fn forget(&self, block: u64) {
        self.held.lock().forget(block);
    }
}

impl Held {
    fn forget(&mut self, block: u64) {
        if let Some(entry) = self.by_block.remove(&block) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::SkipWriter;

    #[test]
    fn what_was_used_last_stays() {
        let cache = IndexCache::new(100);
        let load = |bytes| {
            move || {
                let (mut index, mut rows) = (Vec::new(), Vec::new());
                SkipWriter::default().finish(&mut index, &mut rows);
                Ok::<_, codec::CodecError>((SkipIndex::decode(&index)?, bytes))
            }
        };
        let fails = || Err::<(SkipIndex, usize), _>(());
        cache.get(1, load(40)).expect("it loads");
        cache.get(2, load(40)).expect("it loads");
        cache.get(1, fails).expect("it is there");
        cache.get(3, load(40)).expect("it loads");
        assert_eq!(cache.bytes(), 80);
        assert!(cache.get(2, fails).is_err(), "the one that was not used went");
        cache.get(1, fails).expect("it is there");
        cache.get(4, load(101)).expect("it loads");
        assert!(cache.get(4, fails).is_err(), "it is too large");
        cache.forget(1);
        assert_eq!(cache.bytes(), 40);
        assert!(cache.get(1, fails).is_err());
    }
}
