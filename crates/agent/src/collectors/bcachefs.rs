//! Filesystems of type bcachefs. Source: the principles of operation of bcachefs, section on
//! sysfs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::gauge(name, help)
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

const INFO: Family = gauge("node_bcachefs_info", "Filesystem information.");
const CACHE_SIZE: Family =
    gauge("node_bcachefs_btree_cache_size_bytes", "Btree cache memory usage in bytes.");
const COMPRESSED: Family =
    gauge("node_bcachefs_compression_compressed_bytes", "Compressed size by algorithm.");
const UNCOMPRESSED: Family =
    gauge("node_bcachefs_compression_uncompressed_bytes", "Uncompressed size by algorithm.");
const ERRORS: Family = counter("node_bcachefs_errors_total", "Error count by error type.");
const WRITES: Family =
    counter("node_bcachefs_btree_writes_total", "Number of btree writes by type.");
const WRITE_SIZE: Family =
    gauge("node_bcachefs_btree_write_average_size_bytes", "Average btree write size by type.");
const DEVICE_INFO: Family = gauge("node_bcachefs_device_info", "Device information.");
const DEVICE_NUMBERS: [(&str, Family); 3] = [
    ("bucket_size", gauge("node_bcachefs_device_bucket_size_bytes", "Bucket size in bytes.")),
    ("nbuckets", gauge("node_bcachefs_device_buckets", "Total number of buckets.")),
    ("durability", gauge("node_bcachefs_device_durability", "Device durability setting.")),
];
const IO_DONE: Family = counter(
    "node_bcachefs_device_io_done_bytes_total",
    "IO bytes by operation type and data type.",
);
const IO_ERRORS: Family =
    counter("node_bcachefs_device_io_errors_total", "IO errors by error type.");

/// `node_bcachefs_*`.
pub(crate) struct Bcachefs {
    root: PathBuf,
}

impl Bcachefs {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Bcachefs { root: config.sys_root.join("fs/bcachefs") }
    }
}

impl Survey for Bcachefs {
    fn name(&self) -> &'static str {
        "bcachefs"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for uuid in sysfs::names(&self.root)? {
            let directory = self.root.join(&uuid);
            if directory.is_dir() {
                read_filesystem(("uuid", &uuid), &directory, out);
            }
        }
        Ok(())
    }
}

fn read_filesystem(filesystem: (&str, &str), directory: &Path, out: &mut Reading) {
    out.put(&INFO, &[filesystem], 1.0);
    let text = |file: &str| sysfs::text(&directory.join(file)).unwrap_or_default();
    if let Some(size) = parse_size(&text("btree_cache_size")) {
        out.put(&CACHE_SIZE, &[filesystem], size);
    }
    for line in text("compression_stats").lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [algorithm, compressed, uncompressed, ..] = fields[..] else { continue };
        let labels = [filesystem, ("algorithm", algorithm)];
        for (family, size) in [(&COMPRESSED, compressed), (&UNCOMPRESSED, uncompressed)] {
            parse_size(size).into_iter().for_each(|size| out.put(family, &labels, size));
        }
    }
    for line in text("btree_write_stats").lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [kind, count, size] = fields[..] else { continue };
        let labels = [filesystem, ("type", kind.trim_end_matches(':'))];
        for (family, number) in [(&WRITES, count), (&WRITE_SIZE, size)] {
            parse_size(number).into_iter().for_each(|number| out.put(family, &labels, number));
        }
    }
    for line in text("errors").lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(kind), Some(count)) = (fields.next(), fields.next()) else { continue };
        if let Ok(count) = count.parse::<f64>() {
            out.put(&ERRORS, &[filesystem, ("error_type", kind)], count);
        }
    }
    let counters = directory.join("counters");
    for name in sysfs::names_if_any(&counters) {
        let text = sysfs::text(&counters.join(&name)).unwrap_or_default();
        let ever = text.lines().find_map(|line| line.strip_prefix("since filesystem creation:"));
        if let Some(count) = ever.and_then(|count| parse_size(count.trim())) {
            let metric = format!("node_bcachefs_{}_total", sysfs::metric_name(&name));
            let help = format!("Bcachefs counter {name} since filesystem creation.");
            out.put_named(&metric, MetricType::Counter, &help, [filesystem], count);
        }
    }
    for name in sysfs::names_if_any(directory) {
        if let Some(device) = sysfs::numbered(&name, "dev-") {
            read_device([filesystem, ("device", device)], &directory.join(&name), out);
        }
    }
}

fn read_device(device: [(&str, &str); 2], directory: &Path, out: &mut Reading) {
    let text = |file: &str| sysfs::text(&directory.join(file)).unwrap_or_default();
    let (label, state) = (text("label"), text("state"));
    out.put(&DEVICE_INFO, &[device[0], device[1], ("label", &label), ("state", &state)], 1.0);
    for (file, family) in &DEVICE_NUMBERS {
        parse_size(&text(file)).into_iter().for_each(|number| out.put(family, &device, number));
    }
    // `read:` or `write:`, then lines such as `btree : 5242880`.
    let io_done = text("io_done");
    let mut operation = "";
    for line in io_done.lines() {
        let Some((key, bytes)) = line.split_once(':') else { continue };
        match bytes.trim().parse::<f64>() {
            Ok(bytes) => {
                let labels =
                    [device[0], device[1], ("operation", operation), ("data_type", key.trim())];
                out.put(&IO_DONE, &labels, bytes);
            }
            Err(_) => operation = key.trim(),
        }
    }
    // Counts since the filesystem was made, then counts since they were reset.
    for line in text("io_errors").lines().skip(1).take_while(|line| line.starts_with(' ')) {
        let Some((kind, count)) = line.split_once(':') else { continue };
        if let Ok(count) = count.trim().parse::<f64>() {
            out.put(&IO_ERRORS, &[device[0], device[1], ("type", kind.trim())], count);
        }
    }
}

/// A number as bcachefs writes it for people, `2.05G`, in whole units.
fn parse_size(text: &str) -> Option<f64> {
    let (number, power) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => {
            let units = ["k", "M", "G", "T", "P", "E"];
            let power = units.iter().position(|unit| *unit == &text[at..])?;
            (&text[..at], power as i32 + 1)
        }
        None => (text, 0),
    };
    Some((number.parse::<f64>().ok()? * 1_024_f64.powi(power)).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(parse_size("720"), Some(720.0));
        assert_eq!(parse_size("28.2k"), Some(28_876.0));
        assert_eq!(parse_size("2.05G"), Some(2_201_170_739.0));
        for wrong in ["", "k", "1.5Q", "x1"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }
}
