//! Results of queries, in columns.

use std::sync::Arc;

use model::{FloatHistogram, Labels};

use crate::ast::Span;
use crate::profile::QueryProfile;

/// What a query yields.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// A scalar at the evaluation time (instant queries).
    Scalar {
        /// Evaluation time, milliseconds.
        t_ms: i64,
        /// The number.
        value: f64,
    },
    /// A string at the evaluation time (instant queries).
    String {
        /// Evaluation time, milliseconds.
        t_ms: i64,
        /// The text.
        value: String,
    },
    /// One sample per series (instant queries), ordered as the query asks.
    Vector(Vec<InstantSample>),
    /// Points per series: range queries, and instant queries of a range selector. Sorted by
    /// labels.
    Matrix(Vec<RangeSeries>),
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct InstantSample {
    /// Its labels.
    pub labels: Labels,
    /// Its time, milliseconds.
    pub t_ms: i64,
    /// Its value; means nothing if there is a histogram.
    pub value: f64,
    /// Its histogram, if it is one.
    pub histogram: Option<Arc<FloatHistogram>>,
}

/// One series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times of the points, ascending, milliseconds.
    pub timestamps_ms: Vec<i64>,
    /// Values, as many as times.
    pub values: Vec<f64>,
    /// Points that are histograms, with their times, ascending. No time is in both.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// A remark about a result that is still valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Whether it is a warning or only information.
    pub level: AnnotationLevel,
    /// The text without position, starting with `PromQL warning: ` or `PromQL info: `.
    pub message: String,
    /// What it is about.
    pub span: Span,
    /// Whether its text tells of all steps together, so that those about the parts of a range do not
    /// add up to that about the whole.
    pub is_summary: bool,
}

/// How grave an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// The result may be wrong.
    Warning,
    /// The result may surprise.
    Info,
}

/// Counters of one query's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Samples read from storage.
    pub samples_read: u64,
    /// Series selected.
    pub series_selected: u64,
    /// Most samples held at one time.
    pub peak_samples: u64,
}

/// Everything a query yields.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOutput {
    /// The value.
    pub value: QueryValue,
    /// Warnings and infos, in order of appearance, without doubles.
    pub annotations: Vec<Annotation>,
    /// What it cost.
    pub stats: QueryStats,
    /// What each part of it cost, if a clock was given.
    pub profile: Option<Box<QueryProfile>>,
}
