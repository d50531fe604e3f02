//! Alloy's configuration language: blocks with attributes whose values are expressions.
//!
//! `lexer` and `parser` make a tree with places, `evaluate` computes what an expression is, and
//! `tree` brings blocks into the form of YAML, so that what reads that reads them as well.
//!
//! Source: the manual of Alloy, "Configuration syntax".

pub(crate) mod ast;
pub(crate) mod evaluate;
mod functions;
mod lexer;
mod parser;
pub(crate) mod tree;

pub(crate) use parser::parse;

#[cfg(test)]
mod tests;
