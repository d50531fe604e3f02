//! `rate`, `increase` and `delta` of histograms, and of counters that tell when they began.
//!
//! Source: `extrapolatedRate` and `histogramRate` of Prometheus' `promql/functions.go`.

use model::{FloatHistogram, ResetHint};

use super::counters::EXTRAPOLATION_THRESHOLD;
use super::mixed::{Mixed, Outcome, Window};
use super::starts::is_reset_by_start;
use crate::eval::annotations::{Finding, Findings};

/// What kind of change is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Whether samples are of a counter.
    pub(super) counter: bool,
    /// Whether it is divided by the length of the range.
    pub(super) per_second: bool,
}

/// `left - right`; `false` if they cannot be computed with each other.
pub(super) fn subtract(
    left: &mut FloatHistogram,
    right: &FloatHistogram,
    findings: &mut Findings,
) -> bool {
    let combined = left.subtract(right);
    findings.note_if(combined.is_err(), Finding::MixedSchemas);
    let reconciled = combined.is_ok_and(|combined| combined.bounds_reconciled);
    findings.note_if(reconciled, Finding::ReconciledDifference);
    combined.is_ok()
}

/// `left + right`; `false` if they cannot be computed with each other.
pub(super) fn add(
    left: &mut FloatHistogram,
    right: &FloatHistogram,
    findings: &mut Findings,
) -> bool {
    let combined = left.add(right);
    findings.note_if(combined.is_err(), Finding::MixedSchemas);
    let reconciled = combined.is_ok_and(|combined| combined.bounds_reconciled);
    findings.note_if(reconciled, Finding::ReconciledSum);
    combined.is_ok()
}

/// The change over a window of one kind of samples, extrapolated to the borders of its range.
pub(super) fn extrapolated(
    mixed: &Mixed<'_>,
    window: &Window,
    change: Change,
    findings: &mut Findings,
) -> Outcome {
    if window.histograms.is_empty() {
        floats(mixed, window, change, findings)
    } else {
        histograms(mixed, window, change, findings)
    }
}

fn floats(mixed: &Mixed<'_>, window: &Window, change: Change, findings: &mut Findings) -> Outcome {
    let (times, starts) = (mixed.floats.timestamps_ms, mixed.float_starts);
    let values = &mixed.floats.values[window.floats.clone()];
    let (first, last) = (values[0], values[values.len() - 1]);
    let mut total = last - first;
    if change.counter {
        mixed.note_overlaps((times, starts), &window.floats, findings);
        let place = |index: usize| starts.place(times, index);
        for (index, pair) in window.floats.clone().skip(1).zip(values.windows(2)) {
            if pair[1] < pair[0] || is_reset_by_start(place(index - 1), place(index)) {
                total += pair[0];
            }
        }
    }
    let edges = Edges::of(
        mixed,
        window.step,
        &times[window.floats.clone()],
        starts.at(window.floats.start),
    );
    let zero = (total > 0.0 && first >= 0.0).then(|| first / total);
    let Some(reach) = edges.reach(change, zero) else { return Outcome::Nothing };
    if reach.from_start {
        total += first;
    }
    Outcome::Float(total * reach.factor)
}

fn histograms(
    mixed: &Mixed<'_>,
    window: &Window,
    change: Change,
    findings: &mut Findings,
) -> Outcome {
    let view = &mixed.histograms;
    let histograms = &view.histograms[window.histograms.clone()];
    let total = if histograms.len() > 1 {
        match difference(mixed, window, change, findings) {
            None => return Outcome::Nothing,
            some => some,
        }
    } else {
        None
    };
    let first = &histograms[0];
    let times = &view.timestamps_ms[window.histograms.clone()];
    let start = view.starts.at(window.histograms.start);
    let edges = Edges::of(mixed, window.step, times, start);
    let zero = total
        .as_ref()
        .filter(|total| total.count > 0.0 && first.count >= 0.0)
        .map(|total| first.count / total.count);
    let Some(reach) = edges.reach(change, zero) else { return Outcome::Nothing };
    let mut total = match total {
        None => FloatHistogram::clone(first),
        Some(mut total) => {
            if reach.from_start && !add(&mut total, first, findings) {
                return Outcome::Nothing;
            }
            total
        }
    };
    total.multiply(reach.factor);
    total.into()
}

/// The change from the first to the last histogram of a window that has several.
fn difference(
    mixed: &Mixed<'_>,
    window: &Window,
    change: Change,
    findings: &mut Findings,
) -> Option<FloatHistogram> {
    let view = &mixed.histograms;
    let places = (view.timestamps_ms, view.starts);
    let all = window.histograms.clone();
    let histograms = &view.histograms[all.clone()];
    let (first, last) = (&histograms[0], &histograms[histograms.len() - 1]);
    let is_gauge = |histogram: &FloatHistogram| histogram.reset_hint == ResetHint::Gauge;
    let is_reset = |index: usize| mixed.resets.is_reset(places, view.histograms, index);
    let skips_first = change.counter && is_reset(all.start + 1);
    let is_custom = if skips_first { &histograms[1] } else { first }.layout.is_custom();
    let mut schema = last.layout.schema;
    if change.counter {
        findings.note_if(histograms.iter().any(|h| is_gauge(h)), Finding::NotCounter);
        let seen = &histograms[usize::from(skips_first)..];
        if seen.iter().any(|histogram| histogram.layout.is_custom() != is_custom) {
            findings.note(Finding::MixedSchemas);
            return None;
        }
        schema = seen.iter().map(|h| h.layout.schema).min().unwrap_or(schema);
    } else {
        findings.note_if(!is_gauge(first) || !is_gauge(last), Finding::NotGauge);
    }
    let mut total = FloatHistogram::clone(last);
    if !is_custom && schema < total.layout.schema {
        // What was coarser in between cannot be finer in the end.
        let coarser = total.coarsen(schema);
        debug_assert_eq!(coarser, Ok(()), "only valid histograms are computed with");
    }
    if !skips_first && !subtract(&mut total, first, findings) {
        return None;
    }
    if change.counter {
        mixed.note_overlaps(places, &all, findings);
        // A reset right after the first one has been dealt with by leaving it out.
        for index in all.start + 2..all.end {
            if is_reset(index) && !add(&mut total, &view.histograms[index - 1], findings) {
                return None;
            }
        }
    }
    total.reset_hint = ResetHint::Gauge;
    total.compact(0);
    Some(total)
}

/// Where the samples of a window begin and end within its range.
struct Edges {
    range_seconds: f64,
    samples: usize,
    /// Seconds from the start of the range to the first sample, between samples, to the end.
    to_start: f64,
    sampled: f64,
    to_end: f64,
    /// Seconds from the beginning of the first sample to the last, if it began within the range.
    since_zero: Option<f64>,
}

/// How far a change is extrapolated.
struct Reach {
    /// What the change is multiplied by.
    factor: f64,
    /// Whether it began at zero within the range, so that the first sample is all change.
    from_start: bool,
}

impl Edges {
    fn of(mixed: &Mixed<'_>, step: usize, times: &[i64], start_ms: i64) -> Self {
        let (range_start, range_end) = mixed.floats.range_of(step);
        let seconds = |from: i64, to: i64| to.wrapping_sub(from) as f64 / 1000.0;
        let (first, last) = (times[0], times[times.len() - 1]);
        Edges {
            range_seconds: mixed.floats.range_ms as f64 / 1000.0,
            samples: times.len(),
            to_start: seconds(range_start, first),
            sampled: seconds(first, last),
            to_end: seconds(last, range_end),
            since_zero: (start_ms != 0 && range_start < start_ms && start_ms < first)
                .then(|| seconds(start_ms, last)),
        }
    }

    /// `zero` is how many times the sampled time ago a counter was at zero. `None` if one sample
    /// alone tells nothing.
    fn reach(&self, change: Change, zero: Option<f64>) -> Option<Reach> {
        let average = match self.samples {
            1 => 0.0,
            samples => self.sampled / (samples - 1) as f64,
        };
        let limit = |gap: f64| {
            if gap >= average * EXTRAPOLATION_THRESHOLD { average / 2.0 } else { gap }
        };
        let since_zero = self.since_zero.filter(|_| change.counter);
        if since_zero.is_none() && self.samples == 1 {
            return None;
        }
        let (to_start, sampled) = match since_zero {
            Some(since_zero) => (0.0, since_zero),
            None => {
                let to_zero = zero.filter(|_| change.counter).map(|zero| zero * self.sampled);
                let to_start = limit(self.to_start);
                (
                    to_zero.map_or(
                        to_start,
                        |to_zero| if to_zero < to_start { to_zero } else { to_start },
                    ),
                    self.sampled,
                )
            }
        };
        let mut factor = 1.0;
        if sampled != 0.0 {
            factor = (sampled + to_start + limit(self.to_end)) / sampled;
        }
        if change.per_second {
            factor /= self.range_seconds;
        }
        Some(Reach { factor, from_start: since_zero.is_some() })
    }
}
