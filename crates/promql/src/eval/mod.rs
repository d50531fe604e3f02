//! The evaluator.
//!
//! It works series by series, not step by step: a series is decoded once, all its steps are
//! computed in one pass, and operators work on whole rows of steps.
//!
//! - [`grid`]: the steps; [`rows`]: vectors over time as columns, [`histogram_rows`] beside them;
//!   [`stream`]: rows made on demand
//! - [`selected`], [`windows`], [`rollup`]: from samples to rows; [`recent`]: what is kept of that
//! - [`aggregate`], [`binary`], [`call`] and the files they use: from rows to rows
//! - [`context`]: limits, cancellation, counters, splitting of work; [`profiler`]: what each node
//!   takes; [`output`]: the result

mod aggregate;
mod annotations;
pub(crate) mod arithmetic;
mod binary;
mod calendar;
mod call;
mod context;
mod format;
pub(crate) mod grid;
mod grouping;
mod histogram;
mod histogram_rows;
mod histogram_statistics;
mod histogram_sum;
mod info;
mod kahan;
mod label_hash;
mod math;
mod native_histogram;
mod operation;
mod output;
mod profiler;
mod range_source;
mod recent;
mod relabel;
mod rollup;
mod row_map;
mod rows;
mod scratch;
mod selected;
mod sorting;
mod stream;
mod windows;

use self::context::Context;
pub use self::context::too_many_samples;
pub use self::format::histogram_text;
use self::grid::{Grid, Reference};
use self::histogram_rows::HistogramRows;
use self::profiler::NodeId;
use self::row_map::RowMap;
use self::rows::{Rows, ScalarRow};
use self::selected::{Leaf, Nodes, Remark, Selected};
use self::stream::Stream;
use crate::ast::{RangeExtension, Span, StringLiteral, ValueType};
use crate::engine::{EvalError, EvalTime, Evaluation};
use crate::plan::{Kind, Plan, SelectorPlan, lower};
use crate::source::Hints;
use crate::value::{QueryOutput, QueryValue};
use model::{Labels, Matcher};

/// Evaluates a query.
///
/// Yields what Prometheus 3.14 yields; metric names are dropped at the very end (its feature
/// `promql-delayed-name-removal`). The result does not depend on how many threads
/// `evaluation.options.parallel` grants.
///
/// # Errors
/// See [`EvalError`]. Nothing is returned in part.
pub fn evaluate(evaluation: &Evaluation<'_>) -> Result<QueryOutput, EvalError> {
    let plan = lower(evaluation.expr, evaluation.time)?;
    let (grid, instant) = match evaluation.time {
        EvalTime::Instant(t_ms) => (Grid::instant(t_ms), true),
        EvalTime::Range { start_ms, end_ms, step_ms } => {
            (Grid::range(start_ms, end_ms, step_ms)?, false)
        }
    };
    let context = Context::new(evaluation.source, evaluation.options, &plan, &grid);
    let evaluator = Evaluator { context };
    evaluator.context.check_steps(&grid)?;
    let value = if grid.steps() == 0 {
        QueryValue::Matrix(Vec::new())
    } else if instant {
        evaluator.instant(&plan, &grid)?
    } else {
        evaluator.range(&plan, &grid)?
    };
    let (annotations, stats, profile) = evaluator.context.finish();
    Ok(QueryOutput { value, annotations, stats, profile })
}

/// One evaluation under way.
struct Evaluator<'e> {
    context: Context<'e>,
}

impl Evaluator<'_> {
    fn instant(&self, plan: &Plan<'_>, grid: &Grid) -> Result<QueryValue, EvalError> {
        let t_ms = grid.start_ms();
        match plan.value_type() {
            ValueType::Scalar => {
                let value = self.scalar(plan, grid)?.at(0);
                Ok(QueryValue::Scalar { t_ms, value })
            }
            ValueType::String => {
                let value = text(plan)?.to_owned();
                Ok(QueryValue::String { t_ms, value })
            }
            ValueType::Matrix => self.range_source(plan, grid, None)?.points(&self.context, grid),
            ValueType::Vector => {
                let rows = self.vector(plan, grid)?.materialise(&self.context)?;
                self.output(|| output::vector(rows, t_ms))
            }
        }
    }

    fn range(&self, plan: &Plan<'_>, grid: &Grid) -> Result<QueryValue, EvalError> {
        match plan.value_type() {
            ValueType::Scalar => Ok(output::scalar_matrix(&self.scalar(plan, grid)?, grid)),
            ValueType::Vector => {
                let rows = self.vector(plan, grid)?.materialise(&self.context)?;
                self.output(|| output::matrix(&self.context, rows, grid))
            }
            ValueType::String | ValueType::Matrix => {
                let name =
                    if plan.value_type() == ValueType::String { "string" } else { "range vector" };
                Err(EvalError::Execution(format!(
                    "invalid expression type {name:?} for range query, \
                     must be Scalar or instant Vector"
                )))
            }
        }
    }

    fn output(
        &self,
        make: impl FnOnce() -> Result<QueryValue, EvalError>,
    ) -> Result<QueryValue, EvalError> {
        match &self.context.profiler {
            Some(profiler) => profiler.output(make),
            None => make(),
        }
    }

    /// Evaluates a vector at all steps of `grid`, of which there is at least one.
    fn vector(&self, plan: &Plan<'_>, grid: &Grid) -> Result<Stream, EvalError> {
        self.context.check_cancelled()?;
        let node = self.context.enter(plan.span, grid.steps());
        let mut stream = self.vector_of(plan, (grid, node))?;
        stream.claim(&self.context, node);
        self.context.leave();
        Ok(stream)
    }

    fn vector_of(
        &self,
        plan: &Plan<'_>,
        (grid, node): (&Grid, NodeId),
    ) -> Result<Stream, EvalError> {
        match &plan.kind {
            Kind::Invariant(inner) if grid.steps() > 1 => {
                let once =
                    self.once(|| self.vector(inner, &grid.first())?.materialise(&self.context))?;
                Ok(Stream::from_rows(once.broadcast(&self.context, grid.steps())?))
            }
            Kind::Invariant(inner) => self.vector(inner, grid),
            Kind::Instant(selector) => {
                self.instant_selector(selector, plan.span, grid, Shown::Value)
            }
            Kind::Call(call) => call::vector(self, call, plan.span, grid),
            Kind::Aggregate(aggregate) => {
                aggregate::evaluate(self, aggregate, plan.span, (grid, node))
            }
            Kind::Binary(binary) => binary::vectors(self, binary, plan.span, grid),
            Kind::Negate(inner) => Ok(self.vector(inner, grid)?.map(RowMap::Negate)),
            Kind::Number(_) | Kind::Text(_) | Kind::Range(_) => Err(wrong_type("instant vector")),
        }
    }

    /// Evaluates a scalar at all steps of `grid`.
    fn scalar(&self, plan: &Plan<'_>, grid: &Grid) -> Result<ScalarRow, EvalError> {
        self.context.check_cancelled()?;
        self.context.enter(plan.span, grid.steps());
        let row = self.scalar_of(plan, grid)?;
        self.context.leave();
        Ok(row)
    }

    fn scalar_of(&self, plan: &Plan<'_>, grid: &Grid) -> Result<ScalarRow, EvalError> {
        match &plan.kind {
            Kind::Number(value) => Ok(ScalarRow::Constant(*value)),
            Kind::Invariant(inner) => {
                let once = self.once(|| self.scalar(inner, &grid.first()))?;
                Ok(ScalarRow::Constant(once.at(0)))
            }
            Kind::Call(call) => call::scalar(self, call, grid),
            Kind::Binary(binary) => binary::scalars(self, binary, grid),
            Kind::Negate(inner) => Ok(self.scalar(inner, grid)?.map(|value| -value)),
            _ => Err(wrong_type("scalar")),
        }
    }

    /// Evaluates at one step what is the same at all of them: each looks at the same samples.
    fn once<T>(&self, evaluate: impl FnOnce() -> Result<T, EvalError>) -> Result<T, EvalError> {
        let Some(profiler) = &self.context.profiler else { return evaluate() };
        profiler.open_scope(1);
        let once = evaluate()?;
        let samples = profiler.close_scope();
        profiler.look_at(samples);
        Ok(once)
    }

    /// A selector at all steps. Remarks are about `span`.
    fn instant_selector(
        &self,
        plan: &SelectorPlan<'_>,
        span: Span,
        grid: &Grid,
        shown: Shown,
    ) -> Result<Stream, EvalError> {
        let lookback_ms = self.context.options.lookback_ms;
        let smoothed = plan.selector.extension == Some(RangeExtension::Smoothed);
        let leaf = match shown {
            Shown::Time => Leaf::Timestamp { lookback_ms },
            Shown::Start => Leaf::Start { lookback_ms },
            Shown::Value if smoothed => Leaf::Smoothed { lookback_ms, span },
            Shown::Value => Leaf::Value { lookback_ms },
        };
        self.context.enter(plan.selector.span, grid.steps());
        let selected = self.select_instant(&plan.selector.matchers, grid, plan.reference, leaf)?;
        self.context.leave();
        let selected = Selected { statistics: plan.statistics, span, ..selected };
        Ok(Stream::from_selected(selected, shown != Shown::Value))
    }

    /// The node that is being evaluated.
    fn node(&self) -> NodeId {
        self.context.profiler.as_ref().map_or(NodeId::NONE, |profiler| profiler.current())
    }

    /// Series that satisfy `matchers`, with `leaf` applied to the samples `reference` points at.
    fn select_instant(
        &self,
        matchers: &[Matcher],
        grid: &Grid,
        reference: Reference,
        leaf: Leaf,
    ) -> Result<Selected, EvalError> {
        let (start_ms, end_ms) = range_source::span_of(grid, reference, leaf.reach());
        let hints = Hints { starts: leaf.wants_starts(false), ..Hints::default() };
        let set = self.context.select(matchers, start_ms, end_ms, hints)?;
        Ok(Selected {
            set,
            grid: *grid,
            reference,
            leaf,
            drop_name: None,
            remark: Remark::None,
            statistics: false,
            span: Span::default(),
            nodes: Nodes::of(self.node()),
        })
    }
}

/// What is shown of the samples of a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The sample itself.
    Value,
    /// When it was taken.
    Time,
    /// When it began at zero.
    Start,
}

/// The text of a string literal.
fn text<'p>(plan: &'p Plan<'_>) -> Result<&'p str, EvalError> {
    Ok(&string(plan)?.value)
}

fn string<'p>(plan: &Plan<'p>) -> Result<&'p StringLiteral, EvalError> {
    match &plan.unpinned().kind {
        Kind::Text(literal) => Ok(literal),
        _ => Err(wrong_type("string")),
    }
}

/// The parser checks types, so only a tree built by hand can meet this.
fn wrong_type(expected: &str) -> EvalError {
    EvalError::Execution(format!("an expression is not of the type {expected} needed at its place"))
}

/// Rows of a single series without labels.
fn single_row(
    context: &Context<'_>,
    labels: Labels,
    values: Vec<f64>,
) -> Result<Stream, EvalError> {
    let steps = values.len();
    let reservation = context.reserve(steps)?;
    let mut rows = Rows {
        steps,
        labels: vec![labels],
        drop_name: vec![false],
        values,
        histograms: HistogramRows::default(),
        reservation,
    };
    rows.remove_empty();
    Ok(Stream::from_rows(rows))
}
