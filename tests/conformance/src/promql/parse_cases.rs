//! The table of texts that are and that are not PromQL.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::case::CaseResult;

/// Parses every input of the table at `path`.
pub(crate) fn run(path: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let cases: Vec<Value> = serde_json::from_str(&text).context("read the parse cases")?;
    cases.iter().enumerate().map(|(index, case)| check(path, index, case)).collect()
}

fn check(path: &Path, index: usize, case: &Value) -> anyhow::Result<CaseResult> {
    let input = case["input"].as_str().context("a parse case has no input")?;
    let must_fail = case["fail"].as_bool().context("a parse case does not say what to expect")?;
    let outcome = match (::promql::parse(input), must_fail) {
        (Ok(_), false) | (Err(_), true) => Ok(()),
        (Ok(_), true) => Err("it parses but must not".to_owned()),
        (Err(error), false) => Err(error.to_string()),
    };
    // The table has no lines, so the number of the case stands in.
    Ok(CaseResult { name: input.to_owned(), file: path.to_owned(), line: index + 1, outcome })
}
