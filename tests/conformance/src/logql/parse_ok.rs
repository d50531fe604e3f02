//! Queries that can be read, and what they look like then.

use ::logql::syntax::ast::{Expr, StageKind};
use ::logql::syntax::{optimized, parse, pretty_within};
use anyhow::Context;

use super::table::{Case, same};

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let query = case.text("query").context("a case has no query")?;
    Ok(Some(check_query(case, query)))
}

fn check_query(case: &Case, query: &str) -> Result<(), String> {
    let expr = parse(query).map_err(|error| error.to_string())?;
    let canonical = expr.to_string();
    if let Some(want) = case.text("canonical").or_else(|| case.text("canonical_derived")) {
        same("canonical form", &canonical, want)?;
    }
    // Whatever is written must mean what was read, on one line and on many.
    for text in [&canonical, &pretty_within(&expr, 20)] {
        let again = parse(text).map_err(|error| format!("{error} in what was printed: {text}"))?;
        same("canonical form, read again", &again.to_string(), &canonical)?;
    }
    if let Some(want) = case.text("pretty_max20") {
        same("pretty form", &pretty_within(&expr, 20), want)?;
    }
    if let Some(want) = case.value["has_filter"].as_bool() {
        let got = matches!(&expr, Expr::Log(log) if log.has_filter());
        same("has a filter", &got.to_string(), &want.to_string())?;
    }
    if let Some(want) = case.text("reordered_stages") {
        same("order of steps", &ordered(&expr), want)?;
    }
    if let Some(want) = case.text("optimized") {
        let Expr::Metric(metric) = expr else { return Err("it yields no numbers".to_owned()) };
        same("optimized form", &optimized(metric).to_string(), &without_sketches(want))?;
    }
    Ok(())
}

/// Loki estimates `approx_topk` with a sketch and its plan says so; ours is exact and has none.
fn without_sketches(plan: &str) -> String {
    match plan.split_once("CountMinSketchEval<__count_min_sketch__(") {
        Some((before, rest)) => before.to_owned() + &rest.replacen(")>", "", 1),
        None => plan.to_owned(),
    }
}

fn ordered(expr: &Expr) -> String {
    let Expr::Log(log) = expr else { return String::new() };
    let kinds: Vec<String> =
        log.ordered_stages().iter().map(|stage| StageKind::to_string(&stage.kind)).collect();
    kinds.join(" ")
}
