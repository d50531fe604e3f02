//! A broker of a cluster: what it takes is durable as segments in a store that all brokers share, and
//! counts from the moment the catalog, which they agree upon, says so.
//!
//! ```text
//! Broker::ingest → Message → collect → seal → put ≤ 8 at once ──► agree, one by one
//!                                                                     │ catalog
//!     acknowledge ◄── heads ◄── apply, in the order of the catalog ◄──┘ feed
//! ```
//!
//! | module | what |
//! |---|---|
//! | `writer` | batches → segments that count |
//! | `proposals` | keys and deletes, agreed upon one by one |
//! | `feed` | what the catalog applies, in its order |
//! | `applier` | makes it visible, then acknowledges |
//! | `opening` | from the parts to a running broker |
//! | `rebuild` | the heads again at a start; blocks of others |
//! | `flush` | heads → blocks |
//! | `blocks` | blocks into the store, and objects out of it |
//! | `jobs`, `leases` | what any broker may do and one does at a time |
//! | `duty` | what one broker alone does for as long as it lives |
//! | `kept` | what the cluster keeps, and whether this broker may remove what it does not |
//! | `merging`, `merging_lines` | merges, rollups, rules, deletes |
//! | `signals` | blocks and rows of whichever signal |
//! | `adoption` | what dead brokers left |
//! | `unread` | segments that could not be read, again |
//! | `orphans` | objects that nothing refers to |
//! | `damage` | blocks that cannot be read |
//! | `drain`, `lost`, `drain_routes` | a broker leaves, or is taken out |
//! | `members` | who is alive |
//! | `nearest` | who is nearest to the blocks of a day |
//! | `metrics` | what is counted of it |
//! | `turns` | whose turn it is with what one broker alone does |
//! | `status` | how it is, for people |
//! | `listing` | which blocks queries see |
//! | `fresh` | what other brokers have in no block |
//! | `follow` | what is known beside the catalog follows its keys |
//! | `links`, `service` | what brokers say to one another over mutual TLS |
//! | `store` | [`ObjectStore`], and how patient we are with it |
//! | `tiers` | where segments lie, if not with the blocks |
//!
//! Nothing here owns a thread that it needs: with [`Work::Inline`] all of it runs as tasks of one
//! thread, on tokio's clock, which a simulation may own.

mod adoption;
mod applier;
#[cfg(test)]
mod background_tests;
mod blocks;
mod budget;
mod damage;
mod drain;
mod drain_routes;
mod duty;
mod feed;
mod flush;
mod follow;
mod fresh;
mod jobs;
mod kept;
mod leases;
mod links;
mod listing;
mod lost;
mod members;
mod merging;
mod merging_lines;
mod metrics;
mod nearest;
mod opening;
mod orphans;
mod proposals;
mod rebuild;
mod service;
mod signals;
pub mod status;
mod store;
#[cfg(test)]
mod tests;
pub mod tiers;
mod turns;
mod unread;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use blockstore::{Blobs, Disk};
use catalog::{BrokerId, Segment, State};
use consensus::Consensus;
use net::NetMetrics;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

pub use drain::{DrainError, DrainProgress, DrainStep, Farewell, left_cluster};
pub use drain_routes::drain_routes;
pub use duty::{ALERTING, Duty, DutyError, HeldDuty, Holder};
pub use feed::CatalogFeed;
pub use fresh::{FreshParts, LiveLineParts, LiveParts, Peers};
pub use jobs::Background;
pub use links::Links;
pub use lost::LostError;
pub use members::ClusterMember;
pub use nearest::NearBroker;
pub use service::{ClusterService, cluster_service};
pub use store::{ObjectStore, StoreCall, StoreFault, StoredObject};
pub use turns::{Turn, Turns};

pub(crate) use fresh::{CaughtUp, FreshAnswer, Gathered, Others, any, head_labels};
pub(crate) use signals::Rows;
pub(crate) use writer::ClusterQueue;

use budget::Budget;
use drain::Draining;
use feed::Event;
use members::Members;
use metrics::ClusterCounters;
use store::PUT_DEADLINE;
use tiers::SegmentPlaces;
use writer::AGREE_DEADLINE;

use crate::commit::CommitError;
use crate::shared_catalog::SharedCatalog;
use crate::{Broker, BrokerConfig};

/// Where it is computed what takes longer than a socket should wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// On threads: shards have their own.
    Threads,
    /// Wherever it is asked for: in a simulation, which has one thread.
    Inline,
}

impl Work {
    async fn run<T: Send + 'static>(self, task: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Work::Inline => task(),
            Work::Threads => match tokio::task::spawn_blocking(task).await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime ends, and this future with it.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }
}

/// Called when what this process shows is not what the catalog says any more: another one took over its
/// log, or a segment of its own is not in its memory. It should end the process; a start reads everything
/// again. Nothing is acknowledged after it.
pub type OnFault = Arc<dyn Fn(&str) + Send + Sync>;

/// What a clustered broker is given.
pub struct ClusterParts {
    /// Its part in the consensus, which tells `feed` what it applies. The catalog must list the broker.
    pub consensus: Consensus,
    /// What was given to the consensus when it started.
    pub feed: Arc<CatalogFeed>,
    /// The store that all brokers share: of blocks, and of segments unless they have their own.
    pub store: Arc<dyn ObjectStore>,
    /// Where segments lie.
    pub segments: SegmentPlaces,
    /// The blocks in it, for reading by threads that may wait.
    pub blobs: Arc<dyn Blobs>,
    /// The way to what the other brokers have in memory.
    pub peers: Arc<dyn Peers>,
    /// A disk of its own, for what any broker could make anew.
    pub disk: Arc<dyn Disk>,
    /// Where it computes.
    pub work: Work,
    /// How long objects stay in the store when nothing refers to them any more, segments that are in blocks
    /// and blocks that were merged: queries that began before may read them.
    pub keep_flushed: Duration,
    /// How patient its background work is.
    pub background: Background,
    /// Called when it has to begin anew.
    pub on_fault: OnFault,
}

/// The tasks of a clustered broker; they end with it.
pub(crate) struct Clustered {
    pub(crate) counters: Arc<ClusterCounters>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) members: Arc<Members>,
    pub(super) draining: Draining,
    /// The background jobs.
    jobs: AbortHandle,
    /// As queries see the others.
    pub(crate) peers: Arc<Others>,
    /// How many questions of others are answered at once.
    answering: Semaphore,
    /// Segments of this broker that its start could not read.
    left_out: BTreeSet<u64>,
    feed: Arc<CatalogFeed>,
    events: UnboundedSender<Event>,
    /// Those that end by themselves when nothing comes any more.
    writing: Mutex<Vec<JoinHandle<()>>>,
    others: Vec<JoinHandle<()>>,
}

impl Clustered {
    /// For how long nobody is known who leads.
    pub(crate) fn without_leader(&self) -> Duration {
        self.members.consensus().without_leader()
    }

    /// Lets others do the jobs from now on. Leases that are held end by themselves.
    fn stop_jobs(&self) {
        self.jobs.abort();
    }

    /// Segments whose rows are in no block and could not be read, with their brokers and numbers: answers in
    /// their range are partial.
    pub(crate) fn missing<'a>(
        &'a self,
        state: &'a State,
    ) -> impl Iterator<Item = (BrokerId, u64, &'a Segment)> {
        let own = self.feed.broker();
        // Fast path: the start read everything.
        let listed = state.broker(own).filter(|_| !self.left_out.is_empty());
        let listed = listed.into_iter().flat_map(|broker| &broker.segments);
        let listed = listed.map(move |(seq, segment)| (own, *seq, segment));
        let listed = listed.filter(move |(_, seq, _)| self.left_out.contains(seq));
        // A later start may have read it.
        let is_missing = move |(broker, seq, _): &(BrokerId, u64, &Segment)| {
            *broker != own || self.left_out.contains(seq)
        };
        listed.chain(state.unread_segments().filter(is_missing))
    }

    /// Whether all brokers know what came with a feature level.
    pub(crate) fn has_level(&self, level: u32) -> bool {
        self.members.consensus().read(|state| state.feature_level() >= level)
    }

    /// Whether this broker's heads lack what others do not yet know to be missing.
    fn lacks_unknown(&self, state: &State) -> bool {
        // Fast path: the start read everything.
        !self.left_out.is_empty()
            && state
                .broker(self.feed.broker())
                .is_some_and(|own| own.segments.keys().any(|seq| self.left_out.contains(seq)))
    }

    /// Waits until everything that was taken is answered; where no quorum is, not for ever.
    async fn ended(&self) {
        self.stop_jobs();
        let end = Instant::now() + PUT_DEADLINE + 2 * AGREE_DEADLINE;
        let writing = std::mem::take(&mut *self.writing.lock());
        for mut task in writing {
            match tokio::time::timeout_at(end, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a task of the broker ended badly"),
                Err(_) => {
                    tracing::warn!(
                        "the broker stops before it is known what became of some batches"
                    );
                    task.abort();
                }
            }
        }
        let (told, ended) = oneshot::channel();
        if self.events.send(Event::Then(Box::new(move || _ = told.send(())))).is_ok() {
            let _ = ended.await;
        }
        self.members.leave().await;
    }
}

impl Drop for Clustered {
    fn drop(&mut self) {
        self.feed.end();
        self.members.end();
        self.jobs.abort();
        for task in self.others.iter().chain(self.writing.get_mut().iter()) {
            task.abort();
        }
    }
}

impl Broker {
    /// Takes up the work of a broker of a cluster: begins the next epoch of its log, so that no other
    /// process can add to it, and reads what is in no block yet. When it returns, everything that this
    /// broker acknowledged can be read here and writes are taken. Waits for a leader and for the store as
    /// long as it takes.
    ///
    /// # Errors
    /// The catalog does not list the broker; the configuration asks for what needs a log of one machine;
    /// the disk cannot be used; a newer program wrote what is in the catalog.
    pub async fn open_clustered(
        parts: ClusterParts,
        config: BrokerConfig,
        net_metrics: Arc<NetMetrics>,
    ) -> Result<Broker> {
        opening::open(parts, config, net_metrics).await
    }

    /// Where agents reach the brokers of the cluster that live and take writes; none beside a log.
    pub(crate) fn addresses_for_agents(&self) -> Vec<String> {
        let members = self.cluster_members().into_iter();
        // One that is away may come back, but not to who tries it next.
        let of_use =
            members.filter(|member| (member.is_alive || member.is_own) && !member.is_draining);
        of_use.map(|member| member.address).collect()
    }

    /// Waits until this broker has applied everything that was agreed upon before now; at once beside a log.
    /// For a thread that may wait.
    pub(crate) fn catch_up(&self) -> Result<(), CommitError> {
        let (Some(clustered), SharedCatalog::Agreed(consensus)) =
            (&self.inner.clustered, &self.inner.catalog)
        else {
            return Ok(());
        };
        // A simulation has one thread and no such caller.
        let Some(runtime) = &clustered.peers.runtime else { return Ok(()) };
        let caught_up = runtime.block_on(consensus.catch_up(AGREE_DEADLINE));
        caught_up.map(|_| ()).map_err(|error| CommitError::NoQuorum(error.to_string()))
    }

    /// After [`Broker::stop`]: waits until everything that a clustered broker has taken is answered. At
    /// once beside a log.
    pub async fn stopped(&self) {
        if let Some(clustered) = &self.inner.clustered {
            clustered.ended().await;
        }
    }
}
