//! The state machine of what exists: blocks, how far the log is flushed, which batches
//! of agents are stored, what was deleted, versioned keys.
//!
//! [`State::apply`] is the only way the state changes, and it is a function of the state and the
//! command alone: the same commands in the same order give the same state on every machine. Alone,
//! a command is a frame of the local log; in a cluster it comes out of consensus. Both formats are
//! drawn in `docs/formats/catalog.md`.
//!
//! | module | what |
//! |---|---|
//! | `state` | [`State`], its invariants, what each command does |
//! | `command` | [`Command`] and its bytes |
//! | `cluster` | brokers, segments, leases |
//! | `ring` | which broker is nearest to a key |
//! | `marks` | which batches of which agent are stored |
//! | `tombstone` | deletes whose rows are not removed yet |
//! | `snapshot` | the bytes of a whole [`State`] |
//! | `block` | what the manifest knows of a block |
//! | `envelope` | version byte and checksum around both formats |

mod block;
mod cluster;
mod cluster_bytes;
mod command;
mod deletes;
mod envelope;
mod error;
mod marks;
mod pushes;
mod ring;
mod snapshot;
mod state;
mod tombstone;

pub use block::{BlockId, BlockMeta, LogPosition, NewBlock, Signal, StoreId};
pub use cluster::{
    BROKER_LEASES, Broker, BrokerId, BrokerInfo, BrokerState, Lease, LeaseClaim,
    MAX_BATCHES_PER_SEGMENT, MAX_BROKERS, MAX_LEASES, MAX_SEGMENTS_PER_BROKER, MAX_UNREAD_SEGMENTS,
    NewSegment, PassedOver, Segment, segment_key,
};
pub use command::{Command, Expected};
#[cfg(debug_assertions)]
pub use envelope::pose_as_next;
pub use envelope::{
    FEATURE_LEVEL, FORMAT_VERSION, LOGS_LEVEL, PUSHES_LEVEL, feature_level, format_version,
};
pub use error::CatalogError;
pub use marks::{
    Incarnation, Lane, LaneMarks, MAX_AGENT_NAME_BYTES, MAX_INCARNATIONS,
    MAX_INCARNATIONS_PER_AGENT, Mark, Standing,
};
pub use pushes::{MAX_PUSHES, PushMark};
pub use ring::{Ring, RingBroker};
pub use state::{KeyValue, MAX_KEY_BYTES, MAX_VALUE_BYTES, Outcome, State};
pub use tombstone::{
    KEEPS_DELETES, LabelCondition, MAX_KEPT_TOMBSTONES, MAX_TOMBSTONE_BYTES,
    MAX_TOMBSTONE_SELECTORS, MAX_TOMBSTONES, Tombstone,
};
