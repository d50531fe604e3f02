//! Zones of time: TZif files (RFC 9636), with the rule at their end for the years after them
//! (POSIX.1-2017, chapter 8.3, `TZ`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::prometheus::Surroundings;

/// Where systems keep the files.
const DIRECTORY: &str = "/usr/share/zoneinfo";

/// Largest file that is read; those of the database are below 4 KiB.
const MAX_FILE_BYTES: usize = 256 << 10;

const DAY: i64 = 86_400;

/// A zone of time. Cheap to clone; two are equal if they have the same name.
#[derive(Clone)]
pub struct TimeZone {
    name: Arc<str>,
    rules: Arc<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    /// When an offset begins, in seconds since 1970, ascending.
    changes: Vec<(i64, i32)>,
    /// The offset before the first change.
    first: i32,
    after: Option<Rule>,
}

/// What holds after the last change of the table.
#[derive(Debug, Clone, Copy)]
struct Rule {
    standard: i32,
    /// Offset, beginning and end of daylight saving time.
    daylight: Option<(i32, Moment, Moment)>,
}

/// When in a year the offset changes, in seconds of local time.
#[derive(Debug, Clone, Copy)]
struct Moment {
    day: Day,
    seconds: i64,
}

#[derive(Debug, Clone, Copy)]
enum Day {
    /// From 1, February 29th never counted.
    Julian(i64),
    /// From 0.
    OfYear(i64),
    /// Month, week (5 is the last) and day of the week.
    Weekday(u32, i64, i64),
}

impl TimeZone {
    /// Coordinated universal time.
    pub fn utc() -> TimeZone {
        TimeZone { name: Arc::from("UTC"), rules: Arc::default() }
    }

    /// The zone of that name, from the files of the system. `None` if there is none. `Local` is
    /// that of this host, as the variable `TZ` or else `/etc/localtime` has it; UTC if neither
    /// says anything.
    pub fn load(name: &str, surroundings: &dyn Surroundings) -> Option<TimeZone> {
        match name {
            "" | "UTC" => Some(TimeZone { name: Arc::from(name), rules: Arc::default() }),
            "Local" => Some(TimeZone { name: Arc::from(name), rules: local_rules(surroundings) }),
            name => TimeZone::named(name, surroundings),
        }
    }

    fn named(name: &str, surroundings: &dyn Surroundings) -> Option<TimeZone> {
        let valid = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if name.len() > 128 || !name.split('/').all(valid) {
            return None;
        }
        let bytes = surroundings.read(&Path::new(DIRECTORY).join(name)).ok()?;
        TimeZone::parse(name, &bytes)
    }

    /// A zone from the bytes of its file. `None` if they are malformed.
    pub fn parse(name: &str, bytes: &[u8]) -> Option<TimeZone> {
        if bytes.len() > MAX_FILE_BYTES {
            return None;
        }
        Some(TimeZone { name: Arc::from(name), rules: Arc::new(read_file(bytes)?) })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much later than UTC it is at a moment, in seconds.
    pub fn offset_s(&self, unix_s: i64) -> i64 {
        let rules = &self.rules;
        let at = rules.changes.partition_point(|(from, _)| *from <= unix_s);
        let offset = match (at, rules.after) {
            (at, Some(rule)) if at == rules.changes.len() => rule.offset(unix_s),
            (0, _) => rules.first,
            (at, _) => rules.changes[at - 1].1,
        };
        i64::from(offset)
    }
}

/// The rules of the zone this host is in.
fn local_rules(surroundings: &dyn Surroundings) -> Arc<Rules> {
    let zone = match surroundings.variable("TZ") {
        Some(name) => TimeZone::named(name.trim_start_matches(':'), surroundings),
        None => {
            let bytes = surroundings.read(Path::new("/etc/localtime")).ok();
            bytes.and_then(|bytes| TimeZone::parse("Local", &bytes))
        }
    };
    zone.unwrap_or_else(TimeZone::utc).rules
}

impl PartialEq for TimeZone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TimeZone {}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Rule {
    fn offset(&self, unix_s: i64) -> i32 {
        let Some((daylight, start, end)) = self.daylight else { return self.standard };
        let (year, _, _) = civil((unix_s + i64::from(self.standard)).div_euclid(DAY));
        let start = start.local_s(year) - i64::from(self.standard);
        let end = end.local_s(year) - i64::from(daylight);
        let is_daylight = if start < end {
            (start..end).contains(&unix_s)
        } else {
            !(end..start).contains(&unix_s)
        };
        if is_daylight { daylight } else { self.standard }
    }
}

impl Moment {
    /// Seconds of local time since 1970.
    fn local_s(&self, year: i64) -> i64 {
        let new_year = days_from_civil(year, 1, 1);
        let day = match self.day {
            Day::Julian(day) => {
                let leap = days_from_civil(year, 3, 1) - new_year == 60;
                new_year + day - 1 + i64::from(leap && day >= 60)
            }
            Day::OfYear(day) => new_year + day,
            Day::Weekday(month, week, weekday) => {
                let first = days_from_civil(year, month, 1);
                // 1970-01-01 was a Thursday.
                let first_weekday = (first + 4).rem_euclid(7);
                let mut day = first + (weekday - first_weekday).rem_euclid(7) + (week - 1) * 7;
                let next_month = match month {
                    12 => days_from_civil(year + 1, 1, 1),
                    month => days_from_civil(year, month + 1, 1),
                };
                while day >= next_month {
                    day -= 7;
                }
                day
            }
        };
        day * DAY + self.seconds
    }
}

/// Takes bytes off the front.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn u32(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    }
}

/// The counts of a block.
struct Header {
    utc: usize,
    standard: usize,
    leaps: usize,
    changes: usize,
    types: usize,
    letters: usize,
}

impl Header {
    fn read(bytes: &mut Bytes<'_>) -> Option<(u8, Header)> {
        let start = bytes.take(20)?;
        if !start.starts_with(b"TZif") {
            return None;
        }
        let mut next = || bytes.u32().filter(|count| *count <= MAX_FILE_BYTES);
        let header = Header {
            utc: next()?,
            standard: next()?,
            leaps: next()?,
            changes: next()?,
            types: next()?,
            letters: next()?,
        };
        Some((start[4], header))
    }

    /// Length of the block whose times have `width` bytes.
    fn len(&self, width: usize) -> usize {
        self.changes * (width + 1)
            + self.types * 6
            + self.letters
            + self.leaps * (width + 4)
            + self.standard
            + self.utc
    }
}

fn read_file(bytes: &[u8]) -> Option<Rules> {
    let mut bytes = Bytes(bytes);
    let (version, header) = Header::read(&mut bytes)?;
    if version == 0 {
        return read_block(&mut bytes, &header, 4);
    }
    // Version 2 and later repeat everything with wider times.
    bytes.take(header.len(4))?;
    let (_, header) = Header::read(&mut bytes)?;
    let mut rules = read_block(&mut bytes, &header, 8)?;
    let footer = bytes.0.strip_prefix(b"\n")?;
    let footer = footer.split(|b| *b == b'\n').next()?;
    if !footer.is_empty() {
        rules.after = Some(read_rule(std::str::from_utf8(footer).ok()?)?);
    }
    Some(rules)
}

fn read_block(bytes: &mut Bytes<'_>, header: &Header, width: usize) -> Option<Rules> {
    let times = bytes.take(header.changes * width)?;
    let indexes = bytes.take(header.changes)?;
    let types = bytes.take(header.types * 6)?;
    bytes.take(header.letters + header.leaps * (width + 4) + header.standard + header.utc)?;
    let offset_of = |index: usize| {
        let entry = types.get(index * 6..index * 6 + 4)?;
        Some(i32::from_be_bytes(entry.try_into().ok()?))
            .filter(|offset| i64::from(*offset).abs() < 2 * DAY)
    };
    let mut changes = Vec::with_capacity(header.changes);
    for (time, index) in times.chunks_exact(width).zip(indexes) {
        let from = match width {
            4 => i64::from(i32::from_be_bytes(time.try_into().ok()?)),
            _ => i64::from_be_bytes(time.try_into().ok()?),
        };
        changes.push((from, offset_of(usize::from(*index))?));
    }
    changes.is_sorted().then_some(Rules { changes, first: offset_of(0)?, after: None })
}

/// Reads `CET-1CEST,M3.5.0,M10.5.0/3`.
fn read_rule(text: &str) -> Option<Rule> {
    let rest = after_name(text)?;
    let (standard, rest) = read_time(rest)?;
    let standard = i32::try_from(-standard).ok()?;
    if rest.is_empty() {
        return Some(Rule { standard, daylight: None });
    }
    let rest = after_name(rest)?;
    let (daylight, rest) = if rest.starts_with(',') {
        (standard + 3_600, rest)
    } else {
        let (offset, rest) = read_time(rest)?;
        (i32::try_from(-offset).ok()?, rest)
    };
    let (start, rest) = read_moment(rest.strip_prefix(',')?)?;
    let (end, rest) = read_moment(rest.strip_prefix(',')?)?;
    rest.is_empty().then_some(Rule { standard, daylight: Some((daylight, start, end)) })
}

/// What follows the name of a zone, which may stand in `<>`.
fn after_name(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('<') {
        return rest.split_once('>').map(|(_, rest)| rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (end > 0).then_some(&text[end..])
}

/// Reads `[+-]hh[:mm[:ss]]`, in seconds.
fn read_time(text: &str) -> Option<(i64, &str)> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, mut rest) = read_number(rest)?;
    let mut seconds = hours * 3_600;
    for unit in [60, 1] {
        let Some(tail) = rest.strip_prefix(':') else { break };
        let (number, tail) = read_number(tail)?;
        seconds += number * unit;
        rest = tail;
    }
    (seconds <= 7 * DAY).then_some((sign * seconds, rest))
}

fn read_number(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number| (0..=1_000).contains(number))?;
    Some((number, &text[end..]))
}

fn read_moment(text: &str) -> Option<(Moment, &str)> {
    let (day, rest) = if let Some(rest) = text.strip_prefix('M') {
        let (month, rest) = read_number(rest)?;
        let (week, rest) = read_number(rest.strip_prefix('.')?)?;
        let (weekday, rest) = read_number(rest.strip_prefix('.')?)?;
        let valid =
            (1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday);
        let day = Day::Weekday(u32::try_from(month).ok()?, week, weekday);
        (valid.then_some(day)?, rest)
    } else if let Some(rest) = text.strip_prefix('J') {
        let (day, rest) = read_number(rest)?;
        ((1..=365).contains(&day).then_some(Day::Julian(day))?, rest)
    } else {
        let (day, rest) = read_number(text)?;
        ((0..=365).contains(&day).then_some(Day::OfYear(day))?, rest)
    };
    let (seconds, rest) = match rest.strip_prefix('/') {
        Some(time) => read_time(time)?,
        None => (7_200, rest),
    };
    Some((Moment { day, seconds }, rest))
}

/// Days since 1970-01-01 of a date. Source: H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", as the next.
pub(super) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year =
        (153 * (i64::from(month) + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of the days since 1970-01-01.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;

    fn file(footer: &str) -> Vec<u8> {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend([0, 0, 0x0e, 0x10, 0, 0]);
        block.extend(b"CET\0");
        let mut all = [block.clone(), block].concat();
        all.extend(format!("\n{footer}\n").bytes());
        all
    }

    #[test]
    fn the_rule_at_the_end_holds() {
        let berlin = TimeZone::parse("x", &file("CET-1CEST,M3.5.0,M10.5.0/3")).expect("a zone");
        for (unix_s, hours) in [
            (1_774_745_999, 1), // 2026-03-29T00:59:59Z
            (1_774_746_000, 2),
            (1_792_889_999, 2), // 2026-10-25T00:59:59Z
            (1_792_890_000, 1),
        ] {
            assert_eq!(berlin.offset_s(unix_s), hours * 3_600, "{unix_s}");
        }
        let sydney = TimeZone::parse("x", &file("AEST-10AEDT,M10.1.0,M4.1.0/3")).expect("a zone");
        assert_eq!(sydney.offset_s(1_767_225_600), 11 * 3_600); // 2026-01-01
        assert_eq!(sydney.offset_s(1_782_864_000), 10 * 3_600); // 2026-07-01
        let fixed = TimeZone::parse("x", &file("<+0545>-5:45")).expect("a zone");
        assert_eq!(fixed.offset_s(0), 5 * 3_600 + 45 * 60);
    }

    struct Host(Option<&'static str>);

    impl Surroundings for Host {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            match path.to_str() {
                Some("/etc/localtime") => Ok(file("CET-1")),
                Some("/usr/share/zoneinfo/Asia/Shanghai") => Ok(file("CST-8")),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }

        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn variable(&self, name: &str) -> Option<String> {
            self.0.filter(|_| name == "TZ").map(str::to_owned)
        }
    }

    #[test]
    fn zones_have_names() {
        let hours = |name, tz| TimeZone::load(name, &Host(tz)).map(|z| z.offset_s(0) / 3_600);
        assert_eq!(hours("Asia/Shanghai", None), Some(8));
        assert_eq!(hours("Local", None), Some(1));
        assert_eq!(hours("Local", Some(":Asia/Shanghai")), Some(8));
        assert_eq!(hours("Local", Some("Nowhere")), Some(0));
        assert_eq!((hours("UTC", None), hours("", None)), (Some(0), Some(0)));
        for name in ["Nowhere", "../../../etc/localtime", "/etc/localtime", "a//b", "Asia"] {
            assert_eq!(hours(name, None), None, "{name}");
        }
    }

    #[test]
    fn dates_go_both_ways() {
        for days in [-719_468, -1, 0, 59, 11_016, 20_787, 1_000_000] {
            let (year, month, day) = civil(days);
            let (month, day) = (month as u32, day as u32);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil(20_787), (2026, 11, 30));
    }

    proptest! {
        #[test]
        fn bad_files_do_no_harm(cut in 0_usize..100, at in 0_usize..100, byte: u8, when: i32) {
            let mut bytes = file("CET-1CEST,M3.5.0,M10.5.0/3");
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Some(zone) = TimeZone::parse("x", &bytes) {
                prop_assert!(zone.offset_s(i64::from(when)).abs() <= 8 * DAY);
            }
        }
    }
}
