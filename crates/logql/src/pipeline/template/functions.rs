//! The functions that templates have besides Go's own: sprig's as far as Loki has them, and Loki's.
//!
//! Source: <https://masterminds.github.io/sprig/>; the LogQL manual,
//! "Template functions".

use gotemplate::{Function, Owner, Param, Signature, Value, Vocabulary};

use super::arithmetic as number;
use super::calls::Calls;
use super::collector;
use super::encode;
use super::strings as text;
use super::times;

type Body = for<'d> fn(&mut Calls<'_, 'd>, &[Value<'d>]) -> Result<Value<'d>, String>;

/// A function and what it does with arguments whose number and types were checked.
pub(super) struct Entry {
    signature: Signature,
    body: Body,
}

pub(super) const fn fixed(name: &'static str, fixed: &'static [Param], body: Body) -> Entry {
    Entry { signature: Signature::fixed(name, fixed), body }
}

pub(super) const fn variadic(
    name: &'static str,
    fixed: &'static [Param],
    rest: Param,
    body: Body,
) -> Entry {
    Entry { signature: Signature::variadic(name, fixed, rest), body }
}

use Param::{Any, Float, Int, Text, Time};

static TABLE: &[Entry] = &[
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
    fixed("int", &[Any], |_, args| Ok(Value::Int(number::to_integer(&args[0])))),
    fixed("float64", &[Any], |_, args| Ok(Value::Float(number::to_float(&args[0])))),
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
    fixed("ceil", &[Any], |_, args| Ok(Value::Float(number::to_float(&args[0]).ceil()))),
    fixed("floor", &[Any], |_, args| Ok(Value::Float(number::to_float(&args[0]).floor()))),
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

impl Vocabulary for Dialect {
    fn find(&self, name: &str) -> Option<Function> {
        let more: &'static [Entry] =
            if *self == Dialect::Collector { collector::TABLE } else { &[] };
        let (number, entry) =
            TABLE.iter().chain(more).enumerate().find(|(_, entry)| entry.signature.name == name)?;
        Some(Function { signature: &entry.signature, owner: Owner::Dialect(number) })
    }
}

/// The names of all functions of queries: Go's, then these in the order of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    gotemplate::builtin_names().chain(TABLE.iter().map(|entry| entry.signature.name))
}

/// Calls the function with that number.
pub(crate) fn call<'d>(
    number: usize,
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
) -> Result<Value<'d>, String> {
    let entry = TABLE.get(number).unwrap_or_else(|| &collector::TABLE[number - TABLE.len()]);
    (entry.body)(calls, args)
}

/// Whether a value is one that `default` takes for missing.
pub(crate) fn is_empty(value: &Value<'_>) -> bool {
    !value.is_true()
}

fn default<'d>(_: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Result<Value<'d>, String> {
    Ok(match args.get(1) {
        Some(given) if !is_empty(given) => given.clone(),
        _ => args[0].clone(),
    })
}
