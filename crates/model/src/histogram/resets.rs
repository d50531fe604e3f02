//! Whether the counts of a histogram started again at zero.
//!
//! Source: `DetectReset` of Prometheus `model/histogram/float_histogram.go`.

use std::cmp::Ordering;
use std::sync::Arc;

use super::layout::indices;
use super::{FloatHistogram, Geometry, ResetHint, Span};

impl FloatHistogram {
    /// Whether its counts started again at zero since `previous`: what its hint says, or else
    /// whether any count became smaller. A finer schema, a narrower zero bucket, and one that now
    /// ends inside of a bucket with observations, come only with a reset.
    pub fn is_reset_since(&self, previous: &FloatHistogram) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NoReset => return false,
            // Gauges have no resets, but who asks takes it for a counter.
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        // Fast path: nearly all neighbours have the same buckets.
        if Arc::ptr_eq(&self.layout, &previous.layout) || self.layout == previous.layout {
            let any_less = |now: &[f64], before: &[f64]| {
                now.iter().zip(before).any(|(now, before)| now < before)
            };
            return self.zero_count < previous.zero_count
                || any_less(&self.positive, &previous.positive)
                || any_less(&self.negative, &previous.negative);
        }
        if self.layout.is_custom() && previous.layout.is_custom() {
            let Ok(geometry) = Geometry::common(self, previous) else { return true };
            let (mut now, mut before) = (self.clone(), previous.clone());
            now.conform(&geometry);
            before.conform(&geometry);
            return now.lost_counts_of(&before);
        }
        let (layout, before) = (&self.layout, &previous.layout);
        let threshold = layout.zero_threshold;
        if layout.is_custom() != before.is_custom()
            || layout.schema > before.schema
            || threshold < before.zero_threshold
            || previous.zero_threshold_from(threshold) > threshold
        {
            return true;
        }
        let mut before = previous.clone();
        before.conform(&Geometry::Exponential { schema: layout.schema, zero_threshold: threshold });
        self.zero_count < before.zero_count || self.lost_counts_of(&before)
    }

    /// Whether a bucket of `before`, of the same geometry, has more observations than here.
    fn lost_counts_of(&self, before: &FloatHistogram) -> bool {
        let layouts = (&self.layout, &before.layout);
        lost((&layouts.0.positive, &self.positive), (&layouts.1.positive, &before.positive))
            || lost((&layouts.0.negative, &self.negative), (&layouts.1.negative, &before.negative))
    }
}

fn lost(now: (&[Span], &[f64]), before: (&[Span], &[f64])) -> bool {
    let mut now = indices(now.0).zip(now.1).peekable();
    for (index, before) in indices(before.0).zip(before.1) {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let is_lost = match now.peek().map(|(i, count)| (i.cmp(&index), *count)) {
            Some((Ordering::Equal, count)) => count < before,
            _ => *before != 0.0,
        };
        if is_lost {
            return true;
        }
    }
    false
}
