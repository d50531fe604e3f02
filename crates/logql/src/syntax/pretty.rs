//! Trees into text of several lines, as `format_query` answers.

use super::ast::{Binary, BinaryOp, Expr, LogExpr, LogRange, MetricExpr, StageKind};
use super::duration::format_prometheus;
use super::printer::selector;
use model::quote::quote;

/// Columns above which an expression is split.
pub const MAX_COLUMNS: usize = 100;

/// Writes a query on several lines where it is longer than [`MAX_COLUMNS`].
pub fn pretty(expr: &Expr) -> String {
    pretty_within(expr, MAX_COLUMNS)
}

/// Writes a query on several lines where it is longer than `columns`. Only what is split counts
/// towards the limit, not its indentation.
pub fn pretty_within(expr: &Expr, columns: usize) -> String {
    let printer = Printer { columns };
    match expr {
        Expr::Log(log) => printer.log(log, 0),
        Expr::Metric(expr) => printer.metric(expr, 0),
    }
}

struct Printer {
    columns: usize,
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

impl Printer {
    /// The text on one line, if it is short enough.
    fn short(&self, text: String, level: usize) -> Option<String> {
        (text.len() <= self.columns).then(|| indent(level) + &text)
    }

    fn log(&self, log: &LogExpr, level: usize) -> String {
        if let Some(short) = self.short(log.to_string(), level) {
            return short;
        }
        let mut out = indent(level) + &selector(&log.matchers);
        for stage in &log.stages {
            let line_indent = format!("\n{}", indent(level + 1));
            match &stage.kind {
                StageKind::LineFilter(filter) if filter.op.is_negative() => {
                    for operand in &filter.operands {
                        out += &format!("{line_indent}{} {operand}", filter.op.as_str());
                    }
                }
                kind => out += &format!("{line_indent}{kind}"),
            }
        }
        out
    }

    fn range(&self, range: &LogRange, level: usize) -> String {
        let mut out = self.log(&range.log, level);
        if let Some(unwrap) = &range.unwrap {
            let line_indent = format!("\n{}", indent(level + 1));
            out += &format!("{line_indent}{unwrap}");
            for filter in &unwrap.filters {
                out += &format!("{line_indent}| {filter}");
            }
        }
        out += &format!(" [{}]", format_prometheus(range.interval));
        if range.offset != 0 {
            out += &format!(" offset {}", format_prometheus(range.offset));
        }
        out
    }

    fn metric(&self, expr: &MetricExpr, level: usize) -> String {
        if let Some(short) = self.short(expr.to_string(), level) {
            return short;
        }
        let (outer, inner) = (indent(level), indent(level + 1));
        match expr {
            MetricExpr::Range(aggregation) => {
                let mut out = format!("{outer}{}(\n", aggregation.op.as_str());
                if let Some(parameter) = aggregation.parameter {
                    out += &format!("{inner}{parameter},\n");
                }
                out += &self.range(&aggregation.range, level + 1);
                out += &format!("\n{outer})");
                if let Some(grouping) = &aggregation.grouping {
                    out += &format!(" {grouping}");
                }
                out
            }
            MetricExpr::Vector(aggregation) => {
                let mut out = format!("{outer}{}(\n", aggregation.head());
                if aggregation.op.takes_parameter() {
                    out += &format!("{inner}{},\n", aggregation.parameter);
                }
                out += &self.metric(&aggregation.inner, level + 1);
                out + &format!("\n{outer})")
            }
            MetricExpr::Binary(binary) => self.binary(binary, level),
            MetricExpr::LabelReplace(replace) => {
                let mut out = format!("{outer}label_replace(\n");
                out += &self.metric(&replace.inner, level + 1);
                let arguments =
                    [&replace.target, &replace.replacement, &replace.source, &replace.pattern];
                for argument in arguments {
                    out += &format!(",\n{inner}{}", quote(argument));
                }
                out + &format!("\n{outer})")
            }
            MetricExpr::Constant(_) | MetricExpr::Literal(_) => format!("{outer}{expr}"),
        }
    }

    fn binary(&self, binary: &Binary, level: usize) -> String {
        let left = self.side(&binary.left, binary.op, false, level + 1);
        let right = self.side(&binary.right, binary.op, true, level + 1);
        format!("{left}\n{}{}\n{right}", indent(level), binary.operator().trim_end())
    }

    /// One side of an operator; between parentheses where it would be read otherwise without.
    fn side(&self, expr: &MetricExpr, op: BinaryOp, is_right: bool, level: usize) -> String {
        let text = self.metric(expr, level);
        let MetricExpr::Binary(inner) = expr else { return text };
        let is_short = expr.to_string().len() <= self.columns;
        let binds_tighter = inner.op.precedence() > op.precedence()
            || inner.op.precedence() == op.precedence() && is_right == op.is_right_associative();
        if is_short || binds_tighter {
            return text;
        }
        let (outer, text) = (indent(level), self.metric(expr, level + 1));
        format!("{outer}(\n{text}\n{outer})")
    }
}
