//! Times and durations as Loki's parameters have them.
//!
//! Source: `pkg/loghttp/params.go` of Loki.

use model::go_time::GoTime;

/// Nanoseconds of a second.
pub(super) const SECOND_NS: i64 = 1_000_000_000;

/// A time in nanoseconds since the epoch: a number with a point is seconds; one of up to ten digits as well; a longer
/// one is nanoseconds; anything else is RFC 3339. The error has Go's words.
pub(super) fn parse_time_ns(text: &str) -> Result<i64, String> {
    if text.contains('.')
        && let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite())
    {
        // Milliseconds are what a float of today can tell.
        let ns = (seconds.fract() * 1_000.0).round() * 1e6;
        let whole = seconds.trunc();
        if whole.abs() < 9.2e9 {
            return Ok(whole as i64 * SECOND_NS + ns as i64);
        }
    }
    match text.parse::<i64>() {
        Ok(seconds) if text.len() <= 10 => Ok(seconds.saturating_mul(SECOND_NS)),
        Ok(ns) => Ok(ns),
        Err(error) => GoTime::parse("2006-01-02T15:04:05.999999999Z07:00", text)
            .map(|time| time.unix_ns())
            .ok_or_else(|| atoi_error("ParseInt", text, &error)),
    }
}

/// What Go's `strconv` says of a text that is no integer.
pub(super) fn atoi_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let overflows = matches!(error.kind(), PosOverflow | NegOverflow);
    let why = if overflows { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {}: {why}", model::quote::quote(text))
}

/// A duration in nanoseconds: a number is seconds, anything else is written as Prometheus does.
pub(super) fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let quoted = || model::quote::quote(text);
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * 1e9;
        if ns.is_nan() || ns.abs() > i64::MAX as f64 {
            return Err(format!(
                "cannot parse {} to a valid duration. It overflows int64",
                quoted()
            ));
        }
        return Ok(ns as i64);
    }
    parse_prometheus_ns(text)
        .ok_or_else(|| format!("cannot parse {} to a valid duration", quoted()))
}

/// A duration such as `1h30m`, in nanoseconds.
pub(super) fn parse_prometheus_ns(text: &str) -> Option<i64> {
    promql::parse_duration(text).ok().and_then(|ms| ms.checked_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_loki_does() {
        assert_eq!(parse_time_ns("1"), Ok(SECOND_NS));
        assert_eq!(parse_time_ns("1700000000"), Ok(1_700_000_000 * SECOND_NS));
        assert_eq!(parse_time_ns("1700000000000000001"), Ok(1_700_000_000_000_000_001));
        assert_eq!(parse_time_ns("1700000000.25"), Ok(1_700_000_000_250_000_000));
        assert_eq!(parse_time_ns("2023-11-14T22:13:20Z"), Ok(1_700_000_000 * SECOND_NS));
        assert_eq!(
            parse_time_ns("2023-11-14T23:13:20.000000007+01:00"),
            Ok(1_700_000_000_000_000_007)
        );
        for (text, error) in [
            ("x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "99999999999999999999",
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(parse_time_ns(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(parse_duration_ns("15"), Ok(15 * SECOND_NS));
        assert_eq!(parse_duration_ns("0.5"), Ok(SECOND_NS / 2));
        assert_eq!(parse_duration_ns("2000ms"), Ok(2 * SECOND_NS));
        assert_eq!(parse_duration_ns("1h30m"), Ok(5_400 * SECOND_NS));
        assert_eq!(
            parse_duration_ns("5x"),
            Err("cannot parse \"5x\" to a valid duration".to_owned())
        );
    }
}
