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

/// What there is to remark about an operator between two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remark {
    FloatFloat,
    FloatHistogram,
    HistogramFloat,
    HistogramHistogram,
    Layouts,
    Collision,
    Reconciled,
}

/// The last remark at each step: Prometheus tells no other, so neither does this.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// As many as steps once there is any, each with its place in the order of elements.
    last: Vec<Option<(u64, Remark)>>,
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

impl Remark {
    const ALL: [Remark; 7] = [
        Remark::FloatFloat,
        Remark::FloatHistogram,
        Remark::HistogramFloat,
        Remark::HistogramHistogram,
        Remark::Layouts,
        Remark::Collision,
        Remark::Reconciled,
    ];

    /// Whether there is no result.
    pub(crate) fn is_failure(self) -> bool {
        self != Remark::Reconciled
    }

    fn annotation(self, operator: &Operator) -> Annotation {
        let Operator { op, name, span } = *operator;
        let types = |left: &str, right: &str| {
            let text = format_args!(
                "incompatible sample types encountered for binary operator \"{name}\": \
                 {left} {name} {right}"
            );
            Annotation::info(text, span)
        };
        let is_sum = op == ScalarOp::Arithmetic(Arithmetic::Add);
        let operation = if is_sum { "addition" } else { "subtraction" };
        match self {
            Remark::FloatFloat => types("float", "float"),
            Remark::FloatHistogram => types("float", "histogram"),
            Remark::HistogramFloat => types("histogram", "float"),
            Remark::HistogramHistogram => types("histogram", "histogram"),
            Remark::Layouts => Annotation::warning(
                format_args!("incompatible bucket layout encountered for binary operator {name}"),
                span,
            ),
            Remark::Collision => Annotation::warning(
                format_args!("conflicting counter resets during histogram {operation}"),
                span,
            ),
            Remark::Reconciled => Annotation::info(
                format_args!("mismatched custom buckets were reconciled during {operation}"),
                span,
            ),
        }
    }
}

impl Remarks {
    /// Notes what there is to remark, if anything, about the element at `place` of `step`.
    pub(crate) fn note(&mut self, remark: Option<Remark>, step: usize, place: u64) {
        let Some(remark) = remark else { return };
        if self.last.len() <= step {
            self.last.resize(step + 1, None);
        }
        let last = &mut self.last[step];
        if last.is_none_or(|(before, _)| before <= place) {
            *last = Some((place, remark));
        }
    }

    /// Takes in those about other elements of the same steps.
    pub(crate) fn merge(&mut self, other: Remarks) {
        for (step, noted) in other.last.into_iter().enumerate() {
            if let Some((place, remark)) = noted {
                self.note(Some(remark), step, place);
            }
        }
    }

    /// Puts them into words.
    pub(crate) fn tell(self, operator: &Operator, notes: &mut Notes) {
        for remark in Remark::ALL {
            if self.last.iter().flatten().any(|(_, noted)| *noted == remark) {
                notes.add(remark.annotation(operator));
            }
        }
    }
}

/// The operator between two elements, and what there is to remark. A comparison without `bool`
/// yields the left one.
pub(crate) fn between(
    op: ScalarOp,
    left: Element<'_>,
    right: Element<'_>,
) -> (Yield, Option<Remark>) {
    let nothing = |remark| (Yield::Nothing, Some(remark));
    match (left, right) {
        (Element::Float(left), Element::Float(right)) => floats(op, left, right),
        (Element::Float(factor), Element::Histogram(histogram)) => match op {
            ScalarOp::Arithmetic(Arithmetic::Mul) => scaled(histogram, |h| h.multiply(factor)),
            _ => nothing(Remark::FloatHistogram),
        },
        (Element::Histogram(histogram), Element::Float(value)) => match op {
            ScalarOp::Arithmetic(Arithmetic::Mul) => scaled(histogram, |h| h.multiply(value)),
            ScalarOp::Arithmetic(Arithmetic::Div) => scaled(histogram, |h| h.divide(value)),
            ScalarOp::Trim(trim) => {
                (Yield::Histogram(Arc::new(histogram.trimmed(trim, value))), None)
            }
            _ => nothing(Remark::HistogramFloat),
        },
        (Element::Histogram(left), Element::Histogram(right)) => histograms(op, left, right),
    }
}

fn floats(op: ScalarOp, left: f64, right: f64) -> (Yield, Option<Remark>) {
    match op {
        ScalarOp::Filter(comparison) if !comparison.holds(left, right) => (Yield::Nothing, None),
        ScalarOp::Filter(_) => (Yield::Float(left), None),
        ScalarOp::Trim(_) => (Yield::Nothing, Some(Remark::FloatFloat)),
        op => (Yield::Float(op.between_scalars(left, right)), None),
    }
}

fn scaled(
    histogram: &FloatHistogram,
    scale: impl FnOnce(&mut FloatHistogram),
) -> (Yield, Option<Remark>) {
    let mut scaled = histogram.clone();
    scale(&mut scaled);
    (scaled.into(), None)
}

fn histograms(
    op: ScalarOp,
    left: &Arc<FloatHistogram>,
    right: &Arc<FloatHistogram>,
) -> (Yield, Option<Remark>) {
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
                return (Yield::Nothing, Some(Remark::Layouts));
            };
            if hints_conflict {
                // Nobody can say whether the result went up or down.
                return (Yield::Nothing, Some(Remark::Collision));
            }
            if !is_sum {
                // A difference is a gauge, whatever it is between.
                total.reset_hint = ResetHint::Gauge;
            }
            (total.into(), bounds_reconciled.then_some(Remark::Reconciled))
        }
        ScalarOp::Filter(comparison) if equal(comparison) == Some(true) => {
            (Yield::Histogram(Arc::clone(left)), None)
        }
        ScalarOp::Filter(comparison) if equal(comparison) == Some(false) => (Yield::Nothing, None),
        ScalarOp::Bool(comparison) if equal(comparison).is_some() => {
            (Yield::Float(f64::from(u8::from(equal(comparison) == Some(true)))), None)
        }
        _ => (Yield::Nothing, Some(Remark::HistogramHistogram)),
    }
}
