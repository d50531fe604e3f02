//! Fewer samples of what is old: of each interval the last.
//!
//! A sample goes if the next one lies in the same interval and comes within half of its length. So
//! series that are collected at about the interval, or less often, keep every sample, however these
//! lie; and what is left of the others once is left of them ever after. Staleness markers stay, and
//! what stands before them: they tell until when a series was there.

use std::sync::Arc;

use model::{Matcher, TimeRange, is_stale_nan};

use crate::rollup::window_of;

/// From which age on the samples of one selector are kept less densely.
#[derive(Debug, Clone)]
pub struct DownsamplingRule {
    /// A series is concerned if it satisfies all conditions.
    pub selector: Vec<Matcher>,
    /// Age of a block as a whole from which on the rule holds, milliseconds.
    pub after_ms: i64,
    /// Length of the intervals, milliseconds, more than 0. They begin at multiples of it since the epoch,
    /// open at their start and closed at their end.
    pub interval_ms: i64,
}

/// All rules, ascending by age. Of several that concern a series the longest interval counts. Cloning
/// copies nothing.
#[derive(Debug, Clone, Default)]
pub struct DownsamplingRules {
    all: Arc<[DownsamplingRule]>,
    /// How many of them, the first so many, are meant.
    count: usize,
}

impl DownsamplingRules {
    /// Takes the rules in any order.
    pub fn new(mut rules: Vec<DownsamplingRule>) -> Self {
        rules.sort_by_key(|rule| rule.after_ms);
        DownsamplingRules { count: rules.len(), all: Arc::from(rules) }
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rules, ascending by age.
    pub fn iter(&self) -> std::slice::Iter<'_, DownsamplingRule> {
        self.all[..self.count].iter()
    }

    /// Those that hold for what lies in `range`, all of it.
    #[must_use]
    pub fn past(&self, range: TimeRange, now_ms: i64) -> Self {
        let holds = |rule: &DownsamplingRule| range.end_ms <= now_ms.saturating_sub(rule.after_ms);
        let count = self.all[..self.count].partition_point(holds);
        DownsamplingRules { all: Arc::clone(&self.all), count }
    }

    /// The interval of each series of an index, 0 for those that keep all; empty if all do. `select` asks
    /// the index.
    pub(crate) fn intervals(
        &self,
        series: usize,
        select: impl Fn(&[Matcher]) -> Vec<u32>,
    ) -> Vec<i64> {
        let mut intervals = Vec::new();
        for rule in &self.all[..self.count] {
            let concerned = select(&rule.selector);
            if !concerned.is_empty() {
                intervals.resize(series, 0);
            }
            for series in concerned {
                let interval_ms = &mut intervals[series as usize];
                *interval_ms = rule.interval_ms.max(*interval_ms);
            }
        }
        intervals
    }
}

/// Whether a sample goes when `next` follows it.
#[inline]
pub(crate) fn is_dropped(sample: (i64, f64), next: (i64, f64), interval_ms: i64) -> bool {
    let ((t_ms, value), (next_ms, next_value)) = (sample, next);
    next_ms.saturating_sub(t_ms) < interval_ms / 2
        && window_of(t_ms, interval_ms) == window_of(next_ms, interval_ms)
        && !is_stale_nan(value)
        && !is_stale_nan(next_value)
}

/// Whether so many samples within `span_ms` are more than [`is_dropped`] leaves of them, markers of
/// staleness aside: in an interval there is room for two.
pub(crate) fn is_too_dense(rows: u64, span_ms: i64, interval_ms: i64) -> bool {
    let intervals = span_ms.max(0) / interval_ms.max(1) + 2;
    rows > 2 * intervals.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left_of(samples: &[(i64, f64)], interval_ms: i64) -> Vec<(i64, f64)> {
        let mut left: Vec<(i64, f64)> = Vec::new();
        for &next in samples {
            left.pop_if(|last| is_dropped(*last, next, interval_ms));
            left.push(next);
        }
        left
    }

    #[test]
    fn of_each_second_the_fifteenth_is_left() {
        let samples: Vec<(i64, f64)> = (1..=60).map(|t| (t * 1_000, t as f64)).collect();
        let left: Vec<i64> = left_of(&samples, 15_000).iter().map(|sample| sample.0).collect();
        assert_eq!(left, [15_000, 30_000, 45_000, 60_000]);
    }

    #[test]
    fn what_comes_at_about_the_interval_is_left_whole() {
        for (step_ms, jitter_ms) in [(15_000, 400), (10_000, 400), (30_000, 5_000), (7_500, 0)] {
            let at = |n: i64| (n * step_ms + n * 7_919 % (2 * jitter_ms + 1) - jitter_ms, n as f64);
            let samples: Vec<(i64, f64)> = (1..1_000).map(at).collect();
            assert_eq!(left_of(&samples, 15_000), samples, "{step_ms}");
        }
    }

    #[test]
    fn the_end_of_a_series_is_left() {
        let stale = f64::from_bits(model::STALE_NAN_BITS);
        let samples = [(1_000, 1.0), (2_000, 2.0), (3_000, stale), (4_000, 4.0), (5_000, 5.0)];
        let left: Vec<i64> = left_of(&samples, 15_000).iter().map(|sample| sample.0).collect();
        assert_eq!(left, [2_000, 3_000, 5_000]);
    }

    proptest! {
        #[test]
        fn what_is_left_stays(
            gaps_ms in prop::collection::vec(1_i64..12_000, 1..400),
            interval_ms in 1_000_i64..30_000,
        ) {
            let mut t_ms = 0;
            let samples: Vec<(i64, f64)> = gaps_ms
                .iter()
                .map(|gap_ms| { t_ms += gap_ms; (t_ms, t_ms as f64) })
                .collect();
            let left = left_of(&samples, interval_ms);
            prop_assert_eq!(&left_of(&left, interval_ms), &left);
            let span_ms = left[left.len() - 1].0 - left[0].0;
            prop_assert!(!is_too_dense(left.len() as u64, span_ms, interval_ms));
            // The last of every interval is there.
            for pair in samples.windows(2) {
                if window_of(pair[0].0, interval_ms) != window_of(pair[1].0, interval_ms) {
                    prop_assert!(left.contains(&pair[0]));
                }
            }
        }
    }
}
