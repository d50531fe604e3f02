//! A column of a row group, value by value, one page in memory.

use super::budget::Budget;
use super::delta::Delta;
use super::footer::Chunk;
use super::hybrid::Hybrid;
use super::page::{self, Kind};
use super::{damaged, refused};
use crate::WireError;

/// Physical types, by the numbers of `parquet.thrift`.
pub(super) const INT32: i64 = 1;
pub(super) const INT64: i64 = 2;
pub(super) const INT96: i64 = 3;
pub(super) const FLOAT: i64 = 4;
pub(super) const DOUBLE: i64 = 5;
pub(super) const BYTE_ARRAY: i64 = 6;

const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;
const BYTE_STREAM_SPLIT: i64 = 9;

/// What is the same for a column in all row groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its place among the columns of a row group.
    pub(super) place: usize,
    pub(super) kind: i64,
    /// Where a value is there.
    pub(super) max_definition: u32,
    pub(super) max_repetition: u32,
    /// Where the innermost list has an entry; 0 without a list.
    pub(super) entry_definition: u32,
}

/// What one entry of a column says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// 0 where a row begins.
    pub(super) repetition: u32,
    pub(super) definition: u32,
    /// Where the value is, until the next entry is read.
    value: Option<Place>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Page(usize, usize),
    Dictionary(usize, usize),
    /// Made of bytes that lie apart.
    Own([u8; 8], usize),
}

/// A column of a row group.
pub(super) struct Column<'b> {
    file: &'b [u8],
    chunk: Chunk,
    leaf: Leaf,
    dictionary: Vec<u8>,
    /// Of texts, where each of them lies in `dictionary`.
    texts: Vec<(u32, u32)>,
    page: Page,
    next_levels: Option<(u32, u32)>,
}

/// The page at hand.
#[derive(Default)]
struct Page {
    /// Where it begins in the file.
    offset: usize,
    bytes: Vec<u8>,
    left: u64,
    repetitions: Hybrid,
    definitions: Hybrid,
    values: Values,
}

#[derive(Default)]
enum Values {
    #[default]
    None,
    Plain {
        at: usize,
    },
    Dictionary(Hybrid),
    Delta(Delta),
    /// Lengths of texts, and where the next one begins.
    Lengths(Delta, usize),
    /// Where bytes begin, how many values there are, which comes next.
    Split {
        at: usize,
        count: usize,
        next: usize,
    },
}

impl<'b> Column<'b> {
    /// The column `leaf` of a row group with these `chunks`.
    pub(super) fn new(file: &'b [u8], leaf: Leaf, chunks: &[Chunk]) -> Result<Self, WireError> {
        let chunk = chunks.get(leaf.place).filter(|chunk| chunk.kind == leaf.kind);
        let chunk = *chunk
            .ok_or_else(|| damaged(file.len(), "a row group has other columns than the schema"))?;
        Ok(Column {
            file,
            chunk,
            leaf,
            dictionary: Vec::new(),
            texts: Vec::new(),
            page: Page::default(),
            next_levels: None,
        })
    }

    /// Whether the next entry goes on with the row of the one before.
    pub(super) fn goes_on(&mut self, budget: &mut Budget) -> Result<bool, WireError> {
        Ok(self.peek(budget)?.is_some_and(|(repetition, _)| repetition > 0))
    }

    /// Whether there are no more entries.
    pub(super) fn is_at_end(&mut self, budget: &mut Budget) -> Result<bool, WireError> {
        Ok(self.peek(budget)?.is_none())
    }

    /// The next entry, which has to be there.
    pub(super) fn next(&mut self, budget: &mut Budget) -> Result<Entry, WireError> {
        let Some((repetition, definition)) = self.peek(budget)? else {
            return Err(damaged(self.chunk.end, "a column has fewer values than there are rows"));
        };
        self.next_levels = None;
        let mut entry = Entry { repetition, definition, value: None };
        if definition == self.leaf.max_definition {
            let value = self.value().map_err(|reason| damaged(self.page.offset, reason))?;
            entry.value = Some(value);
        }
        Ok(entry)
    }

    /// The bytes of an entry's value; [`None`] for null.
    pub(super) fn bytes<'e>(&'e self, entry: &'e Entry) -> Option<&'e [u8]> {
        match entry.value.as_ref()? {
            Place::Page(start, end) => Some(&self.page.bytes[*start..*end]),
            Place::Dictionary(start, end) => Some(&self.dictionary[*start..*end]),
            Place::Own(bytes, len) => Some(&bytes[..*len]),
        }
    }

    /// Gives its memory back.
    pub(super) fn close(self, budget: &mut Budget) {
        budget.give_back(self.page.bytes.len() + self.dictionary_bytes());
    }

    fn dictionary_bytes(&self) -> usize {
        self.dictionary.len() + self.texts.len() * size_of::<(u32, u32)>()
    }

    fn peek(&mut self, budget: &mut Budget) -> Result<Option<(u32, u32)>, WireError> {
        if self.next_levels.is_some() {
            return Ok(self.next_levels);
        }
        while self.page.left == 0 {
            if self.chunk.start >= self.chunk.end {
                return Ok(None);
            }
            self.load(budget)?;
        }
        let page = &mut self.page;
        page.left -= 1;
        let offset = page.offset;
        let level = |levels: &mut Hybrid, max: u32| {
            let level = levels.next(&page.bytes).map_err(|reason| damaged(offset, reason))?;
            if level > max {
                return Err(damaged(offset, "a level is higher than the schema allows"));
            }
            Ok(level)
        };
        let repetition = level(&mut page.repetitions, self.leaf.max_repetition)?;
        let definition = level(&mut page.definitions, self.leaf.max_definition)?;
        self.next_levels = Some((repetition, definition));
        Ok(self.next_levels)
    }

    /// Reads one page, of whatever kind.
    fn load(&mut self, budget: &mut Budget) -> Result<(), WireError> {
        let old = std::mem::take(&mut self.page);
        budget.give_back(old.bytes.len());
        drop(old);
        let (offset, end) = (self.chunk.start, self.chunk.end);
        let header = page::Header::read(self.file, offset, end, budget)?;
        self.chunk.start = header.end;
        let levels = match header.kind {
            Kind::Other => return Ok(()),
            Kind::Dictionary => None,
            Kind::Data => Some(page::Levels::Inside),
            Kind::DataTwo { repetitions, definitions, .. } => {
                Some(page::Levels::Before { repetitions, definitions })
            }
        };
        let bytes = header.unpack(self.file, self.chunk.codec, budget)?;
        budget.work((bytes.len() as u64).saturating_add(header.values.saturating_mul(4)))?;
        let failed = |reason| damaged(offset, reason);
        let Some(levels) = levels else {
            if !matches!(header.encoding, PLAIN | PLAIN_DICTIONARY) {
                return Err(failed("a dictionary is not plain"));
            }
            if !self.dictionary.is_empty() {
                return Err(failed("a column of a row group has two dictionaries"));
            }
            self.dictionary = bytes;
            if self.leaf.kind == BYTE_ARRAY {
                self.find_texts().map_err(failed)?;
                budget.hold(self.texts.len() * size_of::<(u32, u32)>())?;
            }
            return Ok(());
        };
        let (repetitions, definitions, at) = levels
            .find(&bytes, self.leaf.max_repetition, self.leaf.max_definition)
            .map_err(failed)?;
        let values = self.values(header.encoding, &bytes, at, header.values).map_err(failed)?;
        let values = values.ok_or_else(|| not_read(header.encoding))?;
        if let Values::Delta(delta) | Values::Lengths(delta, _) = &values
            && delta.left() > header.values
        {
            return Err(failed("a page has more numbers than values"));
        }
        let values = match values {
            Values::Lengths(delta, _) => {
                // The texts lie behind all lengths.
                let mut ahead = delta.clone();
                for _ in 0..delta.left() {
                    ahead.next(&bytes).map_err(failed)?;
                }
                Values::Lengths(delta, ahead.at())
            }
            values => values,
        };
        self.page = Page { offset, bytes, left: header.values, repetitions, definitions, values };
        Ok(())
    }

    fn find_texts(&mut self) -> Result<(), &'static str> {
        let mut at = 0;
        while at < self.dictionary.len() {
            let (start, end) = plain_text(&self.dictionary, at)?;
            self.texts.push((start as u32, end as u32));
            at = end;
        }
        Ok(())
    }

    /// The values from `at` on; [`None`] for an encoding that is not read.
    fn values(
        &self,
        encoding: i64,
        bytes: &[u8],
        at: usize,
        entries: u64,
    ) -> Result<Option<Values>, &'static str> {
        let end = bytes.len();
        Ok(Some(match (encoding, self.leaf.kind) {
            (PLAIN, _) => Values::Plain { at },
            // A page of nulls may have nothing.
            (PLAIN_DICTIONARY | RLE_DICTIONARY, _) if at < end => {
                let width = u32::from(bytes[at]);
                if width > 32 {
                    return Err("places in a dictionary have more than 32 bits");
                }
                Values::Dictionary(Hybrid::new(at + 1, end, width))
            }
            (DELTA_BINARY_PACKED, INT32 | INT64) if at < end => {
                Values::Delta(Delta::new(bytes, at, end)?)
            }
            (DELTA_LENGTH_BYTE_ARRAY, BYTE_ARRAY) if at < end => {
                Values::Lengths(Delta::new(bytes, at, end)?, at)
            }
            (
                PLAIN_DICTIONARY | RLE_DICTIONARY | DELTA_BINARY_PACKED | DELTA_LENGTH_BYTE_ARRAY,
                _,
            ) if at == end => Values::None,
            (BYTE_STREAM_SPLIT, INT32 | INT64 | FLOAT | DOUBLE) => {
                let count = (end - at) / width_of(self.leaf.kind);
                if count as u64 > entries {
                    return Err("a page has more numbers than values");
                }
                Values::Split { at, count, next: 0 }
            }
            _ => return Ok(None),
        }))
    }

    fn value(&mut self) -> Result<Place, &'static str> {
        let (kind, page) = (self.leaf.kind, &mut self.page);
        let bytes = &page.bytes;
        match &mut page.values {
            Values::None => Err("a page has fewer values than it says"),
            Values::Plain { at } => {
                let (start, end) = match kind {
                    BYTE_ARRAY => plain_text(bytes, *at)?,
                    _ => (*at, *at + width_of(kind)),
                };
                if end > bytes.len() {
                    return Err("a page has fewer values than it says");
                }
                *at = end;
                Ok(Place::Page(start, end))
            }
            Values::Dictionary(places) => {
                let place = places.next(bytes)? as usize;
                let found = match kind {
                    BYTE_ARRAY => self.texts.get(place).map(|(a, b)| (*a as usize, *b as usize)),
                    _ => {
                        let width = width_of(kind);
                        place.checked_mul(width).map(|start| (start, start.saturating_add(width)))
                    }
                };
                found
                    .filter(|(_, end)| *end <= self.dictionary.len())
                    .map(|(start, end)| Place::Dictionary(start, end))
                    .ok_or("a value is not in the dictionary")
            }
            Values::Delta(delta) => {
                Ok(Place::Own(delta.next(bytes)?.to_le_bytes(), width_of(kind)))
            }
            Values::Lengths(delta, at) => {
                let len =
                    usize::try_from(delta.next(bytes)?).map_err(|_| "a text has no length")?;
                let end = at.checked_add(len).filter(|end| *end <= bytes.len());
                let end = end.ok_or("a text runs past the end of its page")?;
                Ok(Place::Page(std::mem::replace(at, end), end))
            }
            Values::Split { at, count, next } => {
                if next == count {
                    return Err("a page has fewer values than it says");
                }
                let (mut own, width) = ([0; 8], width_of(kind));
                for (part, byte) in own.iter_mut().take(width).enumerate() {
                    *byte = bytes[*at + part * *count + *next];
                }
                *next += 1;
                Ok(Place::Own(own, width))
            }
        }
    }
}

fn not_read(encoding: i64) -> WireError {
    let name = match encoding {
        DELTA_BINARY_PACKED => "DELTA_BINARY_PACKED, of other than integers",
        DELTA_LENGTH_BYTE_ARRAY => "DELTA_LENGTH_BYTE_ARRAY, of other than texts",
        DELTA_BYTE_ARRAY => "DELTA_BYTE_ARRAY",
        BYTE_STREAM_SPLIT => "BYTE_STREAM_SPLIT, of other than numbers",
        _ => "an encoding of another number",
    };
    refused(format!(
        "a column is written in {name} ({encoding}), which is not read; use dictionaries or \
         PLAIN"
    ))
}

/// Bytes of a number of a physical type.
fn width_of(kind: i64) -> usize {
    match kind {
        INT32 | FLOAT => 4,
        INT96 => 12,
        _ => 8,
    }
}

/// Where a text with its length in front lies in `bytes`.
fn plain_text(bytes: &[u8], at: usize) -> Result<(usize, usize), &'static str> {
    let start = at + 4;
    let len = bytes.get(at..start).ok_or("a page has fewer values than it says")?;
    let len = len.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
    let end = start.checked_add(len).filter(|end| *end <= bytes.len());
    end.map(|end| (start, end)).ok_or("a text runs past the end of its page")
}
