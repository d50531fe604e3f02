//! Durations as Go writes and reads them: `1h2m3.5s`.

use std::fmt::Write as _;

/// Appends a duration as Go's `Duration.String` does.
pub fn write_duration(out: &mut String, ns: i64) {
    let magnitude = ns.unsigned_abs();
    if ns < 0 {
        out.push('-');
    }
    if magnitude == 0 {
        out.push_str("0s");
        return;
    }
    if magnitude < 1_000_000_000 {
        let (unit, digits) = match magnitude {
            ..1_000 => ("ns", 0),
            1_000..1_000_000 => ("µs", 3),
            _ => ("ms", 6),
        };
        fraction(out, magnitude, digits);
        out.push_str(unit);
        return;
    }
    let seconds = magnitude / 1_000_000_000;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    if hours > 0 {
        write!(out, "{hours}h").expect("a string takes everything");
    }
    if hours > 0 || minutes > 0 {
        write!(out, "{minutes}m").expect("a string takes everything");
    }
    fraction(out, magnitude % 60_000_000_000, 9);
    out.push('s');
}

/// Appends `value / 10^digits` without zeros at its end.
fn fraction(out: &mut String, value: u64, digits: u32) {
    let power = 10u64.pow(digits);
    write!(out, "{}", value / power).expect("a string takes everything");
    let rest = value % power;
    if rest > 0 {
        let shown = format!("{rest:0width$}", width = digits as usize);
        out.push('.');
        out.push_str(shown.trim_end_matches('0'));
    }
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration in nanoseconds as Go's `time.ParseDuration` reads it.
///
/// # Errors
/// Go's words.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || model::quote::quote(text);
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, tail) = rest.split_at(whole_len);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => tail.split_at(tail.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let Some((_, ns_each)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let unit = model::quote::quote(unit);
            return Err(format!("time: unknown unit {unit} in duration {}", quoted()));
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut sum = whole.checked_mul(*ns_each).ok_or_else(invalid)?;
        let mut place = *ns_each as f64;
        let mut part = 0.0;
        for digit in fraction.bytes() {
            place /= 10.0;
            part += f64::from(digit - b'0') * place;
        }
        sum = sum.checked_add(part as u64).ok_or_else(invalid)?;
        total = total.checked_add(sum).ok_or_else(invalid)?;
        if total > 1 << 63 {
            return Err(invalid());
        }
        rest = tail;
    }
    match (negative, i64::try_from(total)) {
        (true, _) => Ok((total as i64).wrapping_neg()),
        (false, Ok(total)) => Ok(total),
        (false, Err(_)) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ns, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            let mut out = String::new();
            write_duration(&mut out, ns);
            assert_eq!(out, want);
            assert_eq!(parse_duration(want), Ok(ns), "{want}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_in_gos_words() {
        for (text, want) in [
            ("", "time: invalid duration \"\""),
            ("3", "time: missing unit in duration \"3\""),
            ("3x", "time: unknown unit \"x\" in duration \"3x\""),
            (".s", "time: invalid duration \".s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
        ] {
            assert_eq!(parse_duration(text), Err(want.to_owned()), "{text}");
        }
        assert_eq!(parse_duration("-1.5h"), Ok(-5_400_000_000_000));
    }
}
