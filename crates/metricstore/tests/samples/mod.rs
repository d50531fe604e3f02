//! Samples that tests append, and what a store is expected to have of them.

use std::sync::Arc;

use model::{BucketLayout, Histogram, IntegerHistogram, ResetHint, Span};
use proptest::prelude::*;

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// What a series has at a timestamp. Histograms are compact, so that what says the same is equal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sample {
    Float { start_ms: i64, bits: u64 },
    Histogram { start_ms: i64, sum: u64, histogram: Histogram },
}

impl Sample {
    pub(crate) fn of(start_ms: i64, histogram: &Histogram) -> Self {
        let mut histogram = histogram.clone();
        histogram.compact(0);
        let sum = histogram.sum().to_bits();
        // A NaN is not equal to itself.
        match &mut histogram {
            Histogram::Integer(histogram) => histogram.sum = 0.0,
            Histogram::Float(histogram) => histogram.sum = 0.0,
        }
        Sample::Histogram { start_ms, sum, histogram }
    }
}

/// A sample as a test names it: a value, or a number from which a histogram follows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given {
    /// A value, and when it began at zero; 0 = not known.
    Float(f64, i64),
    Histogram(u16),
}

/// One of many histograms, of several layouts, flavours and hints.
pub(crate) fn histogram(number: u16) -> (Option<i64>, Histogram) {
    let (kind, number) = (number % 8, u64::from(number / 8));
    let spans = |spans: &[(i32, u32)]| {
        spans.iter().map(|&(offset, len)| Span { offset, len }).collect::<Vec<_>>()
    };
    let (schema, positive, negative) = match kind {
        0 => (3, vec![(0, 3)], vec![]),
        1 => (3, vec![(-2, 1), (4, 2)], vec![]),
        2 => (3, vec![(1, 9)], vec![(0, 2)]),
        3 => (0, vec![(0, 1)], vec![]),
        4 => (model::histogram::CUSTOM_BUCKETS_SCHEMA, vec![(0, 3)], vec![]),
        5 => (3, vec![(number as i32 * 40, 2)], vec![]),
        6 => (3, vec![(0, 2)], vec![]),
        _ => return (None, Histogram::stale()),
    };
    let is_custom = kind == 4;
    let layout = BucketLayout {
        schema,
        zero_threshold: if is_custom { 0.0 } else { 1e-6 },
        positive: spans(&positive),
        negative: spans(&negative),
        custom_bounds: if is_custom { vec![0.5, 2.0] } else { Vec::new() },
    };
    let mut histogram = IntegerHistogram::empty(Arc::new(layout));
    for (bucket, count) in (1..).zip(histogram.positive.iter_mut().chain(&mut histogram.negative)) {
        *count = number * bucket % 7;
    }
    histogram.zero_count = if is_custom { 0 } else { number };
    let listed = histogram.positive.iter().chain(&histogram.negative);
    histogram.count = listed.sum::<u64>() + histogram.zero_count;
    histogram.sum = number as f64 * 0.25;
    let mut histogram = Histogram::Integer(histogram);
    if kind == 6 {
        histogram = Histogram::Float(histogram.to_float());
    }
    if number % 5 == 0 {
        histogram.set_reset_hint(ResetHint::Gauge);
    }
    ((number % 3 == 0).then_some(1_000 + number as i64), histogram)
}

pub(crate) fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0..5_i32).prop_map(f64::from),
        2 => any::<f64>(),
        1 => Just(f64::from_bits(model::STALE_NAN_BITS)),
        1 => Just(f64::from_bits(0x7ff8_dead_beef_0001)),
    ]
}

pub(crate) fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => (0..40_i64).prop_map(|step| 2 * HOUR_MS - 300_000 + step * 15_000),
        1 => -5 * HOUR_MS..90 * HOUR_MS,
        1 => Just(-1_000_000_000_000_i64),
    ]
}

/// When a value began: mostly not known, else one of few times.
pub(crate) fn start() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0_i64), 2 => 1..4_i64, 1 => any::<i64>()]
}
