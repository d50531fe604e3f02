//! JMESPath: expressions over JSON. The whole language of the specification, with its functions.
//!
//! Source: <https://jmespath.org/specification.html>. Integers keep all their digits, where a
//! reader into floats would lose some.

mod evaluate;
mod functions;
mod json;
mod lexer;
mod parser;

pub(super) use evaluate::search;
pub(super) use json::{Json, write_text};
pub(super) use parser::{Expression, parse};

#[cfg(test)]
mod tests;
