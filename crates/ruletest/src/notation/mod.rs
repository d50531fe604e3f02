//! Series and histograms as tests of Prometheus write them: `up{job="a"} 1 2+3x4 _ stale {{sum:1}}`.

pub mod histogram;
mod numbers;
pub mod series;

pub use numbers::{almost_equal, general};

/// What is wrong with a text in this notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotationError(String);

impl NotationError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        NotationError(message.into())
    }

    /// The same, behind what it is within.
    pub(crate) fn within(self, what: &str) -> Self {
        NotationError(format!("{what}: {}", self.0))
    }
}
