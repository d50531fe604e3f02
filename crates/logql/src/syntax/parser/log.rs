//! Selectors, and the pipelines behind them.

use model::{MatchOp, Matcher};

use super::super::ast::LogExpr;
use super::super::error::ParseError;
use super::super::lexer::TokenKind;
use super::Parser;

impl Parser<'_> {
    /// `{app="a"} |= "b"`
    pub(super) fn log_expression(&mut self) -> Result<LogExpr, ParseError> {
        let start = self.peek()?.span.start;
        let matchers = self.selector()?;
        let mut stages = Vec::new();
        while let Some(stage) = self.stage()? {
            stages.push(stage);
        }
        Ok(LogExpr { matchers, stages, span: self.span_from(start) })
    }

    /// `{app="a", level!="debug"}`
    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect(TokenKind::OpenBrace)?;
        let mut matchers = Vec::new();
        if self.accept(TokenKind::CloseBrace)? {
            return Ok(matchers);
        }
        if !self.is_name_ahead()? {
            return Err(self.unexpected(&[TokenKind::Identifier, TokenKind::CloseBrace]));
        }
        loop {
            let name = self.identifier()?;
            let Some(op) = match_op(self.peek_kind()?) else {
                use TokenKind::{Eq, Neq, Nre, Re};
                return Err(self.unexpected(&[Eq, Re, Nre, Neq]));
            };
            self.next()?;
            let value = self.string()?;
            matchers.push(self.matcher(name, op, value)?);
            if self.accept(TokenKind::CloseBrace)? {
                return Ok(matchers);
            }
            if !self.accept(TokenKind::Comma)? {
                return Err(self.unexpected(&[TokenKind::CloseBrace, TokenKind::Comma]));
            }
        }
    }
}

/// The operator between a label and a string.
pub(super) fn match_op(kind: TokenKind) -> Option<MatchOp> {
    match kind {
        TokenKind::Eq => Some(MatchOp::Equal),
        TokenKind::Neq => Some(MatchOp::NotEqual),
        TokenKind::Re => Some(MatchOp::Regex),
        TokenKind::Nre => Some(MatchOp::NotRegex),
        _ => None,
    }
}
