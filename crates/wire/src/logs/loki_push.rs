//! Loki's push in protobuf.
//!
//! Source: `pkg/push/push.proto` of Loki:
//!
//! ```text
//! PushRequest    { repeated StreamAdapter streams = 1; string format = 2 }
//! StreamAdapter  { string labels = 1; repeated EntryAdapter entries = 2; uint64 hash = 3 }
//! EntryAdapter   { Timestamp timestamp = 1; string line = 2;
//!                  repeated LabelPairAdapter structuredMetadata = 3, parsed = 4 }
//! Timestamp      { int64 seconds = 1; int32 nanos = 2 }
//! ```
//!
//! It comes compressed as one snappy block, whatever the content type says, unless that is JSON.

use std::ops::Range;

use model::{LogBatch, LogRecord};

use super::intake::Intake;
use super::pairs::Pairs;
use super::{LogContext, LogPushError, LogSummary, check_body, stream_labels};
use crate::protobuf::{Fault, Field, each_field, each_message, push_bytes, push_varint};

const FORMAT: &str = "Loki push request";

/// Decodes a decompressed request into `out`, which is emptied first. Lines may be any bytes.
///
/// # Errors
/// Status 400 for what is no such message, 413 for one that is too large, 422 for one without a
/// stream; `out` is then empty. A stream or a line that is at fault is no error but a refusal.
pub fn decode(
    body: &[u8],
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let decoded = push(body, context, out);
    if decoded.is_err() {
        out.clear();
    }
    decoded
}

fn push(
    body: &[u8],
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    check_body(body, context.limits)?;
    let mut reader = Reader { body, labels: Pairs::default(), metadata: Pairs::default() };
    let (mut streams, mut full) = (0_u64, None);
    each_message(body, 0..body.len(), |number, field| {
        let (1, Field::Bytes { start, end }) = (number, field) else { return Ok(()) };
        streams += 1;
        if full.is_none() {
            full = reader.stream(start..end, &mut intake)?.err();
        }
        Ok(())
    })
    .map_err(|fault| LogPushError::malformed(FORMAT, fault))?;
    match full {
        Some(full) => Err(full),
        None if streams == 0 => Err(LogPushError::no_streams()),
        None => Ok(intake.finish()),
    }
}

struct Reader<'b> {
    body: &'b [u8],
    labels: Pairs,
    metadata: Pairs,
}

/// What a batch that is full makes of the rest, inside of what a damaged message does.
type Taken = Result<Result<(), LogPushError>, Fault>;

impl Reader<'_> {
    fn stream(&mut self, message: Range<usize>, intake: &mut Intake<'_>) -> Taken {
        // They may stand behind the entries.
        let mut labels = 0..0;
        each_field(self.body, message.clone(), |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => labels = start..end,
                (2, Field::Bytes { .. }) => {}
                (1 | 2, _) => return Err("field of a stream has the wrong type"),
                _ => {}
            }
            Ok(())
        })?;
        match std::str::from_utf8(&self.body[labels.clone()]) {
            Ok(text) => match stream_labels::read(text, &mut self.labels) {
                Ok(()) => intake.begin(&self.labels),
                Err(error) => intake.begin_unreadable(text, &error),
            },
            Err(_) => {
                let shown = String::from_utf8_lossy(&self.body[labels]);
                intake.begin_unreadable(&shown, "invalid UTF-8 encoding");
            }
        }
        let mut full = Ok(());
        each_message(self.body, message, |number, field| {
            let (2, Field::Bytes { start, end }) = (number, field) else { return Ok(()) };
            if full.is_ok() {
                full = self.entry(start..end, intake)?;
            }
            Ok(())
        })?;
        Ok(full)
    }

    fn entry(&mut self, message: Range<usize>, intake: &mut Intake<'_>) -> Taken {
        let body = self.body;
        let (mut timestamp, mut line) = (0..0, 0..0);
        self.metadata.clear();
        each_message(body, message.clone(), |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => timestamp = start..end,
                (2, Field::Bytes { start, end }) => line = start..end,
                (3, Field::Bytes { start, end }) => self.pair(start..end)?,
                (1..=3, _) => return Err((message.start, "field of an entry has the wrong type")),
                _ => {}
            }
            Ok(())
        })?;
        let timestamp_ns = timestamp_ns(body, timestamp)?;
        let Some(timestamp_ns) = timestamp_ns else {
            intake.refuse_malformed("timestamp of an entry is out of range".to_owned(), line.len());
            return Ok(Ok(()));
        };
        Ok(intake.line(timestamp_ns, &body[line], &mut self.metadata).map(|_| ()))
    }

    fn pair(&mut self, message: Range<usize>) -> Result<(), Fault> {
        let (mut name, mut value) = (0..0, 0..0);
        each_field(self.body, message, |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => name = start..end,
                (2, Field::Bytes { start, end }) => value = start..end,
                (1 | 2, _) => return Err("field of a label has the wrong type"),
                _ => {}
            }
            Ok(())
        })?;
        let [name, value] = [name, value].map(|range| String::from_utf8_lossy(&self.body[range]));
        self.metadata.push_named(&name, &value);
        Ok(())
    }
}

/// The nanoseconds of a `Timestamp`; `None` if they do not fit or the message is not in order.
fn timestamp_ns(body: &[u8], message: Range<usize>) -> Result<Option<i64>, Fault> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    each_field(body, message, |number, field| {
        match (number, field) {
            (1, Field::Varint(value)) => seconds = value as i64,
            (2, Field::Varint(value)) => nanos = value as i64,
            (1 | 2, _) => return Err("field of a timestamp has the wrong type"),
            _ => {}
        }
        Ok(())
    })?;
    let in_range = (0..1_000_000_000).contains(&nanos);
    Ok(seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanos)).filter(|_| in_range))
}

/// The body of a push with all lines of `batch`, as [`encode`] has it, packed by snappy.
pub fn body(batch: &LogBatch) -> Vec<u8> {
    let mut raw = Vec::new();
    encode(batch, &mut raw);
    snap::raw::Encoder::new().compress_vec(&raw).expect("a batch is far below 4 GiB")
}

/// Appends a request with all lines of `batch`, uncompressed. A stream that comes again is written
/// again.
pub fn encode(batch: &LogBatch, out: &mut Vec<u8>) {
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let (mut stream, mut entry, mut part) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(labels) => {
                if !stream.is_empty() {
                    push_bytes(out, 0x0a, &stream);
                }
                let mut text = String::new();
                stream_labels::write(labels.iter(), &mut text);
                stream.clear();
                push_bytes(&mut stream, 0x0a, text.as_bytes());
            }
            LogRecord::Line { timestamp_ns, line } => {
                entry.clear();
                part.clear();
                part.push(0x08);
                push_varint(&mut part, timestamp_ns.div_euclid(1_000_000_000) as u64);
                part.push(0x10);
                push_varint(&mut part, timestamp_ns.rem_euclid(1_000_000_000) as u64);
                push_bytes(&mut entry, 0x0a, &part);
                push_bytes(&mut entry, 0x12, line);
                for (name, value) in &metadata {
                    part.clear();
                    push_bytes(&mut part, 0x0a, name.as_bytes());
                    push_bytes(&mut part, 0x12, value.as_bytes());
                    push_bytes(&mut entry, 0x1a, &part);
                }
                push_bytes(&mut stream, 0x12, &entry);
            }
        }
    }
    if !stream.is_empty() {
        push_bytes(out, 0x0a, &stream);
    }
}
