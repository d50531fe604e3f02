//! Finds the frames of one file, good or bad bytes around them.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::frame::{FRAME_HEADER_LEN, FRAME_MAGIC, FileSeal, FrameHeader};
use crate::blobs::ReadAt;
use crate::disk::read_by_pages;

/// Bytes read at once. Large enough for few calls, small enough that checksums find the bytes in
/// the cache.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// What is read around a header when payloads are skipped.
pub(super) const HOP_BYTES: usize = 1 << 12;

/// What lies at an offset.
#[derive(Debug)]
pub(super) enum Found {
    /// A frame; the payload is there unless it was not wanted.
    Frame { header: FrameHeader, payload: Option<Bytes> },
    /// A frame whose header is good and whose payload is not.
    BadPayload { header: FrameHeader },
    /// No frame begins here; one does at `next`, or none does any more.
    Garbage { next: Option<u64> },
    /// A good header whose frame reaches beyond the end of the file.
    CutOff { header: FrameHeader },
    /// The end of the file.
    End,
}

/// Reads one file front to back.
pub(super) struct Scanner<'a> {
    file: &'a dyn ReadAt,
    seal: FileSeal,
    chunk_bytes: usize,
    chunk: Bytes,
    chunk_start: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a dyn ReadAt, seal: FileSeal, chunk_bytes: usize) -> Self {
        Scanner { file, seal, chunk_bytes, chunk: Bytes::new(), chunk_start: 0 }
    }

    /// What lies at `offset`. `wanted` says by its number whether a kind's payload is read and
    /// checked.
    pub(super) fn at(&mut self, offset: u64, wanted: impl Fn(u8) -> bool) -> Found {
        if offset >= self.file.size_bytes() {
            return Found::End;
        }
        let Some(header) = self.header(offset) else {
            return Found::Garbage { next: self.search(offset + 1) };
        };
        let end = offset + header.frame_len();
        if end > self.file.size_bytes() {
            return Found::CutOff { header };
        }
        if !wanted(header.kind) {
            return Found::Frame { header, payload: None };
        }
        let frame = self.bytes(offset, header.frame_len()).expect("the frame ends in the file");
        let payload = frame.slice(FRAME_HEADER_LEN..);
        if crc32fast::hash(&payload) == header.payload_checksum {
            Found::Frame { header, payload: Some(payload) }
        } else {
            Found::BadPayload { header }
        }
    }

    /// The whole frame at `offset`, if it is good; never searches.
    pub(super) fn first(&mut self, offset: u64) -> Option<(FrameHeader, Bytes)> {
        self.header(offset)?;
        match self.at(offset, |_| true) {
            Found::Frame { header, payload } => Some((header, payload?)),
            _ => None,
        }
    }

    fn header(&mut self, offset: u64) -> Option<FrameHeader> {
        let bytes = self.bytes(offset, FRAME_HEADER_LEN as u64)?;
        let bytes = bytes.first_chunk().expect("as long as asked for");
        FrameHeader::decode(bytes, &self.seal, offset)
    }

    /// Offset of the first good frame header at or after `from`.
    fn search(&mut self, mut from: u64) -> Option<u64> {
        loop {
            let left = self.file.size_bytes().saturating_sub(from);
            if left < FRAME_HEADER_LEN as u64 {
                return None;
            }
            let bytes = self.bytes(from, left.min(CHUNK_BYTES as u64))?;
            for at in memmem::find_iter(&bytes, &FRAME_MAGIC) {
                let offset = from + at as u64;
                if self.header(offset).is_some() {
                    return Some(offset);
                }
            }
            // A magic may lie across two chunks.
            from += (bytes.len() - (FRAME_MAGIC.len() - 1)) as u64;
        }
    }

    /// `len` bytes at `offset`, without a copy if they are in the chunk; `None` beyond the end.
    fn bytes(&mut self, offset: u64, len: u64) -> Option<Bytes> {
        let end = offset.checked_add(len).filter(|end| *end <= self.file.size_bytes())?;
        let chunk_end = self.chunk_start + self.chunk.len() as u64;
        if offset < self.chunk_start || end > chunk_end {
            let wanted = len.max(self.chunk_bytes as u64);
            let wanted = wanted.min(self.file.size_bytes() - offset);
            self.load(offset, usize::try_from(wanted).expect("at most a frame"));
        }
        let start = usize::try_from(offset - self.chunk_start).expect("inside the chunk");
        let len = usize::try_from(len).expect("inside the chunk");
        Some(self.chunk.slice(start..start + len))
    }

    fn load(&mut self, offset: u64, len: usize) {
        // The last chunk's memory serves again if no payload of it is held.
        let mut buffer =
            std::mem::take(&mut self.chunk).try_into_mut().unwrap_or_else(|_| BytesMut::new());
        buffer.resize(len, 0);
        if self.file.read_exact_at(offset, &mut buffer).is_err() {
            read_by_pages(self.file, offset, &mut buffer);
        }
        self.chunk = buffer.freeze();
        self.chunk_start = offset;
    }
}
