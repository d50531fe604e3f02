//! Text into tokens.
//!
//! Words are keywords, functions if a parenthesis follows, or else names of labels; any character
//! that starts nothing is a name of its own, so that messages are Loki's. Numbers, strings and
//! comments are those of Go's `text/scanner`, whose messages it repeats.

mod number;
mod string;
mod token;

pub(crate) use string::unquote;
pub(crate) use token::{Token, TokenKind};

use super::ast::Span;
use super::duration;
use super::size;

/// What is wrong with the text and where; becomes a `ParseError`.
#[derive(Debug)]
pub(crate) struct LexError {
    /// Offset of the token at fault.
    pub(crate) at: u32,
    pub(crate) is_line_lost: bool,
    pub(crate) message: String,
}

/// Yields one token after another.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Offset of the next unread byte; always on a character boundary.
    at: usize,
    /// Why the text could not be read any further than it goes, if so.
    broken: Option<&'static str>,
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `bytes`, of which it reads what is text; shorter than 4 GiB.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let (text, broken) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
                (valid, Some("invalid UTF-8 encoding"))
            }
        };
        match text.find('\0') {
            Some(end) => Lexer { text: &text[..end], at: 0, broken: Some("invalid character NUL") },
            None => Lexer { text, at: 0, broken },
        }
    }

    /// The text that is read.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The next token; `End` at the end, and again on every further call.
    pub(crate) fn next_token(&mut self) -> Result<Token, LexError> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(c) = self.peek_char() else {
            self.check_broken(start)?;
            return Ok(self.token(start, TokenKind::End));
        };
        match c {
            '0'..='9' => self.number_or_quantity(),
            '.' if self.text.as_bytes().get(start + 1).is_some_and(u8::is_ascii_digit) => {
                self.number_or_quantity()
            }
            '"' | '`' | '\'' => self.string(c),
            '[' => self.range(),
            '-' => Ok(self.minus()),
            _ if c == '_' || c.is_alphabetic() => self.word(),
            _ => Ok(self.operator(c)),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek_char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Fails if the text broke off here, within what starts at `start`.
    fn check_broken(&self, start: usize) -> Result<(), LexError> {
        match self.broken {
            Some(message) if self.at == self.text.len() => self.error(start, message),
            _ => Ok(()),
        }
    }

    fn skip_blanks(&mut self) -> Result<(), LexError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with('#') || trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if let Some(comment) = trimmed.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else {
                    return self.error(self.at, "comment not terminated");
                };
                self.at += end + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&self, start: usize, kind: TokenKind) -> Token {
        Token { kind, span: Span { start: start as u32, end: self.at as u32 }, is_line_lost: false }
    }

    /// A token whose line Loki's scanner forgets: it was put together of several.
    fn joined(&self, start: usize, kind: TokenKind) -> Token {
        Token { is_line_lost: true, ..self.token(start, kind) }
    }

    fn error<T>(&self, start: usize, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError { at: start as u32, is_line_lost: false, message: message.into() })
    }

    /// `[5m]`
    fn range(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        let failed = |message: String| LexError { at: start as u32, is_line_lost: true, message };
        let Some(length) = self.rest().find(']') else {
            self.at = self.text.len();
            self.check_broken(start)?;
            return Err(failed("missing closing ']' in duration".to_owned()));
        };
        duration::parse_either(&self.rest()[1..length]).map_err(failed)?;
        self.at += length + 1;
        Ok(self.joined(start, TokenKind::Range))
    }

    /// A flag, a negative duration, or a minus.
    fn minus(&mut self) -> Token {
        let start = self.at;
        let rest = self.rest();
        let length = rest.find(|c: char| c != '-' && !c.is_alphabetic()).unwrap_or(rest.len());
        if matches!(&rest[..length], "--strict" | "--keep-empty") {
            self.at += length;
            return self.joined(start, TokenKind::Flag);
        }
        self.at += 1;
        match self.quantity(start) {
            // A number alone is a number, whatever its sign.
            Some((TokenKind::Duration, end)) if &self.text[start..end] != "-0" => {
                self.at = end;
                self.joined(start, TokenKind::Duration)
            }
            _ => self.token(start, TokenKind::Sub),
        }
    }

    fn number_or_quantity(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        self.number()?;
        self.check_broken(start)?;
        match self.quantity(start) {
            Some((kind, end)) => {
                self.at = end;
                Ok(self.joined(start, kind))
            }
            None => Ok(self.token(start, TokenKind::Number)),
        }
    }

    /// The duration or size that starts at `start` and goes on here, and where it ends.
    fn quantity(&self, start: usize) -> Option<(TokenKind, usize)> {
        let end_of = |letters: &str| {
            let belongs = |c: char| c == '.' || c.is_numeric() || letters.contains(c);
            let rest = self.rest();
            let end = self.at + rest.find(|c| !belongs(c)).unwrap_or(rest.len());
            (end > self.at).then_some(end)
        };
        if let Some(end) = end_of("nuµmshdwy")
            && signed_duration(&self.text[start..end]).is_some()
        {
            return Some((TokenKind::Duration, end));
        }
        let end = end_of("BikKMGTP")?;
        size::parse(&self.text[start..end]).map(|_| (TokenKind::Bytes, end))
    }

    fn word(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        let rest = self.rest();
        let belongs = |c: char| c == '_' || c.is_alphabetic() || c.is_numeric();
        let length = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += length;
        self.check_broken(start)?;
        let word = &rest[..length];
        Ok(match token::function(word) {
            Some(kind) if is_called(self.rest()) => self.token(start, kind),
            Some(_) => self.token(start, TokenKind::Identifier),
            None => self.token(start, token::word(word)),
        })
    }

    fn operator(&mut self, c: char) -> Token {
        let start = self.at;
        let (kind, length) =
            token::operator(self.rest()).unwrap_or((TokenKind::Identifier, c.len_utf8()));
        self.at += length;
        if kind != TokenKind::Identifier && length == 2 {
            self.joined(start, kind)
        } else {
            self.token(start, kind)
        }
    }
}

/// A duration with an optional minus, in nanoseconds.
pub(crate) fn signed_duration(text: &str) -> Option<i64> {
    duration::parse_either(text).ok().or_else(|| {
        let positive = duration::parse_either(text.strip_prefix('-')?).ok()?;
        positive.checked_neg()
    })
}

/// Whether a function's name is followed by its arguments or a grouping.
fn is_called(rest: &str) -> bool {
    let rest = rest.trim_start();
    let grouping = ["by", "without"].iter().find_map(|word| {
        let (head, tail) = rest.split_at_checked(word.len())?;
        head.eq_ignore_ascii_case(word).then_some(tail)
    });
    rest.starts_with('(') || grouping.is_some_and(|tail| tail.trim_start().starts_with('('))
}
