//! Defaults for all jobs, and the sections about the process itself.

use std::path::PathBuf;
use std::time::Duration;

use model::Labels;

use super::{NameEscaping, ScrapeProtocol, TlsConfig};
use crate::NameValidation;

/// The section `global`. Every limit of 0 means no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// Default 1 min.
    pub scrape_interval: Duration,
    /// Default 10 s, at most `scrape_interval`.
    pub scrape_timeout: Duration,
    /// Default 1 min.
    pub evaluation_interval: Duration,
    /// How far rules look into the past. Default 0.
    pub rule_query_offset: Duration,
    /// Labels added to what leaves this process: remote write, federation, alerts. `$NAME` and
    /// `${NAME}` have been replaced from the environment.
    pub external_labels: Labels,
    /// `None` leaves the choice to each job.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// A file to which queries are logged.
    pub query_log_file: Option<PathBuf>,
    /// A file to which failed scrapes are logged.
    pub scrape_failure_log_file: Option<PathBuf>,
    /// Largest unpacked answer in bytes.
    pub body_size_limit: u64,
    /// Most samples of one scrape.
    pub sample_limit: u64,
    /// Most targets of a job.
    pub target_limit: u64,
    /// Most labels of a series.
    pub label_limit: u64,
    /// Longest label name in bytes.
    pub label_name_length_limit: u64,
    /// Longest label value in bytes.
    pub label_value_length_limit: u64,
    /// Most dropped targets of a job kept to be shown.
    pub keep_dropped_targets: u64,
    /// Which names are valid.
    pub metric_name_validation_scheme: NameValidation,
    /// How targets are asked to escape names; `None` follows from the validation scheme.
    pub metric_name_escaping_scheme: Option<NameEscaping>,
    /// Whether native histograms are taken.
    pub scrape_native_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether a classic histogram is taken also where a native one of that name came.
    pub always_scrape_classic_histograms: bool,
    /// Whether three more series are written for each target.
    pub extra_scrape_metrics: bool,
}

impl Default for Global {
    fn default() -> Self {
        Global {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(60),
            rule_query_offset: Duration::ZERO,
            external_labels: Labels::empty(),
            scrape_protocols: None,
            query_log_file: None,
            scrape_failure_log_file: None,
            body_size_limit: 0,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: NameValidation::Utf8,
            metric_name_escaping_scheme: None,
            scrape_native_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
        }
    }
}

/// The section `storage`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Storage {
    /// `tsdb.out_of_order_time_window`. Watchfire takes samples of any age inside retention.
    pub out_of_order_time_window: Option<Duration>,
    /// `tsdb.retention.time`; `None` leaves Watchfire's own setting.
    pub retention_time: Option<Duration>,
    /// `tsdb.retention.size` in bytes; `None` leaves Watchfire's own setting.
    pub retention_size: Option<u64>,
    /// `tsdb.retention.percentage` of the disk, 0 to 100.
    pub retention_percentage: Option<f64>,
    /// `exemplars.max_exemplars`; 0 or less turns exemplars off.
    pub max_exemplars: Option<i64>,
}

/// The section `tracing`: where Prometheus would send spans of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// `grpc` or `http`.
    pub client_type: String,
    /// Host and port; never empty.
    pub endpoint: String,
    /// The share of requests that is traced, 0 to 1.
    pub sampling_fraction: f64,
    /// Whether TLS is off.
    pub insecure: bool,
    /// TLS towards the endpoint.
    pub tls: TlsConfig,
    /// Headers added to every request, by ascending name.
    pub headers: Vec<(String, String)>,
    /// Whether requests are compressed with gzip.
    pub compression: bool,
    /// Time one request may take; 0 for the client's own default.
    pub timeout: Duration,
}

/// The section `otlp`: how OTLP metrics become series.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Whether all resource attributes become labels.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that become labels.
    pub promote_resource_attributes: Vec<String>,
    /// Resource attributes that do not, where all others do.
    pub ignore_resource_attributes: Vec<String>,
    /// How names are translated.
    pub translation_strategy: TranslationStrategy,
    /// Whether `service.name`, `service.namespace` and `service.instance.id` stay in
    /// `target_info` too.
    pub keep_identifying_resource_attributes: bool,
    /// Whether explicit histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether the scope's name, version, schema and attributes become labels.
    pub promote_scope_metadata: bool,
    /// Whether `key_` is put before label names that start with one `_`.
    pub label_name_underscore_sanitization: bool,
    /// Whether runs of `_` in label names are kept.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for Otlp {
    fn default() -> Self {
        Otlp {
            promote_all_resource_attributes: false,
            promote_resource_attributes: Vec::new(),
            ignore_resource_attributes: Vec::new(),
            translation_strategy: TranslationStrategy::UnderscoreEscapingWithSuffixes,
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

/// How names of OTLP become names of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TranslationStrategy {
    /// Other characters become `_`, unit and type are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Other characters become `_`, nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay, unit and type are appended.
    NoUtf8EscapingWithSuffixes,
    /// Names stay.
    NoTranslation,
}
