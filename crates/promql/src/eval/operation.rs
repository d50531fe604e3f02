//! Operators between elements of which at least one is a histogram.
//!
//! Source: `vectorElemBinop` of Prometheus' `promql/engine.go`.

use std::sync::Arc;

use model::FloatHistogram;
use model::ResetHint;
use model::histogram::Combined;

use super::annotations::Notes;
use super::arithmetic::{Arithmetic, Comparison, ScalarOp};
use super::histogram_rows;
use super::rows::{ABSENT, HISTOGRAM, is_absent};
use crate::ast::Span;
use crate::value::Annotation;

/// An operator as it stands in the query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator {
    pub(crate) op: ScalarOp,
    /// As written: `+`.
    pub(crate) name: &'static str,
    /// The whole operation.
    pub(crate) span: Span,
}

/// One side of an operator at a step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Element<'e> {
    Float(f64),
    Histogram(&'e Arc<FloatHistogram>),
}

/// What an operator yields.
#[derive(Debug)]
pub(crate) enum Yield {
    Nothing,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// What there is to remark about an operator, each at most once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remarks {
    float_float: bool,
    float_histogram: bool,
    histogram_float: bool,
    histogram_histogram: bool,
    layouts: bool,
    collision: bool,
    reconciled: bool,
}

impl<'e> Element<'e> {
    /// What a row has at `step`, if anything.
    pub(crate) fn at(
        values: &[f64],
        histograms: &'e [Option<Arc<FloatHistogram>>],
        step: usize,
    ) -> Option<Self> {
        match histogram_rows::at(values, histograms, step) {
            Some(histogram) => Some(Element::Histogram(histogram)),
            None if is_absent(values[step]) => None,
            None => Some(Element::Float(values[step])),
        }
    }
}

impl Yield {
    /// Puts it into a row at `step`. The row of histograms has as many steps.
    pub(crate) fn put(self, value: &mut f64, histogram: &mut Option<Arc<FloatHistogram>>) {
        *histogram = None;
        *value = match self {
            Yield::Nothing => ABSENT,
            Yield::Float(value) => value,
            Yield::Histogram(found) => {
                *histogram = Some(found);
                HISTOGRAM
            }
        };
    }
}

impl From<FloatHistogram> for Yield {
    fn from(mut histogram: FloatHistogram) -> Self {
        histogram.compact(0);
        Yield::Histogram(Arc::new(histogram))
    }
}

impl Remarks {
    /// Puts them into words.
    pub(crate) fn tell(self, operator: &Operator, notes: &mut Notes) {
        let Operator { op, name, span } = *operator;
        let kinds = [
            (self.float_float, "float", "float"),
            (self.float_histogram, "float", "histogram"),
            (self.histogram_float, "histogram", "float"),
            (self.histogram_histogram, "histogram", "histogram"),
        ];
        for (_, left, right) in kinds.into_iter().filter(|kind| kind.0) {
            let text = format_args!(
                "incompatible sample types encountered for binary operator \"{name}\": \
                 {left} {name} {right}"
            );
            notes.add(Annotation::info(text, span));
        }
        let is_sum = op == ScalarOp::Arithmetic(Arithmetic::Add);
        let operation = if is_sum { "addition" } else { "subtraction" };
        if self.layouts {
            let text =
                format_args!("incompatible bucket layout encountered for binary operator {name}");
            notes.add(Annotation::warning(text, span));
        }
        if self.collision {
            let text = format_args!("conflicting counter resets during histogram {operation}");
            notes.add(Annotation::warning(text, span));
        }
        if self.reconciled {
            let text = format_args!("mismatched custom buckets were reconciled during {operation}");
            notes.add(Annotation::info(text, span));
        }
    }
}

/// The operator between two elements. A comparison without `bool` yields the left one.
pub(crate) fn between(
    op: ScalarOp,
    left: Element<'_>,
    right: Element<'_>,
    remarks: &mut Remarks,
) -> Yield {
    match (left, right) {
        (Element::Float(left), Element::Float(right)) => floats(op, left, right, remarks),
        (Element::Float(factor), Element::Histogram(histogram)) => match op {
            ScalarOp::Arithmetic(Arithmetic::Mul) => scaled(histogram, |h| h.multiply(factor)),
            _ => {
                remarks.float_histogram = true;
                Yield::Nothing
            }
        },
        (Element::Histogram(histogram), Element::Float(value)) => match op {
            ScalarOp::Arithmetic(Arithmetic::Mul) => scaled(histogram, |h| h.multiply(value)),
            ScalarOp::Arithmetic(Arithmetic::Div) => scaled(histogram, |h| h.divide(value)),
            ScalarOp::Trim(trim) => Yield::Histogram(Arc::new(histogram.trimmed(trim, value))),
            _ => {
                remarks.histogram_float = true;
                Yield::Nothing
            }
        },
        (Element::Histogram(left), Element::Histogram(right)) => {
            histograms(op, left, right, remarks)
        }
    }
}

fn floats(op: ScalarOp, left: f64, right: f64, remarks: &mut Remarks) -> Yield {
    match op {
        ScalarOp::Filter(comparison) if !comparison.holds(left, right) => Yield::Nothing,
        ScalarOp::Filter(_) => Yield::Float(left),
        ScalarOp::Trim(_) => {
            remarks.float_float = true;
            Yield::Nothing
        }
        op => Yield::Float(op.between_scalars(left, right)),
    }
}

fn scaled(histogram: &FloatHistogram, scale: impl FnOnce(&mut FloatHistogram)) -> Yield {
    let mut scaled = histogram.clone();
    scale(&mut scaled);
    scaled.into()
}

fn histograms(
    op: ScalarOp,
    left: &Arc<FloatHistogram>,
    right: &Arc<FloatHistogram>,
    remarks: &mut Remarks,
) -> Yield {
    let equal = |comparison| match comparison {
        Comparison::Equal => Some(left.equals(right)),
        Comparison::NotEqual => Some(!left.equals(right)),
        _ => None,
    };
    match op {
        ScalarOp::Arithmetic(op @ (Arithmetic::Add | Arithmetic::Sub)) => {
            let mut total = FloatHistogram::clone(left);
            let is_sum = op == Arithmetic::Add;
            let combined = if is_sum { total.add(right) } else { total.subtract(right) };
            let Ok(Combined { hints_conflict, bounds_reconciled }) = combined else {
                remarks.layouts = true;
                return Yield::Nothing;
            };
            if hints_conflict {
                // Nobody can say whether the result went up or down.
                remarks.collision = true;
                return Yield::Nothing;
            }
            remarks.reconciled |= bounds_reconciled;
            if !is_sum {
                // A difference is a gauge, whatever it is between.
                total.reset_hint = ResetHint::Gauge;
            }
            total.into()
        }
        ScalarOp::Filter(comparison) if equal(comparison) == Some(true) => {
            Yield::Histogram(Arc::clone(left))
        }
        ScalarOp::Filter(comparison) if equal(comparison) == Some(false) => Yield::Nothing,
        ScalarOp::Bool(comparison) if equal(comparison).is_some() => {
            Yield::Float(f64::from(u8::from(equal(comparison) == Some(true))))
        }
        _ => {
            remarks.histogram_histogram = true;
            Yield::Nothing
        }
    }
}
