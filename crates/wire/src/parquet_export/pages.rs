//! Columns of a row group: pages with their headers.

use std::collections::HashMap;

use super::thrift::Struct;
use crate::protobuf::push_varint;

// Numbers of `parquet.thrift`.
const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const PLAIN: i64 = 0;
const RLE: i64 = 3;
const RLE_DICTIONARY: i64 = 8;
const ZSTD: i64 = 6;
/// Fast, and labels repeat so much that more gains little.
const ZSTD_LEVEL: i32 = 1;

/// What the footer says of a column of a row group.
pub(super) struct Chunk {
    path: Vec<&'static str>,
    kind: i64,
    values: usize,
    dictionary_offset: Option<u64>,
    data_offset: u64,
    size_bytes: u64,
    uncompressed_bytes: u64,
}

impl Chunk {
    pub(super) fn describe(&self) -> Struct {
        let encodings: &[i64] = match self.dictionary_offset {
            Some(_) => &[PLAIN, RLE, RLE_DICTIONARY],
            None => &[PLAIN, RLE],
        };
        let mut data = Struct::new();
        data.i32(1, self.kind).i32s(2, encodings).texts(3, &self.path).i32(4, ZSTD);
        data.i64(5, self.values as i64).i64(6, self.uncompressed_bytes as i64);
        data.i64(7, self.size_bytes as i64).i64(9, self.data_offset as i64);
        if let Some(offset) = self.dictionary_offset {
            data.i64(11, offset as i64);
        }
        let mut chunk = Struct::new();
        let begin = self.dictionary_offset.unwrap_or(self.data_offset);
        chunk.i64(2, begin as i64).part(3, &data);
        chunk
    }
}

/// Each text once.
#[derive(Default)]
pub(super) struct Dictionary {
    numbers: HashMap<Box<str>, u32>,
    /// Length in four bytes and the text, each.
    encoded: Vec<u8>,
}

impl Dictionary {
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // Groups end long before there are 2^32, and no label has 4 GiB.
        let number = self.numbers.len() as u32;
        self.encoded.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.encoded.extend_from_slice(text.as_bytes());
        self.numbers.insert(text.into(), number);
        number
    }

    pub(super) fn bytes(&self) -> usize {
        self.encoded.len()
    }
}

/// Texts, or lists of them.
#[derive(Default)]
pub(super) struct TextColumn {
    pub(super) dictionary: Dictionary,
    numbers: Vec<u32>,
    /// Where values are lists: for each entry whether it goes on with the list of the row before,
    /// and whether there is a value, which an empty list has not.
    repetitions: Vec<u32>,
    definitions: Vec<u32>,
}

impl TextColumn {
    pub(super) fn push(&mut self, number: u32) {
        self.numbers.push(number);
    }

    pub(super) fn push_list(&mut self, numbers: &[u32]) {
        self.numbers.extend_from_slice(numbers);
        for at in 0..numbers.len().max(1) {
            self.repetitions.push(u32::from(at > 0));
            self.definitions.push(u32::from(!numbers.is_empty()));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len() + self.repetitions.len() / 2
    }

    /// Appends the pages, which begin at `offset` of the file.
    pub(super) fn write(
        &self,
        path: &[&'static str],
        kind: i64,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Chunk {
        let start = out.len();
        let texts = self.dictionary.numbers.len();
        let mut header = Struct::new();
        header.i32(1, texts as i64).i32(2, PLAIN);
        let mut uncompressed =
            write_page(DICTIONARY_PAGE, 7, &header, &self.dictionary.encoded, out);
        let data_offset = offset + (out.len() - start) as u64;
        let mut body = Vec::with_capacity(self.numbers.len());
        for levels in [&self.repetitions, &self.definitions] {
            if levels.is_empty() {
                continue;
            }
            let mut packed = Vec::new();
            push_packed(levels, 1, &mut packed);
            // A page has at most 2^17 rows with some thousand labels: far below 4 GiB.
            body.extend_from_slice(&(packed.len() as u32).to_le_bytes());
            body.extend_from_slice(&packed);
        }
        let width = (u32::BITS - (texts.max(2) as u32 - 1).leading_zeros()) as u8;
        body.push(width);
        push_packed(&self.numbers, width, &mut body);
        let values = self.repetitions.len().max(self.numbers.len());
        uncompressed += write_page(DATA_PAGE, 5, &data_header(values, RLE_DICTIONARY), &body, out);
        Chunk {
            path: path.to_vec(),
            kind,
            values,
            dictionary_offset: Some(offset),
            data_offset,
            size_bytes: (out.len() - start) as u64,
            uncompressed_bytes: uncompressed,
        }
    }
}

/// Numbers of eight bytes.
#[derive(Default)]
pub(super) struct PlainColumn(Vec<u8>);

impl PlainColumn {
    pub(super) fn push(&mut self, bytes: [u8; 8]) {
        self.0.extend_from_slice(&bytes);
    }

    /// As [`TextColumn::write`].
    pub(super) fn write(
        &self,
        path: &'static str,
        kind: i64,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Chunk {
        let start = out.len();
        let values = self.0.len() / 8;
        let uncompressed = write_page(DATA_PAGE, 5, &data_header(values, PLAIN), &self.0, out);
        Chunk {
            path: vec![path],
            kind,
            values,
            dictionary_offset: None,
            data_offset: offset,
            size_bytes: (out.len() - start) as u64,
            uncompressed_bytes: uncompressed,
        }
    }
}

fn data_header(values: usize, encoding: i64) -> Struct {
    let mut header = Struct::new();
    header.i32(1, values as i64).i32(2, encoding).i32(3, RLE).i32(4, RLE);
    header
}

/// Appends a page; `field` is the number of its own header in the page's. Yields its size with the
/// header, uncompressed.
fn write_page(kind: i64, field: u8, own: &Struct, body: &[u8], out: &mut Vec<u8>) -> u64 {
    let packed = zstd::bulk::compress(body, ZSTD_LEVEL).expect("there is memory for a page");
    let mut header = Struct::new();
    header.i32(1, kind).i32(2, body.len() as i64).i32(3, packed.len() as i64).part(field, own);
    let start = out.len();
    header.append_to(out);
    let header_bytes = out.len() - start;
    out.extend_from_slice(&packed);
    (header_bytes + body.len()) as u64
}

/// One run of numbers of `width` bits, the lowest bit first, filled up to a multiple of eight numbers.
fn push_packed(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    let groups = numbers.len().div_ceil(8);
    push_varint(out, (groups as u64) << 1 | 1);
    let (mut bits, mut held) = (0_u64, 0_u32);
    for at in 0..groups * 8 {
        bits |= u64::from(numbers.get(at).copied().unwrap_or(0)) << held;
        held += u32::from(width);
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    }
}
