//! Pages of a block: compressed where it pays, checksummed, listed in the page table.

use std::cell::RefCell;

use blockstore::BlockError;
use blockstore::{BlobWriter, ReadAt};
use codec::varint::{put_u64, take_bytes, take_u64};
use codec::{CodecError, checksum};

/// Uncompressed bytes at which a page of values or timestamps is closed. Measured: 64 KiB
/// compresses within 2% of 256 KiB, and a query for few series decompresses a quarter.
pub(crate) const TARGET_PAGE_BYTES: usize = 64 << 10;
/// Most bytes a page may have, uncompressed.
pub(crate) const MAX_PAGE_BYTES: usize = 4 << 20;

thread_local! {
    /// Making a context costs as much as decompressing a small page.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("memory for zstd's context"));
}

/// Page is compressed by zstd.
const ZSTD: u8 = 0x10;
const KIND_MASK: u8 = 0x0f;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PageKind {
    Values = 1,
    Timestamps = 2,
    Directory = 3,
    Histograms = 4,
    Starts = 5,
    HistogramDirectory = 7,
    Rollups = 8,
    RollupDirectory = 9,
}

/// Where a page lies and how it was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageInfo {
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    checksum: u32,
    pub(crate) kind: PageKind,
    is_zstd: bool,
}

/// Writes pages one after the other and remembers where they are.
pub(crate) struct PageWriter<'a> {
    pub(crate) out: &'a mut dyn BlobWriter,
    pages: Vec<PageInfo>,
    compressor: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
    other_scratch: Vec<u8>,
}

impl<'a> PageWriter<'a> {
    /// Pages go to `out`, compressed by zstd at `level`.
    pub(crate) fn new(out: &'a mut dyn BlobWriter, level: i32) -> Self {
        PageWriter {
            out,
            pages: Vec::new(),
            compressor: zstd::bulk::Compressor::new(level).expect("a zstd level that exists"),
            scratch: Vec::new(),
            other_scratch: Vec::new(),
        }
    }

    /// Number of the page that will be written next.
    pub(crate) fn next_number(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Writes one page.
    pub(crate) fn write(&mut self, kind: PageKind, raw: &[u8]) -> Result<(), BlockError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let is_zstd = self.compress(raw, &mut scratch);
        let outcome = self.put(kind, raw, is_zstd.then_some(&scratch));
        self.scratch = scratch;
        outcome
    }

    /// Writes one of two forms of the same page, whichever is smaller in the file; whether that is
    /// the second.
    pub(crate) fn write_smaller(
        &mut self,
        kind: PageKind,
        first: &[u8],
        second: &[u8],
    ) -> Result<bool, BlockError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut other = std::mem::take(&mut self.other_scratch);
        let packed = [(first, &mut scratch), (second, &mut other)]
            .map(|(raw, scratch)| self.compress(raw, scratch).then_some(&*scratch));
        let len = |raw: &[u8], packed: Option<&Vec<u8>>| packed.map_or(raw.len(), Vec::len);
        let is_second = len(second, packed[1]) < len(first, packed[0]);
        let outcome = match is_second {
            true => self.put(kind, second, packed[1]),
            false => self.put(kind, first, packed[0]),
        };
        (self.scratch, self.other_scratch) = (scratch, other);
        outcome.map(|()| is_second)
    }

    /// Whether it is worth to store `raw` compressed; then `scratch` holds it.
    fn compress(&mut self, raw: &[u8], scratch: &mut Vec<u8>) -> bool {
        assert!(raw.len() <= MAX_PAGE_BYTES, "a page has at most {MAX_PAGE_BYTES} bytes");
        scratch.clear();
        scratch.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let compressed = self.compressor.compress_to_buffer(raw, scratch);
        // Decompression is worth its time only if it saves reading something.
        compressed.is_ok_and(|len| len <= raw.len() - raw.len() / 16)
    }

    fn put(
        &mut self,
        kind: PageKind,
        raw: &[u8],
        packed: Option<&Vec<u8>>,
    ) -> Result<(), BlockError> {
        let stored = packed.map_or(raw, Vec::as_slice);
        self.pages.push(PageInfo {
            offset: self.out.position(),
            stored_len: stored.len() as u32,
            raw_len: raw.len() as u32,
            checksum: checksum(stored),
            kind,
            is_zstd: packed.is_some(),
        });
        self.out.write(stored)?;
        Ok(())
    }

    /// Appends the page table to `out`.
    pub(crate) fn encode_table(&self, out: &mut Vec<u8>) {
        put_u64(out, self.pages.len() as u64);
        out.extend(self.pages.iter().map(|p| p.kind as u8 | if p.is_zstd { ZSTD } else { 0 }));
        let column = |of: fn(&PageInfo) -> u32| -> Vec<i64> {
            self.pages.iter().map(|page| i64::from(of(page))).collect()
        };
        codec::encode_i64s(&column(|page| page.stored_len), out);
        codec::encode_i64s(&column(|page| page.raw_len), out);
        out.extend(self.pages.iter().flat_map(|page| page.checksum.to_le_bytes()));
    }
}

/// Why a page table is refused.
pub(crate) enum TableFault {
    Codec(CodecError),
    /// A kind that only later versions write.
    ReservedKind(u8),
    Invalid(&'static str),
}

impl From<CodecError> for TableFault {
    fn from(error: CodecError) -> Self {
        TableFault::Codec(error)
    }
}

/// Reads a page table whose pages lie in `start..end` of the file without gaps.
pub(crate) fn decode_table(
    mut input: &[u8],
    start: u64,
    end: u64,
) -> Result<Vec<PageInfo>, TableFault> {
    let count = usize::try_from(take_u64(&mut input)?).unwrap_or(usize::MAX);
    let kinds = take_bytes(&mut input, count)?;
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    codec::decode_i64s(&mut input, count, &mut stored)?;
    codec::decode_i64s(&mut input, count, &mut raw)?;
    let checksums = take_bytes(&mut input, count.saturating_mul(4))?;
    if !input.is_empty() {
        return Err(TableFault::Invalid("bytes after the page table"));
    }
    let mut pages = Vec::with_capacity(count);
    let mut offset = start;
    for (number, &byte) in kinds.iter().enumerate() {
        let kind = match byte & KIND_MASK {
            1 => PageKind::Values,
            2 => PageKind::Timestamps,
            3 => PageKind::Directory,
            4 => PageKind::Histograms,
            5 => PageKind::Starts,
            7 => PageKind::HistogramDirectory,
            8 => PageKind::Rollups,
            9 => PageKind::RollupDirectory,
            6 => return Err(TableFault::ReservedKind(6)),
            _ => return Err(TableFault::Invalid("unknown kind of page")),
        };
        let is_zstd = byte & ZSTD != 0;
        if byte & !(KIND_MASK | ZSTD) != 0 {
            return Err(TableFault::Invalid("unknown flag of a page"));
        }
        let len = |value: i64| u32::try_from(value).ok().filter(|l| *l as usize <= MAX_PAGE_BYTES);
        let (Some(stored_len), Some(raw_len)) = (len(stored[number]), len(raw[number])) else {
            return Err(TableFault::Invalid("page longer than pages are"));
        };
        if !is_zstd && stored_len != raw_len {
            return Err(TableFault::Invalid("uncompressed page of two lengths"));
        }
        let sum = checksums[4 * number..].first_chunk::<4>().expect("four bytes per page");
        pages.push(PageInfo {
            offset,
            stored_len,
            raw_len,
            checksum: u32::from_le_bytes(*sum),
            kind,
            is_zstd,
        });
        offset += u64::from(stored_len);
    }
    if offset != end {
        return Err(TableFault::Invalid("pages do not fill their part of the file"));
    }
    Ok(pages)
}

/// Reads and checks one page.
pub(crate) fn read_page(file: &dyn ReadAt, info: &PageInfo) -> Result<Vec<u8>, BlockError> {
    let corrupt = |detail: String| BlockError::Corrupt {
        offset: info.offset,
        detail: format!("page: {detail}"),
    };
    let mut stored = vec![0; info.stored_len as usize];
    file.read_exact_at(info.offset, &mut stored)?;
    if checksum(&stored) != info.checksum {
        return Err(corrupt(format!(
            "checksum is {:08x}, the page table says {:08x}",
            checksum(&stored),
            info.checksum
        )));
    }
    if !info.is_zstd {
        return Ok(stored);
    }
    let raw = DECOMPRESSOR
        .with_borrow_mut(|zstd| zstd.decompress(&stored, info.raw_len as usize))
        .map_err(|error| corrupt(format!("zstd: {error}")))?;
    if raw.len() != info.raw_len as usize {
        return Err(corrupt(format!("{} bytes instead of {}", raw.len(), info.raw_len)));
    }
    Ok(raw)
}
