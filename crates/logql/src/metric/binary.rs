//! Operators between results.

use std::collections::HashMap;

use super::MetricError;
use super::labels::SampleLabels;
use super::matrix::{Matrix, Numbered, Series};
use super::relabel::{grouped, merged};
use crate::syntax::ast::{Binary, BinaryOp, Cardinality, Matching};

/// The value an operator yields, if any: comparisons leave out what does not hold, unless they are
/// asked for 0 and 1. `kept` is what a comparison that holds yields.
fn apply(binary: &Binary, left: f64, right: f64, kept: f64) -> Option<f64> {
    let value = binary.op.apply(left, right);
    if binary.op.is_comparison() && !binary.return_bool {
        return (value == 1.0).then_some(kept);
    }
    Some(value)
}

/// An operator between series and a number, which is its left side or its right one.
pub(super) fn with_number(
    binary: &Binary,
    mut matrix: Matrix,
    number: f64,
    number_is_left: bool,
) -> Matrix {
    for value in matrix.series.iter_mut().flat_map(|series| &mut series.values) {
        *value = value.and_then(|value| {
            let (left, right) = if number_is_left { (number, value) } else { (value, number) };
            apply(binary, left, right, value)
        });
    }
    matrix.without_empty()
}

/// An operator between series.
pub(super) fn between(
    binary: &Binary,
    left: Matrix,
    right: Matrix,
    steps: usize,
) -> Result<Matrix, MetricError> {
    let matching = binary.matching.clone().unwrap_or_default();
    let mut groups = Numbered::default();
    let mut numbers = |matrix: &Matrix| -> Vec<usize> {
        let key = |labels| grouped(labels, &matching.labels, matching.on);
        matrix.series.iter().map(|series| groups.number(key(&series.labels))).collect()
    };
    let (left_groups, right_groups) = (numbers(&left), numbers(&right));
    let sides = Sides { left, right, left_groups, right_groups, count: groups.count(), steps };
    match binary.op {
        BinaryOp::Or => merged(sides.or()),
        BinaryOp::And => Ok(sides.and(true)),
        BinaryOp::Unless => Ok(sides.and(false)),
        _ => sides.join(binary, &matching),
    }
}

/// Series of both sides with the number of the group each matches in.
struct Sides {
    left: Matrix,
    right: Matrix,
    left_groups: Vec<usize>,
    right_groups: Vec<usize>,
    /// How many groups there are.
    count: usize,
    steps: usize,
}

/// For each group the steps at which some series of it has a value.
fn present(matrix: &Matrix, groups: &[usize], count: usize, steps: usize) -> Vec<Vec<bool>> {
    let mut present = vec![Vec::new(); count];
    for (series, &group) in matrix.series.iter().zip(groups) {
        let of_group: &mut Vec<bool> = &mut present[group];
        of_group.resize(steps, false);
        for (at, value) in of_group.iter_mut().zip(&series.values) {
            *at |= value.is_some();
        }
    }
    present
}

impl Sides {
    /// The left side where the right one has a partner, or where it has none.
    fn and(self, with_partner: bool) -> Matrix {
        let present = present(&self.right, &self.right_groups, self.count, self.steps);
        let mut left = self.left;
        for (series, group) in left.series.iter_mut().zip(self.left_groups) {
            for (step, value) in series.values.iter_mut().enumerate() {
                let has_partner = present[group].get(step).copied().unwrap_or(false);
                if has_partner != with_partner {
                    *value = None;
                }
            }
        }
        left.without_empty()
    }

    /// The left side, and the right one where the left has no partner.
    fn or(self) -> Matrix {
        let present = present(&self.left, &self.left_groups, self.count, self.steps);
        let mut right = self.right;
        for (series, group) in right.series.iter_mut().zip(self.right_groups) {
            for (step, value) in series.values.iter_mut().enumerate() {
                if present[group].get(step).copied().unwrap_or(false) {
                    *value = None;
                }
            }
        }
        let mut series = self.left.series;
        series.extend(right.without_empty().series);
        Matrix { series, is_ordered: self.left.is_ordered }
    }

    /// Arithmetic and comparisons: each series of the side that may have many finds its partner.
    fn join(self, binary: &Binary, matching: &Matching) -> Result<Matrix, MetricError> {
        let Sides { left, right, left_groups, right_groups, count, steps } = self;
        let is_swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, many_groups, one, one_groups) = if is_swapped {
            (right, right_groups, left, left_groups)
        } else {
            (left, left_groups, right, right_groups)
        };
        let mut join = Join {
            binary,
            matching,
            is_swapped,
            many: &many,
            one: &one,
            steps,
            pairs: HashMap::new(),
            labels: Numbered::default(),
            results: Vec::new(),
        };
        let mut partners: Vec<Option<usize>> = vec![None; count];
        let mut seen: Vec<bool> = vec![false; count];
        for step in 0..steps {
            partners.fill(None);
            seen.fill(false);
            for (index, &group) in one_groups.iter().enumerate() {
                if one.series[index].values[step].is_none() {
                    continue;
                }
                if partners[group].replace(index).is_some() {
                    return Err(duplicate(is_swapped));
                }
            }
            for (index, &group) in many_groups.iter().enumerate() {
                let Some(partner) = partners[group] else { continue };
                if !join.put(step, index, partner)? {
                    continue;
                }
                if matching.cardinality == Cardinality::OneToOne
                    && std::mem::replace(&mut seen[group], true)
                {
                    return Err(MetricError::Matching(
                        "multiple matches for labels: many-to-one matching must be explicit \
                         (group_left/group_right)"
                            .to_owned(),
                    ));
                }
            }
        }
        let is_ordered = many.is_ordered && !is_swapped;
        let series = join.labels.into_labels().into_iter().zip(join.results);
        let series = series.map(|(labels, values)| Series { labels, values }).collect();
        Ok(Matrix { series, is_ordered })
    }
}

fn duplicate(is_left: bool) -> MetricError {
    let side = if is_left { "left" } else { "right" };
    MetricError::Matching(format!(
        "found duplicate series on the {side} hand-side;many-to-many matching not allowed: \
         matching labels must be unique on one side"
    ))
}

/// A join in progress.
struct Join<'j> {
    binary: &'j Binary,
    matching: &'j Matching,
    is_swapped: bool,
    many: &'j Matrix,
    one: &'j Matrix,
    steps: usize,
    /// Numbers of results by the indices of both partners.
    pairs: HashMap<(usize, usize), usize>,
    labels: Numbered,
    results: Vec<Vec<Option<f64>>>,
}

impl Join<'_> {
    /// Puts the value of two partners at a step. Yields whether there is one.
    fn put(&mut self, step: usize, many: usize, one: usize) -> Result<bool, MetricError> {
        let (many_series, one_series) = (&self.many.series[many], &self.one.series[one]);
        let (Some(of_many), Some(of_one)) = (many_series.values[step], one_series.values[step])
        else {
            return Ok(false);
        };
        let (left, right) = if self.is_swapped { (of_one, of_many) } else { (of_many, of_one) };
        let Some(value) = apply(self.binary, left, right, left) else { return Ok(false) };
        let number = match self.pairs.get(&(many, one)) {
            Some(&number) => number,
            None => {
                let labels = result_labels(self.matching, &many_series.labels, &one_series.labels);
                let number = self.labels.number(labels);
                self.pairs.insert((many, one), number);
                if number == self.results.len() {
                    self.results.push(vec![None; self.steps]);
                }
                number
            }
        };
        let place = &mut self.results[number][step];
        if place.replace(value).is_some() && self.matching.cardinality != Cardinality::OneToOne {
            return Err(MetricError::Matching(
                "multiple matches for labels: grouping labels must ensure unique matches"
                    .to_owned(),
            ));
        }
        Ok(true)
    }
}

fn result_labels(matching: &Matching, many: &SampleLabels, one: &SampleLabels) -> SampleLabels {
    if matching.cardinality == Cardinality::OneToOne {
        return grouped(many, &matching.labels, matching.on);
    }
    let many = grouped(many, &[], false);
    // An absent label of the one side is taken away, as an empty one.
    matching
        .include
        .iter()
        .flatten()
        .fold(many, |labels, name| labels.with(name, one.get(name).unwrap_or_default()))
}
