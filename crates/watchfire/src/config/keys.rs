//! The keys of the file, as they are written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The keys of the file. All are optional; `docs/operating/configuration.md` describes each.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) data: Option<PathBuf>,
    pub(super) listen: Option<String>,
    pub(super) peer_listen: Option<String>,
    pub(super) prometheus_config: Option<PathBuf>,
    pub(super) enable_features: Vec<String>,
    pub(super) storage: Storage,
    pub(super) cluster: Cluster,
    pub(super) memory: Memory,
    pub(super) query_cache: QueryCache,
    pub(super) agent: Agent,
    pub(super) logs: Logs,
    pub(super) console: Console,
    pub(super) limits: LimitKeys,
    pub(super) http: Http,
    pub(super) tls: Tls,
    pub(super) auth: Auth,
    pub(super) otlp: Otlp,
    pub(super) graphite: Graphite,
    pub(super) opentsdb: OpenTsdb,
    pub(super) syslog: Syslog,
    pub(super) remote_write: RemoteWrite,
    pub(super) ha_tracker: HaTracker,
    pub(super) stream_aggregation: StreamAggregation,
    pub(super) tenants: BTreeMap<String, TenantKeys>,
    pub(super) rules: Rules,
    pub(super) alertmanager: Alertmanager,
    pub(super) own_metrics: OwnMetrics,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OwnMetrics {
    pub(super) enabled: Option<bool>,
    pub(super) interval: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rules {
    pub(super) enabled: Option<bool>,
    pub(super) files: Vec<String>,
    pub(super) log_files: Vec<String>,
    pub(super) evaluation_interval: Option<String>,
    pub(super) query_offset: Option<String>,
    pub(super) builtin: Option<bool>,
    pub(super) builtin_off: Vec<String>,
    pub(super) catch_up: Option<String>,
    pub(super) max_alerts: Option<usize>,
    pub(super) max_alerts_per_rule: Option<usize>,
    pub(super) max_series_per_rule: Option<usize>,
    pub(super) groups_at_once: Option<usize>,
    pub(super) max_managed_groups: Option<usize>,
    pub(super) max_rules_per_group: Option<usize>,
    pub(super) resend_delay: Option<String>,
    pub(super) notification_queue_capacity: Option<usize>,
    pub(super) notification_batch_size: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Alertmanager {
    pub(super) config_file: Option<PathBuf>,
    pub(super) matchers: Option<Matchers>,
    pub(super) external_url: Option<String>,
    pub(super) max_alerts: Option<usize>,
    pub(super) max_alerts_per_name: Option<usize>,
    pub(super) max_silences: Option<usize>,
    pub(super) dispatch_start_delay: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Matchers {
    Fallback,
    Utf8,
    Classic,
}

/// Which lines of logs are collected.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Logs {
    pub(super) collect: Option<bool>,
    pub(super) host: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) journal: LogJournal,
    pub(super) files: Vec<LogFiles>,
    pub(super) containers: Option<bool>,
    pub(super) syslog: Vec<LogSyslog>,
    pub(super) stdin: Option<LogStdin>,
    /// Read from the document.
    pub(super) sinks: Option<IgnoredAny>,
    pub(super) spool: LogSpool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogJournal {
    pub(super) enabled: Option<bool>,
    pub(super) command: Option<PathBuf>,
    pub(super) arguments: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) first_lines: Option<u32>,
    pub(super) max_age: Option<String>,
    /// Read from the document.
    pub(super) stages: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogFiles {
    pub(super) paths: Vec<String>,
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) encoding: Option<String>,
    pub(super) start_at: Option<LogStart>,
    pub(super) format: Option<LogFormat>,
    /// Read from the document.
    pub(super) stages: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogSyslog {
    pub(super) listen: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Read from the document.
    pub(super) stages: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogStdin {
    pub(super) labels: BTreeMap<String, String>,
    /// Read from the document.
    pub(super) stages: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogStart {
    Beginning,
    End,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogFormat {
    Plain,
    Docker,
    Cri,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogSpool {
    pub(super) limit_bytes: Option<u64>,
    pub(super) disk_share_percent: Option<u8>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TenantKeys {
    /// All but those of the whole process.
    pub(super) limits: LimitKeys,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RemoteWrite {
    pub(super) limit_bytes: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HaTracker {
    pub(super) enabled: Option<bool>,
    pub(super) cluster_label: Option<String>,
    pub(super) replica_label: Option<String>,
    pub(super) failover_timeout: Option<String>,
    pub(super) max_clusters: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StreamAggregation {
    pub(super) config_file: Option<PathBuf>,
    pub(super) drop_input: Option<bool>,
    pub(super) keep_input: Option<bool>,
    /// Read apart, because faults in it have places of their own.
    pub(super) rules: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Graphite {
    pub(super) listen: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OpenTsdb {
    pub(super) listen: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Syslog {
    pub(super) udp_listen: Option<String>,
    pub(super) tcp_listen: Option<String>,
    pub(super) tls_listen: Option<String>,
    pub(super) max_message_bytes: Option<usize>,
    pub(super) utc_offset: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) tenant: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Otlp {
    pub(super) grpc_listen: Option<String>,
    pub(super) http_listen: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) names: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    pub(super) login: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Storage {
    pub(super) store: Option<String>,
    pub(super) store_segments: Option<String>,
    pub(super) retention: Option<String>,
    pub(super) retention_size_bytes: Option<u64>,
    pub(super) logs_retention: Option<String>,
    pub(super) retention_rules: Vec<RetentionRule>,
    pub(super) downsampling: Option<Vec<Downsampling>>,
    pub(super) rollups: Option<Vec<Rollups>>,
    pub(super) flush_interval: Option<String>,
    pub(super) flush_bytes: Option<u64>,
    pub(super) exemplars: Exemplars,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cluster {
    pub(super) join: Vec<String>,
    pub(super) name: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) advertise: Option<String>,
    pub(super) accept_weaker_durability: Option<bool>,
    pub(super) cache: Option<String>,
    pub(super) cache_bytes: Option<u64>,
    pub(super) share_cache: Option<bool>,
    pub(super) spread_queries: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Downsampling {
    pub(super) selector: String,
    pub(super) after: String,
    pub(super) interval: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollups {
    pub(super) resolution: String,
    #[serde(rename = "for")]
    pub(super) kept: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionRule {
    pub(super) selector: String,
    #[serde(rename = "for")]
    pub(super) kept: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Exemplars {
    pub(super) max_exemplars: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Memory {
    pub(super) limit_bytes: Option<u64>,
    pub(super) idle_series: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QueryCache {
    pub(super) max_bytes: Option<usize>,
    pub(super) recent: Option<String>,
}

/// What concerns collecting and shipping.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agent {
    pub(super) enabled: Option<bool>,
    pub(super) interval: Option<String>,
    pub(super) job: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) top_processes: Option<usize>,
    pub(super) enabled_collectors: Vec<String>,
    pub(super) disabled_collectors: Vec<String>,
    pub(super) textfile_directories: Vec<PathBuf>,
    pub(super) collectors: agent::CollectorSettings,
    pub(super) proc_root: Option<PathBuf>,
    pub(super) sys_root: Option<PathBuf>,
    pub(super) root_fs: Option<PathBuf>,
    pub(super) udev_root: Option<PathBuf>,
    pub(super) brokers: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) spool: Spool,
    pub(super) windows: Vec<Window>,
    pub(super) reductions: Vec<Reduction>,
}

/// What concerns a console in a process of its own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Console {
    pub(super) brokers: Vec<String>,
    pub(super) clusters: Vec<ConsoleCluster>,
    pub(super) cluster_label: Option<String>,
}

/// A cluster that a console shows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsoleCluster {
    pub(super) name: String,
    pub(super) brokers: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spool {
    pub(super) limit_bytes: Option<u64>,
    pub(super) disk_share_percent: Option<u8>,
    pub(super) policy: Option<Policy>,
    pub(super) memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Policy {
    DropOldest,
    Pause,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    #[serde(rename = "match")]
    pub(super) selector: String,
    pub(super) window: String,
    #[serde(default)]
    pub(super) step: Option<String>,
    pub(super) statistics: Vec<Statistic>,
    #[serde(default)]
    pub(super) replaces: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Statistic {
    Min,
    Max,
    Mean,
    Last,
    Count,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reduction {
    #[serde(rename = "match")]
    pub(super) selector: String,
    #[serde(default)]
    pub(super) tolerance: f64,
    #[serde(default)]
    pub(super) relative_tolerance: f64,
    #[serde(default)]
    pub(super) heartbeat: Option<String>,
    #[serde(default)]
    pub(super) pace: Pace,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pace {
    #[default]
    OnChange,
    Adaptive,
}

/// Of all tenants or of one; `max_tenants` and `max_query_bytes` are of the whole process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitKeys {
    pub(super) max_labels_per_series: Option<usize>,
    pub(super) max_label_name_bytes: Option<usize>,
    pub(super) max_label_value_bytes: Option<usize>,
    pub(super) max_active_series: Option<usize>,
    pub(super) max_new_series_per_second: Option<usize>,
    pub(super) max_values_per_label: Option<usize>,
    pub(super) ingestion_rate: Option<usize>,
    pub(super) ingestion_burst_size: Option<usize>,
    pub(super) max_future_ms: Option<i64>,
    pub(super) max_tenants: Option<usize>,
    pub(super) max_body_bytes: Option<usize>,
    pub(super) max_query_samples: Option<usize>,
    pub(super) max_query_series: Option<usize>,
    pub(super) max_query_bytes: Option<usize>,
    pub(super) query_timeout_ms: Option<u64>,
    pub(super) max_concurrent_queries: Option<usize>,
    pub(super) logs: LogLimitKeys,
}

/// Of lines of logs, by Loki's names, but that sizes are bytes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogLimitKeys {
    pub(super) max_line_size: Option<usize>,
    pub(super) max_line_size_truncate: Option<bool>,
    pub(super) max_line_size_truncate_identifier: Option<String>,
    pub(super) max_label_names_per_series: Option<usize>,
    pub(super) max_label_name_length: Option<usize>,
    pub(super) max_label_value_length: Option<usize>,
    pub(super) reject_old_samples: Option<bool>,
    pub(super) reject_old_samples_max_age: Option<String>,
    pub(super) creation_grace_period: Option<String>,
    pub(super) allow_structured_metadata: Option<bool>,
    pub(super) max_structured_metadata_size: Option<usize>,
    pub(super) max_structured_metadata_entries_count: Option<usize>,
    pub(super) discover_log_levels: Option<bool>,
    pub(super) log_level_fields: Option<Vec<String>>,
    pub(super) log_level_from_json_max_depth: Option<usize>,
    pub(super) discover_service_name: Option<Vec<String>>,
    pub(super) ingestion_rate_bytes: Option<usize>,
    pub(super) ingestion_burst_bytes: Option<usize>,
    pub(super) per_stream_rate_limit: Option<usize>,
    pub(super) per_stream_rate_limit_burst: Option<usize>,
    pub(super) max_streams_per_user: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) max_connections: Option<usize>,
    pub(super) max_inflight_body_bytes: Option<usize>,
    pub(super) allowed_hosts: Vec<String>,
    pub(super) cors_origins: Vec<String>,
}
