//! Labels of a stream as text: `{app="a", level="debug"}`, as pushes write them.
//!
//! Loki reads them as Prometheus reads a metric, and its errors are Prometheus'.
//! Source: `promql/parser` of Prometheus, `ParseMetric`.

use model::METRIC_NAME;
use model::quote::{quote, quote_char, unquote, write_quoted};

use super::pairs::Pairs;

/// Longest part of a stream's labels that an error repeats.
const SHOWN_BYTES: usize = 8_192;

/// Reads labels into `out`, which is emptied first: names, which may be quoted, and values between
/// `"` or `'` with Go's escapes, or between backquotes. No text is no labels; a word before the brace
/// is the label `__name__`.
///
/// # Errors
/// What is wrong and where: `1:5: parse error: …`.
pub(super) fn read(text: &str, out: &mut Pairs) -> Result<(), String> {
    out.clear();
    let mut reader = Reader { text, at: 0, in_braces: false };
    let (mut start, mut token) = reader.next()?;
    if let Token::Identifier(name) = token {
        out.push(METRIC_NAME, name);
        (start, token) = reader.next()?;
    }
    if token == Token::Mark("{") {
        reader.in_braces = true;
        reader.pairs(out)?;
        reader.in_braces = false;
        (start, token) = reader.next()?;
    }
    if token == Token::End { Ok(()) } else { Err(reader.unexpected(start, &token, "")) }
}

/// Appends labels in the form that [`read`] reads.
pub(super) fn write<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>, out: &mut String) {
    write_with(labels, out, |name, out| {
        if is_plain_name(name) {
            out.push_str(name);
        } else {
            write_quoted(name, out);
        }
    });
}

/// As [`write()`], with all names as they are, which [`read`] might not take.
pub(super) fn write_bare<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>, out: &mut String) {
    write_with(labels, out, |name, out| out.push_str(name));
}

fn write_with<'l>(
    labels: impl Iterator<Item = (&'l str, &'l str)>,
    out: &mut String,
    write_name: impl Fn(&str, &mut String),
) {
    out.push('{');
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_name(name, out);
        out.push('=');
        write_quoted(value, out);
    }
    out.push('}');
}

/// Labels for an error: as [`write()`] has them, and only so much that it is not long.
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
    model::is_legacy_label_name(name)
}

#[derive(Debug, PartialEq)]
enum Token<'t> {
    /// `{`, `}`, `=`, `,`.
    Mark(&'static str),
    /// Another operator.
    Operator(&'static str),
    Identifier(&'t str),
    String(String),
    End,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    in_braces: bool,
}

impl<'t> Reader<'t> {
    /// Reads what stands between braces, and the second of them.
    fn pairs(&mut self, out: &mut Pairs) -> Result<(), String> {
        loop {
            let (start, token) = self.next()?;
            let name = match token {
                Token::Mark("}") => return Ok(()),
                Token::Identifier(name) => name.to_owned(),
                Token::String(name) => name,
                other => {
                    let wanted = " in label set, expected identifier or \"}\"";
                    return Err(self.unexpected(start, &other, wanted));
                }
            };
            let (start, token) = self.next()?;
            if token != Token::Mark("=") {
                return Err(self.unexpected(start, &token, " in label set, expected \"=\""));
            }
            let (start, token) = self.next()?;
            let Token::String(value) = token else {
                return Err(self.unexpected(start, &token, " in label set, expected string"));
            };
            out.push(&name, &value);
            let (start, token) = self.next()?;
            match token {
                Token::Mark(",") => {}
                Token::Mark("}") => return Ok(()),
                other => {
                    let wanted = " in label set, expected \",\" or \"}\"";
                    return Err(self.unexpected(start, &other, wanted));
                }
            }
        }
    }

    /// The next token and where it starts.
    fn next(&mut self) -> Result<(usize, Token<'t>), String> {
        const MARKS: &[(&str, Token<'static>)] = &[
            ("=~", Token::Operator("=~")),
            ("!~", Token::Operator("!~")),
            ("!=", Token::Operator("!=")),
            ("=", Token::Mark("=")),
            ("{", Token::Mark("{")),
            ("}", Token::Mark("}")),
            (",", Token::Mark(",")),
        ];
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\n', '\r']);
        let start = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            self.at = self.text.len();
            if self.in_braces {
                return Err(self.error(start, "unexpected end of input inside braces"));
            }
            return Ok((start, Token::End));
        };
        let (len, token) = match first {
            '"' | '\'' | '`' => self.string(start, rest, first)?,
            '_' | 'a'..='z' | 'A'..='Z' => {
                let continues = |c: char| {
                    c.is_ascii_alphanumeric() || c == '_' || (c == ':' && !self.in_braces)
                };
                let len = rest.find(|c| !continues(c)).unwrap_or(rest.len());
                (len, Token::Identifier(&rest[..len]))
            }
            c => {
                let known = MARKS.iter().find(|(text, _)| rest.starts_with(text));
                let place = if self.in_braces { " inside braces" } else { "" };
                let (text, token) = known.ok_or_else(|| {
                    let c = quote_char(c);
                    self.error(start, &format!("unexpected character{place}: {c}"))
                })?;
                let token = match token {
                    Token::Operator(text) => Token::Operator(text),
                    _ => Token::Mark(text),
                };
                (text.len(), token)
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
            is_escaped = mark != '`' && byte == b'\\' && !is_escaped;
            ends || (mark != '`' && byte == b'\n')
        });
        let Some(end) = end.filter(|end| inner.as_bytes()[*end] == mark as u8) else {
            let what = if mark == '`' { "raw" } else { "quoted" };
            return Err(self.error(start, &format!("unterminated {what} string")));
        };
        let inner = &inner[..end];
        if mark == '`' {
            return Ok((end + 2, Token::String(inner.to_owned())));
        }
        let value = unquote(inner, mark).ok_or_else(|| {
            self.error(start, &format!("error unquoting string {}", quote(inner)))
        })?;
        let value =
            String::from_utf8(value).map_err(|_| self.error(start, "invalid UTF-8 in a label"))?;
        Ok((end + 2, Token::String(value)))
    }

    fn unexpected(&self, start: usize, found: &Token<'_>, wanted: &str) -> String {
        let found = match found {
            Token::Mark(mark) => format!("\"{mark}\""),
            Token::Operator(operator) => format!("<op:{operator}>"),
            Token::Identifier(name) => format!("identifier {}", quote(name)),
            Token::String(text) => format!("string {}", quote(cut(text))),
            Token::End => "end of input".to_owned(),
        };
        self.error(start, &format!("unexpected {found}{wanted}"))
    }

    fn error(&self, start: usize, message: &str) -> String {
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.matches('\n').count();
        let column = start - line_start + 1;
        format!("{line}:{column}: parse error: {message}")
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
        let text = "n:m { app = \"a\\\"\\n\\u00e9\", raw=`x\\y`,\"q.n\"='v', by=\"b\", } ";
        let all = pairs(text).expect("valid");
        let shown: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let wanted =
            [("__name__", "n:m"), ("app", "a\"\né"), ("raw", "x\\y"), ("q.n", "v"), ("by", "b")];
        assert_eq!(shown, wanted);
        assert_eq!((pairs("{}"), pairs(" ")), (Ok(vec![]), Ok(vec![])));
    }

    #[test]
    fn faults_are_told_in_prometheus_words() {
        for (text, wanted) in [
            ("{foo}", "1:5: parse error: unexpected \"}\" in label set, expected \"=\""),
            (
                "{a=b}",
                "1:4: parse error: unexpected identifier \"b\" in label set, expected string",
            ),
            ("{a=~\"b\"}", "1:3: parse error: unexpected <op:=~> in label set, expected \"=\""),
            ("{a-b=\"c\"}", "1:3: parse error: unexpected character inside braces: '-'"),
            ("{é=\"c\"}", "1:2: parse error: unexpected character inside braces: 'é'"),
            (
                "{a=\"b\" c=\"d\"}",
                "1:8: parse error: unexpected identifier \"c\" in label set, expected \",\" or \"}\"",
            ),
            ("{\n a=\"b}", "2:4: parse error: unterminated quoted string"),
            ("{a=`b", "1:4: parse error: unterminated raw string"),
            ("{a=\"\\q\"}", "1:4: parse error: error unquoting string \"\\\\q\""),
            ("{a=\"\\xff\"}", "1:4: parse error: invalid UTF-8 in a label"),
            ("{a=\"b\"", "1:7: parse error: unexpected end of input inside braces"),
            ("{a=\"b\"} x", "1:9: parse error: unexpected identifier \"x\""),
            (
                "{,}",
                "1:2: parse error: unexpected \",\" in label set, expected identifier or \"}\"",
            ),
            ("a b", "1:3: parse error: unexpected identifier \"b\""),
            ("?", "1:1: parse error: unexpected character: '?'"),
        ] {
            assert_eq!(pairs(text), Err(wanted.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            labels in prop::collection::vec(
                ("[a-z_é. ][a-z0-9_é\"]{0,5}", "(\\PC|[\\x00-\\x20\"\\\\`])*"), 0..5,
            ),
        ) {
            let mut text = String::new();
            write(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())), &mut text);
            prop_assert_eq!(pairs(&text), Ok(labels));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[{}=,\"`'\\\\a1é\\n]){0,20}") {
            let _ = pairs(&text);
        }
    }
}
