//! Queries of numbers: lines in, series out.
//!
//! The lines come from a [`Source`], one stream after the other and in any order of time. Counts
//! need no lines where no stage looks at them; what the windows of a query do not tell apart may
//! be handed over as one [`Run`]. Evaluation is synchronous and knows neither threads nor clocks.

mod aggregate;
mod binary;
mod error;
mod evaluator;
mod labels;
mod leaf;
mod matrix;
mod relabel;
mod required;
mod source;
mod values;
mod windows;

pub use error::MetricError;
pub use evaluator::{EvalOptions, EvaluatedSeries, Evaluation, evaluate};
pub use labels::SampleLabels;
pub use source::{Entry, MetadataWanted, Request, Run, Sink, Source};
pub use windows::Steps;
