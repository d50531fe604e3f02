//! Values of numbers and durations.

use super::Parser;
use crate::ast::NumberLiteral;
use crate::lexer::TokenKind;
use crate::parse_error::{DurationError, ParseError};
use crate::quote::quote;

impl Parser<'_> {
    /// A number, or a duration as its seconds; the next token is one of the two.
    pub(super) fn number_or_duration(&mut self) -> Result<NumberLiteral, ParseError> {
        let token = self.next()?;
        let text = self.text_of(token.span);
        let is_duration = token.kind == TokenKind::Duration;
        let value = if is_duration {
            parse_duration(text).map(|ms| ms as f64 / 1_000.0).map_err(|error| error.0)
        } else {
            parse_number(text)
        };
        match value {
            Ok(value) => Ok(NumberLiteral { value, is_duration, span: token.span }),
            Err(message) => Err(self.error(token.span, message)),
        }
    }
}

/// The value of a number as the lexer lets it through: Go's `ParseInt` with base 0, and
/// `ParseFloat` for the rest. So `0755` is octal, and `0899`, which is not, is decimal.
fn parse_number(text: &str) -> Result<f64, String> {
    if let Some(value) = parse_integer(text) {
        return Ok(value as f64);
    }
    let hexadecimal = text.len() > 1 && (text.as_bytes()[1] | 0x20) == b'x';
    // Between digits underscores mean nothing; the lexer lets one at the end through.
    let is_decimal = !hexadecimal && !text.ends_with('_');
    let value = if is_decimal { text.replace('_', "").parse::<f64>().ok() } else { None };
    // `Inf` is a number; digits that yield infinity are too many.
    let reason = match value {
        Some(value) if value.is_finite() || text.as_bytes()[0].is_ascii_alphabetic() => {
            return Ok(value);
        }
        Some(_) => "value out of range",
        None => "invalid syntax",
    };
    Err(format!("error parsing number: strconv.ParseFloat: parsing {}: {reason}", quote(text)))
}

fn parse_integer(text: &str) -> Option<i64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.contains("__") || digits.ends_with('_') {
        return None;
    }
    i64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// Units of durations from large to small, in milliseconds.
pub(crate) const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration as Prometheus writes it and returns milliseconds: `1h30m`, `5m`, `10ms`, or
/// `0` without a unit. Units stand from large to small and each at most once; a year has 365
/// days.
///
/// # Errors
/// The text is no duration, or longer than 292 years.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    duration_ms(text).map_err(DurationError)
}

fn duration_ms(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let mut total: i64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, behind) = split_after(rest, |c| c.is_ascii_digit());
        let (name, behind) = split_after(behind, |c| !c.is_ascii_digit());
        if number.is_empty() || name.is_empty() {
            return Err(invalid());
        }
        if !UNITS.iter().any(|(unit, _)| *unit == name) {
            return Err(format!("unknown unit {} in duration {}", quote(name), quote(text)));
        }
        // Taking units from the iterator makes sure that none comes twice or too late.
        let (_, unit_ms) = units.find(|(unit, _)| *unit == name).ok_or_else(invalid)?;
        total = number
            .parse::<i64>()
            .ok()
            .and_then(|number| number.checked_mul(*unit_ms))
            .and_then(|part| part.checked_add(total))
            .filter(|total| *total <= MAX_DURATION_MS)
            .ok_or("duration out of range")?;
        rest = behind;
    }
    Ok(total)
}

/// Splits behind the leading characters that are `wanted`.
fn split_after(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// What fits into 64-bit nanoseconds, Go's durations.
const MAX_DURATION_MS: i64 = i64::MAX / 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_gos_forms() {
        for (text, value) in [
            ("0", 0.0),
            ("0x1F", 31.0),
            ("0X_1f", 31.0),
            ("0755", 493.0),
            ("0899", 899.0),
            ("1_000", 1_000.0),
            ("1_0.5_0e1_0", 10.5e10),
            (".5", 0.5),
            ("5.", 5.0),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert!(parse_number("nAn").is_ok_and(f64::is_nan));
        for text in ["0x", "0xFFFFFFFFFFFFFFFFF", "1e400"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_ordered_units() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("10ms", 10),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1y2w3d4h5m6s7ms", 31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007),
            ("292y", 292 * 31_536_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in
            ["", "5", "m", "5m1h", "5m1m", "1hs", "5mm", "-5m", "1.5h", "5m ", "é", "1é", "293y"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
