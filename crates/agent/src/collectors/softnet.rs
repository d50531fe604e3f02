//! Packets in the softirqs of each CPU. Source: Linux `net/core/net-procfs.c`, `softnet_seq_show`.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_hex};
use crate::series::{Family, Keyed, Samples};

/// The columns that are emitted, by their place on a line.
const COLUMNS: [(usize, Family); 7] = [
    (0, Family::counter("node_softnet_processed_total", "Number of processed packets")),
    (1, Family::counter("node_softnet_dropped_total", "Number of dropped packets")),
    (
        2,
        Family::counter(
            "node_softnet_times_squeezed_total",
            "Number of times processing packets ran out of quota",
        ),
    ),
    (
        8,
        Family::counter(
            "node_softnet_cpu_collision_total",
            "Number of collision occur while obtaining device lock while transmitting",
        ),
    ),
    (
        9,
        Family::counter(
            "node_softnet_received_rps_total",
            "Number of times cpu woken up received_rps",
        ),
    ),
    (
        10,
        Family::counter(
            "node_softnet_flow_limit_count_total",
            "Number of times flow limit has been reached",
        ),
    ),
    (11, Family::gauge("node_softnet_backlog_len", "Softnet backlog status")),
];

/// Since Linux 5.10 a line names its CPU; before, lines are those of CPUs 0, 1, 2 and so on.
const CPU_COLUMN: usize = 12;

/// A line of Linux 5.10 has 13 columns, one of 6.x up to 15; nothing is read beyond.
const MAX_COLUMNS: usize = 16;

/// `node_softnet_*`.
pub(crate) struct Softnet {
    file: ProcFile,
    cpus: Keyed<7>,
}

impl Softnet {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Softnet {
            file: ProcFile::new(config.proc_root.join("net/softnet_stat")),
            cpus: Keyed::new(),
        }
    }
}

impl Collector for Softnet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        self.cpus.begin();
        for (line_number, line) in lines(self.file.last()).enumerate() {
            let mut columns = [0_u64; MAX_COLUMNS];
            let mut count = 0;
            for (column, text) in columns.iter_mut().zip(fields(line)) {
                *column =
                    parse_hex(text).ok_or_else(|| self.file.malformed("hexadecimal number"))?;
                count += 1;
            }
            let cpu = if count > CPU_COLUMN { columns[CPU_COLUMN] } else { line_number as u64 };
            let row = self.cpus.row(&cpu.to_le_bytes());
            for ((column, family), place) in COLUMNS.iter().zip(&mut row.series) {
                out.put(place, columns[*column] as f64, |out| {
                    out.register(family, &[("cpu", &cpu.to_string())])
                });
            }
        }
        self.cpus.finish(out);
        Ok(Outcome::Collected)
    }
}
