//! JSON objects without what is empty, as Go writes fields that are marked `omitempty`.

use serde_json::{Map, Value};

/// An object of those fields that are not empty: no empty texts, lists, objects, `false`, `null`.
pub(crate) fn filled<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let mut object = Map::new();
    add_filled(&mut object, fields);
    Value::Object(object)
}

/// Adds those that are not empty.
pub(crate) fn add_filled<const N: usize>(
    object: &mut Map<String, Value>,
    fields: [(&str, Value); N],
) {
    for (name, value) in fields {
        let is_empty = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !is_empty {
            object.insert(name.to_owned(), value);
        }
    }
}
