//! The catalog, agreed upon by several brokers.
//!
//! openraft decides what is agreed; this crate gives it a log that is synced before anybody hears of
//! it, a state machine that is `catalog::State`, a wire format, and elections that disturb nobody: a
//! member asks the others whether they would vote for it before it begins a term, so that one which
//! comes back from the dark cannot depose a leader that all others hear.
//!
//! Nothing here opens a socket: members reach each other through a [`Transport`] of the caller's, and
//! the disk is the caller's as well, so that a whole cluster can be simulated on one thread.
//!
//! | module | what |
//! |---|---|
//! | `member`, `config` | [`Consensus`]: propose, read, join |
//! | `answers`, `reads` | what a member does for others, and asks of the leader |
//! | `membership` | who is taken in and out |
//! | `election`, `voters` | when to ask for votes, and whom |
//! | `guard` | what ends a member, and keeps its log small |
//! | `record`, `journal`, `log_store` | the log in memory, on the disk, and as openraft wants it |
//! | `machine`, `sessions` | the state, its snapshots, who waits for what |
//! | `receiving` | a snapshot that another member sends |
//! | `message`, `bytes_of` | bytes on the wire and on the disk |
//! | `network` | [`Transport`] |
//! | `runtime` | tokio with chance that can be seeded |

mod answers;
mod bytes_of;
mod config;
mod election;
mod guard;
mod journal;
mod log_store;
mod machine;
mod member;
mod membership;
mod message;
mod network;
mod reads;
mod receiving;
mod record;
mod runtime;
mod sessions;
mod types;
mod voters;

pub use bytes_of::Malformed;
pub use config::{ConsensusConfig, ConsensusError, ProposeError, Status, Voting};
pub use journal::JournalError;
pub use log_store::{Failure, Latency, OnFailure, Writing};
pub use machine::{Observer, SnapshotError};
pub use member::Consensus;
pub use network::{Call, Transport, TransportError};
pub use runtime::{Chance, Runtime, seed_chance};
pub use types::{Applied, Member, Proposal, Seat, Types};
