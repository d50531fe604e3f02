//! The lines that one request brings: gathered, put into the log as one payload, and pushed into a head. The
//! payload is drawn in `docs/formats/logs-payload.md`.

use codec::CodecError;
use codec::varint::{put_bytes, put_i64, put_u64, take_bytes, take_i64, take_prefixed, take_u64};
use model::{LabelError, Labels, TenantId};

use crate::block_writer::MAX_LINE_BYTES;

/// The version of payloads, and the highest that is read.
const VERSION: u8 = 1;
/// Most bytes of a payload, uncompressed.
pub const MAX_BATCH_BYTES: usize = 256 << 20;
/// Compression stands before every acknowledgement.
const ZSTD_LEVEL: i32 = 1;

/// Begins a stream.
const STREAM: u8 = 1;
/// Begins a line.
const LINE: u8 = 2;

/// Lines of some streams of one tenant, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// As in the payload, uncompressed.
    body: Vec<u8>,
    lines: u64,
    line_bytes: u64,
    has_stream: bool,
    /// Time of the last line of the stream.
    last_ns: i64,
}

/// Why a payload is none, or a line is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A payload is damaged or not one. The frame is to be counted as lost.
    #[error("log payload of lines is corrupt at byte {offset}: {detail}")]
    Corrupt {
        /// Where, from the start of the payload; of what is compressed in it, from the start of that.
        offset: usize,
        /// What was expected.
        detail: String,
    },
    /// A payload was written by a newer program.
    #[error(
        "log payload of lines has version {found}, this program reads up to {supported}: upgrade it"
    )]
    Version {
        /// What the payload says.
        found: u8,
        /// The highest this program reads.
        supported: u8,
    },
    /// Too much for one line, or for one batch.
    #[error("{what} of {found} bytes: {limit} are the most; send less at once")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// Part of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The lines that follow are of this stream.
    Stream(Labels),
    /// A line; its metadata is where the caller wanted it.
    Line {
        /// Nanoseconds since the epoch.
        timestamp_ns: i64,
        /// The line.
        line: &'a [u8],
    },
}

impl LogBatch {
    /// Begins a stream. A stream may come again.
    pub fn stream(&mut self, labels: &Labels) {
        self.body.push(STREAM);
        put_bytes(&mut self.body, labels.as_packed());
        self.has_stream = true;
        self.last_ns = 0;
    }

    /// Takes a line of the stream.
    ///
    /// # Errors
    /// `TooLarge`: nothing is taken then.
    ///
    /// # Panics
    /// There is no stream.
    pub fn push(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<(), BatchError> {
        assert!(self.has_stream, "a line is of a stream");
        let of_metadata: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
        let sizes = [("a line", line.len()), ("the metadata of a line", of_metadata)];
        let mut limits =
            sizes.into_iter().map(|(what, found)| (what, found, MAX_LINE_BYTES)).chain([(
                "lines of one batch",
                self.body.len() + line.len() + of_metadata + 20 * (metadata.len() + 1),
                MAX_BATCH_BYTES,
            )]);
        if let Some((what, found, limit)) = limits.find(|(_, found, limit)| found > limit) {
            return Err(BatchError::TooLarge { what, found, limit });
        }
        self.body.push(LINE);
        put_i64(&mut self.body, timestamp_ns.wrapping_sub(self.last_ns));
        put_bytes(&mut self.body, line);
        put_u64(&mut self.body, metadata.len() as u64);
        for (name, value) in metadata {
            put_bytes(&mut self.body, name.as_bytes());
            put_bytes(&mut self.body, value.as_bytes());
        }
        self.last_ns = timestamp_ns;
        self.lines += 1;
        self.line_bytes += line.len() as u64;
        Ok(())
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes of all lines.
    pub fn line_bytes(&self) -> u64 {
        self.line_bytes
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.body.capacity()
    }

    /// What it holds, in the order in which it came.
    pub fn records(&self) -> Records<'_> {
        Records { whole: self.body.len(), rest: &self.body, last_ns: 0, has_stream: false }
    }

    /// Appends the payload for the log to `out`.
    pub fn encode(&self, tenant: TenantId, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_u64(out, u64::from(tenant.0));
        put_u64(out, self.body.len() as u64);
        let body = zstd::bulk::compress(&self.body, ZSTD_LEVEL).expect("memory for zstd");
        out.extend_from_slice(&body);
    }

    /// Reads a payload whole.
    ///
    /// # Errors
    /// `Corrupt`, `Version`.
    pub fn decode(payload: &[u8]) -> Result<(TenantId, LogBatch), BatchError> {
        let mut input = payload;
        let at = |rest: &[u8], error: CodecError| corrupt(payload.len() - rest.len(), error);
        let found = take_bytes(&mut input, 1).map_err(|e| corrupt(0, e))?[0];
        if found > VERSION {
            return Err(BatchError::Version { found, supported: VERSION });
        }
        if found == 0 {
            return Err(corrupt(0, "there is no version 0"));
        }
        let tenant = take_u64(&mut input).map_err(|e| at(input, e))?;
        let tenant = u32::try_from(tenant).map_err(|_| corrupt(1, "a tenant above 32 bits"))?;
        let len = take_u64(&mut input).map_err(|e| at(input, e))?;
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_BATCH_BYTES);
        let offset = payload.len() - input.len();
        let len = len.ok_or_else(|| corrupt(offset, "more lines than a batch has"))?;
        let body = zstd::bulk::decompress(input, len).map_err(|e| corrupt(offset, e))?;
        if body.len() != len {
            return Err(corrupt(offset, format!("{} bytes instead of {len}", body.len())));
        }
        let mut batch = LogBatch { body, ..LogBatch::default() };
        let (mut lines, mut line_bytes) = (0, 0);
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        while let Some(record) = records.next_record(&mut metadata)? {
            if let Record::Line { line, .. } = record {
                lines += 1;
                line_bytes += line.len() as u64;
            }
        }
        (batch.lines, batch.line_bytes) = (lines, line_bytes);
        Ok((TenantId(tenant), batch))
    }
}

/// The parts of a batch, one after the other.
#[derive(Debug)]
pub struct Records<'a> {
    whole: usize,
    rest: &'a [u8],
    last_ns: i64,
    has_stream: bool,
}

impl<'a> Records<'a> {
    /// The next part. `metadata` is replaced by that of a line, as it came.
    ///
    /// # Errors
    /// `Corrupt`; never for a batch that was decoded or pushed.
    pub fn next_record(
        &mut self,
        metadata: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<Option<Record<'a>>, BatchError> {
        metadata.clear();
        let Some((kind, rest)) = self.rest.split_first() else { return Ok(None) };
        let offset = self.whole - self.rest.len();
        self.rest = rest;
        match *kind {
            STREAM => {
                let packed = take_prefixed(&mut self.rest).map_err(|e| corrupt(offset, e))?;
                let labels = Labels::from_packed(packed);
                let labels = labels.map_err(|e: LabelError| corrupt(offset, e))?;
                (self.has_stream, self.last_ns) = (true, 0);
                Ok(Some(Record::Stream(labels)))
            }
            LINE if self.has_stream => {
                self.line(metadata).map(Some).map_err(|detail| corrupt(offset, detail))
            }
            LINE => Err(corrupt(offset, "a line without a stream")),
            other => Err(corrupt(offset, format!("part of unknown kind {other}"))),
        }
    }

    fn line(&mut self, metadata: &mut Vec<(&'a str, &'a str)>) -> Result<Record<'a>, String> {
        let text = |error: CodecError| error.to_string();
        let since = take_i64(&mut self.rest).map_err(text)?;
        let line = take_prefixed(&mut self.rest).map_err(text)?;
        let pairs = take_u64(&mut self.rest).map_err(text)?;
        let mut bytes = 0;
        for _ in 0..pairs {
            let mut take = || {
                let taken = take_prefixed(&mut self.rest).map_err(text)?;
                bytes += taken.len();
                std::str::from_utf8(taken).map_err(|error| error.to_string())
            };
            metadata.push((take()?, take()?));
        }
        if line.len().max(bytes) > MAX_LINE_BYTES {
            return Err(format!("a line of {} bytes, {bytes} of metadata", line.len()));
        }
        self.last_ns = self.last_ns.wrapping_add(since);
        Ok(Record::Line { timestamp_ns: self.last_ns, line })
    }
}

fn corrupt(offset: usize, detail: impl ToString) -> BatchError {
    BatchError::Corrupt { offset, detail: detail.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, String)>;

    type Lines = Vec<(i64, Vec<u8>, Pairs)>;

    fn parts() -> impl Strategy<Value = Vec<(u8, Lines)>> {
        let pairs = prop::collection::vec(("[a-c]{0,2}", "\\PC{0,3}"), 0..3);
        let line = (any::<i64>(), prop::collection::vec(any::<u8>(), 0..9), pairs);
        prop::collection::vec((0_u8..3, prop::collection::vec(line, 0..5)), 0..5)
    }

    fn labels(stream: u8) -> Labels {
        Labels::from_pairs([("s", stream.to_string().as_str())]).expect("valid labels")
    }

    proptest! {
        #[test]
        fn batches_come_back_and_damage_is_noticed_or_harmless(
            parts in parts(),
            at in any::<prop::sample::Index>(),
            change: u8,
        ) {
            let mut batch = LogBatch::default();
            for (stream, lines) in &parts {
                batch.stream(&labels(*stream));
                for (at, line, metadata) in lines {
                    let metadata = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                    let metadata: Vec<(&str, &str)> = metadata.collect();
                    batch.push(*at, line, &metadata).expect("it is small");
                }
            }
            let mut payload = Vec::new();
            batch.encode(TenantId(70_000), &mut payload);
            let (tenant, back) = LogBatch::decode(&payload).expect("it was written so");
            prop_assert_eq!(tenant, TenantId(70_000));
            let all: usize = parts.iter().map(|(_, lines)| lines.len()).sum();
            prop_assert_eq!((back.lines(), back.line_bytes()), (all as u64, batch.line_bytes()));
            let (mut records, mut metadata) = (back.records(), Vec::new());
            for (stream, lines) in &parts {
                let next = records.next_record(&mut metadata).expect("it was decoded");
                prop_assert_eq!(next, Some(Record::Stream(labels(*stream))));
                for (timestamp_ns, line, pairs) in lines {
                    let next = records.next_record(&mut metadata).expect("it was decoded");
                    let wanted = Record::Line { timestamp_ns: *timestamp_ns, line };
                    prop_assert_eq!(next, Some(wanted));
                    let pairs = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                    prop_assert!(metadata.iter().copied().eq(pairs));
                }
            }
            prop_assert_eq!(records.next_record(&mut metadata), Ok(None));
            let at = at.index(payload.len());
            payload[at] ^= change;
            let _ = LogBatch::decode(&payload);
            payload.truncate(at);
            // A frame of nothing may lose its end.
            prop_assert!(LogBatch::decode(&payload).is_err() || parts.is_empty());
        }

        #[test]
        fn any_body_is_refused_or_read(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut payload = vec![VERSION, 0];
            put_u64(&mut payload, body.len() as u64);
            payload.extend(zstd::bulk::compress(&body, 1).expect("memory for zstd"));
            let _ = LogBatch::decode(&payload);
        }
    }

    #[test]
    fn what_is_too_large_or_newer_is_refused() {
        let mut batch = LogBatch::default();
        batch.stream(&labels(1));
        let before = batch.clone();
        let line = vec![b'x'; MAX_LINE_BYTES + 1];
        let error = batch.push(1, &line, &[]).expect_err("it is too long").to_string();
        assert!(error.contains("a line of 16777217 bytes: 16777216 are the most"), "{error}");
        assert_eq!(batch, before);
        let error = LogBatch::decode(&[2, 0, 0]).expect_err("it is newer");
        assert_eq!(error, BatchError::Version { found: 2, supported: 1 });
    }
}
