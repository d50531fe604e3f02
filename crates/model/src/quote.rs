//! Texts between quotes as Go's `strconv` writes and reads them, in which queries, messages and
//! templates have theirs.
//!
//! Source: <https://pkg.go.dev/strconv>, "Quote" and "Unquote".

use std::fmt::Write as _;

/// `text` in double quotes, with escapes for what is not printable.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(text, &mut out);
    out
}

/// Appends [`quote`] of `text`.
pub fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        write_escaped(c, '"', out);
    }
    out.push('"');
}

/// `c` in single quotes.
pub fn quote_char(c: char) -> String {
    let mut out = String::with_capacity(4);
    out.push('\'');
    write_escaped(c, '\'', &mut out);
    out.push('\'');
    out
}

/// Appends `c` as it stands in a text between `mark`s.
pub fn write_escaped(c: char, mark: char, out: &mut String) {
    match c {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if c == mark => {
            out.push('\\');
            out.push(c);
        }
        _ if is_printable(c) => out.push(c),
        _ => {
            let written = match c as u32 {
                code @ 0..0x80 => write!(out, "\\x{code:02x}"),
                code @ 0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            };
            written.expect("a string takes everything");
        }
    }
}

/// Whether Go prints a character as it is: letters, marks, numbers, punctuation, symbols and the
/// blank.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // `escape_debug` goes by the same tables, but escapes marks at the start of a text.
    let mut bytes = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..len]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// What a text stands for that was written between `mark`s; `inner` is what stands between them.
/// `None` if an escape is none or has no value. Escapes may spell bytes that are no UTF-8.
pub fn unquote(inner: &str, mark: char) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = unescape(escape, mark, &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Appends what the escape at the start of `text` stands for, and yields what follows it; `text`
/// begins behind the backslash.
fn unescape<'t>(text: &'t str, mark: char, out: &mut Vec<u8>) -> Option<&'t str> {
    let letter = text.chars().next()?;
    let (radix, digits) = match letter {
        '0'..='7' => (8, 0..3),
        'x' => (16, 1..3),
        'u' => (16, 1..5),
        'U' => (16, 1..9),
        _ => {
            let stands_for = match letter {
                'a' => 0x07,
                'b' => 0x08,
                'f' => 0x0c,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 0x0b,
                '\\' => b'\\',
                _ if letter == mark && mark.is_ascii() => letter as u8,
                _ => return None,
            };
            out.push(stands_for);
            return Some(&text[1..]);
        }
    };
    let (shown, rest) = (text.get(digits.clone())?, &text[digits.end..]);
    // Signs, which `from_str_radix` takes, are no digits.
    let value = shown.chars().try_fold(0_u32, |value, c| {
        c.to_digit(radix).and_then(|digit| value.checked_mul(radix)?.checked_add(digit))
    })?;
    if matches!(letter, 'u' | 'U') {
        let c = char::from_u32(value)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(value).ok()?);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_like_go() {
        assert_eq!(quote("a\"b\\c\n\x07\x01é世'"), r#""a\"b\\c\n\a\x01é世'""#);
        assert_eq!(quote("\u{200b}\u{e0001}"), r#""\u200b\U000e0001""#);
        // Marks are printable, wherever they stand.
        assert_eq!(quote("e\u{301}\u{301}"), "\"e\u{301}\u{301}\"");
        assert_eq!((quote_char('\'').as_str(), quote_char('"').as_str()), (r"'\''", "'\"'"));
    }

    #[test]
    fn unquotes_like_go() {
        for (inner, value) in [
            (r#"a\"b\\c\n"#, "a\"b\\c\n".as_bytes()),
            (r"\x41\101é\U0001F600", "AAé😀".as_bytes()),
            (r"\xc3\xa9\xff", b"\xc3\xa9\xff"),
        ] {
            assert_eq!(unquote(inner, '"').as_deref(), Some(value), "{inner}");
        }
        for inner in
            [r"\ud800", r"\777", r"\UFFFFFFFF", r"\q", r"\'", r"\x+1", r"\u12", "\\", r"\é"]
        {
            assert_eq!(unquote(inner, '"'), None, "{inner}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_unquoted(text in r#"([\x00-\x1f"'\\]|\PC|\pC|é){0,20}"#) {
            let quoted = quote(&text);
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(unquote(inner, '"'), Some(text.into_bytes()));
        }

        #[test]
        fn no_text_makes_it_panic(inner in r"(\\|[0-9a-fuUx+]|\PC){0,20}") {
            let _ = unquote(&inner, '"');
        }
    }
}
