//! What discovery counts about itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::text_encode::TextEncoder;

/// Counts of all blocks of discovery that are given the same.
#[derive(Debug, Default)]
pub struct DiscoveryCounters {
    pub(crate) file_failures: AtomicU64,
    pub(crate) http_failures: AtomicU64,
    pub(crate) dns_failures: AtomicU64,
    pub(crate) dns_lookups: AtomicU64,
}

impl DiscoveryCounters {
    /// Lookups of `dns_sd_configs`.
    pub fn dns_lookups(&self) -> u64 {
        self.dns_lookups.load(Relaxed)
    }

    /// Those that failed.
    pub fn dns_failures(&self) -> u64 {
        self.dns_failures.load(Relaxed)
    }

    /// Writes the family `name`, by mechanism, in Prometheus' text format.
    pub fn render_failures(&self, name: &str, help: &str, out: &mut TextEncoder<'_>) {
        out.family(name, "counter", help);
        for (mechanism, counter) in [
            ("dns", &self.dns_failures),
            ("file", &self.file_failures),
            ("http", &self.http_failures),
        ] {
            out.sample(name, &[("mechanism", mechanism)], counter.load(Relaxed) as f64);
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
