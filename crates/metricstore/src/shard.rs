//! One shard of the head: the samples that are not in blocks yet, of every n-th series.
//!
//! A shard has one owner and no locks. What a query needs is handed out as an immutable
//! [`HeadChunks`], what a flush needs as a [`CutData`]; both are read by other threads while the
//! shard goes on appending.
//!
//! **Life of a sample.** It is appended to the open generation. [`Shard::cut`] freezes the
//! generation and opens an empty one; nothing is copied. The frozen one is written to blocks, the
//! blocks are published, then [`Shard::drop_flushed`] lets it go.
//!
//! **Invariant for queries.** A query takes its [`HeadChunks`] first and its list of blocks
//! second; a flush publishes blocks first and drops frozen generations second. So every sample is
//! in at least one of the two, and a sample in both is one sample, because equal timestamps are
//! removed when read.
//!
//! **Deletes.** A generation holds samples of one side of every delete: [`Shard::begin_after_delete`]
//! freezes what was there before, and it is flushed with the rest.

mod started;

use std::sync::Arc;

use codec::CodecError;
use model::{Histogram, TimeRange};

use crate::generation::{Generation, Probes, SealedChunk};
use crate::histogram_columns::HistogramColumns;
use crate::histogram_head::HistogramSeries;
use crate::rows::{HistogramRow, ShardRows, retain_from, trim_from};
use crate::starts::Starts;

/// What became of appended rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Rows that were stored.
    pub appended: u64,
    /// Rows left out because the series has the same value at the same time already.
    pub duplicates_equal: u64,
    /// Rows left out because the series has another value at the same time already: the first
    /// commit wins.
    pub conflicts: u64,
    /// How many of the conflicts are histograms.
    pub histogram_conflicts: u64,
    /// The ordinal of a series that has a conflict: of one shard, the first one.
    pub first_conflict: Option<u32>,
}

impl AppendOutcome {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: AppendOutcome) {
        self.appended += other.appended;
        self.duplicates_equal += other.duplicates_equal;
        self.conflicts += other.conflicts;
        self.histogram_conflicts += other.histogram_conflicts;
        self.first_conflict = self.first_conflict.or(other.first_conflict);
    }

    /// Counts a row of this series that is left out because it has another value at that time.
    fn conflict(&mut self, ordinal: u32) {
        self.conflicts += 1;
        self.first_conflict.get_or_insert(ordinal);
    }
}

/// The head of the series whose ordinal leaves `index` when divided by the number of shards.
#[derive(Debug)]
pub struct Shard {
    index: u32,
    shards: u32,
    open: Generation,
    /// Frozen and not yet dropped, oldest first.
    frozen: Vec<CutData>,
    next_cut: u64,
    /// The first that [`Shard::cut`] has not handed out yet.
    next_handed_out: u64,
}

/// Everything a shard held when it was cut. Cloning copies no samples.
#[derive(Debug, Clone)]
pub struct CutData {
    id: u64,
    index: u32,
    shards: u32,
    generation: Arc<Generation>,
}

impl CutData {
    /// Names the cut in [`Shard::drop_flushed`]. Later cuts of a shard have greater ids.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Index of the shard that was cut.
    pub fn shard(&self) -> usize {
        self.index as usize
    }

    /// Bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        self.generation.bytes()
    }

    /// Number of samples.
    pub fn rows(&self) -> u64 {
        self.generation.rows()
    }

    /// The smallest range that holds all samples; empty if there are none.
    pub fn range(&self) -> TimeRange {
        self.generation.range()
    }

    /// Deletes up to this number are older than all samples, later ones younger.
    pub fn deletes_through(&self) -> u64 {
        self.generation.deletes_through()
    }

    /// Whether `ordinal` belongs to the shard that was cut.
    pub(crate) fn holds(&self, ordinal: u32) -> bool {
        ordinal % self.shards == self.index
    }

    /// Shows every timestamp to `visit`, in no order, possibly several times.
    pub(crate) fn for_each_timestamp(&self, visit: impl FnMut(i64)) {
        self.generation.for_each_timestamp(visit);
    }

    /// Every ordinal that has, or may have, samples in `range`, ascending.
    pub(crate) fn ordinals(&self, range: TimeRange) -> impl Iterator<Item = u32> + '_ {
        let (index, shards) = (self.index, self.shards);
        (0..self.generation.series_bound())
            .filter(move |&local| self.generation.may_have(local, range))
            .map(move |local| local as u32 * shards + index)
    }

    /// Appends the samples of `ordinal` in `range`, in commit order.
    pub(crate) fn read(
        &self,
        ordinal: u32,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        self.generation.read((ordinal / self.shards) as usize, range, timestamps, values)
    }

    /// What is known of when the values of `ordinal` began, if anything.
    pub(crate) fn starts(&self, ordinal: u32) -> Option<&Starts> {
        self.generation.starts().get((ordinal / self.shards) as usize)
    }

    /// Appends the histograms of `ordinal` in `range`, in commit order.
    pub(crate) fn read_histograms(
        &self,
        ordinal: u32,
        range: TimeRange,
        out: &mut HistogramColumns,
    ) -> Result<(), CodecError> {
        self.generation.read_histograms((ordinal / self.shards) as usize, range, out)
    }
}

/// What a series has at a timestamp at which another sample came.
enum Held {
    /// The bits of a value.
    Float(u64),
    Histogram(Histogram),
}

impl Shard {
    /// An empty shard, number `index` of `shards`.
    ///
    /// # Panics
    /// `index` is not below `shards`.
    pub fn new(index: usize, shards: usize) -> Self {
        assert!(index < shards, "shard {index} of {shards} does not exist");
        Shard {
            index: index as u32,
            shards: shards as u32,
            open: Generation::default(),
            frozen: Vec::new(),
            next_cut: 0,
            next_handed_out: 0,
        }
    }

    /// Stores rows; they are visible to the next [`Shard::select`]. About 30 ns per row.
    ///
    /// A late row is compared with what is in memory near its time; a duplicate of something in a
    /// block, in an older overlapping chunk or before a delete is stored, not counted, and dropped
    /// when read or merged.
    ///
    /// # Panics
    /// A row of another shard.
    pub fn append(&mut self, rows: &ShardRows) -> AppendOutcome {
        let mut outcome = AppendOutcome::default();
        let columns = rows.timestamps_ms.iter().zip(&rows.values);
        // Fast path: nobody says when values began.
        let says_starts = !rows.starts_ms.is_empty() || !self.open.starts().is_empty();
        if says_starts {
            self.append_started(rows, &mut outcome);
        }
        let floats = if says_starts { 0 } else { rows.ordinals.len() };
        for (&ordinal, (&t_ms, &value)) in rows.ordinals[..floats].iter().zip(columns) {
            debug_assert_eq!(ordinal % self.shards, self.index, "row of another shard");
            let local = (ordinal / self.shards) as usize;
            // Fast path: the series is known and the sample is its latest.
            if self.open.push_next(local, t_ms, value) {
                outcome.appended += 1;
                continue;
            }
            match self.find_or_touch(local, t_ms, Probes::Few) {
                None => {
                    self.open.push(local, t_ms, value);
                    outcome.appended += 1;
                }
                Some(Held::Float(bits)) if bits == value.to_bits() => {
                    outcome.duplicates_equal += 1;
                }
                Some(_) => outcome.conflict(ordinal),
            }
        }
        for row in &rows.histograms {
            self.append_histogram(row, &mut outcome);
        }
        outcome
    }

    fn append_histogram(&mut self, row: &HistogramRow, outcome: &mut AppendOutcome) {
        debug_assert_eq!(row.ordinal % self.shards, self.index, "row of another shard");
        let local = (row.ordinal / self.shards) as usize;
        let held = if self.open.is_news(local, row.t_ms) {
            None
        } else {
            self.find_or_touch(local, row.t_ms, Probes::All)
        };
        match held {
            None => {
                self.open.push_histogram(local, row);
                outcome.appended += 1;
            }
            Some(Held::Histogram(held)) if held.says_the_same(&row.histogram) => {
                outcome.duplicates_equal += 1;
            }
            Some(_) => {
                outcome.conflict(row.ordinal);
                outcome.histogram_conflicts += 1;
            }
        }
    }

    /// What the series has at `t_ms`; makes room for it if there is nothing.
    #[cold]
    fn find_or_touch(&mut self, local: usize, t_ms: i64, probes: Probes) -> Option<Held> {
        // What lies before a delete may be deleted.
        let through = self.open.deletes_through();
        let is_comparable = move |cut: &&CutData| cut.deletes_through() == through;
        let mut known = self.frozen.iter().rev().take_while(is_comparable);
        let older = known.find_map(|cut| cut.generation.high_ms(local));
        self.open.touch(local, older);
        if self.open.is_news(local, t_ms) {
            return None;
        }
        let known = self.frozen.iter().rev().take_while(is_comparable);
        let frozen = known.map(|cut| &*cut.generation);
        std::iter::once(&self.open).chain(frozen).find_map(|generation| {
            let float = generation.find(local, t_ms, probes).map(Held::Float);
            float.or_else(|| generation.find_histogram(local, t_ms).map(Held::Histogram))
        })
    }

    /// What the shard has of `ordinals` in `range`; ordinals of other shards are skipped.
    /// Copies open tails (about 50 ns per series), shares everything else.
    pub fn select(&self, ordinals: &[u32], range: TimeRange) -> HeadChunks {
        let mut selected = HeadChunks {
            index: self.index,
            shards: self.shards,
            range,
            frozen: self
                .frozen
                .iter()
                .filter(|cut| cut.range().overlaps(&range))
                .map(|cut| Arc::clone(&cut.generation))
                .collect(),
            ordinals: Vec::new(),
            sealed: Vec::new(),
            timestamps: Vec::new(),
            values: Vec::new(),
            ends: Vec::new(),
            histograms: Vec::new(),
            starts: Vec::new(),
            open_deletes_through: self.open.deletes_through(),
        };
        let open_matters = self.open.range().overlaps(&range);
        for &ordinal in ordinals.iter().filter(|ordinal| *ordinal % self.shards == self.index) {
            selected.ordinals.push(ordinal);
            if open_matters {
                let local = (ordinal / self.shards) as usize;
                self.open.sealed(local, range, &mut selected.sealed);
                self.open.tail(local, range, &mut selected.timestamps, &mut selected.values);
                let histograms = self.open.histograms(local).and_then(|all| all.overlapping(range));
                let place = selected.ordinals.len() as u32 - 1;
                selected.histograms.extend(histograms.map(|histograms| (place, histograms)));
                let starts = self.open.starts().get(local);
                let starts = starts.and_then(|all| all.between(range.start_ms, range.end_ms));
                selected.starts.extend(starts.map(|starts| (place, starts)));
            }
            selected.ends.push((selected.sealed.len(), selected.timestamps.len()));
        }
        selected
    }

    /// Freezes everything up to now. It stays readable until [`Shard::drop_flushed`]. Costs
    /// nothing per sample. Yields everything frozen since the last cut, in commit order: several
    /// parts if deletes lie between, none if there is nothing.
    pub fn cut(&mut self) -> Vec<CutData> {
        self.freeze();
        let fresh = self.frozen.iter().filter(|cut| cut.id >= self.next_handed_out);
        let parts = fresh.cloned().collect();
        self.next_handed_out = self.next_cut;
        parts
    }

    /// Separates what is there from what comes after a delete of this number, the highest so far.
    /// Costs nothing per sample.
    pub fn begin_after_delete(&mut self, number: u64) {
        self.freeze();
        self.open.begin_after(number);
    }

    /// Freezes the open generation, unless it is empty.
    fn freeze(&mut self) {
        if self.open.rows() == 0 {
            return;
        }
        let fresh =
            Generation::with_capacity(self.open.series_bound(), self.open.deletes_through());
        let cut = CutData {
            id: self.next_cut,
            index: self.index,
            shards: self.shards,
            generation: Arc::new(std::mem::replace(&mut self.open, fresh)),
        };
        self.next_cut += 1;
        self.frozen.push(cut);
    }

    /// Cuts that were not dropped yet, oldest first: a flush that failed can be tried again.
    pub fn cuts(&self) -> &[CutData] {
        &self.frozen
    }

    /// Lets the cut go; to be called when its blocks are published. Unknown ids are no error.
    pub fn drop_flushed(&mut self, cut_id: u64) {
        self.frozen.retain(|cut| cut.id != cut_id);
    }

    /// Of `ordinals`, those of this shard that may have samples in `range`: all that have some, and
    /// few others. Some 20 ns each.
    pub fn with_samples(&self, ordinals: &[u32], range: TimeRange) -> Vec<u32> {
        let generations =
            || std::iter::once(&self.open).chain(self.frozen.iter().map(|cut| &*cut.generation));
        let is_active = |ordinal: &u32| {
            let local = (*ordinal / self.shards) as usize;
            let is_own = ordinal % self.shards == self.index;
            is_own && generations().any(|held| held.may_have(local, range))
        };
        ordinals.iter().copied().filter(is_active).collect()
    }

    /// Of `ordinals`, those of this shard that have no samples in it. Others are left out.
    pub fn without_samples(&self, ordinals: &[u32]) -> Vec<u32> {
        let generations =
            || std::iter::once(&self.open).chain(self.frozen.iter().map(|cut| &*cut.generation));
        let is_idle = |ordinal: &u32| {
            let local = (*ordinal / self.shards) as usize;
            ordinal % self.shards == self.index && !generations().any(|held| held.has(local))
        };
        ordinals.iter().copied().filter(is_idle).collect()
    }

    /// The smallest range that holds all samples; empty if there are none.
    pub fn range(&self) -> TimeRange {
        self.frozen.iter().fold(self.open.range(), |all, cut| all.union(&cut.range()))
    }

    /// Samples held, frozen ones included.
    pub fn rows(&self) -> u64 {
        self.open.rows() + self.frozen.iter().map(CutData::rows).sum::<u64>()
    }

    /// Samples since the last cut.
    pub fn open_rows(&self) -> u64 {
        self.open.rows()
    }

    /// Full chunks held, frozen generations included; open tails are not counted.
    pub fn chunks(&self) -> usize {
        let frozen = self.frozen.iter().map(|cut| cut.generation.chunk_count());
        self.open.chunk_count() + frozen.sum::<usize>()
    }

    /// Bytes of memory held, frozen generations included.
    pub fn bytes(&self) -> usize {
        self.open.bytes() + self.frozen.iter().map(|cut| cut.generation.bytes()).sum::<usize>()
    }
}

/// Samples of some series of one shard at one moment. Immutable; any thread may read it.
#[derive(Debug)]
pub struct HeadChunks {
    index: u32,
    shards: u32,
    range: TimeRange,
    frozen: Vec<Arc<Generation>>,
    /// The series asked for, in the order asked for.
    ordinals: Vec<u32>,
    /// Sealed chunks of the open generation, series by series.
    sealed: Vec<SealedChunk>,
    /// Tails of the open generation, series by series.
    timestamps: Vec<i64>,
    values: Vec<f64>,
    /// Ends of each series in `sealed` and in the tails.
    ends: Vec<(usize, usize)>,
    /// Histograms of the open generation: place of the series, ascending, and what it has.
    histograms: Vec<(u32, HistogramSeries)>,
    /// The same of when values began.
    starts: Vec<(u32, Starts)>,
    /// The last delete older than what the open generation has.
    open_deletes_through: u64,
}

impl HeadChunks {
    /// Index of the shard it is of.
    pub(crate) fn shard(&self) -> usize {
        self.index as usize
    }

    /// Number of shards there were.
    pub(crate) fn shards(&self) -> usize {
        self.shards as usize
    }

    /// Bytes of memory that were copied; what is shared with the shard is not counted.
    pub fn bytes(&self) -> usize {
        self.ordinals.capacity() * size_of::<u32>()
            + self.sealed.capacity() * size_of::<SealedChunk>()
            + self.timestamps.capacity() * 2 * size_of::<i64>()
            + self.ends.capacity() * size_of::<(usize, usize)>()
            + self.histograms.capacity() * size_of::<(u32, HistogramSeries)>()
            + self.starts.capacity() * size_of::<(u32, Starts)>()
            + self.starts.iter().map(|(_, starts)| starts.bytes()).sum::<usize>()
    }

    /// Ordinal of the series at `place`.
    pub(crate) fn ordinal(&self, place: usize) -> u32 {
        self.ordinals[place]
    }

    /// Number of series asked for.
    pub(crate) fn series(&self) -> usize {
        self.ordinals.len()
    }

    /// Whether the series at `place` may have samples in the range asked for.
    pub(crate) fn may_have(&self, place: usize) -> bool {
        let start = self.start(place);
        let local = (self.ordinals[place] / self.shards) as usize;
        start != self.ends[place]
            || self.open_histograms(place).is_some()
            || self.frozen.iter().any(|held| held.may_have(local, self.range))
    }

    fn open_histograms(&self, place: usize) -> Option<&HistogramSeries> {
        let found = self.histograms.binary_search_by_key(&(place as u32), |(place, _)| *place);
        found.ok().map(|index| &self.histograms[index].1)
    }

    /// Whether the series at `place` has histograms, in the range asked for or not.
    pub(crate) fn has_histograms(&self, place: usize) -> bool {
        let local = (self.ordinals[place] / self.shards) as usize;
        self.open_histograms(place).is_some()
            || self.frozen.iter().any(|held| held.histograms(local).is_some())
    }

    /// Number of sources in which the series at `place` may have samples, in commit order: frozen
    /// generations, then the open one.
    pub(crate) fn generations(&self) -> usize {
        self.frozen.len() + 1
    }

    /// The last delete that the shard had heard of: none of what it has is older than a later one was
    /// made.
    pub fn newest_deletes_through(&self) -> u64 {
        self.open_deletes_through
    }

    /// The last delete that is older than what one of those sources has.
    pub(crate) fn deletes_through(&self, generation: usize) -> u64 {
        self.frozen.get(generation).map_or(self.open_deletes_through, |g| g.deletes_through())
    }

    /// Whether the series at `place` may have samples of one source in `range`, which lies in the
    /// range asked for.
    pub(crate) fn may_have_in(&self, place: usize, generation: usize, range: TimeRange) -> bool {
        if let Some(held) = self.frozen.get(generation) {
            return held.may_have((self.ordinals[place] / self.shards) as usize, range);
        }
        let (sealed, tail) = self.start(place);
        let (sealed_end, tail_end) = self.ends[place];
        self.sealed[sealed..sealed_end].iter().any(|chunk| chunk.overlaps(range))
            || self.timestamps[tail..tail_end].iter().any(|&t_ms| range.contains(t_ms))
            || self.open_histograms(place).is_some_and(|series| series.may_have(range))
    }

    /// Appends the floats that the series at `place` has in one source, in commit order.
    pub(crate) fn read_floats_in(
        &self,
        place: usize,
        generation: usize,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        match self.frozen.get(generation) {
            Some(held) => {
                let local = (self.ordinals[place] / self.shards) as usize;
                held.read(local, range, timestamps, values)
            }
            None => self.read_open(place, range, timestamps, values),
        }
    }

    /// Appends what the series at `place` has in one source, in commit order.
    pub(crate) fn read_generation(
        &self,
        place: usize,
        generation: usize,
        range: TimeRange,
        (timestamps, values): (&mut Vec<i64>, &mut Vec<f64>),
        histograms: &mut HistogramColumns,
    ) -> Result<(), CodecError> {
        let Some(held) = self.frozen.get(generation) else {
            self.read_open(place, range, timestamps, values)?;
            return self
                .open_histograms(place)
                .map_or(Ok(()), |series| series.read(range, histograms));
        };
        let local = (self.ordinals[place] / self.shards) as usize;
        held.read(local, range, timestamps, values)?;
        held.read_histograms(local, range, histograms)
    }

    /// Appends the floats of the series at `place` in commit order.
    pub(crate) fn read(
        &self,
        place: usize,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        let local = (self.ordinals[place] / self.shards) as usize;
        for held in &self.frozen {
            held.read(local, range, timestamps, values)?;
        }
        self.read_open(place, range, timestamps, values)
    }

    fn read_open(
        &self,
        place: usize,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        let (sealed, tail) = self.start(place);
        let (sealed_end, tail_end) = self.ends[place];
        for chunk in &self.sealed[sealed..sealed_end] {
            let start = timestamps.len();
            chunk.decode(timestamps, values)?;
            trim_from(timestamps, values, start, range);
        }
        let start = timestamps.len();
        timestamps.extend_from_slice(&self.timestamps[tail..tail_end]);
        values.extend_from_slice(&self.values[tail..tail_end]);
        if range != self.range {
            // A part of what was asked for; the tail is in no order.
            retain_from(timestamps, values, start, range);
        }
        Ok(())
    }

    fn start(&self, place: usize) -> (usize, usize) {
        place.checked_sub(1).map_or((0, 0), |before| self.ends[before])
    }
}
