//! A cluster on one thread with a clock of its own: members that lose power, links that are cut in
//! one or both directions, lose and delay, disks that forget what was not synced.
//!
//! What is held against it: a command that was acknowledged is in the end in the state of every
//! member, one that was told "nothing was changed" in none; all members apply the same commands in
//! the same order, also those that came back; one leader per term; when all links are whole again,
//! commands go through within seconds.
#![expect(clippy::print_stderr, reason = "figures of a search, shown with --nocapture")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blockstore::{Disk, MemoryDisk};
use bytes::Bytes;
use catalog::{CatalogError, Command, Expected, Outcome, State};
use consensus::{
    Call, Consensus, ConsensusConfig, Member, Observer, ProposeError, Transport, TransportError,
    Writing, seed_chance,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// Repeatable chance of the test's own.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }
}

/// All links, and who is behind them.
struct World {
    members: Mutex<BTreeMap<u64, Consensus>>,
    /// From and to: nothing passes.
    cut: Mutex<BTreeSet<(u64, u64)>>,
    lossy: Mutex<bool>,
    slow: Mutex<bool>,
    dice: Mutex<Dice>,
}

/// The links as a member sees them.
struct From {
    id: u64,
    world: Arc<World>,
}

impl Transport for From {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call {
        let world = Arc::clone(&self.world);
        let from = self.id;
        // A seed is known by its address only.
        let to = if to == 0 { member.address.parse().unwrap_or(0) } else { to };
        Box::pin(async move {
            match tokio::time::timeout(deadline, world.carry(from, to, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(TransportError::Lost("no answer in time".to_owned())),
            }
        })
    }
}

impl World {
    async fn carry(&self, from: u64, to: u64, request: Bytes) -> Result<Bytes, TransportError> {
        if self.cut.lock().contains(&(from, to)) {
            // As a dropped packet: nobody says so.
            return std::future::pending().await;
        }
        self.delay().await?;
        let Some(there) = self.members.lock().get(&to).cloned() else {
            return Err(TransportError::Unreached("connection refused".to_owned()));
        };
        let answer = there.answer(&request).await;
        if self.cut.lock().contains(&(to, from)) || !self.members.lock().contains_key(&to) {
            return std::future::pending().await;
        }
        self.delay().await?;
        Ok(answer)
    }

    async fn delay(&self) -> Result<(), TransportError> {
        let (millis, lost) = {
            let mut dice = self.dice.lock();
            let millis = if *self.slow.lock() { dice.below(400) } else { 1 + dice.below(3) };
            (millis, *self.lossy.lock() && dice.percent(20))
        };
        if lost {
            return std::future::pending().await;
        }
        sleep(Duration::from_millis(millis)).await;
        Ok(())
    }
}

/// What a member applied, by the version of the state it led to.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, Vec<u8>>>);

/// Holds what every member applies against what the others did.
struct Watching {
    id: u64,
    ledger: Arc<Ledger>,
    state: Arc<Mutex<BTreeMap<u64, State>>>,
}

impl Observer for Watching {
    fn applied(&self, command: &Command, outcome: &Result<Outcome, CatalogError>, state: &State) {
        if outcome.is_ok() {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            let mut ledger = self.ledger.0.lock();
            let known = ledger.entry(state.version()).or_insert_with(|| bytes.clone());
            assert_eq!(*known, bytes, "members disagree about version {}", state.version());
        }
        self.state.lock().insert(self.id, state.clone());
    }

    fn replaced(&self, state: &State) {
        self.state.lock().insert(self.id, state.clone());
    }
}

struct Cluster {
    world: Arc<World>,
    ledger: Arc<Ledger>,
    states: Arc<Mutex<BTreeMap<u64, State>>>,
    disks: BTreeMap<u64, MemoryDisk>,
    leaders: BTreeMap<u64, u64>,
    dice: Dice,
}

fn member(id: u64) -> Member {
    Member { name: format!("b{id}"), address: id.to_string(), zone: (id % 3).to_string() }
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let world = World {
            members: Mutex::default(),
            cut: Mutex::default(),
            lossy: Mutex::new(false),
            slow: Mutex::new(false),
            dice: Mutex::new(Dice(seed ^ 1)),
        };
        Cluster {
            world: Arc::new(world),
            ledger: Arc::default(),
            states: Arc::default(),
            disks: BTreeMap::new(),
            leaders: BTreeMap::new(),
            dice: Dice(seed),
        }
    }

    async fn start(&mut self, id: u64) -> Consensus {
        let disk = self.disks.entry(id).or_default().clone();
        let config = ConsensusConfig {
            writing: Writing::Inline,
            replace_after_ms: 20_000,
            snapshot_every: 40,
            ..ConsensusConfig::new(id, member(id))
        };
        let transport = Arc::new(From { id, world: Arc::clone(&self.world) });
        let observer = Arc::new(Watching {
            id,
            ledger: Arc::clone(&self.ledger),
            state: Arc::clone(&self.states),
        });
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let started = Consensus::start(disk, config, transport, observer, Arc::new(|_| {})).await;
        let consensus = started.unwrap_or_else(|error| panic!("member {id} starts: {error}"));
        self.world.members.lock().insert(id, consensus.clone());
        consensus
    }

    /// Cuts the power of a member; it finds what its disk kept.
    fn crash(&mut self, id: u64) {
        let Some(gone) = self.world.members.lock().remove(&id) else { return };
        let disk = self.disks.remove(&id).expect("every member has one");
        disk.cut_power_after(0);
        let seed = self.dice.next();
        self.disks.insert(id, disk.crash(seed));
        tokio::spawn(async move { gone.stop().await });
    }

    fn running(&self) -> Vec<(u64, Consensus)> {
        self.world.members.lock().iter().map(|(&id, c)| (id, c.clone())).collect()
    }

    fn check_leaders(&mut self) {
        for (id, consensus) in self.running() {
            if consensus.is_leader() {
                let term = consensus.status().term;
                let known = *self.leaders.entry(term).or_insert(id);
                assert_eq!(known, id, "two leaders in term {term}");
            }
        }
    }

    fn heal(&self) {
        self.world.cut.lock().clear();
        *self.world.lossy.lock() = false;
        *self.world.slow.lock() = false;
    }

    /// Does something bad.
    async fn harm(&mut self, of: u64) -> &'static str {
        let id = 1 + self.dice.below(of);
        let other = 1 + self.dice.below(of);
        match self.dice.below(8) {
            0 | 1 => {
                self.crash(id);
                "crash"
            }
            2 | 3 => {
                if !self.world.members.lock().contains_key(&id) {
                    self.start(id).await;
                }
                "start"
            }
            4 => {
                let mut cut = self.world.cut.lock();
                for peer in 1..=of {
                    cut.insert((id, peer));
                    cut.insert((peer, id));
                }
                "cut off"
            }
            5 => {
                self.world.cut.lock().insert((id, other));
                "one way"
            }
            6 => {
                let flip = self.dice.percent(50);
                *self.world.lossy.lock() = flip;
                *self.world.slow.lock() = !flip;
                "loss or delay"
            }
            _ => {
                self.heal();
                "heal"
            }
        }
    }
}

/// What became of commands, by key.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

fn put(number: u64) -> Command {
    let (key, value) = (format!("k/{number}"), number.to_le_bytes().to_vec());
    Command::Put { key, value, expected: Expected::Absent }
}

async fn run(seed: u64, of: u64, rounds: u64) -> String {
    seed_chance(seed);
    let mut cluster = Cluster::new(seed);
    let first = cluster.start(1).await;
    first.begin().await.expect("the first begins");
    for id in 2..=of {
        let joining = cluster.start(id).await;
        let seeds = [member(1)];
        joining.join(&seeds, Duration::from_secs(30)).await.expect("it is taken in");
    }
    let told = Arc::new(Mutex::new(Told::default()));
    let mut number = 0;
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..rounds {
        let harm = cluster.harm(of).await;
        *done.entry(harm).or_default() += 1;
        for _ in 0..1 + cluster.dice.below(6) {
            let running = cluster.running();
            if !running.is_empty() {
                number += 1;
                let at = cluster.dice.below(running.len() as u64) as usize;
                let (at, told) = (running[at].1.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    let outcome = at.propose(put(number), Duration::from_secs(4)).await;
                    let mut told = told.lock();
                    match outcome {
                        Ok(_) => told.acknowledged.insert(number),
                        Err(ProposeError::NoLeader(_)) => told.refused.insert(number),
                        Err(ProposeError::Unknown(_) | ProposeError::Stopping) => {
                            told.unknown.insert(number)
                        }
                        Err(ProposeError::Catalog(error)) => panic!("seed {seed}: {error}"),
                    };
                });
            }
            cluster.check_leaders();
            let pause = 20 + cluster.dice.below(1_500);
            sleep(Duration::from_millis(pause)).await;
            cluster.check_leaders();
        }
    }
    cluster.heal();
    for id in 1..=of {
        if !cluster.world.members.lock().contains_key(&id) {
            cluster.start(id).await;
        }
    }
    let healed = Instant::now();
    let any = cluster.running()[0].1.clone();
    let mut last = any.propose(put(0), Duration::from_secs(20)).await;
    if let Err(ProposeError::Unknown(_)) = last {
        // What was agreed upon came with a snapshot.
        let caught_up = any.catch_up(Duration::from_secs(20)).await;
        assert!(caught_up.is_ok(), "seed {seed}: {caught_up:?}\n{}", statuses(&cluster));
        if any.read(|state| state.get("k/0").is_some()) {
            last = Ok(Outcome::Done);
        }
    }
    let took = healed.elapsed();
    assert!(last.is_ok(), "seed {seed}: healed, and yet {last:?}\n{}", statuses(&cluster));
    // Until what was on its way is told.
    sleep(Duration::from_secs(10)).await;
    for (id, consensus) in cluster.running() {
        let caught_up = consensus.catch_up(Duration::from_secs(20)).await;
        assert!(
            caught_up.is_ok(),
            "seed {seed}, member {id}: {caught_up:?}\n{}",
            statuses(&cluster)
        );
    }
    cluster.check_leaders();
    let told = told.lock();
    let states: Vec<State> = cluster.running().iter().map(|(_, c)| c.read(State::clone)).collect();
    for state in &states {
        assert!(*state == states[0], "seed {seed}: members differ");
        for (key, value) in state.keys("k/") {
            let number: u64 = key[2..].parse().expect("a key of this test");
            assert_eq!(value.value, number.to_le_bytes(), "seed {seed}: invented");
            assert!(!told.refused.contains(&number), "seed {seed}: {key} was refused and is there");
        }
        for number in &told.acknowledged {
            assert!(state.get(&format!("k/{number}")).is_some(), "seed {seed}: {number} is lost");
        }
    }
    format!(
        "{done:?} {:?} acknowledged {} refused {} unknown {} terms {} healed in {took:?} at {}",
        cluster.leaders,
        told.acknowledged.len(),
        told.refused.len(),
        told.unknown.len(),
        cluster.leaders.len(),
        states[0].version(),
    )
}

fn statuses(cluster: &Cluster) -> String {
    cluster.running().iter().map(|(id, c)| format!("{id}: {:?}\n", c.status())).collect()
}

fn simulate(seed: u64, of: u64, rounds: u64) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let line = runtime.block_on(run(seed, of, rounds));
    runtime.shutdown_background();
    line
}

#[test]
fn faults_lose_nothing() {
    let first: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    for seed in first..first + count {
        let of = [3, 5, 4][seed as usize % 3];
        let line = simulate(seed, of, 30);
        eprintln!("seed {seed} of {of}: {line}");
    }
}

/// A leader that others hear and that hears nobody is replaced.
#[test]
fn a_leader_that_hears_nobody_is_replaced() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        seed_chance(7);
        let mut cluster = started(3).await;
        let leader = leader_of(&cluster);
        for other in (1..=3).filter(|id| *id != leader) {
            cluster.world.cut.lock().insert((other, leader));
        }
        let cut = Instant::now();
        let other = cluster.running().into_iter().find(|(id, _)| *id != leader).expect("two").1;
        let outcome = other.propose(put(1), Duration::from_secs(10)).await;
        assert!(outcome.is_ok(), "{outcome:?}\n{}", statuses(&cluster));
        assert!(cut.elapsed() < Duration::from_secs(6), "took {:?}", cut.elapsed());
        cluster.check_leaders();
    });
}

/// One that was cut off for long comes back, and the leader stays.
#[test]
fn who_comes_back_deposes_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        seed_chance(8);
        let cluster = started(3).await;
        let leader = leader_of(&cluster);
        let term = cluster.running()[0].1.status().term;
        let flapping = if leader == 1 { 2 } else { 1 };
        for _ in 0..10 {
            {
                let mut cut = cluster.world.cut.lock();
                for other in (1..=3).filter(|id| *id != flapping) {
                    cut.insert((other, flapping));
                    cut.insert((flapping, other));
                }
            }
            sleep(Duration::from_secs(8)).await;
            cluster.heal();
            sleep(Duration::from_millis(700)).await;
            for (id, consensus) in cluster.running() {
                let status = consensus.status();
                assert_eq!((status.term, status.leader), (term, Some(leader)), "at member {id}");
            }
        }
    });
}

/// So many members of which the first three vote.
async fn started(of: u64) -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.start(1).await.begin().await.expect("the first begins");
    for id in 2..=of {
        let joining = cluster.start(id).await;
        joining.join(&[member(1)], Duration::from_secs(30)).await.expect("it is taken in");
    }
    sleep(Duration::from_secs(10)).await;
    cluster
}

fn leader_of(cluster: &Cluster) -> u64 {
    let leaders = cluster.running().into_iter().filter(|(_, consensus)| consensus.is_leader());
    leaders.map(|(id, _)| id).last().expect("somebody leads")
}
