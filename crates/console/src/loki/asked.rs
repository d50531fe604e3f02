//! Parameters of Loki's requests, their defaults and their faults.
//!
//! Source: `pkg/loghttp/params.go` and `pkg/loghttp/query.go` of Loki.

use super::refusal::Refusal;
use super::time::{SECOND_NS, atoi_error, parse_duration_ns, parse_prometheus_ns, parse_time_ns};
use crate::params::Params;

/// Lines that are yielded if nobody says how many.
const DEFAULT_LIMIT: usize = 100;
/// How far back a request reaches that does not say so.
const DEFAULT_SINCE_NS: i64 = 3_600 * SECOND_NS;
/// Points per series beyond which a query is refused.
const MAX_POINTS: i64 = 11_000;

/// Loki's words.
pub(super) const END_BEFORE_START: &str = "end timestamp must not be before or equal to start time";
const NO_STEP: &str =
    "zero or negative query resolution step widths are not accepted. Try a positive integer";
const TOO_MANY_POINTS: &str = "exceeded maximum resolution of 11,000 points per time series. Try increasing the \
                               value of the step parameter";

/// A range of time, nanoseconds since the epoch; the end is the first time behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
}

impl Bounds {
    /// `start`, `end` and `since`.
    pub(super) fn of(params: &Params, now_ns: i64) -> Result<Bounds, Refusal> {
        let fault = |name: &str, why: String| {
            Refusal::bad(format!("could not parse '{name}' parameter: {why}"))
        };
        let since_ns = match params.get("since") {
            None => DEFAULT_SINCE_NS,
            Some(text) => parse_prometheus_ns(text).ok_or_else(|| {
                fault(
                    "since",
                    format!("not a valid duration string: {}", model::quote::quote(text)),
                )
            })?,
        };
        let end_ns = match params.get("end") {
            None => now_ns,
            Some(text) => parse_time_ns(text).map_err(|why| fault("end", why))?,
        };
        let start_ns = match params.get("start") {
            None => end_ns.min(now_ns).saturating_sub(since_ns),
            Some(text) => parse_time_ns(text).map_err(|why| fault("start", why))?,
        };
        Ok(Bounds { start_ns, end_ns })
    }

    /// As [`Bounds::of`], in their order.
    pub(super) fn ordered(params: &Params, now_ns: i64) -> Result<Bounds, Refusal> {
        let bounds = Bounds::of(params, now_ns)?;
        if bounds.end_ns < bounds.start_ns {
            return Err(Refusal::bad(END_BEFORE_START));
        }
        Ok(bounds)
    }

    /// The range for lines: one time is a range of a nanosecond.
    pub(super) fn of_lines(self) -> Bounds {
        let Bounds { start_ns, end_ns } = self;
        Bounds { start_ns, end_ns: end_ns.max(start_ns.saturating_add(1)) }
    }
}

/// Which end of a range lines are taken from, if there are too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    #[default]
    Backward,
}

impl Direction {
    pub(super) fn of(params: &Params) -> Result<Direction, Refusal> {
        let Some(text) = params.get("direction") else { return Ok(Direction::Backward) };
        if text.eq_ignore_ascii_case("forward") {
            Ok(Direction::Forward)
        } else if text.eq_ignore_ascii_case("backward") {
            Ok(Direction::Backward)
        } else {
            Err(Refusal::bad(format!("invalid direction '{text}'")))
        }
    }
}

/// `limit`, which is positive.
pub(super) fn limit(params: &Params) -> Result<usize, Refusal> {
    limit_or(params, "limit", DEFAULT_LIMIT)
}

/// A number that is positive.
pub(super) fn limit_or(params: &Params, name: &str, default: usize) -> Result<usize, Refusal> {
    let limit = integer(params, name, i64::try_from(default).unwrap_or(i64::MAX))?;
    usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .ok_or_else(|| Refusal::bad(format!("{name} must be a positive value")))
}

/// A number.
pub(super) fn integer(params: &Params, name: &str, default: i64) -> Result<i64, Refusal> {
    let Some(text) = params.get(name) else { return Ok(default) };
    text.parse::<i64>().map_err(|error| Refusal::bad(atoi_error("Atoi", text, &error)))
}

/// `step` in nanoseconds, or what Loki takes instead.
pub(super) fn step_ns(params: &Params, bounds: Bounds) -> Result<i64, Refusal> {
    let length_ns = bounds.end_ns.saturating_sub(bounds.start_ns);
    let step_ns = match params.get("step") {
        None => (length_ns / SECOND_NS / 250).max(1) * SECOND_NS,
        Some(text) => parse_duration_ns(text).map_err(Refusal::bad)?,
    };
    if step_ns <= 0 {
        return Err(Refusal::bad(NO_STEP));
    }
    if length_ns / step_ns > MAX_POINTS {
        return Err(Refusal::bad(TOO_MANY_POINTS));
    }
    Ok(step_ns)
}

/// What `query_range` is asked besides the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RangeAsked {
    pub(super) bounds: Bounds,
    pub(super) limit: usize,
    pub(super) direction: Direction,
    pub(super) step_ns: i64,
    /// The least time between two lines; 0 for all.
    pub(super) interval_ns: i64,
}

impl RangeAsked {
    /// Faults are looked for in Loki's order, so that a request with two is told of the same one.
    pub(super) fn of(params: &Params, now_ns: i64) -> Result<RangeAsked, Refusal> {
        let bounds = Bounds::ordered(params, now_ns)?;
        let limit = limit(params)?;
        let direction = Direction::of(params)?;
        let step_ns = step_ns(params, bounds)?;
        let interval_ns = match params.get("interval") {
            None => 0,
            Some(text) => parse_duration_ns(text).map_err(Refusal::bad)?,
        };
        if interval_ns < 0 {
            return Err(Refusal::bad("interval must be >= 0"));
        }
        Ok(RangeAsked { bounds, limit, direction, step_ns, interval_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_700_000_000 * SECOND_NS;

    fn asked(pairs: &[(&str, &str)]) -> Result<RangeAsked, String> {
        RangeAsked::of(&Params::of_pairs(pairs), NOW_NS).map_err(|refusal| refusal.text)
    }

    #[test]
    fn what_is_not_said_is_what_loki_takes() {
        let hour_ago_ns = NOW_NS - DEFAULT_SINCE_NS;
        let expected = RangeAsked {
            bounds: Bounds { start_ns: hour_ago_ns, end_ns: NOW_NS },
            limit: 100,
            direction: Direction::Backward,
            step_ns: 14 * SECOND_NS,
            interval_ns: 0,
        };
        assert_eq!(asked(&[]), Ok(expected));
        // An end in the future does not move the start.
        let future = asked(&[("end", "1700009000"), ("since", "30m")]).expect("sound");
        assert_eq!(future.bounds.start_ns, NOW_NS - DEFAULT_SINCE_NS / 2);
    }

    #[test]
    fn faults_have_lokis_words() {
        for (pairs, text) in [
            (&[("start", "9"), ("end", "8")][..], END_BEFORE_START),
            (
                &[("start", "x")],
                "could not parse 'start' parameter: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                &[("since", "x")],
                "could not parse 'since' parameter: not a valid duration string: \"x\"",
            ),
            (&[("limit", "0")], "limit must be a positive value"),
            (&[("limit", "a")], "strconv.Atoi: parsing \"a\": invalid syntax"),
            (&[("direction", "up")], "invalid direction 'up'"),
            (&[("step", "0")], NO_STEP),
            (&[("step", "100ms")], TOO_MANY_POINTS),
            (&[("interval", "-1")], "interval must be >= 0"),
        ] {
            assert_eq!(asked(pairs), Err(text.to_owned()), "{pairs:?}");
        }
    }
}
