//! Relabeling: rules that rewrite, keep or drop label sets
//! (Prometheus `model/relabel/relabel.go`).
//!
//! A rule is checked and compiled once, by [`RelabelConfig::new`]. [`relabel`] then works on a
//! [`LabelBuffer`], which the caller keeps for all series of a scrape: nothing is allocated once
//! the buffer has grown to the longest series.

mod apply;
mod buffer;
mod rule;

use crate::prometheus::read_rules;
use crate::yaml::Document;
use crate::{Faults, NameValidation};

pub use apply::{relabel, relabel_one};
pub use buffer::LabelBuffer;
pub use model::regex::{Regex, RegexError};
pub use rule::{Action, RelabelConfig, RelabelError, RelabelFields};

/// Reads a YAML or JSON text that is a list of rules, as they stand below `relabel_configs`.
///
/// # Errors
/// Every fault with its place; `file` is the name they bear.
pub fn parse_rules(
    file: &str,
    bytes: &[u8],
    names: NameValidation,
) -> Result<Vec<RelabelConfig>, Faults> {
    let document = Document::parse(file, bytes)?;
    let (rules, faults) = read_rules(&document, names);
    if faults.is_empty() { Ok(rules) } else { Err(Faults::new(faults)) }
}
