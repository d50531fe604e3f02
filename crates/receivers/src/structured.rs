//! Values of any shape whose texts are templates: payloads, details of events, fields of issues.
//!
//! Source: Alertmanager, `template/template.go`, `DeepCopyWithTemplate`.

use serde_json::{Map, Value};
use settings::alertmanager::parse_plain_value;

use crate::message::Failure;

/// How often what a template yields may hold templates again. In Alertmanager only the memory
/// sets an end to it.
const MAX_ROUNDS: usize = 32;

/// The value with each text, keys as well, replaced by what `expand` makes of it. What looks like
/// a number, a list or another YAML value then is one.
pub(crate) fn expanded(
    value: &Value,
    expand: &mut dyn FnMut(&str) -> Result<String, Failure>,
) -> Result<Value, Failure> {
    expanded_within(value, expand, MAX_ROUNDS)
}

fn expanded_within(
    value: &Value,
    expand: &mut dyn FnMut(&str) -> Result<String, Failure>,
    rounds: usize,
) -> Result<Value, Failure> {
    Ok(match value {
        Value::String(text) => {
            let text = expand(text)?;
            match parse_plain_value(&text) {
                None | Some(Value::String(_)) => Value::String(text),
                Some(_) if rounds == 0 => {
                    return Err(Failure::fatal(format!(
                        "what a template yields holds templates more than {MAX_ROUNDS} times in a \
                         row; write fewer"
                    )));
                }
                Some(other) => expanded_within(&other, expand, rounds - 1)?,
            }
        }
        Value::Array(items) => {
            let mut all = Vec::with_capacity(items.len());
            for item in items {
                all.push(expanded_within(item, expand, rounds)?);
            }
            Value::Array(all)
        }
        Value::Object(fields) => {
            let mut all = Map::new();
            for (name, value) in fields {
                all.insert(expand(name)?, expanded_within(value, expand, rounds)?);
            }
            Value::Object(all)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_become_what_they_look_like() {
        let value = json!({"NAME": ["LIST", "MAP", "NUMBER", 7, null, "word: 'x"], "e": ""});
        let mut expand = |text: &str| {
            Ok(match text {
                "NAME" => "name",
                "LIST" => "[a, NUMBER]",
                "MAP" => "{\"k\": \"NUMBER\"}",
                "NUMBER" => "5",
                other => other,
            }
            .to_owned())
        };
        assert_eq!(
            expanded(&value, &mut expand),
            Ok(json!({"name": [["a", 5], {"k": 5}, 5, 7, null, "word: 'x"], "e": null}))
        );
    }

    #[test]
    fn templates_that_yield_themselves_come_to_an_end() {
        let mut expand = |_: &str| Ok("[again]".to_owned());
        assert!(expanded(&json!("again"), &mut expand).is_err());
    }
}
