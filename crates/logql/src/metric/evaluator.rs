//! Walks a query and puts its parts together.

use model::Zones;

use super::MetricError;
use super::labels::SampleLabels;
use super::matrix::Matrix;
use super::required::is_pushed_down;
use super::source::Source;
use super::windows::Steps;
use super::{aggregate, binary, leaf, relabel};
use crate::syntax::ast::{MetricExpr, VectorAggregation};
use crate::syntax::optimized;

/// What an evaluation may use.
#[derive(Debug, Clone, Copy)]
pub struct EvalOptions {
    /// Series the result may have.
    pub max_series: usize,
    /// Values that each range aggregation may hold in memory, each 8 or 16 bytes.
    pub max_values: usize,
    /// What `now` is in templates, in nanoseconds.
    pub now_ns: i64,
    /// Where zones of time are found that templates name.
    pub zones: Zones,
    /// Keys hash tables; something nobody outside knows.
    pub seed: u64,
}

/// A series of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedSeries {
    /// Its labels.
    pub labels: SampleLabels,
    /// Its value at each step, `None` where it has none.
    pub values: Vec<Option<f64>>,
}

/// What a query of numbers comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluation {
    /// A number, the same at each step.
    Scalar(f64),
    /// Series, sorted by their labels unless the query orders them.
    Series(Vec<EvaluatedSeries>),
}

enum Value {
    Scalar(f64),
    Series(Matrix),
}

/// Evaluates a query at each step.
///
/// # Errors
/// A stage cannot be made or fails at a line that counts, series do not match, a limit is passed,
/// or the source fails.
pub fn evaluate(
    expr: &MetricExpr,
    steps: Steps,
    source: &dyn Source,
    options: &EvalOptions,
) -> Result<Evaluation, MetricError> {
    let expr = optimized(expr.clone());
    let evaluator = Evaluator { steps, source, options };
    let matrix = match evaluator.value(&expr)? {
        Value::Scalar(value) => return Ok(Evaluation::Scalar(value)),
        Value::Series(matrix) => matrix,
    };
    let Matrix { mut series, is_ordered } = matrix;
    if series.len() > options.max_series {
        return Err(MetricError::TooManySeries(options.max_series));
    }
    if !is_ordered {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    let series = series.into_iter();
    let evaluated =
        series.map(|series| EvaluatedSeries { labels: series.labels, values: series.values });
    Ok(Evaluation::Series(evaluated.collect()))
}

struct Evaluator<'e> {
    steps: Steps,
    source: &'e dyn Source,
    options: &'e EvalOptions,
}

impl Evaluator<'_> {
    fn value(&self, expr: &MetricExpr) -> Result<Value, MetricError> {
        let steps = self.steps.count();
        Ok(Value::Series(match expr {
            MetricExpr::Literal(value) => return Ok(Value::Scalar(*value)),
            MetricExpr::Constant(value) => Matrix::constant(*value, steps),
            MetricExpr::Range(range) => leaf::evaluate(
                range,
                range.grouping.as_ref(),
                self.steps,
                self.source,
                self.options,
            )?,
            MetricExpr::Vector(aggregation) => self.aggregation(aggregation)?,
            MetricExpr::LabelReplace(replace) => match self.value(&replace.inner)? {
                Value::Series(matrix) => relabel::label_replace(replace, matrix)?,
                scalar @ Value::Scalar(_) => return Ok(scalar),
            },
            MetricExpr::Binary(node) => match (self.value(&node.left)?, self.value(&node.right)?) {
                (Value::Scalar(left), Value::Scalar(right)) => {
                    return Ok(Value::Scalar(node.op.apply(left, right)));
                }
                (Value::Series(left), Value::Scalar(right)) => {
                    binary::with_number(node, left, right, false)
                }
                (Value::Scalar(left), Value::Series(right)) => {
                    binary::with_number(node, right, left, true)
                }
                (Value::Series(left), Value::Series(right)) => {
                    binary::between(node, left, right, steps)?
                }
            },
        }))
    }

    fn aggregation(&self, aggregation: &VectorAggregation) -> Result<Matrix, MetricError> {
        let inner = match &aggregation.inner {
            MetricExpr::Range(range)
                if range.grouping.is_none() && is_pushed_down(aggregation.op, range.op) =>
            {
                let all = Default::default();
                let grouping = aggregation.grouping.as_ref().unwrap_or(&all);
                let (source, options) = (self.source, self.options);
                let matrix = leaf::evaluate(range, Some(grouping), self.steps, source, options)?;
                if !matrix.series.iter().any(|series| series.labels.has_empty()) {
                    return Ok(matrix);
                }
                // Groups that an empty label tells apart are one.
                Value::Series(matrix)
            }
            inner => self.value(inner)?,
        };
        let steps = self.steps.count();
        let matrix = match inner {
            Value::Series(matrix) => matrix,
            Value::Scalar(value) => Matrix::constant(value, steps),
        };
        Ok(aggregate::aggregate(aggregation, matrix, steps))
    }
}
