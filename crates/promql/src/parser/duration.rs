//! Durations in `[…]` and behind `offset`: literals, and expressions over them that are computed
//! when the query starts.

use super::Parser;
use super::expression::Precedence;
use crate::ast::{BinaryOp, Duration, DurationExpr, NumberLiteral};
use crate::lexer::{Keyword, TokenKind};
use crate::parse_error::ParseError;

/// Where a duration stands; messages differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DurationPlace {
    /// Behind `offset`.
    Offset,
    /// Behind `[`.
    Range,
    /// Behind the colon of a subquery.
    Step,
}

impl DurationPlace {
    fn expectation(self) -> &'static str {
        match self {
            DurationPlace::Offset => " in offset, expected number, duration, step(), or range()",
            DurationPlace::Range => {
                " in subquery or range selector, expected number, duration, step(), or range()"
            }
            DurationPlace::Step => {
                " in subquery selector, expected number, duration, step(), range(), or \"]\""
            }
        }
    }
}

/// Signs, operators, parentheses and functions in one duration.
const MAX_OPERATIONS: usize = 100;

/// Longest duration in seconds: what fits into 64-bit nanoseconds.
const MAX_SECONDS: f64 = (1u64 << 63) as f64 / 1e9;

impl Parser<'_> {
    /// A duration in brackets, which must be positive if it is not computed.
    pub(super) fn positive_duration(
        &mut self,
        place: DurationPlace,
    ) -> Result<Duration, ParseError> {
        self.duration_operations = 0;
        let expr = self.duration_expr(Precedence::Sum, place)?;
        if let DurationExpr::Number(number) = &expr {
            if number.value.is_nan() || number.value <= 0.0 {
                return Err(self.error(number.span, "duration must be greater than 0"));
            }
            if number.value < 0.001 {
                let message = "duration must be at least 1ms, the resolution of timestamps";
                return Err(self.error(number.span, message));
            }
        }
        Ok(fold(expr))
    }

    /// The duration behind `offset`. Operators are part of it only behind a parenthesis:
    /// `a offset 5s - 8` subtracts 8 from `a offset 5s`.
    pub(super) fn offset_duration(&mut self) -> Result<Duration, ParseError> {
        let place = DurationPlace::Offset;
        self.duration_operations = 0;
        if self.peek()?.kind == TokenKind::LeftParen {
            return Ok(fold(self.duration_expr(Precedence::Sum, place)?));
        }
        let Some((negative, start)) = self.sign()? else {
            return Ok(fold(self.duration_operand(place)?));
        };
        let inner = self.duration_operand(place)?;
        Ok(fold(self.with_duration_sign(negative, inner, start)))
    }

    /// Operands joined by operators that bind at least as tightly as `loosest`.
    fn duration_expr(
        &mut self,
        loosest: Precedence,
        place: DurationPlace,
    ) -> Result<DurationExpr, ParseError> {
        let mut left = match self.sign()? {
            Some((negative, start)) => {
                let inner = self.duration_expr(Precedence::Power, place)?;
                self.with_duration_sign(negative, inner, start)
            }
            None => self.duration_operand(place)?,
        };
        let start = left.span().start;
        loop {
            let token = self.peek()?;
            let op = match token.kind {
                TokenKind::Operator(
                    op @ (BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::Mul
                    | BinaryOp::Div
                    | BinaryOp::Mod
                    | BinaryOp::Pow),
                ) if Precedence::of(op) >= loosest => op,
                _ => return Ok(left),
            };
            self.count_duration_operation()?;
            self.next()?;
            let right = self.duration_expr(Precedence::of(op).of_right_side(), place)?;
            let divisor_is_zero =
                matches!(&right, DurationExpr::Number(number) if number.value == 0.0);
            if divisor_is_zero && op == BinaryOp::Div {
                return Err(self.error(token.span, "division by zero"));
            }
            if divisor_is_zero && op == BinaryOp::Mod {
                return Err(self.error(token.span, "modulo by zero"));
            }
            let span = self.span_from(start);
            left = DurationExpr::Binary { op, left: Box::new(left), right: Box::new(right), span };
        }
    }

    /// Every sign, operator, parenthesis and function counts, so that neither recursion here nor
    /// the height of the tree exceeds the limit.
    fn count_duration_operation(&mut self) -> Result<(), ParseError> {
        if self.duration_operations == MAX_OPERATIONS {
            let span = self.peek()?.span;
            let message = format!(
                "duration expression has more than {MAX_OPERATIONS} operations; simplify it"
            );
            return Err(self.error(span, message));
        }
        self.duration_operations += 1;
        Ok(())
    }

    /// Whether a sign stands here and is a minus, and where.
    fn sign(&mut self) -> Result<Option<(bool, u32)>, ParseError> {
        let token = self.peek()?;
        let negative = match token.kind {
            TokenKind::Operator(BinaryOp::Sub) => true,
            TokenKind::Operator(BinaryOp::Add) => false,
            _ => return Ok(None),
        };
        self.count_duration_operation()?;
        self.next()?;
        Ok(Some((negative, token.span.start)))
    }

    /// A sign in front of a number becomes part of it; a plus elsewhere means nothing and goes,
    /// as it does in Prometheus' canonical text.
    fn with_duration_sign(&self, negative: bool, inner: DurationExpr, start: u32) -> DurationExpr {
        let span = self.span_from(start);
        match inner {
            DurationExpr::Number(number) => {
                let value = if negative { -number.value } else { number.value };
                DurationExpr::Number(NumberLiteral { value, span, ..number })
            }
            inner if negative => DurationExpr::Unary { negative, inner: Box::new(inner), span },
            inner => inner,
        }
    }

    fn duration_operand(&mut self, place: DurationPlace) -> Result<DurationExpr, ParseError> {
        let token = self.peek()?;
        let start = token.span.start;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number_or_duration()?;
                if number.value.abs() > MAX_SECONDS {
                    return Err(self.error(token.span, "duration out of range"));
                }
                Ok(DurationExpr::Number(number))
            }
            TokenKind::Keyword(keyword @ (Keyword::Step | Keyword::Range)) => {
                self.next()?;
                self.duration_token(TokenKind::LeftParen, place)?;
                self.duration_token(TokenKind::RightParen, place)?;
                let span = self.span_from(start);
                Ok(match keyword {
                    Keyword::Step => DurationExpr::Step(span),
                    _ => DurationExpr::Range(span),
                })
            }
            TokenKind::Keyword(keyword @ (Keyword::MinOf | Keyword::MaxOf)) => {
                self.next()?;
                self.duration_token(TokenKind::LeftParen, place)?;
                let left = self.inner_duration(place)?;
                self.duration_token(TokenKind::Comma, place)?;
                let right = self.inner_duration(place)?;
                self.duration_token(TokenKind::RightParen, place)?;
                let span = self.span_from(start);
                Ok(match keyword {
                    Keyword::MinOf => DurationExpr::MinOf(left, right, span),
                    _ => DurationExpr::MaxOf(left, right, span),
                })
            }
            TokenKind::LeftParen => {
                self.next()?;
                let inner = self.inner_duration(place)?;
                self.duration_token(TokenKind::RightParen, place)?;
                Ok(match *inner {
                    // Around a number they mean nothing.
                    number @ DurationExpr::Number(_) => number,
                    inner => DurationExpr::Paren(Box::new(inner), self.span_from(start)),
                })
            }
            _ => Err(self.unexpected_in(place.expectation())),
        }
    }

    fn inner_duration(&mut self, place: DurationPlace) -> Result<Box<DurationExpr>, ParseError> {
        self.count_duration_operation()?;
        self.duration_expr(Precedence::Sum, place).map(Box::new)
    }

    fn duration_token(&mut self, kind: TokenKind, place: DurationPlace) -> Result<(), ParseError> {
        match self.accept(kind)? {
            Some(_) => Ok(()),
            None => Err(self.unexpected_in(place.expectation())),
        }
    }
}

/// A bare number needs no computing. Fractions of a millisecond are cut off, after the rounding
/// to nanoseconds that Prometheus does first.
fn fold(expr: DurationExpr) -> Duration {
    match expr {
        // Within ±2^63 nanoseconds, so neither the cast nor the division overflows.
        DurationExpr::Number(number) => {
            Duration::Fixed(((number.value * 1e9).round() / 1e6).trunc() as i64)
        }
        computed => Duration::Computed(Box::new(computed)),
    }
}
