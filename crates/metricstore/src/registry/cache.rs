//! Ordinals by the label bytes of a request, unparsed.

use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;

/// Parts of the cache: when one grows, the others stay as they are.
const PARTS: usize = 64;
/// Entries the cache may hold per registered series, before a part is emptied: the same series may
/// come in several spellings, but a sender that permutes labels must not fill memory.
const SPELLINGS: usize = 4;
/// Entries a part may always hold.
const MIN_PART_LIMIT: usize = 4_096;

/// Ordinals by the fingerprint of label bytes as they came.
pub(super) struct Cache {
    parts: Box<[HashTable<Entry>]>,
}

/// A spelling of a series' labels. 24 bytes.
#[derive(Debug)]
pub(super) struct Entry {
    key: [u32; 4],
    pub(super) ordinal: u32,
    /// Minute in which it was last looked up; written while others read.
    seen_min: AtomicU32,
}

impl Cache {
    pub(super) fn new() -> Self {
        Cache { parts: (0..PARTS).map(|_| HashTable::new()).collect() }
    }

    #[inline]
    pub(super) fn find(&self, key: u128, seen_min: u32) -> Option<u32> {
        let wanted = split(key);
        let part = &self.parts[part_of(key)];
        let entry = part.find(key as u64, |entry| entry.key == wanted)?;
        if entry.seen_min() != seen_min {
            entry.seen_min.store(seen_min, Ordering::Relaxed);
        }
        Some(entry.ordinal)
    }

    /// Remembers the ordinal of a spelling. `series` is the number of registered series; if a part
    /// must be emptied to stay in proportion to it, `forget` is shown what it held.
    pub(super) fn insert(
        &mut self,
        key: u128,
        ordinal: u32,
        seen_min: u32,
        series: usize,
        mut forget: impl FnMut(&Entry),
    ) {
        let wanted = split(key);
        let part = &mut self.parts[part_of(key)];
        if part.find(key as u64, |entry| entry.key == wanted).is_some() {
            // Another batch with the same new series was faster.
            return;
        }
        if part.len() >= (series * SPELLINGS / PARTS).max(MIN_PART_LIMIT) {
            part.iter().for_each(&mut forget);
            part.clear();
        }
        let entry = Entry { key: wanted, ordinal, seen_min: AtomicU32::new(seen_min) };
        part.insert_unique(key as u64, entry, Entry::hash);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flatten()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        for part in &mut self.parts {
            part.retain(|entry| keep(entry));
            // After an explosion of series is over, what it took goes back.
            if part.len() < part.capacity() / 4 {
                part.shrink_to_fit(Entry::hash);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(HashTable::allocation_size).sum()
    }
}

impl Entry {
    /// Minute in which it was last looked up.
    pub(super) fn seen_min(&self) -> u32 {
        self.seen_min.load(Ordering::Relaxed)
    }

    fn hash(&self) -> u64 {
        u64::from(self.key[0]) | u64::from(self.key[1]) << 32
    }
}

fn split(key: u128) -> [u32; 4] {
    [key as u32, (key >> 32) as u32, (key >> 64) as u32, (key >> 96) as u32]
}

fn part_of(key: u128) -> usize {
    // Bits that the table inside the part does not use.
    (key >> 64) as usize % PARTS
}
