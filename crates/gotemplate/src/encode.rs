//! `html`, `js` and `urlquery`.

use std::fmt::Write as _;

use crate::budget::Budget;
use crate::printf::print;
use crate::value::Value;

type Outcome<'d> = Result<Value<'d>, String>;

/// The arguments as `print` joins them, each character replaced by what `escape` says.
fn escaped<'d>(
    budget: &mut Budget,
    args: &[Value<'d>],
    escape: impl Fn(char, &mut String),
) -> Outcome<'d> {
    let joined = shown(budget, args)?;
    let text = joined.as_text().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        escape(c, &mut out);
    }
    budget.text(out)
}

/// The arguments as `print` joins them, what is none as templates print it.
fn shown<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    match args {
        // Text that stands alone needs no copy.
        [Value::Text(text)] => Ok(Value::Text(text.clone())),
        args if args.iter().any(|arg| matches!(arg, Value::Nil)) => {
            let some = |arg: &Value<'d>| match arg {
                Value::Nil => Value::text("<no value>"),
                other => other.clone(),
            };
            print(budget, &args.iter().map(some).collect::<Vec<_>>())
        }
        args => print(budget, args),
    }
}

/// Whether Go finds a character printable.
fn is_printable(c: char) -> bool {
    let mut shown = String::new();
    model::quote::write_escaped(c, '\'', &mut shown);
    !shown.starts_with('\\')
}

pub(crate) fn html<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    escaped(budget, args, |c, out| match c {
        '\0' => out.push(char::REPLACEMENT_CHARACTER),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    })
}

pub(crate) fn js<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    escaped(budget, args, |c, out| match c {
        '\\' => out.push_str("\\\\"),
        '\'' => out.push_str("\\'"),
        '"' => out.push_str("\\\""),
        '<' | '>' | '&' | '=' | '\0'..='\x1f' => {
            write!(out, "\\u{:04X}", c as u32).expect("a string takes everything");
        }
        c if !c.is_ascii() && !is_printable(c) => {
            write!(out, "\\u{:04X}", c as u32).expect("a string takes everything");
        }
        c => out.push(c),
    })
}

pub(crate) fn urlquery<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    let joined = shown(budget, args)?;
    budget.text(query_escape(joined.as_text().unwrap_or_default()))
}

/// As Go's `url.QueryEscape`.
pub fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => write!(out, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    out
}

/// As Go's `url.QueryUnescape`; bytes that are no UTF-8 become U+FFFD.
///
/// # Errors
/// Go's words.
pub fn query_unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let code = tail
                    .get(..2)
                    .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let Some(code) = code else {
                    let shown = String::from_utf8_lossy(&tail[..tail.len().min(2)]);
                    let quoted = model::quote::quote(&format!("%{shown}"));
                    return Err(format!("invalid URL escape {quoted}"));
                };
                bytes.push(code);
                rest = &tail[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
