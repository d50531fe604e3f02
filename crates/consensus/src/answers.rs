//! What a member does for others, and asks of the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::storage::Snapshot;
use openraft::{ChangeMembers, ServerState};
use tokio::time::Instant;

use crate::config::ConsensusError;
use crate::member::{ATTEMPT, Inner};
use crate::message::{Request, Response};
use crate::network::TransportError;
use crate::types::{Member, Proposal};
use crate::voters::{self, Candidate};

/// How often the leader looks who should vote.
const REVIEW: Duration = Duration::from_secs(2);
/// So many entries behind, a member is as good as current.
const CURRENT_WITHIN: u64 = 200;

/// Why a proposal did not arrive, or may not have.
pub(crate) enum Unsent {
    Nowhere(String),
    Perhaps(String),
    Stopped,
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
    pub(crate) async fn send(&self, proposal: &Proposal) -> Result<u64, Unsent> {
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

    pub(crate) async fn read_index(&self) -> Result<u64, String> {
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

    pub(crate) fn leads(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    fn note_leader(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    pub(crate) async fn respond(&self, request: Request) -> Response {
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
                    // A leader that starts again leads on, and does not know how far it had everybody
                    // agree: at most to its last entry.
                    let index = read.max(applied).map_or(0, |id| id.index);
                    Response::ReadIndex(index.max(self.found))
                }
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                    Response::NotLeader(to.leader_id)
                }
                Err(error) => Response::Failed(error.to_string()),
            },
            Request::Admit { id, member } => Box::pin(self.admit(id, member)).await,
            Request::Dismiss { id } => Box::pin(self.dismiss(id)).await,
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

    /// Lets a member go, or asks the leader to.
    async fn dismiss(&self, id: u64) -> Response {
        match self.leader() {
            Some((leader, address)) if leader != self.config.id => {
                let request = Request::Dismiss { id }.encode();
                let answer = self.transport.call(leader, &address, request, ATTEMPT).await;
                match answer.map(|answer| Response::decode(&answer)) {
                    Ok(Ok(response)) => response,
                    _ => Response::NotLeader(Some(leader)),
                }
            }
            Some(_) => match self.remove(id).await {
                Ok(()) => Response::Dismissed,
                // Another change is under way, or another one leads by now: it is asked again.
                Err(_) => Response::NotLeader(None),
            },
            None => Response::NotLeader(None),
        }
    }

    /// Takes a member out, by the leader: first its vote, then the rest. Whoever leads and takes itself
    /// out leads no more after the first.
    pub(crate) async fn remove(&self, id: u64) -> Result<(), ConsensusError> {
        let refused = |error: &dyn std::fmt::Display| ConsensusError::Refused(error.to_string());
        let membership = self.raft.metrics().borrow().membership_config.membership().clone();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        if voters.contains(&id) {
            let left: BTreeSet<u64> = voters.into_iter().filter(|voter| *voter != id).collect();
            if left.is_empty() {
                return Err(ConsensusError::Refused("nobody else votes yet".to_owned()));
            }
            self.raft.change_membership(left, true).await.map_err(|error| refused(&error))?;
        }
        if membership.get_node(&id).is_some() {
            let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
            self.raft.change_membership(gone, true).await.map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// While it leads, sees to it that the right ones vote.
    pub(crate) async fn review_voters(self: Arc<Self>) {
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
