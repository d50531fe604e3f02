//! Numbers as Go reads them: floats, durations, sizes; with Go's words for what is none.

use model::quote::quote;

/// Why a text is no number, in the words of Go's `strconv`, `time` and of the `humanize` package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NumberError(pub(crate) String);

/// Reads a float as `strconv.ParseFloat`: decimal or hexadecimal, with `_` only where the base is
/// told, `inf`, `infinity` and `nan` in any case.
///
/// # Errors
/// `text` is no float, or too large for one.
pub fn parse_float(text: &str) -> Result<f64, NumberError> {
    gotemplate::parse_float(text).map_err(NumberError)
}

/// Reads a duration as `time.ParseDuration`: `1h2.5m`, units `ns us µs ms s m h`; in nanoseconds.
///
/// # Errors
/// `text` is no duration, or longer than 292 years.
pub fn parse_duration_ns(text: &str) -> Result<i64, NumberError> {
    let invalid = || NumberError(format!("time: invalid duration {}", quote(text)));
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
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(tail) => digits(tail),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit_name, tail) = after.split_at(unit_len);
        if unit_name.is_empty() {
            return Err(NumberError(format!("time: missing unit in duration {}", quote(text))));
        }
        let unit = unit_ns(unit_name).ok_or_else(|| {
            let (unit, whole) = (quote(unit_name), quote(text));
            NumberError(format!("time: unknown unit {unit} in duration {whole}"))
        })?;
        let mut part =
            if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| invalid())? };
        part = part.checked_mul(unit).filter(|part| *part <= 1 << 63).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            // Digits beyond what a float holds make no nanosecond.
            let digits = &fraction[..fraction.len().min(18)];
            let numerator: u64 = digits.parse().map_err(|_| invalid())?;
            let scale = 10f64.powi(digits.len() as i32);
            part += (numerator as f64 * (unit as f64 / scale)) as u64;
        }
        total = total.checked_add(part).filter(|total| *total <= 1 << 63).ok_or_else(invalid)?;
        rest = tail;
    }
    if negative {
        return Ok((total as i64).wrapping_neg());
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// Nanoseconds in seconds, as `time.Duration.Seconds`.
pub(crate) fn seconds(ns: i64) -> f64 {
    (ns / 1_000_000_000) as f64 + (ns % 1_000_000_000) as f64 / 1e9
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Reads a size as the `humanize` package: `42 MB`, `1.5KiB`, `1,000`; units of 1000 and, with an
/// `i`, of 1024, in any case.
///
/// # Errors
/// The number or the unit is none, or the size is 16 EiB or more.
pub fn parse_bytes(text: &str) -> Result<u64, NumberError> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let without_commas;
    let number = if number.contains(',') {
        without_commas = number.replace(',', "");
        &without_commas
    } else {
        number
    };
    let value = parse_float(number)?;
    let unit = unit.trim();
    let factor = bytes_factor(unit)
        .ok_or_else(|| NumberError(format!("unhandled size name: {}", unit.to_lowercase())))?;
    let too_large = || NumberError(format!("too large: {text}"));
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(too_large);
    }
    let value = value * factor as f64;
    if value >= u64::MAX as f64 {
        return Err(too_large());
    }
    Ok(value as u64)
}

fn bytes_factor(unit: &str) -> Option<u64> {
    let unit = unit.strip_suffix(['b', 'B']).unwrap_or(unit);
    let (letter, base) = match unit.strip_suffix(['i', 'I']) {
        Some(letter) if !letter.is_empty() => (letter, 1_024u64),
        _ => (unit, 1_000),
    };
    let letters = ["", "k", "m", "g", "t", "p", "e"];
    let power = letters.iter().position(|known| known.eq_ignore_ascii_case(letter))?;
    Some(base.pow(u32::try_from(power).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, value) in [
            ("15.0", 15.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1_000.0),
            ("+Inf", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
            ("0x1.8p3", 12.0),
        ] {
            assert_eq!(parse_float(text).expect(text), value, "{text}");
        }
        assert!(parse_float("NaN").expect("a float").is_nan());
        for text in ["", "a", "1_0", " 1", "1 ", "0x12", "+nan", "1e"] {
            assert!(parse_float(text).is_err(), "{text:?}");
        }
        assert_eq!(
            parse_float("not_a_number").expect_err("no float").to_string(),
            "strconv.ParseFloat: parsing \"not_a_number\": invalid syntax"
        );
        assert!(parse_float("1e999").expect_err("too large").0.ends_with("value out of range"));
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ns) in [
            ("0", 0),
            ("1h2m3s", 3_723_000_000_000),
            ("-1.5ms", -1_500_000),
            ("+.5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3µs", 3_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("1.0000000000000000001s", 1_000_000_000),
        ] {
            assert_eq!(parse_duration_ns(text).expect(text), ns, "{text}");
        }
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("3", "time: missing unit in duration \"3\""),
            ("3d", "time: unknown unit \"d\" in duration \"3d\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            (".s", "time: invalid duration \".s\""),
        ] {
            assert_eq!(parse_duration_ns(text).expect_err(text).0, error, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("42", 42),
            ("42MB", 42_000_000),
            ("42 mib", 44_040_192),
            ("1.5KiB", 1_536),
            ("1,005.03 MB", 1_005_030_000),
            ("13 MiB", 13_631_488),
            ("7k", 7_000),
            ("7ki", 7_168),
        ] {
            assert_eq!(parse_bytes(text).expect(text), bytes, "{text}");
        }
        assert_eq!(parse_bytes("2qb").expect_err("no unit").0, "unhandled size name: qb");
        assert_eq!(parse_bytes("16EiB").expect_err("too large").0, "too large: 16EiB");
        assert!(parse_bytes("MB").is_err() && parse_bytes("-1B").is_err());
        assert!(parse_bytes("1i").is_err());
    }
}
