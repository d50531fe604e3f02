//! What the spool counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::MetricType;

use crate::counters::CounterRow;

/// The spool's counters. Reading them never waits for the disk.
#[derive(Debug, Default)]
pub struct SpoolCounters {
    batches: AtomicU64,
    samples: AtomicU64,
    sync_ns: AtomicU64,
    syncs: AtomicU64,
    bytes: AtomicU64,
    limit_bytes: AtomicU64,
    memory_bytes: AtomicU64,
    memory_batches: AtomicU64,
    dropped_batches: AtomicU64,
    dropped_samples: AtomicU64,
    lost_batches: AtomicU64,
    lost_samples: AtomicU64,
    damaged_ranges: AtomicU64,
    damaged_bytes: AtomicU64,
    torn_bytes: AtomicU64,
    full: AtomicU64,
    faults: AtomicU64,
    poisoned: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl SpoolCounters {
    /// Batches, and samples in them, that were given up because a bound was reached.
    pub(super) fn dropped(&self, batches: u64, samples: u64) {
        add(&self.dropped_batches, batches);
        add(&self.dropped_samples, samples);
    }

    /// A batch whose payload cannot be read back.
    pub(super) fn lost(&self, samples: u32, bytes: u64) {
        add(&self.lost_batches, 1);
        add(&self.lost_samples, u64::from(samples));
        self.damaged(bytes);
    }

    /// A range of bytes that are not what was written.
    pub(super) fn damaged(&self, bytes: u64) {
        add(&self.damaged_ranges, 1);
        add(&self.damaged_bytes, bytes);
    }

    /// Bad bytes; those that were durable once are damage, others an unfinished write.
    pub(super) fn bad_range(&self, bytes: u64, was_durable: bool) {
        if was_durable {
            self.damaged(bytes);
        } else {
            add(&self.torn_bytes, bytes);
        }
    }

    /// A batch is durable; `new_samples` of its samples were not before.
    pub(super) fn written(&self, new_samples: u32, spent: Duration) {
        add(&self.batches, 1);
        add(&self.samples, u64::from(new_samples));
        add(&self.syncs, 1);
        add(&self.sync_ns, u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn kept_in_memory(&self) {
        add(&self.memory_batches, 1);
    }

    pub(super) fn fault(&self, full: bool) {
        add(if full { &self.full } else { &self.faults }, 1);
    }

    pub(super) fn poison(&self) {
        self.poisoned.store(1, Ordering::Relaxed);
    }

    pub(super) fn set_sizes(&self, bytes: u64, limit_bytes: u64, memory_bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
    }

    /// Batches given up because a bound was reached, or that could not be read back.
    pub fn missing_batches(&self) -> u64 {
        self.dropped_batches.load(Ordering::Relaxed) + self.lost_batches.load(Ordering::Relaxed)
    }

    /// Samples in those batches.
    pub fn missing_samples(&self) -> u64 {
        self.dropped_samples.load(Ordering::Relaxed) + self.lost_samples.load(Ordering::Relaxed)
    }

    /// Bytes on the disk, and how many they may be.
    pub fn size_and_limit_bytes(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.limit_bytes.load(Ordering::Relaxed))
    }

    /// Everything that is counted, in a fixed order.
    pub fn rows(&self) -> Vec<CounterRow> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let row = |name, help, kind, value| CounterRow { name, help, kind, labels: vec![], value };
        let counter = |name, help, value| row(name, help, MetricType::Counter, load(value));
        let gauge = |name, help, value| row(name, help, MetricType::Gauge, load(value));
        vec![
            gauge("watchfire_agent_spool_bytes", "Size of the spool on disk.", &self.bytes),
            gauge(
                "watchfire_agent_spool_limit_bytes",
                "Size the spool may reach now.",
                &self.limit_bytes,
            ),
            gauge(
                "watchfire_agent_spool_memory_bytes",
                "Size of batches in memory that the disk did not take.",
                &self.memory_bytes,
            ),
            counter(
                "watchfire_agent_spool_memory_batches_total",
                "Batches kept in memory because the disk did not take them.",
                &self.memory_batches,
            ),
            counter(
                "watchfire_agent_spool_batches_total",
                "Batches and staged passes made durable.",
                &self.batches,
            ),
            counter("watchfire_agent_spool_samples_total", "Samples made durable.", &self.samples),
            counter("watchfire_agent_spool_syncs_total", "Syncs of batches.", &self.syncs),
            row(
                "watchfire_agent_spool_sync_seconds_total",
                "Time spent writing and syncing batches.",
                MetricType::Counter,
                load(&self.sync_ns) / 1e9,
            ),
            counter(
                "watchfire_agent_spool_dropped_batches_total",
                "Batches given up because spool or memory had reached its limit.",
                &self.dropped_batches,
            ),
            counter(
                "watchfire_agent_spool_dropped_samples_total",
                "Samples given up because spool or memory had reached its limit.",
                &self.dropped_samples,
            ),
            counter(
                "watchfire_agent_spool_lost_batches_total",
                "Batches that could not be read back.",
                &self.lost_batches,
            ),
            counter(
                "watchfire_agent_spool_lost_samples_total",
                "Samples that could not be read back.",
                &self.lost_samples,
            ),
            counter(
                "watchfire_agent_spool_damaged_ranges_total",
                "Damaged ranges found in the spool.",
                &self.damaged_ranges,
            ),
            counter(
                "watchfire_agent_spool_damaged_bytes_total",
                "Bytes in damaged ranges of the spool.",
                &self.damaged_bytes,
            ),
            counter(
                "watchfire_agent_spool_torn_bytes_total",
                "Bytes of unfinished writes found by a start.",
                &self.torn_bytes,
            ),
            counter(
                "watchfire_agent_spool_full_total",
                "Writes to the spool refused by a full disk.",
                &self.full,
            ),
            counter(
                "watchfire_agent_spool_faults_total",
                "Other faults of the disk under the spool.",
                &self.faults,
            ),
            gauge(
                "watchfire_agent_spool_poisoned",
                "1 after a failed sync: nothing is written until the agent is restarted.",
                &self.poisoned,
            ),
        ]
    }
}
