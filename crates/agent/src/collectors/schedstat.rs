//! What the scheduler did on each CPU. Source: Linux `Documentation/scheduler/sched-stats.rst`.

use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_u64};
use crate::series::{Family, Keyed, Samples};

/// The last three of the nine columns of a CPU, and their factor's divisor.
const COLUMNS: [(Family, f64); 3] = [
    (
        Family::counter(
            "node_schedstat_running_seconds_total",
            "Number of seconds CPU spent running a process.",
        ),
        1e9,
    ),
    (
        Family::counter(
            "node_schedstat_waiting_seconds_total",
            "Number of seconds spent by processing waiting for this CPU.",
        ),
        1e9,
    ),
    (
        Family::counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU."),
        1.0,
    ),
];
const FIRST_COLUMN: usize = 6;

/// The kernel also writes every scheduling domain of every CPU, hundreds of kilobytes on large
/// machines.
const PERIOD: Duration = Duration::from_secs(5);

/// `node_schedstat_*`.
pub(crate) struct Schedstat {
    file: ProcFile,
    cadence: Cadence,
    cpus: Keyed<3>,
}

impl Schedstat {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Schedstat {
            file: ProcFile::new(config.proc_root.join("schedstat")),
            cadence: Cadence::new(PERIOD),
            cpus: Keyed::new(),
        }
    }
}

impl Collector for Schedstat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if !self.cadence.due(host.now) {
            return Ok(Outcome::NotDue);
        }
        self.file.read()?;
        self.cpus.begin();
        for line in lines(self.file.last()) {
            let mut columns = fields(line);
            let Some(cpu) = columns.next().and_then(|name| name.strip_prefix(b"cpu")) else {
                continue;
            };
            let row = self.cpus.row(cpu);
            let columns = columns.skip(FIRST_COLUMN);
            for (((family, divisor), place), text) in
                COLUMNS.iter().zip(&mut row.series).zip(columns)
            {
                let Some(count) = parse_u64(text) else { break };
                out.put(place, count as f64 / divisor, |out| {
                    out.register(family, &[("cpu", &String::from_utf8_lossy(cpu))])
                });
            }
        }
        self.cpus.finish(out);
        Ok(Outcome::Collected)
    }
}
