//! A clustered broker starts: its log begins anew, heads and blocks are read, tasks take up their work.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blockstore::{Ballast, Blobs, BlockSet, Counters, Disk, MergePolicy};
use catalog::{BlockMeta, BrokerId, Command, LogPosition, Outcome, Signal, State};
use consensus::{Consensus, ProposeError};
use metricstore::{LogEncoder, MetricFormat, PageCache, Registry};
use net::NetMetrics;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::adoption::Adoption;
use super::applier::{Applier, Flushed};
use super::blocks::BlockWriting;
use super::budget::Budget;
use super::damage::{Mending, SettingAside};
use super::drain::{Draining, left_cluster};
use super::feed::{CatalogFeed, Event};
use super::flush::Upkeep;
use super::fresh::{FreshCounters, Others};
use super::jobs::{Background, Jobs, Rests};
use super::kept::{self, Keeping};
use super::leases::Leases;
use super::listing::Listing;
use super::members::Members;
use super::merging::Merging;
use super::metrics::ClusterCounters;
use super::orphans::Orphans;
use super::proposals::{Answering, Lanes};
use super::rebuild::{AT_ONCE, Opening, Rebuild};
use super::signals::BlockSets;
use super::store::ObjectStore;
use super::unread::Missing;
use super::writer::{AGREE_DEADLINE, Agreeing, ClusterQueue, Collector, Flights, Open};
use super::{ClusterParts, Clustered, OnFault, Work};
use crate::commit::CommitQueue;
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::fleet::Fleet;
use crate::following::Following;
use crate::in_effect::InEffect;
use crate::live::LiveHub;
use crate::logs::{Lines, LogHeads};
use crate::maintenance::{DamagedBlocks, MaintenanceCounters, Planner, WakeQueue};
use crate::opening::Core;
use crate::recovery::Recovered;
use crate::shards::{AbortOnPanic, Shards};
use crate::shared_catalog::SharedCatalog;
use crate::visible::{CommitCounters, Visible};
use crate::{Broker, BrokerConfig};

/// Of the limit of memory, the part that batches on their way to the store may take …
const WAITING_SHARE: u64 = 16;
/// … and the most that is of use: a store that takes less than so much in 15 s is not fast enough.
const MAX_WAITING_BYTES: u64 = 256 << 20;

/// A start whose log has begun.
struct Start {
    own: BrokerId,
    epoch: u64,
    /// As it was then.
    state: Box<State>,
    consensus: Consensus,
    store: Arc<dyn ObjectStore>,
    work: Work,
    events: UnboundedSender<Event>,
    on_fault: OnFault,
    registry: Arc<Registry>,
    visible: Visible,
    flights: Arc<Flights>,
    flushed: Arc<Mutex<Flushed>>,
    counters: Arc<ClusterCounters>,
}

/// See [`Broker::open_clustered`].
pub(super) async fn open(
    parts: ClusterParts,
    config: BrokerConfig,
    net_metrics: Arc<NetMetrics>,
) -> Result<Broker> {
    if !config.aggregation.rules.is_empty() {
        bail!("stream_aggregation follows the log of one machine: leave it out in a cluster");
    }
    let ClusterParts { consensus, feed, store, segments, blobs, peers, disk, .. } = parts;
    let (work, on_fault) = (parts.work, parts.on_fault);
    let (keep, background) = (parts.keep_flushed, parts.background);
    if let Some(why) = left_cluster(&*disk) {
        bail!(why);
    }
    // Before the log begins: what is refused must not look alive.
    let kept = kept::agree(&consensus, &config, &segments).await?;
    let store = segments.over(store);
    let started = Instant::now();
    let (events, mut coming) = feed.listen();
    let (epoch, state) = begin(&consensus, &feed, &mut coming).await?;
    let members = Members::start(feed.broker(), consensus.clone(), config.now_ms);
    let starting = Starting(Some(Arc::clone(&members)));
    let start = Start {
        own: feed.broker(),
        epoch,
        consensus,
        store,
        work,
        events,
        on_fault,
        registry: Arc::new(Registry::new(config.hash_seed())),
        visible: heads(&config, work, &*disk, &state)?,
        state,
        flights: Arc::default(),
        flushed: Arc::default(),
        counters: Arc::default(),
    };
    let mut recovered = Recovered::default();
    let rebuild = start.rebuild((config.now_ms)());
    let left_out = rebuild.run(&start.state, u64::MAX, &mut recovered).await?;
    kept::has_looked_everywhere(&kept, &segments, left_out.gone)?;
    let pages = PageCache::new(config.page_cache_bytes());
    let store_counters = Arc::new(Counters::default());
    let format = config.format().with_cache(Arc::clone(&pages));
    let (opening, late) = start.open_blocks(blobs, format, &store_counters).await?;
    let (blocks, damaged) = (opening.blocks.clone(), Arc::clone(&opening.damaged));
    recovered.blocks = blocks.len();
    if left_out.is_all && recovered.blocks == 0 {
        bail!(
            "none of the {} segments that this broker acknowledged is in the store, and no block: it is \
             another store or prefix, or somebody has emptied it. Give the store of this cluster, or \
             restore its objects; if they are lost for good, found a new cluster",
            left_out.unread.len()
        );
    }
    recovered.exemplars = start.visible.exemplars.totals().0;
    recovered.seconds = started.elapsed().as_secs_f64();
    let mut others = start.applying(opening, late, coming, &feed)?;
    let (queue, tasks) = start.writing(&config);
    let (live, resolving) = (Arc::new(LiveHub::default()), Arc::new(RwLock::new(())));
    let maintenance_counters = Arc::new(MaintenanceCounters::default());
    let in_effect = Arc::new(InEffect::new(config.adjustable()));
    let writing = BlockWriting {
        consensus: start.consensus.clone(),
        store: Arc::clone(&start.store),
        work,
        format: Arc::new(config.format()),
        blocks: blocks.clone(),
        log_format: start.visible.lines.format.clone(),
        flushed: Arc::clone(&start.flushed),
        counters: Arc::clone(&maintenance_counters),
        keep,
        removals: Arc::default(),
    };
    let keeping = Keeping::new(kept, &members);
    let jobs = start.jobs(&config, background, &in_effect, keeping, &writing, &damaged, &disk);
    let (cleanings, cleaned) = unbounded_channel();
    let (wake, woken) = unbounded_channel();
    let upkeep = Upkeep {
        broker: start.own,
        epoch,
        now_ms: config.now_ms,
        consensus: start.consensus.clone(),
        writing,
        work,
        events: start.events.clone(),
        messages: queue.messages.downgrade(),
        registry: Arc::clone(&start.registry),
        visible: start.visible.clone(),
        live: Arc::clone(&live),
        resolving: Arc::clone(&resolving),
        cleanings,
        flushed: Arc::clone(&start.flushed),
        governor: Arc::clone(&config.governor),
        counters: Arc::clone(&maintenance_counters),
        flush_interval: Duration::from_millis(
            u64::try_from(config.flush_interval_ms).unwrap_or(1_000),
        ),
        flush_bytes: config.flush_bytes,
        idle_series_ms: config.idle_series_ms,
        pending: Vec::new(),
        unreadable: left_out.unread.clone(),
    };
    let aside = jobs.merging.aside.clone();
    let take = move |block| aside.take(block);
    let jobs = tokio::spawn(jobs.run(cleaned)).abort_handle();
    others.push(tokio::spawn(upkeep.run(woken)));
    let fresh = Others {
        own: start.own,
        consensus: start.consensus.clone(),
        feed: Arc::clone(&feed),
        events: start.events.clone(),
        peers,
        store: Arc::clone(&start.store),
        work,
        governor: Arc::clone(&config.governor),
        deletes: Arc::clone(&start.visible.deletes),
        lines: start.visible.lines.clone(),
        seed: config.hash_seed(),
        now_ms: config.now_ms,
        runtime: (work == Work::Threads).then(Handle::current),
        known: Mutex::default(),
        counters: FreshCounters::default(),
        unknown_runs: AtomicU64::new(0),
    };
    let Start { consensus, events, registry, visible, counters, .. } = start;
    let core = Core {
        registry,
        input_registry: Arc::new(Registry::new(config.hash_seed())),
        visible,
        blocks: blocks.samples,
        log_blocks: blocks.lines,
        pages,
        damaged,
        fleet: Arc::new(consensus.read(Fleet::load)),
        catalog: SharedCatalog::Agreed(consensus),
        live,
        resolving,
        ballast: Arc::new(Mutex::new(Ballast::open(Arc::clone(&disk)).context("open the disk")?)),
        disk,
        following: Arc::new(Following::default()),
        recovered,
        store_counters,
        maintenance_counters,
        in_effect,
        wake: WakeQueue::Task(wake, Box::new(take)),
        threads: Vec::new(),
        clustered: Some(Clustered {
            counters,
            budget: Arc::clone(&queue.budget),
            members,
            draining: Draining::new(Arc::clone(&queue.is_draining)),
            jobs,
            peers: Arc::new(fresh),
            answering: Semaphore::new(ANSWERS_PER_SHARD * config.shards),
            left_out: left_out.unread,
            feed: Arc::clone(&feed),
            events: events.clone(),
            writing: Mutex::new(tasks),
            others,
        }),
        committer: CommitQueue::Cluster(queue),
    };
    let broker = Broker::assemble(config, core, net_metrics);
    feed.open(&broker);
    // Behind what came while nobody followed.
    let following = feed;
    let catch_up = move || {
        if let Some(broker) = following.opened()
            && let SharedCatalog::Agreed(consensus) = &broker.inner.catalog
        {
            broker.follow_all(&consensus.read(State::clone));
        }
    };
    let _ = events.send(Event::Then(Box::new(catch_up)));
    starting.end();
    Ok(broker)
}

/// A start that may yet fail: then nobody keeps its lease.
struct Starting(Option<Arc<Members>>);

impl Starting {
    /// The broker is there, and ends by itself what it began.
    fn end(mut self) {
        if let Some(members) = self.0.take() {
            members.open();
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(members) = &self.0 {
            members.end();
        }
    }
}

/// Questions of other brokers that are answered at once, for each shard: more only take turns.
const ANSWERS_PER_SHARD: usize = 4;

/// Heads without rows.
fn heads(config: &BrokerConfig, work: Work, disk: &dyn Disk, state: &State) -> Result<Visible> {
    let shards = match work {
        Work::Threads => Shards::start(config.shards)?,
        Work::Inline => Shards::inline(config.shards),
    };
    let (most, seed) = (config.max_exemplars, config.hash_seed());
    let log_heads = match work {
        Work::Threads => LogHeads::start(seed)?,
        Work::Inline => LogHeads::inline(seed),
    };
    let exemplars = ExemplarBook::open(disk, LogPosition::default(), true, most, seed)?;
    Ok(Visible {
        shards: Arc::new(shards),
        exemplars: Arc::new(exemplars),
        deletes: Arc::new(DeleteBook::load(state)?),
        counters: Arc::new(CommitCounters::default()),
        lines: Lines::new(log_heads, state, seed, config.log_index_bytes())?,
    })
}

impl Start {
    fn rebuild(&self, now_ms: i64) -> Rebuild<'_> {
        Rebuild {
            broker: self.own,
            store: &self.store,
            work: self.work,
            registry: &self.registry,
            visible: &self.visible,
            now_ms,
        }
    }

    /// Opens the blocks that there are; also yields those that cannot be read for now.
    async fn open_blocks(
        &self,
        blobs: Arc<dyn Blobs>,
        format: MetricFormat,
        counters: &Arc<Counters>,
    ) -> Result<(Opening, Vec<BlockMeta>)> {
        let (of_lines, log_format) = (Arc::clone(&blobs), self.visible.lines.format.clone());
        let [samples, lines] = [Arc::clone(counters), Arc::clone(counters)];
        let blocks = BlockSets {
            samples: Arc::new(BlockSet::without_blocks(blobs, format, Signal::Metrics, samples)),
            lines: Arc::new(BlockSet::without_blocks(of_lines, log_format, Signal::Logs, lines)),
        };
        let opening = Opening {
            consensus: self.consensus.clone(),
            blocks,
            damaged: Arc::new(DamagedBlocks::default()),
            work: self.work,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        };
        let opened = opening.open_all(self.state.blocks().copied().collect()).await?;
        opening.blocks.swap(&[], opened.open);
        Ok((opening, opened.late))
    }

    /// The background jobs of this broker.
    #[expect(clippy::too_many_arguments, reason = "called once, by the start")]
    fn jobs(
        &self,
        config: &BrokerConfig,
        background: Background,
        in_effect: &Arc<InEffect>,
        keeping: Keeping,
        writing: &BlockWriting,
        damaged: &Arc<DamagedBlocks>,
        disk: &Arc<dyn Disk>,
    ) -> Jobs {
        let (own, now_ms) = (self.own, config.now_ms);
        let members = keeping.members();
        let leases = Leases::new(own, self.consensus.clone(), now_ms);
        // An eighth of what this process may use.
        let memory = config.governor.limit_bytes() / 8;
        let max_bytes = background.max_merge_bytes.min(memory.max(1 << 20));
        let policy = MergePolicy { max_bytes, ..MergePolicy::default() };
        let planner = Arc::new(Mutex::new(Planner::new(config, Arc::clone(in_effect), policy)));
        let aside = SettingAside {
            blocks: writing.blocks.clone(),
            damaged: Arc::clone(damaged),
            shards: Arc::clone(&self.visible.shards),
            counters: Arc::clone(&writing.counters),
            events: self.events.clone(),
            taken: Arc::default(),
        };
        let mending = Mending {
            own,
            members: Arc::clone(members),
            leases: leases.clone(),
            work: self.work,
            format: Arc::clone(&writing.format),
            log_format: writing.log_format.clone(),
            aside: aside.clone(),
            every: background.every,
            after: background.damaged_after,
            looks: BTreeMap::new(),
        };
        let merging = Merging {
            own,
            keeping: keeping.clone(),
            members: Arc::clone(members),
            leases: leases.clone(),
            writing: writing.clone(),
            planner: Arc::clone(&planner),
            deletes: Arc::clone(&self.visible.deletes),
            lines: self.visible.lines.clone(),
            aside,
            governor: Arc::clone(&config.governor),
            rests: Rests::default(),
        };
        let adoption = Adoption {
            own,
            keeping: keeping.clone(),
            members: Arc::clone(members),
            leases: leases.clone(),
            writing: writing.clone(),
            cluster: Arc::clone(&self.counters),
            governor: Arc::clone(&config.governor),
            disk: Arc::clone(disk),
            seed: config.hash_seed(),
            now_ms,
            every: background.every,
            after: background.adopt_after,
            pass_over_after: background.damaged_after,
            unreadable: BTreeMap::new(),
            begun: BTreeMap::new(),
            rests: Rests::default(),
        };
        let orphans = Orphans {
            own,
            members: Arc::clone(members),
            leases: leases.clone(),
            writing: writing.clone(),
            cluster: Arc::clone(&self.counters),
            age: background.orphan_age,
            seen: BTreeMap::new(),
            handed_out: VecDeque::new(),
            looked: None,
        };
        let every = background.every;
        let missing = Missing {
            own,
            members: Arc::clone(members),
            leases: leases.clone(),
            writing: writing.clone(),
            disk: Arc::clone(disk),
            seed: config.hash_seed(),
            now_ms,
            every: 120 * every,
            tried: None,
        };
        Jobs { own, every, leases, planner, keeping, merging, adoption, mending, missing, orphans }
    }

    /// The number of the first segment of this epoch.
    fn next_seq(&self) -> u64 {
        let own = self.state.broker(self.own).expect("its log was begun");
        let last = own.segments.last_key_value().map_or(0, |(seq, _)| seq + 1);
        last.max(own.flushed_through)
    }

    /// Starts what makes visible.
    fn applying(
        &self,
        opening: Opening,
        late: Vec<BlockMeta>,
        coming: UnboundedReceiver<Event>,
        feed: &Arc<CatalogFeed>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let (foreign, foreign_blocks) = unbounded_channel();
        for meta in &late {
            let _ = foreign.send(*meta);
        }
        let applier = Applier {
            broker: self.own,
            epoch: self.epoch,
            visible: self.visible.clone(),
            blocks: opening.blocks.clone(),
            damaged: Arc::clone(&opening.damaged),
            flights: Arc::clone(&self.flights),
            flushed: Arc::clone(&self.flushed),
            foreign,
            through: self.next_seq(),
            last_delete: self.state.last_delete(),
            listing: Listing::new(self.state.blocks().copied(), &late),
            feed: Arc::clone(feed),
            on_fault: Arc::clone(&self.on_fault),
            has_failed: false,
        };
        let following = tokio::spawn(opening.follow(foreign_blocks, self.events.clone()));
        let applying = start_applier(applier, coming, self.work)?;
        Ok(applying.into_iter().chain([following]).collect())
    }

    /// Starts what makes durable. Yields the way to it, and the tasks, which end when nothing comes any
    /// more.
    fn writing(&self, config: &BrokerConfig) -> (ClusterQueue, Vec<JoinHandle<()>>) {
        let (messages, taken) = unbounded_channel();
        let (asked, asking) = unbounded_channel();
        let (items, agreed) = unbounded_channel();
        let (lanes, mut writing) = Lanes::start(&self.consensus);
        let (consensus, events) = (self.consensus.clone(), self.events.clone());
        let answering = Answering { consensus, lanes, events };
        let limit = (config.governor.limit_bytes() / WAITING_SHARE).min(MAX_WAITING_BYTES);
        let budget = Arc::new(Budget::new(usize::try_from(limit).unwrap_or(usize::MAX)));
        let queue = ClusterQueue {
            messages,
            asked,
            budget,
            is_draining: Arc::default(),
            counters: Arc::clone(&self.counters),
        };
        let collector = Collector {
            broker: self.own,
            epoch: self.epoch,
            next_seq: self.next_seq(),
            consensus: self.consensus.clone(),
            registry: Arc::clone(&self.registry),
            lines: self.visible.lines.clone(),
            store: Arc::clone(&self.store),
            work: self.work,
            events: self.events.clone(),
            items,
            encoder: LogEncoder::new(),
            puts: Collector::puts(),
            put_done: Arc::new(Notify::new()),
            open: Open::default(),
            sealed_at: None,
            counters: Arc::clone(&self.counters),
        };
        let agreeing = Agreeing {
            broker: self.own,
            epoch: self.epoch,
            consensus: self.consensus.clone(),
            flights: Arc::clone(&self.flights),
            counters: Arc::clone(&self.counters),
            on_fault: Arc::clone(&self.on_fault),
        };
        writing.push(tokio::spawn(answering.run(asking)));
        writing.push(tokio::spawn(collector.run(taken)));
        writing.push(tokio::spawn(agreeing.run(agreed)));
        (queue, writing)
    }
}

/// Begins the next epoch of the broker's log; yields it with the state as of then. What is told from
/// then on comes behind it.
async fn begin(
    consensus: &Consensus,
    feed: &CatalogFeed,
    coming: &mut UnboundedReceiver<Event>,
) -> Result<(u64, Box<State>)> {
    let broker = feed.broker();
    let epoch = loop {
        match consensus.propose(Command::BeginLog { broker }, AGREE_DEADLINE).await {
            Ok(Outcome::Epoch(epoch)) => break epoch,
            Ok(other) => {
                unreachable!("a log that begins is answered with its epoch, not {other:?}")
            }
            // One that is begun twice is only in a later epoch.
            Err(error @ (ProposeError::NoLeader(_) | ProposeError::Unknown(_))) => {
                tracing::warn!(%error, "the start waits for the cluster");
            }
            Err(error @ (ProposeError::Catalog(_) | ProposeError::Stopping)) => {
                return Err(error).with_context(|| format!("begin the log of broker {broker}"));
            }
        }
    };
    loop {
        match coming.recv().await {
            Some(Event::Begun { epoch: begun, state }) if begun == epoch => {
                return Ok((epoch, state));
            }
            Some(_) => {}
            None => bail!("the broker is opened twice at once"),
        }
    }
}

/// Applies what comes: on a thread, because shards may let it wait, or as a task.
fn start_applier(
    mut applier: Applier,
    mut coming: UnboundedReceiver<Event>,
    work: Work,
) -> Result<Option<JoinHandle<()>>> {
    match work {
        Work::Inline => Ok(Some(tokio::spawn(async move {
            while let Some(event) = coming.recv().await {
                applier.apply(event);
            }
        }))),
        Work::Threads => {
            std::thread::Builder::new()
                .name("applier".to_owned())
                .spawn(move || {
                    let _guard = AbortOnPanic("applier");
                    while let Some(event) = coming.blocking_recv() {
                        applier.apply(event);
                    }
                })
                .context("start the applier's thread")?;
            Ok(None)
        }
    }
}
