//! The functions that templates of collectors have besides those of queries: Promtail's digests and
//! more of sprig. Source: the manual of Promtail, stage `template`; <https://masterminds.github.io/sprig/>.

use gotemplate::Param::{Any, Text};
use gotemplate::{LIST, Value};

use super::calls::{Calls, text_at};
use super::digest;
use super::functions::{Entry, fixed, is_empty, variadic};

type Outcome<'d> = Result<Value<'d>, String>;

pub(super) static TABLE: &[Entry] = &[
    fixed("Hash", &[Text, Text], |calls, args| {
        calls.text(digest::sha3_256(&[text_at(args, 0), text_at(args, 1)]))
    }),
    fixed("Sha2Hash", &[Text, Text], |calls, args| {
        calls.text(digest::sha256(&[text_at(args, 0), text_at(args, 1)]))
    }),
    fixed("sha256sum", &[Text], |calls, args| calls.text(digest::sha256(&[text_at(args, 0)]))),
    variadic("quote", &[], Any, quote),
    variadic("squote", &[], Any, single_quote),
    variadic("cat", &[], Any, cat),
    fixed("nospace", &[Text], no_space),
    fixed("join", &[Text, Any], join),
    fixed("splitList", &[Text, Text], split_list),
    variadic("list", &[], Any, |calls, args| calls.budget.list(&LIST, args.to_vec())),
    fixed("first", &[Any], |_, args| element(&args[0], |list| list.first())),
    fixed("last", &[Any], |_, args| element(&args[0], |list| list.last())),
    fixed("ternary", &[Any, Any, Any], ternary),
    variadic("coalesce", &[], Any, coalesce),
    fixed("empty", &[Any], |_, args| Ok(Value::Bool(is_empty(&args[0])))),
    fixed("toString", &[Any], |calls, args| {
        let text = shown(calls, &args[0]);
        calls.text(text)
    }),
    fixed("atoi", &[Text], |_, args| Ok(Value::Int(text_at(args, 0).parse().unwrap_or(0)))),
    fixed("regexMatch", &[Text, Text], |calls, args| {
        let (expression, text) = (text_at(args, 0), text_at(args, 1));
        Ok(Value::Bool(calls.expressions.is_match(expression, text, &mut calls.budget)?))
    }),
    fixed("regexFind", &[Text, Text], |calls, args| {
        let text = text_at(args, 1);
        let found = calls.expressions.get(text_at(args, 0))?.find_at(text, 0);
        calls.text(found.map_or_else(String::new, |range| text[range].to_owned()))
    }),
];

fn shown(calls: &Calls<'_, '_>, value: &Value<'_>) -> String {
    let mut out = String::new();
    value.write(&mut out, calls.budget.limits().text_bytes);
    out
}

/// What there is of the arguments, each as `show` writes it, with blanks between.
fn joined<'d>(
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
    show: impl Fn(&str) -> String,
) -> Outcome<'d> {
    let texts: Vec<String> = args
        .iter()
        .filter(|value| !matches!(value, Value::Nil))
        .map(|value| show(&shown(calls, value)))
        .collect();
    calls.text(texts.join(" "))
}

fn quote<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    joined(calls, args, model::quote::quote)
}

fn single_quote<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    joined(calls, args, |text| format!("'{text}'"))
}

fn cat<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    joined(calls, args, str::to_owned)
}

fn no_space<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 0).chars().filter(|c| !c.is_whitespace()).collect();
    calls.text(text)
}

fn join<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let texts: Vec<String> = match &args[1] {
        Value::List(list) => list
            .items
            .iter()
            .filter(|v| !matches!(v, Value::Nil))
            .map(|v| shown(calls, v))
            .collect(),
        Value::Nil => Vec::new(),
        other => vec![shown(calls, other)],
    };
    let len: usize = texts.iter().map(|text| text.len() + text_at(args, 0).len()).sum();
    calls.allow(len)?;
    calls.text(texts.join(text_at(args, 0)))
}

fn split_list<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (separator, text) = (text_at(args, 0), text_at(args, 1));
    // What is split is held once more.
    calls.allow(text.len())?;
    let parts: Vec<Value<'d>> = if separator.is_empty() {
        text.chars().map(|c| Value::text(c.to_string())).collect()
    } else {
        text.split(separator).map(|part| Value::text(part.to_owned())).collect()
    };
    calls.budget.list(&LIST, parts)
}

fn element<'d>(
    value: &Value<'d>,
    pick: impl for<'l> Fn(&'l [Value<'d>]) -> Option<&'l Value<'d>>,
) -> Outcome<'d> {
    match value {
        Value::List(list) => Ok(pick(&list.items).cloned().unwrap_or(Value::Nil)),
        other => Err(format!("Cannot find an element on type {}", other.type_name())),
    }
}

fn ternary<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    match &args[2] {
        Value::Bool(true) => Ok(args[0].clone()),
        Value::Bool(false) => Ok(args[1].clone()),
        other => Err(format!("wrong type for value; expected bool; got {}", other.type_name())),
    }
}

fn coalesce<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    Ok(args.iter().find(|value| !is_empty(value)).cloned().unwrap_or(Value::Nil))
}
