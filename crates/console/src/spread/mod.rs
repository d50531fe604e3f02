//! Range queries in pieces, each computed by the broker that is nearest to its days.
//!
//! What a step yields depends on the samples around it ([`promql::locality`]), so a range may be cut
//! between steps and put together again. A piece is the whole expression at the steps of some days: what
//! travels is its result. The broker that the ring names for a day reads that day's blocks for whoever
//! asks, so the caches of all brokers together hold each block once.
//!
//! ```text
//! cut by days ─► other brokers compute theirs ─┐
//!             └► this one computes its own     ├─► whatever is not whole is computed here ─► join
//! ```
//!
//! - [`cut`]: which steps are for whom
//! - [`asking`]: one piece, elsewhere
//! - [`service`]: a piece of another broker's query, here
//! - [`message`]: results as they travel

mod asking;
mod cut;
mod message;
mod service;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::Stream;
use model::TenantName;
use net::rpc::{EvaluatePart, EvaluateRequest};
use parking_lot::Mutex;
use tonic::Status;

use crate::admission::Admission;

pub(crate) use asking::{Arrived, ask};
pub(crate) use cut::{Cut, cut};
pub(crate) use message::encode;
pub use service::{EvaluationService, evaluation_service};

/// An answer on its way.
pub type EvaluateParts = Pin<Box<dyn Stream<Item = Result<EvaluatePart, Status>> + Send>>;

/// A broker that did not answer is asked again after so long.
const SILENCE: Duration = Duration::from_secs(2);

/// Another broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its number in the cluster.
    pub number: u64,
    /// For people.
    pub name: String,
    /// Where it answers other brokers, `HOST:PORT`.
    pub address: String,
}

/// The other brokers of a cluster, as those who compute.
pub trait Workers: Send + Sync + 'static {
    /// Number of the broker of this process.
    fn own(&self) -> u64;

    /// The number under which all brokers know a tenant; `None` for one that is not known here.
    fn tenant_number(&self, tenant: TenantName) -> Option<u32>;

    /// The clock, milliseconds since the epoch.
    fn now_ms(&self) -> i64;

    /// For each of `days` (since the epoch), the brokers that are nearer than this one to what a tenant
    /// has of it, the nearest first, not more than are worth asking.
    fn nearest(&self, tenant: u32, days: &[i64]) -> Vec<Vec<Worker>>;

    /// Asks one; see [`evaluation_service`], which answers. The stream ends with an error if it cannot be
    /// reached.
    fn evaluate(&self, worker: &Worker, request: EvaluateRequest) -> EvaluateParts;
}

/// What it takes to compute elsewhere, and for others.
pub(crate) struct Spread {
    pub(crate) workers: Arc<dyn Workers>,
    /// Whose turn it is of other brokers' pieces. They wait for nothing that waits for a piece, so no two
    /// brokers ever wait for one another.
    pub(crate) places: Admission,
    /// Until when who did not answer is not asked.
    silent: Mutex<BTreeMap<u64, Instant>>,
    pub(crate) counters: SpreadCounters,
}

/// Counts since start.
#[derive(Debug, Default)]
pub(crate) struct SpreadCounters {
    pub(crate) queries: AtomicU64,
    pub(crate) elsewhere: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    pub(crate) back: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) computed: AtomicU64,
}

impl Spread {
    /// At most `places` pieces of others are computed at once.
    pub(crate) fn new(workers: Arc<dyn Workers>, places: usize) -> Spread {
        Spread {
            workers,
            places: Admission::new(places),
            silent: Mutex::default(),
            counters: SpreadCounters::default(),
        }
    }

    fn is_silent(&self, worker: &Worker) -> bool {
        let mut silent = self.silent.lock();
        silent.retain(|_, until| Instant::now() < *until);
        silent.contains_key(&worker.number)
    }

    fn note_silent(&self, worker: &Worker) {
        self.silent.lock().insert(worker.number, Instant::now() + SILENCE);
    }
}

/// Name, help, type, value; all 0 where nothing is spread.
pub(crate) fn rows(
    spread: Option<&Spread>,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str, f64)> {
    let none = SpreadCounters::default();
    let counters = spread.map_or(&none, |spread| &spread.counters);
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    [
        (
            "watchfire_console_spread_queries_total",
            "Range queries of which other brokers were asked to compute a part.",
            read(&counters.queries),
        ),
        (
            "watchfire_console_spread_pieces_total",
            "Parts of range queries that other brokers computed.",
            read(&counters.elsewhere),
        ),
        (
            "watchfire_console_spread_unanswered_total",
            "Times that another broker did not compute its part, or not as a whole.",
            read(&counters.unanswered),
        ),
        (
            "watchfire_console_spread_back_total",
            "Parts of range queries that no other broker computed as a whole: they were computed here.",
            read(&counters.back),
        ),
        (
            "watchfire_console_spread_received_bytes_total",
            "Bytes of what other brokers computed.",
            read(&counters.received_bytes),
        ),
        (
            "watchfire_console_spread_computed_total",
            "Parts of range queries that were computed for other brokers.",
            read(&counters.computed),
        ),
    ]
    .map(|(name, help, value)| (name, help, "counter", value))
    .into_iter()
}
