//! What queries yield and rules write.

use std::sync::Arc;

use model::{FloatHistogram, Labels, STALE_NAN_BITS};

/// One sample of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The labels of the series.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// Its value; 0 if it is a histogram.
    pub value: f64,
    /// Its histogram, if it is one.
    pub histogram: Option<Arc<FloatHistogram>>,
}

impl Sample {
    /// A number.
    pub fn float(labels: Labels, t_ms: i64, value: f64) -> Self {
        Sample { labels, t_ms, value, histogram: None }
    }

    /// The mark that a series has ended.
    pub fn stale(labels: Labels, t_ms: i64) -> Self {
        Sample::float(labels, t_ms, f64::from_bits(STALE_NAN_BITS))
    }

    /// Whether it marks the end of a series.
    pub fn is_stale(&self) -> bool {
        self.histogram.is_none() && model::is_stale_nan(self.value)
    }
}
