//! The series of one selection, as they came: columns are decoded when they are read, by as many
//! threads as read.

use std::sync::Arc;

use bytes::Bytes;
use model::{Histogram, Labels};
use net::rpc::{SelectResponse, SeriesChunk};
use promql::{Columns, Reads, SeriesSet, SourceError};

use super::budget::Held;
use super::fault::garbled;
use super::labels_of;

/// Samples in one chunk; a broker sends no more.
const MAX_CHUNK_SAMPLES: u32 = 1 << 16;
/// What a series takes here besides its bytes.
const SERIES_BYTES: usize = 200;

/// Series that have arrived, and their bytes.
pub(super) struct ArrivedSeries {
    labels: Vec<Labels>,
    /// Where the chunks of each series end.
    ends: Vec<usize>,
    chunks: Vec<Chunk>,
    /// Which series have lost samples to rollups in a part of the range; by series.
    coarse: Vec<bool>,
    is_complete: bool,
    nothing_missing: bool,
    /// What lacks in it, in words.
    missing: Vec<String>,
    reads: Reads,
    held: Held,
}

/// Samples of one series, in columns.
enum Chunk {
    Floats { samples: usize, timestamps: Bytes, values: Bytes, starts: Bytes },
    Histograms { samples: usize, timestamps: Bytes, starts: Bytes, histograms: Bytes },
}

impl ArrivedSeries {
    pub(super) fn new(held: Held) -> Self {
        ArrivedSeries {
            labels: Vec::new(),
            ends: Vec::new(),
            chunks: Vec::new(),
            coarse: Vec::new(),
            is_complete: false,
            nothing_missing: false,
            missing: Vec::new(),
            reads: Reads::default(),
            held,
        }
    }

    /// Takes the next message. Yields its bytes.
    ///
    /// # Errors
    /// It makes the query too large, or no broker sends such.
    pub(super) fn add(&mut self, message: SelectResponse) -> Result<usize, SourceError> {
        let mut bytes = message.missing.iter().map(|what| what.len() + SERIES_BYTES).sum();
        for chunk in message.series {
            bytes += self.add_chunk(chunk)?;
        }
        self.held.grow(bytes)?;
        self.is_complete |= message.is_last;
        self.nothing_missing |= message.nothing_missing;
        self.missing.extend(message.missing);
        if let Some(net::rpc::Reads { blocks, chunks, head_series, bytes }) = message.reads {
            self.reads.add(Reads { blocks, chunks, head_series, bytes, ..Reads::default() });
        }
        Ok(bytes)
    }

    fn add_chunk(&mut self, chunk: SeriesChunk) -> Result<usize, SourceError> {
        let columns = [&chunk.timestamps, &chunk.values, &chunk.starts];
        let mut bytes = SERIES_BYTES + columns.map(Bytes::len).iter().sum::<usize>();
        if !chunk.continues {
            let labels = labels_of(&chunk.labels)?;
            if self.labels.last().is_some_and(|before| *before >= labels) {
                return Err(garbled("series are not in order"));
            }
            bytes += 2 * chunk.labels.len();
            self.labels.push(labels);
            self.ends.push(self.chunks.len());
            self.coarse.push(false);
        }
        if let Some(coarse) = self.coarse.last_mut() {
            *coarse |= chunk.coarse;
        }
        let parts = chunk.histograms.len() + usize::from(chunk.samples > 0);
        let counts = chunk.histograms.iter().map(|part| part.samples).chain([chunk.samples]);
        if counts.max() > Some(MAX_CHUNK_SAMPLES) {
            return Err(garbled("a chunk of too many samples"));
        }
        self.chunks.reserve(parts);
        if chunk.samples > 0 {
            self.chunks.push(Chunk::Floats {
                samples: chunk.samples as usize,
                timestamps: chunk.timestamps,
                values: chunk.values,
                starts: chunk.starts,
            });
        }
        for part in chunk.histograms {
            bytes += part.timestamps.len() + part.starts.len() + part.histograms.len();
            self.chunks.push(Chunk::Histograms {
                samples: part.samples as usize,
                timestamps: part.timestamps,
                starts: part.starts,
                histograms: part.histograms,
            });
        }
        let end = self.ends.last_mut().ok_or_else(|| garbled("samples of no series"))?;
        *end = self.chunks.len();
        Ok(bytes)
    }

    /// Whether the last message has come.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether the broker knows of nothing that is missing, in any range.
    pub(super) fn nothing_missing(&self) -> bool {
        self.nothing_missing
    }

    /// What lacks in it, beside what the broker tells of its whole store.
    pub(super) fn take_missing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.missing)
    }

    fn chunks_of(&self, index: usize) -> &[Chunk] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.chunks[start..self.ends[index]]
    }
}

impl SeriesSet for ArrivedSeries {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.labels[index]
    }

    fn is_coarse(&self) -> bool {
        self.coarse.contains(&true)
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        out.is_coarse = self.coarse[index];
        let start = out.timestamps_ms.len();
        let histograms_start = out.histograms.timestamps_ms.len();
        for chunk in self.chunks_of(index) {
            decode(chunk, out).map_err(|error| garbled(&error.to_string()))?;
        }
        let ascends = |times: &[i64]| times.is_sorted_by(|before, after| before < after);
        if !ascends(&out.timestamps_ms[start..])
            || !ascends(&out.histograms.timestamps_ms[histograms_start..])
        {
            return Err(garbled("samples are not in order of time"));
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        self.reads
    }
}

fn decode(chunk: &Chunk, out: &mut Columns) -> Result<(), codec::CodecError> {
    match chunk {
        Chunk::Floats { samples, timestamps, values, starts } => {
            if !starts.is_empty() {
                out.starts_ms.resize(out.timestamps_ms.len(), 0);
                codec::decode_i64s(&mut &starts[..], *samples, &mut out.starts_ms)?;
            }
            codec::decode_i64s(&mut &timestamps[..], *samples, &mut out.timestamps_ms)?;
            codec::decode_f64s(&mut &values[..], *samples, &mut out.values)
        }
        Chunk::Histograms { samples, timestamps, starts, histograms } => {
            let (mut times, mut starts_ms) = (Vec::new(), Vec::new());
            codec::decode_i64s(&mut &timestamps[..], *samples, &mut times)?;
            if starts.is_empty() {
                starts_ms.resize(times.len(), 0);
            } else {
                codec::decode_i64s(&mut &starts[..], *samples, &mut starts_ms)?;
            }
            let mut decoded: Vec<Histogram> = Vec::new();
            codec::decode_histograms(&mut &histograms[..], *samples, &mut decoded)?;
            for ((t_ms, start_ms), histogram) in times.into_iter().zip(starts_ms).zip(&decoded) {
                out.histograms.push_started(t_ms, start_ms, Arc::new(histogram.to_float()));
            }
            Ok(())
        }
    }
}
