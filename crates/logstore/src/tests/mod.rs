//! Blocks and heads against a naive model: lists of lines that are filtered and sorted.

mod counting;
mod damage;
mod laziness;
mod merging;
mod model;
mod reading;
