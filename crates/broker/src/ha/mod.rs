//! Deduplication of HA pairs: several Prometheus servers that scrape the same write the same series,
//! told apart by two external labels, and one of them is stored.
//!
//! The *elected* replica of a cluster is the first that writes. Samples of the others are answered
//! as done and not stored; when nothing came of the elected one for the failover timeout, the next
//! that writes takes its place. The replica's label is not stored, so a series goes on under the
//! same labels. Source: Cortex and Mimir, "HA tracker".
//!
//! Beyond those, no time of a cluster is stored twice: a replica that takes over is stored from
//! behind the last sample of the one before it. Its *floor* and how far its samples went are kept in
//! the catalog ahead of the samples they are about, see
//! `docs/decisions/0034-ha-pairs-are-told-apart-at-ingest.md`. In a cluster every broker follows what the
//! others wrote there, so replicas of a pair may write to different ones.

mod clusters;
mod filter;
mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::{Command, Expected, State};
use model::{MetricBatch, TenantId};
use parking_lot::Mutex;

use crate::commit::{CommitError, Message};
use crate::shared_catalog::SharedCatalog;
use crate::{Adjustable, Broker, MetricRow};

use clusters::Clusters;
pub(crate) use filter::Filtered;
pub use routes::routes;

/// How pairs are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaConfig {
    /// The label that replicas have in common.
    pub cluster_label: String,
    /// The label that tells them apart; it is not stored.
    pub replica_label: String,
    /// When nothing came of the elected replica for so long, another takes its place, milliseconds.
    pub failover_timeout_ms: i64,
    /// Most clusters.
    pub max_clusters: usize,
}

impl Default for HaConfig {
    /// Labels and times of Mimir.
    fn default() -> Self {
        HaConfig {
            cluster_label: "cluster".to_owned(),
            replica_label: "__replica__".to_owned(),
            failover_timeout_ms: 30_000,
            max_clusters: 100,
        }
    }
}

impl HaConfig {
    /// Whether the same series are of the same replica of the same cluster.
    fn has_labels_of(&self, other: &HaConfig) -> bool {
        (&self.cluster_label, &self.replica_label) == (&other.cluster_label, &other.replica_label)
    }
}

/// What is known of the pairs.
pub(crate) struct HaTracker {
    clusters: Mutex<Clusters>,
    counters: HaCounters,
}

#[derive(Debug, Default)]
struct HaCounters {
    deduplicated: AtomicU64,
    changes: AtomicU64,
    refused: AtomicU64,
}

impl HaTracker {
    /// With what the catalog knows of clusters.
    pub(crate) fn load(state: &State, now_ms: i64) -> HaTracker {
        let kept = state.keys(clusters::PREFIX).map(|(key, value)| (key, &*value.value));
        let clusters = Mutex::new(Clusters::load(kept, now_ms));
        HaTracker { clusters, counters: HaCounters::default() }
    }
}

impl Broker {
    /// The batch as it shall be stored; `None` if that is as it came, because no series of it is of
    /// a replica.
    ///
    /// What has to be durable before the batch is on its way to the committer when this returns.
    pub(crate) fn elect(&self, tenant: TenantId, batch: &MetricBatch) -> Option<Filtered> {
        let settings = self.in_effect();
        let config = settings.ha.as_ref()?;
        let tracker = &self.inner.ha;
        // Fast path: one search over all bytes instead of a walk over each series.
        memchr::memmem::find(&batch.label_bytes, config.replica_label.as_bytes())?;
        let filtered = {
            let mut clusters = tracker.clusters.lock();
            // A reload may have put other labels in effect since.
            let settings = self.in_effect();
            let config = settings.ha.as_ref()?;
            let now_ms = self.now_ms();
            let is_shared = match &self.inner.catalog {
                SharedCatalog::Alone(_) => false,
                SharedCatalog::Agreed(consensus) => {
                    consensus.read(|state| clusters.follow(state.keys(clusters::PREFIX), now_ms));
                    true
                }
            };
            let filtered = filter::filter(&mut clusters, config, tenant, batch, now_ms);
            // Still under the lock: whoever comes next relies on it being ahead of its own samples.
            for (key, value) in clusters.take_unsaved() {
                let expected = match is_shared {
                    true => clusters.expected(&key, value.as_ref()),
                    false => Expected::Any,
                };
                self.save_cluster(key, value, expected);
            }
            filtered
        };
        let counters = &tracker.counters;
        counters.deduplicated.fetch_add(filtered.deduplicated, Ordering::Relaxed);
        counters.changes.fetch_add(filtered.changes, Ordering::Relaxed);
        let refused = filtered.refused.iter().map(|reject| reject.samples).sum();
        counters.refused.fetch_add(refused, Ordering::Relaxed);
        Some(filtered)
    }

    /// Puts settings in effect, and what they change about elections. Yields those of before.
    pub(crate) fn set_in_effect(&self, settings: Adjustable) -> Arc<Adjustable> {
        // Whoever judges a batch does so by what is in effect while it holds them.
        let mut clusters = self.inner.ha.clusters.lock();
        let now = settings.ha.clone();
        let before = self.inner.in_effect.set(settings);
        match (&before.ha, &now) {
            // As at a start: meanwhile nobody was told apart.
            (None, Some(_)) => clusters.see_all(self.now_ms()),
            (Some(before), Some(now)) if !before.has_labels_of(now) => clusters.see_all(i64::MIN),
            _ => {}
        }
        before
    }

    fn save_cluster(&self, key: String, value: Option<Vec<u8>>, expected: Expected) {
        let command = match value {
            Some(value) => Command::Put { key, value, expected },
            None => Command::Delete { key, expected },
        };
        let done = Box::new(|outcome: Result<_, CommitError>| {
            match outcome {
                Ok(_) => {}
                // Another broker of the cluster was first: its word counts.
                Err(error) if error.is_version_conflict() => {}
                Err(error) => tracing::warn!(
                    %error,
                    "which replica is elected is not durable: after a restart before it is, another \
                     may be"
                ),
            }
        });
        // A broker that stops takes no samples either.
        let _ = self.send(Message::Command { command, done });
    }

    pub(crate) fn ha_rows(&self) -> Vec<MetricRow> {
        let counters = &self.inner.ha.counters;
        // What is known of clusters stays while pairs are not told apart.
        let clusters = match self.in_effect().ha {
            Some(_) => self.inner.ha.clusters.lock().len(),
            None => 0,
        };
        let row = |name, help, kind, value| MetricRow { name, help, kind, value };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            row(
                "watchfire_broker_ha_samples_deduplicated_total",
                "Samples of replicas that are not elected, answered as done and not stored.",
                "counter",
                count(&counters.deduplicated),
            ),
            row(
                "watchfire_broker_ha_elections_total",
                "Times a replica was elected, the first of a cluster included.",
                "counter",
                count(&counters.changes),
            ),
            row(
                "watchfire_broker_ha_samples_refused_total",
                "Samples refused because ha_tracker.max_clusters are known.",
                "counter",
                count(&counters.refused),
            ),
            row(
                "watchfire_broker_ha_clusters",
                "Clusters of which a replica is elected.",
                "gauge",
                clusters as f64,
            ),
        ]
    }
}
