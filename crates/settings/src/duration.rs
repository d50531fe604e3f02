//! Durations as Prometheus writes them.

use std::time::Duration;

/// Why a text is no duration; `Display` is Prometheus' message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is no text.
    #[error("empty duration string")]
    Empty,
    /// The text is something else.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// More than about 292 years.
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

impl DurationError {
    /// What to write instead.
    pub fn help(&self) -> String {
        let form = "write whole numbers with units, the largest first: 30s, 1h30m, 15d \
                    (ms, s, m, h, d, w, y)";
        match self {
            DurationError::Invalid(text) if text.starts_with('-') => {
                format!("a duration cannot be negative; {form}")
            }
            DurationError::Invalid(text) => match corrected(text) {
                Some(corrected) => format!("did you mean {corrected}? {form}"),
                None => form.to_owned(),
            },
            DurationError::Empty => form.to_owned(),
            DurationError::OutOfRange(_) => "the largest duration is 292y".to_owned(),
        }
    }
}

/// Units from the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration such as `15d`, `1h30m` or `0`: whole numbers with units, each unit at most
/// once, the larger first (`common/model`, `ParseDuration`). A year has 365 days.
///
/// # Errors
/// The text is anything else, or more than what 63 bits of nanoseconds hold.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let out_of_range = || DurationError::OutOfRange(text.to_owned());
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, unit, tail) = part(rest).ok_or_else(invalid)?;
        // Going on where the last unit was found keeps the order and refuses a second one.
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let count: u64 = digits.parse().map_err(|_| out_of_range())?;
        total = count
            .checked_mul(*unit_ms)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= i64::MAX as u64 / 1_000_000)
            .ok_or_else(out_of_range)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// A duration as Prometheus prints it: the largest units that make it whole.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, unit_ms) in UNITS {
        // Years and weeks are used only where nothing is left beside them.
        let exact = matches!(unit, "y" | "w");
        if rest >= unit_ms && (!exact || rest % unit_ms == 0) {
            out.push_str(&format!("{}{unit}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    out
}

/// Splits digits, unit and the rest.
fn part(text: &str) -> Option<(&str, &str, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = text.split_at(unit_at);
    let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_len);
    (!digits.is_empty()).then_some((digits, unit, tail))
}

/// What was probably meant: another notation of a valid duration.
fn corrected(text: &str) -> Option<String> {
    let plain = text.trim().to_ascii_lowercase();
    let spelled = [
        ("milliseconds", "ms"),
        ("millisecond", "ms"),
        ("seconds", "s"),
        ("second", "s"),
        ("secs", "s"),
        ("sec", "s"),
        ("minutes", "m"),
        ("minute", "m"),
        ("mins", "m"),
        ("min", "m"),
        ("hours", "h"),
        ("hour", "h"),
        ("days", "d"),
        ("day", "d"),
        ("weeks", "w"),
        ("week", "w"),
        ("years", "y"),
        ("year", "y"),
    ]
    .iter()
    .fold(plain.replace([' ', '_'], ""), |text, (long, short)| text.replace(long, short));
    if spelled.bytes().all(|b| b.is_ascii_digit()) && spelled.len() < 10 && !spelled.is_empty() {
        return Some(format!("{spelled}s"));
    }
    (spelled != text && parse_duration(&spelled).is_ok()).then_some(spelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prometheus_reads() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("324ms", 324),
            ("3s", 3_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("4d1h", 349_200_000),
            ("15d", 1_296_000_000),
            ("3w2d1h", 1_990_800_000),
            ("10y", 315_360_000_000),
            ("292y", 9_208_512_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_advice() {
        for (text, advice) in [
            ("15", "did you mean 15s?"),
            ("15 d", "did you mean 15d?"),
            ("15d ", "did you mean 15d?"),
            ("2 hours", "did you mean 2h?"),
            ("1H", "did you mean 1h?"),
            ("-1d", "whole numbers"),
            ("1.5h", "whole numbers"),
            ("1s1m", "whole numbers"),
            ("1m1m", "whole numbers"),
            ("d", "whole numbers"),
            ("", "whole numbers"),
            ("10000y", "292y"),
            ("99999999999999999999s", "292y"),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.help().contains(advice), "{text}: {}", error.help());
        }
    }

    #[test]
    fn prints_what_prometheus_prints() {
        for (ms, text) in [
            (0, "0s"),
            (15_000, "15s"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (604_800_000, "1w"),
            (691_200_000, "8d"),
            (31_536_000_000, "1y"),
            (1_001, "1s1ms"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }
}
