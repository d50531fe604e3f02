//! Why a command is refused or bytes cannot be read.

use crate::{BlockId, BrokerId, LogPosition};

/// A refused command changes nothing; bytes that cannot be decoded yield nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The data directory or cluster already is another store.
    #[error("a store exists already: a store is created once, in an empty data directory")]
    StoreExists,
    /// A command names a block that does not exist, or no longer.
    #[error("block {id} is not in the catalog: another command removed it, plan again")]
    UnknownBlock {
        /// The block named.
        id: BlockId,
    },
    /// A command adds a block whose id is taken, or names a block twice.
    #[error("block {id} is named twice or exists already: reserve a new id")]
    DuplicateBlock {
        /// The id.
        id: BlockId,
    },
    /// A swap would mix what must stay apart, or make the order of commits undecidable.
    #[error("block {id} cannot take part in this swap: {reason}; plan again")]
    UnfitBlock {
        /// The block that does not fit.
        id: BlockId,
        /// Why.
        reason: &'static str,
    },
    /// A batch that should follow itself or a later one.
    #[error("batch {seq} cannot follow batch {after_seq}: numbers of a lane only grow")]
    UnfitMark {
        /// Its number.
        seq: u64,
        /// The number it is said to follow.
        after_seq: u64,
    },
    /// A flush claims less than an earlier one.
    #[error("flushed through {found}, but an earlier flush reached {reached}: positions only grow")]
    FlushedBackwards {
        /// What the command says.
        found: LogPosition,
        /// What the state says.
        reached: LogPosition,
    },
    /// A delete whose number is not above those before it.
    #[error("delete {number} is not above {last}, the last one: plan again")]
    StaleDelete {
        /// Its number.
        number: u64,
        /// The highest number so far.
        last: u64,
    },
    /// A delete that can hide nothing.
    #[error("a delete needs a range of time that is not empty, and selectors that say something")]
    VoidDelete,
    /// A delete with too many selectors.
    #[error(
        "a delete has {found} selectors, the limit is {limit}: make several deletes, or unite \
         selectors by a pattern"
    )]
    TooManySelectors {
        /// How many it has.
        found: usize,
        /// The most it may have.
        limit: usize,
    },
    /// Too many deletes wait for their rows to be removed.
    #[error(
        "{limit} deletes wait for their rows to be removed, which is the limit: call \
         /api/v1/admin/tsdb/clean_tombstones, then delete again"
    )]
    TooManyDeletes {
        /// The most there may be.
        limit: usize,
    },
    /// A command that says less about deletes than is known.
    #[error("deletes through {found} are stated, but {reached} are done already: plan again")]
    DeletesBackwards {
        /// What the command says.
        found: u64,
        /// What the state says.
        reached: u64,
    },
    /// The key has another version than the writer expected: someone else wrote it meanwhile.
    #[error(
        "key {key:?} has version {found}, {expected} was expected (0 is absent): read it again"
    )]
    VersionConflict {
        /// The key.
        key: String,
        /// What the command expected.
        expected: u64,
        /// What the state has.
        found: u64,
    },
    /// A limit of the catalog.
    #[error("{what} has {found}, the limit is {limit}: keep large things in blobs")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A command names a broker that is not in the cluster.
    #[error("broker {broker} is not in this cluster: it was removed, or never joined")]
    UnknownBroker {
        /// The broker named.
        broker: BrokerId,
    },
    /// A program that would not understand what the cluster has agreed upon.
    #[error(
        "the cluster is at feature level {level}, which all of its brokers know, and this program knows \
         {found}: start this broker with the version of the others"
    )]
    OldProgram {
        /// What the broker says.
        found: u32,
        /// What all others said.
        level: u32,
    },
    /// A broker that still has something that is in no block.
    #[error(
        "broker {broker} has {segments} segments that are in no block yet: drain it, or let another \
         broker take them over first"
    )]
    UnflushedBroker {
        /// The broker.
        broker: BrokerId,
        /// How many.
        segments: u64,
    },
    /// Nobody would take writes any more.
    #[error(
        "no other broker of the cluster takes writes, so broker {broker} cannot leave: start another one first"
    )]
    LastBroker {
        /// The broker that would leave.
        broker: BrokerId,
    },
    /// A segment is not one of those that could not be read.
    #[error("segment {seq} of broker {broker} is not missing, or no longer: plan again")]
    NotMissing {
        /// Whose.
        broker: BrokerId,
        /// Its number.
        seq: u64,
    },
    /// The log of a broker went on to another epoch: the broker began anew, or another took over.
    #[error(
        "the log of broker {broker} is in epoch {reached}, and this was written in {epoch}: begin \
         anew"
    )]
    Fenced {
        /// The broker.
        broker: BrokerId,
        /// What the command says.
        epoch: u64,
        /// What the state says.
        reached: u64,
    },
    /// A segment that comes too late, or a flush that goes back.
    #[error("segment {seq} comes too late: {least} is the lowest that can be added")]
    StaleSegment {
        /// Its number.
        seq: u64,
        /// The lowest that would do.
        least: u64,
    },
    /// A segment that contradicts itself.
    #[error("the marks of segment {seq} are not in the order of its batches")]
    UnfitSegment {
        /// Its number.
        seq: u64,
    },
    /// Another broker does the job.
    #[error("broker {holder} has the lease of {job:?} until {until_ms} ms: wait")]
    LeaseHeld {
        /// The job.
        job: String,
        /// Who has it.
        holder: BrokerId,
        /// Until when, milliseconds since the epoch.
        until_ms: i64,
    },
    /// What was done under a lease that another has by now.
    #[error("the lease of {job:?} with term {term} is over: what was done under it does not count")]
    LeaseLost {
        /// The job.
        job: String,
        /// The term it was done in.
        term: u64,
    },
    /// Bytes are not what was written.
    #[error("catalog bytes are corrupt at offset {offset}: {detail}")]
    Corrupt {
        /// Where it was noticed.
        offset: usize,
        /// What is wrong.
        detail: &'static str,
    },
    /// A newer program wrote the bytes.
    #[error(
        "catalog format has version {found}, this program reads up to {supported}: needs a \
         watchfire that reads catalog format >= {found}"
    )]
    NewerVersion {
        /// What the bytes say.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
}
