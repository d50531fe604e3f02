//! Snippets of Loki's documentation. Not all of them are queries.

use ::logql::syntax::parse;
use anyhow::Context;

use super::table::Case;

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let query = case.text("query").context("a case has no query")?;
    if is_no_query(query) {
        return Ok(None);
    }
    let outcome = parts(query).iter().try_for_each(|part| match parse(part) {
        Ok(_) if is_refused(part) => Err(format!("it can be read but must not: {part}")),
        Err(error) if !is_refused(part) => Err(error.to_string()),
        _ => Ok(()),
    });
    Ok(Some(outcome))
}

/// The queries of a snippet: some show several, with blank lines between and a comment above each.
/// Variables of Grafana for durations become one.
fn parts(snippet: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in snippet.lines() {
        if line.trim().is_empty() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(&line.replace("[$__auto]", "[1m]").replace("[$__interval]", "[1m]"));
            part.push('\n');
        }
    }
    // What follows a blank line without a comment goes on with the query above.
    let mut joined: Vec<String> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if !part.trim_start().starts_with('#') => last.push_str(&part),
            _ => joined.push(part),
        }
    }
    joined
}

fn is_refused(part: &str) -> bool {
    part.trim_start().starts_with("# Invalid")
}

/// Whether a snippet is a part of a query, a rule of grammar, a query with its result, a step Loki
/// does not have, or PromQL.
fn is_no_query(snippet: &str) -> bool {
    let is_part = snippet.starts_with('|') || snippet.starts_with("...");
    let is_grammar = snippet.contains("<vector expr") || snippet.contains("<aggr-op>");
    let has_result = snippet.contains("=>") || snippet.contains("INVALID");
    let is_foreign = snippet.contains("loki_") || snippet.contains("| sample ");
    is_part || is_grammar || has_result || is_foreign
}
