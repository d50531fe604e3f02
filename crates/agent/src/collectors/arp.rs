//! Neighbours in the ARP table.

use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines};
use crate::series::{Family, Keyed, Samples};

const ENTRIES: Family = Family::gauge("node_arp_entries", "ARP entries by device");

/// A gateway of a large network has tens of thousands of neighbours.
const PERIOD: Duration = Duration::from_secs(10);

/// `node_arp_entries`.
pub(crate) struct Arp {
    file: ProcFile,
    cadence: Cadence,
    devices: Keyed<1, u64>,
}

impl Arp {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Arp {
            file: ProcFile::new(config.proc_root.join("net/arp")),
            cadence: Cadence::new(PERIOD),
            devices: Keyed::new(),
        }
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if !self.cadence.due(host.now) {
            return Ok(Outcome::NotDue);
        }
        self.file.read()?;
        self.devices.begin();
        self.devices.rows_mut().iter_mut().for_each(|row| row.extra = 0);
        // After the headings: address, type, flags, hardware address, mask, device.
        for line in lines(self.file.last()).skip(1) {
            if let Some(device) = fields(line).nth(5) {
                self.devices.row(device).extra += 1;
            }
        }
        self.devices.finish(out);
        for row in self.devices.rows_mut() {
            out.put(&mut row.series[0], row.extra as f64, |out| {
                out.register(&ENTRIES, &[("device", &String::from_utf8_lossy(&row.key))])
            });
        }
        Ok(Outcome::Collected)
    }
}
