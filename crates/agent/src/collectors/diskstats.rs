//! Input and output of block devices. Source: Linux `Documentation/admin-guide/iostats.rst`.

use crate::collector::{Collector, Host, Outcome};
use crate::collectors::disk_info::DiskInfo;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::proc_reader::{ProcFile, fields, lines, parse_u64};
use crate::series::{Family, Keyed, Samples};

/// What one column counts, and its factor to the unit of the metric.
struct Column {
    family: Family,
    factor: f64,
}

const fn counter(name: &'static str, help: &'static str, factor: f64) -> Column {
    Column { family: Family::counter(name, help), factor }
}

/// The kernel counts sectors of 512 bytes whatever the device's own sectors are.
const SECTOR_BYTES: f64 = 512.0;
const SECONDS_PER_MS: f64 = 1.0 / 1_000.0;

/// The columns after the device's name. The last six came with Linux 4.18 and 5.5.
static COLUMNS: [Column; 17] = [
    counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
        1.0,
    ),
    counter("node_disk_reads_merged_total", "The total number of reads merged.", 1.0),
    counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
        SECTOR_BYTES,
    ),
    counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
        SECONDS_PER_MS,
    ),
    counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
        1.0,
    ),
    counter("node_disk_writes_merged_total", "The number of writes merged.", 1.0),
    counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
        SECTOR_BYTES,
    ),
    counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        SECONDS_PER_MS,
    ),
    Column {
        family: Family::gauge("node_disk_io_now", "The number of I/Os currently in progress."),
        factor: 1.0,
    },
    counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.", SECONDS_PER_MS),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
        SECONDS_PER_MS,
    ),
    counter(
        "node_disk_discards_completed_total",
        "The total number of discards completed successfully.",
        1.0,
    ),
    counter("node_disk_discards_merged_total", "The total number of discards merged.", 1.0),
    counter(
        "node_disk_discarded_sectors_total",
        "The total number of sectors discarded successfully.",
        1.0,
    ),
    counter(
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        SECONDS_PER_MS,
    ),
    counter(
        "node_disk_flush_requests_total",
        "The total number of flush requests completed successfully",
        1.0,
    ),
    counter(
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        SECONDS_PER_MS,
    ),
];

/// `node_disk_*`.
pub(crate) struct Diskstats {
    file: ProcFile,
    filter: NameFilter,
    disks: Keyed<17>,
    info: DiskInfo,
}

impl Diskstats {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.diskstats;
        Diskstats {
            file: ProcFile::new(config.proc_root.join("diskstats")),
            filter: NameFilter::new(&settings.device_include, &settings.device_exclude),
            disks: Keyed::new(),
            info: DiskInfo::new(config),
        }
    }
}

impl Collector for Diskstats {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        self.disks.begin();
        self.info.begin(host.now);
        for line in lines(self.file.last()) {
            let mut columns = fields(line);
            let (Some(major), Some(minor), Some(name)) =
                (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            let (Some(major), Some(minor)) = (parse_u64(major), parse_u64(minor)) else { continue };
            if !self.filter.takes_unless(name, is_excluded_disk) {
                continue;
            }
            let row = self.disks.row(name);
            for ((column, place), text) in COLUMNS.iter().zip(&mut row.series).zip(columns) {
                let Some(count) = parse_u64(text) else { break };
                out.put(place, count as f64 * column.factor, |out| {
                    let device = String::from_utf8_lossy(name);
                    out.register(&column.family, &[("device", &device)])
                });
            }
            self.info.emit(name, major, minor, out);
        }
        self.disks.finish(out);
        self.info.finish(out);
        Ok(Outcome::Collected)
    }
}

/// `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`, Node Exporter's default of
/// `--collector.diskstats.device-exclude`: memory disks, and partitions of what is whole.
pub(crate) fn is_excluded_disk(name: &[u8]) -> bool {
    let kind = name.trim_ascii_digits_end();
    if kind.len() == name.len() {
        return false;
    }
    match kind {
        b"ram" | b"zram" | b"loop" | b"fd" => true,
        [b'h' | b's' | b'v', b'd', b'a'..=b'z'] | [b'x', b'v', b'd', b'a'..=b'z'] => true,
        [b'n', b'v', b'm', b'e', rest @ .., b'p'] => {
            let controller = rest.trim_ascii_digits_end().strip_suffix(b"n");
            controller.is_some_and(|c| {
                c.len() + 1 < rest.len() && !c.is_empty() && c.iter().all(u8::is_ascii_digit)
            })
        }
        _ => false,
    }
}

trait TrimDigits {
    /// Without the decimal digits at the end.
    fn trim_ascii_digits_end(&self) -> &[u8];
}

impl TrimDigits for [u8] {
    fn trim_ascii_digits_end(&self) -> &[u8] {
        let kept = self.iter().rposition(|b| !b.is_ascii_digit()).map_or(0, |last| last + 1);
        &self[..kept]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_disks_are_left_out() {
        let excluded = "ram0 zram1 loop12 fd0 sda1 vdb12 xvda1 hdc3 nvme0n1p1 nvme10n12p128";
        for name in excluded.split(' ') {
            assert!(is_excluded_disk(name.as_bytes()), "{name}");
        }
        let kept = "sda vda xvda nvme0n1 nvmep1 nvme0np1 nvmen1p1 dm-0 md127 sr0 mmcblk0p1 sdaa1 \
                    42 nbd0 ram";
        for name in kept.split_ascii_whitespace() {
            assert!(!is_excluded_disk(name.as_bytes()), "{name}");
        }
    }
}
