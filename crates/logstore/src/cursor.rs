//! A place among the lines that one stream has in one source, and what comes next there.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use blockstore::BlockError;

use crate::block::LogBlock;
use crate::deletes::Hide;
use crate::group_cache::GroupCache;
use crate::metadata::Metadata;
use crate::open_group::OpenGroup;
use crate::piece::Piece;
use crate::query::{Order, Query};
use crate::rows::Rows;

/// Bytes of lines that are copied ahead, at most, and a line more.
const MAX_WINDOW_BYTES: usize = 64 << 10;
/// Lines that are.
const MAX_WINDOW_ROWS: usize = 1_024;

/// Lines of a stream that lie together and were not looked at yet.
#[derive(Clone)]
pub(crate) struct RunPlace {
    pub(crate) at: RunAt,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
}

impl RunPlace {
    /// How many they are.
    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.at.rows().len()).unwrap_or(u64::MAX)
    }
}

/// Where they lie.
#[derive(Clone)]
pub(crate) enum RunAt {
    Group {
        block: Arc<LogBlock>,
        group: u32,
        /// Its place among the runs of the group.
        place: u32,
        rows: Range<u32>,
    },
    Piece(Arc<Piece>),
}

/// What is in memory of a place.
enum Opened {
    Group(Arc<OpenGroup>),
    Piece(Arc<Piece>),
}

impl Opened {
    fn rows(&self) -> &dyn Rows {
        match self {
            Opened::Group(group) => &**group,
            Opened::Piece(piece) => &**piece,
        }
    }
}

impl RunAt {
    fn open(&self, groups: &GroupCache) -> Opened {
        match self {
            RunAt::Group { block, group, .. } => Opened::Group(groups.get(block, *group)),
            RunAt::Piece(piece) => Opened::Piece(Arc::clone(piece)),
        }
    }

    fn rows(&self) -> Range<u32> {
        match self {
            RunAt::Group { rows, .. } => rows.clone(),
            RunAt::Piece(piece) => 0..piece.len() as u32,
        }
    }
}

/// Rows of the run under way that are left, with their times.
struct Selected {
    at: RunAt,
    /// Rows and times, the next one last.
    rows: Vec<(u32, i64)>,
}

/// A line that was copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowRow {
    pub(crate) timestamp_ns: i64,
    pub(crate) line_bytes: u64,
    start: u32,
    end: u32,
}

/// The lines that come next, copied: so a group is needed for a moment only, whatever others are read between
/// this line and the next.
#[derive(Default)]
struct Window {
    rows: Vec<WindowRow>,
    /// How many of them were taken.
    taken: usize,
    bytes: Vec<u8>,
    /// By row; there may be more than rows.
    metadata: Vec<Metadata>,
    /// Bytes that the next one is filled with.
    target_bytes: usize,
}

/// When the next line is, as [`Order::key`] says, and whether there is one exactly then; else there is none
/// before.
pub(crate) type NextKey = (i64, bool);

/// What one stream has in one source, line by line.
pub(crate) struct Cursor {
    pub(crate) source: usize,
    /// In the order of the query; they do not overlap in time.
    runs: VecDeque<RunPlace>,
    hides: Vec<Hide>,
    reads_lines: bool,
    selected: Option<Selected>,
    window: Window,
}

impl Cursor {
    /// A cursor over runs that are in ascending order of time.
    pub(crate) fn new(
        source: usize,
        mut runs: Vec<RunPlace>,
        hides: Vec<Hide>,
        query: &Query,
    ) -> Self {
        if query.order() == Order::Backward {
            runs.reverse();
        }
        Cursor {
            source,
            runs: runs.into(),
            hides,
            reads_lines: query.needs_lines(),
            selected: None,
            window: Window { target_bytes: MAX_WINDOW_BYTES, ..Window::default() },
        }
    }

    /// Reads lines even if nobody needs them, to compare them with others.
    pub(crate) fn read_lines(&mut self) {
        self.reads_lines = true;
    }

    /// Begins with few lines, as it is one of many of which few are needed.
    pub(crate) fn start_small(&mut self) {
        self.window.target_bytes = 2 << 10;
    }

    /// One that was not used yet, for another query over the same streams in the same order.
    pub(crate) fn within(&self, query: &Query) -> Cursor {
        let range = query.range();
        let runs = self.runs.iter().filter(|run| range.meets(run.first_ns, run.last_ns));
        let mut runs: Vec<RunPlace> = runs.cloned().collect();
        runs.sort_by_key(|run| run.first_ns);
        Cursor::new(self.source, runs, self.hides.clone(), query)
    }

    /// The runs that were not opened yet.
    pub(crate) fn runs(&self) -> &VecDeque<RunPlace> {
        &self.runs
    }

    pub(crate) fn hides(&self) -> &[Hide] {
        &self.hides
    }

    /// When the next line is; `None` if there is none.
    pub(crate) fn next_key(&self, query: &Query) -> Option<NextKey> {
        let order = query.order();
        if let Some(row) = self.window.rows.get(self.window.taken) {
            return Some((order.key(row.timestamp_ns), true));
        }
        if let Some((_, t_ns)) = self.selected.as_ref().and_then(|selected| selected.rows.last()) {
            // The line may still fail a test.
            return Some((order.key(*t_ns), query.line_test().is_none()));
        }
        self.runs.front().map(|run| {
            let first = if order == Order::Forward { run.first_ns } else { run.last_ns };
            (order.key(first), false)
        })
    }

    /// Looks a step ahead where [`Cursor::next_key`] is not exact.
    pub(crate) fn sharpen(&mut self, query: &Query, groups: &GroupCache) -> Result<(), BlockError> {
        match &self.selected {
            Some(selected) if !selected.rows.is_empty() => self.fill(query, groups),
            _ => {
                self.selected = None;
                if let Some(run) = self.runs.pop_front() {
                    self.open(&run.at, query, groups)?;
                }
                Ok(())
            }
        }
    }

    /// Takes the next line, which is known exactly; it stays readable until the next call of anything.
    pub(crate) fn take(&mut self, query: &Query, groups: &GroupCache) -> Result<(), BlockError> {
        if self.window.taken == self.window.rows.len() {
            self.fill(query, groups)?;
        }
        debug_assert!(self.window.taken < self.window.rows.len(), "there is a next line");
        self.window.taken += 1;
        Ok(())
    }

    /// The line that was taken last, with its metadata.
    pub(crate) fn taken(&self) -> (WindowRow, &[u8], &Metadata) {
        let at = self.window.taken - 1;
        let row = self.window.rows[at];
        let line = &self.window.bytes[row.start as usize..row.end as usize];
        (row, line, &self.window.metadata[at])
    }

    /// Finds the rows of a run that are wanted.
    fn open(&mut self, at: &RunAt, query: &Query, groups: &GroupCache) -> Result<(), BlockError> {
        let opened = at.open(groups);
        let source = opened.rows();
        let of_run = at.rows();
        let timestamps = source.timestamps()?;
        let times = &timestamps[of_run.start as usize..of_run.end as usize];
        let range = query.range();
        let first = times.partition_point(|t_ns| *t_ns < range.start_ns);
        let end = times.partition_point(|t_ns| *t_ns < range.start_ns || range.contains(*t_ns));
        let rows = of_run.start + first as u32..of_run.start + end as u32;
        let mut wanted = match query.needles() {
            _ if rows.is_empty() => Vec::new(),
            [] => {
                query.tell(0, 0)?;
                rows.collect()
            }
            needles => {
                let starts = source.starts()?;
                let bytes = starts[rows.end as usize] - starts[rows.start as usize];
                query.tell(u64::from(rows.end - rows.start), u64::from(bytes))?;
                source.rows_with(needles, rows)?
            }
        };
        let (mut scratch, mut line) = (String::new(), Vec::new());
        for (name, value) in query.fields() {
            let mut kept = Vec::new();
            for row in wanted {
                if source.has_field(row as usize, name, value, &mut scratch)? {
                    kept.push(row);
                }
            }
            wanted = kept;
        }
        for hide in &self.hides {
            let mut kept = Vec::new();
            for row in wanted {
                let is_hidden = hide.range.contains(timestamps[row as usize])
                    && match &hide.line_test {
                        None => true,
                        Some(test) => test(source.line(row, &mut line)?),
                    };
                if !is_hidden {
                    kept.push(row);
                }
            }
            wanted = kept;
        }
        if query.order() == Order::Forward {
            wanted.reverse();
        }
        let rows = wanted.iter().map(|row| (*row, timestamps[*row as usize])).collect();
        self.selected = Some(Selected { at: at.clone(), rows });
        groups.trim();
        Ok(())
    }

    /// Copies the lines that come next, if any of those selected passes the test.
    fn fill(&mut self, query: &Query, groups: &GroupCache) -> Result<(), BlockError> {
        let Some(selected) = &mut self.selected else { return Ok(()) };
        let opened = selected.at.open(groups);
        let source = opened.rows();
        let window = &mut self.window;
        window.rows.clear();
        window.bytes.clear();
        window.taken = 0;
        let starts = source.starts()?;
        let reads_lines = self.reads_lines || query.line_test().is_some();
        let (mut lines, mut bytes) = (0, 0);
        let mut scratch = Vec::new();
        while window.rows.len() < MAX_WINDOW_ROWS && window.bytes.len() < window.target_bytes {
            let Some((row, timestamp_ns)) = selected.rows.pop() else { break };
            let line = if reads_lines { source.line(row, &mut scratch)? } else { &[] };
            lines += 1;
            bytes += u64::from(starts[row as usize + 1] - starts[row as usize]);
            if query.line_test().is_some_and(|test| !test(line)) {
                continue;
            }
            let place = window.rows.len();
            if window.metadata.len() == place {
                window.metadata.push(Metadata::default());
            }
            source.read_metadata(row as usize, query.metadata(), &mut window.metadata[place])?;
            let start = window.bytes.len() as u32;
            if self.reads_lines {
                window.bytes.extend_from_slice(line);
            }
            let line_bytes = u64::from(starts[row as usize + 1] - starts[row as usize]);
            let end = window.bytes.len() as u32;
            window.rows.push(WindowRow { timestamp_ns, line_bytes, start, end });
        }
        window.target_bytes = (2 * window.target_bytes).min(MAX_WINDOW_BYTES);
        groups.trim();
        // With needles the lines were told of when these were looked for.
        if query.needles().is_empty() { query.tell(lines, bytes) } else { query.tell(0, 0) }
    }
}
