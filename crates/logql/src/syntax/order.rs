//! The order in which steps run, where it differs from the one written.

use super::ast::{
    LabelFilter, LabelFormatSource, LogExpr, LogRange, MetricExpr, RangeOp, Stage, StageKind,
    VectorOp,
};
use crate::pipeline::{ERROR_DETAILS_LABEL, ERROR_LABEL, Template};

impl LogExpr {
    /// The steps as they run: conditions on the line move in front of what does not change the
    /// line, so that lines are dropped before they are parsed. Results stay the same.
    pub fn ordered_stages(&self) -> Vec<&Stage> {
        let mut ordered = Vec::with_capacity(self.stages.len());
        let mut filters: Vec<&Stage> = Vec::new();
        let mut others: Vec<&Stage> = Vec::new();
        for stage in &self.stages {
            match &stage.kind {
                StageKind::LineFilter(_) => filters.push(stage),
                // Nothing was put off yet, so nothing is gained by passing it.
                StageKind::LabelFilter(_) if filters.is_empty() && others.is_empty() => {
                    ordered.push(stage);
                }
                kind => {
                    others.push(stage);
                    if kind.changes_line() {
                        ordered.append(&mut filters);
                        ordered.append(&mut others);
                    }
                }
            }
        }
        ordered.append(&mut filters);
        ordered.append(&mut others);
        ordered
    }

    /// Of each of the steps in the order in which they run, whether it is a condition on the line as it is stored.
    pub(crate) fn are_filters_of_stored_lines(&self) -> Vec<bool> {
        let mut is_stored_line = true;
        let mut is_filter = |stage: &Stage| {
            is_stored_line &= !stage.kind.changes_line();
            is_stored_line && matches!(stage.kind, StageKind::LineFilter(_))
        };
        self.ordered_stages().into_iter().map(&mut is_filter).collect()
    }
}

impl StageKind {
    /// Whether what follows sees another line than what comes before.
    pub fn changes_line(&self) -> bool {
        matches!(self, StageKind::LineFormat(_) | StageKind::Unpack | StageKind::Decolorize)
    }

    /// Whether the step reads the line.
    pub(crate) fn reads_line(&self) -> bool {
        match self {
            StageKind::LineFilter(_)
            | StageKind::Json(_)
            | StageKind::Logfmt { .. }
            | StageKind::Regexp(_)
            | StageKind::Pattern(_)
            | StageKind::Unpack
            | StageKind::LineFormat(_)
            | StageKind::Decolorize => true,
            StageKind::LabelFormat(formats) => formats.iter().any(|format| match &format.source {
                LabelFormatSource::Template(template) => template.contains("__line__"),
                LabelFormatSource::Rename(_) => false,
            }),
            StageKind::LabelFilter(_) | StageKind::Drop(_) | StageKind::Keep(_) => false,
        }
    }
}

/// Leaves out what costs time and changes no result: steps that format a line nobody reads, and
/// estimation, because `topk` is exact. Whether such a step fails is then no error of the query, as
/// in Loki; where a later step chooses lines by their error it runs, or numbers would differ from
/// the lines that the same steps list.
pub fn optimized(mut expr: MetricExpr) -> MetricExpr {
    optimize(&mut expr);
    expr
}

fn optimize(expr: &mut MetricExpr) {
    match expr {
        MetricExpr::Range(aggregation) => {
            let is_read = matches!(aggregation.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
            if !is_read {
                leave_out_of_range(&mut aggregation.range);
            }
        }
        MetricExpr::Vector(aggregation) => {
            if aggregation.op == VectorOp::ApproxTopK {
                aggregation.op = VectorOp::TopK;
            }
            optimize(&mut aggregation.inner);
        }
        MetricExpr::LabelReplace(replace) => optimize(&mut replace.inner),
        MetricExpr::Binary(binary) => {
            optimize(&mut binary.left);
            optimize(&mut binary.right);
        }
        MetricExpr::Constant(_) | MetricExpr::Literal(_) => {}
    }
}

fn leave_out_of_range(range: &mut LogRange) {
    let mut is_read = false;
    let mut is_error_seen =
        range.unwrap.as_ref().is_some_and(|unwrap| unwrap.filters.iter().any(filter_sees_error));
    let mut kept: Vec<Stage> = Vec::with_capacity(range.log.stages.len());
    for stage in std::mem::take(&mut range.log.stages).into_iter().rev() {
        if let StageKind::LineFormat(text) = &stage.kind
            && !is_read
            && !(is_error_seen && template_can_fail(text))
        {
            continue;
        }
        is_read |= stage.kind.reads_line();
        is_error_seen |= sees_error(&stage.kind);
        kept.push(stage);
    }
    kept.reverse();
    range.log.stages = kept;
}

/// Whether what the step does may depend on whether one before it failed.
fn sees_error(kind: &StageKind) -> bool {
    match kind {
        StageKind::LabelFilter(filter) => filter_sees_error(filter),
        StageKind::LabelFormat(formats) => formats.iter().any(|format| match &format.source {
            LabelFormatSource::Rename(from) => is_error_label(from),
            LabelFormatSource::Template(text) => {
                Template::new("label", text).is_ok_and(|template| {
                    template.needs_all() || template.labels().any(is_error_label)
                })
            }
        }),
        _ => false,
    }
}

fn filter_sees_error(filter: &LabelFilter) -> bool {
    match filter {
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
            filter_sees_error(left) || filter_sees_error(right)
        }
        LabelFilter::String(matcher) => is_error_label(&matcher.name),
        // It keeps every line that failed.
        LabelFilter::Ip { .. } => true,
        LabelFilter::Number { .. } | LabelFilter::Duration { .. } | LabelFilter::Bytes { .. } => {
            false
        }
    }
}

fn is_error_label(name: &str) -> bool {
    name == ERROR_LABEL || name == ERROR_DETAILS_LABEL
}

/// Whether a template may fail at some line. What is none fails before any line is read.
fn template_can_fail(text: &str) -> bool {
    Template::new("line", text).is_ok_and(|template| template.can_fail())
}
