//! From rows to the body of a request, and from an answer to what it means.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use model::{Labels, parse_rfc3339_ms};
use settings::prometheus::RemoteWriteMessage;
use wire::WireError;
use wire::remote_write_request::{OutgoingHistogram, OutgoingSeries, RequestBuilder};

use super::rows::{Amount, Chunk, Kind, Row, Value};
use crate::metadata::KnownFamilies;

/// No wish of a server holds up its samples for longer.
const LONGEST_WISH: Duration = Duration::from_secs(5 * 60);

/// The body of a request with the rows, compressed.
///
/// Rows of a series stand together as long as their times grow. Metadata is looked up for version 2.
pub(super) fn encode(
    chunks: &[Chunk],
    message: RemoteWriteMessage,
    known: &KnownFamilies<'_>,
) -> Result<Bytes, WireError> {
    let rows: Vec<&Row> = chunks.iter().flat_map(|chunk| &chunk.rows).collect();
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    let slots = slots(&rows);
    order.sort_by_key(|&row| slots[row as usize]);
    let mut builder = match message {
        RemoteWriteMessage::V1 => RequestBuilder::one(),
        RemoteWriteMessage::V2 => RequestBuilder::two(),
    };
    let (mut floats, mut histograms, mut exemplars) = (Vec::new(), Vec::new(), Vec::new());
    let mut starts_ms = Vec::new();
    for group in order.chunk_by(|&a, &b| slots[a as usize] == slots[b as usize]) {
        floats.clear();
        starts_ms.clear();
        histograms.clear();
        exemplars.clear();
        for &row in group {
            let row = rows[row as usize];
            match &row.value {
                Value::Float { value, start_ms } => {
                    if *start_ms != 0 {
                        starts_ms.resize(floats.len(), 0);
                        starts_ms.push(*start_ms);
                    }
                    floats.push((row.t_ms, *value));
                }
                Value::Histogram(one) => histograms.push(OutgoingHistogram {
                    t_ms: row.t_ms,
                    start_ms: one.start_ms,
                    histogram: &one.histogram,
                }),
                Value::Exemplar(one) => exemplars.push(&**one),
            }
        }
        let labels = &rows[group[0] as usize].labels;
        let metadata = match message {
            RemoteWriteMessage::V1 => None,
            RemoteWriteMessage::V2 => labels.metric_name().and_then(|name| known.family_of(name)),
        };
        builder.push(&OutgoingSeries {
            labels,
            floats: &floats,
            starts_ms: &starts_ms,
            histograms: &histograms,
            exemplars: &exemplars,
            metadata,
        });
    }
    Ok(builder.finish()?.into())
}

/// For each row the number of the entry it goes into: a new one for a new series, for another kind
/// of value, and where time does not go on. Exemplars go with the last samples of their series, if
/// there are any: by the specification an entry should not be without.
fn slots(rows: &[&Row]) -> Vec<u32> {
    let mut open: HashMap<(*const u8, Kind), (u32, i64)> = HashMap::with_capacity(rows.len());
    let mut slots = Vec::with_capacity(rows.len());
    let mut next = 0;
    for row in rows {
        // Sets that were read from another file of the log are others, although they are equal.
        let series = (address(&row.labels), row.kind());
        if series.1 == Kind::Exemplar {
            let of = |kind| open.get(&(series.0, kind)).map(|(slot, _)| *slot);
            if let Some(slot) = of(Kind::Histogram).max(of(Kind::Float)) {
                slots.push(slot);
                continue;
            }
        }
        let slot = match open.get_mut(&series) {
            Some((slot, last_ms)) if *last_ms < row.t_ms => {
                *last_ms = row.t_ms;
                *slot
            }
            _ => {
                open.insert(series, (next, row.t_ms));
                next += 1;
                next - 1
            }
        };
        slots.push(slot);
    }
    slots
}

fn address(labels: &Labels) -> *const u8 {
    labels.as_packed().as_ptr()
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken. What of it was written, if the server says so.
    Taken(Option<Amount>),
    /// To be sent again, at the earliest after what the server asks for.
    Again(Option<Duration>),
    /// Will never be taken; what of it was written nevertheless.
    Never(Amount),
    /// The server does not know this version.
    OtherVersion,
}

/// Reads status and headers of an answer; `now_ms` is for dates in it.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    message: RemoteWriteMessage,
    retry_on_429: bool,
    now_ms: i64,
) -> Verdict {
    let written = match message {
        RemoteWriteMessage::V1 => None,
        RemoteWriteMessage::V2 => written(headers),
    };
    if status.is_success() {
        return Verdict::Taken(written);
    }
    let is_busy = status == StatusCode::TOO_MANY_REQUESTS && retry_on_429;
    if status.is_server_error() || is_busy {
        return Verdict::Again(retry_after(headers, now_ms));
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE && message == RemoteWriteMessage::V2 {
        return Verdict::OtherVersion;
    }
    // The specification: what is not stated counts as nothing.
    Verdict::Never(written.unwrap_or_default())
}

fn written(headers: &HeaderMap) -> Option<Amount> {
    let count = |kind: &str| {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok()
    };
    match (count("samples"), count("histograms"), count("exemplars")) {
        (None, None, None) => None,
        (floats, histograms, exemplars) => Some(Amount {
            floats: floats.unwrap_or_default(),
            histograms: histograms.unwrap_or_default(),
            exemplars: exemplars.unwrap_or_default(),
        }),
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wish = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let left_ms = http_date_ms(text)?.saturating_sub(now_ms);
            Duration::from_millis(u64::try_from(left_ms).unwrap_or_default())
        }
    };
    Some(wish.min(LONGEST_WISH))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is still written.
fn http_date_ms(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (time, zone) = (words.next()?, words.next()?);
    let month = MONTHS.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? / 3 + 1;
    if zone != "GMT" {
        return None;
    }
    parse_rfc3339_ms(&format!("{year}-{month:02}-{day}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn answers_are_sorted_by_what_helps() {
        const ONE: RemoteWriteMessage = RemoteWriteMessage::V1;
        const TWO: RemoteWriteMessage = RemoteWriteMessage::V2;
        let nothing = Verdict::Never(Amount::default());
        for (status, message, on_429, wanted) in [
            (200, ONE, false, Verdict::Taken(None)),
            (204, TWO, false, Verdict::Taken(None)),
            (302, ONE, false, nothing.clone()),
            (400, TWO, false, nothing.clone()),
            (413, ONE, true, nothing.clone()),
            (415, ONE, false, nothing.clone()),
            (415, TWO, false, Verdict::OtherVersion),
            (429, ONE, false, nothing),
            (429, ONE, true, Verdict::Again(None)),
            (500, ONE, false, Verdict::Again(None)),
            (503, TWO, false, Verdict::Again(None)),
            (599, TWO, false, Verdict::Again(None)),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(judge(status, &HeaderMap::new(), message, on_429, 0), wanted, "{status}");
        }
        let counted = headers(&[("x-prometheus-remote-write-samples-written", "3")]);
        let three = Amount { floats: 3, ..Amount::default() };
        assert_eq!(judge(StatusCode::OK, &counted, TWO, false, 0), Verdict::Taken(Some(three)));
        let refused = judge(StatusCode::BAD_REQUEST, &counted, TWO, false, 0);
        assert_eq!(refused, Verdict::Never(three));
    }

    #[test]
    fn wishes_are_heard_within_reason() {
        let now_ms = 784_111_770_000;
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("99999999999", Some(300)),
            ("soon", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("-1", None),
        ] {
            let headers = headers(&[("retry-after", text)]);
            let found = retry_after(&headers, now_ms);
            assert_eq!(found, seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_series_stands_once_while_its_times_grow() {
        let labels = |name| Labels::from_pairs([("__name__", name)]).expect("labels");
        let (a, b) = (labels("a"), labels("b"));
        let row = |labels: &Labels, t_ms| Row {
            labels: labels.clone(),
            hash: 0,
            t_ms,
            value: Value::Float { value: 0.0, start_ms: 0 },
        };
        let rows = [row(&a, 1), row(&b, 1), row(&a, 2), row(&a, 2), row(&b, 0), row(&a, 3)];
        let chunk = Chunk { frame: 0, at: Instant::now(), rows: rows.to_vec() };
        let all: Vec<&Row> = chunk.rows.iter().collect();
        assert_eq!(slots(&all), [0, 1, 0, 2, 3, 2]);
        let exemplar = |labels: &Labels, t_ms| {
            let own = labels.clone();
            let one = model::Exemplar { labels: own, value: 1.0, t_ms, is_dated: true };
            Row { value: Value::Exemplar(Box::new(one)), ..row(labels, t_ms) }
        };
        let c = labels("c");
        let rows = [row(&a, 1), exemplar(&a, 9), exemplar(&c, 2), exemplar(&c, 3), exemplar(&c, 3)];
        assert_eq!(slots(&rows.iter().collect::<Vec<_>>()), [0, 0, 1, 1, 2]);
    }
}
