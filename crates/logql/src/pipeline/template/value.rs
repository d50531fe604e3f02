//! Values of templates.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use model::go_time::GoTime;

/// The power of ten from which on Go prints an exponent.
const SCIENTIFIC_FROM: i32 = 6;

/// A value, with the types Go has where templates tell them apart.
#[derive(Debug, Clone)]
pub(crate) enum Value<'d> {
    /// No value.
    Nil,
    Text(Cow<'d, str>),
    Bool(bool),
    /// `int`
    Int(i64),
    /// `int64`
    Int64(i64),
    /// `uint8`, a byte of a text.
    Byte(u8),
    Float(f64),
    Time(Rc<GoTime>),
    List(Rc<Vec<Value<'d>>>),
    Map(Rc<BTreeMap<String, Value<'d>>>),
    /// The labels of the line, a map of texts.
    Labels,
}

impl<'d> Value<'d> {
    pub(crate) fn text(text: impl Into<Cow<'d, str>>) -> Self {
        Value::Text(text.into())
    }

    pub(crate) fn time(time: GoTime) -> Self {
        Value::Time(Rc::new(time))
    }

    /// The name of the type in Go.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Text(_) => "string",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Int64(_) => "int64",
            Value::Byte(_) => "uint8",
            Value::Float(_) => "float64",
            Value::Time(_) => "time.Time",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
            Value::Labels => "map[string]string",
        }
    }

    /// Whether `if` takes it for true. `labels` says whether the line has labels.
    pub(crate) fn is_true(&self, has_labels: bool) -> bool {
        match self {
            Value::Nil => false,
            Value::Text(text) => !text.is_empty(),
            Value::Bool(value) => *value,
            Value::Int(value) | Value::Int64(value) => *value != 0,
            Value::Byte(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            // A struct is always true.
            Value::Time(_) => true,
            Value::List(list) => !list.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Labels => has_labels,
        }
    }

    /// Whether `default` takes it for missing.
    pub(crate) fn is_empty(&self, has_labels: bool) -> bool {
        !matches!(self, Value::Time(_)) && !self.is_true(has_labels)
    }

    /// Number of bytes or elements, if there is such a thing.
    pub(crate) fn len(&self) -> Option<usize> {
        match self {
            Value::Text(text) => Some(text.len()),
            Value::List(list) => Some(list.len()),
            Value::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// Appends the value as `%v` prints it. Labels are written by who has them.
    pub(crate) fn write(&self, out: &mut String, labels: &[(&str, &str)]) {
        match self {
            Value::Nil => out.push_str("<nil>"),
            Value::Text(text) => out.push_str(text),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) | Value::Int64(value) => {
                write!(out, "{value}").expect("a string takes everything");
            }
            Value::Byte(value) => write!(out, "{value}").expect("a string takes everything"),
            Value::Float(value) => write_float(out, *value),
            Value::Time(time) => time.write_default(out),
            Value::List(list) => {
                out.push('[');
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    value.write(out, labels);
                }
                out.push(']');
            }
            Value::Map(map) => {
                out.push_str("map[");
                for (index, (key, value)) in map.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    value.write(out, labels);
                }
                out.push(']');
            }
            Value::Labels => {
                out.push_str("map[");
                for (index, (key, value)) in labels.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    out.push_str(value);
                }
                out.push(']');
            }
        }
    }

    /// How two values compare in the basic kinds of Go, which have to be the same.
    pub(crate) fn compare(&self, other: &Value<'_>) -> Result<Option<Ordering>, ComparisonError> {
        Ok(match (self, other) {
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (a, b) => match (a.integer(), b.integer()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ if a.is_basic() && b.is_basic() => return Err(ComparisonError::Incompatible),
                _ => return Err(ComparisonError::InvalidType),
            },
        })
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Value::Int(value) | Value::Int64(value) => Some(*value),
            Value::Byte(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    fn is_basic(&self) -> bool {
        match self {
            Value::Text(_) | Value::Bool(_) | Value::Float(_) => true,
            other => other.integer().is_some(),
        }
    }

    /// As `cast.ToInt64`: what is no number is 0.
    pub(crate) fn to_integer(&self) -> i64 {
        match self {
            Value::Int(value) | Value::Int64(value) => *value,
            Value::Byte(value) => i64::from(*value),
            Value::Float(value) => *value as i64,
            Value::Bool(value) => i64::from(*value),
            Value::Text(text) => parse_integer(text).unwrap_or(0),
            _ => 0,
        }
    }

    /// As `cast.ToFloat64`: what is no number is 0.
    pub(crate) fn to_float(&self) -> f64 {
        match self {
            Value::Int(value) | Value::Int64(value) => *value as f64,
            Value::Byte(value) => f64::from(*value),
            Value::Float(value) => *value,
            Value::Bool(value) => f64::from(u8::from(*value)),
            Value::Text(text) => crate::pipeline::number::parse_float(text).unwrap_or(0.0),
            _ => 0.0,
        }
    }
}

/// Appends a float as Go's `%v` prints it: the shortest digits that are read back as the same, with
/// an exponent below 1e-4 and from a million on.
pub(crate) fn write_float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let written = if value != 0.0 && !(-4..SCIENTIFIC_FROM).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    } else {
        write!(out, "{value}")
    };
    written.expect("a string takes everything");
}

/// Why two values do not compare, in Go's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ComparisonError {
    #[error("incompatible types for comparison")]
    Incompatible,
    #[error("invalid type for comparison")]
    InvalidType,
}

/// A whole number in Go's notation: `0x1f`, `0o17`, `017`, `0b1`, `1_000`; zeros behind a point are
/// cut off, as `cast` does.
fn parse_integer(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, zeros)) if !whole.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        _ => text,
    };
    parse_go_integer(text)
}

/// A whole number in Go's notation.
pub(crate) fn parse_go_integer(text: &str) -> Option<i64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_numbers() {
        for (text, want) in [
            ("12", 12),
            ("-0x1F", -31),
            ("010", 8),
            ("1_000", 1_000),
            ("3.000", 3),
            ("3.5", 0),
            ("x", 0),
            ("", 0),
            ("0", 0),
            ("9223372036854775808", 0),
        ] {
            assert_eq!(Value::text(text).to_integer(), want, "{text}");
        }
        assert_eq!(Value::text("1.5").to_float(), 1.5);
    }

    #[test]
    fn values_compare_with_their_kind() {
        let compare = |a: &Value<'_>, b: &Value<'_>| a.compare(b);
        assert_eq!(compare(&Value::Int(1), &Value::Int64(2)), Ok(Some(Ordering::Less)));
        assert_eq!(compare(&Value::text("a"), &Value::Int(2)), Err(ComparisonError::Incompatible));
        assert_eq!(compare(&Value::Nil, &Value::Int(2)), Err(ComparisonError::InvalidType));
    }
}
