//! Processes by the name of their command, as process-exporter groups them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

const PROCESSES: Family =
    gauge("namedprocess_namegroup_num_procs", "Number of processes in this group.");
const THREADS: Family =
    gauge("namedprocess_namegroup_num_threads", "Number of threads in this group.");
const MEMORY: Family =
    gauge("namedprocess_namegroup_memory_bytes", "Bytes of memory in use by this group.");
const CPU: Family = counter(
    "namedprocess_namegroup_cpu_seconds_total",
    "CPU time used by this group, user and system apart, in seconds.",
);
const FAULTS: [Family; 2] = [
    counter(
        "namedprocess_namegroup_minor_page_faults_total",
        "Page faults of this group that needed no disk.",
    ),
    counter(
        "namedprocess_namegroup_major_page_faults_total",
        "Page faults of this group that read from disk.",
    ),
];
const IO: [Family; 2] = [
    counter("namedprocess_namegroup_read_bytes_total", "Bytes this group had read from storage."),
    counter("namedprocess_namegroup_write_bytes_total", "Bytes this group had written to storage."),
];

/// USER_HZ, as in `/proc/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

/// How many groups are shown besides the configured ones, unless the configuration says.
const DEFAULT_TOP: usize = 10;

/// `namedprocess_namegroup_*` for the configured names and for the groups that use the most CPU
/// time or hold the most memory.
///
/// A counter is the sum of what the processes of a group used since the agent started, so it
/// goes on rising when one of them ends. Input and output are those of processes whose `io` the
/// agent may read: its own user's, or all if it has `CAP_SYS_PTRACE`.
pub(crate) struct ProcessGroup {
    proc_root: PathBuf,
    names: BTreeSet<String>,
    top: usize,
    page_bytes: f64,
    /// What each process had used at the last run, by number and start.
    known: HashMap<(u32, u64), [u64; COUNTS]>,
    groups: BTreeMap<String, Group>,
    is_first: bool,
}

/// User ticks, system ticks, minor faults, major faults, bytes read, bytes written.
const COUNTS: usize = 6;

/// A group of processes with one name.
#[derive(Debug, Default)]
struct Group {
    /// Sums since the agent started.
    used: [u64; COUNTS],
    /// CPU ticks in the last run.
    recent_ticks: u64,
    processes: u64,
    threads: u64,
    resident_pages: u64,
    virtual_bytes: u64,
}

impl ProcessGroup {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.process_group;
        ProcessGroup {
            proc_root: config.proc_root.clone(),
            names: settings.names.iter().cloned().collect(),
            top: settings.top.unwrap_or(DEFAULT_TOP),
            page_bytes: rustix::param::page_size() as f64,
            known: HashMap::new(),
            groups: BTreeMap::new(),
            is_first: true,
        }
    }

    /// Adds up the processes that run now.
    fn scan(&mut self) -> Result<(), AgentError> {
        for group in self.groups.values_mut() {
            *group = Group { used: group.used, ..Group::default() };
        }
        let mut known = HashMap::with_capacity(self.known.len());
        for name in sysfs::names(&self.proc_root)? {
            let Ok(pid) = name.parse::<u32>() else { continue };
            let directory = self.proc_root.join(&name);
            // A process that ended since it was listed is no process any more.
            let Ok(stat) = sysfs::read_text(&directory.join("stat")) else { continue };
            let Some(process) = Process::parse(&stat, &directory) else { continue };
            // What was used before the agent started is nobody's use.
            let before = self.known.get(&(pid, process.started)).copied();
            let before = before.unwrap_or(if self.is_first { process.used } else { [0; COUNTS] });
            let group = self.groups.entry(process.name).or_default();
            for ((sum, now), before) in group.used.iter_mut().zip(process.used).zip(before) {
                *sum += now.saturating_sub(before);
            }
            let ticks = |used: [u64; COUNTS]| used[0] + used[1];
            group.recent_ticks += ticks(process.used).saturating_sub(ticks(before));
            group.processes += 1;
            group.threads += process.threads;
            group.resident_pages += process.resident_pages;
            group.virtual_bytes += process.virtual_bytes;
            known.insert((pid, process.started), process.used);
        }
        self.known = known;
        self.is_first = false;
        // Names come and go without end; a group without processes that nobody asked for is
        // forgotten, and begins again at zero should it return.
        let names = &self.names;
        self.groups.retain(|name, group| group.processes > 0 || names.contains(name));
        Ok(())
    }

    /// The names of the groups that are shown.
    fn shown(&self) -> BTreeSet<&str> {
        let mut shown: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        let keys: [fn(&Group) -> u64; 2] =
            [|group| group.recent_ticks, |group| group.resident_pages];
        for key in keys {
            let mut ranked: Vec<(u64, &str)> = self
                .groups
                .iter()
                .map(|(name, group)| (key(group), name.as_str()))
                .filter(|(value, _)| *value > 0)
                .collect();
            ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            shown.extend(ranked.into_iter().take(self.top).map(|(_, name)| name));
        }
        shown
    }

    fn put(&self, name: &str, group: &Group, out: &mut Reading) {
        let of_group = ("groupname", name);
        out.put(&PROCESSES, &[of_group], group.processes as f64);
        out.put(&THREADS, &[of_group], group.threads as f64);
        for (kind, bytes) in [
            ("resident", group.resident_pages as f64 * self.page_bytes),
            ("virtual", group.virtual_bytes as f64),
        ] {
            out.put(&MEMORY, &[of_group, ("memtype", kind)], bytes);
        }
        let [user, system, minor, major, read, written] = group.used;
        for (mode, ticks) in [("user", user), ("system", system)] {
            out.put(&CPU, &[of_group, ("mode", mode)], ticks as f64 / TICKS_PER_SECOND);
        }
        for (family, count) in
            FAULTS.iter().zip([minor, major]).chain(IO.iter().zip([read, written]))
        {
            out.put(family, &[of_group], count as f64);
        }
    }
}

impl Survey for ProcessGroup {
    fn name(&self) -> &'static str {
        "process_group"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        self.scan()?;
        let none = Group::default();
        for name in self.shown() {
            self.put(name, self.groups.get(name).unwrap_or(&none), out);
        }
        Ok(())
    }
}

/// One process.
#[derive(Debug, PartialEq)]
struct Process {
    name: String,
    /// In clock ticks since boot; tells two users of one number apart.
    started: u64,
    threads: u64,
    resident_pages: u64,
    virtual_bytes: u64,
    used: [u64; COUNTS],
}

impl Process {
    /// Source: `proc_pid_stat(5)`. The name stands in parentheses and may hold any byte.
    fn parse(stat: &str, directory: &Path) -> Option<Self> {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The manual counts from 1 and the state, which is the first here, is the third there.
        let number = |manual: usize| fields.get(manual - 3)?.parse::<u64>().ok();
        let [read, written] = read_io(directory);
        Some(Process {
            name: name.to_owned(),
            started: number(22)?,
            threads: number(20)?,
            resident_pages: number(24).unwrap_or(0),
            virtual_bytes: number(23)?,
            used: [number(14)?, number(15)?, number(10)?, number(12)?, read, written],
        })
    }
}

/// Bytes a process had read and written. Source: `proc_pid_io(5)`.
fn read_io(directory: &Path) -> [u64; 2] {
    let text = sysfs::text(&directory.join("io")).unwrap_or_default();
    ["read_bytes: ", "write_bytes: "].map(|key| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.parse().ok());
        line.unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector_settings::ProcessGroupSettings;

    struct Host {
        root: tempfile::TempDir,
        groups: ProcessGroup,
    }

    impl Host {
        fn new(names: &[&str], top: usize) -> Self {
            let root = tempfile::tempdir().expect("temporary directory");
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let mut config =
                AgentConfig { proc_root: root.path().to_owned(), ..AgentConfig::default() };
            config.collectors.process_group = ProcessGroupSettings { names, top: Some(top) };
            Host { groups: ProcessGroup::new(&config), root }
        }

        fn write(&self, pid: u32, name: &str, ticks: u64, pages: u64) {
            let directory = self.root.path().join(pid.to_string());
            std::fs::create_dir_all(&directory).expect("directory");
            let stat = format!(
                "{pid} ({name}) S 1 1 1 0 -1 4 7 0 8 0 {ticks} 0 0 0 20 0 2 0 29 4096 {pages} 0\n"
            );
            std::fs::write(directory.join("stat"), stat).expect("write");
            let io = format!("rchar: 1\nread_bytes: {ticks}\nwrite_bytes: 0\n");
            std::fs::write(directory.join("io"), io).expect("write");
        }

        fn shown(&mut self) -> Vec<(String, u64, u64)> {
            self.groups.scan().expect("listed");
            let shown = self.groups.shown();
            let of = |name: &&str| self.groups.groups.get(*name);
            let row = |name: &str, group: &Group| (name.to_owned(), group.used[0], group.processes);
            shown.iter().filter_map(|name| Some(row(name, of(name)?))).collect()
        }
    }

    #[test]
    fn use_adds_up_over_processes_that_come_and_go() {
        let mut host = Host::new(&["sh"], 1);
        host.write(1, "sh", 100, 1);
        host.write(2, "sh) x", 50, 9);
        let row = |name: &str, used, processes| (name.to_owned(), used, processes);
        assert_eq!(host.shown(), [row("sh", 0, 1), row("sh) x", 0, 1)]);
        host.write(1, "sh", 130, 1);
        host.write(3, "sh", 7, 1);
        assert_eq!(host.shown(), [row("sh", 37, 2), row("sh) x", 0, 1)]);
        std::fs::remove_dir_all(host.root.path().join("1")).expect("ended");
        assert_eq!(host.shown()[0], row("sh", 37, 1));
        std::fs::remove_dir_all(host.root.path().join("3")).expect("ended");
        assert_eq!(host.shown()[0], row("sh", 37, 0), "a configured group is kept");
    }

    #[test]
    fn only_the_greatest_are_shown() {
        let mut host = Host::new(&[], 1);
        for (pid, name) in [(1, "idle"), (2, "busy"), (3, "large")] {
            host.write(pid, name, 10, 1);
        }
        host.shown();
        host.write(2, "busy", 20, 1);
        host.write(3, "large", 10, 9);
        let names: Vec<_> = host.shown().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["busy", "large"]);
    }
}
