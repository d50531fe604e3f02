//! Members, their disks, the links between them, and what can go wrong with each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blockstore::{Disk, MemoryDisk};
use bytes::Bytes;
use catalog::{CatalogError, Command, Expected, Outcome, State};
use consensus::{
    Call, Consensus, ConsensusConfig, Latency, Member, Observer, Transport, TransportError, Voting,
    Writing,
};
use parking_lot::Mutex;
use tokio::time::sleep;

/// Repeatable chance of the test's own.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }
}

/// All links, and who is behind them.
pub(crate) struct World {
    /// Those that run, each with the number of its process.
    processes: Mutex<BTreeMap<u64, (u64, Consensus)>>,
    started: Mutex<u64>,
    /// Processes whose part has ended by itself.
    failed: Mutex<BTreeSet<u64>>,
    /// Why, if it was not for want of power.
    pub(crate) surprises: Mutex<Vec<String>>,
    /// From and to: nothing passes.
    pub(crate) cut: Mutex<BTreeSet<(u64, u64)>>,
    /// Whose answers are lost from when it has so many entries.
    pub(crate) silent_from: Mutex<Option<(u64, u64)>>,
    lossy: Mutex<bool>,
    slow: Mutex<bool>,
    /// Whose disks take long.
    slow_disks: Mutex<BTreeSet<u64>>,
    dice: Mutex<Dice>,
    /// Requests so far.
    pub(crate) calls: Mutex<u64>,
}

/// The links as a process sees them.
struct From {
    id: u64,
    process: u64,
    world: Arc<World>,
}

impl Transport for From {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call {
        let world = Arc::clone(&self.world);
        let from = (self.id, self.process);
        *world.calls.lock() += 1;
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
    async fn carry(
        &self,
        (from, process): (u64, u64),
        to: u64,
        request: Bytes,
    ) -> Result<Bytes, TransportError> {
        if self.cut.lock().contains(&(from, to)) || !self.runs(from, process) {
            // As a dropped packet: nobody says so.
            return std::future::pending().await;
        }
        self.delay().await?;
        let Some((asked, there)) = self.processes.lock().get(&to).cloned() else {
            return Err(TransportError::Unreached("connection refused".to_owned()));
        };
        let answer = there.answer(&request).await;
        let is_silent = self
            .silent_from
            .lock()
            .is_some_and(|(id, index)| id == to && *there.index().borrow() >= index);
        if is_silent || self.cut.lock().contains(&(to, from)) || !self.runs(to, asked) {
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

    /// How long the disk of a member takes for its next sync.
    fn sync_takes(&self, id: u64) -> Duration {
        let most_ms = if self.slow_disks.lock().contains(&id) { 400 } else { 3 };
        Duration::from_millis(self.dice.lock().below(most_ms))
    }

    fn runs(&self, id: u64, process: u64) -> bool {
        // One that starts has no entry yet and asks nobody before it has.
        self.processes.lock().get(&id).is_some_and(|(number, _)| *number == process)
    }

    /// Ends a process: from now on nobody hears of it.
    fn end(&self, id: u64, process: Option<u64>) {
        let ended = {
            let mut processes = self.processes.lock();
            match processes.get(&id) {
                Some((number, _)) if process.is_none_or(|process| process == *number) => {
                    processes.remove(&id)
                }
                _ => None,
            }
        };
        if let Some((_, gone)) = ended {
            tokio::spawn(async move { gone.stop().await });
        }
    }

    pub(crate) fn member(&self, id: u64) -> Option<Consensus> {
        self.processes.lock().get(&id).map(|(_, consensus)| consensus.clone())
    }
}

/// What a member applied, by the version of the state it led to.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, Vec<u8>>>);

/// Holds what every member applies against what the others did.
struct Watching(Arc<Ledger>);

impl Observer for Watching {
    fn applied(&self, command: &Command, outcome: &Result<Outcome, CatalogError>, state: &State) {
        if outcome.is_ok() {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            let mut ledger = self.0.0.lock();
            let known = ledger.entry(state.version()).or_insert_with(|| bytes.clone());
            assert_eq!(*known, bytes, "members disagree about version {}", state.version());
        }
    }

    fn replaced(&self, _state: &State) {}
}

pub(crate) struct Cluster {
    pub(crate) world: Arc<World>,
    ledger: Arc<Ledger>,
    of: u64,
    /// Whether a sync takes any.
    disks_take_time: bool,
    pub(crate) snapshot_every: u64,
    pub(crate) max_log_bytes: u64,
    disks: BTreeMap<u64, MemoryDisk>,
    /// Their power goes, or went, in the middle of something.
    armed: BTreeSet<u64>,
    /// A member that lost its disk or was taken out is not back yet: as long nobody else is, since
    /// two of three disks that are lost are lost.
    away: Arc<Mutex<Option<u64>>>,
    pub(crate) leaders: BTreeMap<u64, u64>,
    pub(crate) dice: Dice,
}

fn is_off(disk: &MemoryDisk) -> bool {
    disk.sync_directory("nowhere").is_err()
}

pub(crate) fn member(id: u64) -> Member {
    Member { name: format!("b{id}"), address: id.to_string(), zone: (id % 3).to_string() }
}

impl Drop for Cluster {
    /// They hold each other.
    fn drop(&mut self) {
        self.world.processes.lock().clear();
    }
}

impl Cluster {
    pub(crate) fn new(seed: u64, of: u64) -> Cluster {
        let world = World {
            processes: Mutex::default(),
            started: Mutex::default(),
            failed: Mutex::default(),
            surprises: Mutex::default(),
            cut: Mutex::default(),
            silent_from: Mutex::default(),
            lossy: Mutex::new(false),
            slow: Mutex::new(false),
            slow_disks: Mutex::default(),
            dice: Mutex::new(Dice(seed ^ 1)),
            calls: Mutex::default(),
        };
        Cluster {
            world: Arc::new(world),
            ledger: Arc::default(),
            of,
            disks_take_time: seed % 4 >= 2,
            snapshot_every: 40,
            max_log_bytes: 64 << 20,
            disks: BTreeMap::new(),
            armed: BTreeSet::new(),
            away: Arc::default(),
            leaders: BTreeMap::new(),
            dice: Dice(seed),
        }
    }

    /// Starts a process on what the last one left.
    pub(crate) async fn start(&mut self, id: u64) -> Consensus {
        self.settle(id);
        let started = self.start_on(id).await;
        started.unwrap_or_else(|error| panic!("member {id} starts: {error}"))
    }

    async fn start_on(&mut self, id: u64) -> Result<Consensus, consensus::ConsensusError> {
        let memory = self.disks.entry(id).or_default().clone();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let writing = if self.disks_take_time {
            let world = Arc::clone(&self.world);
            Writing::Task(Latency(Arc::new(move || world.sync_takes(id))))
        } else {
            Writing::Inline
        };
        let config = ConsensusConfig {
            writing,
            replace_after_ms: 20_000,
            snapshot_every: self.snapshot_every,
            max_log_bytes: self.max_log_bytes,
            ..ConsensusConfig::new(id, member(id))
        };
        let process = {
            let mut started = self.world.started.lock();
            *started += 1;
            *started
        };
        let transport = Arc::new(From { id, process, world: Arc::clone(&self.world) });
        let observer = Arc::new(Watching(Arc::clone(&self.ledger)));
        let world = Arc::clone(&self.world);
        let on_failure = Arc::new(move |error: &consensus::Failure<'_>| {
            if !is_off(&memory) {
                world.surprises.lock().push(format!("member {id}: {error}"));
            }
            world.failed.lock().insert(process);
            world.end(id, Some(process));
        });
        let consensus = Consensus::start(disk, config, transport, observer, on_failure).await?;
        self.world.processes.lock().insert(id, (process, consensus.clone()));
        if self.world.failed.lock().contains(&process) {
            self.world.end(id, Some(process));
        }
        Ok(consensus)
    }

    /// Starts a process that may lose its power at once.
    async fn start_with_luck(&mut self, id: u64) {
        self.settle(id);
        if self.dice.percent(20) {
            self.arm(id, 12);
            // Where it failed, another one is started some other time.
            let _ = self.start_on(id).await;
        } else {
            self.start(id).await;
        }
    }

    /// What a process that ended left on its disk.
    fn settle(&mut self, id: u64) {
        if self.armed.remove(&id) {
            let disk = self.disks.remove(&id).expect("it was armed");
            // Both end it in the middle of something: in the one case the machine runs on.
            let seed = self.dice.next();
            let left = if self.dice.percent(50) { disk.kill() } else { disk.crash(seed) };
            self.disks.insert(id, left);
        }
    }

    /// Has the power of a member go some steps from now, wherever it is then.
    fn arm(&mut self, id: u64, within: u64) {
        let steps = self.dice.below(within);
        self.arm_at(id, steps);
    }

    pub(crate) fn arm_at(&mut self, id: u64, steps: u64) {
        self.disks.entry(id).or_default().cut_power_after(steps);
        self.armed.insert(id);
    }

    /// Steps that the disk of a member was asked for.
    pub(crate) fn steps(&self, id: u64) -> u64 {
        self.disks[&id].steps()
    }

    /// Has a member begin anew with an empty disk.
    pub(crate) async fn wipe(&mut self, id: u64) {
        self.world.end(id, None);
        self.armed.remove(&id);
        self.disks.insert(id, MemoryDisk::new());
        self.start(id).await;
    }

    /// Cuts the power of a member; it finds what its disk kept.
    pub(crate) fn crash(&mut self, id: u64) {
        self.world.end(id, None);
        self.armed.remove(&id);
        let disk = self.disks.remove(&id).unwrap_or_default();
        disk.cut_power_after(0);
        let seed = self.dice.next();
        self.disks.insert(id, disk.crash(seed));
    }

    /// Ends a process; its machine runs on.
    fn kill(&mut self, id: u64) {
        self.world.end(id, None);
        self.armed.remove(&id);
        let disk = self.disks.remove(&id).unwrap_or_default();
        disk.cut_power_after(0);
        self.disks.insert(id, disk.kill());
    }

    pub(crate) fn running(&self) -> Vec<(u64, Consensus)> {
        let processes = self.world.processes.lock();
        processes.iter().map(|(&id, (_, consensus))| (id, consensus.clone())).collect()
    }

    pub(crate) fn check_leaders(&mut self) {
        for (id, consensus) in self.running() {
            if consensus.is_leader() {
                let term = consensus.status().term;
                let known = *self.leaders.entry(term).or_insert(id);
                assert_eq!(known, id, "two leaders in term {term}");
            }
        }
    }

    /// Has links lose or delay, and disks of all members take long.
    pub(crate) fn trouble(&self, lossy: bool, slow: bool, slow_disks: bool) {
        *self.world.lossy.lock() = lossy;
        *self.world.slow.lock() = slow;
        if slow_disks {
            self.world.slow_disks.lock().extend(1..=self.of);
        }
    }

    pub(crate) fn heal(&self) {
        self.world.cut.lock().clear();
        *self.world.lossy.lock() = false;
        *self.world.slow.lock() = false;
        self.world.slow_disks.lock().clear();
    }

    /// Starts whoever does not run, with disks that last.
    pub(crate) async fn start_all(&mut self) {
        for id in 1..=self.of {
            if self.armed.contains(&id) {
                self.world.end(id, None);
            }
            if self.world.member(id).is_none() {
                self.start(id).await;
            }
        }
    }

    /// Who left and is not back.
    pub(crate) fn away(&self) -> Option<u64> {
        *self.away.lock()
    }

    fn leader(&self) -> Option<Consensus> {
        let leaders = self.running().into_iter().map(|(_, consensus)| consensus);
        leaders.filter(Consensus::is_leader).max_by_key(|c| c.status().term)
    }

    /// The leader of three voters or more, if nothing is changing about members.
    async fn steady_leader(&self) -> Option<Consensus> {
        if self.away().is_some() {
            return None;
        }
        let leader = self.leader()?;
        let votes = |(_, voting): &&(Member, Voting)| *voting == Voting::Voter;
        let status = leader.status();
        if status.is_changing_voters || status.members.values().filter(votes).count() < 3 {
            return None;
        }
        // Nor is that so for this leader only: what comes behind the change is agreed upon.
        let (key, value) = ("steady".to_owned(), Vec::new());
        let put = Command::Put { key, value, expected: Expected::Any };
        leader.propose(put, Duration::from_secs(1)).await.ok()?;
        (!leader.status().is_changing_voters).then_some(leader)
    }

    /// Has a member asked for admission until it is.
    fn have_join(&self, id: u64, pause: Duration) {
        *self.away.lock() = Some(id);
        let (world, away) = (Arc::clone(&self.world), Arc::clone(&self.away));
        let seeds: Vec<Member> = (1..=self.of).filter(|seed| *seed != id).map(member).collect();
        tokio::spawn(async move {
            loop {
                sleep(pause).await;
                let Some(joining) = world.member(id) else { continue };
                if joining.join(&seeds, Duration::from_secs(5)).await.is_ok() {
                    break;
                }
            }
            *away.lock() = None;
        });
    }

    /// Does something bad.
    pub(crate) async fn harm(&mut self) -> &'static str {
        let id = 1 + self.dice.below(self.of);
        let other = 1 + self.dice.below(self.of);
        match self.dice.below(if self.disks_take_time { 17 } else { 15 }) {
            0 => {
                self.crash(id);
                "crash"
            }
            1 => {
                self.kill(id);
                "kill"
            }
            2 | 3 => {
                if self.world.member(id).is_some() {
                    self.arm(id, 60);
                }
                "arm"
            }
            4..=7 => {
                if self.world.member(id).is_none() {
                    self.start_with_luck(id).await;
                }
                "start"
            }
            8 => {
                let mut cut = self.world.cut.lock();
                for peer in 1..=self.of {
                    cut.insert((id, peer));
                    cut.insert((peer, id));
                }
                "cut off"
            }
            9 => {
                self.world.cut.lock().insert((id, other));
                "one way"
            }
            10 => {
                let flip = self.dice.percent(50);
                *self.world.lossy.lock() = flip;
                *self.world.slow.lock() = !flip;
                "loss or delay"
            }
            11 => {
                self.heal();
                "heal"
            }
            15 | 16 => {
                self.world.slow_disks.lock().insert(id);
                "slow disk"
            }
            14 => {
                let Some(leader) = self.leader() else { return "no hand-over" };
                // It goes on, as one whose process does not end after all.
                if leader.hand_over().await { "hand-over" } else { "refused hand-over" }
            }
            12 => {
                if self.steady_leader().await.is_none() {
                    return "no wipe";
                }
                self.wipe(id).await;
                self.have_join(id, Duration::from_millis(500));
                "wipe"
            }
            _ => {
                let Some(leader) = self.steady_leader().await else { return "no removal" };
                let pause = Duration::from_millis(500 + self.dice.below(8_000));
                *self.away.lock() = Some(id);
                // It may be refused, or end in the middle. A leader leaves itself to the next one.
                let mut leader = Some(leader);
                for _ in 0..2 {
                    let Some(leading) = leader else { break };
                    let _ = tokio::time::timeout(Duration::from_secs(5), leading.remove(id)).await;
                    sleep(Duration::from_secs(3)).await;
                    leader = self.leader();
                }
                self.have_join(id, pause);
                "remove"
            }
        }
    }
}
