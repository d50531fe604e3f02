//! `json` with expressions: `json code="response.status", first="servers[0]"`.

use super::entry::{Category, StageError, State};
use super::json::string_value;
use super::json_scan::{
    Flow, Kind, MAX_DEPTH, Value, each_element, each_member, unescape_into, value_at,
};
use super::names::{Name, Names};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// A key of an object.
    Key(String),
    /// A place in an array, from 0.
    Index(usize),
}

/// Why a text is no path, in the words of Loki's parser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(String);

impl PathError {
    pub(crate) fn new(text: String) -> Self {
        PathError(text)
    }
}

/// Reads a path: `a.b`, `a["b"]`, `[0]`. An empty text is an empty path.
///
/// # Errors
/// `text` is no path.
pub fn parse_json_path(text: &str) -> Result<Vec<PathStep>, PathError> {
    let mut tokens = Tokens { rest: text };
    let mut steps = Vec::new();
    let mut token = tokens.next()?;
    while token != Token::End {
        match token {
            Token::Field(name) if steps.is_empty() => steps.push(PathStep::Key(name.to_owned())),
            Token::Dot if !steps.is_empty() => match tokens.next()? {
                Token::Field(name) => steps.push(PathStep::Key(name.to_owned())),
                other => return Err(unexpected(&other, Some("FIELD"))),
            },
            Token::OpenBracket => {
                steps.push(match tokens.next()? {
                    Token::Text(text) => PathStep::Key(text),
                    Token::Index(index) => PathStep::Index(index),
                    other => return Err(unexpected(&other, Some("STRING or INDEX"))),
                });
                match tokens.next()? {
                    Token::CloseBracket => {}
                    other => return Err(unexpected(&other, Some("RSB"))),
                }
            }
            other => {
                // Behind a step the path may end, too, and then no list is told.
                let wanted = steps.is_empty().then_some("LSB or FIELD");
                return Err(unexpected(&other, wanted));
            }
        }
        token = tokens.next()?;
    }
    Ok(steps)
}

#[derive(Debug, PartialEq)]
enum Token<'t> {
    Field(&'t str),
    Text(String),
    Index(usize),
    Dot,
    OpenBracket,
    CloseBracket,
    End,
}

fn unexpected(token: &Token<'_>, wanted: Option<&str>) -> PathError {
    let name = match token {
        Token::Field(_) => "FIELD",
        Token::Text(_) => "STRING",
        Token::Index(_) => "INDEX",
        Token::Dot => "DOT",
        Token::OpenBracket => "LSB",
        Token::CloseBracket => "RSB",
        Token::End => "$end",
    };
    PathError(match wanted {
        Some(wanted) => format!("syntax error: unexpected {name}, expecting {wanted}"),
        None => format!("syntax error: unexpected {name}"),
    })
}

struct Tokens<'t> {
    rest: &'t str,
}

impl<'t> Tokens<'t> {
    fn next(&mut self) -> Result<Token<'t>, PathError> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        let (token, len) = match first {
            '.' => (Token::Dot, 1),
            '[' => (Token::OpenBracket, 1),
            ']' => (Token::CloseBracket, 1),
            '"' => match quoted(self.rest) {
                Some((text, len)) => (Token::Text(text), len),
                // An open string is not told as such: what is missing is what follows it.
                None => (Token::Text(String::new()), self.rest.len()),
            },
            '0'..='9' => {
                let len = self.rest.bytes().take_while(u8::is_ascii_digit).count();
                let digits = &self.rest[..len];
                let index = digits
                    .parse()
                    .map_err(|_| PathError(format!("index {digits} is out of range")))?;
                (Token::Index(index), len)
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let len = self.rest.bytes().take_while(is_part).count();
                (Token::Field(&self.rest[..len]), len)
            }
            other => return Err(PathError(format!("unexpected char {other}"))),
        };
        self.rest = &self.rest[len..];
        Ok(token)
    }
}

/// A text between quotes with its escapes resolved, and its length with both quotes.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut end = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                end = Some(at);
                break;
            }
            _ => {}
        }
    }
    let end = end?;
    let mut out = String::new();
    if unescape_into(&mut out, &text[1..end]).is_err() {
        out = text[1..end].to_owned();
    }
    Some((out, end + 1))
}

/// Makes labels of what lies at given paths of a line.
#[derive(Debug, Clone)]
pub struct JsonPaths {
    /// Name of the label, and where its value lies.
    expressions: Vec<(String, Name, Vec<PathStep>)>,
}

impl JsonPaths {
    /// Labels with the paths of their values.
    pub fn new(expressions: Vec<(String, Vec<PathStep>)>) -> Self {
        let bound = expressions.into_iter().map(|(label, path)| (label, Name::default(), path));
        JsonPaths { expressions: bound.collect() }
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        for (label, name, _) in &mut self.expressions {
            *name = names.intern(label);
        }
    }

    /// Adds a label for each path; an empty one for what is not there.
    pub(crate) fn process(
        &self,
        origin: &str,
        line: &str,
        state: &mut State,
        scratch: &mut String,
    ) {
        if line.is_empty() || state.is_complete() {
            return;
        }
        if !line.starts_with(['"', '{', '[']) {
            state.set_error(StageError::Json, "");
            return;
        }
        for (_, name, path) in &self.expressions {
            let Some(value) = find(line, path, 0) else { continue };
            let value = match value.kind {
                Kind::Null => state.write(""),
                Kind::Object | Kind::Array => state.keep(origin, value.raw),
                _ => string_value(origin, value.raw, state, scratch),
            };
            let name = state.unless_taken(*name);
            state.set(Category::Parsed, name, value);
        }
        for (_, name, _) in &self.expressions {
            if state.get(origin, *name).is_none() {
                let empty = state.write("");
                state.set(Category::Parsed, *name, empty);
            }
        }
    }
}

/// The first value at `path`. What lies before a break in the text is found, what lies behind it is
/// not there.
fn find<'t>(text: &'t str, path: &[PathStep], depth: usize) -> Option<Value<'t>> {
    let Some((step, rest)) = path.split_first() else {
        return value_at(text, 0).ok().map(|(value, _)| value);
    };
    let mut found = None;
    if depth > MAX_DEPTH {
        return found;
    }
    match step {
        PathStep::Key(wanted) => {
            let mut unescaped = String::new();
            let _ = each_member(text, |key, value| {
                let is_it = if key.escaped {
                    unescaped.clear();
                    unescape_into(&mut unescaped, key.raw).is_ok() && unescaped == *wanted
                } else {
                    key.raw == wanted
                };
                if is_it {
                    found = inside(value, rest, depth);
                }
                Ok(if found.is_none() { Flow::Continue(()) } else { Flow::Break(()) })
            });
        }
        PathStep::Index(wanted) => {
            let mut index = 0;
            each_element(text, |value| {
                if index == *wanted {
                    found = inside(value, rest, depth);
                    return Flow::Break(());
                }
                index += 1;
                Flow::Continue(())
            });
        }
    }
    found
}

fn inside<'t>(value: Value<'t>, rest: &[PathStep], depth: usize) -> Option<Value<'t>> {
    match rest.first() {
        None => Some(value),
        Some(PathStep::Key(_)) if value.kind == Kind::Object => find(value.raw, rest, depth + 1),
        Some(PathStep::Index(_)) if value.kind == Kind::Array => find(value.raw, rest, depth + 1),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> PathStep {
        PathStep::Key(text.to_owned())
    }

    #[test]
    fn paths_are_read() {
        for (text, path) in [
            ("", vec![]),
            ("app", vec![key("app")]),
            ("[0]", vec![PathStep::Index(0)]),
            (
                "a.b[3][\"x y\"].c",
                vec![key("a"), key("b"), PathStep::Index(3), key("x y"), key("c")],
            ),
            ("[\"pod\"][\"uuid\"]", vec![key("pod"), key("uuid")]),
        ] {
            assert_eq!(parse_json_path(text).expect(text), path, "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_told() {
        for (text, error) in [
            ("field with space", "syntax error: unexpected FIELD"),
            ("[\"pod\"", "syntax error: unexpected $end, expecting RSB"),
            ("[\"pod\"\"x\"]", "syntax error: unexpected STRING, expecting RSB"),
            ("pod..uuid", "syntax error: unexpected DOT, expecting FIELD"),
            ("\"pod\"]", "syntax error: unexpected STRING, expecting LSB or FIELD"),
            (".pod", "syntax error: unexpected DOT, expecting LSB or FIELD"),
            ("pod]", "syntax error: unexpected RSB"),
            ("[\"key", "syntax error: unexpected $end, expecting RSB"),
            ("ü", "unexpected char ü"),
        ] {
            assert_eq!(parse_json_path(text).expect_err(text).to_string(), error, "{text}");
        }
    }

    #[test]
    fn values_are_found_by_path() {
        let text = r#"{"a":{"x":1},"a":{"b":[1,{"c":"d"}]},"e":null,"cut":"abc"#;
        let found =
            |path| find(text, &parse_json_path(path).expect("a path"), 0).map(|value| value.raw);
        assert_eq!(found("a.b[1].c"), Some("d"));
        assert_eq!(
            (found("a.b[0]"), found("a.x"), found("e")),
            (Some("1"), Some("1"), Some("null"))
        );
        assert_eq!(
            (found("a.b.c"), found("a[0]"), found("cut"), found("a.b[7]")),
            (None, None, None, None)
        );
    }
}
