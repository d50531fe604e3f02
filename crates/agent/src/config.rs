//! What the agent is told.

use std::path::PathBuf;

use crate::collector_settings::CollectorSettings;
use crate::collectors::COLLECTORS;
use crate::error::AgentError;

/// How this host is collected. `Default` needs nothing changed on an ordinary Linux host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where procfs is mounted.
    pub proc_root: PathBuf,
    /// Where sysfs is mounted.
    pub sys_root: PathBuf,
    /// Root of the host's filesystems; in a container, where the host's `/` is mounted.
    pub root_fs: PathBuf,
    /// Where udev keeps its database of devices.
    pub udev_root: PathBuf,
    /// Time between passes, from 100 to 3,600,000 ms. Passes fall on multiples of it.
    pub interval_ms: u64,
    /// Time between two looks at the filesystems' fill, at least `interval_ms`.
    pub filesystem_interval_ms: u64,
    /// After this time without an answer a filesystem counts as hung.
    pub filesystem_timeout_ms: u64,
    /// Value of the label `instance` on every series.
    pub instance: String,
    /// Value of the label `job` on every series.
    pub job: String,
    /// How many processes are named by CPU use, and as many by memory; 0 names none.
    pub top_processes: usize,
    /// Names of collectors that shall run besides those that run by default, as in
    /// `node_scrape_collector_success`.
    pub enabled_collectors: Vec<String>,
    /// Names of collectors that shall not run.
    pub disabled_collectors: Vec<String>,
    /// Directories whose files `*.prom` are read; `*` stands for any part of a name.
    pub textfile_directories: Vec<PathBuf>,
    /// Options of single collectors.
    pub collectors: CollectorSettings,
    /// How many passes may wait for the consumer, from 1 to 3,600.
    pub queue_passes: usize,
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig {
            proc_root: PathBuf::from("/proc"),
            sys_root: PathBuf::from("/sys"),
            root_fs: PathBuf::from("/"),
            udev_root: PathBuf::from("/run/udev/data"),
            interval_ms: 1_000,
            filesystem_interval_ms: 10_000,
            filesystem_timeout_ms: 5_000,
            instance: hostname(),
            job: "node".to_owned(),
            top_processes: 10,
            enabled_collectors: Vec::new(),
            disabled_collectors: Vec::new(),
            textfile_directories: Vec::new(),
            collectors: CollectorSettings::default(),
            queue_passes: 64,
        }
    }
}

impl AgentConfig {
    /// Whether all collectors that are switched on or off exist.
    ///
    /// # Errors
    /// `UnknownCollector`, with the names there are.
    pub fn check_collectors(&self) -> Result<(), AgentError> {
        for name in self.disabled_collectors.iter().chain(&self.enabled_collectors) {
            if !COLLECTORS.iter().any(|info| info.name == name) {
                let known: Vec<_> = COLLECTORS.iter().map(|info| info.name).collect();
                let (name, known) = (name.clone(), known.join(", "));
                return Err(AgentError::UnknownCollector { name, known });
            }
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), AgentError> {
        in_range("interval_ms", self.interval_ms, 100, 3_600_000)?;
        in_range("queue_passes", self.queue_passes as u64, 1, 3_600)
    }
}

fn in_range(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), AgentError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(AgentError::OutOfRange { key, value, min, max })
    }
}

/// The name the kernel has for this host.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
