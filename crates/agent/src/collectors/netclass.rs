//! Properties of network devices. Source: Linux `Documentation/ABI/testing/sysfs-class-net`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{parse_hex, parse_i64, read_error, read_once, trim};
use crate::series::{Family, Keyed, Samples};

const UP: Family =
    Family::gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
const INFO: Family = Family::gauge(
    "node_network_info",
    "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
);

/// How a number is written in its file.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Decimal,
    /// With `0x` before it.
    Hexadecimal,
    /// In Mbit/s; emitted in bytes per second. Negative for devices that know none.
    Speed,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::gauge(name, help)
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

/// The files with a number.
const NUMBERS: [(&str, Form, Family); 17] = [
    (
        "addr_assign_type",
        Form::Decimal,
        gauge("node_network_address_assign_type", "Network device property: address_assign_type"),
    ),
    ("carrier", Form::Decimal, gauge("node_network_carrier", "Network device property: carrier")),
    (
        "carrier_changes",
        Form::Decimal,
        counter(
            "node_network_carrier_changes_total",
            "Network device property: carrier_changes_total",
        ),
    ),
    (
        "carrier_up_count",
        Form::Decimal,
        counter(
            "node_network_carrier_up_changes_total",
            "Network device property: carrier_up_changes_total",
        ),
    ),
    (
        "carrier_down_count",
        Form::Decimal,
        counter(
            "node_network_carrier_down_changes_total",
            "Network device property: carrier_down_changes_total",
        ),
    ),
    (
        "dev_id",
        Form::Hexadecimal,
        gauge("node_network_device_id", "Network device property: device_id"),
    ),
    ("dormant", Form::Decimal, gauge("node_network_dormant", "Network device property: dormant")),
    ("flags", Form::Hexadecimal, gauge("node_network_flags", "Network device property: flags")),
    ("ifindex", Form::Decimal, gauge("node_network_iface_id", "Network device property: iface_id")),
    (
        "iflink",
        Form::Decimal,
        gauge("node_network_iface_link", "Network device property: iface_link"),
    ),
    (
        "link_mode",
        Form::Decimal,
        gauge("node_network_iface_link_mode", "Network device property: iface_link_mode"),
    ),
    ("mtu", Form::Decimal, gauge("node_network_mtu_bytes", "Network device property: mtu_bytes")),
    (
        "name_assign_type",
        Form::Decimal,
        gauge("node_network_name_assign_type", "Network device property: name_assign_type"),
    ),
    (
        "netdev_group",
        Form::Decimal,
        gauge("node_network_net_dev_group", "Network device property: net_dev_group"),
    ),
    (
        "speed",
        Form::Speed,
        gauge("node_network_speed_bytes", "Network device property: speed_bytes"),
    ),
    (
        "tx_queue_len",
        Form::Decimal,
        gauge(
            "node_network_transmit_queue_length",
            "Network device property: transmit_queue_length",
        ),
    ),
    (
        "type",
        Form::Decimal,
        gauge("node_network_protocol_type", "Network device property: protocol_type"),
    ),
];
const FLAGS: usize = 7;
const SPEED: usize = 14;
const UP_PLACE: usize = 17;
const INFO_PLACE: usize = 18;

/// Bit of `flags` that says that the device was switched on by its administrator.
const IFF_UP: u64 = 1;

/// The files with words, which are labels of `node_network_info`.
const WORDS: [&str; 5] = ["address", "broadcast", "duplex", "ifalias", "operstate"];
const OPERSTATE: usize = 4;

/// Some drivers ask their hardware for the speed and hold a lock of the whole network stack
/// meanwhile, so this is no work for every second.
const PERIOD: Duration = Duration::from_secs(10);

/// `node_network_up`, `node_network_info` and properties of devices.
pub(crate) struct Netclass {
    net_root: PathBuf,
    cadence: Cadence,
    buffer: Vec<u8>,
    devices: Keyed<19, Info>,
}

/// The labels of `node_network_info` with which its series was registered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    words: [String; 5],
    adminstate: &'static str,
}

impl Netclass {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Netclass {
            net_root: config.sys_root.join("class/net"),
            cadence: Cadence::new(PERIOD),
            buffer: Vec::new(),
            devices: Keyed::new(),
        }
    }

    fn collect_device(&mut self, device: &str, directory: &Path, out: &mut Samples) {
        let row = self.devices.row(device.as_bytes());
        let mut adminstate = "unknown";
        for (at, (file, form, family)) in NUMBERS.iter().enumerate() {
            // A device that is down answers EINVAL to some; it has no such property then.
            let Ok(text) = read_once(&directory.join(file), &mut self.buffer) else { continue };
            let text = trim(text);
            let number = match form {
                Form::Hexadecimal => parse_hex(text).map(|number| number as f64),
                Form::Decimal | Form::Speed => parse_i64(text).map(|number| number as f64),
            };
            let Some(number) = number else { continue };
            if at == SPEED && number < 0.0 {
                continue;
            }
            if at == FLAGS {
                adminstate = if number as u64 & IFF_UP == IFF_UP { "up" } else { "down" };
            }
            let value = if at == SPEED { number * 1_000.0 * 1_000.0 / 8.0 } else { number };
            out.put(&mut row.series[at], value, |out| out.register(family, &[("device", device)]));
        }
        let info = Info {
            words: WORDS.map(|file| {
                let text = read_once(&directory.join(file), &mut self.buffer).unwrap_or_default();
                String::from_utf8_lossy(trim(text)).into_owned()
            }),
            adminstate,
        };
        let up = f64::from(u8::from(info.words[OPERSTATE] == "up"));
        out.put(&mut row.series[UP_PLACE], up, |out| out.register(&UP, &[("device", device)]));
        if row.extra != info {
            row.series[INFO_PLACE].take().into_iter().for_each(|series| out.release(series));
            row.extra = info;
        }
        let info = &row.extra;
        out.put(&mut row.series[INFO_PLACE], 1.0, |out| {
            let word = |at: usize| (WORDS[at], info.words[at].as_str());
            let own = [("device", device), ("adminstate", info.adminstate)];
            let [a, b, c, d, e] = std::array::from_fn(word);
            out.register(&INFO, &[own[0], own[1], a, b, c, d, e])
        });
    }
}

impl Collector for Netclass {
    fn name(&self) -> &'static str {
        "netclass"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if !self.cadence.due(host.now) {
            return Ok(Outcome::NotDue);
        }
        let entries =
            std::fs::read_dir(&self.net_root).map_err(|e| read_error(&self.net_root, e))?;
        self.devices.begin();
        for entry in entries.flatten() {
            // Beside the devices lies `bonding_masters`, which is a file.
            if entry.path().is_dir() {
                let device = entry.file_name().to_string_lossy().into_owned();
                self.collect_device(&device, &entry.path(), out);
            }
        }
        self.devices.finish(out);
        Ok(Outcome::Collected)
    }
}
