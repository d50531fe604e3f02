//! From the syntax tree to the tree the evaluator walks.
//!
//! Lowering resolves everything that depends only on the query's own range: duration
//! expressions, `@ start()`, `@ end()`. It drops parentheses and marks every part whose value is
//! the same at all steps, so that such a part is evaluated once.

use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Duration, DurationExpr, Expr, Span,
    StringLiteral, Subquery, ValueType, VectorMatching, VectorSelector,
};
use crate::engine::{EvalError, EvalTime};
use crate::eval::arithmetic::{larger, smaller};
use crate::eval::grid::Reference;
use crate::functions::Function;

/// A node with the place of the expression it stands for.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) span: Span,
}

/// What a node computes.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Number(f64),
    Text(&'a StringLiteral),
    Instant(SelectorPlan<'a>),
    Range(RangePlan<'a>),
    Call(CallPlan<'a>),
    Aggregate(Box<AggregatePlan<'a>>),
    Binary(Box<BinaryPlan<'a>>),
    Negate(Box<Plan<'a>>),
    /// The same at every step: evaluate once, at the first step.
    Invariant(Box<Plan<'a>>),
}

/// A selector whose times are known.
#[derive(Debug)]
pub(crate) struct SelectorPlan<'a> {
    pub(crate) selector: &'a VectorSelector,
    pub(crate) reference: Reference,
    /// Whether of histograms only count, sum and resets matter.
    pub(crate) statistics: bool,
}

/// The argument of a function over ranges.
#[derive(Debug)]
pub(crate) enum RangePlan<'a> {
    Selector { selector: SelectorPlan<'a>, range_ms: i64 },
    Subquery(Box<SubqueryPlan<'a>>),
}

/// A subquery whose times are known.
#[derive(Debug)]
pub(crate) struct SubqueryPlan<'a> {
    pub(crate) inner: Plan<'a>,
    pub(crate) range_ms: i64,
    /// `None` for the default evaluation interval.
    pub(crate) step_ms: Option<i64>,
    pub(crate) reference: Reference,
}

#[derive(Debug)]
pub(crate) struct CallPlan<'a> {
    pub(crate) function: &'static Function,
    pub(crate) args: Vec<Plan<'a>>,
}

#[derive(Debug)]
pub(crate) struct AggregatePlan<'a> {
    pub(crate) op: AggregateOp,
    pub(crate) input: Plan<'a>,
    pub(crate) param: Option<Plan<'a>>,
    pub(crate) grouping: &'a [String],
    pub(crate) without: bool,
}

#[derive(Debug)]
pub(crate) struct BinaryPlan<'a> {
    pub(crate) op: BinaryOp,
    pub(crate) left: Plan<'a>,
    pub(crate) right: Plan<'a>,
    pub(crate) matching: Option<&'a VectorMatching>,
    pub(crate) return_bool: bool,
}

impl Plan<'_> {
    /// What evaluating the node yields.
    pub(crate) fn value_type(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::Text(_) => ValueType::String,
            Kind::Instant(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Range(_) => ValueType::Matrix,
            Kind::Call(call) => call.function.returns,
            Kind::Binary(binary) => {
                let sides = (binary.left.value_type(), binary.right.value_type());
                if sides == (ValueType::Scalar, ValueType::Scalar) {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
            Kind::Negate(inner) | Kind::Invariant(inner) => inner.value_type(),
        }
    }

    /// The node itself, or what is evaluated once in its place.
    pub(crate) fn unpinned(&self) -> &Self {
        match &self.kind {
            Kind::Invariant(inner) => inner,
            _ => self,
        }
    }
}

/// Functions whose result depends on the evaluation time even when their arguments are pinned.
/// Source: `AtModifierUnsafeFunctions` of Prometheus 3.
const TIME_DEPENDENT: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Whether `function` yields another value at another time although its arguments are the same.
pub(crate) fn is_time_dependent(function: &str) -> bool {
    TIME_DEPENDENT.binary_search(&function).is_ok()
}

/// Where a part of the query stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The query's own range, which duration expressions and `@` refer to.
    range: QueryRange,
    /// Whether count or sum of histograms is all that is wanted of it.
    statistics: bool,
    /// Whether something around it needs the buckets of histograms all the same: to interpolate
    /// in them, to cut them, or, as subqueries do, to see resets between samples left out.
    buckets: bool,
}

/// The range of a query.
#[derive(Debug, Clone, Copy)]
struct QueryRange {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

/// Lowers `expr` for an evaluation at `time`. Recurses as deep as the parser allowed.
///
/// # Errors
/// Durations that are out of range, not positive where they must be, or divide by zero.
pub(crate) fn lower(expr: &Expr, time: EvalTime) -> Result<Plan<'_>, EvalError> {
    let range = match time {
        EvalTime::Instant(t_ms) => QueryRange { start_ms: t_ms, end_ms: t_ms, step_ms: 0 },
        EvalTime::Range { start_ms, end_ms, step_ms } => QueryRange { start_ms, end_ms, step_ms },
    };
    let lowered = Place { range, statistics: false, buckets: false }.lower(expr)?;
    Ok(lowered.pinned())
}

/// A lowered node and whether its value depends on the step.
struct Lowered<'a> {
    plan: Plan<'a>,
    /// The value is the same at all steps.
    invariant: bool,
    /// Evaluating it once is worth a node of its own; not so for literals and ranges.
    wrap: bool,
}

impl<'a> Lowered<'a> {
    fn pinned(self) -> Plan<'a> {
        if !self.wrap {
            return self.plan;
        }
        let span = self.plan.span;
        Plan { kind: Kind::Invariant(Box::new(self.plan)), span }
    }
}

impl Place {
    fn lower<'a>(&self, expr: &'a Expr) -> Result<Lowered<'a>, EvalError> {
        let span = expr.span();
        let literal =
            |kind| Ok(Lowered { plan: Plan { kind, span }, invariant: true, wrap: false });
        match expr {
            Expr::Number(number) => literal(Kind::Number(number.value)),
            Expr::String(string) => literal(Kind::Text(string)),
            Expr::Paren(paren) => self.lower(&paren.expr),
            Expr::Vector(selector) => {
                let selector = self.selector(selector)?;
                let pinned = selector.reference.is_pinned();
                let plan = Plan { kind: Kind::Instant(selector), span };
                Ok(Lowered { plan, invariant: pinned, wrap: pinned })
            }
            Expr::Matrix(matrix) => {
                let selector = self.selector(&matrix.vector)?;
                let range_ms = self.range.duration(&matrix.range, false)?;
                let invariant = selector.reference.is_pinned();
                let kind = Kind::Range(RangePlan::Selector { selector, range_ms });
                Ok(Lowered { plan: Plan { kind, span }, invariant, wrap: false })
            }
            Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Unary(unary) => {
                let inner = self.lower(&unary.expr)?;
                if !unary.negative {
                    return Ok(inner);
                }
                let Lowered { plan, invariant, wrap } = inner;
                let kind = Kind::Negate(Box::new(plan));
                Ok(Lowered { plan: Plan { kind, span }, invariant, wrap })
            }
        }
    }

    fn selector<'a>(&self, selector: &'a VectorSelector) -> Result<SelectorPlan<'a>, EvalError> {
        let reference = self.reference(selector.at, &selector.offset)?;
        let statistics = self.statistics && !self.buckets;
        Ok(SelectorPlan { selector, reference, statistics })
    }

    fn reference(&self, at: Option<At>, offset: &Duration) -> Result<Reference, EvalError> {
        let at_ms = at.map(|at| match at {
            At::Timestamp(t_ms) => t_ms,
            At::Start => self.range.start_ms,
            At::End => self.range.end_ms,
        });
        Ok(Reference { at_ms, offset_ms: self.range.duration(offset, true)? })
    }

    fn subquery<'a>(&self, subquery: &'a Subquery) -> Result<Lowered<'a>, EvalError> {
        let inner = Place { buckets: true, ..*self }.lower(&subquery.expr)?;
        let inner =
            if inner.invariant { Lowered { wrap: true, ..inner }.pinned() } else { inner.plan };
        let reference = self.reference(subquery.at, &subquery.offset)?;
        let step_ms = match &subquery.step {
            // A step of zero is written by nobody but means the same as none.
            Some(step) => Some(self.range.duration(step, false)?).filter(|step_ms| *step_ms > 0),
            None => None,
        };
        let range_ms = self.range.duration(&subquery.range, false)?;
        let invariant = reference.is_pinned();
        let kind = Kind::Range(RangePlan::Subquery(Box::new(SubqueryPlan {
            inner,
            range_ms,
            step_ms,
            reference,
        })));
        Ok(Lowered { plan: Plan { kind, span: subquery.span }, invariant, wrap: false })
    }

    fn call<'a>(&self, call: &'a Call) -> Result<Lowered<'a>, EvalError> {
        if let Some(value) = self.range.constant(call.function.name) {
            let plan = Plan { kind: Kind::Number(value), span: call.span };
            return Ok(Lowered { plan, invariant: true, wrap: false });
        }
        let inside = match call.function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => {
                Place { statistics: true, ..*self }
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                Place { buckets: true, ..*self }
            }
            _ => *self,
        };
        let lowered: Vec<Lowered<'a>> =
            call.args.iter().map(|arg| inside.lower(arg)).collect::<Result<_, _>>()?;
        let invariant = !is_time_dependent(call.function.name)
            && lowered.iter().all(|argument| argument.invariant);
        let args = lowered
            .into_iter()
            .map(|argument| if invariant { argument.plan } else { argument.pinned() })
            .collect();
        let kind = Kind::Call(CallPlan { function: call.function, args });
        Ok(Lowered { plan: Plan { kind, span: call.span }, invariant, wrap: invariant })
    }

    fn aggregate<'a>(&self, aggregate: &'a Aggregate) -> Result<Lowered<'a>, EvalError> {
        let input = self.lower(&aggregate.expr)?;
        let param = aggregate.param.as_ref().map(|param| self.lower(param)).transpose()?;
        let invariant = input.invariant && param.as_ref().is_none_or(|param| param.invariant);
        let pin = |part: Lowered<'a>| if invariant { part.plan } else { part.pinned() };
        let kind = Kind::Aggregate(Box::new(AggregatePlan {
            op: aggregate.op,
            input: pin(input),
            param: param.map(pin),
            grouping: &aggregate.grouping,
            without: aggregate.without,
        }));
        Ok(Lowered { plan: Plan { kind, span: aggregate.span }, invariant, wrap: invariant })
    }

    fn binary<'a>(&self, binary: &'a Binary) -> Result<Lowered<'a>, EvalError> {
        let cuts = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let inside = Place { buckets: self.buckets || cuts, ..*self };
        let left = inside.lower(&binary.left)?;
        let right = inside.lower(&binary.right)?;
        let invariant = left.invariant && right.invariant;
        let pin = |side: Lowered<'a>| if invariant { side.plan } else { side.pinned() };
        let kind = Kind::Binary(Box::new(BinaryPlan {
            op: binary.op,
            left: pin(left),
            right: pin(right),
            matching: binary.matching.as_ref(),
            return_bool: binary.return_bool,
        }));
        Ok(Lowered { plan: Plan { kind, span: binary.span }, invariant, wrap: invariant })
    }
}

impl QueryRange {
    /// `start()`, `end()`, `step()` and `range()` are numbers once the query's range is known.
    fn constant(&self, function: &str) -> Option<f64> {
        let ms = match function {
            "start" => self.start_ms,
            "end" => self.end_ms,
            "step" => self.step_ms,
            "range" => self.end_ms.saturating_sub(self.start_ms),
            _ => return None,
        };
        Some(ms as f64 / 1000.0)
    }

    /// Milliseconds of a duration.
    fn duration(&self, duration: &Duration, may_be_negative: bool) -> Result<i64, EvalError> {
        let expr = match duration {
            Duration::Fixed(ms) => return Ok(*ms),
            Duration::Computed(expr) => expr,
        };
        let seconds = self.duration_seconds(expr)?;
        let error = |text| Err(EvalError::Query { span: place_of(expr), text });
        if !seconds.is_finite() {
            return error("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !may_be_negative {
            return error("duration must be greater than 0");
        }
        // Prometheus keeps durations as 64 bit nanoseconds; more cannot be asked of it either.
        if seconds.abs() > (1_u64 << 63) as f64 / 1e9 {
            return error("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn duration_seconds(&self, expr: &DurationExpr) -> Result<f64, EvalError> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        Ok(match expr {
            DurationExpr::Number(number) => number.value,
            DurationExpr::Step(_) => seconds(self.step_ms),
            DurationExpr::Range(_) => seconds(self.end_ms.saturating_sub(self.start_ms)),
            DurationExpr::MinOf(a, b, _) => {
                smaller(self.duration_seconds(a)?, self.duration_seconds(b)?)
            }
            DurationExpr::MaxOf(a, b, _) => {
                larger(self.duration_seconds(a)?, self.duration_seconds(b)?)
            }
            DurationExpr::Paren(inner, _) => self.duration_seconds(inner)?,
            DurationExpr::Unary { negative, inner, .. } => {
                let value = self.duration_seconds(inner)?;
                if *negative { -value } else { value }
            }
            DurationExpr::Binary { op, left, right, .. } => {
                let (left, right) = (self.duration_seconds(left)?, self.duration_seconds(right)?);
                duration_arithmetic(*op, left, right)
                    .map_err(|text| EvalError::Query { span: place_of(expr), text })?
            }
        })
    }
}

/// Where Prometheus says a duration stands: from its first operand to its last one, without
/// parentheses around either and without the name of a function.
fn place_of(expr: &DurationExpr) -> Span {
    let between = |left: &DurationExpr, right: &DurationExpr| Span {
        start: place_of(left).start,
        end: place_of(right).end,
    };
    match expr {
        DurationExpr::Number(_) | DurationExpr::Step(_) | DurationExpr::Range(_) => expr.span(),
        DurationExpr::Paren(inner, _) => place_of(inner),
        DurationExpr::Unary { inner, span, .. } => Span { end: place_of(inner).end, ..*span },
        DurationExpr::Binary { left, right, .. }
        | DurationExpr::MinOf(left, right, _)
        | DurationExpr::MaxOf(left, right, _) => between(left, right),
    }
}

fn duration_arithmetic(op: BinaryOp, left: f64, right: f64) -> Result<f64, &'static str> {
    match op {
        BinaryOp::Add => Ok(left + right),
        BinaryOp::Sub => Ok(left - right),
        BinaryOp::Mul => Ok(left * right),
        BinaryOp::Div if right == 0.0 => Err("division by zero"),
        BinaryOp::Div => Ok(left / right),
        BinaryOp::Mod if right == 0.0 => Err("modulo by zero"),
        BinaryOp::Mod => Ok(left % right),
        BinaryOp::Pow => Ok(left.powf(right)),
        _ => Err("a duration expression allows only the operators + - * / % ^"),
    }
}
