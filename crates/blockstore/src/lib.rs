//! Log, segments and the life of immutable blocks.
//!
//! | module | what |
//! |---|---|
//! | `disk` | files with the durability rules of POSIX: [`FileDisk`], [`MemoryDisk`] |
//! | `log` | the local log: [`LogReader`] at a start, then [`LogWriter`] |
//! | `blobs` | an object store as seen from here: [`Blobs`] |
//! | `format` | what one signal's blocks can do: [`BlockFormat`] |
//! | `quarantine` | where damaged bytes are kept |
//! | `counters` | what this crate counts about itself |
//!
//! Everything is synchronous, and logic is pure: time and randomness come in as arguments, and
//! only [`FileDisk`] touches the file system.
#![warn(clippy::cast_possible_truncation)]

mod blobs;
mod counters;
mod disk;
mod format;
mod log;
mod quarantine;

pub use blobs::{BlobError, BlobInfo, BlobWriter, Blobs, ReadAt};
pub use counters::{Counter, CounterRow, Counters};
pub use disk::{Disk, DiskFile, FileDisk, MemoryDisk, OpenError};
pub use format::{BlockError, BlockFormat, BlockSummary, MergeError};
pub use log::{
    Damage, Frame, FrameKind, LogError, LogPosition, LogReader, LogWriter, MAX_PAYLOAD_BYTES,
    ReplayReport,
};
