//! What is scraped: the targets behind `/api/v1/targets`.

use model::{Labels, MetricMetadata};
use settings::relabel::RelabelConfig;

/// Where the console learns about scraping.
pub trait Targets: Send + Sync + 'static {
    /// The jobs, by name.
    fn pools(&self) -> Vec<String>;

    /// Targets that are scraped, of one job or of all, by job and URL.
    fn active(&self, pool: Option<&str>) -> Vec<ActiveTarget>;

    /// Targets that relabeling dropped, as many as are kept.
    fn dropped(&self, pool: Option<&str>) -> Vec<DroppedTarget>;

    /// How many targets relabeling dropped, for each job.
    fn dropped_counts(&self) -> Vec<(String, usize)>;

    /// What targets whose labels `keep` accepts say about all families, or about `metric` only. No
    /// further target is asked once there are `limit` entries.
    fn metadata(
        &self,
        keep: &dyn Fn(&Labels) -> bool,
        metric: Option<&str>,
        limit: usize,
    ) -> Vec<TargetMetadata>;

    /// What each relabeling rule of a job makes of `labels`; `None` if there is no such job.
    fn relabel_steps(&self, pool: &str, labels: &Labels) -> Option<Vec<RelabelStep>>;
}

/// A target that is scraped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActiveTarget {
    /// The job it belongs to.
    pub pool: String,
    /// Its labels before relabeling.
    pub discovered: Labels,
    /// The labels its series get.
    pub labels: Labels,
    /// What is requested.
    pub url: String,
    /// `up`, `down` or `unknown`.
    pub health: &'static str,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    /// When the last scrape began, milliseconds since the epoch; `None` before the first.
    pub last_scrape_ms: Option<i64>,
    /// How long it took.
    pub last_duration_seconds: f64,
    /// Time between two scrapes, such as `15s`.
    pub interval: String,
    /// Time a scrape may take.
    pub timeout: String,
    /// Name of the broker that scrapes it, in a cluster and if that is known.
    pub scraped_by: Option<String>,
}

/// A target that relabeling dropped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DroppedTarget {
    /// The job it would belong to.
    pub pool: String,
    /// Its labels before relabeling.
    pub discovered: Labels,
}

/// What one target says about one family.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// The labels behind it; none once the target is dropped.
    pub output: Labels,
    /// Whether the target is still kept.
    pub keep: bool,
}

/// Nothing is scraped.
pub(crate) struct NoTargets;

impl Targets for NoTargets {
    fn pools(&self) -> Vec<String> {
        Vec::new()
    }

    fn active(&self, _: Option<&str>) -> Vec<ActiveTarget> {
        Vec::new()
    }

    fn dropped(&self, _: Option<&str>) -> Vec<DroppedTarget> {
        Vec::new()
    }

    fn dropped_counts(&self) -> Vec<(String, usize)> {
        Vec::new()
    }

    fn metadata(
        &self,
        _: &dyn Fn(&Labels) -> bool,
        _: Option<&str>,
        _: usize,
    ) -> Vec<TargetMetadata> {
        Vec::new()
    }

    fn relabel_steps(&self, _: &str, _: &Labels) -> Option<Vec<RelabelStep>> {
        None
    }
}
