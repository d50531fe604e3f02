//! What a process and its directory cost, read from `/proc` and the file system.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Linux counts process times for user space in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// Unit of `st_blocks` on Linux.
const BLOCK_BYTES: u64 = 512;

/// CPU seconds of all threads since the process started, in user space and in the kernel.
///
/// Work the kernel does on its own threads (writing back pages, the journal) is in no process's
/// account.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The name in parentheses may hold spaces: count fields behind it. proc(5): utime is field 14.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().context("parse /proc/PID/stat"))
        .sum::<Result<u64>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Resident memory of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now_bytes: u64,
    pub(crate) peak_bytes: u64,
    /// What of it is not a file's, such as the program itself.
    pub(crate) anonymous_bytes: u64,
}

/// Resident memory now and at its highest.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let bytes = |key: &str| -> Result<u64> {
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("/proc/PID/status has no {key}"))?
            .parse()?;
        Ok(kibibytes << 10)
    };
    Ok(Memory {
        now_bytes: bytes("VmRSS:")?,
        peak_bytes: bytes("VmHWM:")?,
        anonymous_bytes: bytes("RssAnon:")?,
    })
}

/// Bytes that a process was given by system calls that read, proc(5): `rchar`.
pub(crate) fn read_bytes(pid: u32) -> Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))
        .with_context(|| format!("process {pid} is gone"))?;
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.context("/proc/PID/io has no rchar")?.trim().parse().context("parse /proc/PID/io")
}

/// Bytes the files under `directory` occupy on disk. Files that vanish meanwhile count as 0.
pub(crate) fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let Ok(metadata) =
            entry.as_ref().map_err(|_| ()).and_then(|e| e.metadata().map_err(|_| ()))
        else {
            continue;
        };
        let path = entry?.path();
        bytes += if metadata.is_dir() {
            disk_bytes(&path).unwrap_or(0)
        } else {
            metadata.blocks() * BLOCK_BYTES
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let pid = std::process::id();
        let before = cpu_seconds(pid).expect("own times");
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(60) {
            black_box(started);
        }
        assert!(cpu_seconds(pid).expect("own times") > before);
        let memory = memory(pid).expect("own memory");
        assert!(0 < memory.now_bytes && memory.now_bytes <= memory.peak_bytes);
    }

    #[test]
    fn files_in_directories_are_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("below")).expect("a directory");
        std::fs::write(directory.path().join("below/file"), vec![1; 10_000]).expect("a file");
        assert!(disk_bytes(directory.path()).expect("a size") >= 10_000);
    }
}
