//! Arithmetic of histograms against a model that knows no spans: bucket by bucket in a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, Geometry, Trim};
use model::{BucketLayout, FloatHistogram, ResetHint, Span};
use proptest::prelude::*;

/// Counts by side (negative first) and index.
type Counts = BTreeMap<(bool, i32), f64>;

/// A histogram without spans.
#[derive(Debug, Clone, PartialEq)]
struct Naive {
    schema: i32,
    threshold: f64,
    bounds: Vec<f64>,
    zero: f64,
    count: f64,
    sum: f64,
    buckets: Counts,
}

/// The bounds of a positive bucket.
fn bounds(schema: i32, custom: &[f64], index: i32) -> (f64, f64) {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        let bound = |i: i32| match usize::try_from(i) {
            Err(_) => f64::NEG_INFINITY,
            Ok(i) => custom.get(i).copied().unwrap_or(f64::INFINITY),
        };
        return (bound(index - 1), bound(index));
    }
    let layout = BucketLayout { schema, ..BucketLayout::default() };
    (layout.bound(index - 1), layout.bound(index))
}

impl Naive {
    fn of(histogram: &FloatHistogram) -> Self {
        let mut buckets = Counts::new();
        let layout = &histogram.layout;
        for (negative, spans, counts) in [
            (true, &layout.negative, &histogram.negative),
            (false, &layout.positive, &histogram.positive),
        ] {
            let (mut index, mut counts) = (0, counts.iter());
            for span in spans {
                index += span.offset;
                for _ in 0..span.len {
                    let count = counts.next().expect("as many as spans have");
                    if *count != 0.0 {
                        buckets.insert((negative, index), *count);
                    }
                    index += 1;
                }
            }
        }
        Naive {
            schema: layout.schema,
            threshold: layout.zero_threshold,
            bounds: layout.custom_bounds.clone(),
            zero: histogram.zero_count,
            count: histogram.count,
            sum: histogram.sum,
            buckets,
        }
    }

    /// A threshold at or above `threshold` that is inside of no bucket.
    fn threshold_from(&self, mut threshold: f64) -> f64 {
        loop {
            let inside = self.buckets.keys().find_map(|&(_, index)| {
                let (lower, upper) = bounds(self.schema, &[], index);
                (lower < threshold && threshold < upper).then_some(upper)
            });
            match inside {
                Some(upper) => threshold = upper,
                None => return threshold,
            }
        }
    }

    /// What is closer to zero than `threshold` is in the zero bucket, and `shift` schemas coarser.
    fn conform(&self, threshold: f64, schema: i32) -> Self {
        let mut conformed = Naive { threshold, schema, buckets: Counts::new(), ..self.clone() };
        let width = 1 << (self.schema - schema);
        for (&(negative, index), &count) in &self.buckets {
            let (lower, _) = bounds(self.schema, &[], index);
            if lower < threshold && threshold > self.threshold {
                conformed.zero += count;
            } else {
                // Bucket i of the coarser schema ends where bucket i * width ends.
                let coarse = (index + width - 1).div_euclid(width);
                *conformed.buckets.entry((negative, coarse)).or_default() += count;
            }
        }
        conformed
    }

    fn keep_bounds(&self, kept: &[f64]) -> Self {
        let mut conformed = Naive { bounds: kept.to_vec(), buckets: Counts::new(), ..self.clone() };
        for (&(_, index), &count) in &self.buckets {
            let (_, upper) = bounds(self.schema, &self.bounds, index);
            let target = kept.iter().position(|b| *b >= upper).unwrap_or(kept.len());
            *conformed.buckets.entry((false, target as i32)).or_default() += count;
        }
        conformed
    }

    fn common(&self, other: &Self) -> (Self, Self) {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            let both = self.bounds.iter().filter(|b| other.bounds.contains(b));
            let both: Vec<f64> = both.copied().collect();
            return (self.keep_bounds(&both), other.keep_bounds(&both));
        }
        let mut threshold = self.threshold.max(other.threshold);
        loop {
            let next = other.threshold_from(self.threshold_from(threshold));
            if next == threshold {
                break;
            }
            threshold = next;
        }
        // One whose threshold stays has its buckets below it left alone.
        let schema = self.schema.min(other.schema);
        (self.conform(threshold, schema), other.conform(threshold, schema))
    }

    fn plus(&self, other: &Self, factor: f64) -> Self {
        let (mut total, other) = self.common(other);
        total.zero += factor * other.zero;
        total.count += factor * other.count;
        total.sum += factor * other.sum;
        for (&key, &count) in &other.buckets {
            *total.buckets.entry(key).or_default() += factor * count;
        }
        total.buckets.retain(|_, count| *count != 0.0);
        total
    }

    fn is_reset_since(&self, before: &Self) -> bool {
        if self.count < before.count || self.schema > before.schema {
            return true;
        }
        let before = if self.schema == CUSTOM_BUCKETS_SCHEMA {
            let (now, before) = self.common(before);
            return before
                .buckets
                .iter()
                .any(|(key, count)| now.buckets.get(key).copied().unwrap_or(0.0) < *count);
        } else if self.threshold < before.threshold
            || before.threshold_from(self.threshold) != self.threshold
        {
            return true;
        } else {
            before.conform(self.threshold, self.schema)
        };
        let less = |(key, count): (&(bool, i32), &f64)| {
            self.buckets.get(key).copied().unwrap_or(0.0) < *count
        };
        self.zero < before.zero || before.buckets.iter().any(less)
    }
}

fn spans() -> impl Strategy<Value = (Vec<Span>, Vec<f64>)> {
    let span = (0_i32..4, 0_u32..4).prop_map(|(offset, len)| Span { offset, len });
    (-6_i32..6, proptest::collection::vec(span, 0..4)).prop_flat_map(|(start, mut spans)| {
        if let Some(first) = spans.first_mut() {
            first.offset = start;
        }
        let len = spans.iter().map(|span| span.len as usize).sum::<usize>();
        (Just(spans), proptest::collection::vec((0_u8..5).prop_map(f64::from), len))
    })
}

fn settle(mut histogram: FloatHistogram) -> FloatHistogram {
    let counts = histogram.positive.iter().chain(&histogram.negative);
    histogram.count = counts.sum::<f64>() + histogram.zero_count;
    histogram
}

/// Numbers are small and whole, so that sums are exact. No bucket is within the zero bucket.
fn exponential() -> impl Strategy<Value = FloatHistogram> {
    let threshold = prop_oneof![Just(0.0), Just(0.001), Just(0.25), Just(1.0), Just(1.5)];
    (-1_i32..3, threshold, spans(), spans(), 0_u8..4, -9_i8..9).prop_map(
        |(schema, zero_threshold, positive, negative, zero, sum)| {
            let layout = BucketLayout {
                schema,
                zero_threshold,
                positive: positive.0,
                negative: negative.0,
                ..BucketLayout::default()
            };
            let mut histogram = FloatHistogram::empty(Arc::new(layout));
            (histogram.positive, histogram.negative) = (positive.1, negative.1);
            for (counts, spans) in [
                (&mut histogram.positive, &histogram.layout.positive),
                (&mut histogram.negative, &histogram.layout.negative),
            ] {
                let mut index = 0;
                let indices = spans.iter().flat_map(|span| {
                    let first = index + span.offset;
                    index = first + span.len as i32;
                    first..index
                });
                for (count, index) in counts.iter_mut().zip(indices) {
                    if bounds(schema, &[], index).0 < zero_threshold {
                        *count = 0.0;
                    }
                }
            }
            histogram.zero_count = f64::from(zero);
            histogram.sum = f64::from(sum);
            settle(histogram)
        },
    )
}

fn custom() -> impl Strategy<Value = FloatHistogram> {
    let bounds = proptest::sample::subsequence((-4..8).map(f64::from).collect::<Vec<_>>(), 0..8);
    (bounds, -9_i8..9).prop_flat_map(|(bounds, sum)| {
        let len = bounds.len() + 1;
        let counts = proptest::collection::vec((0_u8..5).prop_map(f64::from), len);
        counts.prop_map(move |counts| {
            let layout = BucketLayout {
                schema: CUSTOM_BUCKETS_SCHEMA,
                positive: vec![Span { offset: 0, len: counts.len() as u32 }],
                custom_bounds: bounds.clone(),
                ..BucketLayout::default()
            };
            let mut histogram = FloatHistogram::empty(Arc::new(layout));
            histogram.positive = counts;
            histogram.sum = f64::from(sum);
            settle(histogram)
        })
    })
}

fn pair() -> impl Strategy<Value = (FloatHistogram, FloatHistogram)> {
    prop_oneof![(exponential(), exponential()), (custom(), custom())]
}

proptest! {
    #[test]
    fn sums_and_differences_are_those_of_the_model((a, b) in pair()) {
        for factor in [1.0, -1.0] {
            let mut total = a.clone();
            let combined = if factor > 0.0 { total.add(&b) } else { total.subtract(&b) };
            let combined = combined.expect("of one kind");
            prop_assert_eq!(Naive::of(&total), Naive::of(&a).plus(&Naive::of(&b), factor));
            let (left, right) = (&a.layout.custom_bounds, &b.layout.custom_bounds);
            prop_assert_eq!(combined.bounds_reconciled, left != right);
        }
    }

    #[test]
    fn the_order_of_summands_does_not_matter((a, b) in pair()) {
        let (mut left, mut right) = (a.clone(), b.clone());
        left.add(&b).expect("of one kind");
        right.add(&a).expect("of one kind");
        prop_assert!(left.equals(&right), "{:?} {:?}", left, right);
    }

    #[test]
    fn what_was_added_can_be_taken_away((a, b) in pair()) {
        let geometry = Geometry::common(&a, &b).expect("of one kind");
        let mut conformed = a.clone();
        conformed.conform(&geometry);
        let mut total = a.clone();
        total.add(&b).expect("of one kind");
        total.subtract(&b).expect("of one kind");
        prop_assert_eq!(Naive::of(&total), Naive::of(&conformed));
    }

    #[test]
    fn form_does_not_make_a_difference(a in prop_oneof![exponential(), custom()]) {
        let mut compact = a.clone();
        compact.compact(0);
        prop_assert!(compact.equals(&a) && a.equals(&compact));
        let mut more = a.clone();
        more.zero_count += 1.0;
        prop_assert!(!more.equals(&a));
    }

    #[test]
    fn resets_are_those_of_the_model((before, after) in pair()) {
        let found = after.is_reset_since(&before);
        prop_assert_eq!(found, Naive::of(&after).is_reset_since(&Naive::of(&before)));
    }

    #[test]
    fn what_only_grew_was_not_reset((before, more) in pair()) {
        let mut after = more.clone();
        after.add(&before).expect("of one kind");
        // A zero bucket that had to grow beyond the sender's own is that of a reset.
        if after.layout.has_same_bounds(&more.layout) || after.layout.is_custom() {
            prop_assert!(!after.is_reset_since(&before), "{:?} {:?}", before, after);
        }
        after.reset_hint = ResetHint::Reset;
        prop_assert!(after.is_reset_since(&before));
    }

    #[test]
    fn both_parts_of_a_cut_are_the_whole(a in exponential(), at in -20.0_f64..20.0) {
        let (below, above) = (a.trimmed(Trim::Above, at), a.trimmed(Trim::Below, at));
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
        prop_assert!(close(below.count + above.count, a.count), "{} {}", below.count, above.count);
        let mut both = below.clone();
        both.add(&above).expect("of one kind");
        let (both, whole) = (Naive::of(&both), Naive::of(&a));
        for (key, count) in &whole.buckets {
            prop_assert!(close(both.buckets.get(key).copied().unwrap_or(0.0), *count));
        }
        prop_assert!(below.validate().is_ok() && above.validate().is_ok());
    }
}

#[test]
fn kinds_do_not_mix() {
    let exponential = FloatHistogram::empty(Arc::default());
    let layout = BucketLayout { schema: CUSTOM_BUCKETS_SCHEMA, ..BucketLayout::default() };
    let mut custom = FloatHistogram::empty(Arc::new(layout));
    assert!(custom.add(&exponential).is_err());
    assert!(custom.is_reset_since(&exponential));
    assert!(exponential.is_reset_since(&custom));
}

#[test]
fn hints_combine() {
    use ResetHint::{Gauge, NoReset, Reset, Unknown};
    assert_eq!(Reset.combine(NoReset), (Unknown, true));
    assert_eq!(Reset.combine(Reset), (Reset, false));
    assert_eq!(Unknown.combine(NoReset), (Unknown, false));
    assert_eq!(Reset.combine(Gauge), (Gauge, false));
}

#[test]
fn nothing_is_left_of_buckets_divided_by_zero() {
    let layout =
        BucketLayout { positive: vec![Span { offset: 0, len: 1 }], ..BucketLayout::default() };
    let mut histogram = FloatHistogram::empty(Arc::new(layout));
    (histogram.count, histogram.sum, histogram.positive) = (2.0, 3.0, vec![2.0]);
    histogram.multiply(-2.0);
    assert_eq!((histogram.count, histogram.positive[0]), (-4.0, -4.0));
    assert_eq!(histogram.reset_hint, ResetHint::Gauge);
    assert!(!histogram.has_overflow());
    histogram.divide(0.0);
    assert!(histogram.has_overflow() && histogram.bucket_count() == 0);
    assert_eq!(histogram.layout.bucket_counts(), (0, 0));
}
