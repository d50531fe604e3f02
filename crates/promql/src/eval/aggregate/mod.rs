//! Aggregations.

mod count_values;
mod fold;
mod histogram_fold;
mod limit;
mod quantile;
mod top;

pub(crate) use fold::{Fold, fold};

use super::Evaluator;
use super::context::Context;
use super::format::shortest;
use super::grid::Grid;
use super::grouping::LabelChoice;
use super::profiler::NodeId;
use super::rows::{Rows, ScalarRow};
use super::stream::Stream;
use crate::ast::{AggregateOp, Span};
use crate::engine::EvalError;
use crate::plan::{AggregatePlan, Kind, Plan};
use crate::profile::Strategy;
use crate::value::Annotation;

/// Evaluates an aggregation at all steps.
pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    plan: &AggregatePlan<'_>,
    span: Span,
    (grid, node): (&Grid, NodeId),
) -> Result<Stream, EvalError> {
    let choice = if plan.without {
        LabelChoice::without(plan.grouping)
    } else {
        LabelChoice::only(plan.grouping)
    };
    let context = &evaluator.context;
    if plan.op == AggregateOp::CountValues {
        let label = count_values_label(plan)?;
        let input = evaluator.vector(&plan.input, grid)?.materialise(context)?;
        return count_values::evaluate(context, &input, plan, label).map(Stream::from_rows);
    }
    let param = match &plan.param {
        Some(param) => Some((evaluator.scalar(param, grid)?, param.span)),
        None => None,
    };
    let input = evaluator.vector(&plan.input, grid)?;
    if passes_once(plan.op) && input.is_lazy() {
        context.note_strategy(node, Strategy::Fused);
    }
    let rows = match (plan.op, param) {
        (AggregateOp::Topk | AggregateOp::Bottomk, Some((k, _))) => {
            let Some(k) = counts(&k)? else { return nothing(evaluator, input, grid) };
            let largest = plan.op == AggregateOp::Topk;
            let (rows, ignored) = top::evaluate(context, input, &choice, &k, largest)?;
            if ignored {
                note_ignored(context, plan.op, span);
            }
            rows
        }
        (AggregateOp::Limitk, Some((k, _))) => {
            let Some(k) = counts(&k)? else { return nothing(evaluator, input, grid) };
            limit::first_k(context, input, &choice, &k)?
        }
        (AggregateOp::LimitRatio, Some((ratio, span))) => {
            if !check_ratio(evaluator, &ratio, span)? {
                return nothing(evaluator, input, grid);
            }
            limit::ratio(context, input, &ratio)?
        }
        (AggregateOp::Quantile, Some((phi, span))) => {
            let mut rows = input.materialise(context)?;
            if rows.drop_histograms() {
                note_ignored(context, plan.op, plan.input.span);
            }
            // Prometheus compares the largest and the smallest φ of all steps, which NaN makes NaN.
            let faults = quantile_faults(&phi, span);
            let has_nan = phi.values().iter().any(|value| value.is_nan());
            for fault in faults.into_iter().take(if has_nan { 1 } else { usize::MAX }) {
                context.note(|notes| notes.add(fault));
            }
            quantile::evaluate(context, &rows, &choice, &phi)?
        }
        (op, _) => {
            let Some(op) = Fold::from_op(op) else {
                return Err(EvalError::Execution(format!(
                    "the aggregation {op:?} needs a parameter"
                )));
            };
            fold(context, &input, &choice, op, plan.input.span)?
        }
    };
    Ok(Stream::from_rows(rows))
}

/// Whether series are passed once and none of them is kept.
fn passes_once(op: AggregateOp) -> bool {
    Fold::from_op(op).is_some() || matches!(op, AggregateOp::Topk | AggregateOp::Bottomk)
}

/// Says that an aggregation passed over histograms.
fn note_ignored(context: &Context<'_>, op: AggregateOp, span: Span) {
    context.inform(format_args!("ignored histogram in {} aggregation", op.as_str()), span);
}

/// Keeps nothing of `input`, which is computed all the same for its errors and remarks.
fn nothing(evaluator: &Evaluator<'_>, input: Stream, grid: &Grid) -> Result<Stream, EvalError> {
    input.materialise(&evaluator.context)?;
    Rows::empty(&evaluator.context, grid.steps()).map(Stream::from_rows)
}

fn count_values_label<'p>(plan: &'p AggregatePlan<'_>) -> Result<&'p str, EvalError> {
    match plan.param.as_ref().map(Plan::unpinned) {
        Some(Plan { kind: Kind::Text(label), .. }) if label.value.is_empty() => {
            Err(EvalError::Execution("invalid label name \"\"".to_owned()))
        }
        Some(Plan { kind: Kind::Text(label), .. }) => Ok(&label.value),
        _ => Err(EvalError::Execution("count_values needs the name of a label".to_owned())),
    }
}

/// How many elements to keep at each step; `None` if none at any step.
fn counts(k: &ScalarRow) -> Result<Option<Vec<usize>>, EvalError> {
    // The largest and smallest floats that are 64 bit integers, as in Prometheus.
    const MAX: f64 = 9_223_372_036_854_774_784.0;
    const MIN: f64 = -9_223_372_036_854_775_808.0;
    let error = |text: String| Err(EvalError::Execution(text));
    let values = k.values();
    if !values.iter().any(|value| *value >= 1.0 || value.is_nan()) {
        return Ok(None);
    }
    for &value in values {
        if value.is_nan() {
            return error("Parameter value is NaN".to_owned());
        }
        if value <= MIN {
            return error(format!("Scalar value {} underflows int64", shortest(value)));
        }
        if value >= MAX {
            return error(format!("Scalar value {} overflows int64", shortest(value)));
        }
    }
    Ok(Some(values.iter().map(|value| value.max(0.0) as usize).collect()))
}

/// Whether any step asks for elements at all.
fn check_ratio(
    evaluator: &Evaluator<'_>,
    ratio: &ScalarRow,
    span: Span,
) -> Result<bool, EvalError> {
    let values = ratio.values();
    if values.iter().all(|value| *value == 0.0) {
        return Ok(false);
    }
    if values.iter().any(|value| value.is_nan()) {
        return Err(EvalError::Execution("Ratio value is NaN".to_owned()));
    }
    let (min, max) = extremes(values);
    for (outside, value, border) in [(max > 1.0, max, 1), (min < -1.0, min, -1)] {
        if outside {
            let value = shortest(value);
            let note = Annotation::warning(
                format_args!(
                    "ratio value should be between -1 and 1, got {value}, capping to {border}"
                ),
                span,
            );
            let note = note.about_all_steps(values.len() > 1);
            evaluator.context.note(|notes| notes.add(note));
        }
    }
    Ok(true)
}

/// Warns about quantiles outside of 0…1.
pub(super) fn warn_about_quantiles(evaluator: &Evaluator<'_>, phi: &ScalarRow, span: Span) {
    for fault in quantile_faults(phi, span) {
        evaluator.context.note(|notes| notes.add(fault));
    }
}

/// What is wrong with quantiles outside of 0…1.
pub(super) fn quantile_faults(phi: &ScalarRow, span: Span) -> Vec<Annotation> {
    let values = phi.values();
    let (min, max) = extremes(values);
    let nan = values.iter().any(|value| value.is_nan());
    [(nan, f64::NAN), (max > 1.0, max), (min < 0.0, min)]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, value)| {
            let value = shortest(value);
            let text = format!("quantile value should be between 0 and 1, got {value}");
            Annotation::warning(text, span).about_all_steps(values.len() > 1)
        })
        .collect()
}

/// Smallest and largest value; NaNs are passed over.
fn extremes(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), &value| {
        (min.min(value), max.max(value))
    })
}
