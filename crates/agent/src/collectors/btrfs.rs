//! Filesystems of type Btrfs. Source: `btrfs(5)`, section on sysfs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::gauge(name, help)
}

const INFO: Family = gauge("node_btrfs_info", "Filesystem information");
const GLOBAL_RESERVE: Family = gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve.");
const DEVICE_SIZE: Family =
    gauge("node_btrfs_device_size_bytes", "Size of a device that is part of the filesystem.");
const RESERVED: Family =
    gauge("node_btrfs_reserved_bytes", "Amount of space reserved for a data type");
const USED: Family = gauge("node_btrfs_used_bytes", "Amount of used space by a layout/data type");
const SIZE: Family =
    gauge("node_btrfs_size_bytes", "Amount of space allocated for a layout/data type");
const RATIO: Family =
    gauge("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type");

/// The lines of `commit_stats`, and what one unit is in the unit of the metric.
const COMMITS: [(&str, Family, f64); 4] = [
    (
        "commits",
        Family::counter(
            "node_btrfs_commits_total",
            "The total number of commits that have occurred.",
        ),
        1.0,
    ),
    (
        "last_commit_ms",
        gauge("node_btrfs_last_commit_seconds", "Duration of the most recent commit, in seconds."),
        1_000.0,
    ),
    (
        "max_commit_ms",
        gauge("node_btrfs_max_commit_seconds", "Duration of the slowest commit, in seconds."),
        1_000.0,
    ),
    (
        "total_commit_ms",
        Family::counter(
            "node_btrfs_commit_seconds_total",
            "Sum of the duration of all commits, in seconds.",
        ),
        1_000.0,
    ),
];

/// What kinds of things take space.
const GROUPS: [&str; 3] = ["data", "metadata", "system"];

/// The kernel counts sectors of 512 bytes whatever the device's own sectors are.
const SECTOR_BYTES: f64 = 512.0;

/// `node_btrfs_*` from sysfs. What only `ioctl` tells is left out: unused bytes and errors by
/// device.
pub(crate) struct Btrfs {
    root: PathBuf,
}

impl Btrfs {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Btrfs { root: config.sys_root.join("fs/btrfs") }
    }
}

impl Survey for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for uuid in sysfs::names(&self.root)? {
            let directory = self.root.join(&uuid);
            // Beside the filesystems lies `features`.
            if directory.join("allocation").is_dir() {
                read_filesystem(&uuid, &directory, out);
            }
        }
        Ok(())
    }
}

fn read_filesystem(uuid: &str, directory: &Path, out: &mut Reading) {
    let filesystem = ("uuid", uuid);
    let label = sysfs::text(&directory.join("label")).unwrap_or_default();
    out.put(&INFO, &[filesystem, ("label", &*label)], 1.0);
    let allocation = directory.join("allocation");
    if let Some(size) = sysfs::number(&allocation.join("global_rsv_size")) {
        out.put(&GLOBAL_RESERVE, &[filesystem], size);
    }
    let devices = sysfs::names_if_any(&directory.join("devices"));
    for device in &devices {
        let size = sysfs::number(&directory.join("devices").join(device).join("size"));
        if let Some(sectors) = size {
            out.put(&DEVICE_SIZE, &[filesystem, ("device", device)], sectors * SECTOR_BYTES);
        }
    }
    // Kernels before 5.19 do not count commits, which Node Exporter shows as none.
    let stats = sysfs::text(&directory.join("commit_stats")).unwrap_or_default();
    for (key, family, divisor) in &COMMITS {
        let line = stats.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        out.put(family, &[filesystem], line.unwrap_or(0.0) / divisor);
    }
    for group in GROUPS {
        read_group(filesystem, group, &allocation.join(group), devices.len(), out);
    }
}

fn read_group(
    filesystem: (&str, &str),
    group: &str,
    directory: &Path,
    devices: usize,
    out: &mut Reading,
) {
    let labels = [filesystem, ("block_group_type", group)];
    if let Some(bytes) = sysfs::number(&directory.join("bytes_reserved")) {
        out.put(&RESERVED, &labels, bytes);
    }
    // Each layout that is in use has a directory.
    for mode in sysfs::names_if_any(directory) {
        let layout = directory.join(&mode);
        let (Some(size), Some(used)) =
            (sysfs::number(&layout.join("total_bytes")), sysfs::number(&layout.join("used_bytes")))
        else {
            continue;
        };
        let labels = [labels[0], labels[1], ("mode", &*mode)];
        out.put(&SIZE, &labels, size);
        out.put(&USED, &labels, used);
        if let Some(ratio) = allocation_ratio(&mode, devices) {
            out.put(&RATIO, &labels, ratio);
        }
    }
}

/// How many bytes of disk a byte of data takes, on this number of devices.
fn allocation_ratio(mode: &str, devices: usize) -> Option<f64> {
    let devices = devices as f64;
    match mode {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" if devices > 1.0 => Some(devices / (devices - 1.0)),
        "raid6" if devices > 2.0 => Some(devices / (devices - 2.0)),
        _ => None,
    }
}
