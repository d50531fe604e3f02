//! Bytes of file headers and frame headers, as drawn in `docs/formats/log.md`.

use catalog::{LogPosition, StoreId};

use super::FrameKind;

/// Largest payload of one frame.
pub const MAX_PAYLOAD_BYTES: u64 = 1 << 30;

pub(super) const FILE_MAGIC: [u8; 8] = *b"WFLOG\r\n\x1a";
pub(super) const FILE_VERSION: u8 = 1;
pub(super) const FILE_HEADER_LEN: usize = 56;

pub(super) const FRAME_MAGIC: [u8; 4] = [0xf7, b'W', b'F', b'L'];
pub(super) const FRAME_HEADER_LEN: usize = 20;

/// Kinds from here on may be skipped by a reader that does not know them.
pub(super) const FIRST_OPTIONAL_KIND: u8 = 0x80;

/// The highest kind this program knows.
pub(super) const LAST_KIND: u8 = FrameKind::AgentLogs as u8;

impl FrameKind {
    pub(super) fn from_number(number: u8) -> Option<FrameKind> {
        [
            FrameKind::CatalogSnapshot,
            FrameKind::CatalogCommand,
            FrameKind::Metrics,
            FrameKind::AgentMetrics,
            FrameKind::Aggregated,
            FrameKind::AggregationEnd,
            FrameKind::Logs,
            FrameKind::AgentLogs,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// The beginning of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) sequence: u64,
    /// Where the file before it ended; zero if there was none.
    pub(super) previous: LogPosition,
    /// Whether all of the file before it was durable by then.
    pub(super) previous_synced: bool,
    pub(super) store: StoreId,
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFound {
    Good(FileHeader),
    Newer(u8),
    Damaged,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut bytes = [0; FILE_HEADER_LEN];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8] = FILE_VERSION;
        bytes[9] = u8::from(self.previous_synced);
        bytes[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.previous.file.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.previous.offset.to_le_bytes());
        bytes[36..52].copy_from_slice(&self.store.0);
        let checksum = crc32fast::hash(&bytes[..52]);
        bytes[52..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; FILE_HEADER_LEN]) -> HeaderFound {
        if bytes[..8] != FILE_MAGIC || crc32fast::hash(&bytes[..52]) != u32_at(bytes, 52) {
            return HeaderFound::Damaged;
        }
        if bytes[8] > FILE_VERSION {
            return HeaderFound::Newer(bytes[8]);
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[36..52]);
        HeaderFound::Good(FileHeader {
            sequence: u64_at(bytes, 12),
            previous: LogPosition { file: u64_at(bytes, 20), offset: u64_at(bytes, 28) },
            previous_synced: bytes[9] & 1 == 1,
            store: StoreId(store),
        })
    }
}

/// What binds the frames of a file to it: the hash of store and sequence, still open.
#[derive(Debug, Clone)]
pub(super) struct FileSeal(crc32fast::Hasher);

impl FileSeal {
    pub(super) fn new(store: StoreId, sequence: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&store.0);
        hasher.update(&sequence.to_le_bytes());
        FileSeal(hasher)
    }

    fn checksum(&self, offset: u64, header: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(header);
        hasher.finalize()
    }
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: u8,
    /// Whether all frames before it in its file were durable when it was written.
    pub(super) after_sync: bool,
    pub(super) payload_len: u32,
    pub(super) payload_checksum: u32,
}

impl FrameHeader {
    /// The header of a frame whose payload is `parts`, one after the other; `None` if it is above
    /// the limit.
    pub(super) fn of(kind: FrameKind, parts: &[&[u8]], after_sync: bool) -> Option<Self> {
        let len = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let payload_len = u32::try_from(len).ok().filter(|_| len <= MAX_PAYLOAD_BYTES)?;
        let mut hasher = crc32fast::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let payload_checksum = hasher.finalize();
        Some(FrameHeader { kind: kind as u8, after_sync, payload_len, payload_checksum })
    }

    pub(super) fn encode(&self, seal: &FileSeal, offset: u64) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = [0; FRAME_HEADER_LEN];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4] = self.kind;
        bytes[5] = u8::from(self.after_sync);
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = seal.checksum(offset, &bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at `offset` of the file that `seal` belongs to; `None` if it is not one.
    pub(super) fn decode(
        bytes: &[u8; FRAME_HEADER_LEN],
        seal: &FileSeal,
        offset: u64,
    ) -> Option<Self> {
        let genuine = bytes[..4] == FRAME_MAGIC
            && seal.checksum(offset, &bytes[..16]) == u32_at(bytes, 16)
            && u64::from(u32_at(bytes, 8)) <= MAX_PAYLOAD_BYTES;
        genuine.then(|| FrameHeader {
            kind: bytes[4],
            after_sync: bytes[5] & 1 == 1,
            payload_len: u32_at(bytes, 8),
            payload_checksum: u32_at(bytes, 12),
        })
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_len(&self) -> u64 {
        FRAME_HEADER_LEN as u64 + u64::from(self.payload_len)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
