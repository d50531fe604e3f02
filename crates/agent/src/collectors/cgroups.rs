//! Numbers of control groups. Source: `cgroups(7)`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// The help text of both is Node Exporter's.
const CGROUPS: Family =
    Family::gauge("node_cgroups_cgroups", "Current cgroup number of the subsystem.");
const ENABLED: Family =
    Family::gauge("node_cgroups_enabled", "Current cgroup number of the subsystem.");

/// `node_cgroups_*`.
pub(crate) struct Cgroups {
    path: PathBuf,
}

impl Cgroups {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Cgroups { path: config.proc_root.join("cgroups") }
    }
}

impl Survey for Cgroups {
    fn name(&self) -> &'static str {
        "cgroups"
    }

    /// Lines such as `cpuset 5 47 1`: name, hierarchy, number, enabled.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, _, number, enabled] = fields[..] else { continue };
            let labels = [("subsys_name", name)];
            for (family, text) in [(&CGROUPS, number), (&ENABLED, enabled)] {
                if let Ok(value) = text.parse::<f64>() {
                    out.put(family, &labels, value);
                }
            }
        }
        Ok(())
    }
}
