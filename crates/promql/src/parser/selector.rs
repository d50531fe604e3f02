//! Selectors of series: a name and matchers in braces.

use model::{MatchOp, Matcher};

use super::{MAX_REGEXES, Parser};
use crate::ast::{BinaryOp, Duration, Span, VectorSelector};
use crate::lexer::{TokenKind, unquote};
use crate::parse_error::ParseError;

/// The label that holds the metric's name.
pub(crate) const METRIC_NAME: &str = "__name__";

impl Parser<'_> {
    /// A selector without modifiers.
    pub(super) fn vector_selector(&mut self) -> Result<VectorSelector, ParseError> {
        let token = self.peek()?;
        if token.kind == TokenKind::LeftBrace {
            let matchers = self.matchers()?;
            return Ok(selector("", matchers, self.span_from(token.span.start)));
        }
        if !token.kind.may_name_metric() {
            return Err(self.unexpected());
        }
        self.next()?;
        self.named_selector(token.span)
    }

    /// The selector whose name was just taken.
    pub(super) fn named_selector(&mut self, name: Span) -> Result<VectorSelector, ParseError> {
        let mut matchers = match self.peek()?.kind {
            TokenKind::LeftBrace => self.matchers()?,
            _ => Vec::new(),
        };
        let span = self.span_from(name.start);
        let name = self.text_of(name);
        matchers.push(self.matcher(METRIC_NAME, MatchOp::Equal, name, span)?);
        Ok(selector(name, matchers, span))
    }

    /// `{…}`; the next token is the `{`.
    fn matchers(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.next()?;
        let mut matchers = Vec::new();
        if self.accept(TokenKind::RightBrace)?.is_some() {
            return Ok(matchers);
        }
        loop {
            matchers.push(self.label_matcher()?);
            if self.accept(TokenKind::Comma)?.is_none() {
                if self.accept(TokenKind::RightBrace)?.is_some() {
                    return Ok(matchers);
                }
                return Err(self.unexpected_in(" in label matching, expected \",\" or \"}\""));
            }
            if self.accept(TokenKind::RightBrace)?.is_some() {
                return Ok(matchers);
            }
        }
    }

    /// `label = "value"`, `"label" =~ "value"`, or `"metric"`.
    fn label_matcher(&mut self) -> Result<Matcher, ParseError> {
        let label = self.peek()?;
        let name = match label.kind {
            TokenKind::Identifier => self.text_of(label.span).to_owned(),
            TokenKind::String => unquote(self.text_of(label.span)),
            _ => {
                return Err(self.unexpected_in(" in label matching, expected identifier or \"}\""));
            }
        };
        self.next()?;
        let op = match self.peek()?.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::NotEqual) => MatchOp::NotEqual,
            TokenKind::MatchRegex => MatchOp::Regex,
            TokenKind::MatchNotRegex => MatchOp::NotRegex,
            _ if label.kind == TokenKind::String => {
                return self.matcher(METRIC_NAME, MatchOp::Equal, &name, label.span);
            }
            _ => {
                return Err(
                    self.unexpected_in(" in label matching, expected label matching operator")
                );
            }
        };
        self.next()?;
        let value = self.peek()?;
        if value.kind != TokenKind::String {
            return Err(self.unexpected_in(" in label matching, expected string"));
        }
        self.next()?;
        let span = self.span_from(label.span.start);
        self.matcher(&name, op, &unquote(self.text_of(value.span)), span)
    }

    fn matcher(
        &mut self,
        name: &str,
        op: MatchOp,
        value: &str,
        span: Span,
    ) -> Result<Matcher, ParseError> {
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.regexes += 1;
            if self.regexes > MAX_REGEXES {
                let message = format!(
                    "query has more than {MAX_REGEXES} regular expressions; \
                     join them with \"|\" or split the query"
                );
                return Err(self.error(span, message));
            }
        }
        Matcher::new(name, op, value).map_err(|error| self.error(span, error.to_string()))
    }
}

fn selector(name: &str, matchers: Vec<Matcher>, span: Span) -> VectorSelector {
    VectorSelector {
        name: name.to_owned(),
        matchers,
        offset: Duration::Fixed(0),
        at: None,
        extension: None,
        span,
    }
}
