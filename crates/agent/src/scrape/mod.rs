//! Prometheus' scraping: discovery, targets, and a loop for each of them.
//!
//! [`Scraper`] takes a [`settings::prometheus::Config`] and sends batches, one or more per scrape,
//! in the order of each target's scrapes. Everything it writes is what Prometheus would write:
//! labels, timestamps, staleness markers, `up` and its kin. Where it does otherwise:
//!
//! - a failed scrape ends all series of its target, also those it read before it failed;
//! - a series that another target goes on with (the same labels from another address) is not
//!   ended at all;
//! - samples that are older than an earlier one of their series are stored.

mod append;
mod cache;
mod counters;
mod delivery;
mod error;
mod failure_log;
mod fetch;
mod histograms;
mod job;
mod metadata;
mod pool;
mod report;
mod schedule;
mod scraper;
mod series_rules;
mod sharing;
mod status;
mod target;
mod target_loop;
#[cfg(test)]
mod tests;
mod workspace;

pub use error::ScraperError;
pub use scraper::{PreparedJobs, Scraper, ScraperOptions};
pub use sharing::{Sharing, Whose};
pub use status::{
    DroppedTarget, RelabelStep, TargetHealth, TargetMetadata, TargetStatus, TargetTotals,
};
