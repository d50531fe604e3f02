//! Operations that turn a row into another one, value by value and in place.

use std::sync::Arc;

use super::annotations::Notes;
use super::arithmetic::{Arithmetic, Comparison, ScalarOp, larger, smaller};
use super::grid::Grid;
use super::histogram_rows::{self, HistogramRow};
use super::operation::{self, Element, Operator, Remarks, Yield};
use super::rows::{ABSENT, ScalarRow, is_absent};

/// An operation on every value of a row; absent values stay absent.
pub(crate) enum RowMap {
    /// A function of the value alone.
    Math(fn(f64) -> f64),
    /// The unary minus.
    Negate,
    /// An operator whose other side is a scalar.
    Scalar {
        operator: Operator,
        scalar: ScalarRow,
        /// Whether the scalar stands on the left.
        swapped: bool,
    },
    /// `clamp` and its one-sided forms.
    Clamp { min: ScalarRow, max: ScalarRow },
    /// `round` to the nearest multiple.
    Round { to_nearest: ScalarRow },
    /// The evaluation time in place of the value, seconds.
    EvaluationTime(Grid),
}

impl RowMap {
    /// Whether the result is no longer a value of the metric.
    pub(crate) fn drops_names(&self) -> bool {
        let RowMap::Scalar { operator, .. } = self else { return true };
        !matches!(operator.op, ScalarOp::Filter(_) | ScalarOp::Trim(_))
    }

    /// Rewrites `row`, and `histograms` beside it, which is empty if there are none.
    pub(crate) fn apply(&self, row: &mut [f64], histograms: &mut HistogramRow, notes: &mut Notes) {
        match self {
            RowMap::Scalar { operator, scalar, swapped } => {
                // Only histograms can be trimmed, so a trim always looks at what is there.
                if histograms.is_empty() && !matches!(operator.op, ScalarOp::Trim(_)) {
                    apply_scalar(operator.op, scalar, *swapped, row);
                } else {
                    apply_to_all(operator, scalar, *swapped, (row, histograms), notes);
                }
            }
            RowMap::Negate if !histograms.is_empty() => negate(row, histograms),
            RowMap::EvaluationTime(_) => {
                histograms.clear();
                self.apply_to_floats(row);
            }
            _ => {
                drop_histograms(row, histograms);
                self.apply_to_floats(row);
            }
        }
    }

    fn apply_to_floats(&self, row: &mut [f64]) {
        match self {
            RowMap::Math(f) => each(row, |_, value| f(value)),
            RowMap::Negate => each(row, |_, value| -value),
            RowMap::Clamp { min, max } => each(row, |step, value| {
                let (min, max) = (min.at(step), max.at(step));
                if max < min { ABSENT } else { larger(min, smaller(max, value)) }
            }),
            RowMap::Round { to_nearest } => each(row, |step, value| {
                // Multiplying by the inverse is what Prometheus does for accuracy.
                let inverse = 1.0 / to_nearest.at(step);
                (value * inverse + 0.5).floor() / inverse
            }),
            RowMap::EvaluationTime(grid) => {
                each(row, |step, _| grid.time_ms(step) as f64 / 1000.0);
            }
            RowMap::Scalar { operator, scalar, swapped } => {
                apply_scalar(operator.op, scalar, *swapped, row);
            }
        }
    }
}

/// What functions of numbers do to histograms: nothing is left of them.
fn drop_histograms(row: &mut [f64], histograms: &mut HistogramRow) {
    for step in 0..histograms.len() {
        if histogram_rows::at(row, histograms, step).is_some() {
            row[step] = ABSENT;
        }
    }
    histograms.clear();
}

fn negate(row: &mut [f64], histograms: &mut HistogramRow) {
    for (value, histogram) in row.iter_mut().zip(histograms) {
        match histogram {
            Some(histogram) => Arc::make_mut(histogram).multiply(-1.0),
            None if is_absent(*value) => {}
            None => *value = -*value,
        }
    }
}

/// An operator with a scalar over floats and histograms.
fn apply_to_all(
    operator: &Operator,
    scalar: &ScalarRow,
    swapped: bool,
    (row, histograms): (&mut [f64], &mut HistogramRow),
    notes: &mut Notes,
) {
    let mut remarks = Remarks::default();
    histograms.resize(row.len(), None);
    let mut any = false;
    for step in 0..row.len() {
        let number = Element::Float(scalar.at(step));
        let (result, remark) = match Element::at(row, histograms, step) {
            None => (Yield::Nothing, None),
            // A comparison keeps the element, on whatever side it stands.
            Some(element @ Element::Float(value)) if swapped => {
                match operation::between(operator.op, number, element) {
                    (Yield::Float(_), _) if matches!(operator.op, ScalarOp::Filter(_)) => {
                        (Yield::Float(value), None)
                    }
                    result => result,
                }
            }
            Some(element) if swapped => operation::between(operator.op, number, element),
            Some(element) => operation::between(operator.op, element, number),
        };
        remarks.note(remark, step, 0);
        any |= matches!(result, Yield::Histogram(_));
        result.put(&mut row[step], &mut histograms[step]);
    }
    if !any {
        histograms.clear();
    }
    remarks.tell(operator, notes);
}

#[inline(always)]
fn each(row: &mut [f64], f: impl Fn(usize, f64) -> f64) {
    for (step, value) in row.iter_mut().enumerate() {
        *value = if is_absent(*value) { ABSENT } else { f(step, *value) };
    }
}

fn apply_scalar(op: ScalarOp, scalar: &ScalarRow, swapped: bool, row: &mut [f64]) {
    match op {
        ScalarOp::Arithmetic(op) => arithmetic(op, scalar, swapped, row),
        ScalarOp::Filter(op) => {
            compare(op, scalar, swapped, row, |holds, value| if holds { value } else { ABSENT })
        }
        ScalarOp::Bool(op) => {
            compare(op, scalar, swapped, row, |holds, _| f64::from(u8::from(holds)));
        }
        ScalarOp::Trim(_) => row.fill(ABSENT),
    }
}

fn arithmetic(op: Arithmetic, scalar: &ScalarRow, swapped: bool, row: &mut [f64]) {
    match (op, scalar, swapped) {
        // The common forms get loops of their own, without a branch inside.
        (Arithmetic::Mul, ScalarRow::Constant(factor), _) => each(row, |_, value| value * factor),
        (Arithmetic::Add, ScalarRow::Constant(term), _) => each(row, |_, value| value + term),
        (Arithmetic::Div, ScalarRow::Constant(by), false) => each(row, |_, value| value / by),
        (Arithmetic::Sub, ScalarRow::Constant(term), false) => each(row, |_, value| value - term),
        (_, _, true) => each(row, |step, value| op.apply(scalar.at(step), value)),
        (_, _, false) => each(row, |step, value| op.apply(value, scalar.at(step))),
    }
}

fn compare(
    op: Comparison,
    scalar: &ScalarRow,
    swapped: bool,
    row: &mut [f64],
    result: impl Fn(bool, f64) -> f64,
) {
    each(row, |step, value| {
        let (left, right) =
            if swapped { (scalar.at(step), value) } else { (value, scalar.at(step)) };
        result(op.holds(left, right), value)
    });
}
