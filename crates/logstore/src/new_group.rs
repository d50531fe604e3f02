//! The group that a block's writer is collecting.

use codec::varint::put_bytes;
use hashbrown::HashMap;
use rapidhash::fast::RandomState;

use crate::counters::{LEVEL, NewCells, NewLevels};
use crate::group_table::{
    ColumnPage, FIRST_NAME, Group, LENGTHS, LINES, MAX_COLUMNS, MAX_NAMES, PageKind, REST, Run,
    TIMESTAMPS,
};
use crate::new_column::NewColumn;
use crate::page::{Packer, Page};
use crate::planes::put_planes;
use crate::shapes::Shapes;
use crate::templates::{self, Encoded, Lines};

/// Bytes of lines by which it is seen how well they are compressed as they are.
const SAMPLE_BYTES: usize = 256 << 10;
/// Groups for which what was seen of one may hold.
const SAMPLE_GROUPS: u32 = 8;

/// What is known of the names and levels of all groups so far.
#[derive(Debug, Default)]
pub(crate) struct NewNames {
    numbers: HashMap<Box<str>, u32, RandomState>,
    pub(crate) levels: NewLevels,
}

impl NewNames {
    /// The column of a name; `None` if the block has too many.
    fn column(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(FIRST_NAME + number);
        }
        if self.numbers.len() >= MAX_NAMES {
            return None;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.into(), number);
        Some(FIRST_NAME + number)
    }

    /// All names, by column.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<(u32, &str)> = self.numbers.iter().map(|(t, n)| (*n, &**t)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name.to_owned()).collect()
    }
}

/// The group being collected: as many bytes as are in it, and a little more.
#[derive(Debug, Default)]
pub(crate) struct NewGroup {
    timestamps: Vec<i64>,
    lengths: Vec<i64>,
    lines: Vec<u8>,
    runs: Vec<Run>,
    columns: Vec<(u32, NewColumn)>,
    /// By column of the block, the place in `columns`.
    places: HashMap<u32, usize, RandomState>,
    /// Names of lines before, by where they stood among those of their line, each with its place in `columns`.
    last_places: Vec<(String, usize)>,
    /// Row, name and value of what has no column.
    rest: Vec<(u32, Box<str>, Box<str>)>,
    metadata_bytes: usize,
    cells: NewCells,
    sample: Option<Sample>,
}

/// How well lines of a group were compressed as they are, and as templates.
#[derive(Debug)]
struct Sample {
    plain: Share,
    templates: Share,
    /// For how many groups since that was taken to hold.
    groups: u32,
}

/// Bytes of lines, and what became of them.
#[derive(Debug, Clone, Copy)]
struct Share {
    packed: usize,
    len: usize,
}

impl Share {
    /// About how many bytes others of so many bytes take.
    fn of(self, len: usize) -> usize {
        (self.packed as u64 * len as u64 / self.len.max(1) as u64) as usize
    }
}

impl NewGroup {
    /// Takes a line of a stream. `metadata` is settled.
    pub(crate) fn push<'m>(
        &mut self,
        stream: u32,
        timestamp_ns: i64,
        line: &[u8],
        metadata: impl Iterator<Item = (&'m str, &'m str)>,
        names: &mut NewNames,
    ) {
        let row = self.timestamps.len() as u32;
        match self.runs.last_mut().filter(|run| run.stream == stream) {
            Some(run) => {
                run.rows += 1;
                run.last_ns = timestamp_ns;
            }
            None => {
                if !self.runs.is_empty() {
                    self.cells.end_run();
                }
                let place = self.runs.len() as u32;
                let (first_ns, last_ns) = (timestamp_ns, timestamp_ns);
                let run =
                    Run { stream, group: 0, place, first_row: row, rows: 1, first_ns, last_ns };
                self.runs.push(run);
            }
        }
        self.timestamps.push(timestamp_ns);
        self.lengths.push(line.len() as i64);
        self.lines.extend_from_slice(line);
        let mut level = "";
        for (at, (name, value)) in metadata.enumerate() {
            self.metadata_bytes += name.len() + value.len();
            if name == LEVEL {
                level = value;
            }
            match self.column(at, name, names) {
                Some(column) => column.push(row, value),
                None => self.rest.push((row, name.into(), value.into())),
            }
        }
        self.cells.push(timestamp_ns, names.levels.number(level), line.len() as u64);
    }

    /// The column of a name, which is so many behind the first of its line.
    fn column(&mut self, at: usize, name: &str, names: &mut NewNames) -> Option<&mut NewColumn> {
        // Fast path: most lines have the names of the line before.
        if let Some((_, place)) = self.last_places.get(at).filter(|(last, _)| last == name) {
            return Some(&mut self.columns[*place].1);
        }
        let column = names.column(name)?;
        let place = match self.places.get(&column) {
            Some(place) => *place,
            // Columns of groups before are empty, and stay for their memory.
            None if self.columns.len() < MAX_COLUMNS => {
                self.places.insert(column, self.columns.len());
                self.columns.push((column, NewColumn::default()));
                self.columns.len() - 1
            }
            None => return None,
        };
        match self.last_places.get_mut(at) {
            Some((last, of_last)) => {
                last.clear();
                last.push_str(name);
                *of_last = place;
            }
            None => self.last_places.push((name.to_owned(), place)),
        }
        Some(&mut self.columns[place].1)
    }

    /// Lines in it.
    pub(crate) fn rows(&self) -> usize {
        self.timestamps.len()
    }

    /// Bytes of lines and metadata in it.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() + self.metadata_bytes
    }

    /// Names with values of its metadata, of each name all values, some more than once.
    pub(crate) fn pairs<'a>(
        &'a self,
        names: &'a [String],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let columns = self.columns.iter().flat_map(|(column, values)| {
            let name = names[(column - FIRST_NAME) as usize].as_str();
            values.values().map(move |value| (name, value))
        });
        columns.chain(self.rest.iter().map(|(_, name, value)| (&**name, &**value)))
    }

    /// Appends its pages to `out` and its counters to `counters`, and is empty then. Offsets of pages count
    /// from the start of these. `shapes` are those of its lines.
    pub(crate) fn finish(
        &mut self,
        number: u32,
        shapes: &Shapes,
        packer: &mut Packer,
        out: &mut Vec<u8>,
        counters: &mut Vec<u8>,
    ) -> Group {
        let rows = self.timestamps.len();
        let mut raw = Vec::new();
        let mut pages = Vec::with_capacity(self.columns.len() + 4);
        codec::encode_i64s(&self.timestamps, &mut raw);
        let page = packer.put(&raw, out);
        pages.push(ColumnPage { column: TIMESTAMPS, kind: PageKind::Numbers, page });
        pages.extend(self.put_lines(shapes, packer, out));
        if !self.rest.is_empty() {
            raw.clear();
            self.encode_rest(&mut raw);
            let page = packer.put(&raw, out);
            pages.push(ColumnPage { column: REST, kind: PageKind::Pairs, page });
        }
        self.columns.sort_unstable_by_key(|(column, _)| *column);
        for (column, values) in self.columns.iter().filter(|(_, values)| !values.is_empty()) {
            raw.clear();
            let kind = PageKind::Column(values.encode(rows, &mut raw));
            let page = packer.put(&raw, out);
            pages.push(ColumnPage { column: *column, kind, page });
        }
        self.cells.end_run();
        raw.clear();
        self.cells.encode(&mut raw);
        let counters: Page = packer.put(&raw, counters);
        let mut runs = std::mem::take(&mut self.runs);
        runs.iter_mut().for_each(|run| run.group = number);
        let line_bytes = self.lines.len() as u64;
        self.clear();
        Group { rows: rows as u32, line_bytes, runs, pages, counters }
    }

    /// Appends lengths and lines, as templates if that saves enough for what reading takes longer then.
    fn put_lines(
        &mut self,
        shapes: &Shapes,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) -> [ColumnPage; 2] {
        let lines = Lines { text: &self.lines, lengths: &self.lengths, times: &self.timestamps };
        let encoded = templates::encode(lines, shapes, packer);
        let mut raw = Vec::new();
        if let Some(Encoded { page, surplus }) = encoded
            && self.is_worth_it(page.len(), packer)
        {
            put_planes(&surplus, &mut raw);
            let lengths = packer.put(&raw, out);
            let lines = Packer::put_stored(&page, out);
            return [
                ColumnPage { column: LENGTHS, kind: PageKind::Surplus, page: lengths },
                ColumnPage { column: LINES, kind: PageKind::Templates, page: lines },
            ];
        }
        codec::encode_i64s(&self.lengths, &mut raw);
        let lengths = packer.put(&raw, out);
        let lines = packer.put(&self.lines, out);
        [
            ColumnPage { column: LENGTHS, kind: PageKind::Numbers, page: lengths },
            ColumnPage { column: LINES, kind: PageKind::Bytes, page: lines },
        ]
    }

    /// Whether lines that take so many bytes as templates take a tenth less than as they are.
    fn is_worth_it(&mut self, bytes: usize, packer: &mut Packer) -> bool {
        let len = self.lines.len();
        if let Some(Sample { plain, templates, groups }) = &mut self.sample
            && *groups < SAMPLE_GROUPS
        {
            *groups += 1;
            // Fast path: lines of one program are alike in both ways, and templates mostly are much less.
            let before = templates.of(len);
            let is_alike = (before / 4 * 3..=before / 3 * 4).contains(&bytes);
            if is_alike && bytes < plain.of(len) / 4 * 3 {
                return true;
            }
        }
        // To compress all of them for a number takes longer than to write them.
        let sample = &self.lines[..len.min(SAMPLE_BYTES)];
        let plain = Share { packed: packer.pack(sample).0.len(), len: sample.len() };
        self.sample = Some(Sample { plain, templates: Share { packed: bytes, len }, groups: 0 });
        bytes < plain.of(len) / 10 * 9
    }

    /// Pairs of each row, then the pairs.
    fn encode_rest(&self, out: &mut Vec<u8>) {
        let mut counts = vec![0; self.timestamps.len()];
        self.rest.iter().for_each(|(row, ..)| counts[*row as usize] += 1);
        codec::encode_i64s(&counts, out);
        for (_, name, value) in &self.rest {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }

    fn clear(&mut self) {
        self.timestamps.clear();
        self.lengths.clear();
        self.lines.clear();
        self.rest.clear();
        self.metadata_bytes = 0;
        self.cells.clear();
        // A column that this group had no use for is given up, so that others find room.
        self.columns.retain(|(_, values)| !values.is_empty());
        self.places.clear();
        self.last_places.clear();
        for (place, (column, values)) in self.columns.iter_mut().enumerate() {
            values.clear();
            self.places.insert(*column, place);
        }
    }
}
