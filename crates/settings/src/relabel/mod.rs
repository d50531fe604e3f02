//! Relabeling: rules that rewrite, keep or drop label sets
//! (Prometheus `model/relabel/relabel.go`).
//!
//! A rule is checked and compiled once, by [`RelabelConfig::new`]. [`relabel`] then works on a
//! [`LabelBuffer`], which the caller keeps for all series of a scrape: nothing is allocated once
//! the buffer has grown to the longest series.

mod apply;
mod buffer;
mod go_regex;
mod regex;
mod rule;
mod template;

pub use apply::{relabel, relabel_one};
pub use buffer::LabelBuffer;
pub use regex::{Regex, RegexError};
pub use rule::{Action, RelabelConfig, RelabelError, RelabelFields};
