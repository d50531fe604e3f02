//! Log, segments and the life of immutable blocks.
//!
//! | module | what |
//! |---|---|
//! | `disk` | files with the durability rules of POSIX: [`FileDisk`], [`MemoryDisk`] |
//! | `log` | the local log: [`LogReader`] at a start, then [`LogWriter`]; [`LogTail`] beside it |
//! | `segment` | what a broker of a cluster made durable at once: [`SegmentWriter`] |
//! | `ballast` | space in reserve for commands that make room: [`Ballast`] |
//! | `blobs` | an object store as seen from here: [`Blobs`] |
//! | `disk_blobs` | [`Blobs`] on a disk: [`DiskBlobs`] |
//! | `format` | what one signal's blocks can do: [`BlockFormat`] |
//! | `blockset` | the open blocks of a signal: [`BlockSet`] |
//! | `plan` | what to merge, what to forget: [`plan_merge`], [`plan_expire`] |
//! | `quarantine` | where damaged bytes are kept |
//! | `counters` | what this crate counts about itself |
//!
//! Everything is synchronous, and logic is pure: time and randomness come in as arguments, and
//! only [`FileDisk`] touches the file system.
#![warn(clippy::cast_possible_truncation)]

mod ballast;
mod blobs;
mod blockset;
mod counters;
mod disk;
mod disk_blobs;
mod format;
mod in_memory;
mod log;
mod plan;
mod quarantine;
mod segment;

pub use ballast::Ballast;
pub use blobs::{BlobError, BlobInfo, BlobWriter, Blobs, ReadAt};
pub use blockset::{
    BlockSet, DamagedBlock, DeletesOf, MergeOut, Merged, MergedPart, OpenBlock, Orphans,
};
pub use counters::{Counter, CounterRow, Counters};
pub use disk::{Disk, DiskBelow, DiskFile, FileDisk, MemoryDisk, OpenError};
pub use disk_blobs::DiskBlobs;
pub use format::{BlockError, BlockFormat, BlockSummary, MergeError, MergeInput, MergePart};
pub use in_memory::InMemory;
pub use log::{
    Damage, Frame, FrameKind, LogError, LogPosition, LogReader, LogTail, LogWriter,
    MAX_PAYLOAD_BYTES, ReplayReport, Tailed,
};
pub use plan::{
    MergeJob, MergePolicy, ROLLED_LEVEL, Retention, THINNED_LEVEL, plan_expire, plan_merge,
    plan_thin,
};
pub use quarantine::move_file as quarantine_file;
pub use segment::{SegmentBatch, SegmentError, SegmentName, SegmentWriter, read_segment};
