//! What a console counts of its brokers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use wire::text_encode::TextEncoder;

use super::ClusterStatus;

/// Counts since start, and what is held now.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) failovers: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) held_bytes: AtomicUsize,
    pub(super) too_large: AtomicU64,
    pub(super) subscriptions: AtomicUsize,
    pub(super) restarts: AtomicU64,
    pub(super) missed: AtomicU64,
}

impl Counters {
    pub(super) fn render(&self, clusters: &[ClusterStatus], out: &mut TextEncoder<'_>) {
        const ANSWERS: &str = "watchfire_console_broker_answers";
        let number = |answers: bool| f64::from(u8::from(answers));
        out.family(ANSWERS, "gauge", "1 if the broker answered when it was last asked.");
        for broker in clusters.iter().flat_map(|cluster| &cluster.brokers) {
            out.sample(ANSWERS, &[("broker", &broker.address)], number(broker.answers));
        }
        const CLUSTER: &str = "watchfire_console_cluster_answers";
        let help = "1 if some broker of the cluster answered when it was last asked; its name is \
                    empty if it has none.";
        out.family(CLUSTER, "gauge", help);
        for cluster in clusters {
            out.sample(CLUSTER, &[("cluster", &cluster.name)], number(cluster.answers));
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let size = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed) as f64;
        for (name, kind, help, value) in [
            (
                "watchfire_console_broker_calls_total",
                "counter",
                "Calls to brokers.",
                count(&self.calls),
            ),
            (
                "watchfire_console_broker_calls_failed_total",
                "counter",
                "Calls that no broker answered.",
                count(&self.failed),
            ),
            (
                "watchfire_console_broker_failovers_total",
                "counter",
                "Times the next broker was asked because one did not answer.",
                count(&self.failovers),
            ),
            (
                "watchfire_console_broker_received_bytes_total",
                "counter",
                "Bytes of series received from brokers.",
                count(&self.received_bytes),
            ),
            (
                "watchfire_console_held_bytes",
                "gauge",
                "Bytes of series that queries and live subscriptions hold now.",
                size(&self.held_bytes),
            ),
            (
                "watchfire_console_queries_too_large_total",
                "counter",
                "Queries that ran into limits.max_query_bytes.",
                count(&self.too_large),
            ),
            (
                "watchfire_console_subscriptions",
                "gauge",
                "Live subscriptions to selectors at brokers.",
                size(&self.subscriptions),
            ),
            (
                "watchfire_console_subscription_restarts_total",
                "counter",
                "Live subscriptions begun again because the broker was away.",
                count(&self.restarts),
            ),
            (
                "watchfire_console_live_missed_total",
                "counter",
                "Live samples dropped for users who were too slow.",
                count(&self.missed),
            ),
        ] {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
    }
}
