//! What to scrape and how.

use std::path::PathBuf;
use std::time::Duration;

use super::{Discovery, HttpClientConfig};
use crate::NameValidation;
use crate::relabel::RelabelConfig;

/// One entry of `scrape_configs`, with what `global` says filled in wherever the entry is silent.
///
/// Every limit of 0 means no limit, as in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeConfig {
    /// The value of the label `job`; unique and not empty.
    pub job_name: String,
    /// Whether labels of the target win over those Watchfire would add.
    pub honor_labels: bool,
    /// Whether timestamps of the target are kept.
    pub honor_timestamps: bool,
    /// Whether series with timestamps of the target get staleness markers.
    pub track_timestamps_staleness: bool,
    /// Query parameters, by ascending name, each with its values in the order of the file.
    pub params: Vec<(String, Vec<String>)>,
    /// Time between two scrapes of a target.
    pub scrape_interval: Duration,
    /// Time one scrape may take; at most `scrape_interval`.
    pub scrape_timeout: Duration,
    /// Formats to ask for, the preferred first; never empty, no duplicates.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// The format of answers whose `Content-Type` says nothing usable; without it such a scrape
    /// fails.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether native histograms are taken.
    pub scrape_native_histograms: bool,
    /// Whether a classic histogram is taken also where a native one of that name came.
    pub always_scrape_classic_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are
    /// written for each target.
    pub extra_scrape_metrics: bool,
    /// A file to which failed scrapes are logged.
    pub scrape_failure_log_file: Option<PathBuf>,
    /// The path on the target.
    pub metrics_path: String,
    /// The scheme, `http` or `https`; relabeling may still change it per target.
    pub scheme: String,
    /// Whether compressed answers are asked for.
    pub enable_compression: bool,
    /// Largest unpacked answer in bytes.
    pub body_size_limit: u64,
    /// Most samples of one scrape, after metric relabeling.
    pub sample_limit: u64,
    /// Most targets of this job, after relabeling.
    pub target_limit: u64,
    /// Most labels of a series, after metric relabeling.
    pub label_limit: u64,
    /// Longest label name in bytes, after metric relabeling.
    pub label_name_length_limit: u64,
    /// Longest label value in bytes, after metric relabeling.
    pub label_value_length_limit: u64,
    /// Most buckets of a native histogram; beyond, its resolution is lowered.
    pub native_histogram_bucket_limit: u64,
    /// Least growth factor from one bucket to the next; below, the resolution is lowered. 0 means
    /// no limit.
    pub native_histogram_min_bucket_factor: f64,
    /// Most dropped targets kept to be shown.
    pub keep_dropped_targets: u64,
    /// Which names are valid.
    pub metric_name_validation_scheme: NameValidation,
    /// How the target is asked to write names that old readers cannot read.
    pub metric_name_escaping_scheme: NameEscaping,
    /// How to speak to the targets.
    pub http: HttpClientConfig,
    /// Where the targets come from, in the order of the file.
    pub discovery: Vec<Discovery>,
    /// Rules over the labels of targets.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules over the labels of every scraped series.
    pub metric_relabel_configs: Vec<RelabelConfig>,
}

/// Exposition formats by the names the file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// `PrometheusProto`.
    PrometheusProto,
    /// `PrometheusText0.0.4`.
    PrometheusText0_0_4,
    /// `PrometheusText1.0.0`.
    PrometheusText1_0_0,
    /// `OpenMetricsText0.0.1`.
    OpenMetricsText0_0_1,
    /// `OpenMetricsText1.0.0`.
    OpenMetricsText1_0_0,
}

impl ScrapeProtocol {
    /// All of them, by ascending name.
    pub const ALL: [ScrapeProtocol; 5] = [
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::PrometheusText0_0_4,
        ScrapeProtocol::PrometheusText1_0_0,
    ];

    /// What is asked for where neither the job nor `global` says anything.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::PrometheusText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4,
    ];

    /// As [`ScrapeProtocol::DEFAULT`] where native histograms are wanted: only protobuf carries
    /// them.
    pub const DEFAULT_WITH_NATIVE_HISTOGRAMS: [ScrapeProtocol; 5] = [
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::PrometheusText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4,
    ];

    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => "PrometheusProto",
            ScrapeProtocol::PrometheusText0_0_4 => "PrometheusText0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "PrometheusText1.0.0",
            ScrapeProtocol::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
        }
    }

    /// The media type for the header `Accept`, without `q` and `escaping`.
    pub fn media_type(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            ScrapeProtocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
        }
    }
}

/// How targets write names that the legacy syntax cannot express; the value of `escaping=` in the
/// header `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameEscaping {
    /// Not at all: `allow-utf-8`.
    #[default]
    AllowUtf8,
    /// Every other character becomes `_`: `underscores`.
    Underscores,
    /// Dots become `_dot_`: `dots`.
    Dots,
    /// `U__` and code points: `values`.
    Values,
}

impl NameEscaping {
    /// The value in the file and in the header.
    pub fn name(self) -> &'static str {
        match self {
            NameEscaping::AllowUtf8 => "allow-utf-8",
            NameEscaping::Underscores => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }
}
