//! One stream out of several sources: in one order, and no line twice.

use std::collections::VecDeque;

use model::Labels;

use crate::cursor::{Cursor, NextKey};
use crate::group_cache::GroupCache;
use crate::metadata::Metadata;
use crate::query::{Entry, Order, Query, ReadError};
use crate::twins::Twins;

/// The lines of one stream.
pub(crate) struct StreamMerge {
    pub(crate) labels: Labels,
    /// In the order in which their lines came: of equal lines of one time the earlier cursor's counts.
    cursors: Vec<Cursor>,
    /// A cursor, and before when its next line is the next one: no other has one earlier, as long as none of them
    /// is taken from. Most lines follow one of their source.
    leader: Option<(usize, i64)>,
    /// Lines of one time that several cursors have, in the order of the query.
    pending: VecDeque<OwnLine>,
    current: Current,
    twins: Twins,
}

/// The line that was taken last.
enum Current {
    None,
    OfCursor(usize),
    Own(OwnLine),
}

struct OwnLine {
    timestamp_ns: i64,
    line_bytes: u64,
    line: Box<[u8]>,
    metadata: Metadata,
}

impl StreamMerge {
    pub(crate) fn new(labels: Labels, mut cursors: Vec<Cursor>) -> Self {
        if cursors.len() > 1 {
            cursors.iter_mut().for_each(Cursor::read_lines);
        }
        let (pending, current, twins) = (VecDeque::new(), Current::None, Twins::default());
        StreamMerge { labels, cursors, leader: None, pending, current, twins }
    }

    /// Begins with few lines of each source.
    pub(crate) fn start_small(&mut self) {
        self.cursors.iter_mut().for_each(Cursor::start_small);
    }

    /// When the next line is, as [`Cursor::next_key`] says it.
    pub(crate) fn next_key(&self, query: &Query) -> Option<NextKey> {
        if let Some(line) = self.pending.front() {
            return Some((query.order().key(line.timestamp_ns), true));
        }
        self.nearest(query).map(|(key, _)| key)
    }

    /// The cursor whose next line may be the next one. One that is not exact goes first.
    fn nearest(&self, query: &Query) -> Option<(NextKey, usize)> {
        self.next_of_leader(query).or_else(|| {
            let keys = self.cursors.iter().enumerate();
            keys.filter_map(|(at, cursor)| Some((cursor.next_key(query)?, at))).min()
        })
    }

    /// What the leader has next, if that comes before all that others have.
    fn next_of_leader(&self, query: &Query) -> Option<(NextKey, usize)> {
        let (at, before) = self.leader?;
        let key = self.cursors[at].next_key(query)?;
        (key.0 < before).then_some((key, at))
    }

    /// Looks a step ahead where [`StreamMerge::next_key`] is not exact.
    pub(crate) fn sharpen(&mut self, query: &Query, groups: &GroupCache) -> Result<(), ReadError> {
        match self.nearest(query) {
            Some(((_, false), at)) => self.cursor(at, |cursor| cursor.sharpen(query, groups)),
            _ => Ok(()),
        }
    }

    fn cursor<T>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Cursor) -> Result<T, blockstore::BlockError>,
    ) -> Result<T, ReadError> {
        let cursor = &mut self.cursors[at];
        act(cursor).map_err(|error| ReadError { source_index: cursor.source, error })
    }

    /// Takes the next line, which is known exactly; [`StreamMerge::entry`] is it then.
    pub(crate) fn take(&mut self, query: &Query, groups: &GroupCache) -> Result<(), ReadError> {
        if self.pending.is_empty() {
            let Some(((key, true), at)) = self.nearest(query) else { return Ok(()) };
            if self.leader.is_none_or(|(leader, before)| leader != at || key >= before) {
                let others = self.cursors.iter().enumerate().filter(|(other, _)| *other != at);
                let keys = others.filter_map(|(_, cursor)| Some(cursor.next_key(query)?.0));
                self.leader = Some((at, keys.min().unwrap_or(i64::MAX)));
            }
            if self.leader.is_some_and(|(_, before)| key < before) || self.cursors.len() == 1 {
                // Fast path: within one source no line is there twice.
                self.cursor(at, |cursor| cursor.take(query, groups))?;
                self.current = Current::OfCursor(at);
                return Ok(());
            }
            self.leader = None;
            self.gather(key, query, groups)?;
        }
        self.current = self.pending.pop_front().map_or(Current::None, Current::Own);
        Ok(())
    }

    /// Takes all lines of one time.
    fn gather(&mut self, key: i64, query: &Query, groups: &GroupCache) -> Result<(), ReadError> {
        let mut lines = Vec::new();
        for at in 0..self.cursors.len() {
            let first = lines.len();
            while let Some((next, is_exact)) = self.cursors[at].next_key(query)
                && next == key
            {
                if !is_exact {
                    self.cursor(at, |cursor| cursor.sharpen(query, groups))?;
                    continue;
                }
                self.cursor(at, |cursor| cursor.take(query, groups))?;
                let (row, line, metadata) = self.cursors[at].taken();
                lines.push(OwnLine {
                    timestamp_ns: row.timestamp_ns,
                    line_bytes: row.line_bytes,
                    line: line.into(),
                    metadata: metadata.clone(),
                });
            }
            if query.order() == Order::Backward {
                lines[first..].reverse();
            }
        }
        // Now in the order in which they came, in which the first of equal ones counts.
        self.twins.clear();
        lines.retain(|line| self.twins.is_new(line.timestamp_ns, &line.line));
        if query.order() == Order::Backward {
            lines.reverse();
        }
        self.pending.extend(lines);
        Ok(())
    }

    /// The line that was taken last.
    ///
    /// # Panics
    /// None was.
    pub(crate) fn entry(&self) -> Entry<'_> {
        let (timestamp_ns, line_bytes, line, metadata) = match &self.current {
            Current::None => panic!("a line is taken before it is looked at"),
            Current::Own(own) => (own.timestamp_ns, own.line_bytes, &*own.line, &own.metadata),
            Current::OfCursor(at) => {
                let (row, line, metadata) = self.cursors[*at].taken();
                (row.timestamp_ns, row.line_bytes, line, metadata)
            }
        };
        Entry { labels: &self.labels, timestamp_ns, line, line_bytes, metadata }
    }
}
