//! Runs one query in all the ways Prometheus' own runner does.

use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use ::promql::ast::{Aggregate, At, Binary, Expr};
use ::promql::{
    AnnotationLevel, EvalOptions, EvalTime, Evaluation, Inline, QueryOutput, evaluate, parse,
};
use regex::Regex;

use super::compare;
use super::script::{Eval, Expected, Pattern};
use super::store::Store;

/// Settings of Prometheus' test engine.
const LOOKBACK_MS: i64 = 300_000;
const SUBQUERY_STEP_MS: i64 = 60_000;
const MAX_SAMPLES: usize = 10_000;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Functions that depend on the query's own range, which a range query around the instant would
/// change.
static RANGE_FUNCTIONS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(start|end|range|step)\(\)").expect("a constant pattern compiles")
});

/// Functions whose value depends on the evaluation time even over pinned selectors.
/// Source: `promql.AtModifierUnsafeFunctions`.
const TIME_DEPENDENT: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Whether `eval` holds over the samples of `store`.
pub(crate) fn check(eval: &Eval, store: &Store) -> Result<(), String> {
    let expr = match parse(&eval.query) {
        Ok(expr) => expr,
        Err(error) => return check_failure(eval, &error.message, Some(&error.to_string())),
    };
    match eval.time {
        EvalTime::Range { start_ms, step_ms, .. } => {
            let Some(output) = run(eval, store, &expr, eval.time)? else { return Ok(()) };
            compare::range(&output.value, &eval.result, start_ms, step_ms)
        }
        EvalTime::Instant(t_ms) => {
            check_instant(eval, store, &expr, t_ms, t_ms)?;
            check_pinned(eval, store, &expr, t_ms)?;
            check_within_range(eval, store, &expr, t_ms)
        }
    }
}

/// Evaluates `expr` at `t_ms`; the result must be that expected at `labelled_ms`.
fn check_instant(
    eval: &Eval,
    store: &Store,
    expr: &Expr,
    t_ms: i64,
    labelled_ms: i64,
) -> Result<(), String> {
    let Some(output) = run(eval, store, expr, EvalTime::Instant(t_ms))? else { return Ok(()) };
    compare::instant(&output.value, &eval.result, labelled_ms, eval.expect.ordered)
}

/// With every selector pinned by `@`, the evaluation time must not matter.
fn check_pinned(eval: &Eval, store: &Store, expr: &Expr, t_ms: i64) -> Result<(), String> {
    if RANGE_FUNCTIONS.is_match(&eval.query) {
        return Ok(());
    }
    let mut pinned = expr.clone();
    if !pin(&mut pinned, t_ms) {
        return Ok(());
    }
    let times = if t_ms == 0 {
        vec![-1_000, 0, 1_000]
    } else {
        vec![-10 * t_ms, 0, t_ms / 5, t_ms, 10 * t_ms]
    };
    for at_ms in times {
        check_instant(eval, store, &pinned, at_ms, t_ms)
            .map_err(|reason| format!("pinned and evaluated at {at_ms} ms: {reason}"))?;
    }
    Ok(())
}

/// A range query around the instant must yield the same at that step.
fn check_within_range(eval: &Eval, store: &Store, expr: &Expr, t_ms: i64) -> Result<(), String> {
    let ranged = matches!(eval.result, Expected::Series { range_vector: Some(_), .. });
    let skip = eval.expect.ordered
        || eval.expect.fail.is_some()
        || ranged
        || matches!(eval.result, Expected::String(_))
        || RANGE_FUNCTIONS.is_match(&eval.query);
    if skip {
        return Ok(());
    }
    let time = EvalTime::Range { start_ms: t_ms - 60_000, end_ms: t_ms + 60_000, step_ms: 60_000 };
    let output =
        evaluate_at(store, expr, time).map_err(|error| format!("as a range query: {error}"))?;
    compare::step(&output.value, &eval.result, t_ms)
        .map_err(|reason| format!("as a range query: {reason}"))
}

fn evaluate_at(store: &Store, expr: &Expr, time: EvalTime) -> Result<QueryOutput, String> {
    let options = EvalOptions {
        lookback_ms: LOOKBACK_MS,
        default_subquery_step_ms: SUBQUERY_STEP_MS,
        max_samples: MAX_SAMPLES,
        memory: None,
        cancelled: &NEVER,
        parallel: &Inline,
        clock: None,
        use_start_timestamps: true,
        type_and_unit_labels: false,
    };
    evaluate(&Evaluation { expr, time, source: store, options }).map_err(|error| error.to_string())
}

/// Evaluates and checks everything but the value; `None` if it failed as expected.
fn run(
    eval: &Eval,
    store: &Store,
    expr: &Expr,
    time: EvalTime,
) -> Result<Option<QueryOutput>, String> {
    match evaluate_at(store, expr, time) {
        Err(error) => check_failure(eval, &error, None).map(|()| None),
        Ok(_) if eval.expect.fail.is_some() => Err("it should fail but does not".to_owned()),
        Ok(output) => {
            check_annotations(eval, &output)?;
            Ok(Some(output))
        }
    }
}

/// Checks an error; parse errors may be given with or without their place.
fn check_failure(eval: &Eval, error: &str, placed: Option<&str>) -> Result<(), String> {
    match &eval.expect.fail {
        None => Err(format!("it fails: {}", placed.unwrap_or(error))),
        Some(pattern) if pattern.matches(error) => Ok(()),
        Some(pattern) if placed.is_some_and(|text| pattern.matches(text)) => Ok(()),
        Some(pattern) => Err(format!("it should fail with {pattern:?}, but says: {error}")),
    }
}

fn check_annotations(eval: &Eval, output: &QueryOutput) -> Result<(), String> {
    let of_level = |level| {
        let wanted = output.annotations.iter().filter(move |note| note.level == level);
        wanted.map(|note| note.render(&eval.query)).collect::<Vec<String>>()
    };
    let kinds = [
        ("warning", AnnotationLevel::Warning, &eval.expect.warn, eval.expect.no_warn),
        ("info", AnnotationLevel::Info, &eval.expect.info, eval.expect.no_info),
    ];
    for (kind, level, patterns, none) in kinds {
        let texts = of_level(level);
        if none && !texts.is_empty() {
            return Err(format!("there should be no {kind}, but there is {texts:?}"));
        }
        check_texts(kind, patterns, &texts)?;
    }
    Ok(())
}

/// Every pattern needs a text, and once there are patterns every text needs one.
fn check_texts(kind: &str, patterns: &[Pattern], texts: &[String]) -> Result<(), String> {
    if patterns.is_empty() {
        return Ok(());
    }
    let unmet = patterns.iter().find(|p| !texts.iter().any(|text| p.matches(text)));
    if let Some(pattern) = unmet {
        return Err(format!("expected the {kind} {pattern:?}, got {texts:?}"));
    }
    match texts.iter().find(|text| !patterns.iter().any(|p| p.matches(text))) {
        Some(text) => Err(format!("the {kind} {text:?} is not expected")),
        None => Ok(()),
    }
}

/// Pins every selector and subquery that is not pinned yet; within a subquery its own `@` is
/// enough. `false` if the value depends on the evaluation time nonetheless.
fn pin(expr: &mut Expr, t_ms: i64) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => {
            selector.at.get_or_insert(At::Timestamp(t_ms));
            true
        }
        Expr::Matrix(matrix) => {
            matrix.vector.at.get_or_insert(At::Timestamp(t_ms));
            true
        }
        Expr::Subquery(subquery) => {
            subquery.at.get_or_insert(At::Timestamp(t_ms));
            true
        }
        Expr::Call(call) => {
            !TIME_DEPENDENT.contains(&call.function.name)
                && call.args.iter_mut().all(|arg| pin(arg, t_ms))
        }
        Expr::Aggregate(aggregate) => {
            let Aggregate { expr, param, .. } = aggregate.as_mut();
            pin(expr, t_ms) && param.as_mut().is_none_or(|param| pin(param, t_ms))
        }
        Expr::Binary(binary) => {
            let Binary { left, right, .. } = binary.as_mut();
            pin(left, t_ms) && pin(right, t_ms)
        }
        Expr::Unary(unary) => pin(&mut unary.expr, t_ms),
        Expr::Paren(paren) => pin(&mut paren.expr, t_ms),
    }
}
