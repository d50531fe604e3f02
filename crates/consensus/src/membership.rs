//! Who takes part: how the leader takes members in and out, and whom it has vote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};
use tokio::time::Instant;

use crate::config::ConsensusError;
use crate::member::{ATTEMPT, Inner};
use crate::message::{Request, Response};
use crate::types::Seat;
use crate::voters::{self, Candidate};

/// How often the leader looks who should vote.
const REVIEW: Duration = Duration::from_secs(2);
/// So many entries behind, a member is as good as current.
const CURRENT_WITHIN: u64 = 200;
/// A voter that answered within this time is there.
const THERE_WITHIN: Duration = Duration::from_secs(3);

/// For so long a leader that is to be taken out leaves it to others to lead. Not longer: it may be the only
/// one that is left with all entries.
pub(crate) const LEFT_TO_OTHERS: Duration = Duration::from_secs(3);

type Change = ChangeMembers<u64, Seat>;

impl Inner {
    /// Takes a member in, or asks the leader to.
    pub(crate) async fn admit(&self, id: u64, seat: Seat) -> Response {
        if let Some((leader, at)) = self.leader()
            && leader != self.config.id
        {
            let request = Request::Admit { id, seat }.encode(at.incarnation);
            let answer = self.transport.call(leader, &at.member, request, ATTEMPT).await;
            return match answer.map(|answer| Response::decode(&answer)) {
                Ok(Ok(response)) => response,
                _ => Response::NotLeader(Some(leader)),
            };
        }
        // What it knows of the members counts only if it leads.
        match self.raft.get_read_log_id().await {
            Ok(_) => {}
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                return Response::NotLeader(to.leader_id);
            }
            // No quorum answers: it is asked again.
            Err(RaftError::APIError(_)) => return Response::NotLeader(None),
            Err(error) => return Response::Failed(error.to_string()),
        }
        let membership = Arc::clone(&self.raft.metrics().borrow().membership_config);
        let nodes = BTreeMap::from([(id, seat.clone())]);
        let changes = match membership.membership().get_node(&id) {
            Some(known) if *known == seat => Vec::new(),
            // It has moved.
            Some(known) if known.incarnation == seat.incarnation => {
                vec![Change::SetNodes(nodes)]
            }
            // Its log is lost. As a voter it counts among those that have what was agreed upon, and
            // it does not have it any more: first of all it must count no longer.
            Some(_) => {
                let voters: BTreeSet<u64> = membership.voter_ids().collect();
                let mut changes = Vec::new();
                if voters.contains(&id) {
                    let left: BTreeSet<u64> = voters.into_iter().filter(|v| *v != id).collect();
                    if left.is_empty() {
                        return Response::Failed("it was the only voter".to_owned());
                    }
                    tracing::warn!(id, "a voter comes back without its log: it votes no more");
                    changes.push(Change::ReplaceAllVoters(left));
                }
                changes.push(Change::RemoveNodes(BTreeSet::from([id])));
                changes.push(Change::AddNodes(nodes));
                changes
            }
            None => vec![Change::AddNodes(nodes)],
        };
        for change in changes {
            match self.raft.change_membership(change, true).await {
                Ok(_) => {}
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                    return Response::NotLeader(to.leader_id);
                }
                // Another change is under way: it is asked again.
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_))) => {
                    return Response::NotLeader(None);
                }
                Err(error) => return Response::Failed(error.to_string()),
            }
        }
        Response::Admitted
    }

    /// Takes a member out, if those that are left can go on.
    pub(crate) async fn take_out(&self, id: u64) -> Result<(), ConsensusError> {
        let refused = |error: &dyn std::fmt::Display| ConsensusError::Refused(error.to_string());
        let voters: BTreeSet<u64> =
            self.raft.metrics().borrow().membership_config.voter_ids().collect();
        if voters.contains(&id) {
            if !self.leads() {
                return Err(ConsensusError::Refused("this broker does not lead".to_owned()));
            }
            let left: BTreeSet<u64> = voters.iter().copied().filter(|v| *v != id).collect();
            // The change needs a majority of those before and of those after: without one, it would
            // stop the cluster for good.
            self.wait_for_majority(&left).await?;
            self.wait_for_majority(&voters).await?;
            if id == self.config.id {
                // openraft has a leader that is no voter lead on, and take part in nothing.
                *self.stands_again.lock() = Some(Instant::now() + LEFT_TO_OTHERS);
                self.give_up_leading().await.map_err(|error| refused(&error))?;
                let why = "this broker led and leaves that to another one: ask that one";
                return Err(ConsensusError::Refused(why.to_owned()));
            }
            self.raft.change_membership(left, true).await.map_err(|error| refused(&error))?;
        }
        let membership = Arc::clone(&self.raft.metrics().borrow().membership_config);
        if membership.membership().get_node(&id).is_some() {
            let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
            self.raft.change_membership(gone, true).await.map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// Lets a member go, or asks the leader to.
    pub(crate) async fn dismiss(&self, id: u64) -> Response {
        match self.leader() {
            Some((leader, at)) if leader != self.config.id => {
                let request = Request::Dismiss { id }.encode(at.incarnation);
                let answer = self.transport.call(leader, &at.member, request, ATTEMPT).await;
                match answer.map(|answer| Response::decode(&answer)) {
                    Ok(Ok(response)) => response,
                    _ => Response::NotLeader(Some(leader)),
                }
            }
            Some(_) => match self.take_out(id).await {
                Ok(()) => Response::Dismissed,
                // Another change is under way, or another one leads by now: it is asked again.
                Err(error) => Response::Failed(error.to_string()),
            },
            None => Response::NotLeader(None),
        }
    }

    /// Waits until a majority of `voters` has answered this leader of late.
    async fn wait_for_majority(&self, voters: &BTreeSet<u64>) -> Result<(), ConsensusError> {
        let end = Instant::now() + THERE_WITHIN;
        loop {
            if !self.leads() {
                return Err(ConsensusError::Refused("this broker does not lead".to_owned()));
            }
            let silent: Vec<u64> = {
                let answered = self.answered.lock();
                let is_there = |id: &u64| {
                    let at = answered.get(id);
                    *id == self.config.id || at.is_some_and(|at| at.elapsed() < THERE_WITHIN)
                };
                voters.iter().copied().filter(|id| !is_there(id)).collect()
            };
            if silent.len() * 2 < voters.len() {
                return Ok(());
            }
            if Instant::now() >= end {
                let membership = Arc::clone(&self.raft.metrics().borrow().membership_config);
                let name = |id: &u64| {
                    let seat = membership.membership().get_node(id);
                    seat.map_or_else(|| id.to_string(), |seat| seat.member.name.clone())
                };
                let names: Vec<String> = silent.iter().map(name).collect();
                return Err(ConsensusError::Refused(format!(
                    "{} of the {} voters that would be needed do not answer ({}): without a \
                     majority of them the cluster would stop for good. Bring them back, or wait \
                     until others vote in their place",
                    silent.len(),
                    voters.len(),
                    names.join(", "),
                )));
            }
            tokio::time::sleep(Duration::from_millis(self.config.heartbeat_ms)).await;
        }
    }

    /// While it leads, sees to it that the right ones vote.
    pub(crate) async fn review_voters(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let began = Instant::now();
        let mut leads_since = None;
        let mut warned = false;
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
            let is_on_one_disk = voters.len() == 1 && metrics.membership_config.nodes().count() > 1;
            if is_on_one_disk && !warned {
                tracing::warn!(
                    "one of two brokers votes: what the cluster acknowledges lies on one disk until \
                     a third broker joins"
                );
            }
            warned = is_on_one_disk;
            let answered = self.answered.lock().clone();
            let matched = metrics.replication.unwrap_or_default();
            let members: Vec<Candidate> = metrics
                .membership_config
                .nodes()
                .map(|(&id, seat)| {
                    // Before it led, it asked nobody.
                    let at = answered.get(&id).copied().unwrap_or(began).max(since);
                    let silent = at.elapsed().as_millis();
                    let index = matched.get(&id).copied().flatten().map_or(0, |id| id.index);
                    Candidate {
                        id,
                        zone: seat.member.zone.clone(),
                        votes: voters.contains(&id),
                        silent_ms: u64::try_from(silent).unwrap_or(u64::MAX),
                        is_current: id == self.config.id || index + CURRENT_WITHIN >= last,
                    }
                })
                .collect();
            // A leader that went in the middle of a change left two sets of voters, of which each must
            // agree: nobody else finishes it.
            let configs = metrics.membership_config.membership().get_joint_config();
            let chosen = match &configs[..] {
                [_, .., last] => Some(last.clone()),
                _ => voters::choose(&members, self.config.id, self.config.replace_after_ms),
            };
            let Some(chosen) = chosen else { continue };
            tracing::info!(now = ?voters, then = ?chosen, "other members vote from now on");
            if let Err(error) = self.raft.change_membership(chosen, true).await {
                tracing::warn!(%error, "the voters stay as they are for now");
            }
        }
    }
}
