//! PromQL 3.x: text in, tree out; tree and series in, values out.
//!
//! `promql` never sees a block, a thread or a clock: series come from a [`Source`], work is
//! spread by a [`Parallel`].

pub mod ast;
mod check;
mod engine;
mod functions;
mod lexer;
mod parse_error;
mod parser;
mod printer;
mod quote;
mod source;
mod value;

pub use engine::{EvalError, EvalOptions, EvalTime, Evaluation};
pub use functions::{FUNCTIONS, Function, find_function};
pub use parse_error::{ParseError, Position};
pub use parser::{parse, parse_duration, parse_selector};
pub use printer::pretty;
pub use source::{Columns, Inline, Parallel, SelectRequest, SeriesSet, Source, SourceError};
pub use value::{
    Annotation, AnnotationLevel, InstantSample, QueryOutput, QueryStats, QueryValue, RangeSeries,
};
