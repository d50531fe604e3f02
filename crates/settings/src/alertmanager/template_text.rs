//! Whether a text is a template, as far as that shows without the engine: its actions end, and so
//! do the quotes and comments in them.

/// Whether a text has actions.
///
/// # Errors
/// One of them does not end, in the words of Go's `text/template`.
pub(super) fn is_template(text: &str) -> Result<bool, String> {
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find("{{") {
        found = true;
        rest = after_action(&rest[at + 2..])?;
    }
    Ok(found)
}

/// What follows the action that `text` begins with.
fn after_action(text: &str) -> Result<&str, String> {
    let unclosed = || "unclosed action".to_owned();
    let inner = text.strip_prefix("- ").map_or(text, str::trim_start);
    if let Some(comment) = inner.strip_prefix("/*") {
        let (_, rest) = comment.split_once("*/").ok_or_else(|| "unclosed comment".to_owned())?;
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        let ended = rest.strip_prefix("}}");
        return ended.ok_or_else(|| "comment ends before closing delimiter".to_owned());
    }
    let mut rest = inner;
    loop {
        let at = rest.find(['"', '`', '\'', '}', '\n']).ok_or_else(unclosed)?;
        let found = &rest[at..];
        rest = match found.as_bytes()[0] {
            b'}' if found.starts_with("}}") => return Ok(&found[2..]),
            b'}' => &found[1..],
            b'`' => after_quote(&found[1..], '`').ok_or("unterminated raw quoted string")?,
            b'"' => after_quote(&found[1..], '"').ok_or("unterminated quoted string")?,
            b'\'' => after_quote(&found[1..], '\'').ok_or("unterminated character constant")?,
            _ => &found[1..],
        };
    }
}

/// What follows a quoted text behind its first quote.
fn after_quote(text: &str, mark: char) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if mark != '`' => escaped = true,
            '\n' if mark != '`' => return None,
            c if c == mark => return Some(&text[at + c.len_utf8()..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn actions_end() {
        for (text, want) in [
            ("http://host/", Ok(false)),
            ("http://host/{{ .GroupLabels.a }}/x", Ok(true)),
            ("{{- /* a }} */ -}}team", Ok(true)),
            ("{{ \"}}\" }}", Ok(true)),
            ("{{ `}}\n` }}{{ '}' }}", Ok(true)),
            ("{{ .Invalid", Err("unclosed action")),
            ("{{/* invalid }}team", Err("unclosed comment")),
            ("{{/* */ x }}", Err("comment ends before closing delimiter")),
            ("{{ \"a }}", Err("unterminated quoted string")),
        ] {
            assert_eq!(is_template(text), want.map_err(str::to_owned), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[{}\"'`/*\\\\ \né-]{0,30}") {
            let _ = is_template(&text);
        }
    }
}
