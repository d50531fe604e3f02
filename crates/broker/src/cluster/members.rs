//! Who of a cluster is alive.
//!
//! Every broker keeps a lease `broker/<id>` in the catalog. Whether it is kept is told by watching it
//! change, not by comparing its end with a clock: clocks of machines differ.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::{BrokerId, BrokerState, Command, Outcome, Ring, RingBroker};
use consensus::Consensus;
use parking_lot::{Mutex, MutexGuard};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::Broker;

/// How often a broker says that it is there.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// A broker that did not say so for this long is taken for dead.
const ALIVE_FOR: Duration = Duration::from_secs(6);
/// How often it is looked who did.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the cluster may take to note it.
const AGREE: Duration = Duration::from_secs(2);

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
    /// Whether it kept its lease during the last 6 s.
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
    format!("broker/{id}")
}

/// What was seen of one lease.
#[derive(Debug, Clone, Copy)]
struct Seen {
    until_ms: Option<i64>,
    /// When it was seen to change.
    at: Instant,
    /// It was given back, or was over by the clock when it was first seen.
    is_gone: bool,
    /// The epoch of its log, and when it was seen to begin: a broker that starts has no lease until it has
    /// read what it needs.
    epoch: u64,
    began: Instant,
}

impl Seen {
    /// For how long nothing was heard of the broker; `None` if it is alive.
    fn silent(&self) -> Option<Duration> {
        let silent = self.at.elapsed();
        (self.is_gone || silent >= ALIVE_FOR).then_some(silent)
    }
}

/// The circle of certain brokers: it takes sorting to make one.
type KnownRing = (Vec<RingBroker>, Ring);

/// Watches the leases of all brokers, and keeps the own one.
pub(crate) struct Members {
    own: BrokerId,
    consensus: Consensus,
    now_ms: fn() -> i64,
    seen: Mutex<BTreeMap<BrokerId, Seen>>,
    ring: Mutex<KnownRing>,
    /// The term under which the own lease is held.
    term: Mutex<Option<u64>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Members {
    /// Begins to keep the own lease and to watch the others.
    pub(super) fn start(own: BrokerId, consensus: Consensus, now_ms: fn() -> i64) -> Arc<Members> {
        let members = Arc::new(Members {
            own,
            consensus,
            now_ms,
            seen: Mutex::default(),
            ring: Mutex::default(),
            term: Mutex::default(),
            task: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&members).keep()).abort_handle();
        *members.task.lock() = Some(task);
        members
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
        let Some(term) = self.term.lock().take() else { return };
        let command = Command::GiveLease { job: job(self.own), term };
        if let Err(error) = self.consensus.propose(command, AGREE).await {
            tracing::debug!(%error, "the others will see for themselves that this broker is gone");
        }
    }

    async fn keep(self: Arc<Self>) {
        let mut renewal = Instant::now();
        loop {
            if Instant::now() >= renewal {
                renewal = Instant::now() + RENEWED_EVERY;
                self.renew().await;
            }
            drop(self.look());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn renew(&self) {
        let now_ms = (self.now_ms)();
        let for_ms = i64::try_from(ALIVE_FOR.as_millis()).expect("seconds");
        let until_ms = now_ms.saturating_add(for_ms);
        let command = Command::TakeLease { job: job(self.own), holder: self.own, now_ms, until_ms };
        match self.consensus.propose(command, AGREE).await {
            Ok(Outcome::Term(term)) => *self.term.lock() = Some(term),
            Ok(other) => unreachable!("a lease is answered with its term, not {other:?}"),
            Err(error) => {
                tracing::debug!(%error, "the cluster was not told that this broker is there")
            }
        }
    }

    /// Notes which leases changed since the last time.
    fn look(&self) -> MutexGuard<'_, BTreeMap<BrokerId, Seen>> {
        let mut seen = self.seen.lock();
        let (now, now_ms) = (Instant::now(), (self.now_ms)());
        self.consensus.read(|state| {
            seen.retain(|id, _| state.broker(*id).is_some());
            for (id, broker) in state.brokers() {
                let until_ms = state.lease(&job(id)).map(|lease| lease.until_ms);
                let epoch = broker.epoch;
                let first = Seen {
                    until_ms,
                    at: now,
                    // There is nothing but the clock to go by.
                    is_gone: until_ms.is_none_or(|until_ms| until_ms <= now_ms),
                    epoch,
                    began: now,
                };
                let known = seen.entry(id).or_insert(first);
                if known.until_ms != until_ms {
                    *known = Seen { until_ms, at: now, is_gone: until_ms.is_none(), ..*known };
                }
                if known.epoch != epoch {
                    (known.epoch, known.began) = (epoch, now);
                }
            }
        });
        seen
    }

    /// Whose eyes these are.
    pub(super) fn own(&self) -> BrokerId {
        self.own
    }

    pub(super) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Those of which nothing was heard for so long, and that did not begin to start either, among those
    /// that `is_meant` picks.
    pub(super) fn silent_for(
        &self,
        long: Duration,
        is_meant: impl Fn(&catalog::Broker) -> bool,
    ) -> Vec<BrokerId> {
        let seen = self.look();
        let is_silent = |id: &BrokerId| {
            seen.get(id).is_some_and(|seen| {
                let silent = seen.silent().unwrap_or_default();
                silent >= long && seen.began.elapsed() >= long
            })
        };
        self.consensus.read(|state| {
            let meant = state.brokers().filter(|(_, broker)| is_meant(broker));
            meant.map(|(id, _)| id).filter(is_silent).collect()
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
