//! Lines, queries over them, and what these come to.

mod lines;

use std::path::Path;

use ::logql::metric::{EvalOptions, EvaluatedSeries, Evaluation, SampleLabels, Steps, evaluate};
use ::logql::syntax::{ast::Expr, parse};
use anyhow::Context;
use serde_json::Value;

use self::lines::Lines;
use super::table::Table;
use crate::case::CaseResult;

/// What times in the table count from: the start of 2026, in nanoseconds.
const EPOCH_NS: i64 = 1_767_225_600 * 1_000_000_000;

/// Runs every query of every scenario.
pub(super) fn run(path: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for case in Table::read(path)?.cases {
        let lines = Lines::read(&case.value["load"])
            .with_context(|| format!("read the lines of case {}", case.id))?;
        let evals = case.value["evals"].as_array().context("a scenario has no queries")?;
        for eval in evals {
            let query = eval["query"].as_str().context("a query is no text")?;
            let source_line = eval["source_line"].as_i64().unwrap_or_default();
            let name = format!("{} {source_line} {} {query}", case.id, eval["type"]);
            let outcome = check(eval, query, &lines)
                .with_context(|| format!("run a query of case {}", case.id))?;
            results.push(CaseResult { name, file: path.to_owned(), line: case.line, outcome });
        }
    }
    Ok(results)
}

fn time(eval: &Value, field: &str) -> anyhow::Result<i64> {
    eval[field].as_i64().map(|time| EPOCH_NS + time).with_context(|| format!("no {field}"))
}

fn check(eval: &Value, query: &str, lines: &Lines) -> anyhow::Result<Result<(), String>> {
    let steps = match eval["type"].as_str() {
        Some("instant") => Steps::instant(time(eval, "at_ns")?),
        _ => {
            let step = eval["step_ns"].as_i64().context("no step_ns")?;
            Steps::range(time(eval, "from_ns")?, time(eval, "to_ns")?, step)
        }
    };
    let expect = &eval["expect"];
    let fails = expect["fail"].as_bool().unwrap_or(false);
    Ok(match (run_query(query, steps, lines), fails) {
        (Ok(got), false) => compare(expect, &got, steps.count()),
        (Ok(got), true) => Err(format!("it must fail but yields {got:?}")),
        (Err(error), false) => Err(error),
        (Err(error), true) => check_message(expect, &error)?,
    })
}

fn run_query(query: &str, steps: Steps, lines: &Lines) -> Result<Evaluation, String> {
    let Expr::Metric(expr) = parse(query).map_err(|error| error.to_string())? else {
        return Err("it yields no numbers".to_owned());
    };
    let options = EvalOptions {
        max_series: 500,
        max_values: 1 << 24,
        now_ns: EPOCH_NS,
        zones: model::NO_ZONES,
        seed: 7,
    };
    evaluate(&expr, steps, lines, &options).map_err(|error| error.to_string())
}

fn check_message(expect: &Value, error: &str) -> anyhow::Result<Result<(), String>> {
    if let Some(wanted) = expect["error_contains"].as_str()
        && !error.contains(wanted)
    {
        return Ok(Err(format!("want a message with {wanted}\ngot  {error}")));
    }
    if let Some(wanted) = expect["error_regex"].as_str()
        && !regex::Regex::new(wanted)?.is_match(error)
    {
        return Ok(Err(format!("want a message like {wanted}\ngot  {error}")));
    }
    Ok(Ok(()))
}

fn compare(expect: &Value, got: &Evaluation, steps: usize) -> Result<(), String> {
    let series: Vec<EvaluatedSeries> = match got {
        Evaluation::Series(series) => series.clone(),
        Evaluation::Scalar(value) => {
            if let Some(wanted) = number(&expect["scalar"]) {
                return if is_close(*value, wanted) {
                    Ok(())
                } else {
                    Err(format!("want {wanted}\ngot  {value}"))
                };
            }
            vec![EvaluatedSeries {
                labels: SampleLabels::default(),
                values: vec![Some(*value); steps],
            }]
        }
    };
    let mut wanted: Vec<EvaluatedSeries> =
        expect["series"].as_array().into_iter().flatten().map(wanted_series).collect();
    if !expect["ordered"].as_bool().unwrap_or(false) {
        wanted.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    let mut found = series;
    if !expect["ordered"].as_bool().unwrap_or(false) {
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    let is_same = wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| {
            wanted.labels == found.labels
                && wanted.values.len() == found.values.len()
                && wanted.values.iter().zip(&found.values).all(|pair| match pair {
                    (None, None) => true,
                    (Some(wanted), Some(found)) => is_close(*wanted, *found),
                    _ => false,
                })
        });
    if is_same { Ok(()) } else { Err(format!("want {}\ngot  {}", shown(&wanted), shown(&found))) }
}

fn wanted_series(value: &Value) -> EvaluatedSeries {
    let labels = value["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let labels = SampleLabels::from_pairs(labels);
    let values = value["values"].as_array().into_iter().flatten().map(number).collect();
    EvaluatedSeries { labels, values }
}

/// A number, or a text that is one: `NaN`, `+Inf`.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn is_close(left: f64, right: f64) -> bool {
    left == right
        || left.is_nan() && right.is_nan()
        || (left - right).abs() <= 1e-9 * left.abs().max(right.abs())
}

fn shown(series: &[EvaluatedSeries]) -> String {
    let shown: Vec<String> =
        series.iter().map(|series| format!("{} {:?}", series.labels, series.values)).collect();
    format!("[{}]", shown.join("; "))
}
