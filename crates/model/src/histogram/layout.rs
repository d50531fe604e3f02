//! Which buckets a histogram has.

use std::sync::Arc;

use super::{CUSTOM_BUCKETS_SCHEMA, MAX_BUCKETS};

/// A run of buckets with consecutive indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// How many buckets lie between it and the span before; the index of its first bucket in the
    /// first span, which may be negative.
    pub offset: i32,
    /// How many buckets it has.
    pub len: u32,
}

/// The buckets of a histogram: how wide they are and which of them are listed.
///
/// Bucket `i` of an exponential schema `s` holds observations in `(2^((i-1)/2^s), 2^(i/2^s)]`,
/// negative ones mirrored. Bucket `i` of a custom one holds `(bound[i-1], bound[i]]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BucketLayout {
    /// Number of the schema: -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Observations up to this distance from zero are in the zero bucket.
    pub zero_threshold: f64,
    /// Buckets of positive observations.
    pub positive: Vec<Span>,
    /// Buckets of negative observations.
    pub negative: Vec<Span>,
    /// Upper bounds of custom buckets, ascending; one more bucket reaches from the last one to
    /// infinity.
    pub custom_bounds: Vec<f64>,
}

impl BucketLayout {
    /// Whether bounds are listed instead of computed.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Number of positive and of negative buckets. More than [`MAX_BUCKETS`] of one sign count as
    /// one more than that: no valid histogram has them.
    pub fn bucket_counts(&self) -> (usize, usize) {
        (span_buckets(&self.positive), span_buckets(&self.negative))
    }

    /// Whether buckets of both are of the same width, so that counts can be brought together.
    pub fn has_same_bounds(&self, other: &BucketLayout) -> bool {
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.custom_bounds == other.custom_bounds
    }

    /// Whether counts of `other` can be added to counts of this one as they are.
    #[inline]
    pub fn takes(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        (Arc::ptr_eq(self, other) || self == other) && !other.hides_buckets()
    }

    /// Whether buckets lie within the zero bucket. About 5 ns.
    pub fn hides_buckets(&self) -> bool {
        // The first bucket is the one nearest to zero.
        let is_hidden = |spans: &[Span]| {
            indices(spans).next().is_some_and(|i| self.bound(i) <= self.zero_threshold)
        };
        !self.is_custom() && (is_hidden(&self.positive) || is_hidden(&self.negative))
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        (self.positive.capacity() + self.negative.capacity()) * size_of::<Span>()
            + self.custom_bounds.capacity() * size_of::<f64>()
    }
}

/// Number of buckets in `spans`, at most [`MAX_BUCKETS`] and one.
fn span_buckets(spans: &[Span]) -> usize {
    let total: u64 = spans.iter().map(|span| u64::from(span.len)).sum();
    usize::try_from(total).unwrap_or(usize::MAX).min(MAX_BUCKETS + 1)
}

/// The index of every bucket of `spans`. Indices that do not fit wrap, which no valid layout has.
pub(super) fn indices(spans: &[Span]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0_i32;
    spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.len as i32);
        (0..span.len).map(move |place| first.wrapping_add(place as i32))
    })
}

/// Builds spans out of ascending indices.
#[derive(Debug, Default)]
pub(super) struct SpanBuilder {
    spans: Vec<Span>,
    next: i32,
}

impl SpanBuilder {
    /// Appends a bucket whose index is above those before.
    pub(super) fn push(&mut self, index: i32) {
        match self.spans.last_mut() {
            Some(last) if index == self.next => last.len += 1,
            _ => self.spans.push(Span { offset: index.wrapping_sub(self.next), len: 1 }),
        }
        self.next = index.wrapping_add(1);
    }

    pub(super) fn finish(self) -> Vec<Span> {
        self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_indices_are_two_views_of_one() {
        let spans = [
            Span { offset: -3, len: 2 },
            Span { offset: 0, len: 1 },
            Span { offset: 4, len: 0 },
            Span { offset: 1, len: 2 },
        ];
        let all: Vec<i32> = indices(&spans).collect();
        assert_eq!(all, [-3, -2, -1, 5, 6]);
        let mut builder = SpanBuilder::default();
        all.iter().for_each(|&index| builder.push(index));
        assert_eq!(builder.finish(), [Span { offset: -3, len: 3 }, Span { offset: 5, len: 2 }]);
    }

    #[test]
    fn declared_lengths_are_not_believed() {
        let spans = vec![Span { offset: 0, len: u32::MAX }; 3];
        let layout = BucketLayout { positive: spans, ..BucketLayout::default() };
        assert_eq!(layout.bucket_counts(), (MAX_BUCKETS + 1, 0));
    }
}
