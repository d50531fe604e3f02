//! NVMe controllers and their namespaces. Source: Linux `drivers/nvme/host/sysfs.c`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge(
    "node_nvme_info",
    "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
);
const NAMESPACE_INFO: Family = Family::gauge(
    "node_nvme_namespace_info",
    "Information about NVMe namespaces. Value is always 1",
);
const CAPACITY: Family = Family::gauge(
    "node_nvme_namespace_capacity_bytes",
    "Capacity of the NVMe namespace in bytes. Computed as namespace_size * \
     namespace_logical_block_size",
);
const SIZE: Family = Family::gauge(
    "node_nvme_namespace_size_bytes",
    "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size",
);
const USED: Family = Family::gauge(
    "node_nvme_namespace_used_bytes",
    "Used space of the NVMe namespace in bytes. Available in \
     /sys/class/nvme/<device>/<namespace>/nuse",
);
const BLOCK_SIZE: Family = Family::gauge(
    "node_nvme_namespace_logical_block_size_bytes",
    "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in \
     /sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
);

/// The files that are labels of `node_nvme_info`.
const WORDS: [(&str, &str); 5] = [
    ("cntlid", "cntlid"),
    ("firmware_rev", "firmware_revision"),
    ("model", "model"),
    ("serial", "serial"),
    ("state", "state"),
];

/// `node_nvme_*`.
///
/// Sizes are Node Exporter's: the file `size`, which the kernel counts in sectors of 512 bytes,
/// times the size of a logical block. They are right where blocks have 512 bytes.
pub(crate) struct Nvme {
    root: PathBuf,
}

impl Nvme {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Nvme { root: config.sys_root.join("class/nvme") }
    }
}

impl Survey for Nvme {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for device in sysfs::names(&self.root)? {
            let directory = self.root.join(&device);
            let words = WORDS.map(|(file, label)| (label, sysfs::text(&directory.join(file))));
            let labels =
                words.iter().map(|(label, text)| (*label, text.as_deref().unwrap_or_default()));
            let labels: Vec<(&str, &str)> = labels.chain([("device", &*device)]).collect();
            out.put(&INFO, &labels, 1.0);
            for name in sysfs::names_if_any(&directory) {
                if let Some(nsid) = namespace_id(&name, &device) {
                    read_namespace(&directory.join(&name), &device, nsid, out);
                }
            }
        }
        Ok(())
    }
}

/// The number of the namespace in `nvme0n1`, or in `nvme0c1n1` where several paths lead to it.
fn namespace_id<'a>(name: &'a str, device: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(device)?;
    let digits_end = rest
        .strip_prefix('c')
        .map_or(rest, |path| path.trim_start_matches(|c: char| c.is_ascii_digit()));
    sysfs::numbered(digits_end, "n")
}

fn read_namespace(directory: &Path, device: &str, nsid: &str, out: &mut Reading) {
    let namespace = [("device", device), ("nsid", nsid)];
    let state = sysfs::text(&directory.join("ana_state")).unwrap_or_default();
    out.put(&NAMESPACE_INFO, &[namespace[0], namespace[1], ("ana_state", &*state)], 1.0);
    let block = sysfs::number(&directory.join("queue/logical_block_size"));
    let Some(block) = block else { return };
    out.put(&BLOCK_SIZE, &namespace, block);
    if let Some(sectors) = sysfs::number(&directory.join("size")) {
        out.put(&SIZE, &namespace, sectors * block);
        out.put(&CAPACITY, &namespace, sectors * block);
    }
    if let Some(blocks) = sysfs::number(&directory.join("nuse")) {
        out.put(&USED, &namespace, blocks * block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces() {
        assert_eq!(namespace_id("nvme0n1", "nvme0"), Some("1"));
        assert_eq!(namespace_id("nvme0c12n3", "nvme0"), Some("3"));
        assert_eq!(namespace_id("nvme0", "nvme0"), None);
        assert_eq!(namespace_id("nvme0n1p2", "nvme0"), None);
        assert_eq!(namespace_id("hwmon1", "nvme0"), None);
    }
}
