//! Traffic of network devices.

use std::path::PathBuf;

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::proc_reader::{ProcFile, fields, lines, parse_u64, trim};
use crate::series::{Family, Keyed, Samples};

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

/// The columns of `/proc/net/dev`.
static COLUMNS: [Family; 16] = [
    counter("node_network_receive_bytes_total", "Network device statistic receive_bytes."),
    counter("node_network_receive_packets_total", "Network device statistic receive_packets."),
    counter("node_network_receive_errs_total", "Network device statistic receive_errs."),
    counter("node_network_receive_drop_total", "Network device statistic receive_drop."),
    counter("node_network_receive_fifo_total", "Network device statistic receive_fifo."),
    counter("node_network_receive_frame_total", "Network device statistic receive_frame."),
    counter(
        "node_network_receive_compressed_total",
        "Network device statistic receive_compressed.",
    ),
    counter("node_network_receive_multicast_total", "Network device statistic receive_multicast."),
    counter("node_network_transmit_bytes_total", "Network device statistic transmit_bytes."),
    counter("node_network_transmit_packets_total", "Network device statistic transmit_packets."),
    counter("node_network_transmit_errs_total", "Network device statistic transmit_errs."),
    counter("node_network_transmit_drop_total", "Network device statistic transmit_drop."),
    counter("node_network_transmit_fifo_total", "Network device statistic transmit_fifo."),
    counter("node_network_transmit_colls_total", "Network device statistic transmit_colls."),
    counter("node_network_transmit_carrier_total", "Network device statistic transmit_carrier."),
    counter(
        "node_network_transmit_compressed_total",
        "Network device statistic transmit_compressed.",
    ),
];

const NO_HANDLER: Family = Family::counter(
    "node_network_receive_nohandler_total",
    "Network device statistic receive_nohandler.",
);

/// `node_network_receive_*` and `node_network_transmit_*`.
///
/// Node Exporter asks over netlink by default and sums the kernel's finer errors into these
/// columns; the kernel does the same sums for `/proc/net/dev` (`net/core/net-procfs.c`). Only
/// packets without a handler are missing there and come from sysfs.
pub(crate) struct Netdev {
    file: ProcFile,
    net_root: PathBuf,
    filter: NameFilter,
    devices: Keyed<17, Device>,
}

/// What is kept of a device.
#[derive(Default)]
struct Device {
    /// Whether the configuration takes it; nothing until it was asked.
    is_taken: Option<bool>,
    no_handler: Option<ProcFile>,
}

impl Netdev {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.netdev;
        Netdev {
            file: ProcFile::new(config.proc_root.join("net/dev")),
            net_root: config.sys_root.join("class/net"),
            filter: NameFilter::new(&settings.device_include, &settings.device_exclude),
            devices: Keyed::new(),
        }
    }
}

impl Collector for Netdev {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        self.devices.begin();
        for (device, columns) in lines(self.file.last()).filter_map(split_device) {
            let row = self.devices.row(device);
            let name = || String::from_utf8_lossy(device);
            let filter = &self.filter;
            if !*row.extra.is_taken.get_or_insert_with(|| filter.takes(&name())) {
                continue;
            }
            for ((family, place), text) in COLUMNS.iter().zip(&mut row.series).zip(columns) {
                let Some(count) = parse_u64(text) else { break };
                out.put(place, count as f64, |out| out.register(family, &[("device", &name())]));
            }
            let no_handler = row.extra.no_handler.get_or_insert_with(|| {
                let device = self.net_root.join(&*name());
                ProcFile::new(device.join("statistics/rx_nohandler"))
            });
            if let Some(count) = no_handler.read().ok().and_then(|text| parse_u64(trim(text))) {
                out.put(&mut row.series[16], count as f64, |out| {
                    out.register(&NO_HANDLER, &[("device", &name())])
                });
            }
        }
        self.devices.finish(out);
        Ok(Outcome::Collected)
    }
}

/// The device and its columns; nothing for the two lines of headings, which have no colon.
///
/// Names may hold colons (aliases such as `eth0:1`), numbers never do.
pub(crate) fn split_device(line: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>)> {
    let colon = line.iter().rposition(|&b| b == b':')?;
    let device = trim(&line[..colon]);
    (!device.is_empty()).then(|| (device, fields(&line[colon + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_devices() {
        let split = |line: &'static str| {
            split_device(line.as_bytes()).map(|(device, columns)| (device, columns.count()))
        };
        assert_eq!(split("  lo: 1 2 3"), Some((b"lo".as_slice(), 3)));
        assert_eq!(split("eth0:1:77 2"), Some((b"eth0:1".as_slice(), 2)));
        assert_eq!(split(" face |bytes"), None);
        assert_eq!(split(" : 1"), None);
    }
}
