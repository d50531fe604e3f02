//! Disks that are mirrored over the network. Source: `/proc/drbd` of DRBD 8.4, as its user's
//! guide describes it.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const KIB: f64 = 1_024.0;

/// The numbers of a device by their keys, and the factor of each to its metric.
const NUMBERS: [(&str, Family, f64); 12] = [
    (
        "ns",
        Family::counter(
            "node_drbd_network_sent_bytes_total",
            "Total number of bytes sent via the network.",
        ),
        KIB,
    ),
    (
        "nr",
        Family::counter(
            "node_drbd_network_received_bytes_total",
            "Total number of bytes received via the network.",
        ),
        1.0,
    ),
    (
        "dw",
        Family::counter(
            "node_drbd_disk_written_bytes_total",
            "Net data written on local hard disk; in bytes.",
        ),
        KIB,
    ),
    (
        "dr",
        Family::counter(
            "node_drbd_disk_read_bytes_total",
            "Net data read from local hard disk; in bytes.",
        ),
        KIB,
    ),
    (
        "al",
        Family::counter(
            "node_drbd_activitylog_writes_total",
            "Number of updates of the activity log area of the meta data.",
        ),
        1.0,
    ),
    (
        "bm",
        Family::counter(
            "node_drbd_bitmap_writes_total",
            "Number of updates of the bitmap area of the meta data.",
        ),
        1.0,
    ),
    (
        "lo",
        Family::gauge(
            "node_drbd_local_pending",
            "Number of open requests to the local I/O sub-system.",
        ),
        1.0,
    ),
    (
        "pe",
        Family::gauge(
            "node_drbd_remote_pending",
            "Number of requests sent to the peer, but that have not yet been answered by the \
             latter.",
        ),
        1.0,
    ),
    (
        "ua",
        Family::gauge(
            "node_drbd_remote_unacknowledged",
            "Number of requests received by the peer via the network connection, but that have \
             not yet been answered.",
        ),
        1.0,
    ),
    (
        "ap",
        Family::gauge(
            "node_drbd_application_pending",
            "Number of block I/O requests forwarded to DRBD, but not yet answered by DRBD.",
        ),
        1.0,
    ),
    ("ep", Family::gauge("node_drbd_epochs", "Number of Epochs currently on the fly."), 1.0),
    (
        "oos",
        Family::gauge(
            "node_drbd_out_of_sync_bytes",
            "Amount of data known to be out of sync; in bytes.",
        ),
        KIB,
    ),
];

const CONNECTED: Family =
    Family::gauge("node_drbd_connected", "Whether DRBD is connected to the peer.");
const ROLE: Family = Family::gauge(
    "node_drbd_node_role_is_primary",
    "Whether the role of the node is in the primary state.",
);
const DISK_STATE: Family = Family::gauge(
    "node_drbd_disk_state_is_up_to_date",
    "Whether the disk of the node is up to date.",
);

/// `node_drbd_*`.
pub(crate) struct Drbd {
    path: PathBuf,
}

impl Drbd {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Drbd { path: config.proc_root.join("drbd") }
    }
}

impl Survey for Drbd {
    fn name(&self) -> &'static str {
        "drbd"
    }

    /// A line such as ` 1: cs:Connected …` begins a device; its numbers follow.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        let mut device = None;
        for field in text.split_ascii_whitespace() {
            let Some((key, value)) = field.split_once(':') else { continue };
            if value.is_empty() {
                device = sysfs::numbered(key, "").map(|number| format!("drbd{number}"));
            } else if let Some(device) = &device {
                read_field(device, key, value, out);
            }
        }
        Ok(())
    }
}

fn read_field(device: &str, key: &str, value: &str, out: &mut Reading) {
    let of_device = ("device", device);
    let is = |condition: bool| f64::from(u8::from(condition));
    match key {
        "cs" => out.put(&CONNECTED, &[of_device], is(value == "Connected")),
        "ro" | "ds" => {
            let (family, good) =
                if key == "ro" { (&ROLE, "Primary") } else { (&DISK_STATE, "UpToDate") };
            for (node, state) in ["local", "remote"].into_iter().zip(value.split('/')) {
                out.put(family, &[of_device, ("node", node)], is(state == good));
            }
        }
        _ => {
            let Some((_, family, factor)) = NUMBERS.iter().find(|(name, ..)| *name == key) else {
                return;
            };
            if let Ok(number) = value.parse::<f64>() {
                out.put(family, &[of_device], number * factor);
            }
        }
    }
}
