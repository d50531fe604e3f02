//! Native histograms: sparse buckets whose bounds follow from a schema, or custom bounds.
//!
//! Source: Prometheus `model/histogram`, and its specification of native histograms,
//! <https://prometheus.io/docs/specs/native_histograms/>.

mod arithmetic;
mod bounds;
mod compact;
mod geometry;
mod layout;
mod resets;
mod trim;
mod unite;
mod validate;

use std::sync::Arc;

pub use arithmetic::Combined;
pub use bounds::{Bucket, Buckets};
pub use geometry::{Geometry, IncompatibleBuckets};
pub use layout::{BucketLayout, Span};
pub use trim::Trim;
pub use unite::LayoutMap;
pub use validate::HistogramError;

/// The schema of histograms whose bounds are listed, not computed.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// The coarsest schema whose bounds are computed: each is 65,536 times the one before.
pub const MIN_SCHEMA: i32 = -4;
/// The finest schema that is stored: 256 buckets per power of two. Finer ones, up to 52, are known
/// and made coarser, see [`Histogram::coarsen`].
pub const MAX_SCHEMA: i32 = 8;
/// Most buckets of one histogram, zero bucket not counted. Clients keep to 160 by default.
pub const MAX_BUCKETS: usize = 1 << 16;

/// What is known about whether a histogram's counts started again at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ResetHint {
    /// Nothing.
    #[default]
    Unknown = 0,
    /// They did, just before this sample.
    Reset = 1,
    /// They did not, since the sample before.
    NoReset = 2,
    /// It is a gauge: counts go up and down.
    Gauge = 3,
}

impl ResetHint {
    /// The hint with this number, which is also its number in remote write.
    pub fn from_number(number: u64) -> Option<Self> {
        const ALL: [ResetHint; 4] =
            [ResetHint::Unknown, ResetHint::Reset, ResetHint::NoReset, ResetHint::Gauge];
        ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A number of observations: `u64`, or `f64` where histograms were computed.
pub trait Count:
    Copy + Default + PartialEq + PartialOrd + std::fmt::Debug + sealed::Sealed
{
    /// The same number as a float.
    fn to_f64(self) -> f64;
    /// The sum; integers wrap around, which [`Histogram::validate`] makes impossible.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// Whether it is less than zero. An integer is when its highest bit is set: that is what the
    /// deltas of a broken sender lead to.
    fn is_negative(self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for f64 {}
}

impl Count for u64 {
    #[inline]
    fn to_f64(self) -> f64 {
        self as f64
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline]
    fn is_negative(self) -> bool {
        (self as i64) < 0
    }
}

impl Count for f64 {
    #[inline]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline]
    fn is_negative(self) -> bool {
        self < 0.0
    }
}

/// One histogram: which buckets it has, and how many observations are in each.
///
/// Two equal histograms may differ in form, by buckets without observations that only one of them
/// lists; [`NativeHistogram::compact`] makes the form unique.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeHistogram<N> {
    /// Which buckets there are. Shared among histograms that have the same ones.
    pub layout: Arc<BucketLayout>,
    /// What is known about resets.
    pub reset_hint: ResetHint,
    /// All observations, also those that are in no bucket because they are NaN.
    pub count: N,
    /// Observations closer to zero than the layout's threshold, or at it.
    pub zero_count: N,
    /// Sum of all observations. The stale marker makes the histogram one.
    pub sum: f64,
    /// Observations in each bucket of the layout's positive spans, from zero upwards.
    pub positive: Vec<N>,
    /// Observations in each bucket of the layout's negative spans, from zero downwards.
    pub negative: Vec<N>,
}

/// A histogram of whole observations, as instrumented programs send it.
pub type IntegerHistogram = NativeHistogram<u64>;

/// A histogram of fractional observations, as queries compute it.
pub type FloatHistogram = NativeHistogram<f64>;

/// A histogram of either flavour.
#[derive(Debug, Clone, PartialEq)]
pub enum Histogram {
    /// Counts are whole.
    Integer(IntegerHistogram),
    /// Counts are fractions, or may be.
    Float(FloatHistogram),
}

impl<N: Count> NativeHistogram<N> {
    /// A histogram of `layout` without observations.
    pub fn empty(layout: Arc<BucketLayout>) -> Self {
        let (positive, negative) = layout.bucket_counts();
        NativeHistogram {
            reset_hint: ResetHint::Unknown,
            count: N::default(),
            zero_count: N::default(),
            sum: 0.0,
            positive: vec![N::default(); positive],
            negative: vec![N::default(); negative],
            layout,
        }
    }

    /// Whether it marks its series as gone.
    #[inline]
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    /// Number of buckets, the zero bucket not counted.
    pub fn bucket_count(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    /// All buckets in ascending order of bounds, the zero bucket among them if it has
    /// observations. About 5 ns per bucket.
    pub fn buckets(&self) -> Buckets<'_, N> {
        Buckets::cut(self)
    }

    /// As [`NativeHistogram::buckets`], but with the bounds that the schema gives them, also where
    /// the zero bucket covers them, and the zero bucket also if its count is negative.
    pub fn listed_buckets(&self) -> Buckets<'_, N> {
        Buckets::listed(self)
    }

    /// The same histogram with fractional counts.
    pub fn to_float(&self) -> FloatHistogram {
        let floats = |counts: &[N]| counts.iter().map(|count| count.to_f64()).collect();
        NativeHistogram {
            layout: Arc::clone(&self.layout),
            reset_hint: self.reset_hint,
            count: self.count.to_f64(),
            zero_count: self.zero_count.to_f64(),
            sum: self.sum,
            positive: floats(&self.positive),
            negative: floats(&self.negative),
        }
    }
}

impl IntegerHistogram {
    /// Absolute counts out of the differences in which protobuf messages list them; sums wrap.
    pub fn from_deltas(deltas: impl IntoIterator<Item = i64>) -> Vec<u64> {
        let mut count = 0_i64;
        let absolute = |delta: i64| {
            count = count.wrapping_add(delta);
            count as u64
        };
        deltas.into_iter().map(absolute).collect()
    }

    /// The reverse of [`IntegerHistogram::from_deltas`].
    pub fn to_deltas(counts: &[u64]) -> impl Iterator<Item = i64> + '_ {
        let before = std::iter::once(0).chain(counts.iter().copied());
        counts.iter().zip(before).map(|(&count, before)| count.wrapping_sub(before) as i64)
    }
}

/// Calls a method that both flavours have.
macro_rules! either {
    ($histogram:expr, $inner:ident => $call:expr) => {
        match $histogram {
            Histogram::Integer($inner) => $call,
            Histogram::Float($inner) => $call,
        }
    };
}

impl Histogram {
    /// The histogram that marks a series as gone.
    pub fn stale() -> Self {
        let mut marker = IntegerHistogram::empty(Arc::default());
        marker.sum = f64::from_bits(crate::STALE_NAN_BITS);
        Histogram::Integer(marker)
    }

    /// Which buckets it has.
    pub fn layout(&self) -> &Arc<BucketLayout> {
        either!(self, inner => &inner.layout)
    }

    /// Takes `layout`, which must be equal to its own, so that both share it.
    pub fn share_layout(&mut self, layout: &Arc<BucketLayout>) {
        debug_assert_eq!(self.layout(), layout, "only equal layouts can be shared");
        either!(self, inner => inner.layout = Arc::clone(layout));
    }

    /// What is known about resets.
    pub fn reset_hint(&self) -> ResetHint {
        either!(self, inner => inner.reset_hint)
    }

    /// Says what is known about resets.
    pub fn set_reset_hint(&mut self, hint: ResetHint) {
        either!(self, inner => inner.reset_hint = hint);
    }

    /// Sum of all observations.
    pub fn sum(&self) -> f64 {
        either!(self, inner => inner.sum)
    }

    /// Whether it marks its series as gone.
    pub fn is_stale(&self) -> bool {
        either!(self, inner => inner.is_stale())
    }

    /// Number of buckets, the zero bucket not counted.
    pub fn bucket_count(&self) -> usize {
        either!(self, inner => inner.bucket_count())
    }

    /// The histogram with fractional counts.
    pub fn to_float(&self) -> FloatHistogram {
        either!(self, inner => inner.to_float())
    }

    /// As [`NativeHistogram::compact`].
    pub fn compact(&mut self, max_empty: u32) {
        either!(self, inner => inner.compact(max_empty));
    }

    /// As [`NativeHistogram::coarsen`].
    ///
    /// # Errors
    /// As there.
    pub fn coarsen(&mut self, schema: i32) -> Result<(), HistogramError> {
        either!(self, inner => inner.coarsen(schema))
    }

    /// Whether both say the same: sums bit for bit, counts in buckets that have any. About 100 ns
    /// more if their layouts are not the same one.
    pub fn says_the_same(&self, other: &Histogram) -> bool {
        if Arc::ptr_eq(self.layout(), other.layout()) {
            return self.sum().to_bits() == other.sum().to_bits() && self.eq_but_sum(other);
        }
        let compacted = |histogram: &Histogram| {
            let mut histogram = histogram.clone();
            histogram.compact(0);
            histogram
        };
        let (left, right) = (compacted(self), compacted(other));
        left.sum().to_bits() == right.sum().to_bits() && left.eq_but_sum(&right)
    }

    /// Equality in which a NaN sum does not matter.
    fn eq_but_sum(&self, other: &Histogram) -> bool {
        fn same<N: Count>(a: &NativeHistogram<N>, b: &NativeHistogram<N>) -> bool {
            a.count == b.count
                && a.zero_count == b.zero_count
                && a.reset_hint == b.reset_hint
                && a.positive == b.positive
                && a.negative == b.negative
                && a.layout == b.layout
        }
        match (self, other) {
            (Histogram::Integer(a), Histogram::Integer(b)) => same(a, b),
            (Histogram::Float(a), Histogram::Float(b)) => same(a, b),
            _ => false,
        }
    }
}

/// One histogram sample of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Where the label bytes start in [`crate::MetricBatch::label_bytes`].
    pub labels_start: u32,
    /// How many label bytes there are.
    pub labels_len: u32,
    /// How those bytes are written.
    pub form: crate::LabelForm,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// When its counts began at zero, milliseconds since the epoch, if the sender told.
    pub start_ms: Option<i64>,
    /// The histogram.
    pub histogram: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_are_differences_of_neighbours() {
        let deltas = [1, 3, -2, -1, 1];
        let counts = IntegerHistogram::from_deltas(deltas);
        assert_eq!(counts, [1, 4, 2, 1, 2]);
        assert!(IntegerHistogram::to_deltas(&counts).eq(deltas));
        assert!(IntegerHistogram::from_deltas([1, -2])[1].is_negative());
    }

    #[test]
    fn the_stale_marker_is_valid_and_stale() {
        let stale = Histogram::stale();
        assert!(stale.is_stale());
        assert_eq!(stale.validate(), Ok(()));
        assert!(stale.says_the_same(&Histogram::stale()));
    }

    #[test]
    fn the_form_does_not_matter() {
        let layout = |spans: &[(i32, u32)]| {
            let positive = spans.iter().map(|&(offset, len)| Span { offset, len }).collect();
            Arc::new(BucketLayout { schema: 2, positive, ..BucketLayout::default() })
        };
        let histogram = |spans: &[(i32, u32)], counts: &[u64]| {
            let mut histogram = IntegerHistogram::empty(layout(spans));
            histogram.positive.copy_from_slice(counts);
            Histogram::Integer(histogram)
        };
        let dense = histogram(&[(-1, 4)], &[0, 1, 0, 2]);
        let sparse = histogram(&[(0, 1), (1, 1)], &[1, 2]);
        assert_ne!(dense, sparse);
        assert!(dense.says_the_same(&sparse));
        assert!(!dense.says_the_same(&histogram(&[(0, 2)], &[1, 2])));
    }
}
