//! What collecting lines is told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::encoding::Encoding;
use super::entry::Stages;
use super::glob::Glob;
use crate::spool::SpoolConfig;

/// Lines for a broker wait this long for more, so that many share one sync.
pub const LINGER: Duration = Duration::from_millis(200);

/// What is collected and how.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// Files that are followed.
    pub files: Vec<FileGroup>,
    /// The journal of this host.
    pub journal: Option<JournalConfig>,
    /// Where messages of syslog are received.
    pub syslog: Vec<SyslogConfig>,
    /// Standard input.
    pub stdin: Option<StdinConfig>,
    /// Where others have noted how far they are; each is taken over once.
    pub take_over: Vec<ForeignPositions>,
    /// The host's name, for the label `host`.
    pub host: String,
    /// Where the spool of lines and the positions lie; one process at a time.
    pub directory: PathBuf,
    /// How long lines wait for more; until then they are not kept, and their positions do not move.
    pub linger: Duration,
    /// How large the spool may become. Its policy and memory have no meaning here: sources wait.
    pub spool: SpoolConfig,
}

impl LogsConfig {
    /// What there is to collect at this moment, in a few words; nothing if there is nothing yet.
    pub fn found(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.journal.is_some() {
            parts.push("the journal".to_owned());
        }
        let mut files = Vec::new();
        for group in &self.files {
            group.paths.iter().for_each(|glob| glob.find(&mut files));
        }
        files.sort_unstable();
        files.dedup();
        match &files[..] {
            [] => {}
            [one] => parts.push(one.display().to_string()),
            [first, others @ ..] => {
                parts.push(format!("{} and {} other files", first.display(), others.len()));
            }
        }
        parts.extend(self.syslog.iter().map(|syslog| format!("syslog on {}", syslog.listen)));
        parts.extend(self.stdin.iter().map(|_| "standard input".to_owned()));
        (!parts.is_empty()).then(|| format!("logs: {}", parts.join(", ")))
    }
}

/// Where Promtail or a component of Alloy has noted how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignPositions {
    /// The file.
    pub path: PathBuf,
    /// What is read if that is not there.
    pub older: Option<PathBuf>,
    /// The name of the job that reads the journal.
    pub journal: Option<String>,
    /// Whether packed files were unpacked: positions in them count lines then.
    pub unpacks: bool,
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
    /// Which entries from before the first start are read.
    pub first: FirstEntries,
    /// Whether a line is the whole entry as a JSON object, instead of its message.
    pub as_json: bool,
    /// What is done to entries.
    pub stages: Arc<dyn Stages>,
}

/// Which entries of the journal are read when nothing of it was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstEntries {
    /// So many, the last ones.
    Last(u32),
    /// Those that are not older.
    Since(Duration),
}

/// How syslog is received.
#[derive(Debug, Clone)]
pub struct SyslogConfig {
    /// Where.
    pub listen: SyslogListen,
    /// Labels of all messages.
    pub labels: BTreeMap<String, String>,
    /// What is done to messages.
    pub stages: Arc<dyn Stages>,
}

/// An address and how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogListen {
    /// A datagram for each message.
    Udp(SocketAddr),
    /// Connections, framed by a length or by newlines.
    Tcp(SocketAddr),
}

impl SyslogListen {
    /// Reads `udp://HOST:PORT` or `tcp://HOST:PORT`.
    ///
    /// # Errors
    /// In words: what it should be.
    pub fn parse(text: &str) -> Result<SyslogListen, String> {
        let wanted =
            || format!("{text:?} is no address such as udp://127.0.0.1:514 or tcp://[::1]:514");
        let (scheme, address) = text.split_once("://").ok_or_else(wanted)?;
        let address = address.parse().map_err(|_| wanted())?;
        match scheme {
            "udp" => Ok(SyslogListen::Udp(address)),
            "tcp" => Ok(SyslogListen::Tcp(address)),
            _ => Err(wanted()),
        }
    }

    /// The address alone.
    pub fn address(&self) -> SocketAddr {
        match self {
            SyslogListen::Udp(address) | SyslogListen::Tcp(address) => *address,
        }
    }
}

impl fmt::Display for SyslogListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyslogListen::Udp(address) => write!(f, "udp://{address}"),
            SyslogListen::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// How standard input is read.
#[derive(Debug, Clone)]
pub struct StdinConfig {
    /// Labels of all lines.
    pub labels: BTreeMap<String, String>,
    /// What is done to lines.
    pub stages: Arc<dyn Stages>,
}
