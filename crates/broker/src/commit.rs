//! What is asked of whoever makes things durable, and how it answers.
//!
//! Here runs the wall of the write path. Above it a batch is checked, resolved and shown to live
//! subscribers; below it, it becomes durable: in the log of one machine (`committer`), or as a segment
//! in a store that several brokers share (`cluster`). Either way [`crate::visible`] then makes it
//! searchable, in the order of the catalog, before it is acknowledged.

use std::sync::Arc;

use catalog::{CatalogError, Command, Incarnation, LaneMarks, LogPosition, Mark, Outcome, State};
use crossbeam_channel::{Receiver, Sender};
use metricstore::{AppendOutcome, CutData, ExemplarOutcome, ExemplarSnapshot, ResolvedBatch};
use model::TenantName;

use crate::cluster::ClusterQueue;
use crate::deletes::DeleteRequest;
use crate::logs::{FrozenHead, NewLines, OnLines};

/// Requests that may wait for the committer; more wait in their sockets.
pub(crate) const QUEUE: usize = 1_024;

/// Somebody has to raise the limit first.
const TENANTS_RETRY_SECONDS: u64 = 60;

/// A store or a quorum may be back soon.
const CLUSTER_RETRY_SECONDS: u64 = 5;

/// Why a write was not made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk is full. Nothing of the batch was stored; reads go on.
    #[error(
        "no space left for the log: nothing of this request was stored; free space, lower \
         storage.retention or raise the file size limit (ulimit -f), writes go on by themselves"
    )]
    Full,
    /// The batch cannot be stored in one piece.
    #[error("{0}")]
    TooLarge(String),
    /// The head is full: flushes do not keep up, or fail.
    #[error(
        "the head holds {bytes} bytes, the limit is {limit_bytes}: blocks are not written as fast \
         as samples and lines come; nothing of this request was stored, send it again later and look for \
         failed flushes in the log"
    )]
    HeadFull {
        /// What it holds.
        bytes: u64,
        /// Above this nothing is taken.
        limit_bytes: u64,
    },
    /// The tenant's samples come faster than they may.
    #[error(
        "the tenant {tenant} is above limits.ingestion_rate ({rate} samples per second, bursts up to \
         {}): none of the {samples} samples of this request was stored; send them again after {} s, \
         send less, or raise the limit",
        burst_of(*rate, *burst), retry_after_ms.div_ceil(1_000)
    )]
    OverRate {
        /// Whose.
        tenant: TenantName,
        /// How many there are in the request.
        samples: usize,
        /// The limit, samples per second.
        rate: usize,
        /// The limit at once; 0 for ten seconds of the rate.
        burst: usize,
        /// When as many may come again.
        retry_after_ms: u64,
    },
    /// The write would make one tenant more than there may be.
    #[error(
        "there are {limit} tenants, which is limits.max_tenants, and none is called {tenant}: nothing \
         of this request was stored; look whether X-Scope-OrgID is right, raise the limit, or name \
         {tenant} under tenants in the configuration"
    )]
    TooManyTenants {
        /// Who writes.
        tenant: TenantName,
        /// The limit.
        limit: usize,
    },
    /// An agent's batch whose predecessor is not stored.
    #[error(
        "the batch follows one that is not stored, the lane is stored through {through}: send again \
         from {through} + 1"
    )]
    Gap {
        /// Through which batch of the lane everything is stored.
        through: u64,
    },
    /// The catalog refused a command.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Deletes cut the head into as many parts as it may have; a flush makes it one again.
    #[error(
        "deletes cut the head into {limit} parts, which is the limit until the next flush: delete \
         again in a few seconds, or name several series in one delete"
    )]
    HeadInParts {
        /// The most parts there may be.
        limit: u64,
    },
    /// A flush, merge or copy that was asked for failed.
    #[error("{0}")]
    Maintenance(String),
    /// What was asked for is being done already, for somebody else.
    #[error("{0} already: ask again when that is done")]
    Busy(&'static str),
    /// More waits for the store of the cluster than may.
    #[error(
        "{bytes} bytes wait for the store, the limit is {limit_bytes}: it does not take them as fast as \
         they come; nothing of this request was stored, send it again later and look at the store's \
         load and at the network"
    )]
    StoreBehind {
        /// What waits.
        bytes: u64,
        /// Above this nothing is taken.
        limit_bytes: u64,
    },
    /// The store of the cluster did not take it.
    #[error("nothing of this request was stored, send it again later: the store failed: {0}")]
    Store(String),
    /// The brokers cannot agree.
    #[error(
        "nothing of this request was stored, send it again later or to another broker: the cluster has \
         no leader that this broker can reach ({0}); a majority of the voters must run and reach each \
         other"
    )]
    NoQuorum(String),
    /// It may be stored now or soon, or not at all.
    #[error("{0}; send it again: samples that are stored already stay as they are")]
    Unknown(String),
    /// Another broker took over the log of this one, which has to begin anew.
    #[error("nothing of this request was stored, send it again to another broker: {0}")]
    Fenced(String),
    /// A broker of the cluster is of a version that knows no logs.
    #[error(
        "a broker of the cluster is of a version that knows no logs: replace it by one of this version, or \
         take it out if it is lost (`watchfire cluster status` tells versions); nothing of this request was \
         stored, send it again later"
    )]
    OldBroker,
    /// The broker leaves its cluster.
    #[error(
        "the broker is draining, use another broker: it leaves the cluster; nothing of this request was \
         stored"
    )]
    Draining,
    /// The broker is stopping.
    #[error("the broker is stopping; send again after its restart")]
    Stopping,
}

fn burst_of(rate: usize, burst: usize) -> usize {
    if burst == 0 { rate.saturating_mul(crate::tenants::BURST_SECONDS) } else { burst }
}

impl CommitError {
    /// When the sender may come again, if that is known.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            CommitError::OverRate { retry_after_ms, .. } => {
                Some(retry_after_ms.div_ceil(1_000).max(1))
            }
            CommitError::TooManyTenants { .. } => Some(TENANTS_RETRY_SECONDS),
            CommitError::StoreBehind { .. } => Some(1),
            CommitError::Store(_)
            | CommitError::NoQuorum(_)
            | CommitError::Unknown(_)
            | CommitError::OldBroker
            | CommitError::Draining => Some(CLUSTER_RETRY_SECONDS),
            _ => None,
        }
    }

    /// Whether the same may be taken when it is tried again after a while.
    pub(crate) fn passes(&self) -> bool {
        matches!(
            self,
            CommitError::Full
                | CommitError::HeadFull { .. }
                | CommitError::OverRate { .. }
                | CommitError::StoreBehind { .. }
                | CommitError::Store(_)
                | CommitError::NoQuorum(_)
                | CommitError::Unknown(_)
                | CommitError::Draining
        )
    }

    /// Whether a key was not as expected, so that reading it again and deciding anew helps.
    pub fn is_version_conflict(&self) -> bool {
        matches!(self, CommitError::Catalog(CatalogError::VersionConflict { .. }))
    }
}

/// What became of a batch that was not refused.
pub(crate) enum Stored {
    /// It is durable and visible.
    New(AppendOutcome, ExemplarOutcome),
    /// It had been stored before.
    Known,
}

/// What happens when a batch is stored or refused.
pub(crate) type OnStored = Box<dyn FnOnce(Result<Stored, CommitError>) + Send>;

/// What happens when marks are known and durable.
pub(crate) type OnMarks = Box<dyn FnOnce(Result<LaneMarks, CommitError>) + Send>;

/// What happens when a command is applied or refused.
pub(crate) type OnApplied = Box<dyn FnOnce(Result<Outcome, CommitError>) + Send>;

/// The way to whoever makes things durable. Clones lead to the same one; it ends when the last is gone.
#[derive(Clone)]
pub(crate) enum CommitQueue {
    /// The committer of a local log. Who finds it full waits.
    Log(Sender<Message>),
    /// Segments of a cluster. Who finds too much waiting is refused.
    Cluster(ClusterQueue),
}

impl CommitQueue {
    /// Hands a message over; gives it back if nobody takes any more.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        match self {
            CommitQueue::Log(sender) => sender.send(message).map_err(|error| error.0),
            CommitQueue::Cluster(queue) => queue.send(message),
        }
    }

    /// Whether the next message may have to wait.
    pub(crate) fn is_congested(&self) -> bool {
        match self {
            CommitQueue::Log(sender) => sender.len() > QUEUE / 2,
            // Nobody waits there.
            CommitQueue::Cluster(_) => false,
        }
    }
}

/// What is asked of whoever makes things durable.
pub(crate) enum Message {
    /// Make a batch durable, then visible, then call. With a mark: unless it is known already, and
    /// move the mark in the same frame.
    /// `input` is what is aggregated instead, by numbers of its own registry; it is in the same frame.
    Write {
        batch: Box<ResolvedBatch>,
        input: Option<Box<ResolvedBatch>>,
        mark: Option<Box<Mark>>,
        done: OnStored,
    },
    /// Make lines durable, unless their push is known, then visible, then call.
    WriteLines { lines: Box<NewLines>, done: OnLines },
    /// End the windows of aggregation that end at a time, durably, then call.
    EndWindows { at_ms: i64, done: OnApplied },
    /// Tell an incarnation's marks when everything sent before is durable.
    Marks { agent: Arc<str>, incarnation: Incarnation, done: OnMarks },
    /// Apply a command, durably, then call.
    Command { command: Command, done: OnApplied },
    /// Hide what is stored until now, durably, then call.
    Delete { request: DeleteRequest, done: OnApplied },
    /// Answer when every write sent before is with the shards.
    Fence { done: Box<dyn FnOnce() + Send> },
    /// Start a new log file and freeze what the shards hold. Whoever wants to copy the store also
    /// wants the catalog as of the cut.
    Cut { with_state: bool, reply: Sender<Result<Cut, CommitError>> },
    /// Remove log files that lie wholly before the position and that nobody reads.
    Truncate { through: LogPosition },
    /// Remove flushed log files that were kept for readers and are not needed any more.
    LetGo,
}

/// A point in the log and the rows that lie before it and are in no block yet.
pub(crate) struct Cut {
    /// All frames before it are in the parts or in blocks.
    pub(crate) through: LogPosition,
    /// Where to wait for each shard's parts.
    pub(crate) parts: Vec<Receiver<Vec<CutData>>>,
    /// Where to wait for all lines before it that are in no block.
    pub(crate) lines: Receiver<Vec<Arc<FrozenHead>>>,
    /// The last delete before it.
    pub(crate) deletes_through: u64,
    /// The exemplars before it, unless a file has them.
    pub(crate) exemplars: Option<ExemplarSnapshot>,
    /// The catalog at this point, if it was wanted.
    pub(crate) state: Option<State>,
}
