//! `limits.logs:` and `tenants.<name>.limits.logs:`, by Loki's names.

use anyhow::Result;
use model::LogLimits;

use super::duration_or_none_ms;
use super::keys::LogLimitKeys;

const MILLISECOND_NS: i64 = 1_000_000;
/// How old lines may be where old ones are refused and nobody says how old.
const DEFAULT_MAX_AGE_MS: i64 = 7 * 86_400_000;

/// `default`, but for what the keys say. `prefix` is where they stand.
///
/// # Errors
/// A duration that is none, with its key.
pub(super) fn overridden(
    prefix: &str,
    keys: &LogLimitKeys,
    default: &LogLimits,
    max_body_bytes: usize,
) -> Result<LogLimits> {
    let duration_ns = |key: &str, text: &Option<String>| -> Result<Option<i64>> {
        let ms = duration_or_none_ms(&format!("{prefix}.logs.{key}"), text.as_deref())?;
        Ok(ms.map(|ms| ms.saturating_mul(MILLISECOND_NS)))
    };
    let max_age_ns = duration_ns("reject_old_samples_max_age", &keys.reject_old_samples_max_age)?;
    let max_age_ns = match (keys.reject_old_samples, max_age_ns.or(default.max_age_ns)) {
        (Some(false), _) => None,
        (None, max_age_ns) => max_age_ns,
        (Some(true), max_age_ns) => Some(max_age_ns.unwrap_or(DEFAULT_MAX_AGE_MS * MILLISECOND_NS)),
    };
    let grace_ns = duration_ns("creation_grace_period", &keys.creation_grace_period)?;
    let k = keys.clone();
    Ok(LogLimits {
        max_body_bytes,
        max_line_bytes: k.max_line_size.unwrap_or(default.max_line_bytes),
        truncate_lines: k.max_line_size_truncate.unwrap_or(default.truncate_lines),
        truncate_identifier: k
            .max_line_size_truncate_identifier
            .unwrap_or_else(|| default.truncate_identifier.clone()),
        max_label_names: k.max_label_names_per_series.unwrap_or(default.max_label_names),
        max_label_name_bytes: k.max_label_name_length.unwrap_or(default.max_label_name_bytes),
        max_label_value_bytes: k.max_label_value_length.unwrap_or(default.max_label_value_bytes),
        max_age_ns,
        creation_grace_ns: grace_ns.unwrap_or(default.creation_grace_ns),
        allow_structured_metadata: k
            .allow_structured_metadata
            .unwrap_or(default.allow_structured_metadata),
        max_structured_metadata_bytes: k
            .max_structured_metadata_size
            .unwrap_or(default.max_structured_metadata_bytes),
        max_structured_metadata_entries: k
            .max_structured_metadata_entries_count
            .unwrap_or(default.max_structured_metadata_entries),
        discover_log_levels: k.discover_log_levels.unwrap_or(default.discover_log_levels),
        log_level_fields: k.log_level_fields.unwrap_or_else(|| default.log_level_fields.clone()),
        log_level_json_depth: k
            .log_level_from_json_max_depth
            .unwrap_or(default.log_level_json_depth),
        ingestion_rate_bytes: k.ingestion_rate_bytes.unwrap_or(default.ingestion_rate_bytes),
        ingestion_burst_bytes: k.ingestion_burst_bytes.unwrap_or(default.ingestion_burst_bytes),
        stream_rate_bytes: k.per_stream_rate_limit.unwrap_or(default.stream_rate_bytes),
        stream_burst_bytes: k.per_stream_rate_limit_burst.unwrap_or(default.stream_burst_bytes),
        max_streams: k.max_streams_per_user.unwrap_or(default.max_streams),
        discover_service_name: k
            .discover_service_name
            .unwrap_or_else(|| default.discover_service_name.clone()),
    })
}

#[cfg(test)]
mod tests {
    use model::TenantName;

    use super::*;
    use crate::config::tests::load;

    const HOUR_NS: i64 = 3_600_000_000_000;

    #[test]
    fn keys_have_their_effect_for_all_and_for_one() {
        let config = load(
            "limits:\n  max_body_bytes: 5000\n  logs:\n    max_line_size: 100\n    reject_old_samples: true\n    \
             discover_service_name: []\n    creation_grace_period: 1h\ntenants:\n  acme:\n    limits:\n      \
             logs:\n        max_line_size_truncate: true\n        reject_old_samples_max_age: 2h\n        \
             max_streams_per_user: 7\n  b:\n    limits: {logs: {reject_old_samples: false}}\n",
        );
        let config = config.expect("valid");
        let of_all = &config.limits.logs;
        assert_eq!((of_all.max_line_bytes, of_all.max_body_bytes), (100, 5_000));
        assert_eq!(
            (of_all.max_age_ns, of_all.creation_grace_ns),
            (Some(7 * 24 * HOUR_NS), HOUR_NS)
        );
        assert!(of_all.discover_service_name.is_empty() && !of_all.truncate_lines);
        let of = |name| &config.tenants.limits[&TenantName::parse(name).expect("a name")].logs;
        assert_eq!((of("acme").max_line_bytes, of("acme").truncate_lines), (100, true));
        assert_eq!((of("acme").max_age_ns, of("acme").max_streams), (Some(2 * HOUR_NS), 7));
        assert_eq!(of("b").max_age_ns, None);
        let plain = load("").expect("valid").limits.logs;
        assert_eq!(
            *plain,
            LogLimits { max_body_bytes: plain.max_body_bytes, ..LogLimits::default() }
        );
        for (bad, named) in [
            ("limits: {logs: {max_line_size: 99999999}}", "limits.logs.max_line_size: "),
            (
                "limits: {logs: {creation_grace_period: soon}}",
                "limits.logs.creation_grace_period: ",
            ),
            (
                "tenants: {a: {limits: {logs: {max_label_names_per_series: 0}}}}",
                "tenants.a.limits.logs.max_label_names_per_series: ",
            ),
        ] {
            let error = format!("{:#}", load(bad).expect_err(bad));
            assert!(error.contains(named), "{error}");
        }
    }
}
