//! What makes a histogram impossible, in Prometheus' words.
//!
//! Source: `Validate` in Prometheus `model/histogram/{histogram,float_histogram,generic}.go`.

use super::{
    BucketLayout, Count, Histogram, IntegerHistogram, MAX_BUCKETS, MAX_SCHEMA, MIN_SCHEMA, Span,
};
use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, NativeHistogram};

/// Why a histogram is none, in Prometheus' words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HistogramError(String);

impl HistogramError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        HistogramError(text.into())
    }
}

const NEGATIVE_OFFSET: &str = "histogram has a span whose offset is negative";
const SPANS_MISMATCH: &str = "histogram spans specify different number of buckets than provided";
const COUNT_MISMATCH: &str = "histogram's observation count should equal the number of \
                              observations found in the buckets (in absence of NaN)";
const COUNT_TOO_SMALL: &str = "histogram's observation count should be at least the number of \
                               observations found in the buckets";

impl Histogram {
    /// Whether counts, spans and bounds fit one another.
    ///
    /// # Errors
    /// The first fault, as Prometheus words it; more than [`MAX_BUCKETS`] buckets.
    pub fn validate(&self) -> Result<(), HistogramError> {
        match self {
            Histogram::Integer(histogram) => histogram.validate(),
            Histogram::Float(histogram) => histogram.validate(),
        }
    }
}

impl IntegerHistogram {
    /// As [`Histogram::validate`].
    ///
    /// # Errors
    /// As there.
    pub fn validate(&self) -> Result<(), HistogramError> {
        self.check_layout()?;
        let negative =
            check_counts(&self.negative, "negative", |count| (count as i64).to_string())?;
        let positive =
            check_counts(&self.positive, "positive", |count| (count as i64).to_string())?;
        let found = negative.wrapping_add(positive).wrapping_add(self.zero_count);
        let fault = if self.sum.is_nan() {
            (found > self.count).then_some(COUNT_TOO_SMALL)
        } else {
            (found != self.count).then_some(COUNT_MISMATCH)
        };
        match fault {
            None => Ok(()),
            Some(fault) => Err(HistogramError(format!(
                "{found} observations found in buckets, but the Count field is {}: {fault}",
                self.count
            ))),
        }
    }
}

impl FloatHistogram {
    /// As [`Histogram::validate`]. Sums of floats need not agree, so they are not compared.
    ///
    /// # Errors
    /// As there.
    pub fn validate(&self) -> Result<(), HistogramError> {
        self.check_layout()?;
        check_counts(&self.negative, "negative", shown)?;
        check_counts(&self.positive, "positive", shown)?;
        if self.zero_count < 0.0 {
            return Err(HistogramError(format!(
                "zero bucket has observation count of {}: histogram has a bucket whose \
                 observation count is negative",
                shown(self.zero_count)
            )));
        }
        if self.count < 0.0 {
            return Err(HistogramError(format!(
                "observation count is {}: histogram's observation count is negative",
                shown(self.count)
            )));
        }
        Ok(())
    }
}

impl<N: Count> NativeHistogram<N> {
    fn check_layout(&self) -> Result<(), HistogramError> {
        let layout = &*self.layout;
        let buckets = self.bucket_count();
        if buckets > MAX_BUCKETS {
            return Err(HistogramError(format!(
                "histogram has {buckets} buckets, the limit is {MAX_BUCKETS}; lower its resolution"
            )));
        }
        if layout.is_custom() {
            return self.check_custom();
        }
        if !(MIN_SCHEMA..=MAX_SCHEMA).contains(&layout.schema) {
            return Err(HistogramError(format!(
                "histogram has an invalid schema, which must be between {MIN_SCHEMA} and \
                 {MAX_SCHEMA} for exponential buckets, or {CUSTOM_BUCKETS_SCHEMA} for custom \
                 buckets, got schema {}",
                layout.schema
            )));
        }
        check_spans(&layout.positive, self.positive.len()).map_err(on("positive side"))?;
        check_spans(&layout.negative, self.negative.len()).map_err(on("negative side"))?;
        if !layout.custom_bounds.is_empty() {
            return Err(HistogramError::new(
                "histogram with exponential schema must not have custom bounds",
            ));
        }
        Ok(())
    }

    fn check_custom(&self) -> Result<(), HistogramError> {
        let layout = &*self.layout;
        check_bounds(layout, self.positive.len()).map_err(on("custom buckets"))?;
        let fault = if self.zero_count != N::default() {
            "must have zero count of 0"
        } else if layout.zero_threshold != 0.0 {
            "must have zero threshold of 0"
        } else if !layout.negative.is_empty() {
            "must not have negative spans"
        } else if !self.negative.is_empty() {
            "must not have negative buckets"
        } else {
            return Ok(());
        };
        Err(HistogramError(format!("custom buckets: {fault}")))
    }
}

fn on(place: &'static str) -> impl Fn(HistogramError) -> HistogramError {
    move |error| HistogramError(format!("{place}: {}", error.0))
}

/// As Go prints floats by `%v`.
fn shown(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) && magnitude.is_finite() {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) =
            exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    if value.is_infinite() { format!("{value:+}").replace("inf", "Inf") } else { value.to_string() }
}

/// Checks that spans ascend and have `buckets` buckets.
pub(super) fn check_spans(spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let mut needed = 0_u64;
    let mut next = 0_i64;
    for (number, span) in (1..).zip(spans) {
        if number > 1 && span.offset < 0 {
            return Err(HistogramError(format!(
                "span number {number} with offset {}: {NEGATIVE_OFFSET}",
                span.offset
            )));
        }
        needed += u64::from(span.len);
        next += i64::from(span.offset) + i64::from(span.len);
    }
    if needed != buckets as u64 {
        return Err(HistogramError(format!(
            "spans need {needed} buckets, have {buckets} buckets: {SPANS_MISMATCH}"
        )));
    }
    // Prometheus lets indices overflow; then buckets have no order and say nothing.
    if i32::try_from(next).is_err() {
        return Err(HistogramError::new("histogram has a bucket whose index is out of range"));
    }
    Ok(())
}

fn check_bounds(layout: &BucketLayout, buckets: usize) -> Result<(), HistogramError> {
    let bounds = &layout.custom_bounds;
    if bounds.len() > MAX_BUCKETS {
        return Err(HistogramError(format!(
            "{} custom bounds, the limit is {MAX_BUCKETS}",
            bounds.len()
        )));
    }
    if bounds.iter().any(|bound| bound.is_nan()) {
        return Err(HistogramError::new("histogram custom bounds must not be NaN"));
    }
    if let Some(pair) = bounds.windows(2).find(|pair| pair[1] <= pair[0]) {
        return Err(HistogramError(format!(
            "previous bound is {:.6} and current is {:.6}: histogram custom bounds must be in \
             strictly increasing order",
            pair[0], pair[1]
        )));
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err(HistogramError::new(
            "last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        ));
    }
    if let Some(first) = layout.positive.first().filter(|span| span.offset < 0) {
        return Err(HistogramError(format!(
            "span number 1 with offset {}: {NEGATIVE_OFFSET}",
            first.offset
        )));
    }
    check_spans(&layout.positive, buckets)?;
    let covered: u64 = layout
        .positive
        .iter()
        .map(|span| span.offset.unsigned_abs() as u64 + u64::from(span.len))
        .sum();
    if bounds.len() as u64 + 1 < covered {
        return Err(HistogramError(format!(
            "only {} custom bounds defined which is insufficient to cover total span length of \
             {covered}: histogram custom bounds are too few",
            bounds.len()
        )));
    }
    Ok(())
}

/// Checks that no count is negative and yields their sum.
fn check_counts<N: Count>(
    counts: &[N],
    side: &str,
    shown: impl Fn(N) -> String,
) -> Result<N, HistogramError> {
    if let Some(place) = counts.iter().position(|count| count.is_negative()) {
        return Err(HistogramError(format!(
            "{side} side: bucket number {} has observation count of {}: histogram has a bucket \
             whose observation count is negative",
            place + 1,
            shown(counts[place])
        )));
    }
    Ok(counts.iter().fold(N::default(), |sum, &count| sum.plus(count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn exponential(spans: &[(i32, u32)], deltas: &[i64]) -> IntegerHistogram {
        let positive = spans.iter().map(|&(offset, len)| Span { offset, len }).collect();
        let layout = BucketLayout { positive, ..BucketLayout::default() };
        let counts = IntegerHistogram::from_deltas(deltas.iter().copied());
        IntegerHistogram {
            count: counts.iter().fold(0, |sum, count| count.wrapping_add(sum)),
            positive: counts,
            layout: Arc::new(layout),
            ..IntegerHistogram::empty(Arc::default())
        }
    }

    fn custom(bounds: &[f64], spans: &[(i32, u32)], counts: &[f64]) -> FloatHistogram {
        let positive = spans.iter().map(|&(offset, len)| Span { offset, len }).collect();
        let layout = BucketLayout {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive,
            custom_bounds: bounds.to_vec(),
            ..BucketLayout::default()
        };
        FloatHistogram {
            positive: counts.to_vec(),
            layout: Arc::new(layout),
            ..FloatHistogram::empty(Arc::default())
        }
    }

    fn fault(result: Result<(), HistogramError>) -> String {
        result.map_or_else(|error| error.to_string(), |()| "valid".to_owned())
    }

    #[test]
    fn exponential_faults_are_worded_as_in_prometheus() {
        let check = |histogram: &IntegerHistogram, expected: &str| {
            assert_eq!(fault(histogram.validate()), expected);
        };
        let good = exponential(&[(0, 2), (3, 1)], &[1, 1, -1]);
        check(&good, "valid");
        check(
            &exponential(&[(0, 2), (-1, 1)], &[1, 1, -1]),
            "positive side: span number 2 with offset -1: histogram has a span whose offset is \
             negative",
        );
        check(
            &exponential(&[(0, 2)], &[1, 1, -1]),
            "positive side: spans need 2 buckets, have 3 buckets: histogram spans specify \
             different number of buckets than provided",
        );
        check(
            &exponential(&[(0, 2)], &[1, -3]),
            "positive side: bucket number 2 has observation count of -2: histogram has a bucket \
             whose observation count is negative",
        );
        check(
            &IntegerHistogram { count: 9, ..good.clone() },
            "4 observations found in buckets, but the Count field is 9: histogram's observation \
             count should equal the number of observations found in the buckets (in absence of \
             NaN)",
        );
        check(&IntegerHistogram { count: 9, sum: f64::NAN, ..good.clone() }, "valid");
        check(
            &IntegerHistogram { count: 3, sum: f64::NAN, ..good.clone() },
            "4 observations found in buckets, but the Count field is 3: histogram's observation \
             count should be at least the number of observations found in the buckets",
        );
        let layout = |layout| IntegerHistogram { layout: Arc::new(layout), ..good.clone() };
        let valid = BucketLayout::clone(&good.layout);
        check(
            &layout(BucketLayout { schema: 9, ..valid.clone() }),
            "histogram has an invalid schema, which must be between -4 and 8 for exponential \
             buckets, or -53 for custom buckets, got schema 9",
        );
        check(
            &layout(BucketLayout { custom_bounds: vec![1.0], ..valid }),
            "histogram with exponential schema must not have custom bounds",
        );
        check(
            &exponential(&[(i32::MAX, 1)], &[1]),
            "positive side: histogram has a bucket whose index is out of range",
        );
    }

    #[test]
    fn custom_faults_are_worded_as_in_prometheus() {
        let check = |histogram: FloatHistogram, expected: &str| {
            assert_eq!(fault(histogram.validate()), expected);
        };
        check(custom(&[1.0, 2.0], &[(0, 3)], &[1.0, 2.5, 0.0]), "valid");
        check(
            custom(&[1.0, 1.0], &[], &[]),
            "custom buckets: previous bound is 1.000000 and current is 1.000000: histogram custom \
             bounds must be in strictly increasing order",
        );
        check(
            custom(&[1.0, f64::NAN], &[], &[]),
            "custom buckets: histogram custom bounds must not be NaN",
        );
        check(
            custom(&[1.0, f64::INFINITY], &[], &[]),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom \
             bounds must be finite",
        );
        check(
            custom(&[1.0], &[(1, 2)], &[1.0, 1.0]),
            "custom buckets: only 1 custom bounds defined which is insufficient to cover total \
             span length of 3: histogram custom bounds are too few",
        );
        check(
            FloatHistogram { zero_count: 1.0, ..custom(&[], &[], &[]) },
            "custom buckets: must have zero count of 0",
        );
        check(
            custom(&[1.0], &[(0, 2)], &[1.0, -0.5]),
            "positive side: bucket number 2 has observation count of -0.5: histogram has a bucket \
             whose observation count is negative",
        );
        check(
            FloatHistogram { count: -1e-7, ..custom(&[], &[], &[]) },
            "observation count is -1e-07: histogram's observation count is negative",
        );
    }
}
