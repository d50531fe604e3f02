//! Functions of expressions: those of Alloy's standard library that configurations of logs use.

use super::evaluate::{Evaluator, Value, ValueKind};
use crate::suggestion::nearest;
use crate::yaml::Span;

/// Longest text that a function makes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Functions by all their names; older ones are kept.
const NAMES: &[(&str, &str)] = &[
    ("sys.env", "env"),
    ("env", "env"),
    ("coalesce", "coalesce"),
    ("concat", "concat"),
    ("array.concat", "concat"),
    ("nonsensitive", "same"),
    ("convert.nonsensitive", "same"),
    ("string.format", "format"),
    ("format", "format"),
    ("string.join", "join"),
    ("join", "join"),
    ("string.replace", "replace"),
    ("replace", "replace"),
    ("string.split", "split"),
    ("split", "split"),
    ("string.to_lower", "lower"),
    ("to_lower", "lower"),
    ("string.to_upper", "upper"),
    ("to_upper", "upper"),
    ("string.trim", "trim"),
    ("trim", "trim"),
    ("string.trim_prefix", "trim_prefix"),
    ("trim_prefix", "trim_prefix"),
    ("string.trim_suffix", "trim_suffix"),
    ("trim_suffix", "trim_suffix"),
    ("string.trim_space", "trim_space"),
    ("trim_space", "trim_space"),
    ("file.path_join", "path_join"),
];

/// Calls a function.
pub(super) fn call(
    evaluator: &Evaluator<'_>,
    span: Span,
    name_span: Span,
    name: &str,
    args: Vec<Value>,
) -> Option<Value> {
    let Some((_, function)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let names = NAMES.iter().map(|(name, _)| *name);
        let help = match nearest(name, names) {
            Some(known) => format!("did you mean {known}?"),
            None => "write what it would yield in its place".to_owned(),
        };
        let message = format!("the function {name} is not supported");
        evaluator.fault(name_span, message, Some(&help));
        return None;
    };
    let kind = match *function {
        "coalesce" => {
            let found = args.into_iter().find(|value| !is_empty(value));
            found.map_or(ValueKind::Null, |value| value.kind)
        }
        "concat" => {
            let mut all = Vec::new();
            for value in args {
                match value.kind {
                    ValueKind::List(items) => all.extend(items),
                    // Targets of a component are a list that is not known here.
                    ValueKind::Export(..) => all.push(value),
                    _ => return refuse(evaluator, value.span, name, "lists"),
                }
            }
            ValueKind::List(all)
        }
        "same" => match args.into_iter().next() {
            Some(value) => value.kind,
            None => return refuse(evaluator, span, name, "a value"),
        },
        "join" => {
            let [list, separator] = args.as_slice() else {
                return refuse(evaluator, span, name, "a list and a separator");
            };
            let (ValueKind::List(items), ValueKind::Text(separator)) =
                (&list.kind, &separator.kind)
            else {
                return refuse(evaluator, span, name, "a list and a separator");
            };
            let texts: Option<Vec<&str>> = items.iter().map(text_of).collect();
            match texts {
                Some(texts) => ValueKind::Text(texts.join(separator)),
                None => return refuse(evaluator, span, name, "a list of strings"),
            }
        }
        "format" => return format(evaluator, span, name, &args),
        function => {
            let texts: Option<Vec<&str>> = args.iter().map(text_of).collect();
            let Some(texts) = texts else { return refuse(evaluator, span, name, "strings") };
            match (function, texts.as_slice()) {
                ("env", [variable]) => {
                    let value = evaluator.surroundings.variable(variable);
                    ValueKind::Text(value.unwrap_or_default())
                }
                ("replace", [text, old, new]) => ValueKind::Text(text.replace(old, new)),
                ("split", [text, separator]) => {
                    let parts = text.split(separator).map(|part| Value::text(span, part));
                    ValueKind::List(parts.collect())
                }
                ("lower", [text]) => ValueKind::Text(text.to_lowercase()),
                ("upper", [text]) => ValueKind::Text(text.to_uppercase()),
                ("trim", [text, set]) => {
                    ValueKind::Text(text.trim_matches(|c| set.contains(c)).to_owned())
                }
                ("trim_prefix", [text, prefix]) => {
                    ValueKind::Text(text.strip_prefix(prefix).unwrap_or(text).to_owned())
                }
                ("trim_suffix", [text, suffix]) => {
                    ValueKind::Text(text.strip_suffix(suffix).unwrap_or(text).to_owned())
                }
                ("trim_space", [text]) => ValueKind::Text(text.trim().to_owned()),
                ("path_join", parts) => {
                    let parts: Vec<&str> =
                        parts.iter().map(|part| part.trim_end_matches('/')).collect();
                    ValueKind::Text(parts.join("/"))
                }
                _ => return refuse(evaluator, span, name, "another number of arguments"),
            }
        }
    };
    if matches!(&kind, ValueKind::Text(text) if text.len() > MAX_TEXT_BYTES) {
        let message = format!("{name} makes a string of more than {MAX_TEXT_BYTES} bytes");
        evaluator.fault(span, message, None);
        return None;
    }
    Some(Value { span, kind })
}

fn refuse(evaluator: &Evaluator<'_>, span: Span, name: &str, wanted: &str) -> Option<Value> {
    evaluator.fault(span, format!("{name} takes {wanted}"), None);
    None
}

fn text_of(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::Text(text) => Some(text),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Null => true,
        ValueKind::Bool(is) => !is,
        ValueKind::Number(number) => *number == 0.0,
        ValueKind::Text(text) => text.is_empty(),
        ValueKind::List(items) => items.is_empty(),
        ValueKind::Object(members) => members.is_empty(),
        ValueKind::Export(..) => false,
    }
}

/// `%s`, `%d`, `%v`, `%q` and `%%` of Go.
fn format(evaluator: &Evaluator<'_>, span: Span, name: &str, args: &[Value]) -> Option<Value> {
    let Some((ValueKind::Text(text), rest)) =
        args.split_first().map(|(first, rest)| (&first.kind, rest))
    else {
        return refuse(evaluator, span, name, "a format and values");
    };
    let (mut out, mut rest) = (String::new(), rest.iter());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let verb = chars.next();
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let shown = match (verb, rest.next().map(|value| &value.kind)) {
            (Some('s' | 'v'), Some(ValueKind::Text(text))) => text.clone(),
            (Some('q'), Some(ValueKind::Text(text))) => model::quote::quote(text),
            (Some('d' | 'v'), Some(ValueKind::Number(number))) => number.to_string(),
            (Some('t' | 'v'), Some(ValueKind::Bool(is))) => is.to_string(),
            _ => return refuse(evaluator, span, name, "%s, %d, %t, %v and %q with such values"),
        };
        out.push_str(&shown);
    }
    Some(Value::text(span, out))
}
