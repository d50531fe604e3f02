//! One layout for several histograms.

use std::sync::Arc;

use super::layout::{SpanBuilder, indices};
use super::{BucketLayout, Count, MAX_BUCKETS, NativeHistogram, Span};

/// Where the buckets of one layout lie in another that has all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutMap {
    positive: Vec<u32>,
    negative: Vec<u32>,
}

impl BucketLayout {
    /// The layout that has the buckets of both; both must be valid. `None` if their buckets are
    /// of different width, or there would be too many.
    pub fn union(&self, other: &BucketLayout) -> Option<BucketLayout> {
        if !self.has_same_bounds(other) {
            return None;
        }
        let union = BucketLayout {
            positive: union(&self.positive, &other.positive),
            negative: union(&self.negative, &other.negative),
            ..self.clone()
        };
        let (positive, negative) = union.bucket_counts();
        (positive + negative <= MAX_BUCKETS).then_some(union)
    }

    /// Where this layout's buckets lie in `wider`; `None` if one of them is not in there.
    pub fn map_into(&self, wider: &BucketLayout) -> Option<LayoutMap> {
        let positive = places(&self.positive, &wider.positive)?;
        let negative = places(&self.negative, &wider.negative)?;
        self.has_same_bounds(wider).then_some(LayoutMap { positive, negative })
    }
}

impl<N: Count> NativeHistogram<N> {
    /// Gives the histogram the layout `wider`, into which `map` leads from its own. Buckets it did
    /// not have get no observations.
    ///
    /// # Panics
    /// `map` is not of these layouts.
    pub fn widen(&mut self, wider: &Arc<BucketLayout>, map: &LayoutMap) {
        let (positive, negative) = wider.bucket_counts();
        let spread = |counts: &[N], places: &[u32], len: usize| {
            let mut wide = vec![N::default(); len];
            for (&count, &place) in counts.iter().zip(places) {
                wide[place as usize] = count;
            }
            wide
        };
        self.positive = spread(&self.positive, &map.positive, positive);
        self.negative = spread(&self.negative, &map.negative, negative);
        self.layout = Arc::clone(wider);
    }
}

fn union(left: &[Span], right: &[Span]) -> Vec<Span> {
    let (mut left, mut right) = (indices(left).peekable(), indices(right).peekable());
    let mut builder = SpanBuilder::default();
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(&a), Some(&b)) => a.min(b),
            (Some(&only), None) | (None, Some(&only)) => only,
            (None, None) => return builder.finish(),
        };
        left.next_if_eq(&next);
        right.next_if_eq(&next);
        builder.push(next);
    }
}

fn places(narrow: &[Span], wide: &[Span]) -> Option<Vec<u32>> {
    let mut wide = (0..).zip(indices(wide));
    indices(narrow).map(|index| wide.find(|(_, i)| *i == index).map(|(place, _)| place)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::IntegerHistogram;
    use super::*;

    fn layout(schema: i32, positive: &[(i32, u32)], negative: &[(i32, u32)]) -> BucketLayout {
        let spans = |spans: &[(i32, u32)]| {
            spans.iter().map(|&(offset, len)| Span { offset, len }).collect()
        };
        BucketLayout {
            schema,
            positive: spans(positive),
            negative: spans(negative),
            ..BucketLayout::default()
        }
    }

    #[test]
    fn a_union_has_the_buckets_of_both() {
        let left = layout(1, &[(-2, 2), (3, 1)], &[]);
        let right = layout(1, &[(-1, 1), (1, 1)], &[(7, 1)]);
        let union = left.union(&right).expect("of one schema");
        assert_eq!(union, layout(1, &[(-2, 2), (1, 1), (1, 1)], &[(7, 1)]));
        assert_eq!(left.union(&left), Some(left.clone()));
        assert_eq!(left.union(&layout(2, &[], &[])), None);
        let many = MAX_BUCKETS as u32;
        assert_eq!(layout(1, &[(0, many)], &[]).union(&layout(1, &[(-1, 1)], &[])), None);

        let mut histogram = IntegerHistogram::empty(Arc::new(right.clone()));
        histogram.positive = vec![5, 6];
        histogram.negative = vec![7];
        let map = right.map_into(&union).expect("all buckets are there");
        histogram.widen(&Arc::new(union.clone()), &map);
        assert_eq!((histogram.positive, histogram.negative), (vec![0, 5, 6, 0], vec![7]));
        assert_eq!(union.map_into(&right), None);
    }
}
