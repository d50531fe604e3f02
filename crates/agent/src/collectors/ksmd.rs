//! Memory pages that are shared since they are equal. Source: Linux
//! `Documentation/admin-guide/mm/ksm.rst`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// The files, and the factor of each to its metric.
const FILES: [(&str, Family, f64); 10] = [
    (
        "full_scans",
        Family::counter(
            "node_ksmd_full_scans_total",
            "How many times all mergeable areas have been scanned.",
        ),
        1.0,
    ),
    (
        "general_profit",
        Family::gauge(
            "node_ksmd_general_profit_bytes",
            "How effective is KSM. ksm_saved_pages * sizeof(page) - (all_rmap_items) * \
             sizeof(rmap_item)",
        ),
        1.0,
    ),
    (
        "merge_across_nodes",
        Family::gauge(
            "node_ksmd_merge_across_nodes",
            "Specifies if pages from different NUMA nodes can be merged.",
        ),
        1.0,
    ),
    (
        "pages_shared",
        Family::gauge("node_ksmd_pages_shared", "How many shared pages are being used."),
        1.0,
    ),
    (
        "pages_sharing",
        Family::gauge(
            "node_ksmd_pages_sharing",
            "How many more sites are sharing them i.e. how much saved.",
        ),
        1.0,
    ),
    (
        "pages_to_scan",
        Family::gauge(
            "node_ksmd_pages_to_scan",
            "How many pages to scan before ksmd goes to sleep.",
        ),
        1.0,
    ),
    (
        "pages_unshared",
        Family::gauge(
            "node_ksmd_pages_unshared",
            "How many pages unique but repeatedly checked for merging.",
        ),
        1.0,
    ),
    (
        "pages_volatile",
        Family::gauge(
            "node_ksmd_pages_volatile",
            "How many pages changing too fast to be placed in a tree.",
        ),
        1.0,
    ),
    ("run", Family::gauge("node_ksmd_run", "The status of ksmd. stopped = 0, running = 1"), 1.0),
    (
        "sleep_millisecs",
        Family::gauge(
            "node_ksmd_sleep_seconds",
            "How many seconds ksmd should sleep before next scan.",
        ),
        1e-3,
    ),
];

/// `node_ksmd_*`.
pub(crate) struct Ksmd {
    root: PathBuf,
}

impl Ksmd {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Ksmd { root: config.sys_root.join("kernel/mm/ksm") }
    }
}

impl Survey for Ksmd {
    fn name(&self) -> &'static str {
        "ksmd"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        sysfs::names(&self.root)?;
        for (file, family, factor) in &FILES {
            if let Some(value) = sysfs::number(&self.root.join(file)) {
                out.put(family, &[], value * factor);
            }
        }
        Ok(())
    }
}
