//! Batches of agents: stored exactly once, however often they come.
//!
//! A batch bears the name of its agent, the incarnation of that agent's spool, a lane and a number.
//! The committer, which sees all batches in the order of the log, asks the catalog what a batch is
//! to the marks, and logs samples and new mark in one frame. What is known already is acknowledged
//! as soon as the frame that holds it is durable.

use std::collections::HashMap;
use std::sync::Arc;

use catalog::{LaneMarks, Mark, Standing};
use model::{LogBatch, MetricBatch, TenantId};
use parking_lot::Mutex;

pub use catalog::{Incarnation, Lane};

use crate::Broker;
use crate::LogOutcome;
use crate::commit::{CommitError, Message, Stored};
use crate::ingest::IngestOutcome;

/// Incarnations of which the newest shown batch is noted. Beyond it all notes go, and a batch that
/// comes again at that very moment may be shown twice.
const MAX_SHOWN: usize = 1 << 16;

/// Names one batch of one agent, forever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchIdentity {
    /// Name of the agent, as in its certificate; at most [`catalog::MAX_AGENT_NAME_BYTES`].
    pub agent: Arc<str>,
    /// Which spool numbered it.
    pub incarnation: Incarnation,
    /// In which lane.
    pub lane: Lane,
    /// From 1; grows within the lane.
    pub seq: u64,
    /// The batch sent before it in this lane, which must be stored first; below `seq`, and 0 if
    /// there is none or it is known to be stored.
    pub after_seq: u64,
}

impl BatchIdentity {
    fn mark(&self, at_ms: i64) -> Mark {
        let BatchIdentity { agent, incarnation, lane, seq, after_seq } = self;
        Mark {
            agent: Arc::clone(agent),
            incarnation: *incarnation,
            lane: *lane,
            seq: *seq,
            after_seq: *after_seq,
            at_ms,
        }
    }
}

/// What became of a batch of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Counts and refusals; empty if the batch was known.
    pub outcome: IngestOutcome,
    /// The batch was stored before; nothing was done.
    pub was_known: bool,
}

/// The newest batch of each incarnation that was shown to live subscribers.
#[derive(Debug, Default)]
pub(crate) struct ShownBatches(Mutex<HashMap<(Arc<str>, Incarnation), u64>>);

impl Broker {
    /// Stores a batch unless it is stored already, and calls `done` when it is durable and visible,
    /// or refused as a whole. As [`Broker::ingest`], it waits and computes.
    ///
    /// Batches of one lane must be handed over in order; that the answer to one is still open is no
    /// reason to wait with the next. A batch that is refused is not overtaken by those that say they
    /// follow it.
    ///
    /// `done` gets [`CommitError::Gap`] if the batch it follows is not stored,
    /// [`CommitError::Catalog`] for an identity that no batch can have; else what
    /// [`Broker::ingest`] gives.
    pub fn ingest_from_agent(
        &self,
        tenant: TenantId,
        identity: &BatchIdentity,
        batch: &MetricBatch,
        done: impl FnOnce(Result<Delivery, CommitError>) + Send + 'static,
    ) {
        let mark = identity.mark(self.heard_ms());
        match mark.check() {
            Ok(()) => self.ingest_marked(tenant, batch, Some(mark), done),
            Err(error) => done(Err(error.into())),
        }
    }

    /// Passes over a batch that can never be stored, durably, so that the agent may go on behind it.
    /// Waits for a place in the committer's queue.
    pub fn pass_over_from_agent(
        &self,
        identity: &BatchIdentity,
        done: impl FnOnce(Result<Delivery, CommitError>) + Send + 'static,
    ) {
        let nothing = MetricBatch::default();
        self.ingest_from_agent(model::DEFAULT_TENANT, identity, &nothing, done);
    }

    /// As [`Broker::ingest_from_agent`], of lines of logs.
    pub fn ingest_logs_from_agent(
        &self,
        tenant: TenantId,
        identity: &BatchIdentity,
        batch: LogBatch,
        done: impl FnOnce(Result<LogOutcome, CommitError>) + Send + 'static,
    ) {
        let mark = identity.mark(self.heard_ms());
        match mark.check() {
            Ok(()) => self.ingest_marked_logs(tenant, batch, mark, done),
            Err(error) => done(Err(error.into())),
        }
    }

    /// Moves a mark and stores nothing. Yields whether it was known.
    pub(crate) fn move_mark(
        &self,
        mark: Mark,
        done: impl FnOnce(Result<bool, CommitError>) + Send + 'static,
    ) {
        let nothing = MetricBatch::default();
        self.ingest_marked(model::DEFAULT_TENANT, &nothing, Some(mark), move |result| {
            done(result.map(|delivery| delivery.was_known));
        });
    }

    /// Calls `done` with the marks of an incarnation as soon as they are durable. All batches handed
    /// over before count. Waits for a place in the committer's queue.
    pub fn agent_marks(
        &self,
        agent: &Arc<str>,
        incarnation: Incarnation,
        done: impl FnOnce(Result<LaneMarks, CommitError>) + Send + 'static,
    ) {
        let agent = Arc::clone(agent);
        let message = Message::Marks { agent, incarnation, done: Box::new(done) };
        if let Err(Message::Marks { done, .. }) = self.send(message) {
            done(Err(CommitError::Stopping));
        }
    }

    /// Whether live subscribers may see a batch: fresh ones, and each once. The backlog is for
    /// queries; at the speed at which it comes it would push out what is fresh.
    pub(crate) fn may_show(&self, mark: &Mark) -> bool {
        let is_known = || self.inner.catalog.read(|state| state.standing(mark)) == Standing::Known;
        if mark.lane != Lane::Live || is_known() {
            return false;
        }
        let mut shown = self.inner.shown.0.lock();
        if shown.len() >= MAX_SHOWN {
            shown.clear();
        }
        // The mark moves when the committer comes to the batch; until then this table knows it.
        let newest = shown.entry((Arc::clone(&mark.agent), mark.incarnation)).or_default();
        let is_new = mark.seq > *newest;
        *newest = mark.seq.max(*newest);
        is_new
    }
}

impl Delivery {
    pub(crate) fn of(stored: Stored, mut outcome: IngestOutcome) -> Self {
        match stored {
            Stored::New(appended, exemplars) => {
                outcome.appended = appended;
                outcome.exemplars.add(exemplars);
                Delivery { outcome, was_known: false }
            }
            Stored::Known => Delivery { outcome: IngestOutcome::default(), was_known: true },
        }
    }
}
