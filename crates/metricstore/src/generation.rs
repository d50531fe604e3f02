//! The samples of one shard between two flushes.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use codec::CodecError;
use model::{Histogram, TimeRange};

use crate::histogram_columns::HistogramColumns;
use crate::histogram_head::{HistogramHead, HistogramSeries};
use crate::packed_values::{Form, PackedValues};
use crate::rows::{HistogramRow, sort_first_wins};
use crate::slab::{Class, Slabs};
use crate::starts::StartHead;
use crate::tracks::{MAX_TAIL_LEN, Next, Place, Tracks};

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

/// What is known of one series. 24 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Of the values. If the tail is empty, the latest timestamp the series is known to have,
    /// float or histogram, of this generation or, when it had been looked up, of the one before.
    base: u64,
    cell: u32,
    /// Index of the newest sealed chunk plus one; 0 = none.
    newest: u32,
    track: u32,
    first: u8,
    len: u8,
    class: Class,
    form: Form,
}

/// Stands for the latest timestamp of a series of which nothing is known.
const UNKNOWN_MS: i64 = i64::MIN;

const EMPTY: Slot = Slot {
    base: UNKNOWN_MS as u64,
    cell: 0,
    newest: 0,
    track: 0,
    first: 0,
    len: 0,
    class: Class::SMALLEST,
    form: Form::SAME,
};

const _: () = assert!(size_of::<Slot>() == 24, "there may be millions of them");

impl Slot {
    /// Where the timestamps of the tail are. It is not empty.
    #[inline]
    fn place(&self) -> Place {
        Place { track: self.track, first: self.first, len: self.len }
    }

    fn set_place(&mut self, place: Place) {
        Place { track: self.track, first: self.first, len: self.len } = place;
    }

    /// The values of the tail. It is not empty.
    #[inline]
    fn values(&self) -> PackedValues {
        let Slot { base, cell, class, form, .. } = *self;
        PackedValues { base, cell, class, form }
    }

    #[inline]
    fn set_values(&mut self, values: PackedValues) {
        PackedValues { base: self.base, cell: self.cell, class: self.class, form: self.form } =
            values;
    }
}

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
    tracks: Tracks,
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
            + self.tracks.bytes()
            + self.slabs.bytes()
            + self.chunks.capacity() * size_of::<ChunkNode>()
            + self.sealed_bytes
            + self.histograms.bytes()
            + self.starts.bytes()
    }

    /// Whether `t_ms` is after everything known of the series, so that it can just be pushed.
    pub(crate) fn is_news(&self, local: usize, t_ms: i64) -> bool {
        self.high_ms(local).is_some_and(|high_ms| t_ms > high_ms)
    }

    /// Latest timestamp of the series, if it has any here or is known to have had before.
    pub(crate) fn high_ms(&self, local: usize) -> Option<i64> {
        let slot = self.slots.get(local)?;
        let high_ms = match slot.len {
            0 => slot.base as i64,
            _ => self.tracks.high_ms(&self.slabs, slot.place()),
        };
        (high_ms != UNKNOWN_MS).then_some(high_ms)
    }

    /// Makes room for the series; `before` is its latest timestamp in older generations.
    pub(crate) fn touch(&mut self, local: usize, before: Option<i64>) {
        if self.slots.len() <= local {
            // Doubling would leave much of it unused.
            if self.slots.capacity() <= local {
                let wanted = local + 1 + local / 8;
                self.slots.reserve_exact(wanted - self.slots.len());
            }
            self.slots.resize(local + 1, EMPTY);
        }
        let slot = &mut self.slots[local];
        if let (0, UNKNOWN_MS, Some(before)) = (slot.len, slot.base as i64, before) {
            slot.base = before as u64;
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
        let high_ms = self.high_ms(local).map_or(row.t_ms, |high_ms| high_ms.max(row.t_ms));
        let slot = &mut self.slots[local];
        if slot.len == 0 {
            slot.base = high_ms as u64;
        } else {
            let own = self.tracks.make_own(&mut self.slabs, slot.place(), high_ms);
            slot.set_place(own);
        }
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

    /// Appends a sample if the series has a tail with room for it and `t_ms` is after everything
    /// known of the series. Otherwise nothing is changed.
    #[inline]
    pub(crate) fn push_next(&mut self, local: usize, t_ms: i64, value: f64) -> bool {
        let Generation { slots, tracks, slabs, .. } = self;
        let Some(slot) = slots.get_mut(local) else { return false };
        let len = usize::from(slot.len);
        if len == 0 || len == MAX_TAIL_LEN || tracks.next(slabs, slot.place(), t_ms) != Next::Fits {
            return false;
        }
        let mut values = slot.values();
        values.push(slabs, len, value);
        slot.set_values(values);
        slot.len += 1;
        self.count(t_ms);
        true
    }

    /// Appends a sample of a series that was touched. Any order of time is fine.
    pub(crate) fn push(&mut self, local: usize, t_ms: i64, value: f64) {
        if self.push_next(local, t_ms, value) {
            return;
        }
        let high_ms = self.high_ms(local);
        let is_late = high_ms.is_some_and(|high_ms| t_ms <= high_ms);
        let mut slot = self.slots[local];
        let Generation { tracks, slabs, .. } = self;
        let place = match usize::from(slot.len) {
            0 | MAX_TAIL_LEN => None,
            _ if is_late => tracks.push_late(slabs, slot.place(), t_ms, high_ms.unwrap_or(t_ms)),
            _ => tracks.turn_off(slabs, slot.place(), t_ms),
        };
        match place {
            Some(place) => {
                let mut values = slot.values();
                values.push(&mut self.slabs, slot.len.into(), value);
                slot.set_values(values);
                slot.set_place(place);
            }
            None => {
                if slot.len > 0 {
                    self.seal(&mut slot);
                }
                let Generation { tracks, slabs, .. } = self;
                slot.set_place(match high_ms.filter(|_| is_late) {
                    Some(high_ms) => tracks.begin_late(slabs, t_ms, high_ms),
                    None => tracks.begin(slabs, t_ms),
                });
                slot.set_values(PackedValues::of(value));
            }
        }
        self.slots[local] = slot;
        self.count(t_ms);
    }

    /// Encodes the tail and gives up what it has.
    fn seal(&mut self, slot: &mut Slot) {
        let mut timestamps = [0_i64; MAX_TAIL_LEN];
        let mut values = [0_f64; MAX_TAIL_LEN];
        let mut len = usize::from(slot.len);
        let mut index = 0;
        self.tail_of(slot, |t_ms, value| {
            (timestamps[index], values[index]) = (t_ms, value);
            index += 1;
        });
        if self.tracks.is_unsorted(slot.place()) {
            let mut samples: Vec<(i64, u64)> =
                timestamps.iter().zip(&values).take(len).map(|(&t, v)| (t, v.to_bits())).collect();
            sort_first_wins(&mut samples);
            len = samples.len();
            for (index, (t, bits)) in samples.into_iter().enumerate() {
                timestamps[index] = t;
                values[index] = f64::from_bits(bits);
            }
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
        slot.values().free(&mut self.slabs);
        self.tracks.leave(&mut self.slabs, slot.track);
        slot.len = 0;
    }

    /// Shows each sample of a slot's tail to `visit`, in commit order.
    #[inline]
    fn tail_of(&self, slot: &Slot, mut visit: impl FnMut(i64, f64)) {
        if slot.len == 0 {
            return;
        }
        let mut timestamps = self.tracks.timestamps(&self.slabs, slot.place());
        slot.values().for_each(&self.slabs, slot.len.into(), |value| {
            let t_ms = timestamps.next().expect("a place is as long as its tail");
            visit(t_ms, value);
        });
    }

    /// The bits of the value the series has at `t_ms`. With `probes` only so many sealed chunks are
    /// decoded, and few are looked at.
    pub(crate) fn find(&self, local: usize, t_ms: i64, probes: Probes) -> Option<u64> {
        let slot = self.slots.get(local)?;
        let mut found = None;
        self.tail_of(slot, |at_ms, value| {
            if at_ms == t_ms && found.is_none() {
                found = Some(value.to_bits());
            }
        });
        if found.is_some() {
            return found;
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
        let Some(slot) = self.slots.get(local) else { return };
        self.tail_of(slot, |t_ms, value| {
            if range.contains(t_ms) {
                timestamps.push(t_ms);
                values.push(value);
            }
        });
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
        self.tracks.for_each_timestamp(&self.slabs, &mut visit);
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
        let has_tail = slot.len > 0
            && self.tracks.timestamps(&self.slabs, slot.place()).any(|t_ms| range.contains(t_ms));
        has_tail
            || self.chain(slot.newest).any(|chunk| chunk.overlaps(range))
            || self.histograms.get(local).is_some_and(|series| series.may_have(range))
    }
}
