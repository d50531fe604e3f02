//! Tasks that the kernel found hung. Source: Linux `Documentation/admin-guide/sysctl/kernel.rst`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const HUNG: Family = Family::counter(
    "node_kernel_hung_tasks_total",
    "Total number of tasks that have been detected as hung since the system booted.",
);

/// `node_kernel_hung_tasks_total`; the kernel counts them since 6.13.
pub(crate) struct KernelHung {
    path: PathBuf,
}

impl KernelHung {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        KernelHung { path: config.proc_root.join("sys/kernel/hung_task_detect_count") }
    }
}

impl Survey for KernelHung {
    fn name(&self) -> &'static str {
        "kernel_hung"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        let count = text
            .trim()
            .parse::<u64>()
            .map_err(|_| AgentError::Malformed { path: self.path.clone(), expected: "number" })?;
        out.put(&HUNG, &[], count as f64);
        Ok(())
    }
}
