//! What follows a selector: ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`.

use super::duration::DurationPlace;
use super::{Parser, Tree};
use crate::ast::{
    At, BinaryOp, Duration, Expr, MatrixSelector, RangeExtension, Span, Subquery, VectorSelector,
};
use crate::lexer::{Keyword, TokenKind};
use crate::parse_error::ParseError;

/// Furthest time behind `@`: 2^62 milliseconds, so that adding ranges and offsets to it cannot
/// overflow. Prometheus has no such limit and wraps around.
const MAX_AT_SECONDS: f64 = (1u64 << 62) as f64 / 1_000.0;

const RANGE_WITHOUT_SELECTOR: &str = "ranges only allowed for vector selectors";

impl Parser<'_> {
    /// Reads as many modifiers as follow, in any order, and applies them.
    pub(super) fn modifiers(&mut self, operand: Tree) -> Result<Tree, ParseError> {
        let Tree { mut expr, mut height } = operand;
        loop {
            match self.peek()?.kind {
                TokenKind::LeftBracket => {
                    expr = self.brackets(expr)?;
                    height = self.height_above(height, expr.span())?;
                }
                TokenKind::Keyword(Keyword::Offset) => self.offset(&mut expr)?,
                TokenKind::At => self.at(&mut expr)?,
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.extension(&mut expr, RangeExtension::Anchored)?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.extension(&mut expr, RangeExtension::Smoothed)?;
                }
                _ => return Ok(Tree { expr, height }),
            }
        }
    }

    /// `[5m]` or `[1h:5m]`.
    fn brackets(&mut self, expr: Expr) -> Result<Expr, ParseError> {
        let open = self.next()?;
        let range = self.positive_duration(DurationPlace::Range)?;
        if self.accept(TokenKind::Colon)?.is_some() {
            return self.subquery(expr, range);
        }
        if self.accept(TokenKind::RightBracket)?.is_none() {
            return Err(self.unexpected_in(" in subquery or range, expected \":\" or \"]\""));
        }
        let brackets = self.span_from(open.span.start);
        let fault = match expr {
            Expr::Vector(vector) => {
                if vector.offset != Duration::Fixed(0) {
                    "no offset modifiers allowed before range"
                } else if vector.at.is_some() {
                    "no @ modifiers allowed before range"
                } else {
                    let span = self.span_from(vector.span.start);
                    return Ok(Expr::Matrix(MatrixSelector { vector, range, span }));
                }
            }
            _ => RANGE_WITHOUT_SELECTOR,
        };
        Err(self.error(brackets, fault))
    }

    /// What follows the colon.
    fn subquery(&mut self, expr: Expr, range: Duration) -> Result<Expr, ParseError> {
        let step = match self.peek()?.kind {
            TokenKind::RightBracket => None,
            _ => Some(self.positive_duration(DurationPlace::Step)?),
        };
        if self.accept(TokenKind::RightBracket)?.is_none() {
            return Err(self.unexpected_in(" in subquery selector, expected \"]\""));
        }
        let span = self.span_from(expr.span().start);
        let offset = Duration::Fixed(0);
        Ok(Expr::Subquery(Box::new(Subquery { expr, range, step, offset, at: None, span })))
    }

    fn offset(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        self.next()?;
        let duration = self.offset_duration()?;
        let end = self.end;
        let Some(target) = Modified::of(expr) else {
            return Err(self.error(
                expr.span(),
                "offset modifier must be preceded by an instant vector selector \
                 or range vector selector or a subquery",
            ));
        };
        if *target.offset != Duration::Fixed(0) {
            return Err(self.error(*target.span, "offset may not be set multiple times"));
        }
        *target.offset = duration;
        target.span.end = end;
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        self.next()?;
        let at = self.at_time(expr.span())?;
        let end = self.end;
        let Some(target) = Modified::of(expr) else {
            return Err(self.error(
                expr.span(),
                "@ modifier must be preceded by an instant vector selector \
                 or range vector selector or a subquery",
            ));
        };
        if target.at.is_some() {
            return Err(self.error(*target.span, "@ <timestamp> may not be set multiple times"));
        }
        *target.at = Some(at);
        target.span.end = end;
        Ok(())
    }

    /// What follows `@`; `operand` is where the modified expression stands.
    fn at_time(&mut self, operand: Span) -> Result<At, ParseError> {
        const EXPECTED: &str = " in @, expected timestamp";
        let border = match self.peek()?.kind {
            TokenKind::Keyword(Keyword::Start) => Some(At::Start),
            TokenKind::Keyword(Keyword::End) => Some(At::End),
            _ => None,
        };
        if let Some(border) = border {
            self.next()?;
            for paren in [TokenKind::LeftParen, TokenKind::RightParen] {
                if self.accept(paren)?.is_none() {
                    return Err(self.unexpected_in(EXPECTED));
                }
            }
            return Ok(border);
        }
        let negative = self.accept(TokenKind::Operator(BinaryOp::Sub))?.is_some();
        if !negative {
            self.accept(TokenKind::Operator(BinaryOp::Add))?;
        }
        if !matches!(self.peek()?.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected_in(EXPECTED));
        }
        let magnitude = self.number_or_duration()?.value;
        let seconds = if negative { -magnitude } else { magnitude };
        if seconds.is_nan() || seconds.abs() > MAX_AT_SECONDS {
            let shown = crate::printer::fixed_decimals(seconds, 6);
            let message = format!("timestamp out of bounds for @ modifier: {shown}");
            return Err(self.error(operand, message));
        }
        Ok(At::Timestamp((seconds * 1_000.0).round() as i64))
    }

    fn extension(&mut self, expr: &mut Expr, extension: RangeExtension) -> Result<(), ParseError> {
        self.next()?;
        let end = self.end;
        let span = expr.span();
        let word = extension.as_str();
        let (vector, whole): (&mut VectorSelector, Option<&mut Span>) = match expr {
            Expr::Vector(vector) => (vector, None),
            Expr::Matrix(matrix) => (&mut matrix.vector, Some(&mut matrix.span)),
            Expr::Subquery(_) => {
                let message = format!("{word} modifier is not supported for subqueries");
                return Err(self.error(span, message));
            }
            _ => return Err(self.error(span, format!("{word} modifier not implemented"))),
        };
        if vector.extension.is_some_and(|earlier| earlier != extension) {
            let message = "anchored and smoothed modifiers cannot be used together";
            return Err(self.error(span, message));
        }
        vector.extension = Some(extension);
        whole.unwrap_or(&mut vector.span).end = end;
        Ok(())
    }
}

/// The parts of an expression that `offset` and `@` change.
struct Modified<'e> {
    offset: &'e mut Duration,
    at: &'e mut Option<At>,
    span: &'e mut Span,
}

impl<'e> Modified<'e> {
    /// `None` if the expression takes no modifiers.
    fn of(expr: &'e mut Expr) -> Option<Self> {
        match expr {
            Expr::Vector(VectorSelector { offset, at, span, .. }) => {
                Some(Modified { offset, at, span })
            }
            Expr::Matrix(MatrixSelector { vector, span, .. }) => {
                Some(Modified { offset: &mut vector.offset, at: &mut vector.at, span })
            }
            Expr::Subquery(node) => {
                let Subquery { offset, at, span, .. } = &mut **node;
                Some(Modified { offset, at, span })
            }
            _ => None,
        }
    }
}
