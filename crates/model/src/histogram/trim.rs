//! The part of a histogram below or above a value.
//!
//! Source: `TrimBuckets` of Prometheus `model/histogram/float_histogram.go` (operators `</` and
//! `>/`).

use super::layout::indices;
use super::{FloatHistogram, Span};

/// Which observations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Those below the value.
    Above,
    /// Those above the value.
    Below,
}

/// Where observations may lie.
#[derive(Debug, Clone, Copy)]
struct Interval {
    lower: f64,
    upper: f64,
}

/// How observations are taken to lie in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// As many in each part of the same width.
    Even,
    /// As many in each part of the same width on a logarithmic scale.
    Exponential,
}

impl FloatHistogram {
    /// The histogram without the observations that `trim` cuts off at `value`. A bucket that holds
    /// `value` is cut by interpolation, as quantiles are. Count and sum are estimated anew from
    /// what is left, the sum by the middle of each bucket; nothing changes if nothing is cut off.
    #[must_use]
    pub fn trimmed(&self, trim: Trim, value: f64) -> FloatHistogram {
        let mut trimmed = self.clone();
        let spread = if self.layout.is_custom() { Spread::Even } else { Spread::Exponential };
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut keep = |kept: &mut f64, part: (f64, f64)| {
            changed |= *kept != part.0;
            *kept = part.0;
            count += part.0;
            sum += part.1 * part.0;
        };
        let layout = &self.layout;
        let interval = |index: i32, mirrored: bool| {
            let (lower, upper) = (layout.bound(index.wrapping_sub(1)), layout.bound(index));
            if mirrored {
                Interval { lower: -upper, upper: -lower }
            } else {
                Interval { lower, upper }
            }
        };
        let sides: [(&[Span], &mut Vec<f64>, bool); 2] = [
            (&layout.positive, &mut trimmed.positive, false),
            (&layout.negative, &mut trimmed.negative, true),
        ];
        for (spans, counts, mirrored) in sides {
            for (index, kept) in indices(spans).zip(counts).filter(|(_, kept)| **kept != 0.0) {
                keep(kept, cut(interval(index, mirrored), *kept, trim, value, spread));
            }
        }
        if self.zero_count > 0.0 {
            let has = |counts: &[f64]| counts.iter().any(|count| *count != 0.0);
            let threshold = layout.zero_threshold;
            let (mut lower, mut upper) = (-threshold, threshold);
            match (has(&self.negative), has(&self.positive)) {
                (true, false) => upper = 0.0,
                (false, true) => lower = 0.0,
                _ => {}
            }
            let part = cut_evenly(Interval { lower, upper }, self.zero_count, trim, value);
            keep(&mut trimmed.zero_count, part);
        }
        if changed {
            (trimmed.count, trimmed.sum) = (count, sum);
            trimmed.compact(0);
        }
        trimmed
    }
}

/// How much of a bucket is kept, and where its middle is.
fn cut(bucket: Interval, count: f64, trim: Trim, value: f64, spread: Spread) -> (f64, f64) {
    let Interval { lower, upper } = bucket;
    let (is_kept, is_cut) = match trim {
        Trim::Above => (upper <= value, lower < value),
        Trim::Below => (lower >= value, upper > value),
    };
    if is_kept {
        return (count, middle(bucket, spread));
    }
    if !is_cut {
        return (0.0, 0.0);
    }
    if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
        return cut_endless(bucket, count, trim, value);
    }
    let below = count * share_below(bucket, value, spread);
    match trim {
        Trim::Above => (below, middle(Interval { upper: value, ..bucket }, spread)),
        Trim::Below => (count - below, middle(Interval { lower: value, ..bucket }, spread)),
    }
}

/// As [`cut`], of a bucket that reaches to infinity and holds `value`. How observations lie in it
/// is known only if it is the lowest one and ends above zero: then it is taken to start there.
fn cut_endless(bucket: Interval, count: f64, trim: Trim, value: f64) -> (f64, f64) {
    let Interval { lower, upper } = bucket;
    if lower == f64::NEG_INFINITY {
        let starts_at_zero = upper > 0.0 && upper != f64::INFINITY;
        return match trim {
            Trim::Above if value > 0.0 && starts_at_zero => (count * value / upper, value / 2.0),
            // All of them may be below.
            Trim::Above if upper <= 0.0 => (count, value),
            Trim::Below if value >= 0.0 && starts_at_zero => {
                (count * (1.0 - value / upper), f64::midpoint(value, upper))
            }
            _ => (0.0, 0.0),
        };
    }
    match trim {
        Trim::Above => (0.0, 0.0),
        Trim::Below => (count, value),
    }
}

fn cut_evenly(bucket: Interval, count: f64, trim: Trim, value: f64) -> (f64, f64) {
    let Interval { lower, upper } = bucket;
    let whole = (count, f64::midpoint(lower, upper));
    match trim {
        Trim::Above if value <= lower => (0.0, 0.0),
        Trim::Above if value >= upper => whole,
        Trim::Above => (count * ((value - lower) / (upper - lower)), f64::midpoint(lower, value)),
        Trim::Below if value <= lower => whole,
        Trim::Below if value >= upper => (0.0, 0.0),
        Trim::Below => (count * ((upper - value) / (upper - lower)), f64::midpoint(value, upper)),
    }
}

/// Which share of a finite bucket lies below `value`, which is inside of it.
fn share_below(bucket: Interval, value: f64, spread: Spread) -> f64 {
    let Interval { lower, upper } = bucket;
    if spread == Spread::Even {
        return (value - lower) / (upper - lower);
    }
    let log = |bound: f64| bound.abs().log2();
    if upper > 0.0 {
        (log(value) - log(lower)) / (log(upper) - log(lower))
    } else {
        1.0 - (log(value) - log(upper)) / (log(lower) - log(upper))
    }
}

/// The value that stands for all observations of a bucket.
fn middle(bucket: Interval, spread: Spread) -> f64 {
    let Interval { lower, upper } = bucket;
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if spread == Spread::Even => f64::midpoint(lower, upper),
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if upper > 0.0 { mean } else { -mean }
        }
    }
}
