//! The data directory and the disk below it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::finding::{Check, Finding, text};
use super::machine::{Machine, shell_word, size};

/// A broker goes on reading with less, but refuses writes when nothing is left.
const SPACE_FAIL: u64 = 256 << 20;
const SPACE_WARN: u64 = 2 << 30;

/// Looks at the directory `data`, or where it would be made. Changes nothing but one file of its
/// own, which it removes.
pub(super) fn check(machine: &Machine, data: &Path) -> Vec<Finding> {
    let place = nearest_existing(data);
    let mut findings = vec![directory(data, &place)];
    if let Ok(stats) = rustix::fs::statvfs(&place) {
        let shown = place.display().to_string();
        findings.push(space(
            &shown,
            stats.f_bavail.saturating_mul(stats.f_frsize),
            stats.f_blocks.saturating_mul(stats.f_frsize),
        ));
        findings.push(inodes(&shown, stats.f_favail, stats.f_files));
    }
    let mounts = machine.read("proc/self/mountinfo").unwrap_or_default();
    let absolute = place.canonicalize().unwrap_or_else(|_| place.clone());
    findings.push(match mount_of(&mounts, &absolute) {
        Some((mountpoint, kind)) => filesystem(&mountpoint, &kind),
        None => Finding::skip(
            Check::Filesystem,
            text("/proc/self/mountinfo cannot be read", "无法读取 /proc/self/mountinfo"),
        ),
    });
    if let Ok(latencies) = measure_sync(&place) {
        findings.push(sync_latency(&latencies));
    }
    findings
}

/// The directory itself, or the closest one above that exists.
fn nearest_existing(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let existing = absolute.ancestors().find(|path| path.exists());
    existing.unwrap_or(Path::new("/")).to_owned()
}

fn directory(data: &Path, place: &Path) -> Finding {
    let check = Check::DataDirectory;
    let shown = data.display();
    if !place.is_dir() {
        return Finding::fail(
            check,
            text(
                format!("{} is no directory", place.display()),
                format!("{} 不是目录", place.display()),
            ),
            text("Data needs a directory.", "数据需要存放在目录中。"),
        )
        .fix(text("Name another with --data.", "请用 --data 指定其他目录。"));
    }
    let owner = place.metadata().map_or(0, |metadata| metadata.uid());
    let user = rustix::process::geteuid().as_raw();
    if let Err(error) = try_write(place) {
        let finding = Finding::fail(
            check,
            text(
                format!("{} cannot be written by user {user}: {error}", place.display()),
                format!("用户 {user} 无法写入 {}：{error}", place.display()),
            ),
            text("Nothing could be stored.", "将无法存储任何数据。"),
        );
        return if owner == user {
            finding.fix(text(
                "Mount it writable, or name another with --data.",
                "请以可写方式挂载，或用 --data 指定其他目录。",
            ))
        } else {
            finding
                .fix(text(
                    "Run the doctor as the user Watchfire runs as, or give the directory to it.",
                    "请以运行 Watchfire 的用户执行本命令，或把目录交给该用户。",
                ))
                .command(format!("sudo chown -R {user} {}", shell_word(&shown.to_string())))
        };
    }
    if std::path::absolute(data).is_ok_and(|data| data != place) {
        let above = place.display();
        return Finding::ok(
            check,
            text(
                format!("{shown} will be made in {above}"),
                format!("{shown} 将在 {above} 中创建"),
            ),
        );
    }
    let mode = place.metadata().map_or(0, |metadata| metadata.mode());
    if mode & 0o007 == 0 {
        return Finding::ok(check, text(format!("{shown} is writable"), format!("{shown} 可写")));
    }
    Finding::warn(
        check,
        text(
            format!("{shown} can be read by every user of this machine"),
            format!("本机所有用户都能读取 {shown}"),
        ),
        text(
            "It holds everything collected, and keys when TLS is used.",
            "其中保存全部采集数据；启用 TLS 时还有密钥。",
        ),
    )
    .command(format!("chmod 750 {}", shell_word(&shown.to_string())))
}

fn probe_path(place: &Path) -> PathBuf {
    place.join(format!(".watchfire-doctor-{}", std::process::id()))
}

fn try_write(place: &Path) -> std::io::Result<()> {
    let path = probe_path(place);
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)
}

/// How long each of a few small synced writes took.
fn measure_sync(place: &Path) -> std::io::Result<Vec<Duration>> {
    const WRITES: usize = 16;
    const ENOUGH: Duration = Duration::from_secs(3);
    let path = probe_path(place);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let began = Instant::now();
    let mut latencies = Vec::with_capacity(WRITES);
    let mut outcome = Ok(());
    while outcome.is_ok() && latencies.len() < WRITES && began.elapsed() < ENOUGH {
        let write = Instant::now();
        outcome = file.write_all(&[0x57; 4_096]).and_then(|()| file.sync_data());
        latencies.push(write.elapsed());
    }
    std::fs::remove_file(path)?;
    outcome.map(|()| latencies)
}

fn sync_latency(latencies: &[Duration]) -> Finding {
    let check = Check::SyncLatency;
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let (Some(median), Some(worst)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return Finding::skip(check, text("nothing was measured", "未能测量"));
    };
    let ms = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let seen = text(
        format!(
            "4 KiB synced in {} (median), {} (worst of {})",
            ms(median),
            ms(worst),
            sorted.len()
        ),
        format!("4 KiB 落盘：中位数 {}，最差 {}（共 {} 次）", ms(median), ms(worst), sorted.len()),
    );
    if *median > Duration::from_millis(25) {
        return Finding::warn(
            check,
            seen,
            text(
                "Every write is acknowledged after a sync, so senders wait at least this long.",
                "每次写入都在落盘后才确认，发送方至少要等待这么久。",
            ),
        )
        .fix(text("Put the data on a local SSD.", "请把数据放在本地 SSD 上。"));
    }
    Finding::ok(check, seen)
}

fn space(place: &str, free: u64, total: u64) -> Finding {
    let check = Check::DiskSpace;
    let share = if total > 0 { free as f64 / total as f64 } else { 1.0 };
    let seen = text(
        format!("{} of {} free at {place}", size(free), size(total)),
        format!("{place} 可用 {}，共 {}", size(free), size(total)),
    );
    let fix = text(
        "Free space, or keep less: storage.retention, storage.retention_size_bytes.",
        "请清理空间，或减少保留：storage.retention、storage.retention_size_bytes。",
    );
    if free < SPACE_FAIL {
        let why = text(
            "With a full disk writes are refused (507); what is stored stays readable.",
            "磁盘写满后写入会被拒绝（507）；已存数据仍可读取。",
        );
        return Finding::fail(check, seen, why)
            .fix(fix)
            .command(format!("du -xh {} | sort -h | tail", shell_word(place)));
    }
    if free < SPACE_WARN || share < 0.1 {
        let why = text("There is little room for growth and merges.", "留给增长与合并的空间不多。");
        return Finding::warn(check, seen, why)
            .fix(fix)
            .command(format!("du -xh {} | sort -h | tail", shell_word(place)));
    }
    Finding::ok(check, seen)
}

fn inodes(place: &str, free: u64, total: u64) -> Finding {
    let check = Check::Inodes;
    if total == 0 {
        return Finding::ok(check, text("not limited here", "此文件系统不限制"));
    }
    let share = free as f64 / total as f64;
    let seen = text(
        format!("{free} of {total} free at {place}"),
        format!("{place} 可用 {free}，共 {total}"),
    );
    if free < 1_000 || share < 0.05 {
        let why = text(
            "Without inodes no file can be made, however much space is free.",
            "inode 用尽后，无论剩余多少空间都无法创建文件。",
        );
        let fix = text("Remove directories with many small files.", "请清理含大量小文件的目录。");
        let command = format!("du -x --inodes {} | sort -n | tail", shell_word(place));
        let level = if free < 1_000 { Finding::fail } else { Finding::warn };
        return level(check, seen, why).fix(fix).command(command);
    }
    Finding::ok(check, seen)
}

/// Mount point and type of the filesystem that holds `path`.
fn mount_of(mountinfo: &str, path: &Path) -> Option<(String, String)> {
    // Fields before " - " vary in number; the mount point is the fifth, the type follows it.
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mountpoint = unescaped(left.split(' ').nth(4)?);
            let kind = right.split(' ').next()?.to_owned();
            path.starts_with(&mountpoint).then_some((mountpoint, kind))
        })
        // Of equally long ones the last was mounted over the others.
        .max_by_key(|(mountpoint, _)| mountpoint.len())
}

/// Blanks and backslashes are written as octal numbers there.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn filesystem(mountpoint: &str, kind: &str) -> Finding {
    let check = Check::Filesystem;
    let seen =
        text(format!("{kind}, mounted at {mountpoint}"), format!("{kind}，挂载于 {mountpoint}"));
    let (why, fix) = match kind {
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "ceph" | "glusterfs" | "lustre"
        | "afs" => (
            text(
                "A network filesystem may acknowledge a sync before the data is safe, and stalls with the network.",
                "网络文件系统可能在数据安全之前就确认落盘，且会随网络停顿。",
            ),
            text("Use a local disk.", "请使用本地磁盘。"),
        ),
        "overlay" | "aufs" => (
            text(
                "This is the layer of a container: the data goes with the container.",
                "这是容器的可写层：数据会随容器一起删除。",
            ),
            text("Mount a volume for the data.", "请为数据挂载卷。"),
        ),
        "tmpfs" | "ramfs" => (
            text(
                "This is memory: the data is gone after a restart of the machine.",
                "这是内存：机器重启后数据丢失。",
            ),
            text("Use a disk.", "请使用磁盘。"),
        ),
        "vfat" | "exfat" | "msdos" | "ntfs" | "ntfs3" | "fuseblk" => (
            text(
                "This filesystem keeps neither permissions nor a journal of its own.",
                "该文件系统不支持权限，也没有可靠的日志。",
            ),
            text("Use ext4 or XFS.", "请使用 ext4 或 XFS。"),
        ),
        kind if kind.starts_with("fuse.") => (
            text(
                "Whether a sync is one depends on the program behind this mount.",
                "落盘是否可靠取决于该挂载背后的程序。",
            ),
            text("Use a local disk.", "请使用本地磁盘。"),
        ),
        _ => return Finding::ok(check, seen),
    };
    Finding::warn(check, seen, why).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn the_innermost_mount_holds_the_path() {
        let mounts = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
30 22 0:26 / /mnt/my\\040disk rw shared:1 master:2 - nfs4 server:/x rw\n\
31 22 0:27 / /mnt/my\\040disk/b rw - tmpfs tmpfs rw\n";
        let kind = |path: &str| mount_of(mounts, Path::new(path)).map(|(_, kind)| kind);
        assert_eq!(kind("/var/lib/watchfire").as_deref(), Some("ext4"));
        assert_eq!(kind("/mnt/my disk/data").as_deref(), Some("nfs4"));
        assert_eq!(kind("/mnt/my disk/b").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/mnt/my diskette").as_deref(), Some("ext4"));
        assert_eq!(mount_of("garbage\n - \n", Path::new("/")), None);
    }

    #[test]
    fn levels_follow_what_is_free() {
        const GIB: u64 = 1 << 30;
        assert_eq!(space("/", 50 * GIB, 100 * GIB).level, Level::Ok);
        assert_eq!(space("/", 50 * GIB, 1_000 * GIB).level, Level::Warn);
        assert_eq!(space("/", GIB, 4 * GIB).level, Level::Warn);
        assert_eq!(space("/", GIB / 5, 4 * GIB).level, Level::Fail);
        assert_eq!(inodes("/", 0, 0).level, Level::Ok);
        assert_eq!(inodes("/", 500_000, 1_000_000).level, Level::Ok);
        assert_eq!(inodes("/", 20_000, 1_000_000).level, Level::Warn);
        assert_eq!(inodes("/", 10, 1_000_000).level, Level::Fail);
        assert_eq!(sync_latency(&[]).level, Level::Skip);
        assert_eq!(sync_latency(&[Duration::from_millis(1); 3]).level, Level::Ok);
        assert_eq!(sync_latency(&[Duration::from_millis(40); 3]).level, Level::Warn);
        for (kind, level) in
            [("ext4", Level::Ok), ("nfs4", Level::Warn), ("fuse.sshfs", Level::Warn)]
        {
            assert_eq!(filesystem("/", kind).level, level, "{kind}");
        }
    }

    #[test]
    fn nothing_is_left_behind() {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("a/b/data");
        let findings = check(&Machine::this(), &data);
        assert!(findings.iter().any(|finding| finding.check == Check::SyncLatency));
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 0);
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(check(&Machine::this(), &file)[0].level, Level::Fail);
    }
}
