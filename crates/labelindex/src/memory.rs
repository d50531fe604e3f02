//! The index of a head: series come one by one, and go.
//!
//! Inside, series are *slots*, numbered as they come and never used twice. So postings only grow
//! at their end, even when the ordinal of a series that is gone is given to another one. A series
//! that is removed leaves its slot and its postings behind; when more slots are empty than in use,
//! everything is renumbered.

use hashbrown::HashTable;
use model::{Labels, Matcher};

use crate::LabelIndex;
use crate::names::{names_of, sorted, values_of};
use crate::select::{Rows, Store, select};
use crate::symbols::{Symbols, reserve_tight};

/// Ordinal of a slot whose series is gone.
const GONE: u32 = u32::MAX;
/// So many empty slots are always kept.
const MIN_EMPTY_SLOTS: usize = 1_024;

/// Labels and postings of series that come and go, in memory.
///
/// About 8 bytes per label (4 for the label, 4 for its posting, a quarter of reserve) and 16 per
/// series; 40 bytes, the value and an entry of a hash table per distinct pair. Measured: 65 to 90
/// bytes per series of hosts and containers with 6 and 7 labels.
pub struct MemIndex {
    pub(crate) symbols: Symbols,
    /// By slot; `GONE` if the series was removed.
    ordinals: Vec<u32>,
    /// By slot: where its pairs end in `rows`.
    ends: Vec<u32>,
    rows: Vec<u32>,
    /// Slots, hashed by their ordinals.
    slots: HashTable<u32>,
    /// Whether `ordinals` ascend, but for empty slots.
    is_ordered: bool,
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
            slots: HashTable::new(),
            is_ordered: true,
        }
    }

    /// Adds a series; one that had the ordinal before is removed. About 100 ns per label.
    ///
    /// # Panics
    /// `ordinal` is `u32::MAX`; more than 4 G labels.
    pub fn insert(&mut self, ordinal: u32, labels: &Labels) {
        assert_ne!(ordinal, GONE, "ordinal {GONE} stands for none");
        self.remove(ordinal);
        let slot = u32::try_from(self.ordinals.len()).expect("4 G series do not fit in memory");
        for (name, value) in labels.iter() {
            let pair = self.symbols.intern(name, value);
            self.symbols.post(pair, slot);
            reserve_tight(&mut self.rows, 1);
            self.rows.push(pair);
        }
        let end = u32::try_from(self.rows.len()).expect("4 G labels do not fit in memory");
        reserve_tight(&mut self.ends, 1);
        self.ends.push(end);
        reserve_tight(&mut self.ordinals, 1);
        self.is_ordered &= self.ordinals.last().is_none_or(|&last| last < ordinal);
        self.ordinals.push(ordinal);
        let MemIndex { ordinals, slots, .. } = self;
        slots.insert_unique(hash(ordinal), slot, |&other| hash(ordinals[other as usize]));
    }

    /// Removes a series, if there is one with this ordinal.
    pub fn remove(&mut self, ordinal: u32) {
        let is_it = |&slot: &u32| self.ordinals[slot as usize] == ordinal;
        let Ok(found) = self.slots.find_entry(hash(ordinal), is_it) else { return };
        let (slot, _) = found.remove();
        for place in self.row(slot) {
            self.symbols.forget(self.rows[place]);
        }
        self.ordinals[slot as usize] = GONE;
        let empty = self.ordinals.len() - self.slots.len();
        if empty > MIN_EMPTY_SLOTS.max(self.slots.len()) {
            self.compact();
        }
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
            + (self.ordinals.capacity() + self.ends.capacity() + self.rows.capacity()) * 4
            + self.slots.allocation_size()
    }

    fn row(&self, slot: u32) -> std::ops::Range<usize> {
        let start = slot.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        start as usize..self.ends[slot as usize] as usize
    }

    /// Slots of the series that satisfy `matchers`, ascending.
    fn selected_slots(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut slots = select(self, matchers);
        // Postings name series that are gone, too.
        if self.slots.len() < self.ordinals.len() {
            slots.retain(|&slot| self.ordinals[slot as usize] != GONE);
        }
        slots
    }

    /// The slot of a series, if there is one with this ordinal.
    pub(crate) fn slot_of(&self, ordinal: u32) -> Option<u32> {
        let is_it = |&slot: &u32| self.ordinals[slot as usize] == ordinal;
        self.slots.find(hash(ordinal), is_it).copied()
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
        kept.slots.reserve(self.slots.len(), |_| unreachable!("the table is empty"));
        for (slot, &ordinal) in (0..).zip(&self.ordinals) {
            if ordinal == GONE {
                continue;
            }
            kept.rows.extend(self.rows[self.row(slot)].iter().map(|&pair| pairs[pair as usize]));
            kept.ends.push(kept.rows.len() as u32);
            kept.ordinals.push(ordinal);
            let ordinals = &kept.ordinals;
            let rehash = |&other: &u32| hash(ordinals[other as usize]);
            kept.slots.insert_unique(hash(ordinal), slots[slot as usize], rehash);
        }
        kept.is_ordered = kept.ordinals.is_sorted();
        *self = kept;
    }
}

/// Ordinals are dense, so their low bits alone spread them evenly; the high bits, by which the
/// table tells apart what it finds, come from the product.
fn hash(ordinal: u32) -> u64 {
    u64::from(ordinal).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
        let row = &self.rows[self.row(slot)];
        let mut bytes = Vec::with_capacity(32 * row.len());
        for &pair in row {
            self.symbols.push_packed(pair, &mut bytes);
        }
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
        if !matchers.is_empty() {
            return names_of(self, &self.selected_slots(matchers)).into_iter().for_each(visit);
        }
        let names = self.symbols.names();
        let live = self.names().filter(|(name, _)| names[*name as usize].live_values > 0);
        live.for_each(|(_, text)| visit(text));
    }

    fn visit_values(&self, name: &str, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        let Some(name) = self.symbols.name(name) else { return };
        if !matchers.is_empty() {
            let pairs = values_of(self, name, &self.selected_slots(matchers));
            return pairs.iter().for_each(|&pair| visit(self.value_of(pair)));
        }
        let pairs = self.symbols.names()[name as usize].pairs.iter();
        let live = pairs.filter(|pair| self.symbols.pairs()[**pair as usize].live > 0);
        live.for_each(|&pair| visit(self.symbols.value_text(pair)));
    }
}

impl Store for MemIndex {
    type Rows<'a> = &'a MemIndex;

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
        self.symbols.postings(pair).len()
    }

    fn append_postings(&self, pair: u32, out: &mut Vec<u32>) {
        out.extend_from_slice(self.symbols.postings(pair));
    }

    fn rows(&self) -> &MemIndex {
        self
    }
}

impl Rows for &MemIndex {
    fn pairs_of(&mut self, series: u32) -> &[u32] {
        &self.rows[self.row(series)]
    }
}
