//! The index of a head: series come one by one, and go.
//!
//! Inside, series are *slots*, numbered as they come and never used twice. So postings only grow
//! at their end, even when the ordinal of a series that is gone is given to another one. A series
//! that is removed leaves its slot and its postings behind; when more slots are empty than in use,
//! everything is renumbered.

use codec::varint::{put_u64, take_u64};
use model::{Labels, Matcher};

use crate::LabelIndex;
use crate::names::{names_of, sorted, values_of};
use crate::parts::Parts;
use crate::select::{Rows, Store, select};
use crate::slots::Slots;
use crate::symbols::{MAX_VARINT_LEN, Symbols, reserve_tight};

/// Ordinal of a slot whose series is gone.
const GONE: u32 = u32::MAX;
/// So many empty slots are always kept.
const MIN_EMPTY_SLOTS: usize = 1_024;

/// Labels and postings of series that come and go, in memory.
///
/// About 3 bytes per label (1 or 2 for the label, 1 for its posting, a quarter of reserve) and 16
/// per series; 40 bytes, the value and an entry of a hash table per distinct pair.
pub struct MemIndex {
    pub(crate) symbols: Symbols,
    /// By slot; `GONE` if the series was removed.
    ordinals: Vec<u32>,
    /// By slot: where its pairs end in `rows`.
    ends: Vec<u32>,
    /// Pairs as varints: those that were seen early, which most series bear, are the shortest.
    rows: Vec<u8>,
    slots: Slots,
    /// Whether `ordinals` ascend, but for empty slots.
    is_ordered: bool,
    /// How often slots and pairs were renumbered.
    pub(crate) compactions: u32,
}

impl MemIndex {
    /// An empty index. `seed` keys the hashes of labels; whoever can choose labels must not be
    /// able to know it.
    pub fn new(seed: u64) -> Self {
        MemIndex {
            symbols: Symbols::new(seed),
            ordinals: Vec::new(),
            ends: Vec::new(),
            rows: Vec::new(),
            slots: Slots::new(),
            is_ordered: true,
            compactions: 0,
        }
    }

    /// Adds a series; one that had the ordinal before is removed. About 100 ns per label.
    ///
    /// # Panics
    /// `ordinal` is `u32::MAX`; more than some 2 G labels.
    pub fn insert(&mut self, ordinal: u32, labels: &Labels) {
        assert_ne!(ordinal, GONE, "ordinal {GONE} stands for none");
        self.remove(ordinal);
        let slot = u32::try_from(self.ordinals.len()).expect("4 G series do not fit in memory");
        for (name, value) in labels.iter() {
            let pair = self.symbols.intern(name, value);
            self.symbols.post(pair, slot);
            reserve_tight(&mut self.rows, MAX_VARINT_LEN);
            put_u64(&mut self.rows, pair.into());
        }
        let end = u32::try_from(self.rows.len()).expect("4 GiB of labels do not fit in memory");
        reserve_tight(&mut self.ends, 1);
        self.ends.push(end);
        reserve_tight(&mut self.ordinals, 1);
        self.is_ordered &= self.ordinals.last().is_none_or(|&last| last < ordinal);
        self.ordinals.push(ordinal);
        self.slots.insert(ordinal, slot, &self.ordinals);
    }

    /// Removes a series, if there is one with this ordinal.
    pub fn remove(&mut self, ordinal: u32) {
        let Some(slot) = self.slots.remove(ordinal, &self.ordinals) else { return };
        for pair in pairs_in(&self.rows[row(&self.ends, slot)]) {
            self.symbols.forget(pair);
        }
        self.ordinals[slot as usize] = GONE;
        let empty = self.ordinals.len() - self.slots.len();
        if empty > MIN_EMPTY_SLOTS.max(self.slots.len()) {
            self.compact();
        }
    }

    /// Whether a series has this ordinal, and these labels.
    pub fn bears(&self, ordinal: u32, labels: &Labels) -> bool {
        let Some(slot) = self.slot_of(ordinal) else { return false };
        let mut rest = labels.as_packed();
        let is_next = |pair: u32| self.symbols.strip_packed(pair, &mut rest);
        self.pairs(slot).all(is_next) && rest.is_empty()
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.slots.len()
    }

    /// Number of values the label `name` has among the series there are.
    pub fn value_count(&self, name: &str) -> usize {
        self.symbols.name(name).map_or(0, |name| self.symbols.names()[name as usize].live_values)
    }

    /// Whether some series there is has the label `name` with this value.
    pub fn has_value(&self, name: &str, value: &str) -> bool {
        let pair = self.symbols.name(name).and_then(|name| self.symbols.pair(name, value));
        pair.is_some_and(|pair| self.symbols.pairs()[pair as usize].live > 0)
    }

    /// Bytes of memory held. `O(distinct pairs)`.
    pub fn bytes(&self) -> usize {
        self.symbols.bytes()
            + (self.ordinals.capacity() + self.ends.capacity()) * 4
            + self.rows.capacity()
            + self.slots.bytes()
    }

    /// The pairs of the series in a slot.
    fn pairs(&self, slot: u32) -> impl Iterator<Item = u32> {
        pairs_in(&self.rows[row(&self.ends, slot)])
    }

    /// Slots of the series that satisfy `matchers`, ascending.
    pub(crate) fn selected_slots(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut slots = select(self, matchers);
        // Postings name series that are gone, too.
        if self.slots.len() < self.ordinals.len() {
            slots.retain(|&slot| self.ordinals[slot as usize] != GONE);
        }
        slots
    }

    /// The slot of a series, if there is one with this ordinal.
    pub(crate) fn slot_of(&self, ordinal: u32) -> Option<u32> {
        self.slots.get(ordinal, &self.ordinals)
    }

    /// Renumbers slots and pairs so that none is empty. About 10 ns per label of the series there
    /// are, and 100 ns per pair.
    fn compact(&mut self) {
        let mut next = 0;
        let new_slot = |&ordinal: &u32| {
            if ordinal == GONE {
                return GONE;
            }
            next += 1;
            next - 1
        };
        let slots: Vec<u32> = self.ordinals.iter().map(new_slot).collect();
        let (symbols, pairs) = self.symbols.compacted(&slots);
        let mut kept = MemIndex { symbols, ..MemIndex::new(0) };
        for (slot, &ordinal) in (0..).zip(&self.ordinals) {
            if ordinal == GONE {
                continue;
            }
            self.pairs(slot).for_each(|pair| put_u64(&mut kept.rows, pairs[pair as usize].into()));
            kept.ends.push(kept.rows.len() as u32);
            kept.ordinals.push(ordinal);
            kept.slots.insert(ordinal, slots[slot as usize], &kept.ordinals);
        }
        kept.is_ordered = kept.ordinals.is_sorted();
        kept.compactions = self.compactions.wrapping_add(1);
        *self = kept;
    }
}

impl LabelIndex for MemIndex {
    fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut selected = self.selected_slots(matchers);
        for slot in &mut selected {
            *slot = self.ordinals[*slot as usize];
        }
        if !self.is_ordered {
            // Stable on purpose: it merges the ascending runs there are.
            selected.sort();
        }
        selected
    }

    fn labels(&self, ordinal: u32) -> Labels {
        let slot = self.slot_of(ordinal).expect("a series has the ordinal");
        let mut bytes = Vec::with_capacity(24 * row(&self.ends, slot).len());
        self.pairs(slot).for_each(|pair| self.symbols.push_packed(pair, &mut bytes));
        Labels::from_trusted_packed(&bytes)
    }

    fn series_count(&self) -> usize {
        MemIndex::series_count(self)
    }

    fn label_names(&self, matchers: &[Matcher]) -> Vec<String> {
        if matchers.is_empty() {
            let names = self.symbols.names();
            let live = self.names().filter(|(name, _)| names[*name as usize].live_values > 0);
            return sorted(live.map(|(_, text)| text));
        }
        sorted(names_of(self, &self.selected_slots(matchers)).into_iter())
    }

    fn label_values(&self, name: &str, matchers: &[Matcher]) -> Vec<String> {
        let Some(name) = self.symbols.name(name) else { return Vec::new() };
        if matchers.is_empty() {
            let pairs = self.symbols.names()[name as usize].pairs.iter();
            let live = pairs.filter(|pair| self.symbols.pairs()[**pair as usize].live > 0);
            return sorted(live.map(|&pair| self.symbols.value_text(pair)));
        }
        let pairs = values_of(self, name, &self.selected_slots(matchers));
        sorted(pairs.iter().map(|&pair| self.value_of(pair)))
    }

    fn visit_names(&self, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        Parts::new(None, matchers).visit(self, visit);
    }

    fn visit_values(&self, name: &str, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        Parts::new(Some(name), matchers).visit(self, visit);
    }
}

impl Store for MemIndex {
    type Rows<'a> = MemRows<'a>;

    fn series_bound(&self) -> u32 {
        self.ordinals.len() as u32
    }

    fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.symbols.names().len() as u32).map(|name| (name, self.symbols.name_text(name)))
    }

    fn name(&self, name: &str) -> Option<u32> {
        self.symbols.name(name)
    }

    fn name_text_of(&self, name: u32) -> &str {
        self.symbols.name_text(name)
    }

    fn name_of(&self, pair: u32) -> u32 {
        self.symbols.pairs()[pair as usize].name
    }

    fn value_of(&self, pair: u32) -> &str {
        self.symbols.value_text(pair)
    }

    fn pair(&self, name: u32, value: &str) -> Option<u32> {
        self.symbols.pair(name, value)
    }

    fn pairs(&self, name: u32, prefix: &str) -> impl Iterator<Item = u32> {
        let pairs = self.symbols.names()[name as usize].pairs.iter().copied();
        pairs.filter(move |&pair| self.symbols.value_text(pair).starts_with(prefix))
    }

    fn postings_len(&self, pair: u32) -> usize {
        self.symbols.postings_len(pair)
    }

    fn append_postings(&self, pair: u32, out: &mut Vec<u32>) {
        self.symbols.append_postings(pair, out);
    }

    fn rows(&self) -> MemRows<'_> {
        MemRows { index: self, pairs: Vec::new() }
    }
}

/// Reads the labels of one series after the other.
pub(crate) struct MemRows<'a> {
    index: &'a MemIndex,
    pairs: Vec<u32>,
}

impl Rows for MemRows<'_> {
    fn pairs_of(&mut self, series: u32) -> &[u32] {
        self.pairs.clear();
        self.pairs.extend(self.index.pairs(series));
        &self.pairs
    }
}

/// Where the pairs of a slot are among all.
fn row(ends: &[u32], slot: u32) -> std::ops::Range<usize> {
    let start = slot.checked_sub(1).map_or(0, |before| ends[before as usize]);
    start as usize..ends[slot as usize] as usize
}

fn pairs_in(mut row: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let pair = (!row.is_empty()).then(|| take_u64(&mut row).expect("own varints"))?;
        Some(pair as u32)
    })
}
