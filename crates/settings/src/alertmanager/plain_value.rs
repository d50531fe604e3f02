//! Values of any shape: what a webhook's payload, a ticket's fields or an event's details hold.

use serde_json::{Map, Number, Value as Json};

use crate::yaml::{Context, Document, Node, Value, pairs_of};

/// A text that is YAML as JSON; `None` if it is none, or too large or deep. An empty text is
/// `null`. Templates yield such texts where a value of another type is wanted.
pub fn parse_plain_value(text: &str) -> Option<Json> {
    let document = Document::parse("", text.as_bytes()).ok()?;
    let Some(root) = document.root() else { return Some(Json::Null) };
    let context = Context::new(document.source(), std::path::Path::new(""));
    let value = read(&context, root);
    context.finish().faults.is_empty().then_some(value)
}

/// A node as JSON. Keys become texts; the texts of scalars may be templates.
pub(super) fn read(context: &Context<'_>, node: &Node) -> Json {
    match &node.value {
        Value::Scalar(scalar) => {
            if scalar.is_null() {
                Json::Null
            } else if let Some(flag) = scalar.boolean() {
                Json::Bool(flag)
            } else if let Some(number) = scalar.integer() {
                match (i64::try_from(number), u64::try_from(number)) {
                    (Ok(number), _) => Json::from(number),
                    (_, Ok(number)) => Json::from(number),
                    _ => Json::from(scalar.text()),
                }
            } else {
                let number = scalar.float().and_then(Number::from_f64);
                number.map_or_else(|| Json::from(scalar.text()), Json::Number)
            }
        }
        Value::Sequence(items) => items.iter().map(|item| read(context, item)).collect(),
        Value::Mapping(_) => {
            let mut map = Map::new();
            for (key, value) in pairs_of(context, node) {
                let Value::Scalar(name) = &key.value else {
                    let help = "a key is a word".to_owned();
                    context.fault(key.span, "invalid map key", Some(help));
                    continue;
                };
                map.insert(name.text().to_owned(), read(context, value));
            }
            Json::Object(map)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_become_what_they_look_like() {
        for (text, want) in [
            ("", Some(json!(null))),
            ("5", Some(json!(5))),
            ("true", Some(json!(true))),
            ("{a: [1, x]}", Some(json!({"a": [1, "x"]}))),
            ("a word", Some(json!("a word"))),
            ("{", None),
            ("a: b: c", None),
        ] {
            assert_eq!(parse_plain_value(text), want, "{text:?}");
        }
    }
}
