//! Aggregations over series.

use super::labels::SampleLabels;
use super::matrix::{Matrix, Numbered, Series};
use super::relabel::grouped;
use super::values::{greatest, least, next_mean};
use crate::syntax::ast::{VectorAggregation, VectorOp};

/// Aggregates the series of each group, step by step.
pub(super) fn aggregate(aggregation: &VectorAggregation, matrix: Matrix, steps: usize) -> Matrix {
    match aggregation.op {
        VectorOp::Sort => sort(matrix, false),
        VectorOp::SortDesc => sort(matrix, true),
        VectorOp::TopK | VectorOp::ApproxTopK => choose(aggregation, matrix, steps, true),
        VectorOp::BottomK => choose(aggregation, matrix, steps, false),
        _ => fold(aggregation, &matrix, steps),
    }
}

fn group_of(aggregation: &VectorAggregation, labels: &SampleLabels) -> SampleLabels {
    match &aggregation.grouping {
        Some(grouping) => grouped(labels, &grouping.labels, !grouping.without),
        None => SampleLabels::default(),
    }
}

/// What a group comes to at one step.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    count: f64,
    value: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Total {
    fn add(&mut self, op: VectorOp, value: f64) {
        self.count += 1.0;
        let is_first = self.count == 1.0;
        match op {
            VectorOp::Sum => self.value += value,
            VectorOp::Avg => self.value = next_mean(self.value, value, self.count),
            VectorOp::Max => {
                self.value = if is_first { value } else { greatest(self.value, value) }
            }
            VectorOp::Min => self.value = if is_first { value } else { least(self.value, value) },
            VectorOp::Stddev | VectorOp::Stdvar => {
                let delta = value - self.value;
                self.value += delta / self.count;
                self.squares += delta * (value - self.value);
            }
            _ => {}
        }
    }

    fn result(self, op: VectorOp) -> Option<f64> {
        (self.count > 0.0).then(|| match op {
            VectorOp::Count => self.count,
            VectorOp::Stdvar => self.squares / self.count,
            VectorOp::Stddev => (self.squares / self.count).sqrt(),
            _ => self.value,
        })
    }
}

fn fold(aggregation: &VectorAggregation, matrix: &Matrix, steps: usize) -> Matrix {
    let op = aggregation.op;
    let mut groups = Numbered::default();
    let mut totals: Vec<Vec<Total>> = Vec::new();
    for series in &matrix.series {
        let group = groups.number(group_of(aggregation, &series.labels));
        if group == totals.len() {
            totals.push(vec![Total::default(); steps]);
        }
        for (total, value) in totals[group].iter_mut().zip(&series.values) {
            if let Some(value) = value {
                total.add(op, *value);
            }
        }
    }
    let series = groups.into_labels().into_iter().zip(totals).map(|(labels, totals)| Series {
        labels,
        values: totals.into_iter().map(|total| total.result(op)).collect(),
    });
    Matrix { series: series.collect(), is_ordered: false }
}

/// Order of values with what is no number last.
fn order(a: f64, b: f64, descending: bool) -> std::cmp::Ordering {
    let numbers = if descending { b.total_cmp(&a) } else { a.total_cmp(&b) };
    a.is_nan().cmp(&b.is_nan()).then(numbers)
}

/// Orders series by their first value.
fn sort(mut matrix: Matrix, descending: bool) -> Matrix {
    let first = |series: &Series| series.values.iter().flatten().next().copied();
    matrix.series.sort_by(|a, b| {
        order(first(a).unwrap_or(f64::NAN), first(b).unwrap_or(f64::NAN), descending)
            .then_with(|| a.labels.cmp(&b.labels))
    });
    matrix.is_ordered = true;
    matrix
}

/// Keeps the greatest or least values of each group, with the labels they have.
fn choose(
    aggregation: &VectorAggregation,
    mut matrix: Matrix,
    steps: usize,
    greatest: bool,
) -> Matrix {
    let most = usize::try_from(aggregation.parameter).unwrap_or(usize::MAX);
    // Of equal values those of the lesser labels are kept, whatever the source's order.
    matrix.series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut groups = Numbered::default();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, series) in matrix.series.iter().enumerate() {
        let group = groups.number(group_of(aggregation, &series.labels));
        if group == members.len() {
            members.push(Vec::new());
        }
        members[group].push(index);
    }
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for step in 0..steps {
        for group in &members {
            candidates.clear();
            candidates.extend(
                group.iter().filter_map(|&index| Some((matrix.series[index].values[step]?, index))),
            );
            if candidates.len() > most {
                candidates.sort_by(|a, b| order(a.0, b.0, greatest));
                for &(_, index) in &candidates[most..] {
                    matrix.series[index].values[step] = None;
                }
            }
        }
    }
    let chosen = matrix.without_empty();
    // At one time the best come first; over many there is no one order.
    if steps == 1 { sort(chosen, greatest) } else { chosen }
}
