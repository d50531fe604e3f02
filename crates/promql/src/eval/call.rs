//! Function calls.

use std::f64::consts::PI;

use super::aggregate::{Fold, fold, quantile_faults, warn_about_quantiles};
use super::arithmetic::{larger, smaller};
use super::grid::Grid;
use super::grouping::LabelChoice;
use super::histogram::{self, Question};
use super::native_histogram::{Summary, summarise};
use super::rollup::RangeFunction;
use super::row_map::RowMap;
use super::rows::{ABSENT, Rows, ScalarRow, is_absent};
use super::selected::Remark;
use super::stream::Stream;
use super::{
    Evaluator, Shown, calendar, info, math, relabel, single_row, sorting, string, text, wrong_type,
};
use crate::ast::{Span, StringLiteral, ValueType};
use crate::engine::EvalError;
use crate::plan::{CallPlan, Kind, Plan, RangePlan};
use model::Labels;

/// A call that yields a scalar.
pub(super) fn scalar(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    grid: &Grid,
) -> Result<ScalarRow, EvalError> {
    let arg = |index: usize| argument(call, index);
    let two = |f: fn(f64, f64) -> f64| {
        let left = evaluator.scalar(arg(0)?, grid)?;
        Ok(left.zip(evaluator.scalar(arg(1)?, grid)?, f))
    };
    match call.function.name {
        "pi" => Ok(ScalarRow::Constant(PI)),
        "time" => {
            let seconds = |step| grid.time_ms(step) as f64 / 1000.0;
            ScalarRow::from_steps(&evaluator.context, (0..grid.steps()).map(seconds))
        }
        "min_of" => two(smaller),
        "max_of" => two(larger),
        "scalar" => {
            let mut rows = evaluator.vector(arg(0)?, grid)?.materialise(&evaluator.context)?;
            rows.drop_histograms();
            let only = only_values(&rows, grid.steps());
            ScalarRow::from_steps(&evaluator.context, only.into_iter())
        }
        other => Err(unknown(other)),
    }
}

/// The value of the only element at each step; NaN if there are none or several.
fn only_values(rows: &Rows, steps: usize) -> Vec<f64> {
    let mut only = vec![ABSENT; steps];
    let mut several = vec![false; steps];
    for index in 0..rows.len() {
        for (step, &value) in rows.row(index).iter().enumerate() {
            if !is_absent(value) {
                several[step] |= !is_absent(only[step]);
                only[step] = value;
            }
        }
    }
    only.iter()
        .zip(several)
        .map(|(&value, several)| if several || is_absent(value) { f64::NAN } else { value })
        .collect()
}

/// A call that yields a vector.
pub(super) fn vector(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    span: Span,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let name = call.function.name;
    if let Some(function) = math::find(name) {
        return Ok(evaluator.vector(argument(call, 0)?, grid)?.map(RowMap::Math(function)));
    }
    if let Some(function) = calendar::find(name) {
        return date(evaluator, call, function, grid);
    }
    if let Some(function) = RangeFunction::from_name(name) {
        return over_range(evaluator, call, function, grid);
    }
    let scalar = |index: usize| evaluator.scalar(argument(call, index)?, grid);
    let input = || evaluator.vector(argument(call, 0)?, grid);
    if let Some(summary) = Summary::from_name(name) {
        let rows = input()?.materialise(&evaluator.context)?;
        return Ok(Stream::from_rows(summarise(rows, summary)));
    }
    match name {
        "vector" => {
            let value = scalar(0)?;
            let values = (0..grid.steps()).map(|step| value.at(step)).collect();
            single_row(&evaluator.context, Labels::empty(), values)
        }
        "clamp" => Ok(input()?.map(RowMap::Clamp { min: scalar(1)?, max: scalar(2)? })),
        "clamp_min" => {
            let max = ScalarRow::Constant(f64::INFINITY);
            Ok(input()?.map(RowMap::Clamp { min: scalar(1)?, max }))
        }
        "clamp_max" => {
            let min = ScalarRow::Constant(f64::NEG_INFINITY);
            Ok(input()?.map(RowMap::Clamp { min, max: scalar(1)? }))
        }
        "round" => {
            let to_nearest =
                if call.args.len() > 1 { scalar(1)? } else { ScalarRow::Constant(1.0) };
            Ok(input()?.map(RowMap::Round { to_nearest }))
        }
        "timestamp" => timestamp(evaluator, argument(call, 0)?, grid),
        "start_timestamp" => match &argument(call, 0)?.unpinned().kind {
            Kind::Instant(selector) => {
                evaluator.instant_selector(selector, span, grid, Shown::Start)
            }
            // What is computed began nowhere.
            _ => Rows::empty(&evaluator.context, grid.steps()).map(Stream::from_rows),
        },
        "absent" | "absent_over_time" => absent(evaluator, call, grid),
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
            sort(evaluator, call, span, grid)
        }
        "label_replace" | "label_join" => change_labels(evaluator, call, grid),
        "info" => info::evaluate(evaluator, call, grid),
        "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
            ask_histograms(evaluator, call, grid)
        }
        other => Err(unknown(other)),
    }
}

fn unknown(name: &str) -> EvalError {
    EvalError::Execution(format!("the function {name}() is not supported"))
}

fn argument<'p, 'a>(call: &'p CallPlan<'a>, index: usize) -> Result<&'p Plan<'a>, EvalError> {
    call.args.get(index).ok_or_else(|| {
        EvalError::Execution(format!(
            "{}() needs more than {} argument(s)",
            call.function.name,
            call.args.len()
        ))
    })
}

fn date(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    function: fn(f64) -> f64,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    if let Some(arg) = call.args.first() {
        return Ok(evaluator.vector(arg, grid)?.map(RowMap::Math(function)));
    }
    let values =
        (0..grid.steps()).map(|step| function(grid.time_ms(step) as f64 / 1000.0)).collect();
    single_row(&evaluator.context, Labels::empty(), values)
}

fn timestamp(evaluator: &Evaluator<'_>, arg: &Plan<'_>, grid: &Grid) -> Result<Stream, EvalError> {
    // Directly over a selector it is the sample's time, over anything else that of the step.
    match &arg.unpinned().kind {
        Kind::Instant(selector) => {
            evaluator.instant_selector(selector, arg.span, grid, Shown::Time)
        }
        _ => Ok(evaluator.vector(arg, grid)?.map(RowMap::EvaluationTime(*grid))),
    }
}

fn over_range(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    function: RangeFunction,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let is_range = |plan: &&Plan<'_>| plan.value_type() == ValueType::Matrix;
    let Some(range) = call.args.iter().find(is_range) else {
        return Err(wrong_type("range vector"));
    };
    let params: Vec<ScalarRow> = call
        .args
        .iter()
        .filter(|arg| !is_range(arg))
        .map(|arg| evaluator.scalar(arg, grid))
        .collect::<Result<_, _>>()?;
    let remark = match (function, params.first()) {
        (RangeFunction::Quantile, Some(phi)) => {
            let span = argument(call, 0)?.span;
            Remark::Always(quantile_faults(phi, span))
        }
        _ => Remark::None,
    };
    let span = place_of(argument(call, 0)?);
    evaluator.over_range((function, call.function.name), range, params, span, grid, remark)
}

/// Where remarks about a range stand. Prometheus computes subqueries before the function, and by
/// then has forgotten where they stood: what it tells of them is at the beginning of the query.
fn place_of(range: &Plan<'_>) -> Span {
    match &range.unpinned().kind {
        Kind::Range(RangePlan::Subquery(_)) => Span::default(),
        _ => range.span,
    }
}

fn absent(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let arg = argument(call, 0)?;
    let input = if arg.value_type() == ValueType::Matrix {
        let present = (RangeFunction::Present, call.function.name);
        evaluator.over_range(present, arg, Vec::new(), arg.span, grid, Remark::None)?
    } else {
        evaluator.vector(arg, grid)?
    };
    let nothing = LabelChoice::only(&[]);
    let present = fold(&evaluator.context, &input, &nothing, Fold::Group, arg.span)?;
    let mut values = vec![1.0; grid.steps()];
    if present.len() > 0 {
        for (value, present) in values.iter_mut().zip(present.row(0)) {
            *value = if is_absent(*present) { 1.0 } else { ABSENT };
        }
    }
    let matchers = match &arg.unpinned().kind {
        Kind::Instant(selector) | Kind::Range(RangePlan::Selector { selector, .. }) => {
            selector.selector.matchers.as_slice()
        }
        _ => &[],
    };
    single_row(&evaluator.context, relabel::absent_labels(matchers), values)
}

fn sort(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    span: Span,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let name = call.function.name;
    let mut rows = evaluator.vector(argument(call, 0)?, grid)?.materialise(&evaluator.context)?;
    if matches!(name, "sort" | "sort_desc") {
        // Histograms have no order.
        rows.drop_histograms();
    }
    if grid.steps() != 1 {
        evaluator.context.warn(
            "sort is ineffective for range queries since results are always ordered by labels",
            span,
        );
        return Ok(Stream::from_rows(rows));
    }
    match name {
        "sort" => sorting::by_value(&mut rows, false),
        "sort_desc" => sorting::by_value(&mut rows, true),
        _ => {
            let names = call.args[1..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
            sorting::by_labels(&mut rows, &names, name == "sort_by_label_desc");
        }
    }
    Ok(Stream::from_rows(rows))
}

fn change_labels(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    // Only labels are changed, so histograms pass.
    let input = evaluator.vector(argument(call, 0)?, grid)?;
    let mut rows = input.materialise(&evaluator.context)?;
    let params = call.args.get(1..).unwrap_or_default().iter().map(string);
    let params: Vec<&StringLiteral> = params.collect::<Result<_, _>>()?;
    match (call.function.name, params.as_slice()) {
        ("label_replace", [target, replacement, source, pattern]) => {
            relabel::replace(&mut rows, target, &replacement.value, &source.value, &pattern.value)?;
        }
        ("label_join", [target, separator, sources @ ..]) => {
            relabel::join(&mut rows, target, &separator.value, sources)?;
        }
        (name, _) => return Err(unknown(name)),
    }
    Ok(Stream::from_rows(rows))
}

fn ask_histograms(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let arg = |index: usize| argument(call, index);
    let scalar = |index: usize| evaluator.scalar(arg(index)?, grid);
    let (buckets, questions) = match call.function.name {
        "histogram_quantile" => {
            let phi = scalar(0)?;
            warn_about_quantiles(evaluator, &phi, arg(0)?.span);
            (arg(1)?, vec![Question::Quantile(phi)])
        }
        "histogram_fraction" => {
            (arg(2)?, vec![Question::Fraction { lower: scalar(0)?, upper: scalar(1)? }])
        }
        _ => {
            let label = text(arg(1)?)?;
            let mut questions = Vec::with_capacity(call.args.len());
            for index in 2..call.args.len() {
                let phi = scalar(index)?;
                warn_about_quantiles(evaluator, &phi, arg(index)?.span);
                questions.push(Question::Labelled { label: label.to_owned(), phi });
            }
            (arg(0)?, questions)
        }
    };
    let input = evaluator.vector(buckets, grid)?.materialise(&evaluator.context)?;
    let rows = histogram::evaluate(&evaluator.context, &input, &questions, grid, buckets.span)?;
    Ok(Stream::from_rows(rows))
}
