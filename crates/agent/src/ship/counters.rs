//! What shipping counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use model::MetricType;

use super::flow::Acknowledged;
use crate::counters::CounterRow;
use crate::spool::Lane;

/// The counters of the way to the broker.
#[derive(Debug, Default)]
pub struct ShipCounters {
    sent: [Counts; 2],
    acknowledged: [Counts; 2],
    latency_ns: AtomicU64,
    latencies: AtomicU64,
    refused_batches: AtomicU64,
    refused_samples: AtomicU64,
    unusable_batches: AtomicU64,
    connected: AtomicU64,
    is_refused: AtomicU64,
    streams: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    batches: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn index(lane: Lane) -> usize {
    usize::from(lane != Lane::Live)
}

impl ShipCounters {
    pub(super) fn sent(&self, lane: Lane, bytes: u64) {
        add(&self.sent[index(lane)].batches, 1);
        add(&self.sent[index(lane)].bytes, bytes);
    }

    pub(super) fn acknowledged(&self, lane: Lane, done: &Acknowledged, refused_samples: u64) {
        let counts = &self.acknowledged[index(lane)];
        add(&counts.batches, done.batches);
        add(&counts.samples, done.samples);
        add(&counts.bytes, done.bytes);
        add(&self.refused_samples, refused_samples);
        if done.batches > 0 && lane == Lane::Live {
            add(&self.latency_ns, u64::try_from(done.latency.as_nanos()).unwrap_or(u64::MAX));
            add(&self.latencies, 1);
        }
    }

    /// A batch that the broker will never store.
    pub(super) fn refused(&self, samples: u32) {
        add(&self.refused_batches, 1);
        add(&self.refused_samples, u64::from(samples));
    }

    /// A staged pass that this program cannot read.
    pub(super) fn unusable(&self, samples: u32) {
        add(&self.unusable_batches, 1);
        add(&self.refused_samples, u64::from(samples));
    }

    pub(super) fn opened(&self) {
        add(&self.streams, 1);
        self.connected.store(1, Ordering::Relaxed);
        self.is_refused.store(0, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.connected.store(0, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        add(&self.failures, 1);
    }

    pub(super) fn refused_by_broker(&self) {
        self.is_refused.store(1, Ordering::Relaxed);
    }

    /// Whether a stream to a broker is open.
    pub fn is_connected(&self) -> bool {
        load(&self.connected) == 1
    }

    /// Batches that brokers have acknowledged.
    pub fn acknowledged_batches(&self) -> u64 {
        self.acknowledged.iter().map(|counts| load(&counts.batches)).sum()
    }

    /// Samples that are lost because brokers refused them.
    pub fn refused_samples(&self) -> u64 {
        load(&self.refused_samples)
    }

    /// Batches that are lost because brokers refused them or nobody can read them.
    pub fn refused_batches(&self) -> u64 {
        load(&self.refused_batches) + load(&self.unusable_batches)
    }

    /// Everything that is counted, in a fixed order.
    pub fn rows(&self) -> Vec<CounterRow> {
        let mut rows = Vec::new();
        let mut push = |name, help, kind, labels: &[(&'static str, &'static str)], value: f64| {
            rows.push(CounterRow { name, help, kind, labels: labels.to_vec(), value });
        };
        let counter = MetricType::Counter;
        let lanes = Lane::SENT.map(|lane| (index(lane), [("lane", lane.as_str())]));
        for (name, help, of) in PER_LANE {
            for (index, labels) in &lanes {
                push(name, help, counter, labels, load(of(self, *index)) as f64);
            }
        }
        let plain: [(_, _, _, f64); 9] = [
            (
                "watchfire_agent_ship_latency_seconds_total",
                "Time from sending live batches to their acknowledgement.",
                counter,
                load(&self.latency_ns) as f64 / 1e9,
            ),
            (
                "watchfire_agent_ship_latencies_total",
                "Acknowledgements of live batches, over which their latency is summed.",
                counter,
                load(&self.latencies) as f64,
            ),
            (
                "watchfire_agent_ship_refused_batches_total",
                "Batches that the broker said it can never store.",
                counter,
                load(&self.refused_batches) as f64,
            ),
            (
                "watchfire_agent_ship_refused_samples_total",
                "Samples that the broker did not store, those of refused batches included.",
                counter,
                load(&self.refused_samples) as f64,
            ),
            (
                "watchfire_agent_ship_unusable_batches_total",
                "Staged passes of another version that this program cannot unpack.",
                counter,
                load(&self.unusable_batches) as f64,
            ),
            (
                "watchfire_agent_ship_streams_total",
                "Streams to a broker that were opened.",
                counter,
                load(&self.streams) as f64,
            ),
            (
                "watchfire_agent_ship_failures_total",
                "Streams that broke, and attempts to open one that failed.",
                counter,
                load(&self.failures) as f64,
            ),
            (
                "watchfire_agent_ship_connected",
                "Whether a stream to a broker is open.",
                MetricType::Gauge,
                load(&self.connected) as f64,
            ),
            (
                "watchfire_agent_ship_refused",
                "Whether the last broker that answered does not let this agent in, or is of another installation.",
                MetricType::Gauge,
                load(&self.is_refused) as f64,
            ),
        ];
        for (name, help, kind, value) in plain {
            push(name, help, kind, &[], value);
        }
        rows
    }
}

/// Name, help and place of one counter per lane.
type PerLane = (&'static str, &'static str, fn(&ShipCounters, usize) -> &AtomicU64);

const PER_LANE: [PerLane; 5] = [
    (
        "watchfire_agent_ship_sent_batches_total",
        "Batches sent, those sent again included.",
        |counters, lane| &counters.sent[lane].batches,
    ),
    ("watchfire_agent_ship_sent_bytes_total", "Bytes of batches sent.", |counters, lane| {
        &counters.sent[lane].bytes
    }),
    (
        "watchfire_agent_ship_acknowledged_batches_total",
        "Batches acknowledged.",
        |counters, lane| &counters.acknowledged[lane].batches,
    ),
    (
        "watchfire_agent_ship_acknowledged_samples_total",
        "Samples acknowledged.",
        |counters, lane| &counters.acknowledged[lane].samples,
    ),
    (
        "watchfire_agent_ship_acknowledged_bytes_total",
        "Bytes of batches acknowledged.",
        |counters, lane| &counters.acknowledged[lane].bytes,
    ),
];
