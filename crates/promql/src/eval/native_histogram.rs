//! What is asked of one native histogram: mean, spread, quantiles, fractions.
//!
//! Source: `promql/quantile.go` and `promql/functions.go` of Prometheus 3.

use model::FloatHistogram;
use model::histogram::Bucket;

use super::histogram_rows::{self, HistogramRows};
use super::kahan;
use super::rows::{ABSENT, Rows};

/// The functions of a histogram alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summary {
    Count,
    Sum,
    Avg,
    Stddev,
    Stdvar,
}

/// What NaN observations, which are in no bucket, do to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NanNote {
    /// The quantile is among them.
    Quantile,
    /// The quantile is higher than it would be without them.
    Skewed,
    /// No fraction holds them.
    Fraction,
}

impl NanNote {
    /// Prometheus' words, without the name of the metric.
    pub(crate) fn text(self) -> &'static str {
        match self {
            NanNote::Quantile => "input to histogram_quantile has NaN observations, result is NaN",
            NanNote::Skewed => {
                "input to histogram_quantile has NaN observations, result is skewed higher"
            }
            NanNote::Fraction => {
                "input to histogram_fraction has NaN observations, which are excluded from all \
                 fractions"
            }
        }
    }
}

impl Summary {
    /// The function called `name`, if it is one of these.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "histogram_count" => Summary::Count,
            "histogram_sum" => Summary::Sum,
            "histogram_avg" => Summary::Avg,
            "histogram_stddev" => Summary::Stddev,
            "histogram_stdvar" => Summary::Stdvar,
            _ => return None,
        })
    }

    /// Its value for `histogram`.
    pub(crate) fn of(self, histogram: &FloatHistogram) -> f64 {
        match self {
            Summary::Count => histogram.count,
            Summary::Sum => histogram.sum,
            Summary::Avg => histogram.sum / histogram.count,
            Summary::Stdvar => variance(histogram),
            Summary::Stddev => variance(histogram).sqrt(),
        }
    }
}

/// `summary` of every histogram in `rows`; floats are no histograms, so nothing is left of them.
pub(crate) fn summarise(mut rows: Rows, summary: Summary) -> Rows {
    let histograms = std::mem::take(&mut rows.histograms);
    for index in 0..rows.len() {
        let row = &mut rows.values[index * rows.steps..(index + 1) * rows.steps];
        let of_series = histograms.row(index);
        for step in 0..row.len() {
            row[step] = histogram_rows::at(row, of_series, step)
                .map_or(ABSENT, |histogram| summary.of(histogram));
        }
        rows.drop_name[index] = true;
    }
    rows.histograms = HistogramRows::default();
    rows.remove_empty();
    rows
}

/// The variance, every observation taken to lie in the middle of its bucket.
fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let (mut total, mut compensation) = (0.0, 0.0);
    for bucket in histogram.buckets().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.layout.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if holds_zero(&bucket) {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let distance = middle - mean;
        (total, compensation) = kahan::add(bucket.count * distance * distance, total, compensation);
    }
    (total + compensation) / histogram.count
}

fn holds_zero(bucket: &Bucket<f64>) -> bool {
    bucket.lower <= 0.0 && bucket.upper >= 0.0
}

/// With buckets on one side only, the zero bucket ends at zero.
fn without_empty_side(histogram: &FloatHistogram, mut bucket: Bucket<f64>) -> Bucket<f64> {
    if !histogram.layout.is_custom() && bucket.lower < 0.0 && bucket.upper > 0.0 {
        match (histogram.negative.is_empty(), histogram.positive.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }
    bucket
}

/// The φ-quantile: linear within custom buckets and the zero bucket, exponential in others.
pub(crate) fn quantile(phi: f64, histogram: &FloatHistogram) -> (f64, Option<NanNote>) {
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || phi.is_nan() {
        return (f64::NAN, None);
    }
    let has_nan = histogram.sum.is_nan();
    // From the nearer end, for accuracy; NaN observations are at neither, so then from below.
    let ascends = has_nan || phi < 0.5;
    let mut rank = if ascends { phi } else { 1.0 - phi } * histogram.count;
    let mut buckets: Vec<_> = histogram.buckets().filter(|bucket| bucket.count != 0.0).collect();
    if !ascends {
        buckets.reverse();
    }
    let mut count = 0.0;
    let mut found = None;
    for bucket in buckets {
        count += bucket.count;
        found = Some(bucket);
        if count >= rank {
            break;
        }
    }
    // Sums of floats may exceed their total a little.
    let count = if count > histogram.count { histogram.count } else { count };
    let note = has_nan.then_some(NanNote::Skewed);
    let Some(bucket) = found else {
        let note = has_nan.then_some(NanNote::Quantile);
        return (f64::NAN, note);
    };
    let bucket = match end_of_custom(histogram, without_empty_side(histogram, bucket)) {
        Ok(bucket) => bucket,
        Err(bound) => return (bound, note),
    };
    if count < rank {
        return if has_nan { (f64::NAN, Some(NanNote::Quantile)) } else { (bucket.upper, note) };
    }
    rank = if ascends { rank - (count - bucket.count) } else { count - rank };
    (interpolate(histogram, &bucket, rank / bucket.count), note)
}

/// A custom bucket that reaches to infinity has only one bound to answer with.
fn end_of_custom(histogram: &FloatHistogram, mut bucket: Bucket<f64>) -> Result<Bucket<f64>, f64> {
    if histogram.layout.is_custom() && bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return Err(bucket.upper);
        }
        bucket.lower = 0.0;
    } else if histogram.layout.is_custom() && bucket.upper == f64::INFINITY {
        return Err(bucket.lower);
    }
    Ok(bucket)
}

/// The value below which `share` of the bucket's observations lie.
fn interpolate(histogram: &FloatHistogram, bucket: &Bucket<f64>, share: f64) -> f64 {
    if histogram.layout.is_custom() || holds_zero(bucket) {
        return bucket.lower + (bucket.upper - bucket.lower) * share;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * share).exp2()
    } else {
        // Mirrored.
        -(upper + (lower - upper) * (1.0 - share)).exp2()
    }
}

/// The share of observations between two values.
pub(crate) fn fraction(
    lower: f64,
    upper: f64,
    histogram: &FloatHistogram,
) -> (f64, Option<NanNote>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut below = 0.0;
    for bucket in histogram.buckets() {
        let bucket = without_empty_side(histogram, bucket);
        for (value, rank) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if rank.is_none() && bucket.lower >= value {
                *rank = Some(below);
            } else if rank.is_none() && bucket.upper > value {
                *rank = Some(below + bucket.count * share_below(histogram, &bucket, value));
            }
        }
        below += bucket.count;
    }
    let within = |rank: Option<f64>| rank.filter(|rank| *rank <= below).unwrap_or(below);
    let note = histogram.sum.is_nan().then_some(NanNote::Fraction);
    ((within(upper_rank) - within(lower_rank)) / histogram.count, note)
}

/// Which share of a bucket is below `value`, which lies inside of it.
fn share_below(histogram: &FloatHistogram, bucket: &Bucket<f64>, value: f64) -> f64 {
    if histogram.layout.is_custom() || holds_zero(bucket) {
        if bucket.lower == f64::NEG_INFINITY {
            // The lowest bucket is taken to start at 0 when it holds positive values; otherwise
            // nothing is known about how observations lie in it.
            return if bucket.upper > 0.0 { (value / bucket.upper).max(0.0) } else { 1.0 };
        }
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let value_log = value.abs().log2();
    if value > 0.0 {
        (value_log - lower) / (upper - lower)
    } else {
        1.0 - (value_log - upper) / (lower - upper)
    }
}
