//! Blocks of Prometheus' TSDB: `index`, `chunks/000001` and on, `tombstones`.
//!
//! Source: Prometheus `tsdb/docs/format/{index,chunks,tombstones}.md`. Of the index only symbols and
//! series are read, which is all that walking through a whole block takes.
//!
//! ```text
//! index      = magic BAAAD700, version 2, …, table of contents: 6 × u64, CRC-32C
//! symbols    = length: u32, number: u32, { uvarint length, UTF-8 }, CRC-32C
//! series     = at a multiple of 16: uvarint length, labels, chunks, CRC-32C
//! chunks/N   = magic 85BD40DD, version 1, 3 × 0, { uvarint length, encoding: u8, data, CRC-32C }
//! tombstones = magic 0130BA30, version 1, { uvarint series, varint from, varint to }, CRC-32C
//! ```

use std::ops::Range;

use model::Labels;

use crate::WireError;
use crate::castagnoli::crc32c;
use crate::prometheus_chunk::{self, Encoding, Samples};
use crate::protobuf::{self, Fault};

const INDEX_MAGIC: u32 = 0xbaaa_d700;
const CHUNKS_MAGIC: u32 = 0x85bd_40dd;
const TOMBSTONES_MAGIC: u32 = 0x0130_ba30;
/// Bytes of the table of contents at the end of an index.
const CONTENTS_BYTES: usize = 6 * 8 + 4;

/// An index, checked and split up; the bytes stay where they are.
#[derive(Debug)]
pub struct Index<'a> {
    bytes: &'a [u8],
    symbols: Vec<&'a str>,
    series: Range<usize>,
}

/// A chunk that a series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Time of the first sample, milliseconds since the epoch.
    pub first_ms: i64,
    /// Time of the last sample.
    pub last_ms: i64,
    /// Which file of `chunks/` it is in, from 0.
    pub file: usize,
    /// Where it starts in that file.
    pub offset: usize,
}

/// One series of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesEntry {
    /// The number by which tombstones name it.
    pub id: u64,
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, as listed.
    pub chunks: Vec<ChunkPlace>,
}

impl<'a> Index<'a> {
    /// Checks head, table of contents and symbols of a whole `index` file.
    ///
    /// # Errors
    /// [`WireError::NotRead`] for a version this program does not know, [`WireError::Malformed`] for
    /// anything else that is no index.
    pub fn open(bytes: &'a [u8]) -> Result<Self, WireError> {
        let version = head(INDEX, bytes, INDEX_MAGIC)?;
        if version != 2 {
            return Err(not_read(INDEX, "its version", version.to_string(), "2", UPGRADE));
        }
        Self::read(bytes).map_err(|fault| malformed(INDEX, fault))
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let Some(start) = bytes.len().checked_sub(CONTENTS_BYTES) else {
            return Err((bytes.len(), "the table of contents is cut off"));
        };
        let contents = checked(bytes, start, CONTENTS_BYTES - 4)?;
        let place = |number: usize| {
            let eight = contents[number * 8..].first_chunk().expect("six of eight bytes");
            usize::try_from(u64::from_be_bytes(*eight)).ok().filter(|&place| place <= start)
        };
        // What follows the series are the label indices, which newer programs do not write.
        let end = (2..6).filter_map(place).filter(|&place| place > 0).min();
        let (Some(symbols), Some(series), Some(end)) = (place(0), place(1), end) else {
            return Err((start, "the table of contents points outside of the file"));
        };
        if series > end {
            return Err((start, "the series end before they begin"));
        }
        Ok(Index { bytes, symbols: read_symbols(bytes, symbols)?, series: series..end })
    }

    /// All series, in the order of their labels. After an error there are no more.
    pub fn series(&self) -> impl Iterator<Item = Result<SeriesEntry, WireError>> + '_ {
        let mut at = self.series.start;
        std::iter::from_fn(move || {
            at = at.next_multiple_of(16);
            // Padding behind the last series.
            if at >= self.series.end || self.bytes[at] == 0 {
                return None;
            }
            let (entry, after) = match self.entry(at) {
                Ok((entry, after)) => (Ok(entry), after),
                Err(fault) => (Err(malformed(INDEX, fault)), self.series.end),
            };
            at = after;
            Some(entry)
        })
    }

    fn entry(&self, start: usize) -> Result<(SeriesEntry, usize), Fault> {
        let mut at = start;
        let end = protobuf::length(self.bytes, &mut at, self.series.end)?;
        checked(self.bytes, at, end - at)?;
        let mut next = || protobuf::varint(self.bytes, &mut at, end);
        let count = next()?;
        let mut pairs = Vec::new();
        let symbol = |number: u64| {
            let known = usize::try_from(number).ok().and_then(|number| self.symbols.get(number));
            known.copied().ok_or((start, "a label refers to a symbol that is not there"))
        };
        for _ in 0..count {
            pairs.push((symbol(next()?)?, symbol(next()?)?));
        }
        let labels = Labels::from_pairs(pairs).map_err(|_| (start, "labels are not valid"))?;
        let count = next()?;
        let mut chunks: Vec<ChunkPlace> = Vec::new();
        let mut reference = 0_i64;
        for _ in 0..count {
            let (first_ms, before) = match chunks.last() {
                None => (zigzag(next()?), 0),
                Some(last) => (last.last_ms.wrapping_add(next()? as i64), reference),
            };
            let last_ms = first_ms.wrapping_add(next()? as i64);
            // The first reference has no sign, later ones are differences.
            let change = next()?;
            let change = if chunks.is_empty() { change as i64 } else { zigzag(change) };
            reference = before.wrapping_add(change);
            let (file, offset) = ((reference as u64 >> 32) as usize, reference as u32 as usize);
            chunks.push(ChunkPlace { first_ms, last_ms, file, offset });
        }
        Ok((SeriesEntry { id: (start / 16) as u64, labels, chunks }, end + 4))
    }
}

const INDEX: &str = "index of a Prometheus block";
const CHUNKS: &str = "chunks of a Prometheus block";
const TOMBSTONES: &str = "tombstones of a Prometheus block";

/// Encodings that no Prometheus writes unless it is told to, and that are not read here.
const FOREIGN_ENCODINGS: [(u8, &str); 3] =
    [(4, "XOR2"), (5, "histogramST"), (6, "floathistogramST")];

const UPGRADE: &str = "import it with a newer watchfire";
const DUMP: &str = "let Prometheus write the default encodings (`storage.tsdb.chunk_encoding.floats: \
                    xor`, and none of the features `xor2-encoding`, `st-storage` and \
                    `histograms-st-encoding`); what is in such blocks already comes, but for native \
                    histograms, by `promtool tsdb dump-openmetrics` and `POST \
                    /api/v1/import/prometheus`";

fn not_read(
    format: &'static str,
    what: &'static str,
    found: String,
    supported: &'static str,
    remedy: &'static str,
) -> WireError {
    WireError::NotRead { format, what, found, supported, remedy }
}

fn malformed(format: &'static str, (offset, reason): Fault) -> WireError {
    WireError::Malformed { format, offset, reason }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The version of a file that begins with `magic`.
fn head(format: &'static str, bytes: &[u8], magic: u32) -> Result<u8, WireError> {
    let found = bytes.first_chunk::<4>().map(|found| u32::from_be_bytes(*found));
    match (found, bytes.get(4)) {
        (Some(found), Some(&version)) if found == magic => Ok(version),
        _ => Err(malformed(format, (0, "it does not begin as such a file does"))),
    }
}

/// The `length` bytes at `start`, which the checksum behind them must fit.
fn checked(bytes: &[u8], start: usize, length: usize) -> Result<&[u8], Fault> {
    let content = start.checked_add(length).and_then(|end| bytes.get(start..end));
    let (Some(content), Some(sum)) = (content, bytes.get(start + length..)) else {
        return Err((start, "it is cut off"));
    };
    match sum.first_chunk() {
        Some(sum) if u32::from_be_bytes(*sum) == crc32c(content) => Ok(content),
        Some(_) => Err((start, "its checksum does not fit: the file is damaged")),
        None => Err((start, "it is cut off")),
    }
}

fn read_symbols(bytes: &[u8], start: usize) -> Result<Vec<&str>, Fault> {
    let Some(length) = bytes.get(start..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Err((start, "the symbols are cut off"));
    };
    let content_start = start + 4;
    let content = checked(bytes, content_start, u32::from_be_bytes(*length) as usize)?;
    let Some((count, strings)) = content.split_first_chunk::<4>() else {
        return Err((content_start, "the symbols are cut off"));
    };
    let (count, mut at) = (u32::from_be_bytes(*count), 0);
    let mut symbols = Vec::new();
    for _ in 0..count {
        let place = content_start + 4 + at;
        let end = protobuf::length(strings, &mut at, strings.len())
            .map_err(|_| (place, "a symbol is cut off"))?;
        let symbol = std::str::from_utf8(&strings[at..end]);
        symbols.push(symbol.map_err(|_| (place, "a symbol is not UTF-8"))?);
        at = end;
    }
    Ok(symbols)
}

/// Checks the first [`CHUNKS_HEAD_BYTES`] of a file of `chunks/`.
///
/// # Errors
/// [`WireError::Malformed`] where they are not those of such a file, [`WireError::NotRead`] for a
/// version this program does not know.
pub fn check_chunks_head(bytes: &[u8]) -> Result<(), WireError> {
    let found = head(CHUNKS, bytes, CHUNKS_MAGIC)?;
    if found == 1 {
        return Ok(());
    }
    Err(not_read(CHUNKS, "its version", found.to_string(), "1", UPGRADE))
}

/// Bytes of the head of a file of `chunks/`.
pub const CHUNKS_HEAD_BYTES: usize = 8;

/// How many bytes the chunk takes that `bytes` begin with, of which ten are enough to tell.
///
/// # Errors
/// [`WireError::Malformed`] for a length that no chunk has.
pub fn chunk_bytes(bytes: &[u8]) -> Result<usize, WireError> {
    let mut at = 0;
    let length = protobuf::varint(bytes, &mut at, bytes.len());
    let length = length.map_err(|fault| malformed(CHUNKS, fault))?;
    match usize::try_from(length) {
        // The encoding and the checksum are not counted in the length.
        Ok(length) if length <= MAX_CHUNK_BYTES => Ok(at + 1 + length + 4),
        _ => Err(malformed(CHUNKS, (0, "a chunk is larger than 64 MiB"))),
    }
}

/// A chunk has at most 65,535 samples, and a histogram 65,536 buckets, but never both.
const MAX_CHUNK_BYTES: usize = 64 << 20;

/// Appends the samples of the chunk that `bytes` begin with to `out`.
///
/// # Errors
/// [`WireError::NotRead`] for an encoding this program does not know; [`WireError::Malformed`] where
/// the checksum does not fit or the chunk is damaged.
pub fn read_chunk(bytes: &[u8], out: &mut Samples) -> Result<(), WireError> {
    let whole = chunk_bytes(bytes)?;
    let mut at = 0;
    let length = protobuf::varint(bytes, &mut at, bytes.len());
    length.map_err(|fault| malformed(CHUNKS, fault))?;
    let content = checked(bytes, at, whole - at - 4).map_err(|fault| malformed(CHUNKS, fault))?;
    let (&number, data) = content.split_first().expect("at least the encoding");
    let Some(encoding) = Encoding::from_number(number.into()) else {
        let (found, remedy) = match FOREIGN_ENCODINGS.iter().find(|known| known.0 == number) {
            Some((_, name)) => (format!("{name} ({number})"), DUMP),
            None => (number.to_string(), UPGRADE),
        };
        let supported = "XOR (1), histogram (2) and floathistogram (3)";
        return Err(not_read(CHUNKS, "the encoding of a chunk", found, supported, remedy));
    };
    prometheus_chunk::decode(encoding, data, out)
}

/// What was deleted of one series: from and to, both inclusive, milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The number of the series, see [`SeriesEntry::id`].
    pub series: u64,
    /// First time that is deleted.
    pub from_ms: i64,
    /// Last time that is deleted.
    pub to_ms: i64,
}

/// Reads a whole `tombstones` file.
///
/// # Errors
/// [`WireError::Malformed`] for anything that is no such file.
pub fn read_tombstones(bytes: &[u8]) -> Result<Vec<Tombstone>, WireError> {
    head(TOMBSTONES, bytes, TOMBSTONES_MAGIC)?;
    // The checksum is over what stands behind magic and version.
    let length = bytes.len().checked_sub(5 + 4);
    let length = length.ok_or_else(|| malformed(TOMBSTONES, (5, "it is cut off")))?;
    checked(bytes, 5, length).map_err(|fault| malformed(TOMBSTONES, fault))?;
    let (mut at, end) = (5, 5 + length);
    let mut tombstones = Vec::new();
    while at < end {
        let mut next = || {
            let number = protobuf::varint(bytes, &mut at, end);
            number.map_err(|fault| malformed(TOMBSTONES, fault))
        };
        let (series, from_ms, to_ms) = (next()?, zigzag(next()?), zigzag(next()?));
        tombstones.push(Tombstone { series, from_ms, to_ms });
    }
    Ok(tombstones)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(encoding: u8) -> Vec<u8> {
        let content = [encoding, 0, 0];
        let mut bytes = vec![2];
        bytes.extend(content);
        bytes.extend(crc32c(&content).to_be_bytes());
        bytes
    }

    #[test]
    fn encodings_that_are_not_read_are_named() {
        let error = |encoding| {
            let error = read_chunk(&chunk(encoding), &mut Samples::default());
            error.expect_err("not read").to_string()
        };
        for (encoding, name) in [(4, "XOR2"), (5, "histogramST"), (6, "floathistogramST")] {
            let text = error(encoding);
            let told = format!("the encoding of a chunk is {name} ({encoding}), which is not read");
            assert!(text.contains(&told) && text.contains("dump-openmetrics"), "{text}");
            assert!(!text.contains("agents"), "{text}");
        }
        let text = error(9);
        assert!(text.contains("is 9, which") && text.ends_with("with a newer watchfire"), "{text}");
        let newer = [0x85, 0xbd, 0x40, 0xdd, 2, 0, 0, 0];
        let text = check_chunks_head(&newer).expect_err("of version 2").to_string();
        assert!(text.contains("its version is 2, which") && !text.contains("agents"), "{text}");
    }
}
