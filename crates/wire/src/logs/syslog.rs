//! Messages of syslog, of RFC 5424 and of the older form that RFC 3164 describes.
//!
//! ```text
//! <165>1 2003-10-11T22:14:15.003Z host app 123 ID47 [ex@32473 iut="3"] a message
//! <34>Oct 11 22:14:15 host su[230]: a message
//! ```
//!
//! Nothing is refused for its form: what cannot be read is part of the message, as RFC 3164 section
//! 4.3.3 demands of relays. `hostname`, `app_name` and `facility` become labels, the rest is
//! structured metadata, structured data as `id_name`.

use model::LogBatch;
use model::go_time::GoTime;

use super::intake::Intake;
use super::pairs::Pairs;
use super::{DETECTED_LEVEL, LogContext, LogPushError, LogSummary, severity, timestamp};

/// Facility and severity of a message that names none: user, notice. Source: RFC 3164, section 4.3.3.
const DEFAULT_PRIORITY: u8 = 13;

/// How messages are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyslogOptions {
    /// How much later than UTC it is where times without an offset were written, in seconds.
    pub offset_seconds: i32,
    /// Labels that every message gets besides its own.
    pub labels: Vec<(String, String)>,
    /// The number of the first message among all that whoever receives them has received. Times in
    /// messages are coarse, and nobody sends one again that was received: by this, two equal ones of
    /// one second get times of their own, which differ from what they say by less than a millisecond.
    /// Without, messages have the times that they say.
    pub first_number: Option<u64>,
}

/// A message, taken apart. Texts lie in the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogMessage<'m> {
    /// What kind of program sent it, 0 to 23.
    pub facility: u8,
    /// 0, the system is unusable, to 7, for debugging.
    pub severity: u8,
    /// Nanoseconds since the epoch, if the message has a time.
    pub timestamp_ns: Option<i64>,
    /// Empty if there is none, as are those that follow.
    pub hostname: &'m str,
    /// The program.
    pub app_name: &'m str,
    /// Usually the number of its process.
    pub proc_id: &'m str,
    /// What kind of message it is.
    pub msg_id: &'m str,
    /// The elements between brackets, as they stand there.
    pub structured_data: &'m str,
    /// The message itself, any bytes.
    pub message: &'m [u8],
}

/// Takes a message apart. `now_ns` tells the year, which the older form leaves out.
pub fn parse<'m>(bytes: &'m [u8], options: &SyslogOptions, now_ns: i64) -> SyslogMessage<'m> {
    let Some((priority, rest)) = priority(bytes) else { return plain(DEFAULT_PRIORITY, bytes) };
    let versioned = rest.strip_prefix(b"1 ").and_then(|rest| rfc_5424(priority, rest));
    versioned.unwrap_or_else(|| rfc_3164(priority, rest, options, now_ns))
}

/// The number between `<` and `>` at the start.
fn priority(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let inner = bytes.strip_prefix(b"<")?;
    let len = inner.iter().take(4).position(|byte| *byte == b'>')?;
    let digits = std::str::from_utf8(&inner[..len]).ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let priority: u8 = digits.parse().ok().filter(|number| is_number && *number < 24 * 8)?;
    Some((priority, &inner[len + 1..]))
}

fn plain(priority: u8, message: &[u8]) -> SyslogMessage<'_> {
    SyslogMessage {
        facility: priority / 8,
        severity: priority % 8,
        timestamp_ns: None,
        hostname: "",
        app_name: "",
        proc_id: "",
        msg_id: "",
        structured_data: "",
        message,
    }
}

/// The word up to the next blank; `-` is none.
fn word<'m>(rest: &mut &'m [u8]) -> Option<&'m str> {
    let len = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let (word, behind) = rest.split_at(len);
    *rest = behind.strip_prefix(b" ").unwrap_or(behind);
    let word = std::str::from_utf8(word).ok()?;
    Some(if word == "-" { "" } else { word })
}

fn rfc_5424(priority: u8, mut rest: &[u8]) -> Option<SyslogMessage<'_>> {
    let time = word(&mut rest)?;
    let timestamp_ns = if time.is_empty() { None } else { Some(timestamp::parse(time)?) };
    let [hostname, app_name, proc_id, msg_id] =
        [word(&mut rest)?, word(&mut rest)?, word(&mut rest)?, word(&mut rest)?];
    let len = if rest.first() == Some(&b'-') { 1 } else { elements_len(rest)? };
    let (structured_data, rest) = rest.split_at(len);
    let structured_data = std::str::from_utf8(structured_data).ok()?;
    let message = match rest.first() {
        None => rest,
        Some(b' ') => rest[1..].strip_prefix("\u{feff}".as_bytes()).unwrap_or(&rest[1..]),
        Some(_) => return None,
    };
    let structured_data = if structured_data == "-" { "" } else { structured_data };
    let message = SyslogMessage { timestamp_ns, message, ..plain(priority, message) };
    Some(SyslogMessage { hostname, app_name, proc_id, msg_id, structured_data, ..message })
}

/// How long the elements at the start are; `None` if there is none or it does not end.
fn elements_len(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    while rest.get(at) == Some(&b'[') {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let len = rest[at..].iter().position(|byte| {
            let ends = *byte == b']' && !is_quoted;
            is_quoted ^= *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped && is_quoted;
            ends
        })?;
        at += len + 1;
    }
    (at > 0).then_some(at)
}

fn rfc_3164<'m>(
    priority: u8,
    rest: &'m [u8],
    options: &SyslogOptions,
    now_ns: i64,
) -> SyslogMessage<'m> {
    let Some((timestamp_ns, mut rest)) = old_time(rest, options, now_ns) else {
        // Without a time there is no host either, but there may be a tag.
        let (app_name, proc_id, message) = tag(rest);
        return SyslogMessage { app_name, proc_id, message, ..plain(priority, message) };
    };
    let mut hostname = "";
    let behind = rest;
    if let Some(candidate) = word(&mut rest)
        && !candidate.is_empty()
        && !candidate.ends_with(':')
        && !candidate.contains('[')
    {
        hostname = candidate;
    } else {
        rest = behind;
    }
    let (app_name, proc_id, message) = tag(rest);
    let timestamp_ns = Some(timestamp_ns);
    let message = SyslogMessage { timestamp_ns, hostname, ..plain(priority, message) };
    SyslogMessage { app_name, proc_id, ..message }
}

/// The program and its process in front of a message, such as `su[230]: `.
fn tag(rest: &[u8]) -> (&str, &str, &[u8]) {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./()@".contains(byte);
    let len = rest.iter().take_while(|byte| is_of_name(byte)).count();
    let text = |part| std::str::from_utf8(part).unwrap_or_default();
    let (name, mut behind) = rest.split_at(len);
    let mut proc_id: &[u8] = b"";
    if let Some(inner) = behind.strip_prefix(b"[") {
        let Some(len) = inner.iter().position(|byte| *byte == b']') else { return ("", "", rest) };
        (proc_id, behind) = (&inner[..len], &inner[len + 1..]);
    }
    match behind.strip_prefix(b":") {
        Some(message) if !name.is_empty() => {
            (text(name), text(proc_id), message.strip_prefix(b" ").unwrap_or(message))
        }
        _ => ("", "", rest),
    }
}

/// A time at the start, `Oct 11 22:14:15` or one of RFC 3339, and what is behind it and a blank.
fn old_time<'m>(rest: &'m [u8], options: &SyslogOptions, now_ns: i64) -> Option<(i64, &'m [u8])> {
    const LAYOUT: &str = "2006 Jan _2 15:04:05";
    const NS_PER_SECOND: i64 = 1_000_000_000;
    if rest.first().is_some_and(u8::is_ascii_digit) {
        let mut behind = rest;
        let time = word(&mut behind).filter(|time| time.as_bytes().get(10) == Some(&b'T'))?;
        return Some((timestamp::parse(time)?, behind));
    }
    let time = rest.get(.."Oct 11 22:14:15".len())?;
    let behind = &rest[time.len()..];
    let behind = match behind.first() {
        None => behind,
        Some(b' ') => &behind[1..],
        Some(_) => return None,
    };
    let time = std::str::from_utf8(time).ok()?;
    let offset_ns = i64::from(options.offset_seconds) * NS_PER_SECOND;
    let year_now = GoTime::from_unix_ns(now_ns.saturating_add(offset_ns)).civil().year;
    // A clock that is a little fast at the end of a year is in the next one.
    let latest_ns = now_ns.saturating_add(24 * 3_600 * NS_PER_SECOND);
    [year_now + 1, year_now, year_now - 1].into_iter().find_map(|year| {
        let read = GoTime::parse(LAYOUT, &format!("{year:04} {time}"))?;
        let timestamp_ns = read.seconds.checked_mul(NS_PER_SECOND)?.checked_sub(offset_ns)?;
        (timestamp_ns <= latest_ns).then_some((timestamp_ns, behind))
    })
}

/// Shows `each` name and value of structured data: the id of an element and the name in it, and the
/// value without its escapes.
pub fn for_each_parameter(structured_data: &str, mut each: impl FnMut(&str, &str, &str)) {
    let mut rest = structured_data;
    let mut value = String::new();
    while let Some(inner) = rest.strip_prefix('[') {
        let id_len = inner.find([' ', ']']).unwrap_or(inner.len());
        let (id, mut behind) = inner.split_at(id_len);
        loop {
            behind = behind.trim_start_matches(' ');
            let name_len = behind.find(['=', ']', '"', ' ']).unwrap_or(behind.len());
            let (name, quoted) = behind.split_at(name_len);
            let Some(quoted) = quoted.strip_prefix("=\"") else { break };
            value.clear();
            let mut is_escaped = false;
            let end = quoted.char_indices().find_map(|(at, c)| {
                if c == '"' && !is_escaped {
                    return Some(at);
                }
                if is_escaped && !matches!(c, '"' | '\\' | ']') {
                    value.push('\\');
                }
                is_escaped = c == '\\' && !is_escaped;
                if !is_escaped {
                    value.push(c);
                }
                None
            });
            let Some(end) = end else { return };
            each(id, name, &value);
            behind = &quoted[end + 1..];
        }
        let Some(end) = behind.find(']') else { return };
        rest = &behind[end + 1..];
    }
}

/// Decodes messages, each without its frame, into `out`, which is emptied first; empty ones are
/// passed over.
///
/// # Errors
/// Status 413 if they are too many for a batch; `out` is then empty.
pub fn decode<'m>(
    messages: impl Iterator<Item = &'m [u8]>,
    options: &SyslogOptions,
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let mut intake = Intake::new(context, out);
    let (mut labels, mut metadata) = (Pairs::default(), Pairs::default());
    let mut full = None;
    for (index, bytes) in messages.filter(|bytes| !bytes.is_empty()).enumerate() {
        let message = parse(bytes, options, context.now_ns);
        write_pairs(&message, options, &mut labels, &mut metadata);
        intake.begin_any(&labels);
        let timestamp_ns = match (message.timestamp_ns, options.first_number) {
            (None, _) => intake.arrival_ns(),
            (Some(said_ns), None) => said_ns,
            (Some(said_ns), Some(first)) => numbered(said_ns, first.wrapping_add(index as u64)),
        };
        if let Err(error) = intake.line(timestamp_ns, message.message, &mut metadata) {
            full = Some(error);
            break;
        }
    }
    let summary = intake.finish();
    match full {
        Some(full) => {
            out.clear();
            Err(full)
        }
        None => Ok(summary),
    }
}

/// A time that was said, moved within what is too fine to be said by the number of its message.
fn numbered(said_ns: i64, number: u64) -> i64 {
    const FINEST: [u64; 2] = [1_000_000, 1_000];
    let unit = FINEST.into_iter().find(|unit| said_ns.unsigned_abs().is_multiple_of(*unit));
    said_ns.saturating_add_unsigned(number % unit.unwrap_or(1))
}

fn write_pairs(
    message: &SyslogMessage<'_>,
    options: &SyslogOptions,
    labels: &mut Pairs,
    metadata: &mut Pairs,
) {
    labels.clear();
    metadata.clear();
    for (name, value) in &options.labels {
        labels.push(name, value);
    }
    for (name, value) in [
        ("hostname", message.hostname),
        ("app_name", message.app_name),
        ("facility", facility(message.facility)),
    ] {
        if !value.is_empty() && labels.get(name).is_none() {
            labels.push(name, value);
        }
    }
    for (name, value) in [
        ("severity", severity::word(message.severity)),
        ("proc_id", message.proc_id),
        ("msg_id", message.msg_id),
    ] {
        if !value.is_empty() {
            metadata.push(name, value);
        }
    }
    for_each_parameter(message.structured_data, |id, name, value| {
        metadata.push_named(&format!("{id}_{name}"), value);
    });
    metadata.push(DETECTED_LEVEL, severity::level(message.severity));
}

/// The word for a facility. Source: RFC 5424, table 1, in the short form of `syslog.conf`.
fn facility(number: u8) -> &'static str {
    const WORDS: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
        "authpriv", "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2",
        "local3", "local4", "local5", "local6", "local7",
    ];
    WORDS.get(usize::from(number)).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_messages_of_one_second_are_told_apart_by_their_number() {
        let second_ns = 1_700_000_000_000_000_000;
        for (said_ns, number, wanted_ns) in [
            (second_ns, 7, second_ns + 7),
            (second_ns, 2_000_007, second_ns + 7),
            (second_ns + 5_000, 7, second_ns + 5_007),
            (second_ns + 5_001, 7, second_ns + 5_001),
            (-1_000_000, 7, -1_000_000 + 7),
            (i64::MAX, 7, i64::MAX),
        ] {
            assert_eq!(numbered(said_ns, number), wanted_ns, "{said_ns} {number}");
        }
        let limits = model::LogLimits::default();
        let context = LogContext { limits: &limits, levels: None, now_ns: second_ns + 999 };
        let times = |first_number| {
            let options = SyslogOptions { first_number, ..SyslogOptions::default() };
            let mut batch = LogBatch::default();
            let messages = [&b"<13>Nov 14 22:13:20 host app: x"[..], b"<13>app: y"];
            let summary = decode(messages.into_iter(), &options, &context, &mut batch);
            assert_eq!(summary.expect("short").timed_here, 1);
            let (mut records, mut metadata, mut times) = (batch.records(), Vec::new(), Vec::new());
            while let Some(record) = records.next_record(&mut metadata).expect("whole") {
                if let model::LogRecord::Line { timestamp_ns, .. } = record {
                    times.push(timestamp_ns);
                }
            }
            times
        };
        assert_eq!(times(None), [second_ns, second_ns + 999]);
        assert_eq!(times(Some(41)), [second_ns + 41, second_ns + 999]);
    }
}
