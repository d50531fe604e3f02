//! Lines as container runtimes write them: each is an object or has a prefix, and long ones are in parts.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use super::batch::MAX_LINE_BYTES;
use super::entry::{Entries, Entry, Pipeline, Stages};

/// How the lines of a file are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// They are not.
    #[default]
    Plain,
    /// Docker's `json-file`: `{"log":"…\n","stream":"stdout","time":"…"}`.
    Docker,
    /// CRI's, as containerd and CRI-O write it: `<time> stdout F …`.
    Cri,
}

/// Notes of joined lines after which those are forgotten that are done with.
const MAX_JOINED: usize = 16;

/// Lines are unwrapped, joined where they are in parts, and handed on.
#[derive(Debug)]
pub struct Unwrapping {
    format: Format,
    inner: Arc<dyn Stages>,
}

impl Unwrapping {
    /// Unwraps before `inner`.
    pub fn before(format: Format, inner: Arc<dyn Stages>) -> Arc<dyn Stages> {
        match format {
            Format::Plain => inner,
            format => Arc::new(Unwrapping { format, inner }),
        }
    }
}

impl Stages for Unwrapping {
    fn start(&self) -> Box<dyn Pipeline> {
        Box::new(Unwrapped {
            format: self.format,
            inner: self.inner.start(),
            parts: [Parts::default(), Parts::default()],
            joined: Vec::new(),
        })
    }
}

struct Unwrapped {
    format: Format,
    inner: Box<dyn Pipeline>,
    /// Of `stdout` and of `stderr`.
    parts: [Parts; 2],
    /// Lines of several parts that were handed on and may be held: where each part begins.
    joined: Vec<Vec<u64>>,
}

impl Unwrapped {
    /// Notes where the parts of a line are that was handed on.
    fn note(&mut self, offsets: Vec<u64>) {
        self.joined.push(offsets);
        if self.joined.len() >= MAX_JOINED {
            let mut held = Vec::new();
            self.inner.held(&mut held);
            self.joined.retain(|offsets| held.contains(&offsets[0]));
        }
    }
}

/// Parts of a line whose end is still to come.
#[derive(Default)]
struct Parts {
    entry: Option<Entry>,
    offsets: Vec<u64>,
}

/// What stands in one line of the file.
struct Wrapped {
    timestamp_ns: Option<i64>,
    is_stderr: bool,
    is_part: bool,
    line: Vec<u8>,
}

impl Pipeline for Unwrapped {
    fn process(&mut self, entry: &mut Entry, now: Instant, out: &mut dyn Entries) {
        let wrapped = match self.format {
            Format::Docker => docker(&entry.line),
            Format::Cri => cri(&entry.line),
            Format::Plain => None,
        };
        // What is not wrapped is a line all the same: nothing is lost because a file is of another kind.
        let Some(wrapped) = wrapped else { return self.inner.process(entry, now, out) };
        let parts = &mut self.parts[usize::from(wrapped.is_stderr)];
        match &mut parts.entry {
            Some(first) => {
                let room = MAX_LINE_BYTES.saturating_sub(first.line.len());
                first.line.extend_from_slice(&wrapped.line[..wrapped.line.len().min(room)]);
                // Of a line that is cut its later parts are dealt with.
                if room > 0 {
                    parts.offsets.push(entry.offset);
                }
            }
            None => {
                let mut first = entry.clone();
                first.timestamp_ns = wrapped.timestamp_ns.unwrap_or(entry.timestamp_ns);
                first.line = wrapped.line;
                let stream = if wrapped.is_stderr { "stderr" } else { "stdout" };
                first.metadata.push(("stream".to_owned(), stream.to_owned()));
                parts.entry = Some(first);
                parts.offsets.push(entry.offset);
            }
        }
        if !wrapped.is_part {
            let offsets = std::mem::take(&mut parts.offsets);
            if let Some(mut whole) = parts.entry.take() {
                self.inner.process(&mut whole, now, out);
            }
            if offsets.len() > 1 {
                self.note(offsets);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn flush(&mut self, now: Option<Instant>, out: &mut dyn Entries) {
        // Parts wait for their end as long as there may be one.
        if now.is_none() {
            for parts in &mut self.parts {
                parts.offsets.clear();
                if let Some(mut part) = parts.entry.take() {
                    self.inner.process(&mut part, Instant::now(), out);
                }
            }
        }
        self.inner.flush(now, out);
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        for parts in &self.parts {
            offsets.extend_from_slice(&parts.offsets);
        }
        let mut held = Vec::new();
        self.inner.held(&mut held);
        let joined = self.joined.iter().filter(|joined| held.contains(&joined[0]));
        // The first of each is told by whoever holds the line.
        offsets.extend(joined.flat_map(|joined| &joined[1..]));
        offsets.append(&mut held);
    }

    fn ready_at(&self) -> Option<Instant> {
        self.inner.ready_at()
    }
}

fn docker(line: &[u8]) -> Option<Wrapped> {
    #[derive(Deserialize)]
    struct Line<'a> {
        log: String,
        #[serde(default)]
        stream: String,
        #[serde(default, borrow)]
        time: std::borrow::Cow<'a, str>,
    }
    let found: Line<'_> = serde_json::from_slice(line).ok()?;
    let mut text = found.log.into_bytes();
    let is_part = text.pop_if(|last| *last == b'\n').is_none();
    if !is_part {
        text.pop_if(|last| *last == b'\r');
    }
    Some(Wrapped {
        timestamp_ns: rfc3339_ns(&found.time),
        is_stderr: found.stream == "stderr",
        is_part,
        line: text,
    })
}

fn cri(line: &[u8]) -> Option<Wrapped> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (fields.next()?, fields.next()?, fields.next()?);
    let is_stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let timestamp_ns = Some(rfc3339_ns(std::str::from_utf8(time).ok()?)?);
    let is_part = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Wrapped {
        timestamp_ns,
        is_stderr,
        is_part,
        line: fields.next().unwrap_or_default().to_vec(),
    })
}

/// Nanoseconds since the epoch of a time such as `2026-11-29T22:17:48.123456789Z` or `…+02:00`. Source:
/// RFC 3339.
pub(crate) fn rfc3339_ns(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| -> Option<i64> {
        let digits = bytes.get(from..from + len)?;
        digits.iter().all(u8::is_ascii_digit).then(|| text[from..from + len].parse().ok())?
    };
    let is_at = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    if !(is_at(4, b"-")
        && is_at(7, b"-")
        && is_at(10, b"Tt ")
        && is_at(13, b":")
        && is_at(16, b":"))
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if !is_valid || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if is_at(at, b".,") {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let used = digits.min(9);
        nanos = number(at + 1, used)? * 10_i64.pow(u32::try_from(9 - used).ok()?);
        at += 1 + digits;
    }
    let offset_s = match bytes.get(at)? {
        b'Z' | b'z' => 0,
        sign @ (b'+' | b'-') => {
            let minutes_at = if is_at(at + 3, b":") { at + 4 } else { at + 3 };
            let offset = number(at + 1, 2)? * 3_600 + number(minutes_at, 2)? * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let days = days_since_epoch(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::super::entry::Unchanged;
    use super::*;

    fn lines(format: Format, given: &[&str]) -> (Vec<(i64, String, String)>, Vec<u64>) {
        let mut pipeline = Unwrapping::before(format, Arc::new(Unchanged)).start();
        let mut out: Vec<Entry> = Vec::new();
        for (offset, line) in given.iter().enumerate() {
            let mut entry = Entry {
                line: line.as_bytes().to_vec(),
                offset: offset as u64,
                timestamp_ns: 7,
                ..Entry::default()
            };
            pipeline.process(&mut entry, Instant::now(), &mut out);
        }
        let mut held = Vec::new();
        pipeline.held(&mut held);
        let found = out.into_iter().map(|entry| {
            let stream = entry.metadata.first().map(|(_, value)| value.clone()).unwrap_or_default();
            (entry.timestamp_ns, stream, String::from_utf8(entry.line).expect("UTF-8"))
        });
        (found.collect(), held)
    }

    #[test]
    fn parts_are_joined_by_stream_and_what_is_not_wrapped_stays() {
        let (found, held) = lines(
            Format::Cri,
            &[
                "1970-01-01T00:00:01.5Z stdout P one ",
                "1970-01-01T00:00:02Z stderr F err",
                "1970-01-01T00:00:03Z stdout F two",
                "plain",
                "1970-01-01T01:00:00+01:00 stdout P held",
            ],
        );
        let wanted = [
            (2_000_000_000, "stderr".to_owned(), "err".to_owned()),
            (1_500_000_000, "stdout".to_owned(), "one two".to_owned()),
            (7, String::new(), "plain".to_owned()),
        ];
        assert_eq!((found.as_slice(), held.as_slice()), (&wanted[..], &[4][..]));
        let (found, held) = lines(
            Format::Docker,
            &[
                r#"{"log":"a \"q\"","stream":"stdout","time":"1970-01-01T00:00:01Z"}"#,
                r#"{"log":" b\r\n","stream":"stdout","time":"1970-01-01T00:00:02Z"}"#,
                r#"{"no":1}"#,
            ],
        );
        let wanted = [
            (1_000_000_000, "stdout".to_owned(), "a \"q\" b".to_owned()),
            (7, String::new(), r#"{"no":1}"#.to_owned()),
        ];
        assert_eq!((found.as_slice(), held.len()), (&wanted[..], 0));
    }

    #[test]
    fn times_are_read_as_rfc_3339_says() {
        for (text, wanted) in [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000_000)),
            ("2023-11-14T23:13:20.000000001+01:00", Some(1_700_000_000_000_000_001)),
            ("2024-02-29 00:00:00.1234567891-0030", Some(1_709_166_600_123_456_789)),
            ("2023-11-14T22:13:20", None),
            ("2023-13-14T22:13:20Z", None),
            ("", None),
            ("2023-11-14T22:13:2é", None),
        ] {
            assert_eq!(rfc3339_ns(text), wanted, "{text}");
        }
    }
}
