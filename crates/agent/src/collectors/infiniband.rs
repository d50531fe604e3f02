//! Ports of InfiniBand and RoCE. Source: Linux `Documentation/ABI/stable/sysfs-class-infiniband`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

macro_rules! counters {
    ($($file:literal $name:literal $help:literal,)+) => {
        &[$(($file, Family::counter(concat!("node_infiniband_", $name, "_total"), $help)),)+]
    };
}

/// The files of `counters`.
const COUNTERS: &[(&str, Family)] = counters![
    "VL15_dropped" "vl15_dropped"
        "Number of incoming VL15 packets dropped due to resource limitations.",
    "excessive_buffer_overrun_errors" "excessive_buffer_overrun_errors"
        "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at least one overrun error.",
    "link_downed" "link_downed"
        "Number of times the link failed to recover from an error state and went down",
    "link_error_recovery" "link_error_recovery"
        "Number of times the link successfully recovered from an error state",
    "local_link_integrity_errors" "local_link_integrity_errors"
        "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.",
    "multicast_rcv_packets" "multicast_packets_received"
        "Number of multicast packets received (including errors)",
    "multicast_xmit_packets" "multicast_packets_transmitted"
        "Number of multicast packets transmitted (including errors)",
    "port_rcv_constraint_errors" "port_constraint_errors_received"
        "Number of packets received on the switch physical port that are discarded",
    "port_xmit_constraint_errors" "port_constraint_errors_transmitted"
        "Number of packets not transmitted from the switch physical port",
    "port_rcv_discards" "port_discards_received"
        "Number of inbound packets discarded by the port because the port is down or congested",
    "port_xmit_discards" "port_discards_transmitted"
        "Number of outbound packets discarded by the port because the port is down or congested",
    "port_rcv_errors" "port_errors_received"
        "Number of packets containing an error that were received on this port",
    "port_rcv_packets" "port_packets_received"
        "Number of packets received on all VLs by this port (including errors)",
    "port_xmit_packets" "port_packets_transmitted"
        "Number of packets transmitted on all VLs from this port (including errors)",
    "port_rcv_remote_physical_errors" "port_receive_remote_physical_errors"
        "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
    "port_rcv_switch_relay_errors" "port_receive_switch_relay_errors"
        "Number of packets that could not be forwarded by the switch.",
    "port_xmit_wait" "port_transmit_wait"
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
    "symbol_error" "symbol_error"
        "Number of minor link errors detected on one or more physical lanes.",
    "unicast_rcv_packets" "unicast_packets_received"
        "Number of unicast packets received (including errors)",
    "unicast_xmit_packets" "unicast_packets_transmitted"
        "Number of unicast packets transmitted (including errors)",
];

/// The files of `counters_ext`, which drivers had before Linux 4.5.
const LEGACY_COUNTERS: &[(&str, Family)] = counters![
    "port_multicast_rcv_packets" "legacy_multicast_packets_received"
        "Number of multicast packets received",
    "port_multicast_xmit_packets" "legacy_multicast_packets_transmitted"
        "Number of multicast packets transmitted",
    "port_rcv_packets_64" "legacy_packets_received"
        "Number of data packets received on all links",
    "port_xmit_packets_64" "legacy_packets_transmitted"
        "Number of data packets received on all links",
    "port_unicast_rcv_packets" "legacy_unicast_packets_received"
        "Number of unicast packets received",
    "port_unicast_xmit_packets" "legacy_unicast_packets_transmitted"
        "Number of unicast packets transmitted",
];

/// The files of both directories that count words of four bytes.
const WORDS: &[(&str, Family)] = counters![
    "counters/port_rcv_data" "port_data_received_bytes"
        "Number of data octets received on all links",
    "counters/port_xmit_data" "port_data_transmitted_bytes"
        "Number of data octets transmitted on all links",
    "counters_ext/port_rcv_data_64" "legacy_data_received_bytes"
        "Number of data octets received on all links",
    "counters_ext/port_xmit_data_64" "legacy_data_transmitted_bytes"
        "Number of data octets transmitted on all links",
];
const WORD_BYTES: f64 = 4.0;

const INFO: Family = Family::gauge(
    "node_infiniband_info",
    "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
);
const STATE: Family = Family::gauge(
    "node_infiniband_state_id",
    "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act \
     defer)",
);
const PHYSICAL_STATE: Family = Family::gauge(
    "node_infiniband_physical_state_id",
    "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: \
     shift, 5: link up, 6: link error recover, 7: phytest)",
);
const RATE: Family =
    Family::gauge("node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate");

/// `node_infiniband_*`.
pub(crate) struct Infiniband {
    root: PathBuf,
}

impl Infiniband {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Infiniband { root: config.sys_root.join("class/infiniband") }
    }
}

impl Survey for Infiniband {
    fn name(&self) -> &'static str {
        "infiniband"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for device in sysfs::names(&self.root)? {
            let directory = self.root.join(&device);
            let word = |file: &str| sysfs::text(&directory.join(file)).unwrap_or_default();
            let labels = [
                ("device", &*device),
                ("board_id", &*word("board_id")),
                ("firmware_version", &*word("fw_ver")),
                ("hca_type", &*word("hca_type")),
            ];
            out.put(&INFO, &labels, 1.0);
            for port in sysfs::names_if_any(&directory.join("ports")) {
                let labels = [("device", &*device), ("port", &*port)];
                read_port(&directory.join("ports").join(&port), &labels, out);
            }
        }
        Ok(())
    }
}

fn read_port(directory: &Path, labels: &[(&str, &str); 2], out: &mut Reading) {
    for (file, family) in [("state", &STATE), ("phys_state", &PHYSICAL_STATE)] {
        // `4: ACTIVE`
        let text = sysfs::text(&directory.join(file)).unwrap_or_default();
        if let Some(id) = text.split_once(':').and_then(|(id, _)| id.parse::<f64>().ok()) {
            out.put(family, labels, id);
        }
    }
    // `40 Gb/sec (4X QDR)`
    let rate = sysfs::text(&directory.join("rate")).unwrap_or_default();
    if let Some(gigabits) = rate.split_once(" Gb/sec").and_then(|(n, _)| n.parse::<f64>().ok()) {
        out.put(&RATE, labels, gigabits * 1e9 / 8.0);
    }
    // A driver that does not count something says `N/A (no PMA)`.
    for (place, counters) in [("counters", COUNTERS), ("counters_ext", LEGACY_COUNTERS)] {
        for (file, family) in counters {
            if let Some(count) = sysfs::number(&directory.join(place).join(file)) {
                out.put(family, labels, count);
            }
        }
    }
    for (file, family) in WORDS {
        if let Some(words) = sysfs::number(&directory.join(file)) {
            out.put(family, labels, words * WORD_BYTES);
        }
    }
}
