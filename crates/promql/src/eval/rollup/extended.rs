//! `anchored` and `smoothed`: ranges whose borders take part in the result.
//!
//! Source: `extendedRate`, `extendFloats` and `smoothSeries` of Prometheus 3.

use super::counters::{changes, resets};
use super::{RangeFunction, View};
use crate::ast::RangeExtension;
use crate::eval::rows::ABSENT;
use crate::eval::windows::Reach;
use crate::source::Columns;

/// How far samples matter for a range of `range_ms`.
pub(super) fn reach(range_ms: i64, extension: Option<RangeExtension>, lookback_ms: i64) -> Reach {
    match extension {
        None => Reach::back(range_ms),
        Some(RangeExtension::Anchored) => Reach::back(range_ms.saturating_add(lookback_ms)),
        Some(RangeExtension::Smoothed) => {
            Reach { back_ms: range_ms.saturating_add(lookback_ms), ahead_ms: lookback_ms }
        }
    }
}

/// All windows of one series. `function` has been checked to allow `extension`.
pub(super) fn evaluate(
    function: RangeFunction,
    extension: RangeExtension,
    view: &View<'_>,
    row: &mut Vec<f64>,
) {
    view.each(row, |step, timestamps_ms, values| {
        at_step(function, extension, view, step, timestamps_ms, values)
    });
}

/// The window of one step, which has samples.
pub(super) fn at_step(
    function: RangeFunction,
    extension: RangeExtension,
    view: &View<'_>,
    step: usize,
    timestamps_ms: &[i64],
    values: &[f64],
) -> f64 {
    let (start_ms, end_ms) = view.range_of(step);
    let smoothed = extension == RangeExtension::Smoothed;
    let range = Extended { timestamps_ms, values, start_ms, end_ms, smoothed };
    match function {
        RangeFunction::Rate => {
            let seconds = view.range_ms as f64 / 1000.0;
            range.change(true).map_or(ABSENT, |change| change / seconds)
        }
        RangeFunction::Increase => range.change(true).unwrap_or(ABSENT),
        RangeFunction::Delta => range.change(false).unwrap_or(ABSENT),
        RangeFunction::Changes => range.anchored_values().map_or(ABSENT, changes),
        RangeFunction::Resets => range.anchored_values().map_or(ABSENT, resets),
        _ => ABSENT,
    }
}

/// The samples in and around one range.
struct Extended<'s> {
    timestamps_ms: &'s [i64],
    values: &'s [f64],
    start_ms: i64,
    end_ms: i64,
    smoothed: bool,
}

/// Values at both borders and the indices of the samples strictly between them.
struct Borders {
    left: f64,
    right: f64,
    inner: std::ops::Range<usize>,
}

impl Extended<'_> {
    /// Index of the last sample at or before the start, or of the first sample.
    fn first(&self) -> usize {
        let last = self.timestamps_ms.len() - 1;
        self.timestamps_ms[..last].partition_point(|t| *t <= self.start_ms).saturating_sub(1)
    }

    fn borders(&self, counter: bool) -> Option<Borders> {
        let mut last = self.timestamps_ms.len().checked_sub(1)?;
        let mut first = self.first();
        if self.smoothed {
            last = self.timestamps_ms[..last].partition_point(|t| *t < self.end_ms);
        }
        // Samples only before or only after the range say nothing about it.
        if self.timestamps_ms[last] <= self.start_ms || self.timestamps_ms[first] > self.end_ms {
            return None;
        }
        let left = if self.smoothed && self.timestamps_ms[first] < self.start_ms {
            self.interpolate(first, self.start_ms, counter)
        } else {
            self.values[first]
        };
        let right = if self.smoothed && last > 0 && self.timestamps_ms[last] > self.end_ms {
            self.interpolate(last - 1, self.end_ms, counter)
        } else {
            self.values[last]
        };
        if self.timestamps_ms[first] <= self.start_ms {
            first += 1;
        }
        let end = if self.timestamps_ms[last] >= self.end_ms { last } else { last + 1 };
        Some(Borders { left, right, inner: first..end.max(first) })
    }

    /// The value at `t_ms` on the line between samples `index` and `index + 1`.
    fn interpolate(&self, index: usize, t_ms: i64, counter: bool) -> f64 {
        let samples = [index, index + 1].map(|i| (self.timestamps_ms[i], self.values[i]));
        interpolate(samples, t_ms, counter)
    }

    /// The change from border to border.
    fn change(&self, counter: bool) -> Option<f64> {
        let Borders { left, right, inner } = self.borders(counter)?;
        let mut change = right - left;
        if counter {
            let mut previous = left;
            for &value in self.values[inner].iter().chain([&right]) {
                if value < previous {
                    change += previous;
                }
                previous = value;
            }
        }
        Some(change)
    }

    /// The samples of the range preceded by the last one before it.
    fn anchored_values(&self) -> Option<&[f64]> {
        if *self.timestamps_ms.last()? <= self.start_ms {
            return None;
        }
        Some(&self.values[self.first()..])
    }
}

/// The value at `t_ms` on the line through two samples. A counter that was reset in between
/// starts from zero.
fn interpolate([(t0, v0), (t1, v1)]: [(i64, f64); 2], t_ms: i64, counter: bool) -> f64 {
    let from = if counter && v1 < v0 { 0.0 } else { v0 };
    from + (v1 - from) * t_ms.wrapping_sub(t0) as f64 / t1.wrapping_sub(t0) as f64
}

/// The value of a `smoothed` instant selector at `at_ms`, from the samples around it: that of the
/// sample there, else on the line between its neighbours, else that of the sample before.
pub(crate) fn smooth(timestamps_ms: &[i64], values: &[f64], at_ms: i64) -> f64 {
    let next = timestamps_ms.partition_point(|t| *t < at_ms);
    let here = timestamps_ms.get(next).is_some_and(|t| *t == at_ms);
    if here {
        return values[next];
    }
    let Some(before) = next.checked_sub(1) else { return ABSENT };
    if next == timestamps_ms.len() {
        return values[before];
    }
    let samples = [before, next].map(|i| (timestamps_ms[i], values[i]));
    interpolate(samples, at_ms, false)
}

/// The points of an extended range selector asked for by itself: those inside the range and one
/// on each border. `columns` holds the samples in reach and is rewritten.
pub(crate) fn extend_range(
    columns: &mut Columns,
    start_ms: i64,
    end_ms: i64,
    extension: RangeExtension,
) {
    let range = Extended {
        timestamps_ms: &columns.timestamps_ms,
        values: &columns.values,
        start_ms,
        end_ms,
        smoothed: extension == RangeExtension::Smoothed,
    };
    let Some(Borders { left, right, inner }) = range.borders(false) else {
        columns.clear();
        return;
    };
    let points =
        |border_start, inside: &[_], border_end| [&[border_start], inside, &[border_end]].concat();
    let timestamps_ms = points(start_ms, &columns.timestamps_ms[inner.clone()], end_ms);
    columns.values = [&[left], &columns.values[inner], &[right]].concat();
    columns.timestamps_ms = timestamps_ms;
}
