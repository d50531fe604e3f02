//! OpenTSDB's `/api/put` and its telnet `put`.
//!
//! Source: <http://opentsdb.net/docs/build/html/api_http/put.html>:
//!
//! ```text
//! {"metric":"sys.cpu","timestamp":1700000000,"value":18,"tags":{"host":"web-1"}}   or a list of such
//! put sys.cpu 1700000000 18 host=web-1
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use model::{Limits, MetricBatch};
use serde_json::value::RawValue;

use crate::WireError;
use crate::json_list;
use crate::pair_rows::PairRows;
use crate::refusals::Refusals;

/// Timestamps from here on are milliseconds, as OpenTSDB decides it.
const FIRST_MS: i64 = 1 << 32;

/// What one request held.
#[derive(Debug, Default)]
pub struct Summary {
    /// Points in the batch.
    pub points: u64,
    /// Points that cannot be stored, each with the point as it came.
    pub refusals: Refusals,
}

#[derive(serde::Deserialize)]
struct Point<'p> {
    #[serde(borrow)]
    metric: Cow<'p, str>,
    #[serde(borrow, default)]
    timestamp: Option<&'p RawValue>,
    #[serde(borrow)]
    value: &'p RawValue,
    #[serde(borrow, default)]
    tags: BTreeMap<Cow<'p, str>, &'p RawValue>,
}

/// Decodes one point or a list of them into `out`, which is emptied first. Times and values may be
/// texts, and a tag's value may be a number or a boolean, which is taken as it is written; a point
/// without a time has `now_ms`, as in VictoriaMetrics.
///
/// # Errors
/// [`WireError::Text`] for what is no JSON of points; [`WireError::Limit`] for a body or labels that
/// are too large. `out` is then empty.
pub fn decode(
    body: &[u8],
    now_ms: i64,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Summary, WireError> {
    let mut rows = PairRows::new("OpenTSDB points", body.len(), limits, out)?;
    let mut summary = Summary::default();
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    let not_json = |error: serde_json::Error| WireError::Text {
        line: error.line(),
        message: error.to_string(),
    };
    let points: Vec<&RawValue> = if is_list {
        serde_json::from_slice(body).map_err(not_json)?
    } else {
        vec![serde_json::from_slice(body).map_err(not_json)?]
    };
    for raw in points {
        let taken = serde_json::from_str(raw.get())
            .map_err(|error| json_list::reason(&error))
            .and_then(|point: Point<'_>| read(&point, now_ms, &mut rows).map_err(str::to_owned));
        let sample = match taken {
            Ok(sample) => sample,
            // A single point that is none is a request that cannot be read.
            Err(message) if !is_list => {
                out.clear();
                return Err(WireError::Text { line: 1, message });
            }
            Err(reason) => {
                summary.refusals.add(&reason, 1, 0, || json_list::shown(raw.get()));
                continue;
            }
        };
        if let Err(error) = rows.end([sample]) {
            out.clear();
            return Err(error);
        }
        summary.points += 1;
    }
    Ok(summary)
}

fn read(
    point: &Point<'_>,
    now_ms: i64,
    rows: &mut PairRows<'_>,
) -> Result<(i64, f64), &'static str> {
    if point.metric.is_empty() {
        return Err("missing metric");
    }
    let raw = point.value.get();
    let value = raw.trim_matches('"').parse().map_err(|_| "value is no number")?;
    let t_ms = match point.timestamp {
        Some(raw) => time(raw.get().trim_matches('"'))?,
        None => now_ms,
    };
    rows.begin(&[point.metric.as_bytes()]);
    for (name, raw) in &point.tags {
        let value = tag_value(raw.get()).ok_or("the value of a tag is neither text nor number")?;
        rows.label(name.as_bytes(), value.as_bytes());
    }
    Ok((t_ms, value))
}

fn tag_value(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'p>(#[serde(borrow)] Cow<'p, str>);

fn time(text: &str) -> Result<i64, &'static str> {
    match text.parse() {
        Ok(whole) => milliseconds(whole),
        // Seconds with a fraction.
        Err(_) => {
            let seconds: f64 = text.parse().map_err(|_| NO_TIME)?;
            if seconds.is_finite() { Ok((seconds * 1e3).round() as i64) } else { Err(NO_TIME) }
        }
    }
}

const NO_TIME: &str = "timestamp is neither seconds nor milliseconds";

fn milliseconds(timestamp: i64) -> Result<i64, &'static str> {
    if timestamp >= FIRST_MS { Ok(timestamp) } else { timestamp.checked_mul(1_000).ok_or(NO_TIME) }
}

/// Decodes lines of the telnet protocol into `out`, which is emptied first; yields what cannot be
/// read.
///
/// # Errors
/// [`WireError::Limit`] for lines or labels that are too large; `out` is then empty.
pub fn decode_lines(
    lines: &[u8],
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Refusals, WireError> {
    let mut refusals = Refusals::default();
    let mut rows = PairRows::new("OpenTSDB lines", lines.len(), limits, out)?;
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let sample = match read_line(line, &mut rows) {
            Ok(sample) => sample,
            Err(reason) => {
                refusals.add(reason, 0, 0, || json_list::shown(&String::from_utf8_lossy(line)));
                continue;
            }
        };
        if let Err(error) = rows.end([sample]) {
            out.clear();
            return Err(error);
        }
    }
    Ok(refusals)
}

fn read_line(line: &[u8], rows: &mut PairRows<'_>) -> Result<(i64, f64), &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "invalid UTF-8")?;
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some("put") {
        return Err("unknown command, only put is known here");
    }
    let metric = words.next().ok_or("missing metric")?;
    let timestamp = words.next().ok_or("missing timestamp")?;
    let value = words.next().ok_or("missing value")?;
    rows.begin(&[metric.as_bytes()]);
    let mut has_tags = false;
    for tag in words {
        let (name, value) = tag.split_once('=').ok_or("a tag without =")?;
        if name.is_empty() {
            return Err("a tag without name");
        }
        rows.label(name.as_bytes(), value.as_bytes());
        has_tags = true;
    }
    if !has_tags {
        return Err("at least one tag is needed");
    }
    Ok((time(timestamp)?, value.parse().map_err(|_| "value is no number")?))
}
