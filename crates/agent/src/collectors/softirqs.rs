//! Deferred interrupt work by CPU. Source: `/proc/softirqs`, Linux `fs/proc/softirqs.c`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const SOFTIRQS: Family =
    Family::counter("node_softirqs_functions_total", "Softirq counts per CPU.");

/// `node_softirqs_functions_total`.
pub(crate) struct Softirqs {
    path: PathBuf,
}

impl Softirqs {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Softirqs { path: config.proc_root.join("softirqs") }
    }
}

impl Survey for Softirqs {
    fn name(&self) -> &'static str {
        "softirqs"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// A line of CPUs, then lines such as `NET_RX: 43066 104508`.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        let mut lines = text.lines();
        let cpus: Vec<&str> = lines
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter_map(|cpu| sysfs::numbered(cpu, "CPU"))
            .collect();
        for line in lines {
            let Some((kind, counts)) = line.split_once(':') else { continue };
            for (cpu, count) in cpus.iter().zip(counts.split_ascii_whitespace()) {
                let Ok(count) = count.parse::<u64>() else { continue };
                out.put(&SOFTIRQS, &[("cpu", cpu), ("type", kind.trim())], count as f64);
            }
        }
        Ok(())
    }
}
