//! Counters of the whole machine from `/proc/stat`.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{fields, lines, parse_u64};
use crate::series::{Family, Samples, SeriesRef, Single};

const SOFTIRQS: Family = Family::counter("node_softirqs_total", "Number of softirq calls.");

/// The columns of the line `softirq` after its total, source: Linux `include/linux/interrupt.h`.
const VECTORS: [&str; 10] = [
    "hi",
    "timer",
    "net_tx",
    "net_rx",
    "block",
    "block_iopoll",
    "tasklet",
    "sched",
    "hrtimer",
    "rcu",
];

/// The lines with one number that is emitted, by their first word.
const LINES: [(&[u8], Family); 6] = [
    (b"intr", Family::counter("node_intr_total", "Total number of interrupts serviced.")),
    (b"ctxt", Family::counter("node_context_switches_total", "Total number of context switches.")),
    (b"btime", Family::gauge("node_boot_time_seconds", "Node boot time, in unixtime.")),
    (b"processes", Family::counter("node_forks_total", "Total number of forks.")),
    (
        b"procs_running",
        Family::gauge("node_procs_running", "Number of processes in runnable state."),
    ),
    (
        b"procs_blocked",
        Family::gauge(
            "node_procs_blocked",
            "Number of processes blocked waiting for I/O to complete.",
        ),
    ),
];

/// `node_boot_time_seconds`, `node_context_switches_total` and their neighbours.
pub(crate) struct Stat {
    singles: [Single; 6],
    softirqs: [Option<SeriesRef>; 10],
}

impl Stat {
    pub(crate) fn new(_: &AgentConfig) -> Self {
        Stat { singles: LINES.map(|(_, family)| Single::new(family)), softirqs: [None; 10] }
    }
}

impl Collector for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        let stat = host.stat()?;
        let mut found = false;
        for line in lines(stat.bytes()) {
            // Only the first fields are looked at: the line of interrupts has thousands.
            let mut columns = fields(line);
            let (Some(word), Some(number)) = (columns.next(), columns.next()) else { continue };
            if let Some(at) = LINES.iter().position(|(name, _)| *name == word)
                && let Some(value) = parse_u64(number)
            {
                self.singles[at].emit(out, value as f64);
                found = true;
            } else if word == b"softirq" {
                for (at, column) in columns.take(VECTORS.len()).enumerate() {
                    let Some(value) = parse_u64(column) else { break };
                    out.put(&mut self.softirqs[at], value as f64, |out| {
                        out.register(&SOFTIRQS, &[("vector", VECTORS[at])])
                    });
                }
            }
        }
        if found { Ok(Outcome::Collected) } else { Err(stat.malformed("counter of the machine")) }
    }
}
