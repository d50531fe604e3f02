//! Queries that must be refused, and with which words.

use ::logql::compile;
use ::logql::syntax::{parse_bytes, parse_labels, parse_matchers};

use super::table::{Case, same};

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let query = case.bytes("query")?;
    let text = String::from_utf8_lossy(&query);
    let read = match case.text("api") {
        Some("matchers_only") => parse_matchers(&text).map(|_| ()),
        Some("labels") => parse_labels(&text).map(|_| ()),
        // Some faults show only when the pipeline is made.
        _ => parse_bytes(&query).and_then(|expr| compile::check(&expr)),
    };
    Ok(Some(match read {
        Ok(()) => Err("it can be read but must not".to_owned()),
        Err(error) => check_message(case, &error.to_string()),
    }))
}

fn check_message(case: &Case, got: &str) -> Result<(), String> {
    if let Some(want) = case.text("error") {
        same("message", got, want)?;
    }
    if let Some(want) = case.text("error_prefix") {
        let want = format!("{want}{}", case.text("pattern_error").unwrap_or_default());
        if !got.starts_with(&want) {
            return same("start of the message", got, &want);
        }
    }
    match case.text("error_contains") {
        Some(want) if !got.contains(want) => same("part of the message", got, want),
        _ => Ok(()),
    }
}
