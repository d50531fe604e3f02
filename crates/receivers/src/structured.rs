//! Values of any shape whose texts are templates: payloads, details of events, fields of issues.
//!
//! Source: Alertmanager, `template/template.go`, `DeepCopyWithTemplate`. What a template yields is
//! data here and not read as a template again, as it is there: it holds what alerts say, and
//! whoever names an alert must not break, or write, the message about it.

use serde_json::{Map, Value};
use settings::alertmanager::parse_plain_value;

use crate::message::Failure;

/// How often a text that a template yields may hold texts that are values of another kind; deeper
/// ones stay texts. Each may be nested a hundred deep, and all of that stands on the stack.
const MAX_ROUNDS: usize = 4;

/// Most bytes of all texts together.
const MAX_BYTES: usize = 64 << 20;

/// What a text of the configuration makes of the notification.
type Expand<'e> = &'e mut dyn FnMut(&str) -> Result<String, Failure>;

/// The value with each text, keys as well, replaced by what `expand` makes of it. What looks like
/// a number, a list or another YAML value then is one.
pub(crate) fn expanded(value: &Value, expand: Expand<'_>) -> Result<Value, Failure> {
    Expansion { expand, left: MAX_BYTES }.of_template(value)
}

struct Expansion<'e> {
    expand: Expand<'e>,
    /// Bytes that may still come.
    left: usize,
}

impl Expansion<'_> {
    fn of_template(&mut self, value: &Value) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => {
                let text = self.text(text)?;
                self.of_text(text, MAX_ROUNDS)?
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.of_template(item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let mut all = Map::new();
                for (name, value) in fields {
                    all.insert(self.text(name)?, self.of_template(value)?);
                }
                Value::Object(all)
            }
            other => other.clone(),
        })
    }

    fn text(&mut self, template: &str) -> Result<String, Failure> {
        let text = (self.expand)(template)?;
        self.charge(text.len())?;
        Ok(text)
    }

    /// What a text looks like, and the texts in it.
    fn of_text(&mut self, text: String, rounds: usize) -> Result<Value, Failure> {
        if is_plainly_text(&text) {
            return Ok(Value::String(text));
        }
        match parse_plain_value(&text) {
            None | Some(Value::String(_)) => Ok(Value::String(text)),
            Some(other) => self.of_data(other, rounds),
        }
    }

    fn of_data(&mut self, value: Value, rounds: usize) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => {
                self.charge(text.len())?;
                if rounds == 0 {
                    return Ok(Value::String(text));
                }
                self.of_text(text, rounds - 1)?
            }
            Value::Array(items) => {
                let items = items.into_iter().map(|item| self.of_data(item, rounds));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let mut all = Map::new();
                for (name, value) in fields {
                    all.insert(name, self.of_data(value, rounds)?);
                }
                Value::Object(all)
            }
            other => other,
        })
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Failure> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| {
            Failure::fatal(format!(
                "the texts have more than {MAX_BYTES} bytes together; tell less of each alert, or \
                 group by more labels"
            ))
        })?;
        Ok(())
    }
}

/// Whether a text is no YAML but a text, as far as that shows at a glance. Most values of labels
/// are such, and there may be a hundred thousand of them.
fn is_plainly_text(text: &str) -> bool {
    /// Words that are values, also with spaces behind them.
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.' | b'/')
        })
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text.trim_end()))
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
                "LIST" => "[a, '5', \"[x, true]\"]",
                "MAP" => "{\"k\": \"No\"}",
                "NUMBER" => "5",
                other => other,
            }
            .to_owned())
        };
        assert_eq!(
            expanded(&value, &mut expand),
            Ok(json!({
                "name": [["a", 5, ["x", true]], {"k": false}, 5, 7, null, "word: 'x"],
                "e": null,
            }))
        );
    }

    #[test]
    fn what_alerts_say_is_no_template() {
        let mut asked = Vec::new();
        let mut expand = |text: &str| {
            asked.push(text.to_owned());
            Ok("[\"{{ nope }}\"]".to_owned())
        };
        assert_eq!(expanded(&json!("T"), &mut expand), Ok(json!(["{{ nope }}"])));
        assert_eq!(asked, ["T"]);
    }

    #[test]
    fn texts_have_a_limit_together() {
        let mut expand = |_: &str| Ok("x".repeat(10 << 20));
        let value = json!(["a", "b", "c", "d", "e", "f", "g"]);
        let failure = expanded(&value, &mut expand).expect_err("70 MiB");
        assert!(failure.message.contains("67108864 bytes"), "{}", failure.message);
    }

    #[test]
    fn spaces_behind_a_word_do_not_make_it_a_text() {
        assert!(!is_plainly_text("y "));
        assert!(is_plainly_text("yes or no"));
    }

    proptest::proptest! {
        #[test]
        fn the_glance_does_not_deceive(text in "[a-zA-Z0-9 ._/-]{0,6}|(?i)true|no|null|off") {
            let parsed = parse_plain_value(&text);
            let is_text = matches!(parsed, None | Some(Value::String(_)));
            proptest::prop_assert!(is_text || !is_plainly_text(&text), "{text:?} {parsed:?}");
        }
    }
}
