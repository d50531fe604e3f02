//! Blocks of logs.
//!
//! `logstore` never sees a thread or a clock.

mod filter;
mod grams;
mod groups;
mod needle;
mod skip;
mod tokens;
mod words;

pub use groups::GroupSet;
pub use skip::{SkipIndex, SkipWriter};
