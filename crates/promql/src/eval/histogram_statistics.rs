//! Histograms of which a query wants count and sum only.
//!
//! Source: `HistogramStatsIterator` of Prometheus' `promql/histogram_stats_iterator.go`.

use std::sync::Arc;

use model::{BucketLayout, FloatHistogram, ResetHint};

use crate::source::HistogramSamples;

/// Takes away the buckets. They are needed to see resets, so these are settled first: from then on
/// each histogram says whether it was reset since the one before, but for the very first.
pub(crate) fn strip(samples: &mut HistogramSamples) {
    let mut layout: Arc<BucketLayout> = Arc::default();
    let mut before: Option<Arc<FloatHistogram>> = None;
    for sample in &mut samples.histograms {
        let reset_hint = match (sample.reset_hint, &before) {
            (ResetHint::Unknown, Some(_)) if sample.is_stale() => ResetHint::Unknown,
            (ResetHint::Unknown, Some(before)) if sample.is_reset_since(before) => ResetHint::Reset,
            (ResetHint::Unknown, Some(_)) => ResetHint::NoReset,
            (known, _) => known,
        };
        let schema = sample.layout.schema;
        if layout.schema != schema {
            layout = Arc::new(BucketLayout { schema, ..BucketLayout::default() });
        }
        let mut stripped = FloatHistogram::empty(Arc::clone(&layout));
        (stripped.count, stripped.sum) = (sample.count, sample.sum);
        stripped.reset_hint = reset_hint;
        let whole = std::mem::replace(sample, Arc::new(stripped));
        if !whole.is_stale() {
            before = Some(whole);
        }
    }
}
