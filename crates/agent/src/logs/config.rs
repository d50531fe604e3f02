//! What collecting lines is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::encoding::Encoding;
use super::entry::Stages;
use super::glob::Glob;
use crate::spool::SpoolConfig;

/// What is collected and how.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// Files that are followed.
    pub files: Vec<FileGroup>,
    /// The journal of this host.
    pub journal: Option<JournalConfig>,
    /// The host's name, for the label `host`.
    pub host: String,
    /// Where the spool of lines and the positions lie; one process at a time.
    pub directory: PathBuf,
    /// How large the spool may become. Its policy and memory have no meaning here: sources wait.
    pub spool: SpoolConfig,
}

/// Files with the same labels and stages.
#[derive(Debug, Clone)]
pub struct FileGroup {
    /// Which files.
    pub paths: Vec<Glob>,
    /// Which of them not.
    pub exclude: Vec<Glob>,
    /// Labels of their lines, besides `filename` and `host`, which count where they are not here.
    pub labels: BTreeMap<String, String>,
    /// How they are written.
    pub encoding: Encoding,
    /// Where a file begins that was there when it was looked for the first time.
    pub start: Start,
    /// What is done to their lines.
    pub stages: Arc<dyn Stages>,
    /// Whose the labels are that follow from the path.
    pub layout: Layout,
}

/// Where a file begins that nobody has read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At its beginning.
    Beginning,
    /// At its end, if it was there before the collector; else at its beginning.
    End,
    /// At the first whole line of so many bytes at its end, if it was there before the collector.
    Last(u64),
}

/// What the path of a file says besides its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Nothing.
    #[default]
    Plain,
    /// `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<n>.log`.
    Pods,
    /// `/var/lib/docker/containers/<id>/<id>-json.log`, with `config.v2.json` beside it.
    Docker,
}

/// How the journal is read.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// The program that is asked, `journalctl`.
    pub command: PathBuf,
    /// Arguments besides those that say how it answers, such as `--directory=…` or `-u nginx`.
    pub arguments: Vec<String>,
    /// Labels of all entries.
    pub labels: BTreeMap<String, String>,
    /// How many entries from before the first start are read.
    pub first_lines: u32,
    /// What is done to entries.
    pub stages: Arc<dyn Stages>,
}
