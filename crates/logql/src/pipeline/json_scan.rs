//! A scanner for JSON in lines, which reads broken JSON as `buger/jsonparser` does, so that what is
//! extracted of it and what is said about it are Loki's.
//!
//! It checks no more than it has to: the ends of strings, objects and arrays. Everything works on
//! valid UTF-8 and cuts only beside ASCII characters.

use std::ops::ControlFlow;

use memchr::{memchr2, memchr3};

/// Objects nested deeper are passed over as a whole, like arrays.
pub(crate) const MAX_DEPTH: usize = 64;

/// What is wrong with a line, in jsonparser's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("Malformed JSON error")]
    Malformed,
    #[error("Value is string, but can't find closing '\"' symbol")]
    String,
    #[error("Value is array, but can't find closing ']' symbol")]
    Array,
    #[error("Value looks like object, but can't find closing '}}' symbol")]
    Object,
    #[error("Unknown value type")]
    UnknownType,
    #[error("Encountered an invalid escape sequence in a string")]
    Escape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Number,
    Boolean,
    Null,
    Object,
    Array,
}

/// A value as it stands in the text; a string without its quotes, escapes and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value<'t> {
    pub(crate) kind: Kind,
    pub(crate) raw: &'t str,
}

/// A key as it stands in the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'t> {
    pub(crate) raw: &'t str,
    pub(crate) escaped: bool,
}

/// Whether to go on.
pub(crate) type Flow = ControlFlow<()>;

/// Hands each key of the object at the start of `text` with its value to `member`. What follows the
/// object is not looked at. Yields whether `member` stopped it.
///
/// # Errors
/// There is no object, or it is broken; everything before the break was handed over.
pub(crate) fn each_member<'t>(
    text: &'t str,
    mut member: impl FnMut(Key<'t>, Value<'t>) -> Result<Flow, JsonError>,
) -> Result<Flow, JsonError> {
    let bytes = text.as_bytes();
    let mut at = next_token(bytes, 0).ok_or(JsonError::Object)?;
    if bytes[at] != b'{' {
        return Err(JsonError::Object);
    }
    at = next_token(bytes, at + 1).ok_or(JsonError::Malformed)?;
    loop {
        match bytes[at] {
            b'"' => at += 1,
            b'}' => return Ok(Flow::Continue(())),
            _ => return Err(JsonError::Object),
        }
        let (len, escaped) = string_end(&bytes[at..]).ok_or(JsonError::Malformed)?;
        let key = Key { raw: &text[at..at + len - 1], escaped };
        at += len;
        at = next_token(bytes, at).ok_or(JsonError::Malformed)?;
        if bytes[at] != b':' {
            return Err(JsonError::Malformed);
        }
        let (value, end) = value_at(text, at + 1)?;
        if member(key, value)?.is_break() {
            return Ok(Flow::Break(()));
        }
        at = next_token(bytes, end).ok_or(JsonError::Array)?;
        match bytes[at] {
            b'}' => return Ok(Flow::Continue(())),
            b',' => at = next_token(bytes, at + 1).ok_or(JsonError::Array)?,
            _ => return Err(JsonError::Object),
        }
    }
}

/// Hands each element of the array at the start of `text` to `element` until it says enough. A
/// broken array just ends.
pub(crate) fn each_element<'t>(text: &'t str, mut element: impl FnMut(Value<'t>) -> Flow) {
    let bytes = text.as_bytes();
    let Some(mut at) = next_token(bytes, 0) else { return };
    if bytes[at] != b'[' {
        return;
    }
    at += 1;
    loop {
        match next_token(bytes, at) {
            Some(next) if bytes[next] != b']' => at = next,
            _ => return,
        }
        let Ok((value, end)) = value_at(text, at) else { return };
        if element(value).is_break() {
            return;
        }
        match next_token(bytes, end) {
            Some(next) if bytes[next] == b',' => at = next + 1,
            _ => return,
        }
    }
}

/// What kind of thing a value of a JSON line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// A string.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`
    Null,
    /// An array.
    Array,
}

/// A JSON line, for whoever wants single values of it without a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct JsonMembers<'t> {
    text: &'t str,
}

impl<'t> JsonMembers<'t> {
    /// Members of the object at the start of `text`.
    pub fn new(text: &'t str) -> Self {
        JsonMembers { text }
    }

    /// Hands over each member that is no object, and those of objects inside down to `depth`, the
    /// line itself being 1, until `take` says no. `take` gets the key, as it stands in the text, and
    /// the value, a string without its quotes. What is broken ends it.
    pub fn for_each(
        self,
        depth: usize,
        mut take: impl FnMut(&'t str, ScalarKind, &'t str) -> bool,
    ) {
        // The outcome says only whether it ended early.
        let _ = scalars(self.text, depth.min(MAX_DEPTH), &mut take);
    }

    /// A string without its escapes; `None` if one is broken.
    pub fn text(raw: &str) -> Option<String> {
        let mut out = String::new();
        unescape_into(&mut out, raw).ok().map(|()| out)
    }
}

fn scalars<'t>(
    text: &'t str,
    depth: usize,
    take: &mut dyn FnMut(&'t str, ScalarKind, &'t str) -> bool,
) -> Result<Flow, JsonError> {
    each_member(text, |key, value| {
        let kind = match value.kind {
            Kind::String => ScalarKind::Text,
            Kind::Number => ScalarKind::Number,
            Kind::Boolean => ScalarKind::Boolean,
            Kind::Null => ScalarKind::Null,
            Kind::Array => ScalarKind::Array,
            Kind::Object if depth > 1 => return scalars(value.raw, depth - 1, take),
            Kind::Object => return Ok(Flow::Continue(())),
        };
        Ok(if take(key.raw, kind, value.raw) { Flow::Continue(()) } else { Flow::Break(()) })
    })
}

/// The value at `from` or behind blanks there, and where it ends.
pub(crate) fn value_at(text: &str, from: usize) -> Result<(Value<'_>, usize), JsonError> {
    let bytes = text.as_bytes();
    let at = next_token(bytes, from).ok_or(JsonError::Malformed)?;
    let (kind, end) = match bytes[at] {
        b'"' => {
            let (len, _) = string_end(&bytes[at + 1..]).ok_or(JsonError::String)?;
            let end = at + 1 + len;
            return Ok((Value { kind: Kind::String, raw: &text[at + 1..end - 1] }, end));
        }
        b'[' => (Kind::Array, at + block_end(&bytes[at..], b'[', b']').ok_or(JsonError::Array)?),
        b'{' => (Kind::Object, at + block_end(&bytes[at..], b'{', b'}').ok_or(JsonError::Object)?),
        first => {
            let is_end =
                |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']');
            let len = bytes[at..].iter().position(is_end).unwrap_or(bytes.len() - at);
            let kind = match (first, &bytes[at..at + len]) {
                (b't' | b'f', b"true" | b"false") => Kind::Boolean,
                (b'n', b"null") => Kind::Null,
                (b'0'..=b'9' | b'-', _) => Kind::Number,
                _ => return Err(JsonError::UnknownType),
            };
            (kind, at + len)
        }
    };
    Ok((Value { kind, raw: &text[at..end] }, end))
}

/// Where the next character that is no blank stands.
fn next_token(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))?;
    Some(from + blanks)
}

/// Length of a string behind its opening quote, the closing one included; and whether it has
/// escapes.
fn string_end(bytes: &[u8]) -> Option<(usize, bool)> {
    let mut at = 0;
    let mut escaped = false;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((at + 1, escaped));
        }
        escaped = true;
        at += 2;
    }
}

/// Length of the object or array at the start of `bytes`.
fn block_end(bytes: &[u8], open: u8, close: u8) -> Option<usize> {
    let mut level = 0usize;
    let mut at = 0;
    loop {
        at += memchr3(b'"', open, close, bytes.get(at..)?)?;
        let byte = bytes[at];
        at += 1;
        if byte == b'"' {
            at += string_end(&bytes[at..])?.0;
        } else if byte == open {
            level += 1;
        } else {
            level -= 1;
            if level == 0 {
                return Some(at);
            }
        }
    }
}

/// Appends `raw` with its escapes resolved.
///
/// # Errors
/// An escape is none; a part was appended then.
pub(crate) fn unescape_into(out: &mut String, raw: &str) -> Result<(), JsonError> {
    unescape(out, raw, false)
}

/// As [`unescape_into`], for values of logfmt, where `\'` is an escape, too.
///
/// # Errors
/// An escape is none; a part was appended then.
pub(crate) fn unescape_logfmt_into(out: &mut String, raw: &str) -> Result<(), JsonError> {
    unescape(out, raw, true)
}

fn unescape(out: &mut String, raw: &str, takes_apostrophe: bool) -> Result<(), JsonError> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).ok_or(JsonError::Escape)?;
        let mut len = 2;
        let c = match escape {
            b'"' | b'\\' | b'/' => char::from(*escape),
            b'\'' if takes_apostrophe => '\'',
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, taken) = code_point(&rest.as_bytes()[at..])?;
                len = taken;
                c
            }
            _ => return Err(JsonError::Escape),
        };
        out.push(c);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Ok(())
}

/// The character of `\u1234` or of a pair of surrogates at the start of `bytes`, and their length. A
/// lone surrogate is U+FFFD.
fn code_point(bytes: &[u8]) -> Result<(char, usize), JsonError> {
    let first = code_unit(bytes).ok_or(JsonError::Escape)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, 6));
    }
    if first < 0xDC00 && bytes[6..].starts_with(b"\\u") {
        let second = code_unit(&bytes[6..]).ok_or(JsonError::Escape)?;
        if (0xDC00..0xE000).contains(&second) {
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return Ok((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12));
        }
    }
    Ok((char::REPLACEMENT_CHARACTER, 6))
}

fn code_unit(bytes: &[u8]) -> Option<u32> {
    bytes
        .get(2..6)?
        .iter()
        .try_fold(0, |value, byte| char::from(*byte).to_digit(16).map(|digit| value * 16 + digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> (Vec<String>, Result<(), JsonError>) {
        let mut all = Vec::new();
        let outcome = each_member(text, |key, value| {
            all.push(format!("{}={:?}:{}", key.raw, value.kind, value.raw));
            Ok(Flow::Continue(()))
        });
        (all, outcome.map(|_| ()))
    }

    #[test]
    fn members_of_an_object_are_found() {
        let text =
            r#" {"a" : "x\"y", "b":[1,"]"],"c":{"d":"}"} ,"e":-1.5e3,"f":true,"g":null,} tail"#;
        let (all, outcome) = members(text);
        assert_eq!(outcome, Ok(()));
        assert_eq!(
            all,
            [
                r#"a=String:x\"y"#,
                r#"b=Array:[1,"]"]"#,
                r#"c=Object:{"d":"}"}"#,
                "e=Number:-1.5e3",
                "f=Boolean:true",
                "g=Null:null",
            ]
        );
    }

    #[test]
    fn broken_objects_yield_what_is_before_the_break() {
        for (text, count, error) in [
            ("{n}", 0, JsonError::Object),
            ("", 0, JsonError::Object),
            ("[1]", 0, JsonError::Object),
            ("{", 0, JsonError::Malformed),
            (r#"{"a":1,"b":{"c":2,"d":"x"#, 1, JsonError::Object),
            (r#"{"a":1,"b":"x"#, 1, JsonError::String),
            (r#"{"a":1,"b":[1"#, 1, JsonError::Array),
            (r#"{"a":1"#, 1, JsonError::Array),
            (r#"{"a":1 "b":2}"#, 1, JsonError::Object),
            (r#"{"a":tru}"#, 0, JsonError::UnknownType),
            (r#"{"a" 1}"#, 0, JsonError::Malformed),
            (r#"{"a":"#, 0, JsonError::Malformed),
        ] {
            let (all, outcome) = members(text);
            assert_eq!((all.len(), outcome), (count, Err(error)), "{text}");
        }
    }

    #[test]
    fn escapes_are_resolved() {
        for (raw, want) in [
            (r#"a\n\"\/é"#, Some("a\n\"/é")),
            (r"\u00e9\ud83d\ude00", Some("é😀")),
            (r"\ud83dx\ude00", Some("\u{fffd}x\u{fffd}")),
            (r"\x", None),
            (r"\u12", None),
            ("\\", None),
        ] {
            let mut out = String::new();
            let outcome = unescape_into(&mut out, raw);
            assert_eq!(outcome.ok().map(|()| out.as_str()), want, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_scanner_panic(text in r#"([{}\[\],:"\\ ]|\PC|true|null|-1|\\u0e){0,40}"#) {
            let _ = members(&text);
            each_element(&text, |_| Flow::Continue(()));
            let _ = unescape_into(&mut String::new(), &text);
        }
    }
}
