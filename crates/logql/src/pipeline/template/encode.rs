//! Functions that encode and decode.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::calls::{Calls, text_at};
use super::printf::print;
use super::value::Value;

type Outcome<'d> = Result<Value<'d>, String>;

/// The arguments as `print` joins them, each character replaced by what `escape` says.
fn escaped<'d>(
    calls: &mut Calls<'d>,
    args: &[Value<'d>],
    escape: impl Fn(char, &mut String),
) -> Outcome<'d> {
    let joined = print(calls, args)?;
    let Value::Text(text) = &joined else { return Ok(joined) };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        escape(c, &mut out);
    }
    calls.text(out)
}

pub(crate) fn html<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    escaped(calls, args, |c, out| match c {
        '\0' => out.push(char::REPLACEMENT_CHARACTER),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    })
}

pub(crate) fn js<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    escaped(calls, args, |c, out| match c {
        '\\' => out.push_str("\\\\"),
        '\'' => out.push_str("\\'"),
        '"' => out.push_str("\\\""),
        '<' | '>' | '&' | '=' | '\0'..='\x1f' => {
            write!(out, "\\u{:04X}", c as u32).expect("a string takes everything");
        }
        c => out.push(c),
    })
}

pub(crate) fn urlquery<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let joined = print(calls, args)?;
    let encoded = match &joined {
        Value::Text(text) => query_escape(text),
        _ => String::new(),
    };
    calls.text(encoded)
}

pub(crate) fn urlencode<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(query_escape(text_at(args, 0)))
}

/// As `url.QueryEscape`.
fn query_escape(text: &str) -> String {
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

/// As `url.QueryUnescape`.
pub(crate) fn urldecode<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 0);
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
    calls.text(String::from_utf8_lossy(&bytes).into_owned())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn base64_encode<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 0);
    let mut out = String::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.as_bytes().chunks(3) {
        let value = chunk.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        let value = value << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (value >> (18 - 6 * place)) & 0x3f;
            out.push(if place <= chunk.len() { char::from(BASE64[digit as usize]) } else { '=' });
        }
    }
    calls.text(out)
}

/// With or without padding. What is no base64 yields the words of that error, as in sprig.
pub(crate) fn base64_decode<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 0);
    let decoded = match decode_base64(text) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(at) => format!("illegal base64 data at input byte {at}"),
    };
    calls.text(decoded)
}

/// The bytes, or the place of what is wrong. Line breaks are passed over.
fn decode_base64(text: &str) -> Result<Vec<u8>, usize> {
    let body = text.trim_end_matches(['\r', '\n']);
    let digits = body.trim_end_matches('=');
    let padding = body.len() - digits.len();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut value, mut count) = (0u32, 0usize);
    for (at, byte) in digits.bytes().enumerate() {
        if matches!(byte, b'\r' | b'\n') {
            continue;
        }
        let digit = BASE64.iter().position(|known| *known == byte).ok_or(at)?;
        value = value << 6 | digit as u32;
        count += 1;
        if count % 4 == 0 {
            bytes.extend_from_slice(&value.to_be_bytes()[1..]);
            value = 0;
        }
    }
    let left = count % 4;
    if left == 1 || (padding > 0 && (left + padding) != 4) {
        return Err(digits.len());
    }
    if left > 1 {
        let value = value << (6 * (4 - left));
        bytes.extend_from_slice(&value.to_be_bytes()[1..left]);
    }
    Ok(bytes)
}

/// A JSON text as values; nothing if it is none.
pub(crate) fn from_json<'d>(calls: &mut Calls<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 0);
    calls.allow(text.len())?;
    Ok(serde_json::from_str(text).map_or(Value::Nil, json_value))
}

fn json_value<'d>(value: serde_json::Value) -> Value<'d> {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::text(text),
        serde_json::Value::Array(list) => {
            Value::List(list.into_iter().map(json_value).collect::<Vec<_>>().into())
        }
        serde_json::Value::Object(map) => {
            let values = map.into_iter().map(|(key, value)| (key, json_value(value)));
            Value::Map(values.collect::<BTreeMap<_, _>>().into())
        }
    }
}
