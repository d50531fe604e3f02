//! Labels of a stream as text: `{app="a", level="debug"}`, as pushes write them.

use std::fmt::Write as _;

use model::quote::{unquote, write_quoted};

use super::pairs::Pairs;

/// Longest part of a stream's labels that an error repeats.
const SHOWN_BYTES: usize = 8_192;

/// Reads labels into `out`, which is emptied first: names as they stand there, which may be quoted,
/// and values between `"` with Go's escapes, or between backquotes.
///
/// # Errors
/// What is wrong and where, as Loki says it: `parse error at line 1, col 5: …`.
pub(super) fn read(text: &str, out: &mut Pairs) -> Result<(), String> {
    out.clear();
    let mut reader = Reader { text, at: 0 };
    reader.expect(&Token::OpenBrace)?;
    loop {
        let (start, token) = reader.next()?;
        let name = match token {
            Token::CloseBrace => break,
            Token::Identifier(name) => name.to_owned(),
            Token::String(name) => name,
            other => return Err(reader.unexpected(start, &other, "IDENTIFIER or CLOSE_BRACE")),
        };
        reader.expect(&Token::Eq)?;
        let (start, token) = reader.next()?;
        let Token::String(value) = token else {
            return Err(reader.unexpected(start, &token, "STRING"));
        };
        out.push(&name, &value);
        let (start, token) = reader.next()?;
        match token {
            Token::Comma => {}
            Token::CloseBrace => break,
            other => return Err(reader.unexpected(start, &other, "CLOSE_BRACE or COMMA")),
        }
    }
    reader.expect(&Token::End)
}

/// Appends labels in the form that [`read`] reads.
pub(super) fn write<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(name);
        out.push('=');
        write_quoted(value, out);
    }
    out.push('}');
}

/// Labels for an error: as [`write`] has them, and only so much that it is not long.
pub(super) fn shown<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let mut out = String::new();
    write(labels, &mut out);
    out.truncate(cut(&out).len());
    out
}

/// So much of a text that an error which repeats it is not long.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES)]
}

/// Whether a name may stand in such a text without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(begins_name) && chars.all(continues_name)
}

fn begins_name(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn continues_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[derive(Debug, PartialEq)]
enum Token<'t> {
    OpenBrace,
    CloseBrace,
    Eq,
    Comma,
    Identifier(&'t str),
    String(String),
    /// Anything else, by the name that Loki's grammar gives it.
    Other(&'static str),
    End,
}

impl Token<'_> {
    fn name(&self) -> &'static str {
        match self {
            Token::OpenBrace => "OPEN_BRACE",
            Token::CloseBrace => "CLOSE_BRACE",
            Token::Eq => "EQ",
            Token::Comma => "COMMA",
            Token::Identifier(_) => "IDENTIFIER",
            Token::String(_) => "STRING",
            Token::Other(name) => name,
            Token::End => "$end",
        }
    }
}

/// Tokens that have no place here, the longer first.
const OTHERS: &[(&str, &str)] = &[
    ("=~", "RE"),
    ("==", "CMP_EQ"),
    ("!=", "NEQ"),
    ("!~", "NRE"),
    (">=", "GTE"),
    ("<=", "LTE"),
    ("|=", "PIPE_EXACT"),
    ("|~", "PIPE_MATCH"),
    ("|", "PIPE"),
    (">", "GT"),
    ("<", "LT"),
    ("(", "OPEN_PARENTHESIS"),
    (")", "CLOSE_PARENTHESIS"),
    ("[", "OPEN_BRACKET"),
    ("]", "CLOSE_BRACKET"),
    (".", "DOT"),
    ("+", "ADD"),
    ("-", "SUB"),
    ("*", "MUL"),
    ("/", "DIV"),
    ("%", "MOD"),
    ("^", "POW"),
];

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn expect(&mut self, wanted: &Token<'_>) -> Result<(), String> {
        let (start, token) = self.next()?;
        if token == *wanted { Ok(()) } else { Err(self.unexpected(start, &token, wanted.name())) }
    }

    /// The next token and where it starts.
    fn next(&mut self) -> Result<(usize, Token<'t>), String> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            self.at = self.text.len();
            return Ok((start, Token::End));
        };
        let (len, token) = match first {
            '{' => (1, Token::OpenBrace),
            '}' => (1, Token::CloseBrace),
            ',' => (1, Token::Comma),
            '=' if !rest[1..].starts_with(['~', '=']) => (1, Token::Eq),
            '"' | '`' => self.string(start, rest, first)?,
            c if begins_name(c) => {
                let len = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
                (len, Token::Identifier(&rest[..len]))
            }
            c if c.is_ascii_digit() => {
                let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                (len, Token::Other("NUMBER"))
            }
            c => {
                let known = OTHERS.iter().find(|(text, _)| rest.starts_with(text));
                known.map_or((c.len_utf8(), Token::Other("$unk")), |(text, name)| {
                    (text.len(), Token::Other(name))
                })
            }
        };
        self.at = start + len;
        Ok((start, token))
    }

    fn string(&self, start: usize, rest: &str, mark: char) -> Result<(usize, Token<'t>), String> {
        let inner = &rest[1..];
        let mut is_escaped = false;
        let end = inner.bytes().position(|byte| {
            let ends = byte == mark as u8 && !is_escaped;
            is_escaped = mark == '"' && byte == b'\\' && !is_escaped;
            ends || (mark == '"' && byte == b'\n')
        });
        let Some(end) = end.filter(|end| inner.as_bytes()[*end] == mark as u8) else {
            return Err(self.error(start, "literal not terminated"));
        };
        let inner = &inner[..end];
        if mark == '`' {
            return Ok((end + 2, Token::String(inner.replace('\r', ""))));
        }
        let value = unquote(inner, mark).ok_or_else(|| self.error(start, "invalid syntax"))?;
        let value =
            String::from_utf8(value).map_err(|_| self.error(start, "invalid UTF-8 encoding"))?;
        Ok((end + 2, Token::String(value)))
    }

    fn unexpected(&self, start: usize, found: &Token<'_>, wanted: &str) -> String {
        let message = format!("syntax error: unexpected {}, expecting {wanted}", found.name());
        self.error(start, &message)
    }

    fn error(&self, start: usize, message: &str) -> String {
        let mut out = String::from("parse error ");
        if self.text.is_empty() {
            out.push_str(": ");
        } else {
            let before = &self.text[..start];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = 1 + before.matches('\n').count();
            let column = before[line_start..].chars().count() + 1;
            write!(out, "at line {line}, col {column}: ").expect("a string takes everything");
        }
        out.push_str(message);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut out = Pairs::default();
        read(text, &mut out)?;
        Ok(out.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn labels_are_read_as_pushes_write_them() {
        let all = pairs("{ app = \"a\\\"\\n\\u00e9\", raw=`x\\y`,\"q.n\"=\"v\", by=\"b\", }")
            .expect("valid");
        let shown: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let wanted = [("app", "a\"\né"), ("raw", "x\\y"), ("q.n", "v"), ("by", "b")];
        assert_eq!(shown, wanted);
        assert_eq!(pairs("{}"), Ok(vec![]));
    }

    #[test]
    fn faults_are_told_in_lokis_words() {
        for (text, wanted) in [
            ("", "parse error : syntax error: unexpected $end, expecting OPEN_BRACE"),
            ("foo", "at line 1, col 1: syntax error: unexpected IDENTIFIER, expecting OPEN_BRACE"),
            ("{foo}", "at line 1, col 5: syntax error: unexpected CLOSE_BRACE, expecting EQ"),
            ("{a=b}", "at line 1, col 4: syntax error: unexpected IDENTIFIER, expecting STRING"),
            ("{a=~\"b\"}", "at line 1, col 3: syntax error: unexpected RE, expecting EQ"),
            ("{a-b=\"c\"}", "at line 1, col 3: syntax error: unexpected SUB, expecting EQ"),
            (
                "{a=\"b\" c=\"d\"}",
                "at line 1, col 8: syntax error: unexpected IDENTIFIER, expecting CLOSE_BRACE or COMMA",
            ),
            ("{\n a=\"b}", "at line 2, col 4: literal not terminated"),
            ("{a=\"\\q\"}", "at line 1, col 4: invalid syntax"),
            ("{a=\"\\xff\"}", "at line 1, col 4: invalid UTF-8 encoding"),
            (
                "{a=\"b\"} x",
                "at line 1, col 9: syntax error: unexpected IDENTIFIER, expecting $end",
            ),
            ("{1=\"b\"}", "unexpected NUMBER, expecting IDENTIFIER or CLOSE_BRACE"),
        ] {
            let error = pairs(text).expect_err(text);
            assert!(error.ends_with(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            labels in prop::collection::vec(("[a-z_é][a-z0-9_é]{0,5}", "(\\PC|[\\x00-\\x20\"\\\\`])*"), 0..5),
        ) {
            let mut text = String::new();
            write(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())), &mut text);
            prop_assert_eq!(pairs(&text), Ok(labels));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[{}=,\"`\\\\a1é\\n]){0,20}") {
            let _ = pairs(&text);
        }
    }
}
