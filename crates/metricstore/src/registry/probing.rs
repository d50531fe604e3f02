//! A hash table of small entries that is nearly full, and grows by a fifth.
//!
//! Tables that double are half empty on average, and of a million series that is what most of
//! them would cost. This one has no bytes beside the entries: each is some words, the last of them
//! an ordinal, and one that is [`UNKNOWN`] is free.

use super::UNKNOWN;

/// Entries of one part, in a row that is searched from the place their hash says.
#[derive(Debug)]
struct Part<const WORDS: usize> {
    entries: Box<[[u32; WORDS]]>,
    used: usize,
}

/// Ordinals by hashes. When a part grows, the others stay as they are.
#[derive(Debug)]
pub(super) struct Probing<const WORDS: usize> {
    parts: Box<[Part<WORDS>]>,
}

/// Parts of a table. Each is moved as a whole while others wait.
pub(super) const PARTS: usize = 64;
/// Eighths of a part that may be used.
const MOST_USED_EIGHTHS: usize = 7;
/// Bytes a part has at least when something is in it.
const MIN_BYTES: usize = 256;

/// Where to look for an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    /// Evenly spread; the part follows from its low bits.
    pub(super) part: u32,
    /// Evenly spread. It must follow from the entry's words.
    pub(super) place: u32,
}

impl<const WORDS: usize> Part<WORDS> {
    fn place_of(&self, place: u32) -> usize {
        ((u64::from(place) * self.entries.len() as u64) >> 32) as usize
    }

    fn put(&mut self, place: u32, entry: [u32; WORDS]) {
        let mut at = self.place_of(place);
        while self.entries[at][WORDS - 1] != UNKNOWN {
            at = if at + 1 == self.entries.len() { 0 } else { at + 1 };
        }
        self.entries[at] = entry;
        self.used += 1;
    }

    /// Moves what `keep` says to a row of the right size.
    fn rebuild(
        &mut self,
        room: usize,
        place_of: impl Fn(&[u32; WORDS]) -> u32,
        keep: impl Fn(&[u32; WORDS]) -> bool,
    ) {
        let old = std::mem::take(&mut self.entries);
        self.used = 0;
        let kept = || old.iter().filter(|entry| entry[WORDS - 1] != UNKNOWN && keep(entry));
        self.entries = vec![[UNKNOWN; WORDS]; capacity::<WORDS>(kept().count() + room)].into();
        for entry in kept() {
            self.put(place_of(entry), *entry);
        }
    }
}

/// Entries of the smallest row in which so many may be: as many as the allocator gives anyway, with
/// four sizes for each power of two.
fn capacity<const WORDS: usize>(used: usize) -> usize {
    if used == 0 {
        return 0;
    }
    let entry_bytes = WORDS * size_of::<u32>();
    let wanted = ((used * 8 / MOST_USED_EIGHTHS + 1) * entry_bytes).max(MIN_BYTES);
    let step = (wanted.next_power_of_two() / 8).max(1);
    wanted.next_multiple_of(step) / entry_bytes
}

impl<const WORDS: usize> Probing<WORDS> {
    pub(super) fn new() -> Self {
        let part = || Part { entries: Box::default(), used: 0 };
        Probing { parts: (0..PARTS).map(|_| part()).collect() }
    }

    /// The ordinal of the first entry at `home` that `is_it`.
    #[inline]
    pub(super) fn find(
        &self,
        home: Home,
        mut is_it: impl FnMut(&[u32; WORDS]) -> bool,
    ) -> Option<u32> {
        let part = &self.parts[home.part as usize % PARTS];
        let mut at = part.place_of(home.place);
        loop {
            let entry = part.entries.get(at)?;
            if entry[WORDS - 1] == UNKNOWN {
                return None;
            }
            if is_it(entry) {
                return Some(entry[WORDS - 1]);
            }
            at = if at + 1 == part.entries.len() { 0 } else { at + 1 };
        }
    }

    /// Adds an entry that is not there. `place_of` tells the places of others.
    pub(super) fn insert(
        &mut self,
        home: Home,
        entry: [u32; WORDS],
        place_of: impl Fn(&[u32; WORDS]) -> u32,
    ) {
        let part = &mut self.parts[home.part as usize % PARTS];
        // One is always free, so that every search ends.
        if (part.used + 1) * 8 > part.entries.len() * MOST_USED_EIGHTHS {
            part.rebuild(1, place_of, |_| true);
        }
        part.put(home.place, entry);
    }

    /// Number of entries in the part of `home`.
    pub(super) fn len_near(&self, home: Home) -> usize {
        self.parts[home.part as usize % PARTS].used
    }

    /// Forgets all entries in the part of `home`.
    pub(super) fn clear_near(&mut self, home: Home) {
        let part = &mut self.parts[home.part as usize % PARTS];
        *part = Part { entries: Box::default(), used: 0 };
    }

    /// Keeps the entries whose ordinal `keep` says, in no more memory than they need.
    pub(super) fn retain(
        &mut self,
        place_of: impl Fn(&[u32; WORDS]) -> u32,
        keep: impl Fn(u32) -> bool,
    ) {
        for part in &mut self.parts {
            let ordinals = part.entries.iter().map(|entry| entry[WORDS - 1]);
            if ordinals.clone().any(|ordinal| ordinal != UNKNOWN && !keep(ordinal)) {
                part.rebuild(0, &place_of, |entry| keep(entry[WORDS - 1]));
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let entries = self.parts.iter().map(|part| part.entries.len()).sum::<usize>();
        entries * WORDS * size_of::<u32>() + PARTS * size_of::<Part<WORDS>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A hash with many equal ones.
    fn home(key: u32) -> Home {
        Home { part: key % 3, place: (key % 500).wrapping_mul(0x9e37_79b9) }
    }

    proptest! {
        #[test]
        fn entries_are_those_of_a_map(
            steps in proptest::collection::vec((0_u32..4_000, 0_u32..20), 1..3_000),
        ) {
            let place_of = |entry: &[u32; 2]| home(entry[0]).place;
            let mut table = Probing::<2>::new();
            let mut model = BTreeMap::new();
            for (key, action) in steps {
                let found = table.find(home(key), |entry| entry[0] == key);
                prop_assert_eq!(found, model.get(&key).copied());
                if found.is_none() {
                    table.insert(home(key), [key, key * 3], place_of);
                    model.insert(key, key * 3);
                }
                if action == 0 {
                    let keep = |ordinal: u32| ordinal % 7 != key % 7;
                    table.retain(place_of, keep);
                    model.retain(|_, ordinal| keep(*ordinal));
                }
            }
            for (&key, &ordinal) in &model {
                prop_assert_eq!(table.find(home(key), |entry| entry[0] == key), Some(ordinal));
            }
            let len: usize = (0..3).map(|part| table.len_near(Home { part, place: 0 })).sum();
            prop_assert_eq!(len, model.len());
        }
    }

    #[test]
    fn a_table_is_mostly_full() {
        let mut table = Probing::<3>::new();
        let home = |key: u32| Home { part: key, place: key.wrapping_mul(0x9e37_79b9) };
        for key in 0..200_000 {
            table.insert(home(key), [key, 0, key], |entry| home(entry[0]).place);
            let most = 12 * (key as usize + 1) * 3 / 2 + PARTS * (MIN_BYTES + 64);
            assert!(table.bytes() < most, "{} at {key}", table.bytes());
        }
    }
}
