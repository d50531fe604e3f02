//! Functions over ranges of whole windows, of which rows tell what is needed. Counts, extremes, first
//! and last values are those of the samples; sums are rounded once for each row.

use model::RollupRow;

use super::counters::EXTRAPOLATION_THRESHOLD;
use super::{RangeFunction, View};
use crate::eval::kahan;
use crate::eval::rows::ABSENT;

/// Computes all steps; `rows` are those of `view`, whose times and values are their last ones.
pub(super) fn evaluate(
    function: RangeFunction,
    view: &View<'_>,
    rows: &[RollupRow],
    out: &mut Vec<f64>,
) {
    let windows = view.windows.starts().iter().map(|start| *start as usize).collect::<Vec<_>>();
    view.each(out, |step, _, values| {
        let rows = &rows[windows[step]..][..values.len()];
        of_range(function, view, step, rows)
    });
}

fn of_range(function: RangeFunction, view: &View<'_>, step: usize, rows: &[RollupRow]) -> f64 {
    let ([first, ..], [.., last]) = (rows, rows) else { return ABSENT };
    let seconds = |t_ms: i64| t_ms as f64 / 1000.0;
    match function {
        RangeFunction::Count => count(rows) as f64,
        RangeFunction::Sum => sum(rows),
        RangeFunction::Avg => mean(rows),
        RangeFunction::First => first.first,
        RangeFunction::Last => last.last,
        RangeFunction::Max => rows.iter().fold(f64::NAN, |max, row| max.max(row.max)),
        RangeFunction::Min => rows.iter().fold(f64::NAN, |min, row| min.min(row.min)),
        RangeFunction::Present => 1.0,
        RangeFunction::Resets => {
            let within: u64 = rows.iter().map(|row| u64::from(row.resets)).sum();
            let between = rows.windows(2).filter(|pair| pair[1].first < pair[0].last).count();
            (within + between as u64) as f64
        }
        RangeFunction::TimeOfFirst => seconds(first.first_ms),
        RangeFunction::TimeOfLast => seconds(last.last_ms),
        RangeFunction::Delta => {
            let change = last.last - first.first;
            extrapolated(view, step, rows, change, false, 1.0)
        }
        RangeFunction::Increase => extrapolated(view, step, rows, increase(rows), true, 1.0),
        RangeFunction::Rate => {
            let divisor = view.range_ms as f64 / 1000.0;
            extrapolated(view, step, rows, increase(rows), true, divisor)
        }
        // No rows are asked for.
        _ => ABSENT,
    }
}

fn count(rows: &[RollupRow]) -> u64 {
    rows.iter().map(|row| u64::from(row.count)).sum()
}

fn sum(rows: &[RollupRow]) -> f64 {
    let (mut sum, mut compensation) = (0.0, 0.0);
    for row in rows {
        (sum, compensation) = kahan::add(row.sum, sum, compensation);
    }
    if sum.is_finite() { sum + compensation } else { sum }
}

fn mean(rows: &[RollupRow]) -> f64 {
    let (sum, count) = (sum(rows), count(rows) as f64);
    if sum.is_infinite() {
        // It may be the sum alone that is too large.
        return rows.iter().map(|row| row.sum / count).sum();
    }
    sum / count
}

/// How much a counter rose between its first and last sample.
fn increase(rows: &[RollupRow]) -> f64 {
    let mut change = rows[rows.len() - 1].last - rows[0].first;
    let mut before: Option<&RollupRow> = None;
    let all_finite = rows.iter().all(|row| row.max < f64::INFINITY && row.min > f64::NEG_INFINITY);
    for row in rows {
        if change.is_infinite() && all_finite {
            // Adding sample by sample would have stayed there, while the values of a row may have
            // overflowed to the other side.
            return change;
        }
        if let Some(before) = before.filter(|before| row.first < before.last) {
            change += before.last;
        }
        change += row.before_resets;
        before = Some(row);
    }
    change
}

/// A change extrapolated to the borders of the range, as `rate` does it.
///
/// Source: `extrapolatedRate` of Prometheus' `promql/functions.go`.
fn extrapolated(
    view: &View<'_>,
    step: usize,
    rows: &[RollupRow],
    change: f64,
    is_counter: bool,
    divisor: f64,
) -> f64 {
    let samples = count(rows);
    if samples < 2 {
        return ABSENT;
    }
    let (range_start, range_end) = view.range_of(step);
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    let seconds = |from: i64, to: i64| to.wrapping_sub(from) as f64 / 1000.0;
    let sampled = seconds(first.first_ms, last.last_ms);
    let average = sampled / (samples - 1) as f64;
    let limit = |gap: f64| {
        if gap >= average * EXTRAPOLATION_THRESHOLD { average / 2.0 } else { gap }
    };
    let mut to_start = limit(seconds(range_start, first.first_ms));
    let to_end = limit(seconds(last.last_ms, range_end));
    // A counter cannot have been below zero.
    if is_counter && change > 0.0 && first.first >= 0.0 {
        to_start = to_start.min(sampled * (first.first / change));
    }
    change * ((sampled + to_start + to_end) / sampled / divisor)
}
