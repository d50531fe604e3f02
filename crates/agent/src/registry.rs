//! All collectors of the agent, and one pass over them.

use std::time::{Duration, Instant};

use model::MetricBatch;

use crate::collector::{Collector, Host, Outcome};
use crate::collectors::{COLLECTORS, CollectorInfo, Made, make};
use crate::config::AgentConfig;
use crate::counters::AgentCounters;
use crate::error::AgentError;
use crate::exposition;
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
    /// Place of the first entry that emits what a survey read.
    first_background: usize,
    /// How long this pass waits for surveys, and how long the following ones do.
    patience: Duration,
    later_patience: Duration,
    /// Whether the system gave no thread the last time, so that it is logged once.
    without_threads: bool,
}

/// The first pass waits a little, so that a host that has just started is seen whole at once.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);

/// How long a pass waits for the surveys it started. Where the next pass comes soon it emits what
/// they read; else their samples would be as old as the interval.
fn later_patience(interval_ms: u64) -> Duration {
    if interval_ms < 5_000 { Duration::ZERO } else { Duration::from_millis(interval_ms / 10) }
        .min(Duration::from_secs(2))
}

struct Entry {
    collector: Box<dyn Collector>,
    duration: Option<SeriesRef>,
    success: Option<SeriesRef>,
    /// Whether the last run failed, so that a lasting failure is logged once.
    failing: bool,
}

impl Registry {
    /// The collectors that `config` leaves or switches on.
    ///
    /// # Errors
    /// `UnknownCollector` if it names one that does not exist.
    pub(crate) fn new(config: &AgentConfig) -> Result<Self, AgentError> {
        config.check_collectors()?;
        let names = |names: &[String], info: &CollectorInfo| names.iter().any(|n| n == info.name);
        let chosen = COLLECTORS.iter().filter(|info| {
            let on = info.by_default || names(&config.enabled_collectors, info);
            on && !names(&config.disabled_collectors, info)
        });
        Ok(Self::with(chosen.map(|info| make(info, config)).collect(), config))
    }

    /// These collectors.
    pub(crate) fn with(all: Vec<Made>, config: &AgentConfig) -> Self {
        let mut host = Host::new(config);
        let (mut in_pass, mut background) = (Vec::new(), Vec::new());
        for made in all {
            match made {
                Made::InPass(collector) => in_pass.push(Entry::new(collector)),
                Made::Survey(survey) => {
                    background.push(Entry::new(Box::new(host.surveyor.add(survey))));
                }
            }
        }
        let first_background = in_pass.len();
        let entries: Vec<Entry> = in_pass.into_iter().chain(background).collect();
        Registry {
            host,
            samples: Samples::new(&config.job, &config.instance),
            ran: vec![false; entries.len()],
            entries,
            first_background,
            patience: FIRST_PATIENCE,
            later_patience: later_patience(config.interval_ms),
            without_threads: false,
        }
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
        let started = self.host.surveyor.start_due(self.host.now);
        self.watch_threads(started);
        for index in 0..self.entries.len() {
            if index == self.first_background {
                let settled = self.host.surveyor.settle(self.patience);
                self.watch_threads(settled);
                self.patience = self.later_patience;
            }
            let entry = &mut self.entries[index];
            self.samples.set_owner(index);
            self.ran[index] = entry.run(&mut self.host, &mut self.samples, counters);
        }
        self.samples.finish(&self.ran)
    }

    /// Logs that surveys lack a thread, once until they have one.
    fn watch_threads(&mut self, result: Result<(), AgentError>) {
        if let Err(error) = &result
            && !self.without_threads
        {
            tracing::warn!(%error, "slow collectors do not run");
        }
        self.without_threads = result.is_err();
    }

    /// Says that the last pass reached its consumer.
    pub(crate) fn delivered(&mut self) {
        self.samples.delivered();
    }

    #[cfg(test)]
    pub(crate) fn set_survey_timeout(&mut self, timeout: Duration) {
        self.host.surveyor.set_timeout(timeout);
    }

    /// All current samples as text.
    pub(crate) fn page(&self) -> String {
        exposition::render(&self.samples)
    }

    /// Number of series that have samples now.
    pub(crate) fn live_series(&self) -> usize {
        self.samples.live()
    }
}

impl Entry {
    fn new(collector: Box<dyn Collector>) -> Self {
        Entry { collector, duration: None, success: None, failing: false }
    }

    /// Runs the collector; whether it was due.
    fn run(&mut self, host: &mut Host, out: &mut Samples, counters: &AgentCounters) -> bool {
        let start = Instant::now();
        let outcome = self.collector.collect(host, out);
        let (result, spent) = match outcome {
            Ok(Outcome::NotDue) => return false,
            Ok(Outcome::Collected) => (Ok(()), start.elapsed()),
            Ok(Outcome::Surveyed(spent, result)) => (result, spent),
            Err(error) => (Err(error), start.elapsed()),
        };
        let name = self.collector.name();
        let succeeded = match result {
            Ok(()) => true,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Files of a small host, each as the kernel writes it.
    const FILES: [(&str, &str); 17] = [
        ("stat", "cpu  9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 99 1 2\nctxt 5\nsoftirq 3 1 2\n"),
        ("meminfo", "MemTotal: 100 kB\nActive(anon): 7 kB\nHugePages_Total: 0\n"),
        ("loadavg", "0.21 0.37 0.39 1/719 19737\n"),
        ("pressure/cpu", "some avg10=0.00 total=14\nfull avg10=0.00 total=0\n"),
        ("vmstat", "pgfault 7\nnr_free_pages 1\n"),
        ("diskstats", "8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n8 1 sda1 1 2\n"),
        ("net/dev", "Inter-|\n face |\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n lo: 1 2\n"),
        ("net/netstat", "TcpExt: ListenDrops X\nTcpExt: 1 2\n"),
        ("net/snmp", "Tcp: InSegs\nTcp: 5\n"),
        ("net/snmp6", "Icmp6InMsgs \t7\n"),
        ("net/sockstat", "sockets: used 1\nTCP: inuse 4 mem 1\n"),
        ("net/softnet_stat", "0a 0b 0c 0 0 0 0 0 0 0 0 0 0\n"),
        ("sys/net/netfilter/nf_conntrack_count", "1\n"),
        ("sys/fs/file-nr", "1024\t0\t999\n"),
        ("sys/kernel/random/entropy_avail", "256\n"),
        ("self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/a rw\n"),
        ("7/stat", "7 (a) b) S 1 1 1 0 -1 4 0 0 0 0 26 36 0 0 20 0 2 0 29 1 250 0 1 1 0 0\n"),
    ];

    struct SmallHost {
        root: tempfile::TempDir,
        registry: Registry,
        counters: AgentCounters,
        now_ms: i64,
    }

    impl SmallHost {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("temporary directory");
            for (name, text) in FILES {
                write(root.path(), name, text.as_bytes());
            }
            let config = AgentConfig {
                proc_root: root.path().to_owned(),
                sys_root: root.path().join("none"),
                root_fs: root.path().to_owned(),
                ..AgentConfig::default()
            };
            let registry = Registry::new(&config).expect("valid");
            let counters = AgentCounters::new(&registry.collector_names());
            SmallHost { root, registry, counters, now_ms: 0 }
        }

        fn pass(&mut self) -> Vec<(String, f64)> {
            self.now_ms += 1_000;
            let batch = self.registry.pass(self.now_ms, 0, MetricBatch::default(), &self.counters);
            self.registry.delivered();
            let sample = |series: &model::SeriesRows| {
                let labels = model::Labels::from_packed(batch.label_bytes_of(series));
                let value = batch.values[series.first_row as usize];
                let own =
                    labels.expect("packed").filter(|name| name != "job" && name != "instance");
                (own.to_string(), value)
            };
            batch.series.iter().map(sample).collect()
        }
    }

    fn write(root: &Path, name: &str, bytes: &[u8]) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("directory");
        fs::write(path, bytes).expect("write");
    }

    fn value(samples: &[(String, f64)], series: &str) -> Option<f64> {
        samples.iter().find(|(name, _)| name == series).map(|(_, value)| *value)
    }

    #[test]
    fn a_vanishing_device_and_a_failing_file_end_with_stale_markers() {
        let mut host = SmallHost::new();
        let bytes =
            |device: &str| format!("node_network_receive_bytes_total{{device=\"{device}\"}}");
        let first = host.pass();
        assert_eq!(value(&first, &bytes("eth0")), Some(1.0));
        assert_eq!(value(&first, "node_load1"), Some(0.21));
        assert_eq!(value(&first, "node_processes_threads"), Some(2.0));

        write(host.root.path(), "net/dev", b" lo: 3 2\n");
        write(host.root.path(), "loadavg", b"0.");
        let second = host.pass();
        assert_eq!(value(&second, &bytes("lo")), Some(3.0));
        assert!(value(&second, &bytes("eth0")).is_some_and(model::is_stale_nan));
        assert!(value(&second, "node_load5").is_some_and(model::is_stale_nan));
        let success = "node_scrape_collector_success{collector=\"loadavg\"}";
        assert_eq!(value(&second, success), Some(0.0));

        write(host.root.path(), "loadavg", b"1 2 3 4/5 6\n");
        let third = host.pass();
        assert_eq!(value(&third, &bytes("eth0")), None);
        assert_eq!(value(&third, "node_load5"), Some(2.0));
        assert_eq!(value(&third, success), Some(1.0));
        let failures = host.counters.rows().into_iter().filter(|row| row.value > 0.0);
        let failures: Vec<_> = failures.filter(|row| row.name.contains("failures")).collect();
        assert_eq!(failures.len(), 1);
        assert_eq!((failures[0].labels[0].1, failures[0].value), ("loadavg", 1.0));
    }

    #[test]
    fn counters_that_wrap_or_overflow_are_passed_on_or_left_out() {
        let mut host = SmallHost::new();
        write(host.root.path(), "net/dev", b"eth0: 4294967295 18446744073709551615\n");
        let samples = host.pass();
        let bytes = "node_network_receive_bytes_total{device=\"eth0\"}";
        let packets = "node_network_receive_packets_total{device=\"eth0\"}";
        assert_eq!(value(&samples, bytes), Some(4_294_967_295.0));
        assert_eq!(value(&samples, packets), Some(u64::MAX as f64));
        write(host.root.path(), "net/dev", b"eth0: 3 18446744073709551616\n");
        let samples = host.pass();
        assert_eq!(value(&samples, bytes), Some(3.0));
        assert!(value(&samples, packets).is_some_and(model::is_stale_nan));
    }

    #[test]
    fn a_settled_pass_allocates_nothing() {
        let mut host = SmallHost::new();
        // An absent file costs the copy of its path in an error, so here none is.
        for (name, text) in [
            ("pressure/io", "some total=1\nfull total=1\n"),
            ("pressure/memory", "some total=1\nfull total=1\n"),
            ("pressure/irq", "full total=1\n"),
            ("sys/kernel/pid_max", "32768\n"),
            ("sys/kernel/threads-max", "9\n"),
            ("sys/kernel/random/poolsize", "256\n"),
            ("sys/net/netfilter/nf_conntrack_max", "9\n"),
            ("net/stat/nf_conntrack", "entries drop\n01 0a\n"),
            ("etc/os-release", "ID=x\n"),
            ("net/sockstat6", "TCP6: inuse 2\n"),
            ("none/class/net/eth0/statistics/rx_nohandler", "0\n"),
            ("none/class/net/lo/statistics/rx_nohandler", "0\n"),
        ] {
            write(host.root.path(), name, text.as_bytes());
        }
        let mut batch = MetricBatch::default();
        // What surveys read is emitted by the pass after; they allocate and run rarely.
        let mut quiet = 0;
        while quiet < 3 {
            batch = host.registry.pass(1, 1, batch, &host.counters);
            host.registry.delivered();
            quiet = if host.registry.host.surveyor.is_busy() { 0 } else { quiet + 1 };
        }
        let rows = batch.rows();
        let info = allocation_counter::measure(|| {
            batch = host.registry.pass(1, 1, std::mem::take(&mut batch), &host.counters);
            host.registry.delivered();
        });
        assert!(rows > 70 && batch.rows() <= rows, "{rows}, then {}", batch.rows());
        assert_eq!(info.count_total, 0, "for {rows} samples");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_bytes_stop_a_pass(
            edits in proptest::collection::vec(
                (0..FILES.len(), any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)),
                1..12,
            ),
        ) {
            let mut host = SmallHost::new();
            for (file, at, garbage) in edits {
                let (name, text) = FILES[file];
                // Cut somewhere, then anything.
                let mut bytes = text.as_bytes()[..usize::from(at) % (text.len() + 1)].to_vec();
                bytes.extend(garbage);
                write(host.root.path(), name, &bytes);
                let samples = host.pass();
                let mut names: Vec<_> = samples.iter().map(|(name, _)| name).collect();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), samples.len(), "a series came twice in one pass");
            }
        }
    }
}
