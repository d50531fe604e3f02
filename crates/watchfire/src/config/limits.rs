//! `limits:` and `tenants.<name>.limits:`.

use std::sync::Arc;

use anyhow::Result;
use model::Limits;

use super::keys::LimitKeys;
use super::log_limits;

/// Defaults that are smaller where there is little memory.
pub(super) struct Defaults {
    max_body_bytes: usize,
    pub(super) max_inflight_body_bytes: usize,
    pub(super) max_query_bytes: usize,
    max_query_series: usize,
}

impl Defaults {
    /// Those of a process that may take so many bytes.
    pub(super) fn of(memory_bytes: u64) -> Defaults {
        let part = |share: u64, min: u64, max: u64| {
            usize::try_from((memory_bytes / share).clamp(min, max)).unwrap_or(usize::MAX)
        };
        let limits = Limits::default();
        Defaults {
            // What is decoded takes up to nine times the body.
            max_body_bytes: part(32, 4 << 20, limits.max_body_bytes as u64),
            max_inflight_body_bytes: part(6, 16 << 20, 4 << 30),
            max_query_bytes: part(8, 1 << 20, 256 << 20),
            // A quarter is for queries, and a series takes half a KiB.
            max_query_series: part(4 * 512, 10_000, limits.max_query_series as u64),
        }
    }
}

/// The limits of a tenant that has none of its own.
///
/// # Errors
/// As [`overridden`].
pub(super) fn in_effect(keys: &LimitKeys, defaults: &Defaults) -> Result<Limits> {
    let default = Limits {
        max_body_bytes: defaults.max_body_bytes,
        max_query_series: defaults.max_query_series,
        ..Limits::default()
    };
    // In `limits` it is that of the process; a tenant has its share of it.
    let max_concurrent_queries = default.max_concurrent_queries;
    Ok(Limits { max_concurrent_queries, ..overridden("limits", keys, &default)? })
}

/// `default`, but for what the keys say. `prefix` is where they stand.
///
/// # Errors
/// One cannot be read.
pub(super) fn overridden(prefix: &str, keys: &LimitKeys, default: &Limits) -> Result<Limits> {
    let LimitKeys {
        max_labels_per_series,
        max_label_name_bytes,
        max_label_value_bytes,
        max_active_series,
        max_new_series_per_second,
        max_values_per_label,
        ingestion_rate,
        ingestion_burst_size,
        max_future_ms,
        max_body_bytes,
        max_query_samples,
        max_query_series,
        query_timeout_ms,
        max_concurrent_queries,
        max_tenants: _,
        max_query_bytes: _,
        ref logs,
    } = *keys;
    let max_body_bytes = max_body_bytes.unwrap_or(default.max_body_bytes);
    let logs = log_limits::overridden(prefix, logs, &default.logs, max_body_bytes)?;
    Ok(Limits {
        max_labels_per_series: max_labels_per_series.unwrap_or(default.max_labels_per_series),
        max_label_name_bytes: max_label_name_bytes.unwrap_or(default.max_label_name_bytes),
        max_label_value_bytes: max_label_value_bytes.unwrap_or(default.max_label_value_bytes),
        max_active_series: max_active_series.unwrap_or(default.max_active_series),
        max_new_series_per_second: max_new_series_per_second
            .unwrap_or(default.max_new_series_per_second),
        max_values_per_label: max_values_per_label.unwrap_or(default.max_values_per_label),
        ingestion_rate: ingestion_rate.unwrap_or(default.ingestion_rate),
        ingestion_burst_size: ingestion_burst_size.unwrap_or(default.ingestion_burst_size),
        max_future_ms: max_future_ms.unwrap_or(default.max_future_ms),
        max_body_bytes,
        max_query_samples: max_query_samples.unwrap_or(default.max_query_samples),
        max_query_series: max_query_series.unwrap_or(default.max_query_series),
        query_timeout_ms: query_timeout_ms.unwrap_or(default.query_timeout_ms),
        max_concurrent_queries: max_concurrent_queries.unwrap_or(default.max_concurrent_queries),
        logs: Arc::new(logs),
    })
}
