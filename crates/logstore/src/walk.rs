//! The streams that a query selects, over all sources, in order of labels.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use labelindex::LabelIndex;
use model::Labels;
use parking_lot::Mutex;

use crate::block::LogBlock;
use crate::cursor::{Cursor, RunAt, RunPlace};
use crate::deletes::Hide;
use crate::groups::GroupSet;
use crate::head::HeadStream;
use crate::page::corrupt;
use crate::piece::Piece;
use crate::query::{Query, ReadError, Source};

/// Yields the streams of several sources, each with its cursors in order of the sources.
pub(crate) struct Walk {
    sources: Vec<(Source, Streams)>,
    next: BinaryHeap<Reverse<(Labels, usize)>>,
}

/// The streams of one source that are still to come.
enum Streams {
    Block {
        block: Arc<LogBlock>,
        ordinals: std::vec::IntoIter<u32>,
        current: u32,
        /// Groups that may have what is searched; `None` for all.
        groups: Option<GroupSet>,
    },
    Head {
        streams: std::vec::IntoIter<HeadStream>,
        current: Vec<Arc<Piece>>,
    },
}

impl Streams {
    fn new(source: &Source, query: &Query) -> Result<Self, blockstore::BlockError> {
        match source {
            Source::Block { block, .. } => {
                let (ordinals, groups) = if query.is_search() {
                    let streams = block.index().select(query.matchers());
                    if streams.is_empty() {
                        (streams, None)
                    } else {
                        query.tell(0, 0)?;
                        let fields = query.fields().iter();
                        let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
                        let groups = block.search(query.needles(), fields)?;
                        (block.within(streams, &query.range(), &groups), Some(groups))
                    }
                } else {
                    (block.select(query.matchers(), &query.range()), None)
                };
                let (block, ordinals) = (Arc::clone(block), ordinals.into_iter());
                Ok(Streams::Block { block, ordinals, current: 0, groups })
            }
            Source::Head { head, .. } => {
                let is_meant = |stream: &HeadStream| {
                    model::Matcher::all_match(query.matchers(), &stream.labels)
                };
                let streams: Vec<HeadStream> =
                    head.streams().iter().filter(|stream| is_meant(stream)).cloned().collect();
                Ok(Streams::Head { streams: streams.into_iter(), current: Vec::new() })
            }
        }
    }

    /// Goes to the next stream and yields its labels.
    fn advance(&mut self) -> Option<Labels> {
        match self {
            Streams::Block { block, ordinals, current, .. } => {
                *current = ordinals.next()?;
                Some(block.index().labels(*current))
            }
            Streams::Head { streams, current } => {
                let stream = streams.next()?;
                *current = stream.pieces;
                Some(stream.labels)
            }
        }
    }

    /// The runs of the current stream that may have lines in question, in lists each of which is in order.
    fn runs(&mut self, query: &Query) -> Vec<Vec<RunPlace>> {
        let range = query.range();
        match self {
            Streams::Block { block, current, groups, .. } => {
                let is_meant = |group: u32| {
                    groups.as_ref().is_none_or(|groups| groups.contains(group as usize))
                };
                let runs = block.runs_of(*current);
                let runs = runs
                    .filter(|run| range.meets(run.first_ns, run.last_ns) && is_meant(run.group));
                let places = runs.map(|run| RunPlace {
                    at: RunAt::Group {
                        block: Arc::clone(block),
                        group: run.group,
                        place: run.place,
                        rows: run.first_row..run.end_row(),
                    },
                    first_ns: run.first_ns,
                    last_ns: run.last_ns,
                });
                let places: Vec<RunPlace> = places.collect();
                if places.is_empty() { Vec::new() } else { vec![places] }
            }
            Streams::Head { current, .. } => {
                let mut lists: Vec<Vec<RunPlace>> = Vec::new();
                for piece in current.drain(..) {
                    let (first_ns, last_ns) = piece.span_ns();
                    if !range.meets(first_ns, last_ns) {
                        continue;
                    }
                    let place = RunPlace { at: RunAt::Piece(piece), first_ns, last_ns };
                    // Pieces of which each is later than the one before are one list. Others come into lists
                    // of their own, so that commit order decides between them.
                    match lists.last_mut() {
                        Some(list) if list.last().is_some_and(|l| l.last_ns < first_ns) => {
                            list.push(place);
                        }
                        _ => lists.push(vec![place]),
                    }
                }
                lists
            }
        }
    }
}

/// The streams of each source. Where filters have to be read, those of several blocks are at once: one read waits for
/// the disk or the store while another one does.
fn opened(query: &Query, sources: &[Source]) -> Vec<Result<Streams, blockstore::BlockError>> {
    let blocks = sources.iter().filter(|source| matches!(source, Source::Block { .. }));
    let together = query.together().filter(|_| query.is_search() && blocks.count() > 1);
    let Some(together) = together else {
        return sources.iter().map(|source| Streams::new(source, query)).collect();
    };
    let slots: Vec<Mutex<Option<_>>> = sources.iter().map(|_| Mutex::new(None)).collect();
    together.run(sources.len(), &|index| {
        let streams = Streams::new(&sources[index], query);
        *slots[index].lock() = Some(streams);
    });
    let taken = slots.into_iter().map(Mutex::into_inner);
    taken.map(|streams| streams.expect("each job is done once")).collect()
}

impl Walk {
    /// Selects streams; blocks are asked for groups that may have what is searched.
    pub(crate) fn new(query: &Query, sources: Vec<Source>) -> Result<Self, ReadError> {
        let mut walk = Walk { sources: Vec::with_capacity(sources.len()), next: BinaryHeap::new() };
        let opened = opened(query, &sources);
        for (source_index, (source, streams)) in sources.into_iter().zip(opened).enumerate() {
            let mut streams = streams.map_err(|error| ReadError { source_index, error })?;
            walk.next.extend(streams.advance().map(|labels| Reverse((labels, source_index))));
            walk.sources.push((source, streams));
        }
        Ok(walk)
    }

    /// Passes over the streams up to one, and that one.
    pub(crate) fn skip_through(&mut self, last: &Labels) {
        while self.next.peek().is_some_and(|Reverse((labels, _))| labels <= last) {
            if let Some(Reverse((_, source))) = self.next.pop() {
                let following = self.sources[source].1.advance();
                self.next.extend(following.map(|labels| Reverse((labels, source))));
            }
        }
    }

    /// Whether there may be more streams.
    pub(crate) fn has_more(&self) -> bool {
        !self.next.is_empty()
    }

    /// The next stream that may have lines.
    pub(crate) fn next_stream(
        &mut self,
        query: &Query,
    ) -> Result<Option<(Labels, Vec<Cursor>)>, ReadError> {
        while let Some(Reverse((labels, first))) = self.next.pop() {
            let mut of_stream = vec![first];
            while self.next.peek().is_some_and(|Reverse((other, _))| *other == labels) {
                of_stream.extend(self.next.pop().map(|Reverse((_, source))| source));
            }
            let mut cursors = Vec::new();
            for index in of_stream {
                let (source, streams) = &mut self.sources[index];
                let lists = streams.runs(query);
                if !lists.is_empty() {
                    let deletes = source.deletes().iter().map(|delete| &**delete);
                    let hides = Hide::find(deletes, &labels, &query.range());
                    let cursor = |runs| Cursor::new(index, runs, hides.clone(), query);
                    cursors.extend(lists.into_iter().map(cursor));
                }
                let Some(following) = streams.advance() else { continue };
                // An index whose checksums fit may still be out of order, if what wrote it was wrong.
                if following <= labels {
                    let error = corrupt(0, "label index: a stream is not behind the one before it");
                    return Err(ReadError { source_index: index, error });
                }
                self.next.push(Reverse((following, index)));
            }
            if !cursors.is_empty() {
                return Ok(Some((labels, cursors)));
            }
        }
        Ok(None)
    }
}
