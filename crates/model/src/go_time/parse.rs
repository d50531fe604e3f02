//! Times read as a layout of Go shows them.

use super::{DAYS, Element, GoTime, MONTHS, OffsetShape, next_element, write_offset};
use crate::calendar::{civil_from_days, days_from_civil, days_in_month};

/// What was read so far.
#[derive(Default)]
pub(crate) struct Parser {
    year: i64,
    month: Option<u32>,
    day: Option<u32>,
    year_day: Option<u32>,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    pm: Option<bool>,
    offset_seconds: Option<i32>,
    zone: Option<String>,
}

/// Why a text is no such time.
pub(crate) enum ParseFault<'t> {
    /// What stands there is not this part of the layout.
    Element { element: &'t str, rest: &'t str },
    /// More follows than the layout has.
    Extra(&'t str),
    /// There is no such day.
    Day,
}

impl Parser {
    pub(crate) fn parse<'t>(
        mut self,
        layout: &'t str,
        text: &'t str,
    ) -> Result<GoTime, ParseFault<'t>> {
        let mut layout = layout;
        let mut text = text;
        loop {
            let (before, element, after) = next_element(layout);
            let shown = &layout[before.len()..layout.len() - after.len()];
            text = skip(text, before).ok_or(ParseFault::Element { element: before, rest: text })?;
            let Some(element) = element else { break };
            let next_is_fraction =
                matches!(next_element(after), ("", Some(Element::Fraction { .. }), _));
            text = self
                .element(element, text, next_is_fraction)
                .ok_or(ParseFault::Element { element: shown, rest: text })?;
            layout = after;
        }
        if !text.is_empty() {
            return Err(ParseFault::Extra(text));
        }
        self.finish().ok_or(ParseFault::Day)
    }

    fn element<'t>(
        &mut self,
        element: Element,
        text: &'t str,
        next_is_fraction: bool,
    ) -> Option<&'t str> {
        match element {
            Element::LongYear => {
                let (value, rest) = digits(text, 4, 4)?;
                self.year = i64::from(value);
                Some(rest)
            }
            Element::Year => {
                let (value, rest) = digits(text, 2, 2)?;
                self.year = i64::from(value) + if value >= 69 { 1900 } else { 2000 };
                Some(rest)
            }
            Element::LongMonth => self.named_month(text, |name| name),
            Element::ShortMonth => self.named_month(text, |name| &name[..3]),
            Element::Month | Element::ZeroMonth => {
                let (value, rest) = one_or_two(text, element == Element::ZeroMonth)?;
                self.month = Some(value);
                (1..=12).contains(&value).then_some(rest)
            }
            Element::LongDay => DAYS.iter().find_map(|name| strip_name(text, name)),
            Element::ShortDay => DAYS.iter().find_map(|name| strip_name(text, &name[..3])),
            Element::Day | Element::UnderDay | Element::ZeroDay => {
                let text = if element == Element::UnderDay {
                    text.strip_prefix(' ').unwrap_or(text)
                } else {
                    text
                };
                let (value, rest) = one_or_two(text, element == Element::ZeroDay)?;
                self.day = Some(value);
                Some(rest)
            }
            Element::UnderYearDay | Element::ZeroYearDay => {
                let spaces = text.len() - text.trim_start_matches(' ').len();
                let (value, rest) = digits(&text[spaces.min(2)..], 1, 3)?;
                self.year_day = Some(value);
                Some(rest)
            }
            Element::Hour => {
                let (value, rest) = one_or_two(text, false)?;
                self.hour = value;
                (value < 24).then_some(rest)
            }
            Element::Hour12 | Element::ZeroHour12 => {
                let (value, rest) = one_or_two(text, element == Element::ZeroHour12)?;
                self.hour = value;
                (value <= 12).then_some(rest)
            }
            Element::Minute | Element::ZeroMinute => {
                let (value, rest) = one_or_two(text, element == Element::ZeroMinute)?;
                self.minute = value;
                (value < 60).then_some(rest)
            }
            Element::Second | Element::ZeroSecond => {
                let (value, rest) = one_or_two(text, element == Element::ZeroSecond)?;
                self.second = value;
                (value < 60).then_some(())?;
                // A fraction may follow, whatever the layout says.
                let follows = rest.strip_prefix(['.', ',']).is_some_and(|fraction| {
                    fraction.as_bytes().first().is_some_and(u8::is_ascii_digit)
                });
                if !follows || next_is_fraction {
                    return Some(rest);
                }
                let len = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                self.fraction(&rest[1..=len]);
                Some(&rest[1 + len..])
            }
            Element::Pm | Element::LowerPm => {
                let upper = element == Element::Pm;
                let names = if upper { ["AM", "PM"] } else { ["am", "pm"] };
                let pm = names.iter().position(|name| text.starts_with(name))?;
                self.pm = Some(pm == 1);
                Some(&text[2..])
            }
            Element::Zone => self.zone(text),
            Element::Offset(shape) => self.offset(text, shape),
            Element::Fraction { digits, trim: false, .. } => {
                let fraction = text.strip_prefix(['.', ','])?;
                let number = fraction.get(..digits)?;
                number.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
                self.fraction(number);
                Some(&fraction[digits..])
            }
            Element::Fraction { .. } => {
                let Some(fraction) = text.strip_prefix(['.', ',']) else { return Some(text) };
                let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
                if len == 0 {
                    return Some(text);
                }
                self.fraction(&fraction[..len]);
                Some(&fraction[len..])
            }
        }
    }

    fn named_month<'t>(
        &mut self,
        text: &'t str,
        shown: impl Fn(&'static str) -> &'static str,
    ) -> Option<&'t str> {
        let (number, rest) = (1..)
            .zip(MONTHS)
            .find_map(|(number, name)| strip_name(text, shown(name)).map(|rest| (number, rest)))?;
        self.month = Some(number);
        Some(rest)
    }

    fn fraction(&mut self, digits: &str) {
        self.nanos = 0;
        let mut place = 100_000_000;
        for byte in digits.bytes().take(9) {
            self.nanos += u32::from(byte - b'0') * place;
            place /= 10;
        }
    }

    fn offset<'t>(&mut self, text: &'t str, shape: OffsetShape) -> Option<&'t str> {
        if shape.z
            && let Some(rest) = text.strip_prefix('Z')
        {
            self.offset_seconds = Some(0);
            return Some(rest);
        }
        let negative = match text.as_bytes().first()? {
            b'+' => false,
            b'-' => true,
            _ => return None,
        };
        let (hours, mut rest) = digits(&text[1..], 2, 2)?;
        let mut total = hours * 3_600;
        (hours <= 24).then_some(())?;
        for (wanted, unit) in [(shape.minutes, 60), (shape.seconds, 1)] {
            if wanted {
                if shape.colon {
                    rest = rest.strip_prefix(':')?;
                }
                let (value, tail) = digits(rest, 2, 2)?;
                (value <= 60).then_some(())?;
                total += value * unit;
                rest = tail;
            }
        }
        let total = i32::try_from(total).ok()?;
        self.offset_seconds = Some(if negative { -total } else { total });
        Some(rest)
    }

    /// `UTC`, another name of three or four letters, or `+03`.
    fn zone<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        if let Some(rest) = text.strip_prefix("UTC") {
            self.offset_seconds = Some(0);
            return Some(rest);
        }
        let len = match text.as_bytes().first()? {
            b'+' | b'-' => 1 + text[1..].bytes().take_while(u8::is_ascii_digit).take(2).count(),
            _ => text.bytes().take_while(u8::is_ascii_uppercase).take(5).count(),
        };
        (len >= 3).then_some(())?;
        self.zone = Some(text[..len].to_owned());
        Some(&text[len..])
    }

    fn finish(mut self) -> Option<GoTime> {
        match self.pm {
            Some(true) if self.hour < 12 => self.hour += 12,
            Some(false) if self.hour == 12 => self.hour = 0,
            _ => {}
        }
        let leap = days_in_month(self.year, 2) == 29;
        if let Some(year_day) = self.year_day {
            (1..=365 + u32::from(leap)).contains(&year_day).then_some(())?;
            let days = days_from_civil(self.year, 1, 1) + i64::from(year_day) - 1;
            let (_, month, day) = civil_from_days(days);
            (self.month.is_none_or(|known| known == month)).then_some(())?;
            (self.day.is_none_or(|known| known == day)).then_some(())?;
            (self.month, self.day) = (Some(month), Some(day));
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        (day >= 1 && day <= days_in_month(self.year, month)).then_some(())?;
        let days = days_from_civil(self.year, month, day);
        let offset_seconds = self.offset_seconds.unwrap_or(0);
        let seconds = days * 86_400 + i64::from(self.hour * 3_600 + self.minute * 60 + self.second)
            - i64::from(offset_seconds);
        let zone = match self.zone {
            Some(zone) => zone,
            None if offset_seconds == 0 => "UTC".to_owned(),
            // Without a name Go shows the offset twice.
            None => {
                let mut shown = String::new();
                let shape = OffsetShape { z: false, colon: false, minutes: true, seconds: false };
                write_offset(&mut shown, offset_seconds, shape);
                shown
            }
        };
        Some(GoTime { seconds, nanos: self.nanos, offset_seconds, zone })
    }
}

/// What follows `literal` in `text`; blanks in `literal` stand for any number of them.
fn skip<'t>(text: &'t str, literal: &str) -> Option<&'t str> {
    let mut text = text;
    let mut literal = literal;
    while !literal.is_empty() {
        if literal.starts_with(' ') {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            literal = literal.trim_start_matches(' ');
            text = text.trim_start_matches(' ');
            continue;
        }
        let c = literal.chars().next()?;
        text = text.strip_prefix(c)?;
        literal = &literal[c.len_utf8()..];
    }
    Some(text)
}

fn strip_name<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let head = text.get(..name.len())?;
    head.eq_ignore_ascii_case(name).then(|| &text[name.len()..])
}

/// A number of `least` to `most` digits.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let len = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (len >= least).then_some(())?;
    Some((text[..len].parse().ok()?, &text[len..]))
}

fn one_or_two(text: &str, fixed: bool) -> Option<(u32, &str)> {
    digits(text, if fixed { 2 } else { 1 }, 2)
}
