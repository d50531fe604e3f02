//! The streams of a tenant that are active, and how fast each of them has lines.

use std::collections::HashMap;

use model::{Labels, LogBatch, LogLimits, LogRecord};

use super::pace::Pace;

/// A stream counts for so long after its last line.
pub(super) const ACTIVE_MS: i64 = 60 * 60 * 1_000;
/// Streams of which a pace is kept; further ones begin anew. Those that rest for long have a full bucket
/// again, so nothing is lost with them.
const MAX_PACES: usize = 100_000;
/// Between two looks for streams that are not active any more.
pub(super) const PRUNE_MS: i64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Streams {
    /// By a hash of their labels.
    known: HashMap<u64, Stream>,
    pruned_ms: i64,
}

#[derive(Debug)]
struct Stream {
    last_ms: i64,
    pace: Pace,
}

impl Streams {
    /// Notes that a stream has lines, unless it is one too many.
    pub(super) fn meet(&mut self, hash: u64, limits: &LogLimits, now_ms: i64) -> bool {
        if let Some(stream) = self.known.get_mut(&hash) {
            stream.last_ms = now_ms;
            return true;
        }
        let most = match limits.max_streams {
            0 => MAX_PACES,
            most => most,
        };
        if self.known.len() >= most {
            self.prune(now_ms);
        }
        if self.known.len() >= most {
            if limits.max_streams > 0 {
                return false;
            }
            self.known.clear();
        }
        self.known.insert(hash, Stream { last_ms: now_ms, pace: Pace::default() });
        true
    }

    /// Forgets streams that are not active any more, if nobody looked of late.
    fn prune(&mut self, now_ms: i64) {
        if now_ms.saturating_sub(self.pruned_ms).abs() >= PRUNE_MS {
            self.pruned_ms = now_ms;
            self.known.retain(|_, stream| now_ms.saturating_sub(stream.last_ms) < ACTIVE_MS);
        }
    }

    /// Those that would be streams beyond the limit.
    pub(super) fn too_many<'p>(
        &mut self,
        pieces: &'p [Piece],
        limits: &LogLimits,
        now_ms: i64,
    ) -> Vec<&'p Piece> {
        if limits.max_streams == 0 {
            return Vec::new();
        }
        let places = |streams: &Streams| limits.max_streams.saturating_sub(streams.known.len());
        let is_new = |streams: &Streams, piece: &Piece| !streams.known.contains_key(&piece.hash);
        if pieces.iter().filter(|piece| is_new(self, piece)).count() > places(self) {
            self.prune(now_ms);
        }
        pieces.iter().filter(|piece| is_new(self, piece)).skip(places(self)).collect()
    }

    pub(super) fn give_back(&mut self, hash: u64, bytes: usize, limits: &LogLimits) {
        if let Some(stream) = self.known.get_mut(&hash).filter(|_| limits.stream_rate_bytes > 0) {
            stream.pace.give_back(bytes as u64);
        }
    }

    pub(super) fn admits(
        &mut self,
        hash: u64,
        bytes: usize,
        limits: &LogLimits,
        now_ms: i64,
    ) -> bool {
        let LogLimits { stream_rate_bytes: rate, stream_burst_bytes: burst, .. } = *limits;
        match self.known.get_mut(&hash) {
            Some(stream) if rate > 0 => stream.pace.take(bytes, rate, burst, now_ms).is_ok(),
            _ => true,
        }
    }
}

/// What a batch has of a stream.
pub(super) struct Piece {
    pub(super) labels: Labels,
    pub(super) hash: u64,
    pub(super) lines: u64,
    /// How many of them come too fast, if they do.
    pub(super) slow: u64,
    pub(super) first_ns: i64,
    pub(super) bytes: usize,
}

/// Each stream once, as they come.
pub(super) fn pieces_of(batch: &LogBatch) -> Vec<Piece> {
    let (mut pieces, mut by_hash) = (Vec::<Piece>::new(), HashMap::new());
    let (mut records, mut metadata, mut at) = (batch.records(), Vec::new(), 0);
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(labels) => {
                let hash = hash(labels.as_packed());
                at = *by_hash.entry(hash).or_insert_with(|| {
                    pieces.push(Piece { labels, hash, lines: 0, slow: 0, first_ns: 0, bytes: 0 });
                    pieces.len() - 1
                });
            }
            LogRecord::Line { timestamp_ns, line } => {
                let piece = pieces.get_mut(at).expect("a line is of a stream");
                if piece.lines == 0 {
                    piece.first_ns = timestamp_ns;
                }
                let of_metadata = metadata.iter().map(|(name, value)| name.len() + value.len());
                piece.lines += 1;
                piece.slow += 1;
                piece.bytes += line.len() + of_metadata.sum::<usize>();
            }
        }
    }
    pieces
}

pub(super) fn hash(packed_labels: &[u8]) -> u64 {
    let whole = blake3::hash(packed_labels);
    u64::from_le_bytes(*whole.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
