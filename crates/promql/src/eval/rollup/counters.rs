//! `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`.
//!
//! Source: `extrapolatedRate` and `instantValue` of Prometheus' `promql/functions.go`.

use super::super::recent::Recent;
use super::super::rows::ABSENT;
use super::View;

/// Gaps at the borders of a range are filled by extrapolation when they are at most this many
/// average sample distances wide, and otherwise by half a distance.
pub(super) const EXTRAPOLATION_THRESHOLD: f64 = 1.1;

/// How the samples of a window lie within its range. Series scraped together share this, so it
/// is computed once for all of them.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Seconds from the first to the last sample.
    sampled: f64,
    /// Seconds by which the change is extrapolated to either side.
    to_start: f64,
    to_end: f64,
    /// How much the change between the samples is to be multiplied by.
    factor: f64,
}

/// The gaps of all windows; those of windows that may come again are kept with them.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    recent: Recent<OfWindows>,
    /// What the change is divided by: the range in seconds for rates, else 1.
    divisor: f64,
}

#[derive(Debug, Default)]
struct OfWindows {
    /// Of the windows; 0 before the first.
    generation: u64,
    list: Vec<Gap>,
}

impl Gaps {
    /// Makes the gaps those of the windows of `view`.
    pub(super) fn update(&mut self, view: &View<'_>, per_second: bool) {
        let wanted = view.windows.generation();
        if self.recent.find(|of| of.generation == wanted) {
            return;
        }
        let is_worth_it = self.recent.at_hand().generation > 0;
        let made = self.recent.next(is_worth_it, view.windows.kept());
        made.generation = wanted;
        self.divisor = if per_second { view.range_ms as f64 / 1000.0 } else { 1.0 };
        let divisor = self.divisor;
        made.list.clear();
        made.list.extend(view.windows.starts().iter().zip(view.windows.ends()).enumerate().map(
            |(step, (&start, &end))| Gap::of(view, step, start as usize, end as usize, divisor),
        ));
    }

    fn list(&self) -> &[Gap] {
        &self.recent.at_hand().list
    }

    fn factor(&self, gap: &Gap, to_start: f64) -> f64 {
        (gap.sampled + to_start + gap.to_end) / gap.sampled / self.divisor
    }
}

impl Gap {
    fn of(view: &View<'_>, step: usize, start: usize, end: usize, divisor: f64) -> Self {
        if end - start < 2 {
            return Gap { sampled: 0.0, to_start: 0.0, to_end: 0.0, factor: 0.0 };
        }
        let (range_start, range_end) = view.range_of(step);
        let seconds = |from: i64, to: i64| to.wrapping_sub(from) as f64 / 1000.0;
        let (first_ms, last_ms) = (view.timestamps_ms[start], view.timestamps_ms[end - 1]);
        let sampled = seconds(first_ms, last_ms);
        let average = sampled / (end - start - 1) as f64;
        let threshold = average * EXTRAPOLATION_THRESHOLD;
        let limit = |gap: f64| if gap >= threshold { average / 2.0 } else { gap };
        let to_start = limit(seconds(range_start, first_ms));
        let to_end = limit(seconds(last_ms, range_end));
        let factor = (sampled + to_start + to_end) / sampled / divisor;
        Gap { sampled, to_start, to_end, factor }
    }
}

/// `rate` and `increase` of every window.
pub(super) fn counter(view: &View<'_>, gaps: &Gaps, resets: &mut Vec<u32>, row: &mut Vec<f64>) {
    find_resets(view.values, resets);
    let values = view.values;
    let mut next_reset = 0;
    let windows = view.windows.starts().iter().zip(view.windows.ends()).zip(gaps.list());
    row.extend(windows.map(|((&start, &end), gap)| {
        if end - start < 2 {
            return ABSENT;
        }
        let first = values[start as usize];
        let mut change = values[end as usize - 1] - first;
        if !resets.is_empty() {
            // Windows only move forward, so resets left of this one are never needed again.
            while next_reset < resets.len() && resets[next_reset] <= start {
                next_reset += 1;
            }
            for &reset in resets[next_reset..].iter().take_while(|reset| **reset < end) {
                change += values[reset as usize - 1];
            }
        }
        // A counter cannot have been below zero. Most are far above, which a product tells
        // faster than the quotient; the margin covers rounding.
        let far = gap.sampled * first > gap.to_start * change * 1.000_001;
        if !far && change > 0.0 && first >= 0.0 {
            let to_zero = gap.sampled * (first / change);
            if to_zero < gap.to_start {
                return change * gaps.factor(gap, to_zero);
            }
        }
        change * gap.factor
    }));
}

/// `delta` of every window.
pub(super) fn delta(view: &View<'_>, gaps: &Gaps, row: &mut Vec<f64>) {
    let windows = view.windows.starts().iter().zip(view.windows.ends()).zip(gaps.list());
    row.extend(windows.map(|((&start, &end), gap)| {
        if end - start < 2 {
            return ABSENT;
        }
        (view.values[end as usize - 1] - view.values[start as usize]) * gap.factor
    }));
}

/// Indices of samples smaller than the one before.
fn find_resets(values: &[f64], resets: &mut Vec<u32>) {
    resets.clear();
    // Most counters never restart: one pass that the compiler can vectorise finds that out.
    let any = values.windows(2).fold(false, |any, pair| any | (pair[1] < pair[0]));
    if !any {
        return;
    }
    for (index, pair) in values.windows(2).enumerate() {
        if pair[1] < pair[0] {
            resets.push(index as u32 + 1);
        }
    }
}

/// `irate` and `idelta`: the last two samples of every window.
pub(super) fn instant(view: &View<'_>, row: &mut Vec<f64>, rate: bool) {
    view.each(row, |_, timestamps_ms, values| {
        let ([.., t0, t1], [.., v0, v1]) = (timestamps_ms, values) else { return ABSENT };
        let change = if rate && v1 < v0 { *v1 } else { v1 - v0 };
        if rate { change / (t1.wrapping_sub(*t0) as f64 / 1000.0) } else { change }
    });
}

/// How often the value differs from the one before.
pub(super) fn changes(values: &[f64]) -> f64 {
    let differs = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
    values.windows(2).filter(differs).count() as f64
}

/// How often the value is smaller than the one before.
pub(super) fn resets(values: &[f64]) -> f64 {
    values.windows(2).filter(|pair| pair[1] < pair[0]).count() as f64
}
