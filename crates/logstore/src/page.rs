//! Pages: runs of bytes that are compressed where it pays, checksummed, and read as a whole.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use blockstore::{BlockError, ReadAt};
use codec::varint::{put_u64, take_bytes, take_prefixed, take_u64};
use codec::{CodecError, checksum};

/// Most bytes of a page, uncompressed.
pub(crate) const MAX_PAGE_BYTES: usize = 64 << 20;
/// Most bytes of a section, uncompressed.
const MAX_SECTION_BYTES: u64 = 1 << 30;

thread_local! {
    /// Making a context costs as much as decompressing a small page.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("memory for zstd's context"));
}

/// Where a page lies and how it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) checksum: u32,
    pub(crate) is_zstd: bool,
}

/// Compresses pages.
pub(crate) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl Packer {
    /// By zstd at `level`.
    pub(crate) fn new(level: i32) -> Self {
        let compressor = zstd::bulk::Compressor::new(level).expect("a zstd level that exists");
        Packer { compressor, scratch: Vec::new() }
    }

    /// `raw` as it is stored, and whether that is compressed: only if it saves a sixteenth.
    pub(crate) fn pack<'a>(&'a mut self, raw: &'a [u8]) -> (&'a [u8], bool) {
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        match self.compressor.compress_to_buffer(raw, &mut self.scratch) {
            Ok(len) if len <= raw.len() - raw.len() / 16 && len < raw.len() => {
                (&self.scratch, true)
            }
            _ => (raw, false),
        }
    }

    /// Appends a page to `out`; its offset counts from the start of `out`.
    pub(crate) fn put(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Page {
        assert!(raw.len() <= MAX_PAGE_BYTES, "a page has at most {MAX_PAGE_BYTES} bytes");
        let offset = out.len() as u64;
        let (stored, is_zstd) = self.pack(raw);
        out.extend_from_slice(stored);
        Page {
            offset,
            stored_len: stored.len() as u32,
            raw_len: raw.len() as u32,
            checksum: checksum(stored),
            is_zstd,
        }
    }

    /// Appends a frame: bytes within a page that are read by themselves.
    pub(crate) fn put_frame(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let (stored, is_zstd) = self.pack(raw);
        out.push(u8::from(is_zstd));
        put_u64(out, raw.len() as u64);
        put_u64(out, stored.len() as u64);
        out.extend_from_slice(stored);
    }

    /// The same, of bytes that no compressor makes less of.
    pub(crate) fn put_plain_frame(raw: &[u8], out: &mut Vec<u8>) {
        out.push(0);
        put_u64(out, raw.len() as u64);
        put_u64(out, raw.len() as u64);
        out.extend_from_slice(raw);
    }

    /// Appends a page that is not compressed: its frames are.
    pub(crate) fn put_stored(raw: &[u8], out: &mut Vec<u8>) -> Page {
        assert!(raw.len() <= MAX_PAGE_BYTES, "a page has at most {MAX_PAGE_BYTES} bytes");
        let (offset, len) = (out.len() as u64, raw.len() as u32);
        out.extend_from_slice(raw);
        Page { offset, stored_len: len, raw_len: len, checksum: checksum(raw), is_zstd: false }
    }

    /// Appends a section: a flag, its length, and its bytes.
    pub(crate) fn put_section(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let (stored, is_zstd) = self.pack(raw);
        out.push(u8::from(is_zstd));
        put_u64(out, raw.len() as u64);
        out.extend_from_slice(stored);
    }
}

/// Bytes within a page that are read by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where they are in the page.
    stored: Range<usize>,
    is_zstd: bool,
    raw_len: usize,
}

impl Frame {
    /// Takes what [`Packer::put_frame`] wrote from the front of `input`, which ends where `page` does.
    pub(crate) fn take(input: &mut &[u8], page: &[u8]) -> Result<Self, CodecError> {
        let invalid = |field, found| CodecError::Invalid { offset: 0, field, found };
        let flag = take_bytes(input, 1)?[0];
        let raw_len = take_u64(input)?;
        let stored_len = take_prefixed(input)?.len();
        if flag > 1 || raw_len > MAX_PAGE_BYTES as u64 {
            return Err(invalid("length of a frame", raw_len));
        }
        if flag == 0 && raw_len != stored_len as u64 {
            return Err(invalid("length of a frame that is not compressed", raw_len));
        }
        let end = page.len() - input.len();
        Ok(Frame { stored: end - stored_len..end, is_zstd: flag == 1, raw_len: raw_len as usize })
    }

    /// How long it is when it is read.
    pub(crate) fn raw_len(&self) -> usize {
        self.raw_len
    }

    /// What is in it; `page` is what it was taken of.
    pub(crate) fn read<'p>(&self, page: &'p [u8]) -> Result<Cow<'p, [u8]>, CodecError> {
        let stored = &page[self.stored.clone()];
        if !self.is_zstd {
            return Ok(Cow::Borrowed(stored));
        }
        let found = stored.len() as u64;
        let damaged = CodecError::Invalid { offset: 0, field: "compressed frame of bytes", found };
        match DECOMPRESSOR.with_borrow_mut(|zstd| zstd.decompress(stored, self.raw_len)) {
            Ok(raw) if raw.len() == self.raw_len => Ok(Cow::Owned(raw)),
            _ => Err(damaged),
        }
    }
}

/// Undoes [`Packer::put_section`].
pub(crate) fn unpack_section(mut input: &[u8]) -> Result<Vec<u8>, CodecError> {
    let invalid = |field, found| CodecError::Invalid { offset: 0, field, found };
    let flag = take_bytes(&mut input, 1)?[0];
    let len = take_u64(&mut input)?;
    if flag > 1 || len > MAX_SECTION_BYTES {
        return Err(invalid("length of a section", len));
    }
    let raw = match flag {
        0 => input.to_vec(),
        _ => DECOMPRESSOR
            .with_borrow_mut(|zstd| zstd.decompress(input, len as usize))
            .map_err(|_| invalid("compressed section of bytes", input.len() as u64))?,
    };
    if raw.len() as u64 != len {
        return Err(invalid("length of a section", len));
    }
    Ok(raw)
}

impl Page {
    /// Reads and checks it; `what` names it in errors.
    pub(crate) fn read(&self, file: &dyn ReadAt, what: &str) -> Result<Vec<u8>, BlockError> {
        let corrupt = |detail: String| corrupt(self.offset, format!("{what}: {detail}"));
        let mut stored = vec![0; self.stored_len as usize];
        file.read_exact_at(self.offset, &mut stored)?;
        let found = checksum(&stored);
        if found != self.checksum {
            return Err(corrupt(format!("checksum is {found:08x}, not {:08x}", self.checksum)));
        }
        if !self.is_zstd {
            return Ok(stored);
        }
        let raw = DECOMPRESSOR
            .with_borrow_mut(|zstd| zstd.decompress(&stored, self.raw_len as usize))
            .map_err(|error| corrupt(format!("zstd: {error}")))?;
        if raw.len() != self.raw_len as usize {
            return Err(corrupt(format!("{} bytes instead of {}", raw.len(), self.raw_len)));
        }
        Ok(raw)
    }

    /// The error for content that does not decode.
    pub(crate) fn undecodable(&self, what: &str, error: &CodecError) -> BlockError {
        corrupt(self.offset, format!("{what}: {error}"))
    }
}

/// The error for bytes at `offset` of a block.
pub(crate) fn corrupt(offset: u64, detail: impl Into<String>) -> BlockError {
    BlockError::Corrupt { offset, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use blockstore::InMemory;

    use super::*;

    #[test]
    fn pages_and_sections_come_back_and_damage_is_named() {
        let mut packer = Packer::new(3);
        for raw in [&b""[..], b"ab", &[7; 5_000]] {
            let mut out = vec![1, 2];
            let page = packer.put(raw, &mut out);
            assert_eq!(page.offset, 2);
            let file = InMemory(out.clone());
            assert_eq!(page.read(&file, "lines").expect("as written"), raw);
            if let Some(last) = out.last_mut().filter(|_| !raw.is_empty()) {
                *last ^= 1;
                let error = page.read(&InMemory(out), "lines").expect_err("damaged");
                assert!(error.to_string().contains("at offset 2: lines: checksum"), "{error}");
            }
            let mut section = Vec::new();
            packer.put_section(raw, &mut section);
            assert_eq!(unpack_section(&section).expect("as written"), raw);
            section.pop();
            assert!(unpack_section(&section).is_err());
        }
    }
}
