//! Prometheus remote read: the request, and both forms of the answer.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/> and Prometheus'
//! `prompb/remote.proto`, `prompb/types.proto`, `storage/remote/chunked.go`:
//!
//! ```text
//! ReadRequest         { repeated Query queries = 1; repeated ResponseType accepted_response_types = 2 }
//! Query               { int64 start_timestamp_ms = 1; int64 end_timestamp_ms = 2;
//!                       repeated LabelMatcher matchers = 3; ReadHints hints = 4 }
//! LabelMatcher        { Type type = 1; string name = 2; string value = 3 }
//! ReadResponse        { repeated QueryResult results = 1 }
//! QueryResult         { repeated TimeSeries timeseries = 1 }
//! ChunkedReadResponse { repeated ChunkedSeries chunked_series = 1; int64 query_index = 2 }
//! ChunkedSeries       { repeated Label labels = 1; repeated Chunk chunks = 2 }
//! Chunk               { int64 min_time_ms = 1; int64 max_time_ms = 2; Encoding type = 3;
//!                       bytes data = 4 }
//! frame               = length: uvarint, CRC-32C of the message: 4 bytes big endian, message
//! ```

use std::ops::Range;
use std::sync::Arc;

use model::histogram::FloatHistogram;
use model::{Histogram, Labels, MatchOp, Matcher};

use crate::castagnoli::crc32c;
use crate::prometheus_chunk::{Chunk, encode_floats, encode_histograms};
use crate::protobuf::{self, Field, each_field, each_message, push_bytes, push_varint};
use crate::remote_write::{encode_labels, encode_sample};
use crate::{WireError, remote_write_histogram};

/// Queries one request may hold. Prometheus sends one.
const MAX_QUERIES: usize = 1_000;
/// Matchers one query may hold.
const MAX_MATCHERS: usize = 1_000;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseType {
    /// One snappy block with every sample: `ReadResponse`.
    Samples,
    /// Frames of chunks, series by series: `ChunkedReadResponse`.
    StreamedXorChunks,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// At least none, at most a thousand.
    pub queries: Vec<Query>,
    /// The form of the answer: the first of those accepted that is known.
    pub response_type: ResponseType,
}

/// One selection.
#[derive(Debug, Clone)]
pub struct Query {
    /// First timestamp wanted, milliseconds since the epoch, inclusive.
    pub start_ms: i64,
    /// Last timestamp wanted, inclusive.
    pub end_ms: i64,
    /// All must hold.
    pub matchers: Vec<Matcher>,
}

/// Reads a decompressed request. Hints are ignored: they only allow to send less.
///
/// # Errors
/// [`WireError::Malformed`] for anything that is no `ReadRequest`, also where none of the accepted
/// answers is known; [`WireError::Limit`] for too many queries or matchers; [`WireError::Family`]
/// for a pattern that does not compile.
pub fn decode(body: &[u8]) -> Result<ReadRequest, WireError> {
    let mut queries = Vec::new();
    let mut accepted = Vec::new();
    let mut ranges = Vec::new();
    each_field(body, 0..body.len(), |number, field| {
        match (number, field) {
            (1, Field::Bytes { start, end }) => ranges.push(start..end),
            (2, Field::Varint(kind)) => accepted.push(kind),
            (2, Field::Bytes { start, end }) => {
                let mut at = start;
                while at < end {
                    let kind = protobuf::varint(body, &mut at, end);
                    accepted.push(kind.map_err(|(_, reason)| reason)?);
                }
            }
            (1 | 2, _) => return Err("field of a read request has the wrong type"),
            _ => {}
        }
        Ok(())
    })
    .map_err(malformed)?;
    check("queries", ranges.len(), MAX_QUERIES)?;
    for range in ranges {
        queries.push(query(body, range)?);
    }
    Ok(ReadRequest { queries, response_type: response_type(&accepted)? })
}

fn malformed((offset, reason): protobuf::Fault) -> WireError {
    WireError::Malformed { format: "remote read request", offset, reason }
}

fn check(what: &str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    Err(WireError::Limit {
        what: format!("number of {what} in a remote read request, {found},"),
        limit: limit.to_string(),
        remedy: "ask in several requests",
    })
}

/// The first kind that is known; senders of old name none and mean samples.
fn response_type(accepted: &[u64]) -> Result<ResponseType, WireError> {
    let known = accepted.iter().find_map(|kind| match kind {
        0 => Some(ResponseType::Samples),
        1 => Some(ResponseType::StreamedXorChunks),
        _ => None,
    });
    match known {
        Some(kind) => Ok(kind),
        None if accepted.is_empty() => Ok(ResponseType::Samples),
        None => Err(malformed((
            0,
            "none of the accepted response types is SAMPLES or STREAMED_XOR_CHUNKS",
        ))),
    }
}

fn query(body: &[u8], range: Range<usize>) -> Result<Query, WireError> {
    let mut query = Query { start_ms: 0, end_ms: 0, matchers: Vec::new() };
    let mut matchers = Vec::new();
    each_field(body, range, |number, field| {
        match (number, field) {
            (1, Field::Varint(t_ms)) => query.start_ms = t_ms as i64,
            (2, Field::Varint(t_ms)) => query.end_ms = t_ms as i64,
            (3, Field::Bytes { start, end }) => matchers.push(start..end),
            (1..=3, _) => return Err("field of a query has the wrong type"),
            _ => {}
        }
        Ok(())
    })
    .map_err(malformed)?;
    check("matchers", matchers.len(), MAX_MATCHERS)?;
    for range in matchers {
        query.matchers.push(matcher(body, range)?);
    }
    Ok(query)
}

fn matcher(body: &[u8], range: Range<usize>) -> Result<Matcher, WireError> {
    let (mut op, mut name, mut value) = (MatchOp::Equal, "", "");
    each_message(body, range.clone(), |number, field| {
        let text = |start: usize, end: usize| {
            std::str::from_utf8(&body[start..end]).map_err(|_| (start, "matcher is not UTF-8"))
        };
        match (number, field) {
            (1, Field::Varint(kind)) => {
                op = match kind {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    _ => return Err((range.start, "unknown type of a matcher")),
                }
            }
            (2, Field::Bytes { start, end }) => name = text(start, end)?,
            (3, Field::Bytes { start, end }) => value = text(start, end)?,
            (1..=3, _) => return Err((range.start, "field of a matcher has the wrong type")),
            _ => {}
        }
        Ok(())
    })
    .map_err(malformed)?;
    Matcher::new(name, op, value).map_err(|error| WireError::Family(error.0))
}

/// Samples of one series as an answer has them; the histogram columns are of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Times of the floats, ascending, milliseconds since the epoch.
    pub timestamps_ms: &'a [i64],
    /// The floats.
    pub values: &'a [f64],
    /// Times of the native histograms, ascending.
    pub histogram_timestamps_ms: &'a [i64],
    /// The native histograms.
    pub histograms: &'a [Arc<FloatHistogram>],
}

impl Series<'_> {
    /// Whether it has no samples, and so has no place in an answer.
    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty() && self.histogram_timestamps_ms.is_empty()
    }
}

/// Appends one series to the content of a `QueryResult`.
pub fn push_series(result: &mut Vec<u8>, series: &Series<'_>) {
    let mut message = Vec::with_capacity(64 + series.timestamps_ms.len() * 18);
    encode_labels(series.labels.iter(), &mut message);
    for (&t_ms, &value) in series.timestamps_ms.iter().zip(series.values) {
        encode_sample((t_ms, value), 0, &mut message);
    }
    let mut histogram_message = Vec::new();
    for (&t_ms, histogram) in series.histogram_timestamps_ms.iter().zip(series.histograms) {
        histogram_message.clear();
        let histogram = Histogram::Float(FloatHistogram::clone(histogram));
        remote_write_histogram::encode(t_ms, &histogram, &mut histogram_message);
        push_bytes(&mut message, 4 << 3 | 2, &histogram_message);
    }
    push_bytes(result, 1 << 3 | 2, &message);
}

/// Appends a finished `QueryResult` to a `ReadResponse`, which is still to be compressed.
pub fn push_result(response: &mut Vec<u8>, result: &[u8]) {
    push_bytes(response, 1 << 3 | 2, result);
}

/// The response as it goes over the wire: one snappy block.
///
/// # Errors
/// [`WireError::Limit`] above 4 GiB, which the format cannot hold.
pub fn pack(response: &[u8]) -> Result<Vec<u8>, WireError> {
    snap::raw::Encoder::new().compress_vec(response).map_err(|_| WireError::Limit {
        what: format!("answer to a remote read of {} bytes", response.len()),
        limit: "4 GiB".to_owned(),
        remedy: "ask for less or accept STREAMED_XOR_CHUNKS",
    })
}

/// Bytes of a frame after which the next chunk begins a new one, as in Prometheus.
const FRAME_BYTES: usize = 1 << 20;

/// Writes the frames of one streamed answer.
#[derive(Debug, Default)]
pub struct ChunkStream {
    data: Vec<u8>,
    chunks: Vec<Chunk>,
    labels: Vec<u8>,
    message: Vec<u8>,
}

impl ChunkStream {
    /// Appends `series`, found by the query with this number, as frames of about a megabyte. A
    /// series that is larger is spread over frames which all bear its labels.
    pub fn push(&mut self, query_index: usize, series: &Series<'_>, out: &mut Vec<u8>) {
        self.data.clear();
        self.chunks.clear();
        self.labels.clear();
        encode_labels(series.labels.iter(), &mut self.labels);
        let Series { timestamps_ms, values, histogram_timestamps_ms, histograms, .. } = *series;
        encode_floats(timestamps_ms, values, &mut self.data, &mut self.chunks);
        encode_histograms(histogram_timestamps_ms, histograms, &mut self.data, &mut self.chunks);
        self.chunks.sort_by_key(|chunk| chunk.first_ms);
        let mut rest = self.chunks.as_slice();
        while !rest.is_empty() {
            let mut bytes = self.labels.len();
            let fits = rest.iter().take_while(|chunk| {
                let before = bytes;
                bytes += chunk.range.len();
                before < FRAME_BYTES
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            self.message.clear();
            self.message.extend_from_slice(&self.labels);
            now.iter().for_each(|chunk| push_chunk(&mut self.message, chunk, &self.data));
            push_frame(out, query_index, &self.message);
            rest = later;
        }
    }
}

fn push_chunk(series: &mut Vec<u8>, chunk: &Chunk, data: &[u8]) {
    let data = &data[chunk.range.clone()];
    let mut message = Vec::with_capacity(data.len() + 32);
    for (tag, number) in [
        (1 << 3, chunk.first_ms as u64),
        (2 << 3, chunk.last_ms as u64),
        (3 << 3, chunk.encoding as u64),
    ] {
        message.push(tag);
        push_varint(&mut message, number);
    }
    push_bytes(&mut message, 4 << 3 | 2, data);
    push_bytes(series, 2 << 3 | 2, &message);
}

fn push_frame(out: &mut Vec<u8>, query_index: usize, series: &[u8]) {
    let mut message = Vec::with_capacity(series.len() + 16);
    push_bytes(&mut message, 1 << 3 | 2, series);
    message.push(2 << 3);
    push_varint(&mut message, query_index as u64);
    push_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}
