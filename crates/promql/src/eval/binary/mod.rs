//! Binary operators.

mod matching;
mod one_side;
mod sets;

use super::Evaluator;
use super::arithmetic::OpClass;
use super::grid::Grid;
use super::operation::Operator;
use super::row_map::RowMap;
use super::rows::ScalarRow;
use super::stream::Stream;
use crate::ast::{BinaryOp, Span, ValueType};
use crate::engine::EvalError;
use crate::plan::BinaryPlan;

/// An operator between two scalars.
pub(super) fn scalars(
    evaluator: &Evaluator<'_>,
    plan: &BinaryPlan<'_>,
    grid: &Grid,
) -> Result<ScalarRow, EvalError> {
    let (OpClass::Value(op), false) = (OpClass::of(plan.op, true), is_trim(plan.op)) else {
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
                let operator = Operator { op, name: plan.op.as_str(), span };
                let map = RowMap::Scalar { operator, scalar, swapped };
                Ok(evaluator.vector(vector, grid)?.map(map))
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
        OpClass::Value(op) => {
            let operator = Operator { op, name: plan.op.as_str(), span };
            matching::evaluate(context, operator, matching, &left, &right)?
        }
    };
    Ok(Stream::from_rows(rows))
}

fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}
