//! The lines of one tenant that are in no block yet.

use std::sync::Arc;

use hashbrown::HashMap;
use labelindex::{LabelIndex, MemIndex};
use model::{Labels, LogBatch, LogRecord, Matcher};
use rapidhash::fast::RandomState;

use crate::block_writer::MAX_LINE_BYTES;
use crate::metadata::settled;
use crate::piece::Piece;
use crate::time::NsRange;

/// Bytes of lines and metadata with which a piece is frozen. What is younger is copied for each query.
const PIECE_BYTES: usize = 64 << 10;
/// What one more place for a piece takes in a snapshot.
const PLACE_BYTES: usize = size_of::<Arc<Piece>>();
/// What a stream takes, about, besides its labels and lines.
const STREAM_BYTES: usize = 256;

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Line or metadata are too long.
    #[error(
        "line of {line_bytes} bytes with {metadata_bytes} bytes of metadata: {limit} are the most that a block can have of either"
    )]
    TooLong {
        /// Length of the line.
        line_bytes: usize,
        /// Length of all names and values.
        metadata_bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// A stream of a head, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadStreamId(u32);

/// Lines in memory, searchable as soon as they are pushed. When it is large or old enough, the caller puts an
/// empty one in its place and writes it to a block; until that is committed it is read as before.
pub struct LogHead {
    by_labels: HashMap<Labels, u32, RandomState>,
    index: MemIndex,
    streams: Vec<Stream>,
    /// Of lines.
    bytes: usize,
    rows: u64,
    span_ns: Option<(i64, i64)>,
}

struct Stream {
    labels: Labels,
    frozen: Vec<Arc<Piece>>,
    open: Piece,
}

impl LogHead {
    /// An empty one. `seed` keys the hashes of labels: nobody who sends lines may know it.
    pub fn new(seed: u64) -> Self {
        LogHead {
            by_labels: HashMap::default(),
            index: MemIndex::new(seed),
            streams: Vec::new(),
            bytes: 0,
            rows: 0,
            span_ns: None,
        }
    }

    /// The stream with these labels.
    pub fn stream(&mut self, labels: &Labels) -> HeadStreamId {
        if let Some(number) = self.by_labels.get(labels) {
            return HeadStreamId(*number);
        }
        let number = self.streams.len() as u32;
        self.by_labels.insert(labels.clone(), number);
        self.index.insert(number, labels);
        let (frozen, open) = (Vec::new(), Piece::default());
        self.streams.push(Stream { labels: labels.clone(), frozen, open });
        HeadStreamId(number)
    }

    /// Whether there is a stream with these labels.
    pub fn has_stream(&self, labels: &Labels) -> bool {
        self.by_labels.contains_key(labels)
    }

    /// Number of streams.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes a line, of any time. One that is there already takes memory and is not seen. Of metadata the first
    /// of equal names counts; what has no name or no value is left out.
    ///
    /// # Errors
    /// Line or metadata are longer than [`MAX_LINE_BYTES`].
    pub fn push(
        &mut self,
        stream: HeadStreamId,
        timestamp_ns: i64,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<(), HeadError> {
        let metadata_bytes: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
        if line.len().max(metadata_bytes) > MAX_LINE_BYTES {
            let (line_bytes, limit) = (line.len(), MAX_LINE_BYTES);
            return Err(HeadError::TooLong { line_bytes, metadata_bytes, limit });
        }
        let sorted = settled(metadata);
        let Stream { frozen, open, .. } = &mut self.streams[stream.0 as usize];
        let before = open.bytes();
        open.push(timestamp_ns, line, &sorted);
        self.bytes = self.bytes + open.bytes() - before;
        self.rows += 1;
        self.span_ns = match self.span_ns {
            Some((first, last)) => Some((first.min(timestamp_ns), last.max(timestamp_ns))),
            None => Some((timestamp_ns, timestamp_ns)),
        };
        if open.content_bytes() >= PIECE_BYTES {
            let full = std::mem::take(open);
            let before = full.bytes();
            // A copy, so that there is no room left in it.
            let piece = full.frozen();
            self.bytes = self.bytes + piece.bytes() - before;
            frozen.push(Arc::new(piece));
        }
        Ok(())
    }

    /// Takes all lines of a batch, as if they were pushed one by one.
    ///
    /// # Panics
    /// Never: what a batch takes is no longer than what a head does.
    pub fn push_batch(&mut self, batch: &LogBatch) {
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        let mut stream = HeadStreamId(0);
        while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
            match record {
                LogRecord::Stream(labels) => stream = self.stream(&labels),
                LogRecord::Line { timestamp_ns, line } => self
                    .push(stream, timestamp_ns, line, &metadata)
                    .expect("a batch has the same limits"),
            }
        }
    }

    /// Bytes of memory held: lines, metadata, labels.
    pub fn bytes(&self) -> usize {
        self.bytes + self.index.bytes() + self.streams.len() * STREAM_BYTES
    }

    /// Lines that were pushed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Times of the first and the last line.
    pub fn span_ns(&self) -> Option<(i64, i64)> {
        self.span_ns
    }

    /// Labels and postings of the streams.
    pub fn index(&self) -> &MemIndex {
        &self.index
    }

    /// What is in it now, of the streams that satisfy all matchers and have lines in a range. Costs a copy of up
    /// to 64 KiB per stream.
    pub fn snapshot(&self, matchers: &[Matcher], range: NsRange) -> HeadSnapshot {
        let is_empty = self.span_ns.is_none_or(|(first, last)| !range.meets(first, last));
        if is_empty {
            return HeadSnapshot::default();
        }
        let (mut streams, mut own_bytes) = (Vec::new(), 0);
        for number in self.index.select(matchers) {
            let Stream { labels, frozen, open } = &self.streams[number as usize];
            let open = (!open.is_empty()).then(|| Arc::new(open.frozen()));
            let meets = |piece: &Arc<Piece>| {
                let (first_ns, last_ns) = piece.span_ns();
                range.meets(first_ns, last_ns)
            };
            let pieces = frozen.iter().chain(&open).filter(|piece| meets(piece));
            let pieces: Vec<Arc<Piece>> = pieces.cloned().collect();
            if !pieces.is_empty() {
                let copied = open.filter(meets).map_or(0, |open| open.bytes());
                own_bytes += copied + pieces.len() * PLACE_BYTES + size_of::<HeadStream>();
                streams.push(HeadStream { labels: labels.clone(), pieces });
            }
        }
        streams.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        HeadSnapshot { streams: streams.into(), own_bytes }
    }
}

/// What was in a head at some time.
#[derive(Debug, Clone, Default)]
pub struct HeadSnapshot {
    streams: Arc<[HeadStream]>,
    own_bytes: usize,
}

/// A stream of it.
#[derive(Debug, Clone)]
pub(crate) struct HeadStream {
    pub(crate) labels: Labels,
    /// In the order in which they were filled.
    pub(crate) pieces: Vec<Arc<Piece>>,
}

impl HeadSnapshot {
    /// Labels of the streams, ascending.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Labels> {
        self.streams.iter().map(|stream| &stream.labels)
    }

    /// Bytes of memory that it takes beside the head.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    pub(crate) fn streams(&self) -> &[HeadStream] {
        &self.streams
    }
}
