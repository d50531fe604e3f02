//! Numbers as templates write them.

/// A constant: as an integer, if it is one, and as a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// The integer, if it is a whole number that fits.
    pub integer: Option<i64>,
    /// The number as a float.
    pub float: Option<f64>,
    /// Whether it is a float where nothing says what is wanted.
    pub ideal_float: bool,
}

/// Reads a number or character as written; `None` if it is neither.
pub fn parse_number(written: &str) -> Option<Number> {
    if let Some(quoted) = written.strip_prefix('\'') {
        let text = unquoted(quoted.strip_suffix('\'')?, '\'')?;
        let mut chars = text.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else { return None };
        let integer = i64::from(c as u32);
        let float = Some(integer as f64);
        return Some(Number { integer: Some(integer), float, ideal_float: false });
    }
    let integer = parse_go_integer(written);
    let unsigned = written.trim_start_matches(['+', '-']);
    let hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let float = match integer {
        Some(integer) => Some(integer as f64),
        // Go's `inf` and `nan` are no numbers here.
        None if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            parse_float(&written.replace('_', "")).ok()
        }
        None => None,
    };
    if integer.is_none() && float.is_none() {
        return None;
    }
    let whole = float.filter(|float| float.fract() == 0.0 && float.abs() < 9.2e18);
    let marks: &[char] = if hexadecimal { &['.', 'p', 'P'] } else { &['.', 'e', 'E', 'p', 'P'] };
    Some(Number {
        integer: integer.or(whole.map(|float| float as i64)),
        float,
        ideal_float: unsigned.contains(marks),
    })
}

/// What stands between two `mark`s in a template. Escaped bytes that are no UTF-8 are U+FFFD.
pub(crate) fn unquoted(inner: &str, mark: char) -> Option<String> {
    let bytes = model::quote::unquote(inner, mark)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A whole number in Go's notation: `0x1f`, `0o17`, `017`, `0b1`, `1_000`.
pub fn parse_go_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefixed = |lower: &str, upper: &str| {
        digits.strip_prefix(lower).or_else(|| digits.strip_prefix(upper))
    };
    let (base, digits) = if let Some(rest) = prefixed("0x", "0X") {
        (16, rest)
    } else if let Some(rest) = prefixed("0b", "0B") {
        (2, rest)
    } else if let Some(rest) = prefixed("0o", "0O") {
        (8, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(&digits, base).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// A float as Go's `strconv.ParseFloat` reads it.
///
/// # Errors
/// Go's words.
pub fn parse_float(text: &str) -> Result<f64, String> {
    let fault = |problem: &str| {
        let quoted = model::quote::quote(text);
        format!("strconv.ParseFloat: parsing {quoted}: {problem}")
    };
    let syntax = || fault("invalid syntax");
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        let value = hexadecimal(digits).ok_or_else(syntax)?;
        return Ok(if text.starts_with('-') { -value } else { value });
    }
    let named = unsigned.starts_with(['i', 'I', 'n', 'N']);
    let signed_nan = unsigned.len() < text.len() && unsigned.eq_ignore_ascii_case("nan");
    // What Rust reads, Go reads, except a sign before `nan`.
    if unsigned.is_empty() || signed_nan {
        return Err(syntax());
    }
    let value: f64 = text.parse().map_err(|_| syntax())?;
    if value.is_infinite() && !named {
        return Err(fault("value out of range"));
    }
    Ok(value)
}

/// `1.8p3` behind `0x`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        value = value * 16.0 + f64::from(char::from(byte).to_digit(16)?);
    }
    let places = 4 * i32::try_from(fraction.len()).ok()?;
    Some(value * 2f64.powi(exponent.saturating_sub(places)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, want) in [
            ("12", Some(12)),
            ("-0x1F", Some(-31)),
            ("010", Some(8)),
            ("1_000", Some(1_000)),
            ("x", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(parse_go_integer(text), want, "{text}");
        }
        assert_eq!(parse_number("1e3").and_then(|n| n.integer), Some(1_000));
        assert_eq!(parse_float("0x1.8p3"), Ok(12.0));
        assert_eq!(parse_float("-inf"), Ok(f64::NEG_INFINITY));
        for (text, problem) in
            [("1e999", "value out of range"), ("one", "invalid syntax"), ("-nan", "invalid syntax")]
        {
            let want = format!("strconv.ParseFloat: parsing \"{text}\": {problem}");
            assert_eq!(parse_float(text), Err(want));
        }
    }
}
