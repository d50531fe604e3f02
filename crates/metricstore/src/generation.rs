//! The samples of one shard between two flushes.

use std::sync::Arc;

use codec::CodecError;
use model::{Histogram, TimeRange};

use crate::histogram_columns::HistogramColumns;
use crate::histogram_head::{HistogramHead, HistogramSeries};
use crate::rows::{HistogramRow, sort_first_wins};
use crate::slab::{Class, MAX_CELL_LEN, Slabs};
use crate::starts::StartHead;

/// A full tail, encoded: timestamps strictly ascending.
#[derive(Debug, Clone)]
pub(crate) struct SealedChunk {
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    pub(crate) rows: u32,
    /// Integer column; shared with other series of the same target.
    timestamps: Arc<[u8]>,
    /// Float column.
    values: Arc<[u8]>,
}

impl SealedChunk {
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.min_ms < range.end_ms && range.start_ms <= self.max_ms
    }

    /// Appends the chunk's samples.
    pub(crate) fn decode(
        &self,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        self.decode_timestamps(timestamps)?;
        codec::decode_f64s(&mut &*self.values, self.rows as usize, values)
    }

    fn decode_timestamps(&self, timestamps: &mut Vec<i64>) -> Result<(), CodecError> {
        codec::decode_i64s(&mut &*self.timestamps, self.rows as usize, timestamps)
    }

    fn find(&self, t_ms: i64) -> Option<u64> {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        self.decode(&mut timestamps, &mut values).ok()?;
        timestamps.binary_search(&t_ms).ok().map(|at| values[at].to_bits())
    }
}

/// A sealed chunk and the one of the same series before it.
#[derive(Debug)]
struct ChunkNode {
    chunk: SealedChunk,
    /// Index of the older node plus one; 0 = none.
    older: u32,
}

/// What is known of one series. 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// What the tail's offsets count from.
    base_ms: i64,
    /// Latest timestamp ever appended, float or histogram, of this generation or, when it had been
    /// looked up, of the one before. A later sample cannot be a duplicate.
    high_ms: i64,
    cell: u32,
    /// Index of the newest sealed chunk plus one; 0 = none.
    newest: u32,
    len: u8,
    class: Class,
    /// The tail is not in order of time.
    unsorted: bool,
    /// `high_ms` is valid.
    touched: bool,
}

const EMPTY: Slot = Slot {
    base_ms: 0,
    high_ms: 0,
    cell: 0,
    newest: 0,
    len: 0,
    class: Class::SMALLEST,
    unsorted: false,
    touched: false,
};

/// What the counts of an `Arc` take.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// How many sealed chunks that cover a late sample's time are decoded to see whether it is a
/// duplicate. What slips through is dropped when it is read or merged.
const MAX_LATE_PROBES: usize = 2;
/// How many chunks are looked at to find those.
const MAX_LATE_STEPS: usize = 16;

/// How hard a late sample's duplicate is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probes {
    /// As hard as is worth it: of two floats the order is kept, and the later one dropped when they
    /// are read.
    Few,
    /// Until it is found: the order between a float and a histogram is not kept.
    All,
}

/// The timestamps that were sealed last. Series of one target are sealed one after the other and
/// have the same ones, so they are encoded and kept once.
#[derive(Debug, Default)]
struct LastSealed {
    timestamps: Vec<i64>,
    encoded: Arc<[u8]>,
}

/// Samples of a shard from one cut to the next, by local ordinal.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    slots: Vec<Slot>,
    slabs: Slabs,
    chunks: Vec<ChunkNode>,
    last_sealed: LastSealed,
    sealed_bytes: usize,
    histograms: HistogramHead,
    starts: StartHead,
    rows: u64,
    /// Earliest and latest timestamp; `None` = no samples.
    span_ms: Option<(i64, i64)>,
    /// Deletes up to this number are older than all samples, later ones younger.
    deletes_through: u64,
}

impl Generation {
    /// An empty generation with room for `series`, younger than a delete and all before it.
    pub(crate) fn with_capacity(series: usize, deletes_through: u64) -> Self {
        let slots = Vec::with_capacity(series);
        Generation { slots, deletes_through, ..Generation::default() }
    }

    /// The last delete that is older than what is in here.
    pub(crate) fn deletes_through(&self) -> u64 {
        self.deletes_through
    }

    /// Notes a delete. To be called while it is empty.
    pub(crate) fn begin_after(&mut self, deletes_through: u64) {
        debug_assert_eq!(self.rows, 0, "samples are older than the delete");
        self.deletes_through = self.deletes_through.max(deletes_through);
    }

    /// Number of local ordinals that may have samples.
    pub(crate) fn series_bound(&self) -> usize {
        self.slots.len()
    }

    /// Full chunks held.
    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks.len() + self.histograms.chunk_count()
    }

    /// Samples held.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The smallest range with all samples; empty if there are none.
    pub(crate) fn range(&self) -> TimeRange {
        match self.span_ms {
            Some((min, max)) => TimeRange::new(min, max.saturating_add(1)),
            None => TimeRange::new(0, 0),
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.slabs.bytes()
            + self.chunks.capacity() * size_of::<ChunkNode>()
            + self.sealed_bytes
            + self.histograms.bytes()
            + self.starts.bytes()
    }

    /// Whether `t_ms` is after everything known of the series, so that it can just be pushed.
    #[inline]
    pub(crate) fn is_news(&self, local: usize, t_ms: i64) -> bool {
        self.slots.get(local).is_some_and(|slot| slot.touched && t_ms > slot.high_ms)
    }

    /// Latest timestamp of the series, if it has any here or is known to have had before.
    pub(crate) fn high_ms(&self, local: usize) -> Option<i64> {
        self.slots.get(local).filter(|slot| slot.touched).map(|slot| slot.high_ms)
    }

    /// Makes room for the series; `before` is its latest timestamp in older generations.
    pub(crate) fn touch(&mut self, local: usize, before: Option<i64>) {
        if self.slots.len() <= local {
            self.slots.resize(local + 1, EMPTY);
        }
        let slot = &mut self.slots[local];
        if let (false, Some(before)) = (slot.touched, before) {
            slot.touched = true;
            slot.high_ms = before;
        }
    }

    /// Whether the series has samples here.
    pub(crate) fn has(&self, local: usize) -> bool {
        self.slots.get(local).is_some_and(|slot| slot.len > 0 || slot.newest > 0)
            || self.histograms.get(local).is_some()
    }

    /// When values began at zero, of the series of which that is known.
    pub(crate) fn starts(&self) -> &StartHead {
        &self.starts
    }

    /// Notes when a value began that is about to be pushed; 0 = not known.
    pub(crate) fn note_start(&mut self, local: usize, t_ms: i64, start_ms: i64) {
        self.starts.set(local, t_ms, start_ms, self.high_ms(local));
    }

    /// Histograms of the series, if it has any.
    pub(crate) fn histograms(&self, local: usize) -> Option<&HistogramSeries> {
        self.histograms.get(local)
    }

    /// The histogram the series has at `t_ms`.
    pub(crate) fn find_histogram(&self, local: usize, t_ms: i64) -> Option<Histogram> {
        self.histograms.get(local).and_then(|series| series.find(t_ms))
    }

    /// Appends the series' histograms in `range`, in commit order.
    pub(crate) fn read_histograms(
        &self,
        local: usize,
        range: TimeRange,
        out: &mut HistogramColumns,
    ) -> Result<(), CodecError> {
        self.histograms.get(local).map_or(Ok(()), |series| series.read(range, out))
    }

    /// Appends a histogram of a series that was touched. Any order of time is fine.
    pub(crate) fn push_histogram(&mut self, local: usize, row: &HistogramRow) {
        let slot = &mut self.slots[local];
        slot.high_ms = if slot.touched { slot.high_ms.max(row.t_ms) } else { row.t_ms };
        slot.touched = true;
        self.histograms.push(local, row.t_ms, row.start_ms, &row.histogram);
        self.count(row.t_ms);
    }

    #[inline]
    fn count(&mut self, t_ms: i64) {
        self.rows += 1;
        self.span_ms = match self.span_ms {
            Some((min, max)) => Some((min.min(t_ms), max.max(t_ms))),
            None => Some((t_ms, t_ms)),
        };
    }

    /// Appends a sample of a series that was touched. Any order of time is fine.
    #[inline]
    pub(crate) fn push(&mut self, local: usize, t_ms: i64, value: f64) {
        let mut slot = self.slots[local];
        let mut offset = t_ms.wrapping_sub(slot.base_ms);
        let fits = i32::try_from(offset).is_ok() && t_ms.checked_sub(slot.base_ms).is_some();
        if slot.len == 0 || !fits || usize::from(slot.len) == slot.class.capacity() {
            slot = self.make_room(local, t_ms, fits);
            offset = t_ms.wrapping_sub(slot.base_ms);
        }
        self.slabs.set(slot.class, slot.cell, slot.len.into(), offset as i32, value);
        slot.len += 1;
        slot.unsorted |= slot.touched && slot.len > 1 && t_ms <= slot.high_ms;
        slot.high_ms = if slot.touched { slot.high_ms.max(t_ms) } else { t_ms };
        slot.touched = true;
        self.slots[local] = slot;
        self.count(t_ms);
    }

    /// Grows, seals or starts the tail, so that it has room for a sample at `t_ms`.
    #[cold]
    fn make_room(&mut self, local: usize, t_ms: i64, fits: bool) -> Slot {
        let mut slot = self.slots[local];
        if slot.len > 0
            && fits
            && let Some(larger) = slot.class.larger()
        {
            slot.cell = self.slabs.grow(slot.class, slot.cell, larger);
            slot.class = larger;
            return slot;
        }
        if slot.len > 0 {
            self.seal(&mut slot);
        }
        slot.class = Class::SMALLEST;
        slot.cell = self.slabs.allocate(slot.class);
        slot.base_ms = t_ms;
        slot.len = 0;
        slot.unsorted = false;
        slot
    }

    fn seal(&mut self, slot: &mut Slot) {
        let (offsets, tail) = self.slabs.get(slot.class, slot.cell, slot.len.into());
        let mut timestamps = [0_i64; MAX_CELL_LEN];
        let mut values = [0_f64; MAX_CELL_LEN];
        let mut len = offsets.len();
        if slot.unsorted {
            let mut samples: Vec<(i64, u64)> = offsets
                .iter()
                .zip(tail)
                .map(|(&o, v)| (at(slot.base_ms, o), v.to_bits()))
                .collect();
            sort_first_wins(&mut samples);
            len = samples.len();
            for (index, (t, bits)) in samples.into_iter().enumerate() {
                timestamps[index] = t;
                values[index] = f64::from_bits(bits);
            }
        } else {
            for (t, &offset) in timestamps.iter_mut().zip(offsets) {
                *t = at(slot.base_ms, offset);
            }
            values[..len].copy_from_slice(tail);
        }
        let mut bytes = Vec::with_capacity(1024);
        if self.last_sealed.timestamps != timestamps[..len] {
            codec::encode_i64s(&timestamps[..len], &mut bytes);
            self.sealed_bytes += bytes.len() + ARC_BYTES;
            self.last_sealed.timestamps.clear();
            self.last_sealed.timestamps.extend_from_slice(&timestamps[..len]);
            self.last_sealed.encoded = Arc::from(bytes.as_slice());
            bytes.clear();
        }
        codec::encode_f64s(&values[..len], &mut bytes);
        self.sealed_bytes += bytes.len() + ARC_BYTES;
        self.chunks.push(ChunkNode {
            chunk: SealedChunk {
                min_ms: timestamps[0],
                max_ms: timestamps[len - 1],
                rows: len as u32,
                timestamps: Arc::clone(&self.last_sealed.encoded),
                values: Arc::from(bytes),
            },
            older: slot.newest,
        });
        slot.newest = u32::try_from(self.chunks.len()).expect("4 G chunks do not fit in memory");
        self.slabs.free(slot.class, slot.cell);
    }

    /// The bits of the value the series has at `t_ms`. With `probes` only so many sealed chunks are
    /// decoded, and few are looked at.
    pub(crate) fn find(&self, local: usize, t_ms: i64, probes: Probes) -> Option<u64> {
        let slot = self.slots.get(local)?;
        if slot.len > 0 {
            let (offsets, values) = self.slabs.get(slot.class, slot.cell, slot.len.into());
            let wanted = t_ms.checked_sub(slot.base_ms).and_then(|o| i32::try_from(o).ok());
            let place = wanted.and_then(|wanted| offsets.iter().position(|&o| o == wanted));
            if let Some(place) = place {
                return Some(values[place].to_bits());
            }
        }
        let (steps, decoded) = match probes {
            Probes::Few => (MAX_LATE_STEPS, MAX_LATE_PROBES),
            Probes::All => (usize::MAX, usize::MAX),
        };
        self.chain(slot.newest)
            .take(steps)
            .filter(|chunk| chunk.min_ms <= t_ms && t_ms <= chunk.max_ms)
            .take(decoded)
            .find_map(|chunk| chunk.find(t_ms))
    }

    /// Sealed chunks from the newest to the oldest.
    fn chain(&self, newest: u32) -> impl Iterator<Item = &SealedChunk> {
        let mut next = newest;
        std::iter::from_fn(move || {
            let node = &self.chunks[next.checked_sub(1)? as usize];
            next = node.older;
            Some(&node.chunk)
        })
    }

    /// Appends the series' sealed chunks that overlap `range`, in commit order.
    pub(crate) fn sealed(&self, local: usize, range: TimeRange, out: &mut Vec<SealedChunk>) {
        let Some(slot) = self.slots.get(local) else { return };
        let start = out.len();
        out.extend(self.chain(slot.newest).filter(|chunk| chunk.overlaps(range)).cloned());
        out[start..].reverse();
    }

    /// Appends the samples of the series' tail that lie in `range`, in commit order.
    pub(crate) fn tail(
        &self,
        local: usize,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        let Some(slot) = self.slots.get(local).filter(|slot| slot.len > 0) else { return };
        let (offsets, tail) = self.slabs.get(slot.class, slot.cell, slot.len.into());
        for (&offset, &value) in offsets.iter().zip(tail) {
            let t_ms = at(slot.base_ms, offset);
            if range.contains(t_ms) {
                timestamps.push(t_ms);
                values.push(value);
            }
        }
    }

    /// Appends the series' samples in `range`, in commit order.
    pub(crate) fn read(
        &self,
        local: usize,
        range: TimeRange,
        timestamps: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        let Some(slot) = self.slots.get(local) else { return Ok(()) };
        if slot.newest > 0 {
            let mut chunks = Vec::new();
            self.sealed(local, range, &mut chunks);
            for chunk in &chunks {
                let start = timestamps.len();
                chunk.decode(timestamps, values)?;
                crate::rows::trim_from(timestamps, values, start, range);
            }
        }
        self.tail(local, range, timestamps, values);
        Ok(())
    }

    /// Shows every timestamp to `visit`, in no order.
    pub(crate) fn for_each_timestamp(&self, mut visit: impl FnMut(i64)) {
        for slot in self.slots.iter().filter(|slot| slot.len > 0) {
            let (offsets, _) = self.slabs.get(slot.class, slot.cell, slot.len.into());
            offsets.iter().for_each(|&offset| visit(at(slot.base_ms, offset)));
        }
        let mut timestamps = Vec::new();
        for node in &self.chunks {
            timestamps.clear();
            node.chunk
                .decode_timestamps(&mut timestamps)
                .expect("a chunk in memory decodes to what was encoded");
            timestamps.iter().for_each(|&t_ms| visit(t_ms));
        }
        self.histograms.iter().for_each(|series| series.for_each_timestamp(&mut visit));
    }

    /// Whether the series has a sample in `range`, or a sealed chunk that may have one.
    pub(crate) fn may_have(&self, local: usize, range: TimeRange) -> bool {
        let Some(slot) = self.slots.get(local) else { return false };
        let (offsets, _) = self.slabs_or_empty(slot);
        offsets.iter().any(|&offset| range.contains(at(slot.base_ms, offset)))
            || self.chain(slot.newest).any(|chunk| chunk.overlaps(range))
            || self.histograms.get(local).is_some_and(|series| series.may_have(range))
    }

    fn slabs_or_empty(&self, slot: &Slot) -> (&[i32], &[f64]) {
        if slot.len == 0 {
            return (&[], &[]);
        }
        self.slabs.get(slot.class, slot.cell, slot.len.into())
    }
}

#[inline]
fn at(base_ms: i64, offset_ms: i32) -> i64 {
    // Cannot overflow: the sum was a timestamp when the sample came.
    base_ms.wrapping_add(i64::from(offset_ms))
}
