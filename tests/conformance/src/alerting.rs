//! Cases of Alertmanager, of rules and of their templates: each table is a file of JSON lines.

mod notify;
mod rules;
mod templates;

use std::path::Path;

use crate::case::CaseResult;

/// Runs every table that the directory has.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = templates::run(directory)?;
    results.extend(notify::run(directory)?);
    results.extend(rules::run(directory)?);
    Ok(results)
}
