//! Lines of many streams: all in one order of time, or stream by stream.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use model::Labels;
use parking_lot::Mutex;

use crate::cursor::Cursor;
use crate::group_cache::{DEFAULT_BYTES, GroupCache};
use crate::query::{Entry, Query, ReadError, Source};
use crate::stream_merge::StreamMerge;
use crate::walk::Walk;

/// A stream that a thread looks into, with what came of it.
type LookedInto = Mutex<(Option<StreamMerge>, Result<(), ReadError>)>;

/// Streams that are looked into at once, at most.
const MOST_AT_ONCE: usize = 8;

/// The lines that a query asks for, of all streams in one order of time; of one time, in order of the streams'
/// labels. Whoever wants some stops when he has them: what was not yielded was, as far as possible, not read. A
/// group of a block is decompressed when one of its lines may be the next one.
///
/// Memory: 64 MiB of groups and one group more, or a few where several are looked into at once; per stream with lines in the range up to 64 KiB of lines, and 16
/// bytes for each line of the group that it is in; lines of one stream and one time that are in several sources.
pub struct Entries {
    query: Query,
    groups: GroupCache,
    /// Empty places are those of streams that are being looked into.
    streams: Vec<Option<StreamMerge>>,
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
            streams.push(Some(StreamMerge::new(labels, cursors)));
        }
        if streams.len() > 1 {
            streams.iter_mut().flatten().for_each(StreamMerge::start_small);
        }
        let keys = streams.iter().flatten().enumerate();
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
            let stream = self.streams[at].as_mut();
            match stream.as_ref().and_then(|stream| stream.next_key(&self.query)) {
                None => _ = PeekMut::pop(top),
                Some((key, _)) if key != known => *top = Reverse((key, at)),
                Some((_, false)) => {
                    drop(top);
                    self.sharpen()?;
                }
                Some((_, true)) => {
                    drop(top);
                    if let Some(stream) = stream {
                        stream.take(&self.query, &self.groups)?;
                    }
                    return Ok(self.streams[at].as_ref().map(StreamMerge::entry));
                }
            }
        }
    }

    /// Looks a step ahead in the streams in which that has to be done before there can be a next line.
    fn sharpen(&mut self) -> Result<(), ReadError> {
        let most = if self.query.together().is_some() { MOST_AT_ONCE } else { 1 };
        let mut wanted = Vec::new();
        while wanted.len() < most
            && let Some(Reverse((known, at))) = self.next.peek().copied()
        {
            match self.streams[at].as_ref().and_then(|stream| stream.next_key(&self.query)) {
                Some((_, true)) => break,
                Some((key, false)) if key == known => wanted.push(at),
                Some((key, _)) => {
                    self.next.pop();
                    self.next.push(Reverse((key, at)));
                    continue;
                }
                None => {}
            }
            self.next.pop();
        }
        let (query, groups) = (&self.query, &self.groups);
        let outcome = match (query.together(), wanted.as_slice()) {
            (Some(together), [_, _, ..]) => {
                let streams =
                    wanted.iter().map(|at| Mutex::new((self.streams[*at].take(), Ok(()))));
                let streams: Vec<LookedInto> = streams.collect();
                together.run(streams.len(), &|number| {
                    let (stream, outcome) = &mut *streams[number].lock();
                    if let Some(stream) = stream {
                        *outcome = stream.sharpen(query, groups);
                    }
                });
                let mut first = Ok(());
                for (at, stream) in wanted.iter().zip(streams) {
                    let (stream, outcome) = stream.into_inner();
                    self.streams[*at] = stream;
                    first = first.and(outcome);
                }
                first
            }
            _ => {
                let mut streams = wanted.iter();
                streams.try_for_each(|at| match &mut self.streams[*at] {
                    Some(stream) => stream.sharpen(query, groups),
                    None => Ok(()),
                })
            }
        };
        for at in wanted {
            let stream = self.streams[at].as_ref();
            let key = stream.and_then(|stream| stream.next_key(&self.query));
            self.next.extend(key.map(|(key, _)| Reverse((key, at))));
        }
        outcome
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
                Some((_, false)) => stream.sharpen(&self.query, &self.groups)?,
                Some((_, true)) => {
                    stream.take(&self.query, &self.groups)?;
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
