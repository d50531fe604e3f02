//! PromQL 3.x: text in, tree out; tree and series in, values out.
//!
//! `promql` never sees a block, a thread or a clock: series come from a [`Source`], work is
//! spread by a [`Parallel`].

pub mod ast;
mod ast_json;
mod check;
mod completion;
mod documentation;
mod engine;
mod eval;
mod functions;
mod lexer;
mod locality;
mod parse_error;
mod parser;
mod plan;
mod printer;
mod profile;
mod quote;
mod selectors;
mod source;
mod value;

pub use ast_json::ast_json;
pub use completion::{Completion, Place, complete};
pub use documentation::{AGGREGATORS, Doc, documentation, keyword_documentation};
pub use engine::{EvalError, EvalOptions, EvalTime, Evaluation};
pub use eval::{evaluate, histogram_text, too_many_samples};
pub use functions::{FUNCTIONS, Function, find_function};
pub use locality::{Locality, locality};
pub use parse_error::{DurationError, ParseError, Position};
pub use parser::{parse, parse_duration, parse_selector};
pub use printer::{format_duration, pretty};
pub use profile::{NodeKind, ProfileNode, QueryProfile, Strategy};
pub use selectors::{longest_range_ms, selectors_of};
pub use source::{
    Columns, Hints, HistogramSamples, Inline, Memory, Parallel, Reads, SelectRequest, SeriesSet,
    Source, SourceError,
};
pub use value::{
    Annotation, AnnotationLevel, InstantSample, QueryOutput, QueryStats, QueryValue, RangeSeries,
};
