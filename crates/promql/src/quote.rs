//! Quoting as Go's `strconv.Quote`, in which messages and canonical queries are written.

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

/// `c` in single quotes with Go's escapes.
pub(crate) fn quote_char(c: char) -> String {
    let mut out = String::with_capacity(4);
    out.push('\'');
    write_escaped(c, '\'', &mut out);
    out.push('\'');
    out
}

fn write_escaped(c: char, quote: char, out: &mut String) {
    match c {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if c == quote => {
            out.push('\\');
            out.push(c);
        }
        // Printable, but not to be read back: the lexer takes it for the mark of broken UTF-8.
        char::REPLACEMENT_CHARACTER if quote == '"' => out.push_str("\\ufffd"),
        _ if is_printable(c) => out.push(c),
        _ if c < '\u{80}' => push(out, format_args!("\\x{:02x}", c as u32)),
        _ if c < '\u{10000}' => push(out, format_args!("\\u{:04x}", c as u32)),
        _ => push(out, format_args!("\\U{:08x}", c as u32)),
    }
}

/// Appends formatted text.
pub(crate) fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_printable(c: char) -> bool {
    // `escape_debug` leaves a character alone exactly if it is printable; it also escapes quotes
    // and backslashes, which the caller has dealt with.
    matches!(c, '"' | '\'') || (c.escape_debug().len() == 1)
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
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('"'), "'\"'");
    }
}
