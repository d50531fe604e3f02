//! What queries read of blocks lately, decompressed, for those to come.
//!
//! Dashboards ask for the same few series again and again, and to find and read them takes the
//! directory of a group and some pages, whatever little is needed of them. Something is kept when it is
//! wanted for the second time, so that one query over everything neither fills the memory nor
//! displaces what others come back for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rapidhash::RapidHashMap;

use crate::directory::Group;

/// Locks, so that threads seldom meet.
const STRIPES: usize = 8;
/// Things of a stripe of which it is remembered that they were wanted once.
const REMEMBERED: usize = 1 << 12;

/// Bounded memory for pages and directories of open blocks.
#[derive(Debug)]
pub struct PageCache {
    stripes: [Mutex<Stripe>; STRIPES],
    /// Of each stripe, at most.
    stripe_bytes: usize,
    /// Of each stripe, by now.
    allowed_bytes: AtomicUsize,
    next_block: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What can be kept.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    Page(Arc<Vec<u8>>),
    Group(Arc<Group>),
}

/// A block's number here, whether it is a directory, and the number of page or group.
type Key = (u64, bool, u32);

#[derive(Debug)]
struct Stripe {
    by_key: RapidHashMap<Key, usize>,
    slots: Vec<Slot>,
    bytes: usize,
    /// The slot that is looked at next for something to give up.
    hand: usize,
    /// Hashes of what was wanted once.
    once: Box<[u32; REMEMBERED]>,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    kept: Kept,
    bytes: usize,
    /// Whether it was used since the hand passed.
    is_used: bool,
}

impl Default for Stripe {
    fn default() -> Self {
        let once = Box::new([0; REMEMBERED]);
        Stripe { by_key: RapidHashMap::default(), slots: Vec::new(), bytes: 0, hand: 0, once }
    }
}

impl PageCache {
    /// Room for so many bytes; 0 keeps nothing.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(PageCache {
            stripes: Default::default(),
            stripe_bytes: bytes / STRIPES,
            allowed_bytes: AtomicUsize::new(bytes / STRIPES),
            next_block: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// A number for a block that was opened.
    pub(crate) fn number_block(&self) -> u64 {
        self.next_block.fetch_add(1, Ordering::Relaxed)
    }

    /// What is kept under a key.
    pub(crate) fn get(&self, key: Key) -> Option<Kept> {
        let mut stripe = self.stripes[stripe_of(key)].lock();
        let Some(&at) = stripe.by_key.get(&key) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        stripe.slots[at].is_used = true;
        Some(stripe.slots[at].kept.clone())
    }

    /// Offers what was not found under a key.
    pub(crate) fn offer(&self, key: Key, kept: Kept) {
        let bytes = kept.bytes() + size_of::<Slot>();
        if bytes > self.allowed_bytes.load(Ordering::Relaxed) {
            return;
        }
        let hash = hash_of(key);
        let mut stripe = self.stripes[stripe_of(key)].lock();
        // Once more: who allowed less meanwhile looks at the stripe only after this.
        let allowed_bytes = self.allowed_bytes.load(Ordering::Acquire);
        if bytes > allowed_bytes {
            return;
        }
        let once = &mut stripe.once[(hash >> 1) as usize % REMEMBERED];
        if *once != hash {
            *once = hash;
            return;
        }
        if stripe.by_key.contains_key(&key) {
            return;
        }
        while stripe.bytes + bytes > allowed_bytes {
            stripe.give_up_one();
        }
        let at = stripe.slots.len();
        stripe.slots.push(Slot { key, kept, bytes, is_used: false });
        stripe.by_key.insert(key, at);
        stripe.bytes += bytes;
    }

    /// Keeps at most so many percent of its room from now on, and gives up what is more.
    pub fn allow_percent(&self, percent: usize) {
        let allowed_bytes = self.stripe_bytes * percent.min(100) / 100;
        let before = self.allowed_bytes.swap(allowed_bytes, Ordering::Release);
        // Fast path: all is well, as before.
        if before <= allowed_bytes {
            return;
        }
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            while stripe.bytes > allowed_bytes {
                stripe.give_up_one();
            }
            if stripe.slots.is_empty() {
                (stripe.slots, stripe.by_key) = (Vec::new(), RapidHashMap::default());
            }
        }
    }

    /// Gives up what is kept of a block.
    pub(crate) fn forget_block(&self, block: u64) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            let mut at = 0;
            while at < stripe.slots.len() {
                match stripe.slots[at].key.0 == block {
                    true => stripe.remove(at),
                    false => at += 1,
                }
            }
        }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lock().bytes).sum()
    }

    /// How often something was found, and how often it was not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

impl Stripe {
    fn give_up_one(&mut self) {
        loop {
            self.hand = if self.hand < self.slots.len() { self.hand } else { 0 };
            let slot = &mut self.slots[self.hand];
            if !std::mem::take(&mut slot.is_used) {
                return self.remove(self.hand);
            }
            self.hand += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        let slot = self.slots.swap_remove(at);
        self.by_key.remove(&slot.key);
        self.bytes -= slot.bytes;
        if let Some(moved) = self.slots.get(at) {
            self.by_key.insert(moved.key, at);
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Kept::Page(page) => page.capacity(),
            Kept::Group(group) => group.bytes(),
        }
    }
}

fn hash_of((block, is_group, number): Key) -> u32 {
    let mixed = (block << 33 | u64::from(number) << 1 | u64::from(is_group))
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32 | 1
}

fn stripe_of(key: Key) -> usize {
    hash_of(key) as usize >> 20 & (STRIPES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(len: usize) -> Kept {
        Kept::Page(Arc::new(vec![7; len]))
    }

    fn has(cache: &PageCache, key: Key) -> bool {
        cache.get(key).is_some()
    }

    #[test]
    fn what_is_wanted_twice_is_kept_within_the_limit() {
        let cache = PageCache::new(STRIPES * 10_000);
        cache.offer((0, false, 1), page(100));
        assert!(!has(&cache, (0, false, 1)), "wanted once");
        cache.offer((0, false, 1), page(100));
        assert!(has(&cache, (0, false, 1)) && !has(&cache, (0, true, 1)));
        for number in 0..2_000 {
            // What is used stays, whatever else comes by.
            assert!(has(&cache, (0, false, 1)), "{number}");
            for _ in 0..2 {
                cache.offer((1, false, number), page(500));
            }
            assert!(cache.bytes() <= STRIPES * 10_000);
        }
        assert!(cache.bytes() > STRIPES * 8_000);
        let (hits, misses) = cache.hits_and_misses();
        assert_eq!((hits, misses), (2_001, 2));
        cache.forget_block(1);
        assert!(cache.bytes() < 1_000 && has(&cache, (0, false, 1)));
        cache.forget_block(0);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn it_shrinks_and_grows_again() {
        let cache = PageCache::new(STRIPES * 10_000);
        let fill = |block| {
            for number in 0..2_000 {
                (0..2).for_each(|_| cache.offer((block, false, number), page(500)));
            }
        };
        fill(0);
        let full = cache.bytes();
        cache.allow_percent(50);
        assert!(cache.bytes() <= STRIPES * 5_000 && cache.bytes() > STRIPES * 4_000);
        fill(1);
        assert!(cache.bytes() <= STRIPES * 5_000, "it grows beyond what is allowed");
        cache.allow_percent(0);
        assert_eq!(cache.bytes(), 0);
        fill(2);
        assert_eq!(cache.bytes(), 0, "nothing is allowed");
        cache.allow_percent(100);
        fill(3);
        assert!(cache.bytes().abs_diff(full) < STRIPES * 1_000);
    }

    #[test]
    fn a_look_at_everything_displaces_nothing() {
        let cache = PageCache::new(STRIPES * 10_000);
        let wanted: Vec<Key> = (0..10).map(|number| (0, true, number)).collect();
        for key in wanted.iter().chain(&wanted) {
            cache.offer(*key, page(100));
        }
        (0..500).for_each(|number| cache.offer((1, false, number), page(900)));
        assert!(wanted.iter().all(|key| has(&cache, *key)));
        cache.offer((2, false, 0), page(20_000));
        cache.offer((2, false, 0), page(20_000));
        assert!(!has(&cache, (2, false, 0)), "larger than there is room");
    }
}
