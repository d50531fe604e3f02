//! Load averages.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, parse_f64};
use crate::series::{Family, Samples, Single};

/// `node_load1`, `node_load5`, `node_load15`.
pub(crate) struct Loadavg {
    file: ProcFile,
    loads: [Single; 3],
}

impl Loadavg {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Loadavg {
            file: ProcFile::new(config.proc_root.join("loadavg")),
            loads: [
                Single::new(Family::gauge("node_load1", "1m load average.")),
                Single::new(Family::gauge("node_load5", "5m load average.")),
                Single::new(Family::gauge("node_load15", "15m load average.")),
            ],
        }
    }
}

impl Collector for Loadavg {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        let mut columns = fields(self.file.last());
        for load in &mut self.loads {
            let value = columns
                .next()
                .and_then(parse_f64)
                .ok_or_else(|| self.file.malformed("load average"))?;
            load.emit(out, value);
        }
        Ok(Outcome::Collected)
    }
}
