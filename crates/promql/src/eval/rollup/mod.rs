//! Functions over ranges: all windows of one series at once.

use std::sync::atomic::{AtomicBool, Ordering};

mod counters;
mod extended;
mod extended_histograms;
mod histogram_change;
mod mixed;
mod over_time;
mod regression;
mod starts;
mod window_rows;

pub(crate) use counters::Gaps;
pub(crate) use extended::{extend_range, smooth};
pub(crate) use extended_histograms::{extend_histogram_range, smooth_histograms};
pub(crate) use over_time::quantile;

use self::mixed::{HistogramView, Mixed, Outcome};
use self::starts::{Resets, Starts};
use super::annotations::Findings;
use super::grid::{Grid, Reference};
use super::rows::{ABSENT, ScalarRow, is_absent};
use super::scratch::Scratch;
use super::windows::{Reach, Windows};
use crate::ast::{RangeExtension, Span};
use crate::engine::EvalError;
use crate::source::Columns;

/// A function whose argument is a range of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Avg,
    Changes,
    Count,
    Delta,
    Deriv,
    First,
    Idelta,
    Increase,
    Irate,
    Last,
    Mad,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Smoothing,
    Stddev,
    Stdvar,
    Sum,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
}

/// Samples looked at between two looks at the flag that stops a query: well below a millisecond.
const SAMPLES_PER_CHECK: usize = 1 << 16;

impl RangeFunction {
    /// The function called `name`, if it takes a range. `absent_over_time` is not among them: it
    /// looks at all series together.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "avg_over_time" => Self::Avg,
            "changes" => Self::Changes,
            "count_over_time" => Self::Count,
            "delta" => Self::Delta,
            "deriv" => Self::Deriv,
            "double_exponential_smoothing" => Self::Smoothing,
            "first_over_time" => Self::First,
            "idelta" => Self::Idelta,
            "increase" => Self::Increase,
            "irate" => Self::Irate,
            "last_over_time" => Self::Last,
            "mad_over_time" => Self::Mad,
            "max_over_time" => Self::Max,
            "min_over_time" => Self::Min,
            "predict_linear" => Self::PredictLinear,
            "present_over_time" => Self::Present,
            "quantile_over_time" => Self::Quantile,
            "rate" => Self::Rate,
            "resets" => Self::Resets,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "sum_over_time" => Self::Sum,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            "ts_of_max_over_time" => Self::TimeOfMax,
            "ts_of_min_over_time" => Self::TimeOfMin,
            _ => return None,
        })
    }

    /// Whether the result is still a value of the metric, so that its name stays.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// Whether the argument should be a counter.
    pub(crate) fn expects_counter(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }

    /// Whether it matters when the samples of a counter began at zero.
    pub(crate) fn looks_at_starts(self) -> bool {
        matches!(self, Self::Rate | Self::Increase | Self::Irate | Self::Resets)
    }

    /// Whether what rows of windows tell is enough.
    pub(crate) fn takes_rows(self) -> bool {
        matches!(
            self,
            Self::Avg
                | Self::Count
                | Self::Delta
                | Self::First
                | Self::Increase
                | Self::Last
                | Self::Max
                | Self::Min
                | Self::Present
                | Self::Rate
                | Self::Resets
                | Self::Sum
                | Self::TimeOfFirst
                | Self::TimeOfLast
        )
    }

    /// Whether it has something to say about histograms. The others look at floats only.
    fn takes_histograms(self) -> bool {
        matches!(
            self,
            Self::Avg
                | Self::Changes
                | Self::Count
                | Self::Delta
                | Self::First
                | Self::Idelta
                | Self::Increase
                | Self::Irate
                | Self::Last
                | Self::Present
                | Self::Rate
                | Self::Resets
                | Self::Sum
                | Self::TimeOfFirst
                | Self::TimeOfLast
        )
    }

    fn allows(self, extension: RangeExtension) -> bool {
        match self {
            Self::Delta | Self::Increase | Self::Rate => true,
            Self::Changes | Self::Resets => extension == RangeExtension::Anchored,
            _ => false,
        }
    }
}

/// Fails if `function` cannot work on a range written with `extension`.
pub(crate) fn check_extension(
    function: &str,
    extension: Option<RangeExtension>,
) -> Result<(), EvalError> {
    let Some(extension) = extension else { return Ok(()) };
    if RangeFunction::from_name(function).is_some_and(|known| known.allows(extension)) {
        return Ok(());
    }
    let (word, allowed) = match extension {
        RangeExtension::Anchored => ("anchored", "changes, delta, increase, rate, resets"),
        RangeExtension::Smoothed => ("smoothed", "delta, increase, rate"),
    };
    Err(EvalError::Execution(format!(
        "{word} modifier can only be used with: {allowed} - not with {function}"
    )))
}

/// A function over ranges with all it needs but the samples.
#[derive(Debug)]
pub(crate) struct RangeCall {
    pub(crate) function: RangeFunction,
    /// The arguments that are no ranges, in order.
    pub(crate) params: Vec<ScalarRow>,
    pub(crate) range_ms: i64,
    pub(crate) extension: Option<RangeExtension>,
    pub(crate) lookback_ms: i64,
    /// The first argument, which remarks are about.
    pub(crate) span: Span,
}

impl RangeCall {
    /// How far the windows reach.
    pub(crate) fn reach(&self) -> Reach {
        extended::reach(self.range_ms, self.extension, self.lookback_ms)
    }

    /// Computes all steps of the series in `scratch.columns`, which holds no stale markers, into
    /// `scratch.row`. Long windows at many steps take minutes for one series, so it stops in
    /// between once `cancelled` is set.
    pub(crate) fn evaluate(
        &self,
        grid: &Grid,
        reference: Reference,
        cancelled: &AtomicBool,
        scratch: &mut Scratch,
    ) -> Result<(), EvalError> {
        let Scratch { columns, windows, gaps, row, sorted, marks, .. } = scratch;
        let view = self.view(columns, windows, grid, reference, cancelled);
        row.clear();
        if let Some(extension) = self.extension {
            extended::evaluate(self.function, extension, &view, row);
            return Ok(());
        }
        let param = |index: usize| &self.params[index];
        match self.function {
            RangeFunction::Rate => {
                gaps.update(&view, true);
                counters::counter(&view, gaps, marks, row);
            }
            RangeFunction::Increase => {
                gaps.update(&view, false);
                counters::counter(&view, gaps, marks, row);
            }
            RangeFunction::Delta => {
                gaps.update(&view, false);
                counters::delta(&view, gaps, row);
            }
            RangeFunction::Irate => counters::instant(&view, row, true),
            RangeFunction::Idelta => counters::instant(&view, row, false),
            RangeFunction::Changes => view.each(row, |_, _, values| counters::changes(values)),
            RangeFunction::Resets => view.each(row, |_, _, values| counters::resets(values)),
            RangeFunction::Deriv => regression::deriv(&view, row),
            RangeFunction::PredictLinear => regression::predict_linear(&view, param(0), row),
            RangeFunction::Smoothing => regression::smooth(&view, param(0), param(1), row)?,
            RangeFunction::Quantile => over_time::quantiles(&view, param(0), sorted, row),
            RangeFunction::Max => over_time::extremum(&view, marks, row, |new, old| new > old),
            RangeFunction::Min => over_time::extremum(&view, marks, row, |new, old| new < old),
            other => over_time::simple(other, &view, sorted, row),
        }
        if row.len() < view.windows.starts().len() {
            return Err(EvalError::Cancelled);
        }
        Ok(())
    }
}

impl RangeCall {
    /// As [`RangeCall::evaluate`], of a series that comes as rows of windows.
    pub(crate) fn evaluate_rows(
        &self,
        grid: &Grid,
        reference: Reference,
        cancelled: &AtomicBool,
        scratch: &mut Scratch,
    ) -> Result<(), EvalError> {
        let Scratch { columns, windows, row, .. } = scratch;
        let view = self.view(columns, windows, grid, reference, cancelled);
        row.clear();
        window_rows::evaluate(self.function, &view, &columns.rows, row);
        if row.len() < view.windows.starts().len() {
            return Err(EvalError::Cancelled);
        }
        Ok(())
    }

    /// The floats of a series, with the window of every step.
    fn view<'v>(
        &self,
        columns: &'v Columns,
        windows: &'v Windows,
        grid: &'v Grid,
        reference: Reference,
        cancelled: &'v AtomicBool,
    ) -> View<'v> {
        View {
            timestamps_ms: &columns.timestamps_ms,
            values: &columns.values,
            windows,
            grid,
            reference,
            range_ms: self.range_ms,
            cancelled,
        }
    }

    /// As [`RangeCall::evaluate`], of a series that has histograms or tells when its samples began;
    /// histograms go into `scratch.histogram_row`. The windows of both are up to date.
    pub(crate) fn evaluate_mixed(
        &self,
        grid: &Grid,
        reference: Reference,
        cancelled: &AtomicBool,
        name: &str,
        scratch: &mut Scratch,
    ) -> Result<(), EvalError> {
        let mut findings = Findings::default();
        let of_floats = !self.function.takes_histograms();
        if of_floats {
            self.evaluate(grid, reference, cancelled, scratch)?;
        }
        let Scratch { columns, windows, histogram_windows, row, histogram_row, notes, .. } =
            scratch;
        let histograms = &columns.histograms;
        let mixed = Mixed {
            floats: self.view(columns, windows, grid, reference, cancelled),
            float_starts: Starts::of(&columns.starts_ms),
            histograms: HistogramView {
                timestamps_ms: &histograms.timestamps_ms,
                histograms: &histograms.histograms,
                starts: Starts::of(&histograms.starts_ms),
                windows: histogram_windows,
            },
            resets: Resets::default(),
        };
        if of_floats {
            if self.function == RangeFunction::Smoothing {
                mixed.check_factors(&self.params[0], &self.params[1])?;
            }
            mixed.note_ignored(&mut findings);
        } else {
            row.clear();
            mixed.evaluate(self.function, self.extension, row, histogram_row, &mut findings);
            if row.len() < windows.starts().len() {
                return Err(EvalError::Cancelled);
            }
        }
        findings.tell(name, self.span, notes);
        Ok(())
    }
}

/// The samples of one series with the window of every step.
pub(crate) struct View<'v> {
    timestamps_ms: &'v [i64],
    values: &'v [f64],
    windows: &'v Windows,
    grid: &'v Grid,
    reference: Reference,
    range_ms: i64,
    cancelled: &'v AtomicBool,
}

impl View<'_> {
    /// Appends `f(step, timestamps, values)` of every step to `row`; [`ABSENT`] where the window
    /// is empty. Appends fewer when the query is cancelled.
    #[inline(always)]
    fn each(&self, row: &mut Vec<f64>, mut f: impl FnMut(usize, &[i64], &[f64]) -> f64) {
        let (starts, ends) = (self.windows.starts(), self.windows.ends());
        row.reserve(starts.len());
        let mut looked_at = 0;
        for (step, (&start, &end)) in starts.iter().zip(ends).enumerate() {
            let window = start as usize..end as usize;
            if window.is_empty() {
                row.push(ABSENT);
                continue;
            }
            looked_at += window.len();
            if looked_at > SAMPLES_PER_CHECK {
                looked_at = 0;
                if self.is_cancelled() {
                    return;
                }
            }
            row.push(f(step, &self.timestamps_ms[window.clone()], &self.values[window]));
        }
    }

    /// An `anchored` or `smoothed` range of floats.
    fn extended(&self, function: RangeFunction, extension: RangeExtension, step: usize) -> Outcome {
        let window = self.windows.range(step);
        let (timestamps_ms, values) = (&self.timestamps_ms[window.clone()], &self.values[window]);
        let value = extended::at_step(function, extension, self, step, timestamps_ms, values);
        if is_absent(value) { Outcome::Nothing } else { Outcome::Float(value) }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Start (exclusive) and end of the range of `step`, without any extension.
    #[inline]
    fn range_of(&self, step: usize) -> (i64, i64) {
        let end = self.reference.of(self.grid.time_ms(step));
        (end.saturating_sub(self.range_ms), end)
    }
}
