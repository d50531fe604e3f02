//! Styles: where strings, addresses and comments begin and end, and values in them.

use super::FAILSAFE;
use super::context::{Context, State};
use super::transition::{Step, url};

const BLANKS: &[char] = &['\t', '\n', '\u{c}', '\r', ' '];

/// The context behind the first mark of a style.
pub(super) fn code(mut context: Context, text: &str) -> (Context, usize) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = text[from..].find(['(', '"', '\'', '/']).map(|at| from + at) {
        let (state, end) = match (bytes[at], bytes.get(at + 1)) {
            (b'(', _) if ends_with_url(text[..at].trim_end_matches(BLANKS)) => {
                let inside = &text[at + 1..];
                let start = at + 1 + inside.len() - inside.trim_start_matches(BLANKS).len();
                match bytes.get(start) {
                    Some(b'"') => (State::CssDoubleQuotedUrl, start + 1),
                    Some(b'\'') => (State::CssSingleQuotedUrl, start + 1),
                    _ => (State::CssUrl, start),
                }
            }
            (b'/', Some(b'/')) => (State::CssLineComment, at + 2),
            (b'/', Some(b'*')) => (State::CssBlockComment, at + 2),
            (b'"', _) => (State::CssDoubleQuoted, at + 1),
            (b'\'', _) => (State::CssSingleQuoted, at + 1),
            _ => {
                from = at + 1;
                continue;
            }
        };
        context.state = state;
        return (context, end);
    }
    (context, text.len())
}

fn ends_with_url(text: &str) -> bool {
    let Some(at) = text.len().checked_sub(3) else { return false };
    text.as_bytes()[at..].eq_ignore_ascii_case(b"url")
        && !text[..at].chars().next_back().is_some_and(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_' || (c >= '\u{80}' && c != '\u{ffff}')
}

/// The context behind a string or address.
pub(super) fn string(mut context: Context, text: &str) -> Step {
    let ends: &[char] = match context.state {
        State::CssDoubleQuoted | State::CssDoubleQuotedUrl => &['\\', '"'],
        State::CssSingleQuoted | State::CssSingleQuotedUrl => &['\\', '\''],
        _ => &['\\', '\t', '\n', '\u{c}', '\r', ' ', ')'],
    };
    let mut from = 0;
    loop {
        let Some(at) = text[from..].find(ends).map(|at| from + at) else {
            let context = url(context, &decoded(&text[from..]));
            return Ok((context, text.len()));
        };
        if text.as_bytes()[at] != b'\\' {
            context.state = State::Css;
            return Ok((context, at + 1));
        }
        let Some(escaped) = text[at + 1..].chars().next() else {
            let quoted = model::quote::quote(text);
            return Err(format!("unfinished escape sequence in CSS string: {quoted}"));
        };
        from = at + 1 + escaped.len_utf8();
        context = url(context, &decoded(&text[..from]));
    }
}

/// A text with its escapes resolved.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
        if digits == 0 {
            let Some(c) = rest.chars().next() else { return out };
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let mut len = digits;
        let mut code = u32::from_str_radix(&rest[..len], 16).unwrap_or(0);
        if code > 0x10_ffff {
            len -= 1;
            code /= 16;
        }
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &rest[len..];
        // One blank ends the number.
        rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(BLANKS)).unwrap_or(rest);
    }
    out.push_str(rest);
    out
}

/// A text inside a string of a style.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let hex = match c {
            '\\' => {
                out.push_str("\\\\");
                continue;
            }
            '\0' | '\t' | '\n' | '\u{c}' | '\r' | '"' | '&' | '\'' | '(' | ')' | '+' | '/'
            | ':' | ';' | '<' | '>' | '{' | '}' => format!("\\{:x}", c as u32),
            c => {
                out.push(c);
                continue;
            }
        };
        out.push_str(&hex);
        // What follows must not be taken for a digit of it.
        if chars.peek().is_none_or(|next| next.is_ascii_hexdigit() || BLANKS.contains(next)) {
            out.push(' ');
        }
    }
    out
}

/// A value of a style, if it is a harmless one.
pub(super) fn filtered(text: &str) -> String {
    let value = decoded(text);
    let mut before = ' ';
    let mut name = String::new();
    for c in value.chars() {
        match c {
            '\0' | '"' | '\'' | '(' | ')' | '/' | ';' | '@' | '[' | '\\' | ']' | '`' | '{'
            | '}' | '<' | '>' => return FAILSAFE.to_owned(),
            '-' if before == '-' => return FAILSAFE.to_owned(),
            '-' => {}
            c if c.is_ascii() && is_name_char(c) => name.push(c.to_ascii_lowercase()),
            _ => {}
        }
        before = c;
    }
    if name.contains("expression") || name.contains("mozbinding") {
        return FAILSAFE.to_owned();
    }
    value
}
