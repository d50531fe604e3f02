//! What a target exposed before: from the bytes of a series to its final labels.
//!
//! A target writes the same series in the same order every time, so the text that comes next is
//! predicted and compared as bytes; only where that fails is a table asked, and only what is in no
//! table is parsed and relabeled. Everything lies in a few vectors: nothing is allocated per series.

use hashbrown::HashTable;
use model::{
    Histogram, HistogramSample, LabelForm, MetricBatch, MetricType, STALE_NAN_BITS, SeriesRows,
};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// Entries that are kept although the target no longer has them, besides a share of the others.
const SPARE_ENTRIES: usize = 100;
/// Entries that failing scrapes may add besides as many as the last good one had; as Prometheus
/// has it.
const SPARE_ENTRIES_OF_FAILURES: usize = 1_000;
/// Rows, and bytes of their labels, that come to a batch besides the target's own: `up` and its kin.
const SPARE_ROWS: usize = 8;
const SPARE_LABEL_BYTES: usize = 1 << 10;
/// Units of one target, each of which is compared with those of its families.
pub(super) const MAX_UNITS: usize = 4_096;
/// Offsets are 32 bits wide.
const MAX_ARENA_BYTES: usize = u32::MAX as usize;

/// `Entry::series` of what metric relabeling dropped.
const DROPPED: u32 = u32::MAX;
/// A generation that never is.
const NEVER: u32 = 0;
/// Set in `Series::place` when the last sample was a histogram.
const IS_HISTOGRAM: u32 = 1 << 31;

/// A place in the list of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryId(u32);

/// A place in the list of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeriesIndex(u32);

/// A place in the list of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnitIndex(u16);

impl UnitIndex {
    /// No unit.
    pub(super) const NONE: UnitIndex = UnitIndex(0);
}

/// The memory of one target.
pub(super) struct SeriesCache {
    secrets: RapidSecrets,
    /// Texts of all entries, one behind the other.
    texts: Vec<u8>,
    entries: Vec<Entry>,
    by_text: HashTable<u32>,
    /// Packed labels of all series, one behind the other.
    packed: Vec<u8>,
    series: Vec<Series>,
    by_labels: HashTable<u32>,
    /// Units that labels depend on, but for [`UnitIndex::NONE`].
    units: Vec<Box<str>>,
    /// Entries in the order in which the target wrote them last.
    order: Vec<u32>,
    /// Those of the scrape under way, once it took another course than `order`.
    order_now: Option<Vec<u32>>,
    /// How much of `order` was met.
    cursor: usize,
    /// The scrape under way.
    generation: u32,
    /// The last scrape that was good and not empty.
    last_good: u32,
    /// Entries that `last_good` had.
    good_entries: usize,
    /// Entries met by the scrape under way.
    seen: usize,
    /// Series that get a marker when they do not come again.
    tracked: Vec<u32>,
    tracked_now: Vec<u32>,
}

/// A series as the target writes it. 24 bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    text_start: u32,
    text_len: u32,
    series: u32,
    /// When it was met last.
    seen: u32,
    /// Where it stands in `order`.
    position: u32,
    /// The type it stood under, and the unit, as far as its labels depend on them.
    kind: MetricType,
    unit: UnitIndex,
}

/// A series as it is stored. 20 bytes.
#[derive(Debug, Clone, Copy)]
struct Series {
    labels_start: u32,
    labels_len: u32,
    /// When it last had a sample.
    sampled: u32,
    /// Where that sample stood in its batch: a row, or a histogram if [`IS_HISTOGRAM`] is set.
    place: u32,
    /// When it last had a sample whose absence is worth a marker.
    tracked: u32,
}

/// Where a sample stands in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Row(usize),
    Histogram(usize),
}

impl Series {
    fn last_place(&self) -> Place {
        let place = (self.place & !IS_HISTOGRAM) as usize;
        if self.place & IS_HISTOGRAM == 0 { Place::Row(place) } else { Place::Histogram(place) }
    }
}

impl SeriesCache {
    /// `seed` keys the tables: texts come from strangers.
    pub(super) fn new(seed: u64) -> Self {
        SeriesCache {
            secrets: RapidSecrets::seed(seed),
            texts: Vec::new(),
            entries: Vec::new(),
            by_text: HashTable::new(),
            packed: Vec::new(),
            series: Vec::new(),
            by_labels: HashTable::new(),
            units: Vec::new(),
            order: Vec::new(),
            order_now: None,
            cursor: 0,
            generation: NEVER + 1,
            last_good: NEVER,
            good_entries: 0,
            seen: 0,
            tracked: Vec::new(),
            tracked_now: Vec::new(),
        }
    }

    /// A memory without tables, for where one is taken out.
    pub(super) fn empty() -> Self {
        Self::new(0)
    }

    /// The text that probably comes next, and type and unit it must stand under.
    #[inline]
    pub(super) fn predicted(&self) -> Option<(EntryId, &[u8], MetricType, UnitIndex)> {
        let id = *self.order.get(self.cursor)?;
        let entry = &self.entries[id as usize];
        Some((EntryId(id), self.text_of(entry), entry.kind, entry.unit))
    }

    /// Looks a text up.
    pub(super) fn find(&self, text: &[u8], kind: MetricType, unit: UnitIndex) -> Option<EntryId> {
        let found = self.by_text.find(self.hash(text), |&id| {
            let entry = &self.entries[id as usize];
            (entry.kind, entry.unit) == (kind, unit) && self.text_of(entry) == text
        });
        found.copied().map(EntryId)
    }

    /// Where a unit is remembered; `None` when the target has more of them than fits.
    pub(super) fn unit_index(&mut self, unit: &str) -> Option<UnitIndex> {
        if unit.is_empty() {
            return Some(UnitIndex::NONE);
        }
        let known = self.units.iter().position(|known| **known == *unit);
        let place = known.unwrap_or_else(|| {
            if self.units.len() < MAX_UNITS {
                self.units.push(unit.into());
            }
            self.units.len() - 1
        });
        (*self.units[place] == *unit).then_some(UnitIndex(place as u16 + 1))
    }

    /// The unit that is remembered there.
    pub(super) fn unit(&self, index: UnitIndex) -> &str {
        let place = usize::from(index.0).checked_sub(1);
        place.map_or("", |place| &self.units[place])
    }

    /// Whether the entry was missing from the last good scrape, or is new since.
    pub(super) fn is_new(&self, id: EntryId) -> bool {
        self.entries[id.0 as usize].seen < self.last_good
    }

    /// Notes that the target wrote this entry now; yields its series unless it is dropped.
    #[inline]
    pub(super) fn meet(&mut self, id: EntryId) -> Option<SeriesIndex> {
        match &mut self.order_now {
            None if self.order.get(self.cursor) == Some(&id.0) => self.cursor += 1,
            None => {
                let mut order_now = self.order[..self.cursor].to_vec();
                order_now.push(id.0);
                self.order_now = Some(order_now);
                self.resume_behind(id);
            }
            Some(order_now) => {
                order_now.push(id.0);
                self.resume_behind(id);
            }
        }
        let entry = &mut self.entries[id.0 as usize];
        if entry.seen != self.generation {
            entry.seen = self.generation;
            self.seen += 1;
        }
        (entry.series != DROPPED).then_some(SeriesIndex(entry.series))
    }

    /// Predictions go on behind an entry that came out of turn.
    fn resume_behind(&mut self, id: EntryId) {
        let position = self.entries[id.0 as usize].position as usize;
        if self.order.get(position) == Some(&id.0) {
            self.cursor = position + 1;
        }
    }

    /// Remembers what became of a text: packed labels, or nothing where it was dropped. `None`
    /// when the target has more than fits.
    pub(super) fn insert(
        &mut self,
        text: &[u8],
        kind: MetricType,
        unit: UnitIndex,
        packed: Option<&[u8]>,
    ) -> Option<EntryId> {
        if self.texts.len() + text.len() > MAX_ARENA_BYTES {
            return None;
        }
        let series = match packed {
            None => DROPPED,
            Some(packed) => self.series_of(packed)?,
        };
        let id = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Entry {
            text_start: self.texts.len() as u32,
            text_len: text.len() as u32,
            series,
            seen: NEVER,
            position: u32::MAX,
            kind,
            unit,
        });
        self.texts.extend_from_slice(text);
        let hash = self.hash(text);
        let (texts, entries, secrets) = (&self.texts, &self.entries, &self.secrets);
        self.by_text
            .insert_unique(hash, id, |&id| hash_with(secrets, slice(texts, &entries[id as usize])));
        Some(EntryId(id))
    }

    fn series_of(&mut self, packed: &[u8]) -> Option<u32> {
        let hash = self.hash(packed);
        let found = self.by_labels.find(hash, |&index| self.labels_of(index) == packed);
        if let Some(&index) = found {
            return Some(index);
        }
        if self.packed.len() + packed.len() > MAX_ARENA_BYTES {
            return None;
        }
        let index = u32::try_from(self.series.len()).ok().filter(|&index| index != DROPPED)?;
        self.series.push(Series {
            labels_start: self.packed.len() as u32,
            labels_len: packed.len() as u32,
            sampled: NEVER,
            place: 0,
            tracked: NEVER,
        });
        self.packed.extend_from_slice(packed);
        let (all, series, secrets) = (&self.packed, &self.series, &self.secrets);
        self.by_labels.insert_unique(hash, index, |&index| {
            let series = &series[index as usize];
            let start = series.labels_start as usize;
            hash_with(secrets, &all[start..start + series.labels_len as usize])
        });
        Some(index)
    }

    /// The series' last sample in this scrape's batch, if it has one already.
    #[inline]
    pub(super) fn earlier(&self, index: SeriesIndex) -> Option<Place> {
        let series = &self.series[index.0 as usize];
        (series.sampled == self.generation).then(|| series.last_place())
    }

    /// Lets the batch grow once, and not many times: a target exposes about what it did before.
    pub(super) fn make_room(&self, batch: &mut MetricBatch) {
        let series = self.series.len() + SPARE_ROWS;
        batch.label_bytes.reserve(self.packed.len() + SPARE_LABEL_BYTES);
        batch.series.reserve(series);
        batch.timestamps_ms.reserve(series);
        batch.values.reserve(series);
    }

    /// Appends a sample of the series to the batch.
    #[inline]
    pub(super) fn push(
        &mut self,
        index: SeriesIndex,
        t_ms: i64,
        value: f64,
        batch: &mut MetricBatch,
    ) {
        let series = &mut self.series[index.0 as usize];
        series.sampled = self.generation;
        series.place = batch.timestamps_ms.len() as u32;
        push_row(batch, self.labels_of(index.0), t_ms, value);
    }

    /// Appends a histogram of the series to the batch.
    pub(super) fn push_histogram(
        &mut self,
        index: SeriesIndex,
        t_ms: i64,
        start_ms: Option<i64>,
        histogram: Histogram,
        batch: &mut MetricBatch,
    ) {
        let series = &mut self.series[index.0 as usize];
        series.sampled = self.generation;
        series.place = batch.histograms.len() as u32 | IS_HISTOGRAM;
        push_histogram(batch, self.labels_of(index.0), t_ms, start_ms, histogram);
    }

    /// Appends the marker that ends a series, of the kind of its last sample.
    fn push_stale(&self, index: u32, t_ms: i64, batch: &mut MetricBatch) {
        let labels = self.labels_of(index);
        match self.series[index as usize].last_place() {
            Place::Row(_) => push_row(batch, labels, t_ms, f64::from_bits(STALE_NAN_BITS)),
            Place::Histogram(_) => push_histogram(batch, labels, t_ms, None, Histogram::stale()),
        }
    }

    /// From now on the series' absence is worth a marker.
    #[inline]
    pub(super) fn track(&mut self, index: SeriesIndex) {
        let series = &mut self.series[index.0 as usize];
        if series.tracked != self.generation {
            series.tracked = self.generation;
            self.tracked_now.push(index.0);
        }
    }

    /// Ends a good scrape: series that are gone get a marker. An empty answer forgets nothing.
    pub(super) fn finish(&mut self, t_ms: i64, was_empty: bool, batch: &mut MetricBatch) {
        for &index in &self.tracked {
            if self.series[index as usize].tracked != self.generation {
                self.push_stale(index, t_ms, batch);
            }
        }
        std::mem::swap(&mut self.tracked, &mut self.tracked_now);
        self.tracked_now.clear();
        if was_empty {
            self.next_generation();
            return;
        }
        let course = match self.order_now.take() {
            Some(order_now) => Some(order_now),
            None if self.cursor < self.order.len() => Some(self.order[..self.cursor].to_vec()),
            None => None,
        };
        if let Some(course) = course {
            for (position, &id) in course.iter().enumerate() {
                self.entries[id as usize].position = position as u32;
            }
            self.order = course;
        }
        self.last_good = self.generation;
        self.good_entries = self.seen;
        let gone = self.entries.len() - self.seen;
        if gone > self.seen / 2 + SPARE_ENTRIES || self.units.len() > MAX_UNITS / 2 {
            self.compact();
        }
        self.next_generation();
    }

    /// Ends a failed scrape: nothing of it is stored, and every series gets a marker.
    pub(super) fn fail(&mut self, t_ms: i64, batch: &mut MetricBatch) {
        for index in std::mem::take(&mut self.tracked) {
            self.push_stale(index, t_ms, batch);
        }
        self.tracked_now.clear();
        self.order_now = None;
        // Texts that vary in scrapes that fail must not pile up.
        let most = 2 * self.good_entries + SPARE_ENTRIES_OF_FAILURES;
        if self.entries.len() > most || self.units.len() > MAX_UNITS / 2 {
            self.compact();
        }
        self.next_generation();
    }

    /// Forgets what texts mean because the rules changed; series keep their claim to a marker.
    pub(super) fn forget_texts(&mut self) {
        self.last_good = self.generation;
        self.good_entries = 0;
        self.order_now = None;
        self.compact();
        self.next_generation();
    }

    /// Entries, series, and bytes of both.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.entries.len(), self.series.len(), self.texts.len() + self.packed.len())
    }

    fn next_generation(&mut self) {
        self.generation += 1;
        self.cursor = 0;
        self.seen = 0;
    }

    /// Keeps the entries of the last good scrape and the series that are still of use.
    fn compact(&mut self) {
        let mut smaller = SeriesCache::new(0);
        smaller.secrets = self.secrets;
        let mut new_ids = vec![u32::MAX; self.entries.len()];
        for (id, entry) in self.entries.iter().enumerate() {
            if entry.seen != self.last_good || self.last_good == NEVER {
                continue;
            }
            let packed = (entry.series != DROPPED).then(|| self.labels_of(entry.series));
            let unit = smaller.unit_index(self.unit(entry.unit)).expect("less than before fits");
            let new = smaller.insert(self.text_of(entry), entry.kind, unit, packed);
            let EntryId(new) = new.expect("less than before fits");
            smaller.entries[new as usize].seen = entry.seen;
            smaller.entries[new as usize].position = entry.position;
            new_ids[id] = new;
        }
        for &index in &self.tracked {
            let new = smaller.series_of(self.labels_of(index)).expect("less than before fits");
            let (new_series, old) =
                (&mut smaller.series[new as usize], self.series[index as usize]);
            (new_series.tracked, new_series.place) = (old.tracked, old.place);
            smaller.tracked.push(new);
        }
        smaller.order = self.order.iter().map(|&id| new_ids[id as usize]).collect();
        smaller.order.retain(|&id| id != u32::MAX);
        smaller.generation = self.generation;
        smaller.last_good = self.last_good;
        smaller.good_entries = self.good_entries;
        *self = smaller;
    }

    #[inline]
    fn labels_of(&self, index: u32) -> &[u8] {
        let series = &self.series[index as usize];
        let start = series.labels_start as usize;
        &self.packed[start..start + series.labels_len as usize]
    }

    #[inline]
    fn text_of(&self, entry: &Entry) -> &[u8] {
        slice(&self.texts, entry)
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        hash_with(&self.secrets, bytes)
    }
}

fn slice<'a>(texts: &'a [u8], entry: &Entry) -> &'a [u8] {
    let start = entry.text_start as usize;
    &texts[start..start + entry.text_len as usize]
}

fn hash_with(secrets: &RapidSecrets, bytes: &[u8]) -> u64 {
    rapidhash_v3_inline::<true, false, true>(bytes, secrets)
}

/// Appends one row with packed labels.
#[inline]
pub(super) fn push_row(batch: &mut MetricBatch, packed: &[u8], t_ms: i64, value: f64) {
    batch.series.push(SeriesRows {
        labels_start: batch.label_bytes.len() as u32,
        labels_len: packed.len() as u32,
        form: LabelForm::Packed,
        first_row: batch.timestamps_ms.len() as u32,
        rows: 1,
    });
    batch.label_bytes.extend_from_slice(packed);
    batch.timestamps_ms.push(t_ms);
    batch.values.push(value);
}

fn push_histogram(
    batch: &mut MetricBatch,
    packed: &[u8],
    t_ms: i64,
    start_ms: Option<i64>,
    histogram: Histogram,
) {
    batch.histograms.push(HistogramSample {
        labels_start: batch.label_bytes.len() as u32,
        labels_len: packed.len() as u32,
        form: LabelForm::Packed,
        t_ms,
        start_ms,
        histogram,
    });
    batch.label_bytes.extend_from_slice(packed);
}
