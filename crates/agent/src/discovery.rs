//! What there is on this host, in words for whoever starts the agent.

use std::path::Path;

use crate::collectors::{MountFilter, is_excluded_disk, parse_mounts, split_device};
use crate::config::AgentConfig;
use crate::proc_reader::{fields, lines, parse_u64, read_once};

/// Names beyond this many are counted, not listed.
const MAX_NAMES: usize = 6;

/// One short line per kind of thing that was found. What cannot be read is left out.
pub(crate) fn found(config: &AgentConfig) -> Vec<String> {
    let mut buffer = Vec::new();
    let mut read = |path: &str| -> Vec<u8> {
        let path = config.proc_root.join(path);
        read_once(&path, &mut buffer).map(<[u8]>::to_vec).unwrap_or_default()
    };
    let uname = rustix::system::uname();
    let mut found = vec![format!(
        "host {} ({} {})",
        config.instance,
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    )];
    let cpus = lines(&read("stat"))
        .filter(|line| line.starts_with(b"cpu") && line.get(3).is_some_and(u8::is_ascii_digit))
        .count();
    if cpus > 0 {
        found.push(format!("{cpus} {}", if cpus == 1 { "CPU" } else { "CPUs" }));
    }
    if let Some(kib) = memory_kib(&read("meminfo")) {
        found.push(format!("{:.1} GiB of memory", kib as f64 / 1_048_576.0));
    }
    let diskstats = read("diskstats");
    let disks = lines(&diskstats).filter_map(|line| fields(line).nth(2));
    let disks = disks.filter(|name| !is_excluded_disk(name)).map(text);
    found.extend(list("disks", disks.collect()));
    let mut mountinfo = read("1/mountinfo");
    if mountinfo.is_empty() {
        mountinfo = read("self/mountinfo");
    }
    let filter = MountFilter::new(&config.collectors.filesystem);
    let mounts = parse_mounts(&mountinfo, &filter).into_iter().map(|mount| mount.mountpoint);
    found.extend(list("filesystems", mounts.collect()));
    let devices = read("net/dev");
    let devices = lines(&devices).filter_map(split_device).map(|(name, _)| text(name));
    found.extend(list("network devices", devices.collect()));
    let processes = count_processes(&config.proc_root);
    if processes > 0 {
        found.push(format!("{processes} processes"));
    }
    found
}

fn memory_kib(meminfo: &[u8]) -> Option<u64> {
    let total = lines(meminfo).find_map(|line| line.strip_prefix(b"MemTotal:"))?;
    fields(total).next().and_then(parse_u64)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn list(kind: &str, names: Vec<String>) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let shown = names[..names.len().min(MAX_NAMES)].join(", ");
    let more = names.len().saturating_sub(MAX_NAMES);
    Some(if more == 0 {
        format!("{kind}: {shown}")
    } else {
        format!("{kind}: {shown} and {more} more")
    })
}

fn count_processes(proc_root: &Path) -> usize {
    let entries = std::fs::read_dir(proc_root).into_iter().flatten().flatten();
    let is_number = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_number)).count()
}
