//! Control groups of units and containers, with cAdvisor's names. Source: Linux
//! `Documentation/admin-guide/cgroup-v2.rst`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::gauge(name, help)
}

/// The lines of `cpu.stat`, and what one unit is in the unit of the metric.
const CPU_STAT: [(&str, Family, f64); 6] = [
    (
        "usage_usec",
        counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds."),
        1e6,
    ),
    (
        "user_usec",
        counter(
            "container_cpu_user_seconds_total",
            "Cumulative user cpu time consumed in seconds.",
        ),
        1e6,
    ),
    (
        "system_usec",
        counter(
            "container_cpu_system_seconds_total",
            "Cumulative system cpu time consumed in seconds.",
        ),
        1e6,
    ),
    (
        "nr_periods",
        counter(
            "container_cpu_cfs_periods_total",
            "Number of elapsed enforcement period intervals.",
        ),
        1.0,
    ),
    (
        "nr_throttled",
        counter(
            "container_cpu_cfs_throttled_periods_total",
            "Number of throttled period intervals.",
        ),
        1.0,
    ),
    (
        "throttled_usec",
        counter(
            "container_cpu_cfs_throttled_seconds_total",
            "Total time duration the container has been throttled.",
        ),
        1e6,
    ),
];

/// Files with one number; `max` means that there is no limit, which cAdvisor shows as 0.
const NUMBERS: [(&str, Family); 5] = [
    (
        "memory.current",
        gauge(
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was \
             accessed",
        ),
    ),
    (
        "memory.peak",
        gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes"),
    ),
    ("memory.swap.current", gauge("container_memory_swap", "Container swap usage in bytes.")),
    ("memory.max", gauge("container_spec_memory_limit_bytes", "Memory limit for the container.")),
    ("pids.current", gauge("container_threads", "Number of threads running inside the container")),
];

/// The lines of `memory.stat`.
const MEMORY_STAT: [(&str, Family); 4] = [
    ("anon", gauge("container_memory_rss", "Size of RSS in bytes.")),
    ("file", gauge("container_memory_cache", "Number of bytes of page cache memory.")),
    ("file_mapped", gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.")),
    ("kernel", gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.")),
];
const WORKING_SET: Family =
    gauge("container_memory_working_set_bytes", "Current working set in bytes.");
const FAILURES: Family =
    counter("container_memory_failures_total", "Cumulative count of memory allocation failures.");
const OOM_EVENTS: Family = counter(
    "container_oom_events_total",
    "Count of out of memory events observed for the container",
);

/// The keys of `io.stat`.
const IO_STAT: [(&str, Family); 4] = [
    ("rbytes", counter("container_fs_reads_bytes_total", "Cumulative count of bytes read")),
    ("wbytes", counter("container_fs_writes_bytes_total", "Cumulative count of bytes written")),
    ("rios", counter("container_fs_reads_total", "Cumulative count of reads completed")),
    ("wios", counter("container_fs_writes_total", "Cumulative count of writes completed")),
];

const QUOTA: Family = gauge("container_spec_cpu_quota", "CPU quota of the container.");
const PERIOD: Family = gauge("container_spec_cpu_period", "CPU period of the container.");

/// Files of pressure, with the metrics of the lines `some` and `full`.
const PRESSURE: [(&str, [Family; 2]); 3] = [
    (
        "cpu.pressure",
        [
            counter(
                "container_pressure_cpu_waiting_seconds_total",
                "Total time duration tasks in the container have waited due to CPU congestion.",
            ),
            counter(
                "container_pressure_cpu_stalled_seconds_total",
                "Total time duration no tasks in the container could make progress due to CPU \
                 congestion.",
            ),
        ],
    ),
    (
        "memory.pressure",
        [
            counter(
                "container_pressure_memory_waiting_seconds_total",
                "Total time duration tasks in the container have waited due to memory congestion.",
            ),
            counter(
                "container_pressure_memory_stalled_seconds_total",
                "Total time duration no tasks in the container could make progress due to memory \
                 congestion.",
            ),
        ],
    ),
    (
        "io.pressure",
        [
            counter(
                "container_pressure_io_waiting_seconds_total",
                "Total time duration tasks in the container have waited due to IO congestion.",
            ),
            counter(
                "container_pressure_io_stalled_seconds_total",
                "Total time duration no tasks in the container could make progress due to IO \
                 congestion.",
            ),
        ],
    ),
];

/// Deeper than any group of Kubernetes.
const MAX_DEPTH: usize = 8;

/// More groups than a host of this many containers has; the rest is left out.
const MAX_GROUPS: usize = 2_000;

/// `container_*` of each unit of systemd and each container, read from cgroup v2.
///
/// The label `id` is the path of the group, as in cAdvisor. The label `name` is the name of the
/// unit, or the first twelve digits of the container's identifier: names and images of containers
/// are known only to their runtime.
pub(crate) struct Container {
    root: PathBuf,
    block_root: PathBuf,
}

impl Container {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        // Where both versions are in use, the second lies beside the controllers of the first.
        let whole = config.sys_root.join("fs/cgroup");
        let beside = whole.join("unified");
        Container {
            root: if beside.is_dir() { beside } else { whole },
            block_root: config.sys_root.join("dev/block"),
        }
    }
}

impl Survey for Container {
    fn name(&self) -> &'static str {
        "container"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        // Only the second version has this file.
        if !self.root.join("cgroup.controllers").is_file() {
            return Err(AgentError::NoData { path: self.root.join("cgroup.controllers") });
        }
        let mut groups = Vec::new();
        find_groups(&self.root, "", 0, &mut groups);
        for id in groups {
            let name = display_name(&id);
            let labels = [("id", &*id), ("name", &*name)];
            self.read_group(&self.root.join(id.trim_start_matches('/')), &labels, out);
        }
        Ok(())
    }
}

/// The paths of all groups that are a unit, a slice or a container, seen from the root.
fn find_groups(directory: &Path, path: &str, depth: usize, groups: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    for name in sysfs::names_if_any(directory) {
        let below = directory.join(&name);
        if groups.len() >= MAX_GROUPS || !below.join("cgroup.controllers").is_file() {
            continue;
        }
        let id = format!("{path}/{name}");
        let is_unit = [".service", ".scope"].iter().any(|end| name.ends_with(end));
        if is_unit || name.ends_with(".slice") || container_id(&name).is_some() {
            groups.push(id.clone());
        }
        // What a unit does with the group that was delegated to it is its own affair.
        if !is_unit {
            find_groups(&below, &id, depth + 1, groups);
        }
    }
}

/// The identifier in `docker-<64 digits>.scope`, `cri-containerd-<64 digits>.scope` and the like.
fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

fn display_name(id: &str) -> String {
    let last = id.rsplit('/').next().unwrap_or(id);
    container_id(last).and_then(|id| id.get(..12)).unwrap_or(last).to_owned()
}

impl Container {
    fn read_group(&self, directory: &Path, labels: &[(&str, &str); 2], out: &mut Reading) {
        let text = |file: &str| sysfs::text(&directory.join(file)).unwrap_or_default();
        let cpu = text("cpu.stat");
        for (key, family, divisor) in &CPU_STAT {
            if let Some(value) = value_of(&cpu, key) {
                out.put(family, labels, value / divisor);
            }
        }
        if let Some((quota, period)) = text("cpu.max").split_once(' ')
            && let Ok(period) = period.parse::<f64>()
        {
            out.put(&PERIOD, labels, period);
            // Without a quota the file says `max`.
            quota.parse::<f64>().into_iter().for_each(|quota| out.put(&QUOTA, labels, quota));
        }
        for (file, family) in &NUMBERS {
            let value = text(file);
            let value = if value == "max" { Some(0.0) } else { value.parse().ok() };
            value.into_iter().for_each(|value| out.put(family, labels, value));
        }
        put_memory(&text("memory.current"), &text("memory.stat"), labels, out);
        if let Some(kills) = value_of(&text("memory.events"), "oom_kill") {
            out.put(&OOM_EVENTS, labels, kills);
        }
        self.put_io(&text("io.stat"), labels, out);
        for (file, families) in &PRESSURE {
            let pressure = text(file);
            for (family, line) in families.iter().zip(["some", "full"]) {
                let line = pressure.lines().find(|text| text.starts_with(line));
                let total = line.and_then(|line| line.rsplit_once("total=")?.1.parse::<f64>().ok());
                total.into_iter().for_each(|total| out.put(family, labels, total / 1e6));
            }
        }
    }

    /// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
    fn put_io(&self, text: &str, labels: &[(&str, &str); 2], out: &mut Reading) {
        for line in text.lines() {
            let Some((numbers, counts)) = line.split_once(' ') else { continue };
            let device = self.block_root.join(numbers).canonicalize().ok();
            let device = device.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            let device = device.map_or_else(|| numbers.to_owned(), |name| format!("/dev/{name}"));
            let labels = [labels[0], labels[1], ("device", &*device)];
            for (key, count) in counts.split(' ').filter_map(|pair| pair.split_once('=')) {
                let family = IO_STAT.iter().find(|(name, _)| *name == key);
                if let (Some((_, family)), Ok(count)) = (family, count.parse::<f64>()) {
                    out.put(family, &labels, count);
                }
            }
        }
    }
}

fn put_memory(current: &str, stat: &str, labels: &[(&str, &str); 2], out: &mut Reading) {
    for (key, family) in &MEMORY_STAT {
        value_of(stat, key).into_iter().for_each(|value| out.put(family, labels, value));
    }
    if let (Ok(usage), Some(inactive)) = (current.parse::<f64>(), value_of(stat, "inactive_file")) {
        out.put(&WORKING_SET, labels, (usage - inactive).max(0.0));
    }
    for key in ["pgfault", "pgmajfault"] {
        if let Some(count) = value_of(stat, key) {
            let labels = [labels[0], labels[1], ("failure_type", key), ("scope", "container")];
            out.put(&FAILURES, &labels, count);
        }
    }
}

/// The number on the line that begins with `key` and a blank.
fn value_of(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(display_name("/system.slice/ssh.service"), "ssh.service");
        for name in [id.clone(), format!("docker-{id}.scope"), format!("cri-containerd:{id}")] {
            assert_eq!(display_name(&format!("/a.slice/{name}")), "0123456789ab", "{name}");
        }
        assert_eq!(container_id("session-1.scope"), None);
    }

    #[test]
    fn groups_are_found_and_units_are_not_entered() {
        let root = tempfile::tempdir().expect("temporary directory");
        let id = "f".repeat(64);
        for path in ["system.slice/ssh.service/inner.slice", "docker/x", &format!("docker/{id}")] {
            let directory = root.path().join(path);
            std::fs::create_dir_all(&directory).expect("directory");
            for group in directory.ancestors().take_while(|path| path != &root.path()) {
                std::fs::write(group.join("cgroup.controllers"), "cpu\n").expect("write");
            }
        }
        let mut groups = Vec::new();
        find_groups(root.path(), "", 0, &mut groups);
        let docker = format!("/docker/{id}");
        assert_eq!(groups, [docker.as_str(), "/system.slice", "/system.slice/ssh.service"]);
    }

    #[test]
    fn what_a_group_uses() {
        let root = tempfile::tempdir().expect("temporary directory");
        let group = root.path().join("fs/cgroup/system.slice/ssh.service");
        std::fs::create_dir_all(&group).expect("directory");
        for directory in group.ancestors().take(3) {
            std::fs::write(directory.join("cgroup.controllers"), "cpu\n").expect("write");
        }
        for (file, text) in [
            ("cpu.stat", "usage_usec 2500000\nuser_usec 2000000\nnr_periods 3\n"),
            ("cpu.max", "max 100000\n"),
            ("memory.current", "5000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 10\nfile 20\nfile_mapped 30\ninactive_file 1000\npgfault 7\n"),
            ("memory.events", "oom 1\noom_kill 2\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n"),
            ("memory.pressure", "some avg10=0.00 total=1500000\nfull avg10=0.00 total=0\n"),
        ] {
            std::fs::write(group.join(file), text).expect("write");
        }
        let config = AgentConfig { sys_root: root.path().to_owned(), ..AgentConfig::default() };
        let mut reading = Reading::default();
        Container::new(&config).read(&mut reading).expect("readable");
        let prefix = " id=/system.slice/ssh.service name=ssh.service";
        let lines: Vec<_> = reading.lines().iter().map(|line| line.replace(prefix, "")).collect();
        assert_eq!(
            lines,
            [
                "container_cpu_usage_seconds_total 2.5",
                "container_cpu_user_seconds_total 2",
                "container_cpu_cfs_periods_total 3",
                "container_spec_cpu_period 100000",
                "container_memory_usage_bytes 5000",
                "container_spec_memory_limit_bytes 0",
                "container_memory_rss 10",
                "container_memory_cache 20",
                "container_memory_mapped_file 30",
                "container_memory_working_set_bytes 4000",
                "container_memory_failures_total failure_type=pgfault scope=container 7",
                "container_oom_events_total 2",
                "container_fs_reads_bytes_total device=8:0 1",
                "container_fs_writes_bytes_total device=8:0 2",
                "container_fs_reads_total device=8:0 3",
                "container_fs_writes_total device=8:0 4",
                "container_pressure_memory_waiting_seconds_total 1.5",
                "container_pressure_memory_stalled_seconds_total 0",
            ]
        );
    }
}
