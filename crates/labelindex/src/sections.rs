//! The frame of a block's index: a header and three sections, each checked and possibly compressed.

use std::io::Read;

use codec::checksum;

use crate::error::{Fault, IndexError};

const MAGIC: [u8; 4] = *b"WFLI";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 52;
const SECTIONS: usize = 3;
/// Where the header tells of the first section.
const TABLE_START: usize = 12;
const ENTRY_BYTES: usize = 12;
/// Where the header's own checksum stands.
const CHECKSUM_START: usize = TABLE_START + SECTIONS * ENTRY_BYTES;

/// Of 38 k to 250 k series of hosts, levels 3 to 12 make sections that differ by a tenth, and zstd
/// makes rows and postings 5 to 20 times smaller than they are; this level takes 20 ns per series.
const ZSTD_LEVEL: i32 = 6;

/// A section as it is after decompression.
pub(crate) struct Section {
    pub(crate) raw: Vec<u8>,
    /// Where its stored form begins in the index.
    pub(crate) offset: usize,
    is_compressed: bool,
}

impl Section {
    /// Lets `decode` read the whole section.
    pub(crate) fn read<T>(
        &self,
        decode: impl FnOnce(&mut &[u8]) -> Result<T, Fault>,
    ) -> Result<T, IndexError> {
        let mut rest = self.raw.as_slice();
        let result = decode(&mut rest).and_then(|decoded| match rest {
            [] => Ok(decoded),
            _ => Err(Fault::Invalid("bytes after the end of a section")),
        });
        // A place in decompressed bytes is no place in the file.
        let at = if self.is_compressed { 0 } else { self.raw.len() - rest.len() };
        result.map_err(|fault| corrupt(self.offset + at, fault))
    }
}

pub(crate) fn corrupt(offset: usize, detail: impl std::fmt::Display) -> IndexError {
    IndexError::Corrupt { offset, detail: detail.to_string() }
}

/// Appends an index of `series` series.
///
/// # Panics
/// A section has 4 GiB or more.
pub(crate) fn encode(series: u32, sections: [&[u8]; SECTIONS], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[8..12].copy_from_slice(&series.to_le_bytes());
    for (number, raw) in sections.into_iter().enumerate() {
        let compressed = zstd::bulk::compress(raw, ZSTD_LEVEL).expect("memory suffices for zstd");
        let saves = compressed.len() <= raw.len() - raw.len().div_ceil(16);
        let stored = if saves { compressed.as_slice() } else { raw };
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a section is below 4 GiB");
        let fields = [len(stored), len(raw), checksum(stored)];
        let entry = &mut header[TABLE_START + number * ENTRY_BYTES..][..ENTRY_BYTES];
        for (place, field) in entry.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(stored);
    }
    let sum = checksum(&header[..CHECKSUM_START]);
    header[CHECKSUM_START..].copy_from_slice(&sum.to_le_bytes());
    out[start..start + HEADER_BYTES].copy_from_slice(&header);
}

/// The number of series and the sections of an index, checked and decompressed.
pub(crate) fn decode(bytes: &[u8]) -> Result<(u32, [Section; SECTIONS]), IndexError> {
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(corrupt(0, "fewer bytes than the header has"));
    };
    let field = |at: usize| {
        u32::from_le_bytes(*header[at..].first_chunk().expect("field lies inside the header"))
    };
    if header[..4] != MAGIC {
        return Err(corrupt(0, "magic is missing"));
    }
    if checksum(&header[..CHECKSUM_START]) != field(CHECKSUM_START) {
        return Err(corrupt(CHECKSUM_START, "checksum of the header does not match"));
    }
    if header[4] != VERSION {
        return Err(IndexError::Version { found: header[4], supported: VERSION });
    }
    if header[5..8] != [0; 3] {
        return Err(corrupt(5, "reserved bytes are not zero"));
    }
    let mut offset = HEADER_BYTES;
    let mut next = |number: usize| {
        let entry = TABLE_START + number * ENTRY_BYTES;
        let (stored_len, raw_len) = (field(entry) as usize, field(entry + 4) as usize);
        let Some((stored, after)) = rest.split_at_checked(stored_len) else {
            return Err(corrupt(offset, "index ends inside a section"));
        };
        if checksum(stored) != field(entry + 8) {
            return Err(corrupt(offset, "checksum of a section does not match"));
        }
        rest = after;
        let is_compressed = stored_len != raw_len;
        let raw = if is_compressed {
            decompress(stored, raw_len).map_err(|detail| corrupt(offset, detail))?
        } else {
            stored.to_vec()
        };
        let section = Section { raw, offset, is_compressed };
        offset += stored_len;
        Ok(section)
    };
    let sections = [next(0)?, next(1)?, next(2)?];
    if !rest.is_empty() {
        return Err(corrupt(offset, "bytes after the last section"));
    }
    Ok((field(8), sections))
}

/// Decompresses to exactly `raw_len` bytes. Memory follows what is there, not what is declared.
fn decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, String> {
    let mut raw = Vec::new();
    zstd::stream::read::Decoder::with_buffer(stored)
        .and_then(|decoder| decoder.take(raw_len as u64 + 1).read_to_end(&mut raw))
        .map_err(|error| format!("zstd: {error}"))?;
    if raw.len() != raw_len {
        return Err(format!("section has another length than the {raw_len} bytes declared"));
    }
    raw.shrink_to_fit();
    Ok(raw)
}
