//! A member of the consensus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blockstore::{BlobError, Disk};
use bytes::Bytes;
use catalog::{CatalogError, Command, Outcome, State};
use openraft::error::{CheckIsLeaderError, ClientWriteError, InitializeError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::storage::Snapshot;
use openraft::{ChangeMembers, Config, Raft, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::journal::JournalError;
use crate::log_store::{LogStore, OnFailure, Writing};
use crate::machine::{Machine, Observer, SnapshotError};
use crate::message::{Request, Response};
use crate::network::{Links, Transport, TransportError};
use crate::runtime::Chance;
use crate::sessions::{Place, Waiting};
use crate::types::{Member, Proposal, Types, Vote};
use crate::voters::{self, Candidate};

/// What a member is told.
#[derive(Debug, Clone)]
pub struct ConsensusConfig {
    /// Its number, which nobody else has or ever had.
    pub id: u64,
    /// How the others see it.
    pub member: Member,
    /// Where log and snapshots lie on its disk.
    pub directory: String,
    /// How often a leader says that it is there, milliseconds.
    pub heartbeat_ms: u64,
    /// After so long without a leader, and up to twice that, somebody stands for election.
    pub election_timeout_ms: u64,
    /// A voter that is silent for so long is replaced, milliseconds.
    pub replace_after_ms: u64,
    /// Entries after which the state is written down and the log shortened.
    pub snapshot_every: u64,
    /// Where the log is written.
    pub writing: Writing,
}

impl ConsensusConfig {
    /// The defaults: a new leader within three seconds.
    pub fn new(id: u64, member: Member) -> Self {
        ConsensusConfig {
            id,
            member,
            directory: "consensus".to_owned(),
            heartbeat_ms: 150,
            election_timeout_ms: 750,
            replace_after_ms: 300_000,
            snapshot_every: 5_000,
            writing: Writing::Thread,
        }
    }
}

/// Why a member cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Its log.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its disk.
    #[error(transparent)]
    Disk(#[from] BlobError),
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// It has stopped.
    #[error("this broker's part in the consensus has stopped: {0}; restart it")]
    Stopped(String),
    /// Nobody could be asked.
    #[error(
        "no leader could be reached within {waited:?} ({why}): a majority of the voters must run and \
         reach each other"
    )]
    NoLeader {
        /// How long it was tried.
        waited: Duration,
        /// What the last attempt found.
        why: String,
    },
    /// The leader refused.
    #[error("{0}")]
    Refused(String),
}

/// Why there is no outcome of a command.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// The catalog refused it; nothing was changed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It reached no leader: nothing was changed.
    #[error(
        "the cluster has no leader that this broker can reach ({0}); nothing was changed. A majority \
         of the voters must run and reach each other"
    )]
    NoLeader(String),
    /// Nobody knows whether it was, or will be, applied.
    #[error("it is not known whether the cluster took this change ({0}); look, and try again")]
    Unknown(String),
    /// This member stops.
    #[error("this broker is stopping")]
    Stopping,
}

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voting {
    /// It does.
    Voter,
    /// It only listens.
    Learner,
}

/// What a member knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Itself.
    pub id: u64,
    /// Who leads, if it knows.
    pub leader: Option<u64>,
    /// The term it is in.
    pub term: u64,
    /// The last entry of its log.
    pub last_index: u64,
    /// The last entry that is in its state.
    pub applied_index: u64,
    /// All members.
    pub members: BTreeMap<u64, (Member, Voting)>,
    /// For each other member, if this one leads: for how long it has not answered, milliseconds.
    pub silent_ms: BTreeMap<u64, u64>,
    /// The last entry each other member has, if this one leads.
    pub matched: BTreeMap<u64, u64>,
    /// Why it has stopped, if it has.
    pub stopped: Option<String>,
}

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
    pub(crate) transport: Arc<dyn Transport>,
    /// When a leader was heard last.
    pub(crate) heard: Mutex<Option<Instant>>,
    answered: Answered,
    /// A snapshot that is on its way here: whose and which, and what is there of it.
    receiving: Mutex<Option<((Vote, String), Vec<u8>)>>,
    pub(crate) stopping: watch::Sender<bool>,
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
            if answer.is_ok() {
                answered.lock().insert(to, Instant::now());
            }
            answer
        })
    }
}

/// How long one attempt to reach the leader may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long to wait before the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the leader looks who should vote.
const REVIEW: Duration = Duration::from_secs(2);
/// So many entries behind, a member is as good as current.
const CURRENT_WITHIN: u64 = 200;

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
        let log = LogStore::open(Arc::clone(&disk), &log_directory, config.writing, on_failure)?;
        let snapshots = format!("{}/snapshots", config.directory);
        let process = Chance::between(0..u64::MAX);
        let machine = Machine::open(disk, &snapshots, (config.id, process), observer)?;
        let answered = Answered::default();
        let transport: Arc<dyn Transport> =
            Arc::new(Noting { transport, answered: Arc::clone(&answered) });
        let raft_config = Config {
            cluster_name: "watchfire".to_owned(),
            heartbeat_interval: config.heartbeat_ms,
            election_timeout_min: config.election_timeout_ms,
            election_timeout_max: 2 * config.election_timeout_ms,
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
            transport,
            heard,
            answered,
            receiving: Mutex::new(None),
            stopping,
        });
        tokio::spawn(Arc::clone(&inner).stand_for_election());
        tokio::spawn(Arc::clone(&inner).review_voters());
        tokio::spawn(Arc::clone(&inner).lead_with_a_quorum());
        Ok(Consensus { inner })
    }

    /// Begins a cluster with this member alone, unless it is in one.
    ///
    /// # Errors
    /// It has stopped.
    pub async fn begin(&self) -> Result<(), ConsensusError> {
        let inner = &self.inner;
        let alone = BTreeMap::from([(inner.config.id, inner.config.member.clone())]);
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
    /// and a vote when one is free.
    ///
    /// # Errors
    /// Nobody could be asked in time, or the leader refused.
    pub async fn join(&self, seeds: &[Member], deadline: Duration) -> Result<(), ConsensusError> {
        let config = &self.inner.config;
        let request = Request::Admit { id: config.id, member: config.member.clone() }.encode();
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
    /// This is not the leader, or it has stopped.
    pub async fn remove(&self, id: u64) -> Result<(), ConsensusError> {
        let raft = &self.inner.raft;
        let refused = |error: &dyn std::fmt::Display| ConsensusError::Refused(error.to_string());
        let voters: BTreeSet<u64> = raft.metrics().borrow().membership_config.voter_ids().collect();
        if voters.contains(&id) {
            let left: BTreeSet<u64> = voters.into_iter().filter(|voter| *voter != id).collect();
            raft.change_membership(left, true).await.map_err(|error| refused(&error))?;
        }
        let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
        raft.change_membership(gone, true).await.map_err(|error| refused(&error))?;
        Ok(())
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
        let proposal = Proposal { place, command };
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
        let response = match Request::decode(request) {
            Ok(request) => self.inner.respond(request).await,
            Err(error) => Response::Failed(format!("the request cannot be read: {error}")),
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

    /// What it knows of the cluster.
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let members = metrics.membership_config.nodes().map(|(&id, member)| {
            let voting = if voters.contains(&id) { Voting::Voter } else { Voting::Learner };
            (id, (member.clone(), voting))
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
            stopped: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }

    /// Ends its part.
    pub async fn stop(&self) {
        self.inner.stopping.send_replace(true);
        let _ = self.inner.raft.shutdown().await;
    }
}

/// Why a proposal did not arrive, or may not have.
enum Unsent {
    Nowhere(String),
    Perhaps(String),
    Stopped,
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

impl Inner {
    fn leader(&self) -> Option<(u64, Member)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let id = metrics.current_leader?;
        let member = metrics.membership_config.membership().get_node(&id)?.clone();
        Some((id, member))
    }

    /// Sends a proposal to the leader, once; yields which entry it is.
    async fn send(&self, proposal: &Proposal) -> Result<u64, Unsent> {
        let Some((id, member)) = self.leader() else {
            return Err(Unsent::Nowhere("none is known".to_owned()));
        };
        let response = if id == self.config.id {
            let here = self.respond(Request::Propose(proposal.clone()));
            match tokio::time::timeout(ATTEMPT, here).await {
                Ok(response) => response,
                Err(_) => {
                    let why = "no majority of the voters has taken it yet".to_owned();
                    return Err(Unsent::Perhaps(why));
                }
            }
        } else {
            let request = Request::Propose(proposal.clone()).encode();
            match self.transport.call(id, &member, request, ATTEMPT).await {
                Ok(answer) => Response::decode(&answer)
                    .map_err(|error| Unsent::Perhaps(format!("{}: {error}", member.address)))?,
                Err(TransportError::Unreached(why)) => {
                    return Err(Unsent::Nowhere(format!("{}: {why}", member.address)));
                }
                Err(TransportError::Lost(why)) => {
                    return Err(Unsent::Perhaps(format!("{}: {why}", member.address)));
                }
            }
        };
        match response {
            Response::Proposed(index) => Ok(index),
            Response::NotLeader(_) => {
                Err(Unsent::Nowhere(format!("{} does not lead any more", member.address)))
            }
            Response::Failed(_) if *self.stopping.borrow() => Err(Unsent::Stopped),
            Response::Failed(why) => Err(Unsent::Perhaps(why)),
            other => Err(Unsent::Perhaps(format!("{} answered {other:?}", member.address))),
        }
    }

    async fn read_index(&self) -> Result<u64, String> {
        let (id, member) = self.leader().ok_or("none is known")?;
        let response = if id == self.config.id {
            let here = tokio::time::timeout(ATTEMPT, self.respond(Request::ReadIndex));
            here.await.map_err(|_| "no majority of the voters answers")?
        } else {
            let request = Request::ReadIndex.encode();
            let answer = self.transport.call(id, &member, request, ATTEMPT).await;
            let answer = answer.map_err(|error| format!("{}: {error}", member.address))?;
            Response::decode(&answer).map_err(|error| format!("{}: {error}", member.address))?
        };
        match response {
            Response::ReadIndex(index) => Ok(index),
            Response::Failed(why) => Err(why),
            _ => Err(format!("{} does not lead any more", member.address)),
        }
    }

    fn leads(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    fn note_leader(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    async fn respond(&self, request: Request) -> Response {
        match request {
            Request::Append(request) => match self.raft.append_entries(request).await {
                Ok(response) => {
                    if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                        self.note_leader();
                    }
                    Response::Append(response)
                }
                Err(error) => Response::Failed(error.to_string()),
            },
            Request::Vote(request) => match self.raft.vote(request).await {
                Ok(response) => Response::Vote(response),
                Err(error) => Response::Failed(error.to_string()),
            },
            Request::WouldVote { last } => Response::WouldVote(self.would_vote(last)),
            Request::SnapshotPart { vote, id, offset, bytes } => {
                let mut receiving = self.receiving.lock();
                let part_of = (vote, id);
                if offset == 0 {
                    *receiving = Some((part_of, bytes));
                } else if let Some((of, there)) = &mut *receiving
                    && *of == part_of
                    && there.len() as u64 == offset
                {
                    there.extend_from_slice(&bytes);
                }
                let there = receiving.as_ref().map_or(0, |(_, there)| there.len() as u64);
                Response::SnapshotParts(there)
            }
            Request::Snapshot { vote, meta, size_bytes } => {
                let received = self.receiving.lock().take();
                let Some((_, bytes)) = received.filter(|((of, id), bytes)| {
                    *of == vote && *id == meta.snapshot_id && bytes.len() as u64 == size_bytes
                }) else {
                    return Response::Failed("parts of the snapshot are missing".to_owned());
                };
                let snapshot = Snapshot { meta, snapshot: Box::new(bytes) };
                match self.raft.install_full_snapshot(vote, snapshot).await {
                    Ok(response) => {
                        self.note_leader();
                        Response::Snapshot(response)
                    }
                    Err(error) => Response::Failed(error.to_string()),
                }
            }
            Request::Propose(_) if !self.leads() => {
                Response::NotLeader(self.raft.metrics().borrow().current_leader)
            }
            Request::Propose(proposal) => match self.raft.client_write(proposal).await {
                Ok(written) => Response::Proposed(written.log_id.index),
                // It may have been an entry here, and still be one elsewhere.
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    Response::Failed("the leader changed meanwhile".to_owned())
                }
                Err(error) => Response::Failed(error.to_string()),
            },
            Request::ReadIndex => match self.raft.get_read_log_id().await {
                Ok((read, applied)) => {
                    Response::ReadIndex(read.max(applied).map_or(0, |id| id.index))
                }
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                    Response::NotLeader(to.leader_id)
                }
                Err(error) => Response::Failed(error.to_string()),
            },
            Request::Admit { id, member } => Box::pin(self.admit(id, member)).await,
        }
    }

    /// Takes a member in, or asks the leader to.
    async fn admit(&self, id: u64, member: Member) -> Response {
        let known =
            self.raft.metrics().borrow().membership_config.membership().get_node(&id).cloned();
        if known.as_ref() == Some(&member) {
            return Response::Admitted;
        }
        if let Some((leader, address)) = self.leader()
            && leader != self.config.id
        {
            let request = Request::Admit { id, member }.encode();
            let answer = self.transport.call(leader, &address, request, ATTEMPT).await;
            return match answer.map(|answer| Response::decode(&answer)) {
                Ok(Ok(response)) => response,
                _ => Response::NotLeader(Some(leader)),
            };
        }
        let nodes = BTreeMap::from([(id, member)]);
        let change = match known {
            // It has moved.
            Some(_) => ChangeMembers::SetNodes(nodes),
            None => ChangeMembers::AddNodes(nodes),
        };
        match self.raft.change_membership(change, true).await {
            Ok(_) => Response::Admitted,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Response::NotLeader(to.leader_id)
            }
            // Another change is under way: it is asked again.
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_))) => {
                Response::NotLeader(None)
            }
            Err(error) => Response::Failed(error.to_string()),
        }
    }

    /// While it leads, sees to it that the right ones vote.
    async fn review_voters(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let began = Instant::now();
        let mut leads_since = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(REVIEW) => {}
                _ = stopping.changed() => return,
            }
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.state != ServerState::Leader {
                leads_since = None;
                continue;
            }
            let since = *leads_since.get_or_insert(Instant::now());
            let last = metrics.last_log_index.unwrap_or(0);
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            let answered = self.answered.lock().clone();
            let matched = metrics.replication.unwrap_or_default();
            let members: Vec<Candidate> = metrics
                .membership_config
                .nodes()
                .map(|(&id, member)| {
                    // Before it led, it asked nobody.
                    let at = answered.get(&id).copied().unwrap_or(began).max(since);
                    let silent = at.elapsed().as_millis();
                    let index = matched.get(&id).copied().flatten().map_or(0, |id| id.index);
                    Candidate {
                        id,
                        zone: member.zone.clone(),
                        votes: voters.contains(&id),
                        silent_ms: u64::try_from(silent).unwrap_or(u64::MAX),
                        is_current: id == self.config.id || index + CURRENT_WITHIN >= last,
                    }
                })
                .collect();
            let chosen = voters::choose(&members, self.config.id, self.config.replace_after_ms);
            let Some(chosen) = chosen else { continue };
            tracing::info!(now = ?voters, then = ?chosen, "other members vote from now on");
            if let Err(error) = self.raft.change_membership(chosen, true).await {
                tracing::warn!(%error, "the voters stay as they are for now");
            }
        }
    }
}
