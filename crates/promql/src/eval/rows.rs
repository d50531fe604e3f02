//! Vectors over time as columns: one row of steps per series.

use std::sync::Arc;

use model::{FloatHistogram, Labels, STALE_NAN_BITS, is_stale_nan};
use rapidhash::RapidHashMap;

use super::context::{Context, Reservation};
use super::histogram_rows::{self, HistogramRows};
use crate::engine::EvalError;

/// Stands in a row where the series has no value at that step.
///
/// It is the staleness marker: a selector never yields it as a value, and no arithmetic can
/// produce it, since processors quieten signalling NaNs. So a row needs no separate mask, and a
/// stale sample copied into a row is absent by itself.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Stands in a row where the series has a native histogram, which lies beside the row. Only who
/// asks for histograms ever sees it.
pub(crate) const HISTOGRAM: f64 = f64::from_bits(0x7ff8_0000_4849_5354);

/// Whether a step has no value.
#[inline(always)]
pub(crate) fn is_absent(value: f64) -> bool {
    is_stale_nan(value)
}

/// Whether any step of `row` has a value.
#[inline]
pub(crate) fn has_any(row: &[f64]) -> bool {
    row.iter().any(|value| !is_absent(*value))
}

/// A scalar at every step.
#[derive(Debug)]
pub(crate) enum ScalarRow {
    /// The same at all steps.
    Constant(f64),
    /// One value per step, and the room claimed for them.
    Steps(Vec<f64>, Reservation),
}

impl ScalarRow {
    /// A scalar that takes `values` in turn.
    pub(crate) fn from_steps(
        context: &Context<'_>,
        values: impl ExactSizeIterator<Item = f64>,
    ) -> Result<Self, EvalError> {
        let reservation = context.reserve(values.len())?;
        Ok(ScalarRow::Steps(values.collect(), reservation))
    }

    #[inline]
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            ScalarRow::Constant(value) => *value,
            ScalarRow::Steps(values, _) => values[step],
        }
    }

    /// All different values, in the order of steps.
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            ScalarRow::Constant(value) => std::slice::from_ref(value),
            ScalarRow::Steps(values, _) => values,
        }
    }

    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> ScalarRow {
        match self {
            ScalarRow::Constant(value) => ScalarRow::Constant(f(value)),
            ScalarRow::Steps(mut values, reservation) => {
                values.iter_mut().for_each(|value| *value = f(*value));
                ScalarRow::Steps(values, reservation)
            }
        }
    }

    pub(crate) fn zip(self, other: ScalarRow, f: impl Fn(f64, f64) -> f64) -> ScalarRow {
        match (self, other) {
            (left, ScalarRow::Constant(right)) => left.map(|left| f(left, right)),
            (ScalarRow::Constant(left), right) => right.map(|right| f(left, right)),
            (ScalarRow::Steps(mut left, reservation), ScalarRow::Steps(right, _)) => {
                for (left, right) in left.iter_mut().zip(right) {
                    *left = f(*left, right);
                }
                ScalarRow::Steps(left, reservation)
            }
        }
    }
}

/// Series with a value or [`ABSENT`] at each of `steps` steps. Every series has some value.
pub(crate) struct Rows {
    pub(crate) steps: usize,
    pub(crate) labels: Vec<Labels>,
    /// Whether the metric's name is dropped from a series in the end.
    pub(crate) drop_name: Vec<bool>,
    /// `labels.len() * steps` values, series after series.
    pub(crate) values: Vec<f64>,
    /// Where values are [`HISTOGRAM`], the histograms.
    pub(crate) histograms: HistogramRows,
    pub(crate) reservation: Reservation,
}

impl Rows {
    pub(crate) fn empty(context: &Context<'_>, steps: usize) -> Result<Self, EvalError> {
        Ok(Rows {
            steps,
            labels: Vec::new(),
            drop_name: Vec::new(),
            values: Vec::new(),
            histograms: HistogramRows::default(),
            reservation: context.reserve(0)?,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    #[inline]
    pub(crate) fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.steps..(index + 1) * self.steps]
    }

    /// Makes series with equal labels one, as long as no step has a value in two of them. The
    /// first one decides about the metric's name.
    ///
    /// # Errors
    /// Two values for the same labels at the same step.
    pub(crate) fn merge_same_labels(&mut self) -> Result<(), EvalError> {
        let mut first_of: RapidHashMap<Labels, usize> = RapidHashMap::default();
        first_of.reserve(self.len());
        let mut kept = 0;
        for index in 0..self.len() {
            match first_of.get(&self.labels[index]) {
                Some(&target_index) => {
                    let (head, tail) = self.values.split_at_mut(index * self.steps);
                    let start = target_index * self.steps;
                    let target = &mut head[start..start + self.steps];
                    let row = &tail[..self.steps];
                    // Names are dropped or kept as the first value of the series has it.
                    if first_step(row) < first_step(target) {
                        self.drop_name[target_index] = self.drop_name[index];
                    }
                    merge_row(target, row)?;
                    self.histograms.merge(target_index, index);
                }
                None => {
                    self.move_row(index, kept);
                    first_of.insert(self.labels[kept].clone(), kept);
                    kept += 1;
                }
            }
        }
        self.truncate(kept);
        Ok(())
    }

    /// Drops series without any value.
    pub(crate) fn remove_empty(&mut self) {
        let mut kept = 0;
        for index in 0..self.len() {
            if has_any(self.row(index)) {
                self.move_row(index, kept);
                kept += 1;
            }
        }
        self.truncate(kept);
    }

    /// Puts the series into the order of `order`, a permutation of their indices.
    pub(crate) fn reorder(&mut self, order: &[usize]) {
        self.labels = order.iter().map(|&index| self.labels[index].clone()).collect();
        self.drop_name = order.iter().map(|&index| self.drop_name[index]).collect();
        let mut values = Vec::with_capacity(self.values.len());
        for &index in order {
            values.extend_from_slice(self.row(index));
        }
        self.values = values;
        self.histograms.reorder(order);
    }

    /// The same values at each of `steps` steps, from rows of one step.
    pub(crate) fn broadcast(
        mut self,
        context: &Context<'_>,
        steps: usize,
    ) -> Result<Self, EvalError> {
        if steps == self.steps {
            return Ok(self);
        }
        let reservation = context.reserve_rows(self.len(), steps)?;
        let mut values = Vec::with_capacity(self.len() * steps);
        for &value in &self.values {
            values.resize(values.len() + steps, value);
        }
        self.values = values;
        self.histograms.broadcast(steps);
        self.steps = steps;
        self.reservation = reservation;
        Ok(self)
    }

    /// Drops all histograms; yields whether there were any.
    pub(crate) fn drop_histograms(&mut self) -> bool {
        if self.histograms.is_empty() {
            return false;
        }
        let mut any = false;
        for index in 0..self.len() {
            let histograms = self.histograms.row(index);
            let row = &mut self.values[index * self.steps..(index + 1) * self.steps];
            for step in 0..histograms.len() {
                if histogram_rows::at(row, histograms, step).is_some() {
                    row[step] = ABSENT;
                    any = true;
                }
            }
        }
        self.histograms = HistogramRows::default();
        self.remove_empty();
        any
    }

    /// Forgets the histograms of steps that have no value any more.
    pub(crate) fn settle_histograms(&mut self) {
        if self.histograms.is_empty() {
            return;
        }
        for index in 0..self.len() {
            let row = &self.values[index * self.steps..(index + 1) * self.steps];
            self.histograms.settle(index, row);
        }
    }

    /// Appends a series, if it has any value. `histograms` is empty if it has none; those at steps
    /// without the mark of one do not count.
    pub(crate) fn push(
        &mut self,
        labels: Labels,
        drop_name: bool,
        row: &[f64],
        histograms: &[Option<Arc<FloatHistogram>>],
    ) -> Result<(), EvalError> {
        if !has_any(row) {
            return Ok(());
        }
        let index = self.len();
        self.histograms.set(index, histograms.to_vec());
        self.histograms.settle(index, row);
        let weight = histogram_rows::weight(self.histograms.row(index));
        self.reservation.grow(row.len() + weight)?;
        self.labels.push(labels);
        self.drop_name.push(drop_name);
        self.values.extend_from_slice(row);
        Ok(())
    }

    fn move_row(&mut self, from: usize, to: usize) {
        if from != to {
            self.labels.swap(from, to);
            self.drop_name.swap(from, to);
            self.histograms.move_row(from, to);
            self.values.copy_within(from * self.steps..(from + 1) * self.steps, to * self.steps);
        }
    }

    fn truncate(&mut self, kept: usize) {
        self.labels.truncate(kept);
        self.drop_name.truncate(kept);
        self.values.truncate(kept * self.steps);
        self.histograms.truncate(kept);
        self.reservation.shrink(kept * self.steps + self.histograms.weight());
    }
}

/// The first step with a value; the number of steps if there is none.
fn first_step(row: &[f64]) -> usize {
    row.iter().position(|value| !is_absent(*value)).unwrap_or(row.len())
}

/// Adds the values of `row` to `target`.
fn merge_row(target: &mut [f64], row: &[f64]) -> Result<(), EvalError> {
    for (target, &value) in target.iter_mut().zip(row) {
        if is_absent(value) {
            continue;
        }
        if !is_absent(*target) {
            return Err(same_labelset());
        }
        *target = value;
    }
    Ok(())
}

/// Prometheus' error for two elements with equal labels.
pub(crate) fn same_labelset() -> EvalError {
    EvalError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}
