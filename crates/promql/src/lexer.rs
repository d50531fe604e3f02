//! Text into tokens.
//!
//! Three dialects share one text: ordinary expressions, the inside of `{…}`, where every word is
//! a label name, and the inside of `[…]`, where only durations and a few words are known. The
//! lexer tells them apart by the brackets it has seen, so the parser never has to.
//!
//! Source: `promql/parser/lex.go` of Prometheus 3.14, whose messages it repeats.

mod number;
mod string;
mod token;

pub(crate) use string::{unquote, unquote_bytes, unquote_checked};
pub(crate) use token::{Keyword, Token, TokenKind, describe};

use crate::ast::{BinaryOp, Span};
use model::quote::quote_char;
use token::word_kind;

/// What is wrong with the text and where; becomes a `ParseError`.
#[derive(Debug)]
pub(crate) struct LexError {
    pub(crate) span: Span,
    pub(crate) message: String,
}

/// Yields one token after another.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Offset of the next unread byte; always on a character boundary.
    at: usize,
    /// Open `(` that wait for their `)`.
    parens: usize,
    in_braces: bool,
    in_brackets: bool,
    /// Inside brackets and no number has been seen yet.
    before_duration: bool,
    /// Inside brackets and behind the colon of a subquery.
    behind_colon: bool,
}

/// Whether `byte` may start a word.
pub(crate) fn is_word_start(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic()
}

fn is_word_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `text`, which must be shorter than 4 GiB.
    pub(crate) fn new(text: &'a str) -> Self {
        Lexer {
            text,
            at: 0,
            parens: 0,
            in_braces: false,
            in_brackets: false,
            before_duration: false,
            behind_colon: false,
        }
    }

    /// The next token; `Eof` at the end, and again on every further call.
    pub(crate) fn next_token(&mut self) -> Result<Token, LexError> {
        self.skip_blanks();
        if self.in_braces {
            self.token_in_braces()
        } else if self.before_duration {
            self.token_before_duration()
        } else {
            self.token_in_expression()
        }
    }

    /// The next token of a text that is still being written: what is none is passed over. `None` at
    /// the end.
    pub(crate) fn next_tolerant(&mut self) -> Option<Token> {
        loop {
            self.skip_blanks();
            let start = self.at;
            match self.next_token() {
                Ok(Token { kind: TokenKind::Eof, .. }) => return None,
                Ok(token) => return Some(token),
                Err(_) if self.at == start => self.at += self.peek_char()?.len_utf8(),
                Err(_) => {}
            }
        }
    }

    /// One that goes on in another text, within the brackets that are open here.
    pub(crate) fn resumed<'b>(&self, text: &'b str) -> Lexer<'b> {
        let Lexer { parens, in_braces, in_brackets, before_duration, behind_colon, .. } = *self;
        Lexer { text, at: 0, parens, in_braces, in_brackets, before_duration, behind_colon }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn peek_char(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            if self.peek() != Some(b'#') {
                return;
            }
            self.skip_while(|byte| !matches!(byte, b'\n' | b'\r'));
        }
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start: start as u32, end: self.at as u32 }
    }

    fn token(&self, start: usize, kind: TokenKind) -> Token {
        Token { kind, span: self.span_from(start) }
    }

    /// Takes `length` bytes as one token.
    fn take(&mut self, length: usize, kind: TokenKind) -> Token {
        let start = self.at;
        self.at += length;
        self.token(start, kind)
    }

    /// An error reaches from where its token starts to the end of the text.
    fn error<T>(&self, start: usize, message: impl Into<String>) -> Result<T, LexError> {
        let span = Span { start: start as u32, end: self.text.len() as u32 };
        Err(LexError { span, message: message.into() })
    }

    fn token_in_expression(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        let Some(byte) = self.peek() else { return self.end_of_text() };
        let second = self.text.as_bytes().get(start + 1).copied();
        let (length, kind) = match (byte, second) {
            (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => return self.number_or_duration(),
            (b'"' | b'\'' | b'`', _) => return self.string(byte),
            (b'(', _) => return Ok(self.left_paren()),
            (b')', _) => return self.right_paren(),
            (b'[', _) => return self.left_bracket(),
            (b']', _) => return self.right_bracket(),
            (b'{', _) => {
                self.in_braces = true;
                (1, TokenKind::LeftBrace)
            }
            (b',', _) => (1, TokenKind::Comma),
            (b'@', _) => (1, TokenKind::At),
            (b'=', Some(b'=')) => (2, TokenKind::Operator(BinaryOp::Equal)),
            (b'=', Some(b'~')) => return self.error(start, "unexpected character after '=': '~'"),
            (b'=', _) => (1, TokenKind::Assign),
            (b'!', Some(b'=')) => (2, TokenKind::Operator(BinaryOp::NotEqual)),
            (b'!', _) => {
                return self.unexpected_at(start + 1, "unexpected character after '!'");
            }
            (b'<', Some(b'=')) => (2, TokenKind::Operator(BinaryOp::LessEqual)),
            (b'<', Some(b'/')) => (2, TokenKind::Operator(BinaryOp::TrimUpper)),
            (b'<', _) => (1, TokenKind::Operator(BinaryOp::Less)),
            (b'>', Some(b'=')) => (2, TokenKind::Operator(BinaryOp::GreaterEqual)),
            (b'>', Some(b'/')) => (2, TokenKind::Operator(BinaryOp::TrimLower)),
            (b'>', _) => (1, TokenKind::Operator(BinaryOp::Greater)),
            (b'+', _) => (1, TokenKind::Operator(BinaryOp::Add)),
            (b'-', _) => (1, TokenKind::Operator(BinaryOp::Sub)),
            (b'*', _) => (1, TokenKind::Operator(BinaryOp::Mul)),
            (b'/', _) => (1, TokenKind::Operator(BinaryOp::Div)),
            (b'%', _) => (1, TokenKind::Operator(BinaryOp::Mod)),
            (b'^', _) => (1, TokenKind::Operator(BinaryOp::Pow)),
            _ if byte == b':' || is_word_start(byte) => return self.word_or_colon(),
            _ => return self.unexpected_at(start, "unexpected character"),
        };
        Ok(self.take(length, kind))
    }

    fn end_of_text(&mut self) -> Result<Token, LexError> {
        if self.parens > 0 {
            return self.error(self.at, "unclosed left parenthesis");
        }
        if self.in_brackets {
            return self.error(self.at, "unclosed left bracket");
        }
        Ok(self.token(self.at, TokenKind::Eof))
    }

    /// The error about the character at `place`, which belongs to the token at hand.
    fn unexpected_at<T>(&self, place: usize, what: &str) -> Result<T, LexError> {
        self.error(self.at, format!("{what}: {}", self.quoted_at(place)))
    }

    /// The character at `place`; the end of the text shows as U+FFFD.
    fn quoted_at(&self, place: usize) -> String {
        quote_char(self.text[place..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn left_paren(&mut self) -> Token {
        self.parens += 1;
        self.take(1, TokenKind::LeftParen)
    }

    fn right_paren(&mut self) -> Result<Token, LexError> {
        if self.parens == 0 {
            // Prometheus points behind it.
            return self.error(self.at + 1, "unexpected right parenthesis ')'");
        }
        self.parens -= 1;
        Ok(self.take(1, TokenKind::RightParen))
    }

    fn left_bracket(&mut self) -> Result<Token, LexError> {
        if self.in_brackets {
            return self.error(self.at, "unexpected left bracket '['");
        }
        self.in_brackets = true;
        self.before_duration = true;
        self.behind_colon = false;
        Ok(self.take(1, TokenKind::LeftBracket))
    }

    fn right_bracket(&mut self) -> Result<Token, LexError> {
        if !self.in_brackets {
            return self.error(self.at, "unexpected right bracket ']'");
        }
        self.in_brackets = false;
        self.before_duration = false;
        Ok(self.take(1, TokenKind::RightBracket))
    }

    fn word_or_colon(&mut self) -> Result<Token, LexError> {
        if !self.in_brackets {
            return Ok(self.word());
        }
        if self.peek() == Some(b':') {
            if self.behind_colon {
                return self.error(self.at, "unexpected colon ':'");
            }
            self.behind_colon = true;
            return Ok(self.take(1, TokenKind::Colon));
        }
        match self.duration_word() {
            Some(token) => Ok(token),
            None => {
                let found = self.quoted_at(self.at);
                self.error(self.at, format!("unexpected character: {found}, expected ':'"))
            }
        }
    }

    /// `step`, `range`, `min_of` and `max_of` are the only words inside brackets.
    fn duration_word(&mut self) -> Option<Token> {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|&byte| !is_word_start(byte)).unwrap_or(rest.len());
        let kind = match word_kind(&self.text[self.at..self.at + length]) {
            Some(
                kind @ TokenKind::Keyword(
                    Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf,
                ),
            ) => kind,
            _ => return None,
        };
        Some(self.take(length, kind))
    }

    fn word(&mut self) -> Token {
        let start = self.at;
        self.skip_while(|byte| byte == b':' || is_word_byte(byte));
        let word = &self.text[start..self.at];
        let kind =
            match word_kind(word) {
                // `fill` was a fine metric name before it was a modifier: it is the latter only in
                // front of a parenthesis.
                Some(TokenKind::Keyword(
                    Keyword::Fill | Keyword::FillLeft | Keyword::FillRight,
                )) if !self.paren_follows() => TokenKind::Identifier,
                Some(kind) => kind,
                None if word.contains(':') => TokenKind::MetricIdentifier,
                None => TokenKind::Identifier,
            };
        self.token(start, kind)
    }

    fn paren_follows(&self) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        rest.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'(')
    }

    fn token_in_braces(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        let Some(byte) = self.peek() else {
            return self.error(start, "unexpected end of input inside braces");
        };
        let second = self.text.as_bytes().get(start + 1).copied();
        let (length, kind) = match (byte, second) {
            (b'"' | b'\'' | b'`', _) => return self.string(byte),
            (b',', _) => (1, TokenKind::Comma),
            (b'=', Some(b'~')) => (2, TokenKind::MatchRegex),
            (b'=', _) => (1, TokenKind::Assign),
            (b'!', Some(b'~')) => (2, TokenKind::MatchNotRegex),
            (b'!', Some(b'=')) => (2, TokenKind::Operator(BinaryOp::NotEqual)),
            (b'!', _) => {
                let what = "unexpected character after '!' inside braces";
                return self.unexpected_at(start + 1, what);
            }
            (b'{', _) => return self.error(start, "unexpected left brace '{'"),
            (b'}', _) => {
                self.in_braces = false;
                (1, TokenKind::RightBrace)
            }
            _ if is_word_start(byte) => {
                self.skip_while(is_word_byte);
                return Ok(self.token(start, TokenKind::Identifier));
            }
            _ => return self.unexpected_at(start, "unexpected character inside braces"),
        };
        Ok(self.take(length, kind))
    }

    fn token_before_duration(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        let Some(byte) = self.peek() else {
            return self.error(start, "unexpected end of input in duration expression");
        };
        match byte {
            b']' | b'(' | b')' | b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b',' => {
                self.token_in_expression()
            }
            // Prometheus points behind it.
            b':' => {
                self.error(start + 1, "unexpected colon before duration in duration expression")
            }
            b'0'..=b'9' => self.first_duration(),
            b'.' if self.text.as_bytes().get(start + 1).is_some_and(u8::is_ascii_digit) => {
                self.first_duration()
            }
            _ => match self.duration_word() {
                Some(token) => Ok(token),
                None => self.unexpected_at(start, "unexpected character in duration expression"),
            },
        }
    }

    fn first_duration(&mut self) -> Result<Token, LexError> {
        self.before_duration = false;
        self.number_or_duration()
    }
}
