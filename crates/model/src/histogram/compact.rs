//! Fewer buckets that say the same, or nearly.

use std::sync::Arc;

use super::layout::{SpanBuilder, indices};
use super::{BucketLayout, Count, HistogramError, MIN_SCHEMA, NativeHistogram, Span, validate};

impl<N: Count> NativeHistogram<N> {
    /// Removes buckets without observations, but for runs of up to `max_empty` of them between two
    /// others that have some; gaps that short are filled. With 0, two histograms that say the same
    /// have the same form. A histogram whose spans and counts do not match stays as it is.
    pub fn compact(&mut self, max_empty: u32) {
        let layout = &self.layout;
        let is_compact = |spans: &[Span], counts: &[N]| {
            counts.iter().all(|count| *count != N::default())
                && spans.iter().skip(1).all(|span| i64::from(span.offset) > i64::from(max_empty))
                && spans.iter().all(|span| span.len > 0)
        };
        // Fast path: clients send little that is empty.
        if is_compact(&layout.positive, &self.positive)
            && is_compact(&layout.negative, &self.negative)
        {
            return;
        }
        let positive = compact(&layout.positive, &self.positive, max_empty);
        let negative = compact(&layout.negative, &self.negative, max_empty);
        let (Some(positive), Some(negative)) = (positive, negative) else { return };
        (self.positive, self.negative) = (positive.1, negative.1);
        self.layout = Arc::new(BucketLayout {
            positive: positive.0,
            negative: negative.0,
            ..BucketLayout::clone(layout)
        });
    }

    /// Brings neighbouring buckets together until the schema is `schema`. Nothing happens if it is
    /// not below the present one, which must be exponential.
    ///
    /// # Errors
    /// Spans and counts that do not match; custom buckets.
    pub fn coarsen(&mut self, schema: i32) -> Result<(), HistogramError> {
        if self.layout.is_custom() {
            return Err(HistogramError::new(
                "cannot reduce resolution of a histogram with custom buckets",
            ));
        }
        validate::check_spans(&self.layout.positive, self.positive.len())?;
        validate::check_spans(&self.layout.negative, self.negative.len())?;
        let schema = schema.max(MIN_SCHEMA);
        let Ok(shift @ 1..) = u32::try_from(i64::from(self.layout.schema) - i64::from(schema))
        else {
            return Ok(());
        };
        let (positive_spans, positive) = merge(&self.layout.positive, &self.positive, shift);
        let (negative_spans, negative) = merge(&self.layout.negative, &self.negative, shift);
        (self.positive, self.negative) = (positive, negative);
        self.layout = Arc::new(BucketLayout {
            schema,
            positive: positive_spans,
            negative: negative_spans,
            ..BucketLayout::clone(&self.layout)
        });
        Ok(())
    }
}

/// The bucket of a schema coarser by `shift` that bucket `index` becomes part of.
fn coarser_index(index: i32, shift: u32) -> i32 {
    // Bucket i ends at bound i, so the one whose bound is the first at or above it is meant.
    ((i64::from(index) - 1) >> shift.min(62)) as i32 + 1
}

fn merge<N: Count>(spans: &[Span], counts: &[N], shift: u32) -> (Vec<Span>, Vec<N>) {
    let mut builder = SpanBuilder::default();
    let mut merged: Vec<N> = Vec::new();
    let mut last = None;
    for (index, &count) in indices(spans).zip(counts) {
        let index = coarser_index(index, shift);
        match merged.last_mut() {
            Some(into) if last == Some(index) => *into = into.plus(count),
            _ => {
                builder.push(index);
                merged.push(count);
                last = Some(index);
            }
        }
    }
    (builder.finish(), merged)
}

/// `None` if spans and counts do not match, or indices do not fit.
fn compact<N: Count>(spans: &[Span], counts: &[N], max_empty: u32) -> Option<(Vec<Span>, Vec<N>)> {
    validate::check_spans(spans, counts.len()).ok()?;
    let mut builder = SpanBuilder::default();
    let mut kept = Vec::with_capacity(counts.len());
    let mut next = None;
    for (index, &count) in indices(spans).zip(counts).filter(|(_, c)| **c != N::default()) {
        let gap = next.map_or(0, |next: i32| i64::from(index) - i64::from(next));
        if gap < 0 {
            return None;
        }
        if let (Some(next), true) = (next, gap <= i64::from(max_empty)) {
            for empty in next..index {
                builder.push(empty);
                kept.push(N::default());
            }
        }
        builder.push(index);
        kept.push(count);
        next = Some(index.wrapping_add(1));
    }
    Some((builder.finish(), kept))
}

#[cfg(test)]
mod tests {
    use super::super::IntegerHistogram;
    use super::*;

    fn histogram(schema: i32, spans: &[(i32, u32)], counts: &[u64]) -> IntegerHistogram {
        let positive = spans.iter().map(|&(offset, len)| Span { offset, len }).collect();
        let layout = BucketLayout { schema, positive, ..BucketLayout::default() };
        let mut histogram = IntegerHistogram::empty(Arc::new(layout));
        histogram.positive = counts.to_vec();
        histogram
    }

    #[test]
    fn empty_buckets_go_but_for_short_runs() {
        let spans = [(-2, 4), (3, 2), (1, 2)];
        let counts = [0, 1, 0, 2, 0, 0, 3, 0];
        for (max_empty, expected_spans, expected) in [
            (0, vec![(-1, 1), (1, 1), (6, 1)], vec![1, 2, 3]),
            (1, vec![(-1, 3), (6, 1)], vec![1, 0, 2, 3]),
            (6, vec![(-1, 10)], vec![1, 0, 2, 0, 0, 0, 0, 0, 0, 3]),
        ] {
            let mut found = histogram(3, &spans, &counts);
            found.compact(max_empty);
            assert_eq!(found, histogram(3, &expected_spans, &expected), "up to {max_empty}");
        }
        let mut nothing = histogram(0, &[(0, 0)], &[]);
        nothing.compact(0);
        assert_eq!(nothing, histogram(0, &[], &[]));
        let mut broken = histogram(0, &[(0, 9)], &[0, 1]);
        broken.compact(0);
        assert_eq!(broken, histogram(0, &[(0, 9)], &[0, 1]));
    }

    #[test]
    fn coarser_buckets_hold_what_finer_ones_held() {
        let mut found = histogram(2, &[(-4, 3), (1, 6)], &[1, 2, 4, 8, 16, 32, 64, 128, 256]);
        // Indices -4 -3 -2 | 0 1 2 3 4 5 of schema 2 are -1 0 0 | 0 1 1 1 1 2 of schema 0.
        found.coarsen(0).expect("valid");
        assert_eq!(found, histogram(0, &[(-1, 4)], &[1, 2 + 4 + 8, 16 + 32 + 64 + 128, 256]));
        let before = found.clone();
        found.coarsen(0).expect("valid");
        assert_eq!(found, before);
        let mut fine = histogram(52, &[(i32::MAX - 2, 2)], &[1, 1]);
        fine.coarsen(8).expect("valid");
        assert_eq!(fine.layout.schema, 8);
        assert!(histogram(1, &[(0, 1)], &[]).coarsen(0).is_err());
    }
}
