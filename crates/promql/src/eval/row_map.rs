//! Operations that turn a row into another one, value by value and in place.

use super::arithmetic::{Arithmetic, Comparison, ScalarOp, larger, smaller};
use super::grid::Grid;
use super::rows::{ABSENT, ScalarRow, is_absent};

/// An operation on every value of a row; absent values stay absent.
pub(crate) enum RowMap {
    /// A function of the value alone.
    Math(fn(f64) -> f64),
    /// An operator whose other side is a scalar.
    Scalar {
        op: ScalarOp,
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
        !matches!(self, RowMap::Scalar { op: ScalarOp::Filter(_), .. })
    }

    /// Rewrites `row`.
    pub(crate) fn apply(&self, row: &mut [f64]) {
        match self {
            RowMap::Math(f) => each(row, |_, value| f(value)),
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
            RowMap::Scalar { op, scalar, swapped } => apply_scalar(*op, scalar, *swapped, row),
        }
    }
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
