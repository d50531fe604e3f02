//! LogQL: text in, tree out; lines in, lines or values out.
//!
//! `syntax` reads queries, `pipeline` does to one line after the other what a query's stages say.
//! `compile` makes the one of the other, `metric` evaluates queries of numbers. The agent's stages use
//! `pipeline` as well. `behind` finds the lines that a number was made of. `level` is what a line says when it arrives, `drain` what lines have in common.

pub mod behind;
pub mod compile;
pub mod drain;
pub mod level;
pub mod metric;
pub mod pipeline;
pub mod syntax;
