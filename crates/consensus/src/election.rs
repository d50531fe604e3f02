//! When a member asks for votes.
//!
//! openraft's own elections are off: a member that hears no leader asks the others first whether
//! they would vote for it (the pre-vote of Ongaro's thesis, 9.6). Those that hear a leader would not,
//! nor those with more entries. So a member that was cut off and comes back begins no term. Nor would
//! one that asks itself, or has just said to another one that it would: of two that miss the leader at
//! the same moment one is asked again a little later, where two candidates of one term would have to
//! wait until the next is due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::error::RaftError;
use openraft::raft::VoteRequest;
use openraft::{LeaderId, ServerState};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::member::Inner;
use crate::membership::LEFT_TO_OTHERS;
use crate::message::{Request, Response};
use crate::runtime::Chance;
use crate::types::{LogId, Seat, Vote};

/// For so long a member that would vote for another one leaves it to that one.
const PROMISED: Duration = Duration::from_millis(120);

/// For so long a leader that hands over waits until another voter has everything …
const CATCHES_UP: Duration = Duration::from_millis(500);
/// … and that one may take to lead.
const TAKES_OVER: Duration = Duration::from_millis(500);

impl Inner {
    /// Whether this member knows of a leader that is at work.
    pub(crate) fn hears_a_leader(&self) -> bool {
        let lease = Duration::from_millis(self.config.election_timeout_ms);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state == ServerState::Leader {
            return metrics
                .millis_since_quorum_ack
                .is_some_and(|millis| millis < self.config.election_timeout_ms);
        }
        self.heard.lock().is_some_and(|at| at.elapsed() < lease)
    }

    /// What it says to who asks for its vote; it leaves it to that one for a moment then.
    pub(crate) fn would_vote(&self, last: Option<LogId>) -> bool {
        let would = !self.hears_a_leader()
            && last >= self.log.last()
            && !self.asks.load(Ordering::Acquire)
            && !self.has_promised();
        if would {
            *self.promised.lock() = Some(Instant::now());
        }
        would
    }

    fn has_promised(&self) -> bool {
        self.promised.lock().is_some_and(|at| at.elapsed() < PROMISED)
    }

    /// Stands for election whenever it is time, until the member stops.
    pub(crate) async fn stand_for_election(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let least = self.config.election_timeout_ms;
        let mut is_refused = false;
        loop {
            let patience = if is_refused {
                // Another one heard the leader a little later, or asks at the same time. Asking begins no
                // term.
                Chance::between(least / 5..least / 2)
            } else {
                Chance::between(least..least + least / 2)
            };
            let began = Instant::now();
            let heard = self.heard.lock().map_or(began, |at| at.max(began));
            tokio::select! {
                () = tokio::time::sleep_until(heard + Duration::from_millis(patience)) => {}
                _ = stopping.changed() => return,
            }
            let since = self.heard.lock().filter(|at| *at > began);
            if since.is_some() || !self.may_lead() {
                is_refused = false;
                continue;
            }
            is_refused = self.has_promised() || !self.would_win().await;
            if !is_refused && !self.hears_a_leader() {
                tracing::info!(id = self.config.id, "no leader is heard: standing for election");
                if self.raft.trigger().elect().await.is_err() {
                    return;
                }
            }
        }
    }

    /// While it leads without a quorum that answers, gives that up: openraft's leader goes on, and where
    /// packets pass in one direction only the others would hear it for ever.
    pub(crate) async fn lead_with_a_quorum(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let patience = self.config.election_timeout_ms;
        let mut leads_since = None;
        loop {
            tokio::select! {
                biased;
                _ = stopping.changed() => return,
                () = tokio::time::sleep(Duration::from_millis(self.config.heartbeat_ms)) => {}
            }
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.state != ServerState::Leader {
                leads_since = None;
                continue;
            }
            let since: Instant = *leads_since.get_or_insert_with(Instant::now);
            let is_new = since.elapsed() < Duration::from_millis(patience);
            let answered = metrics.millis_since_quorum_ack.is_some_and(|millis| millis < patience);
            let is_alone = metrics.membership_config.voter_ids().all(|id| id == self.config.id);
            if answered || is_alone {
                *self.led.lock() = Some(Instant::now());
            }
            if !is_new && !answered && !is_alone {
                tracing::warn!(id = self.config.id, "no majority answers: leading no more");
                if self.give_up_leading().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Leads no more.
    pub(crate) async fn give_up_leading(&self) -> Result<(), RaftError<u64>> {
        // As if the next term had come and this vote were nobody's yet. It must not be that of another
        // member: openraft takes one that hears of such a vote for a candidate, and one that led goes
        // on under it.
        let (term, voted_for) = (self.raft.metrics().borrow().current_term + 1, None);
        let vote = Vote { leader_id: LeaderId { term, voted_for }, committed: false };
        let last_log_id = self.log.last();
        self.raft.vote(VoteRequest { vote, last_log_id }).await.map(|_| ())
    }

    /// Gives up leading and has the voter that has everything stand for election at once. With three voters
    /// these two are a majority; with more, the others first have to miss a leader, as ever.
    pub(crate) async fn hand_over(&self) -> bool {
        self.hands_over.store(true, Ordering::Release);
        let heir = match tokio::time::timeout(CATCHES_UP, self.heir()).await {
            Ok(Some((term, heir, seat))) if self.give_up_leading().await.is_ok() => {
                Some((term, heir, seat))
            }
            _ => None,
        };
        self.hands_over.store(false, Ordering::Release);
        let Some((term, heir, seat)) = heir else { return false };
        *self.stands_again.lock() = Some(Instant::now() + LEFT_TO_OTHERS);
        let request = Request::Lead { term }.encode(seat.incarnation);
        let told = self.transport.call(heir, &seat.member, request, TAKES_OVER).await;
        if !matches!(
            told.map(|answer| Response::decode(&answer)),
            Ok(Ok(Response::WouldVote(true)))
        ) {
            return false;
        }
        let mut metrics = self.raft.metrics();
        let leads = metrics.wait_for(|now| now.current_leader == Some(heir));
        tokio::time::timeout(TAKES_OVER, leads).await.is_ok_and(|leads| leads.is_ok())
    }

    /// Waits for a voter that has everything which this one has; yields it with the term in which that is so.
    async fn heir(&self) -> Option<(u64, u64, Seat)> {
        loop {
            let metrics = self.raft.metrics().borrow().clone();
            let is_alone = metrics.membership_config.voter_ids().all(|id| id == self.config.id);
            if metrics.state != ServerState::Leader || is_alone {
                return None;
            }
            let last = metrics.last_log_index;
            let matched = metrics.replication.unwrap_or_default();
            let mut voters = metrics.membership_config.voter_ids();
            let heir = voters.find(|id| {
                let there = matched.get(id).and_then(|log| log.as_ref());
                *id != self.config.id && there.map(|log| log.index) == last
            });
            let seat = heir.and_then(|id| metrics.membership_config.membership().get_node(&id));
            if let (Some(heir), Some(seat)) = (heir, seat) {
                return Some((metrics.current_term, heir, seat.clone()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stands for election if who led in that term was the last to lead.
    pub(crate) async fn take_over(&self, term: u64) -> bool {
        let is_last = self.raft.metrics().borrow().current_term == term;
        is_last && self.may_lead() && self.raft.trigger().elect().await.is_ok()
    }

    /// Whether it is a voter and does not lead. One that lost its log is none any more, though it
    /// may read in what it received since that it was.
    fn may_lead(&self) -> bool {
        if self.stands_again.lock().is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let id = self.config.id;
        let membership = metrics.membership_config.membership();
        let is_this =
            membership.get_node(&id).is_some_and(|seat| seat.incarnation == self.incarnation);
        let mut voters = membership.voter_ids();
        metrics.state != ServerState::Leader && is_this && voters.any(|voter| voter == id)
    }

    /// Whether a quorum would vote for it.
    async fn would_win(&self) -> bool {
        self.asks.store(true, Ordering::Release);
        let would = self.ask_for_votes().await;
        self.asks.store(false, Ordering::Release);
        would
    }

    async fn ask_for_votes(&self) -> bool {
        let membership = Arc::clone(&self.raft.metrics().borrow().membership_config);
        let last = self.log.last();
        let deadline = Duration::from_millis(self.config.election_timeout_ms / 2);
        let mut asked = JoinSet::new();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        for id in voters.iter().copied().filter(|id| *id != self.config.id) {
            let Some(seat) = membership.membership().get_node(&id) else { continue };
            let request = Request::WouldVote { last }.encode(seat.incarnation);
            let call = self.transport.call(id, &seat.member, request, deadline);
            asked.spawn(async move {
                let answer = tokio::time::timeout(deadline, call).await;
                let answer = answer.ok().and_then(Result::ok);
                let answer = answer.map(|answer| Response::decode(&answer));
                (id, matches!(answer, Some(Ok(Response::WouldVote(true)))))
            });
        }
        let configs = membership.membership().get_joint_config();
        let is_quorum = |of: &BTreeSet<u64>| {
            configs.iter().all(|config| config.intersection(of).count() * 2 > config.len())
        };
        let mut would = BTreeSet::from([self.config.id]);
        let mut may_yet = voters;
        // Nobody waits for one that is silent when it would change nothing.
        while !is_quorum(&would) && is_quorum(&may_yet) {
            match asked.join_next().await {
                Some(Ok((id, true))) => _ = would.insert(id),
                Some(Ok((id, false))) => _ = may_yet.remove(&id),
                Some(Err(_)) => {}
                None => return false,
            }
        }
        is_quorum(&would)
    }
}
