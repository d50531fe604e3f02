//! Lines of many streams: all in one order of time, or stream by stream.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use model::Labels;

use crate::cursor::Cursor;
use crate::group_cache::{DEFAULT_BYTES, GroupCache};
use crate::query::{Entry, Query, ReadError, Source};
use crate::stream_merge::StreamMerge;
use crate::walk::Walk;

/// The lines that a query asks for, of all streams in one order of time; of one time, in order of the streams'
/// labels. Whoever wants some stops when he has them: what was not yielded was, as far as possible, not read. A
/// group of a block is decompressed when one of its lines may be the next one.
///
/// Memory: 64 MiB of groups and one group more; per stream with lines in the range up to 64 KiB of lines, and 16
/// bytes for each line of the group that it is in; lines of one stream and one time that are in several sources.
pub struct Entries {
    query: Query,
    groups: GroupCache,
    streams: Vec<StreamMerge>,
    /// When the next line of each is, or was before the last call.
    next: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Entries {
    /// Selects streams and skips what the indexes of blocks exclude. `sources` are in order of commits: of equal
    /// lines the earlier source's counts.
    ///
    /// # Errors
    /// An index is damaged or cannot be read.
    pub fn new(query: Query, sources: Vec<Source>) -> Result<Self, ReadError> {
        let mut walk = Walk::new(&query, sources)?;
        let mut streams = Vec::new();
        while let Some((labels, cursors)) = walk.next_stream(&query)? {
            streams.push(StreamMerge::new(labels, cursors));
        }
        if streams.len() > 1 {
            streams.iter_mut().for_each(StreamMerge::start_small);
        }
        let keys = streams.iter().enumerate();
        let next = keys.filter_map(|(at, s)| Some(Reverse((s.next_key(&query)?.0, at)))).collect();
        Ok(Entries { query, groups: GroupCache::new(DEFAULT_BYTES), streams, next })
    }

    /// The next line.
    ///
    /// # Errors
    /// A source is damaged or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        loop {
            let Some(mut top) = self.next.peek_mut() else { return Ok(None) };
            let Reverse((known, at)) = *top;
            let stream = &mut self.streams[at];
            match stream.next_key(&self.query) {
                None => {
                    std::collections::binary_heap::PeekMut::pop(top);
                }
                Some((key, _)) if key != known => *top = Reverse((key, at)),
                Some((_, false)) => {
                    drop(top);
                    stream.sharpen(&self.query, &mut self.groups)?;
                }
                Some((_, true)) => {
                    drop(top);
                    stream.take(&self.query, &mut self.groups)?;
                    return Ok(Some(self.streams[at].entry()));
                }
            }
        }
    }
}

/// The lines that a query asks for, stream by stream in order of labels, each in the order of the query. Memory:
/// as of [`Entries`] for one stream.
pub struct Streams {
    open: OpenStream,
    walk: Walk,
}

/// The stream of which lines are yielded.
pub(crate) struct OpenStream {
    pub(crate) query: Query,
    groups: GroupCache,
    current: Option<StreamMerge>,
}

impl OpenStream {
    pub(crate) fn new(query: Query) -> Self {
        OpenStream { query, groups: GroupCache::new(DEFAULT_BYTES), current: None }
    }

    /// Goes to a stream.
    pub(crate) fn begin(&mut self, labels: Labels, cursors: Vec<Cursor>) -> &Labels {
        &self.current.insert(StreamMerge::new(labels, cursors)).labels
    }

    /// The next line of the stream.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        let Some(stream) = &mut self.current else { return Ok(None) };
        loop {
            match stream.next_key(&self.query) {
                None => return Ok(None),
                Some((_, false)) => stream.sharpen(&self.query, &mut self.groups)?,
                Some((_, true)) => {
                    stream.take(&self.query, &mut self.groups)?;
                    return Ok(Some(stream.entry()));
                }
            }
        }
    }
}

impl Streams {
    /// As [`Entries::new`].
    ///
    /// # Errors
    /// As [`Entries::new`].
    pub fn new(query: Query, sources: Vec<Source>) -> Result<Self, ReadError> {
        let walk = Walk::new(&query, sources)?;
        Ok(Streams { open: OpenStream::new(query), walk })
    }

    /// Passes over the streams up to one, and that one.
    pub(crate) fn skip_through(&mut self, last: &Labels) {
        self.walk.skip_through(last);
    }

    /// Whether there may be more streams.
    pub(crate) fn has_more(&self) -> bool {
        self.walk.has_more()
    }

    /// Goes to the next stream, which may turn out to have no lines.
    ///
    /// # Errors
    /// An index is damaged.
    pub fn next_stream(&mut self) -> Result<Option<&Labels>, ReadError> {
        let next = self.walk.next_stream(&self.open.query)?;
        Ok(next.map(|(labels, cursors)| self.open.begin(labels, cursors)))
    }

    /// The next line of the stream.
    ///
    /// # Errors
    /// A source is damaged or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        self.open.next_entry()
    }
}
