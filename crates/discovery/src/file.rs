//! `file_sd_configs`: groups in files, read again when the files change.
//!
//! Files are looked at once a second instead of by inotify: that sees files on network disks and
//! behind the symbolic links of Kubernetes, and costs some microseconds.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use settings::prometheus::FileDiscovery;
use settings::{TargetGroup, glob, target_groups};

use crate::counters::{DiscoveryCounters, count};
use crate::standing::Standing;
use crate::{Report, groups};

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Largest file that is read.
const MAX_BYTES: u64 = 64 << 20;
/// Files of one block.
const MAX_FILES: usize = 10_000;

const FILE_LABEL: &str = "__meta_filepath";

/// What changes when a file does.
type Stamp = (Option<SystemTime>, u64, u64);

/// The files of one block as they were last read.
struct Files {
    patterns: Vec<String>,
    known: BTreeMap<PathBuf, Known>,
    standings: BTreeMap<PathBuf, Standing>,
}

struct Known {
    stamp: Stamp,
    /// Empty until the file was good for the first time.
    groups: Vec<TargetGroup>,
}

pub(super) async fn run(config: FileDiscovery, report: Report, counters: Arc<DiscoveryCounters>) {
    let mut files =
        Files { patterns: config.files, known: BTreeMap::new(), standings: BTreeMap::new() };
    let mut read_all_at = Instant::now();
    let mut is_first = true;
    loop {
        let all = Instant::now() >= read_all_at;
        if all {
            read_all_at = Instant::now() + config.refresh_interval;
        }
        // Disks may be slow, and network disks may hang.
        let for_look = Arc::clone(&counters);
        let look = tokio::task::spawn_blocking(move || {
            let changed = files.look(all, &for_look);
            (files, changed)
        });
        let Ok((looked_at, changed)) = look.await else { return };
        files = looked_at;
        if changed || is_first {
            is_first = false;
            report.send(files.groups()).await;
        }
        tokio::time::sleep(LOOK_INTERVAL.min(config.refresh_interval)).await;
    }
}

impl Files {
    /// Reads what changed, or everything; tells whether there is news.
    fn look(&mut self, all: bool, counters: &DiscoveryCounters) -> bool {
        let mut paths: Vec<PathBuf> = Vec::new();
        for pattern in &self.patterns {
            expand(pattern, &mut paths);
        }
        paths.sort_unstable();
        paths.dedup();
        if paths.len() > MAX_FILES {
            count(&counters.file_failures);
            tracing::warn!(
                files = paths.len(),
                limit = MAX_FILES,
                "too many files of targets; those behind the limit are left out"
            );
            paths.truncate(MAX_FILES);
        }
        let before = self.known.len();
        self.known.retain(|path, _| paths.binary_search(path).is_ok());
        let mut changed = self.known.len() != before;
        self.standings.retain(|path, _| paths.binary_search(path).is_ok());
        for path in paths {
            match self.read(&path, all) {
                Ok(None) => {}
                Ok(Some(news)) => {
                    changed |= news;
                    let failures = self.standings.remove(&path).and_then(|mut known| known.works());
                    if let Some(failures) = failures {
                        let file = path.display();
                        tracing::info!(%file, failures, "file of targets is of use again");
                    }
                }
                Err(reason) => {
                    count(&counters.file_failures);
                    if !self.standings.entry(path.clone()).or_default().fails(&reason) {
                        continue;
                    }
                    let file = path.display();
                    tracing::warn!(%file, %reason, "file of targets is of no use; keeping what it held");
                }
            }
        }
        changed
    }

    /// Whether the file says something else than before; `None` where it was not read again.
    fn read(&mut self, path: &Path, all: bool) -> Result<Option<bool>, String> {
        let told = |error: io::Error| error.to_string();
        let meta = path.metadata().map_err(told)?;
        let stamp: Stamp = (meta.modified().ok(), meta.len(), meta.ino());
        let known = self.known.get(path);
        if !all && known.is_some_and(|known| known.stamp == stamp) {
            return Ok(None);
        }
        let before = known.map(|known| known.groups.clone()).unwrap_or_default();
        // Noted first: a file that is of no use is complained about once, not every second.
        self.known.insert(path.to_owned(), Known { stamp, groups: before.clone() });
        if stamp.1 > MAX_BYTES {
            return Err(format!("{} bytes are above the limit of {MAX_BYTES}; split it", stamp.1));
        }
        let text = std::fs::read(path).map_err(told)?;
        let name = path.to_string_lossy();
        let groups = target_groups::parse(&name, &text).map_err(|faults| faults.to_string())?;
        let groups = groups::placed(groups, FILE_LABEL, &name);
        let news = groups != before;
        self.known.insert(path.to_owned(), Known { stamp, groups });
        Ok(Some(news))
    }

    fn groups(&self) -> Vec<TargetGroup> {
        self.known.values().flat_map(|known| known.groups.iter().cloned()).collect()
    }
}

/// Appends the files a pattern stands for; only its last part may hold wildcards.
fn expand(pattern: &str, out: &mut Vec<PathBuf>) {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    if !name.contains(['*', '?', '[']) {
        let path = PathBuf::from(pattern);
        if path.exists() {
            out.push(path);
        }
        return;
    }
    // A folder that is not there has no files; it may come.
    let Ok(entries) = std::fs::read_dir(if folder.is_empty() { "/" } else { folder }) else {
        return;
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for found in names.filter(|found| glob::matches(name, found)) {
        let path = match pattern.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{found}"),
            None => found,
        };
        out.push(PathBuf::from(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_keeps_what_it_held_and_a_gone_one_nothing() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("t.yml");
        let counters = DiscoveryCounters::default();
        let pattern = format!("{}/*.yml", folder.path().display());
        let mut files =
            Files { patterns: vec![pattern], known: BTreeMap::new(), standings: BTreeMap::new() };
        assert!(!files.look(true, &counters));
        std::fs::write(&path, "- targets: [a:1]\n  labels: {x: y}\n").expect("written");
        assert!(files.look(false, &counters));
        let groups = files.groups();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].labels.get(FILE_LABEL), path.to_str());
        assert_eq!(groups[0].targets[0].get("__address__"), Some("a:1"));
        std::fs::write(&path, "- targets: [a:1\n").expect("written");
        assert!(!files.look(false, &counters));
        assert_eq!(files.groups(), groups);
        std::fs::remove_file(&path).expect("removed");
        assert!(files.look(false, &counters));
        assert!(files.groups().is_empty());
    }
}
