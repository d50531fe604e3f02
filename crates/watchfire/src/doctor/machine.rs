//! Files of the system, below a root that tests replace.

use std::path::{Path, PathBuf};

/// The machine looked at.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine this runs on.
    pub(super) fn this() -> Machine {
        Machine { root: PathBuf::from("/") }
    }

    /// A machine made of the files below `root`.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Machine {
        Machine { root: root.to_owned() }
    }

    /// Where a file such as `proc/meminfo` lies.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The text of a file without white space around it; `None` if it cannot be read.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Whether there is such a file or directory.
    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// A figure of `/proc/meminfo`, in bytes.
    pub(super) fn meminfo(&self, name: &str) -> Option<u64> {
        let text = self.read("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        kib.checked_mul(1_024)
    }

    /// The values a control group's file has in this process' group and all groups above it, from
    /// the inside out; of cgroup v2, or of `controller` in v1.
    pub(super) fn cgroup(&self, controller: &str, file_v2: &str, file_v1: &str) -> Vec<String> {
        let groups = self.read("proc/self/cgroup").unwrap_or_default();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
            if controllers.is_empty() {
                let values = self.up_from("sys/fs/cgroup", group, file_v2);
                if !values.is_empty() {
                    return values;
                }
            } else if controllers.split(',').any(|one| one == controller) {
                return self.up_from(&format!("sys/fs/cgroup/{controller}"), group, file_v1);
            }
        }
        Vec::new()
    }

    fn up_from(&self, mount: &str, group: &str, file: &str) -> Vec<String> {
        // Inside a container the group's own name may not be visible, and the mount is the group.
        Path::new(group.trim_start_matches('/'))
            .ancestors()
            .filter_map(|group| self.read(Path::new(mount).join(group).join(file)))
            .collect()
    }
}

/// Bytes in powers of 1,024, such as `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_023.95 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A word as a shell reads it: in quotes where it must be.
pub(super) fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_read_from_the_inside_out() {
        let root = tempfile::tempdir().expect("directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let machine = Machine::at(root.path());
        assert!(machine.cgroup("memory", "memory.max", "x").is_empty());
        write("proc/self/cgroup", "0::/system.slice/a.service\n");
        write("sys/fs/cgroup/system.slice/a.service/memory.max", "max\n");
        write("sys/fs/cgroup/system.slice/memory.max", "1000\n");
        assert_eq!(machine.cgroup("memory", "memory.max", "x"), ["max", "1000"]);
        write("proc/self/cgroup", "5:cpu,memory:/docker/1\n0::/none\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "7\n");
        assert_eq!(machine.cgroup("memory", "memory.max", "memory.limit_in_bytes"), ["7"]);
    }

    #[test]
    fn sizes_and_words_are_written_for_people_and_shells() {
        assert_eq!(size(1_000), "1000 B");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(size(60 << 30), "60 GiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(shell_word("/var/lib/watchfire"), "/var/lib/watchfire");
        assert_eq!(shell_word("/it's here"), "'/it'\\''s here'");
    }
}
