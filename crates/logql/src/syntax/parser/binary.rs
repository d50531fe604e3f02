//! Expressions joined by operators.

use super::super::ast::{Binary, BinaryOp, Cardinality, Expr, Matching, MetricExpr};
use super::super::error::ParseError;
use super::super::lexer::{Token, TokenKind};
use super::super::{check, number};
use super::{Parser, Tree};

/// An operator whose right side is still to come.
struct Operator {
    op: BinaryOp,
    return_bool: bool,
    matching: Option<Matching>,
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Tree, ParseError> {
        self.expression_from(None)
    }

    /// An expression whose first operand may have been read.
    pub(super) fn expression_from(&mut self, first: Option<Tree>) -> Result<Tree, ParseError> {
        let mut last = match first {
            Some(tree) => tree,
            None => self.operand()?,
        };
        let mut waiting: Vec<(Tree, Operator)> = Vec::new();
        while let Some(op) = binary_op(self.peek_kind()?) {
            self.next()?;
            let operator = self.modifiers(op)?;
            while let Some((left, before)) = waiting.pop_if(|(_, before)| {
                before.op.precedence() > op.precedence()
                    || before.op.precedence() == op.precedence() && !op.is_right_associative()
            }) {
                last = self.join(left, before, last)?;
            }
            waiting.push((last, operator));
            last = self.operand()?;
        }
        while let Some((left, operator)) = waiting.pop() {
            last = self.join(left, operator, last)?;
        }
        Ok(last)
    }

    fn operand(&mut self) -> Result<Tree, ParseError> {
        let start = self.peek()?.span.start;
        let expr = match self.peek_kind()? {
            TokenKind::OpenBrace => Expr::Log(self.log_expression()?),
            TokenKind::OpenParen => {
                self.next()?;
                self.enter()?;
                let inner = self.expression()?;
                if !self.accept(TokenKind::CloseParen)? {
                    return Err(self.unexpected(&[]));
                }
                self.leave();
                return Ok(Tree { start, ..inner });
            }
            TokenKind::Number | TokenKind::Add | TokenKind::Sub => {
                Expr::Metric(MetricExpr::Literal(self.signed_number()?))
            }
            TokenKind::RangeOp(op) => Expr::Metric(self.range_aggregation(op)?),
            TokenKind::VectorOp(op) => return self.vector_aggregation(op),
            TokenKind::LabelReplace => return self.label_replace(),
            TokenKind::Vector => Expr::Metric(self.constant_vector()?),
            _ => return Err(self.unexpected(&[])),
        };
        Ok(Tree { expr, height: 1, start })
    }

    /// A number that was taken.
    pub(super) fn literal(&mut self, token: Token) -> Result<Tree, ParseError> {
        let value = number::parse(self.text_of(token)).map_err(ParseError::general)?;
        let start = token.span.start;
        Ok(Tree { expr: Expr::Metric(MetricExpr::Literal(value)), height: 1, start })
    }

    /// `bool on (a) group_left (b)`
    fn modifiers(&mut self, op: BinaryOp) -> Result<Operator, ParseError> {
        let return_bool = self.accept(TokenKind::Bool)?;
        let on = match self.peek_kind()? {
            TokenKind::On => true,
            TokenKind::Ignoring => false,
            _ => return Ok(Operator { op, return_bool, matching: None }),
        };
        self.next()?;
        let labels = self.label_names()?;
        let cardinality = match self.peek_kind()? {
            TokenKind::GroupLeft => Cardinality::ManyToOne,
            TokenKind::GroupRight => Cardinality::OneToMany,
            _ => Cardinality::OneToOne,
        };
        let mut include = None;
        if cardinality != Cardinality::OneToOne {
            self.next()?;
            if self.peek_kind()? == TokenKind::OpenParen {
                include = Some(self.label_names()?);
            }
        }
        let matching = Some(Matching { on, labels, cardinality, include });
        Ok(Operator { op, return_bool, matching })
    }

    fn join(&mut self, left: Tree, operator: Operator, right: Tree) -> Result<Tree, ParseError> {
        let Operator { op, return_bool, matching } = operator;
        let height = check::height_above(left.height.max(right.height))?;
        let start = left.start;
        let left = self.side(left.expr, "left", op);
        let right = self.side(right.expr, "right", op);
        if let (MetricExpr::Literal(left), MetricExpr::Literal(right)) = (&left, &right) {
            let value = op.apply(*left, *right);
            return Ok(Tree { expr: Expr::Metric(MetricExpr::Literal(value)), height: 1, start });
        }
        let span = self.span_from(start);
        let binary = Binary { op, return_bool, matching, left, right, span };
        Ok(Tree { expr: Expr::Metric(MetricExpr::Binary(Box::new(binary))), height, start })
    }

    /// One side of an operator, which must yield numbers.
    fn side(&mut self, expr: Expr, side: &str, op: BinaryOp) -> MetricExpr {
        match expr {
            Expr::Log(log) => {
                let kind = if log.stages.is_empty() { "MatchersExpr" } else { "PipelineExpr" };
                self.fault(format!(
                    "unexpected type for {side} leg of binary operation ({}): *syntax.{kind}",
                    op.as_str()
                ));
                MetricExpr::Literal(f64::NAN)
            }
            Expr::Metric(MetricExpr::Literal(value)) if op.is_set() => {
                self.fault(format!(
                    "unexpected literal for {side} leg of logical/set binary operation ({}): {}",
                    op.as_str(),
                    number::format_fixed(value)
                ));
                MetricExpr::Literal(value)
            }
            Expr::Metric(expr) => expr,
        }
    }
}

fn binary_op(kind: TokenKind) -> Option<BinaryOp> {
    Some(match kind {
        TokenKind::Or => BinaryOp::Or,
        TokenKind::And => BinaryOp::And,
        TokenKind::Unless => BinaryOp::Unless,
        TokenKind::Add => BinaryOp::Add,
        TokenKind::Sub => BinaryOp::Sub,
        TokenKind::Mul => BinaryOp::Mul,
        TokenKind::Div => BinaryOp::Div,
        TokenKind::Mod => BinaryOp::Mod,
        TokenKind::Pow => BinaryOp::Pow,
        TokenKind::CmpEq => BinaryOp::Equal,
        TokenKind::Neq => BinaryOp::NotEqual,
        TokenKind::Gt => BinaryOp::Greater,
        TokenKind::Gte => BinaryOp::GreaterOrEqual,
        TokenKind::Lt => BinaryOp::Less,
        TokenKind::Lte => BinaryOp::LessOrEqual,
        _ => return None,
    })
}
