//! Limits of one tenant. Each error that names a limit also names its key in the configuration.

use std::sync::Arc;

use crate::log_limits::LogLimits;

/// Largest request after decompression, in bytes, where nothing is configured: Prometheus' own cap for a
/// decoded remote write request.
pub(crate) const DEFAULT_MAX_BODY_BYTES: usize = 32 << 20;

/// What one tenant may send and ask for. `Default` gives the documented defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Most labels one series may have (`limits.max_labels_per_series`).
    pub max_labels_per_series: usize,
    /// Longest label name in bytes (`limits.max_label_name_bytes`).
    pub max_label_name_bytes: usize,
    /// Longest label value in bytes (`limits.max_label_value_bytes`).
    pub max_label_value_bytes: usize,
    /// Most series that may have samples in memory (`limits.max_active_series`).
    pub max_active_series: usize,
    /// Most new series in a second, averaged over ten (`limits.max_new_series_per_second`); 0 for
    /// as many as come.
    pub max_new_series_per_second: usize,
    /// Most values one label may have among active series (`limits.max_values_per_label`), the
    /// metric's name not counted; 0 for as many as come.
    pub max_values_per_label: usize,
    /// Most samples in a second (`limits.ingestion_rate`); 0 for as many as come.
    pub ingestion_rate: usize,
    /// Most samples at once (`limits.ingestion_burst_size`); 0 for those of ten seconds.
    pub ingestion_burst_size: usize,
    /// How far in the future a sample may lie (`limits.max_future_ms`).
    pub max_future_ms: i64,
    /// Largest request body after decompression (`limits.max_body_bytes`).
    pub max_body_bytes: usize,
    /// Most samples one query may load (`limits.max_query_samples`).
    pub max_query_samples: usize,
    /// Most series one selector may match (`limits.max_query_series`).
    pub max_query_series: usize,
    /// Longest time one query may run (`limits.query_timeout_ms`).
    pub query_timeout_ms: u64,
    /// Most queries of the tenant that may run at once (`limits.max_concurrent_queries` of a tenant);
    /// 0 for its share of those that may run at all.
    pub max_concurrent_queries: usize,
    /// What lines of logs may be.
    pub logs: Arc<LogLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_labels_per_series: 128,
            max_label_name_bytes: 1_024,
            max_label_value_bytes: 8_192,
            max_active_series: 10_000_000,
            max_new_series_per_second: 0,
            max_values_per_label: 0,
            ingestion_rate: 0,
            ingestion_burst_size: 0,
            max_future_ms: 10 * 60 * 1_000,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            max_query_samples: 200_000_000,
            max_query_series: 1_000_000,
            query_timeout_ms: 120_000,
            max_concurrent_queries: 0,
            logs: Arc::default(),
        }
    }
}
