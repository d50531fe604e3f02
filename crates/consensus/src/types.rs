//! What is agreed upon, by whom.

use std::fmt;

use catalog::Command;

use crate::runtime::Runtime;
use crate::sessions::Place;

openraft::declare_raft_types!(
    /// The types of our consensus.
    pub Types:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Seat,
        Entry = openraft::Entry<Types>,
        SnapshotData = Vec<u8>,
        Responder = openraft::impls::OneshotResponder<Types>,
        AsyncRuntime = Runtime,
);

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, Seat>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Seat>;
pub(crate) type StorageError = openraft::StorageError<u64>;

/// Who takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name, for people.
    pub name: String,
    /// Where the others reach it, `HOST:PORT`.
    pub address: String,
    /// The failure domain it stands in; empty if none was named.
    pub zone: String,
}

/// A member, and the log that the others count on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seat {
    pub(crate) member: Member,
    /// The number of its log: a member that lost it and began another must not vote as if it still
    /// knew what it had agreed to.
    pub(crate) incarnation: u64,
}

/// A command, and which proposal it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub(crate) place: Place,
    /// The version of the command's bytes: what every member could read when it was proposed. Whoever
    /// passes it on keeps to it.
    pub(crate) version: u8,
    pub(crate) command: Command,
}

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}: {:?}", self.place.origin, self.place.seq, self.command)
    }
}

/// Nothing: whoever proposed a command learns the outcome when its own member applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied;
