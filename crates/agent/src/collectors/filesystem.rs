//! Fill of the mounted filesystems.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::collectors::mounts::{Mount, parse_mounts};
use crate::collectors::statvfs_prober::{Answer, Prober, Statvfs, Usage, system_statvfs};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::ProcFile;
use crate::series::{Family, Keyed, Row, Samples};

const SIZE: Family = Family::gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
const FREE: Family = Family::gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.");
const AVAILABLE: Family = Family::gauge(
    "node_filesystem_avail_bytes",
    "Filesystem space available to non-root users in bytes.",
);
const FILES: Family = Family::gauge("node_filesystem_files", "Filesystem total file nodes.");
const FILES_FREE: Family =
    Family::gauge("node_filesystem_files_free", "Filesystem total free file nodes.");
const READ_ONLY: Family = Family::gauge("node_filesystem_readonly", "Filesystem read-only status.");
const DEVICE_ERROR: Family = Family::gauge(
    "node_filesystem_device_error",
    "Whether an error occurred while getting statistics for the given device.",
);

/// How long the very first pass waits for answers, so that a host that has just started shows
/// its filesystems at once. Later passes never wait.
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// `node_filesystem_*`.
///
/// Filesystems are asked on another thread, since a dead NFS server blocks whoever asks, without
/// end. Each pass emits what the last answers were. A mount that does not answer in time is
/// reported as `node_filesystem_device_error 1` and left alone until it answers.
pub(crate) struct Filesystem {
    /// That of process 1, which sees the host's mounts, or else our own.
    mountinfo: [ProcFile; 2],
    root_fs: PathBuf,
    cadence: Cadence,
    prober: Prober,
    waited: bool,
    /// What is mounted, and the path at which this process reaches it.
    mounts: Vec<(Mount, PathBuf)>,
    /// Keyed by all labels of a mount.
    rows: Keyed<7>,
    key: Vec<u8>,
}

impl Filesystem {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Self::with(config, system_statvfs())
    }

    /// With another way to ask a filesystem.
    pub(crate) fn with(config: &AgentConfig, statvfs: Statvfs) -> Self {
        let mountinfo = |process| ProcFile::new(config.proc_root.join(process).join("mountinfo"));
        Filesystem {
            mountinfo: [mountinfo("1"), mountinfo("self")],
            root_fs: config.root_fs.clone(),
            cadence: Cadence::new(Duration::from_millis(config.filesystem_interval_ms)),
            prober: Prober::new(statvfs, Duration::from_millis(config.filesystem_timeout_ms)),
            waited: false,
            mounts: Vec::new(),
            rows: Keyed::new(),
            key: Vec::new(),
        }
    }

    /// Reads which filesystems are mounted and asks them all.
    fn start_round(&mut self, host: &Host) -> Result<(), AgentError> {
        let [first, own] = &mut self.mountinfo;
        let text = match first.read() {
            Ok(_) => first.last(),
            Err(_) => own.read()?,
        };
        self.mounts.clear();
        for mut mount in parse_mounts(text) {
            mount.mountpoint = below_root(&mount.mountpoint, &self.root_fs);
            let path = self.root_fs.join(mount.mountpoint.trim_start_matches('/'));
            self.prober.ask(&path, host.now)?;
            self.mounts.push((mount, path));
        }
        self.prober.retain(|path| self.mounts.iter().any(|(_, mounted)| mounted == path));
        if !self.waited {
            self.prober.wait(FIRST_WAIT);
            self.waited = true;
        }
        Ok(())
    }
}

impl Collector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if self.cadence.due(host.now) {
            let started = self.start_round(host);
            if started.is_err() {
                self.cadence.retry();
            }
            started?;
        }
        self.prober.poll(host.now)?;
        self.rows.begin();
        for (mount, path) in &self.mounts {
            let Some(answer) = self.prober.answer(path) else { continue };
            self.key.clear();
            for part in [&mount.mountpoint, &mount.device, &mount.fstype] {
                self.key.extend_from_slice(part.as_bytes());
                self.key.push(0);
            }
            emit(self.rows.row(&self.key), mount, answer, out);
        }
        self.rows.finish(out);
        Ok(Outcome::Collected)
    }
}

/// A path as the host sees it, when the agent sees the host's root below `root_fs`.
fn below_root(mountpoint: &str, root_fs: &Path) -> String {
    match Path::new(mountpoint).strip_prefix(root_fs) {
        Ok(rest) => format!("/{}", rest.display()),
        Err(_) => mountpoint.to_owned(),
    }
}

fn emit(row: &mut Row<7>, mount: &Mount, answer: Answer, out: &mut Samples) {
    let mut put = |at: usize, family: &Family, value: f64| {
        out.put(&mut row.series[at], value, |out| {
            out.register(
                family,
                &[
                    ("device", &mount.device),
                    ("mountpoint", &mount.mountpoint),
                    ("fstype", &mount.fstype),
                ],
            )
        });
    };
    put(0, &DEVICE_ERROR, f64::from(u8::from(answer == Answer::Failed)));
    put(1, &READ_ONLY, f64::from(u8::from(mount.read_only)));
    if let Answer::Usage(Usage { size, free, available, files, files_free }) = answer {
        put(2, &SIZE, size);
        put(3, &FREE, free);
        put(4, &AVAILABLE, available);
        put(5, &FILES, files);
        put(6, &FILES_FREE, files_free);
    }
}
