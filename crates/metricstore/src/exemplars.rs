//! The last exemplars of all series, as Prometheus keeps them: a bounded number over all, of which
//! the oldest give way, and for each series only those that follow its newest.
//!
//! What becomes of an exemplar depends on nothing but those before it. So a start that reads the
//! same ones in the same order, from a [file](ExemplarSnapshot::encode) and the log, has what was
//! there before.

use std::collections::VecDeque;
use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use model::{Exemplar, Labels, Matcher, SeriesExemplars, TenantId, TimeRange};

use crate::deletes::Delete;
use crate::fingerprint::Fingerprint;

pub use crate::exemplar_file::{ExemplarFileError, ExemplarSnapshot};

/// Bytes of labels that exemplars and their series may take, per exemplar that is allowed. Far more
/// than they usually do; it bounds memory where each has a series of its own with long labels.
const LABEL_BYTES_EACH: usize = 1 << 10;
/// … and at least this many in all.
const MIN_LABEL_BYTES: usize = 1 << 20;
/// The number of no exemplar.
const NONE: u64 = u64::MAX;

/// What an exemplar is to those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It follows the newest of its series, or is the first.
    New,
    /// It is the newest of its series once more.
    Repeated,
    /// It comes before the newest of its series, and is not kept.
    OutOfOrder,
}

/// What became of exemplars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExemplarOutcome {
    /// Stored.
    pub stored: u64,
    /// Left out because the newest of the series says the same.
    pub repeated: u64,
    /// Left out because they come before the newest of their series.
    pub out_of_order: u64,
}

impl ExemplarOutcome {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: ExemplarOutcome) {
        self.stored += other.stored;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
    }

    /// Counts one more.
    pub fn count(&mut self, standing: Standing) {
        match standing {
            Standing::New => self.stored += 1,
            Standing::Repeated => self.repeated += 1,
            Standing::OutOfOrder => self.out_of_order += 1,
        }
    }
}

/// The exemplars that are kept.
pub struct ExemplarStore {
    max_exemplars: usize,
    hash: Fingerprint,
    /// In the order in which they came.
    ring: VecDeque<Kept>,
    /// The number of the first in `ring`; they are numbered without gaps.
    first: u64,
    /// Series with exemplars; some places are free.
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_labels: HashTable<u32>,
    label_bytes: usize,
    changes: u64,
}

struct Kept {
    exemplar: Exemplar,
    slot: u32,
    /// The next of the same series.
    next: u64,
}

struct Slot {
    tenant: TenantId,
    labels: Labels,
    oldest: u64,
    newest: u64,
}

impl ExemplarStore {
    /// Nothing yet; at most `max_exemplars` later, none if that is 0. `seed` keys the table of
    /// series: labels come from strangers.
    pub fn new(max_exemplars: usize, seed: u64) -> Self {
        ExemplarStore {
            max_exemplars,
            hash: Fingerprint::new(seed),
            ring: VecDeque::new(),
            first: 0,
            slots: Vec::new(),
            free: Vec::new(),
            by_labels: HashTable::new(),
            label_bytes: 0,
            changes: 0,
        }
    }

    /// Number of exemplars.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The most there may be.
    pub fn max_exemplars(&self) -> usize {
        self.max_exemplars
    }

    /// Number of series with exemplars.
    pub fn series(&self) -> usize {
        self.by_labels.len()
    }

    /// About how many bytes of memory they and their series take.
    pub fn bytes(&self) -> usize {
        // Labels of series are shared with nobody here, and seldom longer.
        let series = self.slots.capacity() * size_of::<Option<Slot>>() + self.series() * 128;
        self.ring.capacity() * size_of::<Kept>() + self.label_bytes + series
    }

    /// The time of the exemplar that came first of all.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.ring.front().map(|kept| kept.exemplar.t_ms)
    }

    /// Grows with every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What `exemplar` of `series` would be. About 50 ns.
    pub fn standing(&self, tenant: TenantId, series: &Labels, exemplar: &Exemplar) -> Standing {
        let hash = self.hash_of(tenant, series);
        match self.by_labels.find(hash, |&at| self.slot(at).is_of(tenant, series)) {
            Some(&at) => self.standing_in(at, exemplar),
            None => Standing::New,
        }
    }

    /// Keeps an exemplar if it is new; the oldest of all may give way.
    pub fn push(&mut self, tenant: TenantId, series: &Labels, exemplar: Exemplar) -> Standing {
        let at = self.slot_of(tenant, series);
        let standing = self.standing_in(at, &exemplar);
        if standing != Standing::New {
            return standing;
        }
        let number = self.first + self.ring.len() as u64;
        let slot = self.slots[at as usize].as_mut().expect("found or made above");
        let before = std::mem::replace(&mut slot.newest, number);
        if before == NONE {
            slot.oldest = number;
        } else {
            self.ring[(before - self.first) as usize].next = number;
        }
        self.label_bytes += exemplar.labels.as_packed().len();
        self.ring.push_back(Kept { exemplar, slot: at, next: NONE });
        self.changes += 1;
        let max_bytes = self.max_exemplars.saturating_mul(LABEL_BYTES_EACH).max(MIN_LABEL_BYTES);
        while self.ring.len() > self.max_exemplars || self.label_bytes > max_bytes {
            self.pop();
        }
        standing
    }

    /// Places in which [`ExemplarStore::collect`] looks for series.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// Appends the exemplars in `range` of the tenant's series that lie in `places` and satisfy all
    /// matchers of any of `selectors`.
    pub fn collect(
        &self,
        places: Range<usize>,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        out: &mut Vec<SeriesExemplars>,
    ) {
        let end = places.end.min(self.slots.len());
        let wanted = self.slots.get(places.start..end).unwrap_or_default();
        for slot in wanted.iter().flatten().filter(|slot| slot.tenant == tenant) {
            let newest = &self.kept(slot.newest).exemplar;
            let is_over = newest.t_ms < range.start_ms;
            if is_over || !selectors.iter().any(|all| Matcher::all_match(all, &slot.labels)) {
                continue;
            }
            let exemplars: Vec<Exemplar> = self
                .of_slot(slot)
                .map(|kept| &kept.exemplar)
                .filter(|exemplar| range.contains(exemplar.t_ms))
                .cloned()
                .collect();
            if !exemplars.is_empty() {
                out.push(SeriesExemplars { labels: slot.labels.clone(), exemplars });
            }
        }
    }

    /// Forgets what a delete hides. Looks at every series, and makes the rest anew if there is
    /// something to forget.
    pub fn forget_deleted(&mut self, delete: &Delete) {
        let hides = |slot: &Slot| {
            slot.tenant == delete.tombstone().tenant
                && delete.selectors().iter().any(|all| Matcher::all_match(all, &slot.labels))
        };
        let concerned: Vec<bool> =
            self.slots.iter().map(|slot| slot.as_ref().is_some_and(hides)).collect();
        let range = delete.tombstone().range;
        let is_hidden =
            |kept: &Kept| concerned[kept.slot as usize] && range.contains(kept.exemplar.t_ms);
        if !self.ring.iter().any(is_hidden) {
            return;
        }
        let ring = std::mem::take(&mut self.ring);
        let slots = std::mem::take(&mut self.slots);
        self.free.clear();
        self.by_labels.clear();
        self.label_bytes = 0;
        self.changes += 1;
        for kept in ring {
            if !is_hidden(&kept) {
                let slot = slots[kept.slot as usize].as_ref().expect("exemplars have a series");
                self.push(slot.tenant, &slot.labels, kept.exemplar);
            }
        }
    }

    /// What a file needs, as of now. Copies no text.
    pub fn snapshot(&self) -> ExemplarSnapshot {
        let series =
            |slot: &Option<Slot>| slot.as_ref().map(|slot| (slot.tenant, slot.labels.clone()));
        ExemplarSnapshot {
            changes: self.changes,
            series: self.slots.iter().map(series).collect(),
            exemplars: self.ring.iter().map(|kept| (kept.slot, kept.exemplar.clone())).collect(),
        }
    }

    fn standing_in(&self, at: u32, exemplar: &Exemplar) -> Standing {
        let newest = self.slot(at).newest;
        if newest == NONE {
            return Standing::New;
        }
        let newest = &self.kept(newest).exemplar;
        if exemplar.repeats(newest) {
            Standing::Repeated
        } else if exemplar.is_before(newest) {
            Standing::OutOfOrder
        } else {
            Standing::New
        }
    }

    fn slot_of(&mut self, tenant: TenantId, series: &Labels) -> u32 {
        let hash = self.hash_of(tenant, series);
        let ExemplarStore { slots, free, by_labels, hash: fingerprint, .. } = self;
        let of = |at: u32| slots[at as usize].as_ref().expect("the table names used places");
        let found = by_labels.entry(
            hash,
            |&at| of(at).is_of(tenant, series),
            |&at| hash_with(fingerprint, of(at).tenant, &of(at).labels),
        );
        match found {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let at = free.pop().unwrap_or(slots.len() as u32);
                place.insert(at);
                let slot = Slot { tenant, labels: series.clone(), oldest: NONE, newest: NONE };
                self.label_bytes += series.as_packed().len();
                match slots.get_mut(at as usize) {
                    Some(unused) => *unused = Some(slot),
                    None => slots.push(Some(slot)),
                }
                at
            }
        }
    }

    /// Forgets the oldest of all, which is the oldest of its series.
    fn pop(&mut self) {
        let Some(kept) = self.ring.pop_front() else { return };
        let number = self.first;
        self.first += 1;
        self.label_bytes -= kept.exemplar.labels.as_packed().len();
        let slot = self.slots[kept.slot as usize].as_mut().expect("exemplars have a series");
        debug_assert_eq!(slot.oldest, number, "series keep the order of arrival");
        if kept.next != NONE {
            slot.oldest = kept.next;
            return;
        }
        let slot = self.slots[kept.slot as usize].take().expect("as above");
        self.label_bytes -= slot.labels.as_packed().len();
        let hash = self.hash_of(slot.tenant, &slot.labels);
        if let Ok(entry) = self.by_labels.find_entry(hash, |&at| at == kept.slot) {
            entry.remove();
        }
        self.free.push(kept.slot);
    }

    fn of_slot(&self, slot: &Slot) -> impl Iterator<Item = &Kept> {
        let mut next = slot.oldest;
        std::iter::from_fn(move || {
            if next == NONE {
                return None;
            }
            let kept = self.kept(next);
            next = kept.next;
            Some(kept)
        })
    }

    fn kept(&self, number: u64) -> &Kept {
        &self.ring[(number - self.first) as usize]
    }

    fn slot(&self, at: u32) -> &Slot {
        self.slots[at as usize].as_ref().expect("the table names used places")
    }

    fn hash_of(&self, tenant: TenantId, series: &Labels) -> u64 {
        hash_with(&self.hash, tenant, series)
    }
}

impl Slot {
    fn is_of(&self, tenant: TenantId, series: &Labels) -> bool {
        self.tenant == tenant && self.labels == *series
    }
}

fn hash_with(fingerprint: &Fingerprint, tenant: TenantId, series: &Labels) -> u64 {
    fingerprint.of(u64::from(tenant.0), series.as_packed()) as u64
}
