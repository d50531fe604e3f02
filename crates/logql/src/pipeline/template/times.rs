//! Functions on times.

use gotemplate::Value;
use model::go_time::GoTime;

use super::calls::{Calls, text_at};

type Outcome<'d> = Result<Value<'d>, String>;

pub(crate) fn timestamp<'d>(calls: &mut Calls<'_, 'd>, _: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::time(GoTime::from_unix_ns(calls.timestamp_ns)))
}

pub(crate) fn now<'d>(calls: &mut Calls<'_, 'd>, _: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::time(GoTime::from_unix_ns(calls.now_ns)))
}

fn time_at(args: &[Value<'_>], at: usize) -> GoTime {
    match args.get(at) {
        Some(Value::Time(time)) => GoTime::clone(time),
        _ => GoTime::zero(),
    }
}

pub(crate) fn unix_epoch<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(time_at(args, 0).seconds.to_string())
}

pub(crate) fn unix_epoch_millis<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(time_at(args, 0).unix_ms().to_string())
}

pub(crate) fn unix_epoch_nanos<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(time_at(args, 0).unix_ns().to_string())
}

/// `toDate layout text`; what cannot be read is year 1, as in Go.
pub(crate) fn to_date<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let time = GoTime::parse(text_at(args, 0), text_at(args, 1));
    Ok(Value::time(time.unwrap_or_else(GoTime::zero)))
}

/// `toDateInZone layout zone text`; a zone that is not known is UTC, as in Loki.
pub(crate) fn to_date_in_zone<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (layout, text) = (text_at(args, 0), text_at(args, 2));
    let time = match (calls.zones)(text_at(args, 1)) {
        Some(file) => GoTime::parse_in_zone(layout, text, &file),
        None => GoTime::parse(layout, text),
    };
    Ok(Value::time(time.unwrap_or_else(GoTime::zero)))
}

/// `unixToTime text`: days, seconds, milliseconds, microseconds or nanoseconds, by the number of
/// digits.
pub(crate) fn unix_to_time<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 0);
    let number: i64 = text.parse().map_err(|_| {
        let quoted = model::quote::quote(text);
        format!("unable to parse time '{text}': strconv.ParseInt: parsing {quoted}: invalid syntax")
    })?;
    let (per_second, nanos_each) = match text.len() {
        5 => return Ok(Value::time(GoTime::from_unix(number * 86_400, 0))),
        10 => (1, 1_000_000_000),
        13 => (1_000, 1_000_000),
        16 => (1_000_000, 1_000),
        19 => (1_000_000_000, 1),
        _ => {
            return Err(format!("unable to parse time '{text}': timestamp format not recognized"));
        }
    };
    let nanos = number.rem_euclid(per_second) * nanos_each;
    let nanos = if per_second == 1 { 0 } else { nanos as u32 };
    Ok(Value::time(GoTime::from_unix(number.div_euclid(per_second), nanos)))
}

/// `date layout time`: a time or seconds since 1970; of anything else, now.
pub(crate) fn date<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let time = match &args[1] {
        Value::Time(time) => time.in_utc(),
        Value::Int(seconds) | Value::Int64(seconds) => GoTime::from_unix(*seconds, 0),
        _ => GoTime::from_unix_ns(calls.now_ns),
    };
    let mut out = String::new();
    time.format_into(&mut out, text_at(args, 0));
    calls.text(out)
}
