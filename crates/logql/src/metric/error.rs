//! Why a query has no result.

use crate::syntax::ParseError;

/// Why a query of numbers has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// A pipeline cannot be made.
    #[error(transparent)]
    Stage(#[from] ParseError),
    /// A stage failed at a line that a window counts.
    #[error(
        "pipeline error: '{error}' for series: '{series}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline {
        /// The value of `__error__`.
        error: String,
        /// All labels of the line, `__error__` and `__error_details__` among them.
        series: String,
    },
    /// The series of both sides of an operator do not fit each other.
    #[error("{0}")]
    Matching(String),
    /// More series than a query may yield.
    #[error(
        "maximum number of series ({0}) reached for a single query; consider reducing query \
         cardinality by adding more specific stream selectors, reducing the time range, or \
         aggregating results with functions like sum(), count() or topk()"
    )]
    TooManySeries(usize),
    /// More values than a query may hold in memory.
    #[error(
        "query holds more than {0} values in memory; use a longer step, a shorter time range, or \
         sum by fewer labels"
    )]
    TooManyValues(usize),
    /// What the source says.
    #[error("{0}")]
    Source(String),
}
