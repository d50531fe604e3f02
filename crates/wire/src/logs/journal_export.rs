//! The journal's export format, in which `systemd-journal-upload` sends entries.
//!
//! ```text
//! __REALTIME_TIMESTAMP=1729698775704404
//! _HOSTNAME=a
//! MESSAGE
//! <8 bytes: length, little endian><so many bytes>
//! <blank line>
//! ```
//!
//! Source: <https://systemd.io/JOURNAL_EXPORT_FORMATS/>. Entries are separated by blank lines. A field
//! with bytes that are no text has its value behind its length.

use model::LogBatch;

use super::intake::Intake;
use super::pairs::Pairs;
use super::{DETECTED_LEVEL, LogContext, LogPushError, LogSummary, check_body, severity};

/// Longest name of a field. Source: `journal_field_valid` of systemd.
const MAX_NAME_BYTES: usize = 64;

/// Fields that become labels, and what they are called then.
const LABELS: &[(&str, &str)] = &[
    ("_HOSTNAME", "hostname"),
    ("_SYSTEMD_UNIT", "systemd_unit"),
    ("_SYSTEMD_USER_UNIT", "systemd_user_unit"),
    ("SYSLOG_IDENTIFIER", "syslog_identifier"),
    ("_TRANSPORT", "transport"),
];

/// Decodes entries into `out`, which is emptied first. The field `MESSAGE` is the line, without one
/// there is none; `_HOSTNAME`, `_SYSTEMD_UNIT`, `_SYSTEMD_USER_UNIT`, `SYSLOG_IDENTIFIER` and
/// `_TRANSPORT` become labels, the other fields structured metadata in small letters, but for those
/// that begin with `__`. Where an entry is damaged, it and all that follows is one refusal.
///
/// # Errors
/// Status 413 for a body that is too large; `out` is then empty.
pub fn decode(
    body: &[u8],
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    let read = check_body(body, context.limits).and_then(|()| entries(body, &mut intake));
    let summary = intake.finish();
    match read {
        Ok(()) => Ok(summary),
        Err(error) => {
            out.clear();
            Err(error)
        }
    }
}

/// How many bytes at the start are whole entries, for who has only the beginning of what comes. Yields
/// all of it where something is at fault, which [`decode`] tells then.
pub fn whole_entries(begin: &[u8]) -> usize {
    let (mut rest, mut whole) = (begin, 0);
    while !rest.is_empty() {
        let Some(newline) = memchr::memchr(b'\n', rest) else { return whole };
        let (line, behind) = (&rest[..newline], &rest[newline + 1..]);
        rest = behind;
        if line.is_empty() {
            whole = begin.len() - rest.len();
        } else if memchr::memchr(b'=', line).is_none() {
            let Some((size, value)) = behind.split_first_chunk::<8>() else { return whole };
            let Ok(size) = usize::try_from(u64::from_le_bytes(*size)) else { return begin.len() };
            // The value, and a newline behind it.
            match size.checked_add(1) {
                None => return begin.len(),
                Some(len) if len > value.len() => return whole,
                Some(len) => rest = &value[len..],
            }
        }
    }
    whole
}

fn entries(body: &[u8], intake: &mut Intake<'_>) -> Result<(), LogPushError> {
    let mut entry = Entry::default();
    let mut rest = body;
    while !rest.is_empty() {
        let begin = rest;
        entry.clear();
        if let Err(reason) = entry.read(&mut rest) {
            let offset = body.len() - rest.len();
            intake.refuse_malformed(
                format!("malformed journal export at byte {offset}: {reason}"),
                begin.len(),
            );
            return Ok(());
        }
        entry.take(intake)?;
    }
    Ok(())
}

/// One entry; memory to be used again.
#[derive(Default)]
struct Entry {
    message: Option<Vec<u8>>,
    timestamp_ns: Option<i64>,
    labels: Pairs,
    metadata: Pairs,
}

impl Entry {
    fn clear(&mut self) {
        (self.message, self.timestamp_ns) = (None, None);
        self.labels.clear();
        self.metadata.clear();
    }

    /// Reads up to a blank line or the end. After an error `rest` begins with what is at fault.
    fn read(&mut self, rest: &mut &[u8]) -> Result<(), &'static str> {
        while !rest.is_empty() {
            let newline = memchr::memchr(b'\n', rest).ok_or("a field has no end")?;
            let (line, behind) = (&rest[..newline], &rest[newline + 1..]);
            if line.is_empty() {
                *rest = behind;
                return Ok(());
            }
            if let Some(equals) = memchr::memchr(b'=', line) {
                self.field(&line[..equals], &line[equals + 1..])?;
                *rest = behind;
                continue;
            }
            let (size, value) = behind.split_first_chunk::<8>().ok_or("a length is cut off")?;
            let size = usize::try_from(u64::from_le_bytes(*size)).ok();
            let value = size.and_then(|size| value.split_at_checked(size));
            let (value, behind) = value.ok_or("a value is cut off")?;
            let behind = behind.strip_prefix(b"\n").ok_or("no newline behind a value")?;
            self.field(line, value)?;
            *rest = behind;
        }
        Ok(())
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let is_of_name =
            |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let is_valid = (1..=MAX_NAME_BYTES).contains(&name.len())
            && !name[0].is_ascii_digit()
            && name.iter().all(is_of_name);
        let name = std::str::from_utf8(name).ok().filter(|_| is_valid);
        let name = name.ok_or("the name of a field must be of capital letters, digits and _")?;
        match name {
            "MESSAGE" => self.message = Some(value.to_vec()),
            "__REALTIME_TIMESTAMP" => {
                let micros =
                    std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                let ns = micros.and_then(|micros| micros.checked_mul(1_000));
                self.timestamp_ns = Some(ns.ok_or("__REALTIME_TIMESTAMP must be microseconds")?);
            }
            _ if name.starts_with("__") => {}
            _ => {
                if let Some((_, label)) = LABELS.iter().find(|(field, _)| *field == name) {
                    // A field may be there more than once; a label may not.
                    if self.labels.get(label).is_none() {
                        self.labels.push_lossy(label, value);
                    }
                    return Ok(());
                }
                let level = name == "PRIORITY" && matches!(value, [b'0'..=b'7']);
                if level {
                    self.metadata.push("severity", severity::word(value[0] - b'0'));
                    self.metadata.push(DETECTED_LEVEL, severity::level(value[0] - b'0'));
                }
                let name = name.trim_start_matches('_').to_ascii_lowercase();
                self.metadata.push_named(&name, &String::from_utf8_lossy(value));
            }
        }
        Ok(())
    }

    fn take(&mut self, intake: &mut Intake<'_>) -> Result<(), LogPushError> {
        let Some(message) = &self.message else { return Ok(()) };
        intake.begin_any(&self.labels);
        let timestamp_ns = self.timestamp_ns.unwrap_or_else(|| intake.arrival_ns());
        intake.line(timestamp_ns, message, &mut self.metadata).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_entries_are_told_from_the_beginning_of_one() {
        let first = b"__REALTIME_TIMESTAMP=1\nMESSAGE=a\n\n";
        let mut second = b"MESSAGE\n".to_vec();
        second.extend(5_u64.to_le_bytes());
        // The blank line in the value ends nothing.
        second.extend(b"b\n\nc\n\nX=1\n\n");
        let both = [&first[..], &second].concat();
        for len in 0..=both.len() {
            let wanted = match len {
                len if len == both.len() => len,
                len if len >= first.len() => first.len(),
                _ => 0,
            };
            assert_eq!(whole_entries(&both[..len]), wanted, "{len}");
        }
        let mut endless = b"MESSAGE\n".to_vec();
        endless.extend(u64::MAX.to_le_bytes());
        assert_eq!(whole_entries(&endless), endless.len());
    }
}
