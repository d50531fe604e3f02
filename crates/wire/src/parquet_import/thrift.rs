//! Reads thrift's compact protocol, as far as headers and footers of Parquet need it.

use super::damaged;
use crate::WireError;
use crate::protobuf;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// How deep what is not known may be nested.
const MAX_DEPTH: usize = 16;

/// A place in bytes of the protocol.
#[derive(Debug, Clone)]
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    end: usize,
}

/// A field whose value comes next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Its number in the struct.
    pub(super) number: i64,
    kind: u8,
}

impl<'b> Reader<'b> {
    /// Reads `bytes` from `at` to `end`, which is within.
    pub(super) fn new(bytes: &'b [u8], at: usize, end: usize) -> Self {
        Reader { bytes, at, end }
    }

    /// Where the next byte stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Reads a struct. `take` gets each field and says whether it has read the value, which is
    /// passed over otherwise.
    pub(super) fn fields(
        &mut self,
        mut take: impl FnMut(&mut Self, Field) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        let mut number = 0;
        while let Some(field) = self.field(number)? {
            number = field.number;
            if !take(self, field)? {
                self.skip(field.kind, MAX_DEPTH)?;
            }
        }
        Ok(())
    }

    /// A number of any width.
    pub(super) fn int(&mut self, field: Field) -> Result<i64, WireError> {
        match field.kind {
            BYTE => self.byte().map(|byte| i64::from(byte.cast_signed())),
            4..=I64 => self.zigzag(),
            _ => Err(damaged(self.at, "a field that should be a number is none")),
        }
    }

    /// A boolean, which is in the field's kind.
    pub(super) fn boolean(&self, field: Field) -> Result<bool, WireError> {
        match field.kind {
            TRUE | FALSE => Ok(field.kind == TRUE),
            _ => Err(damaged(self.at, "a field that should be true or false is neither")),
        }
    }

    /// A text, or bytes.
    pub(super) fn binary(&mut self, field: Field) -> Result<&'b [u8], WireError> {
        match field.kind {
            BINARY => self.content(),
            _ => Err(damaged(self.at, "a field that should be a text is none")),
        }
    }

    /// Makes sure that a struct comes.
    pub(super) fn structure(&self, field: Field) -> Result<(), WireError> {
        match field.kind {
            STRUCT => Ok(()),
            _ => Err(damaged(self.at, "a field that should be a struct is none")),
        }
    }

    /// How many structs a list has, which come next. There are no more than bytes.
    pub(super) fn structs(&mut self, field: Field) -> Result<usize, WireError> {
        if field.kind != LIST {
            return Err(damaged(self.at, "a field that should be a list is none"));
        }
        match self.list()? {
            (count, STRUCT) => Ok(count),
            (0, _) => Ok(0),
            _ => Err(damaged(self.at, "a list that should be of structs is of something else")),
        }
    }

    fn field(&mut self, before: i64) -> Result<Option<Field>, WireError> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let number = match head >> 4 {
            0 => self.zigzag()?,
            gap => before.saturating_add(i64::from(gap)),
        };
        Ok(Some(Field { number, kind: head & 0x0f }))
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        let byte = self.bytes[..self.end].get(self.at).copied();
        self.at += 1;
        byte.ok_or_else(|| damaged(self.end, "a header is cut off"))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        protobuf::varint(self.bytes, &mut self.at, self.end)
            .map_err(|(at, reason)| damaged(at, reason))
    }

    fn zigzag(&mut self) -> Result<i64, WireError> {
        self.varint().map(unzigzag)
    }

    fn content(&mut self) -> Result<&'b [u8], WireError> {
        let end = protobuf::length(self.bytes, &mut self.at, self.end)
            .map_err(|(at, reason)| damaged(at, reason))?;
        Ok(&self.bytes[std::mem::replace(&mut self.at, end)..end])
    }

    fn list(&mut self) -> Result<(usize, u8), WireError> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        self.check_count(count).map(|count| (count, head & 0x0f))
    }

    /// Every element takes a byte at least.
    fn check_count(&self, count: u64) -> Result<usize, WireError> {
        if count > self.end.saturating_sub(self.at) as u64 {
            return Err(damaged(self.at, "a list runs past the end of its header"));
        }
        Ok(count as usize)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), WireError> {
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(damaged(self.at, "a header is nested too deep"));
        };
        match kind {
            TRUE | FALSE => {}
            BYTE => {
                self.byte()?;
            }
            4..=I64 => {
                self.varint()?;
            }
            DOUBLE => self.pass(8)?,
            UUID => self.pass(16)?,
            BINARY => {
                self.content()?;
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                for _ in 0..count {
                    self.skip_element(kind, deeper)?;
                }
            }
            MAP => {
                let count = self.varint()?;
                let count = self.check_count(count)?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                for _ in 0..count {
                    self.skip_element(kinds >> 4, deeper)?;
                    self.skip_element(kinds & 0x0f, deeper)?;
                }
            }
            STRUCT => {
                let mut number = 0;
                while let Some(field) = self.field(number)? {
                    number = field.number;
                    self.skip(field.kind, deeper)?;
                }
            }
            _ => return Err(damaged(self.at, "a header has a field of an unknown kind")),
        }
        Ok(())
    }

    /// In lists and maps a boolean is a byte.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), WireError> {
        match kind {
            TRUE | FALSE => self.pass(1),
            kind => self.skip(kind, depth),
        }
    }

    fn pass(&mut self, bytes: usize) -> Result<(), WireError> {
        self.at += bytes;
        if self.at > self.end {
            return Err(damaged(self.end, "a header is cut off"));
        }
        Ok(())
    }
}

/// A signed number from an unsigned one.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_passed_over() {
        // 1: map<i32, bool>, 2: list of three doubles, 3: struct {1: true}, 20: "ab", 21: -3.
        let mut bytes = vec![0x1b, 1, 0x51, 4, 1, 0x19, 0x37];
        bytes.extend([0; 24]);
        bytes.extend([0x1c, 0x11, 0, 0x08, 40, 2, b'a', b'b', 0x15, 5, 0]);
        let mut reader = Reader::new(&bytes, 0, bytes.len());
        let mut seen = Vec::new();
        let read = reader.fields(|reader, field| {
            seen.push(field.number);
            Ok(match field.number {
                20 => reader.binary(field)? == b"ab",
                21 => reader.int(field)? == -3,
                _ => false,
            })
        });
        assert_eq!((read, reader.at()), (Ok(()), bytes.len()));
        assert_eq!(seen, [1, 2, 3, 20, 21]);
        for end in 0..bytes.len() {
            let read = Reader::new(&bytes, 0, end).fields(|_, _| Ok(false));
            assert!(read.is_err(), "cut at {end}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = vec![0x1c; 10_000];
        let read = Reader::new(&deep, 0, deep.len()).fields(|_, _| Ok(false));
        assert!(read.expect_err("too deep").to_string().contains("nested too deep"));
    }
}
