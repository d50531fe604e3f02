//! Limits of one tenant for lines: Loki's, by its names and with its defaults.

use crate::limits::DEFAULT_MAX_BODY_BYTES;

/// What one tenant's lines may be. `Default` gives Loki's defaults, but that lines of any age are taken, and
/// as many as come.
///
/// Source: `limits_config` of Loki's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLimits {
    /// Largest request after decompression, in bytes (`limits.max_body_bytes`).
    pub max_body_bytes: usize,
    /// Longest line in bytes (`max_line_size`); 0 for as long as a store takes,
    /// [`crate::MAX_LOG_LINE_BYTES`].
    pub max_line_bytes: usize,
    /// Whether longer lines are cut instead of refused (`max_line_size_truncate`).
    pub truncate_lines: bool,
    /// What a cut line ends with, within its limit (`max_line_size_truncate_identifier`).
    pub truncate_identifier: String,
    /// Most labels of a stream, `service_name` not counted (`max_label_names_per_series`).
    pub max_label_names: usize,
    /// Longest name of a label in bytes (`max_label_name_length`).
    pub max_label_name_bytes: usize,
    /// Longest value of a label in bytes (`max_label_value_length`).
    pub max_label_value_bytes: usize,
    /// How old a line may be (`reject_old_samples_max_age`, in nanoseconds); `None` for any age.
    pub max_age_ns: Option<i64>,
    /// How far in the future a line may lie (`creation_grace_period`, in nanoseconds).
    pub creation_grace_ns: i64,
    /// Whether lines may have structured metadata (`allow_structured_metadata`).
    pub allow_structured_metadata: bool,
    /// Most bytes of the metadata of one line (`max_structured_metadata_size`); 0 for as many as a
    /// store takes.
    pub max_structured_metadata_bytes: usize,
    /// Most pairs of metadata of one line (`max_structured_metadata_entries_count`); 0 for any number.
    pub max_structured_metadata_entries: usize,
    /// Whether the level of each line is found out (`discover_log_levels`).
    pub discover_log_levels: bool,
    /// Labels and metadata that name a level, the first of them first (`log_level_fields`).
    pub log_level_fields: Vec<String>,
    /// Deepest object of a line in JSON in which a level is looked for, the line itself being 1; 0 for
    /// all (`log_level_from_json_max_depth`).
    pub log_level_json_depth: usize,
    /// Most bytes of lines and metadata in a second (`ingestion_rate_mb`); 0 for as many as come.
    pub ingestion_rate_bytes: usize,
    /// Most of them at once (`ingestion_burst_size_mb`); 0 for those of ten seconds.
    pub ingestion_burst_bytes: usize,
    /// Most bytes of one stream in a second (`per_stream_rate_limit`); 0 for as many as come.
    pub stream_rate_bytes: usize,
    /// Most of them at once (`per_stream_rate_limit_burst`); 0 for those of ten seconds.
    pub stream_burst_bytes: usize,
    /// Most streams that had a line within an hour (`max_streams_per_user`); 0 for any number.
    pub max_streams: usize,
    /// Labels of which the first becomes `service_name` where that is missing
    /// (`discover_service_name`); empty to add none.
    pub discover_service_name: Vec<String>,
}

/// Names of what holds a level, unless somebody names others; the first that is there counts. Source:
/// Loki, `DefaultAllowedLevelFields`.
pub const LEVEL_FIELDS: &[&str] = &[
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

impl Default for LogLimits {
    fn default() -> Self {
        const SERVICE_LABELS: &[&str] = &[
            "service",
            "app",
            "application",
            "app_name",
            "name",
            "app_kubernetes_io_name",
            "container",
            "container_name",
            "k8s_container_name",
            "component",
            "workload",
            "job",
            "k8s_job_name",
        ];
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        LogLimits {
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            max_line_bytes: 256 << 10,
            truncate_lines: false,
            truncate_identifier: String::new(),
            max_label_names: 15,
            max_label_name_bytes: 1_024,
            max_label_value_bytes: 2_048,
            // A spool may replay days: what is inside retention is taken.
            max_age_ns: None,
            creation_grace_ns: 10 * 60 * 1_000_000_000,
            allow_structured_metadata: true,
            max_structured_metadata_bytes: 64 << 10,
            max_structured_metadata_entries: 128,
            discover_log_levels: true,
            log_level_fields: owned(LEVEL_FIELDS),
            log_level_json_depth: 2,
            ingestion_rate_bytes: 0,
            ingestion_burst_bytes: 0,
            stream_rate_bytes: 0,
            stream_burst_bytes: 0,
            max_streams: 0,
            discover_service_name: owned(SERVICE_LABELS),
        }
    }
}
