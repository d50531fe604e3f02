//! Numbers as Go's `strconv.ParseFloat` reads and `fmt` writes them.

use model::quote::quote;

/// Reads a number the lexer has found. What is a number to Go's scanner but not to its
/// `ParseFloat` (`0x10`, `0b1`, `0o7`) is refused with the latter's message.
pub(crate) fn parse(text: &str) -> Result<f64, String> {
    let invalid = |why| {
        format!(
            "unable to parse literal as a float: strconv.ParseFloat: parsing {}: {why}",
            quote(text)
        )
    };
    let lower = text.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix("0x") {
        return parse_hexadecimal(digits).ok_or_else(|| invalid("invalid syntax"));
    }
    let value: f64 = match lower.replace('_', "").parse() {
        Ok(value) if !lower.starts_with("0b") && !lower.starts_with("0o") => value,
        _ => return Err(invalid("invalid syntax")),
    };
    if value.is_infinite() { Err(invalid("value out of range")) } else { Ok(value) }
}

/// `1.8p3`, the part after `0x`. Digits beyond what a float holds round towards zero.
fn parse_hexadecimal(digits: &str) -> Option<f64> {
    let (mantissa, exponent) = digits.split_once('p')?;
    let mut exponent: i32 = exponent.replace('_', "").parse().ok()?;
    let mut value: u64 = 0;
    let mut is_behind_point = false;
    let mut digits = 0;
    for c in mantissa.chars() {
        match c {
            '_' => continue,
            '.' if !is_behind_point => is_behind_point = true,
            _ => {
                let digit = c.to_digit(16)?;
                digits += 1;
                if value >> 59 == 0 {
                    value = value << 4 | u64::from(digit);
                    if is_behind_point {
                        exponent = exponent.checked_sub(4)?;
                    }
                } else if !is_behind_point {
                    exponent = exponent.checked_add(4)?;
                }
            }
        }
    }
    let value = value as f64 * 2.0_f64.powi(exponent);
    (digits > 0 && value.is_finite()).then_some(value)
}

/// Writes a number as Go's `%v`: digits, or an exponent where the number is huge or tiny. What no
/// literal can say is written as an operation that yields it.
pub(crate) fn format(value: f64) -> String {
    if value.is_nan() {
        return "(0 / 0)".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "(10 ^ 309)" } else { "(-10 ^ 309)" }.to_owned();
    }
    if value == 0.0 || (1e-4..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{mantissa}e-{exponent:0>2}"),
        None => format!("{mantissa}e+{exponent:0>2}"),
    }
}

/// Writes a number as Go's `%f`, with six decimals.
pub(crate) fn format_fixed(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { format(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, value) in
            [("1e6", 1e6), (".5", 0.5), ("5.", 5.0), ("0x1P3", 8.0), ("0x.8p1", 1.0), ("1_0", 10.0)]
        {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for text in ["0x10", "0b01", "0o17", "0x1p", "0xp1", "1e999", "0x1p99999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let message = "unable to parse literal as a float: strconv.ParseFloat: \
                       parsing \"0x10\": invalid syntax";
        assert_eq!(parse("0x10"), Err(message.to_owned()));
    }

    #[test]
    fn writes_what_go_writes() {
        for (value, text) in [
            (0.5, "0.5"),
            (-1.0, "-1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-5, "1.5e-05"),
            (f64::INFINITY, "(10 ^ 309)"),
        ] {
            assert_eq!(format(value), text);
        }
        assert_eq!(format_fixed(1.0), "1.000000");
    }
}
