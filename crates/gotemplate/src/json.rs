//! Values as JSON, as Go's `encoding/json` writes them: `<`, `>` and `&` are escaped.

use std::fmt::Write as _;

use crate::value::Value;

/// Whether a value has a text of its own, which scripts are shown instead of its parts.
pub(crate) fn has_text(value: &Value<'_>) -> bool {
    matches!(value, Value::Duration(_) | Value::Month(_) | Value::Weekday(_))
        || value.class().is_some_and(|class| class.text.is_some())
}

/// Appends a value as JSON. Stops soon after `out` is longer than `most` bytes.
///
/// # Errors
/// There is no JSON for it, in Go's words.
pub fn write(value: &Value<'_>, out: &mut String, most: usize) -> Result<(), String> {
    if out.len() > most {
        return Ok(());
    }
    match value {
        Value::Nil => out.push_str("null"),
        Value::Text(text) => write_text(text, out),
        Value::Safe(safe) => write_text(&safe.text, out),
        Value::Bool(value) => append(out, value),
        Value::Float(value) => write_float(*value, out)?,
        Value::Time(time) => {
            let year = time.civil().year;
            if !(0..10_000).contains(&year) {
                return Err(
                    "json: error calling MarshalJSON for type time.Time: Time.MarshalJSON: \
                            year outside of range [0,9999]"
                        .to_owned(),
                );
            }
            let mut text = String::new();
            time.format_into(&mut text, "2006-01-02T15:04:05.999999999Z07:00");
            write_text(&text, out);
        }
        Value::List(list) => {
            out.push('[');
            for (index, value) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(value, out, most)?;
                if out.len() > most {
                    break;
                }
            }
            out.push(']');
        }
        Value::Map(map) if map.is_nil => out.push_str("null"),
        Value::Map(map) => {
            let entries = map.entries.iter().map(|(key, value)| (key.as_ref(), value));
            write_object(entries, out, most)?;
        }
        Value::Labels(labels) => {
            let values: Vec<Value<'_>> =
                labels.iter().map(|(_, text)| Value::text(*text)).collect();
            write_object(labels.iter().map(|(key, _)| *key).zip(&values), out, most)?;
        }
        Value::Struct(value) => {
            let class = value.class;
            let names = if class.json.is_empty() { class.fields } else { class.json };
            write_object(names.iter().copied().zip(&value.values), out, most)?;
        }
        other => match (other.as_integer(), other.as_unsigned()) {
            (Some(value), _) => append(out, value),
            (None, Some(value)) => append(out, value),
            (None, None) => out.push_str("null"),
        },
    }
    Ok(())
}

fn append(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a string takes everything");
}

fn write_object<'v, 'd: 'v>(
    entries: impl Iterator<Item = (&'v str, &'v Value<'d>)>,
    out: &mut String,
    most: usize,
) -> Result<(), String> {
    out.push('{');
    for (index, (key, value)) in entries.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write(value, out, most)?;
        if out.len() > most {
            break;
        }
    }
    out.push('}');
    Ok(())
}

/// Appends a text between quotes.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", c as u32).expect("a string takes everything");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_float(value: f64, out: &mut String) -> Result<(), String> {
    if !value.is_finite() {
        let mut shown = String::new();
        crate::value::write_float(&mut shown, value);
        return Err(format!("json: unsupported value: {shown}"));
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let shown = format!("{value:e}");
        // Go writes a sign.
        append(out, if shown.contains("e-") { shown } else { shown.replace('e', "e+") });
    } else {
        append(out, value);
    }
    Ok(())
}
