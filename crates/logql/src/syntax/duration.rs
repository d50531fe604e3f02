//! Durations: Prometheus' grammar (`1d12h`) and Go's (`1h30.5m`), both into nanoseconds.
//!
//! Sources: `ParseDuration` of `prometheus/common/model/time.go`, whose messages it repeats, and
//! Go's `time.ParseDuration`.

use std::fmt::Write as _;

use model::quote::quote;

use crate::pipeline::parse_duration_ns;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Units of Prometheus' grammar, which must be written in this order.
const PROMETHEUS_UNITS: [(&str, u64); 7] = [
    ("y", 365 * DAY),
    ("w", 7 * DAY),
    ("d", DAY),
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", MILLISECOND),
];

/// Reads a duration in Prometheus' grammar, or else in Go's; the message is that of the former.
pub(crate) fn parse_either(text: &str) -> Result<i64, String> {
    parse_prometheus(text).or_else(|message| parse_duration_ns(text).map_err(|_| message))
}

/// Reads a duration in Prometheus' grammar.
fn parse_prometheus(text: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", quote(text));
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        if length == 0 {
            return Err(invalid());
        }
        let (unit, tail) = rest.split_at(length);
        rest = tail;
        let Some(place) = PROMETHEUS_UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        if place < next_unit {
            return Err(invalid());
        }
        next_unit = place + 1;
        total = value
            .checked_mul(PROMETHEUS_UNITS[place].1)
            .and_then(|part| total.checked_add(part))
            .filter(|&total| i64::try_from(total).is_ok())
            .ok_or("duration out of range")?;
    }
    i64::try_from(total).map_err(|_| "duration out of range".to_owned())
}

/// Writes a duration as Prometheus does (`1d12h`). Parts of a millisecond, which that grammar does
/// not know, and negative durations are written as Go does.
pub(crate) fn format_prometheus(nanoseconds: i64) -> String {
    let Ok(mut rest) = u64::try_from(nanoseconds) else { return format_go(nanoseconds) };
    if !rest.is_multiple_of(MILLISECOND) {
        return format_go(nanoseconds);
    }
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, length) in PROMETHEUS_UNITS {
        // Years and weeks only if nothing is left over: 90d reads better than 12w6d.
        if matches!(unit, "y" | "w") && !rest.is_multiple_of(length) {
            continue;
        }
        let count = rest / length;
        if count > 0 {
            let _ = write!(out, "{count}{unit}");
            rest -= count * length;
        }
    }
    out
}

/// Writes a duration as Go does (`36h0m0s`, `1.5s`, `250ms`).
pub(crate) fn format_go(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < SECOND {
        let (unit, length) = match total {
            0..MICROSECOND => ("ns", 1),
            MICROSECOND..MILLISECOND => ("µs", MICROSECOND),
            _ => ("ms", MILLISECOND),
        };
        return format!("{sign}{}{unit}", decimal(total, length));
    }
    let seconds = decimal(total % MINUTE, SECOND);
    let minutes = total / MINUTE;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with as many decimals as it takes; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_grammars() {
        for (text, nanoseconds) in [
            ("5m", 5 * MINUTE as i64),
            ("1d12h", 36 * HOUR as i64),
            ("1y", 365 * DAY as i64),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("1h0.0m0s", HOUR as i64),
            (".5s", 500_000_000),
            ("-5m", -5 * MINUTE as i64),
            ("1ns", 1),
            ("1.000000000000000000001s", 1_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(parse_either(text), Ok(nanoseconds), "{text}");
        }
        for (text, message) in [
            ("5minutes", "unknown unit \"minutes\" in duration \"5minutes\""),
            ("", "empty duration string"),
            ("5", "not a valid duration string: \"5\""),
            ("1s1h1d", "not a valid duration string: \"1s1h1d\""),
            ("300y", "duration out of range"),
        ] {
            assert_eq!(parse_either(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn writes_as_go_and_prometheus_do() {
        for (nanoseconds, go, prometheus) in [
            (0, "0s", "0s"),
            (1_500, "1.5µs", "1.5µs"),
            (250_000_000, "250ms", "250ms"),
            (1_500_000_000, "1.5s", "1s500ms"),
            (5 * MINUTE as i64, "5m0s", "5m"),
            (-(5 * MINUTE as i64), "-5m0s", "-5m0s"),
            (120 * HOUR as i64, "120h0m0s", "5d"),
            (365 * DAY as i64, "8760h0m0s", "1y"),
            (i64::MIN, "-2562047h47m16.854775808s", "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_go(nanoseconds), go);
            assert_eq!(format_prometheus(nanoseconds), prometheus);
            assert_eq!(parse_either(go), Ok(nanoseconds));
        }
    }
}
