//! What the time at which a counter began at zero tells about resets.
//!
//! Source: `isStartTimestampReset` and `checkStartTimeOverlap` of Prometheus' `promql/functions.go`.

use std::cell::RefCell;
use std::sync::Arc;

use model::FloatHistogram;

/// When a sample began at zero (0 = not known) and when it was taken, milliseconds.
pub(super) type Place = (i64, i64);

/// When the samples of a series began at zero. There may be fewer than samples, and of those behind
/// the last none is known: so this can be asked of any sample, and not be indexed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starts<'v>(&'v [i64]);

impl<'v> Starts<'v> {
    /// Those of a column that may end early; milliseconds since the epoch, 0 = not known.
    pub(super) fn of(column: &'v [i64]) -> Self {
        Starts(column)
    }

    /// When sample `index` began at zero, milliseconds since the epoch; 0 = not known.
    pub(super) fn at(self, index: usize) -> i64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// When sample `index` of those taken at `timestamps_ms` began, and when it was taken.
    pub(super) fn place(self, timestamps_ms: &[i64], index: usize) -> Place {
        (self.at(index), timestamps_ms[index])
    }

    /// Whether nothing is known of any sample.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a counter was reset between two samples because the later one began after the earlier
/// one was taken. One that begins exactly then is of a delta, unless the earlier one does not know
/// its own beginning: then it only says how far back it is known.
pub(super) fn is_reset_by_start(before: Place, now: Place) -> bool {
    let ((before_start, before_ms), (now_start, now_ms)) = (before, now);
    if now_start == 0 || now_start >= now_ms || now_start < before_ms {
        return false;
    }
    now_start > before_ms || (before_start != 0 && before_start < before_ms)
}

/// Whether a sample began before the sample before it, and not when that one did.
pub(super) fn overlaps((before_start, before_ms): Place, now_start: i64) -> bool {
    now_start != 0 && now_start < before_ms && now_start != before_start
}

/// Which histograms of a series were reset since the one before. Each pair is compared at most
/// once, however many windows it is in.
#[derive(Debug, Default)]
pub(super) struct Resets(RefCell<Vec<Option<bool>>>);

impl Resets {
    /// Whether there was a reset before sample `index > 0`.
    pub(super) fn is_reset(
        &self,
        (timestamps_ms, starts): (&[i64], Starts<'_>),
        histograms: &[Arc<FloatHistogram>],
        index: usize,
    ) -> bool {
        let mut known = self.0.borrow_mut();
        if known.len() < histograms.len() {
            known.resize(histograms.len(), None);
        }
        *known[index].get_or_insert_with(|| {
            let place = |index: usize| starts.place(timestamps_ms, index);
            is_reset_by_start(place(index - 1), place(index))
                || histograms[index].is_reset_since(&histograms[index - 1])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_tell_resets() {
        // Not known, when it was taken, in the future, and before the earlier sample.
        for start in [0, 200, 300, 50] {
            assert!(!is_reset_by_start((10, 100), (start, 200)), "start {start}");
        }
        assert!(is_reset_by_start((0, 100), (101, 200)));
        assert!(is_reset_by_start((40, 100), (100, 200)), "deltas");
        assert!(!is_reset_by_start((0, 100), (100, 200)), "beginning not known");
        assert!(!is_reset_by_start((100, 100), (100, 200)), "beginning not known");
        assert!(!is_reset_by_start((150, 100), (100, 200)), "impossible");
    }

    #[test]
    fn overlaps_are_starts_before_the_sample_before() {
        assert!(overlaps((10, 100), 50));
        assert!(!overlaps((50, 100), 50), "cumulative");
        assert!(!overlaps((10, 100), 100), "delta");
        assert!(!overlaps((10, 100), 0));
    }
}
