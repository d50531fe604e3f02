//! Every decoder of lines on a corpus of bad inputs, where that lies beside the repository.

mod cases;

use cases::{cases, check};
use model::{LogBatch, LogLimits, LogRecord};
use wire::WireError;
use wire::logs::otlp_logs::{self, OtlpLogOptions};
use wire::logs::syslog::{self, SyslogOptions};
use wire::logs::syslog_frames::SyslogFrames;
use wire::logs::{FieldOptions, LogContext, LogPushError, LogSummary};
use wire::logs::{elastic_bulk, journal_export, json_line, loki_json, loki_push};

/// Runs a decoder; what it leaves out is refused as well.
fn decode(
    decode: impl FnOnce(&LogContext<'_>, &mut LogBatch) -> Result<LogSummary, LogPushError>,
) -> Result<(), WireError> {
    let limits = LogLimits::default();
    let context = LogContext { limits: &limits, levels: None, now_ns: 1_800_000_000_000_000_000 };
    let mut batch = LogBatch::default();
    let decoded = decode(&context, &mut batch);
    let summary = decoded.map_err(|error| {
        assert!(batch.is_empty(), "an error leaves lines");
        assert!(matches!(error.status, 400 | 413 | 422), "{error}");
        refused(error.text)
    })?;
    assert_eq!((summary.lines, summary.line_bytes), (batch.lines(), batch.line_bytes()));
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        if let LogRecord::Line { line, .. } = record {
            assert!(line.len() <= limits.max_line_bytes);
            assert!(metadata.len() <= limits.max_structured_metadata_entries);
        }
    }
    if summary.refusals.is_empty() { Ok(()) } else { Err(refused(summary.refusals.text())) }
}

fn refused(message: String) -> WireError {
    WireError::Text { line: 1, message }
}

#[test]
fn pushes_of_loki() {
    let json = |bytes: &[u8]| decode(|context, out| loki_json::decode(bytes, context, out));
    check("loki-push-json", |_| false, json);
    // Loki takes a stream without values, VictoriaLogs does not.
    check(
        "vlinsert-loki",
        |case| case.source.starts_with("Victoria") && case.bytes == br#"{"streams":[{}]}"#,
        json,
    );
    for case in cases("loki-push-json") {
        let _ = decode(|context, out| loki_push::decode(&case.bytes, context, out));
    }
}

#[test]
fn objects_of_fields() {
    let options = FieldOptions::default();
    let lines =
        |bytes: &[u8]| decode(|context, out| json_line::decode(bytes, &options, context, out));
    check("json-log", |_| false, lines);
    check("vlinsert-jsonline", |_| false, lines);
    let bulk = |bytes: &[u8]| {
        decode(|context, out| {
            elastic_bulk::decode(bytes, "", &options, context, out).map(|summary| summary.lines)
        })
    };
    check("vlinsert-elasticsearch", |_| false, bulk);
    check("es-bulk", |_| false, bulk);
}

#[test]
fn messages_of_syslog() {
    // Every message is one: nothing is refused for its form.
    for protocol in ["syslog", "vlinsert-syslog"] {
        for case in cases(protocol) {
            let messages = std::iter::once(&case.bytes[..]);
            let options = SyslogOptions::default();
            let outcome = decode(|context, out| syslog::decode(messages, &options, context, out));
            assert_eq!(outcome, Ok(()), "{}", case.id);
        }
    }
    check(
        "vlinsert-syslog",
        |_| false,
        |bytes| {
            let mut frames = SyslogFrames::new(1 << 16);
            frames.push(bytes);
            while frames.next_message().map_err(|error| refused(error.to_string()))?.is_some() {}
            frames.finish().map(|_| ()).map_err(|error| refused(error.to_string()))
        },
    );
}

#[test]
fn entries_of_the_journal() {
    check(
        "vlinsert-journald",
        |_| false,
        |bytes| decode(|context, out| journal_export::decode(bytes, context, out)),
    );
}

#[test]
fn records_of_otlp() {
    let options = OtlpLogOptions::default();
    let protobuf =
        |bytes: &[u8]| decode(|context, out| otlp_logs::decode(bytes, &options, context, out));
    // The corpus has requests of other signals, some of which read as logs: no more than no panic.
    for case in cases("otlp-proto") {
        let _ = protobuf(&case.bytes);
    }
    for case in cases("otlp-json") {
        if let Ok(body) = wire::otlp::logs_to_protobuf(&case.bytes) {
            let _ = protobuf(&body);
        }
    }
}
