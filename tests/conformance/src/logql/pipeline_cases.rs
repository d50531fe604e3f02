//! Stages, a line and its labels, and what becomes of both.

use std::collections::BTreeMap;

use ::logql::compile;
use ::logql::pipeline::{Entry, Pipeline, Stage};
use ::logql::syntax::ast::Expr;
use anyhow::Context;
use base64::Engine as _;
use serde_json::Value;

use super::table::{Case, same};

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let stages = case.text("stages").context("a case has no stages")?;
    let stages = match stages_of(&format!("{{conformance=\"1\"}} {stages}")) {
        Ok(stages) => stages,
        Err(error) => return Ok(Some(Err(error))),
    };
    let line = line(case)?;
    let stream = pairs(&case.value["stream_labels"]);
    let mut metadata = pairs(&case.value["structured_metadata"]);
    // An error that is there before is what structured metadata of its name make.
    metadata.extend(pairs(&case.value["preset"]));
    let timestamp_ns = case.text("ts_ns").unwrap_or("0").parse().context("read ts_ns")?;
    let mut pipeline = Pipeline::new(stages, 1);
    pipeline.set_now_ns(1_700_000_000_000_000_000);
    pipeline.set_stream(stream.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let metadata = metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let entry = pipeline.process(timestamp_ns, &line, metadata);
    Ok(Some(compare(case, entry)))
}

/// The stages of a log query.
fn stages_of(query: &str) -> Result<Vec<Stage>, String> {
    match ::logql::syntax::parse(query) {
        Ok(Expr::Log(log)) => compile::stages(&log).map_err(|error| error.to_string()),
        Ok(Expr::Metric(_)) => Err("it is a metric query".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The line of a case, which may be no UTF-8.
pub(super) fn line(case: &Case) -> anyhow::Result<Vec<u8>> {
    if let Some(encoded) = case.text("line_b64") {
        return base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .context("a case has a line that is no base64");
    }
    Ok(case.text("line").unwrap_or_default().as_bytes().to_vec())
}

/// Names and values of an object.
pub(super) fn pairs(value: &Value) -> Vec<(String, String)> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    object.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn compare(case: &Case, entry: Option<Entry<'_>>) -> Result<(), String> {
    let expected = &case.value["expect"];
    let Some(entry) = entry else {
        return if expected["keep"] == Value::Bool(false) {
            Ok(())
        } else {
            Err("the line is dropped".to_owned())
        };
    };
    if expected["keep"] == Value::Bool(false) {
        return Err("the line stays".to_owned());
    }
    if let Some(want) = expected["line"].as_str() {
        same("line", &String::from_utf8_lossy(entry.line()), want)?;
    }
    if expected["labels"].is_object() {
        let mut got = BTreeMap::new();
        entry.for_each_label(|name, value, _| {
            got.insert(name.to_owned(), value.to_owned());
        });
        let want: BTreeMap<String, String> = pairs(&expected["labels"]).into_iter().collect();
        same("labels", &format!("{got:?}"), &format!("{want:?}"))?;
    }
    Ok(())
}
