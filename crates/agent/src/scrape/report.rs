//! The series every target has besides its own: `up` and its kin.

use std::time::Duration;

use model::{Labels, LabelsBuilder, METRIC_NAME, MetricBatch, STALE_NAN_BITS};

use super::append::Tally;
use super::cache::push_row;

/// What is always written.
const ALWAYS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
/// What `extra_scrape_metrics` adds.
const EXTRA: [&str; 3] =
    ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// The series of one target, their labels packed once.
pub(super) struct ReportSeries {
    labels: Vec<Labels>,
}

/// What one scrape came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) is_up: bool,
    pub(super) duration: Duration,
    pub(super) tally: Tally,
    pub(super) timeout: Duration,
    pub(super) sample_limit: usize,
    /// The unpacked body; -1 if it was too large, 0 if there was none.
    pub(super) body_bytes: f64,
}

impl ReportSeries {
    /// `target_labels` are those without `__`; metric relabeling does not touch these series.
    pub(super) fn new(target_labels: &Labels, with_extra: bool) -> Self {
        let extra = EXTRA.iter().filter(|_| with_extra);
        let labels = ALWAYS
            .iter()
            .chain(extra)
            .map(|name| LabelsBuilder::from_labels(target_labels).set(METRIC_NAME, name).build());
        ReportSeries { labels: labels.collect() }
    }

    /// Appends one sample of each.
    pub(super) fn push(&self, outcome: &Outcome, t_ms: i64, batch: &mut MetricBatch) {
        let values = [
            f64::from(u8::from(outcome.is_up)),
            outcome.duration.as_secs_f64(),
            outcome.tally.scraped as f64,
            outcome.tally.kept as f64,
            outcome.tally.series_added as f64,
            outcome.timeout.as_secs_f64(),
            outcome.sample_limit as f64,
            outcome.body_bytes,
        ];
        for (labels, value) in self.labels.iter().zip(values) {
            push_row(batch, labels.as_packed(), t_ms, value);
        }
    }

    /// Appends the marker that ends each.
    pub(super) fn push_stale(&self, t_ms: i64, batch: &mut MetricBatch) {
        for labels in &self.labels {
            push_row(batch, labels.as_packed(), t_ms, f64::from_bits(STALE_NAN_BITS));
        }
    }
}
