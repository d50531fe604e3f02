//! Numbers for humans, as Prometheus' and Alertmanager's functions print them.

use std::fmt::Write as _;

use gotemplate::{Value, general, parse_float, write_float};
use model::go_time::GoTime;

/// A number as a float: a text is read, a duration is in seconds.
///
/// # Errors
/// It is none, in the words of Prometheus.
pub(super) fn to_float(value: &Value<'_>) -> Result<f64, String> {
    Ok(match value {
        Value::Float(value) => *value,
        Value::Text(text) => return parse_float(text),
        Value::Int(value) | Value::Int64(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::Duration(ns) => *ns as f64 / 1e9,
        Value::Nil => return Err("can't convert <nil> to float".to_owned()),
        other => return Err(format!("can't convert {} to float", other.type_name())),
    })
}

/// Four digits, as `%.4g` prints them.
fn short(value: f64) -> String {
    general(value, 4)
}

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const LARGE_1024: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

/// The number below `step`, and the prefix of its unit.
fn scaled(mut value: f64, prefixes: [&'static str; 8], step: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < step {
            break;
        }
        prefix = next;
        value /= step;
    }
    (value, prefix)
}

/// The number from 1 on, and the prefix of its unit.
fn scaled_up(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

/// `1.235M`
pub(super) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return short(value);
    }
    let (value, prefix) =
        if value.abs() >= 1.0 { scaled(value, LARGE, 1000.0) } else { scaled_up(value) };
    format!("{}{prefix}", short(value))
}

/// `1.177Mi`
pub(super) fn humanize1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return short(value);
    }
    let (value, prefix) = scaled(value, LARGE_1024, 1024.0);
    format!("{}{prefix}", short(value))
}

/// `1d 1h 0m 0s`, or, below a minute, `1.235s` and `100ms`.
pub(super) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return short(value);
    }
    if value == 0.0 {
        return format!("{}s", short(value));
    }
    if value.abs() < 1.0 {
        let (value, prefix) = scaled_up(value);
        return format!("{}{prefix}s", short(value));
    }
    let (sign, value) = if value < 0.0 { ("-", -value) } else { ("", value) };
    let whole = value as i64;
    let (seconds, minutes, hours) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24);
    let days = whole / 86_400;
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", short(value))
    }
}

/// `12.35%`
pub(super) fn humanize_percentage(value: f64) -> String {
    format!("{}%", short(value * 100.0))
}

/// Seconds since 1970 as a time in UTC, to the millisecond; `None` if they are no number.
///
/// # Errors
/// They are too many, in the words of Prometheus.
pub(super) fn to_time(seconds: f64) -> Result<Option<GoTime>, String> {
    if !seconds.is_finite() {
        return Ok(None);
    }
    let ns = seconds * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        let mut shown = String::new();
        write_float(&mut shown, seconds);
        return Err(format!(
            "{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    }
    let ms = ns as i64 / 1_000_000;
    let nanos = ms.rem_euclid(1_000) * 1_000_000;
    // Below 10^9.
    Ok(Some(GoTime::from_unix(ms.div_euclid(1_000), nanos as u32)))
}

/// `2015-06-23 13:19:44.128 +0000 UTC`
///
/// # Errors
/// There are too many seconds.
pub(super) fn humanize_timestamp(seconds: f64) -> Result<String, String> {
    let mut out = String::new();
    match to_time(seconds)? {
        Some(time) => time.write_default(&mut out),
        None => write!(out, "{}", short(seconds)).expect("a string takes everything"),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_prometheus_prints_them() {
        let cases: &[(f64, &str, &str, &str)] = &[
            (0.0, "0", "0", "0s"),
            (1_234_567.0, "1.235M", "1.177Mi", "14d 6h 56m 7s"),
            (0.12, "120m", "0.12", "120ms"),
            (-1.0, "-1", "-1", "-1s"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN", "NaN"),
            (1e30, "1e+06Y", "8.272e+05Yi", "106751991167300d 15h 30m 7s"),
            (59.999, "60", "60", "60s"),
        ];
        for (value, plain, binary, duration) in cases {
            assert_eq!(humanize(*value), *plain);
            assert_eq!(humanize1024(*value), *binary);
            assert_eq!(humanize_duration(*value), *duration);
        }
        assert_eq!(humanize_percentage(0.123_456_7), "12.35%");
        let time = humanize_timestamp(1_435_065_584.128);
        assert_eq!(time.as_deref(), Ok("2015-06-23 13:19:44.128 +0000 UTC"));
        assert!(humanize_timestamp(1e11).is_err());
        assert_eq!(humanize_timestamp(f64::NAN).as_deref(), Ok("NaN"));
    }
}
