//! The labels of each series of a block: shapes and rows of differences.

use std::collections::BTreeMap;

use codec::varint::{put_u64, take_u64};

use crate::dictionary::{Dictionary, take_count};
use crate::error::{Fault, IndexError};
use crate::sections::Section;

/// A row that can be read without the one before comes this often: reading one series costs eight
/// rows on average, and a whole row in sixteen costs half a byte per series.
const RESTART_ROWS: u32 = 16;
/// Labels whose change a row of differences can tell.
const MASK_BITS: usize = 64;

/// Shapes and rows, as they are in the file.
pub(crate) struct SeriesRows {
    shapes: Shapes,
    /// The section, shapes included.
    bytes: Vec<u8>,
    /// Where every sixteenth row begins.
    restarts: Vec<u32>,
}

/// Lists of label names that series have.
struct Shapes {
    labels: Vec<ShapeLabel>,
    /// Where the labels of each shape end.
    ends: Vec<u32>,
}

/// A label of a shape.
#[derive(Debug, Clone, Copy)]
struct ShapeLabel {
    name: u32,
    /// The pair with the name's first value.
    first_pair: u32,
    /// How many values the name has.
    values: u32,
}

/// The series that was read last.
#[derive(Default)]
struct Row {
    shape: std::ops::Range<usize>,
    pairs: Vec<u32>,
}

/// Writes shapes and rows.
#[derive(Default)]
pub(crate) struct RowEncoder {
    shapes: BTreeMap<Vec<u32>, u32>,
    shape_bytes: Vec<u8>,
    rows: Vec<u8>,
    count: u32,
    /// Names and values of the row before.
    names: Vec<u32>,
    values: Vec<u32>,
}

impl RowEncoder {
    /// Appends a series: the numbers of its names, ascending, and of its values among those of
    /// their names.
    pub(crate) fn push(&mut self, names: &[u32], values: &[u32]) {
        let starts_anew = self.count.is_multiple_of(RESTART_ROWS) || names != self.names;
        let mask = if starts_anew { None } else { changed(&self.values, values) };
        match mask {
            Some(mask) => {
                put_u64(&mut self.rows, mask);
                for (index, &value) in values.iter().enumerate().take(MASK_BITS) {
                    if mask >> index & 1 == 1 {
                        put_u64(&mut self.rows, value.into());
                    }
                }
            }
            None => {
                let shape = self.shape(names);
                put_u64(&mut self.rows, 0);
                put_u64(&mut self.rows, shape.into());
                for &value in values {
                    put_u64(&mut self.rows, value.into());
                }
            }
        }
        self.count += 1;
        names.clone_into(&mut self.names);
        values.clone_into(&mut self.values);
    }

    fn shape(&mut self, names: &[u32]) -> u32 {
        if let Some(&known) = self.shapes.get(names) {
            return known;
        }
        let number = self.shapes.len() as u32;
        self.shapes.insert(names.to_vec(), number);
        put_u64(&mut self.shape_bytes, names.len() as u64);
        let mut next = 0;
        for &name in names {
            put_u64(&mut self.shape_bytes, u64::from(name - next));
            next = name + 1;
        }
        number
    }

    /// Appends the section to `out`.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        put_u64(out, self.shapes.len() as u64);
        out.extend_from_slice(&self.shape_bytes);
        out.extend_from_slice(&self.rows);
    }
}

/// Which values changed, as bits; `None` if none did or one has no bit.
fn changed(before: &[u32], after: &[u32]) -> Option<u64> {
    let mut mask = 0;
    for (index, (a, b)) in before.iter().zip(after).enumerate() {
        if a != b {
            mask |= 1_u64.checked_shl(index as u32)?;
        }
    }
    (mask != 0).then_some(mask)
}

impl SeriesRows {
    /// Reads and checks a section of `series` rows; yields how many labels they have, too.
    pub(crate) fn open(
        section: Section,
        series: u32,
        dictionary: &Dictionary,
    ) -> Result<(Self, u64), IndexError> {
        let (shapes, restarts, labels) = section.read(|input| {
            let total = input.len();
            let shapes = Shapes::decode(input, dictionary)?;
            let mut restarts = Vec::new();
            let mut row = Row::default();
            let mut labels = 0;
            for number in 0..series {
                if number.is_multiple_of(RESTART_ROWS) {
                    if input.first() != Some(&0) {
                        return Err(Fault::Invalid("row does not start anew"));
                    }
                    // Sections are below 4 GiB.
                    restarts.push((total - input.len()) as u32);
                }
                row.read(&shapes, input)?;
                labels += row.pairs.len() as u64;
            }
            restarts.shrink_to_fit();
            Ok((shapes, restarts, labels))
        })?;
        Ok((SeriesRows { shapes, bytes: section.raw, restarts }, labels))
    }

    /// Reads rows, from any to any.
    pub(crate) fn cursor(&self) -> RowCursor<'_> {
        RowCursor { rows: self, next: 0, rest: &[], row: Row::default() }
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.capacity()
            + (self.restarts.capacity() + self.shapes.ends.capacity()) * 4
            + self.shapes.labels.capacity() * size_of::<ShapeLabel>()
    }
}

/// Reads one series after the other. Going on to a near one costs little.
pub(crate) struct RowCursor<'a> {
    rows: &'a SeriesRows,
    /// The row that `rest` starts with.
    next: u32,
    rest: &'a [u8],
    row: Row,
}

impl RowCursor<'_> {
    /// Names and pairs of the labels of `series`.
    pub(crate) fn labels_of(&mut self, series: u32) -> impl Iterator<Item = (u32, u32)> {
        self.seek(series);
        let names = self.rows.shapes.labels[self.row.shape.clone()].iter().map(|l| l.name);
        names.zip(self.row.pairs.iter().copied())
    }

    fn seek(&mut self, series: u32) {
        let restart = series / RESTART_ROWS;
        if series.checked_add(1) == Some(self.next) {
            return;
        }
        if self.next <= restart * RESTART_ROWS || self.next > series {
            self.next = restart * RESTART_ROWS;
            self.rest = &self.rows.bytes[self.rows.restarts[restart as usize] as usize..];
        }
        while self.next <= series {
            self.row.read(&self.rows.shapes, &mut self.rest).expect("checked when opened");
            self.next += 1;
        }
    }
}

impl crate::select::Rows for RowCursor<'_> {
    fn pairs_of(&mut self, series: u32) -> &[u32] {
        self.seek(series);
        &self.row.pairs
    }
}

impl Row {
    /// Reads the row that `input` starts with; `self` is the row before.
    fn read(&mut self, shapes: &Shapes, input: &mut &[u8]) -> Result<(), Fault> {
        let mut mask = take_u64(input)?;
        if mask == 0 {
            self.shape = shapes.get(take_u64(input)?)?;
            self.pairs.clear();
            self.pairs.reserve(self.shape.len());
            for label in &shapes.labels[self.shape.clone()] {
                self.pairs.push(label.take_pair(input)?);
            }
            return Ok(());
        }
        let labels = &shapes.labels[self.shape.clone()];
        while mask != 0 {
            let index = mask.trailing_zeros() as usize;
            let label = labels.get(index).ok_or(Fault::Invalid("row changes a missing label"))?;
            self.pairs[index] = label.take_pair(input)?;
            mask &= mask - 1;
        }
        Ok(())
    }
}

impl ShapeLabel {
    #[inline]
    fn take_pair(&self, input: &mut &[u8]) -> Result<u32, Fault> {
        let value = take_u64(input)?;
        if value >= u64::from(self.values) {
            return Err(Fault::Invalid("row has a value that its label has not"));
        }
        Ok(self.first_pair + value as u32)
    }
}

impl Shapes {
    fn decode(input: &mut &[u8], dictionary: &Dictionary) -> Result<Self, Fault> {
        let mut shapes = Shapes { labels: Vec::new(), ends: Vec::new() };
        for _ in 0..take_count(input)? {
            let mut next = 0_u64;
            for _ in 0..take_count(input)? {
                let name = next.saturating_add(take_u64(input)?);
                if name >= dictionary.names_len() as u64 {
                    return Err(Fault::Invalid("shape has a name that there is not"));
                }
                next = name + 1;
                let pairs = dictionary.pairs_of(name as u32);
                shapes.labels.push(ShapeLabel {
                    name: name as u32,
                    first_pair: pairs.start,
                    values: pairs.end - pairs.start,
                });
            }
            let end = u32::try_from(shapes.labels.len()).expect("less than the section has");
            shapes.ends.push(end);
        }
        shapes.labels.shrink_to_fit();
        shapes.ends.shrink_to_fit();
        Ok(shapes)
    }

    fn get(&self, shape: u64) -> Result<std::ops::Range<usize>, Fault> {
        let number = usize::try_from(shape).ok().filter(|number| *number < self.ends.len());
        let number = number.ok_or(Fault::Invalid("row has a shape that there is not"))?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Ok(start as usize..self.ends[number] as usize)
    }
}
