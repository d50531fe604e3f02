//! A control group with a limit of memory, v1 or v2.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// A group of this test; removed when dropped, which the system allows once it is empty.
pub(super) struct ControlGroup {
    directory: PathBuf,
    is_v2: bool,
}

impl ControlGroup {
    /// Makes a group that may use `limit_bytes`, and no swap where there is any.
    ///
    /// # Errors
    /// This machine lets nobody make one.
    pub(super) fn make(limit_bytes: u64) -> Result<ControlGroup> {
        let name = format!("watchfire-system-{}", std::process::id());
        let roots = [("/sys/fs/cgroup/memory", false), ("/sys/fs/cgroup", true)];
        let mut refusals = Vec::new();
        for (root, is_v2) in roots {
            for parent in parents(root, is_v2) {
                match ControlGroup::make_in(&parent.join(&name), is_v2, limit_bytes) {
                    Ok(group) => return Ok(group),
                    Err(error) => refusals.push(format!("{error:#}")),
                }
            }
        }
        Err(anyhow!("no control group can be made: {}", refusals.join("; ")))
    }

    fn make_in(directory: &Path, is_v2: bool, limit_bytes: u64) -> Result<ControlGroup> {
        std::fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
        let group = ControlGroup { directory: directory.to_owned(), is_v2 };
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        std::fs::write(directory.join(file), limit_bytes.to_string())
            .with_context(|| format!("set {file} in {}", directory.display()))?;
        let (swap, none) = match is_v2 {
            true => ("memory.swap.max", 0),
            false => ("memory.memsw.limit_in_bytes", limit_bytes),
        };
        // Not there where the system does not count swap.
        let _ = std::fs::write(directory.join(swap), none.to_string());
        Ok(group)
    }

    /// A command that puts itself into the group and becomes the one behind it.
    pub(super) fn enter(&self) -> [String; 4] {
        let procs = self.directory.join("cgroup.procs");
        let script = format!("echo $$ > {} && exec \"$@\"", procs.display());
        ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
    }

    /// How often the kernel killed something in the group.
    pub(super) fn kills(&self) -> Result<u64> {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.directory.join(file))
            .with_context(|| format!("read {file}"))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).context("oom_kill is not told")
    }
}

/// Where a group may be made: below the group of this process, and at the top.
fn parents(root: &str, is_v2: bool) -> Vec<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = match is_v2 {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|one| one == "memory"),
        };
        is_it.then(|| path.trim_start_matches('/').to_owned())
    });
    let root = Path::new(root);
    own.map(|own| root.join(own)).into_iter().chain([root.to_owned()]).collect()
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The last process may take a moment to leave.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
