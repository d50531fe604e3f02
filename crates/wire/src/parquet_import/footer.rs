//! What the end of a file says: its columns, and where those of each row group lie.

use super::thrift::{Field, Reader};
use super::{damaged, refused};
use crate::WireError;

const MAGIC: &[u8; 4] = b"PAR1";
const MAGIC_ENCRYPTED: &[u8; 4] = b"PARE";
/// Columns and what groups them.
const MAX_ELEMENTS: usize = 10_000;

/// What a number of eight bytes counts as a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// A column or what groups columns, as the schema has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Element<'b> {
    pub(super) name: &'b [u8],
    /// Number of the physical type; groups have none.
    pub(super) kind: Option<i64>,
    pub(super) repetition: i64,
    pub(super) children: i64,
    pub(super) converted: Option<i64>,
    /// Field of the union `LogicalType`.
    pub(super) logical: Option<i64>,
    pub(super) unit: Option<Unit>,
}

/// The columns of a row group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) rows: u64,
    /// In the order of the schema's leaves.
    pub(super) chunks: Vec<Chunk>,
}

/// Where a column of a row group lies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk {
    pub(super) kind: i64,
    pub(super) codec: i64,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The footer of a file, row groups not yet read.
pub(super) struct Footer<'b> {
    pub(super) elements: Vec<Element<'b>>,
    groups: Reader<'b>,
    groups_left: usize,
}

impl<'b> Footer<'b> {
    pub(super) fn read(file: &'b [u8]) -> Result<Self, WireError> {
        let (end, start) = bounds(file)?;
        let mut elements = Vec::new();
        let mut groups = None;
        let mut reader = Reader::new(file, start, end);
        reader.fields(|reader, field| {
            match field.number {
                2 => {
                    for _ in 0..reader.structs(field)? {
                        if elements.len() == MAX_ELEMENTS {
                            let told = format!("it has more than {MAX_ELEMENTS} columns");
                            return Err(refused(told));
                        }
                        elements.push(element(reader)?);
                    }
                }
                4 => {
                    let count = reader.structs(field)?;
                    groups = Some((reader.clone(), count));
                    // They are read one at a time later: a footer may list very many.
                    for _ in 0..count {
                        reader.fields(|_, _| Ok(false))?;
                    }
                }
                8 => return Err(refused("it is encrypted".to_owned())),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (groups, groups_left) =
            groups.ok_or_else(|| damaged(start, "the footer lists no row groups"))?;
        Ok(Footer { elements, groups, groups_left })
    }

    /// The next row group of the file `file`; [`None`] behind the last.
    pub(super) fn next_group(&mut self, file: &[u8]) -> Result<Option<Group>, WireError> {
        if self.groups_left == 0 {
            return Ok(None);
        }
        self.groups_left -= 1;
        let mut group = Group::default();
        let at = self.groups.at();
        self.groups.fields(|reader, field| {
            match field.number {
                1 => {
                    for _ in 0..reader.structs(field)? {
                        if group.chunks.len() == MAX_ELEMENTS {
                            return Err(damaged(reader.at(), "a row group has too many columns"));
                        }
                        group.chunks.push(chunk(reader, file)?);
                    }
                }
                3 => {
                    group.rows = u64::try_from(reader.int(field)?)
                        .map_err(|_| damaged(at, "a row group has less than no rows"))?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Some(group))
    }
}

/// Where the footer ends and where it begins.
fn bounds(file: &[u8]) -> Result<(usize, usize), WireError> {
    if !file.starts_with(MAGIC) || file.len() < 12 {
        return Err(damaged(0, "this is no Parquet file, which begins with PAR1"));
    }
    let end = file.len() - 8;
    if file.ends_with(MAGIC_ENCRYPTED) {
        return Err(refused("it is encrypted".to_owned()));
    }
    if !file.ends_with(MAGIC) {
        return Err(damaged(end + 4, "the file is cut off: it does not end with PAR1"));
    }
    let mut len = [0; 4];
    len.copy_from_slice(&file[end..end + 4]);
    let start = end.checked_sub(u32::from_le_bytes(len) as usize).filter(|start| *start >= 4);
    start
        .map(|start| (end, start))
        .ok_or_else(|| damaged(end, "the footer is longer than the file"))
}

fn element<'b>(reader: &mut Reader<'b>) -> Result<Element<'b>, WireError> {
    let mut element = Element::default();
    reader.fields(|reader, field| {
        match field.number {
            1 => element.kind = Some(reader.int(field)?),
            3 => element.repetition = reader.int(field)?,
            4 => element.name = reader.binary(field)?,
            5 => element.children = reader.int(field)?,
            6 => element.converted = Some(reader.int(field)?),
            10 => logical(reader, field, &mut element)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // Written by older programs, and beside the logical type by newer ones.
    element.unit = element.unit.or(match element.converted {
        Some(9) => Some(Unit::Milliseconds),
        Some(10) => Some(Unit::Microseconds),
        _ => None,
    });
    Ok(element)
}

/// `LogicalType`, of which only the unit of a `TIMESTAMP` is looked at.
fn logical(
    reader: &mut Reader<'_>,
    field: Field,
    element: &mut Element<'_>,
) -> Result<(), WireError> {
    reader.structure(field)?;
    reader.fields(|reader, field| {
        element.logical = Some(field.number);
        if field.number != 8 {
            return Ok(false);
        }
        reader.structure(field)?;
        reader.fields(|reader, field| {
            if field.number != 2 {
                return Ok(false);
            }
            reader.structure(field)?;
            reader.fields(|_, field| {
                element.unit = match field.number {
                    1 => Some(Unit::Milliseconds),
                    2 => Some(Unit::Microseconds),
                    3 => Some(Unit::Nanoseconds),
                    _ => None,
                };
                Ok(false)
            })?;
            Ok(true)
        })?;
        Ok(true)
    })
}

fn chunk(reader: &mut Reader<'_>, file: &[u8]) -> Result<Chunk, WireError> {
    let at = reader.at();
    let mut chunk = None;
    reader.fields(|reader, field| {
        match field.number {
            1 => {
                reader.binary(field)?;
                return Err(refused("its columns lie in other files".to_owned()));
            }
            3 => {
                reader.structure(field)?;
                chunk = Some(chunk_metadata(reader, file)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    chunk.ok_or_else(|| damaged(at, "a column of a row group is encrypted or not described"))
}

fn chunk_metadata(reader: &mut Reader<'_>, file: &[u8]) -> Result<Chunk, WireError> {
    let place = reader.at();
    let mut chunk = Chunk::default();
    let (mut size, mut data, mut dictionary) = (0, 0, 0);
    reader.fields(|reader, field| {
        match field.number {
            1 => chunk.kind = reader.int(field)?,
            4 => chunk.codec = reader.int(field)?,
            7 => size = reader.int(field)?,
            9 => data = reader.int(field)?,
            11 => dictionary = reader.int(field)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // Some writers say 0 where there is none.
    let start = if dictionary > 0 { dictionary.min(data) } else { data };
    let range = usize::try_from(start).ok().zip(usize::try_from(size).ok());
    let range = range.and_then(|(start, size)| Some((start, start.checked_add(size)?)));
    let (start, end) = range
        .filter(|(_, end)| *end <= file.len())
        .ok_or_else(|| damaged(place, "a column runs past the end of the file"))?;
    (chunk.start, chunk.end) = (start, end);
    Ok(chunk)
}
