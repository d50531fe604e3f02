//! Fill of the mounted filesystems.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::collectors::mounts::{Mount, MountFilter, parse_mounts};
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
    filter: MountFilter,
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
            filter: MountFilter::new(&config.collectors.filesystem),
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
        for mut mount in parse_mounts(text, &self.filter) {
            mount.mountpoint = below_root(&mount.mountpoint, &self.root_fs);
            let path = self.root_fs.join(mount.mountpoint.trim_start_matches('/'));
            self.prober.ask(&path, host.now)?;
            self.mounts.push((mount, path));
        }
        let mounted: HashSet<&Path> = self.mounts.iter().map(|(_, path)| &**path).collect();
        self.prober.retain(|path| mounted.contains(path));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;
    use crate::collectors::Made;
    use crate::counters::AgentCounters;
    use crate::registry::Registry;

    /// A host with three mounts, of which `/dead` answers only when told to.
    struct HostWithDeadMount {
        registry: Registry,
        counters: AgentCounters,
        release: Sender<()>,
        _proc_root: tempfile::TempDir,
        config: AgentConfig,
    }

    impl HostWithDeadMount {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("temporary directory");
            std::fs::create_dir(directory.path().join("self")).expect("directory");
            let mountinfo = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /dead rw - nfs srv:/ rw\n\
                             3 1 8:2 / /data ro - xfs /dev/b rw\n";
            std::fs::write(directory.path().join("self/mountinfo"), mountinfo).expect("write");
            let config = AgentConfig {
                proc_root: directory.path().to_owned(),
                filesystem_interval_ms: 60,
                filesystem_timeout_ms: 40,
                ..AgentConfig::default()
            };
            let (release, released) = channel();
            let released = Mutex::new(released);
            let statvfs: Statvfs = Arc::new(move |path| {
                if path == Path::new("/dead") {
                    let _ = released.lock().expect("not poisoned").recv();
                }
                Ok(Usage { size: 9.0, free: 8.0, available: 7.0, files: 6.0, files_free: 5.0 })
            });
            let collector = Made::InPass(Box::new(Filesystem::with(&config, statvfs)));
            HostWithDeadMount {
                registry: Registry::with(vec![collector], &config),
                counters: AgentCounters::new(&["filesystem"]),
                release,
                _proc_root: directory,
                config,
            }
        }

        /// A pass; device errors and sizes by mountpoint, sizes NaN when stale.
        fn pass(&mut self) -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
            let batch = self.registry.pass(1, 1, Default::default(), &self.counters);
            self.registry.delivered();
            let (mut errors, mut sizes) = (BTreeMap::new(), BTreeMap::new());
            for series in &batch.series {
                let bytes = batch.label_bytes_of(series);
                let labels = model::Labels::from_packed(bytes).expect("packed");
                let value = batch.values[series.first_row as usize];
                let mountpoint = labels.get("mountpoint").unwrap_or_default().to_owned();
                match labels.metric_name() {
                    Some("node_filesystem_device_error") => errors.insert(mountpoint, value),
                    Some("node_filesystem_size_bytes") => sizes.insert(mountpoint, value),
                    _ => None,
                };
            }
            (errors, sizes)
        }

        /// Passes until `/dead` has this `node_filesystem_device_error`; the longest took this.
        fn pass_until(&mut self, error: f64) -> Duration {
            let mut longest = Duration::ZERO;
            for _ in 0..2_000 {
                let began = Instant::now();
                let (errors, _) = self.pass();
                longest = longest.max(began.elapsed());
                if errors.get("/dead") == Some(&error) {
                    return longest;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            panic!("/dead never had the device error {error}");
        }
    }

    #[test]
    fn a_hung_filesystem_holds_up_nobody() {
        let mut host = HostWithDeadMount::new();
        let (errors, sizes) = host.pass();
        assert_eq!(errors, BTreeMap::from([("/".to_owned(), 0.0)]));
        assert_eq!(sizes["/"], 9.0);
        let longest = host.pass_until(1.0);
        assert!(longest < Duration::from_secs(2), "a pass took {longest:?}");
        // Behind the dead one another thread asked the rest; the dead one is left alone.
        while !host.pass().0.contains_key("/data") {
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..100 {
            let (errors, sizes) = host.pass();
            assert_eq!(errors["/data"], 0.0);
            assert_eq!(errors["/dead"], 1.0);
            assert_eq!((sizes["/"], sizes["/data"]), (9.0, 9.0));
            std::thread::sleep(Duration::from_millis(1));
        }
        host.release.send(()).expect("somebody waits");
        host.pass_until(0.0);
        // The next round asks again, and it hangs again: its size goes stale.
        host.pass_until(1.0);
        drop(host.release);
    }

    #[test]
    fn an_unmounted_filesystem_is_forgotten() {
        let mut host = HostWithDeadMount::new();
        host.release.send(()).expect("it lives");
        host.pass_until(0.0);
        let mountinfo = host.config.proc_root.join("self/mountinfo");
        std::fs::write(mountinfo, "1 0 8:1 / / rw - ext4 /dev/a rw\n").expect("write");
        std::thread::sleep(Duration::from_millis(80));
        let (errors, sizes) = host.pass();
        assert!(model::is_stale_nan(errors["/dead"]) && model::is_stale_nan(sizes["/data"]));
        assert_eq!(host.pass().0, BTreeMap::from([("/".to_owned(), 0.0)]));
    }

    #[test]
    fn paths_below_another_root() {
        assert_eq!(below_root("/host/data", Path::new("/host")), "/data");
        assert_eq!(below_root("/host", Path::new("/host")), "/");
        assert_eq!(below_root("/data", Path::new("/host")), "/data");
        assert_eq!(below_root("/data", Path::new("/")), "/data");
    }
}
