//! Text into trees: a recursive-descent parser that keeps operators on stacks of its own.
//!
//! Loki's parser is generated, and its messages list what could follow where that is four tokens
//! or fewer; the lists here are those. Faults of meaning (a missing `unwrap`, a grouping where none
//! may be) are told only if the whole text can be read, as Loki does.

mod binary;
mod label_filter;
mod labels;
mod log;
mod range;
mod stage;
mod vector;

use model::{Labels, MatchOp, Matcher};

use super::ast::{Expr, MetricExpr, Span};
use super::error::ParseError;
use super::lexer::{LexError, Lexer, Token, TokenKind, unquote};
use super::{check, number};

/// Parentheses and calls inside one another; more would endanger the thread's stack.
const MAX_NESTING: usize = 100;

/// Bytes of a query; Loki's limit.
pub const MAX_QUERY_BYTES: usize = 131_072;

/// Regular expressions in one query. Each may take megabytes once compiled.
const MAX_REGEXES: usize = 500;

/// Reads a query and checks it.
///
/// # Errors
/// The text is no LogQL, breaks one of its rules (each selector needs a matcher that does not match
/// the empty string, unless it is `{}` and a filter follows), or passes a limit:
/// [`MAX_QUERY_BYTES`], 100 nested expressions, [`super::MAX_HEIGHT`] levels, 500 regular
/// expressions.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_bytes(text.as_bytes())
}

/// As [`parse`], for bytes that may be no text.
///
/// # Errors
/// Those of [`parse`], and bytes that are no UTF-8.
pub fn parse_bytes(bytes: &[u8]) -> Result<Expr, ParseError> {
    let expr = parse_unchecked(bytes)?;
    check::selectors(&expr)?;
    Ok(expr)
}

/// As [`parse_bytes`], without the rule about empty matchers: for texts that select no streams of
/// a store, such as the selector of an agent's `match` stage.
///
/// # Errors
/// Those of [`parse_bytes`], but for that rule.
pub fn parse_unchecked(bytes: &[u8]) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(bytes)?;
    let tree = parser.expression()?;
    parser.expect_end()?;
    match parser.fault {
        Some(fault) => Err(fault),
        None => Ok(tree.expr),
    }
}

/// Reads a query of numbers.
///
/// # Errors
/// Those of [`parse`], and a query of lines.
pub fn parse_metric(text: &str) -> Result<MetricExpr, ParseError> {
    match parse(text)? {
        Expr::Metric(expr) => Ok(expr),
        Expr::Log(_) => Err(ParseError::general("only sample expression supported")),
    }
}

/// Reads a bare selector, such as `{app="a", level!="debug"}`.
///
/// # Errors
/// Those of [`parse`], and anything but a selector.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    match parse(text)? {
        Expr::Log(log) if log.stages.is_empty() => Ok(log.matchers),
        _ => Err(ParseError::general("only label matchers is supported")),
    }
}

/// Reads the labels of a stream, such as `{app="a", level="debug"}`.
///
/// # Errors
/// The text is anything else, or names a label twice.
pub fn parse_labels(text: &str) -> Result<Labels, ParseError> {
    Parser::new(text.as_bytes())?.labels_of_stream()
}

/// The names that Loki's grammar gives the tokens of a text, up to its end or the first character
/// that cannot be read, each with its place. What a query looks like to the parser, for editors.
pub fn tokens(text: &str) -> Vec<(String, Span)> {
    let mut lexer = Lexer::new(text.as_bytes());
    let next = || match lexer.next_token() {
        Ok(Token { kind: TokenKind::End, .. }) | Err(_) => None,
        Ok(token) => Some((token.kind.name(), token.span)),
    };
    std::iter::from_fn(next).collect()
}

/// An expression, the height of its tree, and where it starts.
struct Tree {
    expr: Expr,
    height: usize,
    start: u32,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that was looked at but not taken.
    ahead: Option<Token>,
    /// Where the last taken token ends.
    end: u32,
    /// Expressions that are being read around the current place.
    nesting: usize,
    /// Regular expressions that were compiled.
    regexes: usize,
    /// The first fault of meaning.
    fault: Option<ParseError>,
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() > MAX_QUERY_BYTES {
            let message = format!("input size too long ({} > {MAX_QUERY_BYTES})", bytes.len());
            return Err(ParseError::general(message));
        }
        let lexer = Lexer::new(bytes);
        Ok(Parser { lexer, ahead: None, end: 0, nesting: 0, regexes: 0, fault: None })
    }

    /// The next token, which stays where it is.
    fn peek(&mut self) -> Result<Token, ParseError> {
        if let Some(token) = self.ahead {
            return Ok(token);
        }
        let token = self.lexer.next_token().map_err(|error| {
            let LexError { at, is_line_lost, message } = error;
            self.error(at, is_line_lost, message)
        })?;
        self.ahead = Some(token);
        Ok(token)
    }

    fn peek_kind(&mut self) -> Result<TokenKind, ParseError> {
        Ok(self.peek()?.kind)
    }

    /// The next token, taken.
    fn next(&mut self) -> Result<Token, ParseError> {
        let token = self.peek()?;
        self.ahead = None;
        self.end = token.span.end;
        Ok(token)
    }

    /// Takes the next token if it is of this kind.
    fn accept(&mut self, kind: TokenKind) -> Result<bool, ParseError> {
        let is_next = self.peek_kind()? == kind;
        if is_next {
            self.next()?;
        }
        Ok(is_next)
    }

    /// Takes the next token, which must be of this kind.
    fn expect(&mut self, kind: TokenKind) -> Result<Token, ParseError> {
        self.expect_or(kind, &[])
    }

    /// As [`Parser::expect`], where `others` could stand as well. They are given in the order in
    /// which messages list them, behind `kind`.
    fn expect_or(&mut self, kind: TokenKind, others: &[TokenKind]) -> Result<Token, ParseError> {
        if self.peek_kind()? == kind {
            return self.next();
        }
        let mut wanted = vec![kind];
        wanted.extend(others);
        Err(self.unexpected(&wanted))
    }

    fn expect_end(&mut self) -> Result<(), ParseError> {
        if self.peek_kind()? == TokenKind::End { Ok(()) } else { Err(self.unexpected(&[])) }
    }

    /// The error that the next token does not belong here. `wanted` is what would, if messages
    /// list it.
    fn unexpected(&mut self, wanted: &[TokenKind]) -> ParseError {
        let token = match self.peek() {
            Ok(token) => token,
            Err(error) => return error,
        };
        let mut message = format!("syntax error: unexpected {}", token.kind.shown());
        for (index, kind) in wanted.iter().enumerate() {
            message.push_str(if index == 0 { ", expecting " } else { " or " });
            message.push_str(&kind.shown());
        }
        self.error(token.span.start, token.is_line_lost, message)
    }

    fn error(&self, at: u32, is_line_lost: bool, message: impl Into<String>) -> ParseError {
        let text = self.lexer.text();
        if text.is_empty() {
            return ParseError::general(message);
        }
        let before = &text[..at as usize];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.matches('\n').count() as u32;
        ParseError {
            line: if is_line_lost { 0 } else { line },
            column: before[line_start..].chars().count() as u32 + 1,
            message: message.into(),
        }
    }

    /// Notes a fault of meaning.
    fn fault(&mut self, message: impl Into<String>) {
        self.fault.get_or_insert_with(|| ParseError::general(message));
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.lexer.text()[token.span.start as usize..token.span.end as usize]
    }

    /// From `start` to the end of the last taken token.
    fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.end }
    }

    /// One level deeper; [`Parser::leave`] is its opposite. After an error nobody counts.
    fn enter(&mut self) -> Result<(), ParseError> {
        if self.nesting == MAX_NESTING {
            let message = format!("query is nested deeper than {MAX_NESTING} levels; split it");
            return Err(ParseError::general(message));
        }
        self.nesting += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    /// A quoted string.
    fn string(&mut self) -> Result<String, ParseError> {
        let token = self.expect(TokenKind::String)?;
        self.value_of(token)
    }

    fn value_of(&self, token: Token) -> Result<String, ParseError> {
        unquote(self.text_of(token)).ok_or_else(|| {
            let message = "invalid syntax: the escapes of this string spell no valid UTF-8";
            self.error(token.span.start, false, message)
        })
    }

    fn identifier(&mut self) -> Result<String, ParseError> {
        let token =
            if self.is_name_ahead()? { self.next()? } else { self.expect(TokenKind::Identifier)? };
        Ok(self.text_of(token).to_owned())
    }

    /// Whether the next token names a label: it is no word of the language, or it is one but `=` or
    /// `=~` follows, before which no such word can stand. So labels may be called `on` or `bool`,
    /// which Loki refuses.
    fn is_name_ahead(&mut self) -> Result<bool, ParseError> {
        let token = self.peek()?;
        let rest = self.lexer.text()[token.span.end as usize..].trim_start();
        let is_matched = rest.starts_with('=') && !rest.starts_with("==");
        Ok(token.kind == TokenKind::Identifier || token.kind.is_word() && is_matched)
    }

    /// `5`, `+5`, `-5`
    fn signed_number(&mut self) -> Result<f64, ParseError> {
        let sign = match self.peek_kind()? {
            TokenKind::Sub => -1.0,
            TokenKind::Add => 1.0,
            _ => return self.number(),
        };
        self.next()?;
        Ok(sign * self.number()?)
    }

    fn number(&mut self) -> Result<f64, ParseError> {
        let token = self.expect(TokenKind::Number)?;
        number::parse(self.text_of(token)).map_err(ParseError::general)
    }

    fn matcher(&mut self, name: String, op: MatchOp, value: String) -> Result<Matcher, ParseError> {
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            if self.regexes == MAX_REGEXES {
                let message =
                    format!("more than {MAX_REGEXES} regular expressions in one query; split it");
                return Err(ParseError::general(message));
            }
            self.regexes += 1;
        }
        Matcher::new(name, op, value).map_err(|error| ParseError::general(error.to_string()))
    }
}
