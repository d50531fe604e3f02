//! Functions over ranges of series that have histograms, or samples of which is known when they
//! began at zero. Series of nothing but floats do not come here.
//!
//! Source: `promql/functions.go` of Prometheus 3.

use std::ops::Range;
use std::sync::Arc;

use model::FloatHistogram;

use super::histogram_change::{self, Change};
use super::starts::{Resets, Starts, is_reset_by_start, overlaps};
use super::{RangeFunction, View, extended_histograms, regression};
use crate::ast::RangeExtension;
use crate::engine::EvalError;
use crate::eval::annotations::{Finding, Findings};
use crate::eval::histogram_rows::HistogramRow;
use crate::eval::histogram_sum::{HistogramMean, HistogramSum};
use crate::eval::rows::{ABSENT, HISTOGRAM, ScalarRow};
use crate::eval::windows::Windows;

/// What a function yields for a window.
pub(super) enum Outcome {
    Nothing,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl From<FloatHistogram> for Outcome {
    fn from(histogram: FloatHistogram) -> Self {
        Outcome::Histogram(Arc::new(histogram))
    }
}

/// The histograms of one series with the window of every step.
pub(super) struct HistogramView<'v> {
    pub(super) timestamps_ms: &'v [i64],
    pub(super) histograms: &'v [Arc<FloatHistogram>],
    pub(super) starts: Starts<'v>,
    pub(super) windows: &'v Windows,
}

/// All samples of one series.
pub(super) struct Mixed<'v> {
    pub(super) floats: View<'v>,
    pub(super) float_starts: Starts<'v>,
    pub(super) histograms: HistogramView<'v>,
    pub(super) resets: Resets,
}

/// The samples of one step.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) step: usize,
    pub(super) floats: Range<usize>,
    pub(super) histograms: Range<usize>,
}

/// A sample of either kind.
#[derive(Clone, Copy)]
struct Sample<'v> {
    t_ms: i64,
    start_ms: i64,
    value: f64,
    histogram: Option<&'v Arc<FloatHistogram>>,
}

impl<'v> Mixed<'v> {
    /// Appends what `function` yields at every step; fewer when the query is cancelled.
    pub(super) fn evaluate(
        &self,
        function: RangeFunction,
        extension: Option<RangeExtension>,
        row: &mut Vec<f64>,
        histogram_row: &mut HistogramRow,
        findings: &mut Findings,
    ) {
        let steps = self.floats.windows.starts().len();
        row.reserve(steps);
        histogram_row.resize(steps, None);
        let mut looked_at = 0;
        let mut any = false;
        for (step, cell) in histogram_row.iter_mut().enumerate() {
            let window = self.window(step);
            looked_at += window.floats.len() + 16 * window.histograms.len();
            if looked_at > super::SAMPLES_PER_CHECK {
                looked_at = 0;
                if self.floats.is_cancelled() {
                    return;
                }
            }
            let outcome = if window.floats.is_empty() && window.histograms.is_empty() {
                Outcome::Nothing
            } else {
                self.outcome(function, extension, &window, findings)
            };
            row.push(match outcome {
                Outcome::Nothing => ABSENT,
                Outcome::Float(value) => value,
                Outcome::Histogram(histogram) => {
                    *cell = Some(histogram);
                    any = true;
                    HISTOGRAM
                }
            });
        }
        if !any {
            histogram_row.clear();
        }
    }

    /// Notes that histograms were passed over at steps whose windows have floats too.
    pub(super) fn note_ignored(&self, findings: &mut Findings) {
        let ignores = |step| {
            let window = self.window(step);
            !window.floats.is_empty() && !window.histograms.is_empty()
        };
        let any = (0..self.floats.windows.starts().len()).any(ignores);
        findings.note_if(any, Finding::Ignored);
    }

    /// Fails if a factor of `double_exponential_smoothing` is a wrong one at a step whose window has
    /// histograms alone; those with floats were looked at.
    pub(super) fn check_factors(
        &self,
        value_factor: &ScalarRow,
        trend_factor: &ScalarRow,
    ) -> Result<(), EvalError> {
        (0..self.floats.windows.starts().len()).try_for_each(|step| {
            let window = self.window(step);
            if window.histograms.is_empty() || !window.floats.is_empty() {
                return Ok(());
            }
            regression::check_factors(value_factor.at(step), trend_factor.at(step))
        })
    }

    fn window(&self, step: usize) -> Window {
        Window {
            step,
            floats: self.floats.windows.range(step),
            histograms: self.histograms.windows.range(step),
        }
    }

    fn outcome(
        &self,
        function: RangeFunction,
        extension: Option<RangeExtension>,
        window: &Window,
        findings: &mut Findings,
    ) -> Outcome {
        match function {
            RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta => {
                let change = Change {
                    counter: function != RangeFunction::Delta,
                    per_second: function == RangeFunction::Rate,
                };
                if !window.floats.is_empty() && !window.histograms.is_empty() {
                    findings.note(Finding::Mixed);
                    return Outcome::Nothing;
                }
                match extension {
                    None => histogram_change::extrapolated(self, window, change, findings),
                    Some(extension) if window.floats.is_empty() => {
                        extended_histograms::change(self, window, change, extension, findings)
                    }
                    Some(extension) => self.floats.extended(function, extension, window.step),
                }
            }
            RangeFunction::Irate => self.last_two(window, true, findings),
            RangeFunction::Idelta => self.last_two(window, false, findings),
            RangeFunction::Changes => self.count_pairs(window, extension, |before, now| {
                match (before.histogram, now.histogram) {
                    (None, None) => {
                        before.value != now.value && !(before.value.is_nan() && now.value.is_nan())
                    }
                    (Some(before), Some(now)) => !now.equals(before),
                    _ => true,
                }
            }),
            RangeFunction::Resets => self.count_pairs(window, extension, |before, now| {
                let by_start = is_reset_by_start(before.place(), now.place());
                match (before.histogram, now.histogram) {
                    (None, None) => now.value < before.value || by_start,
                    (Some(before), Some(now)) => by_start || now.is_reset_since(before),
                    _ => true,
                }
            }),
            RangeFunction::Sum | RangeFunction::Avg => {
                self.aggregate(window, function == RangeFunction::Avg, findings)
            }
            RangeFunction::Count => {
                Outcome::Float((window.floats.len() + window.histograms.len()) as f64)
            }
            RangeFunction::Present => Outcome::Float(1.0),
            RangeFunction::First => self.first(window).outcome(),
            RangeFunction::Last => self.last(window).outcome(),
            RangeFunction::TimeOfFirst => Outcome::Float(self.first(window).t_ms as f64 / 1000.0),
            RangeFunction::TimeOfLast => Outcome::Float(self.last(window).t_ms as f64 / 1000.0),
            // Only floats count for the others, see `RangeCall::evaluate_mixed`.
            _ => Outcome::Nothing,
        }
    }

    fn float(&self, index: usize) -> Sample<'v> {
        Sample {
            t_ms: self.floats.timestamps_ms[index],
            start_ms: self.float_starts.at(index),
            value: self.floats.values[index],
            histogram: None,
        }
    }

    fn histogram(&self, index: usize) -> Sample<'v> {
        Sample {
            t_ms: self.histograms.timestamps_ms[index],
            start_ms: self.histograms.starts.at(index),
            value: HISTOGRAM,
            histogram: Some(&self.histograms.histograms[index]),
        }
    }

    /// Samples of both kinds in order of time.
    fn samples(&self, window: &Window) -> impl Iterator<Item = Sample<'v>> {
        let mut floats = window.floats.clone().map(|index| self.float(index)).peekable();
        let mut histograms =
            window.histograms.clone().map(|index| self.histogram(index)).peekable();
        std::iter::from_fn(move || match (floats.peek(), histograms.peek()) {
            (Some(float), Some(histogram)) if float.t_ms < histogram.t_ms => floats.next(),
            (Some(_), None) => floats.next(),
            _ => histograms.next(),
        })
    }

    /// The earliest sample of a window that has one.
    fn first(&self, window: &Window) -> Sample<'v> {
        let float = window.floats.clone().next().map(|index| self.float(index));
        let histogram = window.histograms.clone().next().map(|index| self.histogram(index));
        match (float, histogram) {
            (Some(float), Some(histogram)) if float.t_ms < histogram.t_ms => float,
            (_, Some(histogram)) => histogram,
            (Some(float), None) => float,
            (None, None) => unreachable!("only windows with samples are looked at"),
        }
    }

    /// The latest sample of a window that has one.
    fn last(&self, window: &Window) -> Sample<'v> {
        let float = window.floats.clone().next_back().map(|index| self.float(index));
        let histogram = window.histograms.clone().next_back().map(|index| self.histogram(index));
        match (float, histogram) {
            (Some(float), Some(histogram)) if float.t_ms > histogram.t_ms => float,
            (_, Some(histogram)) => histogram,
            (Some(float), None) => float,
            (None, None) => unreachable!("only windows with samples are looked at"),
        }
    }

    /// `irate` and `idelta`.
    fn last_two(&self, window: &Window, rate: bool, findings: &mut Findings) -> Outcome {
        let now = self.last(window);
        let is_float = now.histogram.is_none();
        let rest = Window {
            floats: window.floats.start..window.floats.end - usize::from(is_float),
            histograms: window.histograms.start..window.histograms.end - usize::from(!is_float),
            ..*window
        };
        if rest.floats.is_empty() && rest.histograms.is_empty() {
            return Outcome::Nothing;
        }
        let before = self.last(&rest);
        let seconds = now.t_ms.wrapping_sub(before.t_ms) as f64 / 1000.0;
        match (before.histogram, now.histogram) {
            (None, None) => {
                let is_reset = rate
                    && (now.value < before.value || is_reset_by_start(before.place(), now.place()));
                let change = if is_reset { now.value } else { now.value - before.value };
                Outcome::Float(if rate { change / seconds } else { change })
            }
            (Some(earlier), Some(later)) => {
                let gauges = [earlier, later].map(|h| h.reset_hint == model::ResetHint::Gauge);
                findings.note_if(rate && gauges.contains(&true), Finding::NotCounter);
                findings.note_if(!rate && gauges.contains(&false), Finding::NotGauge);
                let is_reset = rate
                    && (is_reset_by_start(before.place(), now.place())
                        || later.is_reset_since(earlier));
                let mut change = FloatHistogram::clone(later);
                if !is_reset && !histogram_change::subtract(&mut change, earlier, findings) {
                    return Outcome::Nothing;
                }
                change.reset_hint = model::ResetHint::Gauge;
                change.compact(0);
                if rate {
                    change.divide(seconds);
                }
                change.into()
            }
            _ => {
                findings.note(Finding::Mixed);
                Outcome::Nothing
            }
        }
    }

    /// How many pairs of neighbours `differ`. An anchored range also has the sample before it.
    fn count_pairs(
        &self,
        window: &Window,
        extension: Option<RangeExtension>,
        differ: impl Fn(Sample<'v>, Sample<'v>) -> bool,
    ) -> Outcome {
        let mut window = window.clone();
        if extension.is_some() {
            let (start_ms, _) = self.floats.range_of(window.step);
            let inside = |times: &[i64], range: &Range<usize>| {
                range.start + times[range.clone()].partition_point(|t| *t <= start_ms)
            };
            let float = inside(self.floats.timestamps_ms, &window.floats);
            let histogram = inside(self.histograms.timestamps_ms, &window.histograms);
            let before = Window {
                floats: window.floats.start..float,
                histograms: window.histograms.start..histogram,
                ..window
            };
            window.floats.start = float;
            window.histograms.start = histogram;
            if window.floats.is_empty() && window.histograms.is_empty() {
                return Outcome::Nothing;
            }
            if !before.floats.is_empty() || !before.histograms.is_empty() {
                match self.last(&before).histogram {
                    None => window.floats.start -= 1,
                    Some(_) => window.histograms.start -= 1,
                }
            }
        }
        let samples = self.samples(&window);
        let pairs = samples.clone_pairs();
        Outcome::Float(pairs.filter(|(before, now)| differ(*before, *now)).count() as f64)
    }

    /// `sum_over_time` and `avg_over_time`.
    fn aggregate(&self, window: &Window, mean: bool, findings: &mut Findings) -> Outcome {
        if window.histograms.is_empty() {
            let values = &self.floats.values[window.floats.clone()];
            let kahan = if mean { crate::eval::kahan::mean } else { crate::eval::kahan::sum };
            return Outcome::Float(kahan(values));
        }
        if !window.floats.is_empty() {
            findings.note(Finding::Mixed);
            return Outcome::Nothing;
        }
        let histograms = &self.histograms.histograms[window.histograms.clone()];
        let [only] = histograms else {
            let Some((first, rest)) = histograms.split_first() else { return Outcome::Nothing };
            let total = if mean {
                let mut total = HistogramMean::new(first);
                fold(rest, findings, |histogram| total.add(histogram)).map(|()| total.finish())
            } else {
                let mut total = HistogramSum::new(first);
                fold(rest, findings, |histogram| total.add(histogram)).map(|()| total.finish())
            };
            let Some(total) = total else { return Outcome::Nothing };
            note_collision(histograms, findings);
            return total.into();
        };
        Outcome::Histogram(Arc::clone(only))
    }
}

impl Sample<'_> {
    fn outcome(self) -> Outcome {
        match self.histogram {
            Some(histogram) => Outcome::Histogram(Arc::clone(histogram)),
            None => Outcome::Float(self.value),
        }
    }

    /// When it began at zero and when it was taken.
    fn place(&self) -> (i64, i64) {
        (self.start_ms, self.t_ms)
    }
}

/// Neighbours of an iterator.
trait Pairs: Iterator + Sized
where
    Self::Item: Copy,
{
    fn clone_pairs(mut self) -> impl Iterator<Item = (Self::Item, Self::Item)> {
        let mut before = self.next();
        std::iter::from_fn(move || {
            let now = self.next()?;
            let pair = (before?, now);
            before = Some(now);
            Some(pair)
        })
    }
}

impl<I: Iterator> Pairs for I where I::Item: Copy {}

fn fold<E>(
    histograms: &[Arc<FloatHistogram>],
    findings: &mut Findings,
    mut add: impl FnMut(&FloatHistogram) -> Result<bool, E>,
) -> Option<()> {
    for histogram in histograms {
        match add(histogram) {
            Ok(reconciled) => findings.note_if(reconciled, Finding::ReconciledGroup),
            Err(_) => {
                findings.note(Finding::MixedSchemas);
                return None;
            }
        }
    }
    Some(())
}

fn note_collision(histograms: &[Arc<FloatHistogram>], findings: &mut Findings) {
    let has = |hint| histograms.iter().any(|histogram| histogram.reset_hint == hint);
    let collide = has(model::ResetHint::Reset) && has(model::ResetHint::NoReset);
    findings.note_if(collide, Finding::Collision);
}

impl Mixed<'_> {
    /// Whether the sample started before the one before it, of each pair in a window.
    pub(super) fn note_overlaps(
        &self,
        (timestamps_ms, starts): (&[i64], Starts<'_>),
        window: &Range<usize>,
        findings: &mut Findings,
    ) {
        if starts.is_empty() {
            return;
        }
        let any = window
            .clone()
            .skip(1)
            .any(|index| overlaps(starts.place(timestamps_ms, index - 1), starts.at(index)));
        findings.note_if(any, Finding::Overlap);
    }
}
