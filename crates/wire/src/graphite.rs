//! Graphite's plaintext protocol.
//!
//! Source: <https://graphite.readthedocs.io/en/latest/feeding-carbon.html> and its tags:
//!
//! ```text
//! path.to.metric[;tag=value…] value [timestamp in seconds]
//! ```

use model::{Limits, MetricBatch};

use crate::WireError;
use crate::pair_rows::PairRows;
use crate::refusals::Refusals;

/// Longest part of a line that an error repeats.
const SHOWN_BYTES: usize = 120;

/// Decodes lines into `out`, which is emptied first. The path is the metric's name as it is, tags are
/// labels. A line without timestamp, or with -1, has the time `now_ms`. Yields what cannot be read.
///
/// # Errors
/// [`WireError::Limit`] for lines or labels that are too large; `out` is then empty.
pub fn decode(
    lines: &[u8],
    now_ms: i64,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<Refusals, WireError> {
    let mut refusals = Refusals::default();
    let mut rows = PairRows::new("Graphite lines", lines.len(), limits, out)?;
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let sample = match read(line, now_ms, &mut rows) {
            Ok(sample) => sample,
            Err(reason) => {
                let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
                refusals.add(reason, 0, 0, || shown.into_owned());
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

fn read(line: &[u8], now_ms: i64, rows: &mut PairRows<'_>) -> Result<(i64, f64), &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "invalid UTF-8")?;
    let mut words = text.split_ascii_whitespace();
    let path = words.next().unwrap_or_default();
    let value = words.next().ok_or("missing value")?;
    let timestamp = words.next();
    if words.next().is_some() {
        return Err("more than path, value and timestamp");
    }
    let mut parts = path.split(';');
    let name = parts.next().unwrap_or_default();
    if name.is_empty() {
        return Err("missing path");
    }
    rows.begin(&[name.as_bytes()]);
    for tag in parts.filter(|tag| !tag.is_empty()) {
        let (name, value) = tag.split_once('=').ok_or("a tag without =")?;
        if name.is_empty() {
            return Err("a tag without name");
        }
        rows.label(name.as_bytes(), value.as_bytes());
    }
    let value = value.parse().map_err(|_| "invalid value")?;
    let seconds: f64 = match timestamp {
        None | Some("-1") => return Ok((now_ms, value)),
        Some(text) => text.parse().map_err(|_| "invalid timestamp")?,
    };
    let t_ms = seconds * 1e3;
    let fits = t_ms.abs() < 9e15;
    if fits { Ok((t_ms.round() as i64, value)) } else { Err("invalid timestamp") }
}
