//! Binary operators.

mod matching;
mod one_side;
mod sets;

use super::Evaluator;
use super::arithmetic::{OpClass, ScalarOp};
use super::grid::Grid;
use super::row_map::RowMap;
use super::rows::{Rows, ScalarRow};
use super::stream::Stream;
use crate::ast::{Span, ValueType};
use crate::engine::EvalError;
use crate::plan::BinaryPlan;

/// An operator between two scalars.
pub(super) fn scalars(
    evaluator: &Evaluator<'_>,
    plan: &BinaryPlan<'_>,
    grid: &Grid,
) -> Result<ScalarRow, EvalError> {
    let OpClass::Value(op) = OpClass::of(plan.op, true) else {
        return Err(EvalError::Execution(
            "set and histogram operators are not possible between scalars".to_owned(),
        ));
    };
    let left = evaluator.scalar(&plan.left, grid)?;
    let right = evaluator.scalar(&plan.right, grid)?;
    Ok(left.zip(right, |left, right| op.between_scalars(left, right)))
}

/// An operator with a vector on at least one side.
pub(super) fn vectors(
    evaluator: &Evaluator<'_>,
    plan: &BinaryPlan<'_>,
    span: Span,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let class = OpClass::of(plan.op, plan.return_bool);
    let swapped = plan.left.value_type() == ValueType::Scalar;
    if swapped || plan.right.value_type() == ValueType::Scalar {
        let (scalar, vector) =
            if swapped { (&plan.left, &plan.right) } else { (&plan.right, &plan.left) };
        return match class {
            OpClass::Value(op) => {
                let scalar = evaluator.scalar(scalar, grid)?;
                Ok(evaluator.vector(vector, grid)?.map(RowMap::Scalar { op, scalar, swapped }))
            }
            OpClass::Trim(name) => {
                let rows = evaluator.vector(vector, grid)?.materialise(&evaluator.context)?;
                trim(evaluator, name, span, rows.len() > 0, grid)
            }
            OpClass::Set(_) => Err(EvalError::Execution(
                "set operators are not possible between a scalar and a vector".to_owned(),
            )),
        };
    }
    let Some(matching) = plan.matching else {
        return Err(EvalError::Execution("two vectors need a way of matching".to_owned()));
    };
    let context = &evaluator.context;
    let left = evaluator.vector(&plan.left, grid)?.materialise(context)?;
    let right = evaluator.vector(&plan.right, grid)?.materialise(context)?;
    let rows = match class {
        OpClass::Set(op) => sets::evaluate(context, op, matching, left, right)?,
        OpClass::Value(op) => matching::evaluate(context, op, matching, &left, &right)?,
        OpClass::Trim(name) => {
            // Without histograms on the left no pair yields a value; matching still has its say.
            let op = ScalarOp::Filter(super::arithmetic::Comparison::Equal);
            let pairs = matching::evaluate(context, op, matching, &left, &right)?;
            return trim(evaluator, name, span, pairs.len() > 0, grid);
        }
    };
    Ok(Stream::from_rows(rows))
}

/// `</` and `>/` cut histograms; floats yield nothing but a remark.
fn trim(
    evaluator: &Evaluator<'_>,
    name: &str,
    span: Span,
    remark: bool,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    if remark {
        evaluator.context.inform(
            format_args!(
                "incompatible sample types encountered for binary operator \"{name}\": \
                 float {name} float"
            ),
            span,
        );
    }
    Rows::empty(&evaluator.context, grid.steps()).map(Stream::from_rows)
}
