//! Streaming aggregation: samples become fewer series before they are stored, by rules in the shape
//! of VictoriaMetrics' files.
//!
//! ```text
//! batch → split: wanted by a rule? ─ no ──► resolved, log, heads, as ever
//!                     │ yes
//!                     └─► resolved against a registry of its own, the same frame of the log
//!                              └─► follower (a thread): windows ─ end ─► written as a batch
//! ```
//!
//! What is aggregated is in the log before it is acknowledged, and the windows are a function of the
//! log alone, the ends of windows being frames of it. So nothing acknowledged is lost by a kill, and
//! nothing counts twice: a start reads the windows of its last file and goes on from there. See
//! `docs/decisions/0035-aggregation-follows-the-log.md`.

mod bytes;
mod file;
mod follower;
pub(crate) mod frame;
mod group;
mod metrics;
mod orders;
mod reload;
mod rule;
mod split;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metricstore::{Admission, NewSeries, Registry, ResolvedBatch};
use model::{DEFAULT_TENANT, MetricBatch};
use parking_lot::RwLock;
use settings::stream_aggregation::AggregationRule;

use crate::Broker;
use crate::tenants::SendingTenant;
use split::Splitter;

pub(crate) use file::Opened;
pub(crate) use follower::{Follower, READER};
pub(crate) use reload::{PreparedAggregation, RunningFollower};
pub(crate) use split::Split;

/// What is aggregated, and what becomes of it otherwise.
#[derive(Debug, Clone, Default)]
pub struct AggregationConfig {
    /// The rules; without any nothing is aggregated.
    pub rules: Vec<AggregationRule>,
    /// Whether what is aggregated is stored as well.
    pub keep_input: bool,
    /// Whether nothing but what rules write is stored.
    pub drop_input: bool,
}

/// Aggregation at work.
pub(crate) struct Aggregation {
    rules: RwLock<Arc<Rules>>,
    /// Of series that are aggregated: they are in no head and no index of queries.
    registry: Arc<Registry>,
    counters: Counters,
    /// Tells the follower to end.
    stopping: AtomicBool,
}

/// The rules in effect, and what is known of series by them.
struct Rules {
    config: AggregationConfig,
    splitter: Splitter,
}

#[derive(Debug, Default)]
struct Counters {
    input: AtomicU64,
    dropped: AtomicU64,
    written: AtomicU64,
    windows: AtomicU64,
    no_number: AtomicU64,
    repeated: AtomicU64,
    old: AtomicU64,
    failed: AtomicU64,
    series: AtomicU64,
    groups: AtomicU64,
    /// Memory of windows and their series.
    bytes: AtomicU64,
}

impl Aggregation {
    pub(crate) fn new(config: AggregationConfig, registry: Arc<Registry>) -> Self {
        Aggregation {
            rules: RwLock::new(Arc::new(Rules { config, splitter: Splitter::default() })),
            registry,
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// What is in effect.
    fn config(&self) -> AggregationConfig {
        self.rules.read().config.clone()
    }

    fn set(&self, config: AggregationConfig) {
        // What was found out about series was by the rules of before.
        *self.rules.write() = Arc::new(Rules { config, splitter: Splitter::default() });
    }

    /// The series of what is aggregated.
    pub(crate) fn series(&self) -> &Registry {
        &self.registry
    }

    /// Memory that windows and what is known of their series take, as it was a moment ago.
    pub(crate) fn window_bytes(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// Tells the follower to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl Broker {
    /// Takes out of a batch what is aggregated; `None` if that is nothing. Rules are for the default
    /// tenant: what is of others must not be added up with what is its. The caller keeps rules from
    /// changing until the batch is in the committer's queue.
    pub(crate) fn split(&self, sender: &SendingTenant, batch: &MetricBatch) -> Option<Split> {
        if sender.tenant.id != DEFAULT_TENANT {
            return None;
        }
        let aggregation = &self.inner.aggregation;
        let rules = Arc::clone(&aggregation.rules.read());
        // Fast path: most stores have no rules.
        if rules.config.rules.is_empty() {
            return None;
        }
        let split = rules.splitter.split(&rules.config, &sender.limits, batch)?;
        self.count_exemplars_left_out(split.exemplars_left_out);
        let counters = &aggregation.counters;
        counters.input.fetch_add(split.input.rows() as u64, Ordering::Relaxed);
        if let Some(rest) = &split.rest {
            let stays = split.input.samples() + rest.samples();
            let dropped = batch.samples().saturating_sub(stays);
            counters.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        }
        Some(split)
    }

    /// The rows of what is aggregated, by the registry of such series; under the same limits as
    /// everything else.
    pub(crate) fn resolve_input(
        &self,
        sender: &SendingTenant,
        input: &MetricBatch,
    ) -> ResolvedBatch {
        let mut resolved = ResolvedBatch::default();
        let aggregation = &self.inner.aggregation;
        let governor = self.governor();
        let room = governor.room_for_series();
        let refusal = match room {
            room if room > input.series.len() => String::new(),
            _ => governor.series_refusal(),
        };
        let limits = &*sender.limits;
        let admission = Admission {
            limits,
            now_ms: self.now_ms(),
            oldest_ms: self.oldest_ms(),
            new_series: NewSeries { room, refusal: &refusal },
            name: wire::shown_labels,
        };
        let decode = |form, bytes: &[u8]| {
            wire::decode_labels(form, bytes, limits).map_err(|error| error.to_string())
        };
        let tenant = sender.tenant.id;
        aggregation.registry.resolve(tenant, input, 1, admission, &decode, &mut resolved);
        governor.add_series(resolved.new_series);
        resolved
    }
}
