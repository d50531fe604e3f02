//! Functions on numbers.

use gotemplate::{Value, parse_go_integer};

use super::calls::{Calls, integer_at, text_at};
use super::decimal::{Operation, fold};
use crate::pipeline::number::{parse_bytes, parse_duration_ns};

type Outcome<'d> = Result<Value<'d>, String>;

/// As `cast.ToInt64`: what is no number is 0.
pub(crate) fn to_integer(value: &Value<'_>) -> i64 {
    match value {
        Value::Float(value) => *value as i64,
        Value::Bool(value) => i64::from(*value),
        Value::Byte(value) => i64::from(*value),
        Value::Text(text) => parse_integer(text).unwrap_or(0),
        other => other.as_integer().unwrap_or(0),
    }
}

/// As `cast.ToFloat64`: what is no number is 0.
pub(crate) fn to_float(value: &Value<'_>) -> f64 {
    match value {
        Value::Float(value) => *value,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Byte(value) => f64::from(*value),
        Value::Text(text) => gotemplate::parse_float(text).unwrap_or(0.0),
        other => other.as_integer().unwrap_or(0) as f64,
    }
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

/// What Go says when integers are divided by zero.
const DIVISION_BY_ZERO: &str = "runtime error: integer divide by zero";

pub(crate) fn add<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::Int64(args.iter().fold(0, |total, next| total.wrapping_add(to_integer(next)))))
}

pub(crate) fn subtract<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::Int64(to_integer(&args[0]).wrapping_sub(to_integer(&args[1]))))
}

pub(crate) fn multiply<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::Int64(args.iter().fold(1, |total, next| total.wrapping_mul(to_integer(next)))))
}

pub(crate) fn divide<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let divisor = to_integer(&args[1]);
    if divisor == 0 {
        return Err(DIVISION_BY_ZERO.to_owned());
    }
    Ok(Value::Int64(to_integer(&args[0]).wrapping_div(divisor)))
}

pub(crate) fn modulo<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let divisor = to_integer(&args[1]);
    if divisor == 0 {
        return Err(DIVISION_BY_ZERO.to_owned());
    }
    Ok(Value::Int64(to_integer(&args[0]).wrapping_rem(divisor)))
}

fn floats<'d>(operation: Operation, first: f64, rest: &[Value<'d>]) -> Outcome<'d> {
    let rest: Vec<f64> = rest.iter().map(to_float).collect();
    match fold(operation, first, &rest) {
        Ok(value) => Ok(Value::Float(value)),
        Err(_) => Err("decimal division by 0".to_owned()),
    }
}

pub(crate) fn add_floats<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Add, 0.0, args)
}

pub(crate) fn subtract_floats<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Subtract, to_float(&args[0]), &args[1..])
}

pub(crate) fn multiply_floats<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Multiply, to_float(&args[0]), &args[1..])
}

pub(crate) fn divide_floats<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Divide, to_float(&args[0]), &args[1..])
}

/// The largest or smallest integer.
pub(crate) fn extreme<'d>(args: &[Value<'d>], choose: fn(i64, i64) -> i64) -> Value<'d> {
    let rest = &args[1..];
    Value::Int64(
        rest.iter().fold(to_integer(&args[0]), |best, next| choose(best, to_integer(next))),
    )
}

/// The largest or smallest float.
pub(crate) fn extreme_float<'d>(args: &[Value<'d>], choose: fn(f64, f64) -> f64) -> Value<'d> {
    let rest = &args[1..];
    Value::Float(rest.iter().fold(to_float(&args[0]), |best, next| choose(best, to_float(next))))
}

/// `round value places` with an optional part from which on it goes up.
pub(crate) fn round<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let up_from = match args.get(2) {
        Some(Value::Float(part)) => *part,
        _ => 0.5,
    };
    let power = 10f64.powf(integer_at(args, 1) as f64);
    let scaled = power * to_float(&args[0]);
    let rounded = if scaled.fract() >= up_from { scaled.ceil() } else { scaled.floor() };
    Ok(Value::Float(rounded / power))
}

pub(crate) fn bytes<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    match parse_bytes(text_at(args, 0)) {
        Ok(bytes) => Ok(Value::Float(bytes as f64)),
        Err(error) => Err(error.to_string()),
    }
}

/// In seconds.
pub(crate) fn duration<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    match parse_duration_ns(text_at(args, 0)) {
        Ok(ns) => Ok(Value::Float(crate::pipeline::number::seconds(ns))),
        Err(error) => Err(error.to_string()),
    }
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
            assert_eq!(to_integer(&Value::text(text)), want, "{text}");
        }
        assert_eq!(to_float(&Value::text("1.5")), 1.5);
    }
}
