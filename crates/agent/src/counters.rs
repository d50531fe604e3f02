//! What the agent counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::MetricType;

/// The agent's own counters. All methods are lock-free and may be called from any thread.
#[derive(Debug)]
pub struct AgentCounters {
    passes: AtomicU64,
    late_passes: AtomicU64,
    samples: AtomicU64,
    dropped_batches: AtomicU64,
    dropped_samples: AtomicU64,
    pass_ns: AtomicU64,
    last_pass_ns: AtomicU64,
    live_series: AtomicU64,
    failures: Vec<(&'static str, AtomicU64)>,
}

/// One row of the agent's own `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct CounterRow {
    /// The metric's name.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// Its type.
    pub kind: MetricType,
    /// Its labels.
    pub labels: Vec<(&'static str, &'static str)>,
    /// Its value.
    pub value: f64,
}

impl AgentCounters {
    /// Zeroed counters, with a failure counter for each of these collectors.
    pub(crate) fn new(collectors: &[&'static str]) -> Self {
        AgentCounters {
            passes: AtomicU64::new(0),
            late_passes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            dropped_batches: AtomicU64::new(0),
            dropped_samples: AtomicU64::new(0),
            pass_ns: AtomicU64::new(0),
            last_pass_ns: AtomicU64::new(0),
            live_series: AtomicU64::new(0),
            failures: collectors.iter().map(|&name| (name, AtomicU64::new(0))).collect(),
        }
    }

    pub(crate) fn collector_failed(&self, collector: &str) {
        if let Some((_, count)) = self.failures.iter().find(|(name, _)| *name == collector) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn pass_done(&self, samples: usize, live_series: usize, spent: Duration) {
        let spent_ns = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        self.pass_ns.fetch_add(spent_ns, Ordering::Relaxed);
        self.last_pass_ns.store(spent_ns, Ordering::Relaxed);
        self.live_series.store(live_series as u64, Ordering::Relaxed);
    }

    pub(crate) fn batch_dropped(&self, samples: usize) {
        self.dropped_batches.fetch_add(1, Ordering::Relaxed);
        self.dropped_samples.fetch_add(samples as u64, Ordering::Relaxed);
    }

    pub(crate) fn pass_late(&self) {
        self.late_passes.fetch_add(1, Ordering::Relaxed);
    }

    /// Passes over the collectors since the start.
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// Samples collected since the start, stale markers included.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Series with a sample in their collector's last run.
    pub fn live_series(&self) -> u64 {
        self.live_series.load(Ordering::Relaxed)
    }

    /// Samples in the batches that were dropped.
    pub fn dropped_samples(&self) -> u64 {
        self.dropped_samples.load(Ordering::Relaxed)
    }

    /// Batches that found the queue full and were dropped.
    pub fn dropped_batches(&self) -> u64 {
        self.dropped_batches.load(Ordering::Relaxed)
    }

    /// Everything that is counted, in a fixed order. Allocates; meant for one scrape of the
    /// process's own `/metrics`.
    pub fn rows(&self) -> Vec<CounterRow> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let row = |name, help, kind, value| CounterRow { name, help, kind, labels: vec![], value };
        let counter = MetricType::Counter;
        let gauge = MetricType::Gauge;
        let mut rows = vec![
            row(
                "watchfire_agent_passes_total",
                "Passes over all host collectors.",
                counter,
                load(&self.passes),
            ),
            row(
                "watchfire_agent_late_passes_total",
                "Passes that began so late that they bear their own time instead of the tick's.",
                counter,
                load(&self.late_passes),
            ),
            row(
                "watchfire_agent_samples_total",
                "Samples collected, stale markers included.",
                counter,
                load(&self.samples),
            ),
            row(
                "watchfire_agent_dropped_batches_total",
                "Passes dropped because the queue was full.",
                counter,
                load(&self.dropped_batches),
            ),
            row(
                "watchfire_agent_dropped_samples_total",
                "Samples in the dropped passes.",
                counter,
                load(&self.dropped_samples),
            ),
            row(
                "watchfire_agent_pass_duration_seconds_total",
                "Time spent in passes.",
                counter,
                load(&self.pass_ns) / 1e9,
            ),
            row(
                "watchfire_agent_last_pass_duration_seconds",
                "Time the last pass took.",
                gauge,
                load(&self.last_pass_ns) / 1e9,
            ),
            row(
                "watchfire_agent_live_series",
                "Series with a sample in their collector's last run.",
                gauge,
                load(&self.live_series),
            ),
        ];
        rows.extend(self.failures.iter().map(|(collector, count)| CounterRow {
            name: "watchfire_agent_collector_failures_total",
            help: "Runs in which a collector could not read its source.",
            kind: counter,
            labels: vec![("collector", collector)],
            value: load(count),
        }));
        rows
    }
}
