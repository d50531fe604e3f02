//! Ranges of which a time interval is made: texts such as `monday:friday` or `-7:-1`.

use serde::{Deserialize, Serialize};

/// Two ends, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub begin: i64,
    /// The last.
    pub end: i64,
}

impl Range {
    pub(super) fn contains(self, value: i64) -> bool {
        (self.begin..=self.end).contains(&value)
    }
}

/// Minutes of a day, from 0 to 1440; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first minute.
    pub start_minute: i64,
    /// The minute behind the last.
    pub end_minute: i64,
}

/// From Sunday.
const WEEKDAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// From January, which is 1.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Two ends of a text, or one that is both.
fn ends(text: &str, end: impl Fn(&str) -> Result<i64, String>) -> Result<Range, String> {
    let text = text.to_lowercase();
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    match (parts.next(), parts.next()) {
        (None, _) => end(first).map(|both| Range { begin: both, end: both }),
        (Some(last), None) => Ok(Range { begin: end(first)?, end: end(last)? }),
        _ => Err(format!("couldn't parse range {text}, invalid format")),
    }
}

/// A number in Go's notation.
fn number(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

/// Days of the week, 0 being Sunday.
pub(super) fn weekdays(text: &str) -> Result<Range, String> {
    let range = ends(text, |day| {
        let found = WEEKDAYS.iter().position(|name| *name == day);
        found.map(|at| at as i64).ok_or_else(|| format!("{day} is not a valid weekday"))
    })?;
    if range.begin > range.end {
        return Err("start day cannot be before end day".to_owned());
    }
    Ok(range)
}

/// Days of a month, from 1; negative ones count from its end.
pub(super) fn days_of_month(text: &str) -> Result<Range, String> {
    let range = ends(text, number)?;
    for day in [range.begin, range.end] {
        if day == 0 || !(-31..=31).contains(&day) {
            return Err(format!("{day} is not a valid day of the month: out of range"));
        }
    }
    if range.begin < 0 && range.end > 0 {
        return Err("end day must be negative if start day is negative".to_owned());
    }
    // No month has fewer days.
    let at_least = |day: i64| if day < 0 { 28 + day } else { day };
    if at_least(range.begin) > at_least(range.end) {
        let Range { begin, end } = range;
        return Err(format!("end day {end} is always before start day {begin}"));
    }
    Ok(range)
}

/// Months by name or number, from 1.
pub(super) fn months(text: &str) -> Result<Range, String> {
    let range = ends(text, |month| {
        let named = MONTHS.iter().position(|name| *name == month).map(|at| at as i64 + 1);
        let numbered = || number(month).ok().filter(|month| (1..=12).contains(month));
        named.or_else(numbered).ok_or_else(|| format!("{month} is not a valid month"))
    })?;
    if range.begin > range.end {
        let name = |month: i64| MONTHS[month as usize - 1];
        let (begin, end) = (name(range.begin), name(range.end));
        return Err(format!("end month {end} is before start month {begin}"));
    }
    Ok(range)
}

/// Years.
pub(super) fn years(text: &str) -> Result<Range, String> {
    let range = ends(text, number)?;
    if range.begin > range.end {
        let Range { begin, end } = range;
        return Err(format!("end year {end} is before start year {begin}"));
    }
    Ok(range)
}

/// Times of a day.
pub(super) fn times(start: &str, end: &str) -> Result<TimeRange, String> {
    if start.is_empty() || end.is_empty() {
        return Err("both start and end times must be provided".to_owned());
    }
    let (start_minute, end_minute) = (minute(start)?, minute(end)?);
    if start_minute >= end_minute {
        return Err("start time cannot be equal or greater than end time".to_owned());
    }
    Ok(TimeRange { start_minute, end_minute })
}

/// Reads `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Result<i64, String> {
    let invalid = || format!("couldn't parse timestamp {text}, invalid format");
    let digit = |at: usize| {
        text.as_bytes().get(at).filter(|b| b.is_ascii_digit()).map(|b| i64::from(b - b'0'))
    };
    if text.len() != 5 || text.as_bytes()[2] != b':' {
        return Err(invalid());
    }
    let pair = |at| Some(digit(at)? * 10 + digit(at + 1)?);
    match (pair(0), pair(3)) {
        (Some(24), Some(0)) => Ok(1_440),
        (Some(hours @ 0..24), Some(minutes @ 0..60)) => Ok(hours * 60 + minutes),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let range = |begin, end| Ok(Range { begin, end });
        assert_eq!(weekdays("Monday:friday"), range(1, 5));
        assert_eq!(weekdays("sunday"), range(0, 0));
        assert_eq!(days_of_month("-7:-1"), range(-7, -1));
        assert_eq!(days_of_month("1:-1"), range(1, -1));
        assert_eq!(months("March:12"), range(3, 12));
        assert_eq!(years("2020:2025"), range(2020, 2025));
        assert_eq!(times("09:35", "24:00"), Ok(TimeRange { start_minute: 575, end_minute: 1_440 }));
    }

    #[test]
    fn bad_ones_are_told() {
        for (got, want) in [
            (weekdays("1:3"), "1 is not a valid weekday"),
            (weekdays("friday:monday"), "start day cannot be before end day"),
            (weekdays("a:b:c"), "couldn't parse range a:b:c, invalid format"),
            (days_of_month("0"), "0 is not a valid day of the month: out of range"),
            (days_of_month("-50:-20"), "-50 is not a valid day of the month: out of range"),
            (days_of_month("-1:1"), "end day must be negative if start day is negative"),
            (days_of_month("20:-20"), "end day -20 is always before start day 20"),
            (months("march:junius"), "junius is not a valid month"),
            (months("13"), "13 is not a valid month"),
            (months("may:april"), "end month april is before start month may"),
            (years("2022:2020"), "end year 2020 is before start year 2022"),
            (years("x"), "strconv.Atoi: parsing \"x\": invalid syntax"),
        ] {
            assert_eq!(got.expect_err(want), want);
        }
        for (start, end) in
            [("9:00", "10:00"), ("24:01", "24:00"), ("10:00", "09:00"), ("é:00", "")]
        {
            assert!(times(start, end).is_err(), "{start} {end}");
        }
    }
}
