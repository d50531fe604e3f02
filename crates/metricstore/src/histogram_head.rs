//! Histograms of a shard between two cuts: rows of varints while they are few, columns when sealed.
//!
//! Few series are histograms, so they are found by hash and cost the others nothing.

use std::sync::Arc;

use codec::CodecError;
use codec::varint::{put_i64, take_i64};
use model::{BucketLayout, Histogram, TimeRange};
use rapidhash::RapidHashMap;

use crate::histogram_columns::HistogramColumns;

/// Rows at which a tail is sealed. Columns of so many are within a fifth of the size of longer
/// ones; what a query has to copy of a tail stays small.
const TAIL_ROWS: usize = 32;
/// Encoded bytes at which a tail is sealed.
const TAIL_BYTES: usize = 16 << 10;

/// Histograms of the series of a shard, by local ordinal.
#[derive(Debug, Default)]
pub(crate) struct HistogramHead {
    series: RapidHashMap<u32, HistogramSeries>,
    chunks: usize,
    bytes: usize,
}

/// Histograms of one series, in commit order: sealed ones, then the tail. Cloning copies the tail.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistogramSeries {
    sealed: Vec<SealedHistograms>,
    tail: Tail,
}

/// A sealed run of samples with one layout, strictly ascending in time.
#[derive(Debug, Clone)]
struct SealedHistograms {
    min_ms: i64,
    max_ms: i64,
    rows: u32,
    /// Integer column.
    timestamps: Arc<[u8]>,
    /// As [`HistogramColumns::encode`].
    content: Arc<[u8]>,
}

/// Samples not sealed yet, in arrival order.
#[derive(Debug, Clone, Default)]
struct Tail {
    timestamps_ms: Vec<i64>,
    /// Layouts, and to how many consecutive rows each belongs.
    layouts: Vec<(Arc<BucketLayout>, u32)>,
    /// For each row its start, then the histogram without its layout.
    rows: Vec<u8>,
}

/// What the counts of an `Arc` take.
const ARC_BYTES: usize = 2 * size_of::<usize>();

impl HistogramHead {
    /// Full chunks held.
    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.series.capacity() * (size_of::<HistogramSeries>() + size_of::<u32>()) + self.bytes
    }

    /// Histograms of a series, if it has any.
    pub(crate) fn get(&self, local: usize) -> Option<&HistogramSeries> {
        // Fast path: no histograms, no hash.
        if self.series.is_empty() {
            return None;
        }
        self.series.get(&(local as u32))
    }

    /// Every series that has histograms.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HistogramSeries> {
        self.series.values()
    }

    /// Appends a sample of a series. Any order of time is fine.
    pub(crate) fn push(&mut self, local: usize, t_ms: i64, start_ms: i64, histogram: &Histogram) {
        let series = self.series.entry(local as u32).or_default();
        let before = series.tail.bytes();
        series.tail.push(t_ms, start_ms, histogram);
        if series.tail.timestamps_ms.len() >= TAIL_ROWS || series.tail.rows.len() >= TAIL_BYTES {
            let chunks = series.sealed.len();
            let sealed = series.seal();
            self.chunks += series.sealed.len() - chunks;
            self.bytes += sealed;
        }
        self.bytes += series.tail.bytes();
        self.bytes -= before;
    }
}

impl HistogramSeries {
    /// Turns the tail into chunks; yields their size.
    fn seal(&mut self) -> usize {
        let mut columns = HistogramColumns::default();
        self.tail.read(TimeRange::all(), &mut columns).expect(OWN_ROWS);
        // Conflicts among them were counted when they came.
        columns.settle();
        let tail = &mut self.tail;
        tail.timestamps_ms.clear();
        tail.rows.clear();
        tail.layouts.clear();
        let (mut start, mut size) = (0, 0);
        while start < columns.len() {
            let run = columns.unite_run(start, TAIL_ROWS);
            start = run.end;
            let mut timestamps = Vec::new();
            codec::encode_i64s(&columns.timestamps_ms[run.clone()], &mut timestamps);
            let mut content = Vec::new();
            columns.encode(run.clone(), &mut content);
            size += timestamps.len() + content.len() + 2 * ARC_BYTES;
            size += size_of::<SealedHistograms>();
            self.sealed.push(SealedHistograms {
                min_ms: columns.timestamps_ms[run.start],
                max_ms: columns.timestamps_ms[run.end - 1],
                rows: run.len() as u32,
                timestamps: Arc::from(timestamps),
                content: Arc::from(content),
            });
        }
        size
    }

    /// The histogram at `t_ms`. Every chunk that may have one is decoded: the order between a float
    /// and a histogram is not kept, so none may slip through.
    pub(crate) fn find(&self, t_ms: i64) -> Option<Histogram> {
        let at = TimeRange::new(t_ms, t_ms.saturating_add(1));
        let mut found = HistogramColumns::default();
        self.tail.read(at, &mut found).expect(OWN_ROWS);
        let probes = self.sealed.iter().rev().filter(|chunk| chunk.overlaps(at));
        for chunk in probes {
            if found.is_empty() {
                chunk.read(at, &mut found).expect(OWN_ROWS);
            }
        }
        found.histograms.into_iter().next()
    }

    /// Whether a sample lies in `range`, or a chunk may have one there.
    pub(crate) fn may_have(&self, range: TimeRange) -> bool {
        self.tail.timestamps_ms.iter().any(|&t_ms| range.contains(t_ms))
            || self.sealed.iter().any(|chunk| chunk.overlaps(range))
    }

    /// What of the series overlaps `range`; `None` if nothing does.
    pub(crate) fn overlapping(&self, range: TimeRange) -> Option<HistogramSeries> {
        if !self.may_have(range) {
            return None;
        }
        let sealed = self.sealed.iter().filter(|chunk| chunk.overlaps(range)).cloned().collect();
        Some(HistogramSeries { sealed, tail: self.tail.clone() })
    }

    /// Appends the samples in `range`, in commit order.
    pub(crate) fn read(
        &self,
        range: TimeRange,
        out: &mut HistogramColumns,
    ) -> Result<(), CodecError> {
        for chunk in self.sealed.iter().filter(|chunk| chunk.overlaps(range)) {
            chunk.read(range, out)?;
        }
        self.tail.read(range, out)
    }

    /// Shows every timestamp to `visit`.
    pub(crate) fn for_each_timestamp(&self, visit: &mut impl FnMut(i64)) {
        self.tail.timestamps_ms.iter().for_each(|&t_ms| visit(t_ms));
        let mut timestamps = Vec::new();
        for chunk in &self.sealed {
            timestamps.clear();
            codec::decode_i64s(&mut &*chunk.timestamps, chunk.rows as usize, &mut timestamps)
                .expect(OWN_ROWS);
            timestamps.iter().for_each(|&t_ms| visit(t_ms));
        }
    }
}

/// Why what is in memory decodes.
const OWN_ROWS: &str = "histograms in memory decode to what was encoded";

impl SealedHistograms {
    fn overlaps(&self, range: TimeRange) -> bool {
        self.min_ms < range.end_ms && range.start_ms <= self.max_ms
    }

    fn read(&self, range: TimeRange, out: &mut HistogramColumns) -> Result<(), CodecError> {
        let start = out.len();
        let rows = self.rows as usize;
        codec::decode_i64s(&mut &*self.timestamps, rows, &mut out.timestamps_ms)?;
        out.decode(rows, &mut &*self.content)?;
        out.trim_from(start, range);
        Ok(())
    }
}

impl Tail {
    fn push(&mut self, t_ms: i64, start_ms: i64, histogram: &Histogram) {
        let layout = histogram.layout();
        match self.layouts.last_mut() {
            Some((last, rows)) if Arc::ptr_eq(last, layout) || last == layout => *rows += 1,
            _ => self.layouts.push((Arc::clone(layout), 1)),
        }
        self.timestamps_ms.push(t_ms);
        put_i64(&mut self.rows, start_ms);
        codec::put_histogram(histogram, &mut self.rows);
    }

    /// Appends the samples in `range`, in arrival order.
    fn read(&self, range: TimeRange, out: &mut HistogramColumns) -> Result<(), CodecError> {
        let mut input = self.rows.as_slice();
        let layouts = self
            .layouts
            .iter()
            .flat_map(|(layout, rows)| std::iter::repeat_n(layout, *rows as usize));
        for (&t_ms, layout) in self.timestamps_ms.iter().zip(layouts) {
            let start_ms = take_i64(&mut input)?;
            let histogram = codec::take_histogram(&mut input, layout)?;
            if range.contains(t_ms) {
                out.push(t_ms, start_ms, histogram);
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let layouts: usize = self.layouts.iter().map(|(layout, _)| layout.heap_bytes()).sum();
        self.timestamps_ms.capacity() * size_of::<i64>()
            + self.rows.capacity()
            + self.layouts.capacity() * size_of::<(Arc<BucketLayout>, u32)>()
            + layouts
            + self.layouts.len() * (size_of::<BucketLayout>() + ARC_BYTES)
    }
}
