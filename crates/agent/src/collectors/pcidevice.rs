//! PCI devices. Source: Linux `Documentation/ABI/testing/sysfs-bus-pci`.

use std::path::{Path, PathBuf};

use crate::collectors::pci_names::PciNames;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge(
    "node_pcidevice_info",
    "Non-numeric data from /sys/bus/pci/devices/<location>, value is always 1.",
);
const LINK_SPEEDS: [(&str, Family); 2] = [
    (
        "current_link_speed",
        Family::gauge(
            "node_pcidevice_current_link_transfers_per_second",
            "Value of current link's transfers per second (T/s)",
        ),
    ),
    (
        "max_link_speed",
        Family::gauge(
            "node_pcidevice_max_link_transfers_per_second",
            "Value of maximum link's transfers per second (T/s)",
        ),
    ),
];
const NUMBERS: [(&str, Family); 8] = [
    (
        "current_link_width",
        Family::gauge(
            "node_pcidevice_current_link_width",
            "Value of current link's width (number of lanes)",
        ),
    ),
    (
        "max_link_width",
        Family::gauge(
            "node_pcidevice_max_link_width",
            "Value of maximum link's width (number of lanes)",
        ),
    ),
    (
        "d3cold_allowed",
        Family::gauge(
            "node_pcidevice_d3cold_allowed",
            "Whether the PCIe device supports D3cold power state (0/1).",
        ),
    ),
    (
        "numa_node",
        Family::gauge(
            "node_pcidevice_numa_node",
            "NUMA node number for the PCI device. -1 indicates unknown or not available.",
        ),
    ),
    (
        "sriov_drivers_autoprobe",
        Family::gauge(
            "node_pcidevice_sriov_drivers_autoprobe",
            "Whether SR-IOV drivers autoprobe is enabled for the device (0/1).",
        ),
    ),
    (
        "sriov_numvfs",
        Family::gauge(
            "node_pcidevice_sriov_numvfs",
            "Number of Virtual Functions (VFs) currently enabled for SR-IOV.",
        ),
    ),
    (
        "sriov_totalvfs",
        Family::gauge(
            "node_pcidevice_sriov_totalvfs",
            "Total number of Virtual Functions (VFs) supported by the device.",
        ),
    ),
    (
        "sriov_vf_total_msix",
        Family::gauge(
            "node_pcidevice_sriov_vf_total_msix",
            "Total number of MSI-X vectors for Virtual Functions.",
        ),
    ),
];
const POWER_STATE: Family = Family::gauge(
    "node_pcidevice_power_state",
    "PCIe device power state, one of: D0, D1, D2, D3hot, D3cold, unknown or error.",
);
const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];

/// The files that are labels of `node_pcidevice_info`.
const IDS: [(&str, &str); 6] = [
    ("class", "class_id"),
    ("vendor", "vendor_id"),
    ("device", "device_id"),
    ("subsystem_vendor", "subsystem_vendor_id"),
    ("subsystem_device", "subsystem_device_id"),
    ("revision", "revision"),
];

/// `node_pcidevice_*`.
pub(crate) struct Pcidevice {
    root: PathBuf,
    names: Option<PciNames>,
}

impl Pcidevice {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.pcidevice;
        let names =
            settings.names.then(|| PciNames::new(settings.idsfile.as_deref(), &config.root_fs));
        Pcidevice { root: config.sys_root.join("bus/pci/devices"), names }
    }
}

impl Survey for Pcidevice {
    fn name(&self) -> &'static str {
        "pcidevice"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let mut devices = Vec::new();
        for address in sysfs::names(&self.root)? {
            let directory = self.root.join(&address);
            let Some(location) = Location::parse(&address) else { continue };
            let ids = IDS.map(|(file, _)| sysfs::text(&directory.join(file)).unwrap_or_default());
            devices.push((location, directory, ids));
        }
        if let Some(names) = &mut self.names {
            names.learn(
                devices.iter().map(|(_, _, [class, v, d, sv, sd, _])| [class, v, d, sv, sd]),
            );
        }
        for (location, directory, ids) in &devices {
            self.put_info(location, directory, ids, out);
            put_numbers(location, directory, out);
        }
        Ok(())
    }
}

impl Pcidevice {
    fn put_info(
        &self,
        location: &Location,
        directory: &Path,
        ids: &[String; 6],
        out: &mut Reading,
    ) {
        let parent = parent_of(directory);
        let parent = parent.as_ref().map_or(["*"; 4], Location::parts);
        let parent_labels = ["parent_segment", "parent_bus", "parent_device", "parent_function"];
        let mut labels: Vec<(&str, &str)> = location.labels().to_vec();
        labels.extend(parent_labels.into_iter().zip(parent));
        labels.extend(IDS.iter().zip(ids).map(|((_, label), id)| (*label, id.as_str())));
        if let Some(names) = &self.names {
            let [class, vendor, device, subsystem_vendor, subsystem_device, _] = ids;
            let subsystem = [subsystem_vendor.as_str(), subsystem_device];
            labels.push(("class_name", names.class(class)));
            labels.push(("vendor_name", names.vendor(vendor)));
            labels.push(("device_name", names.device(vendor, device)));
            labels.push(("subsystem_vendor_name", names.vendor(subsystem_vendor)));
            labels.push(("subsystem_device_name", names.subsystem(vendor, device, subsystem)));
        }
        out.put(&INFO, &labels, 1.0);
    }
}

fn put_numbers(location: &Location, directory: &Path, out: &mut Reading) {
    let labels = location.labels();
    for (file, family) in &LINK_SPEEDS {
        // `8.0 GT/s PCIe`; a device without a link says `Unknown`.
        let speed = sysfs::text(&directory.join(file)).unwrap_or_default();
        let number = speed.split_once(" GT/s").and_then(|(number, _)| number.parse::<f64>().ok());
        if let Some(number) = number {
            out.put(family, &labels, number * 1e9);
        }
    }
    for (file, family) in &NUMBERS {
        // A device that is near no node says −1.
        if let Some(value) = sysfs::integer(&directory.join(file)).filter(|value| *value >= 0) {
            out.put(family, &labels, value as f64);
        }
    }
    if let Some(current) = sysfs::text(&directory.join("power_state")) {
        let [segment, bus, device, function] = labels;
        for state in POWER_STATES {
            let labels = [segment, bus, device, function, ("state", state)];
            out.put(&POWER_STATE, &labels, f64::from(u8::from(state == current)));
        }
    }
}

/// The address of a device, such as `0000:01:00.0`.
#[derive(Debug, PartialEq)]
struct Location {
    segment: String,
    bus: String,
    device: String,
    function: String,
}

impl Location {
    fn parse(address: &str) -> Option<Self> {
        let (segment, rest) = address.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let parts = [segment, bus, device, function];
        let hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !parts.into_iter().all(|part| !part.is_empty() && hexadecimal(part)) {
            return None;
        }
        let [segment, bus, device, function] = parts.map(str::to_owned);
        Some(Location { segment, bus, device, function })
    }

    fn parts(&self) -> [&str; 4] {
        [&self.segment, &self.bus, &self.device, &self.function]
    }

    fn labels(&self) -> [(&str, &str); 4] {
        let [segment, bus, device, function] = self.parts();
        [("segment", segment), ("bus", bus), ("device", device), ("function", function)]
    }
}

/// The bridge a device is behind; none for a device at a root.
fn parent_of(directory: &Path) -> Option<Location> {
    let target = std::fs::read_link(directory).ok()?;
    Location::parse(target.parent()?.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let location = Location::parse("0000:45:00.0").expect("valid");
        assert_eq!(location.parts(), ["0000", "45", "00", "0"]);
        for wrong in ["pci0000:00", "0000:45:00", "0000:45:0g.0", "", "0000:00:02.1:pcie001"] {
            assert_eq!(Location::parse(wrong), None, "{wrong}");
        }
    }
}
