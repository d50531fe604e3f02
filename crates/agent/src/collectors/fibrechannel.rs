//! Host bus adapters of Fibre Channel. Source: Linux `drivers/scsi/scsi_transport_fc.c`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::parse_hex;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge(
    "node_fibrechannel_info",
    "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
);

/// The files with words, which are labels of the information metric.
const WORDS: [&str; 10] = [
    "dev_loss_tmo",
    "fabric_name",
    "port_id",
    "port_name",
    "port_state",
    "port_type",
    "speed",
    "supported_classes",
    "supported_speeds",
    "symbolic_name",
];

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

/// The files of `statistics`.
const COUNTS: [(&str, Family); 14] = [
    ("dumped_frames", counter("node_fibrechannel_dumped_frames_total", "Number of dumped frames")),
    ("error_frames", counter("node_fibrechannel_error_frames_total", "Number of errors in frames")),
    (
        "fcp_packet_aborts",
        counter("node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets"),
    ),
    (
        "invalid_crc_count",
        counter("node_fibrechannel_invalid_crc_total", "Invalid Cyclic Redundancy Check count"),
    ),
    (
        "invalid_tx_word_count",
        counter(
            "node_fibrechannel_invalid_tx_words_total",
            "Number of invalid words transmitted by host port",
        ),
    ),
    (
        "link_failure_count",
        counter(
            "node_fibrechannel_link_failure_total",
            "Number of times the host port link has failed",
        ),
    ),
    (
        "loss_of_signal_count",
        counter("node_fibrechannel_loss_of_signal_total", "Number of times signal has been lost"),
    ),
    (
        "loss_of_sync_count",
        counter(
            "node_fibrechannel_loss_of_sync_total",
            "Number of failures on either bit or transmission word boundaries",
        ),
    ),
    (
        "nos_count",
        counter(
            "node_fibrechannel_nos_total",
            "Number Not_Operational Primitive Sequence received by host port",
        ),
    ),
    ("rx_frames", counter("node_fibrechannel_rx_frames_total", "Number of frames received")),
    (
        "rx_words",
        counter("node_fibrechannel_rx_words_total", "Number of words received by host port"),
    ),
    (
        "seconds_since_last_reset",
        counter(
            "node_fibrechannel_seconds_since_last_reset_total",
            "Number of seconds since last host port reset",
        ),
    ),
    (
        "tx_frames",
        counter("node_fibrechannel_tx_frames_total", "Number of frames transmitted by host port"),
    ),
    (
        "tx_words",
        counter("node_fibrechannel_tx_words_total", "Number of words transmitted by host port"),
    ),
];

/// `node_fibrechannel_*`.
pub(crate) struct Fibrechannel {
    root: PathBuf,
}

impl Fibrechannel {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Fibrechannel { root: config.sys_root.join("class/fc_host") }
    }
}

impl Survey for Fibrechannel {
    fn name(&self) -> &'static str {
        "fibrechannel"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for host in sysfs::names(&self.root)? {
            read_host(&host, &self.root.join(&host), out);
        }
        Ok(())
    }
}

fn read_host(host: &str, directory: &Path, out: &mut Reading) {
    let of_host = ("fc_host", host);
    let words = WORDS.map(|file| {
        let text = sysfs::text(&directory.join(file)).unwrap_or_default();
        // Names of ports are written in hexadecimal; the label leaves the prefix out.
        text.strip_prefix("0x").map(str::to_owned).unwrap_or(text)
    });
    let labels = WORDS.into_iter().zip(words.iter().map(String::as_str));
    let labels: Vec<(&str, &str)> = labels.chain([of_host]).collect();
    out.put(&INFO, &labels, 1.0);
    for (file, family) in &COUNTS {
        let text = sysfs::text(&directory.join("statistics").join(file));
        // An adapter that does not count something says that all bits are set.
        let count = text.and_then(|text| parse_hex(text.as_bytes())).filter(|&n| n != u64::MAX);
        if let Some(count) = count {
            out.put(family, &[of_host], count as f64);
        }
    }
}
