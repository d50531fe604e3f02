//! What a clustered broker counts of its segments.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fresh::FreshCounters;
use crate::Broker;
use crate::metrics::MetricRow;

/// Counters of the way of segments.
#[derive(Debug, Default)]
pub(crate) struct ClusterCounters {
    pub(super) segments: AtomicU64,
    pub(super) put_bytes: AtomicU64,
    pub(super) put_micros: AtomicU64,
    pub(super) put_failures: AtomicU64,
    pub(super) in_doubt: AtomicU64,
    pub(super) refused_behind: AtomicU64,
    pub(super) adopted_segments: AtomicU64,
    /// As of the last look.
    pub(super) orphans: AtomicU64,
    pub(super) orphan_bytes: AtomicU64,
    pub(super) orphans_removed: AtomicU64,
}

impl ClusterCounters {
    pub(super) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

impl Broker {
    /// All 0 beside a log.
    pub(crate) fn cluster_rows(&self) -> Vec<MetricRow> {
        let clustered = self.inner.clustered.as_ref();
        let none = ClusterCounters::default();
        let counters = clustered.map_or(&none, |clustered| &clustered.counters);
        let waiting = clustered.map_or(0, |clustered| clustered.budget.used());
        let others = clustered.map(|clustered| &clustered.peers);
        let nothing = FreshCounters::default();
        let fresh = others.map_or(&nothing, |others| &others.counters);
        let row = |name, kind, help, value| MetricRow { name, help, kind, value };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            row(
                "watchfire_broker_segments_total",
                "counter",
                "Segments of this broker of a cluster that count: durable in the store and agreed upon.",
                count(&counters.segments),
            ),
            row(
                "watchfire_broker_segment_bytes_total",
                "counter",
                "Bytes of segments written to the store.",
                count(&counters.put_bytes),
            ),
            row(
                "watchfire_broker_segment_put_seconds_total",
                "counter",
                "Time that writing segments took, those written at once added up.",
                count(&counters.put_micros) / 1e6,
            ),
            row(
                "watchfire_broker_segment_put_failures_total",
                "counter",
                "Segments that the store did not take in time; their batches were refused.",
                count(&counters.put_failures),
            ),
            row(
                "watchfire_broker_segments_in_doubt_total",
                "counter",
                "Segments of which nobody knew in time whether they count; senders were told so.",
                count(&counters.in_doubt),
            ),
            row(
                "watchfire_broker_batches_refused_store_behind_total",
                "counter",
                "Batches refused because too much waits for the store.",
                count(&counters.refused_behind),
            ),
            row(
                "watchfire_broker_waiting_bytes",
                "gauge",
                "Memory of batches on their way to the store, at most 256 MiB and a 16th of \
                 memory.limit_bytes.",
                waiting as f64,
            ),
            row(
                "watchfire_broker_adopted_segments_total",
                "counter",
                "Segments of dead brokers that this one made blocks of.",
                count(&counters.adopted_segments),
            ),
            row(
                "watchfire_broker_orphans",
                "gauge",
                "Objects in the store that nothing refers to, at the last look of the broker that looks \
                 for them; they are removed when they are old enough.",
                count(&counters.orphans),
            ),
            row(
                "watchfire_broker_orphan_bytes",
                "gauge",
                "Bytes of those.",
                count(&counters.orphan_bytes),
            ),
            row(
                "watchfire_broker_orphans_removed_total",
                "counter",
                "Objects removed because nothing referred to them for long.",
                count(&counters.orphans_removed),
            ),
            row(
                "watchfire_broker_fresh_requests_total",
                "counter",
                "Questions of queries to other brokers about what is in no block yet.",
                count(&fresh.asked),
            ),
            row(
                "watchfire_broker_fresh_unanswered_total",
                "counter",
                "Times that another broker did not answer, or was not asked because it had not \
                 answered just before: its segments were read instead.",
                count(&fresh.unanswered),
            ),
            row(
                "watchfire_broker_fresh_received_bytes_total",
                "counter",
                "Bytes of answers of other brokers.",
                count(&fresh.received_bytes),
            ),
            row(
                "watchfire_broker_fresh_wait_seconds_total",
                "counter",
                "Time that queries waited for other brokers, those that waited at once added up.",
                count(&fresh.wait_micros) / 1e6,
            ),
            row(
                "watchfire_broker_fresh_partial_total",
                "counter",
                "Selections that lack something of another broker; their answers say so.",
                count(&fresh.partial),
            ),
            row(
                "watchfire_broker_fresh_answers_total",
                "counter",
                "Questions of other brokers that were answered.",
                count(&fresh.answered),
            ),
            row(
                "watchfire_broker_foreign_segments_read_total",
                "counter",
                "Segments of brokers that did not answer, read from the store for queries.",
                count(&fresh.segments_read),
            ),
            row(
                "watchfire_broker_foreign_head_bytes",
                "gauge",
                "Memory of what was read of brokers that do not answer.",
                others.map_or(0, |others| others.foreign_bytes()) as f64,
            ),
        ]
    }
}
