//! Zones of time as files of the IANA's database have them. Source: RFC 9636 (TZif) and POSIX.1-2017,
//! chapter 8.3 (`TZ`).

use crate::calendar::{civil_from_days, days_from_civil, days_in_month};

const DAY_S: i64 = 86_400;

/// Some thirty thousand years.
const FARTHEST_S: i64 = 1_000_000_000_000;

/// What a zone says about one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneOffset<'a> {
    /// The abbreviation, such as `CEST`.
    pub name: &'a str,
    /// To be added to UTC.
    pub seconds: i32,
}

/// The offset that a TZif file gives for `unix_s`; nothing if it is malformed.
pub fn offset_at(file: &[u8], unix_s: i64) -> Option<ZoneOffset<'_>> {
    // Beyond that no calendar is good for anything, and rules would be followed for long.
    let unix_s = unix_s.clamp(-FARTHEST_S, FARTHEST_S);
    let first = Block::parse(file, 4)?;
    if first.version == 0 {
        return first.offset_at(unix_s);
    }
    // From version 2 on, the same data follow with times of 64 bits, and then a rule.
    let block = Block::parse(&file[first.end..], 8)?;
    let rule = file[first.end + block.end..].strip_prefix(b"\n")?;
    let rule = &rule[..rule.iter().position(|&b| b == b'\n')?];
    if block.last_transition().is_none_or(|last| unix_s >= last)
        && let Some(offset) = std::str::from_utf8(rule).ok().and_then(|r| rule_at(r, unix_s))
    {
        return Some(offset);
    }
    block.offset_at(unix_s)
}

/// One of the two data blocks of a TZif file.
struct Block<'a> {
    version: u8,
    time_bytes: usize,
    times: &'a [u8],
    kinds: &'a [u8],
    types: &'a [u8],
    names: &'a [u8],
    /// Length of header and data.
    end: usize,
}

const HEADER_BYTES: usize = 44;
const TYPE_BYTES: usize = 6;

impl<'a> Block<'a> {
    fn parse(file: &'a [u8], time_bytes: usize) -> Option<Self> {
        let header = file.get(..HEADER_BYTES)?;
        if !header.starts_with(b"TZif") {
            return None;
        }
        let count = |at: usize| {
            let bytes = header[20 + 4 * at..24 + 4 * at].try_into().expect("four bytes");
            u32::from_be_bytes(bytes) as usize
        };
        let [is_ut, is_std, leaps, times, types, names] = std::array::from_fn(count);
        let mut rest = &file[HEADER_BYTES..];
        let mut take = |bytes: Option<usize>| {
            let (head, tail) = rest.split_at_checked(bytes?)?;
            rest = tail;
            Some(head)
        };
        let block = Block {
            version: header[4],
            time_bytes,
            times: take(times.checked_mul(time_bytes))?,
            kinds: take(Some(times))?,
            types: take(types.checked_mul(TYPE_BYTES))?,
            names: take(Some(names))?,
            end: 0,
        };
        take(leaps.checked_mul(time_bytes + 4))?;
        take(Some(is_std))?;
        take(Some(is_ut))?;
        Some(Block { end: file.len() - rest.len(), ..block })
    }

    fn transition(&self, at: usize) -> i64 {
        let bytes = &self.times[at * self.time_bytes..(at + 1) * self.time_bytes];
        match *bytes {
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).into(),
            _ => i64::from_be_bytes(bytes.try_into().expect("times have four or eight bytes")),
        }
    }

    fn last_transition(&self) -> Option<i64> {
        self.kinds.len().checked_sub(1).map(|last| self.transition(last))
    }

    fn offset_at(&self, unix_s: i64) -> Option<ZoneOffset<'a>> {
        let (mut low, mut high) = (0, self.kinds.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.transition(middle) <= unix_s {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // Before the first transition type 0 holds.
        let kind = low.checked_sub(1).map_or(0, |last| usize::from(self.kinds[last]));
        let record = self.types.get(kind * TYPE_BYTES..(kind + 1) * TYPE_BYTES)?;
        let name = self.names.get(usize::from(record[5])..)?;
        let name = &name[..name.iter().position(|&b| b == 0)?];
        Some(ZoneOffset {
            name: std::str::from_utf8(name).ok()?,
            seconds: i32::from_be_bytes(record[..4].try_into().expect("four bytes")),
        })
    }
}

/// The offset that a rule such as `CET-1CEST,M3.5.0,M10.5.0/3` gives for `unix_s`.
fn rule_at(rule: &str, unix_s: i64) -> Option<ZoneOffset<'_>> {
    let mut rest = rule;
    let standard_name = take_name(&mut rest)?;
    let standard_s = -take_time(&mut rest)?;
    let standard = ZoneOffset { name: standard_name, seconds: i32::try_from(standard_s).ok()? };
    if rest.is_empty() {
        return Some(standard);
    }
    let summer_name = take_name(&mut rest)?;
    let summer_s = if rest.starts_with(',') { standard_s + 3_600 } else { -take_time(&mut rest)? };
    let summer = ZoneOffset { name: summer_name, seconds: i32::try_from(summer_s).ok()? };
    let (begin, end) = rest.strip_prefix(',')?.split_once(',')?;
    let (year, _, _) = civil_from_days((unix_s + standard_s).div_euclid(DAY_S));
    let begin_s = change_at(begin, year)? - standard_s;
    let end_s = change_at(end, year)? - summer_s;
    let in_summer = if begin_s < end_s {
        (begin_s..end_s).contains(&unix_s)
    } else {
        // In the south, summer spans the turn of the year.
        !(end_s..begin_s).contains(&unix_s)
    };
    Some(if in_summer { summer } else { standard })
}

/// Letters, or anything in angle brackets.
fn take_name<'a>(rest: &mut &'a str) -> Option<&'a str> {
    if let Some(quoted) = rest.strip_prefix('<') {
        let (name, tail) = quoted.split_once('>')?;
        *rest = tail;
        return Some(name);
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    *rest = tail;
    (!name.is_empty()).then_some(name)
}

/// `[+-]hh[:mm[:ss]]` in seconds.
fn take_time(rest: &mut &str) -> Option<i64> {
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '+' | '-')))
        .unwrap_or(rest.len());
    let (text, tail) = rest.split_at(end);
    *rest = tail;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0;
    let mut unit = 3_600;
    for part in digits.split(':').take(3) {
        seconds += i64::from(part.parse::<u16>().ok()?) * unit;
        unit /= 60;
    }
    Some(sign * seconds)
}

/// The local time, in seconds since the epoch as if it were UTC, at which a change such as
/// `M10.5.0/3`, `J60` or `59` happens.
fn change_at(rule: &str, year: i64) -> Option<i64> {
    let (date, mut time) = rule.split_once('/').unwrap_or((rule, "2"));
    let time_s = take_time(&mut time)?;
    let day = if let Some(date) = date.strip_prefix('M') {
        let mut parts = date.split('.').map(|part| part.parse::<i64>().ok());
        let (month, week, weekday) = (parts.next()??, parts.next()??, parts.next()??);
        if !(1..=12).contains(&month) || !(1..=5).contains(&week) || !(0..=6).contains(&weekday) {
            return None;
        }
        let month = u32::try_from(month).ok()?;
        let first = days_from_civil(year, month, 1);
        let next_month = first + i64::from(days_in_month(year, month));
        // 1970-01-01 was a Thursday, which is weekday 4.
        let first_weekday = (first + 4).rem_euclid(7);
        let day = first + (weekday - first_weekday).rem_euclid(7) + (week - 1) * 7;
        if day < next_month { day } else { day - 7 }
    } else if let Some(number) = date.strip_prefix('J') {
        // Counted from 1 without ever counting the 29th of February.
        let number = i64::from(number.parse::<u16>().ok()?);
        let leap = i64::from(number >= 60 && days_in_month(year, 2) == 29);
        days_from_civil(year, 1, 1) + number - 1 + leap
    } else {
        days_from_civil(year, 1, 1) + i64::from(date.parse::<u16>().ok()?)
    };
    Some(day * DAY_S + time_s)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules() {
        let check = |rule: &str, unix_s: i64, name: &str, seconds: i32| {
            assert_eq!(
                rule_at(rule, unix_s),
                Some(ZoneOffset { name, seconds }),
                "{rule} {unix_s}"
            );
        };
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        // 2026-03-29 01:00 UTC and 2026-10-25 01:00 UTC.
        check(berlin, 1_774_745_999, "CET", 3_600);
        check(berlin, 1_774_746_000, "CEST", 7_200);
        check(berlin, 1_792_889_999, "CEST", 7_200);
        check(berlin, 1_792_890_000, "CET", 3_600);
        let sydney = "AEST-10AEDT,M10.1.0,M4.1.0/3";
        check(sydney, 1_767_225_600, "AEDT", 39_600);
        check(sydney, 1_782_864_000, "AEST", 36_000);
        check("CST-8", 0, "CST", 28_800);
        check("<+0330>-3:30", 0, "+0330", 12_600);
        check("EST5EDT,J60/0,J305/0", 1_782_864_000, "EDT", -14_400);
        assert_eq!(rule_at("CET-1CEST,M13.5.0,M10.5.0", 0), None);
        assert_eq!(rule_at("", 0), None);
    }

    /// A file with one offset.
    pub(crate) fn fixed(name: &str, seconds: i32) -> Vec<u8> {
        with_rule(name, seconds, "")
    }

    /// A file with one offset, and with a rule that goes before.
    pub(crate) fn with_rule(name: &str, seconds: i32, rule: &str) -> Vec<u8> {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0, 0, 0, 0, 1, name.len() + 1] {
            block.extend((count as u32).to_be_bytes());
        }
        block.extend(seconds.to_be_bytes());
        block.extend([0, 0]);
        block.extend(name.bytes());
        block.push(0);
        [block.clone(), block, format!("\n{rule}\n").into_bytes()].concat()
    }

    #[test]
    fn a_file_of_the_system() {
        let Ok(file) = std::fs::read("/usr/share/zoneinfo/Europe/Berlin") else { return };
        let at = |unix_s| offset_at(&file, unix_s).map(|offset| (offset.name, offset.seconds));
        assert_eq!(at(1_774_745_999), Some(("CET", 3_600)));
        assert_eq!(at(1_774_746_000), Some(("CEST", 7_200)));
        assert_eq!(at(500_000_000), Some(("CET", 3_600)));
        assert_eq!(at(520_000_000), Some(("CEST", 7_200)));
        for length in 0..file.len() {
            let _ = offset_at(&file[..length], 0);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_zone(tail in proptest::collection::vec(any::<u8>(), 0..200), t in any::<i64>()) {
            let near = t / 10_000_000;
            let mut file = b"TZif2".to_vec();
            file.extend(tail);
            let _ = offset_at(&file, t);
            let _ = rule_at(&String::from_utf8_lossy(&file[5..]), near);
        }
    }
}
