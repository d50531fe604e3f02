//! Loki's first push in JSON, as `/api/prom/push` takes it.
//!
//! ```text
//! {"streams":[{"labels":"{app=\"x\"}","entries":[{"ts":"2026-11-29T10:00:00.5Z","line":"a line"}]}]}
//! ```
//!
//! Source: `pkg/loghttp/legacy` of Loki. There was no structured metadata.

use std::borrow::Cow;

use model::LogBatch;

use super::intake::Intake;
use super::pairs::Pairs;
use super::{LogContext, LogPushError, LogSummary, check_body, stream_labels, timestamp};

#[derive(serde::Deserialize)]
struct Push<'p> {
    #[serde(borrow, default)]
    streams: Option<Vec<Stream<'p>>>,
}

#[derive(serde::Deserialize)]
struct Stream<'p> {
    #[serde(borrow, default)]
    labels: Cow<'p, str>,
    #[serde(borrow, default)]
    entries: Option<Vec<Entry<'p>>>,
}

#[derive(serde::Deserialize)]
struct Entry<'p> {
    #[serde(borrow, default, alias = "timestamp")]
    ts: Option<Cow<'p, str>>,
    #[serde(borrow, default)]
    line: Cow<'p, str>,
}

/// Decodes a decompressed request into `out`, which is emptied first.
///
/// # Errors
/// As [`super::loki_json::decode`].
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
    let push: Push<'_> = serde_json::from_slice(body)
        .map_err(|error| LogPushError::bad_request(format!("legacy.PushRequest: {error}")))?;
    let streams = push.streams.unwrap_or_default();
    if streams.is_empty() {
        return Err(LogPushError::no_streams());
    }
    let (mut labels, mut metadata) = (Pairs::default(), Pairs::default());
    for stream in streams {
        match stream_labels::read(&stream.labels, &mut labels) {
            Ok(()) => intake.begin(&labels),
            Err(error) => intake.begin_unreadable(&stream.labels, &error),
        }
        for entry in stream.entries.unwrap_or_default() {
            let text = entry.ts.as_deref().unwrap_or_default();
            let Some(timestamp_ns) = timestamp::parse(text) else {
                let shown = stream_labels::cut(text);
                let text = format!("error reading entry timestamp: {shown:?} is not of RFC 3339");
                intake.refuse_malformed(text, entry.line.len());
                continue;
            };
            metadata.clear();
            intake.line(timestamp_ns, entry.line.as_bytes(), &mut metadata)?;
        }
    }
    Ok(intake.finish())
}

#[cfg(test)]
mod tests {
    use model::{LogLimits, LogRecord};

    use super::*;

    /// Labels, time and text.
    type Line = (String, i64, String);

    fn decoded(body: &str) -> Result<(LogSummary, Vec<Line>), LogPushError> {
        let (limits, mut batch) = (LogLimits::default(), LogBatch::default());
        let context =
            LogContext { limits: &limits, levels: None, now_ns: 2_000_000_000_000_000_000 };
        let summary = decode(body.as_bytes(), &context, &mut batch)?;
        let (mut lines, mut stream, mut metadata) = (Vec::new(), String::new(), Vec::new());
        let mut records = batch.records();
        while let Some(record) = records.next_record(&mut metadata).expect("whole") {
            match record {
                LogRecord::Stream(labels) => stream = labels.to_string(),
                LogRecord::Line { timestamp_ns, line } => {
                    let line = String::from_utf8(line.to_vec()).expect("text");
                    lines.push((stream.clone(), timestamp_ns, line));
                }
            }
        }
        Ok((summary, lines))
    }

    #[test]
    fn entries_are_lines() {
        let body = r#"{"streams":[{"labels":"{job=\"x\"}","entries":[
            {"ts":"2026-11-29T10:00:00.5Z","line":"a"}, {"timestamp":"2026-11-29T10:00:01Z","line":"b"},
            {"ts":"soon","line":"c"}]}, {"labels":"{job=","entries":[{"ts":"2026-11-29T10:00:00Z","line":"d"}]}]}"#;
        let (summary, lines) = decoded(body).expect("a push");
        let labels = "{job=\"x\", service_name=\"x\"}".to_owned();
        let first_ns = 1_795_946_400_500_000_000;
        assert_eq!(
            lines,
            [
                (labels.clone(), first_ns, "a".to_owned()),
                (labels, first_ns + 500_000_000, "b".to_owned()),
            ]
        );
        assert_eq!(summary.refusals.lines(), 2);
        assert!(summary.refusals.text().contains("\"soon\" is not of RFC 3339"), "{summary:?}");
    }

    #[test]
    fn what_is_no_push_is_refused() {
        for (body, status) in [("7", 400), ("{", 400), ("{}", 422), (r#"{"streams":null}"#, 422)] {
            assert_eq!(decoded(body).expect_err(body).status, status, "{body}");
        }
    }
}
