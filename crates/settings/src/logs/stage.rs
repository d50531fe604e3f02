//! What is done to a line, as it is configured. Names and meanings are those of Promtail's
//! `pipeline_stages` and of Alloy's `loki.process`.
//!
//! Source: the manuals of Promtail, "Stages", and of Alloy, `loki.process`.

use std::time::Duration;

/// One stage. What can be checked without other crates was checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Lines of container runtimes.
    Cri(CriStage),
    /// Takes control sequences of terminals out of the line.
    Decolorize,
    /// Lines of Docker's driver `json-file`.
    Docker,
    /// Drops lines.
    Drop(DropStage),
    /// Values of a message of Windows' event log.
    EventLogMessage(EventLogMessageStage),
    /// Values of a JSON line.
    Json(JsonStage),
    /// Takes labels away.
    LabelDrop(Vec<String>),
    /// Takes all other labels away.
    LabelKeep(Vec<String>),
    /// Makes values labels.
    Labels(LabelsStage),
    /// Lets so many lines through.
    Limit(LimitStage),
    /// Values of a line of logfmt.
    Logfmt(LogfmtStage),
    /// Replaces numbers of credit cards and the like.
    Luhn(LuhnStage),
    /// Stages for some of the lines, or drops those.
    Match(MatchStage),
    /// Counts lines and values.
    Metrics(Vec<MetricStage>),
    /// Joins lines.
    Multiline(MultilineStage),
    /// Makes a value the line.
    Output {
        /// The name of the value.
        source: String,
    },
    /// Puts labels into the line.
    Pack(PackStage),
    /// Values by a pattern of LogQL.
    Pattern(PatternStage),
    /// Values by an expression.
    Regex(RegexStage),
    /// Replaces parts of the line.
    Replace(ReplaceStage),
    /// Lets a share of the lines through.
    Sampling(SamplingStage),
    /// Makes a line of each element of an array.
    SplitJson {
        /// The value that is split, instead of the line.
        source: Option<String>,
    },
    /// Labels that all lines get.
    StaticLabels(Vec<(String, String)>),
    /// Makes values metadata.
    StructuredMetadata(StructuredMetadataStage),
    /// Takes metadata away.
    StructuredMetadataDrop(Vec<String>),
    /// Makes a value by a template.
    Template(TemplateStage),
    /// Says whose the line is.
    Tenant(TenantStage),
    /// Says when the line was written.
    Timestamp(TimestampStage),
    /// Cuts what is too long.
    Truncate(Vec<TruncateRule>),
}

/// `cri`
#[derive(Debug, Clone, PartialEq)]
pub struct CriStage {
    /// Streams of which a line may wait for its end. Default 100.
    pub max_partial_lines: u64,
    /// Bytes of a line that was put together; 0 for any number.
    pub max_partial_line_bytes: u64,
    /// Whether it is cut there.
    pub truncate: bool,
}

impl Default for CriStage {
    fn default() -> Self {
        CriStage { max_partial_lines: 100, max_partial_line_bytes: 0, truncate: false }
    }
}

/// `drop`: all that is told has to hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DropStage {
    /// How the line is counted. Default `drop_stage`.
    pub reason: String,
    /// Values that `expression` is about, or that have to be there; the line if there are none.
    pub sources: Vec<String>,
    /// What stands between the values. Default `;`.
    pub separator: String,
    /// What has to match; a `value` has become `^value$`.
    pub expression: Option<String>,
    /// The line is older.
    pub older_than: Option<Duration>,
    /// The line has more bytes.
    pub longer_than: Option<u64>,
}

/// `eventlogmessage`
#[derive(Debug, Clone, PartialEq)]
pub struct EventLogMessageStage {
    /// The value with the message. Default `message`.
    pub source: String,
    /// Whether keys that are no names of labels are left out; else they are made some.
    pub drop_invalid_labels: bool,
    /// Whether a value that is there is replaced; else the new one is called `…_extracted`.
    pub overwrite_existing: bool,
}

/// `json`
#[derive(Debug, Clone, PartialEq)]
pub struct JsonStage {
    /// Names of values with the JMESPath of each, by ascending name; never empty.
    pub expressions: Vec<(String, String)>,
    /// The value that is read, instead of the line.
    pub source: Option<String>,
    /// Whether a line that is no JSON object is dropped.
    pub drop_malformed: bool,
}

/// `labels`
#[derive(Debug, Clone, PartialEq)]
pub struct LabelsStage {
    /// Labels with the names of their values, by ascending name.
    pub labels: Vec<(String, String)>,
    /// Whether the values are metadata.
    pub from_metadata: bool,
}

/// `limit`
#[derive(Debug, Clone, PartialEq)]
pub struct LimitStage {
    /// Which limit of the configuration it is; one that stands on several routes is one limit.
    pub id: u32,
    /// Lines a second.
    pub rate: f64,
    /// How many at once.
    pub burst: u64,
    /// Whether lines above are dropped; else the source waits.
    pub drop: bool,
    /// A limit for each value of this label.
    pub by_label_name: Option<String>,
    /// Most values of that label. At least 10,000.
    pub max_distinct_labels: u64,
}

/// `logfmt`
#[derive(Debug, Clone, PartialEq)]
pub struct LogfmtStage {
    /// Keys of the line with the names of their values, by ascending key.
    pub mapping: Vec<(String, String)>,
    /// Keys that become values of the same name.
    pub regex: Option<String>,
    /// The value that is read, instead of the line.
    pub source: Option<String>,
}

/// `luhn`
#[derive(Debug, Clone, PartialEq)]
pub struct LuhnStage {
    /// What takes their place. Default `**REDACTED**`.
    pub replacement: String,
    /// The value that is read, instead of the line.
    pub source: Option<String>,
    /// Fewest digits. Default 13.
    pub min_length: u64,
    /// Characters that may stand between digits.
    pub delimiters: String,
}

/// `match`
#[derive(Debug, Clone, PartialEq)]
pub struct MatchStage {
    /// A selector of LogQL, with filters.
    pub selector: String,
    /// What is done to those lines; nothing if they are dropped.
    pub stages: Vec<Stage>,
    /// Whether they are dropped, and how that is counted. Default `match_stage`.
    pub drop_reason: Option<String>,
}

/// One metric of `metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricStage {
    /// The whole name, with its prefix.
    pub name: String,
    /// Its help text.
    pub description: String,
    /// The value it is about.
    pub source: String,
    /// A series without a line for so long goes away. Default 5 min.
    pub max_idle: Duration,
    /// Only this value counts.
    pub value: Option<String>,
    /// What is done.
    pub kind: MetricKind,
}

/// What a metric is.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricKind {
    /// A sum that only grows.
    Counter {
        /// Whether the value is added; else one.
        adds: bool,
        /// Whether each line counts, whatever its values.
        match_all: bool,
        /// Whether the bytes of the line are added.
        count_entry_bytes: bool,
    },
    /// A number.
    Gauge(GaugeAction),
    /// How many values are how large.
    Histogram {
        /// Upper bounds, ascending, without infinity.
        buckets: Vec<f64>,
    },
}

/// What a line does to a gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaugeAction {
    /// Sets it.
    Set,
    /// Adds one.
    Inc,
    /// Takes one away.
    Dec,
    /// Adds the value.
    Add,
    /// Takes the value away.
    Sub,
}

/// `multiline`
#[derive(Debug, Clone, PartialEq)]
pub struct MultilineStage {
    /// What a first line matches.
    pub firstline: String,
    /// Most lines of a block. Default 128.
    pub max_lines: u64,
    /// A block without another line for so long is complete. Default 3 s.
    pub max_wait_time: Duration,
}

/// `pack`
#[derive(Debug, Clone, PartialEq)]
pub struct PackStage {
    /// Labels and values that go into the line.
    pub labels: Vec<String>,
    /// Whether the line gets the time at which it is packed. Default true.
    pub ingest_timestamp: bool,
}

/// `pattern`
#[derive(Debug, Clone, PartialEq)]
pub struct PatternStage {
    /// A pattern of LogQL.
    pub pattern: String,
    /// The value that is read, instead of the line.
    pub source: Option<String>,
    /// Whether values become labels as well.
    pub labels_from_groups: bool,
}

/// `regex`
#[derive(Debug, Clone, PartialEq)]
pub struct RegexStage {
    /// An expression with names for groups.
    pub expression: String,
    /// The value that is read, instead of the line.
    pub source: Option<String>,
    /// Whether values become labels as well.
    pub labels_from_groups: bool,
}

/// `replace`
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaceStage {
    /// An expression; what its groups match is replaced.
    pub expression: String,
    /// The value that is read and written, instead of the line.
    pub source: Option<String>,
    /// A template for what takes the place of a group.
    pub replace: String,
}

/// `sampling`
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingStage {
    /// The share that gets through, 0 to 1.
    pub rate: f64,
    /// How others are counted. Default `sampling_stage`.
    pub reason: String,
}

/// `structured_metadata`
#[derive(Debug, Clone, PartialEq)]
pub struct StructuredMetadataStage {
    /// Names of metadata with the names of their values, by ascending name. Labels of such a name
    /// are moved.
    pub values: Vec<(String, String)>,
    /// Values and labels that become metadata of the same name.
    pub regex: Option<String>,
}

/// `template`
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateStage {
    /// The value that is made.
    pub source: String,
    /// A template of Go.
    pub template: String,
}

/// `tenant`
#[derive(Debug, Clone, PartialEq)]
pub enum TenantStage {
    /// What a label says.
    Label(String),
    /// What a value says.
    Source(String),
    /// Always the same.
    Value(String),
}

/// `timestamp`
#[derive(Debug, Clone, PartialEq)]
pub struct TimestampStage {
    /// The value with the time.
    pub source: String,
    /// A layout of Go, the name of one, or `Unix`, `UnixMs`, `UnixUs`, `UnixNs`.
    pub format: String,
    /// What is tried next.
    pub fallback_formats: Vec<String>,
    /// The zone of times that name none, as the IANA calls it.
    pub location: Option<String>,
    /// Whether a line whose time cannot be read gets the last one of its stream and a nanosecond more;
    /// else it keeps what it has.
    pub fudges: bool,
}

/// A rule of `truncate`.
#[derive(Debug, Clone, PartialEq)]
pub struct TruncateRule {
    /// Most bytes, the suffix included.
    pub limit: u64,
    /// What stands at the end of what was cut.
    pub suffix: String,
    /// Names of what is cut; all if there are none.
    pub sources: Vec<String>,
    /// What is cut.
    pub target: TruncateTarget,
}

/// What a rule of `truncate` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruncateTarget {
    /// The line.
    #[default]
    Line,
    /// Labels.
    Label,
    /// Structured metadata.
    StructuredMetadata,
    /// Extracted values.
    Extracted,
}
