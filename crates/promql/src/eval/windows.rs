//! Which samples of a series lie in the window of each step.

use std::ops::Range;

use super::grid::{Grid, Reference};

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
/// Series of one scrape target have the same timestamps, so windows are computed anew only when
/// the timestamps differ from those of the series before.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    timestamps_ms: Vec<i64>,
    generation: u64,
    pub(crate) starts: Vec<u32>,
    pub(crate) ends: Vec<u32>,
}

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
        if self.generation > 0 && self.timestamps_ms == timestamps_ms {
            return;
        }
        self.timestamps_ms.clear();
        self.timestamps_ms.extend_from_slice(timestamps_ms);
        self.generation += 1;
        self.starts.clear();
        self.ends.clear();
        if reference.is_pinned() {
            let (start, end) = find_window(timestamps_ms, reference.of(0), reach);
            self.starts.resize(grid.steps(), start);
            self.ends.resize(grid.steps(), end);
            return;
        }
        self.walk(timestamps_ms, grid, reference, reach);
    }

    /// The samples in the window of `step`.
    #[inline]
    pub(crate) fn range(&self, step: usize) -> Range<usize> {
        self.starts[step] as usize..self.ends[step] as usize
    }

    /// Changes whenever the windows do; 0 before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    fn walk(&mut self, timestamps_ms: &[i64], grid: &Grid, reference: Reference, reach: Reach) {
        // Steps ascend, so both borders only move forward: one pass over samples and steps.
        let (mut start, mut end) = (0_usize, 0_usize);
        self.starts.reserve(grid.steps());
        self.ends.reserve(grid.steps());
        for step in 0..grid.steps() {
            let at = reference.of(grid.time_ms(step));
            let (after, until) = borders(at, reach);
            while end < timestamps_ms.len() && timestamps_ms[end] <= until {
                end += 1;
            }
            while start < end && timestamps_ms[start] <= after {
                start += 1;
            }
            self.starts.push(start as u32);
            self.ends.push(end as u32);
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
                let (from, to) = (windows.starts[index] as usize, windows.ends[index] as usize);
                prop_assert_eq!((from..to).collect::<Vec<_>>(), expected);
            }
        }
    }
}
