//! Pressure stall information. Source: Linux `Documentation/accounting/psi.rst`.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_u64};
use crate::series::{Family, Samples, Single};

/// `node_pressure_*`; absent on kernels without the feature.
pub(crate) struct Pressure {
    resources: [Resource; 4],
}

struct Resource {
    file: ProcFile,
    /// Time in which some task waited.
    some: Option<Single>,
    /// Time in which all tasks waited.
    full: Option<Single>,
}

impl Pressure {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let resource = |name: &str, some: Option<Family>, full: Option<Family>| Resource {
            file: ProcFile::new(config.proc_root.join("pressure").join(name)),
            some: some.map(Single::new),
            full: full.map(Single::new),
        };
        let total = |name, help| Some(Family::counter(name, help));
        Pressure {
            resources: [
                resource(
                    "cpu",
                    total(
                        "node_pressure_cpu_waiting_seconds_total",
                        "Total time in seconds that processes have waited for CPU time",
                    ),
                    None,
                ),
                resource(
                    "io",
                    total(
                        "node_pressure_io_waiting_seconds_total",
                        "Total time in seconds that processes have waited due to IO congestion",
                    ),
                    total(
                        "node_pressure_io_stalled_seconds_total",
                        "Total time in seconds no process could make progress due to IO congestion",
                    ),
                ),
                resource(
                    "memory",
                    total(
                        "node_pressure_memory_waiting_seconds_total",
                        "Total time in seconds that processes have waited for memory",
                    ),
                    total(
                        "node_pressure_memory_stalled_seconds_total",
                        "Total time in seconds no process could make progress due to memory \
                         congestion",
                    ),
                ),
                resource(
                    "irq",
                    None,
                    total(
                        "node_pressure_irq_stalled_seconds_total",
                        "Total time in seconds no process could make progress due to IRQ \
                         congestion",
                    ),
                ),
            ],
        }
    }
}

impl Collector for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        let mut absent = None;
        let mut found = false;
        for resource in &mut self.resources {
            match resource.collect(out) {
                Ok(()) => found = true,
                // Kernels before 6.1 have no file for interrupts, others none at all.
                Err(error) if error.is_no_data() => absent = Some(error),
                Err(error) => return Err(error),
            }
        }
        match absent {
            Some(error) if !found => Err(error),
            _ => Ok(Outcome::Collected),
        }
    }
}

impl Resource {
    fn collect(&mut self, out: &mut Samples) -> Result<(), AgentError> {
        self.file.read()?;
        for line in lines(self.file.last()) {
            let mut columns = fields(line);
            let single = match columns.next() {
                Some(b"some") => &mut self.some,
                Some(b"full") => &mut self.full,
                _ => continue,
            };
            let Some(single) = single else { continue };
            let total_us = columns
                .find_map(|column| column.strip_prefix(b"total="))
                .and_then(parse_u64)
                .ok_or_else(|| self.file.malformed("total of a pressure line"))?;
            // Two divisions, as in Node Exporter, whose last bit differs from that of one.
            single.emit(out, total_us as f64 / 1_000.0 / 1_000.0);
        }
        Ok(())
    }
}
