//! `eq` and its siblings.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::value::Value;

/// What Go compares with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Integer,
    Unsigned,
    Float,
    Text,
    /// Everything else.
    Other,
}

fn kind(value: &Value<'_>) -> Kind {
    match value {
        Value::Bool(_) => Kind::Bool,
        Value::Float(_) => Kind::Float,
        Value::Text(_) | Value::Safe(_) => Kind::Text,
        other if other.as_integer().is_some() => Kind::Integer,
        other if other.as_unsigned().is_some() => Kind::Unsigned,
        _ => Kind::Other,
    }
}

/// Whether one of the others equals the first.
pub(crate) fn equal_any(first: &Value<'_>, others: &[Value<'_>]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, String> {
    let (left_kind, right_kind) = (kind(left), kind(right));
    if left_kind == Kind::Other && right_kind == Kind::Other {
        return equal_others(left, right);
    }
    if let Some(order) = order(left, right) {
        return Ok(order == Some(Ordering::Equal));
    }
    match (left, right) {
        // Nothing is no kind, but may be compared.
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        _ => Err(incompatible(left, right)),
    }
}

/// How values of the same kind compare; `None` if they are not. Floats may not be comparable.
fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (kind(left), kind(right)) {
        (Kind::Bool, Kind::Bool) => match (left, right) {
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            _ => None,
        },
        (Kind::Float, Kind::Float) => match (left, right) {
            (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
            _ => None,
        },
        (Kind::Text, Kind::Text) => Some(left.as_text().cmp(&right.as_text())),
        (Kind::Integer | Kind::Unsigned, Kind::Integer | Kind::Unsigned) => {
            Some(whole(left).cmp(&whole(right)))
        }
        _ => return None,
    })
}

fn whole(value: &Value<'_>) -> i128 {
    let signed = value.as_integer().map(i128::from);
    signed.or_else(|| value.as_unsigned().map(i128::from)).unwrap_or(0)
}

/// The kind of a value as Go's reflection names it, of those that are no basic kind.
fn shape(value: &Value<'_>) -> u8 {
    match value {
        Value::Nil => 0,
        Value::List(_) => 1,
        Value::Map(_) | Value::Labels(_) => 2,
        Value::Struct(value) if value.class.name.starts_with('*') => 3,
        _ => 4,
    }
}

fn is_nil(value: &Value<'_>) -> bool {
    match value {
        Value::Nil => true,
        Value::Map(map) => map.is_nil,
        _ => false,
    }
}

fn equal_others(left: &Value<'_>, right: &Value<'_>) -> Result<bool, String> {
    let shown = |value: &Value<'_>| {
        let mut out = String::new();
        value.write(&mut out, 1_000);
        out
    };
    if shape(left) != shape(right) && shape(left) != 0 && shape(right) != 0 {
        let (left_name, right_name) = (left.type_name(), right.type_name());
        let (left, right) = (shown(left), shown(right));
        return Err(format!("non-comparable types {left}: {left_name}, {right_name}: {right}"));
    }
    if is_nil(left) || is_nil(right) {
        return Ok(is_nil(left) == is_nil(right));
    }
    match (left, right) {
        (Value::Time(left), Value::Time(right)) => Ok(left == right),
        (Value::Struct(left), Value::Struct(right)) if left.class.name.starts_with('*') => {
            Ok(Rc::ptr_eq(left, right))
        }
        (Value::Struct(left_value), Value::Struct(right_value))
            if right_value.values.iter().all(|value| kind(value) != Kind::Other) =>
        {
            let same =
                std::ptr::eq(left_value.class, right_value.class)
                    && left_value.values.iter().zip(&right_value.values).all(|(left, right)| {
                        matches!(order(left, right), Some(Some(Ordering::Equal)))
                    });
            Ok(same)
        }
        (Value::Time(_), Value::Struct(_)) => Ok(false),
        _ => Err(format!("non-comparable type {}: {}", shown(right), right.type_name())),
    }
}

fn incompatible(left: &Value<'_>, right: &Value<'_>) -> String {
    let (left, right) = (left.type_name(), right.type_name());
    format!("incompatible types for comparison: {left} and {right}")
}

/// Whether the order of two values is one that `holds`.
pub(crate) fn compare(
    left: &Value<'_>,
    right: &Value<'_>,
    holds: impl Fn(Ordering) -> bool,
) -> Result<bool, String> {
    const INVALID: &str = "invalid type for comparison";
    let (left_kind, right_kind) = (kind(left), kind(right));
    if left_kind == Kind::Other || right_kind == Kind::Other {
        return Err(INVALID.to_owned());
    }
    if left_kind == Kind::Bool && right_kind == Kind::Bool {
        return Err(INVALID.to_owned());
    }
    match order(left, right) {
        Some(order) => Ok(order.is_some_and(holds)),
        None => Err(incompatible(left, right)),
    }
}
