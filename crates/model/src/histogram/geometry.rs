//! One kind of buckets for two histograms.
//!
//! Source: `reconcileZeroBuckets` and the treatment of custom bounds in Prometheus
//! `model/histogram/float_histogram.go`.

use std::sync::Arc;

use super::layout::{SpanBuilder, indices};
use super::{BucketLayout, FloatHistogram, Span};

/// Why two histograms cannot be computed with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("histograms with exponential and with custom buckets have nothing in common")]
pub struct IncompatibleBuckets;

/// Bounds two histograms can both be brought to without guessing where observations lie.
#[derive(Debug, Clone, PartialEq)]
pub enum Geometry {
    /// The coarser schema, and a zero bucket that cuts through no bucket with observations.
    Exponential {
        /// The schema.
        schema: i32,
        /// Where the zero bucket ends.
        zero_threshold: f64,
    },
    /// Custom bounds.
    Custom {
        /// The bounds both have.
        bounds: Vec<f64>,
        /// Whether one of them has others.
        reconciled: bool,
    },
}

impl Geometry {
    /// What `left` and `right` have in common.
    ///
    /// # Errors
    /// One has custom buckets and the other has not.
    pub fn common(
        left: &FloatHistogram,
        right: &FloatHistogram,
    ) -> Result<Self, IncompatibleBuckets> {
        match (left.layout.is_custom(), right.layout.is_custom()) {
            (true, true) => {
                let (left, right) = (&left.layout.custom_bounds, &right.layout.custom_bounds);
                let bounds = intersection(left, right);
                let reconciled = bounds.len() < left.len().max(right.len());
                Ok(Geometry::Custom { bounds, reconciled })
            }
            (false, false) => Ok(Geometry::Exponential {
                schema: left.layout.schema.min(right.layout.schema),
                zero_threshold: common_threshold(left, right),
            }),
            _ => Err(IncompatibleBuckets),
        }
    }

    /// Whether custom bounds had to be given up.
    pub fn reconciles_bounds(&self) -> bool {
        matches!(self, Geometry::Custom { reconciled: true, .. })
    }
}

impl FloatHistogram {
    /// Brings the histogram to `geometry`, which must be common to it and another one. Buckets are
    /// added up; the ones that end inside of the zero bucket become part of it.
    pub fn conform(&mut self, geometry: &Geometry) {
        match geometry {
            Geometry::Exponential { schema, zero_threshold } => {
                self.widen_zero_bucket(*zero_threshold);
                if self.layout.schema > *schema {
                    // Spans and counts of a valid histogram match, and buckets are exponential.
                    let coarser = self.coarsen(*schema);
                    debug_assert_eq!(coarser, Ok(()), "only valid histograms are computed with");
                }
            }
            Geometry::Custom { bounds, .. } => {
                if self.layout.custom_bounds != *bounds {
                    self.keep_bounds(bounds);
                }
            }
        }
    }

    /// Where a zero bucket ends that reaches at least to `threshold` and holds no part of a bucket
    /// with observations.
    pub(super) fn zero_threshold_from(&self, threshold: f64) -> f64 {
        let layout = &self.layout;
        let mut threshold = threshold;
        loop {
            let before = threshold;
            for (spans, counts) in
                [(&layout.positive, &self.positive), (&layout.negative, &self.negative)]
            {
                for (index, &count) in indices(spans).zip(counts) {
                    if layout.bound(index.wrapping_sub(1)) >= threshold {
                        break;
                    }
                    let upper = layout.bound(index);
                    if count != 0.0 && upper > threshold {
                        threshold = upper;
                        break;
                    }
                }
            }
            // Only a bucket on the other side can have moved it further.
            if threshold == before {
                return threshold;
            }
        }
    }

    /// Removes buckets that lie within the zero bucket and are not part of its count. No client
    /// sends such, but nothing forbids them. In a sum Prometheus leaves those of all but the first
    /// histogram out.
    pub fn drop_hidden_buckets(&mut self) {
        let layout = Arc::clone(&self.layout);
        let mut seen = BucketLayout::clone(&layout);
        for (spans, counts, kept_spans) in [
            (&layout.positive, &mut self.positive, &mut seen.positive),
            (&layout.negative, &mut self.negative, &mut seen.negative),
        ] {
            let hidden =
                indices(spans).take_while(|index| layout.bound(*index) <= layout.zero_threshold);
            let hidden = hidden.count().min(counts.len());
            let mut builder = SpanBuilder::default();
            indices(spans).skip(hidden).for_each(|index| builder.push(index));
            *kept_spans = builder.finish();
            counts.drain(..hidden);
        }
        self.layout = Arc::new(seen);
    }

    fn widen_zero_bucket(&mut self, threshold: f64) {
        let is_wider = threshold > self.layout.zero_threshold;
        if !is_wider {
            return;
        }
        let layout = Arc::clone(&self.layout);
        let mut widened =
            BucketLayout { zero_threshold: threshold, ..BucketLayout::clone(&layout) };
        let mut zero_count = self.zero_count;
        for (spans, counts, kept_spans) in [
            (&layout.positive, &mut self.positive, &mut widened.positive),
            (&layout.negative, &mut self.negative, &mut widened.negative),
        ] {
            let mut builder = SpanBuilder::default();
            let mut kept = Vec::with_capacity(counts.len());
            for (index, &count) in indices(spans).zip(&*counts) {
                if layout.bound(index.wrapping_sub(1)) < threshold {
                    zero_count += count;
                } else {
                    builder.push(index);
                    kept.push(count);
                }
            }
            *kept_spans = builder.finish();
            *counts = kept;
        }
        self.zero_count = zero_count;
        self.layout = Arc::new(widened);
    }

    /// Adds up custom buckets between which `bounds`, a part of the present ones, has none.
    fn keep_bounds(&mut self, bounds: &[f64]) {
        let mut counts = vec![0.0; bounds.len() + 1];
        for (index, count) in indices(&self.layout.positive).zip(&self.positive) {
            let upper = self.layout.bound(index);
            counts[bounds.partition_point(|bound| *bound < upper)] += count;
        }
        self.layout = Arc::new(BucketLayout {
            schema: self.layout.schema,
            positive: vec![Span { offset: 0, len: counts.len() as u32 }],
            custom_bounds: bounds.to_vec(),
            ..BucketLayout::default()
        });
        self.positive = counts;
    }
}

fn common_threshold(left: &FloatHistogram, right: &FloatHistogram) -> f64 {
    let (mut of_left, mut of_right) = (left.layout.zero_threshold, right.layout.zero_threshold);
    loop {
        if of_left > of_right {
            of_right = right.zero_threshold_from(of_left);
        } else if of_right > of_left {
            of_left = left.zero_threshold_from(of_right);
        } else {
            return of_left;
        }
    }
}

/// The numbers that are in both of two ascending lists.
fn intersection(left: &[f64], right: &[f64]) -> Vec<f64> {
    let mut both = Vec::new();
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        if a < b {
            left.next();
        } else if b < a {
            right.next();
        } else {
            both.push(**a);
            left.next();
            right.next();
        }
    }
    both
}
