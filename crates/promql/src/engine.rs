//! The façade: a parsed query, a source, a time range and limits go in, a value comes out.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::ast::{Expr, Span};
use crate::source::{Memory, Parallel, Source};

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalTime {
    /// Once, at this time (milliseconds).
    Instant(i64),
    /// At `start`, `start + step`, … up to and including `end` (milliseconds, step > 0).
    Range {
        /// First step.
        start_ms: i64,
        /// No step after this.
        end_ms: i64,
        /// Distance of steps.
        step_ms: i64,
    },
}

/// Settings of one evaluation.
#[derive(Clone, Copy)]
pub struct EvalOptions<'a> {
    /// How far back an instant selector looks, milliseconds; the default is 5 minutes.
    pub lookback_ms: i64,
    /// Step of subqueries that name none, milliseconds; the default is 1 minute.
    pub default_subquery_step_ms: i64,
    /// Most samples the query may hold; exceeding it fails this query only.
    pub max_samples: usize,
    /// Counts what the query holds besides the series of its source, if anything does.
    pub memory: Option<&'a Arc<dyn Memory>>,
    /// Set by the owner to stop the query; looked at in every loop over series.
    pub cancelled: &'a AtomicBool,
    /// Where to run pieces of work.
    pub parallel: &'a dyn Parallel,
    /// Nanoseconds of a clock that never goes back. With it, what each part of the query takes is
    /// measured (some 100 ns per series more) and comes with the output.
    pub clock: Option<fn() -> u64>,
    /// Whether `rate`, `increase`, `irate` and `resets` look at when samples began at zero: Prometheus'
    /// feature `use-start-timestamps`. Ranges that are `anchored` or `smoothed` never do.
    pub use_start_timestamps: bool,
    /// Whether the label `__type__` tells counters, and not the end of their name: Prometheus' feature
    /// `type-and-unit-labels`. Only annotations depend on it.
    pub type_and_unit_labels: bool,
}

/// One query ready to run.
pub struct Evaluation<'a> {
    /// The parsed query.
    pub expr: &'a Expr,
    /// When.
    pub time: EvalTime,
    /// Over what.
    pub source: &'a dyn Source,
    /// How.
    pub options: EvalOptions<'a>,
}

/// Why an evaluation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The query is wrong in a way that shows only once its step and range are known (400): where,
    /// as bytes from and to, and what.
    #[error("{}:{}: {text}", .span.start, .span.end)]
    Query {
        /// The part that is wrong.
        span: Span,
        /// What is wrong with it.
        text: &'static str,
    },
    /// The query is wrong or cannot be computed (422).
    #[error("{0}")]
    Execution(String),
    /// A limit of this query was passed (422); names the limit, its value and the remedy.
    #[error("{0}")]
    Limit(String),
    /// Cancelled by the client (499) or by the time limit (503); the caller knows which.
    #[error("query was cancelled")]
    Cancelled,
    /// The store failed (500).
    #[error("{0}")]
    Storage(String),
    /// Who has the data cannot be reached now (503).
    #[error("{0}")]
    Unavailable(String),
}
