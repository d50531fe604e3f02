//! Compensated sums and means of histograms.
//!
//! Source: `KahanAdd` of Prometheus `model/histogram/float_histogram.go`, and the aggregations
//! `sum` and `avg` of `promql/engine.go`.

use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{Geometry, IncompatibleBuckets};

use super::kahan;

/// A running sum, each number of it with what was lost by rounding.
#[derive(Debug, Clone)]
pub(crate) struct HistogramSum {
    value: FloatHistogram,
    /// Of the same layout; `None` as long as there is one summand.
    lost: Option<Box<FloatHistogram>>,
}

impl HistogramSum {
    pub(crate) fn new(first: &FloatHistogram) -> Self {
        HistogramSum { value: first.clone(), lost: None }
    }

    /// Adds a histogram; yields whether custom bounds had to be given up.
    ///
    /// # Errors
    /// Exponential and custom buckets; then nothing is changed.
    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<bool, IncompatibleBuckets> {
        let lost = self
            .lost
            .get_or_insert_with(|| Box::new(FloatHistogram::empty(Arc::clone(&self.value.layout))));
        let (hint, _) = self.value.reset_hint.combine(other.reset_hint);
        // Fast path: series that are added up nearly always have the same buckets over time.
        if self.value.layout.takes(&other.layout) {
            add_counts(&mut self.value, lost, other);
            self.value.reset_hint = hint;
            return Ok(false);
        }
        let geometry = Geometry::common(&self.value, other)?;
        let mut other = other.clone();
        for histogram in [&mut self.value, lost, &mut other] {
            histogram.conform(&geometry);
        }
        if other.layout.hides_buckets() {
            other.drop_hidden_buckets();
        }
        FloatHistogram::unite(&mut [&mut self.value, lost, &mut other]);
        add_counts(&mut self.value, lost, &other);
        self.value.reset_hint = hint;
        Ok(geometry.reconciles_bounds())
    }

    /// Adds what another sum has added up.
    ///
    /// # Errors
    /// As [`HistogramSum::add`].
    pub(crate) fn merge(&mut self, other: &HistogramSum) -> Result<bool, IncompatibleBuckets> {
        let mut reconciled = self.add(&other.value)?;
        if let Some(lost) = &other.lost {
            let mut lost = FloatHistogram::clone(lost);
            lost.reset_hint = other.value.reset_hint;
            reconciled |= self.add(&lost)?;
        }
        Ok(reconciled)
    }

    fn multiply(&mut self, factor: f64) {
        self.value.multiply(factor);
        if let Some(lost) = &mut self.lost {
            lost.multiply(factor);
        }
    }

    fn divide(&mut self, divisor: f64) {
        self.value.divide(divisor);
        if let Some(lost) = &mut self.lost {
            lost.divide(divisor);
        }
    }

    pub(crate) fn finish(self) -> FloatHistogram {
        let HistogramSum { mut value, lost } = self;
        if let Some(lost) = lost {
            value.count += lost.count;
            value.sum += lost.sum;
            value.zero_count += lost.zero_count;
            value.positive.iter_mut().zip(&lost.positive).for_each(|(value, lost)| *value += lost);
            value.negative.iter_mut().zip(&lost.negative).for_each(|(value, lost)| *value += lost);
        }
        value
    }
}

fn add_counts(value: &mut FloatHistogram, lost: &mut FloatHistogram, other: &FloatHistogram) {
    let add = |value: &mut f64, lost: &mut f64, other: f64| {
        (*value, *lost) = kahan::add(other, *value, *lost);
    };
    add(&mut value.count, &mut lost.count, other.count);
    add(&mut value.sum, &mut lost.sum, other.sum);
    add(&mut value.zero_count, &mut lost.zero_count, other.zero_count);
    for (value, lost, other) in [
        (&mut value.positive, &mut lost.positive, &other.positive),
        (&mut value.negative, &mut lost.negative, &other.negative),
    ] {
        for ((value, lost), &other) in value.iter_mut().zip(lost).zip(other) {
            add(value, lost, other);
        }
    }
}

/// A running mean: of the sum as long as that is finite, incremental from then on.
#[derive(Debug, Clone)]
pub(crate) struct HistogramMean {
    /// The sum so far; the mean so far once `incremental`.
    sum: HistogramSum,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    pub(crate) fn new(first: &FloatHistogram) -> Self {
        HistogramMean { sum: HistogramSum::new(first), count: 1.0, incremental: false }
    }

    /// As [`HistogramSum::add`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn add(&mut self, other: &FloatHistogram) -> Result<bool, IncompatibleBuckets> {
        let count = self.count + 1.0;
        if !self.incremental {
            let mut sum = self.sum.clone();
            let reconciled = sum.add(other)?;
            if !sum.value.has_overflow() {
                (self.sum, self.count) = (sum, count);
                return Ok(reconciled);
            }
            self.make_incremental();
        }
        let mut share = other.clone();
        share.divide(count);
        self.sum.multiply(self.count / count);
        self.count = count;
        self.sum.add(&share)
    }

    /// As [`HistogramSum::merge`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn merge(&mut self, other: &HistogramMean) -> Result<bool, IncompatibleBuckets> {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut sum = self.sum.clone();
            let reconciled = sum.merge(&other.sum)?;
            if !sum.value.has_overflow() {
                (self.sum, self.count) = (sum, count);
                return Ok(reconciled);
            }
        }
        let mut other = other.clone();
        self.make_incremental();
        other.make_incremental();
        self.sum.multiply(self.count / count);
        other.sum.multiply(other.count / count);
        self.count = count;
        self.sum.merge(&other.sum)
    }

    pub(crate) fn finish(mut self) -> FloatHistogram {
        if !self.incremental {
            self.sum.divide(self.count);
        }
        self.sum.finish()
    }

    fn make_incremental(&mut self) {
        if !self.incremental {
            self.incremental = true;
            self.sum.divide(self.count);
        }
    }
}
