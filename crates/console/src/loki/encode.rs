//! Loki's answers as JSON.
//!
//! Source: `pkg/util/marshal/query.go` of Loki.

use axum::response::Response;
use governor::Held;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use logql::metric::{Evaluation, Steps};

use super::cursor::Cursor;
use super::lines::StreamOut;
use crate::json;
use crate::respond;

/// The flag by which a client asks for labels by category.
pub(crate) const CATEGORIZE: &str = "categorize-labels";

/// How a line stands in an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EntryForm {
    /// `["1700000000000000000","a line"]`
    #[default]
    Plain,
    /// The same, with the labels that are not the stream's.
    Categorized,
    /// `{"ts":"2026-11-29T10:00:00Z","line":"a line"}`, as before version 1 of the API.
    Legacy,
}

impl EntryForm {
    /// As a client of version 1 wants it.
    pub(super) fn of(categorize: bool) -> Self {
        if categorize { EntryForm::Categorized } else { EntryForm::Plain }
    }

    /// As a request to a path wants it.
    pub(super) fn asked_by(uri: &Uri, categorize: bool) -> Self {
        if is_legacy(uri) { EntryForm::Legacy } else { EntryForm::of(categorize) }
    }

    /// Whether labels that are not the stream's stand with each line.
    pub(super) fn is_categorized(self) -> bool {
        self == EntryForm::Categorized
    }
}

/// Whether a request is of the API before version 1.
pub(super) fn is_legacy(uri: &Uri) -> bool {
    uri.path().starts_with("/api/prom/")
}

/// A response of JSON whose memory counts until it is sent.
pub(super) fn answer(body: Vec<u8>, held: Held) -> Response {
    let mut response = respond::json_held(StatusCode::OK, body, held);
    let kind = HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A response of JSON that is small.
pub(super) fn small(body: &serde_json::Value) -> Response {
    let mut response = respond::json(StatusCode::OK, body.to_string().into_bytes());
    let kind = HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Begins an answer, up to the value of `result`.
pub(super) fn begin(body: &mut Vec<u8>, warnings: &[String], kind: &str, categorize: bool) {
    body.extend_from_slice(br#"{"status":"success""#);
    json::write_strings(body, "warnings", warnings);
    body.extend_from_slice(br#","data":{"resultType":""#);
    body.extend_from_slice(kind.as_bytes());
    body.push(b'"');
    if categorize {
        body.extend_from_slice(format!(r#","encodingFlags":["{CATEGORIZE}"]"#).as_bytes());
    }
    body.extend_from_slice(br#","result":"#);
}

/// Appends where the next page begins, behind the value of `result`.
pub(super) fn write_cursor(body: &mut Vec<u8>, cursor: Option<&Cursor>) {
    body.extend_from_slice(br#","nextCursor":"#);
    match cursor {
        Some(cursor) => json::write_string(body, &cursor.to_string()),
        None => body.extend_from_slice(b"null"),
    }
}

/// Ends an answer behind the value of `result`.
pub(super) fn end(body: &mut Vec<u8>, statistics: &serde_json::Value) {
    body.extend_from_slice(br#","stats":"#);
    body.extend_from_slice(statistics.to_string().as_bytes());
    body.extend_from_slice(b"}}");
}

/// Appends streams, whose lines are written in that form.
pub(super) fn write_streams(body: &mut Vec<u8>, streams: &mut Vec<StreamOut>, form: EntryForm) {
    body.push(b'[');
    for (index, stream) in streams.drain(..).enumerate() {
        if index > 0 {
            body.push(b',');
        }
        if form == EntryForm::Legacy {
            let pairs = stream.labels.iter();
            let pairs = pairs.map(|(name, value)| format!("{name}={}", model::quote::quote(value)));
            body.extend_from_slice(br#"{"labels":"#);
            json::write_string(body, &format!("{{{}}}", pairs.collect::<Vec<_>>().join(", ")));
            body.extend_from_slice(br#","entries":["#);
            body.extend_from_slice(&stream.values);
            body.extend_from_slice(b"]}");
            continue;
        }
        body.extend_from_slice(br#"{"stream":"#);
        write_object(body, stream.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        body.extend_from_slice(br#","values":["#);
        body.extend_from_slice(&stream.values);
        body.extend_from_slice(b"]}");
    }
    body.push(b']');
}

/// What a query for numbers is, to be told in `resultType`.
pub(super) fn kind_of(result: &Evaluation, is_instant: bool) -> &'static str {
    match result {
        Evaluation::Scalar(_) if is_instant => "scalar",
        _ if is_instant => "vector",
        _ => "matrix",
    }
}

/// Appends the result of a query for numbers.
pub(super) fn write_numbers(
    body: &mut Vec<u8>,
    result: &Evaluation,
    steps: Steps,
    is_instant: bool,
) {
    let t_ms = |step: usize| steps.time_ns(step).div_euclid(1_000_000);
    match result {
        Evaluation::Scalar(value) if is_instant => write_point(body, t_ms(0), *value),
        Evaluation::Scalar(value) => {
            body.extend_from_slice(br#"[{"metric":{},"values":["#);
            for step in 0..steps.count() {
                if step > 0 {
                    body.push(b',');
                }
                write_point(body, t_ms(step), *value);
            }
            body.extend_from_slice(b"]}]");
        }
        Evaluation::Series(series) => {
            body.push(b'[');
            let mut is_first = true;
            for one in series.iter().filter(|one| one.values.iter().any(Option::is_some)) {
                if !is_first {
                    body.push(b',');
                }
                is_first = false;
                body.extend_from_slice(br#"{"metric":"#);
                write_object(body, one.labels.iter());
                body.extend_from_slice(if is_instant {
                    br#","value":"#
                } else {
                    br#","values":["#
                });
                let points = one.values.iter().enumerate();
                let points = points.filter_map(|(step, value)| value.map(|value| (step, value)));
                for (index, (step, value)) in points.enumerate() {
                    if index > 0 {
                        body.push(b',');
                    }
                    write_point(body, t_ms(step), value);
                }
                body.extend_from_slice(if is_instant { b"}" } else { b"]}" });
            }
            body.push(b']');
        }
    }
}

fn write_point(body: &mut Vec<u8>, t_ms: i64, value: f64) {
    body.push(b'[');
    json::write_time(body, t_ms);
    body.extend_from_slice(b",\"");
    json::write_float_without_exponent(body, value);
    body.extend_from_slice(b"\"]");
}

/// Appends pairs as an object.
pub(super) fn write_object<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    for (index, (name, value)) in pairs.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
        out.push(b':');
        json::write_string(out, value);
    }
    out.push(b'}');
}

/// Appends bytes as a string; what is no UTF-8 becomes U+FFFD.
pub(super) fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    match std::str::from_utf8(text) {
        Ok(text) => json::write_string(out, text),
        Err(_) => json::write_string(out, &String::from_utf8_lossy(text)),
    }
}
