//! The fixed ends of a block.

use blockstore::{BlockError, ReadAt};
use codec::checksum;

use crate::page::corrupt;

/// First and last four bytes of a block.
pub(crate) const MAGIC: [u8; 4] = *b"WFLB";
/// The version this program writes, and the only one it reads.
pub(crate) const VERSION: u8 = 2;
/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 8;
/// Length of the footer.
pub(crate) const FOOTER_BYTES: usize = 152;

/// Longest section.
const MAX_SECTION_BYTES: u64 = 1 << 32;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) checksum: u32,
}

impl Section {
    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Reads and checks it.
    pub(crate) fn read(&self, file: &dyn ReadAt, what: &str) -> Result<Vec<u8>, BlockError> {
        if self.len > MAX_SECTION_BYTES {
            return Err(corrupt(self.offset, format!("{what} of {} bytes", self.len)));
        }
        let mut bytes = vec![0; self.len as usize];
        file.read_exact_at(self.offset, &mut bytes)?;
        let found = checksum(&bytes);
        if found != self.checksum {
            let detail =
                format!("{what}: checksum is {found:08x}, the footer says {:08x}", self.checksum);
            return Err(corrupt(self.offset, detail));
        }
        Ok(bytes)
    }
}

/// The last bytes of a block: where everything is, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Pages of counters.
    pub(crate) counters: Section,
    /// Rows of the skip index.
    pub(crate) filters: Section,
    pub(crate) labels: Section,
    pub(crate) table: Section,
    pub(crate) skip: Section,
    pub(crate) streams: u32,
    pub(crate) rows: u64,
    pub(crate) line_bytes: u64,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
}

impl Footer {
    fn sections(&self) -> [Section; 5] {
        [self.counters, self.filters, self.labels, self.table, self.skip]
    }

    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        for (number, section) in self.sections().iter().enumerate() {
            put(16 * number, &section.offset.to_le_bytes());
            put(16 * number + 8, &section.len.to_le_bytes());
            put(80 + 4 * number, &section.checksum.to_le_bytes());
        }
        put(100, &self.streams.to_le_bytes());
        put(104, &self.rows.to_le_bytes());
        put(112, &self.first_ns.to_le_bytes());
        put(120, &self.last_ns.to_le_bytes());
        put(128, &self.line_bytes.to_le_bytes());
        put(143, &[VERSION]);
        let sum = checksum(&bytes[..144]);
        bytes[144..148].copy_from_slice(&sum.to_le_bytes());
        bytes[148..].copy_from_slice(&MAGIC);
        bytes
    }

    /// Reads header and footer of a file and checks that its parts fill it.
    pub(crate) fn read(file: &dyn ReadAt) -> Result<Footer, BlockError> {
        let size = file.size_bytes();
        if size < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(corrupt(0, format!("{size} bytes are too few for a block")));
        }
        let start = size - FOOTER_BYTES as u64;
        let mut bytes = [0; FOOTER_BYTES];
        file.read_exact_at(start, &mut bytes)?;
        if bytes[148..] != MAGIC {
            return Err(corrupt(start, "no footer of a block of logs"));
        }
        let u32_at =
            |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("a field of four"));
        let u64_at =
            |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("a field of eight"));
        if checksum(&bytes[..144]) != u32_at(144) {
            return Err(corrupt(start, "checksum of the footer"));
        }
        let found = bytes[143];
        if found != 0 && found != VERSION {
            return Err(BlockError::Version { found, supported: VERSION });
        }
        if found == 0 || bytes[136..143] != [0; 7] {
            return Err(corrupt(start, "footer with unknown fields"));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(0, &mut header)?;
        if header[..4] != MAGIC || header[4] != found || header[5..] != [0; 3] {
            return Err(corrupt(0, "header of another kind than the footer"));
        }
        let section = |number: usize| Section {
            offset: u64_at(16 * number),
            len: u64_at(16 * number + 8),
            checksum: u32_at(80 + 4 * number),
        };
        let footer = Footer {
            counters: section(0),
            filters: section(1),
            labels: section(2),
            table: section(3),
            skip: section(4),
            streams: u32_at(100),
            rows: u64_at(104),
            line_bytes: u64_at(128),
            first_ns: u64_at(112) as i64,
            last_ns: u64_at(120) as i64,
        };
        let sections = footer.sections();
        let is_gapless = sections[0].offset >= HEADER_BYTES as u64
            && sections.windows(2).all(|pair| pair[0].end() == pair[1].offset)
            && footer.skip.end() == start;
        if !is_gapless {
            return Err(corrupt(start, "sections do not fill the file"));
        }
        Ok(footer)
    }
}
