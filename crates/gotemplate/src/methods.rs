//! Methods of times and durations.
//!
//! Source: Go's `time` package. Methods that want a place or yield several values are not there.

use std::rc::Rc;

use model::days_from_civil;
use model::go_time::GoTime;

use crate::budget::Budget;
use crate::class::Method;
use crate::signature::Param::{Duration, Int, Text, Time};
use crate::signature::{Param, Signature};
use crate::value::Value;

type Outcome<'d> = Result<Value<'d>, String>;

/// The method of a value, if its type has one of that name.
pub(crate) fn find(value: &Value<'_>, name: &str) -> Option<&'static Method> {
    let table: &'static [Method] = match value {
        Value::Time(_) => &TIME,
        Value::Duration(_) => &DURATION,
        Value::Month(_) | Value::Weekday(_) => &NAMED,
        other => return other.class()?.method(name),
    };
    table.iter().find(|method| method.signature.name == name)
}

const fn method(
    name: &'static str,
    fixed: &'static [Param],
    body: crate::class::MethodBody,
) -> Method {
    Method { signature: Signature::fixed(name, fixed), body }
}

/// The time a method belongs to; other receivers are not looked up here.
fn time_of(value: &Value<'_>) -> Rc<GoTime> {
    match value {
        Value::Time(time) => Rc::clone(time),
        _ => Rc::new(GoTime::zero()),
    }
}

fn duration_of(value: &Value<'_>) -> i64 {
    value.as_integer().unwrap_or(0)
}

fn integer<'d>(value: u32) -> Outcome<'d> {
    Ok(Value::Int(i64::from(value)))
}

fn shown<'d>(budget: &mut Budget, value: &Value<'d>, _: &[Value<'d>]) -> Outcome<'d> {
    let mut out = String::new();
    value.write(&mut out, budget.limits().text_bytes);
    budget.text(out)
}

/// How two moments follow one another.
fn order(left: &Value<'_>, right: &Value<'_>) -> std::cmp::Ordering {
    let (left, right) = (time_of(left), time_of(right));
    (left.seconds, left.nanos).cmp(&(right.seconds, right.nanos))
}

static NAMED: [Method; 1] = [method("String", &[], shown)];

static TIME: [Method; 28] = [
    method("Format", &[Text], |budget, value, args| {
        let mut out = String::new();
        time_of(value).format_into(&mut out, args[0].as_text().unwrap_or_default());
        budget.text(out)
    }),
    method("String", &[], shown),
    method("Unix", &[], |_, value, _| Ok(Value::Int64(time_of(value).seconds))),
    method("UnixMilli", &[], |_, value, _| Ok(Value::Int64(time_of(value).unix_ms()))),
    method("UnixMicro", &[], |_, value, _| {
        let time = time_of(value);
        let micros = time.seconds.wrapping_mul(1_000_000);
        Ok(Value::Int64(micros.wrapping_add(i64::from(time.nanos / 1_000))))
    }),
    method("UnixNano", &[], |_, value, _| Ok(Value::Int64(time_of(value).unix_ns()))),
    method("Year", &[], |_, value, _| Ok(Value::Int(time_of(value).civil().year))),
    method("Month", &[], |_, value, _| Ok(Value::Month(time_of(value).civil().month))),
    method("Weekday", &[], |_, value, _| Ok(Value::Weekday(time_of(value).civil().weekday))),
    method("Day", &[], |_, value, _| integer(time_of(value).civil().day)),
    method("YearDay", &[], |_, value, _| integer(time_of(value).civil().year_day)),
    method("Hour", &[], |_, value, _| integer(time_of(value).civil().hour)),
    method("Minute", &[], |_, value, _| integer(time_of(value).civil().minute)),
    method("Second", &[], |_, value, _| integer(time_of(value).civil().second)),
    method("Nanosecond", &[], |_, value, _| integer(time_of(value).nanos)),
    method("IsZero", &[], |_, value, _| Ok(Value::Bool(time_of(value).is_zero()))),
    method("UTC", &[], |_, value, _| Ok(Value::time(time_of(value).in_utc()))),
    method("Local", &[], |_, value, _| Ok(Value::time(time_of(value).in_utc()))),
    method("Location", &[], |budget, value, _| budget.text(time_of(value).zone.clone())),
    method("Add", &[Duration], |_, value, args| {
        Ok(Value::time(add(&time_of(value), duration_of(&args[0]))))
    }),
    method("Sub", &[Time], |_, value, args| {
        let (left, right) = (time_of(value), time_of(&args[0]));
        let seconds = i128::from(left.seconds) - i128::from(right.seconds);
        let ns = seconds * 1_000_000_000 + i128::from(left.nanos) - i128::from(right.nanos);
        // As in Go, what is too long is as long as can be.
        let most = if ns < 0 { i64::MIN } else { i64::MAX };
        Ok(Value::Duration(i64::try_from(ns).unwrap_or(most)))
    }),
    method("AddDate", &[Int, Int, Int], |_, value, args| {
        let part = |at: usize| args[at].as_integer().unwrap_or(0);
        Ok(Value::time(add_date(&time_of(value), part(0), part(1), part(2))))
    }),
    method("Before", &[Time], |_, value, args| Ok(Value::Bool(order(value, &args[0]).is_lt()))),
    method("After", &[Time], |_, value, args| Ok(Value::Bool(order(value, &args[0]).is_gt()))),
    method("Equal", &[Time], |_, value, args| Ok(Value::Bool(order(value, &args[0]).is_eq()))),
    method("Compare", &[Time], |_, value, args| Ok(Value::Int(order(value, &args[0]) as i64))),
    method("Truncate", &[Duration], |_, value, args| {
        let (time, step) = (time_of(value), duration_of(&args[0]));
        Ok(Value::time(if step > 0 { add(&time, -past(&time, step)) } else { (*time).clone() }))
    }),
    method("Round", &[Duration], |_, value, args| {
        let (time, step) = (time_of(value), duration_of(&args[0]));
        if step <= 0 {
            return Ok(Value::Time(time));
        }
        let past = past(&time, step);
        let by = if past < step - past { -past } else { step - past };
        Ok(Value::time(add(&time, by)))
    }),
];

/// The moment so many nanoseconds later.
fn add(time: &GoTime, ns: i64) -> GoTime {
    let nanos = i64::from(time.nanos) + ns.rem_euclid(1_000_000_000);
    let seconds = ns.div_euclid(1_000_000_000) + nanos / 1_000_000_000;
    GoTime {
        seconds: time.seconds.wrapping_add(seconds),
        nanos: (nanos % 1_000_000_000) as u32,
        ..time.clone()
    }
}

/// Nanoseconds of a time behind the last whole multiple of `step` since year 1.
fn past(time: &GoTime, step: i64) -> i64 {
    let since = i128::from(time.seconds) - i128::from(GoTime::zero().seconds);
    let ns = since * 1_000_000_000 + i128::from(time.nanos);
    // Smaller than the step, which is 64 bits.
    i64::try_from(ns.rem_euclid(i128::from(step))).unwrap_or(0)
}

/// The same time of day so many years, months and days later; days beyond a month's end run on.
fn add_date(time: &GoTime, years: i64, months: i64, days: i64) -> GoTime {
    let civil = time.civil();
    let month = i128::from(civil.year)
        .saturating_add(i128::from(years))
        .saturating_mul(12)
        .saturating_add(i128::from(months))
        .saturating_add(i128::from(civil.month) - 1);
    // Beyond what calendars are good for, nothing is added.
    let Ok(month) = i64::try_from(month.clamp(-1_000_000_000, 1_000_000_000)) else {
        return time.clone();
    };
    let days = days.clamp(-1_000_000_000, 1_000_000_000);
    let first = days_from_civil(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1);
    let before = days_from_civil(civil.year, civil.month, civil.day);
    let after = first + i64::from(civil.day) - 1 + days;
    let seconds = time.seconds.saturating_add((after - before).saturating_mul(86_400));
    GoTime { seconds, ..time.clone() }
}

static DURATION: [Method; 10] = [
    method("String", &[], shown),
    method("Nanoseconds", &[], |_, value, _| Ok(Value::Int64(duration_of(value)))),
    method("Microseconds", &[], |_, value, _| Ok(Value::Int64(duration_of(value) / 1_000))),
    method("Milliseconds", &[], |_, value, _| Ok(Value::Int64(duration_of(value) / 1_000_000))),
    method("Seconds", &[], |_, value, _| Ok(Value::Float(parts(value, 1_000_000_000)))),
    method("Minutes", &[], |_, value, _| Ok(Value::Float(parts(value, 60_000_000_000)))),
    method("Hours", &[], |_, value, _| Ok(Value::Float(parts(value, 3_600_000_000_000)))),
    method("Abs", &[], |_, value, _| {
        Ok(Value::Duration(duration_of(value).checked_abs().unwrap_or(i64::MAX)))
    }),
    method("Truncate", &[Duration], |_, value, args| {
        let (ns, step) = (duration_of(value), duration_of(&args[0]));
        Ok(Value::Duration(if step > 0 { ns - ns % step } else { ns }))
    }),
    method("Round", &[Duration], |_, value, args| {
        let (ns, step) = (duration_of(value), duration_of(&args[0]));
        if step <= 0 {
            return Ok(Value::Duration(ns));
        }
        let rest = ns % step;
        let up = i128::from(rest.abs()) * 2 >= i128::from(step);
        let away = if up { step * rest.signum() } else { 0 };
        Ok(Value::Duration((ns - rest).saturating_add(away)))
    }),
];

/// A duration in units, whole ones and the rest apart as in Go, which rounds so.
fn parts(value: &Value<'_>, unit: i64) -> f64 {
    let ns = duration_of(value);
    (ns / unit) as f64 + (ns % unit) as f64 / unit as f64
}
