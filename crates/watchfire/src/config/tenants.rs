//! `tenants:` and `limits.max_tenants`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use broker::TenantSettings;
use model::{Limits, TenantName};

use super::keys::{File, TenantLimitKeys};

/// What is configured of tenants; what one does not say is as in `default`.
pub(super) fn settings(file: &File, default: &Limits) -> Result<TenantSettings> {
    let mut limits = BTreeMap::new();
    for (name, keys) in &file.tenants {
        let name = TenantName::parse(name).map_err(|error| anyhow!("tenants: {error}"))?;
        limits.insert(name, overridden(&keys.limits, default));
    }
    let max_tenants = file.limits.max_tenants.unwrap_or(TenantSettings::default().max_tenants);
    Ok(TenantSettings { limits, max_tenants })
}

fn overridden(keys: &TenantLimitKeys, default: &Limits) -> Limits {
    Limits {
        max_labels_per_series: keys.max_labels_per_series.unwrap_or(default.max_labels_per_series),
        max_label_name_bytes: keys.max_label_name_bytes.unwrap_or(default.max_label_name_bytes),
        max_label_value_bytes: keys.max_label_value_bytes.unwrap_or(default.max_label_value_bytes),
        max_active_series: keys.max_active_series.unwrap_or(default.max_active_series),
        max_new_series_per_second: keys
            .max_new_series_per_second
            .unwrap_or(default.max_new_series_per_second),
        max_values_per_label: keys.max_values_per_label.unwrap_or(default.max_values_per_label),
        ingestion_rate: keys.ingestion_rate.unwrap_or(default.ingestion_rate),
        ingestion_burst_size: keys.ingestion_burst_size.unwrap_or(default.ingestion_burst_size),
        max_future_ms: keys.max_future_ms.unwrap_or(default.max_future_ms),
        max_body_bytes: keys.max_body_bytes.unwrap_or(default.max_body_bytes),
        max_query_samples: keys.max_query_samples.unwrap_or(default.max_query_samples),
        max_query_series: keys.max_query_series.unwrap_or(default.max_query_series),
        query_timeout_ms: keys.query_timeout_ms.unwrap_or(default.query_timeout_ms),
        max_concurrent_queries: keys
            .max_concurrent_queries
            .unwrap_or(default.max_concurrent_queries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    #[test]
    fn a_tenant_has_the_limits_of_all_but_for_its_own() {
        let config = load(
            "limits:\n  max_active_series: 7\n  query_timeout_ms: 5\n  max_tenants: 3\ntenants:\n  \
             acme:\n    limits:\n      max_active_series: 9\n      max_concurrent_queries: 2\n  b: {}\n",
        );
        let config = config.expect("valid configuration");
        assert_eq!(config.tenants.max_tenants, 3);
        let of = |name: &str| &config.tenants.limits[&TenantName::parse(name).expect("a name")];
        let shown = |limits: &Limits| {
            (limits.max_active_series, limits.query_timeout_ms, limits.max_concurrent_queries)
        };
        assert_eq!((shown(of("acme")), shown(of("b"))), ((9, 5, 2), (7, 5, 0)));
        for (bad, named) in [
            ("a.b: {}", "1 to 64"),
            ("\"a|b\": {}", "1 to 64"),
            ("a: {limits: {max_query_bytes: 5}}", "max_query_bytes"),
            ("a: {limits: {max_body_bytes: 5}}", "tenants.a.limits.max_body_bytes"),
        ] {
            let error = format!("{:#}", load(&format!("tenants:\n  {bad}\n")).expect_err(bad));
            assert!(error.contains(named), "{error}");
        }
    }
}
