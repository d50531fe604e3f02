//! How many lines there are, and how long they are: from counters where these tell it exactly, else from
//! timestamps and lengths, and from lines only where two sources may have the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use blockstore::BlockError;
use model::Labels;

use crate::block::LogBlock;
use crate::counters::{Cells, LEVEL, OTHER_LEVEL};
use crate::cursor::{Cursor, RunAt, RunPlace};
use crate::group_cache::{DEFAULT_BYTES, GroupCache};
use crate::metadata::Metadata;
use crate::piece::Piece;
use crate::query::{Query, ReadError, Source};
use crate::rows::{MetadataWanted, Rows};
use crate::stream_merge::StreamMerge;
use crate::time::{NsRange, minute_of};
use crate::walk::Walk;

/// Lines of one stream and one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<'a> {
    /// Labels of the stream.
    pub labels: &'a Labels,
    /// The value of the metadata [`LEVEL`]; empty if they have none.
    pub level: &'a str,
    /// None of them is before this time, in nanoseconds since the epoch.
    pub first_ns: i64,
    /// None of them is after this time.
    pub last_ns: i64,
    /// How many they are.
    pub lines: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

/// Hands over the number and length of the lines that a query asks for, stream by stream in order of labels, in no
/// order of time. Lines of up to a minute come as one, if `takes` yields for its first and last time that whoever
/// counts does not tell them apart; otherwise one by one. What the query says of order, lines and metadata does
/// not matter.
///
/// Without conditions on lines, of blocks only counters are read, except for minutes at the ends of the range,
/// minutes in which lines are deleted, and minutes of a stream of which two sources have lines.
///
/// # Errors
/// A source is damaged or cannot be read.
pub fn count(
    query: &Query,
    sources: Vec<Source>,
    takes: &mut dyn FnMut(i64, i64) -> bool,
    each: &mut dyn FnMut(Count<'_>),
) -> Result<(), ReadError> {
    let mut walk = Walk::new(query, sources)?;
    let mut counting = Counting {
        range: query.range(),
        rows_query: query.for_counts(),
        groups: GroupCache::new(DEFAULT_BYTES),
        cells: Vec::new(),
        known: Vec::new(),
    };
    while let Some((labels, cursors)) = walk.next_stream(query)? {
        let source_index = cursors.first().map_or(0, |cursor| cursor.source);
        query.tell(0, 0).map_err(|error| ReadError { source_index, error })?;
        if query.has_tests() {
            counting.rows(labels, cursors, each)?;
        } else {
            counting.stream(&labels, &cursors, takes, each)?;
        }
    }
    Ok(())
}

struct Counting {
    range: NsRange,
    /// What rows are read with, where that is necessary.
    rows_query: Query,
    groups: GroupCache,
    /// Cells of the stream.
    cells: Vec<StreamCell>,
    /// The counters that were read last, of each source: of the block the number of the group.
    known: Vec<(usize, u32, Arc<Cells>)>,
}

/// Lines of the stream in one minute, in one cursor's run, of one level.
struct StreamCell {
    minute: i64,
    cursor: usize,
    level: CellLevel,
    first_ns: i64,
    last_ns: i64,
    lines: u64,
    bytes: u64,
}

enum CellLevel {
    OfBlock(Arc<LogBlock>, u32),
    Text(Box<str>),
}

impl CellLevel {
    /// `None` if the counters do not tell it.
    fn text(&self) -> Option<&str> {
        match self {
            CellLevel::Text(text) => Some(text),
            CellLevel::OfBlock(_, OTHER_LEVEL) => None,
            CellLevel::OfBlock(block, number) => {
                let before = number.checked_sub(1);
                Some(before.map_or("", |at| &block.table().levels[at as usize]))
            }
        }
    }
}

impl Counting {
    /// Counts a stream by its cells, and by rows where these do not tell.
    fn stream(
        &mut self,
        labels: &Labels,
        cursors: &[Cursor],
        takes: &mut dyn FnMut(i64, i64) -> bool,
        each: &mut dyn FnMut(Count<'_>),
    ) -> Result<(), ReadError> {
        self.cells.clear();
        for (number, cursor) in cursors.iter().enumerate() {
            for run in cursor.runs() {
                let gathered = match &run.at {
                    RunAt::Group { block, group, place, .. } => {
                        self.of_block(number, cursor.source, run, (block, *group, *place))
                    }
                    RunAt::Piece(piece) => self.of_piece(number, piece),
                };
                gathered.map_err(|error| ReadError { source_index: cursor.source, error })?;
            }
        }
        self.cells.sort_by_key(|cell| cell.minute);
        let mut by_rows = BTreeSet::new();
        for of_minute in self.cells.chunk_by(|a, b| a.minute == b.minute) {
            let minute = of_minute[0].minute;
            let is_shared = of_minute.iter().any(|cell| cell.cursor != of_minute[0].cursor);
            let is_told = |cell: &StreamCell| {
                let (first_ns, last_ns) = (cell.first_ns, cell.last_ns);
                let hides = cursors[cell.cursor].hides();
                self.range.covers(first_ns, last_ns)
                    && cell.level.text().is_some()
                    && !hides.iter().any(|hide| hide.range.meets(first_ns, last_ns))
            };
            if is_shared || !of_minute.iter().all(is_told) {
                by_rows.insert(minute);
                continue;
            }
            if !of_minute.iter().all(|cell| takes(cell.first_ns, cell.last_ns)) {
                by_rows.insert(minute);
                continue;
            }
            for cell in of_minute {
                let StreamCell { first_ns, last_ns, lines, bytes, .. } = *cell;
                let level = cell.level.text().unwrap_or_default();
                each(Count { labels, level, first_ns, last_ns, lines, bytes });
            }
        }
        for range in joined(&by_rows) {
            self.rows_query.set_range(self.range.intersection(&range));
            let of_range: Vec<Cursor> = cursors
                .iter()
                .map(|cursor| cursor.within(&self.rows_query))
                .filter(|cursor| !cursor.runs().is_empty())
                .collect();
            self.rows(labels.clone(), of_range, each)?;
        }
        self.rows_query.set_range(self.range);
        Ok(())
    }

    /// Counts lines one by one.
    fn rows(
        &mut self,
        labels: Labels,
        cursors: Vec<Cursor>,
        each: &mut dyn FnMut(Count<'_>),
    ) -> Result<(), ReadError> {
        let query = &self.rows_query;
        let cursors = cursors.iter().map(|cursor| cursor.within(query)).collect();
        let mut merge = StreamMerge::new(labels, cursors);
        while let Some((_, is_exact)) = merge.next_key(query) {
            if !is_exact {
                merge.sharpen(query, &self.groups)?;
                continue;
            }
            merge.take(query, &self.groups)?;
            let entry = merge.entry();
            each(Count {
                labels: entry.labels,
                level: entry.metadata.get(LEVEL).unwrap_or_default(),
                first_ns: entry.timestamp_ns,
                last_ns: entry.timestamp_ns,
                lines: 1,
                bytes: entry.line_bytes,
            });
        }
        Ok(())
    }

    fn of_block(
        &mut self,
        cursor: usize,
        source: usize,
        run: &RunPlace,
        (block, group, place): (&Arc<LogBlock>, u32, u32),
    ) -> Result<(), BlockError> {
        let known = self.known.iter().position(|(s, ..)| *s == source);
        let is_it = known.is_some_and(|at| self.known[at].1 == group);
        let at = match known {
            Some(at) if is_it => at,
            _ => {
                let read = (source, group, Arc::new(block.cells(group)?));
                match known {
                    Some(at) => {
                        self.known[at] = read;
                        at
                    }
                    None => {
                        self.known.push(read);
                        self.known.len() - 1
                    }
                }
            }
        };
        let cells = Arc::clone(&self.known[at].2);
        for cell in cells.of_run(place as usize) {
            let of_minute = NsRange::of_minute(cell.minute);
            let last_ns = run.last_ns.min(of_minute.last_ns());
            // Windows hold their end and not their begin: what is known of a minute but its first nanosecond decides
            // whether its lines are in one window.
            let first_ns = run.first_ns.max(cell.first_ns).min(last_ns);
            if self.range.meets(first_ns, last_ns) {
                self.cells.push(StreamCell {
                    minute: cell.minute,
                    cursor,
                    level: CellLevel::OfBlock(Arc::clone(block), cell.level),
                    first_ns,
                    last_ns,
                    lines: cell.lines,
                    bytes: cell.bytes,
                });
            }
        }
        Ok(())
    }

    fn of_piece(&mut self, cursor: usize, piece: &Piece) -> Result<(), BlockError> {
        let wanted = MetadataWanted::Named(vec![LEVEL.to_owned()]);
        let mut metadata = Metadata::default();
        let first = self.cells.len();
        for (row, &t_ns) in piece.timestamps()?.iter().enumerate() {
            if !self.range.contains(t_ns) {
                continue;
            }
            piece.read_metadata(row, &wanted, &mut metadata)?;
            let (level, minute) = (metadata.get(LEVEL).unwrap_or_default(), minute_of(t_ns));
            let bytes = piece.line(row).len() as u64;
            let of_minute = self.cells[first..].iter_mut().rev();
            let mut of_minute = of_minute.take_while(|cell| cell.minute == minute);
            match of_minute.find(|cell| cell.level.text() == Some(level)) {
                Some(cell) => {
                    cell.last_ns = t_ns;
                    cell.lines += 1;
                    cell.bytes += bytes;
                }
                None => {
                    let level = CellLevel::Text(level.into());
                    let (first_ns, last_ns, lines) = (t_ns, t_ns, 1);
                    self.cells.push(StreamCell {
                        minute,
                        cursor,
                        level,
                        first_ns,
                        last_ns,
                        lines,
                        bytes,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Minutes as ranges, neighbours together.
fn joined(minutes: &BTreeSet<i64>) -> Vec<NsRange> {
    let mut ranges: Vec<NsRange> = Vec::new();
    for minute in minutes {
        let range = NsRange::of_minute(*minute);
        match ranges.last_mut().filter(|last| last.end_ns == range.start_ns) {
            Some(last) => last.end_ns = range.end_ns,
            None => ranges.push(range),
        }
    }
    ranges
}
