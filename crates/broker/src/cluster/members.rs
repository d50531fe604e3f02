//! Who of a cluster is alive.
//!
//! Every broker keeps a lease `broker/<id>` in the catalog, and `starting/<id>` while it reads what it needs
//! to answer: it is not dead then, and has no work yet. Whether a lease is kept is told by watching it
//! change, not by comparing its end with a clock: clocks of machines differ.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use catalog::{
    BROKER_LEASES, BrokerId, BrokerState, Command, LeaseClaim, Outcome, Ring, RingBroker,
};
use consensus::Consensus;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::Broker;

/// How often a broker says that it is there.
const RENEWED_EVERY: Duration = Duration::from_millis(1_000);
/// A broker that did not say so for this long is taken for dead.
pub(super) const ALIVE_FOR: Duration = Duration::from_millis(4_500);
/// How often it is looked who did.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the cluster may take to note it: two attempts may fail before the lease is over.
const AGREE: Duration = Duration::from_millis(1_500);
/// Whose log began and who said nothing for so long did not start: another began it, or it is gone again.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A broker of the cluster, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMember {
    /// Its identity.
    pub id: BrokerId,
    /// For people.
    pub name: String,
    /// Where the others and agents reach it, `HOST:PORT`.
    pub address: String,
    /// Where it is reached over HTTP, `HOST:PORT`; empty if nowhere.
    pub http_address: String,
    /// Its failure domain; empty if none was named.
    pub zone: String,
    /// Version of its program.
    pub version: String,
    /// Whether it is the one that was asked.
    pub is_own: bool,
    /// Whether it kept its lease during the last 4.5 s.
    pub is_alive: bool,
    /// For how long it has not, as far as the one that was asked has seen, milliseconds; 0 if it is alive.
    pub silent_ms: u64,
    /// Whether it takes no writes and is about to leave.
    pub is_draining: bool,
    /// Epoch of its log: grows with every start, and when another takes its log over.
    pub epoch: u64,
    /// Its segments that are in no block.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
}

/// The job of being there.
fn job(id: BrokerId) -> String {
    format!("{BROKER_LEASES}{id}")
}

fn alive_for_ms() -> i64 {
    i64::try_from(ALIVE_FOR.as_millis()).expect("seconds")
}

/// The job of being about to be there.
fn start_job(id: BrokerId) -> String {
    format!("starting/{id}")
}

/// What was seen of one broker.
#[derive(Debug, Clone, Copy)]
struct Seen {
    until_ms: Option<i64>,
    /// When its lease was seen to be taken or renewed.
    at: Instant,
    /// It was given back, or was over by the clock when it was first seen.
    is_gone: bool,
    /// Since when it is kept without a break, if it is.
    since: Instant,
    /// The same of the lease of its start.
    starts_until_ms: Option<i64>,
    starts_at: Instant,
    /// The epoch of its log, and when it was seen to begin: its leases are over from then on, until the
    /// start takes one.
    epoch: u64,
    began: Instant,
    /// How far its clock was ahead of the own one, when it was seen to keep its lease.
    ahead_ms: Option<i64>,
}

impl Seen {
    fn first(until_ms: Option<i64>, now_ms: i64, epoch: u64) -> Seen {
        let now = Instant::now();
        Seen {
            until_ms,
            at: now,
            // There is nothing but the clock to go by.
            is_gone: until_ms.is_none_or(|until_ms| until_ms <= now_ms),
            since: now,
            starts_until_ms: None,
            starts_at: now,
            epoch,
            began: now,
            ahead_ms: None,
        }
    }

    fn note(
        &mut self,
        until_ms: Option<i64>,
        starts_until_ms: Option<i64>,
        epoch: u64,
        now_ms: i64,
    ) {
        let now = Instant::now();
        if self.until_ms != until_ms {
            // What it said a moment ago: by then it adds how long the lease is.
            self.ahead_ms =
                until_ms.map(|ms| ms.saturating_sub(alive_for_ms()).saturating_sub(now_ms));
            let was_silent = self.silent().is_some();
            self.until_ms = until_ms;
            self.is_gone = until_ms.is_none();
            if !self.is_gone {
                self.at = now;
                if was_silent {
                    self.since = now;
                }
            }
        }
        if self.starts_until_ms != starts_until_ms {
            self.starts_until_ms = starts_until_ms;
            if starts_until_ms.is_some() {
                self.starts_at = now;
            }
        }
        if self.epoch != epoch {
            (self.epoch, self.began) = (epoch, now);
        }
    }

    /// For how long nothing was heard of the broker; `None` if it is alive.
    fn silent(&self) -> Option<Duration> {
        let silent = self.at.elapsed();
        (self.is_gone || silent >= ALIVE_FOR).then_some(silent)
    }

    /// For how long it neither was there nor started. `began_here`: its log was begun by who asks.
    fn dead(&self, began_here: bool) -> Duration {
        let silent = self.silent().unwrap_or_default().min(self.starts_at.elapsed());
        let is_starting = !began_here && self.began.elapsed() < STARTS_WITHIN;
        if is_starting { silent.min(self.began.elapsed()) } else { silent }
    }
}

/// By how much a clock is behind most clocks, its own among them. `ahead_ms` is how far the others are ahead of
/// it. Of two in the middle the later one counts: what is kept for too long is lost for nobody.
fn behind_most(mut ahead_ms: Vec<i64>) -> i64 {
    ahead_ms.push(0);
    ahead_ms.sort_unstable();
    ahead_ms[ahead_ms.len() / 2].max(0)
}

/// See [`Members::silent_for`].
fn dead_for(
    seen: &BTreeMap<BrokerId, Seen>,
    own: BrokerId,
    long: Duration,
    began_here: impl Fn(BrokerId, u64) -> bool,
) -> Vec<BrokerId> {
    let own = seen.get(&own).filter(|own| own.silent().is_none());
    if own.is_none_or(|own| own.since.elapsed() < long) {
        return Vec::new();
    }
    let is_dead = |(id, seen): &(&BrokerId, &Seen)| seen.dead(began_here(**id, seen.epoch)) >= long;
    seen.iter().filter(is_dead).map(|(id, _)| *id).collect()
}

/// The circle of certain brokers: it takes sorting to make one.
type KnownRing = (Vec<RingBroker>, Ring);

/// Watches the leases of all brokers, and keeps the own one.
pub(crate) struct Members {
    own: BrokerId,
    consensus: Consensus,
    now_ms: fn() -> i64,
    seen: Mutex<BTreeMap<BrokerId, Seen>>,
    /// By how much the own clock is behind those of most brokers, as it was when it was looked last.
    behind_ms: AtomicI64,
    ring: Mutex<KnownRing>,
    /// Whether the own start is over.
    is_open: AtomicBool,
    opened: Notify,
    /// The own leases that are held, with their terms.
    held: Mutex<BTreeMap<String, u64>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Members {
    /// Begins to keep the lease of a start and to watch the others.
    pub(super) fn start(own: BrokerId, consensus: Consensus, now_ms: fn() -> i64) -> Arc<Members> {
        let members = Arc::new(Members {
            own,
            consensus,
            now_ms,
            seen: Mutex::default(),
            behind_ms: AtomicI64::new(0),
            ring: Mutex::default(),
            is_open: AtomicBool::new(false),
            opened: Notify::new(),
            held: Mutex::default(),
            task: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&members).keep()).abort_handle();
        *members.task.lock() = Some(task);
        members
    }

    /// From now on this broker is there, and has work.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
        self.opened.notify_one();
    }

    /// Ends the task; the lease ends by itself.
    pub(super) fn end(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Ends the task and gives the lease back, so that the others need not wait to see that this broker
    /// is gone.
    pub(super) async fn leave(&self) {
        self.end();
        let held = std::mem::take(&mut *self.held.lock());
        for (job, term) in held {
            self.give(job, term).await;
        }
    }

    async fn give(&self, job: String, term: u64) {
        if let Err(error) = self.consensus.propose(Command::GiveLease { job, term }, AGREE).await {
            tracing::debug!(%error, "the others will see for themselves that a lease is over");
        }
    }

    async fn keep(self: Arc<Self>) {
        let mut renewal = Instant::now();
        loop {
            if Instant::now() >= renewal {
                renewal = Instant::now() + RENEWED_EVERY;
                self.renew().await;
            }
            let (_, ahead_ms) = self.clocks();
            self.behind_ms.store(behind_most(ahead_ms), Ordering::Relaxed);
            tokio::select! {
                biased;
                () = self.opened.notified() => renewal = Instant::now(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn renew(&self) {
        let now_ms = (self.now_ms)();
        let until_ms = now_ms.saturating_add(alive_for_ms());
        let is_open = self.is_open.load(Ordering::Relaxed);
        let job = if is_open { job(self.own) } else { start_job(self.own) };
        let (of, holder, claim) = (job.clone(), self.own, LeaseClaim::Free);
        let command = Command::TakeLease { job: of, holder, claim, until_ms };
        match self.consensus.propose(command, AGREE).await {
            Ok(Outcome::Term(term)) => _ = self.held.lock().insert(job, term),
            Ok(other) => unreachable!("a lease is answered with its term, not {other:?}"),
            Err(error) => {
                tracing::debug!(%error, "the cluster was not told that this broker is there");
                return;
            }
        }
        if is_open {
            let of_start = start_job(self.own);
            let started = self.held.lock().remove(&of_start);
            if let Some(term) = started {
                self.give(of_start, term).await;
            }
        }
    }

    /// Notes which leases changed since the last time.
    fn look(&self) -> MutexGuard<'_, BTreeMap<BrokerId, Seen>> {
        let mut seen = self.seen.lock();
        let now_ms = (self.now_ms)();
        self.consensus.read(|state| {
            seen.retain(|id, _| state.broker(*id).is_some());
            for (id, broker) in state.brokers() {
                let until_ms = |job: String| state.lease(&job).map(|lease| lease.until_ms);
                let (until_ms, starts_until_ms) = (until_ms(job(id)), until_ms(start_job(id)));
                let first = || Seen::first(until_ms, now_ms, broker.epoch);
                let known = seen.entry(id).or_insert_with(first);
                known.note(until_ms, starts_until_ms, broker.epoch, now_ms);
            }
        });
        seen
    }

    /// How far the clocks of the others that are alive are ahead of the own one, as exact as some seconds; and
    /// whether others may be heard of yet: a moment ago they still were, or this broker has just begun to look.
    pub(super) fn clocks(&self) -> (bool, Vec<i64>) {
        let seen = self.look();
        let others = || seen.iter().filter(|(id, _)| **id != self.own).map(|(_, seen)| seen);
        let alive = others().filter(|seen| seen.silent().is_none());
        let ahead_ms = alive.filter_map(|seen| seen.ahead_ms).collect();
        (others().any(|seen| seen.at.elapsed() < 10 * ALIVE_FOR), ahead_ms)
    }

    /// By how much the own clock is behind those of most brokers that are alive, milliseconds, as it was seen
    /// within the last second; 0 where it is ahead. Fast: one load.
    pub(crate) fn behind_ms(&self) -> i64 {
        self.behind_ms.load(Ordering::Relaxed)
    }

    /// Whose eyes these are.
    pub(super) fn own(&self) -> BrokerId {
        self.own
    }

    pub(super) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Those of which nothing was heard for so long, neither that they are there nor that they start, among
    /// those that `is_meant` picks. `began_here` tells of which logs the asker began the epoch.
    ///
    /// Nobody when the own lease is not kept, and while it is not kept for so long again: where nothing could
    /// be agreed upon, all were silent, and one of them is the first whose sign of life is seen.
    pub(super) fn silent_for(
        &self,
        long: Duration,
        is_meant: impl Fn(&catalog::Broker) -> bool,
        began_here: impl Fn(BrokerId, u64) -> bool,
    ) -> Vec<BrokerId> {
        let dead = dead_for(&self.look(), self.own, long, began_here);
        self.consensus.read(|state| {
            let is_meant = |id: &BrokerId| state.broker(*id).is_some_and(&is_meant);
            dead.into_iter().filter(is_meant).collect()
        })
    }

    /// All brokers, ascending by id.
    pub(crate) fn all(&self) -> Vec<ClusterMember> {
        let seen = self.look();
        let silent = |id| seen.get(&id).map_or(Some(Duration::ZERO), Seen::silent);
        self.consensus.read(|state| {
            let member = |(id, broker): (BrokerId, &catalog::Broker)| {
                let (info, silent) = (broker.info.clone(), silent(id));
                ClusterMember {
                    id,
                    name: info.name,
                    address: info.address,
                    http_address: info.http_address,
                    zone: info.zone,
                    version: info.version,
                    is_own: id == self.own,
                    is_alive: silent.is_none(),
                    silent_ms: silent.map_or(0, |silent| silent.as_millis() as u64),
                    is_draining: info.state == BrokerState::Draining,
                    epoch: broker.epoch,
                    segments: broker.segments.len() as u64,
                    segment_bytes: broker.segments.values().map(|segment| segment.size_bytes).sum(),
                }
            };
            state.brokers().map(member).collect()
        })
    }

    /// The circle of those that are alive and take work.
    pub(crate) fn ring(&self) -> Ring {
        let seen = self.look();
        let is_alive = |id: &BrokerId| seen.get(id).is_some_and(|seen| seen.silent().is_none());
        let brokers: Vec<RingBroker> = self.consensus.read(|state| {
            let active = state.brokers().filter(|(_, b)| b.info.state == BrokerState::Active);
            let alive = active.filter(|(id, _)| is_alive(id));
            alive.map(|(id, broker)| RingBroker { id, zone: broker.info.zone.clone() }).collect()
        });
        drop(seen);
        let mut known = self.ring.lock();
        if known.0 != brokers {
            *known = (brokers.clone(), Ring::new(brokers));
        }
        known.1.clone()
    }
}

impl Broker {
    /// The brokers of the cluster as this one sees them, ascending by id; empty beside a log. Cheap, but
    /// for a look at every segment that is in no block.
    pub fn cluster_members(&self) -> Vec<ClusterMember> {
        self.inner.clustered.as_ref().map_or_else(Vec::new, |clustered| clustered.members.all())
    }

    /// The circle of the brokers that are alive and not draining, and which of them this one is; `None`
    /// beside a log. Others may see another one for some seconds.
    pub fn cluster_ring(&self) -> Option<(Ring, BrokerId)> {
        let members = &self.inner.clustered.as_ref()?.members;
        Some((members.ring(), members.own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(300);
    const OWN: BrokerId = BrokerId(1);
    const OTHER: BrokerId = BrokerId(2);

    #[test]
    fn a_clock_that_is_behind_most_is_known_to_be() {
        const YEAR: i64 = 365 * 86_400_000;
        // Alone, and beside one that is behind itself.
        assert_eq!(behind_most(vec![]), 0);
        assert_eq!(behind_most(vec![-YEAR]), 0);
        // Of two nobody knows which is right: the later one harms nobody.
        assert_eq!(behind_most(vec![YEAR]), YEAR);
        assert_eq!(behind_most(vec![YEAR, YEAR + 1_000]), YEAR);
        // One of three that is wrong changes nothing for the others.
        assert_eq!(behind_most(vec![YEAR, 20]), 20);
        assert_eq!(behind_most(vec![-YEAR, 20]), 0);
    }

    struct Watched(BTreeMap<BrokerId, Seen>);

    impl Watched {
        fn new() -> Watched {
            Watched([OWN, OTHER].map(|id| (id, Seen::first(Some(9), 0, 1))).into())
        }

        fn note(&mut self, id: BrokerId, until_ms: Option<i64>, starts: Option<i64>, epoch: u64) {
            self.0.get_mut(&id).expect("both are there").note(until_ms, starts, epoch, 0);
        }

        /// The own lease is kept for some time, and the other one does nothing.
        async fn pass(&mut self, time: Duration) {
            let end = Instant::now() + time;
            while Instant::now() < end {
                tokio::time::advance(Duration::from_secs(1)).await;
                let own = self.0[&OWN];
                self.note(OWN, own.until_ms.map(|until_ms| until_ms + 1), None, own.epoch);
            }
        }

        fn dead(&self, begun: Option<u64>) -> Vec<BrokerId> {
            dead_for(&self.0, OWN, LONG, |_, epoch| begun == Some(epoch))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_the_log_of_a_dead_one_still_takes_it_for_dead() {
        let mut watched = Watched::new();
        watched.pass(LONG).await;
        assert_eq!(watched.dead(None), [OTHER]);
        // Its leases are over with the epoch before.
        watched.note(OTHER, None, None, 2);
        assert_eq!(watched.dead(Some(2)), [OTHER]);
        // For others it may have started; if it did not say so within half a minute, it has not.
        assert_eq!(watched.dead(None), []);
        watched.pass(STARTS_WITHIN).await;
        assert_eq!(watched.dead(None), [OTHER]);
        // It starts.
        watched.note(OTHER, None, None, 3);
        assert_eq!(watched.dead(Some(2)), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_may_take_as_long_as_it_takes() {
        let mut watched = Watched::new();
        watched.pass(LONG).await;
        watched.note(OTHER, None, None, 2);
        for until_ms in 0..1_000 {
            watched.note(OTHER, None, Some(until_ms), 2);
            watched.pass(Duration::from_secs(1)).await;
            assert_eq!(watched.dead(None), []);
            assert!(watched.0[&OTHER].silent().is_some(), "it has no work yet");
        }
        watched.note(OTHER, Some(5), None, 2);
        assert!(watched.0[&OTHER].silent().is_none());
        watched.pass(LONG).await;
        assert_eq!(watched.dead(None), [OTHER]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_cut_off_itself_waits_for_the_signs_of_life_of_others() {
        let mut watched = Watched::new();
        // Nothing can be agreed upon, for long.
        tokio::time::advance(3 * LONG).await;
        assert_eq!(watched.dead(None), []);
        // The own sign of life is the first that is seen.
        watched.note(OWN, Some(77), None, 1);
        assert_eq!(watched.dead(None), []);
        watched.pass(LONG / 2).await;
        assert_eq!(watched.dead(None), []);
        watched.pass(LONG / 2).await;
        assert_eq!(watched.dead(None), [OTHER]);
    }
}
