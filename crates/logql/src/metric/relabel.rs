//! Labels of results.

use std::collections::HashMap;

use model::regex::{Groups, Regex, Template};

use super::MetricError;
use super::labels::SampleLabels;
use super::matrix::{Matrix, Series};
use crate::syntax::ast::LabelReplace;

/// The named labels, or all others, without those that are empty: nothing is grouped or matched by
/// them.
pub(super) fn grouped(labels: &SampleLabels, names: &[String], keeps_named: bool) -> SampleLabels {
    if names.is_empty() && keeps_named {
        return SampleLabels::default();
    }
    let is_named = |name: &str| names.iter().any(|named| named == name);
    labels.filter(|name, value| is_named(name) == keeps_named && !value.is_empty())
}

/// Puts series of the same labels together that have values at different steps.
///
/// # Errors
/// Two have a value at the same step.
pub(super) fn merged(matrix: Matrix) -> Result<Matrix, MetricError> {
    let mut numbers: HashMap<SampleLabels, usize> = HashMap::new();
    let mut merged: Vec<Series> = Vec::with_capacity(matrix.series.len());
    for series in matrix.series {
        let number = *numbers.entry(series.labels.clone()).or_insert(merged.len());
        let Some(known) = merged.get_mut(number) else {
            merged.push(series);
            continue;
        };
        for (value, other) in known.values.iter_mut().zip(series.values) {
            match (&value, other) {
                (Some(_), Some(_)) => {
                    return Err(MetricError::Matching(format!(
                        "vector cannot contain metrics with the same labelset: {}",
                        known.labels
                    )));
                }
                (None, Some(_)) => *value = other,
                _ => {}
            }
        }
    }
    Ok(Matrix { series: merged, is_ordered: matrix.is_ordered })
}

/// `label_replace`
pub(super) fn label_replace(
    replace: &LabelReplace,
    mut matrix: Matrix,
) -> Result<Matrix, MetricError> {
    let regex =
        Regex::new(&replace.pattern).map_err(|error| MetricError::Matching(error.to_string()))?;
    let template = Template::parse(&replace.replacement, &regex);
    let mut groups = Groups::default();
    for series in &mut matrix.series {
        let source = series.labels.get(&replace.source).unwrap_or_default();
        if regex.captures(source, &mut groups) {
            let mut value = String::new();
            template.expand(&mut value, &groups, source);
            series.labels = series.labels.with(&replace.target, &value);
        }
    }
    merged(matrix)
}
