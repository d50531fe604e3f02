//! Time ranges in milliseconds since the Unix epoch.

/// A half-open range `start_ms <= t < end_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond inside.
    pub start_ms: i64,
    /// First millisecond after.
    pub end_ms: i64,
}

impl TimeRange {
    /// The range from `start_ms` up to, not including, `end_ms`. Empty when they meet or cross.
    pub fn new(start_ms: i64, end_ms: i64) -> Self {
        TimeRange { start_ms, end_ms }
    }

    /// The range that holds every timestamp except `i64::MAX`.
    pub fn all() -> Self {
        TimeRange { start_ms: i64::MIN, end_ms: i64::MAX }
    }

    /// Whether no timestamp is inside.
    pub fn is_empty(&self) -> bool {
        self.start_ms >= self.end_ms
    }

    /// Whether `t_ms` is inside.
    #[inline]
    pub fn contains(&self, t_ms: i64) -> bool {
        self.start_ms <= t_ms && t_ms < self.end_ms
    }

    /// Whether some timestamp is inside both.
    pub fn overlaps(&self, other: &TimeRange) -> bool {
        self.start_ms < other.end_ms
            && other.start_ms < self.end_ms
            && !self.is_empty()
            && !other.is_empty()
    }

    /// What is inside both; empty if nothing is.
    #[must_use]
    pub fn intersection(&self, other: &TimeRange) -> TimeRange {
        TimeRange::new(self.start_ms.max(other.start_ms), self.end_ms.min(other.end_ms))
    }

    /// The smallest range that holds both; an empty range adds nothing.
    pub fn union(&self, other: &TimeRange) -> TimeRange {
        if self.is_empty() {
            return *other;
        }
        if other.is_empty() {
            return *self;
        }
        TimeRange::new(self.start_ms.min(other.start_ms), self.end_ms.max(other.end_ms))
    }
}
