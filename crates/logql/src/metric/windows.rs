//! The times a query is evaluated at, and the windows that end there.

/// Times at which a query is evaluated: `start`, then every `step` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    start_ns: i64,
    step_ns: i64,
    count: usize,
}

impl Steps {
    /// One time.
    pub fn instant(at_ns: i64) -> Self {
        Steps { start_ns: at_ns, step_ns: 1, count: 1 }
    }

    /// Times of a range, both ends included. A step below 1 is taken for 1, an end before the start
    /// for the start.
    pub fn range(start_ns: i64, end_ns: i64, step_ns: i64) -> Self {
        let step_ns = step_ns.max(1);
        let length = i128::from(end_ns.max(start_ns)) - i128::from(start_ns);
        let count = usize::try_from(length / i128::from(step_ns) + 1).unwrap_or(usize::MAX);
        Steps { start_ns, step_ns, count }
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// One of them, in nanoseconds.
    pub fn time_ns(&self, index: usize) -> i64 {
        let time = i128::from(self.start_ns) + i128::from(self.step_ns) * index as i128;
        i64::try_from(time).unwrap_or(i64::MAX)
    }
}

/// A window before each step: after `end - length` up to `end`, which is `offset` before the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) steps: Steps,
    pub(super) length_ns: i64,
    pub(super) offset_ns: i64,
}

impl Windows {
    /// The steps in whose windows a time lies.
    pub(super) fn of(&self, time_ns: i64) -> std::ops::Range<usize> {
        let step = i128::from(self.steps.step_ns);
        let since =
            i128::from(time_ns) + i128::from(self.offset_ns) - i128::from(self.steps.start_ns);
        let index =
            |at: i128| usize::try_from(at.max(0)).unwrap_or(usize::MAX).min(self.steps.count);
        // The first step at or after the time; the first one a length after it is beyond.
        let first = -(-since).div_euclid(step);
        let beyond = -(-(since + i128::from(self.length_ns))).div_euclid(step);
        let first = index(first);
        first..index(beyond).max(first)
    }

    /// When the window of a step ends.
    pub(super) fn end_ns(&self, step: usize) -> i64 {
        self.steps.time_ns(step).saturating_sub(self.offset_ns)
    }

    /// The times no window starts before, and none ends after.
    pub(super) fn bounds(&self) -> (i64, i64) {
        let first = self.end_ns(0).saturating_sub(self.length_ns);
        (first, self.end_ns(self.steps.count - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_its_end_and_not_its_start() {
        for (step, length, offset) in [(10, 25, 0), (10, 10, 0), (10, 3, 4), (7, 20, -5)] {
            let steps = Steps::range(100, 160, step);
            let windows = Windows { steps, length_ns: length, offset_ns: offset };
            for time in 50..200 {
                let holds = |index: &usize| {
                    let end = steps.time_ns(*index) - offset;
                    end - length < time && time <= end
                };
                let expected: Vec<usize> = (0..steps.count()).filter(holds).collect();
                let found: Vec<usize> = windows.of(time).collect();
                assert_eq!(found, expected, "step {step} length {length} time {time}");
            }
        }
    }

    #[test]
    fn steps_stay_within_what_a_time_can_be() {
        assert_eq!(Steps::range(0, 100, 30).count(), 4);
        assert_eq!(Steps::range(5, 1, 0).count(), 1);
        let steps = Steps::range(i64::MIN, i64::MAX, i64::MAX);
        assert_eq!((steps.count(), steps.time_ns(2)), (3, i64::MAX - 1));
    }
}
