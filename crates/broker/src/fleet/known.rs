//! What is known of one agent, and the part of it that is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::{Incarnation, Lane, LaneMarks};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::row::{AgentHello, AgentRow, AgentStatus};
use crate::agents::Delivery;

/// Longest text an agent may say of itself, in bytes; the rest is cut off.
const MAX_TEXT_BYTES: usize = 256;
/// Labels of one agent; further ones are left out.
const MAX_LABELS: usize = 32;
/// Longest complaint shown; the rest is cut off.
const MAX_COMPLAINT_BYTES: usize = 1 << 10;

/// What is known of one agent.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) kept: Kept,
    pub(super) session: Option<Session>,
    /// Sessions so far; tells the one of now from one that ends late.
    pub(super) sessions: u64,
    pub(super) last_seen_ms: i64,
    /// In the order of [`Lane::ALL`].
    pub(super) marks: [u64; 2],
    pub(super) status: AgentStatus,
    batches_stored: u64,
    samples_refused: u64,
    last_complaint: String,
}

/// The connection of an agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) started_ms: i64,
    /// Told when another session of the agent begins.
    pub(super) over: Arc<Notify>,
}

/// What is kept of an agent in the key space, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    first_seen_ms: i64,
    address: String,
    hostname: String,
    version: String,
    labels: BTreeMap<String, String>,
    config_hash: String,
    incarnation: String,
    certificate_expires_ms: i64,
    /// Taken off the list until it connects again. Its marks stay as long as a batch of it may come a
    /// second time, and a start would list it for those.
    is_removed: bool,
}

impl Kept {
    /// Of an agent that has said nothing of itself.
    pub(super) fn first_seen(first_seen_ms: i64) -> Self {
        Kept { first_seen_ms, ..Kept::default() }
    }

    fn of(hello: &AgentHello, first_seen_ms: i64) -> Self {
        let labels = hello.labels.iter().take(MAX_LABELS);
        Kept {
            first_seen_ms,
            address: cut(&hello.address),
            hostname: cut(&hello.hostname),
            version: cut(&hello.version),
            labels: labels.map(|(name, value)| (cut(name), cut(value))).collect(),
            config_hash: cut(&hello.config_hash),
            incarnation: hello.incarnation.to_string(),
            certificate_expires_ms: hello.certificate_expires_ms,
            is_removed: false,
        }
    }

    pub(super) fn certificate_expires_ms(&self) -> i64 {
        self.certificate_expires_ms
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers become JSON")
    }

    /// What another version of the program wrote differently counts as not said.
    pub(super) fn decode(value: &[u8]) -> Self {
        serde_json::from_slice(value).unwrap_or_default()
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

impl Known {
    pub(super) fn new(kept: Kept) -> Self {
        Known {
            last_seen_ms: kept.first_seen_ms,
            kept,
            session: None,
            sessions: 0,
            marks: [0; 2],
            status: AgentStatus::default(),
            batches_stored: 0,
            samples_refused: 0,
            last_complaint: String::new(),
        }
    }

    /// Takes what a start finds among the marks.
    pub(super) fn recover(&mut self, incarnation: Incarnation, marks: LaneMarks) {
        self.last_seen_ms = self.last_seen_ms.max(marks.at_ms);
        if incarnation.to_string() == self.kept.incarnation {
            self.marks = [marks.live_through, marks.backlog_through];
        }
    }

    /// Takes a hello, and yields what is to be kept if that is something else than before.
    pub(super) fn greet(&mut self, hello: &AgentHello, now_ms: i64) -> Option<Vec<u8>> {
        let kept = Kept::of(hello, self.kept.first_seen_ms);
        if kept.incarnation != self.kept.incarnation {
            self.marks = [0; 2];
        }
        self.last_seen_ms = now_ms;
        self.status = AgentStatus::default();
        let is_news = kept != self.kept;
        self.kept = kept;
        is_news.then(|| self.kept.encode())
    }

    /// Takes it off the list, or puts it back. Yields what is to be kept.
    pub(super) fn set_removed(&mut self, is_removed: bool) -> Vec<u8> {
        self.kept.is_removed = is_removed;
        self.kept.encode()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.kept.is_removed
    }

    pub(super) fn stored(&mut self, lane: Lane, seq: u64, delivery: &Delivery) {
        let mark = &mut self.marks[lane as usize - 1];
        *mark = seq.max(*mark);
        self.batches_stored += u64::from(!delivery.was_known);
        self.samples_refused += delivery.outcome.refused_samples();
        if let Some(complaint) = delivery.outcome.complaint() {
            self.complain(&complaint);
        }
    }

    pub(super) fn stored_lines(&mut self, was_known: bool, complaint: Option<&str>) {
        self.batches_stored += u64::from(!was_known);
        if let Some(complaint) = complaint {
            self.complain(complaint);
        }
    }

    pub(super) fn complain(&mut self, complaint: &str) {
        let end = complaint.floor_char_boundary(MAX_COMPLAINT_BYTES);
        complaint[..end].clone_into(&mut self.last_complaint);
    }

    pub(super) fn is_silent(&self, before_ms: i64) -> bool {
        self.session.is_none() && self.last_seen_ms < before_ms
    }

    pub(super) fn row(&self, name: &str, now_ms: i64) -> AgentRow {
        let kept = self.kept.clone();
        AgentRow {
            name: name.to_owned(),
            connected: self.session.is_some(),
            address: kept.address,
            hostname: kept.hostname,
            version: kept.version,
            labels: kept.labels,
            config_hash: kept.config_hash,
            incarnation: kept.incarnation,
            started_ms: self.session.as_ref().map_or(0, |session| session.started_ms),
            first_seen_ms: kept.first_seen_ms,
            last_seen_ms: self.last_seen_ms,
            certificate_expires_ms: kept.certificate_expires_ms,
            lag_ms: self.lag_ms(now_ms),
            live_through: self.marks[0],
            backlog_through: self.marks[1],
            batches_stored: self.batches_stored,
            samples_refused: self.samples_refused,
            last_complaint: self.last_complaint.clone(),
            status: self.status,
        }
    }

    pub(super) fn lag_ms(&self, now_ms: i64) -> i64 {
        let lag_ms = match (&self.session, self.status.oldest_unacknowledged_ms) {
            (None, _) => now_ms.saturating_sub(self.last_seen_ms),
            (Some(_), 0) => 0,
            (Some(_), oldest_ms) => self.status.now_ms.saturating_sub(oldest_ms),
        };
        lag_ms.max(0)
    }
}
