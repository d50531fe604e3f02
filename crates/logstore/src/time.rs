//! Ranges of nanoseconds, and minutes.

use model::TimeRange;

/// Nanoseconds of a minute.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;
const MILLISECOND_NS: i64 = 1_000_000;

/// A half-open range `start_ns <= t < end_ns`, nanoseconds since the epoch. One that ends at `i64::MAX` holds
/// that time as well, so that there is a range of all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NsRange {
    /// First nanosecond inside.
    pub start_ns: i64,
    /// First nanosecond after; `i64::MAX` for no end.
    pub end_ns: i64,
}

impl NsRange {
    /// The range from `start_ns` up to, not including, `end_ns`. Empty when they meet or cross.
    pub fn new(start_ns: i64, end_ns: i64) -> Self {
        NsRange { start_ns, end_ns }
    }

    /// The range that holds every time.
    pub fn all() -> Self {
        NsRange { start_ns: i64::MIN, end_ns: i64::MAX }
    }

    /// The range of one minute, counted from the epoch.
    pub(crate) fn of_minute(minute: i64) -> Self {
        let start_ns = minute.saturating_mul(MINUTE_NS);
        NsRange { start_ns, end_ns: start_ns.saturating_add(MINUTE_NS) }
    }

    /// The last time inside, if it is not empty.
    pub(crate) fn last_ns(&self) -> i64 {
        if self.end_ns == i64::MAX { i64::MAX } else { self.end_ns.saturating_sub(1) }
    }

    /// Whether `t_ns` is inside.
    #[inline]
    pub fn contains(&self, t_ns: i64) -> bool {
        self.start_ns <= t_ns && (t_ns < self.end_ns || self.end_ns == i64::MAX)
    }

    /// Whether all times from `first_ns` to `last_ns`, both inside, are in it.
    pub(crate) fn covers(&self, first_ns: i64, last_ns: i64) -> bool {
        self.contains(first_ns) && self.contains(last_ns)
    }

    /// Whether some time from `first_ns` to `last_ns`, both inside, is in it.
    pub(crate) fn meets(&self, first_ns: i64, last_ns: i64) -> bool {
        self.start_ns <= last_ns && (first_ns < self.end_ns || self.end_ns == i64::MAX)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &NsRange) -> NsRange {
        let (start, end) = (self.start_ns.max(other.start_ns), self.end_ns.min(other.end_ns));
        NsRange::new(start, end)
    }
}

impl From<TimeRange> for NsRange {
    /// The nanoseconds of all its milliseconds. What lies beyond the times that nanoseconds can tell is cut off.
    fn from(range: TimeRange) -> Self {
        let end_ns = range.end_ms.saturating_mul(MILLISECOND_NS);
        NsRange::new(range.start_ms.saturating_mul(MILLISECOND_NS), end_ns)
    }
}

/// The milliseconds that hold all times from `first_ns` to `last_ns`, both inside.
pub(crate) fn milliseconds(first_ns: i64, last_ns: i64) -> TimeRange {
    let [first, last] = [first_ns, last_ns].map(|ns| ns.div_euclid(MILLISECOND_NS));
    TimeRange::new(first, last + 1)
}

/// The minute of a time, counted from the epoch.
pub(crate) fn minute_of(t_ns: i64) -> i64 {
    t_ns.div_euclid(MINUTE_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        let range = NsRange::new(-5, 7);
        for (first, last, meets, covers) in [
            (-9, -6, false, false),
            (-9, -5, true, false),
            (-5, 6, true, true),
            (6, 7, true, false),
            (7, 9, false, false),
        ] {
            assert_eq!(range.meets(first, last), meets, "{first}..={last}");
            assert_eq!(range.covers(first, last), covers, "{first}..={last}");
        }
        assert!(NsRange::all().covers(i64::MIN, i64::MAX));
        assert!(NsRange::from(TimeRange::all()).covers(i64::MIN, i64::MAX));
        assert_eq!(NsRange::from(TimeRange::new(-1, 2)), NsRange::new(-1_000_000, 2_000_000));
        assert_eq!(milliseconds(-1, 999_999), TimeRange::new(-1, 1));
        assert_eq!((minute_of(-1), minute_of(0), minute_of(MINUTE_NS)), (-1, 0, 1));
    }
}
