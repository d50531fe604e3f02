//! Functions that encode and decode.

use gotemplate::{LIST, MAP, Value, query_escape, query_unescape};

use super::calls::{Calls, text_at};

type Outcome<'d> = Result<Value<'d>, String>;

pub(crate) fn urlencode<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(query_escape(text_at(args, 0)))
}

pub(crate) fn urldecode<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let decoded = query_unescape(text_at(args, 0))?;
    calls.text(decoded)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn base64_encode<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
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
pub(crate) fn base64_decode<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
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
pub(crate) fn from_json<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
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
            Value::list(&LIST, list.into_iter().map(json_value).collect())
        }
        serde_json::Value::Object(map) => {
            let values = map.into_iter().map(|(key, value)| (key.into(), json_value(value)));
            Value::map(&MAP, values.collect())
        }
    }
}
