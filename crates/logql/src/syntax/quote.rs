//! Quoting as Go's `strconv.Quote`, in which messages and canonical queries are written.

use std::fmt::Write as _;

/// `text` in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(text, &mut out);
    out
}

/// Appends `text` in double quotes with Go's escapes.
pub(crate) fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            // `escape_debug` leaves a character alone exactly if it is printable, but for `'`.
            '\'' => out.push('\''),
            _ if c.escape_debug().len() == 1 => out.push(c),
            _ => {
                let _ = match c as u32 {
                    code @ 0..0x80 => write!(out, "\\x{code:02x}"),
                    code @ 0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        assert_eq!(quote("a\"b\\c\n\x07\x01é世'"), r#""a\"b\\c\n\a\x01é世'""#);
        assert_eq!(quote("\u{200b}\u{e0001}"), r#""\u200b\U000e0001""#);
    }
}
