//! A member of the consensus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use blockstore::Disk;
use bytes::Bytes;
use catalog::{Command, Outcome, State};
use openraft::error::{InitializeError, RaftError};
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::answers::Unsent;
use crate::config::{ConsensusConfig, ConsensusError, ProposeError, Status, Voting};
use crate::log_store::{LogStore, OnFailure};
use crate::machine::{Machine, Observer};
use crate::message::{Request, Response};
use crate::network::{Links, Transport};
use crate::reads::Reads;
use crate::receiving::Receiving;
use crate::runtime::Chance;
use crate::sessions::{Place, Waiting};
use crate::types::{Member, Proposal, Types};

/// A member. Clones are the same one.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ConsensusConfig,
    pub(crate) raft: Raft<Types>,
    pub(crate) log: LogStore,
    machine: Machine,
    waiting: Arc<Mutex<Waiting>>,
    /// Tells this process from those before it.
    process: u64,
    /// Tells its log from those that were lost before it.
    pub(crate) incarnation: u64,
    /// The last entry that the start found.
    pub(crate) found: u64,
    pub(crate) transport: Arc<dyn Transport>,
    /// When it began to take part.
    began: Instant,
    /// When a leader was heard last.
    pub(crate) heard: Mutex<Option<Instant>>,
    /// Whether it asks who would vote for it.
    pub(crate) asks: AtomicBool,
    /// When it said last that it would vote for another one.
    pub(crate) promised: Mutex<Option<Instant>>,
    /// Whether it is about to lead no more, and takes no proposals.
    pub(crate) hands_over: AtomicBool,
    /// When it last led with a quorum that answers.
    pub(crate) led: Mutex<Option<Instant>>,
    pub(crate) answered: Answered,
    /// Until then it leaves it to others to lead.
    pub(crate) stands_again: Mutex<Option<Instant>>,
    pub(crate) reads: Reads,
    pub(crate) receiving: Receiving,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) on_failure: OnFailure,
}

/// When each member answered last.
type Answered = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// Notes who answers.
struct Noting {
    transport: Arc<dyn Transport>,
    answered: Answered,
}

impl Transport for Noting {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> crate::Call {
        let call = self.transport.call(to, member, request, deadline);
        let answered = Arc::clone(&self.answered);
        Box::pin(async move {
            let answer = call.await;
            // One that only says why it cannot is as good as silent.
            if answer.as_ref().is_ok_and(|answer| !Response::is_failure(answer)) {
                answered.lock().insert(to, Instant::now());
            }
            answer
        })
    }
}

/// How long one attempt to reach the leader may take.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);
/// How long to wait before the next.
const PAUSE: Duration = Duration::from_millis(50);

impl Consensus {
    /// Takes part with what is on the disk: as a member of the cluster that is known there, or as one
    /// that waits to be [admitted](Consensus::join) or to [begin](Consensus::begin).
    ///
    /// # Errors
    /// The disk cannot be used or its files are damaged.
    pub async fn start(
        disk: Arc<dyn Disk>,
        config: ConsensusConfig,
        transport: Arc<dyn Transport>,
        observer: Arc<dyn Observer>,
        on_failure: OnFailure,
    ) -> Result<Consensus, ConsensusError> {
        let log_directory = format!("{}/log", config.directory);
        let snapshots = format!("{}/snapshots", config.directory);
        let process = Chance::between(0..u64::MAX);
        let own = (config.id, process);
        let machine = Machine::open(Arc::clone(&disk), &snapshots, own, observer)?;
        let durable = machine.durable();
        let told = Arc::clone(&on_failure);
        let writing = config.writing.clone();
        let log = LogStore::open(disk, &log_directory, writing, durable, told)?;
        let found = log.last().map_or(0, |id| id.index);
        let incarnation = log.incarnation();
        let answered = Answered::default();
        let transport: Arc<dyn Transport> =
            Arc::new(Noting { transport, answered: Arc::clone(&answered) });
        let raft_config = Config {
            cluster_name: "watchfire".to_owned(),
            heartbeat_interval: config.heartbeat_ms,
            // With elections off, the least is how long a vote may take, and the most is the lease of a
            // leader within which a voter gives its vote to nobody else: as long as it would say no when
            // it is asked whether it would. A longer one refuses whoever asks when it may, and the cluster
            // waits twice.
            election_timeout_min: config.election_timeout_ms.saturating_sub(1),
            election_timeout_max: config.election_timeout_ms,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every),
            replication_lag_threshold: 2 * config.snapshot_every,
            max_in_snapshot_log_to_keep: config.snapshot_every / 2,
            install_snapshot_timeout: 120_000,
            // See `election`.
            enable_elect: false,
            ..Config::default()
        };
        let raft_config =
            raft_config.validate().map_err(|error| ConsensusError::Settings(error.to_string()))?;
        let links = Links(Arc::clone(&transport));
        let raft = Raft::new(config.id, raft_config.into(), links, log.clone(), machine.clone());
        let raft = raft.await.map_err(|error| ConsensusError::Stopped(error.to_string()))?;
        let waiting = machine.waiting();
        let (heard, stopping) = (Mutex::new(None), watch::Sender::new(false));
        let inner = Arc::new(Inner {
            config,
            raft,
            log,
            machine,
            waiting,
            process,
            incarnation,
            found,
            transport,
            began: Instant::now(),
            heard,
            asks: AtomicBool::new(false),
            promised: Mutex::default(),
            hands_over: AtomicBool::new(false),
            led: Mutex::default(),
            answered,
            stands_again: Mutex::default(),
            reads: Reads::default(),
            receiving: Receiving::default(),
            stopping,
            on_failure,
        });
        tokio::spawn(Arc::clone(&inner).stand_for_election());
        tokio::spawn(Arc::clone(&inner).review_voters());
        tokio::spawn(Arc::clone(&inner).lead_with_a_quorum());
        tokio::spawn(Arc::clone(&inner).keep_the_log_small());
        tokio::spawn(Arc::clone(&inner).end_with_the_core());
        Ok(Consensus { inner })
    }

    /// Begins a cluster with this member alone, unless it is in one.
    ///
    /// # Errors
    /// It has stopped.
    pub async fn begin(&self) -> Result<(), ConsensusError> {
        let inner = &self.inner;
        let alone = BTreeMap::from([(inner.config.id, inner.seat())]);
        match inner.raft.initialize(alone).await {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => return Ok(()),
            Err(error) => return Err(ConsensusError::Stopped(error.to_string())),
        }
        let elected = inner.raft.trigger().elect().await;
        elected.map_err(|error| ConsensusError::Stopped(error.to_string()))
    }

    /// Whether it is, or was, in a cluster.
    ///
    /// # Errors
    /// It has stopped.
    pub async fn is_member(&self) -> Result<bool, ConsensusError> {
        let is_member = self.inner.raft.is_initialized().await;
        is_member.map_err(|error| ConsensusError::Stopped(error.to_string()))
    }

    /// Asks members of a cluster, one after the other, to take this one in. It gets all entries then,
    /// and a vote when one is free. If it was a member and its log is lost, the leader first takes its
    /// vote away, for which a majority of the voters must run without it.
    ///
    /// # Errors
    /// Nobody could be asked in time, or the leader refused.
    pub async fn join(&self, seeds: &[Member], deadline: Duration) -> Result<(), ConsensusError> {
        let config = &self.inner.config;
        let request = Request::Admit { id: config.id, seat: self.inner.seat() }.encode(0);
        let end = Instant::now() + deadline;
        let mut said = "nobody was asked".to_owned();
        while Instant::now() < end {
            for seed in seeds {
                // Any of them passes it on to the leader.
                let call = self.inner.transport.call(0, seed, request.clone(), ATTEMPT);
                said = match call.await.map(|answer| Response::decode(&answer)) {
                    Ok(Ok(Response::Admitted)) => return Ok(()),
                    Ok(Ok(Response::Failed(reason))) => {
                        return Err(ConsensusError::Refused(reason));
                    }
                    Ok(Ok(_)) => format!("{} knows no leader", seed.address),
                    Ok(Err(error)) => format!("{}: {error}", seed.address),
                    Err(error) => format!("{}: {error}", seed.address),
                };
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ConsensusError::NoLeader { waited: deadline, why: said })
    }

    /// Takes a member out, by the leader.
    ///
    /// # Errors
    /// This is not the leader, it has stopped, or no majority of the voters that are left answers: the
    /// cluster would stop for good. A leader that is to take out itself gives up leading first: the next
    /// one is to be asked.
    pub async fn remove(&self, id: u64) -> Result<(), ConsensusError> {
        self.inner.take_out(id).await
    }

    /// Leaves the cluster: has the others take this member out, whoever leads. If it leads itself, another
    /// one does then.
    ///
    /// # Errors
    /// Nobody did so in time. It may be asked again, also if it was taken out meanwhile.
    pub async fn leave(&self, deadline: Duration) -> Result<(), ConsensusError> {
        self.dismiss(self.inner.config.id, deadline).await
    }

    /// Has whoever leads take a member out: this one, or one that is lost.
    ///
    /// # Errors
    /// Nobody did so in time. It may be asked again, also if it was taken out meanwhile.
    pub async fn dismiss(&self, gone: u64, deadline: Duration) -> Result<(), ConsensusError> {
        let inner = &self.inner;
        let own = inner.config.id;
        let end = Instant::now() + deadline;
        let mut said = "there is no other member".to_owned();
        while Instant::now() < end {
            if inner.leads() {
                match tokio::time::timeout(ATTEMPT, inner.take_out(gone)).await {
                    Ok(Ok(())) if gone != own => return Ok(()),
                    Ok(Err(error)) => said = error.to_string(),
                    _ => {}
                }
            }
            let membership = inner.raft.metrics().borrow().membership_config.membership().clone();
            for (id, seat) in membership.nodes().filter(|(id, _)| ![own, gone].contains(id)) {
                let request = Request::Dismiss { id: gone }.encode(seat.incarnation);
                let call = inner.transport.call(*id, &seat.member, request, ATTEMPT);
                said = match call.await.map(|answer| Response::decode(&answer)) {
                    Ok(Ok(Response::Dismissed)) => return Ok(()),
                    Ok(Ok(Response::Failed(why))) => why,
                    Ok(Ok(_)) => format!("{} knows no leader", seat.member.address),
                    Ok(Err(error)) => format!("{}: {error}", seat.member.address),
                    Err(error) => format!("{}: {error}", seat.member.address),
                };
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ConsensusError::NoLeader { waited: deadline, why: said })
    }

    /// Has a command applied. When it returns an outcome, the command is in the state of this member.
    ///
    /// # Errors
    /// Refused, not proposed, or unknown after `deadline`.
    pub async fn propose(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<Outcome, ProposeError> {
        let inner = &self.inner;
        let (sender, mut told) = oneshot::channel();
        let (seq, oldest) = inner.waiting.lock().begin(sender);
        let _forget = Forget { waiting: &inner.waiting, seq };
        let place = Place { origin: inner.config.id, process: inner.process, seq, oldest };
        let version = self.read(|state| catalog::format_version(state.feature_level()));
        let proposal = Proposal { place, version, command };
        let deadline = Instant::now() + deadline;
        let mut reached = inner.machine.index();
        // The entry it is, once that is known.
        let mut index = u64::MAX;
        let mut may_be_known = false;
        let mut said = "none is known".to_owned();
        loop {
            // It may be sent more than once: it is applied once.
            if index == u64::MAX {
                match inner.send(&proposal).await {
                    Ok(at) => index = at,
                    Err(Unsent::Nowhere(why)) => said = why,
                    Err(Unsent::Perhaps(why)) => (said, may_be_known) = (why, true),
                    Err(Unsent::Stopped) => return Err(ProposeError::Stopping),
                }
            }
            let is_known = index != u64::MAX;
            let pause = if is_known { deadline } else { deadline.min(Instant::now() + PAUSE) };
            tokio::select! {
                biased;
                told = &mut told => return match told {
                    Ok(outcome) => outcome.map_err(ProposeError::Catalog),
                    Err(_) => Err(ProposeError::Stopping),
                },
                // It is in the state and was not told: the state came as a snapshot.
                _ = reached.wait_for(|reached| *reached >= index) => {
                    return match told.try_recv() {
                        Ok(outcome) => outcome.map_err(ProposeError::Catalog),
                        Err(_) => {
                            let why = "it came here within a snapshot".to_owned();
                            Err(ProposeError::Unknown(why))
                        }
                    };
                }
                () = tokio::time::sleep_until(pause) => {}
            }
            if Instant::now() >= deadline {
                return Err(match (is_known, may_be_known) {
                    (true, _) => {
                        ProposeError::Unknown("it was agreed upon and is not here yet".to_owned())
                    }
                    (false, true) => ProposeError::Unknown(said),
                    (false, false) => ProposeError::NoLeader(said),
                });
            }
        }
    }

    /// Waits until this member has everything that was agreed upon before now.
    ///
    /// # Errors
    /// No leader answered in time.
    pub async fn catch_up(&self, deadline: Duration) -> Result<u64, ConsensusError> {
        let end = Instant::now() + deadline;
        let mut index = self.inner.machine.index();
        let mut said = "none is known".to_owned();
        while Instant::now() < end {
            match self.inner.read_index().await {
                Ok(wanted) => {
                    let reached = index.wait_for(|index| *index >= wanted);
                    return match tokio::time::timeout_at(end, reached).await {
                        Ok(Ok(_)) => Ok(wanted),
                        Ok(Err(_)) => Err(ConsensusError::Stopped("its state is gone".to_owned())),
                        Err(_) => {
                            let why = "this broker has not yet received all of it".to_owned();
                            Err(ConsensusError::NoLeader { waited: deadline, why })
                        }
                    };
                }
                Err(why) => said = why,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ConsensusError::NoLeader { waited: deadline, why: said })
    }

    /// Answers what another member's [`Transport`] brought.
    pub async fn answer(&self, request: &[u8]) -> Bytes {
        let own = self.inner.incarnation;
        let response = match Request::decode(request) {
            Ok((meant, request)) if meant == 0 || meant == own => self.inner.respond(request).await,
            Ok(_) => Response::Failed(
                "the log of this broker was lost and begun anew: it takes part again when the \
                 leader has admitted it"
                    .to_owned(),
            ),
            Err(error) => {
                self.inner.end_if_newer(&error);
                Response::Failed(format!("the request cannot be read: {error}"))
            }
        };
        response.encode()
    }

    /// Lets `read` look at the state as it is at this member. Changes wait meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.inner.machine.read(|reached| read(&reached.state))
    }

    /// The index of the last entry in the state, and of each that follows.
    pub fn index(&self) -> watch::Receiver<u64> {
        self.inner.machine.index()
    }

    /// Whether it leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.inner.leads()
    }

    /// For how long nobody is known who leads and is followed: what the others agreed upon meanwhile is
    /// not here. A member that has just started counts from there.
    pub fn without_leader(&self) -> Duration {
        let inner = &self.inner;
        let (heard, led) = (*inner.heard.lock(), *inner.led.lock());
        let last = heard.into_iter().chain(led).fold(inner.began, Instant::max);
        last.elapsed()
    }

    /// What it knows of the cluster.
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let members = metrics.membership_config.nodes().map(|(&id, seat)| {
            let voting = if voters.contains(&id) { Voting::Voter } else { Voting::Learner };
            (id, (seat.member.clone(), voting))
        });
        let matched = metrics.replication.iter().flatten();
        let matched = matched.map(|(&id, log)| (id, log.map_or(0, |log| log.index)));
        let is_leader = metrics.state == ServerState::Leader;
        let silent = inner.answered.lock().clone().into_iter().filter(|_| is_leader);
        let millis = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Status {
            id: inner.config.id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            members: members.collect(),
            silent_ms: silent.map(|(id, at)| (id, millis(at))).collect(),
            matched: matched.collect(),
            is_changing_voters: metrics.membership_config.membership().get_joint_config().len() > 1,
            log_bytes: inner.log.size_bytes(),
            stopped: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }

    /// Lets another voter lead, if this one does and there is one that has everything: who is about to
    /// stop need not be missed first. Takes milliseconds, a second at most; yields whether another one leads.
    pub async fn hand_over(&self) -> bool {
        self.inner.hand_over().await
    }

    /// Ends its part.
    pub async fn stop(&self) {
        self.inner.stopping.send_replace(true);
        let _ = self.inner.raft.shutdown().await;
    }
}

/// Forgets a proposal that nobody waits for any more.
struct Forget<'a> {
    waiting: &'a Mutex<Waiting>,
    seq: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.lock().end(self.seq);
    }
}
