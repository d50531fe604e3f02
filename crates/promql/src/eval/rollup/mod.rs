//! Functions over ranges: all windows of one series at once.

use std::sync::atomic::{AtomicBool, Ordering};

mod counters;
mod extended;
mod over_time;
mod regression;

pub(crate) use counters::Gaps;
pub(crate) use extended::{extend_range, smooth};
pub(crate) use over_time::quantile;

use super::grid::{Grid, Reference};
use super::rows::{ABSENT, ScalarRow};
use super::scratch::Scratch;
use super::windows::{Reach, Windows};
use crate::ast::RangeExtension;
use crate::engine::EvalError;

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
        let view = View {
            timestamps_ms: &columns.timestamps_ms,
            values: &columns.values,
            windows,
            grid,
            reference,
            range_ms: self.range_ms,
            cancelled,
        };
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
        if row.len() < view.windows.starts.len() {
            return Err(EvalError::Cancelled);
        }
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
        let Windows { starts, ends, .. } = self.windows;
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
                if self.cancelled.load(Ordering::Relaxed) {
                    return;
                }
            }
            row.push(f(step, &self.timestamps_ms[window.clone()], &self.values[window]));
        }
    }

    /// Start (exclusive) and end of the range of `step`, without any extension.
    #[inline]
    fn range_of(&self, step: usize) -> (i64, i64) {
        let end = self.reference.of(self.grid.time_ms(step));
        (end.saturating_sub(self.range_ms), end)
    }
}
