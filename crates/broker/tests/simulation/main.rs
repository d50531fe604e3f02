//! A cluster of brokers on one thread with a clock of its own: real consensus, the real write path, heads,
//! flushes and reads; links, disks, power and the store fail as they do.
//!
//! What is held against it: what was acknowledged can be read, at once where it was acknowledged and by
//! queries at any broker that begin later, unless they say what they lack; in the end at every broker,
//! also after all have lost power, samples and lines of logs alike; a batch of an agent is stored once, however often it was sent and to
//! whom; nothing can be read that was not sent; what was deleted stays away; one leads in a term, and all
//! catalogs are equal; the store has at any time what the catalog refers to, and in the end nothing else.
//! Blocks are merged, what dead brokers left is taken over and garbage is collected meanwhile; in the end a
//! broker may leave.
//!
//! `SEED=7 SEEDS=100 cargo test -p watchfire-broker --test simulation -- --nocapture`, with `LOG=info`
//! beside what the programs say, or `cargo xtask simulate --seconds 600`
#![expect(clippy::print_stderr, reason = "figures of a search, shown with --nocapture")]

mod cases;
mod clients;
mod duties;
mod harm;
mod line_clients;
mod lines;
mod oracle;
mod plan;
mod reads;
mod search;
mod trace;
mod world;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use blockstore::{Disk, MemoryDisk};
use broker::{Background, Broker, BrokerConfig, CatalogFeed, ClusterParts, DrainStep, Work};
use catalog::{BrokerId, BrokerInfo, BrokerState, Command};
use consensus::{Consensus, ConsensusConfig, Latency, Member, Observer, Writing, seed_chance};
use model::Limits;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use clients::{Site, Told};
use oracle::check_catalogs;
use plan::{Length, Patience, Plan, Times};
pub(crate) use reads::{all, query, read};
use search::{Extent, Report, search};
use world::{Dice, Links, Store, World};

/// 2026-11-21, at the start of a window of two hours.
pub(crate) const START_MS: i64 = 1_795_219_200_000;
/// When nothing bad has happened for so long, answers are whole.
pub(crate) const CALM: Duration = Duration::from_secs(30);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How far the clock of each broker is ahead, milliseconds.
    static AHEAD_MS: [Cell<i64>; 1 + MOST_BROKERS] = const { [const { Cell::new(0) }; 1 + MOST_BROKERS] };
}

/// Most brokers of a simulation.
const MOST_BROKERS: usize = 5;

/// What time it is for a broker.
fn now_ms<const ID: usize>() -> i64 {
    let began = BEGAN.get().expect("a simulation has begun");
    let right_ms = START_MS + i64::try_from(began.elapsed().as_millis()).expect("some minutes");
    AHEAD_MS.with(|ahead_ms| right_ms + ahead_ms[ID].get())
}

/// The clock of a broker.
fn clock(id: u64) -> fn() -> i64 {
    [now_ms::<1>, now_ms::<2>, now_ms::<3>, now_ms::<4>, now_ms::<5>][id as usize - 1]
}

/// Sets all clocks right.
fn right_clocks() {
    (1..=MOST_BROKERS as u64).for_each(|id| set_clock(id, 0));
}

/// Sets the clock of a broker.
fn set_clock(id: u64, ahead_ms: i64) {
    AHEAD_MS.with(|all| all[id as usize].set(ahead_ms));
}

/// What takes longer by its own clock never ends.
const LONGEST: Duration = Duration::from_secs(1_800);

/// A machine that was started.
struct Node {
    has_power: Arc<AtomicBool>,
    /// Steps of its disk until its power is cut.
    power_until: Arc<AtomicU64>,
    consensus: Consensus,
    /// The task that opens its broker.
    opening: JoinHandle<()>,
}

struct Cluster {
    world: Arc<World>,
    site: Arc<Site>,
    disks: BTreeMap<u64, MemoryDisk>,
    nodes: BTreeMap<u64, Node>,
    /// Who was seen to lead, by term.
    leaders: BTreeMap<u64, u64>,
    /// Which brokers have to begin anew, and why.
    failed: Arc<Mutex<Vec<(u64, String)>>>,
    /// How many did, because another one had taken them for dead.
    taken_over: u64,
    /// Since when all machines have power and all links hold.
    calm_since: Instant,
    dice: Dice,
    patience: Patience,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("some minutes")
}

fn member(id: u64) -> Member {
    Member { name: format!("b{id}"), address: id.to_string(), zone: (id % 3).to_string() }
}

impl Drop for Cluster {
    /// They hold each other.
    fn drop(&mut self) {
        self.site.brokers.lock().clear();
        self.world.members.lock().clear();
    }
}

impl Cluster {
    fn new(seed: u64, patience: Patience, times: Times) -> Cluster {
        let world = World::new(seed, patience.most_late_ms);
        let site = Site {
            brokers: Mutex::default(),
            starts: Mutex::default(),
            world: Arc::clone(&world),
            told: Mutex::new(Told::default()),
            times,
            is_over: AtomicBool::new(false),
        };
        Cluster {
            world,
            site: Arc::new(site),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leaders: BTreeMap::new(),
            failed: Arc::default(),
            taken_over: 0,
            calm_since: Instant::now(),
            dice: Dice(seed),
            patience,
        }
    }

    /// Starts the consensus of a broker; the broker itself is opened meanwhile, as soon as there is a
    /// leader.
    async fn start(&mut self, id: u64) -> Consensus {
        // One whose power was cut while it wrote.
        self.crash(id);
        let disk: Arc<dyn Disk> = Arc::new(self.disks.entry(id).or_default().clone());
        let config = ConsensusConfig {
            writing: Writing::Task(Latency(Arc::new({
                let world = Arc::clone(&self.world);
                move || world.sync_takes(id)
            }))),
            replace_after_ms: millis(self.patience.replace_after),
            snapshot_every: self.patience.snapshot_every,
            ..ConsensusConfig::new(id, member(id))
        };
        let is_alive = Arc::new(AtomicBool::new(true));
        let world = Arc::clone(&self.world);
        let links = || Links {
            id,
            world: Arc::clone(&self.world),
            site: Arc::clone(&self.site),
            is_alive: Arc::clone(&is_alive),
        };
        let feed = CatalogFeed::new(BrokerId(id));
        let observer: Arc<dyn Observer> = Arc::clone(&feed) as Arc<dyn Observer>;
        let on_failure = Arc::new(|_: &consensus::Failure<'_>| {});
        let started =
            Consensus::start(Arc::clone(&disk), config, Arc::new(links()), observer, on_failure);
        let consensus = started.await.unwrap_or_else(|error| panic!("broker {id}: {error}"));
        self.world.members.lock().insert(id, consensus.clone());
        let peers = Arc::new(links());
        let store = Store { world, is_alive: Arc::clone(&is_alive) };
        let (failed, harmed) = (Arc::clone(&self.failed), Arc::clone(&self.world));
        let parts = ClusterParts {
            consensus: consensus.clone(),
            feed,
            store: Arc::new(store.clone()),
            segments: Default::default(),
            blobs: Arc::new(store),
            peers,
            disk,
            work: Work::Inline,
            keep_flushed: self.patience.keep_flushed,
            background: Background {
                every: Duration::from_secs(1),
                adopt_after: self.patience.adopt_after,
                orphan_age: self.patience.orphan_age,
                damaged_after: Duration::from_secs(5),
                ..Background::default()
            },
            on_fault: Arc::new(move |why| {
                // From now on it does not answer, until it is started anew.
                harmed.note_harm();
                failed.lock().push((id, why.to_owned()));
            }),
        };
        let config = BrokerConfig {
            shards: 2,
            flush_interval_ms: millis(self.patience.flush_interval) as i64,
            rollups: Vec::new(),
            // Clocks are wrong.
            logs_retention_ms: None,
            limits: Limits { max_future_ms: i64::MAX, ..Limits::default() },
            ..BrokerConfig::new("unused".into(), clock(id))
        };
        let (site, own, alive) = (Arc::clone(&self.site), consensus.clone(), Arc::clone(&is_alive));
        let opening = tokio::spawn(async move {
            let info = BrokerInfo {
                name: format!("b{id}"),
                address: id.to_string(),
                http_address: String::new(),
                zone: (id % 3).to_string(),
                version: String::new(),
                feature_level: catalog::FEATURE_LEVEL,
                state: BrokerState::Active,
            };
            let named = Command::SetBroker { broker: BrokerId(id), info: Box::new(info) };
            while own.propose(named.clone(), Duration::from_secs(5)).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
            let opened = Broker::open_clustered(parts, config, Arc::default()).await;
            // Its power may have been cut meanwhile.
            sleep(Duration::from_millis(10)).await;
            if alive.load(Ordering::Relaxed) {
                site.world.note_harm();
                let broker = opened.unwrap_or_else(|error| panic!("broker {id}: {error:#}"));
                site.open(id, broker);
            }
        });
        let power_until = Arc::new(AtomicU64::new(u64::MAX));
        let node = Node { has_power: is_alive, power_until, consensus: consensus.clone(), opening };
        self.nodes.insert(id, node);
        consensus
    }

    fn is_running(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.has_power.load(Ordering::Relaxed))
    }

    /// Starts those anew whose process ended, because another broker took over what they had; they were
    /// cut off for long. A store that fails makes nobody dead, nor does a start that takes long.
    async fn revive(&mut self) {
        let is_troubled = !self.world.cut.lock().is_empty()
            || *self.world.lossy.lock()
            || *self.world.slow.lock()
            || !self.world.slow_disks.lock().is_empty()
            || !self.nodes.keys().all(|id| self.is_running(*id))
            || self.nodes.len() < self.disks.len();
        if is_troubled {
            self.calm_since = Instant::now();
        }
        let failed = std::mem::take(&mut *self.failed.lock());
        for (id, why) in &failed {
            let is_taken_over = why.contains("in epoch") || why.contains("another one's by now");
            assert!(is_taken_over, "broker {id} fails: {why}");
            // It hears of it when it hears of anything again. What was asked before may yet be waited for
            // in vain: a part of a snapshot for 5 s, an answer of the store for 15 s.
            let calm = self.calm_since.elapsed();
            assert!(calm < Duration::from_secs(30), "broker {id} was there for {calm:?}: {why}");
        }
        let ids: BTreeSet<u64> = failed.into_iter().map(|(id, _)| id).collect();
        for id in ids.into_iter().filter(|id| self.is_running(*id)).collect::<Vec<_>>() {
            self.taken_over += 1;
            self.crash(id);
            self.start(id).await;
        }
    }

    /// Lets time pass.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check_leaders();
            self.revive().await;
            sleep(Duration::from_millis(500).min(end - Instant::now())).await;
        }
    }

    /// Lets the last broker leave; yields how many are left.
    async fn drain(&mut self, of: u64) -> u64 {
        let leaving = self.site.brokers.lock()[&of].clone();
        let mut progress = leaving.drain().await.expect("there are others");
        let left = progress.wait_for(|now| now.step == DrainStep::Left);
        let left = timeout(Duration::from_secs(120), left).await.is_ok_and(|now| now.is_ok());
        assert!(left, "{:?}\n{}", leaving.drain_progress(), statuses(&self.world));
        drop(leaving);
        self.crash(of);
        of - 1
    }

    /// Starts all that do not run, and waits until all take writes.
    async fn all_open(&mut self, of: u64) {
        for id in 1..=of {
            let Some(node) = self.nodes.get(&id) else { continue };
            let power_until = node.power_until.swap(u64::MAX, Ordering::Relaxed);
            if self.disks[&id].steps() < power_until {
                self.disks[&id].cut_power_after(u64::MAX);
            } else {
                self.crash(id);
            }
        }
        for id in 1..=of {
            if !self.is_running(id) {
                self.start(id).await;
            }
        }
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            self.revive().await;
            if self.site.brokers.lock().len() == of as usize {
                return;
            }
            assert!(Instant::now() < end, "not all brokers are open: {}", statuses(&self.world));
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn statuses(world: &World) -> String {
    world.members.lock().iter().map(|(id, c)| format!("{id}: {:?}\n", c.status())).collect()
}

async fn run(seed: u64, plan: Plan) -> Report {
    seed_chance(seed);
    BEGAN.set(Some(Instant::now()));
    right_clocks();
    let Plan { of, rounds, patience, times, .. } = plan;
    let mut cluster = Cluster::new(seed, patience, times);
    cluster.start(1).await.begin().await.expect("the first begins");
    for id in 2..=of {
        let joining = cluster.start(id).await;
        joining.join(&[member(1)], Duration::from_secs(30)).await.expect("it is taken in");
    }
    let mut clients = Vec::new();
    for number in 1..=3 {
        let mut seed = || cluster.dice.next();
        clients.push(tokio::spawn(clients::agent(Arc::clone(&cluster.site), number, seed())));
        let site = Arc::clone(&cluster.site);
        clients.push(tokio::spawn(clients::remote_writer(site, number, seed())));
    }
    let seed_of_deleter = cluster.dice.next();
    clients.push(tokio::spawn(clients::deleter(Arc::clone(&cluster.site), 1, seed_of_deleter)));
    for _ in 0..2 {
        let (site, seed) = (Arc::clone(&cluster.site), cluster.dice.next());
        clients.push(tokio::spawn(clients::auditor(site, seed)));
    }
    // With dice of their own: what is done to the others is the same with and without them.
    let mut dice = Dice(seed ^ 0x6c69_6e65_7300);
    for number in 1..=2 {
        let site = Arc::clone(&cluster.site);
        clients.push(tokio::spawn(lines::line_writer(site, number, dice.next())));
    }
    clients.push(tokio::spawn(lines::line_auditor(Arc::clone(&cluster.site), dice.next())));
    let site = || Arc::clone(&cluster.site);
    clients.push(tokio::spawn(line_clients::named_writer(site(), 1, dice.next())));
    clients.push(tokio::spawn(line_clients::line_deleter(site(), 1, dice.next())));
    let mut dice = Dice(seed ^ 0x6475_7479);
    for id in 1..=of {
        clients.push(tokio::spawn(duties::holder(site(), id, dice.next())));
    }
    sleep(Duration::from_secs(3)).await;
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..rounds {
        if round == plan.leaves_at && cluster.leave_and_return(of).await {
            done.insert("leave and return", 1);
        }
        if plan.has_calm && round == rounds / 2 {
            // Long enough that whatever is partial then stays so.
            cluster.world.heal();
            cluster.all_open(of).await;
            cluster.pass(CALM + Duration::from_secs(15)).await;
        }
        let harm = cluster.harm(of).await;
        info!(harm);
        *done.entry(harm).or_default() += 1;
        cluster.check_objects().await;
        let pause = 100 + cluster.dice.below(plan.most_pause_ms);
        cluster.pass(Duration::from_millis(pause)).await;
    }
    cluster.world.heal();
    info!("healed");
    cluster.all_open(of).await;
    info!("all are open");
    cluster.site.is_over.store(true, Ordering::Relaxed);
    let end = Instant::now() + Duration::from_secs(300);
    for client in clients {
        while !client.is_finished() {
            assert!(Instant::now() < end, "clients cannot go on:\n{}", statuses(&cluster.world));
            cluster.pass(Duration::from_millis(500)).await;
        }
        if let Err(error) = client.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    info!("clients have ended");
    // Blocks that the store had forgotten for long are listed again.
    cluster.until_whole(of).await;
    info!("whole");
    cluster.check("healed").await;
    check_catalogs(&cluster.world).await;
    let of = if plan.drains { cluster.drain(of).await } else { of };
    info!("one may have left");
    sleep(Duration::from_secs(5)).await;
    cluster.check("one may have left").await;
    if plan.is_cleaned {
        cluster.until_clean().await;
    }
    info!("clean, if it is to be");
    let [merges, adopted] =
        ["watchfire_broker_merges_total", "watchfire_broker_adopted_segments_total"]
            .map(|name| cluster.sum(name));
    for id in 1..=of {
        cluster.crash(id);
    }
    cluster.all_open(of).await;
    sleep(Duration::from_secs(2)).await;
    cluster.check("after a power cut of all").await;
    sleep(2 * patience.flush_interval).await;
    cluster.check("flushed after it").await;
    info!("over");
    cluster.report(&done, merges, adopted)
}

fn simulate(seed: u64, length: Length) -> Report {
    let _again = Again(seed, length);
    trace::show();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let report = runtime.block_on(async {
        let run = run(seed, Plan::of_seed(seed, length));
        timeout(LONGEST, run).await.expect("it ends within half an hour")
    });
    runtime.shutdown_background();
    report
}

/// What to run to see a failure again.
struct Again(u64, Length);

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Again(seed, length) = self;
            let long = if *length == Length::Long { " LENGTH=long" } else { "" };
            eprintln!(
                "failed: SEED={seed} SEEDS=1{long} cargo test -p watchfire-broker --test simulation -- --nocapture"
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Seeds that found something once.
const PINNED: [(u64, Length); 3] = [
    // A member that gave up leading voted for another one, which took itself for a candidate.
    (20_525, Length::Long),
    // A leader that started again told others to read less than it had acknowledged.
    (30_194, Length::Long),
    // A block that was opened late let a broker forget a delete that was younger than its list of blocks.
    (32, Length::Long),
];

/// How long a seed is, unless one of them is asked for.
fn length_of(seed: u64) -> Length {
    match std::env::var("LENGTH").as_deref() {
        Ok("long") => Length::Long,
        Ok("short") => Length::Short,
        _ => Length::of_seed(seed),
    }
}

#[test]
fn faults_lose_double_and_invent_nothing() {
    let count = number("SEEDS").unwrap_or(6);
    let with_length = |seed: u64| (seed, length_of(seed));
    let seeds: Vec<(u64, Length)> = match number("SEED") {
        Some(first) => (first..first + count).map(with_length).collect(),
        None => (1..=count).map(with_length).chain(PINNED).collect(),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                while let Some(&(seed, length)) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    eprintln!("seed {seed}: {}", simulate(seed, length).line);
                }
            });
        }
    });
}

#[test]
#[ignore = "takes as long as it is told: `cargo xtask simulate`"]
fn faults_of_many_seeds() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let extent = Extent {
        first: number("SEED").unwrap_or_else(|| clock.expect("after 1970").as_secs() * 1_000_000),
        seeds: number("SEEDS"),
        time: number("SECONDS").map(Duration::from_secs),
        threads: number("THREADS").map_or_else(cores, |threads| threads as usize),
    };
    assert!(extent.seeds.or(number("SECONDS")).is_some(), "SECONDS or SEEDS says how long");
    let is_well = search(&extent, |seed| simulate(seed, length_of(seed)));
    assert!(is_well, "seeds failed: see above");
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
