//! What a member does for others, and asks of the leader.

use std::sync::atomic::Ordering;

use catalog::CatalogError;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::{RaftMetrics, ServerState};
use tokio::time::Instant;

use crate::bytes_of::Malformed;
use crate::log_store::Failure;
use crate::member::{ATTEMPT, Inner};
use crate::message::{Request, Response};
use crate::network::TransportError;
use crate::types::{Proposal, Seat};

/// Why a proposal did not arrive, or may not have.
pub(crate) enum Unsent {
    Nowhere(String),
    Perhaps(String),
    Stopped,
}

impl Inner {
    /// How the others see it.
    pub(crate) fn seat(&self) -> Seat {
        Seat { member: self.config.member.clone(), incarnation: self.incarnation }
    }

    pub(crate) fn leader(&self) -> Option<(u64, Seat)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let id = metrics.current_leader?;
        let seat = metrics.membership_config.membership().get_node(&id)?.clone();
        Some((id, seat))
    }

    /// Waits until another one than `leader` leads: whoever waits for an answer of that one need not wait
    /// for it to be given up.
    async fn follows_another(&self, leader: u64) {
        let mut metrics = self.raft.metrics();
        let is_another = |now: &RaftMetrics<u64, Seat>| {
            now.current_leader.is_some_and(|another| another != leader)
        };
        if metrics.wait_for(is_another).await.is_err() {
            // It has stopped, and what it asks ends otherwise.
            std::future::pending().await
        }
    }

    /// Sends a proposal to the leader, once; yields which entry it is.
    pub(crate) async fn send(&self, proposal: &Proposal) -> Result<u64, Unsent> {
        let Some((id, Seat { member, incarnation })) = self.leader() else {
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
            let request = Request::Propose(proposal.clone()).encode(incarnation);
            let answer = tokio::select! {
                biased;
                answer = self.transport.call(id, &member, request, ATTEMPT) => answer,
                () = self.follows_another(id) => {
                    let why = "another one leads by now".to_owned();
                    return Err(Unsent::Perhaps(format!("{}: {why}", member.address)));
                }
            };
            match answer {
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

    /// Asks the leader through which entry everything is agreed upon by now.
    pub(crate) async fn ask_read_index(&self) -> Result<u64, String> {
        let (id, Seat { member, incarnation }) = self.leader().ok_or("none is known")?;
        let response = if id == self.config.id {
            let here = tokio::time::timeout(ATTEMPT, self.respond(Request::ReadIndex));
            here.await.map_err(|_| "no majority of the voters answers")?
        } else {
            let request = Request::ReadIndex.encode(incarnation);
            let answer = tokio::select! {
                biased;
                answer = self.transport.call(id, &member, request, ATTEMPT) => answer,
                () = self.follows_another(id) => {
                    return Err(format!("{}: another one leads by now", member.address));
                }
            };
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

    pub(crate) fn note_leader(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    /// Ends this member if what another one said is of a program that came after this one: nothing that
    /// follows will be readable either, and to wait for it would look as if the others were away. Nothing
    /// of it has come into the log.
    pub(crate) fn end_if_newer(&self, error: &Malformed) {
        if let Malformed::Command(CatalogError::NewerVersion { found, supported }) = *error
            && !*self.stopping.borrow()
        {
            (self.on_failure)(&Failure::Newer { found, supported });
        }
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
                self.receive_part((vote, id), offset, bytes)
            }
            Request::Snapshot { vote, meta, size_bytes } => {
                Box::pin(self.install(vote, meta, size_bytes)).await
            }
            Request::Propose(_) if !self.leads() || self.hands_over.load(Ordering::Acquire) => {
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
                    // agree: at most to its last entry. Of those another leader may have cut off some
                    // since.
                    let index = read.max(applied).map_or(0, |id| id.index);
                    let last = self.log.last().map_or(0, |id| id.index);
                    Response::ReadIndex(index.max(self.found.min(last)))
                }
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                    Response::NotLeader(to.leader_id)
                }
                Err(error) => Response::Failed(error.to_string()),
            },
            Request::Admit { id, seat } => Box::pin(self.admit(id, seat)).await,
            Request::Dismiss { id } => Box::pin(self.dismiss(id)).await,
            Request::Lead { term } => Response::WouldVote(self.take_over(term).await),
        }
    }
}
