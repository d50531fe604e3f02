//! What people are told about jobs and targets.

use std::time::Duration;

use model::{Labels, MetricMetadata};
use settings::relabel::RelabelConfig;

/// How the last scrape went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetHealth {
    /// There was none yet.
    #[default]
    Unknown,
    /// Well.
    Up,
    /// It failed.
    Down,
}

impl TargetHealth {
    /// Prometheus' word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetHealth::Unknown => "unknown",
            TargetHealth::Up => "up",
            TargetHealth::Down => "down",
        }
    }
}

/// One target that is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetStatus {
    /// The job it belongs to.
    pub pool: String,
    /// Its labels before relabeling.
    pub discovered: Labels,
    /// The labels its series get.
    pub labels: Labels,
    /// What is requested.
    pub url: String,
    /// How the last scrape went.
    pub health: TargetHealth,
    /// Why it failed; empty if it did not.
    pub last_error: String,
    /// When the last scrape began, milliseconds since the epoch; `None` before the first.
    pub last_scrape_ms: Option<i64>,
    /// How long it took.
    pub last_duration: Duration,
    /// Time between two scrapes, as `__scrape_interval__` says it.
    pub interval: String,
    /// Time a scrape may take, as `__scrape_timeout__` says it.
    pub timeout: String,
    /// Name of the one that asks it, where targets are shared and that is known.
    pub scraped_by: Option<String>,
}

/// Figures of all targets together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetTotals {
    /// Targets whose last scrape went well.
    pub up: usize,
    /// Targets whose last scrape failed.
    pub down: usize,
    /// Samples of the last scrape of each, after metric relabeling.
    pub series: usize,
}

/// A target that relabeling dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct DroppedTarget {
    /// The job it would belong to.
    pub pool: String,
    /// Its labels before relabeling.
    pub discovered: Labels,
}

/// What one target says about one family.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMetadata {
    /// The labels the target's series get.
    pub target: Labels,
    /// The family.
    pub metadata: MetricMetadata,
}

/// What one rule of relabeling did.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelStep {
    /// The rule.
    pub rule: RelabelConfig,
    /// The labels behind it.
    pub labels: Labels,
    /// Whether it kept the target.
    pub kept: bool,
}
