//! Rules that a tree must keep although its text can be read.

use model::Matcher;

use super::ast::{Expr, LineFilterOp, LogExpr, LogRange, MetricExpr, StageKind};
use super::error::ParseError;

/// Height of a tree. Chains such as `a + b + c …` grow by one per operator without nesting, but
/// whoever walks the tree recurses that deep.
pub const MAX_HEIGHT: usize = 250;

const NO_MATCHER: &str = "queries require at least one regexp or equality matcher that does not \
                          have an empty-compatible value. For instance, app=~\".*\" does not meet \
                          this requirement, but app=~\".+\" will";

/// The height of a node above children of the given height.
pub(super) fn height_above(children: usize) -> Result<usize, ParseError> {
    if children >= MAX_HEIGHT {
        let message = format!("query chains more than {MAX_HEIGHT} operations; split it");
        return Err(ParseError::general(message));
    }
    Ok(children + 1)
}

/// Checks that no selector takes every stream: each has a matcher that the empty string does not
/// satisfy. `{}` may stand where a filter follows, which Loki does not allow: it searches
/// everything for a needle.
pub(super) fn selectors(expr: &Expr) -> Result<(), ParseError> {
    match expr {
        Expr::Log(log) => selector(log),
        Expr::Metric(expr) => match first_unselective(expr) {
            Some(log) => selector(log),
            None => Ok(()),
        },
    }
}

fn selector(log: &LogExpr) -> Result<(), ParseError> {
    if is_selective(log) { Ok(()) } else { Err(ParseError::general(NO_MATCHER)) }
}

fn is_selective(log: &LogExpr) -> bool {
    if log.matchers.is_empty() {
        return log.has_filter();
    }
    !log.matchers.iter().all(Matcher::matches_empty)
}

fn first_unselective(expr: &MetricExpr) -> Option<&LogExpr> {
    expr.ranges().into_iter().map(|range| &range.log).find(|log| !is_selective(log))
}

impl MetricExpr {
    /// All ranges of lines within the expression, from left to right.
    pub fn ranges(&self) -> Vec<&LogRange> {
        let mut found = Vec::new();
        let mut rest = vec![self];
        while let Some(expr) = rest.pop() {
            match expr {
                MetricExpr::Range(aggregation) => found.push(&aggregation.range),
                MetricExpr::Vector(aggregation) => rest.push(&aggregation.inner),
                MetricExpr::LabelReplace(replace) => rest.push(&replace.inner),
                MetricExpr::Binary(binary) => rest.extend([&binary.right, &binary.left]),
                MetricExpr::Constant(_) | MetricExpr::Literal(_) => {}
            }
        }
        found
    }
}

impl LogExpr {
    /// Whether some line may be left out: there is a condition on labels, or one on the line that
    /// is not satisfied by every line.
    pub fn has_filter(&self) -> bool {
        self.stages.iter().any(|stage| match &stage.kind {
            StageKind::LabelFilter(_) => true,
            StageKind::LineFilter(filter) => !filter.operands.iter().any(|operand| {
                let matches_all = match filter.op {
                    LineFilterOp::Contains => operand.value.is_empty(),
                    LineFilterOp::Matches => is_match_all(&operand.value),
                    _ => false,
                };
                matches_all && !operand.is_ip
            }),
            _ => false,
        })
    }
}

/// Whether a regular expression matches every text, as far as its form shows.
pub(super) fn is_match_all(pattern: &str) -> bool {
    let mut inner = pattern;
    while let Some(group) = inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        inner = group.strip_prefix("?:").unwrap_or(group);
    }
    inner.is_empty() || inner == ".*"
}
