//! The functions of templates: Go's own, sprig's as far as Loki has them, and Loki's.
//!
//! Source: Go `text/template`, "Functions"; <https://masterminds.github.io/sprig/>; the LogQL manual,
//! "Template functions".

use std::cmp::Ordering;

use super::arithmetic as number;
use super::calls::Calls;
use super::collector;
use super::encode;
use super::printf;
use super::strings as text;
use super::times;
use super::value::{ComparisonError, Value};

/// What a function wants at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    Any,
    Text,
    Int,
    Float,
    Time,
}

impl Param {
    /// The name of the type in Go.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Param::Any => "interface {}",
            Param::Text => "string",
            Param::Int => "int",
            Param::Float => "float64",
            Param::Time => "time.Time",
        }
    }
}

type Body = for<'d> fn(&mut Calls<'d>, &[Value<'d>]) -> Result<Value<'d>, String>;

/// A function by its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Function(usize);

pub(super) struct Entry {
    name: &'static str,
    /// What it wants first.
    fixed: &'static [Param],
    /// What it wants any number of behind that.
    rest: Option<Param>,
    body: Body,
}

pub(super) const fn fixed(name: &'static str, fixed: &'static [Param], body: Body) -> Entry {
    Entry { name, fixed, rest: None, body }
}

pub(super) const fn variadic(
    name: &'static str,
    fixed: &'static [Param],
    rest: Param,
    body: Body,
) -> Entry {
    Entry { name, fixed, rest: Some(rest), body }
}

use Param::{Any, Float, Int, Text, Time};

/// `and` and `or` are evaluated where their arguments are; only their names are looked up here.
const TABLE: &[Entry] = &[
    variadic("and", &[Any], Any, last),
    variadic("or", &[Any], Any, last),
    fixed("not", &[Any], |calls, args| Ok(Value::Bool(!calls.is_true(&args[0])))),
    fixed("len", &[Any], len),
    variadic("index", &[Any], Any, index),
    variadic("slice", &[Any], Any, slice),
    variadic("print", &[], Any, printf::print),
    variadic("printf", &[Text], Any, printf::printf),
    variadic("println", &[], Any, printf::println),
    variadic("html", &[], Any, encode::html),
    variadic("js", &[], Any, encode::js),
    variadic("urlquery", &[], Any, encode::urlquery),
    variadic("eq", &[Any], Any, equal),
    fixed("ne", &[Any, Any], |_, args| Ok(Value::Bool(!is_equal(&args[0], &args[1])?))),
    fixed("lt", &[Any, Any], |_, args| compare(args, |order| order == Ordering::Less)),
    fixed("le", &[Any, Any], |_, args| compare(args, |order| order != Ordering::Greater)),
    fixed("gt", &[Any, Any], |_, args| compare(args, |order| order == Ordering::Greater)),
    fixed("ge", &[Any, Any], |_, args| compare(args, |order| order != Ordering::Less)),
    fixed("__line__", &[], |calls, _| Ok(Value::text(calls.line))),
    fixed("__timestamp__", &[], times::timestamp),
    fixed("ToLower", &[Text], text::lower),
    fixed("ToUpper", &[Text], text::upper),
    fixed("Replace", &[Text, Text, Text, Int], text::replace_some),
    fixed("Trim", &[Text, Text], |calls, args| text::trim_set(calls, args, true, true)),
    fixed("TrimLeft", &[Text, Text], |calls, args| text::trim_set(calls, args, true, false)),
    fixed("TrimRight", &[Text, Text], |calls, args| text::trim_set(calls, args, false, true)),
    fixed("TrimPrefix", &[Text, Text], |calls, args| text::trim_prefix(calls, args, 0, 1)),
    fixed("TrimSuffix", &[Text, Text], |calls, args| text::trim_suffix(calls, args, 0, 1)),
    fixed("TrimSpace", &[Text], text::trim),
    fixed("regexReplaceAll", &[Text, Text, Text], text::regex_replace),
    fixed("regexReplaceAllLiteral", &[Text, Text, Text], text::regex_replace_literal),
    fixed("count", &[Text, Text], text::count),
    fixed("urldecode", &[Text], encode::urldecode),
    fixed("urlencode", &[Text], encode::urlencode),
    fixed("bytes", &[Text], number::bytes),
    fixed("duration", &[Text], number::duration),
    fixed("duration_seconds", &[Text], number::duration),
    fixed("unixEpoch", &[Time], times::unix_epoch),
    fixed("unixEpochMillis", &[Time], times::unix_epoch_millis),
    fixed("unixEpochNanos", &[Time], times::unix_epoch_nanos),
    fixed("toDate", &[Text, Text], times::to_date),
    fixed("toDateInZone", &[Text, Text, Text], times::to_date_in_zone),
    fixed("unixToTime", &[Text], times::unix_to_time),
    fixed("date", &[Text, Any], times::date),
    fixed("now", &[], times::now),
    fixed("alignLeft", &[Int, Text], text::align_left),
    fixed("alignRight", &[Int, Text], text::align_right),
    fixed("b64enc", &[Text], encode::base64_encode),
    fixed("b64dec", &[Text], encode::base64_decode),
    fixed("lower", &[Text], text::lower),
    fixed("upper", &[Text], text::upper),
    fixed("title", &[Text], text::title),
    fixed("trunc", &[Int, Text], text::truncate),
    fixed("substr", &[Int, Int, Text], text::substring),
    fixed("contains", &[Text, Text], |calls, args| {
        text::test(calls, args, |text, part| text.contains(part))
    }),
    fixed("hasPrefix", &[Text, Text], |calls, args| {
        text::test(calls, args, |text, part| text.starts_with(part))
    }),
    fixed("hasSuffix", &[Text, Text], |calls, args| {
        text::test(calls, args, |text, part| text.ends_with(part))
    }),
    fixed("indent", &[Int, Text], |calls, args| text::indent(calls, args, "")),
    fixed("nindent", &[Int, Text], |calls, args| text::indent(calls, args, "\n")),
    fixed("replace", &[Text, Text, Text], text::replace_all),
    fixed("repeat", &[Int, Text], text::repeat),
    fixed("trim", &[Text], text::trim),
    fixed("trimAll", &[Text, Text], text::trim_all),
    fixed("trimSuffix", &[Text, Text], |calls, args| text::trim_suffix(calls, args, 1, 0)),
    fixed("trimPrefix", &[Text, Text], |calls, args| text::trim_prefix(calls, args, 1, 0)),
    fixed("int", &[Any], |_, args| Ok(Value::Int(args[0].to_integer()))),
    fixed("float64", &[Any], |_, args| Ok(Value::Float(args[0].to_float()))),
    variadic("add", &[], Any, number::add),
    fixed("sub", &[Any, Any], number::subtract),
    variadic("mul", &[Any], Any, number::multiply),
    fixed("div", &[Any, Any], number::divide),
    fixed("mod", &[Any, Any], number::modulo),
    variadic("addf", &[], Any, number::add_floats),
    variadic("subf", &[Any], Any, number::subtract_floats),
    variadic("mulf", &[Any], Any, number::multiply_floats),
    variadic("divf", &[Any], Any, number::divide_floats),
    variadic("max", &[Any], Any, |_, args| Ok(number::extreme(args, i64::max))),
    variadic("min", &[Any], Any, |_, args| Ok(number::extreme(args, i64::min))),
    variadic("maxf", &[Any], Any, |_, args| Ok(number::extreme_float(args, f64::max))),
    variadic("minf", &[Any], Any, |_, args| Ok(number::extreme_float(args, f64::min))),
    fixed("ceil", &[Any], |_, args| Ok(Value::Float(args[0].to_float().ceil()))),
    fixed("floor", &[Any], |_, args| Ok(Value::Float(args[0].to_float().floor()))),
    variadic("round", &[Any, Int], Float, number::round),
    fixed("fromJson", &[Text], encode::from_json),
    variadic("default", &[Any], Any, default),
];

/// Whose templates they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Those of queries. A label that is not there is the empty text.
    Query,
    /// Those of collectors: more functions, and a value that is not there is no value.
    Collector,
}

impl Function {
    pub(crate) fn by_name(name: &str, dialect: Dialect) -> Option<Self> {
        let more = if dialect == Dialect::Collector { collector::TABLE } else { &[] };
        TABLE.iter().chain(more).position(|entry| entry.name == name).map(Function)
    }

    /// The names of all, in the order of the table.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|entry| entry.name)
    }

    fn entry(self) -> &'static Entry {
        TABLE.get(self.0).unwrap_or_else(|| &collector::TABLE[self.0 - TABLE.len()])
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    /// What it wants at a place; `None` where it wants nothing.
    pub(crate) fn param(self, at: usize) -> Option<Param> {
        let entry = self.entry();
        entry.fixed.get(at).copied().or(entry.rest)
    }

    /// Why it cannot be called with `given` arguments, `piped` of which come from a pipeline.
    pub(crate) fn check_count(self, given: usize, piped: usize) -> Result<(), String> {
        let entry = self.entry();
        let (name, wanted, total) = (entry.name, entry.fixed.len(), given + piped);
        if entry.rest.is_some() {
            if total < wanted {
                return Err(format!(
                    "wrong number of args for {name}: want at least {wanted} got {given}"
                ));
            }
        } else if total != wanted {
            return Err(format!("wrong number of args for {name}: want {wanted} got {total}"));
        }
        Ok(())
    }

    /// Calls it with arguments whose number and types were checked.
    pub(crate) fn call<'d>(
        self,
        calls: &mut Calls<'d>,
        args: &[Value<'d>],
    ) -> Result<Value<'d>, String> {
        (self.entry().body)(calls, args)
    }
}

fn last<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    Ok(args.last().cloned().unwrap_or(Value::Nil))
}

fn len<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    let len = match &args[0] {
        Value::Labels => Some(calls.labels.len()),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => other.len(),
    };
    match len {
        Some(len) => Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX))),
        None => Err(format!("len of type {}", args[0].type_name())),
    }
}

fn position(value: &Value<'_>, len: usize) -> Result<usize, String> {
    let (Value::Int(at) | Value::Int64(at)) = value else {
        return Err(match value {
            Value::Byte(at) if usize::from(*at) < len => return Ok(usize::from(*at)),
            Value::Nil => "cannot index slice/array with nil".to_owned(),
            other => format!("cannot index slice/array with type {}", other.type_name()),
        });
    };
    usize::try_from(*at)
        .ok()
        .filter(|at| *at < len)
        .ok_or_else(|| format!("index out of range: {at}"))
}

fn index<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    let mut item = args[0].clone();
    for at in &args[1..] {
        let key = |at: &Value<'d>| match at {
            Value::Text(key) => Ok(key.clone()),
            Value::Nil => Err("value is nil; should be of type string".to_owned()),
            other => Err(format!("value has type {}; should be string", other.type_name())),
        };
        item = match &item {
            Value::Labels => {
                let key = key(at)?;
                let found = calls.labels.iter().find(|(name, _)| *name == key);
                Value::text(found.map_or("", |(_, value)| *value))
            }
            Value::Map(map) => map.get(&*key(at)?).cloned().unwrap_or(Value::Nil),
            Value::List(list) => list[position(at, list.len())?].clone(),
            Value::Text(text) => Value::Byte(text.as_bytes()[position(at, text.len())?]),
            Value::Nil => return Err("index of nil pointer".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

fn slice<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    let item = &args[0];
    let len = match item {
        Value::Text(_) if args.len() > 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::Text(_) | Value::List(_) => item.len().unwrap_or(0),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if args.len() > 4 {
        return Err(format!("too many slice indexes: {}", args.len() - 1));
    }
    let mut bounds = [0, len, len];
    for (bound, at) in bounds.iter_mut().zip(&args[1..]) {
        *bound = position(at, len + 1)?;
    }
    let [from, to, most] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if to > most {
        return Err(format!("invalid slice index: {to} > {most}"));
    }
    match item {
        Value::Text(text) => {
            let part = String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned();
            calls.text(part)
        }
        Value::List(list) => Ok(Value::List(list[from..to].to_vec().into())),
        _ => Ok(Value::Nil),
    }
}

fn equal<'d>(_: &mut Calls<'d>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    if args.len() == 1 {
        return Err("missing argument for comparison".to_owned());
    }
    for other in &args[1..] {
        if is_equal(&args[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn is_equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, String> {
    match (left, right) {
        (Value::Nil, Value::Nil) => return Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => return Ok(false),
        (Value::Time(left), Value::Time(right)) => return Ok(left == right),
        (Value::List(_) | Value::Map(_) | Value::Labels, _)
            if left.type_name() == right.type_name() =>
        {
            let mut shown = String::new();
            left.write(&mut shown, &[]);
            return Err(format!("non-comparable type {shown}: {}", left.type_name()));
        }
        _ => {}
    }
    match left.compare(right) {
        Ok(order) => Ok(order == Some(Ordering::Equal)),
        Err(_) => Err(incompatible(left, right)),
    }
}

fn incompatible(left: &Value<'_>, right: &Value<'_>) -> String {
    let problem = ComparisonError::Incompatible;
    format!("{problem}: {} and {}", left.type_name(), right.type_name())
}

fn compare<'d>(args: &[Value<'d>], holds: impl Fn(Ordering) -> bool) -> Result<Value<'d>, String> {
    match args[0].compare(&args[1]) {
        Ok(order) => Ok(Value::Bool(order.is_some_and(holds))),
        Err(ComparisonError::Incompatible) => Err(incompatible(&args[0], &args[1])),
        Err(error) => Err(error.to_string()),
    }
}

fn default<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    Ok(match args.get(1) {
        Some(given) if !given.is_empty(!calls.labels.is_empty()) => given.clone(),
        _ => args[0].clone(),
    })
}
