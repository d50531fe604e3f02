//! Intervals of time.

use serde_json::Value;
use settings::alertmanager::{
    Range, TimeInterval, TimeRange, TimeZone, parse_time_intervals, parse_time_range,
};

use super::{FILE, OneFile, says, text_of};

pub(super) fn check(case: &Value) -> Result<(), String> {
    if case["timeInterval"].is_object() {
        let interval = interval_of(&case["timeInterval"])?;
        return check_moments(case, &[interval], "validTimeStrings", "invalidTimeStrings");
    }
    if case["timeString"].is_string() {
        let parsed = parse_time_range(FILE, text_of(case, "timeString").as_bytes());
        return match (parsed, case["expectError"].as_bool() == Some(true)) {
            (Err(_), true) => Ok(()),
            (Ok(range), true) => Err(format!("must be refused, but is {range:?}")),
            (Err(faults), false) => Err(format!("must be accepted, but: {faults}")),
            (Ok(range), false) => {
                let wanted = &case["TimeRange"];
                let minute = |key: &str| wanted[key].as_i64().unwrap_or(0);
                let wanted = (minute("StartMinute"), minute("EndMinute"));
                let got = (range.start_minute, range.end_minute);
                if got == wanted { Ok(()) } else { Err(format!("want {wanted:?}, got {got:?}")) }
            }
        };
    }
    let parsed = parse_time_intervals(FILE, text_of(case, "in").as_bytes(), &OneFile(""));
    match (parsed, case["expectError"].as_bool() == Some(true)) {
        (Err(faults), true) => says(&faults.to_string(), text_of(case, "err")),
        (Ok(intervals), true) => Err(format!("must be refused, but is {intervals:?}")),
        (Err(faults), false) => Err(format!("must be accepted, but: {faults}")),
        (Ok(intervals), false) => check_moments(case, &intervals, "contains", "excludes"),
    }
}

fn check_moments(
    case: &Value,
    intervals: &[TimeInterval],
    inside: &str,
    outside: &str,
) -> Result<(), String> {
    for (key, wanted) in [(inside, true), (outside, false)] {
        let moments = case[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        for text in moments {
            let unix_s = moment(text).ok_or_else(|| format!("no time: {text}"))?;
            let ns = unix_s * 1_000_000_000;
            let got = intervals.iter().any(|interval| interval.contains(ns));
            if got != wanted {
                return Err(format!("{text} is inside: want {wanted}, got {got}"));
            }
        }
    }
    Ok(())
}

/// Seconds since 1970 of `02 Jan 06 15:04 -0700`.
fn moment(text: &str) -> Option<i64> {
    let mut parts = text.split(' ');
    let day: u32 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(month).filter(|at| at % 3 == 0)? / 3 + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let year = if year < 69 { 2_000 + year } else { 1_900 + year };
    let (hour, minute) = parts.next()?.split_once(':')?;
    let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
    let zone = parts.next()?;
    let (sign, digits) = zone.split_at(1);
    let digits: i64 = digits.parse().ok()?;
    let offset = (digits / 100 * 60 + digits % 100) * if sign == "-" { -60 } else { 60 };
    let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z");
    Some(model::parse_rfc3339_ms(&date)? / 1_000 - offset)
}

/// An interval as the tests' source writes it in Go.
fn interval_of(value: &Value) -> Result<TimeInterval, String> {
    let number = |range: &Value, key: &str| range[key].as_i64().unwrap_or(0);
    let flat = |key: &str| {
        let all = value[key].as_array()?.iter();
        // Go's embedded struct is a list of one in the table.
        Some(all.map(|item| if item.is_array() { &item[0] } else { item }).collect::<Vec<_>>())
    };
    let ranges = |key: &str| {
        let range = |r: &&Value| Range { begin: number(r, "Begin"), end: number(r, "End") };
        flat(key).map(|all| all.iter().map(range).collect())
    };
    let times = |all: Vec<&Value>| {
        let range = |r: &&Value| TimeRange {
            start_minute: number(r, "StartMinute"),
            end_minute: number(r, "EndMinute"),
        };
        all.iter().map(range).collect()
    };
    let name = value["Location"].as_array().map_or(&value["Location"], |all| &all[0]).as_str();
    let location = match name {
        Some(name) => {
            Some(TimeZone::load(name, &OneFile("")).ok_or_else(|| format!("no zone {name}"))?)
        }
        None => None,
    };
    Ok(TimeInterval {
        times: flat("Times").map(times),
        weekdays: ranges("Weekdays"),
        days_of_month: ranges("DaysOfMonth"),
        months: ranges("Months"),
        years: ranges("Years"),
        location,
    })
}
