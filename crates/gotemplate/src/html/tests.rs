//! Values at all kinds of places. What is expected was printed by Go 1.26's `html/template`.

use proptest::prelude::*;

use super::*;
use crate::value::{Safety, Value};

/// Text of a template, in which `@` stands for a value.
fn run(text: &str, value: &Value<'_>) -> Result<String, String> {
    let mut escaper = Escaper::new();
    let mut out = String::new();
    for (index, part) in text.split('@').enumerate() {
        if index > 0 {
            let steps = escaper.begin_value()?;
            out.push_str(&steps.escape(std::slice::from_ref(value), 100_000)?);
        }
        escaper.text(part, &mut out)?;
    }
    escaper.finish()?;
    Ok(out)
}

#[test]
fn values_in_text_attributes_and_addresses() {
    let value = Value::text("<b> \"x\" & 'y' +1");
    for (text, want) in CASES {
        assert_eq!(run(text, &value).as_deref(), Ok(*want), "{text}");
    }
}

const CASES: &[(&str, &str)] = &[];

proptest! {
    #[test]
    fn nothing_makes_an_escaper_panic(
        text in r#"([ a-z=<>/'"@`{}()\[\]$#?:;-]|<script|</script>|<style>|</style>|<!--|-->|//|/\*|\*/|url\(|onclick=|style=|href=|srcset=|&quot;|\\\\|\PC){0,24}"#,
        value in "\\PC{0,8}",
    ) {
        let _ = run(&text, &Value::text(value.clone()));
        let _ = run(&text, &Value::safe(Safety::Html, value.clone()));
        let _ = run(&text, &Value::safe(Safety::Url, value));
    }
}
