//! The UTF-8 syntax: names and values are quoted, or free of what the syntax itself needs.

use model::{MatchOp, MatcherError, quote};

use super::LabelMatcher;

/// Whether a character may stand in quotes only.
pub(super) fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    End,
    OpenBrace,
    CloseBrace,
    Comma,
    Op(MatchOp),
    Quoted,
    Unquoted,
}

/// A piece of the text; columns count characters from 0.
#[derive(Debug, Clone, Copy)]
struct Token<'t> {
    kind: Kind,
    text: &'t str,
    start: usize,
    end: usize,
}

/// Cuts the text into tokens. Cheap to copy, which is how the parser looks ahead.
#[derive(Debug, Clone, Copy)]
struct Lexer<'t> {
    rest: &'t str,
    column: usize,
}

impl<'t> Lexer<'t> {
    fn next(&mut self) -> Result<Token<'t>, String> {
        let trimmed = self.rest.trim_start();
        self.column += chars(&self.rest[..self.rest.len() - trimmed.len()]);
        self.rest = trimmed;
        let mut following = trimmed.chars();
        let (first, second) = (following.next(), following.next());
        let (kind, len) = match (first, second) {
            (None, _) => (Kind::End, 0),
            (Some('{'), _) => (Kind::OpenBrace, 1),
            (Some('}'), _) => (Kind::CloseBrace, 1),
            (Some(','), _) => (Kind::Comma, 1),
            (Some('='), Some('~')) => (Kind::Op(MatchOp::Regex), 2),
            (Some('='), _) => (Kind::Op(MatchOp::Equal), 1),
            (Some('!'), Some('=')) => (Kind::Op(MatchOp::NotEqual), 2),
            (Some('!'), Some('~')) => (Kind::Op(MatchOp::NotRegex), 2),
            (Some('!'), second) => return Err(self.bad_operator(second.is_none())),
            (Some('"'), _) => (Kind::Quoted, self.quoted()?),
            (Some(c), _) if is_reserved(c) => {
                let (from, to) = (self.column, self.column + 1);
                return Err(format!("{from}:{to}: {c}: invalid input"));
            }
            (Some(_), _) => (Kind::Unquoted, trimmed.find(is_reserved).unwrap_or(trimmed.len())),
        };
        let (text, rest) = trimmed.split_at(len);
        let start = self.column;
        self.column += chars(text);
        self.rest = rest;
        Ok(Token { kind, text, start, end: self.column })
    }

    fn bad_operator(&self, at_end: bool) -> String {
        let (from, to) = (self.column, self.column + 1);
        if at_end {
            format!("{from}:{to}: unexpected end of input, expected one of '=~'")
        } else {
            format!("{from}:{to}: !: expected one of '=~'")
        }
    }

    /// Length of the quoted text at the start, quotes included.
    fn quoted(&self) -> Result<usize, String> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Ok(at + 1),
                _ => {}
            }
        }
        let (from, to) = (self.column, self.column + chars(self.rest));
        Err(format!("{from}:{to}: {}: missing end \"", self.rest))
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

impl Token<'_> {
    /// What the token stands for.
    fn value(&self) -> Result<String, String> {
        if self.kind != Kind::Quoted {
            return Ok(self.text.to_owned());
        }
        let inner = self.text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inner
            .filter(|inner| !inner.contains('\n'))
            .and_then(|inner| quote::unquote(inner, '"'))
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| format!("{}:{}: {}: invalid input", self.start, self.end, self.text))
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
}

/// Why the next token is not taken.
enum Unexpected {
    /// There is none.
    End,
    Other(String),
}

impl Unexpected {
    fn saying(self, wanted: &str) -> String {
        match self {
            Unexpected::End => format!("end of input: {wanted}"),
            Unexpected::Other(what) => format!("{what}: {wanted}"),
        }
    }
}

impl<'t> Parser<'t> {
    /// The next token if it is of a wanted kind.
    fn peek(&self, wanted: impl Fn(Kind) -> bool) -> Result<Token<'t>, Unexpected> {
        let mut ahead = self.lexer;
        let token = ahead.next().map_err(Unexpected::Other)?;
        if token.kind == Kind::End {
            return Err(Unexpected::End);
        }
        if !wanted(token.kind) {
            let Token { start, end, text, .. } = token;
            return Err(Unexpected::Other(format!("{start}:{end}: unexpected {text}")));
        }
        Ok(token)
    }

    fn take(&mut self, wanted: impl Fn(Kind) -> bool) -> Result<Token<'t>, Unexpected> {
        let token = self.peek(wanted)?;
        self.lexer.next().map_err(Unexpected::Other)?;
        Ok(token)
    }

    fn matchers(&mut self) -> Result<Vec<LabelMatcher>, String> {
        let mut first = self.lexer;
        let braces = match first.next()?.kind {
            Kind::End => return Ok(Vec::new()),
            kind => kind == Kind::OpenBrace,
        };
        if braces {
            self.lexer = first;
        }
        let mut all = Vec::new();
        let mut ahead = self.lexer;
        if !matches!(ahead.next()?.kind, Kind::CloseBrace | Kind::End) {
            all.push(self.matcher()?);
            while self.comma()? {
                all.push(self.matcher()?);
            }
        }
        self.close(braces)?;
        Ok(all)
    }

    /// Whether another matcher follows.
    fn comma(&mut self) -> Result<bool, String> {
        let token = match self.peek(|kind| matches!(kind, Kind::Comma | Kind::CloseBrace)) {
            Ok(token) => token,
            Err(Unexpected::End) => return Ok(false),
            Err(other) => return Err(other.saying("expected a comma or close brace")),
        };
        if token.kind == Kind::CloseBrace {
            return Ok(false);
        }
        self.lexer.next()?;
        match self.peek(|kind| matches!(kind, Kind::CloseBrace | Kind::Unquoted | Kind::Quoted)) {
            Ok(token) => Ok(token.kind != Kind::CloseBrace),
            Err(Unexpected::End) => Ok(false),
            Err(other) => Err(other.saying("expected a matcher or close brace after comma")),
        }
    }

    fn matcher(&mut self) -> Result<LabelMatcher, String> {
        let is_text = |kind| matches!(kind, Kind::Quoted | Kind::Unquoted);
        let name =
            self.take(is_text).map_err(|error| error.saying("expected label name"))?.value()?;
        let op = self
            .take(|kind| matches!(kind, Kind::Op(_)))
            .map_err(|error| error.saying("expected an operator such as '=', '!=', '=~' or '!~'"))?
            .kind;
        let value =
            self.take(is_text).map_err(|error| error.saying("expected label value"))?.value()?;
        let Kind::Op(op) = op else { return Err("expected an operator".to_owned()) };
        LabelMatcher::new(name, op, value)
            .map_err(|error| format!("failed to create matcher: {error}"))
    }

    fn close(&mut self, braces: bool) -> Result<(), String> {
        let column = self.lexer.column;
        match self.take(|kind| kind == Kind::CloseBrace) {
            Err(error) if braces => {
                return Err(format!("0:{column}: {}", error.saying("expected close brace")));
            }
            Ok(token) if !braces => {
                return Err(format!("0:{}: }}: expected opening brace", token.end));
            }
            _ => {}
        }
        let token = self.lexer.next().map_err(|error| format!("{error}: expected end of input"))?;
        if token.kind == Kind::End {
            return Ok(());
        }
        let Token { start, end, text, .. } = token;
        Err(format!("{start}:{end}: {text}: expected end of input"))
    }
}

/// Reads matchers, with or without braces around them.
pub(super) fn parse(text: &str) -> Result<Vec<LabelMatcher>, MatcherError> {
    Parser { lexer: Lexer { rest: text, column: 0 } }.matchers().map_err(MatcherError)
}
