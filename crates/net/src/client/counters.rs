//! What outgoing requests count about themselves.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::text_encode::TextEncoder;

/// Counters of one or more clients, shared by reference.
#[derive(Debug, Default)]
pub struct ClientCounters {
    pub(super) connections: AtomicU64,
    pub(super) failed_connections: AtomicU64,
    pub(super) refused_addresses: AtomicU64,
    pub(super) retries: AtomicU64,
}

impl ClientCounters {
    /// Writes every counter in Prometheus' text format.
    pub fn render(&self, out: &mut TextEncoder<'_>) {
        for (name, help, counter) in [
            (
                "watchfire_net_client_connections_total",
                "Outgoing connections begun.",
                &self.connections,
            ),
            (
                "watchfire_net_client_connections_failed_total",
                "Outgoing connections that were not made.",
                &self.failed_connections,
            ),
            (
                "watchfire_net_client_addresses_refused_total",
                "Outgoing connections refused because of their address.",
                &self.refused_addresses,
            ),
            (
                "watchfire_net_client_retries_total",
                "Requests sent again because a kept connection was closed.",
                &self.retries,
            ),
        ] {
            out.family(name, "counter", help);
            out.sample(name, &[], counter.load(Relaxed) as f64);
        }
    }
}
