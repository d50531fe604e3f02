//! The functions every template has.
//!
//! Source: Go `text/template`, "Functions".

use std::cmp::Ordering;

use crate::budget::Budget;
use crate::compare::{compare, equal_any};
use crate::encode;
use crate::printf;
use crate::signature::Param::{Any, Text};
use crate::signature::{Function, Owner, Signature};
use crate::value::Value;

type Body = for<'d> fn(&mut Budget, &[Value<'d>]) -> Result<Value<'d>, String>;

/// A function and what it does with arguments whose number and types were checked.
struct Builtin {
    signature: Signature,
    body: Body,
}

const fn fixed(
    name: &'static str,
    fixed: &'static [crate::signature::Param],
    body: Body,
) -> Builtin {
    Builtin { signature: Signature::fixed(name, fixed), body }
}

const fn variadic(
    name: &'static str,
    fixed: &'static [crate::signature::Param],
    body: Body,
) -> Builtin {
    Builtin { signature: Signature::variadic(name, fixed, Any), body }
}

/// `and`, `or` and `call` are evaluated where their arguments are; only their names are looked up
/// here.
static TABLE: [Builtin; 19] = [
    variadic("and", &[Any], last),
    variadic("or", &[Any], last),
    variadic("call", &[Any], last),
    fixed("not", &[Any], |_, args| Ok(Value::Bool(!args[0].is_true()))),
    fixed("len", &[Any], len),
    variadic("index", &[Any], index),
    variadic("slice", &[Any], slice),
    variadic("print", &[], printf::print),
    variadic("printf", &[Text], printf::printf),
    variadic("println", &[], printf::println),
    variadic("html", &[], encode::html),
    variadic("js", &[], encode::js),
    variadic("urlquery", &[], encode::urlquery),
    variadic("eq", &[Any], |_, args| Ok(Value::Bool(equal_any(&args[0], &args[1..])?))),
    fixed("ne", &[Any, Any], |_, args| Ok(Value::Bool(!equal_any(&args[0], &args[1..])?))),
    fixed("lt", &[Any, Any], |_, args| {
        Ok(Value::Bool(compare(&args[0], &args[1], |order| order == Ordering::Less)?))
    }),
    fixed("le", &[Any, Any], |_, args| {
        Ok(Value::Bool(compare(&args[0], &args[1], |order| order != Ordering::Greater)?))
    }),
    // Of floats that do not compare, Go finds one greater: it asks whether it is not lower.
    fixed("gt", &[Any, Any], |_, args| {
        Ok(Value::Bool(!compare(&args[0], &args[1], |order| order != Ordering::Greater)?))
    }),
    fixed("ge", &[Any, Any], |_, args| {
        Ok(Value::Bool(!compare(&args[0], &args[1], |order| order == Ordering::Less)?))
    }),
];

/// Number of `and`.
pub(crate) const AND: usize = 0;
/// Number of `or`.
pub(crate) const OR: usize = 1;
/// Number of `call`.
pub(crate) const CALL: usize = 2;

/// The function of that name.
pub(crate) fn find(name: &str) -> Option<Function> {
    let number = TABLE.iter().position(|builtin| builtin.signature.name == name)?;
    Some(Function { signature: &TABLE[number].signature, owner: Owner::Builtin(number) })
}

/// The names of the functions every template has.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|builtin| builtin.signature.name)
}

/// Values as `print` joins them.
pub(crate) fn joined<'d>(budget: &mut Budget, values: &[Value<'d>]) -> Result<Value<'d>, String> {
    printf::print(budget, values)
}

/// The name of the type that a pointer points to.
fn pointee(value: &Value<'_>) -> &'static str {
    value.type_name().trim_start_matches('*')
}

/// Calls a function with arguments whose number and types were checked.
pub(crate) fn call<'d>(
    number: usize,
    budget: &mut Budget,
    args: &[Value<'d>],
) -> Result<Value<'d>, String> {
    (TABLE[number].body)(budget, args)
}

fn last<'d>(_: &mut Budget, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    Ok(args.last().cloned().unwrap_or(Value::Nil))
}

fn len<'d>(_: &mut Budget, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    match (&args[0], args[0].length()) {
        (Value::Nil, _) => Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
        (_, Some(len)) => Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX))),
        (other, None) => Err(format!("len of type {}", pointee(other))),
    }
}

/// An index up to `most`, which itself is allowed.
fn position(value: &Value<'_>, most: usize) -> Result<usize, String> {
    let at = match value {
        Value::Nil => return Err("cannot index slice/array with nil".to_owned()),
        other => match (other.as_integer(), other.as_unsigned()) {
            (Some(at), _) => at,
            (None, Some(at)) => i64::try_from(at).unwrap_or(-1),
            (None, None) => {
                let name = other.type_name();
                return Err(format!("cannot index slice/array with type {name}"));
            }
        },
    };
    usize::try_from(at)
        .ok()
        .filter(|at| *at <= most)
        .ok_or_else(|| format!("index out of range: {at}"))
}

fn index<'d>(_: &mut Budget, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    if matches!(args[0], Value::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    let mut item = args[0].clone();
    for at in &args[1..] {
        item = match &item {
            Value::Map(_) | Value::Labels(_) => {
                let key = match at {
                    Value::Nil => {
                        return Err("value is nil; should be of type string".to_owned());
                    }
                    Value::Text(key) => key,
                    other => {
                        let name = other.type_name();
                        return Err(format!("value has type {name}; should be string"));
                    }
                };
                item.entry(key).unwrap_or_else(|| item.zero_entry())
            }
            Value::List(list) => {
                let at = position(at, list.items.len())?;
                list.items.get(at).cloned().ok_or("reflect: slice index out of range")?
            }
            Value::Text(_) | Value::Safe(_) => {
                let text = item.as_text().unwrap_or_default();
                let at = position(at, text.len())?;
                let byte = text.as_bytes().get(at).ok_or("reflect: string index out of range")?;
                Value::Byte(*byte)
            }
            Value::Nil => return Err("index of nil pointer".to_owned()),
            other => return Err(format!("can't index item of type {}", pointee(other))),
        };
    }
    Ok(item)
}

fn slice<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    let (item, bounds) = (&args[0], &args[1..]);
    if matches!(item, Value::Nil) {
        return Err("slice of untyped nil".to_owned());
    }
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let len = match item {
        Value::Text(_) | Value::Safe(_) if bounds.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::Text(_) | Value::Safe(_) | Value::List(_) => item.length().unwrap_or(0),
        other => return Err(format!("can't slice item of type {}", pointee(other))),
    };
    let mut places = [0, len, len];
    for (place, bound) in places.iter_mut().zip(bounds) {
        *place = position(bound, len)?;
    }
    let [from, to, most] = places;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if to > most {
        return Err(format!("invalid slice index: {to} > {most}"));
    }
    match item {
        Value::List(list) => budget.list(list.class, list.items[from..to].to_vec()),
        _ => {
            let bytes = &item.as_text().unwrap_or_default().as_bytes()[from..to];
            budget.text(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}
