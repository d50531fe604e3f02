//! Attributes to labels.

use std::collections::BTreeMap;
use std::ops::Range;

use super::names::LabelRules;
use crate::protobuf::{self, Fault, Field, each_field, each_message};

/// Attributes of one point, resource or scope; more are an error. A series may have far fewer labels.
const MAX_ATTRIBUTES: usize = 1_024;
/// Up to this many are compared with each other, more are sorted.
const FEW: usize = 32;
/// Levels of lists and maps inside a value; deeper ones are an error.
pub(crate) const MAX_DEPTH: usize = 32;

/// Attributes of one point, resource or scope; memory to be used again for the next.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    text: Vec<u8>,
    list: Vec<Attribute>,
}

#[derive(Debug, Clone)]
struct Attribute {
    key: Range<usize>,
    /// The key as a label's name.
    name: Range<usize>,
    value: Range<usize>,
}

impl Attributes {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.list.clear();
    }

    /// Reads one `KeyValue { string key = 1; AnyValue value = 2 }`.
    pub(super) fn read(
        &mut self,
        body: &[u8],
        message: Range<usize>,
        rules: LabelRules,
    ) -> Result<(), Fault> {
        if self.list.len() == MAX_ATTRIBUTES {
            return Err((message.start, "more than 1,024 attributes"));
        }
        let (mut key, mut value) = (0..0, 0..0);
        each_field(body, message, |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => key = start..end,
                (2, Field::Bytes { start, end }) => value = start..end,
                (1 | 2, _) => return Err("field of an attribute has the wrong type"),
                _ => {}
            }
            Ok(())
        })?;
        let start = self.text.len();
        self.text.extend_from_slice(&body[key.clone()]);
        let key_end = self.text.len();
        rules.append(&body[key], &mut self.text);
        let (key, name) = (start..key_end, key_end..self.text.len());
        any_value(body, value, &mut self.text, 0)?;
        let value = name.end..self.text.len();
        self.list.push(Attribute { key, name, value });
        Ok(())
    }

    /// The value of an attribute by its key.
    pub(super) fn value(&self, key: &str) -> Option<&[u8]> {
        let found =
            self.list.iter().find(|attribute| self.text[attribute.key.clone()] == *key.as_bytes());
        found.map(|attribute| &self.text[attribute.value.clone()])
    }

    /// Key, label name and value of each, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
        self.list.iter().map(|attribute| {
            let part = |range: &Range<usize>| &self.text[range.clone()];
            (part(&attribute.key), part(&attribute.name), part(&attribute.value))
        })
    }

    /// Makes one of attributes that have the same label name: their values by ascending key with
    /// `;` between.
    pub(super) fn unite_names(&mut self) {
        let Attributes { text, list } = self;
        let name_of = |attribute: &Attribute| &text[attribute.name.clone()];
        let is_known = |place: usize| {
            let name = name_of(&list[place]);
            list[..place].iter().any(|before| name_of(before) == name)
        };
        // Fast path: few attributes, and no two that are written alike.
        if list.len() <= FEW && !(1..list.len()).any(is_known) {
            return;
        }
        list.sort_by(|a, b| {
            let key_of = |attribute: &Attribute| &text[attribute.key.clone()];
            (name_of(a), key_of(a)).cmp(&(name_of(b), key_of(b)))
        });
        let mut united: Vec<Attribute> = Vec::with_capacity(list.len());
        let mut first = 0;
        while first < list.len() {
            let name = text[list[first].name.clone()].to_vec();
            let alike =
                list[first..].iter().take_while(|a| text[a.name.clone()] == name[..]).count();
            let mut attribute = list[first].clone();
            if alike > 1 {
                let start = text.len();
                for (index, one) in list[first..first + alike].iter().enumerate() {
                    if index > 0 {
                        text.push(b';');
                    }
                    text.extend_from_within(one.value.clone());
                }
                attribute.value = start..text.len();
            }
            united.push(attribute);
            first += alike;
        }
        *list = united;
    }
}

/// Appends an `AnyValue` as text: strings as they are, lists and maps as JSON.
///
/// `AnyValue { oneof { string = 1; bool = 2; int64 = 3; double = 4; ArrayValue = 5;
/// KeyValueList = 6; bytes = 7 } }`
pub(crate) fn any_value(
    body: &[u8],
    message: Range<usize>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Fault> {
    let start = out.len();
    each_message(body, message, |number, field| {
        // The last of several counts.
        out.truncate(start);
        match (number, field) {
            (1, Field::Bytes { start, end }) if depth == 0 => {
                out.extend_from_slice(&body[start..end]);
            }
            (1, Field::Bytes { start, end }) => json_string(&body[start..end], out),
            (2, Field::Varint(value)) => {
                out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
            }
            (3, Field::Varint(value)) => {
                out.extend_from_slice((value as i64).to_string().as_bytes())
            }
            (4, Field::Fixed64(bits)) => double(f64::from_bits(bits), out),
            (5 | 6, Field::Bytes { start, .. }) if depth == MAX_DEPTH => {
                return Err((start, "an attribute's value is nested too deep"));
            }
            (5, Field::Bytes { start, end }) => list(body, start..end, out, depth + 1)?,
            (6, Field::Bytes { start, end }) => map(body, start..end, out, depth + 1)?,
            (7, Field::Bytes { start, end }) => {
                let quote: &[u8] = if depth == 0 { b"" } else { b"\"" };
                out.extend_from_slice(quote);
                let encoded = {
                    use base64::Engine as _;
                    base64::engine::general_purpose::STANDARD.encode(&body[start..end])
                };
                out.extend_from_slice(encoded.as_bytes());
                out.extend_from_slice(quote);
            }
            _ => {}
        }
        Ok(())
    })
}

/// `ArrayValue { repeated AnyValue values = 1 }`
fn list(body: &[u8], message: Range<usize>, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    out.push(b'[');
    let mut is_first = true;
    each_message(body, message, |number, field| {
        let (1, Field::Bytes { start, end }) = (number, field) else { return Ok(()) };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        nested(body, start..end, out, depth)
    })?;
    out.push(b']');
    Ok(())
}

/// `KeyValueList { repeated KeyValue values = 1 }`, by key: the order of a map means nothing, so it
/// must not make another label of it. Of equal keys the last counts.
fn map(body: &[u8], message: Range<usize>, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    let mut entries = BTreeMap::new();
    each_message(body, message, |number, field| {
        let (1, Field::Bytes { start, end }) = (number, field) else { return Ok(()) };
        let (mut key, mut value) = (0..0, 0..0);
        each_field(body, start..end, |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => key = start..end,
                (2, Field::Bytes { start, end }) => value = start..end,
                _ => {}
            }
            Ok(())
        })?;
        let mut text = Vec::new();
        nested(body, value, &mut text, depth)?;
        entries.insert(&body[key], text);
        Ok(())
    })?;
    out.push(b'{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json_string(key, out);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(())
}

/// A value inside another one; one that holds nothing is `null`.
fn nested(body: &[u8], value: Range<usize>, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    let start = out.len();
    any_value(body, value, out, depth)?;
    if out.len() == start {
        out.extend_from_slice(b"null");
    }
    Ok(())
}

fn json_string(text: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(text);
    out.extend_from_slice(serde_json::Value::from(text.as_ref()).to_string().as_bytes());
}

/// A double as Go's `encoding/json` writes it, which is what the Collector's `AsString` does.
fn double(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    let text = if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        if magnitude >= 1e21 { text.replace('e', "e+") } else { text }
    } else {
        format!("{value}")
    };
    out.extend_from_slice(text.as_bytes());
}

/// Where a message's field with `number` that is a message lies; the last of several.
pub(super) fn sub_message(
    body: &[u8],
    message: Range<usize>,
    wanted: u64,
) -> Result<Option<Range<usize>>, Fault> {
    let mut found = None;
    let mut at = message.start;
    while at < message.end {
        let field_start = at;
        match protobuf::field(body, &mut at, message.end)? {
            (number, Field::Bytes { start, end }) if number == wanted => found = Some(start..end),
            (number, _) if number == wanted => {
                return Err((field_start, "field is no message"));
            }
            _ => {}
        }
    }
    Ok(found)
}
