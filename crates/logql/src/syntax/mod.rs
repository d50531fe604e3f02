//! The language: lexer, tree, parser, printer.

pub mod ast;
mod check;
pub mod completion;
mod duration;
mod error;
mod lexer;
mod number;
mod order;
mod parser;
mod pretty;
mod printer;
mod size;

pub use check::MAX_HEIGHT;
pub use error::ParseError;
pub use order::optimized;
pub use parser::{
    MAX_QUERY_BYTES, parse, parse_bytes, parse_labels, parse_matchers, parse_metric,
    parse_unchecked, tokens,
};
pub use pretty::{MAX_COLUMNS, pretty, pretty_within};
