//! Which labels a query needs.

use crate::pipeline::Template;
use crate::syntax::ast::{
    Grouping, LabelFilter, LabelFormatSource, LogRange, RangeOp, StageKind, VectorOp,
};

/// Whether an aggregation over series can be done while lines are read: their samples then get the
/// labels of the group at once. Loki does so for these, and errors of labels nobody needs are none.
pub(super) fn is_pushed_down(outer: VectorOp, inner: RangeOp) -> bool {
    outer == VectorOp::Sum
        && matches!(
            inner,
            RangeOp::CountOverTime
                | RangeOp::Rate
                | RangeOp::BytesOverTime
                | RangeOp::BytesRate
                | RangeOp::SumOverTime
        )
}

/// The labels that stages and grouping read, sorted; `None` if it may be all.
pub(super) fn required_labels(range: &LogRange, grouping: &Grouping) -> Option<Vec<String>> {
    if grouping.without {
        return None;
    }
    let mut labels = grouping.labels.clone();
    for stage in &range.log.stages {
        match &stage.kind {
            StageKind::LabelFilter(filter) => add_filter(filter, &mut labels),
            StageKind::LineFormat(text) => add_template(text, &mut labels)?,
            StageKind::LabelFormat(formats) => {
                for format in formats {
                    match &format.source {
                        LabelFormatSource::Rename(from) => labels.push(from.clone()),
                        LabelFormatSource::Template(text) => add_template(text, &mut labels)?,
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(unwrap) = &range.unwrap {
        labels.push(unwrap.label.clone());
        unwrap.filters.iter().for_each(|filter| add_filter(filter, &mut labels));
    }
    labels.sort_unstable();
    labels.dedup();
    Some(labels)
}

fn add_filter(filter: &LabelFilter, labels: &mut Vec<String>) {
    match filter {
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
            add_filter(left, labels);
            add_filter(right, labels);
        }
        LabelFilter::String(matcher) => labels.push(matcher.name.clone()),
        LabelFilter::Number { name, .. }
        | LabelFilter::Duration { name, .. }
        | LabelFilter::Bytes { name, .. }
        | LabelFilter::Ip { name, .. } => labels.push(name.clone()),
    }
}

/// `None` if the template may read any label.
fn add_template(text: &str, labels: &mut Vec<String>) -> Option<()> {
    let template = Template::new("line", text).ok()?;
    if template.needs_all() {
        return None;
    }
    labels.extend(template.labels().map(str::to_owned));
    Some(())
}
