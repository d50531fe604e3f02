//! Evaluation times: the steps of a query and what each step refers to.

use crate::engine::EvalError;

/// Evenly spaced evaluation times, `start_ms`, `start_ms + step_ms`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    start_ms: i64,
    step_ms: i64,
    steps: usize,
}

impl Grid {
    /// One evaluation at `t_ms`.
    pub(crate) fn instant(t_ms: i64) -> Self {
        Grid { start_ms: t_ms, step_ms: 1, steps: 1 }
    }

    /// From the first evaluation to the last, milliseconds.
    pub(crate) fn span_ms(&self) -> i64 {
        self.step_ms.saturating_mul(self.steps.saturating_sub(1) as i64)
    }

    /// Evaluations from `start_ms` up to and including `end_ms`; none if they are crossed.
    ///
    /// # Errors
    /// A step that is not positive, or more steps than this machine can number.
    pub(crate) fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Self, EvalError> {
        if step_ms <= 0 {
            return Err(EvalError::Execution(format!(
                "zero or negative query resolution step widths are not accepted (got {step_ms}ms); \
                 try a positive number"
            )));
        }
        if end_ms < start_ms {
            return Ok(Grid { start_ms, step_ms, steps: 0 });
        }
        let count = (i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms) + 1;
        let steps = usize::try_from(count).map_err(|_| {
            EvalError::Limit(format!(
                "the query asks for {count} steps, more than can be numbered; \
                 use a longer step or a shorter range"
            ))
        })?;
        Ok(Grid { start_ms, step_ms, steps })
    }

    /// Number of evaluation times.
    #[inline]
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The first evaluation time.
    pub(crate) fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// The last evaluation time; the first one if there are none.
    pub(crate) fn end_ms(&self) -> i64 {
        self.time_ms(self.steps.saturating_sub(1))
    }

    /// Evaluation time number `index`.
    #[inline]
    pub(crate) fn time_ms(&self, index: usize) -> i64 {
        // The sum lies between start and end, so wrapping in between cannot be seen.
        self.start_ms.wrapping_add(self.step_ms.wrapping_mul(index as i64))
    }

    /// Time between two times that `reference` points at; 0 if it points at one only.
    pub(crate) fn step_between_ms(&self, reference: Reference) -> i64 {
        if self.steps > 1 && !reference.is_pinned() { self.step_ms } else { 0 }
    }

    /// The largest length of windows, counted from the epoch, of which all ranges of `range_ms`
    /// consist that `reference` points at; 0 if there is none.
    pub(crate) fn window_ms(&self, reference: Reference, range_ms: i64) -> i64 {
        let end_ms = reference.of(self.start_ms);
        let common = [self.step_between_ms(reference), end_ms].into_iter().fold(range_ms, divisor);
        if range_ms > 0 { common } else { 0 }
    }

    /// Only the first evaluation.
    pub(crate) fn first(&self) -> Self {
        Grid { steps: self.steps.min(1), ..*self }
    }
}

/// Where a selector looks, seen from an evaluation time: `@` and `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reference {
    /// `@`, resolved.
    pub(crate) at_ms: Option<i64>,
    /// `offset`, resolved.
    pub(crate) offset_ms: i64,
}

impl Reference {
    /// The time an evaluation at `t_ms` refers to.
    #[inline]
    pub(crate) fn of(&self, t_ms: i64) -> i64 {
        self.at_ms.unwrap_or(t_ms).saturating_sub(self.offset_ms)
    }

    /// Whether every evaluation refers to the same time.
    pub(crate) fn is_pinned(&self) -> bool {
        self.at_ms.is_some()
    }
}

/// The greatest common divisor; not negative but for the extremes.
fn divisor(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a.wrapping_rem(b));
    }
    a.wrapping_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_do_not_overflow() {
        let grid = Grid::range(i64::MIN, i64::MAX, i64::MAX).expect("three steps");
        assert_eq!(grid.steps(), 3);
        assert_eq!(grid.time_ms(1), -1);
        assert_eq!(grid.end_ms(), i64::MAX - 1);
        assert!(Grid::range(0, 10, 0).is_err());
        assert_eq!(Grid::range(1, 0, 1).expect("empty").steps(), 0);
        let at = |start_ms, step_ms, range_ms| {
            let grid = Grid::range(start_ms, start_ms + 9 * step_ms, step_ms).expect("ten steps");
            grid.window_ms(Reference::default(), range_ms)
        };
        assert_eq!(at(1_200, 600, 900), 300);
        assert_eq!(at(-1_200, 600, 900), 300);
        assert_eq!(at(1_201, 600, 900), 1);
        assert_eq!(at(0, 600, 0), 0);
        let pinned = Reference { at_ms: Some(1_800), offset_ms: 600 };
        assert_eq!(Grid::range(7, 99, 7).expect("steps").window_ms(pinned, 900), 300);
        let far = Reference { at_ms: Some(i64::MIN), offset_ms: i64::MAX };
        assert_eq!(far.of(0), i64::MIN);
    }
}
