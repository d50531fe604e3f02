//! Input and output of tape drives. Source: Linux `Documentation/scsi/st.rst`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const SECONDS_PER_NS: f64 = 0.000_000_001;

/// The files of `stats`, and the factor of each to its metric.
const FILES: [(&str, Family, f64); 10] = [
    (
        "in_flight",
        Family::gauge(
            "node_tape_io_now",
            "The number of I/Os currently outstanding to this device.",
        ),
        1.0,
    ),
    (
        "io_ns",
        Family::counter(
            "node_tape_io_time_seconds_total",
            "The amount of time spent waiting for all I/O to complete (including read and write). \
             This includes tape movement commands such as seeking between file or set marks and \
             implicit tape movement such as when rewind on close tape devices are used.",
        ),
        SECONDS_PER_NS,
    ),
    (
        "other_cnt",
        Family::counter(
            "node_tape_io_others_total",
            "The number of I/Os issued to the tape drive other than read or write commands. The \
             time taken to complete these commands uses the following calculation \
             io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
        ),
        1.0,
    ),
    (
        "read_byte_cnt",
        Family::counter(
            "node_tape_read_bytes_total",
            "The number of bytes read from the tape drive.",
        ),
        1.0,
    ),
    (
        "read_cnt",
        Family::counter(
            "node_tape_reads_completed_total",
            "The number of read requests issued to the tape drive.",
        ),
        1.0,
    ),
    (
        "read_ns",
        Family::counter(
            "node_tape_read_time_seconds_total",
            "The amount of time spent waiting for read requests to complete.",
        ),
        SECONDS_PER_NS,
    ),
    (
        "resid_cnt",
        Family::counter(
            "node_tape_residual_total",
            "The number of times during a read or write we found the residual amount to be \
             non-zero. This should mean that a program is issuing a read larger thean the block \
             size on tape. For write not all data made it to tape.",
        ),
        1.0,
    ),
    (
        "write_byte_cnt",
        Family::counter(
            "node_tape_written_bytes_total",
            "The number of bytes written to the tape drive.",
        ),
        1.0,
    ),
    (
        "write_cnt",
        Family::counter(
            "node_tape_writes_completed_total",
            "The number of write requests issued to the tape drive.",
        ),
        1.0,
    ),
    (
        "write_ns",
        Family::counter(
            "node_tape_write_time_seconds_total",
            "The amount of time spent waiting for write requests to complete.",
        ),
        SECONDS_PER_NS,
    ),
];

/// `node_tape_*`.
pub(crate) struct Tapestats {
    root: PathBuf,
    ignored: Option<crate::pattern::Pattern>,
}

impl Tapestats {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Tapestats {
            root: config.sys_root.join("class/scsi_tape"),
            ignored: config.collectors.tapestats.ignored_devices.clone(),
        }
    }
}

impl Survey for Tapestats {
    fn name(&self) -> &'static str {
        "tapestats"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for device in sysfs::names(&self.root)? {
            // Each drive has eight names, for its modes with and without rewinding.
            let ignored = self.ignored.as_ref().is_some_and(|p| p.is_match(device.as_bytes()));
            if sysfs::numbered(&device, "st").is_none() || ignored {
                continue;
            }
            let directory = self.root.join(&device).join("stats");
            for (file, family, factor) in &FILES {
                if let Some(value) = sysfs::number(&directory.join(file)) {
                    out.put(family, &[("device", &*device)], value * factor);
                }
            }
        }
        Ok(())
    }
}
