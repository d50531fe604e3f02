//! All collectors of the agent, and one pass over them.

use std::time::{Duration, Instant};

use model::MetricBatch;

use crate::collector::{Collector, Host, Outcome};
use crate::collectors;
use crate::config::AgentConfig;
use crate::counters::AgentCounters;
use crate::error::AgentError;
use crate::series::{Family, Samples, SeriesRef};

const DURATION: Family = Family::gauge(
    "node_scrape_collector_duration_seconds",
    "node_exporter: Duration of a collector scrape.",
);
const SUCCESS: Family =
    Family::gauge("node_scrape_collector_success", "node_exporter: Whether a collector succeeded.");

/// The collectors that are enabled, with their series.
pub(crate) struct Registry {
    host: Host,
    samples: Samples,
    entries: Vec<Entry>,
    /// Which entries ran in the pass; kept to save an allocation per pass.
    ran: Vec<bool>,
}

struct Entry {
    collector: Box<dyn Collector>,
    duration: Option<SeriesRef>,
    success: Option<SeriesRef>,
    /// Whether the last run failed, so that a lasting failure is logged once.
    failing: bool,
}

impl Registry {
    /// The collectors `config` leaves enabled.
    ///
    /// # Errors
    /// `UnknownCollector` if it disables one that does not exist.
    pub(crate) fn new(config: &AgentConfig) -> Result<Self, AgentError> {
        Self::with(collectors::all(config), config)
    }

    /// These collectors, without the disabled ones.
    pub(crate) fn with(
        mut all: Vec<Box<dyn Collector>>,
        config: &AgentConfig,
    ) -> Result<Self, AgentError> {
        for name in &config.disabled_collectors {
            if !all.iter().any(|collector| collector.name() == name) {
                let known: Vec<_> = all.iter().map(|collector| collector.name()).collect();
                return Err(AgentError::UnknownCollector {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        all.retain(|collector| !config.disabled_collectors.iter().any(|n| n == collector.name()));
        let entries: Vec<Entry> = all
            .into_iter()
            .map(|collector| Entry { collector, duration: None, success: None, failing: false })
            .collect();
        Ok(Registry {
            host: Host::new(config),
            samples: Samples::new(&config.job, &config.instance),
            ran: vec![false; entries.len()],
            entries,
        })
    }

    /// The names of all enabled collectors.
    pub(crate) fn collector_names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.collector.name()).collect()
    }

    /// Runs every collector that is due; all samples bear `timestamp_ms`. `now_ns` is the wall
    /// clock. The batch lives in the memory of `recycled`.
    pub(crate) fn pass(
        &mut self,
        timestamp_ms: i64,
        now_ns: i64,
        recycled: MetricBatch,
        counters: &AgentCounters,
    ) -> MetricBatch {
        self.host.now = Instant::now();
        self.host.now_ns = now_ns;
        self.samples.begin(timestamp_ms, recycled);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            self.samples.set_owner(index);
            self.ran[index] = entry.run(&mut self.host, &mut self.samples, counters);
        }
        self.samples.finish(&self.ran)
    }

    /// Says that the last pass reached its consumer.
    pub(crate) fn delivered(&mut self) {
        self.samples.delivered();
    }

    /// Number of series that have samples now.
    pub(crate) fn live_series(&self) -> usize {
        self.samples.live()
    }
}

impl Entry {
    /// Runs the collector; whether it was due.
    fn run(&mut self, host: &mut Host, out: &mut Samples, counters: &AgentCounters) -> bool {
        let start = Instant::now();
        let result = self.collector.collect(host, out);
        let spent = start.elapsed();
        let name = self.collector.name();
        let succeeded = match result {
            Ok(Outcome::NotDue) => return false,
            Ok(Outcome::Collected) => true,
            Err(error) => {
                if !error.is_no_data() {
                    counters.collector_failed(name);
                    if !self.failing {
                        tracing::warn!(collector = name, %error, "collector failed");
                    }
                }
                false
            }
        };
        self.failing = !succeeded;
        self.emit_outcome(out, name, spent, succeeded);
        true
    }

    fn emit_outcome(
        &mut self,
        out: &mut Samples,
        name: &'static str,
        spent: Duration,
        succeeded: bool,
    ) {
        let labels = [("collector", name)];
        out.put(&mut self.duration, spent.as_secs_f64(), |out| out.register(&DURATION, &labels));
        let success = f64::from(u8::from(succeeded));
        out.put(&mut self.success, success, |out| out.register(&SUCCESS, &labels));
    }
}
