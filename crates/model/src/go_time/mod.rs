//! Times with Go's layouts: `2006-01-02T15:04:05.999Z07:00`, which show how the time is written at
//! which Go's clock began to tick.
//!
//! Source: Go's `time` package, "Layout" and `Time.String`. The only zones known by name are UTC and
//! GMT, others are read from files of the IANA's database.

use std::fmt::Write as _;

use crate::calendar::{civil_from_days, days_from_civil};

mod parse;
mod zoned;

use parse::{ParseFault, Parser};

/// A moment and the zone in which it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoTime {
    /// Seconds since 1970-01-01 in UTC.
    pub seconds: i64,
    /// Nanoseconds of the second, below 10^9.
    pub nanos: u32,
    /// How much later than UTC it is where the time is shown.
    pub offset_seconds: i32,
    /// The name of the zone there.
    pub zone: String,
}

/// Seconds from year 1 to 1970.
const YEAR_ONE: i64 = -62_135_596_800;

pub(crate) const MONTHS: [&str; 12] = [
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

pub(crate) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment as a calendar shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// May be 0 or negative.
    pub year: i64,
    /// From 1.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
    /// Below 24.
    pub hour: u32,
    /// Below 60.
    pub minute: u32,
    /// Below 60.
    pub second: u32,
    /// 0 is Sunday.
    pub weekday: u32,
    /// Day of the year, from 1.
    pub year_day: u32,
}

impl GoTime {
    /// Year 1, which Go yields where a time cannot be read.
    pub fn zero() -> Self {
        GoTime { seconds: YEAR_ONE, nanos: 0, offset_seconds: 0, zone: "UTC".to_owned() }
    }

    /// Whether it is year 1.
    pub fn is_zero(&self) -> bool {
        self.seconds == YEAR_ONE && self.nanos == 0
    }

    /// The moment so many seconds, and nanoseconds below 10^9, after 1970, in UTC.
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        GoTime { seconds, nanos, ..GoTime::zero() }
    }

    /// The moment so many nanoseconds after 1970, in UTC.
    pub fn from_unix_ns(ns: i64) -> Self {
        let nanos = ns.rem_euclid(1_000_000_000);
        Self::from_unix(ns.div_euclid(1_000_000_000), nanos as u32)
    }

    /// Nanoseconds since 1970; wraps for times too far away, as in Go.
    pub fn unix_ns(&self) -> i64 {
        self.seconds.wrapping_mul(1_000_000_000).wrapping_add(i64::from(self.nanos))
    }

    /// Milliseconds since 1970; wraps as well.
    pub fn unix_ms(&self) -> i64 {
        self.seconds.wrapping_mul(1_000).wrapping_add(i64::from(self.nanos / 1_000_000))
    }

    /// The same moment in UTC.
    pub fn in_utc(&self) -> Self {
        Self::from_unix(self.seconds, self.nanos)
    }

    /// The same moment in the zone that a file of the IANA's database tells of; `None` if it is no
    /// such file.
    pub fn in_zone(&self, file: &[u8]) -> Option<Self> {
        let offset = crate::zone::offset_at(file, self.seconds)?;
        let (offset_seconds, zone) = (offset.seconds, offset.name.to_owned());
        Some(GoTime { offset_seconds, zone, ..self.clone() })
    }

    /// The same moment as a calendar shows it where it is shown.
    pub fn civil(&self) -> Civil {
        let local = self.seconds.saturating_add(i64::from(self.offset_seconds));
        let (days, second_of_day) = (local.div_euclid(86_400), local.rem_euclid(86_400) as u32);
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            weekday: (days + 4).rem_euclid(7) as u32,
            year_day: (days - days_from_civil(year, 1, 1)) as u32 + 1,
        }
    }

    /// Appends the time in Go's default form: `2006-01-02 15:04:05.999999999 -0700 MST`.
    pub fn write_default(&self, out: &mut String) {
        self.format_into(out, "2006-01-02 15:04:05.999999999 -0700 MST");
    }

    /// Appends the time as `layout` shows it.
    pub fn format_into(&self, out: &mut String, layout: &str) {
        let civil = self.civil();
        let mut rest = layout;
        while !rest.is_empty() {
            let (before, element, after) = next_element(rest);
            out.push_str(before);
            if let Some(element) = element {
                self.format_element(out, &civil, element);
            }
            rest = after;
        }
    }

    fn format_element(&self, out: &mut String, civil: &Civil, element: Element) {
        let hour12 = (civil.hour + 11) % 12 + 1;
        let written = match element {
            Element::LongMonth => write!(out, "{}", MONTHS[civil.month as usize - 1]),
            Element::ShortMonth => write!(out, "{}", &MONTHS[civil.month as usize - 1][..3]),
            Element::Month => write!(out, "{}", civil.month),
            Element::ZeroMonth => write!(out, "{:02}", civil.month),
            Element::LongDay => write!(out, "{}", DAYS[civil.weekday as usize]),
            Element::ShortDay => write!(out, "{}", &DAYS[civil.weekday as usize][..3]),
            Element::Day => write!(out, "{}", civil.day),
            Element::UnderDay => write!(out, "{:2}", civil.day),
            Element::ZeroDay => write!(out, "{:02}", civil.day),
            Element::UnderYearDay => write!(out, "{:3}", civil.year_day),
            Element::ZeroYearDay => write!(out, "{:03}", civil.year_day),
            Element::Hour => write!(out, "{:02}", civil.hour),
            Element::Hour12 => write!(out, "{hour12}"),
            Element::ZeroHour12 => write!(out, "{hour12:02}"),
            Element::Minute => write!(out, "{}", civil.minute),
            Element::ZeroMinute => write!(out, "{:02}", civil.minute),
            Element::Second => write!(out, "{}", civil.second),
            Element::ZeroSecond => write!(out, "{:02}", civil.second),
            Element::LongYear if civil.year < 0 => write!(out, "-{:04}", -civil.year),
            Element::LongYear => write!(out, "{:04}", civil.year),
            Element::Year => write!(out, "{:02}", civil.year.rem_euclid(100)),
            Element::Pm => write!(out, "{}", if civil.hour >= 12 { "PM" } else { "AM" }),
            Element::LowerPm => write!(out, "{}", if civil.hour >= 12 { "pm" } else { "am" }),
            Element::Zone => write!(out, "{}", self.zone),
            Element::Offset(shape) => {
                write_offset(out, self.offset_seconds, shape);
                Ok(())
            }
            Element::Fraction { digits, trim, mark } => {
                write_fraction(out, self.nanos, digits, trim, mark);
                Ok(())
            }
        };
        written.expect("a string takes everything");
    }

    /// Reads `text` as `layout` shows it; in UTC where it names no zone.
    /// `None` if it is no such time.
    pub fn parse(layout: &str, text: &str) -> Option<Self> {
        Parser::default().parse(layout, text).ok()
    }

    /// The same, with the reason in the words of Go's `time.Parse`.
    ///
    /// # Errors
    /// `text` is no such time.
    pub fn parse_told(layout: &str, text: &str) -> Result<Self, String> {
        use crate::quote::quote;
        Parser::default().parse(layout, text).map_err(|fault| match fault {
            ParseFault::Element { element, rest } => format!(
                "parsing time {} as {}: cannot parse {} as {}",
                quote(text),
                quote(layout),
                quote(rest),
                quote(element)
            ),
            ParseFault::Extra(rest) => {
                format!("parsing time {}: extra text: {}", quote(text), quote(rest))
            }
            ParseFault::Day => format!("parsing time {}: day out of range", quote(text)),
        })
    }
}

/// Whether a layout shows anything of a time.
pub fn is_layout(layout: &str) -> bool {
    next_element(layout).1.is_some()
}

/// Whether a layout has the name of a zone, which means other offsets in other places.
pub fn names_zone(layout: &str) -> bool {
    let mut rest = layout;
    while let (_, Some(element), after) = next_element(rest) {
        if element == Element::Zone {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a layout tells how much later than UTC a time is: by an offset, or by the name of a zone.
fn tells_zone(layout: &str) -> bool {
    let mut rest = layout;
    while let (_, Some(element), after) = next_element(rest) {
        if matches!(element, Element::Zone | Element::Offset(_)) {
            return true;
        }
        rest = after;
    }
    false
}

/// How an offset is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetShape {
    /// `Z` for UTC.
    pub(crate) z: bool,
    pub(crate) colon: bool,
    pub(crate) minutes: bool,
    pub(crate) seconds: bool,
}

/// What a layout shows at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    LongMonth,
    ShortMonth,
    Month,
    ZeroMonth,
    LongDay,
    ShortDay,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    Pm,
    LowerPm,
    Zone,
    Offset(OffsetShape),
    Fraction { digits: usize, trim: bool, mark: u8 },
}

const fn offset(z: bool, colon: bool, minutes: bool, seconds: bool) -> Element {
    Element::Offset(OffsetShape { z, colon, minutes, seconds })
}

/// Elements by how they are written, longer before shorter.
const ELEMENTS: &[(&str, Element)] = &[
    ("January", Element::LongMonth),
    ("Jan", Element::ShortMonth),
    ("Monday", Element::LongDay),
    ("Mon", Element::ShortDay),
    ("MST", Element::Zone),
    ("2006", Element::LongYear),
    ("-07:00:00", offset(false, true, true, true)),
    ("-07:00", offset(false, true, true, false)),
    ("-070000", offset(false, false, true, true)),
    ("-0700", offset(false, false, true, false)),
    ("-07", offset(false, false, false, false)),
    ("Z07:00:00", offset(true, true, true, true)),
    ("Z07:00", offset(true, true, true, false)),
    ("Z070000", offset(true, false, true, true)),
    ("Z0700", offset(true, false, true, false)),
    ("Z07", offset(true, false, false, false)),
    ("__2", Element::UnderYearDay),
    ("_2", Element::UnderDay),
    ("002", Element::ZeroYearDay),
    ("01", Element::ZeroMonth),
    ("02", Element::ZeroDay),
    ("03", Element::ZeroHour12),
    ("04", Element::ZeroMinute),
    ("05", Element::ZeroSecond),
    ("06", Element::Year),
    ("15", Element::Hour),
    ("PM", Element::Pm),
    ("pm", Element::LowerPm),
    ("1", Element::Month),
    ("2", Element::Day),
    ("3", Element::Hour12),
    ("4", Element::Minute),
    ("5", Element::Second),
];

/// The text before the next element, the element, and what follows.
pub(crate) fn next_element(layout: &str) -> (&str, Option<Element>, &str) {
    for at in 0..layout.len() {
        let Some(rest) = layout.get(at..) else { continue };
        // `_2006` is a `_` and a year.
        if let Some(after) = rest.strip_prefix("_2006") {
            return (&layout[..=at], Some(Element::LongYear), after);
        }
        if let Some((element, len)) = fraction_element(layout, at) {
            return (&layout[..at], Some(element), &rest[len..]);
        }
        let found = ELEMENTS.iter().find(|(text, element)| {
            rest.starts_with(text)
                && !(*element == Element::ShortMonth && lower_follows(rest))
                && !(*element == Element::ShortDay && lower_follows(rest))
        });
        if let Some((text, element)) = found {
            return (&layout[..at], Some(*element), &rest[text.len()..]);
        }
    }
    (layout, None, "")
}

/// `Janet` is no month.
fn lower_follows(rest: &str) -> bool {
    rest.as_bytes().get(3).is_some_and(u8::is_ascii_lowercase)
}

/// `.000` or `,999`, of one digit and not followed by another digit.
fn fraction_element(layout: &str, at: usize) -> Option<(Element, usize)> {
    let bytes = layout.as_bytes();
    let mark = bytes[at];
    let digit = *bytes.get(at + 1)?;
    if !matches!(mark, b'.' | b',') || !matches!(digit, b'0' | b'9') {
        return None;
    }
    let digits = bytes[at + 1..].iter().take_while(|byte| **byte == digit).count();
    if bytes.get(at + 1 + digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some((Element::Fraction { digits, trim: digit == b'9', mark }, 1 + digits))
}

pub(crate) fn write_offset(out: &mut String, seconds: i32, shape: OffsetShape) {
    if shape.z && seconds == 0 {
        out.push('Z');
        return;
    }
    out.push(if seconds < 0 { '-' } else { '+' });
    let seconds = seconds.unsigned_abs();
    let colon = if shape.colon { ":" } else { "" };
    let mut written = write!(out, "{:02}", seconds / 3_600);
    if shape.minutes {
        written = written.and(write!(out, "{colon}{:02}", seconds / 60 % 60));
    }
    if shape.seconds {
        written = written.and(write!(out, "{colon}{:02}", seconds % 60));
    }
    written.expect("a string takes everything");
}

fn write_fraction(out: &mut String, nanos: u32, digits: usize, trim: bool, mark: u8) {
    let text = format!("{nanos:09}");
    let mut shown = &text[..digits.min(9)];
    if trim {
        shown = shown.trim_end_matches('0');
        if shown.is_empty() {
            return;
        }
    }
    out.push(char::from(mark));
    out.push_str(shown);
}

/// The name of a month, from 1.
pub fn month_name(month: u32) -> &'static str {
    MONTHS.get((month as usize).wrapping_sub(1)).copied().unwrap_or_default()
}

/// The name of a day, Sunday being 0.
pub fn day_name(day: u32) -> &'static str {
    DAYS.get(day as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formatted(ns: i64, layout: &str) -> String {
        let mut out = String::new();
        GoTime::from_unix_ns(ns).format_into(&mut out, layout);
        out
    }

    #[test]
    fn layouts_are_written_as_go_writes_them() {
        // 2022-08-26T12:54:13.24467257Z, a Friday.
        let ns = 1_661_518_453_244_672_570;
        for (layout, want) in [
            ("2006-01-02T15:04:05.999999999Z07:00", "2022-08-26T12:54:13.24467257Z"),
            ("Mon Jan _2 3:04:05.000 PM 06 -0700 MST", "Fri Aug 26 12:54:13.244 PM 22 +0000 UTC"),
            ("Monday, January 2; 1/2 3pm 4:5", "Friday, August 26; 8/26 12pm 54:13"),
            ("002 __2 _2006 Janet 15h", "238 238 _2022 Janet 12h"),
            ("2006.0001 .00x", "2022.0008 .24x"),
        ] {
            assert_eq!(formatted(ns, layout), want, "{layout}");
        }
        assert!(is_layout("15h") && !is_layout("") && !is_layout("foo"));
        assert!(names_zone("15:04 MST") && !names_zone("15:04 -0700"));
        let mut out = String::new();
        GoTime::from_unix_ns(0).write_default(&mut out);
        assert_eq!(out, "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(formatted(-1, "2006-01-02 15:04:05.9"), "1969-12-31 23:59:59.9");
    }

    #[test]
    fn layouts_are_read_as_go_reads_them() {
        for (layout, text, ns) in [
            ("2006-01-02", "2021-11-02", Some(1_635_811_200_000_000_000)),
            (
                "2006-01-02T15:04:05.999999999Z",
                "2023-03-10T01:32:40.340485723Z",
                Some(1_678_411_960_340_485_723),
            ),
            (
                "2006-01-02T15:04:05Z07:00",
                "2023-03-10T01:32:40.5+01:00",
                Some(1_678_408_360_500_000_000),
            ),
            ("Jan _2 15:04:05 2006", "Mar  1 00:00:00 2023", Some(1_677_628_800_000_000_000)),
            (
                "02/Jan/2006:15:04:05 -0700",
                "10/Oct/2000:13:55:36 -0700",
                Some(971_211_336_000_000_000),
            ),
            ("3:04PM 2006 002", "1:02PM 2024 366", Some(1_735_650_120_000_000_000)),
            ("2006-01-02", "2021-02-29", None),
            ("2006-01-02", "2021-11-02x", None),
            ("15:04", "24:00", None),
        ] {
            let read = GoTime::parse(layout, text).map(|time| time.unix_ns());
            assert_eq!(read, ns, "{text}");
        }
        let time = GoTime::parse("-0700 2006", "+0530 2020").expect("a time");
        let mut out = String::new();
        time.write_default(&mut out);
        assert_eq!(out, "2020-01-01 00:00:00 +0530 +0530");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ns in any::<i64>()) {
            let layout = "Mon 2006-01-02 15:04:05.000000000 -0700";
            let time = GoTime::from_unix_ns(ns);
            let read = GoTime::parse(layout, &formatted(ns, layout)).expect("a time");
            prop_assert_eq!((read.seconds, read.nanos), (time.seconds, time.nanos));
        }

        #[test]
        fn no_layout_makes_it_panic(layout in r"([0-9_.,:Z+ -]|Mon|Jan|PM|MST|\PC){0,20}", text in r"([0-9_.,:Z+ -]|\PC){0,20}") {
            let _ = GoTime::parse(&layout, &text);
            let mut out = String::new();
            GoTime::from_unix(i64::MAX, 0).format_into(&mut out, &layout);
            GoTime::from_unix(i64::MIN, 0).format_into(&mut out, &layout);
        }
    }
}
