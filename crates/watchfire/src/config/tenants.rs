//! `tenants:` and `limits.max_tenants`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use broker::TenantSettings;
use model::{Limits, TenantName};

use super::keys::File;
use super::limits::overridden;

/// What is configured of tenants; what one does not say is as in `default`.
pub(super) fn settings(file: &File, default: &Limits) -> Result<TenantSettings> {
    let mut limits = BTreeMap::new();
    for (name, keys) in &file.tenants {
        let name = TenantName::parse(name).map_err(|error| anyhow!("tenants: {error}"))?;
        let of_all = [
            ("max_tenants", keys.limits.max_tenants),
            ("max_query_bytes", keys.limits.max_query_bytes),
        ];
        if let Some((key, _)) = of_all.iter().find(|(_, value)| value.is_some()) {
            bail!(
                "tenants.{name}.limits.{key}: this limit is of the whole process; set limits.{key} \
                 instead"
            );
        }
        let own = overridden(&format!("tenants.{name}.limits"), &keys.limits, default)?;
        limits.insert(name, Arc::new(own));
    }
    let max_tenants = file.limits.max_tenants.unwrap_or(TenantSettings::default().max_tenants);
    Ok(TenantSettings { limits, max_tenants })
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
            ("a: {limits: {max_query_bytes: 5}}", "tenants.a.limits.max_query_bytes"),
            ("a: {limits: {max_tenants: 5}}", "set limits.max_tenants instead"),
            ("a: {limits: {max_body_bytes: 5}}", "tenants.a.limits.max_body_bytes"),
        ] {
            let error = format!("{:#}", load(&format!("tenants:\n  {bad}\n")).expect_err(bad));
            assert!(error.contains(named), "{error}");
        }
    }
}
