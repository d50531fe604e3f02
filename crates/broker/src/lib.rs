//! The broker role: takes batches in, makes them durable, keeps them searchable, and turns them
//! into blocks.
//!
//! Three kinds of threads do the work and nothing else writes: the committer (log and catalog),
//! the shards (head), and maintenance (flush, merge, retention). Handles are cheap to clone.

mod agent_frame;
mod agents;
mod aggregation;
mod changes;
pub mod cluster;
mod commit;
mod committer;
mod complaints;
mod config;
mod deletes;
mod exemplars;
mod fleet;
mod following;
mod ha;
mod in_effect;
mod ingest;
mod keys;
mod line_ports;
mod live;
mod logs;
mod maintenance;
mod metadata;
mod metrics;
mod opening;
mod otlp;
mod pushgateway;
mod reader;
mod recovery;
mod routes;
pub mod rpc;
mod sender;
mod shards;
mod shared_catalog;
mod snapshots;
mod store_copy;
mod syslog;
mod tenants;
mod visible;

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use blockstore::{Ballast, BlockSet, Counters, Disk, FileDisk};
use catalog::{Command, Outcome};
use crossbeam_channel::{Sender, bounded};
use governor::{Account, Governor};
use metricstore::{MetricFormat, PageCache, Registry};
use model::{Limits, Matcher, TenantId, TenantName, TimeRange};
use net::NetMetrics;
use net::rpc::SubscribeRequest;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

pub use catalog::{BlockId, BlockMeta, Signal};
pub use deletes::BlockForm;

pub use agents::{BatchIdentity, Delivery, Incarnation, Lane};
pub use aggregation::AggregationConfig;
pub use changes::DataChanges;
pub use cluster::{
    Background, CatalogFeed, ClusterMember, ClusterParts, DrainError, DrainProgress, DrainStep,
    FreshParts, LiveLineParts, LiveParts, ObjectStore, OnFault, Peers, StoreCall, StoreFault,
    StoredObject, Work, left_cluster,
};
pub use commit::CommitError;
pub use complaints::Complaints;
pub use config::{BrokerConfig, RollupTier};
pub use fleet::{AgentHello, AgentRow, AgentSession, AgentStatus, RemoveAgentError};
pub use ha::{HaConfig, routes as ha_routes};
pub use in_effect::{Adjustable, PreparedSettings};
pub use ingest::IngestOutcome;
pub use keys::{Expected, KeyValue};
pub use line_ports::LineProtocol;
pub use live::{Feed, LiveBatch};
pub use logs::{
    CollectedError, CollectedLines, LINE, LOCAL_COLLECTORS, LineFeed, LiveLines, LogHeadTotals,
    LogOutcome, LogSelection, LogsReader, PendingLineDelete, PushId,
};
pub use metrics::MetricRow;
pub use otlp::otlp_routes;
pub use pushgateway::{
    Pushgateway, read_routes as pushgateway_pages, routes as pushgateway_routes,
};
pub use reader::{ReadError, Reader, Selection};
pub use recovery::Recovered;
pub use routes::routes;
pub use sender::PreparedRemotes;
pub use shards::HeadTotals;
pub use store_copy::StoreCopy;
pub use syslog::SyslogIntake;
pub use tenants::{TenantRow, TenantSettings};

use agents::ShownBatches;
use aggregation::{Aggregation, RunningFollower};
use cluster::Clustered;
use commit::{CommitQueue, Message};
use deletes::DeleteBook;
use exemplars::ExemplarBook;
use fleet::Fleet;
use following::Following;
use ha::HaTracker;
use in_effect::InEffect;
use ingest::IngestCounters;
use live::LiveHub;
use logs::Lines;
use logstore::LogFormat;
use maintenance::{DamagedBlocks, MaintenanceCounters, Wake, WakeQueue};
use metadata::MetadataBook;
use otlp::Otlp;
use pushgateway::WrittenGroups;
use rpc::{PayloadBudget, ReadCounters};
use sender::Senders;
use shards::Shards;
use shared_catalog::SharedCatalog;
use tenants::TenantBook;
use visible::CommitCounters;

/// A running broker. When the last handle is dropped its threads write what is queued and end, but
/// nobody waits for them: call [`Broker::stop`] before the process ends.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    config: BrokerConfig,
    registry: Arc<Registry>,
    shards: Arc<Shards>,
    blocks: Arc<BlockSet<MetricFormat>>,
    lines: Lines,
    log_blocks: Arc<BlockSet<LogFormat>>,
    catalog: SharedCatalog,
    live: Arc<LiveHub>,
    shown: ShownBatches,
    fleet: Arc<Fleet>,
    agent_budget: PayloadBudget,
    ballast: Arc<Mutex<Ballast>>,
    metadata: Arc<MetadataBook>,
    pushed: WrittenGroups,
    tenants: TenantBook,
    deletes: Arc<DeleteBook>,
    exemplars: Arc<ExemplarBook>,
    in_effect: Arc<InEffect>,
    ha: HaTracker,
    aggregation: Arc<Aggregation>,
    /// The thread that follows the log for it, while there are rules.
    follower: Mutex<Option<RunningFollower>>,
    otlp: Otlp,
    disk: Arc<dyn Disk>,
    following: Arc<Following>,
    senders: Senders,
    /// Held for reading from the resolving of a batch until it is in the committer's queue.
    resolving: Arc<RwLock<()>>,
    /// How many requests may unpack and resolve at once.
    intake: Arc<Semaphore>,
    committer: Mutex<Option<CommitQueue>>,
    /// True once the broker stops; streams that stay open watch it.
    stopping: watch::Sender<bool>,
    wake: WakeQueue,
    /// Held while a snapshot is asked for and written.
    copying: Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    recovered: Recovered,
    store_counters: Arc<Counters>,
    commit_counters: Arc<CommitCounters>,
    ingest_counters: Arc<IngestCounters>,
    line_complaints: Complaints,
    read_counters: ReadCounters,
    maintenance_counters: Arc<MaintenanceCounters>,
    damaged: Arc<DamagedBlocks>,
    /// What queries read of blocks lately.
    pages: Arc<PageCache>,
    net_metrics: Arc<NetMetrics>,
    /// Its tasks, if it is one of a cluster.
    clustered: Option<Clustered>,
}

impl Broker {
    /// Opens the store and replays what is not in blocks yet; when it returns, everything that
    /// was ever acknowledged can be read and writes are taken.
    ///
    /// # Errors
    /// The directory cannot be used, another process uses it, or a newer program wrote it. Damaged
    /// bytes and a full disk are no errors.
    pub fn open(config: BrokerConfig, net_metrics: Arc<NetMetrics>) -> Result<Broker> {
        let disk = FileDisk::open(&config.data)
            .with_context(|| format!("open the data directory {}", config.data.display()))?;
        Self::open_on(Arc::new(disk), config, net_metrics)
    }

    /// As [`Broker::open`], on a disk of the caller's instead of the directory `config.data`.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: BrokerConfig,
        net_metrics: Arc<NetMetrics>,
    ) -> Result<Broker> {
        let parts = recovery::open(disk, &config)?;
        opening::beside_a_log(parts, config, net_metrics)
    }

    /// Lets the governor ask what series, fresh samples, exemplars, windows of aggregation and rows
    /// on their way to remotes take, and say how much may be kept of blocks.
    fn count_memory(&self) {
        let watched = Arc::downgrade(&self.inner);
        let mut known = (u64::MAX, 0);
        self.inner.config.governor.watch_heads(move || {
            let inner = watched.upgrade()?;
            let input = inner.aggregation.series();
            // To ask a registry of many series takes milliseconds, and most of the time none comes.
            let changes = inner.registry.changes() + input.changes();
            if known.0 != changes {
                let bytes = inner.registry.bytes() + input.bytes();
                known = (changes, bytes as u64);
            }
            let lines = inner.lines.heads.totals().bytes;
            let fresh = inner.shards.totals().bytes + inner.exemplars.bytes() + lines;
            let windows = inner.aggregation.window_bytes();
            Some(known.1 + fresh + windows + inner.senders.bytes())
        });
        let pages = Arc::downgrade(&self.inner.pages);
        self.inner.config.governor.watch_cache(move |percent| {
            let pages = pages.upgrade()?;
            pages.allow_percent(percent);
            Some(pages.bytes() as u64)
        });
    }

    /// Lets the follower take what is acknowledged and keep the windows; then it ends.
    fn stop_aggregation(&self) {
        self.inner.aggregation.stop();
        self.inner.following.wake_all();
        let follower = self.inner.follower.lock().take();
        if follower.is_some_and(|follower| follower.thread.join().is_err()) {
            tracing::error!("the thread that aggregates panicked while stopping");
        }
    }

    /// What the start found.
    pub fn recovered(&self) -> &Recovered {
        &self.inner.recovered
    }

    /// Whether this is a broker to send to: it takes writes, and in a cluster hears who leads. Without a
    /// leader what is stored can be read, but others may know better.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn of_use(&self) -> Result<(), String> {
        /// An election takes less.
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
        self.ready()?;
        let Some(clustered) = &self.inner.clustered else { return Ok(()) };
        match clustered.without_leader() {
            silent if silent > PATIENCE => Err(format!(
                "no leader of the cluster was heard of for {} s: nothing can be stored here now. A majority \
                 of the voters must run, and this broker must reach them",
                silent.as_secs()
            )),
            _ => Ok(()),
        }
    }

    /// Limits of the default tenant.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits_of(TenantName::DEFAULT)
    }

    /// Whether writes are taken. Everything stored can be read as soon as there is a broker.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn ready(&self) -> Result<(), String> {
        match *self.inner.committer.lock() {
            Some(_) => Ok(()),
            None => Err("the broker is stopping; ask again after its restart".to_owned()),
        }
    }

    /// A view of one tenant's data.
    pub fn reader(&self, tenant: TenantId) -> Reader {
        self.reader_for(tenant, self.governor().account())
    }

    /// As [`Broker::reader`]; what is read with it counts for `account`.
    pub fn reader_for(&self, tenant: TenantId, account: Arc<Account>) -> Reader {
        Reader::new(self.clone(), tenant, account)
    }

    /// The budget of memory.
    pub fn governor(&self) -> &Arc<Governor> {
        &self.inner.config.governor
    }

    /// Every sample of the tenant's matching series from now on, also if it has none yet, and whichever
    /// broker of the cluster takes it.
    ///
    /// # Errors
    /// Too many subscriptions; the text names the limit.
    pub fn subscribe(&self, tenant: TenantName, selector: Vec<Matcher>) -> Result<Feed, String> {
        let ask = self.inner.clustered.as_ref().and_then(|clustered| {
            clustered.peers.bring_live(SubscribeRequest {
                tenant: tenant.to_string(),
                selector: Some(rpc::messages::selector_of(&selector)),
                only_here: true,
            })
        });
        let mut feed = self.subscribe_here(tenant, selector)?;
        if let Some(bring) = ask {
            feed.follow(bring);
        }
        Ok(feed)
    }

    /// As [`Broker::subscribe`], but what this broker takes alone.
    ///
    /// # Errors
    /// As there.
    pub fn subscribe_here(
        &self,
        tenant: TenantName,
        selector: Vec<Matcher>,
    ) -> Result<Feed, String> {
        self.inner.live.subscribe(tenant, selector)
    }

    /// Stops taking writes, makes durable and acknowledges what is queued and ends the threads
    /// that write. What is stored stays readable. Idempotent.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
        // Their last words to the committer.
        self.stop_aggregation();
        self.stop_remote_writes();
        self.inner.wake.send(Wake::Stop);
        self.inner.committer.lock().take();
        for thread in self.inner.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a broker thread panicked while stopping");
            }
        }
        // The last acknowledgements are given by the shards and the heads of logs.
        self.inner.shards.settle();
        self.inner.lines.heads.settle();
    }

    /// Ends what would otherwise go on for as long as there is a connection: streams of agents, live
    /// subscriptions. Servers that shall stop wait for the end of those. [`Broker::stop`] follows.
    pub fn end_streams(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Becomes true when [`Broker::end_streams`] or [`Broker::stop`] begins.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.subscribe()
    }

    fn now_ms(&self) -> i64 {
        (self.inner.config.now_ms)()
    }

    /// When an agent is heard of, for whoever forgets those that are silent for long: a broker whose clock
    /// is far behind must not have the others forget it at once, and store again what it sends again.
    fn heard_ms(&self) -> i64 {
        let behind_ms = self.inner.clustered.as_ref().map_or(0, |it| it.members.behind_ms());
        self.now_ms().saturating_add(behind_ms)
    }

    /// Nothing that is older is answered, in any form.
    fn oldest_kept_ms(&self) -> i64 {
        let kept_ms = self.inner.config.kept().time_ms;
        kept_ms.map_or(i64::MIN, |kept_ms| self.now_ms().saturating_sub(kept_ms))
    }

    /// What changed in `within` after the change number `since` of this run, see [`DataChanges`]. To be
    /// asked before what is read and kept.
    ///
    /// In a cluster, waits until this broker has noted what was acknowledged by any before: for a thread
    /// that may wait, see [`Broker::agreed_changes_since`].
    pub fn changes_since(&self, since: u64, within: TimeRange) -> DataChanges {
        let runtime = self.inner.clustered.as_ref().and_then(|one| one.peers.runtime.as_ref());
        match runtime {
            Some(runtime) => runtime.block_on(self.agreed_changes_since(since, within)),
            None => self.own_changes_since(since, within),
        }
    }

    /// As [`Broker::changes_since`], for tasks.
    pub async fn agreed_changes_since(&self, since: u64, within: TimeRange) -> DataChanges {
        let Some(clustered) = &self.inner.clustered else {
            return self.own_changes_since(since, within);
        };
        let is_known = clustered.peers.has_noted_changes().await;
        let mut changes = self.own_changes_since(since, within);
        if !is_known {
            // Nothing that was kept before holds, and nothing that is kept now will.
            changes.store = clustered.peers.unknown_run();
        }
        changes
    }

    fn own_changes_since(&self, since: u64, within: TimeRange) -> DataChanges {
        let at_ms = self.now_ms();
        let (number, ranges) = self.inner.shards.changes().since(since, within);
        let config = &self.inner.config;
        let kept_ms = [config.retention.time_ms, config.kept().time_ms].into_iter().flatten();
        let in_effect = self.in_effect();
        let kept_ms = kept_ms.chain(in_effect.retention_rules.kept_ms());
        DataChanges { store: config.hash_seed(), number, at_ms, ranges, kept_ms: kept_ms.collect() }
    }

    fn oldest_ms(&self) -> i64 {
        let retention = self.inner.config.retention.time_ms;
        retention.map_or(i64::MIN, |kept_ms| self.now_ms().saturating_sub(kept_ms))
    }

    fn net_metrics(&self) -> &NetMetrics {
        &self.inner.net_metrics
    }

    /// Hands a message to the committer; gives it back when the broker is stopping.
    fn send(&self, message: Message) -> Result<(), Message> {
        let queue = self.inner.committer.lock().clone();
        match queue {
            Some(queue) => queue.send(message),
            None => Err(message),
        }
    }
}

/// Applies a command, durably.
fn command(committer: &Sender<Message>, command: Command) -> Result<Outcome, CommitError> {
    let (reply, answer) = bounded(1);
    let done = Box::new(move |outcome| {
        // Whoever asked waits for it, or is gone with its thread.
        let _ = reply.send(outcome);
    });
    committer.send(Message::Command { command, done }).map_err(|_| CommitError::Stopping)?;
    answer.recv().unwrap_or(Err(CommitError::Stopping))
}
