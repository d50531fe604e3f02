//! Where the evaluator gets series from. It never sees a block, a head or a thread.

use std::sync::Arc;

use model::{FloatHistogram, Labels, Matcher, RollupRow};

/// What a selector asks for.
#[derive(Debug, Clone)]
pub struct SelectRequest<'a> {
    /// Conditions on labels; all must hold.
    pub matchers: &'a [Matcher],
    /// First timestamp of interest, milliseconds, inclusive.
    pub start_ms: i64,
    /// Last timestamp of interest, milliseconds, inclusive.
    pub end_ms: i64,
    /// What the samples are for.
    pub hints: Hints<'a>,
}

/// What samples are for, so that a source may answer with less of them. To ignore it is always
/// right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints<'a> {
    /// The function over ranges, if there is one.
    pub function: Option<&'a str>,
    /// Length of the ranges, milliseconds.
    pub range_ms: i64,
    /// Time between two ranges, milliseconds; 0 if there is one only.
    pub step_ms: i64,
    /// If not 0, [`Columns::rows`] will do: all ranges, and what is asked for, begin after multiples
    /// of this and end at them. Windows of which this is a multiple fit.
    pub window_ms: i64,
    /// Whether [`Columns::starts_ms`] matter. Of a series that has any, rows of windows will then not
    /// do.
    pub starts: bool,
}

/// Why series could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A limit was passed; the text names it, its value and the remedy.
    #[error("{0}")]
    Limit(String),
    /// The store failed; the text says how.
    #[error("{0}")]
    Storage(String),
    /// Who has the data cannot be reached now; the text says who and what to do.
    #[error("{0}")]
    Unavailable(String),
    /// The query was cancelled or ran out of time.
    #[error("query was cancelled")]
    Cancelled,
}

/// One snapshot of the data; all selectors of a query read from the same one.
pub trait Source: Send + Sync {
    /// The series that satisfy the request. Series without any sample in the range may be among
    /// them. Order is by ascending labels and each label set appears once.
    ///
    /// # Errors
    /// Limits and faults of the store.
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError>;
}

/// The result of a selection: labels at hand, samples decoded on demand.
pub trait SeriesSet: Send + Sync {
    /// Number of series.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of series `index < len()`.
    fn labels(&self, index: usize) -> &Labels;

    /// Appends the samples of series `index` within the requested range to the empty `out`:
    /// timestamps strictly ascending, values bit-exact with stale markers included; no timestamp is
    /// both among the floats and among the histograms. Called from several threads at once.
    ///
    /// # Errors
    /// Corrupt or vanished data.
    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError>;

    /// Whether of some series samples are missing that are kept in another form only, so that
    /// [`SeriesSet::read`] yields the last of each window for them; known before any is read.
    fn is_coarse(&self) -> bool {
        false
    }

    /// What finding and reading the series took so far; all zero where nobody counts it.
    fn reads(&self) -> Reads {
        Reads::default()
    }
}

/// What a selection took from the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// Blocks that have samples of it.
    pub blocks: u64,
    /// Chunks of blocks that overlap the range.
    pub chunks: u64,
    /// Series of it that have samples in the head.
    pub head_series: u64,
    /// Bytes of the head's chunks and of pages of blocks, decompressed.
    pub bytes: u64,
    /// Lengths of the windows whose rollups were read instead of samples, ascending, milliseconds; 0
    /// where there are no more.
    pub rollups_ms: [i64; 4],
}

impl Reads {
    /// Counts what another selection took too.
    pub fn add(&mut self, other: Reads) {
        for rollup_ms in other.rollups_ms.into_iter().filter(|rollup_ms| *rollup_ms > 0) {
            if let Some(free) = self.rollups_ms.iter().position(|known| *known == 0)
                && !self.rollups_ms.contains(&rollup_ms)
            {
                self.rollups_ms[free] = rollup_ms;
                self.rollups_ms[..=free].sort_unstable();
            }
        }
        self.blocks += other.blocks;
        self.chunks += other.chunks;
        self.head_series += other.head_series;
        self.bytes += other.bytes;
    }
}

/// Samples of one series: floats as columns of equal length, histograms apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Milliseconds since the epoch.
    pub timestamps_ms: Vec<i64>,
    /// Values, bit-exact.
    pub values: Vec<f64>,
    /// When each value began at zero, milliseconds since the epoch, 0 = not known, as of those behind
    /// its end. Empty if not known of any, or not asked for.
    pub starts_ms: Vec<i64>,
    /// Native histograms.
    pub histograms: HistogramSamples,
    /// If there are any, these say all about the floats, of which `timestamps_ms` and `values` then
    /// are the last of each row. Each row lies within a window of [`Hints::window_ms`].
    pub rows: Vec<RollupRow>,
    /// Whether samples are missing that are kept in another form only, and the last of each window
    /// stands for them.
    pub is_coarse: bool,
}

impl Columns {
    /// Empties all columns and keeps their memory.
    pub fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
        self.starts_ms.clear();
        self.histograms.clear();
        self.rows.clear();
        self.is_coarse = false;
    }

    /// Forgets when samples began at zero.
    pub(crate) fn forget_starts(&mut self) {
        self.starts_ms.clear();
        self.histograms.starts_ms.clear();
    }

    /// Number of samples, floats and histograms.
    pub fn samples(&self) -> usize {
        self.timestamps_ms.len() + self.histograms.timestamps_ms.len()
    }
}

/// Native histograms of one series as columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramSamples {
    /// Milliseconds since the epoch, ascending.
    pub timestamps_ms: Vec<i64>,
    /// The histograms; a stale one says that the series is gone. Neighbours should share their
    /// layout where they have the same: what compares or adds them looks at that first.
    pub histograms: Vec<Arc<FloatHistogram>>,
    /// When the counts of each began at zero, milliseconds since the epoch, 0 = not known, as of those
    /// behind its end. Empty if not known of any.
    pub starts_ms: Vec<i64>,
}

impl HistogramSamples {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }

    /// Appends one sample whose counts began at zero at an unknown time.
    pub fn push(&mut self, t_ms: i64, histogram: Arc<FloatHistogram>) {
        self.push_started(t_ms, 0, histogram);
    }

    /// Appends one sample whose counts began at zero at `start_ms`; 0 if not known.
    pub fn push_started(&mut self, t_ms: i64, start_ms: i64, histogram: Arc<FloatHistogram>) {
        if start_ms != 0 || !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.timestamps_ms.len(), 0);
            self.starts_ms.push(start_ms);
        }
        self.timestamps_ms.push(t_ms);
        self.histograms.push(histogram);
    }

    /// Empties all columns and keeps their memory.
    pub fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.histograms.clear();
        self.starts_ms.clear();
    }

    /// Keeps the samples for which `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl Fn(i64, &FloatHistogram) -> bool) {
        let mut kept = 0;
        if !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.histograms.len(), 0);
        }
        for index in 0..self.histograms.len() {
            if keep(self.timestamps_ms[index], &self.histograms[index]) {
                self.timestamps_ms.swap(kept, index);
                self.histograms.swap(kept, index);
                if !self.starts_ms.is_empty() {
                    self.starts_ms.swap(kept, index);
                }
                kept += 1;
            }
        }
        self.timestamps_ms.truncate(kept);
        self.histograms.truncate(kept);
        self.starts_ms.truncate(kept);
    }
}

/// Counts the memory that a query takes.
pub trait Memory: Send + Sync {
    /// Counts bytes that are about to be allocated.
    ///
    /// # Errors
    /// `Limit`, `Unavailable` or `Cancelled`; then nothing is counted.
    fn take(&self, bytes: usize) -> Result<(), SourceError>;

    /// Gives back what was taken, or a part of it.
    fn give_back(&self, bytes: usize);
}

/// Runs pieces of one query on as many threads as the caller grants.
pub trait Parallel: Send + Sync {
    /// Calls `task(0)`, …, `task(count - 1)`, possibly at once, and returns when all are done.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync));

    /// How many threads are worth splitting work for; at least 1.
    fn width(&self) -> usize;
}

/// Runs everything on the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inline;

impl Parallel for Inline {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        for index in 0..count {
            task(index);
        }
    }

    fn width(&self) -> usize {
        1
    }
}
