//! The local log: what is written here and synced survives everything but the disk itself.
//!
//! Drawn in `docs/formats/log.md`. A start reads with [`LogReader`]: first the catalog, then the
//! data that is not yet in blocks; [`LogWriter::open`] then begins a new file behind it.

mod frame;
mod reader;
mod repair;
mod scan;
mod tail;
mod writer;

use bytes::Bytes;
pub use catalog::LogPosition;

use crate::blobs::BlobError;

pub use frame::MAX_PAYLOAD_BYTES;
pub use reader::{Damage, LogReader, ReplayReport};
pub use tail::{LogTail, Tailed};
pub use writer::LogWriter;

/// What a frame holds. The number is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// `catalog::State::encode`: replaces all that came before.
    CatalogSnapshot = 1,
    /// `catalog::Command::encode`.
    CatalogCommand = 2,
    /// Samples.
    Metrics = 3,
    /// An agent's mark, and the samples of its batch.
    AgentMetrics = 4,
    /// Samples that are aggregated, and those of the same batch that are stored.
    Aggregated = 5,
    /// The end of windows of aggregation.
    AggregationEnd = 6,
    /// Lines of logs, and which pushes were stored.
    Logs = 7,
    /// An agent's mark, and the lines of its batch.
    AgentLogs = 8,
}

/// One frame of the log.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where the frame begins.
    pub position: LogPosition,
    /// Where the next begins: what is flushed through here includes this frame.
    pub end: LogPosition,
    /// What it holds.
    pub kind: FrameKind,
    /// Its bytes, a share of the buffer they were read into: hand it to another thread as it is.
    /// The buffer, some megabytes, lives until its last payload is dropped.
    pub payload: Bytes,
}

/// Why the log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An earlier fault left the file in an unknown state. Nothing is written any more until the
    /// process starts anew.
    #[error("the log takes no more writes since: {reason}; restart the process")]
    Poisoned {
        /// The earlier fault.
        reason: String,
    },
    /// A payload that no reader would take back.
    #[error(
        "a log frame of {found_bytes} bytes is above the limit of {limit_bytes}: split the batch"
    )]
    TooLarge {
        /// Bytes in the payload.
        found_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A newer program wrote the log.
    #[error(
        "{what} of {file} is {found}, this program knows up to {supported}: needs a watchfire \
         that knows {what} >= {found}"
    )]
    Newer {
        /// What is unknown.
        what: &'static str,
        /// The file.
        file: String,
        /// What it says.
        found: u8,
        /// The highest this program knows.
        supported: u8,
    },
    /// The disk failed. `Full` leaves the log as it was, and writes may be tried again.
    #[error(transparent)]
    Disk(#[from] BlobError),
}

/// Directory of the log.
const DIRECTORY: &str = "log";

/// What a file of the log is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameKind {
    Log,
    Copy,
    Moved,
}

fn log_path(sequence: u64) -> String {
    format!("{DIRECTORY}/{sequence:020}.wfl")
}

fn copy_path(sequence: u64) -> String {
    format!("{DIRECTORY}/{sequence:020}.copy")
}

/// On its way from the name `from` to where it belongs.
fn moved_path(sequence: u64, from: u64) -> String {
    format!("{DIRECTORY}/{sequence:020}-{from:020}.moved")
}

/// Kind and sequence of a path that this module made.
fn parse_path(path: &str) -> Option<(NameKind, u64)> {
    let name = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
    let (stem, extension) = name.split_once('.')?;
    let kind = match extension {
        "wfl" => NameKind::Log,
        "copy" => NameKind::Copy,
        "moved" => NameKind::Moved,
        _ => return None,
    };
    let digits = stem.split_once('-').map_or(stem, |(sequence, _)| sequence);
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((kind, digits.parse().ok().filter(|_| plain)?))
}
