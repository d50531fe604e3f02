//! The state of the cluster, for people: who belongs to it, how far each is, how stores are, and what is
//! wrong.
//!
//! What all agree upon is read from the own catalog; the rest each broker tells of itself when it is
//! asked, over mutual TLS, in at most [`ASKED_FOR`]. So whoever does not answer is seen in the answer.
//!
//! | module | what |
//! |---|---|
//! | `told` | the shape of the answer |
//! | `findings` | what is wrong, without words |
//! | `meter` | what only looking again tells: rates, how long |
//! | `asking` | what brokers ask one another |
//! | `routes` | the answer over HTTP |

mod asking;
mod findings;
mod meter;
mod routes;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use catalog::{BrokerId, State};
use consensus::{Status, Voting};
use futures_util::future::join_all;
use model::TimeRange;
use tokio::time::Instant;

pub use asking::{AskBroker, Asked, AskedToLeave, ClusterStatusService, cluster_status_service};
pub use findings::{Code, SHARED_CACHE};
pub use meter::{OperationCounts, StoreCounts};
pub use routes::routes as cluster_status_routes;
pub use told::*;

use crate::cluster::DrainStep;
use crate::cluster::kept::rules_in_words;
use crate::shared_catalog::SharedCatalog;
use crate::{Broker, ClusterMember, Inner};
use meter::Meter;

/// How long a broker has to tell of itself.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// Reads off the counters of the stores.
pub type ReadStores = Box<dyn Fn() -> Vec<StoreCounts> + Send + Sync>;

/// What whoever starts a broker knows for its status.
pub struct StatusSettings {
    /// Version of the program.
    pub version: String,
    /// When it started, milliseconds since the epoch.
    pub started_ms: i64,
    /// Its stores; none for one machine.
    pub stores: Option<ReadStores>,
    /// The way to the other brokers; none for one machine.
    pub others: Option<Arc<dyn AskBroker>>,
}

/// Tells the state of the cluster, or of one machine.
pub struct StatusTeller {
    pub(super) broker: Broker,
    pub(super) settings: StatusSettings,
    meter: Meter,
    alerting: OnceLock<TellOfAlerting>,
}

/// Tells rules and configurations of notifications apart, in words.
pub type TellOfAlerting = Box<dyn Fn() -> String + Send + Sync>;

impl StatusTeller {
    /// Begins to look, each 10 s, as long as somebody holds it and the broker runs. Must be called on
    /// a tokio runtime.
    pub fn start(broker: &Broker, settings: StatusSettings) -> Arc<StatusTeller> {
        let meter = Meter::default();
        let (broker, alerting) = (broker.clone(), OnceLock::new());
        let teller = Arc::new(StatusTeller { broker, settings, meter, alerting });
        tokio::spawn(look(Arc::downgrade(&teller)));
        teller
    }

    /// From now on it is told of rules and notifications as well.
    pub fn tell_of_alerting(&self, told: TellOfAlerting) {
        let _ = self.alerting.set(told);
    }

    /// The state now. Waits at most 2 s for brokers that do not answer.
    pub async fn status(&self) -> ClusterStatus {
        let broker = &self.broker;
        let cluster = broker.cluster_status();
        let mut status = cluster.unwrap_or_else(|| one_machine(&broker.inner));
        let own = self.report();
        if status.is_cluster {
            self.ask_all(&mut status, own).await;
        } else {
            let part = Part::None;
            let name = String::new();
            let alone =
                MemberStatus { name, liveness: Liveness::Alive, part, ..Default::default() };
            status.tenants = own.tenants.clone();
            status.members = vec![MemberStatus { report: Some(own), ..alone }];
        }
        status.tenants.truncate(MAX_TENANTS_TOLD);
        let flush_ms = u64::try_from(broker.inner.config.flush_interval_ms).unwrap_or(1_000);
        status.findings = findings::find(&status, flush_ms);
        let levels = status.findings.iter().map(|finding| finding.level);
        status.verdict = levels.max().unwrap_or_default();
        status
    }

    /// What this broker tells of itself.
    pub fn report(&self) -> BrokerReport {
        let inner = &self.broker.inner;
        let stores = self.settings.stores.as_ref().map(|stores| stores()).unwrap_or_default();
        let mut tenants = self.meter.tenants(&self.broker.tenants());
        tenants.truncate(MAX_TENANTS_TOLD);
        let applied_index = match &inner.catalog {
            SharedCatalog::Agreed(consensus) => consensus.status().applied_index,
            SharedCatalog::Alone(_) => 0,
        };
        let missing = self.missing();
        let waiting = inner.clustered.as_ref().map_or(0, |clustered| clustered.budget.used());
        BrokerReport {
            version: self.settings.version.clone(),
            now_ms: (inner.config.now_ms)(),
            started_ms: self.settings.started_ms,
            applied_index,
            waiting_bytes: waiting as u64,
            stores: self.meter.stores(&stores),
            tenants,
            missing_count: missing.len() as u64,
            missing: missing.into_iter().take(MAX_MISSING_TOLD).collect(),
            alerting: self.alerting.get().map(|told| told()),
            retention_rules: Some(rules_in_words(&self.broker.in_effect().retention_rules)),
            drain: self.drain(),
        }
    }

    /// How far it is on its way out, if it is.
    fn drain(&self) -> Option<DrainReport> {
        let progress = self.broker.drain_progress()?;
        (progress.step != DrainStep::Serving).then(|| progress.into())
    }

    /// What cannot be read, of all tenants, each once: a segment has rows of several.
    fn missing(&self) -> BTreeSet<String> {
        let tenants = self.broker.tenants();
        let readers = tenants.iter().map(|row| self.broker.reader(self.broker.tenant_id(row.name)));
        readers.flat_map(|reader| reader.missing(TimeRange::all())).collect()
    }

    async fn ask_all(&self, status: &mut ClusterStatus, own: BrokerReport) {
        let now_ms = self.broker.inner.config.now_ms;
        let asked = status.members.iter().map(async |member| {
            if member.id == status.asked {
                return (Ok(own.clone()), Some(0));
            }
            let Some(others) = self.settings.others.as_ref().filter(|_| !member.has_left) else {
                return (Err(String::new()), None);
            };
            let (began, began_ms) = (Instant::now(), now_ms());
            let answer = tokio::time::timeout(ASKED_FOR, others.ask(&member.address)).await;
            let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
            let late = || Err(format!("no answer within {} s", ASKED_FOR.as_secs()));
            let answer = answer.unwrap_or_else(|_| late());
            let ahead = answer.as_ref().ok().map(|report: &BrokerReport| {
                // It read its clock somewhere between question and answer.
                let earliest = report.now_ms.saturating_sub(began_ms.saturating_add(took_ms));
                let latest = report.now_ms.saturating_sub(began_ms);
                if earliest > 0 { earliest } else { latest.min(0) }
            });
            (answer, ahead)
        });
        let answers = join_all(asked).await;
        let mut tenants: BTreeMap<String, TenantLoad> = BTreeMap::new();
        // Where nobody leads, no lease is renewed, and whoever answers lives.
        let is_leaderless =
            status.consensus.as_ref().is_some_and(|consensus| consensus.leader.is_none());
        let last_index = status.consensus.as_ref().map_or(0, |consensus| consensus.last_index);
        for (member, (answer, ahead)) in status.members.iter_mut().zip(answers) {
            member.clock_ahead_ms = ahead;
            match answer {
                Ok(report) => {
                    if is_leaderless {
                        (member.liveness, member.silent_ms) = (Liveness::Alive, 0);
                    }
                    let lag = last_index.saturating_sub(report.applied_index);
                    member.lag_entries.get_or_insert(lag);
                    for load in &report.tenants {
                        add(tenants.entry(load.name.clone()).or_default(), load);
                    }
                    member.report = Some(report);
                }
                Err(why) => member.fault = why,
            }
            member.unflushed_ms = match u64::from_str_radix(&member.id, 16) {
                Ok(id) => self.meter.waited_ms(BrokerId(id)),
                Err(_) => 0,
            };
        }
        if let Some(consensus) = &mut status.consensus {
            consensus.voters_alive = consensus.voters - away(&status.members);
        }
        status.tenants = tenants.into_values().collect();
        meter::greatest_first(&mut status.tenants);
    }
}

impl std::fmt::Debug for StatusTeller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StatusTeller").finish_non_exhaustive()
    }
}

async fn look(teller: Weak<StatusTeller>) {
    loop {
        let Some(teller) = teller.upgrade() else { return };
        let broker = &teller.broker;
        if *broker.inner.stopping.borrow() {
            return;
        }
        let stores = teller.settings.stores.as_ref().map(|stores| stores()).unwrap_or_default();
        teller.meter.note(&broker.tenants(), stores);
        broker.inner.catalog.read(|state| teller.meter.note_segments(state));
        drop(teller);
        tokio::time::sleep(meter::EVERY).await;
    }
}

/// Adds what another broker has of a tenant.
fn add(sum: &mut TenantLoad, load: &TenantLoad) {
    sum.name.clone_from(&load.name);
    sum.active_series += load.active_series;
    sum.max_active_series = sum.max_active_series.max(load.max_active_series);
    sum.samples_per_second = match (sum.samples_per_second, load.samples_per_second) {
        (Some(sum), Some(load)) => Some(sum + load),
        (sum, load) => sum.or(load),
    };
}

impl Broker {
    /// The cluster as this broker's catalog and its part in the consensus have it, without what others
    /// would have to be asked for and without findings: see [`StatusTeller::status`]. `None` beside a
    /// log.
    pub fn cluster_status(&self) -> Option<ClusterStatus> {
        let SharedCatalog::Agreed(consensus) = &self.inner.catalog else { return None };
        let (agreement, members, ring) =
            (consensus.status(), self.cluster_members(), self.cluster_ring());
        let shares: BTreeMap<BrokerId, f64> =
            ring.map(|(ring, _)| ring.shares().into_iter().collect()).unwrap_or_default();
        let now_ms = (self.inner.config.now_ms)();
        Some(consensus.read(|state| {
            let members = merged(state, &agreement, &members, &shares);
            agreed(state, &agreement, members, now_ms)
        }))
    }
}

/// What one machine has of it.
fn one_machine(inner: &Inner) -> ClusterStatus {
    let now_ms = (inner.config.now_ms)();
    inner.catalog.read(|state| ClusterStatus {
        now_ms,
        blocks: blocks(state),
        ..ClusterStatus::default()
    })
}

fn blocks(state: &State) -> Amount {
    let mut amount = Amount::default();
    state.blocks().for_each(|block| amount.add(block.size_bytes));
    amount
}

fn agreed(
    state: &State,
    agreement: &Status,
    members: Vec<MemberStatus>,
    now_ms: i64,
) -> ClusterStatus {
    let name =
        |id: BrokerId| state.broker(id).map(|broker| broker.info.name.clone()).unwrap_or_default();
    let leases = state.leases("").take(MAX_LEASES_TOLD).map(|(job, lease)| LeaseStatus {
        job: job.to_owned(),
        holder: lease.holder.to_string(),
        holder_name: name(lease.holder),
        term: lease.term,
        until_ms: lease.until_ms,
    });
    let mut segments = Amount::default();
    for (_, broker) in state.brokers() {
        broker.segments.values().for_each(|segment| segments.add(segment.size_bytes));
    }
    let voters = members.iter().filter(|member| member.part == Part::Voter).count() as u64;
    let away = away(&members);
    ClusterStatus {
        is_cluster: true,
        asked: BrokerId(agreement.id).to_string(),
        now_ms,
        consensus: Some(ConsensusStatus {
            leader: agreement.leader.map(|id| BrokerId(id).to_string()),
            term: agreement.term,
            last_index: agreement.last_index,
            applied_index: agreement.applied_index,
            voters,
            voters_alive: voters - away,
            majority: voters / 2 + 1,
            stopped: agreement.stopped.clone(),
        }),
        members,
        ring_epoch: state.ring_epoch(),
        lease_count: state.leases("").count() as u64,
        leases: leases.collect(),
        segments,
        blocks: blocks(state),
        ..ClusterStatus::default()
    }
}

/// Voters that do not answer.
fn away(members: &[MemberStatus]) -> u64 {
    let voters = members.iter().filter(|member| member.part == Part::Voter);
    voters.filter(|member| member.liveness == Liveness::Silent).count() as u64
}

/// Everybody whom the catalog lists or the consensus counts, by name.
fn merged(
    state: &State,
    agreement: &Status,
    live: &[ClusterMember],
    shares: &BTreeMap<BrokerId, f64>,
) -> Vec<MemberStatus> {
    let counted = agreement.members.keys().map(|id| BrokerId(*id));
    let all: BTreeSet<BrokerId> = counted.chain(state.brokers().map(|(id, _)| id)).collect();
    let mut members: Vec<MemberStatus> = all
        .into_iter()
        .map(|id| {
            let live = live.iter().find(|member| member.id == id);
            let mut member = one(id, agreement, live);
            member.ring_share = shares.get(&id).copied().unwrap_or(0.0);
            if let Some(broker) = state.broker(id) {
                member.epoch = broker.epoch;
                for segment in broker.segments.values() {
                    member.segments.add(segment.size_bytes);
                    member.segment_rows += segment.rows;
                }
            }
            member
        })
        .collect();
    members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    members
}

fn one(id: BrokerId, agreement: &Status, live: Option<&ClusterMember>) -> MemberStatus {
    let counted = agreement.members.get(&id.0);
    let is_own = id.0 == agreement.id;
    let matched = agreement.matched.get(&id.0).copied();
    let matched = if is_own { Some(agreement.applied_index) } else { matched };
    let mut member = MemberStatus {
        id: id.to_string(),
        has_left: live.is_none(),
        part: match counted {
            Some((_, Voting::Voter)) => Part::Voter,
            Some((_, Voting::Learner)) => Part::Learner,
            None => Part::None,
        },
        is_leader: agreement.leader == Some(id.0),
        lag_entries: matched.map(|index| agreement.last_index.saturating_sub(index)),
        ..MemberStatus::default()
    };
    if let Some(live) = live {
        member.name.clone_from(&live.name);
        member.address.clone_from(&live.address);
        member.zone.clone_from(&live.zone);
        member.liveness = if live.is_alive { Liveness::Alive } else { Liveness::Silent };
        member.silent_ms = live.silent_ms;
        member.is_draining = live.is_draining;
    } else if let Some((known, _)) = counted {
        member.name.clone_from(&known.name);
        member.address.clone_from(&known.address);
        member.zone.clone_from(&known.zone);
    }
    member
}
