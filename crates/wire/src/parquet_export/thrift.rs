//! As much of thrift's compact protocol as headers and footers of Parquet need.

use crate::protobuf::push_varint;

const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A struct whose fields are added in ascending order of their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

impl Struct {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn field(&mut self, number: u8, kind: u8) {
        // All gaps of Parquet's structs are below 16.
        self.bytes.push((number - self.last) << 4 | kind);
        self.last = number;
    }

    fn number(&mut self, number: u8, kind: u8, value: i64) -> &mut Self {
        self.field(number, kind);
        push_varint(&mut self.bytes, zigzag(value));
        self
    }

    pub(super) fn i32(&mut self, number: u8, value: i64) -> &mut Self {
        self.number(number, I32, value)
    }

    pub(super) fn i64(&mut self, number: u8, value: i64) -> &mut Self {
        self.number(number, I64, value)
    }

    pub(super) fn text(&mut self, number: u8, text: &str) -> &mut Self {
        self.field(number, BINARY);
        push_text(&mut self.bytes, text);
        self
    }

    pub(super) fn part(&mut self, number: u8, part: &Struct) -> &mut Self {
        self.field(number, STRUCT);
        part.append_to(&mut self.bytes);
        self
    }

    pub(super) fn structs(&mut self, number: u8, list: Vec<Struct>) -> &mut Self {
        self.list(number, STRUCT, list.len());
        list.iter().for_each(|one| one.append_to(&mut self.bytes));
        self
    }

    pub(super) fn i32s(&mut self, number: u8, list: &[i64]) -> &mut Self {
        self.list(number, I32, list.len());
        list.iter().for_each(|value| push_varint(&mut self.bytes, zigzag(*value)));
        self
    }

    pub(super) fn texts(&mut self, number: u8, list: &[&str]) -> &mut Self {
        self.list(number, BINARY, list.len());
        list.iter().for_each(|text| push_text(&mut self.bytes, text));
        self
    }

    fn list(&mut self, number: u8, kind: u8, len: usize) {
        self.field(number, LIST);
        match u8::try_from(len) {
            Ok(len @ 0..15) => self.bytes.push(len << 4 | kind),
            _ => {
                self.bytes.push(0xf0 | kind);
                push_varint(&mut self.bytes, len as u64);
            }
        }
    }

    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        out.push(0);
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}
