//! Where a run happened, so that its figures can be judged.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Lines that belong above every table: date, machine, command.
pub(crate) fn describe(data: &Path) -> Result<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load_average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let command: Vec<String> = std::env::args().skip(1).collect();
    Ok(format!(
        "date      {} UTC\n\
         machine   {cores} cores ({}), {:.1} GiB memory, Linux {}, data on {}\n\
         others    load average {} before the run\n\
         command   cargo xtask bench {}",
        utc(seconds),
        processor(),
        memory_bytes("MemTotal:")? as f64 / f64::from(1 << 30),
        kernel.trim(),
        file_system(data),
        load_average.split(' ').next().unwrap_or("unknown"),
        command.join(" "),
    ))
}

/// What the kernel could hand out without swapping.
pub(crate) fn available_memory_bytes() -> Result<usize> {
    memory_bytes("MemAvailable:")
}

/// Version of a server: what it says itself, or else its Debian package's.
pub(crate) fn version(binary: &Path, package: Option<&str>) -> Result<String> {
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", binary.display()))?;
    // Prometheus before 2.41 wrote to stderr; Debian's victoria-metrics says nothing at all.
    for said in [output.stdout, output.stderr] {
        let said = String::from_utf8_lossy(&said);
        // VictoriaLogs writes its name before it: `victoria-logs-v1.52.1`.
        let mut words =
            said.split_whitespace().map(|word| word.rsplit_once("-v").map_or(word, |it| it.1));
        let is_version = |word: &&str| {
            word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.')
        };
        if let Some(version) = words.find(is_version) {
            return Ok(version.trim_end_matches(',').to_owned());
        }
    }
    let Some(package) = package else { return Ok("unknown".to_owned()) };
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The commit of the working tree, with `-dirty` if it was changed.
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

fn memory_bytes(key: &str) -> Result<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let kibibytes: usize = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("/proc/meminfo has no {key}"))?
        .parse()?;
    Ok(kibibytes << 10)
}

fn processor() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned())
}

/// Type of the file system: on tmpfs a sync costs nothing, which a reader must know.
fn file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(mount, _)| path.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Days to a date by Howard Hinnant's `civil_from_days`.
fn utc(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00");
        assert_eq!(utc(951_825_600), "2000-02-29 12:00");
        assert_eq!(utc(1_795_188_840), "2026-11-20 15:34");
    }
}
