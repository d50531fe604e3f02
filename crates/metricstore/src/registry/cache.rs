//! Ordinals by the label bytes of a request, unparsed.

use std::sync::atomic::{AtomicU32, Ordering};

use super::probing::{Home, PARTS, Probing};

/// Entries the cache may hold per registered series, before a part is emptied: the same series may
/// come in several spellings, but a sender that permutes labels must not fill memory.
const SPELLINGS: usize = 4;
/// Entries a part may always hold.
const MIN_PART_LIMIT: usize = 4_096;

/// Ordinals by the fingerprint of label bytes as they came. An entry has 64 bits of it, and the
/// part it is in says 6 more: that bytes which are not known are taken for others happens once in
/// 10^15 times, with a million series.
pub(super) struct Cache {
    spellings: Probing<3>,
    /// By ordinal: the minute in which the series was last looked up; written while others read.
    seen_min: Vec<AtomicU32>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Cache { spellings: Probing::new(), seen_min: Vec::new() }
    }

    #[inline]
    pub(super) fn find(&self, key: u128, seen_min: u32) -> Option<u32> {
        let [low, high] = words_of(key);
        let is_it = |entry: &[u32; 3]| entry[0] == low && entry[1] == high;
        let ordinal = self.spellings.find(home_of(key), is_it)?;
        // Ordinals of a batch are mostly neighbours, so this is near what was seen before it.
        let seen = &self.seen_min[ordinal as usize];
        if seen.load(Ordering::Relaxed) < seen_min {
            seen.store(seen_min, Ordering::Relaxed);
        }
        Some(ordinal)
    }

    /// Remembers the ordinal of a spelling. `series` is the number of registered series; a part is
    /// emptied where it must be to stay in proportion to it.
    pub(super) fn insert(&mut self, key: u128, ordinal: u32, seen_min: u32, series: usize) {
        self.saw(ordinal, seen_min);
        if self.find(key, seen_min).is_some() {
            // Another batch with the same new series was faster.
            return;
        }
        let home = home_of(key);
        if self.spellings.len_near(home) >= (series * SPELLINGS / PARTS).max(MIN_PART_LIMIT) {
            self.spellings.clear_near(home);
        }
        let [low, high] = words_of(key);
        self.spellings.insert(home, [low, high, ordinal], |entry| entry[0]);
    }

    /// Notes when a series was looked up.
    pub(super) fn saw(&mut self, ordinal: u32, seen_min: u32) {
        let place = ordinal as usize;
        if self.seen_min.len() <= place {
            // Doubling would leave much of it unused.
            if self.seen_min.capacity() <= place {
                self.seen_min.reserve_exact(place + 1 + place / 8 - self.seen_min.len());
            }
            self.seen_min.resize_with(place + 1, AtomicU32::default);
        }
        let kept = self.seen_min[place].get_mut();
        *kept = (*kept).max(seen_min);
    }

    /// Minute in which a series was last looked up.
    pub(super) fn seen_min(&self, ordinal: u32) -> u32 {
        self.seen_min.get(ordinal as usize).map_or(0, |seen| seen.load(Ordering::Relaxed))
    }

    /// Forgets the spellings of series that are gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(u32) -> bool) {
        self.spellings.retain(|entry| entry[0], |ordinal| !is_gone(ordinal));
    }

    pub(super) fn bytes(&self) -> usize {
        self.spellings.bytes() + self.seen_min.capacity() * size_of::<AtomicU32>()
    }
}

fn words_of(key: u128) -> [u32; 2] {
    [key as u32, (key >> 32) as u32]
}

fn home_of(key: u128) -> Home {
    // The part is told by bits that the entry does not have.
    Home { part: (key >> 64) as u32, place: key as u32 }
}
