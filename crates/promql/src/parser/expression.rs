//! Operators, signs, parentheses and what stands between them.

use super::matching::BinaryModifiers;
use super::{Parser, Tree};
use crate::ast::{Binary, BinaryOp, Expr, NumberLiteral, Paren, Span, StringLiteral, Unary};
use crate::lexer::{Keyword, TokenKind, unquote_checked};
use crate::parse_error::ParseError;

/// How tightly a binary operator binds; all are left-associative but `^`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precedence {
    Or,
    And,
    Comparison,
    Sum,
    Product,
    Power,
}

impl Precedence {
    pub(super) fn of(op: BinaryOp) -> Self {
        match op {
            BinaryOp::Or => Precedence::Or,
            BinaryOp::And | BinaryOp::Unless => Precedence::And,
            BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::Greater
            | BinaryOp::Less
            | BinaryOp::GreaterEqual
            | BinaryOp::LessEqual
            | BinaryOp::TrimUpper
            | BinaryOp::TrimLower => Precedence::Comparison,
            BinaryOp::Add | BinaryOp::Sub => Precedence::Sum,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => Precedence::Product,
            BinaryOp::Pow => Precedence::Power,
        }
    }

    /// The loosest operator that may appear bare on the right of one of this precedence.
    pub(super) fn of_right_side(self) -> Self {
        match self {
            Precedence::Or => Precedence::And,
            Precedence::And => Precedence::Comparison,
            Precedence::Comparison => Precedence::Sum,
            Precedence::Sum => Precedence::Product,
            // `^` is right-associative.
            Precedence::Product | Precedence::Power => Precedence::Power,
        }
    }
}

// The functions below recurse through one another. What does not recurse is kept in functions of
// its own, so that a level of nesting costs little stack.
impl Parser<'_> {
    /// An expression with all operators.
    pub(super) fn expression(&mut self) -> Result<Tree, ParseError> {
        self.binary(Precedence::Or)
    }

    /// An expression whose bare operators bind at least as tightly as `loosest`.
    fn binary(&mut self, loosest: Precedence) -> Result<Tree, ParseError> {
        let mut left = self.unary()?;
        while let Some((op, op_span)) = self.operator(loosest)? {
            left = self.operation(left, op, op_span)?;
        }
        Ok(left)
    }

    /// Takes the next token if it is an operator that binds at least as tightly as `loosest`.
    fn operator(&mut self, loosest: Precedence) -> Result<Option<(BinaryOp, Span)>, ParseError> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Operator(op) if Precedence::of(op) >= loosest => {
                self.next()?;
                Ok(Some((op, token.span)))
            }
            _ => Ok(None),
        }
    }

    /// What follows an operator: its modifiers and its right side.
    fn operation(&mut self, left: Tree, op: BinaryOp, op_span: Span) -> Result<Tree, ParseError> {
        let modifiers = self.binary_modifiers()?;
        self.enter()?;
        let first = self.peek()?.span;
        let right = match self.binary(Precedence::of(op).of_right_side()) {
            // Where no expression begins, labels of the group might have.
            Err(_) if modifiers.ends_in_group && self.is_at(first) => {
                return Err(self.unexpected_in(" in grouping opts, expected \"(\""));
            }
            right => right?,
        };
        self.leave();
        self.joined(left, op, op_span, modifiers, right)
    }

    fn joined(
        &self,
        left: Tree,
        op: BinaryOp,
        op_span: Span,
        modifiers: BinaryModifiers,
        right: Tree,
    ) -> Result<Tree, ParseError> {
        let span = self.span_from(left.expr.span().start);
        let height = self.height_above(left.height.max(right.height), span)?;
        let node = Binary {
            op,
            left: left.expr,
            right: right.expr,
            matching: Some(modifiers.matching),
            return_bool: modifiers.return_bool,
            span,
            op_span,
        };
        Ok(Tree { expr: Expr::Binary(Box::new(node)), height })
    }

    /// An operand with its sign and modifiers.
    fn unary(&mut self) -> Result<Tree, ParseError> {
        match self.peek()?.kind {
            TokenKind::Operator(BinaryOp::Sub) => self.signed(true),
            TokenKind::Operator(BinaryOp::Add) => self.signed(false),
            _ => {
                let operand = self.primary()?;
                self.modifiers(operand)
            }
        }
    }

    /// A sign, which binds like `*`: `-a ^ b` is `-(a ^ b)` and `-a * b` is `(-a) * b`.
    fn signed(&mut self, negative: bool) -> Result<Tree, ParseError> {
        self.enter()?;
        let start = self.next()?.span.start;
        let operand = self.binary(Precedence::Power)?;
        self.leave();
        self.with_sign(negative, operand, start)
    }

    fn with_sign(&self, negative: bool, operand: Tree, start: u32) -> Result<Tree, ParseError> {
        let span = self.span_from(start);
        if let Expr::Number(number) = operand.expr {
            let value = if negative { -number.value } else { number.value };
            let expr = Expr::Number(NumberLiteral { value, span, ..number });
            return Ok(Tree { expr, height: operand.height });
        }
        let height = self.height_above(operand.height, span)?;
        let expr = Expr::Unary(Box::new(Unary { negative, expr: operand.expr, span }));
        Ok(Tree { expr, height })
    }

    /// What is no operator and has no modifiers yet.
    fn primary(&mut self) -> Result<Tree, ParseError> {
        match self.peek()?.kind {
            TokenKind::LeftParen => self.parenthesised(),
            kind if kind.may_name_metric() => self.named(),
            _ => self.leaf(),
        }
    }

    /// What has no parts that are expressions and starts with no word.
    fn leaf(&mut self) -> Result<Tree, ParseError> {
        let token = self.peek()?;
        let expr = match token.kind {
            TokenKind::Number | TokenKind::Duration => Expr::Number(self.number_or_duration()?),
            TokenKind::String => {
                self.next()?;
                let (value, bytes) = unquote_checked(self.text_of(token.span));
                Expr::String(StringLiteral { value, bytes, span: token.span })
            }
            TokenKind::LeftBrace => Expr::Vector(self.vector_selector()?),
            _ => return Err(self.unexpected()),
        };
        Ok(Tree { expr, height: 1 })
    }

    fn parenthesised(&mut self) -> Result<Tree, ParseError> {
        self.enter()?;
        let start = self.next()?.span.start;
        let inner = self.expression()?;
        self.leave();
        self.closed(inner, start)
    }

    /// The `)` behind `inner`.
    fn closed(&mut self, inner: Tree, start: u32) -> Result<Tree, ParseError> {
        if self.accept(TokenKind::RightParen)?.is_none() {
            return Err(self.unexpected());
        }
        let span = self.span_from(start);
        let height = self.height_above(inner.height, span)?;
        Ok(Tree { expr: Expr::Paren(Box::new(Paren { expr: inner.expr, span })), height })
    }

    /// What starts with a word: what follows tells whether it names an aggregation, a function
    /// or a metric.
    fn named(&mut self) -> Result<Tree, ParseError> {
        let name = self.next()?;
        let following = self.peek()?.kind;
        let opens = following == TokenKind::LeftParen;
        match name.kind {
            TokenKind::Aggregator(op)
                if opens
                    || following == TokenKind::Keyword(Keyword::By)
                    || following == TokenKind::Keyword(Keyword::Without) =>
            {
                self.aggregation(op, name.span.start)
            }
            TokenKind::Identifier
            | TokenKind::Keyword(
                Keyword::Start
                | Keyword::End
                | Keyword::Step
                | Keyword::Range
                | Keyword::MinOf
                | Keyword::MaxOf,
            ) if opens => self.call(name.span),
            _ => self.metric(name.span),
        }
    }

    fn metric(&mut self, name: Span) -> Result<Tree, ParseError> {
        Ok(Tree { expr: Expr::Vector(self.named_selector(name)?), height: 1 })
    }
}
