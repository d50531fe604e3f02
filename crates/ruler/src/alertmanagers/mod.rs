//! Alertmanagers elsewhere, which are told of the alerts of rules as Prometheus tells them.
//!
//! Each block of `alerting.alertmanagers` is a set: discovery says who is in it, and each of them has a
//! queue and a task of its own, so that one that does not answer delays no other. What it does not take is
//! not kept for it: rules send again what still fires, and for 15 minutes what is over.
//!
//! Source: `notifier` of Prometheus 3.

mod counters;
mod member;
mod set;
mod written;

use std::sync::Arc;
use std::time::Duration;

use alerting::notify::PostedAlert;
use discovery::DiscoveryCounters;
use net::client::{ClientError, ClientOptions};
use parking_lot::RwLock;
use settings::prometheus::AlertmanagerConfig;

use counters::Counts;
pub(crate) use counters::render;
use set::{Candidate, Set};

/// At a stop, what waits has so long to be sent.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How much waits for an Alertmanager, and how much it is sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Alerts that wait for one Alertmanager; beyond them the oldest are dropped.
    pub capacity: usize,
    /// Alerts of one request.
    pub batch: usize,
}

impl Default for QueueLimits {
    /// Those of Prometheus' flags.
    fn default() -> Self {
        QueueLimits { capacity: 10_000, batch: 256 }
    }
}

/// Alertmanagers elsewhere. Handles share one state.
#[derive(Clone)]
pub struct Alertmanagers {
    inner: Arc<Inner>,
}

struct Inner {
    options: ClientOptions,
    sets: RwLock<Vec<Arc<Set>>>,
    shared: Arc<Shared>,
}

/// What all sets share.
#[derive(Default)]
struct Shared {
    limits: RwLock<QueueLimits>,
    discovery: Arc<DiscoveryCounters>,
    counts: Counts,
}

/// Sets that can be put in effect: nothing about them can fail any more.
pub struct PreparedAlertmanagers {
    candidates: Vec<Candidate>,
    limits: QueueLimits,
}

impl Default for Alertmanagers {
    fn default() -> Self {
        Alertmanagers::new(ClientOptions::operator())
    }
}

impl Alertmanagers {
    /// None yet.
    pub fn new(options: ClientOptions) -> Self {
        let (sets, shared) = (RwLock::default(), Arc::default());
        Alertmanagers { inner: Arc::new(Inner { options, sets, shared }) }
    }

    /// Opens what blocks need that do not run yet.
    ///
    /// # Errors
    /// An option that can never work.
    pub async fn prepare(
        &self,
        config: &[AlertmanagerConfig],
        limits: QueueLimits,
    ) -> Result<PreparedAlertmanagers, ClientError> {
        let mut known = self.inner.sets.read().clone();
        let mut candidates = Vec::with_capacity(config.len());
        for block in config {
            let at = known.iter().position(|set| set.config() == block);
            candidates.push(match at {
                Some(at) => Candidate::Runs(known.swap_remove(at)),
                None => Candidate::open(block, &self.inner.options).await?,
            });
        }
        Ok(PreparedAlertmanagers { candidates, limits })
    }

    /// Puts sets in effect in place of those of before. Those that say what they said go on untouched, with
    /// what waits in them; what waits in others is dropped. Must be called on a tokio runtime.
    pub fn put(&self, prepared: PreparedAlertmanagers) {
        let PreparedAlertmanagers { candidates, limits } = prepared;
        *self.inner.shared.limits.write() = limits;
        let sets = candidates.into_iter().map(|one| one.run(&self.inner.shared)).collect();
        *self.inner.sets.write() = sets;
    }

    /// Hands alerts to all there are, and returns at once.
    pub(crate) fn send(&self, alerts: &[PostedAlert]) {
        for set in self.inner.sets.read().iter() {
            set.send(alerts);
        }
    }

    /// Where alerts are sent.
    pub(crate) fn active(&self) -> Vec<String> {
        self.inner.sets.read().iter().flat_map(|set| set.active()).collect()
    }

    /// Whom relabeling left out.
    pub(crate) fn dropped(&self) -> Vec<String> {
        self.inner.sets.read().iter().flat_map(|set| set.dropped()).collect()
    }

    /// Ends all sets once nothing waits in them, or after five seconds.
    pub async fn stop(&self) {
        let sets = std::mem::take(&mut *self.inner.sets.write());
        let sent = async {
            while sets.iter().any(|set| set.is_busy()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, sent).await.is_err() {
            let alerts: usize = sets.iter().map(|set| set.waiting()).sum();
            tracing::warn!(alerts, "Alertmanagers were not told of all alerts before the stop");
        }
    }
}

impl std::fmt::Debug for Alertmanagers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Alertmanagers").field("active", &self.active()).finish()
    }
}

#[cfg(test)]
mod tests;
