//! Quoting as [`model::quote`], with the one exception that what is written can be read back.

use std::fmt::{self, Write as _};

/// Appends `text` in double quotes with Go's escapes.
pub(crate) fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        write_escaped(c, '"', out);
    }
    out.push('"');
}

/// `text` in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(text, &mut out);
    out
}

/// `text` as a string of PromQL between `mark`s, which are `"` or `'`.
pub(crate) fn write_string(mark: char, text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars() {
        match c {
            char::REPLACEMENT_CHARACTER => out.push_str("\\ufffd"),
            _ => write_escaped(c, mark, &mut out),
        }
    }
    out.push(mark);
    out
}

/// `bytes` in double quotes with Go's escapes; what is no UTF-8 becomes `\\xff`.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| write_escaped(c, '"', &mut out));
        for byte in chunk.invalid() {
            push(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn write_escaped(c: char, mark: char, out: &mut String) {
    match c {
        // Printable, but not to be read back: the lexer takes it for the mark of broken UTF-8.
        char::REPLACEMENT_CHARACTER if mark == '"' => out.push_str("\\ufffd"),
        _ => model::quote::write_escaped(c, mark, out),
    }
}

/// Appends formatted text.
pub(crate) fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        assert_eq!(quote("a\"b\\c\n\x07\x01é世"), r#""a\"b\\c\n\a\x01é世""#);
        assert_eq!(quote("it's"), "\"it's\"");
        assert_eq!(quote("\u{200b}\u{e0001}"), r#""\u200b\U000e0001""#);
        assert_eq!(quote_bytes(b"a\xc5z\""), r#""a\xc5z\"""#);
        assert_eq!(quote("\u{fffd}"), r#""\ufffd""#);
    }
}
