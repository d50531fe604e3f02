//! Filesystems of type ZFS. Source: `kstat` of the Solaris porting layer, OpenZFS
//! `module/os/linux/spl/spl-kstat.c`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// The files that count for all pools, and the part of the metric's name each stands for.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "abd"),
    ("arcstats", "arc"),
    ("dbufstats", "dbuf"),
    ("dmu_tx", "dmu_tx"),
    ("dnodestats", "dnode"),
    ("fm", "fm"),
    ("vdev_cache_stats", "vdev_cache"),
    ("vdev_mirror_stats", "vdev_mirror"),
    ("xuio_stats", "xuio"),
    ("zfetchstats", "zfetch"),
    ("zil", "zil"),
];

const STATE: Family = Family::gauge("node_zfs_zpool_state", "kstat.zfs.misc.state");
const STATES: [&str; 7] =
    ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

/// `node_zfs_*`.
pub(crate) struct Zfs {
    root: PathBuf,
}

impl Zfs {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Zfs { root: config.proc_root.join("spl/kstat/zfs") }
    }
}

impl Survey for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let names = sysfs::names(&self.root)?;
        for (file, subsystem) in FILES {
            // A version of ZFS has some of them.
            let Some(text) = sysfs::text(&self.root.join(file)) else { continue };
            for (name, number) in Statistics::parse(&text).numbers {
                let metric = format!("node_zfs_{subsystem}_{}", sysfs::metric_name(name));
                let help = format!("kstat.zfs.misc.{file}.{name}");
                out.put_named(&metric, MetricType::Unknown, &help, [], number);
            }
        }
        for pool in names {
            let directory = self.root.join(&pool);
            if directory.is_dir() {
                read_pool(&pool, &directory, out);
            }
        }
        Ok(())
    }
}

fn read_pool(pool: &str, directory: &Path, out: &mut Reading) {
    if let Some(current) = sysfs::text(&directory.join("state")) {
        for state in STATES {
            let is = f64::from(u8::from(current.eq_ignore_ascii_case(state)));
            out.put(&STATE, &[("zpool", pool), ("state", state)], is);
        }
    }
    // One line of names, one of numbers; OpenZFS 2.1 took the file away.
    let io = sysfs::text(&directory.join("io")).unwrap_or_default();
    let mut lines = io.lines().skip(1).map(str::split_ascii_whitespace);
    if let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        for (name, number) in names.zip(numbers) {
            let Ok(number) = number.parse::<f64>() else { continue };
            let metric = format!("node_zfs_zpool_{}", sysfs::metric_name(name));
            let help = format!("kstat.zfs.misc.io.{name}");
            out.put_named(&metric, MetricType::Unknown, &help, [("zpool", pool)], number);
        }
    }
    for file in sysfs::names_if_any(directory) {
        if !file.starts_with("objset-") {
            continue;
        }
        let Some(text) = sysfs::text(&directory.join(&file)) else { continue };
        let statistics = Statistics::parse(&text);
        for (name, number) in statistics.numbers {
            let metric = format!("node_zfs_zpool_dataset_{}", sysfs::metric_name(name));
            let help = format!("kstat.zfs.misc.objset.{name}");
            let labels = [("zpool", pool), ("dataset", statistics.dataset)];
            out.put_named(&metric, MetricType::Unknown, &help, labels, number);
        }
    }
}

/// A file of names with values.
struct Statistics<'a> {
    dataset: &'a str,
    numbers: Vec<(&'a str, f64)>,
}

impl<'a> Statistics<'a> {
    /// Two lines of headings, then lines of name, type and value. The value of a dataset's name
    /// may hold blanks.
    fn parse(text: &'a str) -> Self {
        const SIGNED: &str = "3";
        const UNSIGNED: &str = "4";
        let mut statistics = Statistics { dataset: "", numbers: Vec::new() };
        for line in text.lines().skip(2) {
            let Some((name, rest)) = line.split_once(' ') else { continue };
            let Some((kind, value)) = rest.trim_start().split_once(' ') else { continue };
            let value = value.trim_start();
            if name == "dataset_name" {
                statistics.dataset = value;
            } else if matches!(kind, SIGNED | UNSIGNED)
                && let Ok(number) = value.parse::<f64>()
            {
                statistics.numbers.push((name, number));
            }
        }
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_with_a_name_and_numbers() {
        let text = "24 1 0x01 7 2160 1 2\nname type data\n\
                    dataset_name                    7    pool3/with  space\n\
                    writes                          4    4\n\
                    free                            3    -5\nother 9 7\ncut\ncut 4\n";
        let statistics = Statistics::parse(text);
        assert_eq!(statistics.dataset, "pool3/with  space");
        assert_eq!(statistics.numbers, [("writes", 4.0), ("free", -5.0)]);
    }
}
