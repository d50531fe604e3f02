//! What is known of the samples of one series in a window of time.

/// The samples of one series that lie in one window, or some neighbours of them; at least one.
/// Staleness markers are no samples here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RollupRow {
    /// Time of the first sample.
    pub first_ms: i64,
    /// Time of the last sample.
    pub last_ms: i64,
    /// Number of samples.
    pub count: u32,
    /// How often a value is below its predecessor.
    pub resets: u32,
    /// First value.
    pub first: f64,
    /// Last value.
    pub last: f64,
    /// Least value; NaN only if every value is.
    pub min: f64,
    /// Greatest value; NaN only if every value is.
    pub max: f64,
    /// Sum of the values, by compensated summation.
    pub sum: f64,
    /// Sum of the values before resets. A counter rose by `last - first + before_resets`.
    pub before_resets: f64,
}

impl RollupRow {
    /// The row of one sample.
    pub fn of(t_ms: i64, value: f64) -> Self {
        RollupRow {
            first_ms: t_ms,
            last_ms: t_ms,
            count: 1,
            resets: 0,
            first: value,
            last: value,
            min: value,
            max: value,
            sum: value,
            before_resets: 0.0,
        }
    }
    /// Takes in a row of samples that are all later than its own.
    pub fn append(&mut self, later: &RollupRow) {
        if later.first < self.last {
            self.resets = self.resets.saturating_add(1);
            self.before_resets += self.last;
        }
        self.resets = self.resets.saturating_add(later.resets);
        self.before_resets += later.before_resets;
        self.count = self.count.saturating_add(later.count);
        self.sum += later.sum;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        (self.last_ms, self.last) = (later.last_ms, later.last);
    }
}
