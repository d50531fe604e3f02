//! Which series the rules concern, found by the bytes of their labels.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// Most unmatched series that are remembered; then all are matched anew.
const MAX_UNMATCHED: usize = 1 << 20;

/// What is known of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// No rule concerns it.
    Unmatched,
    /// Rules do; the place is where they keep what they know.
    Matched(u32),
}

/// Series seen so far. Places are dense and used again.
pub(super) struct SeriesTable {
    secrets: RapidSecrets,
    by_labels: HashTable<u32>,
    labels: Vec<Box<[u8]>>,
    seen_ms: Vec<i64>,
    free: Vec<u32>,
    /// Hashes of series that no rule concerns. A series that shares one with them would be missed
    /// by its rule, which happens to one in 2^44.
    unmatched: HashTable<u64>,
}

impl SeriesTable {
    pub(super) fn new(seed: u64) -> Self {
        SeriesTable {
            secrets: RapidSecrets::seed(seed),
            by_labels: HashTable::new(),
            labels: Vec::new(),
            seen_ms: Vec::new(),
            free: Vec::new(),
            unmatched: HashTable::new(),
        }
    }

    /// What is known of a series; `None` if it is new.
    pub(super) fn find(&mut self, labels: &[u8], now_ms: i64) -> Option<Known> {
        let hash = self.hash(labels);
        let found = self.by_labels.find(hash, |&place| *self.labels[place as usize] == *labels);
        if let Some(&place) = found {
            self.seen_ms[place as usize] = now_ms;
            return Some(Known::Matched(place));
        }
        self.unmatched.find(hash, |&other| other == hash).map(|_| Known::Unmatched)
    }

    /// Remembers that no rule concerns a series.
    pub(super) fn insert_unmatched(&mut self, labels: &[u8]) -> Known {
        if self.unmatched.len() >= MAX_UNMATCHED {
            self.unmatched.clear();
        }
        let hash = self.hash(labels);
        self.unmatched.insert_unique(hash, hash, |&hash| hash);
        Known::Unmatched
    }

    /// Gives a new series a place.
    pub(super) fn insert(&mut self, labels: &[u8], now_ms: i64) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.labels.push(Box::default());
            self.seen_ms.push(0);
            (self.labels.len() - 1) as u32
        });
        self.labels[place as usize] = labels.into();
        self.seen_ms[place as usize] = now_ms;
        let hash = self.hash(labels);
        let SeriesTable { by_labels, labels, secrets, .. } = self;
        by_labels.insert_unique(hash, place, |&place| hash_of(&labels[place as usize], secrets));
        place
    }

    /// A number from 0 up to 1 that is evenly spread over the series.
    pub(super) fn spread(&self, place: u32) -> f64 {
        (self.hash(&self.labels[place as usize]) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Forgets series not seen since a time, and says of each where it was.
    pub(super) fn forget_before(&mut self, before_ms: i64, mut forgotten: impl FnMut(u32)) {
        for place in 0..self.labels.len() as u32 {
            let index = place as usize;
            if self.seen_ms[index] >= before_ms || self.labels[index].is_empty() {
                continue;
            }
            let hash = self.hash(&self.labels[index]);
            if let Ok(entry) = self.by_labels.find_entry(hash, |&other| other == place) {
                entry.remove();
            }
            self.labels[index] = Box::default();
            self.free.push(place);
            forgotten(place);
        }
    }

    fn hash(&self, labels: &[u8]) -> u64 {
        hash_of(labels, &self.secrets)
    }
}

fn hash_of(labels: &[u8], secrets: &RapidSecrets) -> u64 {
    rapidhash_v3_inline::<true, false, true>(labels, secrets)
}
