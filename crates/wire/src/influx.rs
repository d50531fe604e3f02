//! InfluxDB's line protocol.
//!
//! Source: <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>:
//!
//! ```text
//! measurement[,tag=value…] field=value[,field=value…] [timestamp]
//! ```
//!
//! A field becomes the series `measurement_field`, tags become labels, as in VictoriaMetrics and
//! Telegraf's Prometheus output. Numbers keep their value, booleans become 1 and 0, and text that
//! is no number is left out, as no series can hold it.

use model::{Limits, MetricBatch};

use crate::WireError;
use crate::pair_rows::{PairRows, push_pair};
use crate::refusals::Refusals;

/// Longest part of a line that an error repeats.
const SHOWN_BYTES: usize = 120;

/// The unit of timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// `n` or `ns`; the default.
    Nanoseconds,
    /// `u`, `us` or `µ`.
    Microseconds,
    /// `ms`.
    Milliseconds,
    /// `s`.
    Seconds,
    /// `m`.
    Minutes,
    /// `h`.
    Hours,
}

impl Precision {
    /// The precision a URL's parameter names; `None` if there is none of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "n" | "ns" => Precision::Nanoseconds,
            "u" | "us" | "µ" => Precision::Microseconds,
            "ms" => Precision::Milliseconds,
            "s" => Precision::Seconds,
            "m" => Precision::Minutes,
            "h" => Precision::Hours,
            _ => return None,
        })
    }

    /// Milliseconds, earlier ones where it is no whole number; `None` if they do not fit.
    fn to_ms(self, timestamp: i64) -> Option<i64> {
        match self {
            Precision::Nanoseconds => Some(timestamp.div_euclid(1_000_000)),
            Precision::Microseconds => Some(timestamp.div_euclid(1_000)),
            Precision::Milliseconds => Some(timestamp),
            Precision::Seconds => timestamp.checked_mul(1_000),
            Precision::Minutes => timestamp.checked_mul(60_000),
            Precision::Hours => timestamp.checked_mul(3_600_000),
        }
    }
}

/// How a request is read.
#[derive(Debug, Clone, Copy)]
pub struct Options<'o> {
    /// The unit of timestamps.
    pub precision: Precision,
    /// The time of lines without one, milliseconds since the epoch.
    pub now_ms: i64,
    /// The database, which becomes the label `db` of lines that have no tag of that name; empty =
    /// none.
    pub database: &'o str,
}

/// What one request held.
#[derive(Debug, Default)]
pub struct Summary {
    /// Fields that hold text that is no number. They are **not** in the batch.
    pub texts_left_out: u64,
    /// Lines that cannot be read; the others are in the batch.
    pub refusals: Refusals,
}

/// Decodes lines into `out`, which is emptied first. About 40 ns per tag and 60 ns per field.
///
/// # Errors
/// [`WireError::Limit`] for a body or labels that are too large; `out` is then empty.
pub fn decode(
    body: &[u8],
    options: Options<'_>,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Summary, WireError> {
    let mut summary = Summary::default();
    let mut rows = PairRows::new("InfluxDB lines", body.len(), limits, out)?;
    let mut reader = LineReader::default();
    let mut rest = body;
    let mut failed = None;
    while failed.is_none() && !rest.is_empty() {
        let line;
        (line, rest) = split_line(rest);
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        match reader.line(line, options, &mut rows, &mut summary) {
            Ok(()) => {}
            Err(Fault::Line(reason)) => {
                let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
                summary.refusals.add(reason, 0, 0, || shown.into_owned());
            }
            Err(Fault::Whole(error)) => failed = Some(error),
        }
    }
    match failed {
        None => Ok(summary),
        Some(error) => {
            out.clear();
            Err(error)
        }
    }
}

enum Fault {
    /// In InfluxDB's words.
    Line(&'static str),
    Whole(WireError),
}

impl From<&'static str> for Fault {
    fn from(reason: &'static str) -> Self {
        Fault::Line(reason)
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Fault::Whole(error)
    }
}

/// The first line without its end and without spaces in front, and what follows. A line break
/// inside a text is part of its line.
fn split_line(body: &[u8]) -> (&[u8], &[u8]) {
    let mut end = memchr::memchr(b'\n', body).unwrap_or(body.len());
    let first = body.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    // Fast path: most lines hold no text.
    if memchr::memchr(b'"', &body[..end]).is_some() && first != Some(&b'#') {
        end = end_with_texts(body);
    }
    let rest = &body[(end + 1).min(body.len())..];
    if end > 0 && body[end - 1] == b'\r' {
        end -= 1;
    }
    let line = &body[..end];
    let first = line.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(end);
    (&line[first..], rest)
}

/// Where the first line ends that may hold texts. Quotes count in fields only, that is behind the
/// first space that is not escaped.
fn end_with_texts(body: &[u8]) -> usize {
    let first = body.iter().position(|byte| *byte != b' ').unwrap_or(body.len());
    let Some(found) = find_unescaped(&body[first..], b" \n") else { return body.len() };
    let (mut inside, mut at) = (false, first + found);
    while at < body.len() {
        match body[at] {
            b'\\' => at += 1,
            b'"' if inside || body[at - 1] == b'=' => inside = !inside,
            b'\n' if !inside => return at,
            _ => {}
        }
        at += 1;
    }
    body.len()
}

/// Where the first of `wanted` stands that no backslash is before.
fn find_unescaped(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'\\' {
            at += 1;
        } else if wanted.contains(&text[at]) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Memory to be used again for the next line.
#[derive(Default)]
struct LineReader {
    measurement: Vec<u8>,
    /// Tags as labels.
    labels: Vec<u8>,
    /// One name, then one value.
    parts: [Vec<u8>; 2],
    fields: Vec<(std::ops::Range<usize>, f64)>,
    field_names: Vec<u8>,
}

impl LineReader {
    fn line(
        &mut self,
        line: &[u8],
        options: Options<'_>,
        rows: &mut PairRows<'_>,
        summary: &mut Summary,
    ) -> Result<(), Fault> {
        let key_end = find_unescaped(line, b" ").ok_or("missing fields")?;
        let (key, rest) = line.split_at(key_end);
        self.key(key, options)?;
        let rest = rest.trim_ascii_start();
        let fields_end = fields_end(rest)?;
        let texts = self.fields(&rest[..fields_end])?;
        let timestamp = rest[fields_end..].trim_ascii();
        let t_ms = if timestamp.is_empty() {
            options.now_ms
        } else {
            let text = std::str::from_utf8(timestamp).map_err(|_| "bad timestamp")?;
            let number: i64 = text.parse().map_err(|_| "bad timestamp")?;
            options.precision.to_ms(number).ok_or("time outside range")?
        };
        summary.texts_left_out += texts;
        for (name, value) in &self.fields {
            let name = &self.field_names[name.clone()];
            let separator: &[u8] = if self.measurement.is_empty() { b"" } else { b"_" };
            rows.begin(&[&self.measurement, separator, name]);
            rows.labels(&self.labels);
            rows.end([(t_ms, *value)])?;
        }
        Ok(())
    }

    /// Measurement and tags.
    fn key(&mut self, key: &[u8], options: Options<'_>) -> Result<(), &'static str> {
        let end = find_unescaped(key, b",").unwrap_or(key.len());
        self.measurement.clear();
        unescape(&key[..end], b", ", &mut self.measurement);
        utf8(&self.measurement)?;
        self.labels.clear();
        let mut has_database = options.database.is_empty();
        let mut rest = &key[end..];
        while let Some(tags) = rest.strip_prefix(b",") {
            let end = find_unescaped(tags, b",").unwrap_or(tags.len());
            let tag = &tags[..end];
            rest = &tags[end..];
            let middle = find_unescaped(tag, b"=").ok_or("missing tag value")?;
            let (name, value) = (&tag[..middle], &tag[middle + 1..]);
            if name.is_empty() {
                return Err("missing tag key");
            }
            if value.is_empty() {
                return Err("missing tag value");
            }
            let [name_text, value_text] = &mut self.parts;
            for (text, part) in [(&mut *name_text, name), (&mut *value_text, value)] {
                text.clear();
                unescape(part, b",= ", text);
                utf8(text)?;
            }
            has_database |= name_text == b"db";
            push_pair(&mut self.labels, name_text, value_text);
        }
        if !has_database {
            push_pair(&mut self.labels, b"db", options.database.as_bytes());
        }
        Ok(())
    }

    /// Names and values of fields that are numbers; yields how many are not.
    fn fields(&mut self, mut rest: &[u8]) -> Result<u64, &'static str> {
        self.fields.clear();
        self.field_names.clear();
        let mut texts = 0;
        loop {
            let middle = find_unescaped(rest, b"=").ok_or("invalid field format")?;
            if middle == 0 {
                return Err("missing field key");
            }
            let start = self.field_names.len();
            unescape(&rest[..middle], b",= ", &mut self.field_names);
            utf8(&self.field_names[start..])?;
            rest = &rest[middle + 1..];
            let (value, after) = split_value(rest)?;
            match number(value)? {
                Some(number) => self.fields.push((start..self.field_names.len(), number)),
                None => texts += 1,
            }
            match after.split_first() {
                None => return Ok(texts),
                Some((b',', more)) => rest = more,
                Some(_) => return Err("invalid field format"),
            }
        }
    }
}

/// Where the fields end: at the first space that is neither escaped nor inside a text.
fn fields_end(fields: &[u8]) -> Result<usize, &'static str> {
    let (mut inside, mut at) = (false, 0);
    while at < fields.len() {
        match fields[at] {
            b'\\' => at += 1,
            b'"' if inside || at > 0 && fields[at - 1] == b'=' => inside = !inside,
            b' ' if !inside => return Ok(at),
            _ => {}
        }
        at += 1;
    }
    if inside { Err("unbalanced quotes") } else { Ok(fields.len()) }
}

/// A field's value and what stands behind it.
fn split_value(fields: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if fields.first() != Some(&b'"') {
        let end = memchr::memchr(b',', fields).unwrap_or(fields.len());
        return Ok(fields.split_at(end));
    }
    let mut at = 1;
    while at < fields.len() {
        match fields[at] {
            b'\\' => at += 1,
            b'"' => return Ok(fields.split_at(at + 1)),
            _ => {}
        }
        at += 1;
    }
    Err("unbalanced quotes")
}

/// The number that a value is; `None` for text.
fn number(value: &[u8]) -> Result<Option<f64>, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "invalid UTF-8")?;
    if let Some(inner) = text.strip_prefix('"') {
        // Some senders write numbers as text.
        return Ok(inner.strip_suffix('"').and_then(plain_number));
    }
    let parsed = match text {
        "" => return Err("missing field value"),
        "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
        text => match text.as_bytes().last() {
            // Whole numbers above 2^53 lose their last bits, as in every float.
            Some(b'i') => text[..text.len() - 1].parse::<i64>().ok().map(|whole| whole as f64),
            Some(b'u') => text[..text.len() - 1].parse::<u64>().ok().map(|whole| whole as f64),
            _ => plain_number(text),
        },
    };
    parsed.map(Some).ok_or("invalid number")
}

/// A decimal number; Rust's parser would also take `inf` and `nan`.
fn plain_number(text: &str) -> Option<f64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    is_decimal.then(|| text.parse().ok()).flatten()
}

/// Appends a name or value; a backslash before one of `escapable` is left out, every other stays.
fn unescape(text: &[u8], escapable: &[u8], out: &mut Vec<u8>) {
    // Fast path: nearly nothing is escaped.
    if memchr::memchr(b'\\', text).is_none() {
        out.extend_from_slice(text);
        return;
    }
    let mut at = 0;
    while at < text.len() {
        let next = text.get(at + 1);
        if text[at] == b'\\' && next.is_some_and(|next| escapable.contains(next)) {
            at += 1;
        }
        out.push(text[at]);
        at += 1;
    }
}

fn utf8(text: &[u8]) -> Result<(), &'static str> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| "invalid UTF-8")
}
