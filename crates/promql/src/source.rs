//! Where the evaluator gets series from. It never sees a block, a head or a thread.

use std::sync::Arc;

use model::{Labels, Matcher};

/// What a selector asks for.
#[derive(Debug, Clone)]
pub struct SelectRequest<'a> {
    /// Conditions on labels; all must hold.
    pub matchers: &'a [Matcher],
    /// First timestamp of interest, milliseconds, inclusive.
    pub start_ms: i64,
    /// Last timestamp of interest, milliseconds, inclusive.
    pub end_ms: i64,
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

    /// Appends the samples of series `index` within the requested range to `out`: timestamps
    /// strictly ascending, values bit-exact with stale markers included. Called from several
    /// threads at once.
    ///
    /// # Errors
    /// Corrupt or vanished data.
    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError>;
}

/// Samples of one series as two columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Milliseconds since the epoch.
    pub timestamps_ms: Vec<i64>,
    /// Values, bit-exact.
    pub values: Vec<f64>,
}

impl Columns {
    /// Empties both columns and keeps their memory.
    pub fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
    }
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
