//! `*_over_time`: statistics of the samples in each window.

use super::{RangeFunction, View};
use crate::eval::kahan;
use crate::eval::rows::{ABSENT, ScalarRow};

/// Functions that look at each window by itself.
pub(super) fn simple(
    function: RangeFunction,
    view: &View<'_>,
    sorted: &mut Vec<f64>,
    row: &mut Vec<f64>,
) {
    let seconds = |t_ms: i64| t_ms as f64 / 1000.0;
    match function {
        RangeFunction::Sum => view.each(row, |_, _, values| kahan::sum(values)),
        RangeFunction::Avg => view.each(row, |_, _, values| kahan::mean(values)),
        RangeFunction::Count => view.each(row, |_, _, values| values.len() as f64),
        RangeFunction::Present => view.each(row, |_, _, _| 1.0),
        RangeFunction::First => view.each(row, |_, _, values| values[0]),
        RangeFunction::Last => view.each(row, |_, _, values| values[values.len() - 1]),
        RangeFunction::TimeOfFirst => view.each(row, |_, times, _| seconds(times[0])),
        RangeFunction::TimeOfLast => {
            view.each(row, |_, times, _| seconds(times[times.len() - 1]));
        }
        RangeFunction::TimeOfMax => {
            view.each(row, |_, times, values| {
                seconds(times[last_extremum(values, |new, old| new >= old)])
            });
        }
        RangeFunction::TimeOfMin => {
            view.each(row, |_, times, values| {
                seconds(times[last_extremum(values, |new, old| new <= old)])
            });
        }
        RangeFunction::Stddev => view.each(row, |_, _, values| variance(values).sqrt()),
        RangeFunction::Stdvar => view.each(row, |_, _, values| variance(values)),
        RangeFunction::Mad => {
            view.each(row, |_, _, values| {
                if values.iter().any(|value| value.is_nan()) {
                    return f64::NAN;
                }
                sorted.clear();
                sorted.extend_from_slice(values);
                let median = quantile(0.5, sorted);
                sorted.clear();
                sorted.extend(values.iter().map(|value| (value - median).abs()));
                quantile(0.5, sorted)
            });
        }
        // The rest has kernels of its own, see `RangeCall::evaluate`.
        _ => row.resize(view.windows.starts().len(), ABSENT),
    }
}

/// Index of the last value that `beats` all before it; NaNs are beaten by everything.
fn last_extremum(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if beats(value, values[best]) || values[best].is_nan() {
            best = index;
        }
    }
    best
}

/// The population variance, by Welford's method with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut mean_c) = (0.0, 0.0, 0.0);
    let (mut squares, mut squares_c) = (0.0, 0.0);
    for &value in values {
        count += 1.0;
        let delta = value - (mean + mean_c);
        (mean, mean_c) = kahan::add(delta / count, mean, mean_c);
        let square = delta * (value - (mean + mean_c));
        (squares, squares_c) = kahan::add(square, squares, squares_c);
    }
    (squares + squares_c) / count
}

/// The largest or smallest value of every window. NaN only where all values are NaN.
///
/// Keeps the indices of values that can still become the extremum, each beaten by the one
/// before it, so that every sample is looked at once however far the windows overlap.
pub(super) fn extremum(
    view: &View<'_>,
    candidates: &mut Vec<u32>,
    row: &mut Vec<f64>,
    beats: impl Fn(f64, f64) -> bool,
) {
    let values = view.values;
    candidates.clear();
    let (mut front, mut seen) = (0, 0);
    for (&start, &end) in view.windows.starts().iter().zip(view.windows.ends()) {
        // Fast path: steps are further apart than ranges are long.
        if seen < start {
            candidates.clear();
            (front, seen) = (0, start);
        }
        while seen < end {
            let value = values[seen as usize];
            if !value.is_nan() {
                while candidates.len() > front
                    && beats(value, values[candidates[candidates.len() - 1] as usize])
                {
                    candidates.pop();
                }
                candidates.push(seen);
            }
            seen += 1;
        }
        while front < candidates.len() && candidates[front] < start {
            front += 1;
        }
        row.push(match candidates.get(front) {
            Some(&best) => values[best as usize],
            None if start < end => values[end as usize - 1],
            None => ABSENT,
        });
    }
}

/// `quantile_over_time`.
pub(super) fn quantiles(
    view: &View<'_>,
    phi: &ScalarRow,
    sorted: &mut Vec<f64>,
    row: &mut Vec<f64>,
) {
    view.each(row, |step, _, values| {
        sorted.clear();
        sorted.extend_from_slice(values);
        quantile(phi.at(step), sorted)
    });
}

/// The φ-quantile of `values`, which are reordered: a weighted mean of the two values around
/// rank φ·(n−1), where NaN counts as smaller than every number. NaN without values, ±∞ for φ
/// outside of 0…1. `O(n)`.
pub(crate) fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let rank = phi * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let weight = rank - rank.floor();
    let (_, low, above) = values.select_nth_unstable_by(lower, nan_first);
    let low = *low;
    let high = above.iter().copied().min_by(nan_first).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}
