//! A group of a block, read as far as somebody wanted to know of it.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use blockstore::BlockError;
use codec::CodecError;
use codec::varint::take_prefixed;

use crate::block::LogBlock;
use crate::block_writer::MAX_LINE_BYTES;
use crate::column::{Column, starts_of, take_starts};
use crate::find;
use crate::group_table::{
    ColumnPage, FIRST_NAME, Group, LENGTHS, LINES, PageKind, REST, TIMESTAMPS,
};
use crate::metadata::Metadata;
use crate::page::corrupt;
use crate::planes::take_planes;
use crate::rows::{MetadataWanted, Rows};
use crate::template_lines::TemplateLines;
use crate::template_search;
use crate::texts::AnyOf;

/// A group of a block. Each column is read once, when it is asked for.
pub(crate) struct OpenGroup {
    block: Arc<LogBlock>,
    number: u32,
    timestamps: OnceLock<Vec<i64>>,
    starts: OnceLock<Vec<u32>>,
    lines: OnceLock<Lines>,
    rest: OnceLock<Rest>,
    /// By place among the pages of the group.
    columns: Box<[OnceLock<Column>]>,
    /// Places of the pages of metadata, in order of names.
    by_name: Box<[u32]>,
}

/// Lines as they were written.
enum Lines {
    /// All of them, one after the other.
    Text(Vec<u8>),
    Templates(TemplateLines),
}

/// A name and a value.
type Pair = (Box<str>, Box<str>);

impl Lines {
    /// Bytes of memory held, about.
    fn bytes(&self) -> usize {
        match self {
            Lines::Text(text) => text.len(),
            Lines::Templates(lines) => lines.bytes(),
        }
    }
}

/// Metadata that has no column.
struct Rest {
    /// Where the pairs of each row begin, and where those of the last one end.
    starts: Vec<u32>,
    pairs: Vec<Pair>,
}

/// The value of a cell, which `load` makes if it is empty.
fn get_or_load<T>(
    cell: &OnceLock<T>,
    load: impl FnOnce() -> Result<T, BlockError>,
) -> Result<&T, BlockError> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = load()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

impl OpenGroup {
    /// Opens a group; nothing is read yet.
    pub(crate) fn new(block: Arc<LogBlock>, number: u32) -> Self {
        let group = block.group(number);
        let names = &block.table().names;
        let is_named = |page: &ColumnPage| page.column >= FIRST_NAME;
        let mut by_name: Vec<u32> = (0..group.pages.len() as u32)
            .filter(|place| is_named(&group.pages[*place as usize]))
            .collect();
        by_name.sort_by_key(|place| {
            names[(group.pages[*place as usize].column - FIRST_NAME) as usize].as_str()
        });
        let columns = group.pages.iter().map(|_| OnceLock::new()).collect();
        OpenGroup {
            number,
            timestamps: OnceLock::new(),
            starts: OnceLock::new(),
            lines: OnceLock::new(),
            rest: OnceLock::new(),
            columns,
            by_name: by_name.into(),
            block,
        }
    }

    /// Whether it is this group of this block.
    pub(crate) fn is(&self, block: &Arc<LogBlock>, number: u32) -> bool {
        self.number == number && Arc::ptr_eq(&self.block, block)
    }

    fn group(&self) -> &Group {
        self.block.group(self.number)
    }

    /// Bytes of memory held, about.
    pub(crate) fn bytes(&self) -> usize {
        let of_columns: usize =
            self.columns.iter().filter_map(OnceLock::get).map(Column::bytes).sum();
        self.timestamps.get().map_or(0, |t| 8 * t.len())
            + self.starts.get().map_or(0, |s| 4 * s.len())
            + self.lines.get().map_or(0, Lines::bytes)
            + self.rest.get().map_or(0, |rest| 64 * rest.pairs.len())
            + of_columns
    }

    /// The content of one of the first pages.
    fn raw(&self, column: u32, what: &str) -> Result<Vec<u8>, BlockError> {
        self.group().pages[column as usize].page.read(self.block.file(), what)
    }

    fn fault(&self, column: u32, what: &str) -> impl Fn(CodecError) -> BlockError {
        let page = self.group().pages[column as usize].page;
        move |error| page.undecodable(what, &error)
    }

    fn load_timestamps(&self) -> Result<Vec<i64>, BlockError> {
        let (group, what) = (self.group(), "timestamps");
        let raw = self.raw(TIMESTAMPS, what)?;
        let mut timestamps = Vec::new();
        let mut input = raw.as_slice();
        codec::decode_i64s(&mut input, group.rows as usize, &mut timestamps)
            .map_err(self.fault(TIMESTAMPS, what))?;
        // What reads them relies on their order.
        let is_as_said = group.runs.iter().all(|run| {
            let of_run = &timestamps[run.first_row as usize..run.end_row() as usize];
            of_run.first() == Some(&run.first_ns)
                && of_run.last() == Some(&run.last_ns)
                && of_run.is_sorted()
        });
        if !is_as_said || !input.is_empty() {
            let offset = group.pages[TIMESTAMPS as usize].page.offset;
            return Err(corrupt(offset, "timestamps: not those that the group table says"));
        }
        Ok(timestamps)
    }

    fn load_starts(&self) -> Result<Vec<u32>, BlockError> {
        let (group, what) = (self.group(), "lengths of lines");
        let raw = self.raw(LENGTHS, what)?;
        let mut input = raw.as_slice();
        let rows = group.rows as usize;
        let starts = match self.lines_if_templates()? {
            Some(lines) => take_planes(&mut input, rows).and_then(|surplus| {
                starts_of(
                    (0..rows)
                        .map(|row| i64::from(lines.told_len(row)))
                        .zip(surplus)
                        .map(|(told, more)| told.wrapping_add(more)),
                )
            }),
            None => take_starts(&mut input, rows),
        };
        let starts = starts.map_err(self.fault(LENGTHS, what))?;
        let is_long = |pair: &[u32]| (pair[1] - pair[0]) as usize > MAX_LINE_BYTES;
        let end = starts.last().map_or(0, |end| u64::from(*end));
        if end != group.line_bytes || starts.windows(2).any(is_long) || !input.is_empty() {
            let offset = group.pages[LENGTHS as usize].page.offset;
            return Err(corrupt(offset, "lengths of lines: not those of the lines"));
        }
        Ok(starts)
    }

    fn lines(&self) -> Result<&Lines, BlockError> {
        get_or_load(&self.lines, || {
            let raw = self.raw(LINES, "lines")?;
            match self.group().pages[LINES as usize].kind {
                PageKind::Templates => TemplateLines::decode(raw, self.group().rows as usize)
                    .map(Lines::Templates)
                    .map_err(self.fault(LINES, "lines")),
                _ => Ok(Lines::Text(raw)),
            }
        })
    }

    fn lines_if_templates(&self) -> Result<Option<&TemplateLines>, BlockError> {
        if self.group().pages[LINES as usize].kind != PageKind::Templates {
            return Ok(None);
        }
        match self.lines()? {
            Lines::Templates(lines) => Ok(Some(lines)),
            Lines::Text(_) => Ok(None),
        }
    }

    fn load_rest(&self) -> Result<Rest, BlockError> {
        let Some(ColumnPage { page, .. }) = self.page_of(REST) else {
            return Ok(Rest { starts: vec![0; self.group().rows as usize + 1], pairs: Vec::new() });
        };
        let what = "metadata without columns";
        let raw = page.read(self.block.file(), what)?;
        let mut input = raw.as_slice();
        let mut take = || {
            let starts = take_starts(&mut input, self.group().rows as usize)?;
            let count = starts.last().map_or(0, |end| *end as usize);
            // A pair takes two bytes at least.
            let mut pairs = Vec::with_capacity(count.min(input.len() / 2));
            for _ in 0..count {
                let mut text = || {
                    let bytes = take_prefixed(&mut input)?;
                    std::str::from_utf8(bytes).map(Box::from).map_err(|e| CodecError::Invalid {
                        offset: 0,
                        field: "text that is UTF-8 up to",
                        found: e.valid_up_to() as u64,
                    })
                };
                pairs.push((text()?, text()?));
            }
            Ok(Rest { starts, pairs })
        };
        take().map_err(|error| page.undecodable(what, &error))
    }

    fn page_of(&self, column: u32) -> Option<&ColumnPage> {
        let pages = &self.group().pages;
        let at = pages.binary_search_by_key(&column, |page| page.column).ok()?;
        Some(&pages[at])
    }

    fn name_of(&self, place: u32) -> &str {
        let column = self.group().pages[place as usize].column;
        &self.block.table().names[(column - FIRST_NAME) as usize]
    }

    fn column(&self, place: u32) -> Result<&Column, BlockError> {
        get_or_load(&self.columns[place as usize], || {
            let ColumnPage { page, kind, .. } = &self.group().pages[place as usize];
            let PageKind::Column(kind) = kind else {
                return Err(corrupt(page.offset, "metadata: page of another kind"));
            };
            let raw = page.read(self.block.file(), "metadata")?;
            Column::decode(*kind, self.group().rows as usize, &raw)
                .map_err(|error| page.undecodable("metadata", &error))
        })
    }

    /// The pairs of a row that have no column.
    fn rest_of(&self, row: usize) -> Result<&[Pair], BlockError> {
        // Fast path: hardly a group has some.
        if self.page_of(REST).is_none() {
            return Ok(&[]);
        }
        let rest = get_or_load(&self.rest, || self.load_rest())?;
        Ok(&rest.pairs[rest.starts[row] as usize..rest.starts[row + 1] as usize])
    }
}

impl Rows for OpenGroup {
    fn timestamps(&self) -> Result<&[i64], BlockError> {
        get_or_load(&self.timestamps, || self.load_timestamps()).map(Vec::as_slice)
    }

    fn starts(&self) -> Result<&[u32], BlockError> {
        get_or_load(&self.starts, || self.load_starts()).map(Vec::as_slice)
    }

    fn line<'a>(&'a self, row: u32, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], BlockError> {
        let starts = self.starts()?;
        let (start, end) = (starts[row as usize] as usize, starts[row as usize + 1] as usize);
        match self.lines()? {
            Lines::Text(text) => Ok(&text[start..end]),
            Lines::Templates(lines) => {
                scratch.clear();
                lines
                    .write_line(row as usize, end - start, self.timestamps()?, scratch)
                    .map_err(self.fault(LINES, "lines"))?;
                Ok(scratch)
            }
        }
    }

    fn rows_with(&self, needles: &[AnyOf], rows: Range<u32>) -> Result<Vec<u32>, BlockError> {
        match self.lines()? {
            Lines::Text(text) => Ok(find::rows_with(needles, rows, self.starts()?, text)),
            Lines::Templates(lines) => {
                template_search::rows_with(lines, needles, rows, self.timestamps()?)
                    .map_err(self.fault(LINES, "lines"))
            }
        }
    }

    fn read_metadata(
        &self,
        row: usize,
        wanted: &MetadataWanted,
        out: &mut Metadata,
    ) -> Result<(), BlockError> {
        out.clear();
        if *wanted == MetadataWanted::None {
            return Ok(());
        }
        let rest = self.rest_of(row)?;
        if rest.is_empty() {
            for &place in &self.by_name {
                let name = self.name_of(place);
                if wanted.has(name) {
                    let column = self.column(place)?;
                    out.push_with(name, |text| column.write_value(row, text));
                }
            }
            return Ok(());
        }
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for &place in &self.by_name {
            let (name, mut value) = (self.name_of(place), String::new());
            if wanted.has(name) && self.column(place)?.write_value(row, &mut value) {
                pairs.push((name, value));
            }
        }
        let rest = rest.iter().filter(|(name, _)| wanted.has(name));
        pairs.extend(rest.map(|(name, value)| (&**name, value.to_string())));
        pairs.sort_by_key(|(name, _)| *name);
        pairs.iter().for_each(|(name, value)| out.push(name, value));
        Ok(())
    }

    fn has_field(
        &self,
        row: usize,
        name: &str,
        value: &str,
        scratch: &mut String,
    ) -> Result<bool, BlockError> {
        if let Ok(at) = self.by_name.binary_search_by_key(&name, |place| self.name_of(*place)) {
            return Ok(self.column(self.by_name[at])?.is(row, value, scratch));
        }
        let mut rest = self.rest_of(row)?.iter();
        Ok(rest.any(|(known, found)| (&**known, &**found) == (name, value)))
    }
}
