//! Properties of network devices. Source: Linux `Documentation/ABI/testing/sysfs-class-net`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::Pattern;
use crate::proc_reader::{parse_hex, parse_i64, parse_u64};
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const UP: Family =
    Family::gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
const INFO: Family = Family::gauge(
    "node_network_info",
    "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
);

/// How a number is written in its file.
enum Form {
    Decimal,
    /// With `0x` before it.
    Hexadecimal,
    /// The same, of bits.
    Flags,
    /// In Mbit/s; emitted in bytes per second. Negative for devices that know none, which have no
    /// sample then.
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
    ("flags", Form::Flags, gauge("node_network_flags", "Network device property: flags")),
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

/// Bit of `flags` that says that the device was switched on by its administrator.
const IFF_UP: u64 = 1;

/// The files with words, which are labels of `node_network_info`.
const WORDS: [&str; 5] = ["address", "broadcast", "duplex", "ifalias", "operstate"];

/// `node_network_up`, `node_network_info` and properties of devices.
pub(crate) struct Netclass {
    net_root: PathBuf,
    ignored: Option<Pattern>,
}

impl Netclass {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Netclass {
            net_root: config.sys_root.join("class/net"),
            ignored: config.collectors.netclass.ignored_devices.clone(),
        }
    }
}

impl Survey for Netclass {
    fn name(&self) -> &'static str {
        "netclass"
    }

    /// Some drivers ask their hardware for the speed and hold a lock of the whole network stack
    /// meanwhile, so this is no work for every second.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for device in sysfs::names(&self.net_root)? {
            let directory = self.net_root.join(&device);
            // Beside the devices lies `bonding_masters`, which is a file.
            let ignored = self.ignored.as_ref().is_some_and(|p| p.is_match(device.as_bytes()));
            if !ignored && directory.is_dir() {
                read_device(&device, &directory, out);
            }
        }
        Ok(())
    }
}

fn read_device(device: &str, directory: &Path, out: &mut Reading) {
    let of_device = ("device", device);
    let mut adminstate = "unknown";
    for (file, form, family) in &NUMBERS {
        // A device that is down answers EINVAL to some; it has no such property then.
        let Some(text) = sysfs::text(&directory.join(file)) else { continue };
        let value = match form {
            Form::Decimal => parse_i64(text.as_bytes()).map(|number| number as f64),
            Form::Hexadecimal => parse_hex(text.as_bytes()).map(|number| number as f64),
            Form::Flags => {
                let flags = parse_hex(text.as_bytes());
                if let Some(flags) = flags {
                    adminstate = if flags & IFF_UP == IFF_UP { "up" } else { "down" };
                }
                flags.map(|flags| flags as f64)
            }
            Form::Speed => {
                parse_u64(text.as_bytes()).map(|megabits| megabits as f64 * 1_000.0 * 1_000.0 / 8.0)
            }
        };
        if let Some(value) = value {
            out.put(family, &[of_device], value);
        }
    }
    let words = WORDS.map(|file| sysfs::text(&directory.join(file)).unwrap_or_default());
    let [.., operstate] = &words;
    out.put(&UP, &[of_device], f64::from(u8::from(operstate == "up")));
    let words = WORDS.into_iter().zip(words.iter().map(String::as_str));
    let labels: Vec<(&str, &str)> = words.chain([of_device, ("adminstate", adminstate)]).collect();
    out.put(&INFO, &labels, 1.0);
}
