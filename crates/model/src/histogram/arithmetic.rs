//! Histograms added to, subtracted from and multiplied with one another.
//!
//! Source: `Add`, `Sub`, `Mul`, `Div` and `adjustCounterReset` of Prometheus
//! `model/histogram/float_histogram.go`, and its specification of native histograms,
//! <https://prometheus.io/docs/specs/native_histograms/>.

use std::sync::Arc;

use super::{BucketLayout, FloatHistogram, Geometry, IncompatibleBuckets, MIN_SCHEMA, ResetHint};

/// What is worth telling about two histograms brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One says that its counts started again at zero, the other that they did not.
    pub hints_conflict: bool,
    /// Custom bounds only one of them has were given up.
    pub bounds_reconciled: bool,
}

impl ResetHint {
    /// What is known about resets of a sum, and whether the two contradict each other.
    #[must_use]
    pub fn combine(self, other: ResetHint) -> (ResetHint, bool) {
        match (self, other) {
            (a, b) if a == b => (a, false),
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
            (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
            _ => (ResetHint::Unknown, true),
        }
    }
}

impl FloatHistogram {
    /// Adds `other`. Schemas, zero buckets and custom bounds are brought together first. About
    /// 1 ns per bucket if both have the same layout, else about 1 µs.
    ///
    /// # Errors
    /// Only one of them has custom buckets; then nothing is changed.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleBuckets> {
        self.combine(other, |count, other| *count += other)
    }

    /// Subtracts `other`, otherwise as [`FloatHistogram::add`]. The hint is that of a sum; a
    /// difference that a user sees is a gauge.
    ///
    /// # Errors
    /// As there.
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleBuckets> {
        self.combine(other, |count, other| *count -= other)
    }

    /// Multiplies all counts and the sum. Negative histograms are gauges.
    pub fn multiply(&mut self, factor: f64) {
        self.each(|count| *count *= factor);
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum. Nothing is left of buckets divided by zero.
    pub fn divide(&mut self, divisor: f64) {
        self.each(|count| *count /= divisor);
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
            self.layout = Arc::new(BucketLayout {
                positive: Vec::new(),
                negative: Vec::new(),
                ..BucketLayout::clone(&self.layout)
            });
        } else if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Whether some count or the sum is infinite.
    pub fn has_overflow(&self) -> bool {
        let numbers = [self.count, self.sum, self.zero_count];
        let counts = self.positive.iter().chain(&self.negative);
        numbers.iter().chain(counts).any(|number| number.is_infinite())
    }

    /// Whether both say the same, bit for bit, whatever empty buckets they list and whatever is
    /// known about resets.
    pub fn equals(&self, other: &FloatHistogram) -> bool {
        let same_bits = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        let same = |a: &FloatHistogram, b: &FloatHistogram| {
            let numbers = |h: &FloatHistogram| [h.count, h.sum, h.zero_count];
            same_bits(&numbers(a), &numbers(b))
                && same_bits(&a.positive, &b.positive)
                && same_bits(&a.negative, &b.negative)
                && a.layout == b.layout
        };
        if same(self, other) {
            return true;
        }
        // Cheap to tell apart: most differ in more than form.
        if self.count.to_bits() != other.count.to_bits()
            || !self.layout.has_same_bounds(&other.layout)
        {
            return false;
        }
        let (mut a, mut b) = (self.clone(), other.clone());
        a.compact(0);
        b.compact(0);
        same(&a, &b)
    }

    /// Gives all of `histograms`, of one geometry, one layout that has the buckets of each. What
    /// is too fine to have all of them is made coarser.
    pub fn unite(histograms: &mut [&mut FloatHistogram]) {
        let Some((first, rest)) = histograms.split_first() else { return };
        if rest.iter().all(|other| Arc::ptr_eq(&other.layout, &first.layout)) {
            return;
        }
        let mut union = Some(BucketLayout::clone(&first.layout));
        for other in rest {
            union = union.and_then(|union| union.union(&other.layout));
        }
        let Some(union) = union.map(Arc::new) else {
            let schema = first.layout.schema - 1;
            assert!(schema >= MIN_SCHEMA, "a coarse or custom layout has few buckets");
            for histogram in histograms.iter_mut() {
                let coarser = histogram.coarsen(schema);
                debug_assert_eq!(coarser, Ok(()), "only valid histograms are computed with");
            }
            return Self::unite(histograms);
        };
        for histogram in histograms {
            if *histogram.layout == *union {
                histogram.layout = Arc::clone(&union);
            } else {
                let map = histogram.layout.map_into(&union).expect("a union has all buckets");
                histogram.widen(&union, &map);
            }
        }
    }

    fn each(&mut self, f: impl Fn(&mut f64)) {
        for number in [&mut self.count, &mut self.sum, &mut self.zero_count] {
            f(number);
        }
        self.positive.iter_mut().for_each(&f);
        self.negative.iter_mut().for_each(&f);
    }

    fn combine(
        &mut self,
        other: &FloatHistogram,
        f: impl Fn(&mut f64, f64),
    ) -> Result<Combined, IncompatibleBuckets> {
        let (hint, hints_conflict) = self.reset_hint.combine(other.reset_hint);
        // Fast path: neighbours of one series nearly always have the same buckets.
        if self.layout.takes(&other.layout) {
            self.combine_counts(other, f);
            self.reset_hint = hint;
            return Ok(Combined { hints_conflict, bounds_reconciled: false });
        }
        let geometry = Geometry::common(self, other)?;
        let mut other = other.clone();
        self.conform(&geometry);
        other.conform(&geometry);
        if other.layout.hides_buckets() {
            other.drop_hidden_buckets();
        }
        Self::unite(&mut [self, &mut other]);
        self.combine_counts(&other, f);
        self.reset_hint = hint;
        Ok(Combined { hints_conflict, bounds_reconciled: geometry.reconciles_bounds() })
    }

    fn combine_counts(&mut self, other: &FloatHistogram, f: impl Fn(&mut f64, f64)) {
        f(&mut self.count, other.count);
        f(&mut self.sum, other.sum);
        f(&mut self.zero_count, other.zero_count);
        self.positive.iter_mut().zip(&other.positive).for_each(|(a, &b)| f(a, b));
        self.negative.iter_mut().zip(&other.negative).for_each(|(a, &b)| f(a, b));
    }
}
