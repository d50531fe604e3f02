//! What the firmware says about the machine. Source: SMBIOS, by `/sys/class/dmi/id`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge(
    "node_dmi_info",
    "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, \
     bios_version, board_asset_tag, board_name, board_serial, board_vendor, board_version, \
     chassis_asset_tag, chassis_serial, chassis_vendor, chassis_version, product_family, \
     product_name, product_serial, product_sku, product_uuid, product_version, system_vendor if \
     provided by DMI.",
);

/// The files, each with its label where that has another name. Serial numbers are for root only.
const FILES: [(&str, &str); 20] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("sys_vendor", "system_vendor"),
];

/// `node_dmi_info`.
pub(crate) struct Dmi {
    root: PathBuf,
}

impl Dmi {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Dmi { root: config.sys_root.join("class/dmi/id") }
    }
}

impl Survey for Dmi {
    fn name(&self) -> &'static str {
        "dmi"
    }

    /// The firmware is read by the kernel at boot, so nothing of this changes.
    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        sysfs::names(&self.root)?;
        let values = FILES.map(|(file, label)| (label, sysfs::text(&self.root.join(file))));
        let labels: Vec<(&str, &str)> =
            values.iter().filter_map(|(label, value)| Some((*label, value.as_deref()?))).collect();
        out.put(&INFO, &labels, 1.0);
        Ok(())
    }
}
