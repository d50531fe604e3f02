//! Lines that other systems send.

use std::collections::BTreeSet;

use model::{Labels, LogBatch, LogLimits, LogRecord};
use wire::logs::otlp_logs::{self, OtlpLogOptions};
use wire::logs::syslog::{self, SyslogOptions};
use wire::logs::syslog_frames::{FrameError, SyslogFrames};
use wire::logs::{FieldOptions, LineLevels, LogContext, LogPushError, LogSummary};
use wire::logs::{batch, elastic_bulk, journal_export, json_line};
use wire::logs::{loki_json, loki_json_legacy, loki_push};

/// Near the times of the seeds.
const NOW_NS: i64 = 1_700_000_000_000_000_000;

struct Levels;

impl LineLevels for Levels {
    fn of_word(&self, word: &str) -> Option<&'static str> {
        word.eq_ignore_ascii_case("err").then_some("error")
    }

    fn of_line(&self, line: &str, severity_number: Option<&str>) -> &'static str {
        if line.contains("err") || severity_number == Some("17") { "error" } else { "unknown" }
    }
}

/// Small limits, which inputs reach.
fn small() -> LogLimits {
    LogLimits {
        max_line_bytes: 20,
        truncate_lines: true,
        truncate_identifier: "..".to_owned(),
        max_label_names: 3,
        max_label_name_bytes: 12,
        max_label_value_bytes: 16,
        max_structured_metadata_bytes: 100,
        max_structured_metadata_entries: 6,
        ..LogLimits::default()
    }
}

type Decode<'d> = dyn Fn(&LogContext<'_>, &mut LogBatch) -> Result<LogSummary, LogPushError> + 'd;

/// Decodes with large and with small limits. What is in the batch keeps to them, no line is there
/// twice, and written as a push it comes back.
fn check(decode: &Decode<'_>) {
    for limits in [LogLimits::default(), small()] {
        let context = LogContext { limits: &limits, levels: Some(&Levels), now_ns: NOW_NS };
        let mut batch = LogBatch::default();
        let summary = match decode(&context, &mut batch) {
            Ok(summary) => summary,
            Err(error) => {
                assert!(matches!(error.status, 400 | 413 | 422), "{error}");
                assert!(batch.is_empty(), "an error leaves lines");
                continue;
            }
        };
        assert_eq!((summary.lines, summary.line_bytes), (batch.lines(), batch.line_bytes()));
        assert_eq!(summary.refusals.is_empty(), summary.refusals.text().is_empty());
        let lines = lines(&batch, &limits);
        let mut taken = LogBatch::default();
        let summary = batch::decode(&batch, &context, &mut taken).expect("it fits already");
        // The level may be one pair too many, or too many bytes.
        assert!(summary.lines <= batch.lines());
        if summary.refusals.is_empty() {
            assert_eq!(
                self::lines(&taken, &limits),
                lines,
                "what keeps to the limits is taken as it is"
            );
        }
        let mut body = Vec::new();
        loki_push::encode(&batch, &mut body);
        let mut again = LogBatch::default();
        let whole = LogLimits { truncate_lines: false, ..limits.clone() };
        let context = LogContext { limits: &whole, levels: None, now_ns: NOW_NS };
        match loki_push::decode(&body, &context, &mut again) {
            // The level takes room of its own.
            Ok(summary) if summary.refusals.is_empty() => {
                assert_eq!(summary.moved_lines, 0, "a line was there twice");
                assert_eq!(lines, self::lines(&again, &LogLimits::default()));
            }
            Ok(summary) => {
                let text = summary.refusals.text();
                assert!(text.contains("structured metadata"), "{text}");
            }
            Err(error) => assert!(batch.is_empty(), "{error}"),
        }
    }
}

type Line = (Vec<u8>, i64, Vec<u8>);

/// The lines of a batch, which keep to the limits.
fn lines(batch: &LogBatch, limits: &LogLimits) -> Vec<Line> {
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let (mut labels, mut lines) = (Labels::empty(), Vec::new());
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(stream) => {
                assert!(!stream.is_empty(), "a stream without labels");
                // One more is that of the service.
                assert!(stream.len() <= limits.max_label_names + 1, "{stream}");
                labels = stream;
            }
            LogRecord::Line { timestamp_ns, line } => {
                assert!(line.len() <= limits.max_line_bytes, "a long line");
                assert!(metadata.len() <= limits.max_structured_metadata_entries + 1);
                lines.push((labels.as_packed().to_vec(), timestamp_ns, line.to_vec()));
            }
        }
    }
    let different: BTreeSet<&Line> = lines.iter().collect();
    assert!(
        different.len() == lines.len() || lines.iter().any(|line| line.1 == i64::MAX),
        "a line is there twice"
    );
    lines
}

pub(crate) fn pushes(bytes: &[u8]) {
    check(&|context, batch| loki_push::decode(bytes, context, batch));
    check(&|context, batch| loki_json::decode(bytes, context, batch));
    check(&|context, batch| loki_json_legacy::decode(bytes, context, batch));
}

pub(crate) fn otlp(bytes: &[u8]) {
    let translated = wire::otlp::logs_to_protobuf(bytes);
    let as_label = OtlpLogOptions { severity_text_as_label: true, ..OtlpLogOptions::default() };
    for body in [bytes, translated.as_deref().unwrap_or_default()] {
        for options in [&OtlpLogOptions::default(), &as_label] {
            check(&|context, batch| otlp_logs::decode(body, options, context, batch));
        }
    }
}

pub(crate) fn objects(bytes: &[u8]) {
    let options = FieldOptions::default();
    check(&|context, batch| json_line::decode(bytes, &options, context, batch));
    check(&|context, batch| {
        let summary = elastic_bulk::decode(bytes, "i", &options, context, batch)?;
        let taken = summary.items.iter().filter(|item| item.error.is_none()).count();
        assert_eq!(taken as u64, summary.lines.lines, "items and lines differ");
        let answer: Result<serde_json::Value, _> = serde_json::from_str(&summary.answer(1));
        assert!(answer.is_ok_and(|answer| answer["items"].is_array()));
        Ok(summary.lines)
    });
}

/// All messages of a connection on which bytes came in pieces of such a length.
fn messages(bytes: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut frames = SyslogFrames::new(64);
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.push(piece);
        while let Some(message) = frames.next_message()? {
            assert!(message.len() <= 64, "a long message");
            all.push(message.to_vec());
        }
    }
    all.extend(frames.finish()?);
    Ok(all)
}

pub(crate) fn syslog_messages(bytes: &[u8]) {
    let whole = messages(bytes, bytes.len().max(1));
    assert_eq!(whole, messages(bytes, 3), "pieces matter");
    let framed = whole.unwrap_or_default();
    let options = SyslogOptions::default();
    let all = || framed.iter().map(Vec::as_slice).chain([bytes]);
    check(&|context, batch| syslog::decode(all(), &options, context, batch));
    let numbered = SyslogOptions { first_number: Some(999_999), ..SyslogOptions::default() };
    check(&|context, batch| syslog::decode(all(), &numbered, context, batch));
    let read = syslog::parse(bytes, &options, NOW_NS);
    assert!(read.facility < 24 && read.severity < 8);
    assert!(bytes.ends_with(read.message), "a message is not the end of its bytes");
    syslog::for_each_parameter(read.structured_data, |_, name, _| assert!(!name.contains('=')));
}

pub(crate) fn journal(bytes: &[u8]) {
    check(&|context, batch| journal_export::decode(bytes, context, batch));
    // What is cut into whole entries, wherever, has the same ones.
    let limits = LogLimits::default();
    let context = LogContext { limits: &limits, levels: None, now_ns: NOW_NS };
    let counted = |bytes: &[u8]| {
        let decoded = journal_export::decode(bytes, &context, &mut LogBatch::default());
        decoded.ok().filter(|summary| summary.refusals.is_empty()).map(|summary| summary.lines)
    };
    let Some(all) = counted(bytes) else { return };
    for part in 1..4 {
        let begin = &bytes[..bytes.len() * part / 4];
        let whole = journal_export::whole_entries(begin);
        let parts = counted(&bytes[..whole]).zip(counted(&bytes[whole..]));
        assert_eq!(parts.map(|(a, b)| a + b), Some(all), "an entry is cut");
    }
}
