//! What the system says of memory.

use std::path::{Path, PathBuf};

/// How much memory there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Of the machine, bytes.
    pub machine_bytes: u64,
    /// The least of what the control groups around this process allow, if that is less.
    pub group_bytes: Option<u64>,
}

impl Memory {
    /// What this process may use at most, bytes.
    pub fn usable_bytes(&self) -> u64 {
        self.group_bytes.unwrap_or(self.machine_bytes)
    }
}

/// Reads `/proc/meminfo` and the control groups (v2, or the memory controller of v1) below `root`,
/// which is `/` but in tests. `None` where the system does not tell.
pub fn memory_below(root: &Path) -> Option<Memory> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let meminfo = read(&root.join("proc/meminfo"))?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    let machine_bytes = kib.checked_mul(1 << 10)?;
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits_of(root, line));
    // v1 without a limit says a number near the largest there is.
    let group_bytes = limits.min().filter(|bytes| *bytes < machine_bytes);
    Some(Memory { machine_bytes, group_bytes })
}

/// The limits of one group and of all groups above it, by its line `ID:CONTROLLERS:PATH`.
fn limits_of(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mounts, file): (&[&str], _) = if controllers.is_empty() {
        (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.max")
    } else if controllers.split(',').any(|one| one == "memory") {
        (&["sys/fs/cgroup/memory"], "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    // Inside a container the group's own name may not be visible, and the mount is the group.
    let group = Path::new(group.trim_start_matches('/'));
    let paths = mounts.iter().flat_map(|mount| {
        group.ancestors().map(move |group| root.join(mount).join(group).join(file))
    });
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    paths.filter_map(number).collect()
}

/// The anonymous memory of this process that is in RAM, bytes: what cannot be read again from a
/// file. `None` where the system does not tell.
pub(crate) fn anonymous_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let figure = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    // What lies in swap was in RAM and will be again.
    let kib = figure("RssAnon:")? + figure("VmSwap:").unwrap_or(0);
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_around_the_process_counts() {
        let root = tempfile::tempdir().expect("directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        assert_eq!(memory_below(root.path()), None);
        write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");
        let seen = || memory_below(root.path()).expect("told");
        assert_eq!(seen(), Memory { machine_bytes: 1_024_000, group_bytes: None });
        write("proc/self/cgroup", "0::/system.slice/a.service\n");
        write("sys/fs/cgroup/system.slice/a.service/memory.max", "max\n");
        assert_eq!(seen().usable_bytes(), 1_024_000);
        write("sys/fs/cgroup/system.slice/memory.max", "5000\n");
        assert_eq!(seen().group_bytes, Some(5_000));
        write("proc/self/cgroup", "5:cpu,memory:/docker/1\n0::/none\n");
        write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(seen().group_bytes, None);
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
        assert_eq!(seen().usable_bytes(), 7_000);
    }

    #[test]
    fn this_process_has_memory() {
        let taken = vec![1_u8; 64 << 20];
        let seen = anonymous_bytes().expect("Linux tells");
        assert!(seen >= taken.len() as u64, "{seen}");
    }
}
