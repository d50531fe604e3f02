//! Aggregations over series, and the functions that yield series.

use model::regex::Regex;

use super::super::ast::{Expr, Grouping, LabelReplace, MetricExpr, VectorAggregation, VectorOp};
use super::super::check;
use super::super::error::ParseError;
use super::super::lexer::{Token, TokenKind};
use super::{Parser, Tree};

impl Parser<'_> {
    /// `sum by (a) (…)`
    pub(super) fn vector_aggregation(&mut self, op: VectorOp) -> Result<Tree, ParseError> {
        let start = self.next()?.span.start;
        let leading = self.grouping()?;
        self.expect(TokenKind::OpenParen)?;
        self.enter()?;
        let mut parameter = None;
        let inner = if self.peek_kind()? == TokenKind::Number {
            let number = self.next()?;
            if self.accept(TokenKind::Comma)? {
                parameter = Some(number);
                self.metric_expression()?
            } else {
                let first = self.literal(number)?;
                let tree = self.expression_from(Some(first))?;
                self.only_metric(tree)?
            }
        } else {
            self.metric_expression()?
        };
        if !self.accept(TokenKind::CloseParen)? {
            return Err(self.unexpected(&[]));
        }
        self.leave();
        let grouping = match leading {
            Some(grouping) => Some(grouping),
            None => self.grouping()?,
        };
        let parameter = self.count_of_series(op, parameter);
        if grouping.is_some() {
            match op {
                VectorOp::ApproxTopK => {
                    self.fault("grouping not allowed for approx_topk aggregation");
                }
                VectorOp::Sort | VectorOp::SortDesc => {
                    self.fault("sort and sort_desc doesn't allow grouping by");
                }
                _ => {}
            }
        }
        let height = check::height_above(inner.1)?;
        let span = self.span_from(start);
        let aggregation = VectorAggregation { op, parameter, grouping, inner: inner.0, span };
        Ok(Tree { expr: Expr::Metric(MetricExpr::Vector(Box::new(aggregation))), height, start })
    }

    /// The `k` of `topk`; 0 for operations without.
    fn count_of_series(&mut self, op: VectorOp, parameter: Option<Token>) -> u64 {
        let name = op.as_str();
        let text = parameter.map(|token| self.text_of(token));
        match (text, op.takes_parameter()) {
            (None, false) => 0,
            (None, true) => {
                self.fault(format!("parameter required for operation {name}"));
                0
            }
            (Some(text), false) => {
                self.fault(format!("unsupported parameter for operation {name}({text},"));
                0
            }
            (Some(text), true) => match text.parse::<i64>() {
                Ok(value) if value > 0 => value.unsigned_abs(),
                Ok(_) => {
                    let message =
                        format!("invalid parameter (must be greater than 0) {name}({text}");
                    self.fault(message);
                    0
                }
                Err(_) => {
                    self.fault(format!("invalid parameter {name}({text},"));
                    0
                }
            },
        }
    }

    /// An expression of numbers, and its height.
    pub(super) fn metric_expression(&mut self) -> Result<(MetricExpr, usize), ParseError> {
        let tree = self.expression()?;
        self.only_metric(tree)
    }

    /// Lines may stand here only as the side of an operator, so the token behind them is at fault.
    fn only_metric(&mut self, tree: Tree) -> Result<(MetricExpr, usize), ParseError> {
        match tree.expr {
            Expr::Metric(expr) => Ok((expr, tree.height)),
            Expr::Log(_) => Err(self.unexpected(&[])),
        }
    }

    /// `by (a,b)`, if it stands here.
    pub(super) fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = match self.peek_kind()? {
            TokenKind::By => false,
            TokenKind::Without => true,
            _ => return Ok(None),
        };
        self.next()?;
        Ok(Some(Grouping { without, labels: self.label_names()? }))
    }

    /// `(a,b)`
    pub(super) fn label_names(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect(TokenKind::OpenParen)?;
        let mut names = Vec::new();
        if self.accept(TokenKind::CloseParen)? {
            return Ok(names);
        }
        if self.peek_kind()? != TokenKind::Identifier {
            return Err(self.unexpected(&[TokenKind::Identifier, TokenKind::CloseParen]));
        }
        loop {
            names.push(self.identifier()?);
            if self.accept(TokenKind::CloseParen)? {
                return Ok(names);
            }
            if !self.accept(TokenKind::Comma)? {
                return Err(self.unexpected(&[TokenKind::Comma, TokenKind::CloseParen]));
            }
        }
    }

    /// `label_replace(…, "target", "replacement", "source", "pattern")`
    pub(super) fn label_replace(&mut self) -> Result<Tree, ParseError> {
        let start = self.next()?.span.start;
        self.expect(TokenKind::OpenParen)?;
        self.enter()?;
        let (inner, height) = self.metric_expression()?;
        if self.peek_kind()? != TokenKind::Comma {
            return Err(self.unexpected(&[]));
        }
        let mut next = || {
            self.expect(TokenKind::Comma)?;
            self.string()
        };
        let (target, replacement, source, pattern) = (next()?, next()?, next()?, next()?);
        self.expect(TokenKind::CloseParen)?;
        self.leave();
        if let Err(error) = Regex::new(&pattern) {
            self.fault(format!("invalid regex in label_replace: {error}"));
        }
        let height = check::height_above(height)?;
        let span = self.span_from(start);
        let replace = LabelReplace { inner, target, replacement, source, pattern, span };
        Ok(Tree { expr: Expr::Metric(MetricExpr::LabelReplace(Box::new(replace))), height, start })
    }

    /// `vector(1)`
    pub(super) fn constant_vector(&mut self) -> Result<MetricExpr, ParseError> {
        self.next()?;
        self.expect(TokenKind::OpenParen)?;
        let value = self.number()?;
        self.expect(TokenKind::CloseParen)?;
        Ok(MetricExpr::Constant(value))
    }
}
