//! `ha_tracker:`.

use anyhow::{Result, ensure};
use broker::HaConfig;

use super::durations::duration_ms;

/// A mistake is named also where it is not enabled.
pub(super) fn tracker(keys: super::keys::HaTracker) -> Result<Option<HaConfig>> {
    let default = HaConfig::default();
    let failover = duration_ms("ha_tracker.failover_timeout", keys.failover_timeout.as_deref())?;
    let config = HaConfig {
        cluster_label: keys.cluster_label.unwrap_or(default.cluster_label),
        replica_label: keys.replica_label.unwrap_or(default.replica_label),
        failover_timeout_ms: failover.unwrap_or(default.failover_timeout_ms),
        max_clusters: keys.max_clusters.unwrap_or(default.max_clusters),
    };
    for (key, label) in
        [("cluster_label", &config.cluster_label), ("replica_label", &config.replica_label)]
    {
        ensure!(
            !label.is_empty() && label != model::METRIC_NAME,
            "ha_tracker.{key}: {label:?} cannot be a label that Prometheus servers add"
        );
    }
    ensure!(
        config.cluster_label != config.replica_label,
        "ha_tracker.replica_label: it is the same as ha_tracker.cluster_label, so there would never \
         be a second replica"
    );
    Ok(keys.enabled.unwrap_or(false).then_some(config))
}
