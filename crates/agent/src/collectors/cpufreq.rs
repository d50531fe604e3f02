//! CPU frequencies and governors.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// The files of `cpu<N>/cpufreq` in kHz, and their metrics in Hz.
const FILES: [(&str, Family); 6] = [
    (
        "cpuinfo_cur_freq",
        Family::gauge("node_cpu_frequency_hertz", "Current CPU thread frequency in hertz."),
    ),
    (
        "cpuinfo_min_freq",
        Family::gauge("node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ),
    (
        "cpuinfo_max_freq",
        Family::gauge("node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ),
    (
        "scaling_cur_freq",
        Family::gauge(
            "node_cpu_scaling_frequency_hertz",
            "Current scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_min_freq",
        Family::gauge(
            "node_cpu_scaling_frequency_min_hertz",
            "Minimum scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_max_freq",
        Family::gauge(
            "node_cpu_scaling_frequency_max_hertz",
            "Maximum scaled CPU thread frequency in hertz.",
        ),
    ),
];

const GOVERNOR: Family =
    Family::gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.");

/// `node_cpu_scaling_*`, `node_cpu_frequency_*`; absent on most virtual machines.
pub(crate) struct Cpufreq {
    cpu_root: PathBuf,
}

impl Cpufreq {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Cpufreq { cpu_root: config.sys_root.join("devices/system/cpu") }
    }
}

impl Survey for Cpufreq {
    fn name(&self) -> &'static str {
        "cpufreq"
    }

    /// Asking a CPU for its frequency may wake it, so this is no work for every second.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names(&self.cpu_root)? {
            let Some(cpu) = sysfs::numbered(&name, "cpu") else { continue };
            read_cpu(cpu, &self.cpu_root.join(&name).join("cpufreq"), out);
        }
        Ok(())
    }
}

fn read_cpu(cpu: &str, directory: &Path, out: &mut Reading) {
    for (file, family) in &FILES {
        // Root alone may read some of them, and some drivers answer `<unknown>`.
        if let Some(khz) = sysfs::number(&directory.join(file)) {
            out.put(family, &[("cpu", cpu)], khz * 1_000.0);
        }
    }
    let available = sysfs::text(&directory.join("scaling_available_governors"));
    let current = sysfs::text(&directory.join("scaling_governor"));
    let (Some(available), Some(current)) = (available, current) else { return };
    for governor in available.split_ascii_whitespace() {
        let enabled = f64::from(u8::from(governor == current));
        out.put(&GOVERNOR, &[("cpu", cpu), ("governor", governor)], enabled);
    }
}
