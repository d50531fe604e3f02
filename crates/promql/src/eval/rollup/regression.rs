//! `deriv`, `predict_linear`, `double_exponential_smoothing`.

use super::View;
use crate::engine::EvalError;
use crate::eval::kahan;
use crate::eval::rows::{ABSENT, ScalarRow};

/// Slope per second and value at `origin_ms` of the least-squares line.
///
/// Source: `linearRegression` of Prometheus' `promql/functions.go`.
fn linear_regression(timestamps_ms: &[i64], values: &[f64], origin_ms: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let count = values.len() as f64;
    let (mut x, mut y, mut xy, mut xx) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (&t_ms, &value) in timestamps_ms.iter().zip(values) {
        let t = t_ms.wrapping_sub(origin_ms) as f64 / 1000.0;
        x = kahan::add(t, x.0, x.1);
        y = kahan::add(value, y.0, y.1);
        xy = kahan::add(t * value, xy.0, xy.1);
        xx = kahan::add(t * t, xx.0, xx.1);
    }
    let [x, y, xy, xx] = [x, y, xy, xx].map(|(sum, compensation)| sum + compensation);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    (slope, y / count - slope * x / count)
}

/// `deriv`: slope of the regression line of each window.
pub(super) fn deriv(view: &View<'_>, row: &mut Vec<f64>) {
    view.each(row, |_, timestamps_ms, values| {
        if values.len() < 2 {
            return ABSENT;
        }
        // Times are counted from the first sample, to lose no digits.
        linear_regression(timestamps_ms, values, timestamps_ms[0]).0
    });
}

/// `predict_linear`: the regression line `ahead` seconds after the evaluation time.
pub(super) fn predict_linear(view: &View<'_>, ahead: &ScalarRow, row: &mut Vec<f64>) {
    view.each(row, |step, timestamps_ms, values| {
        if values.len() < 2 {
            return ABSENT;
        }
        let now = view.grid.time_ms(step);
        let (slope, intercept) = linear_regression(timestamps_ms, values, now);
        slope * ahead.at(step) + intercept
    });
}

/// `double_exponential_smoothing` with a factor for the value and one for the trend.
///
/// # Errors
/// A factor outside of 0 < f < 1 at a step whose window has samples.
pub(super) fn smooth(
    view: &View<'_>,
    value_factor: &ScalarRow,
    trend_factor: &ScalarRow,
    row: &mut Vec<f64>,
) -> Result<(), EvalError> {
    let mut fault = None;
    view.each(row, |step, _, values| {
        let (sf, tf) = (value_factor.at(step), trend_factor.at(step));
        if fault.is_none() {
            fault = check_factors(sf, tf).err();
        }
        smoothed(values, sf, tf)
    });
    fault.map_or(Ok(()), Err)
}

/// Fails if a factor of a step is outside of 0 < f < 1, whatever samples its window has.
pub(super) fn check_factors(value_factor: f64, trend_factor: f64) -> Result<(), EvalError> {
    for (name, factor) in [("smoothing", value_factor), ("trend", trend_factor)] {
        if factor <= 0.0 || factor >= 1.0 {
            let letter = &name[..1];
            // As Go prints it.
            let got = match factor {
                f64::INFINITY => "+Inf".to_owned(),
                f64::NEG_INFINITY => "-Inf".to_owned(),
                _ => format!("{factor:.6}"),
            };
            let text = format!("invalid {name} factor. Expected: 0 < {letter}f < 1, got: {got}");
            return Err(EvalError::Execution(text));
        }
    }
    Ok(())
}

fn smoothed(values: &[f64], value_factor: f64, trend_factor: f64) -> f64 {
    let [first, second, ..] = values else { return ABSENT };
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = value_factor * value + (1.0 - value_factor) * (level + trend);
        (before, level) = (level, next);
    }
    level
}
