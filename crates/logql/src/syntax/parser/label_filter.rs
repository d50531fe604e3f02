//! Conditions on labels, joined by `and`, `or`, `,` or nothing.

use model::MatchOp;

use super::super::ast::{CompareOp, LabelFilter};
use super::super::check;
use super::super::error::ParseError;
use super::super::lexer::{TokenKind, signed_duration};
use super::super::size;
use super::Parser;
use super::log::match_op;

/// What stands between two conditions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    Or,
    And,
    /// A comma or nothing. It has no precedence in Loki's grammar, so what follows it is read
    /// first: `a, b or c` is `a, (b or c)`.
    Loose,
}

impl Join {
    /// Whether what stands before `next` is put together before `next` is.
    fn comes_before(self, next: Join) -> bool {
        match (self, next) {
            (Join::Loose, _) | (_, Join::Loose) => false,
            (Join::Or, Join::And) => false,
            (Join::Or, Join::Or) | (Join::And, _) => true,
        }
    }
}

/// Conditions that were read but not yet joined, each with its height.
#[derive(Default)]
struct Waiting {
    filters: Vec<(LabelFilter, usize)>,
    joins: Vec<Join>,
}

impl Waiting {
    /// Joins the last two conditions.
    fn join(&mut self) -> Result<(), ParseError> {
        let (Some(right), Some(left), Some(join)) =
            (self.filters.pop(), self.filters.pop(), self.joins.pop())
        else {
            return Ok(());
        };
        let height = check::height_above(left.1.max(right.1))?;
        let (left, right) = (Box::new(left.0), Box::new(right.0));
        let filter = match join {
            Join::Or => LabelFilter::Or(left, right),
            Join::And | Join::Loose => LabelFilter::And(left, right),
        };
        self.filters.push((filter, height));
        Ok(())
    }
}

impl Parser<'_> {
    /// One or more conditions.
    pub(super) fn label_filter(&mut self) -> Result<LabelFilter, ParseError> {
        Ok(self.joined_label_filter()?.0)
    }

    fn joined_label_filter(&mut self) -> Result<(LabelFilter, usize), ParseError> {
        let mut waiting = Waiting::default();
        loop {
            let operand = self.label_filter_operand()?;
            waiting.filters.push(operand);
            let join = match self.peek_kind()? {
                TokenKind::Or => Join::Or,
                TokenKind::And => Join::And,
                TokenKind::Comma | TokenKind::Identifier | TokenKind::OpenParen => Join::Loose,
                _ => break,
            };
            if !matches!(self.peek_kind()?, TokenKind::Identifier | TokenKind::OpenParen) {
                self.next()?;
            }
            while waiting.joins.last().is_some_and(|last| last.comes_before(join)) {
                waiting.join()?;
            }
            waiting.joins.push(join);
        }
        while !waiting.joins.is_empty() {
            waiting.join()?;
        }
        match waiting.filters.pop() {
            Some(filter) => Ok(filter),
            None => Err(self.unexpected(&[])),
        }
    }

    fn label_filter_operand(&mut self) -> Result<(LabelFilter, usize), ParseError> {
        if self.accept(TokenKind::OpenParen)? {
            self.enter()?;
            let inner = self.joined_label_filter()?;
            if !self.accept(TokenKind::CloseParen)? {
                return Err(self.unexpected(&[]));
            }
            self.leave();
            return Ok(inner);
        }
        if !self.is_name_ahead()? {
            return Err(self.unexpected(&[TokenKind::Identifier, TokenKind::OpenParen]));
        }
        let name = self.identifier()?;
        let operator = self.peek_kind()?;
        let compare = match operator {
            TokenKind::Re | TokenKind::Nre => {
                self.next()?;
                let op = match_op(operator).unwrap_or(MatchOp::Regex);
                let value = self.string()?;
                return Ok((LabelFilter::String(self.matcher(name, op, value)?), 1));
            }
            TokenKind::Eq | TokenKind::CmpEq => CompareOp::Equal,
            TokenKind::Neq => CompareOp::NotEqual,
            TokenKind::Gt => CompareOp::Greater,
            TokenKind::Gte => CompareOp::GreaterOrEqual,
            TokenKind::Lt => CompareOp::Less,
            TokenKind::Lte => CompareOp::LessOrEqual,
            _ => return Err(self.unexpected(&[])),
        };
        self.next()?;
        Ok((self.label_value(name, operator, compare)?, 1))
    }

    /// What follows `name op`.
    fn label_value(
        &mut self,
        name: String,
        operator: TokenKind,
        op: CompareOp,
    ) -> Result<LabelFilter, ParseError> {
        let equality = match_op(operator);
        match (self.peek_kind()?, equality) {
            (TokenKind::String, Some(op)) => {
                let value = self.string()?;
                Ok(LabelFilter::String(self.matcher(name, op, value)?))
            }
            (TokenKind::Ip, Some(op)) => {
                let negated = op == MatchOp::NotEqual;
                Ok(LabelFilter::Ip { name, negated, pattern: self.ip()? })
            }
            (TokenKind::Number | TokenKind::Add | TokenKind::Sub, _) => {
                Ok(LabelFilter::Number { name, op, value: self.signed_number()? })
            }
            (TokenKind::Duration, _) => {
                let token = self.next()?;
                let nanoseconds = signed_duration(self.text_of(token)).unwrap_or_default();
                Ok(LabelFilter::Duration { name, op, nanoseconds })
            }
            (TokenKind::Bytes, _) => {
                let token = self.next()?;
                let bytes = size::parse(self.text_of(token)).unwrap_or_default();
                Ok(LabelFilter::Bytes { name, op, bytes })
            }
            _ => Err(self.unexpected(&[])),
        }
    }
}
