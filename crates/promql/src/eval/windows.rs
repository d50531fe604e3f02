//! Which samples of a series lie in the window of each step.

use std::ops::Range;

use super::grid::{Grid, Reference};
use super::recent::Recent;

/// How far a window reaches from the time a step refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Milliseconds before; the sample exactly there is outside.
    pub(crate) back_ms: i64,
    /// Milliseconds after; the sample exactly there is inside.
    pub(crate) ahead_ms: i64,
}

impl Reach {
    pub(crate) fn back(back_ms: i64) -> Self {
        Reach { back_ms, ahead_ms: 0 }
    }
}

/// Windows of all steps over the timestamps of a series, as index ranges `starts[i]..ends[i]`.
///
/// Series of one scrape target have the same timestamps, so windows are computed once for them, and
/// those of some targets are kept.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    recent: Recent<OfTimestamps>,
    /// Generations there were.
    generations: u64,
}

#[derive(Debug, Default)]
struct OfTimestamps {
    timestamps_ms: Vec<i64>,
    /// 0 before the first.
    generation: u64,
    starts: Vec<u32>,
    ends: Vec<u32>,
}

/// So many targets' windows are kept besides those at hand …
const MAX_KEPT: usize = 63;
/// … if all of them have no more timestamps and steps than this: 2 MiB.
const MAX_KEPT_ENTRIES: usize = 1 << 18;

impl Windows {
    /// Makes the windows those of `timestamps_ms` (ascending, fewer than 2³²). All calls on one
    /// value must pass the same `grid`, `reference` and `reach`.
    pub(crate) fn update(
        &mut self,
        timestamps_ms: &[i64],
        grid: &Grid,
        reference: Reference,
        reach: Reach,
    ) {
        // Targets are scraped at different moments, so the last timestamp tells nearly all apart.
        let is_it = |of: &OfTimestamps| {
            of.generation > 0
                && of.timestamps_ms.last() == timestamps_ms.last()
                && of.timestamps_ms == timestamps_ms
        };
        if self.recent.find(is_it) {
            return;
        }
        let entries = timestamps_ms.len() + grid.steps();
        let room = (MAX_KEPT_ENTRIES / entries.max(1)).min(MAX_KEPT);
        let made = self.recent.next(self.generations > 0, room);
        made.timestamps_ms.clear();
        made.timestamps_ms.extend_from_slice(timestamps_ms);
        self.generations += 1;
        made.generation = self.generations;
        made.starts.clear();
        made.ends.clear();
        if reference.is_pinned() {
            let (start, end) = find_window(timestamps_ms, reference.of(0), reach);
            made.starts.resize(grid.steps(), start);
            made.ends.resize(grid.steps(), end);
            return;
        }
        made.walk(grid, reference, reach);
    }

    /// Index of the first sample of each step's window.
    #[inline]
    pub(crate) fn starts(&self) -> &[u32] {
        &self.recent.at_hand().starts
    }

    /// Index behind the last sample of each step's window.
    #[inline]
    pub(crate) fn ends(&self) -> &[u32] {
        &self.recent.at_hand().ends
    }

    /// The samples in the window of `step`.
    #[inline]
    pub(crate) fn range(&self, step: usize) -> Range<usize> {
        let OfTimestamps { starts, ends, .. } = self.recent.at_hand();
        starts[step] as usize..ends[step] as usize
    }

    /// Equal only for equal windows; 0 before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.recent.at_hand().generation
    }

    /// How many other windows are kept.
    pub(crate) fn kept(&self) -> usize {
        self.recent.kept()
    }
}

impl OfTimestamps {
    fn walk(&mut self, grid: &Grid, reference: Reference, reach: Reach) {
        let OfTimestamps { timestamps_ms, starts, ends, .. } = self;
        // Steps ascend, so both borders only move forward: one pass over samples and steps.
        let (mut start, mut end) = (0_usize, 0_usize);
        starts.reserve(grid.steps());
        ends.reserve(grid.steps());
        for step in 0..grid.steps() {
            let at = reference.of(grid.time_ms(step));
            let (after, until) = borders(at, reach);
            while end < timestamps_ms.len() && timestamps_ms[end] <= until {
                end += 1;
            }
            while start < end && timestamps_ms[start] <= after {
                start += 1;
            }
            starts.push(start as u32);
            ends.push(end as u32);
        }
    }
}

/// The window around `at_ms`, exclusive and inclusive border.
fn borders(at_ms: i64, reach: Reach) -> (i64, i64) {
    (at_ms.saturating_sub(reach.back_ms), at_ms.saturating_add(reach.ahead_ms))
}

fn find_window(timestamps_ms: &[i64], at_ms: i64, reach: Reach) -> (u32, u32) {
    let (after, until) = borders(at_ms, reach);
    let start = timestamps_ms.partition_point(|t| *t <= after);
    let end = timestamps_ms.partition_point(|t| *t <= until).max(start);
    (start as u32, end as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn walking_equals_searching(
            gaps in proptest::collection::vec(1_i64..40, 0..60),
            start in -100_i64..300,
            step in 1_i64..50,
            count in 1_i64..20,
            offset in -50_i64..50,
            back in 0_i64..120,
            ahead in 0_i64..30,
        ) {
            let timestamps: Vec<i64> = gaps
                .iter()
                .scan(0, |t, gap| { *t += gap; Some(*t) })
                .collect();
            let grid = Grid::range(start, start + step * count, step).expect("positive step");
            let reference = Reference { at_ms: None, offset_ms: offset };
            let reach = Reach { back_ms: back, ahead_ms: ahead };
            let mut windows = Windows::default();
            windows.update(&timestamps, &grid, reference, reach);
            for index in 0..grid.steps() {
                let at = reference.of(grid.time_ms(index));
                let expected: Vec<usize> = (0..timestamps.len())
                    .filter(|i| timestamps[*i] > at - back && timestamps[*i] <= at + ahead)
                    .collect();
                let (from, to) = (windows.starts()[index] as usize, windows.ends()[index] as usize);
                prop_assert_eq!((from..to).collect::<Vec<_>>(), expected);
            }
        }

        #[test]
        fn kept_windows_are_those_of_their_timestamps(
            targets in proptest::collection::vec(0_i64..90, 1..300),
        ) {
            let grid = Grid::range(0, 100, 10).expect("positive step");
            let reference = Reference { at_ms: None, offset_ms: 0 };
            let reach = Reach::back(25);
            let mut windows = Windows::default();
            let mut of_generation = std::collections::HashMap::new();
            for target in targets {
                // Some differ only in the middle.
                let timestamps = [target / 3 - 40, target % 3 + 20, target / 3 + 50];
                let mut alone = Windows::default();
                alone.update(&timestamps, &grid, reference, reach);
                windows.update(&timestamps, &grid, reference, reach);
                prop_assert_eq!(windows.starts(), alone.starts());
                prop_assert_eq!(windows.ends(), alone.ends());
                let first = of_generation.entry(windows.generation()).or_insert(timestamps);
                prop_assert_eq!(*first, timestamps);
                prop_assert!(windows.kept() <= MAX_KEPT);
            }
        }
    }
}
