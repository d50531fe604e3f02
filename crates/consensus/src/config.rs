//! What a member is told, what it tells, and what can go wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use blockstore::BlobError;
use catalog::CatalogError;

use crate::journal::JournalError;
use crate::log_store::Writing;
use crate::machine::SnapshotError;
use crate::types::Member;

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
    /// After so long without a leader, and up to half as much more, somebody stands for election.
    pub election_timeout_ms: u64,
    /// A voter that is silent for so long is replaced, milliseconds.
    pub replace_after_ms: u64,
    /// Entries after which the state is written down and the log shortened.
    pub snapshot_every: u64,
    /// Bytes of the log in memory after which that is done as well.
    pub max_log_bytes: u64,
    /// Where the log is written.
    pub writing: Writing,
}

impl ConsensusConfig {
    /// The defaults: a new leader within two seconds.
    pub fn new(id: u64, member: Member) -> Self {
        ConsensusConfig {
            id,
            member,
            directory: "consensus".to_owned(),
            heartbeat_ms: 150,
            election_timeout_ms: 750,
            replace_after_ms: 300_000,
            snapshot_every: 5_000,
            max_log_bytes: 64 << 20,
            writing: Writing::Thread,
        }
    }
}

/// What to do about a log or a snapshot that is damaged.
pub(crate) const BEGIN_ANEW: &str = "Move the directory `consensus` of this broker's data away and \
    let it join the cluster again: the voters have what was acknowledged, and take it in as a new \
    one. They can only while a majority of them runs without it; if this broker was the only voter \
    nobody has it, and the directory must be brought back from a copy";

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
    /// Whether one set of voters is taking the place of another: a majority of each must agree then.
    pub is_changing_voters: bool,
    /// Bytes of its log that are in memory.
    pub log_bytes: u64,
    /// Why it has stopped, if it has.
    pub stopped: Option<String>,
}
