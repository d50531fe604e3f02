//! `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`.
//!
//! Source: `extrapolatedRate` and `instantValue` of Prometheus' `promql/functions.go`.

use super::super::rows::ABSENT;
use super::View;

/// Gaps at the borders of a range are filled by extrapolation when they are at most this many
/// average sample distances wide, and otherwise by half a distance.
const EXTRAPOLATION_THRESHOLD: f64 = 1.1;

/// `rate`, `increase` (`counter`) and `delta` of every window.
pub(super) fn rate(
    view: &View<'_>,
    resets: &mut Vec<u32>,
    row: &mut Vec<f64>,
    counter: bool,
    per_second: bool,
) {
    resets.clear();
    if counter {
        find_resets(view.values, resets);
    }
    let mut next_reset = 0;
    for step in 0..view.windows.starts.len() {
        let (start, end) = (view.windows.starts[step] as usize, view.windows.ends[step] as usize);
        if end - start < 2 {
            row.push(ABSENT);
            continue;
        }
        let mut change = view.values[end - 1] - view.values[start];
        // Windows only move forward, so resets left of this one are never needed again.
        while next_reset < resets.len() && resets[next_reset] as usize <= start {
            next_reset += 1;
        }
        for &reset in resets[next_reset..].iter().take_while(|reset| (**reset as usize) < end) {
            change += view.values[reset as usize - 1];
        }
        let factor = extrapolation(view, step, start, end, change, counter);
        let divisor = if per_second { view.range_ms as f64 / 1000.0 } else { 1.0 };
        row.push(change * (factor / divisor));
    }
}

/// Indices of samples smaller than the one before.
fn find_resets(values: &[f64], resets: &mut Vec<u32>) {
    // Most counters never restart: one pass that the compiler can vectorise finds that out.
    let any = values.windows(2).fold(false, |any, pair| any | (pair[1] < pair[0]));
    if !any {
        return;
    }
    for (index, pair) in values.windows(2).enumerate() {
        if pair[1] < pair[0] {
            resets.push(index as u32 + 1);
        }
    }
}

/// How much larger the change over the whole range is than that between its samples.
#[inline]
fn extrapolation(
    view: &View<'_>,
    step: usize,
    start: usize,
    end: usize,
    change: f64,
    counter: bool,
) -> f64 {
    let (range_start, range_end) = view.range_of(step);
    let seconds = |from: i64, to: i64| to.wrapping_sub(from) as f64 / 1000.0;
    let (first_ms, last_ms) = (view.timestamps_ms[start], view.timestamps_ms[end - 1]);
    let sampled = seconds(first_ms, last_ms);
    let average = sampled / (end - start - 1) as f64;
    let threshold = average * EXTRAPOLATION_THRESHOLD;

    let mut to_start = seconds(range_start, first_ms);
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if counter {
        // A counter cannot have been below zero.
        let first = view.values[start];
        let to_zero =
            if change > 0.0 && first >= 0.0 { sampled * (first / change) } else { to_start };
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let mut to_end = seconds(last_ms, range_end);
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    (sampled + to_start + to_end) / sampled
}

/// `irate` and `idelta`: the last two samples of every window.
pub(super) fn instant(view: &View<'_>, row: &mut Vec<f64>, rate: bool) {
    view.each(row, |_, timestamps_ms, values| {
        let ([.., t0, t1], [.., v0, v1]) = (timestamps_ms, values) else { return ABSENT };
        let change = if rate && v1 < v0 { *v1 } else { v1 - v0 };
        if rate { change / (t1.wrapping_sub(*t0) as f64 / 1000.0) } else { change }
    });
}

/// How often the value differs from the one before.
pub(super) fn changes(values: &[f64]) -> f64 {
    let differs = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
    values.windows(2).filter(differs).count() as f64
}

/// How often the value is smaller than the one before.
pub(super) fn resets(values: &[f64]) -> f64 {
    values.windows(2).filter(|pair| pair[1] < pair[0]).count() as f64
}
