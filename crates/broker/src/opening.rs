//! From what a start found to a running broker.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use blockstore::{Ballast, BlockSet, Counters, Disk};
use catalog::State;
use crossbeam_channel::bounded;
use logstore::LogFormat;
use metricstore::{MetricFormat, PageCache, Registry};
use net::NetMetrics;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use crate::agents::ShownBatches;
use crate::aggregation::Aggregation;
use crate::cluster::Clustered;
use crate::commit::{self, CommitQueue};
use crate::complaints::Complaints;
use crate::fleet::Fleet;
use crate::following::Following;
use crate::ha::HaTracker;
use crate::in_effect::InEffect;
use crate::live::LiveHub;
use crate::maintenance::{
    Damaged, DamagedBlocks, Maintenance, MaintenanceCounters, Unfinished, WakeQueue,
};
use crate::metadata::MetadataBook;
use crate::otlp::Otlp;
use crate::pushgateway::WrittenGroups;
use crate::recovery::{Parts, Recovered};
use crate::rpc::{PayloadBudget, ReadCounters};
use crate::sender::Senders;
use crate::shards::AbortOnPanic;
use crate::shared_catalog::SharedCatalog;
use crate::tenants::TenantBook;
use crate::visible::Visible;
use crate::{Broker, BrokerConfig, Inner};

/// Requests that may unpack and resolve at once, for each shard: more only take turns.
const INTAKE_PER_SHARD: usize = 2;

/// What every broker is made of, wherever its data is durable.
pub(crate) struct Core {
    pub(crate) registry: Arc<Registry>,
    pub(crate) input_registry: Arc<Registry>,
    pub(crate) visible: Visible,
    pub(crate) blocks: Arc<BlockSet<MetricFormat>>,
    pub(crate) log_blocks: Arc<BlockSet<LogFormat>>,
    pub(crate) pages: Arc<PageCache>,
    pub(crate) damaged: Arc<DamagedBlocks>,
    pub(crate) catalog: SharedCatalog,
    pub(crate) live: Arc<LiveHub>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) resolving: Arc<RwLock<()>>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) ballast: Arc<Mutex<Ballast>>,
    pub(crate) following: Arc<Following>,
    pub(crate) recovered: Recovered,
    pub(crate) store_counters: Arc<Counters>,
    pub(crate) maintenance_counters: Arc<MaintenanceCounters>,
    pub(crate) in_effect: Arc<InEffect>,
    pub(crate) committer: CommitQueue,
    pub(crate) wake: WakeQueue,
    pub(crate) threads: Vec<JoinHandle<()>>,
    /// Of a broker of a cluster.
    pub(crate) clustered: Option<Clustered>,
}

/// Starts the threads of a broker whose data is durable in a log of its own.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn beside_a_log(
    parts: Parts,
    config: BrokerConfig,
    net_metrics: Arc<NetMetrics>,
) -> Result<Broker> {
    let (sender, messages) = bounded(commit::QUEUE);
    let committer = parts.committer;
    let registry = Arc::clone(&committer.registry);
    let visible = committer.visible.clone();
    let catalog = Arc::clone(&committer.catalog);
    let ballast = Arc::clone(&committer.ballast);
    let following = Arc::clone(&committer.following);
    let disk = Arc::clone(&parts.disk);
    let committer_thread = std::thread::Builder::new()
        .name("committer".to_owned())
        .spawn(move || {
            let _guard = AbortOnPanic("committer");
            committer.run(&messages);
        })
        .context("start the committer's thread")?;
    let (wake, woken) = bounded(16);
    let maintenance_counters = Arc::new(MaintenanceCounters::default());
    let blocks = Arc::new(parts.blocks);
    let log_blocks = Arc::new(parts.log_blocks);
    let live = Arc::new(LiveHub::default());
    let fleet = Arc::new(Fleet::load(&catalog.lock()));
    let resolving = Arc::new(RwLock::new(()));
    let found = parts
        .damaged
        .iter()
        .map(|block| (block.meta.id, Damaged { meta: block.meta, left: Unfinished::Tell }));
    let damaged = Arc::new(DamagedBlocks::new(found.collect()));
    let in_effect = Arc::new(InEffect::new(config.adjustable()));
    let maintenance = Maintenance::new(
        &config,
        Arc::clone(&in_effect),
        sender.clone(),
        parts.disk,
        parts.blobs,
        visible.clone(),
        Arc::clone(&blocks),
        Arc::clone(&log_blocks),
        Arc::clone(&catalog),
        Arc::clone(&registry),
        Arc::clone(&ballast),
        Arc::clone(&live),
        Arc::clone(&fleet),
        Arc::clone(&resolving),
        Arc::clone(&maintenance_counters),
        Arc::clone(&damaged),
    );
    let maintenance_thread = std::thread::Builder::new()
        .name("maintenance".to_owned())
        .spawn(move || {
            let _guard = AbortOnPanic("maintenance");
            maintenance.run(&woken);
        })
        .context("start the maintenance thread")?;
    let core = Core {
        registry,
        input_registry: parts.input_registry,
        visible,
        blocks,
        log_blocks,
        pages: parts.pages,
        damaged,
        catalog: SharedCatalog::Alone(catalog),
        live,
        fleet,
        resolving,
        disk,
        ballast,
        following,
        recovered: parts.recovered,
        store_counters: parts.counters,
        maintenance_counters,
        in_effect,
        committer: CommitQueue::Log(sender),
        wake: WakeQueue::Thread(wake),
        threads: vec![maintenance_thread, committer_thread],
        clustered: None,
    };
    let broker = Broker::assemble(config, core, net_metrics);
    if let Some(windows) = parts.windows {
        *broker.inner.follower.lock() = Some(broker.start_follower(windows)?);
    }
    Ok(broker)
}

impl Broker {
    /// Puts the parts together, with what is above the wall.
    pub(crate) fn assemble(
        config: BrokerConfig,
        core: Core,
        net_metrics: Arc<NetMetrics>,
    ) -> Broker {
        let Visible { shards, exemplars, deletes, counters, lines } = core.visible;
        for open in core.blocks.snapshot().iter().filter(|open| open.block.lacks_floats()) {
            shards.changes().note_windows(open.block.rollup_ms());
        }
        let now_ms = (config.now_ms)();
        let load = |state: &State| {
            let used = state.blocks().map(|meta| meta.tenant).chain(core.registry.tenants());
            let used = used.chain(lines.heads.tenants());
            let hub = Arc::clone(lines.heads.hub());
            let tenants = TenantBook::load(state, used, Arc::clone(&core.in_effect), hub);
            let ha = HaTracker::load(state, now_ms);
            (Arc::new(MetadataBook::load(state)), tenants, ha)
        };
        let (metadata, tenants, ha) = core.catalog.read(load);
        let aggregation = Aggregation::new(config.aggregation.clone(), core.input_registry);
        let otlp = Otlp::new(config.type_and_unit_labels);
        let agent_budget = PayloadBudget::new(config.governor.limit_bytes());
        let intake = Arc::new(Semaphore::new(config.shards * INTAKE_PER_SHARD));
        let broker = Broker {
            inner: Arc::new(Inner {
                config,
                registry: core.registry,
                shards,
                blocks: core.blocks,
                lines,
                log_blocks: core.log_blocks,
                catalog: core.catalog,
                live: core.live,
                shown: ShownBatches::default(),
                fleet: core.fleet,
                agent_budget,
                ballast: core.ballast,
                metadata,
                pushed: WrittenGroups::default(),
                tenants,
                deletes,
                exemplars,
                in_effect: core.in_effect,
                ha,
                aggregation: Arc::new(aggregation),
                follower: Mutex::new(None),
                otlp,
                disk: core.disk,
                following: core.following,
                senders: Senders::default(),
                resolving: core.resolving,
                intake,
                committer: Mutex::new(Some(core.committer)),
                stopping: watch::Sender::new(false),
                wake: core.wake,
                copying: Mutex::new(()),
                threads: Mutex::new(core.threads),
                recovered: core.recovered,
                store_counters: core.store_counters,
                commit_counters: counters,
                ingest_counters: Arc::default(),
                line_complaints: Complaints::default(),
                read_counters: ReadCounters::default(),
                maintenance_counters: core.maintenance_counters,
                damaged: core.damaged,
                pages: core.pages,
                net_metrics,
                clustered: core.clustered,
            }),
        };
        broker.count_memory();
        broker
    }
}
