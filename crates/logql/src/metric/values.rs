//! What range aggregations make of the values of a window.

use crate::syntax::ast::RangeOp;

/// A value and when its line was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) timestamp_ns: i64,
    pub(super) value: f64,
}

/// Where a window lies, for what depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) end_ns: i64,
    pub(super) length_ns: i64,
}

impl Window {
    fn seconds(self) -> f64 {
        self.length_ns as f64 / 1e9
    }
}

/// The value of a window with at least one sample; samples are sorted by time. `quantile` is what
/// `quantile_over_time` looks for; `sorted` is memory to use again.
pub(super) fn over_time(
    op: RangeOp,
    quantile: f64,
    samples: &[Sample],
    window: Window,
    sorted: &mut Vec<f64>,
) -> f64 {
    let values = || samples.iter().map(|sample| sample.value);
    match op {
        RangeOp::SumOverTime => values().sum(),
        RangeOp::Rate => values().sum::<f64>() / window.seconds(),
        RangeOp::AvgOverTime => mean(values()),
        RangeOp::MinOverTime => values().fold(f64::NAN, least),
        RangeOp::MaxOverTime => values().fold(f64::NAN, greatest),
        RangeOp::StdvarOverTime => variance(values()),
        RangeOp::StddevOverTime => variance(values()).sqrt(),
        RangeOp::QuantileOverTime => {
            sorted.clear();
            sorted.extend(values());
            quantile_of(quantile, sorted)
        }
        RangeOp::FirstOverTime => samples.first().map_or(f64::NAN, |sample| sample.value),
        RangeOp::LastOverTime => samples.last().map_or(f64::NAN, |sample| sample.value),
        RangeOp::RateCounter => counter_rate(samples, window),
        // These count lines, and have no values.
        RangeOp::CountOverTime
        | RangeOp::BytesOverTime
        | RangeOp::BytesRate
        | RangeOp::AbsentOverTime => samples.len() as f64,
    }
}

/// The lesser of both, or the one that is a number.
pub(super) fn least(left: f64, right: f64) -> f64 {
    if right < left || left.is_nan() { right } else { left }
}

/// The greater of both, or the one that is a number.
pub(super) fn greatest(left: f64, right: f64) -> f64 {
    if right > left || left.is_nan() { right } else { left }
}

/// Mean that does not overflow where the sum would.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (0.0_f64, 0.0);
    for value in values {
        count += 1.0;
        mean = next_mean(mean, value, count);
    }
    mean
}

/// The mean of `count` values, of which `value` is the last and `mean` is that of the others.
pub(super) fn next_mean(mean: f64, value: f64, count: f64) -> f64 {
    if mean.is_infinite() {
        if value.is_infinite() && (mean > 0.0) == (value > 0.0) {
            // The difference of infinities of one sign would be no number.
            return mean;
        }
        if value.is_finite() {
            return mean;
        }
    }
    mean + (value / count - mean / count)
}

/// Population variance, by Welford's method.
fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

/// A quantile by linear interpolation, as Prometheus has it; sorts the values.
pub(super) fn quantile_of(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    // What is no number counts as less than any.
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then_with(|| a.total_cmp(b)));
    let rank = quantile * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Increase of a counter per second, extrapolated to the ends of the window as Prometheus does; 0
/// of one sample.
fn counter_rate(samples: &[Sample], window: Window) -> f64 {
    let [first, .., last] = samples else { return 0.0 };
    let resets: f64 = samples
        .windows(2)
        .filter(|pair| pair[1].value < pair[0].value)
        .map(|pair| pair[0].value)
        .sum();
    let increase = last.value - first.value + resets;
    let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1e9;
    let sampled = seconds(first.timestamp_ns, last.timestamp_ns);
    if sampled == 0.0 {
        return 0.0;
    }
    let start_ns = window.end_ns.saturating_sub(window.length_ns);
    let mut to_start = seconds(start_ns, first.timestamp_ns);
    let to_end = seconds(last.timestamp_ns, window.end_ns);
    let between = sampled / (samples.len() - 1) as f64;
    if increase > 0.0 && first.value >= 0.0 {
        // A counter was never below zero, so it cannot have grown for longer than this.
        to_start = to_start.min(sampled * (first.value / increase));
    }
    let threshold = between * 1.1;
    let capped = |gap: f64| if gap < threshold { gap } else { between / 2.0 };
    let extrapolated = sampled + capped(to_start) + capped(to_end);
    increase * (extrapolated / sampled) / window.seconds()
}
