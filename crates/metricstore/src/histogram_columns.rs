//! Histogram samples of one series as columns.

use std::ops::Range;
use std::sync::Arc;

use codec::CodecError;
use model::{BucketLayout, Histogram, TimeRange};

/// Histograms of one series, as columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramColumns {
    /// Milliseconds since the epoch.
    pub timestamps_ms: Vec<i64>,
    /// When the counts of each began at zero, milliseconds since the epoch; 0 = not known.
    pub start_ms: Vec<i64>,
    /// The histograms. Neighbours often share their layout.
    pub histograms: Vec<Histogram>,
}

/// Most counts in one chunk, rows times buckets, if it has more than one row: encoded they are
/// below 3 MiB, and a page may have 4.
const MAX_RUN_CELLS: usize = 1 << 18;
const _: () = assert!(MAX_RUN_CELLS <= codec::MAX_HISTOGRAM_CELLS);

/// Empty buckets per row that one layout for several rows may bring, beside as many as there are
/// others: so what a chunk decodes to is in proportion to what was put in.
const SPARE_BUCKETS_PER_ROW: usize = 16;

impl HistogramColumns {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.timestamps_ms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Appends one sample.
    pub fn push(&mut self, t_ms: i64, start_ms: i64, histogram: Histogram) {
        self.timestamps_ms.push(t_ms);
        self.start_ms.push(start_ms);
        self.histograms.push(histogram);
    }

    /// Moves all samples of `other` behind those there are.
    pub(crate) fn append(&mut self, other: &mut HistogramColumns) {
        self.timestamps_ms.append(&mut other.timestamps_ms);
        self.start_ms.append(&mut other.start_ms);
        self.histograms.append(&mut other.histograms);
    }

    /// Keeps the first `len` samples.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.timestamps_ms.truncate(len);
        self.start_ms.truncate(len);
        self.histograms.truncate(len);
    }

    /// Removes samples.
    pub(crate) fn drain(&mut self, samples: Range<usize>) {
        self.timestamps_ms.drain(samples.clone());
        self.start_ms.drain(samples.clone());
        self.histograms.drain(samples);
    }

    /// Drops samples from `start` on that lie outside `range`; they must be in order.
    pub(crate) fn trim_from(&mut self, start: usize, range: TimeRange) {
        let end = start + self.timestamps_ms[start..].partition_point(|&t| t < range.end_ms);
        self.truncate(end);
        let begin = start + self.timestamps_ms[start..].partition_point(|&t| t < range.start_ms);
        self.drain(start..begin);
    }

    /// Puts the samples in order of time, of equal timestamps the first; yields how many others
    /// were dropped that say something else.
    pub(crate) fn settle(&mut self) -> u64 {
        if self.timestamps_ms.is_sorted_by(|a, b| a < b) {
            return 0;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        // Stable, so commit order decides.
        order.sort_by_key(|&index| self.timestamps_ms[index]);
        let mut conflicts = 0;
        let samples = std::mem::take(self);
        let mut histograms: Vec<Option<Histogram>> =
            samples.histograms.into_iter().map(Some).collect();
        for index in order {
            let t_ms = samples.timestamps_ms[index];
            let histogram = histograms[index].take().expect("each index is taken once");
            if self.timestamps_ms.last() == Some(&t_ms) {
                let earlier = self.histograms.last().expect("as many as timestamps");
                conflicts += u64::from(!earlier.says_the_same(&histogram));
            } else {
                self.push(t_ms, samples.start_ms[index], histogram);
            }
        }
        conflicts
    }

    /// The longest run of samples from `start` on, at most `max_rows`, that one chunk may hold;
    /// all of them get one layout. At least one, unless there is none.
    pub fn unite_run(&mut self, start: usize, max_rows: usize) -> Range<usize> {
        let end = self.len().min(start + max_rows);
        let Some(first) = self.histograms.get(start) else { return start..start };
        let is_float = matches!(first, Histogram::Float(_));
        let mut layout = Arc::clone(first.layout());
        let mut is_one = true;
        let mut listed = first.bucket_count();
        let mut rows = 1;
        for histogram in &self.histograms[start + 1..end] {
            if matches!(histogram, Histogram::Float(_)) != is_float {
                break;
            }
            let own = histogram.layout();
            let united = if Arc::ptr_eq(own, &layout) || *own == layout {
                None
            } else {
                let Some(union) = layout.union(own) else { break };
                Some(union)
            };
            let buckets = united.as_ref().map_or(histogram.bucket_count(), |union| {
                let (positive, negative) = union.bucket_counts();
                positive + negative
            });
            listed += histogram.bucket_count();
            rows += 1;
            let allowed = 2 * listed + SPARE_BUCKETS_PER_ROW * rows;
            if buckets * rows > allowed.min(MAX_RUN_CELLS) {
                rows -= 1;
                break;
            }
            if let Some(union) = united {
                is_one = false;
                layout = Arc::new(union);
            }
        }
        let run = start..start + rows;
        if !is_one {
            self.widen(run.clone(), &layout);
        }
        run
    }

    fn widen(&mut self, run: Range<usize>, layout: &Arc<BucketLayout>) {
        for histogram in &mut self.histograms[run] {
            if histogram.layout() == layout {
                histogram.share_layout(layout);
                continue;
            }
            let map = histogram.layout().map_into(layout).expect("a union has all buckets");
            match histogram {
                Histogram::Integer(histogram) => histogram.widen(layout, &map),
                Histogram::Float(histogram) => histogram.widen(layout, &map),
            }
        }
    }

    /// Appends the samples of `run`, which have one layout, to `out`, but for their timestamps:
    /// the content of a chunk.
    pub(crate) fn encode(&self, run: Range<usize>, out: &mut Vec<u8>) {
        codec::encode_i64s(&self.start_ms[run.clone()], out);
        codec::encode_histograms(&self.histograms[run], out);
    }

    /// Takes what [`HistogramColumns::encode`] wrote of `rows` samples; `self` is as before after
    /// an error, but for timestamps, which are the caller's.
    pub(crate) fn decode(&mut self, rows: usize, input: &mut &[u8]) -> Result<(), CodecError> {
        let starts = self.start_ms.len();
        codec::decode_i64s(input, rows, &mut self.start_ms)?;
        codec::decode_histograms(input, rows, &mut self.histograms)
            .inspect_err(|_| self.start_ms.truncate(starts))
    }
}
