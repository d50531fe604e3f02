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
}
