//! Statistics of network caches by CPU, as `lnstat(8)` reads them.

use std::path::PathBuf;

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::parse_hex;
use crate::reading::Reading;
use crate::survey::Survey;
use crate::sysfs;

/// `node_lnstat_*`.
pub(crate) struct Lnstat {
    root: PathBuf,
}

impl Lnstat {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Lnstat { root: config.proc_root.join("net/stat") }
    }
}

impl Survey for Lnstat {
    fn name(&self) -> &'static str {
        "lnstat"
    }

    /// Each file has a line of names, then one line of hexadecimal numbers per CPU.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for subsystem in sysfs::names(&self.root)? {
            let text = sysfs::read_text(&self.root.join(&subsystem))?;
            let mut lines = text.lines();
            let names: Vec<&str> =
                lines.next().unwrap_or_default().split_ascii_whitespace().collect();
            for (cpu, line) in lines.enumerate() {
                let cpu = cpu.to_string();
                for (name, count) in names.iter().zip(line.split_ascii_whitespace()) {
                    let Some(count) = parse_hex(count.as_bytes()) else { continue };
                    out.put_named(
                        &format!("node_lnstat_{name}_total"),
                        MetricType::Counter,
                        "linux network cache stats",
                        [("subsystem", &*subsystem), ("cpu", &cpu)],
                        count as f64,
                    );
                }
            }
        }
        Ok(())
    }
}
