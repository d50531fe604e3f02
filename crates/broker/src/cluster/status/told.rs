//! What is told of a cluster: to users as JSON, by one broker to another the same way. Programs of
//! another version may leave out fields or have more, so that everything has a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::DrainProgress;

/// A cluster as one of its brokers sees it, or one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// Whether brokers agree with one another here; else this is one machine, and what only a cluster
    /// has is empty.
    pub is_cluster: bool,
    /// The worst of what was found.
    pub verdict: Level,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// The broker that was asked; empty for one machine.
    pub asked: String,
    /// Its clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// What the brokers agree by.
    pub consensus: Option<ConsensusStatus>,
    /// All that belong to it, by name.
    pub members: Vec<MemberStatus>,
    /// Grows when a broker comes, goes, begins to drain or changes its zone.
    pub ring_epoch: u64,
    /// Leases by job, at most [`MAX_LEASES_TOLD`].
    pub leases: Vec<LeaseStatus>,
    /// Leases there are.
    pub lease_count: u64,
    /// Segments that are in no block, of all brokers.
    pub segments: Amount,
    /// Blocks.
    pub blocks: Amount,
    /// Load by tenant, the greatest first, of all brokers that could be asked, at most
    /// [`MAX_TENANTS_TOLD`].
    pub tenants: Vec<TenantLoad>,
}

/// Most leases that are told.
pub const MAX_LEASES_TOLD: usize = 200;
/// Most tenants that are told.
pub const MAX_TENANTS_TOLD: usize = 100;

/// Most things of each broker that are told to be missing.
pub const MAX_MISSING_TOLD: usize = 20;

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes of all together.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// The consensus, as the broker that was asked sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsensusStatus {
    /// Who leads; `None` if it knows none.
    pub leader: Option<String>,
    /// The term it is in.
    pub term: u64,
    /// The last entry of its log.
    pub last_index: u64,
    /// The last entry that is in its catalog.
    pub applied_index: u64,
    /// Members that vote.
    pub voters: u64,
    /// Voters that answer, as far as it is known.
    pub voters_alive: u64,
    /// Voters that must answer, so that anything can be agreed upon.
    pub majority: u64,
    /// Why its part has stopped, if it has.
    pub stopped: Option<String>,
}

/// Whether a broker lives, as the cluster knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Liveness {
    /// It renews its lease.
    Alive,
    /// Its lease is over.
    Silent,
    /// It has not had a lease yet.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Whether a broker takes part in the votes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// It votes.
    Voter,
    /// It listens, and becomes a voter when one is lacking.
    Learner,
    /// It is not a member of the consensus.
    #[default]
    #[serde(other)]
    None,
}

/// One broker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberStatus {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where other processes reach it, `HOST:PORT`.
    pub address: String,
    /// Its failure domain; empty if none was named.
    pub zone: String,
    /// Whether it lives.
    pub liveness: Liveness,
    /// For how long it has been silent, milliseconds; 0 unless it is.
    pub silent_ms: u64,
    /// Whether it gives up its work and leaves.
    pub is_draining: bool,
    /// Whether the catalog no longer lists it: it left, and its vote is still counted.
    pub has_left: bool,
    /// Its part in the votes.
    pub part: Part,
    /// Whether it leads.
    pub is_leader: bool,
    /// Of its log of segments.
    pub epoch: u64,
    /// Entries of the consensus that it lacks; `None` where neither the leader nor itself told.
    pub lag_entries: Option<u64>,
    /// Its part of the ring, 0 to 1; 0 where it is not on it.
    pub ring_share: f64,
    /// Segments of its that are in no block.
    pub segments: Amount,
    /// Rows in those.
    pub segment_rows: u64,
    /// For how long, at least, the oldest of them has waited to be in a block, milliseconds.
    pub unflushed_ms: u64,
    /// What it tells itself; `None` if it could not be asked.
    pub report: Option<BrokerReport>,
    /// Why it could not be asked; empty if it could.
    pub fault: String,
    /// How far its clock is ahead of that of the broker that was asked, milliseconds; as exact as half
    /// of the time that it took to answer.
    pub clock_ahead_ms: Option<i64>,
}

/// What a broker tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerReport {
    /// Version of its program.
    pub version: String,
    /// Its clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// When it started.
    pub started_ms: i64,
    /// The last entry of the consensus that is in its catalog.
    pub applied_index: u64,
    /// Memory of batches on their way to the store.
    pub waiting_bytes: u64,
    /// Its stores, as they were to it in the last minute.
    pub stores: Vec<StoreReport>,
    /// Its load by tenant, the greatest first.
    pub tenants: Vec<TenantLoad>,
    /// What it cannot read because it is damaged or gone, in words, at most [`MAX_MISSING_TOLD`].
    pub missing: Vec<String>,
    /// How much that is in all.
    pub missing_count: u64,
    /// Its `storage.retention_rules` in words: equal ones say the same, others do not. `None` where a
    /// program of before is asked.
    pub retention_rules: Option<String>,
    /// Of its rules and its configuration of notifications, what they have in common with those of others: equal
    /// ones say the same, others do not. `None` where none are evaluated, or a program of before is asked.
    pub alerting: Option<String>,
    /// How far it is on its way out of the cluster; `None` while nobody asked it to leave.
    pub drain: Option<DrainReport>,
}

/// How far a broker is on its way out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainReport {
    /// What it is at: `serving`, `finishing`, `flushing`, `leaving` or `left`.
    pub step: String,
    /// Segments that are in no block yet.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Why it does not get on, if it does not: it goes on trying.
    pub trouble: Option<String>,
}

impl From<DrainProgress> for DrainReport {
    fn from(progress: DrainProgress) -> Self {
        let DrainProgress { step, segments, segment_bytes, trouble } = progress;
        DrainReport { step: step.name().to_owned(), segments, segment_bytes, trouble }
    }
}

/// A store as one broker meets it, in the last minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreReport {
    /// The tier it serves.
    pub store: String,
    /// Where it is, without secrets.
    pub url: String,
    /// How long the time is that is told of, milliseconds.
    pub window_ms: u64,
    /// By kind of request, those that there were.
    pub operations: Vec<OperationReport>,
    /// The cache of its chunks on the local disk, if there is one; of a shared cache, what it had itself.
    pub cache: Option<CacheReport>,
    /// What of a shared cache is left alone for now, each in words.
    pub away: Vec<String>,
}

/// One kind of request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationReport {
    /// `put`, `get` and so on: the label of the metrics.
    pub operation: String,
    /// Requests that ended.
    pub requests: u64,
    /// Half of them took at most so long, milliseconds: the upper bound of a bucket of the histogram.
    /// `None` if they took longer than all bounds.
    pub p50_ms: Option<u64>,
    /// 99 of 100.
    pub p99_ms: Option<u64>,
    /// Those that failed, by kind of error.
    pub errors: BTreeMap<String, u64>,
}

/// A cache of chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheReport {
    /// Chunks that were read from it.
    pub hits: u64,
    /// Chunks that had to be fetched.
    pub misses: u64,
    /// Those of them that came from another broker's cache.
    pub neighbours: u64,
    /// Its size.
    pub bytes: u64,
}

/// What a tenant brings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantLoad {
    /// Its name.
    pub name: String,
    /// Samples stored, a second; `None` while that is not known yet.
    pub samples_per_second: Option<f64>,
    /// Series with samples in memory, those of all brokers added up: one that is written to two brokers
    /// counts twice.
    pub active_series: u64,
    /// The limit of those, at each broker.
    pub max_active_series: u64,
}

/// A lease of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseStatus {
    /// The job.
    pub job: String,
    /// Id of the broker that may do it.
    pub holder: String,
    /// Its name; empty if the catalog no longer lists it.
    pub holder_name: String,
    /// Grows with every holder.
    pub term: u64,
    /// Until then nobody else gets it, milliseconds since the epoch.
    pub until_ms: i64,
}

/// How bad something is, from good to bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be, or worth knowing.
    #[default]
    Ok,
    /// It works, but not as well or as safely as it could.
    Warn,
    /// Something does not work, or data is in danger.
    #[serde(other)]
    Bad,
}

/// Something that was found. Its words are whoever shows it's, in the language of who reads it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Finding {
    /// What: one of [`super::Code`], or what a newer program knows.
    pub code: String,
    /// How bad it is.
    pub level: Level,
    /// What the words are filled with: texts and whole numbers.
    pub values: BTreeMap<String, Value>,
}
