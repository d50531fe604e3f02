//! Neighbours in the ARP table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const ENTRIES: Family = Family::gauge("node_arp_entries", "ARP entries by device");

/// `node_arp_entries`. A gateway of a large network has tens of thousands of neighbours.
pub(crate) struct Arp {
    path: PathBuf,
    filter: NameFilter,
}

impl Arp {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.arp;
        Arp {
            path: config.proc_root.join("net/arp"),
            filter: NameFilter::new(&settings.device_include, &settings.device_exclude),
        }
    }
}

impl Survey for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    /// After the headings: address, type, flags, hardware address, mask, device.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        let mut devices: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.lines().skip(1) {
            if let Some(device) = line.split_ascii_whitespace().nth(5) {
                *devices.entry(device).or_default() += 1;
            }
        }
        for (device, count) in devices {
            if self.filter.takes(device) {
                out.put(&ENTRIES, &[("device", device)], count as f64);
            }
        }
        Ok(())
    }
}
