//! Operators, signs, parentheses and what stands between them.

use super::{Parser, Tree};
use crate::ast::{Binary, BinaryOp, Expr, NumberLiteral, Paren, Span, StringLiteral, Unary};
use crate::lexer::{Keyword, TokenKind, unquote};
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

impl Parser<'_> {
    /// An expression with all operators.
    pub(super) fn expression(&mut self) -> Result<Tree, ParseError> {
        self.binary(Precedence::Or)
    }

    /// An expression whose bare operators bind at least as tightly as `loosest`.
    fn binary(&mut self, loosest: Precedence) -> Result<Tree, ParseError> {
        let mut left = self.unary()?;
        loop {
            let token = self.peek()?;
            let TokenKind::Operator(op) = token.kind else { return Ok(left) };
            let precedence = Precedence::of(op);
            if precedence < loosest {
                return Ok(left);
            }
            self.next()?;
            let modifiers = self.binary_modifiers()?;
            let right = self.nested(|parser| parser.binary(precedence.of_right_side()))?;
            let span = Span { start: left.expr.span().start, end: self.end };
            let height = self.height_above(left.height.max(right.height), span)?;
            let node = Binary {
                op,
                left: left.expr,
                right: right.expr,
                matching: Some(modifiers.matching),
                return_bool: modifiers.return_bool,
                span,
                op_span: token.span,
            };
            left = Tree { expr: Expr::Binary(Box::new(node)), height };
        }
    }

    /// An operand: signs bind like `*`, so `-a ^ b` is `-(a ^ b)` and `-a * b` is `(-a) * b`.
    fn unary(&mut self) -> Result<Tree, ParseError> {
        let token = self.peek()?;
        let negative = match token.kind {
            TokenKind::Operator(BinaryOp::Sub) => true,
            TokenKind::Operator(BinaryOp::Add) => false,
            _ => {
                let operand = self.primary()?;
                return self.modifiers(operand);
            }
        };
        self.next()?;
        let operand = self.nested(|parser| parser.binary(Precedence::Power))?;
        let span = self.span_from(token.span.start);
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
        let token = self.peek()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                Ok(Tree { expr: Expr::Number(self.number_or_duration()?), height: 1 })
            }
            TokenKind::String => {
                self.next()?;
                let value = unquote(self.text_of(token.span));
                let expr = Expr::String(StringLiteral { value, span: token.span });
                Ok(Tree { expr, height: 1 })
            }
            TokenKind::LeftParen => self.nested(Self::parenthesised),
            TokenKind::LeftBrace => {
                Ok(Tree { expr: Expr::Vector(self.vector_selector()?), height: 1 })
            }
            kind if kind.may_name_metric() => self.named(),
            _ => Err(self.unexpected()),
        }
    }

    fn parenthesised(&mut self) -> Result<Tree, ParseError> {
        let open = self.next()?;
        let inner = self.expression()?;
        if self.accept(TokenKind::RightParen)?.is_none() {
            return Err(self.unexpected());
        }
        let span = self.span_from(open.span.start);
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
                self.nested(|parser| parser.aggregation(op, name.span.start))
            }
            TokenKind::Identifier
            | TokenKind::Keyword(
                Keyword::Start
                | Keyword::End
                | Keyword::Step
                | Keyword::Range
                | Keyword::MinOf
                | Keyword::MaxOf,
            ) if opens => self.nested(|parser| parser.call(name.span)),
            _ => Ok(Tree { expr: Expr::Vector(self.named_selector(name.span)?), height: 1 }),
        }
    }
}
