//! Aggregations.

use super::call::Arguments;
use super::{Parser, Tree};
use crate::ast::{Aggregate, AggregateOp, Expr};
use crate::lexer::Keyword;
use crate::parse_error::ParseError;

/// `by (…)` or `without (…)`.
#[derive(Default)]
struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Parser<'_> {
    /// What follows the name of an aggregation, which started at `start`: arguments, with the
    /// grouping in front or behind.
    pub(super) fn aggregation(&mut self, op: AggregateOp, start: u32) -> Result<Tree, ParseError> {
        self.aggregations += 1;
        let before = self.grouping()?;
        let arguments = self.arguments()?;
        self.aggregations -= 1;
        let grouping = match before {
            Some(grouping) => grouping,
            None => self.grouping()?.unwrap_or_default(),
        };
        self.aggregated(op, start, grouping, arguments)
    }

    fn aggregated(
        &self,
        op: AggregateOp,
        start: u32,
        grouping: Grouping,
        arguments: Arguments,
    ) -> Result<Tree, ParseError> {
        let span = self.span_from(start);
        let height = self.height_above(arguments.height, span)?;
        let wanted = 1 + usize::from(op.takes_parameter());
        let given = arguments.exprs.len();
        if given == 0 {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        let mut exprs = arguments.exprs.into_iter();
        let param = if op.takes_parameter() { exprs.next() } else { None };
        let (Some(expr), None) = (exprs.next(), exprs.next()) else {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, \
                 expected {wanted}, got {given}"
            );
            return Err(self.error(span, message));
        };
        let Grouping { labels: grouping, without } = grouping;
        let node = Aggregate { op, expr, param, grouping, without, span };
        Ok(Tree { expr: Expr::Aggregate(Box::new(node)), height })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = if self.accept_keyword(Keyword::By)? {
            false
        } else if self.accept_keyword(Keyword::Without)? {
            true
        } else {
            return Ok(None);
        };
        Ok(Some(Grouping { labels: self.label_names()?, without }))
    }
}
