//! The mounted filesystems. Source: `proc_pid_mountinfo(5)`.

use std::collections::HashSet;

use crate::collector_settings::FilesystemSettings;
use crate::pattern::NameFilter;
use crate::proc_reader::{fields, lines};

/// One mounted filesystem that is worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What is mounted.
    pub(crate) device: String,
    /// Where, as seen from the host's root.
    pub(crate) mountpoint: String,
    /// With which filesystem.
    pub(crate) fstype: String,
    /// Whether nothing can be written.
    pub(crate) read_only: bool,
}

/// Which mounts are taken.
#[derive(Debug, Default)]
pub(crate) struct MountFilter {
    mountpoints: NameFilter,
    fstypes: NameFilter,
}

impl MountFilter {
    pub(crate) fn new(settings: &FilesystemSettings) -> Self {
        MountFilter {
            mountpoints: NameFilter::new(
                &settings.mount_points_include,
                &settings.mount_points_exclude,
            ),
            fstypes: NameFilter::new(&settings.fs_types_include, &settings.fs_types_exclude),
        }
    }

    fn takes(&self, mount: &Mount) -> bool {
        let (fstype, mountpoint) = (&mount.fstype, &mount.mountpoint);
        self.fstypes.takes_unless(fstype.as_bytes(), |_| is_excluded_type(fstype))
            && self
                .mountpoints
                .takes_unless(mountpoint.as_bytes(), |_| is_excluded_mountpoint(mountpoint))
    }
}

/// The mounts in `mountinfo` that the filter takes, which by default is what Node Exporter does
/// not exclude. Of several mounts with the same labels the first is kept. Lines that are cut
/// short are left out.
pub(crate) fn parse_mounts(mountinfo: &[u8], filter: &MountFilter) -> Vec<Mount> {
    // A container host has thousands of mounts, too many to compare each with each.
    let mut seen = HashSet::new();
    let mut mounts = Vec::new();
    for mount in lines(mountinfo).filter_map(parse_line) {
        let labels = || (mount.device.clone(), mount.mountpoint.clone(), mount.fstype.clone());
        if filter.takes(&mount) && seen.insert(labels()) {
            mounts.push(mount);
        }
    }
    mounts
}

/// `id parent major:minor root mountpoint options [optional…] - type source super-options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut columns = fields(line);
    let mountpoint = unescape(columns.nth(4)?);
    let options = columns.next()?;
    columns.find(|column| *column == b"-")?;
    let fstype = unescape(columns.next()?);
    let device = unescape(columns.next()?);
    let super_options = columns.next().unwrap_or_default();
    let is_ro = |options: &[u8]| options.split(|&b| b == b',').any(|option| option == b"ro");
    Some(Mount { device, mountpoint, fstype, read_only: is_ro(options) || is_ro(super_options) })
}

/// The kernel writes blanks, tabs, line feeds and backslashes as `\` and three octal digits.
pub(crate) fn unescape(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\'
            && let [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = *tail
        {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = &tail[3..];
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Node Exporter's default of `--collector.filesystem.fs-types-exclude`.
fn is_excluded_type(fstype: &str) -> bool {
    const EXCLUDED: [&str; 25] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "erofs",
        "fusectl",
        "hugetlbfs",
        "iso9660",
        "mqueue",
        "nsfs",
        "overlay",
        "proc",
        "procfs",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tracefs",
    ];
    EXCLUDED.contains(&fstype)
}

/// `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`,
/// Node Exporter's default of `--collector.filesystem.mount-points-exclude`.
fn is_excluded_mountpoint(path: &str) -> bool {
    let whole = ["/dev", "/proc", "/sys"];
    let below = ["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];
    let is_or_is_below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    whole.iter().any(|root| is_or_is_below(root))
        || below.iter().any(|root| path.len() > root.len() && path.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let text = br"29 1 259:2 / / rw,relatime shared:1 - ext4 /dev/dm-2 errors=remount-ro
24 29 0:22 / /sys rw shared:7 - sysfs sysfs rw
30 29 0:9 / /mnt/a\040b\134c ro shared:1 master:2 - nfs4 srv:/x rw
31 29 0:9 / /data rw - ext4 /dev/sdb ro
31 29 0:9 / /data rw - ext4 /dev/sdb ro
32 29 0:9 / /dev/shm rw - tmpfs tmpfs rw
33 29 0:9 / /devices rw - tmpfs tmpfs rw
34 29 0:9 / /cut rw - ext4
35 29 0:9 /
";
        let seen: Vec<_> = parse_mounts(text, &MountFilter::default())
            .into_iter()
            .map(|m| format!("{} {} {} {}", m.device, m.mountpoint, m.fstype, m.read_only))
            .collect();
        assert_eq!(
            seen,
            [
                "/dev/dm-2 / ext4 false",
                r"srv:/x /mnt/a b\c nfs4 true",
                "/dev/sdb /data ext4 true",
                "tmpfs /devices tmpfs false",
            ]
        );
    }

    #[test]
    fn excluded_mountpoints() {
        for path in ["/dev", "/sys/kernel", "/run/credentials/x.service", "/var/lib/docker/a/b"] {
            assert!(is_excluded_mountpoint(path), "{path}");
        }
        for path in ["/", "/run", "/run/credentials/", "/development", "/var/lib/docker", "/home"] {
            assert!(!is_excluded_mountpoint(path), "{path}");
        }
    }
}
