//! Pages: headers, codecs, and where levels lie.

use super::budget::Budget;
use super::hybrid::Hybrid;
use super::thrift::{Field, Reader};
use super::{damaged, refused};
use crate::WireError;
use crate::decompress::{Encoding, decompress};

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dictionary,
    /// Levels and values compressed together.
    Data,
    /// Levels of so many bytes, then values.
    DataTwo {
        repetitions: usize,
        definitions: usize,
        is_compressed: bool,
    },
    /// An index, which nobody writes; or what is not known.
    Other,
}

/// What stands in front of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Values, nulls and empty lists with them.
    pub(super) values: u64,
    pub(super) encoding: i64,
    start: usize,
    /// Where the page ends in the file.
    pub(super) end: usize,
    unpacked: usize,
}

impl Header {
    /// Reads the header at `at` of a column that ends at `end`.
    pub(super) fn read(
        file: &[u8],
        at: usize,
        end: usize,
        budget: &mut Budget,
    ) -> Result<Self, WireError> {
        let mut reader = Reader::new(file, at, end);
        let (mut number, mut unpacked, mut packed) = (-1, -1, -1);
        let (mut values, mut encoding, mut level_encodings) = (0, 0, RLE);
        let (mut repetitions, mut definitions, mut is_compressed) = (0, 0, true);
        reader.fields(|reader, field| {
            let own = field.number;
            match own {
                1 => number = reader.int(field)?,
                2 => unpacked = reader.int(field)?,
                3 => packed = reader.int(field)?,
                5 | 7 | 8 => {
                    reader.structure(field)?;
                    reader.fields(|reader, field: Field| {
                        match (own, field.number) {
                            (_, 1) => values = reader.int(field)?,
                            (5 | 7, 2) | (8, 4) => encoding = reader.int(field)?,
                            // Some writers say something where there are no levels.
                            (5, 3) => level_encodings = reader.int(field)?,
                            (8, 5) => definitions = reader.int(field)?,
                            (8, 6) => repetitions = reader.int(field)?,
                            (8, 7) => is_compressed = reader.boolean(field)?,
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let size = |size: i64| usize::try_from(size).map_err(|_| damaged(at, "a page has no size"));
        let kind = match number {
            0 if level_encodings != RLE => {
                return Err(refused(
                    "levels are written as BIT_PACKED, as only the oldest programs do".to_owned(),
                ));
            }
            0 => Kind::Data,
            2 => Kind::Dictionary,
            3 => Kind::DataTwo {
                repetitions: size(repetitions)?,
                definitions: size(definitions)?,
                is_compressed,
            },
            _ => Kind::Other,
        };
        let start = reader.at();
        // Many row groups may name the same place.
        budget.work((start - at) as u64)?;
        let page_end = start.checked_add(size(packed)?).filter(|page_end| *page_end <= end);
        Ok(Header {
            kind,
            values: u64::try_from(values)
                .map_err(|_| damaged(at, "a page has less than no values"))?,
            encoding,
            start,
            end: page_end.ok_or_else(|| damaged(at, "a page runs past the end of its column"))?,
            unpacked: size(unpacked)?,
        })
    }

    /// The bytes of the page, which the budget holds then.
    pub(super) fn unpack(
        &self,
        file: &[u8],
        codec: i64,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, WireError> {
        budget.hold(self.unpacked)?;
        let mut bytes = Vec::new();
        let mut packed = &file[self.start..self.end];
        let mut codec = codec;
        if let Kind::DataTwo { repetitions, definitions, is_compressed } = self.kind {
            let levels = repetitions
                .checked_add(definitions)
                .filter(|levels| *levels <= packed.len() && *levels <= self.unpacked);
            let levels =
                levels.ok_or_else(|| damaged(self.start, "levels are longer than their page"))?;
            bytes.extend_from_slice(&packed[..levels]);
            packed = &packed[levels..];
            // Nothing is compressed to nothing by some writers.
            if !is_compressed || packed.is_empty() {
                codec = UNCOMPRESSED;
            }
        }
        let encoding = match codec {
            UNCOMPRESSED => Encoding::Identity,
            1 => Encoding::SnappyBlock,
            2 => Encoding::Gzip,
            6 => Encoding::Zstd,
            other => {
                let names = ["LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW"];
                let name = usize::try_from(other - 3).ok().and_then(|place| names.get(place));
                return Err(refused(format!(
                    "it is compressed with {}; write it with snappy, gzip, zstd or none",
                    name.map_or_else(|| other.to_string(), |name| (*name).to_owned())
                )));
            }
        };
        let room = self.unpacked - bytes.len();
        decompress(encoding, packed, room, &mut bytes).map_err(|error| match error {
            WireError::Compression { encoding, reason } => refused(format!(
                "the page at byte {} cannot be unpacked with {encoding}: {reason}",
                self.start
            )),
            _ => damaged(self.start, "a page has another size than its header says"),
        })?;
        if bytes.len() != self.unpacked {
            return Err(damaged(self.start, "a page has another size than its header says"));
        }
        Ok(bytes)
    }
}

const RLE: i64 = 3;
const UNCOMPRESSED: i64 = 0;

/// Where the levels of a page are.
pub(super) enum Levels {
    /// In front of the values, each with its length.
    Inside,
    /// In front of the values, with lengths that the header has.
    Before { repetitions: usize, definitions: usize },
}

impl Levels {
    /// Repetitions, definitions, and where the values begin.
    pub(super) fn find(
        self,
        bytes: &[u8],
        max_repetition: u32,
        max_definition: u32,
    ) -> Result<(Hybrid, Hybrid, usize), &'static str> {
        let width = |max: u32| u32::BITS - max.leading_zeros();
        if let Levels::Before { repetitions, definitions } = self {
            let end = repetitions + definitions;
            return Ok((
                Hybrid::new(0, repetitions, width(max_repetition)),
                Hybrid::new(repetitions, end, width(max_definition)),
                end,
            ));
        }
        let mut at = 0;
        let mut levels = |max: u32| -> Result<Hybrid, &'static str> {
            if max == 0 {
                return Ok(Hybrid::default());
            }
            let len = bytes.get(at..at + 4).ok_or("levels are cut off")?;
            let len = len.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let start = at + 4;
            let end = start.checked_add(len).filter(|end| *end <= bytes.len());
            at = end.ok_or("levels are longer than their page")?;
            Ok(Hybrid::new(start, at, width(max)))
        };
        let (repetitions, definitions) = (levels(max_repetition)?, levels(max_definition)?);
        Ok((repetitions, definitions, at))
    }
}
