//! Disks that are reached over several paths. Source: Linux
//! `Documentation/ABI/testing/sysfs-block-dm`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::gauge(name, help)
}

const INFO: Family =
    gauge("node_dmmultipath_device_info", "Non-numeric information about a DM-multipath device.");
const ACTIVE: Family = gauge(
    "node_dmmultipath_device_active",
    "Whether the multipath device-mapper device is active (1) or suspended (0).",
);
const SIZE: Family = gauge(
    "node_dmmultipath_device_size_bytes",
    "Size of the multipath device in bytes, read from /sys/block/<dm>/size.",
);
const PATHS: Family =
    gauge("node_dmmultipath_device_paths", "Number of paths for a multipath device.");
const PATHS_ACTIVE: Family = gauge(
    "node_dmmultipath_device_paths_active",
    "Number of paths in active state (SCSI running or NVMe live) for a multipath device.",
);
const PATHS_FAILED: Family = gauge(
    "node_dmmultipath_device_paths_failed",
    "Number of paths not in active state for a multipath device.",
);
const PATH_STATE: Family = gauge(
    "node_dmmultipath_path_state",
    "Reports the underlying device state for a multipath path, as read from \
     /sys/block/<dev>/device/state.",
);

/// The kernel counts sectors of 512 bytes whatever the device's own sectors are.
const SECTOR_BYTES: f64 = 512.0;

/// `node_dmmultipath_*`.
pub(crate) struct Dmmultipath {
    block_root: PathBuf,
}

impl Dmmultipath {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Dmmultipath { block_root: config.sys_root.join("block") }
    }
}

impl Survey for Dmmultipath {
    fn name(&self) -> &'static str {
        "dmmultipath"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let mut found = false;
        for disk in sysfs::names(&self.block_root)? {
            let directory = self.block_root.join(&disk);
            let Some(uuid) = sysfs::text(&directory.join("dm/uuid")) else { continue };
            if uuid.starts_with("mpath-") {
                found = true;
                self.read_device(&disk, &uuid, &directory, out);
            }
        }
        if found { Ok(()) } else { Err(AgentError::NoData { path: self.block_root.clone() }) }
    }
}

impl Dmmultipath {
    fn read_device(&self, disk: &str, uuid: &str, directory: &Path, out: &mut Reading) {
        let name = sysfs::text(&directory.join("dm/name")).unwrap_or_default();
        let device = [("device", &*name), ("sysfs_name", disk)];
        out.put(&INFO, &[device[0], device[1], ("uuid", uuid)], 1.0);
        if let Some(suspended) = sysfs::number(&directory.join("dm/suspended")) {
            out.put(&ACTIVE, &device, f64::from(u8::from(suspended == 0.0)));
        }
        if let Some(sectors) = sysfs::number(&directory.join("size")) {
            out.put(&SIZE, &device, sectors * SECTOR_BYTES);
        }
        let paths = sysfs::names_if_any(&directory.join("slaves"));
        let mut active = 0;
        for path in &paths {
            let state = sysfs::text(&self.block_root.join(path).join("device/state"));
            let state = state.as_deref().unwrap_or("unknown");
            active += usize::from(matches!(state, "running" | "live"));
            out.put(&PATH_STATE, &[device[0], ("path", path), ("state", state)], 1.0);
        }
        out.put(&PATHS, &device, paths.len() as f64);
        out.put(&PATHS_ACTIVE, &device, active as f64);
        out.put(&PATHS_FAILED, &device, (paths.len() - active) as f64);
    }
}
