//! One file of a lane: what lies in it, good or bad bytes around it.

use std::sync::Arc;

use blockstore::ReadAt;
use bytes::Bytes;
use memchr::memmem;

use super::record::{FileSeal, RECORD_HEADER_LEN, RECORD_MAGIC, RecordFound, RecordHeader};

/// Bytes read at once while searching for the next record behind bad bytes.
const SEARCH_BYTES: usize = 1 << 16;

/// The unit in which an unreadable chunk is tried again.
const PAGE_BYTES: usize = 1 << 12;

/// A file whose header is good.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: String,
    /// Where its last good record ends; what lies behind is no part of it.
    pub(super) len: u64,
    /// Number of the last batch in it; 0 if there is none.
    pub(super) last_seq: u64,
    /// Whether bad bytes in it have been counted.
    pub(super) damage_known: bool,
    seal: FileSeal,
    file: Arc<dyn ReadAt>,
}

/// What lies at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A record that ends within the segment.
    Record(RecordHeader),
    /// No record begins here; one does at `next`, or none does any more.
    Bad { next: Option<u64> },
    /// A record of a kind that this program must know and does not.
    Newer(u8),
    /// The end.
    End,
}

impl Segment {
    pub(super) fn new(
        number: u64,
        path: String,
        seal: FileSeal,
        file: Arc<dyn ReadAt>,
        len: u64,
    ) -> Segment {
        Segment { number, path, len, last_seq: 0, damage_known: false, seal, file }
    }

    pub(super) fn seal(&self) -> &FileSeal {
        &self.seal
    }

    /// What lies at `offset`.
    pub(super) fn at(&self, offset: u64) -> Found {
        if offset >= self.len {
            return Found::End;
        }
        match self.header(offset) {
            RecordFound::Good(header) if offset + header.record_len() <= self.len => {
                Found::Record(header)
            }
            RecordFound::Newer(kind) => Found::Newer(kind),
            _ => Found::Bad { next: self.search(offset + 1) },
        }
    }

    /// The payload of the record at `offset`; `None` if it is not what was written.
    pub(super) fn payload(&self, offset: u64, header: &RecordHeader) -> Option<Bytes> {
        let mut payload = vec![0; header.payload_len as usize];
        self.read(offset + RECORD_HEADER_LEN as u64, &mut payload);
        (crc32fast::hash(&payload) == header.payload_checksum).then(|| Bytes::from(payload))
    }

    fn header(&self, offset: u64) -> RecordFound {
        let mut bytes = [0; RECORD_HEADER_LEN];
        if offset + RECORD_HEADER_LEN as u64 > self.len {
            return RecordFound::Damaged;
        }
        self.read(offset, &mut bytes);
        RecordHeader::decode(&bytes, &self.seal, offset)
    }

    /// Offset of the first genuine record at or after `from`.
    fn search(&self, mut from: u64) -> Option<u64> {
        let mut bytes = Vec::new();
        while from + RECORD_HEADER_LEN as u64 <= self.len {
            let left = self.len - from;
            bytes.resize(usize::try_from(left).map_or(SEARCH_BYTES, |n| n.min(SEARCH_BYTES)), 0);
            self.read(from, &mut bytes);
            for at in memmem::find_iter(&bytes, &RECORD_MAGIC) {
                let offset = from + at as u64;
                match self.header(offset) {
                    RecordFound::Good(header) if offset + header.record_len() <= self.len => {
                        return Some(offset);
                    }
                    RecordFound::Newer(_) => return Some(offset),
                    _ => {}
                }
            }
            // A magic may lie across two chunks.
            from += (bytes.len() - (RECORD_MAGIC.len() - 1)) as u64;
        }
        None
    }

    /// Fills `out`, with zeros where the disk cannot read: checksums then tell what is lost.
    fn read(&self, offset: u64, out: &mut [u8]) {
        if self.file.read_exact_at(offset, out).is_ok() {
            return;
        }
        let mut at = offset;
        for page in out.chunks_mut(PAGE_BYTES) {
            if self.file.read_exact_at(at, page).is_err() {
                page.fill(0);
            }
            at += page.len() as u64;
        }
    }
}
