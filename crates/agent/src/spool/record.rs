//! Bytes of file headers and record headers, as drawn in `docs/formats/spool.md`.

use super::Lane;

/// Largest payload of one record.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1 << 26;

pub(super) const FILE_HEADER_LEN: usize = 64;
pub(super) const RECORD_HEADER_LEN: usize = 52;
pub(super) const RECORD_MAGIC: [u8; 4] = [0xf7, b'W', b'F', b'S'];

const FILE_MAGIC: [u8; 8] = *b"WFSPOOL\x1a";
const FILE_VERSION: u8 = 1;

/// The record is a batch.
pub(super) const BATCH: u8 = 1;
/// The record says through where the lanes are acknowledged.
pub(super) const MARKS: u8 = 2;
/// Kinds from here on may be skipped by a reader that does not know them.
const FIRST_OPTIONAL_KIND: u8 = 0x80;

const MARKS_LEN: usize = 16;

/// The name of a spool: what the broker knows it by.
pub(crate) type Incarnation = [u8; 16];

/// The beginning of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) lane: Lane,
    pub(super) number: u64,
    /// The file before it in the lane, and where its last good record ended; zeros if none.
    pub(super) previous: u64,
    pub(super) previous_len: u64,
    pub(super) incarnation: Incarnation,
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
        bytes[9] = self.lane as u8;
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_len.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.incarnation);
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; FILE_HEADER_LEN]) -> HeaderFound {
        if bytes[..8] != FILE_MAGIC || crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return HeaderFound::Damaged;
        }
        if bytes[8] > FILE_VERSION {
            return HeaderFound::Newer(bytes[8]);
        }
        let Some(lane) = Lane::ALL.into_iter().find(|lane| *lane as u8 == bytes[9]) else {
            return HeaderFound::Damaged;
        };
        let mut incarnation = [0; 16];
        incarnation.copy_from_slice(&bytes[40..56]);
        HeaderFound::Good(FileHeader {
            lane,
            number: u64_at(bytes, 16),
            previous: u64_at(bytes, 24),
            previous_len: u64_at(bytes, 32),
            incarnation,
        })
    }
}

/// What binds the records of a file to it: the hash of spool, lane and file, still open.
#[derive(Debug, Clone)]
pub(super) struct FileSeal(crc32fast::Hasher);

impl FileSeal {
    pub(super) fn new(incarnation: &Incarnation, lane: Lane, number: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(incarnation);
        hasher.update(&[lane as u8]);
        hasher.update(&number.to_le_bytes());
        FileSeal(hasher)
    }

    fn checksum(&self, offset: u64, header: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(header);
        hasher.finalize()
    }
}

/// The beginning of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: u8,
    /// Whether all records before it in its file were durable when it was written.
    pub(super) after_sync: bool,
    pub(super) payload_len: u32,
    pub(super) payload_checksum: u32,
    pub(super) seq: u64,
    pub(super) created_ms: i64,
    pub(super) samples: u32,
    /// Last staged pass that is part of the batch; 0 if none is.
    pub(super) staged_through: u64,
}

/// What is found where a record header should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordFound {
    Good(RecordHeader),
    /// Genuine, of a kind that this program must know and does not.
    Newer(u8),
    Damaged,
}

impl RecordHeader {
    /// Header of the marks and their payload.
    pub(super) fn of_marks(live: u64, backlog: u64) -> (Self, [u8; MARKS_LEN]) {
        let mut payload = [0; MARKS_LEN];
        payload[..8].copy_from_slice(&live.to_le_bytes());
        payload[8..].copy_from_slice(&backlog.to_le_bytes());
        let header = RecordHeader {
            kind: MARKS,
            after_sync: false,
            payload_len: MARKS_LEN as u32,
            payload_checksum: crc32fast::hash(&payload),
            seq: 0,
            created_ms: 0,
            samples: 0,
            staged_through: 0,
        };
        (header, payload)
    }

    /// Bytes of the whole record.
    pub(super) fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + u64::from(self.payload_len)
    }

    pub(super) fn encode(&self, seal: &FileSeal, offset: u64) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = [0; RECORD_HEADER_LEN];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4] = self.kind;
        bytes[5] = u8::from(self.after_sync);
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_checksum.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.samples.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.staged_through.to_le_bytes());
        let checksum = seal.checksum(offset, &bytes[..48]);
        bytes[48..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at `offset` of the file that `seal` belongs to.
    pub(super) fn decode(
        bytes: &[u8; RECORD_HEADER_LEN],
        seal: &FileSeal,
        offset: u64,
    ) -> RecordFound {
        let genuine = bytes[..4] == RECORD_MAGIC
            && seal.checksum(offset, &bytes[..48]) == u32_at(bytes, 48)
            && u32_at(bytes, 8) as usize <= MAX_PAYLOAD_BYTES;
        if !genuine {
            return RecordFound::Damaged;
        }
        let known = matches!(bytes[4], BATCH | MARKS | FIRST_OPTIONAL_KIND..);
        if !known {
            return RecordFound::Newer(bytes[4]);
        }
        RecordFound::Good(RecordHeader {
            kind: bytes[4],
            after_sync: bytes[5] & 1 == 1,
            payload_len: u32_at(bytes, 8),
            payload_checksum: u32_at(bytes, 12),
            seq: u64_at(bytes, 16),
            created_ms: i64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes")),
            samples: u32_at(bytes, 32),
            staged_through: u64_at(bytes, 40),
        })
    }
}

/// The marks in a payload of theirs: acknowledged through in `live` and in `backlog`.
pub(super) fn decode_marks(payload: &[u8]) -> Option<(u64, u64)> {
    (payload.len() == MARKS_LEN).then(|| (u64_at(payload, 0), u64_at(payload, 8)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
