//! The order in which steps run, where it differs from the one written.

use super::ast::{
    LabelFormatSource, LogExpr, LogRange, MetricExpr, RangeOp, Stage, StageKind, VectorOp,
};

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

/// Leaves out what costs time and changes no result: steps that format a line nobody reads, whose
/// errors are then no errors of the query, as in Loki, and estimation, because `topk` is exact.
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
    let mut kept: Vec<Stage> = Vec::with_capacity(range.log.stages.len());
    for stage in std::mem::take(&mut range.log.stages).into_iter().rev() {
        if !is_read && matches!(stage.kind, StageKind::LineFormat(_)) {
            continue;
        }
        is_read |= stage.kind.reads_line();
        kept.push(stage);
    }
    kept.reverse();
    range.log.stages = kept;
}
