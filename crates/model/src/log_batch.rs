//! The lines that one request brings, as they pass from the edge to the engines.

use crate::labels::{LabelError, Labels};

/// Most bytes of one line, and of the metadata of one line.
pub const MAX_LOG_LINE_BYTES: usize = 16 << 20;
/// Most bytes of the parts of a [`LogBatch`].
pub const MAX_LOG_BATCH_BYTES: usize = 256 << 20;

/// Begins a stream.
const STREAM: u8 = 1;
/// Begins a line.
const LINE: u8 = 2;

/// Lines of some streams of one tenant, in the order in which they came.
///
/// It is held as the parts that `docs/formats/logs-payload.md` draws, one behind the other, so what
/// goes into the log is not written a second time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBatch {
    parts: Vec<u8>,
    lines: u64,
    line_bytes: u64,
    has_stream: bool,
    /// Time of the last line of the stream.
    last_ns: i64,
}

/// Why bytes are no batch, or a line is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogBatchError {
    /// Bytes are damaged or no parts of a batch.
    #[error("lines are corrupt at byte {offset}: {detail}")]
    Corrupt {
        /// Where, from the start of the parts.
        offset: usize,
        /// What was expected.
        detail: String,
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

/// Part of a [`LogBatch`].
#[derive(Debug, PartialEq, Eq)]
pub enum LogRecord<'a> {
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
        self.parts.push(STREAM);
        put_bytes(&mut self.parts, labels.as_packed());
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
    ) -> Result<(), LogBatchError> {
        self.push_with(timestamp_ns, line, metadata.iter().copied())
    }

    /// As [`LogBatch::push`], for metadata that is no slice.
    ///
    /// # Errors
    /// `TooLarge`: nothing is taken then.
    ///
    /// # Panics
    /// There is no stream.
    pub fn push_with<'m>(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: impl Iterator<Item = (&'m str, &'m str)> + Clone,
    ) -> Result<(), LogBatchError> {
        assert!(self.has_stream, "a line is of a stream");
        let (mut pairs, mut of_metadata) = (0_usize, 0_usize);
        for (name, value) in metadata.clone() {
            pairs += 1;
            of_metadata += name.len() + value.len();
        }
        let limit = MAX_LOG_LINE_BYTES;
        let whole = self.parts.len() + line.len() + of_metadata + 20 * (pairs + 1);
        for (what, found, limit) in [
            ("a line", line.len(), limit),
            ("the metadata of a line", of_metadata, limit),
            ("lines of one batch", whole, MAX_LOG_BATCH_BYTES),
        ] {
            if found > limit {
                return Err(LogBatchError::TooLarge { what, found, limit });
            }
        }
        self.parts.push(LINE);
        put_u64(&mut self.parts, zigzag(timestamp_ns.wrapping_sub(self.last_ns)));
        put_bytes(&mut self.parts, line);
        put_u64(&mut self.parts, pairs as u64);
        for (name, value) in metadata {
            put_bytes(&mut self.parts, name.as_bytes());
            put_bytes(&mut self.parts, value.as_bytes());
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

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.parts.capacity()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        *self = LogBatch { parts: std::mem::take(&mut self.parts), ..LogBatch::default() };
    }

    /// What it holds, in the order in which it came.
    pub fn records(&self) -> LogRecords<'_> {
        LogRecords { whole: self.parts.len(), rest: &self.parts, last_ns: 0, has_stream: false }
    }

    /// What it holds as bytes, for [`LogBatch::from_parts`].
    pub fn as_parts(&self) -> &[u8] {
        &self.parts
    }

    /// Takes parts after looking at each of them.
    ///
    /// # Errors
    /// `Corrupt`; `TooLarge` for more bytes than a batch has.
    pub fn from_parts(parts: Vec<u8>) -> Result<Self, LogBatchError> {
        let (what, found, limit) = ("lines of one batch", parts.len(), MAX_LOG_BATCH_BYTES);
        if found > limit {
            return Err(LogBatchError::TooLarge { what, found, limit });
        }
        let mut batch = LogBatch { parts, ..LogBatch::default() };
        let (mut lines, mut line_bytes) = (0, 0);
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        while let Some(record) = records.next_record(&mut metadata)? {
            if let LogRecord::Line { line, .. } = record {
                lines += 1;
                line_bytes += line.len() as u64;
            }
        }
        let (has_stream, last_ns) = (records.has_stream, records.last_ns);
        (batch.lines, batch.line_bytes) = (lines, line_bytes);
        (batch.has_stream, batch.last_ns) = (has_stream, last_ns);
        Ok(batch)
    }
}

/// The parts of a batch, one after the other.
#[derive(Debug)]
pub struct LogRecords<'a> {
    whole: usize,
    rest: &'a [u8],
    last_ns: i64,
    has_stream: bool,
}

impl<'a> LogRecords<'a> {
    /// The next part. `metadata` is replaced by that of a line, as it came.
    ///
    /// # Errors
    /// `Corrupt`; never for a batch that was pushed or came from [`LogBatch::from_parts`].
    pub fn next_record(
        &mut self,
        metadata: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<Option<LogRecord<'a>>, LogBatchError> {
        metadata.clear();
        let Some((kind, rest)) = self.rest.split_first() else { return Ok(None) };
        let offset = self.whole - self.rest.len();
        let corrupt = |detail: String| LogBatchError::Corrupt { offset, detail };
        self.rest = rest;
        match *kind {
            STREAM => {
                let packed = take_bytes(&mut self.rest).ok_or_else(|| corrupt(cut_off()))?;
                let labels = Labels::from_packed(packed);
                let labels = labels.map_err(|error: LabelError| corrupt(error.to_string()))?;
                (self.has_stream, self.last_ns) = (true, 0);
                Ok(Some(LogRecord::Stream(labels)))
            }
            LINE if self.has_stream => self.line(metadata).map(Some).map_err(corrupt),
            LINE => Err(corrupt("a line without a stream".to_owned())),
            other => Err(corrupt(format!("part of unknown kind {other}"))),
        }
    }

    fn line(&mut self, metadata: &mut Vec<(&'a str, &'a str)>) -> Result<LogRecord<'a>, String> {
        let since = unzigzag(take_u64(&mut self.rest).ok_or_else(cut_off)?);
        let line = take_bytes(&mut self.rest).ok_or_else(cut_off)?;
        let pairs = take_u64(&mut self.rest).ok_or_else(cut_off)?;
        let mut bytes = 0;
        for _ in 0..pairs {
            let mut take = || {
                let taken = take_bytes(&mut self.rest).ok_or_else(cut_off)?;
                bytes += taken.len();
                std::str::from_utf8(taken).map_err(|error| error.to_string())
            };
            metadata.push((take()?, take()?));
        }
        if line.len().max(bytes) > MAX_LOG_LINE_BYTES {
            return Err(format!("a line of {} bytes, {bytes} of metadata", line.len()));
        }
        self.last_ns = self.last_ns.wrapping_add(since);
        Ok(LogRecord::Line { timestamp_ns: self.last_ns, line })
    }
}

fn cut_off() -> String {
    "a number or a text is cut off or none".to_owned()
}

// Numbers as `codec.md` draws them. The crate that has them for all formats lies above this one.

fn put_u64(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `None` for what is cut off, longer than 64 bits or longer than it need be.
fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (index, &byte) in input.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let (overflows, is_padded) = (index == 9 && byte > 1, index > 0 && byte == 0);
            *input = &input[index + 1..];
            return (!overflows && !is_padded).then_some(number);
        }
    }
    None
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_u64(input)?).ok()?;
    let (taken, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(taken)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_parts_are_refused_or_read(parts in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(batch) = LogBatch::from_parts(parts.clone()) {
                prop_assert_eq!(batch.as_parts(), &parts[..]);
            }
        }

        #[test]
        fn a_batch_goes_on_where_its_parts_ended(times in prop::collection::vec(any::<i64>(), 1..9)) {
            let mut batch = LogBatch::default();
            batch.stream(&Labels::from_pairs([("a", "b")]).expect("valid labels"));
            for time in &times {
                batch.push(*time, b"x", &[("n", "v")]).expect("it is small");
            }
            let mut back = LogBatch::from_parts(batch.as_parts().to_vec()).expect("own parts");
            prop_assert_eq!(&back, &batch);
            back.push(times[0], b"y", &[]).expect("it is small");
            let (mut records, mut metadata) = (back.records(), Vec::new());
            let mut last = None;
            while let Some(record) = records.next_record(&mut metadata).expect("own parts") {
                last = Some(record);
            }
            prop_assert_eq!(last, Some(LogRecord::Line { timestamp_ns: times[0], line: b"y" }));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_and_leaves_nothing() {
        let mut batch = LogBatch::default();
        batch.stream(&Labels::empty());
        let before = batch.clone();
        let line = vec![b'x'; MAX_LOG_LINE_BYTES + 1];
        let error = batch.push(1, &line, &[]).expect_err("it is too long").to_string();
        assert!(error.contains("a line of 16777217 bytes: 16777216 are the most"), "{error}");
        assert_eq!(batch, before);
        batch.push(1, b"x", &[]).expect("it is small");
        batch.clear();
        assert_eq!(batch, LogBatch::default());
    }
}
