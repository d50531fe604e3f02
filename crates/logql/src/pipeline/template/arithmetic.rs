//! Functions on numbers.

use super::calls::{Calls, integer_at, text_at};
use super::decimal::{Operation, fold};
use super::value::Value;
use crate::pipeline::number::{parse_bytes, parse_duration_ns};

type Outcome<'d> = Result<Value<'d>, String>;

/// What Go says when integers are divided by zero.
const DIVISION_BY_ZERO: &str = "runtime error: integer divide by zero";

pub(crate) fn add<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::Int64(args.iter().fold(0, |total, next| total.wrapping_add(next.to_integer()))))
}

pub(crate) fn subtract<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::Int64(args[0].to_integer().wrapping_sub(args[1].to_integer())))
}

pub(crate) fn multiply<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(Value::Int64(args.iter().fold(1, |total, next| total.wrapping_mul(next.to_integer()))))
}

pub(crate) fn divide<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let divisor = args[1].to_integer();
    if divisor == 0 {
        return Err(DIVISION_BY_ZERO.to_owned());
    }
    Ok(Value::Int64(args[0].to_integer().wrapping_div(divisor)))
}

pub(crate) fn modulo<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let divisor = args[1].to_integer();
    if divisor == 0 {
        return Err(DIVISION_BY_ZERO.to_owned());
    }
    Ok(Value::Int64(args[0].to_integer().wrapping_rem(divisor)))
}

fn floats<'d>(operation: Operation, first: f64, rest: &[Value<'d>]) -> Outcome<'d> {
    let rest: Vec<f64> = rest.iter().map(Value::to_float).collect();
    match fold(operation, first, &rest) {
        Ok(value) => Ok(Value::Float(value)),
        Err(_) => Err("decimal division by 0".to_owned()),
    }
}

pub(crate) fn add_floats<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Add, 0.0, args)
}

pub(crate) fn subtract_floats<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Subtract, args[0].to_float(), &args[1..])
}

pub(crate) fn multiply_floats<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Multiply, args[0].to_float(), &args[1..])
}

pub(crate) fn divide_floats<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    floats(Operation::Divide, args[0].to_float(), &args[1..])
}

/// The largest or smallest integer.
pub(crate) fn extreme<'d>(args: &[Value<'d>], choose: fn(i64, i64) -> i64) -> Value<'d> {
    let rest = &args[1..];
    Value::Int64(
        rest.iter().fold(args[0].to_integer(), |best, next| choose(best, next.to_integer())),
    )
}

/// The largest or smallest float.
pub(crate) fn extreme_float<'d>(args: &[Value<'d>], choose: fn(f64, f64) -> f64) -> Value<'d> {
    let rest = &args[1..];
    Value::Float(rest.iter().fold(args[0].to_float(), |best, next| choose(best, next.to_float())))
}

/// `round value places` with an optional part from which on it goes up.
pub(crate) fn round<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let up_from = match args.get(2) {
        Some(Value::Float(part)) => *part,
        _ => 0.5,
    };
    let power = 10f64.powf(integer_at(args, 1) as f64);
    let scaled = power * args[0].to_float();
    let rounded = if scaled.fract() >= up_from { scaled.ceil() } else { scaled.floor() };
    Ok(Value::Float(rounded / power))
}

pub(crate) fn bytes<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    match parse_bytes(text_at(args, 0)) {
        Ok(bytes) => Ok(Value::Float(bytes as f64)),
        Err(error) => Err(error.to_string()),
    }
}

/// In seconds.
pub(crate) fn duration<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    match parse_duration_ns(text_at(args, 0)) {
        Ok(ns) => Ok(Value::Float(crate::pipeline::number::seconds(ns))),
        Err(error) => Err(error.to_string()),
    }
}
