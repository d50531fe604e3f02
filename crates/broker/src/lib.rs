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
mod tenants;
mod visible;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use blockstore::{Ballast, BlockSet, Counters, Disk, FileDisk, Retention};
use catalog::{Command, Outcome, StoreId};
use crossbeam_channel::{Sender, bounded};
use governor::{Account, Governor};
use metricstore::{DownsamplingRules, MetricFormat, PageCache, Registry, RetentionRules};
use model::{Limits, Matcher, TenantId, TenantName, TimeRange};
use net::NetMetrics;
use net::rpc::SubscribeRequest;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

pub use catalog::{BlockId, BlockMeta};
pub use deletes::BlockForm;

pub use agents::{BatchIdentity, Delivery, Incarnation, Lane};
pub use aggregation::AggregationConfig;
pub use changes::DataChanges;
pub use cluster::{
    Background, CatalogFeed, ClusterMember, ClusterParts, DrainError, DrainProgress, DrainStep,
    FreshParts, LiveParts, ObjectStore, OnFault, Peers, StoreCall, StoreFault, StoredObject, Work,
    left_cluster,
};
pub use commit::CommitError;
pub use complaints::Complaints;
pub use fleet::{AgentHello, AgentRow, AgentSession, AgentStatus, RemoveAgentError};
pub use ha::{HaConfig, routes as ha_routes};
pub use in_effect::{Adjustable, PreparedSettings};
pub use ingest::IngestOutcome;
pub use keys::{Expected, KeyValue};
pub use line_ports::LineProtocol;
pub use live::{Feed, LiveBatch};
pub use logs::{LogHeadTotals, LogOutcome, LogSelection, LogsReader, PushId};
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

/// What a broker is told.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Directory of the data; made if absent.
    pub data: PathBuf,
    /// Limits of every tenant that has none of its own.
    pub limits: Limits,
    /// Tenants that have.
    pub tenants: TenantSettings,
    /// How long data is kept.
    pub retention: Retention,
    /// How long lines of logs are kept, milliseconds; `None` for ever. The bytes of `retention` are those of
    /// both.
    pub logs_retention_ms: Option<i64>,
    /// How long the samples of some series are kept, where that is shorter.
    pub retention_rules: RetentionRules,
    /// How much less densely the samples of some series are kept when they are older.
    pub downsampling: DownsamplingRules,
    /// What is kept of samples when their retention is over: ascending, each for longer than the one
    /// before and of windows that are a multiple of its windows.
    pub rollups: Vec<RollupTier>,
    /// The head becomes blocks at least this often, milliseconds.
    pub flush_interval_ms: i64,
    /// … and when this many bytes of log are not in blocks yet.
    pub flush_bytes: u64,
    /// Most bytes of log that are kept for a remote that does not take what is written to it.
    pub remote_write_limit_bytes: u64,
    /// Shards of the head, at least one; one thread each.
    pub shards: usize,
    /// The budget of memory.
    pub governor: Arc<Governor>,
    /// When memory is short, a series without samples for this long is forgotten, milliseconds.
    pub idle_series_ms: i64,
    /// Milliseconds since the epoch.
    pub now_ms: fn() -> i64,
    /// Most exemplars that are kept, of all series together; 0 for none.
    pub max_exemplars: usize,
    /// How pairs of replicas that write the same are told apart; `None` if they are not.
    pub ha: Option<HaConfig>,
    /// What is aggregated before it is stored.
    pub aggregation: AggregationConfig,
    /// Whether OTLP and remote write 2.0 give series their type and unit as labels `__type__` and
    /// `__unit__`: Prometheus' feature `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
    /// Version of what the cluster keeps that the retention, rollups and downsampling of this broker take
    /// the place of; without it they must be the same.
    pub change_kept: Option<u64>,
    /// Whether it looks after the data by itself: flushes, merges, retention, rollups, the space in
    /// reserve. Without, it does what it is asked for and nothing else, see
    /// [`BrokerConfig::without_upkeep`].
    pub has_upkeep: bool,
    /// Random: keys the hashes of label bytes, and names a new store.
    pub seed: [u8; 24],
}

/// Of the limit of memory, the part that pages of blocks may take that queries read lately …
const PAGE_CACHE_SHARE: u64 = 64;
/// … and the most that is of use: what dashboards of a fleet of hosts come back for.
const MAX_PAGE_CACHE_BYTES: usize = 32 << 20;

/// Of the limit of memory, the part that indexes of blocks of logs may take that searches used lately …
const LOG_INDEX_SHARE: u64 = 32;
/// … and the most that is of use.
const MAX_LOG_INDEX_BYTES: usize = 256 << 20;

/// Rollups that are kept for longer than samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupTier {
    /// Length of their windows, milliseconds, more than 0.
    pub resolution_ms: i64,
    /// Age after which the next tier takes their place, or they are forgotten, milliseconds.
    pub kept_ms: i64,
}

impl Default for RollupTier {
    /// 5 minutes, for a year.
    fn default() -> Self {
        RollupTier { resolution_ms: 300_000, kept_ms: 365 * 86_400_000 }
    }
}

impl BrokerConfig {
    /// The defaults of `watchfire.yml`, on one shard, without a limit of memory and without chance.
    pub fn new(data: PathBuf, now_ms: fn() -> i64) -> BrokerConfig {
        BrokerConfig {
            data,
            limits: Limits::default(),
            tenants: TenantSettings::default(),
            retention: Retention::default(),
            logs_retention_ms: Some(31 * 86_400_000),
            retention_rules: RetentionRules::default(),
            downsampling: DownsamplingRules::default(),
            rollups: vec![RollupTier::default()],
            flush_interval_ms: 300_000,
            flush_bytes: 1 << 30,
            remote_write_limit_bytes: 8 << 30,
            shards: 1,
            governor: Governor::unlimited(),
            idle_series_ms: 300_000,
            now_ms,
            max_exemplars: 100_000,
            ha: None,
            aggregation: AggregationConfig::default(),
            type_and_unit_labels: false,
            change_kept: None,
            has_upkeep: true,
            seed: [7; 24],
        }
    }

    /// For a look at data that is another process' to keep, whose settings nobody knows here: nothing of it
    /// is too old, nothing is made coarser, and the log stays for whoever follows it.
    pub fn without_upkeep(data: PathBuf, now_ms: fn() -> i64) -> BrokerConfig {
        BrokerConfig {
            retention: Retention { time_ms: None, size_bytes: None },
            logs_retention_ms: None,
            rollups: Vec::new(),
            max_exemplars: usize::MAX,
            has_upkeep: false,
            ..BrokerConfig::new(data, now_ms)
        }
    }

    /// How long anything is kept, in any form.
    fn kept(&self) -> Retention {
        let Retention { time_ms, size_bytes } = self.retention;
        let rollups_ms = self.rollups.last().map_or(0, |tier| tier.kept_ms);
        Retention { time_ms: time_ms.map(|time_ms| time_ms.max(rollups_ms)), size_bytes }
    }

    /// The format of blocks, with the rollups that merges write.
    fn format(&self) -> MetricFormat {
        let resolutions_ms: Vec<i64> = self.rollups.iter().map(|tier| tier.resolution_ms).collect();
        MetricFormat::new(self.hash_seed()).with_rollups(&resolutions_ms)
    }

    /// What may be kept of what queries read of blocks.
    fn page_cache_bytes(&self) -> usize {
        let bytes = self.governor.limit_bytes() / PAGE_CACHE_SHARE;
        usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_PAGE_CACHE_BYTES)
    }

    /// What may be kept of indexes of blocks of logs that searches used lately.
    fn log_index_bytes(&self) -> usize {
        let bytes = self.governor.limit_bytes() / LOG_INDEX_SHARE;
        usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_LOG_INDEX_BYTES)
    }

    /// Names a store that has no name yet.
    fn store_id(&self) -> StoreId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.seed[..16]);
        StoreId(id)
    }

    /// Keys hashes.
    fn hash_seed(&self) -> u64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.seed[16..]);
        u64::from_le_bytes(half)
    }
}

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
