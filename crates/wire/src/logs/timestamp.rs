//! Times of lines as other systems write them.

use model::parse_rfc3339_ms;

const NS_PER_SECOND: i128 = 1_000_000_000;

/// Nanoseconds since the epoch of a number or a date:
///
/// - a number, with a fraction or without: seconds below 2^32 or so, then milliseconds, microseconds
///   and nanoseconds, each a thousand times as large;
/// - RFC 3339, to the nanosecond; a blank instead of the `T`, an offset without colon, no seconds and
///   no offset, which is UTC, are let pass, and so is a mere date.
///
/// `None` for all else, and for what is no time between 1677 and 2262.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    let is_date = text.as_bytes().get(4) == Some(&b'-') && text.len() >= "2006-01-02".len();
    if is_date { date(text) } else { number(text) }
}

/// A time since the epoch in a unit that its size tells.
fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 19 || !is_number(whole) || !is_number(fraction) {
        // Such as `1.7e9`, which some JSON writers make of it.
        return exponent(text);
    }
    let whole: i128 = whole.parse().ok()?;
    let unit = unit_ns(whole);
    let mut below = 0_i128;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        below = below * 10 + i128::from(digit - b'0');
    }
    i64::try_from(sign * (whole * unit + below * unit / NS_PER_SECOND)).ok()
}

/// Nanoseconds of the unit in which a number is a time of these centuries. Source: VictoriaMetrics'
/// `timeutil.TryParseUnixTimestamp`.
fn unit_ns(whole: i128) -> i128 {
    let units = [
        (1_000_000_000, 4_294_967_296_i128),
        (1_000_000, 4_294_967_296_000),
        (1_000, 4_294_967_296_000_000),
    ];
    units.into_iter().find(|(_, end)| whole < *end).map_or(1, |(unit, _)| unit)
}

fn exponent(text: &str) -> Option<i64> {
    let is_such =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value: f64 = text.parse().ok().filter(|_| is_such && text.contains(['e', 'E']))?;
    if value.abs() >= 9.2e18 {
        return None;
    }
    let unit = unit_ns(value.abs() as i128) as f64;
    let ns = (value * unit).round();
    (ns.abs() < 9.2e18).then_some(ns as i64)
}

fn date(text: &str) -> Option<i64> {
    let mut whole = String::with_capacity(40);
    let (day, clock) = text.split_at_checked(10)?;
    whole.push_str(day);
    whole.push('T');
    let clock = match clock.as_bytes().first() {
        None => "00:00:00Z",
        Some(b'T' | b't' | b' ') => &clock[1..],
        Some(_) => return None,
    };
    // The offset begins behind the hour and the minute.
    let zone = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (time, zone) = clock.split_at(zone);
    let (time, fraction) = time.split_once(['.', ',']).unwrap_or((time, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    whole.push_str(time);
    if time.len() == "15:04".len() {
        whole.push_str(":00");
    }
    match (zone.len(), zone.is_ascii()) {
        (0, _) => whole.push('Z'),
        (3, true) => {
            whole.push_str(zone);
            whole.push_str(":00");
        }
        (5, true) if !zone.contains(':') => {
            whole.push_str(&zone[..3]);
            whole.push(':');
            whole.push_str(&zone[3..]);
        }
        _ => whole.push_str(zone),
    }
    let ms = parse_rfc3339_ms(&whole)?;
    let mut below_second_ns = 0_i64;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        below_second_ns = below_second_ns * 10 + i64::from(digit - b'0');
    }
    ms.checked_mul(1_000_000)?.checked_add(below_second_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T_NS: i64 = 1_700_000_000_123_456_789;

    #[test]
    fn numbers_tell_their_unit() {
        for (text, wanted) in [
            ("1700000000", 1_700_000_000_000_000_000),
            ("1700000000.5", 1_700_000_000_500_000_000),
            ("1700000000123", 1_700_000_000_123_000_000),
            ("1700000000123.456", 1_700_000_000_123_456_000),
            ("1700000000123456", 1_700_000_000_123_456_000),
            ("1700000000123456789", T_NS),
            ("-1", -1_000_000_000),
            ("1.7e9", 1_700_000_000_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(wanted), "{text}");
        }
        for text in
            ["", "-", ".5", "1x", "99999999999999999999", "9999999999999999999", "1e300", "NaN"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn dates_to_the_nanosecond() {
        for text in [
            "2023-11-14T22:13:20.123456789Z",
            "2023-11-14T22:13:20.1234567891Z",
            "2023-11-14 22:13:20,123456789",
            "2023-11-15T06:13:20.123456789+08:00",
            "2023-11-15T06:13:20.123456789+0800",
            "2023-11-14T19:13:20.123456789-03",
        ] {
            assert_eq!(parse(text), Some(T_NS), "{text}");
        }
        let day_ns = 1_699_920_000_000_000_000;
        assert_eq!(parse("2023-11-14"), Some(day_ns));
        assert_eq!(parse("2023-11-14T00:01Z"), Some(day_ns + 60_000_000_000));
        for text in [
            "2023-13-14",
            "2023-11-14x",
            "2023-11-14T",
            "2023-11-14T25:00:00Z",
            "9999-01-01",
            "2023-1-1é1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([0-9TZ:+.,eé-]|\\PC){0,40}") {
            let _ = parse(&text);
        }
    }
}
