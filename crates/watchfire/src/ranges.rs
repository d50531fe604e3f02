//! What the numbers of the configuration may be: a value that cannot work is refused at the start,
//! with its key, instead of being met hours later.

use std::ops::RangeInclusive;

use anyhow::{Result, ensure};

use model::{Limits, LogLimits, MAX_LOG_LINE_BYTES};

use crate::config::Config;

const HOUR_MS: i128 = 3_600_000;

/// Checks everything in effect, whether it comes from the file or not.
///
/// # Errors
/// Names the first key whose value lies outside its range, the value, and the range.
pub(crate) fn check(config: &Config) -> Result<()> {
    let prefixed = |prefix: String, limits| {
        let all = of_limits(limits).into_iter();
        all.map(move |(key, value, range)| (format!("{prefix}.{key}"), value, range))
    };
    let of_all =
        numbers(config).into_iter().map(|(key, value, range)| (key.to_owned(), value, range));
    let of_all = of_all.chain(prefixed("limits".to_owned(), &config.limits));
    let of_tenants = config.tenants.limits.iter();
    let of_tenants =
        of_tenants.flat_map(|(name, own)| prefixed(format!("tenants.{name}.limits"), own));
    for (key, value, range) in of_all.chain(of_tenants) {
        let (min, max) = (range.start(), range.end());
        ensure!(
            range.contains(&value),
            "{key}: {value} is out of range; it must be from {min} to {max}{}",
            if (key.starts_with("storage.") || key.starts_with("memory.")) && !key.contains("bytes")
                || ["agent.interval", "ha_tracker.failover_timeout"].contains(&key.as_str())
            {
                " ms"
            } else {
                ""
            }
        );
    }
    for (key, text) in
        [("agent.job", &config.agent.job), ("agent.instance", &config.agent.instance)]
    {
        let max = config.limits.max_label_value_bytes;
        ensure!(
            (1..=max).contains(&text.len()),
            "{key}: {text:?} has {} bytes; a label needs 1 to {max}",
            text.len()
        );
    }
    Ok(())
}

/// Key, value and range of every number. `docs/operating/configuration.md` lists the same ranges.
fn numbers(config: &Config) -> Vec<(&'static str, i128, RangeInclusive<i128>)> {
    let count = |n: usize| n as i128;
    vec![
        // Blocks of less than a flush would never be seen.
        ("storage.retention", config.retention_ms.into(), HOUR_MS..=i64::MAX.into()),
        (
            "storage.retention_size_bytes",
            config.retention_size_bytes.unwrap_or(u64::MAX).into(),
            1 << 20..=u64::MAX.into(),
        ),
        ("storage.logs_retention", config.logs_retention_ms.into(), HOUR_MS..=i64::MAX.into()),
        // A flush cuts blocks at windows of two hours, so to wait longer gains nothing.
        ("storage.flush_interval", config.flush_interval_ms.into(), 10..=2 * HOUR_MS),
        ("storage.flush_bytes", config.flush_bytes.into(), 64 << 10..=16 << 30),
        ("syslog.max_message_bytes", count(config.syslog.max_message_bytes), 480..=16 << 20),
        ("storage.exemplars.max_exemplars", count(config.max_exemplars), 0..=10_000_000),
        (
            "remote_write.limit_bytes",
            config.remote_write_limit_bytes.into(),
            1 << 20..=u64::MAX.into(),
        ),
        (
            "ha_tracker.failover_timeout",
            config.ha.as_ref().map_or(30_000, |ha| ha.failover_timeout_ms).into(),
            1_000..=24 * HOUR_MS,
        ),
        (
            "ha_tracker.max_clusters",
            count(config.ha.as_ref().map_or(100, |ha| ha.max_clusters)),
            1..=10_000,
        ),
        ("cluster.cache_bytes", config.cluster.cache_bytes.into(), 0..=1 << 50),
        ("agent.interval", config.agent.interval_ms.into(), 100..=HOUR_MS),
        ("agent.top_processes", count(config.agent.top_processes), 0..=1_000),
        ("memory.limit_bytes", config.memory.limit_bytes().into(), 64 << 20..=1 << 50),
        // The registry notes in which minute a series was seen.
        ("memory.idle_series", config.idle_series_ms.into(), 60_000..=2 * HOUR_MS),
        ("limits.max_query_bytes", count(config.max_query_bytes), 1 << 20..=1 << 40),
        ("limits.max_tenants", count(config.tenants.max_tenants), 1..=100_000),
        ("limits.max_concurrent_queries", count(config.max_concurrent_queries), 1..=1_024),
        ("http.max_connections", count(config.max_connections), 1..=1_000_000),
        ("http.max_inflight_body_bytes", count(config.max_inflight_body_bytes), 1 << 20..=1 << 40),
    ]
}

/// Those that each tenant may have for itself, without what stands before them.
fn of_limits(limits: &Limits) -> Vec<(&'static str, i128, RangeInclusive<i128>)> {
    let count = |n: usize| n as i128;
    vec![
        ("max_labels_per_series", count(limits.max_labels_per_series), 1..=10_000),
        ("max_label_name_bytes", count(limits.max_label_name_bytes), 1..=64 << 10),
        ("max_label_value_bytes", count(limits.max_label_value_bytes), 1..=1 << 20),
        ("max_active_series", count(limits.max_active_series), 1..=1_000_000_000),
        ("max_new_series_per_second", count(limits.max_new_series_per_second), 0..=1_000_000_000),
        ("max_values_per_label", count(limits.max_values_per_label), 0..=1_000_000_000),
        ("ingestion_rate", count(limits.ingestion_rate), 0..=1_000_000_000),
        ("ingestion_burst_size", count(limits.ingestion_burst_size), 0..=10_000_000_000),
        ("max_future_ms", limits.max_future_ms.into(), 0..=366 * 24 * HOUR_MS),
        // What one frame of the log takes is the end of it.
        ("max_body_bytes", count(limits.max_body_bytes), 1 << 10..=256 << 20),
        ("max_query_samples", count(limits.max_query_samples), 1..=100_000_000_000),
        ("max_query_series", count(limits.max_query_series), 1..=1_000_000_000),
        ("query_timeout_ms", limits.query_timeout_ms.into(), 1..=24 * HOUR_MS),
        ("max_concurrent_queries", count(limits.max_concurrent_queries), 0..=1_024),
    ]
    .into_iter()
    .chain(of_lines(&limits.logs))
    .collect()
}

/// The same of limits of lines.
fn of_lines(limits: &LogLimits) -> Vec<(&'static str, i128, RangeInclusive<i128>)> {
    let count = |n: usize| n as i128;
    let most = MAX_LOG_LINE_BYTES as i128;
    let year_ns = 366 * 24 * HOUR_MS * 1_000_000;
    vec![
        ("logs.max_line_size", count(limits.max_line_bytes), 0..=most),
        ("logs.max_label_names_per_series", count(limits.max_label_names), 1..=10_000),
        ("logs.max_label_name_length", count(limits.max_label_name_bytes), 1..=64 << 10),
        ("logs.max_label_value_length", count(limits.max_label_value_bytes), 1..=1 << 20),
        ("logs.creation_grace_period", limits.creation_grace_ns.into(), 0..=year_ns),
        (
            "logs.max_structured_metadata_size",
            count(limits.max_structured_metadata_bytes),
            0..=most,
        ),
        (
            "logs.max_structured_metadata_entries_count",
            count(limits.max_structured_metadata_entries),
            0..=100_000,
        ),
        ("logs.ingestion_rate_bytes", count(limits.ingestion_rate_bytes), 0..=1 << 40),
        ("logs.ingestion_burst_bytes", count(limits.ingestion_burst_bytes), 0..=1 << 40),
        ("logs.per_stream_rate_limit", count(limits.stream_rate_bytes), 0..=1 << 40),
        ("logs.per_stream_rate_limit_burst", count(limits.stream_burst_bytes), 0..=1 << 40),
        ("logs.max_streams_per_user", count(limits.max_streams), 0..=1_000_000_000),
    ]
}
