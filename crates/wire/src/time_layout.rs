//! Times by a layout that shows how the reference time of Go is written: `2006-01-02 15:04:05`.
//!
//! Source: <https://pkg.go.dev/time#pkg-constants>. Known are its year, month, day, hour, minute, second,
//! fraction, offset, weekday and half of the day; names of zones are not, as they mean different offsets
//! in different places.

use std::fmt::Write as _;

use model::{parse_rfc3339_ms, rfc3339};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// 1970-01-01 was a Thursday.
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Year,
    YearOfCentury,
    MonthName { letters: usize },
    WeekdayName { letters: usize },
    Month,
    Day,
    Hour,
    HalfDayHour,
    Minute,
    Second,
    Half,
    Offset { has_colon: bool, has_minutes: bool, zero_is_z: bool },
}

/// How a number is filled up to two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    None,
    Blank,
    Zero,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Part, Fill),
    /// The sign before it, how many digits, and whether zeros at its end are left out.
    Fraction(char, usize, bool),
}

/// How the parts of the reference time are written; longer ones before those they begin with.
const PARTS: [(&str, Part, Fill); 26] = {
    const fn offset(has_colon: bool, has_minutes: bool, zero_is_z: bool) -> Part {
        Part::Offset { has_colon, has_minutes, zero_is_z }
    }
    [
        ("January", Part::MonthName { letters: usize::MAX }, Fill::None),
        ("Jan", Part::MonthName { letters: 3 }, Fill::None),
        ("Monday", Part::WeekdayName { letters: usize::MAX }, Fill::None),
        ("Mon", Part::WeekdayName { letters: 3 }, Fill::None),
        ("2006", Part::Year, Fill::None),
        ("-07:00", offset(true, true, false), Fill::None),
        ("-0700", offset(false, true, false), Fill::None),
        ("-07", offset(false, false, false), Fill::None),
        ("Z07:00", offset(true, true, true), Fill::None),
        ("Z0700", offset(false, true, true), Fill::None),
        ("Z07", offset(false, false, true), Fill::None),
        ("01", Part::Month, Fill::Zero),
        ("02", Part::Day, Fill::Zero),
        ("03", Part::HalfDayHour, Fill::Zero),
        ("04", Part::Minute, Fill::Zero),
        ("05", Part::Second, Fill::Zero),
        ("06", Part::YearOfCentury, Fill::Zero),
        ("15", Part::Hour, Fill::Zero),
        ("_2", Part::Day, Fill::Blank),
        ("PM", Part::Half, Fill::None),
        ("pm", Part::Half, Fill::Blank),
        ("1", Part::Month, Fill::None),
        ("2", Part::Day, Fill::None),
        ("3", Part::HalfDayHour, Fill::None),
        ("4", Part::Minute, Fill::None),
        ("5", Part::Second, Fill::None),
    ]
};

/// Parts of Go's layouts that are not known here.
const UNKNOWN: [&str; 6] = ["MST", "002", "-070000", "-07:00:00", "Z070000", "Z07:00:00"];

/// A layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout(Vec<Piece>);

/// What was read so far.
struct Fields {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    ms: i64,
    is_afternoon: Option<bool>,
    offset_minutes: i64,
}

impl Layout {
    /// Reads a layout.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(unknown) = UNKNOWN.iter().find(|unknown| rest.starts_with(**unknown)) {
                return Err(format!("{unknown} in the layout of a time is not known here"));
            }
            if let Some((fraction, len)) = fraction(rest) {
                pieces.push(fraction);
                rest = &rest[len..];
            } else if let Some((text, part, fill)) =
                PARTS.iter().find(|(text, ..)| rest.starts_with(text))
            {
                pieces.push(Piece::Part(*part, *fill));
                rest = &rest[text.len()..];
            } else {
                match pieces.last_mut() {
                    Some(Piece::Text(text)) => text.push(first),
                    _ => pieces.push(Piece::Text(first.to_string())),
                }
                rest = &rest[first.len_utf8()..];
            }
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Part(..))) {
            return Err(format!(
                "{text:?} is no layout of a time; write the time 2006-01-02 15:04:05 as yours are"
            ));
        }
        Ok(Layout(pieces))
    }

    /// Milliseconds since the epoch; without an offset the time is UTC. A fraction of the second may
    /// come whether the layout has one or not, as in Go.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        let mut fields = Fields {
            year: 0,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            ms: 0,
            is_afternoon: None,
            offset_minutes: 0,
        };
        let mut rest = text;
        for (place, piece) in self.0.iter().enumerate() {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Piece::Part(part, fill) => {
                    fields.read(*part, *fill, &mut rest)?;
                    let next = self.0.get(place + 1);
                    if *part == Part::Second && !matches!(next, Some(Piece::Fraction(..))) {
                        fields.read_fraction(&mut rest, '.', 0, true)?;
                    }
                }
                Piece::Fraction(sign, digits, is_cut) => {
                    fields.read_fraction(&mut rest, *sign, *digits, *is_cut)?;
                }
            }
        }
        rest.is_empty().then_some(())?;
        fields.ms_since_epoch()
    }

    /// Appends a time in UTC.
    pub(crate) fn write(&self, out: &mut String, t_ms: i64) {
        let text = rfc3339(t_ms);
        // Years may have more than four digits; everything behind them has its place.
        let (year, rest) = text.split_at(text.len() - "-01-02T15:04:05.000Z".len());
        let number = |at: usize| rest[at..at + 2].parse::<usize>().expect("RFC 3339 is digits");
        let (month, hour) = (number(1), number(7));
        let weekday = WEEKDAYS[t_ms.div_euclid(DAY_MS).rem_euclid(7) as usize];
        let half_day_hour = if hour % 12 == 0 { 12 } else { hour % 12 };
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Fraction(sign, digits, is_cut) => {
                    let fraction = format!("{:0<1$}", &rest[16..19], *digits);
                    let fraction = &fraction[..*digits];
                    let cut = if *is_cut { fraction.trim_end_matches('0') } else { fraction };
                    if !cut.is_empty() {
                        out.push(*sign);
                        out.push_str(cut);
                    }
                }
                Piece::Part(part, fill) => {
                    let value = match part {
                        Part::Year => {
                            out.push_str(year);
                            continue;
                        }
                        Part::MonthName { letters } => {
                            let name = MONTHS[month - 1];
                            out.push_str(&name[..name.len().min(*letters)]);
                            continue;
                        }
                        Part::WeekdayName { letters } => {
                            out.push_str(&weekday[..weekday.len().min(*letters)]);
                            continue;
                        }
                        Part::Half => {
                            let half = if hour < 12 { "AM" } else { "PM" };
                            let is_small = *fill == Fill::Blank;
                            out.push_str(&if is_small { half.to_lowercase() } else { half.into() });
                            continue;
                        }
                        Part::Offset { has_colon, has_minutes, zero_is_z } => {
                            out.push_str(match (zero_is_z, has_minutes, has_colon) {
                                (true, ..) => "Z",
                                (false, false, _) => "+00",
                                (false, true, false) => "+0000",
                                (false, true, true) => "+00:00",
                            });
                            continue;
                        }
                        Part::YearOfCentury => {
                            year[year.len() - 2..].parse().expect("a year ends with digits")
                        }
                        Part::Month => month,
                        Part::Day => number(4),
                        Part::Hour => hour,
                        Part::HalfDayHour => half_day_hour,
                        Part::Minute => number(10),
                        Part::Second => number(13),
                    };
                    let written = match fill {
                        Fill::None => write!(out, "{value}"),
                        Fill::Blank => write!(out, "{value:2}"),
                        Fill::Zero => write!(out, "{value:02}"),
                    };
                    written.expect("a String takes every write");
                }
            }
        }
    }
}

/// A fraction of a second at the beginning of a layout, and how long it is.
fn fraction(layout: &str) -> Option<(Piece, usize)> {
    let mut letters = layout.chars();
    let sign = letters.next().filter(|sign| matches!(sign, '.' | ','))?;
    let digit = letters.next().filter(|digit| matches!(digit, '0' | '9'))?;
    let digits = layout[1..].chars().take_while(|letter| *letter == digit).count();
    let is_end = !layout[1 + digits..].starts_with(|letter: char| letter.is_ascii_digit());
    (is_end && digits <= 9).then_some((Piece::Fraction(sign, digits, digit == '9'), 1 + digits))
}

impl Fields {
    fn read(&mut self, part: Part, fill: Fill, rest: &mut &str) -> Option<()> {
        if fill == Fill::Blank {
            *rest = rest.trim_start_matches(' ');
        }
        let least = if fill == Fill::Zero { 2 } else { 1 };
        match part {
            Part::Year => self.year = number(rest, 4, 4)?,
            Part::YearOfCentury => {
                let year = number(rest, 2, 2)?;
                self.year = if year >= 69 { 1_900 + year } else { 2_000 + year };
            }
            Part::MonthName { letters } => self.month = name(rest, &MONTHS, letters)? as i64 + 1,
            Part::WeekdayName { letters } => {
                name(rest, &WEEKDAYS, letters)?;
            }
            Part::Month => self.month = number(rest, least, 2)?,
            Part::Day => self.day = number(rest, least, 2)?,
            Part::Hour => self.hour = number(rest, least, 2)?,
            Part::HalfDayHour => {
                self.hour = number(rest, least, 2).filter(|hour| (1..=12).contains(hour))?;
                // Without a half of the day it is the first, as in Go.
            }
            Part::Minute => self.minute = number(rest, least, 2)?,
            Part::Second => self.second = number(rest, least, 2)?,
            Part::Half => {
                let half = rest.get(..2)?.to_ascii_uppercase();
                self.is_afternoon = Some(match half.as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                *rest = &rest[2..];
            }
            Part::Offset { has_colon, has_minutes, zero_is_z } => {
                if zero_is_z && rest.starts_with('Z') {
                    *rest = &rest[1..];
                    return Some(());
                }
                let sign = match rest.chars().next()? {
                    '+' => 1,
                    '-' => -1,
                    _ => return None,
                };
                *rest = &rest[1..];
                let mut minutes = number(rest, 2, 2)? * 60;
                if has_minutes {
                    if has_colon {
                        *rest = rest.strip_prefix(':')?;
                    }
                    minutes += number(rest, 2, 2)?;
                }
                self.offset_minutes = sign * minutes;
            }
        }
        Some(())
    }

    /// `digits` as many as are there, but for a fraction that may be cut, and so be missing.
    fn read_fraction(
        &mut self,
        rest: &mut &str,
        sign: char,
        digits: usize,
        is_cut: bool,
    ) -> Option<()> {
        let found = rest
            .strip_prefix(sign)
            .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
        if found == 0 && is_cut {
            return Some(());
        }
        if found == 0 || (!is_cut && found != digits) {
            return None;
        }
        let text = &rest[1..=found];
        self.ms = format!("{:0<3}", &text[..found.min(3)]).parse().ok()?;
        *rest = &rest[1 + found..];
        Some(())
    }

    fn ms_since_epoch(&self) -> Option<i64> {
        let hour = match self.is_afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let offset = self.offset_minutes.abs();
        parse_rfc3339_ms(&format!(
            "{:04}-{:02}-{:02}T{hour:02}:{:02}:{:02}.{:03}{sign}{:02}:{:02}",
            self.year,
            self.month,
            self.day,
            self.minute,
            self.second,
            self.ms,
            offset / 60,
            offset % 60
        ))
    }
}

/// A number of so many digits.
fn number(rest: &mut &str, least: usize, most: usize) -> Option<i64> {
    let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let text = rest.get(..digits).filter(|_| digits >= least)?;
    *rest = &rest[digits..];
    text.parse().ok()
}

/// Which of the names stands here, in whatever case.
fn name(rest: &mut &str, names: &[&str], letters: usize) -> Option<usize> {
    let found = names.iter().position(|name| {
        let name = &name[..name.len().min(letters)];
        rest.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name))
    })?;
    *rest = &rest[names[found].len().min(letters)..];
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28T15:04:05.678Z, a Saturday.
    const T_MS: i64 = 1_795_878_245_678;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (layout, text, cut_ms) in [
            ("2006-01-02T15:04:05.000Z07:00", "2026-11-28T15:04:05.678Z", 1),
            ("2006-01-02 15:04:05.999999 -0700", "2026-11-28 15:04:05.678 +0000", 1),
            ("Mon, 02 Jan 2006 15:04:05 -07:00", "Sat, 28 Nov 2026 15:04:05 +00:00", 1_000),
            (
                "Monday, January _2, 2006 at 3:04:05 PM",
                "Saturday, November 28, 2026 at 3:04:05 PM",
                1_000,
            ),
            ("1/2/06 15:4:5,00", "11/28/26 15:4:5,67", 10),
            ("20060102150405", "20261128150405", 1_000),
            ("2006-01-02", "2026-11-28", DAY_MS),
        ] {
            let parsed = Layout::parse(layout).expect(layout);
            let mut written = String::new();
            parsed.write(&mut written, T_MS);
            assert_eq!(written, text, "{layout}");
            assert_eq!(parsed.read(text), Some(T_MS - T_MS % cut_ms), "{layout}");
        }
    }

    #[test]
    fn offsets_halves_and_faults() {
        let read = |layout: &str, text: &str| Layout::parse(layout).expect(layout).read(text);
        let midnight_ms = T_MS - T_MS % DAY_MS;
        let at = |hour: i64, minute: i64| Some(midnight_ms + (hour * 60 + minute) * 60_000);
        assert_eq!(read("2006-01-02 15:04 -0700", "2026-11-28 10:00 +0130"), at(8, 30));
        assert_eq!(read("2006-01-02 15:04 Z07", "2026-11-28 10:00 -03"), at(13, 0));
        assert_eq!(read("2006-01-02 03pm", "2026-11-28 12am"), at(0, 0));
        assert_eq!(read("2006-01-02 03pm", "2026-11-28 12PM"), at(12, 0));
        assert_eq!(read("2006-01-02 _2", "2026-11-02  28"), at(0, 0), "the last day counts");
        assert_eq!(read("2006-01-02 15:04:05", "2026-11-28 00:00:00.25"), Some(midnight_ms + 250));
        for (layout, text) in [
            ("2006-01-02", "2026-02-30"),
            ("2006-01-02", "2026-11-28 "),
            ("2006-01-02", "2026-1-28"),
            ("2006-01-02 03", "2026-11-28 13"),
            ("05.000", "01.5"),
            ("Jan 2006", "Foo 2026"),
            ("2006é01", "2026"),
            ("PM", "é"),
        ] {
            assert_eq!(read(layout, text), None, "{layout} {text}");
        }
        for layout in ["", "foo", "2006 MST", "2006-002", "15:04:05-07:00:00"] {
            assert!(Layout::parse(layout).is_err(), "{layout}");
        }
    }
}
