//! What scraping counts about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use discovery::DiscoveryCounters;
use wire::text_encode::TextEncoder;

use super::append::Tally;
use super::error::ScrapeError;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters of one scraper, for all jobs together.
#[derive(Debug, Default)]
pub(super) struct ScrapeCounters {
    scrapes: Counter,
    failed: Counter,
    missed: Counter,
    delay_us: Counter,
    duration_us: Counter,
    samples: Counter,
    duplicates: Counter,
    out_of_order: Counter,
    out_of_bounds: Counter,
    exemplars: Counter,
    body_size: Counter,
    sample_limit: Counter,
    label_limits: Counter,
    bucket_limit: Counter,
    pub(super) target_limit: Counter,
    pub(super) syncs: Counter,
    pub(super) syncs_failed: Counter,
    pub(super) reloads: Counter,
    pub(super) reloads_failed: Counter,
    pub(super) failure_lines_dropped: Counter,
    pub(super) discovery: Arc<DiscoveryCounters>,
}

impl ScrapeCounters {
    /// A scrape that began so long after its time and took so long.
    pub(super) fn scrape(&self, delay: Duration, duration: Duration, tally: &Tally) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.scrapes.add(1);
        self.delay_us.add(micros(delay));
        self.duration_us.add(micros(duration));
        self.samples.add(tally.kept as u64);
        self.duplicates.add(tally.duplicates);
        self.out_of_order.add(tally.out_of_order);
        self.out_of_bounds.add(tally.out_of_bounds);
        self.exemplars.add(tally.exemplars);
    }

    /// … and failed.
    pub(super) fn failure(&self, error: &ScrapeError) {
        self.failed.add(1);
        match error {
            ScrapeError::BodySize { .. } => self.body_size.add(1),
            ScrapeError::SampleLimit { .. } => self.sample_limit.add(1),
            ScrapeError::LabelCount { .. }
            | ScrapeError::LabelName { .. }
            | ScrapeError::LabelValue { .. } => self.label_limits.add(1),
            ScrapeError::BucketLimit { .. } => self.bucket_limit.add(1),
            _ => {}
        }
    }

    /// Scrapes that were due while the one before was not over.
    pub(super) fn missed(&self, count: u64) {
        self.missed.add(count);
    }

    /// Writes every counter in Prometheus' text format.
    pub(super) fn render(&self, out: &mut TextEncoder<'_>) {
        for (name, help, counter) in self.rows() {
            let name = format!("watchfire_agent_scrape_{name}_total");
            out.family(&name, "counter", help);
            out.sample(&name, &[], counter.get() as f64);
        }
        for (name, help, count) in [
            (
                "watchfire_agent_scrape_discovery_dns_lookups_total",
                "Lookups of dns_sd_configs.",
                self.discovery.dns_lookups(),
            ),
            (
                "watchfire_agent_scrape_discovery_dns_lookup_failures_total",
                "Lookups of dns_sd_configs that failed.",
                self.discovery.dns_failures(),
            ),
        ] {
            out.family(name, "counter", help);
            out.sample(name, &[], count as f64);
        }
        for (name, help, micros) in [
            (
                "watchfire_agent_scrape_delay_seconds_total",
                "Time by which scrapes began late, all together.",
                &self.delay_us,
            ),
            (
                "watchfire_agent_scrape_duration_seconds_total",
                "Time scrapes took, all together.",
                &self.duration_us,
            ),
        ] {
            out.family(name, "counter", help);
            out.sample(name, &[], micros.get() as f64 / 1e6);
        }
        let name = "watchfire_agent_scrape_discovery_failures_total";
        let help = "Failed attempts to discover targets, by mechanism.";
        self.discovery.render_failures(name, help, out);
    }

    fn rows(&self) -> [(&'static str, &'static str, &Counter); 18] {
        [
            ("scrapes", "Scrapes done.", &self.scrapes),
            ("scrapes_failed", "Scrapes that failed.", &self.failed),
            (
                "scrapes_missed",
                "Scrapes left out because the one before was not over in time.",
                &self.missed,
            ),
            ("samples", "Samples left after metric relabeling.", &self.samples),
            (
                "samples_duplicate_timestamp",
                "Samples left out because their series has another one at that time.",
                &self.duplicates,
            ),
            (
                "samples_out_of_order",
                "Samples older than an earlier one of their series in the same scrape; stored.",
                &self.out_of_order,
            ),
            (
                "samples_out_of_bounds",
                "Samples left out because they are too far in the future.",
                &self.out_of_bounds,
            ),
            (
                "exemplars",
                "Exemplars read, repetitions included; whoever stores them leaves those out.",
                &self.exemplars,
            ),
            (
                "exceeded_body_size_limit",
                "Scrapes that failed because of body_size_limit.",
                &self.body_size,
            ),
            (
                "exceeded_sample_limit",
                "Scrapes that failed because of sample_limit.",
                &self.sample_limit,
            ),
            (
                "exceeded_label_limits",
                "Scrapes that failed because of a limit of labels.",
                &self.label_limits,
            ),
            (
                "exceeded_native_histogram_bucket_limit",
                "Scrapes that failed because of native_histogram_bucket_limit.",
                &self.bucket_limit,
            ),
            (
                "pool_exceeded_target_limit",
                "Times a job was found to have more targets than target_limit.",
                &self.target_limit,
            ),
            ("pool_syncs", "Times the targets of a job were brought up to date.", &self.syncs),
            ("sync_failed", "Targets that could not be built.", &self.syncs_failed),
            ("pool_reloads", "Configurations of jobs put in effect.", &self.reloads),
            ("pool_reloads_failed", "Configurations that were refused.", &self.reloads_failed),
            (
                "failure_log_lines_dropped",
                "Lines of scrape_failure_log_file left out because the disk was too slow.",
                &self.failure_lines_dropped,
            ),
        ]
    }
}
