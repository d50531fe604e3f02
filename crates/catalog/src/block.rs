//! What the manifest knows of a block, and the positions and identities commands speak of.

use std::fmt;

use model::{TenantId, TimeRange};

/// Identity of a block inside its store. Ids are handed out in ascending order and never reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u64);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

/// Random identity of a store: of a data directory alone, of all brokers in a cluster. It is not
/// shown to clients, see `docs/formats/log.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A place between two frames of the local log. Positions grow in the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LogPosition {
    /// Sequence of the log file; 0 is before the first file.
    pub file: u64,
    /// Offset in bytes from the beginning of that file.
    pub offset: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// Kind of data in a block. Its number is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Signal {
    /// Samples of metrics.
    Metrics = 1,
    /// Lines of logs. Not before version 5 of the catalog.
    Logs = 2,
}

impl Signal {
    /// All there are, in ascending order of their numbers.
    pub const ALL: [Signal; 2] = [Signal::Metrics, Signal::Logs];

    /// The word that names the signal in blob keys and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    /// The signal with this number in the format, if this program knows it.
    pub fn from_number(number: u64) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| *signal as u64 == number)
    }
}

/// A block that a flush or a merge wrote. Its place in the order of commits is not the writer's to
/// say: the state gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewBlock {
    /// A reserved id, also the name of its blob.
    pub id: BlockId,
    /// Whose data it is.
    pub tenant: TenantId,
    /// What data it is.
    pub signal: Signal,
    /// Range of its rows; may be empty only if there are no rows.
    pub range: TimeRange,
    /// Samples, lines or the like.
    pub rows: u64,
    /// Series, streams or the like.
    pub series: u64,
    /// Length of its blob.
    pub size_bytes: u64,
    /// How far it is merged; 0 is a flush.
    pub level: u8,
}

/// A block of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMeta {
    /// Its id, also the name of its blob.
    pub id: BlockId,
    /// Whose data it is.
    pub tenant: TenantId,
    /// What data it is.
    pub signal: Signal,
    /// Range of its rows; empty only if there are no rows.
    pub range: TimeRange,
    /// Samples, lines or the like.
    pub rows: u64,
    /// Series, streams or the like.
    pub series: u64,
    /// Length of its blob.
    pub size_bytes: u64,
    /// How far it is merged; 0 is a flush.
    pub level: u8,
    /// The first flush whose rows it holds. Blocks that overlap in time never interleave: of two
    /// rows with the same series and time the one in the block with the lower sequence wins.
    pub first_sequence: u64,
    /// The last flush whose rows it holds, inclusive.
    pub last_sequence: u64,
    /// Deletes up to this number are done in it, or older than all its rows; later ones are younger
    /// than all its rows. See [`crate::Tombstone::concerns`].
    pub deletes_through: u64,
}

impl BlockMeta {
    /// `block` with its place in the order of commits and deletes.
    pub(crate) fn place(
        block: &NewBlock,
        first_sequence: u64,
        last_sequence: u64,
        deletes_through: u64,
    ) -> Self {
        let NewBlock { id, tenant, signal, range, rows, series, size_bytes, level } = *block;
        BlockMeta {
            id,
            tenant,
            signal,
            range,
            rows,
            series,
            size_bytes,
            level,
            first_sequence,
            last_sequence,
            deletes_through,
        }
    }

    /// The block without its place in the order of commits.
    pub(crate) fn as_new(&self) -> NewBlock {
        NewBlock {
            id: self.id,
            tenant: self.tenant,
            signal: self.signal,
            range: self.range,
            rows: self.rows,
            series: self.series,
            size_bytes: self.size_bytes,
            level: self.level,
        }
    }

    /// Key of its blob.
    pub fn key(&self) -> String {
        self.id.key(self.signal)
    }
}

impl BlockId {
    /// Key of the blob of this block: `blocks/<signal>/<id>.wfb`.
    pub fn key(self, signal: Signal) -> String {
        format!("blocks/{}/{self}.wfb", signal.name())
    }

    /// The id and signal in a key that [`BlockId::key`] made for whichever signal; `None` of any other.
    pub fn of_any_key(key: &str) -> Option<(BlockId, Signal)> {
        Signal::ALL.into_iter().find_map(|signal| Some((BlockId::of_key(key, signal)?, signal)))
    }

    /// The id in a key that [`BlockId::key`] made; `None` of any other.
    pub fn of_key(key: &str, signal: Signal) -> Option<BlockId> {
        let name = key.rsplit('/').next()?.strip_suffix(".wfb")?;
        let id = BlockId(name.parse().ok()?);
        (id.key(signal) == key).then_some(id)
    }
}
