//! Where buckets begin and end.

use super::layout::indices;
use super::{BucketLayout, Count, MAX_SCHEMA, NativeHistogram};

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket<N> {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound itself is inside.
    pub has_lower: bool,
    /// Whether the upper bound itself is inside.
    pub has_upper: bool,
    /// Observations inside.
    pub count: N,
}

/// The factors of `2^(i/256)`, one for each bit of `i`, highest first: 1/2, 1/4, … 1/256.
///
/// Bounds must agree with those of Prometheus and its clients in every bit, and those come from a
/// table that is not rounded correctly everywhere. Multiplying these factors in this order gives
/// exactly that table; the first one is the float just below the square root of two.
#[expect(clippy::approx_constant, reason = "one unit in the last place below that constant")]
const ROOTS: [f64; 8] = [
    1.414213562373095,
    1.189207115002721,
    1.0905077326652577,
    1.0442737824274138,
    1.0218971486541166,
    1.0108892860517005,
    1.0054299011128027,
    1.0027112750502025,
];

/// The upper bound of bucket `index` of an exponential schema, from [`super::MIN_SCHEMA`] to
/// [`MAX_SCHEMA`]; infinite or zero where floats end.
fn exponential_bound(index: i32, schema: i32) -> f64 {
    let (fraction, exponent) = if schema < 0 {
        (0.5, (i64::from(index) << schema.unsigned_abs().min(4)) + 1)
    } else {
        let schema = schema.min(MAX_SCHEMA);
        let place = (index & ((1 << schema) - 1)) << (MAX_SCHEMA - schema);
        (fraction_of_256(place), i64::from(index >> schema) + 1)
    };
    // The bound above which only infinity lies is the greatest float, so that infinity has a
    // bucket of its own.
    if fraction == 0.5 && exponent == 1025 { f64::MAX } else { scale(fraction, exponent) }
}

/// `2^(place/256 - 1)`, `place` below 256.
fn fraction_of_256(place: i32) -> f64 {
    let mut fraction = 0.5;
    for (bit, root) in ROOTS.iter().enumerate() {
        if place & (0x80 >> bit) != 0 {
            fraction *= root;
        }
    }
    fraction
}

/// `fraction × 2^exponent`, `fraction` in `0.5..1`, rounded once.
fn scale(fraction: f64, exponent: i64) -> f64 {
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    match exponent {
        ..-1080 => 0.0,
        // Only the last product may be subnormal, so only it is rounded.
        -1080..-1000 => fraction * power(-1000) * power(exponent + 1000),
        -1000..=1023 => fraction * power(exponent),
        1024 => fraction * 2.0 * power(1023),
        _ => f64::INFINITY,
    }
}

impl BucketLayout {
    /// The upper bound of positive bucket `index`; the lower one is that of bucket `index - 1`.
    /// About 5 ns. Negative buckets are mirrored.
    pub fn bound(&self, index: i32) -> f64 {
        if !self.is_custom() {
            return exponential_bound(index, self.schema);
        }
        match usize::try_from(index) {
            Ok(place) => self.custom_bounds.get(place).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }

    fn positive_bucket<N>(&self, index: i32, count: N, cut: bool) -> Bucket<N> {
        let (lower, upper) = (self.bound(index.wrapping_sub(1)), self.bound(index));
        if self.is_custom() {
            return Bucket { lower, upper, has_lower: index == 0, has_upper: true, count };
        }
        // What the zero bucket covers is not covered twice.
        let lower = if cut && lower > 0.0 { lower.max(self.zero_threshold) } else { lower };
        Bucket { lower, upper, has_lower: lower < 0.0, has_upper: upper > 0.0, count }
    }
}

/// The buckets of a histogram in ascending order of bounds.
#[derive(Debug, Clone)]
pub struct Buckets<'a, N> {
    layout: &'a BucketLayout,
    negative: std::iter::Rev<std::vec::IntoIter<(i32, N)>>,
    zero: Option<N>,
    positive: std::vec::IntoIter<(i32, N)>,
    /// Whether buckets begin no nearer to zero than where the zero bucket ends.
    cut: bool,
}

impl<'a, N: Count> Buckets<'a, N> {
    /// As they are shown and computed with: what the zero bucket covers is not covered twice, and
    /// a zero bucket with less than nothing in it is none.
    pub(super) fn cut(histogram: &'a NativeHistogram<N>) -> Self {
        let has_zero = histogram.zero_count > N::default();
        Self::new(histogram, has_zero, true)
    }

    /// As they are listed.
    pub(super) fn listed(histogram: &'a NativeHistogram<N>) -> Self {
        let has_zero = histogram.zero_count != N::default();
        Self::new(histogram, has_zero, false)
    }

    fn new(histogram: &'a NativeHistogram<N>, has_zero: bool, cut: bool) -> Self {
        let layout = &*histogram.layout;
        // As many as there are counts, whatever lengths the spans declare.
        let listed = |spans, counts: &[N]| -> std::vec::IntoIter<(i32, N)> {
            counts.iter().zip(indices(spans)).map(|(&n, i)| (i, n)).collect::<Vec<_>>().into_iter()
        };
        let has_zero = has_zero && !layout.is_custom();
        Buckets {
            layout,
            negative: listed(&layout.negative, &histogram.negative).rev(),
            zero: has_zero.then_some(histogram.zero_count),
            positive: listed(&layout.positive, &histogram.positive),
            cut,
        }
    }
}

impl<N: Count> Iterator for Buckets<'_, N> {
    type Item = Bucket<N>;

    fn next(&mut self) -> Option<Bucket<N>> {
        if let Some((index, count)) = self.negative.next() {
            let mirrored = self.layout.positive_bucket(index, count, self.cut);
            return Some(Bucket {
                lower: -mirrored.upper,
                upper: -mirrored.lower,
                has_lower: mirrored.has_upper,
                has_upper: mirrored.has_lower,
                count,
            });
        }
        if let Some(count) = self.zero.take() {
            let threshold = self.layout.zero_threshold;
            return Some(Bucket {
                lower: -threshold,
                upper: threshold,
                has_lower: true,
                has_upper: true,
                count,
            });
        }
        let (index, count) = self.positive.next()?;
        Some(self.layout.positive_bucket(index, count, self.cut))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FloatHistogram, Span};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn fractions_are_those_that_clients_use() {
        // Source: the table of bounds in Prometheus' `model/histogram/generic.go`, schema 8.
        for (place, expected) in [
            (0, 0.5),
            (1, 0.5013556375251013),
            (6, 0.5081891574554764),
            (19, 0.526395386502313),
            (75, 0.6125793968185725),
            (128, 0.7071067811865475),
            (129, 0.7090239421602076),
            (160, 0.7711054127039704),
            (201, 0.8616394738731368),
            (225, 0.9194902933879467),
            (255, 0.9972960560854698),
        ] {
            assert_eq!(fraction_of_256(place), expected, "2^({place}/256 - 1)");
        }
        // All 256, by the exclusive or of their bits, each turned by its place.
        let digest = (0..256).fold(0_u64, |digest, place| {
            digest ^ fraction_of_256(place).to_bits().rotate_left(place as u32 % 64)
        });
        assert_eq!(digest, DIGEST_OF_TABLE);
    }

    /// Of the published table.
    const DIGEST_OF_TABLE: u64 = 0xbe18_8f5a_0991_cc9f;

    #[test]
    fn bounds_reach_to_where_floats_end() {
        for (index, schema, expected) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (1, 1, ROOTS[0]),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (-1074, 0, f64::from_bits(1)),
            (-1022, 0, f64::MIN_POSITIVE),
            (i32::MIN, 0, 0.0),
            (i32::MAX, 8, f64::INFINITY),
            (1, -4, 65_536.0),
            (64, -4, f64::MAX),
            (65, -4, f64::INFINITY),
            (-67, -4, f64::from_bits(1 << 2)),
            (i32::MIN, -4, 0.0),
            (256, 8, 2.0),
            (262_144, 8, f64::MAX),
        ] {
            let layout = BucketLayout { schema, ..BucketLayout::default() };
            assert_eq!(layout.bound(index), expected, "bucket {index} of schema {schema}");
        }
    }

    #[test]
    fn buckets_ascend_and_leave_the_zero_bucket_alone() {
        let layout = BucketLayout {
            schema: 0,
            zero_threshold: 0.75,
            positive: vec![Span { offset: 0, len: 2 }],
            negative: vec![Span { offset: 0, len: 1 }, Span { offset: 1, len: 1 }],
            ..BucketLayout::default()
        };
        let mut histogram = FloatHistogram::empty(Arc::new(layout));
        histogram.zero_count = 5.0;
        histogram.positive = vec![1.0, 2.0];
        histogram.negative = vec![3.0, 4.0];
        let found: Vec<_> = histogram
            .buckets()
            .map(|b| (b.lower, b.upper, b.has_lower, b.has_upper, b.count))
            .collect();
        assert_eq!(
            found,
            [
                (-4.0, -2.0, true, false, 4.0),
                (-1.0, -0.75, true, false, 3.0),
                (-0.75, 0.75, true, true, 5.0),
                (0.75, 1.0, false, true, 1.0),
                (1.0, 2.0, false, true, 2.0),
            ]
        );
    }

    #[test]
    fn custom_buckets_reach_to_infinity_on_both_sides() {
        let layout = BucketLayout {
            schema: super::super::CUSTOM_BUCKETS_SCHEMA,
            positive: vec![Span { offset: 0, len: 3 }],
            custom_bounds: vec![0.0, 1.0],
            ..BucketLayout::default()
        };
        let histogram = FloatHistogram::empty(Arc::new(layout));
        let found: Vec<_> =
            histogram.buckets().map(|b| (b.lower, b.upper, b.has_lower, b.has_upper)).collect();
        assert_eq!(
            found,
            [
                (f64::NEG_INFINITY, 0.0, true, true),
                (0.0, 1.0, false, true),
                (1.0, f64::INFINITY, false, true),
            ]
        );
    }
}
