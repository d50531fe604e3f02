//! Counters: how many lines of each level a stream has in each minute, and how many bytes.
//!
//! They answer how much there is, of what, and when, without a look at timestamps or lines.

use codec::CodecError;
use hashbrown::HashMap;
use rapidhash::fast::RandomState;

use crate::time::{MINUTE_NS, minute_of};

/// The metadata by which lines are counted apart.
pub const LEVEL: &str = "detected_level";
/// Stands for lines without a level.
pub(crate) const NO_LEVEL: u32 = 0;
/// Stands for levels beyond those that a block tells apart.
pub(crate) const OTHER_LEVEL: u32 = 255;
/// Levels that a block tells apart, at most.
const MAX_LEVELS: usize = OTHER_LEVEL as usize - 1;

/// Lines of one stream, minute and level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) minute: i64,
    /// Number of the level, or [`NO_LEVEL`], or [`OTHER_LEVEL`].
    pub(crate) level: u32,
    /// Time of the first of them.
    pub(crate) first_ns: i64,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

/// The levels of a block.
#[derive(Debug, Default)]
pub(crate) struct NewLevels {
    numbers: HashMap<Box<str>, u32, RandomState>,
    /// That of the last line, which most lines share.
    last: (String, u32),
}

impl NewLevels {
    /// The number of a level.
    pub(crate) fn number(&mut self, level: &str) -> u32 {
        if level.is_empty() {
            return NO_LEVEL;
        }
        // Fast path; it begins with one that was caught above.
        if self.last.0 == level {
            return self.last.1;
        }
        if let Some(number) = self.numbers.get(level) {
            self.last.0.clear();
            self.last.0.push_str(level);
            self.last.1 = *number;
            return *number;
        }
        if self.numbers.len() >= MAX_LEVELS {
            return OTHER_LEVEL;
        }
        let number = self.numbers.len() as u32 + 1;
        self.numbers.insert(level.into(), number);
        number
    }

    /// All, by number.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<(u32, &str)> = self.numbers.iter().map(|(l, n)| (*n, &**l)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

/// Counts the lines of one run after the other.
#[derive(Debug, Default)]
pub(crate) struct NewCells {
    cells: Vec<Cell>,
    /// Cells of each run that ended.
    of_runs: Vec<i64>,
    /// Where those of the run under way begin, and those of its minute under way.
    run: usize,
    minute: usize,
}

impl NewCells {
    /// Counts a line of the run under way, whose times ascend.
    pub(crate) fn push(&mut self, timestamp_ns: i64, level: u32, bytes: u64) {
        let minute = minute_of(timestamp_ns);
        if self.cells[self.run..].last().is_none_or(|last| last.minute != minute) {
            self.minute = self.cells.len();
        }
        match self.cells[self.minute..].iter_mut().find(|cell| cell.level == level) {
            Some(cell) => {
                cell.lines += 1;
                cell.bytes += bytes;
            }
            None => {
                let (first_ns, lines) = (timestamp_ns, 1);
                self.cells.push(Cell { minute, level, first_ns, lines, bytes });
            }
        }
    }

    /// Ends the run.
    pub(crate) fn end_run(&mut self) {
        self.of_runs.push((self.cells.len() - self.run) as i64);
        (self.run, self.minute) = (self.cells.len(), self.cells.len());
    }

    pub(crate) fn clear(&mut self) {
        self.cells.clear();
        self.of_runs.clear();
        (self.run, self.minute) = (0, 0);
    }

    /// Appends all.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.run, self.cells.len(), "the last run was ended");
        codec::encode_i64s(&self.of_runs, out);
        let mut column = |of: fn(&Cell) -> i64| {
            let column: Vec<i64> = self.cells.iter().map(of).collect();
            codec::encode_i64s(&column, out);
        };
        column(|cell| cell.minute);
        column(|cell| i64::from(cell.level));
        column(|cell| cell.first_ns.rem_euclid(MINUTE_NS));
        column(|cell| cell.lines as i64);
        column(|cell| cell.bytes as i64);
    }
}

/// The cells of a group.
#[derive(Debug)]
pub(crate) struct Cells {
    cells: Vec<Cell>,
    /// Where those of each run begin, and where the last ones end.
    starts: Vec<u32>,
}

impl Cells {
    /// Reads what [`NewCells::encode`] wrote for so many runs with so many rows together, of a block with so
    /// many levels.
    pub(crate) fn decode(
        mut input: &[u8],
        runs: usize,
        rows: usize,
        levels: usize,
    ) -> Result<Self, CodecError> {
        let input = &mut input;
        let invalid = |field, found| CodecError::Invalid { offset: 0, field, found };
        let starts = crate::column::take_starts(input, runs)?;
        let count = starts.last().map_or(0, |end| *end as usize);
        if count > rows {
            return Err(invalid("cells of a group", count as u64));
        }
        let mut columns: [Vec<i64>; 5] = Default::default();
        for column in &mut columns {
            codec::decode_i64s(input, count, column)?;
        }
        if !input.is_empty() {
            return Err(invalid("end of the counters", input.len() as u64));
        }
        let [minutes, of_levels, firsts, lines, bytes] = columns;
        let mut cells = Vec::with_capacity(count);
        for at in 0..count {
            let level = u32::try_from(of_levels[at]).unwrap_or(u32::MAX);
            if level as usize > levels && level != OTHER_LEVEL {
                return Err(invalid("level", of_levels[at] as u64));
            }
            if lines[at] < 1 || bytes[at] < 0 || lines[at] as u64 > rows as u64 {
                return Err(invalid("lines of a minute", lines[at] as u64));
            }
            if !(0..MINUTE_NS).contains(&firsts[at]) {
                return Err(invalid("time within a minute", firsts[at] as u64));
            }
            // A minute may begin before there are times.
            let first_ns = minutes[at].wrapping_mul(MINUTE_NS).wrapping_add(firsts[at]);
            let (lines, bytes) = (lines[at] as u64, bytes[at] as u64);
            cells.push(Cell { minute: minutes[at], level, first_ns, lines, bytes });
        }
        Ok(Cells { cells, starts })
    }

    /// Those of a run, in order of minutes.
    pub(crate) fn of_run(&self, run: usize) -> &[Cell] {
        &self.cells[self.starts[run] as usize..self.starts[run + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_minute_and_level() {
        let mut levels = NewLevels::default();
        let [info, error] = ["info", "error"].map(|level| levels.number(level));
        assert_eq!((levels.number("info"), levels.number("")), (info, NO_LEVEL));
        let mut new = NewCells::default();
        for (at, level, bytes) in [(-1, info, 5), (0, info, 3), (1, error, 2), (2, info, 4)] {
            new.push(at, level, bytes);
        }
        new.push(MINUTE_NS, error, 1);
        new.end_run();
        new.push(MINUTE_NS, error, 9);
        new.end_run();
        let mut out = Vec::new();
        new.encode(&mut out);
        let cells = Cells::decode(&out, 2, 6, 2).expect("it was written so");
        let cell = |first_ns, level, lines, bytes| {
            let minute = minute_of(first_ns);
            Cell { minute, level, first_ns, lines, bytes }
        };
        let first = [
            cell(-1, info, 1, 5),
            cell(0, info, 2, 7),
            cell(1, error, 1, 2),
            cell(MINUTE_NS, error, 1, 1),
        ];
        assert_eq!(cells.of_run(0), first);
        assert_eq!(cells.of_run(1), [cell(MINUTE_NS, error, 1, 9)]);
        assert!(Cells::decode(&out, 2, 4, 2).is_err(), "more cells than rows");
        assert!(Cells::decode(&out, 2, 6, 1).is_err(), "a level that there is not");
        for n in 0..400 {
            levels.number(&n.to_string());
        }
        assert_eq!(levels.names().len(), MAX_LEVELS);
        assert_eq!(levels.number("399"), OTHER_LEVEL);
    }
}
