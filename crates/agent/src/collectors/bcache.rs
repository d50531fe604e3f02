//! Block caches. Source: Linux `Documentation/admin-guide/bcache.rst`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

macro_rules! families {
    ($($file:literal $kind:ident $name:literal $help:literal,)+) => {
        &[$(($file, Family::$kind(concat!("node_bcache_", $name), $help)),)+]
    };
}

/// Of a set of caches.
const SET: &[(&str, Family)] = families![
    "average_key_size" gauge "average_key_size_sectors"
        "Average data per key in the btree (sectors).",
    "btree_cache_size" gauge "btree_cache_size_bytes"
        "Amount of memory currently used by the btree cache.",
    "cache_available_percent" gauge "cache_available_percent"
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
    "congested" gauge "congested" "Congestion.",
    "root_usage_percent" gauge "root_usage_percent"
        "Percentage of the root btree node in use (tree depth increases if too high).",
    "tree_depth" gauge "tree_depth" "Depth of the btree.",
    "internal/active_journal_entries" gauge "active_journal_entries"
        "Number of journal entries that are newer than the index.",
    "internal/btree_nodes" gauge "btree_nodes" "Total nodes in the btree.",
    "internal/cache_read_races" counter "cache_read_races_total"
        "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. where the pointer was stale after the read completed.",
];

const READ_DURATION: Family = Family::gauge(
    "node_bcache_btree_read_average_duration_seconds",
    "Average btree read duration.",
);

/// Of a device that is cached.
const BACKING: &[(&str, Family)] = families![
    "dirty_data" gauge "dirty_data_bytes"
        "Amount of dirty data for this backing device in the cache.",
    "stats_total/bypassed" counter "bypassed_bytes_total"
        "Amount of IO (both reads and writes) that has bypassed the cache.",
    "stats_total/cache_hits" counter "cache_hits_total"
        "Hits counted per individual IO as bcache sees them.",
    "stats_total/cache_misses" counter "cache_misses_total"
        "Misses counted per individual IO as bcache sees them.",
    "stats_total/cache_bypass_hits" counter "cache_bypass_hits_total"
        "Hits for IO intended to skip the cache.",
    "stats_total/cache_bypass_misses" counter "cache_bypass_misses_total"
        "Misses for IO intended to skip the cache.",
    "stats_total/cache_miss_collisions" counter "cache_miss_collisions_total"
        "Instances where data insertion from cache miss raced with write (data already present).",
    "stats_total/cache_readaheads" counter "cache_readaheads_total"
        "Count of times readahead occurred.",
];

/// The lines of `writeback_rate_debug`.
const WRITEBACK: &[(&str, Family)] = families![
    "rate" gauge "writeback_rate" "Current writeback rate for this backing device in bytes.",
    "target" gauge "dirty_target_bytes"
        "Current dirty data target threshold for this backing device in bytes.",
    "proportional" gauge "writeback_rate_proportional_term"
        "Current result of proportional controller, part of writeback rate",
    "integral" gauge "writeback_rate_integral_term"
        "Current result of integral controller, part of writeback rate",
    "change" gauge "writeback_change"
        "Last writeback rate change step for this backing device.",
];

/// Of a device that caches.
const CACHE: &[(&str, Family)] = families![
    "io_errors" gauge "io_errors"
        "Number of errors that have occurred, decayed by io_error_halflife.",
    "metadata_written" counter "metadata_written_bytes_total"
        "Sum of all non data writes (btree writes and all other metadata).",
    "written" counter "written_bytes_total"
        "Sum of all data that has been written to the cache.",
];

/// The lines of `priority_stats`.
const PRIORITY: &[(&str, Family)] = families![
    "Unused" gauge "priority_stats_unused_percent"
        "The percentage of the cache that doesn't contain any data.",
    "Metadata" gauge "priority_stats_metadata_percent" "Bcache's metadata overhead.",
];

/// `node_bcache_*`.
pub(crate) struct Bcache {
    root: PathBuf,
    priority_stats: bool,
}

impl Bcache {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Bcache {
            root: config.sys_root.join("fs/bcache"),
            priority_stats: config.collectors.bcache.priority_stats,
        }
    }
}

impl Survey for Bcache {
    fn name(&self) -> &'static str {
        "bcache"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for uuid in sysfs::names_if_any(&self.root) {
            let directory = self.root.join(&uuid);
            // Beside the sets lie `register` and the like, which are files.
            if !directory.is_dir() {
                continue;
            }
            let set = ("uuid", &*uuid);
            put_files(SET, &directory, &[set], out);
            let duration =
                sysfs::number(&directory.join("internal/btree_read_average_duration_us"));
            if let Some(duration) = duration {
                // Whatever the file's name says, Node Exporter takes these for nanoseconds.
                out.put(&READ_DURATION, &[set], duration * 1e-9);
            }
            for name in sysfs::names_if_any(&directory) {
                let device = directory.join(&name);
                if sysfs::numbered(&name, "bdev").is_some() {
                    let labels = [set, ("backing_device", &*name)];
                    put_files(BACKING, &device, &labels, out);
                    put_lines(WRITEBACK, &device.join("writeback_rate_debug"), &labels, out);
                } else if sysfs::numbered(&name, "cache").is_some() {
                    let labels = [set, ("cache_device", &*name)];
                    put_files(CACHE, &device, &labels, out);
                    if self.priority_stats {
                        put_lines(PRIORITY, &device.join("priority_stats"), &labels, out);
                    }
                }
            }
        }
        Ok(())
    }
}

fn put_files(
    files: &[(&str, Family)],
    directory: &Path,
    labels: &[(&str, &str)],
    out: &mut Reading,
) {
    for (file, family) in files {
        let text = sysfs::text(&directory.join(file));
        if let Some(value) = text.as_deref().and_then(parse_size) {
            out.put(family, labels, value);
        }
    }
}

/// Lines such as `rate: 1.1M/sec` or `Unused: 99%`.
fn put_lines(keys: &[(&str, Family)], file: &Path, labels: &[(&str, &str)], out: &mut Reading) {
    let text = sysfs::text(file).unwrap_or_default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim().trim_end_matches("/sec").trim_end_matches('%');
        let family = keys.iter().find(|(name, _)| *name == key);
        if let (Some((_, family)), Some(value)) = (family, parse_size(value)) {
            out.put(family, labels, value);
        }
    }
}

/// A number as bcache writes it for people: `20.4G`, where the digit after the point counts
/// hundred 1,024ths (Linux `drivers/md/bcache/util.c`, `bch_hprint`).
fn parse_size(text: &str) -> Option<f64> {
    let (number, power) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => {
            let power = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
            let power = power.iter().position(|unit| *unit == &text[at..])?;
            (&text[..at], power as i32 + 1)
        }
        None => (text, 0),
    };
    let unit = 1_024_f64.powi(power);
    let Some((whole, digit)) = number.split_once('.') else {
        return Some(number.parse::<f64>().ok()? * unit);
    };
    let negative = whole.starts_with('-');
    let fraction = digit.parse::<f64>().ok()? * 100.0 / 1_024.0;
    let whole = whole.parse::<f64>().ok()?;
    Some((if negative { whole - fraction } else { whole + fraction }) * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(parse_size("512"), Some(512.0));
        assert_eq!(parse_size("1.1M"), Some(1_150_976.0));
        assert_eq!(parse_size("-427.5k"), Some(-437_748.0));
        assert_eq!(parse_size("20.4G"), Some(21_894_266_880.0));
        for wrong in ["", "k", "17ms", "1.x", "é"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }
}
