//! Paths of `json` and keys of `logfmt` in their expressions.

use ::logql::pipeline::{PathStep, parse_json_path, parse_logfmt_key};
use anyhow::Context;
use serde_json::Value;

use super::table::{Case, same};

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let expression = case.text("expression").context("a case has no expression")?;
    let path = match case.text("kind") {
        Some("json") => parse_json_path(expression),
        Some("logfmt") => {
            parse_logfmt_key(expression).map(|key| key.map(PathStep::Key).into_iter().collect())
        }
        _ => anyhow::bail!("a case has a kind that is unknown"),
    };
    let got = match path {
        Ok(path) => path.iter().map(shown).collect::<Vec<_>>().join(" "),
        Err(error) => format!("error: {error}"),
    };
    let want = match (case.text("error"), &case.value["path"]) {
        (Some(error), _) => format!("error: {error}"),
        (None, Value::Array(steps)) => {
            steps.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
        }
        (None, _) => String::new(),
    };
    Ok(Some(same("path", &got, &want)))
}

fn shown(step: &PathStep) -> String {
    match step {
        PathStep::Key(key) => Value::String(key.clone()).to_string(),
        PathStep::Index(index) => index.to_string(),
    }
}
