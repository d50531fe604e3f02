//! What is collected and what becomes of it.

use std::path::PathBuf;
use std::time::Duration;

use model::Labels;

use super::stage::Stage;
use crate::prometheus::{FileDiscovery, HttpClientConfig, TlsConfig};
use crate::relabel::RelabelConfig;
use crate::{HttpUrl, Secret};

/// Everything a collector of lines is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogsConfig {
    /// What is collected; the names are unique.
    pub jobs: Vec<LogJob>,
    /// Where lines are to go besides the broker of the agent.
    pub sinks: Vec<LogSink>,
    /// Limits over all jobs.
    pub limits: LineLimits,
    /// Where Promtail notes how far it has read; Alloy has a file for each of its sources.
    pub positions: Option<PathBuf>,
}

/// Lines of one source, or of the like sources that a rule finds.
#[derive(Debug, Clone, PartialEq)]
pub struct LogJob {
    /// `job_name`, or the component: `loki.source.file.nginx`.
    pub name: String,
    /// Where lines come from.
    pub source: LogSource,
    /// Rules over the labels a source has: those of a target that [`FileSource::discovery`] finds, with
    /// `__path__`; of a container, with `__meta_docker_…`; of a pod, with `__meta_kubernetes_…`; else of each line, with what is known of it as
    /// `__journal_…` or `__syslog_…`. Labels that begin with `__` are gone behind them. Targets of
    /// [`FileSource::targets`] are behind them already.
    pub relabel: Vec<RelabelConfig>,
    /// What becomes of the lines; each route gets all of them. At least one.
    pub routes: Vec<LogRoute>,
}

/// A way of lines from a source to sinks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogRoute {
    /// What is done to them, in order.
    pub steps: Vec<RouteStep>,
    /// Indexes of [`LogsConfig::sinks`]; none if the broker of the agent is all there is.
    pub sinks: Vec<usize>,
}

/// What is done to lines on their way.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteStep {
    /// Stages of a pipeline.
    Stages(Vec<Stage>),
    /// Rules over the labels of each line; what they drop is dropped.
    Relabel(Vec<RelabelConfig>),
    /// Labels that each line gets that has none of that name.
    ExternalLabels(Labels),
    /// The end of a route that parts: each of these gets all lines. It has no sinks of its own then.
    Branches(Vec<LogRoute>),
}

/// Where lines come from.
#[derive(Debug, Clone, PartialEq)]
pub enum LogSource {
    /// Files that grow.
    Files(FileSource),
    /// Files of pods of Kubernetes on this node.
    Pods(PodSource),
    /// The journal of systemd.
    Journal(JournalSource),
    /// Messages of syslog that others send.
    Syslog(SyslogSource),
    /// Containers of a Docker daemon.
    Docker(DockerSource),
    /// What is piped into the program.
    Stdin {
        /// Labels of all lines.
        labels: Labels,
    },
}

/// Files that grow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileSource {
    /// Patterns that the configuration names, with the labels that rules left.
    pub targets: Vec<StaticTarget>,
    /// Files of target groups, whose targets have a label `__path__`.
    pub discovery: Vec<FileDiscovery>,
    /// How often patterns are looked at. Default 10 s.
    pub sync_period: Duration,
    /// The encoding of the files as the IANA names it; UTF-8 if none is told.
    pub encoding: Option<String>,
    /// Whether files are packed: `gz`, `z` or `bz2`. By their names if nothing is told.
    pub compression: Option<String>,
    /// Whether a file without a position is read from its end.
    pub tail_from_end: bool,
    /// Promtail's positions, which Alloy takes over if it has none of its own.
    pub legacy_positions: Option<PathBuf>,
}

/// Files of pods of Kubernetes on this node: `<namespace>_<pod>_<uid>/<container>/<n>.log` below a
/// directory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodSource {
    /// Where they are: `/var/log/pods`.
    pub directory: PathBuf,
    /// Whose pods; those of all namespaces if there are none.
    pub namespaces: Vec<String>,
    /// As [`FileSource::sync_period`].
    pub sync_period: Duration,
    /// As [`FileSource::tail_from_end`].
    pub tail_from_end: bool,
}

/// Files of one pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticTarget {
    /// A path, which may have `*`, `**`, `?`, `[…]` and `{a,b}`.
    pub path: String,
    /// Files that are left out although the path matches.
    pub exclude: Option<String>,
    /// Labels of the lines; none begins with `__`.
    pub labels: Labels,
}

/// The journal of systemd.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalSource {
    /// Lines older than this are not read at the first start. Default 7 h.
    pub max_age: Duration,
    /// Whether a line is the whole entry as JSON instead of its message.
    pub as_json: bool,
    /// The directory of the journal; the system's if none is told.
    pub path: Option<PathBuf>,
    /// `FIELD=value`, all of which have to hold; as `journalctl` takes them.
    pub matches: Vec<String>,
    /// Labels of all lines.
    pub labels: Labels,
}

impl Default for JournalSource {
    fn default() -> Self {
        JournalSource {
            max_age: Duration::from_secs(7 * 3_600),
            as_json: false,
            path: None,
            matches: Vec::new(),
            labels: Labels::empty(),
        }
    }
}

/// How messages of syslog come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyslogTransport {
    /// Streams, with TLS if there is a certificate.
    #[default]
    Tcp,
    /// A message for each datagram.
    Udp,
}

/// Messages of syslog that others send.
#[derive(Debug, Clone, PartialEq)]
pub struct SyslogSource {
    /// Where to listen: `0.0.0.0:1514`.
    pub listen_address: String,
    /// How messages come.
    pub transport: SyslogTransport,
    /// Certificates, if streams are encrypted.
    pub tls: Option<TlsConfig>,
    /// A stream that is silent for so long is closed. Default 2 min.
    pub idle_timeout: Duration,
    /// Whether structured data of a message become labels `__syslog_message_sd_…`.
    pub label_structured_data: bool,
    /// Whether the time of the message counts, not that of its arrival.
    pub use_incoming_timestamp: bool,
    /// Whether the line is the whole message.
    pub use_rfc5424_message: bool,
    /// Whether messages are of RFC 3164.
    pub is_rfc3164: bool,
    /// Longest message in bytes. Default 8,192.
    pub max_message_bytes: u64,
    /// Labels of all lines.
    pub labels: Labels,
}

/// Containers of a Docker daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct DockerSource {
    /// The daemon: `unix:///var/run/docker.sock`.
    pub host: String,
    /// How often the daemon is asked for its containers. Default 60 s.
    pub refresh_interval: Duration,
    /// Filters as the daemon has them, such as `name` with values.
    pub filters: Vec<(String, Vec<String>)>,
    /// Labels of all lines.
    pub labels: Labels,
}

/// Limits over all jobs of a collector.
#[derive(Debug, Clone, PartialEq)]
pub struct LineLimits {
    /// Lines a second, and how many at once; `None` for as many as there are.
    pub rate: Option<(f64, u64)>,
    /// Whether lines above the rate are dropped; else the sources wait.
    pub drop_above_rate: bool,
    /// Most streams at a time; 0 for any number.
    pub max_streams: u64,
    /// Longest line in bytes; 0 for any length.
    pub max_line_bytes: u64,
    /// Whether longer lines are cut; else they are dropped.
    pub truncate_lines: bool,
}

impl Default for LineLimits {
    fn default() -> Self {
        LineLimits {
            rate: None,
            drop_above_rate: true,
            max_streams: 0,
            max_line_bytes: 0,
            truncate_lines: false,
        }
    }
}

/// A system that lines are pushed to.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSink {
    /// What it is called.
    pub name: String,
    /// Where it is: the whole URL of its push.
    pub url: HttpUrl,
    /// What it speaks.
    pub protocol: SinkProtocol,
    /// How to speak to it.
    pub http: HttpClientConfig,
    /// Whose lines they are, if a line does not say.
    pub tenant: Option<String>,
    /// Headers of each request, by ascending name.
    pub headers: Vec<(String, String)>,
    /// Labels that each line gets that has none of that name.
    pub external_labels: Labels,
    /// Longest wait of a line for its request to fill. Default 1 s.
    pub batch_wait: Duration,
    /// Bytes of lines of a request. Default 1 MiB.
    pub batch_bytes: u64,
    /// Longest time one request may take. Default 10 s.
    pub timeout: Duration,
    /// First pause after a failure. Default 500 ms.
    pub min_backoff: Duration,
    /// Longest pause after failures. Default 5 min.
    pub max_backoff: Duration,
}

/// Protocols in which lines are pushed.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkProtocol {
    /// Loki's push.
    Loki,
    /// OTLP logs over HTTP, in protobuf.
    Otlp,
    /// `PutLogs` of Aliyun's Simple Log Service.
    Sls(Box<SlsTarget>),
}

/// Where lines are put in Aliyun's Simple Log Service, and who puts them there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SlsTarget {
    /// Project and endpoint: `my-project.cn-hangzhou.log.aliyuncs.com`.
    pub host: String,
    /// The log store.
    pub logstore: String,
    /// `__topic__` of all lines; empty for none.
    pub topic: String,
    /// `__source__` of all lines; the host's name if it is empty.
    pub source: String,
    /// The id of the access key. Without it and its file the environment counts.
    pub access_key_id: Secret,
    /// The file that holds it; read before each request, trimmed.
    pub access_key_id_file: Option<PathBuf>,
    /// The secret of the access key.
    pub access_key_secret: Secret,
    /// The file that holds it.
    pub access_key_secret_file: Option<PathBuf>,
    /// The file with the token of a key that was lent (STS).
    pub security_token_file: Option<PathBuf>,
}

impl LogSink {
    /// A sink with the defaults both collectors have.
    pub fn new(name: &str, url: HttpUrl) -> Self {
        LogSink {
            name: name.to_owned(),
            url,
            protocol: SinkProtocol::Loki,
            http: HttpClientConfig::default(),
            tenant: None,
            headers: Vec::new(),
            external_labels: Labels::empty(),
            batch_wait: Duration::from_secs(1),
            batch_bytes: 1 << 20,
            timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(300),
        }
    }
}
