//! `anchored` and `smoothed` ranges of histograms.
//!
//! Source: `extendedHistogramRate` and `interpolateHistograms` of Prometheus'
//! `promql/functions.go`.

use std::sync::Arc;

use model::{FloatHistogram, ResetHint};

use super::histogram_change::{Change, add, subtract};
use super::mixed::{Mixed, Outcome, Window};
use crate::ast::RangeExtension;
use crate::eval::annotations::{Finding, Findings};
use crate::source::HistogramSamples;

/// A histogram and its time.
type Point<'p> = (i64, &'p FloatHistogram);

/// The change from border to border of a window of nothing but histograms.
pub(super) fn change(
    mixed: &Mixed<'_>,
    window: &Window,
    change: Change,
    extension: RangeExtension,
    findings: &mut Findings,
) -> Outcome {
    let (start_ms, end_ms) = mixed.floats.range_of(window.step);
    let range = Extended {
        timestamps_ms: &mixed.histograms.timestamps_ms[window.histograms.clone()],
        histograms: &mixed.histograms.histograms[window.histograms.clone()],
        start_ms,
        end_ms,
        smoothed: extension == RangeExtension::Smoothed,
    };
    let Some(mut total) = range.change(change.counter, findings) else { return Outcome::Nothing };
    if change.per_second {
        total.divide(mixed.floats.range_ms as f64 / 1000.0);
    }
    total.reset_hint = ResetHint::Gauge;
    total.compact(0);
    total.into()
}

/// The histograms in and around one range, of which there is one at least.
struct Extended<'s> {
    timestamps_ms: &'s [i64],
    histograms: &'s [Arc<FloatHistogram>],
    start_ms: i64,
    end_ms: i64,
    smoothed: bool,
}

impl<'s> Extended<'s> {
    /// First and last sample that say something about the range.
    fn ends(&self) -> Option<(usize, usize)> {
        let times = self.timestamps_ms;
        let mut last = times.len().checked_sub(1)?;
        let first = times[..last].partition_point(|t| *t <= self.start_ms).saturating_sub(1);
        if self.smoothed {
            last = times[..last].partition_point(|t| *t < self.end_ms);
        }
        let is_outside =
            times[last] <= self.start_ms || (self.smoothed && times[first] > self.end_ms);
        (!is_outside).then_some((first, last))
    }

    fn point(&self, index: usize) -> Point<'s> {
        (self.timestamps_ms[index], &self.histograms[index])
    }

    /// Whether the value at the left border lies between two samples.
    fn interpolates_left(&self, first: usize) -> bool {
        self.smoothed && self.timestamps_ms[first] < self.start_ms
    }

    fn left(&self, first: usize, counter: bool, findings: &mut Findings) -> Option<FloatHistogram> {
        if !self.interpolates_left(first) {
            return Some(FloatHistogram::clone(&self.histograms[first]));
        }
        let points = [self.point(first), self.point(first + 1)];
        interpolate(points, self.start_ms, counter, findings)
    }

    fn right(&self, last: usize, counter: bool, findings: &mut Findings) -> Option<FloatHistogram> {
        if !self.smoothed || last == 0 || self.timestamps_ms[last] <= self.end_ms {
            return Some(FloatHistogram::clone(&self.histograms[last]));
        }
        let points = [self.point(last - 1), self.point(last)];
        interpolate(points, self.end_ms, counter, findings)
    }

    fn change(&self, counter: bool, findings: &mut Findings) -> Option<FloatHistogram> {
        let (first, last) = self.ends()?;
        let is_gauge = |histogram: &FloatHistogram| histogram.reset_hint == ResetHint::Gauge;
        let seen = &self.histograms[first..=last.max(first)];
        let is_custom = seen[0].layout.is_custom();
        for histogram in seen {
            if histogram.layout.is_custom() != is_custom {
                findings.note(Finding::MixedSchemas);
                return None;
            }
            findings.note_if(counter && is_gauge(histogram), Finding::NotCounter);
        }
        let left = self.left(first, counter, findings)?;
        let right = self.right(last, counter, findings)?;
        let are_gauges = is_gauge(&left) && is_gauge(&right);
        findings.note_if(!counter && !are_gauges, Finding::NotGauge);
        let mut total = right.clone();
        if !subtract(&mut total, &left, findings) {
            return None;
        }
        if counter && !self.add_resets(&mut total, (first, &left), (last, &right), findings) {
            return None;
        }
        Some(total)
    }

    /// Adds what was lost in resets between the borders. `false` if that cannot be computed.
    fn add_resets(
        &self,
        total: &mut FloatHistogram,
        (first, left): (usize, &FloatHistogram),
        (last, right): (usize, &FloatHistogram),
        findings: &mut Findings,
    ) -> bool {
        let (mut next, mut before) = (first + 1, left);
        if self.interpolates_left(first)
            && self.histograms[next].is_reset_since(&self.histograms[first])
        {
            // The left border lies behind that reset already.
            before = &self.histograms[next];
            next += 1;
        }
        if next > last {
            return true;
        }
        let mut lost: Option<FloatHistogram> = None;
        let inner = self.histograms[next..last].iter().map(|histogram| &**histogram);
        for histogram in inner.chain([right]) {
            if histogram.is_reset_since(before) {
                match &mut lost {
                    None => lost = Some(before.clone()),
                    Some(lost) => {
                        if !add(lost, before, findings) {
                            return false;
                        }
                    }
                }
            }
            before = histogram;
        }
        lost.is_none_or(|lost| add(total, &lost, findings))
    }
}

/// The histogram at `t_ms` on the line through two others. A counter that was reset in between
/// starts from zero. `None` if they have nothing in common.
fn interpolate(
    [(t0, before), (t1, after)]: [Point<'_>; 2],
    t_ms: i64,
    counter: bool,
    findings: &mut Findings,
) -> Option<FloatHistogram> {
    if t_ms == t0 {
        return Some(before.clone());
    }
    if t_ms == t1 {
        return Some(after.clone());
    }
    let share = t_ms.wrapping_sub(t0) as f64 / t1.wrapping_sub(t0) as f64;
    let mut between = after.clone();
    if counter && after.is_reset_since(before) {
        between.multiply(share);
        return Some(between);
    }
    if !subtract(&mut between, before, findings) {
        return None;
    }
    between.multiply(share);
    add(&mut between, before, findings).then_some(between)
}

/// The value of a `smoothed` instant selector at `at_ms`, from the histograms around it: that of
/// the sample there, else on the line between its neighbours, else that of the sample before.
pub(crate) fn smooth_histograms(
    timestamps_ms: &[i64],
    histograms: &[Arc<FloatHistogram>],
    at_ms: i64,
    findings: &mut Findings,
) -> Option<Arc<FloatHistogram>> {
    let next = timestamps_ms.partition_point(|t| *t < at_ms);
    if timestamps_ms.get(next).is_some_and(|t| *t == at_ms) {
        return Some(Arc::clone(&histograms[next]));
    }
    let before = next.checked_sub(1)?;
    let Some(after) = histograms.get(next) else { return Some(Arc::clone(&histograms[before])) };
    if histograms[before].layout.is_custom() != after.layout.is_custom() {
        // Not a reset, although it looks like one.
        findings.note(Finding::MixedSchemas);
        return None;
    }
    let counter = [&histograms[before], after].iter().all(|h| h.reset_hint != ResetHint::Gauge);
    let points = [(timestamps_ms[before], &*histograms[before]), (timestamps_ms[next], &**after)];
    interpolate(points, at_ms, counter, findings).map(Arc::new)
}

/// As [`super::extend_range`], of a series of nothing but histograms.
pub(crate) fn extend_histogram_range(
    samples: &mut HistogramSamples,
    (start_ms, end_ms): (i64, i64),
    extension: RangeExtension,
    findings: &mut Findings,
) {
    let smoothed = extension == RangeExtension::Smoothed;
    let (timestamps_ms, histograms) = (&samples.timestamps_ms, &samples.histograms);
    let range = Extended { timestamps_ms, histograms, start_ms, end_ms, smoothed };
    let mut extended = HistogramSamples::default();
    if let Some((first, last)) = range.ends()
        && let Some(left) = range.left(first, false, findings)
        && let Some(right) = range.right(last, false, findings)
    {
        extended.push(start_ms, Arc::new(left));
        for (&t_ms, histogram) in samples.timestamps_ms.iter().zip(&samples.histograms) {
            if start_ms < t_ms && t_ms < end_ms {
                extended.push(t_ms, Arc::clone(histogram));
            }
        }
        extended.push(end_ms, Arc::new(right));
    }
    *samples = extended;
}
