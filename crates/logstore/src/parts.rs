//! The lines of a query in parts of about one size, for as many threads.

use std::collections::VecDeque;

use model::Labels;

use crate::cursor::{Cursor, RunPlace};
use crate::entries::OpenStream;
use crate::query::{Entry, Order, Query, ReadError, Source};
use crate::time::NsRange;
use crate::walk::Walk;

/// A part of fewer lines costs more than it brings.
const MIN_ROWS: u64 = 16_384;

/// A stream, or what it has within a range.
struct Unit {
    labels: Labels,
    cursors: Vec<Cursor>,
    range: NsRange,
    rows: u64,
}

/// Some of the streams that a query selects, in order of labels, each in the order of the query; of the first and the
/// last one perhaps what a range of time has. Memory: as of [`crate::Entries`] for one stream.
pub struct StreamsPart {
    open: OpenStream,
    units: VecDeque<Unit>,
}

impl StreamsPart {
    /// All streams, in at most `count` parts, none of them empty unless all are: one after the other they yield what
    /// [`crate::Streams`] does, where a stream that is cut in two comes in both parts.
    ///
    /// # Errors
    /// As [`crate::Streams::new`].
    pub fn split(
        query: &Query,
        sources: Vec<Source>,
        count: usize,
    ) -> Result<Vec<StreamsPart>, ReadError> {
        Self::split_with(query, sources, count, MIN_ROWS)
    }

    pub(crate) fn split_with(
        query: &Query,
        sources: Vec<Source>,
        count: usize,
        min_rows: u64,
    ) -> Result<Vec<StreamsPart>, ReadError> {
        let mut walk = Walk::new(query, sources)?;
        let (mut units, mut rows) = (Vec::new(), 0);
        while let Some((labels, cursors)) = walk.next_stream(query)? {
            let of_unit = rows_of(&cursors);
            units.push(Unit { labels, cursors, range: query.range(), rows: of_unit });
            rows += of_unit;
        }
        let wanted = rows.div_ceil(count.max(1) as u64).max(min_rows);
        if query.order() == Order::Forward && wanted < rows {
            units = units.into_iter().flat_map(|unit| cut(unit, query, wanted)).collect();
        }
        let mut parts = vec![StreamsPart::new(query)];
        let mut of_part = 0;
        for unit in units {
            // What would be nearer to its size without this one ends.
            if of_part > 0 && of_part + unit.rows / 2 >= wanted && parts.len() < count {
                parts.push(StreamsPart::new(query));
                of_part = 0;
            }
            of_part += unit.rows;
            if let Some(part) = parts.last_mut() {
                part.units.push_back(unit);
            }
        }
        Ok(parts)
    }

    fn new(query: &Query) -> StreamsPart {
        StreamsPart { open: OpenStream::new(query.clone()), units: VecDeque::new() }
    }

    /// Goes to the next stream, which may turn out to have no lines.
    pub fn next_stream(&mut self) -> Option<&Labels> {
        let unit = self.units.pop_front()?;
        self.open.query.set_range(unit.range);
        Some(self.open.begin(unit.labels, unit.cursors))
    }

    /// The next line of the stream.
    ///
    /// # Errors
    /// A source is damaged or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        self.open.next_entry()
    }
}

fn rows_of(cursors: &[Cursor]) -> u64 {
    cursors.iter().flat_map(Cursor::runs).map(RunPlace::rows).sum()
}

/// What a stream has in ranges of about so many lines, one after the other.
fn cut(unit: Unit, query: &Query, wanted: u64) -> Vec<Unit> {
    if unit.rows < 2 * wanted {
        return vec![unit];
    }
    let runs = unit.cursors.iter().flat_map(Cursor::runs);
    let mut runs: Vec<(i64, u64)> = runs.map(|run| (run.first_ns, run.rows())).collect();
    runs.sort_unstable();
    let (mut found, mut start_ns, mut rows) = (Vec::new(), unit.range.start_ns, 0);
    let mut within = |range: NsRange| {
        let mut query = query.clone();
        query.set_range(range);
        let cursors: Vec<Cursor> = unit.cursors.iter().map(|one| one.within(&query)).collect();
        let (labels, rows) = (unit.labels.clone(), rows_of(&cursors));
        found.push(Unit { labels, cursors, range, rows });
    };
    for (first_ns, of_run) in runs {
        // Lines of one time stay together: of equal ones the first counts.
        if rows >= wanted && first_ns > start_ns {
            within(NsRange::new(start_ns, first_ns));
            (start_ns, rows) = (first_ns, 0);
        }
        rows += of_run;
    }
    within(NsRange::new(start_ns, unit.range.end_ns));
    found
}
