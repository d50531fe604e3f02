//! Where functions over ranges get their samples: a selector, or a subquery evaluated first.

use std::sync::Arc;

use model::{FloatHistogram, Labels, ResetHint};

use super::annotations::{Finding, Findings};
use super::context::Context;
use super::grid::{Grid, Reference};
use super::histogram_rows::{self, weight_of};
use super::output;
use super::profiler::{NodeId, samples_of};
use super::rollup::{
    RangeCall, RangeFunction, check_extension, extend_histogram_range, extend_range,
};
use super::rows::{Rows, ScalarRow, is_absent};
use super::selected::{Leaf, Nodes, Remark, Selected, coarse, drop_stale};
use super::stream::Stream;
use super::windows::Reach;
use super::{Evaluator, wrong_type};
use crate::ast::{RangeExtension, Span};
use crate::engine::EvalError;
use crate::plan::{Kind, Plan, RangePlan, SubqueryPlan};
use crate::source::{Columns, Hints, SeriesSet, SourceError};
use crate::value::{QueryValue, RangeSeries};

/// Series with samples, and the range to look at.
pub(super) struct RangeSource {
    set: Arc<dyn SeriesSet>,
    reference: Reference,
    range_ms: i64,
    extension: Option<RangeExtension>,
    lookback_ms: i64,
    /// Whether of histograms only count, sum and resets matter.
    statistics: bool,
    /// Whether the values no longer are those of the metric, per series.
    drop_name: Option<Vec<bool>>,
    /// What remarks are about.
    span: Span,
    node: NodeId,
    /// Samples that a subquery looked at.
    looked_at: u64,
}

/// First and last time of interest to windows of `reach` at all steps of `grid`.
pub(super) fn span_of(grid: &Grid, reference: Reference, reach: Reach) -> (i64, i64) {
    let first = reference.of(grid.start_ms());
    let last = reference.of(grid.end_ms());
    // Windows are open at their start.
    let start = first.saturating_sub(reach.back_ms).saturating_add(1);
    (start, last.saturating_add(reach.ahead_ms))
}

impl Evaluator<'_> {
    /// Selects the samples `plan` ranges over.
    pub(super) fn range_source(
        &self,
        plan: &Plan<'_>,
        grid: &Grid,
        function: Option<(RangeFunction, &str)>,
    ) -> Result<RangeSource, EvalError> {
        self.context.enter(plan.span, grid.steps());
        let source = self.range_source_of(plan, grid, function)?;
        self.context.leave();
        Ok(source)
    }

    fn range_source_of(
        &self,
        plan: &Plan<'_>,
        grid: &Grid,
        function: Option<(RangeFunction, &str)>,
    ) -> Result<RangeSource, EvalError> {
        let lookback_ms = self.context.options.lookback_ms;
        match &plan.unpinned().kind {
            Kind::Range(RangePlan::Selector { selector, range_ms }) => {
                let extension = selector.selector.extension;
                let (reference, range_ms) = (selector.reference, *range_ms);
                let reach = reach_of(range_ms, extension, lookback_ms, plan.span);
                let (start_ms, end_ms) = span_of(grid, reference, reach);
                let takes_rows = extension.is_none()
                    && function.is_some_and(|(function, _)| function.takes_rows());
                let starts = self.context.options.use_start_timestamps
                    && extension.is_none()
                    && function.is_some_and(|(function, _)| function.looks_at_starts());
                let hints = Hints {
                    starts,
                    function: function.map(|(_, name)| name),
                    range_ms,
                    step_ms: grid.step_between_ms(reference),
                    window_ms: if takes_rows { grid.window_ms(reference, range_ms) } else { 0 },
                };
                let matchers = &selector.selector.matchers;
                let set = self.context.select(matchers, start_ms, end_ms, hints)?;
                Ok(RangeSource {
                    set,
                    reference,
                    range_ms,
                    extension,
                    lookback_ms,
                    statistics: selector.statistics,
                    drop_name: None,
                    span: plan.span,
                    node: self.node(),
                    looked_at: 0,
                })
            }
            Kind::Range(RangePlan::Subquery(subquery)) => self.subquery(subquery, plan.span, grid),
            _ => Err(wrong_type("range vector")),
        }
    }

    fn subquery(
        &self,
        plan: &SubqueryPlan<'_>,
        span: Span,
        grid: &Grid,
    ) -> Result<RangeSource, EvalError> {
        let step_ms = plan.step_ms.unwrap_or(self.context.options.default_subquery_step_ms);
        let (after, end_ms) = span_of(grid, plan.reference, Reach::back(plan.range_ms));
        // Steps are multiples of the step since the epoch, whatever the query's own times are.
        let misfit = after.rem_euclid(step_ms.max(1));
        let start_ms = if misfit == 0 { after } else { after.saturating_add(step_ms - misfit) };
        let inner_grid = Grid::range(start_ms, end_ms, step_ms)?;
        self.context.check_steps(&inner_grid)?;
        let profiler = self.context.profiler.as_ref();
        if let Some(profiler) = profiler {
            profiler.open_scope(inner_grid.steps());
        }
        let rows = if inner_grid.steps() == 0 {
            Rows::empty(&self.context, 0)?
        } else {
            self.vector(&plan.inner, &inner_grid)?.materialise(&self.context)?
        };
        // Functions over the subquery look at its points instead.
        let looked_at = profiler.map_or(0, |profiler| {
            profiler.set_out(profiler.current(), rows.len());
            profiler.close_scope()
        });
        let drop_name = Some(rows.drop_name.clone());
        Ok(RangeSource {
            set: Arc::new(Evaluated { rows, grid: inner_grid }),
            reference: plan.reference,
            range_ms: plan.range_ms,
            extension: None,
            lookback_ms: self.context.options.lookback_ms,
            statistics: false,
            drop_name,
            span,
            node: self.node(),
            looked_at,
        })
    }

    /// Applies `function` to the ranges of `plan` at all steps. Remarks are about `span`.
    pub(super) fn over_range(
        &self,
        (function, name): (RangeFunction, &str),
        plan: &Plan<'_>,
        params: Vec<ScalarRow>,
        span: Span,
        grid: &Grid,
        remark: Remark,
    ) -> Result<Stream, EvalError> {
        if let Kind::Range(RangePlan::Selector { selector, .. }) = &plan.unpinned().kind {
            check_extension(name, selector.selector.extension)?;
        }
        let source = self.range_source(plan, grid, Some((function, name)))?;
        let leaf = Leaf::Range(RangeCall {
            function,
            params,
            range_ms: source.range_ms,
            extension: source.extension,
            lookback_ms: source.lookback_ms,
            span,
        });
        let remark = match remark {
            // These take the range first, so that remarks about it are at `span`.
            Remark::None if function.expects_counter() => {
                let by_type = self.context.options.type_and_unit_labels;
                Remark::NonCounter { span, by_type }
            }
            other => other,
        };
        let selected = Selected {
            set: source.set,
            grid: *grid,
            reference: source.reference,
            leaf,
            drop_name: source.drop_name,
            remark,
            statistics: source.statistics,
            span: source.span,
            nodes: Nodes::of(source.node),
        };
        Ok(Stream::from_selected(selected, !function.keeps_name()))
    }
}

fn reach_of(
    range_ms: i64,
    extension: Option<RangeExtension>,
    lookback_ms: i64,
    span: Span,
) -> Reach {
    RangeCall {
        function: RangeFunction::Last,
        params: Vec::new(),
        range_ms,
        extension,
        lookback_ms,
        span,
    }
    .reach()
}

impl RangeSource {
    /// The samples themselves, for a query that is nothing but a range.
    pub(super) fn points(
        self,
        context: &Context<'_>,
        grid: &Grid,
    ) -> Result<QueryValue, EvalError> {
        let end_ms = self.reference.of(grid.start_ms());
        let start_ms = end_ms.saturating_sub(self.range_ms);
        let mut series = Vec::new();
        let mut held = context.reserve(0)?;
        let mut total = 0;
        let is_subquery = self.drop_name.is_some();
        let mut looked_at = self.looked_at;
        for index in 0..self.set.len() {
            context.check_cancelled()?;
            let mut columns = Columns::default();
            self.set.read(index, &mut columns)?;
            context.check_columns(columns.samples())?;
            if !is_subquery {
                context.count_read(columns.samples());
            }
            drop_stale(&mut columns);
            if columns.is_coarse {
                context.note(|notes| notes.add(coarse(self.span)));
            }
            let labels = self.set.labels(index);
            match self.extension {
                None => clip(&mut columns, start_ms, end_ms),
                Some(extension) if columns.histograms.is_empty() => {
                    extend_range(&mut columns, start_ms, end_ms, extension);
                }
                Some(extension) => {
                    let mut findings = Findings::default();
                    if columns.timestamps_ms.is_empty() {
                        let samples = &mut columns.histograms;
                        extend_histogram_range(
                            samples,
                            (start_ms, end_ms),
                            extension,
                            &mut findings,
                        );
                    } else {
                        // There is no line between a float and a histogram.
                        findings.note(Finding::Mixed);
                        columns.clear();
                    }
                    let name = labels.metric_name().unwrap_or("");
                    context.note(|notes| findings.tell(name, self.span, notes));
                }
            }
            if columns.samples() == 0 {
                continue;
            }
            let histograms = columns.histograms;
            total += columns.values.len();
            if !is_subquery {
                let weight = histograms.histograms.iter().map(|one| samples_of(one));
                looked_at += (columns.values.len() + weight.sum::<usize>()) as u64;
            }
            total += histograms.histograms.iter().map(|one| weight_of(one)).sum::<usize>();
            held.resize(total)?;
            let drops = self.drop_name.as_ref().is_some_and(|names| names[index]);
            series.push(RangeSeries {
                labels: if drops { output::unnamed(labels) } else { labels.clone() },
                timestamps_ms: columns.timestamps_ms,
                values: columns.values,
                histograms: histograms
                    .timestamps_ms
                    .into_iter()
                    .zip(histograms.histograms)
                    .collect(),
            });
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        if let Some(profiler) = &context.profiler {
            profiler.look_at(looked_at);
            profiler.set_out(self.node, series.len());
            profiler.note_reads(self.node, &*self.set);
        }
        Ok(QueryValue::Matrix(series))
    }
}

/// Keeps the samples after `start_ms` and up to `end_ms`.
fn clip(columns: &mut Columns, start_ms: i64, end_ms: i64) {
    columns.histograms.retain(|t_ms, _| start_ms < t_ms && t_ms <= end_ms);
    let end = columns.timestamps_ms.partition_point(|t| *t <= end_ms);
    let start = columns.timestamps_ms.partition_point(|t| *t <= start_ms).min(end);
    columns.timestamps_ms.truncate(end);
    columns.timestamps_ms.drain(..start);
    columns.values.truncate(end);
    columns.values.drain(..start);
}

/// Rows seen as series with samples.
struct Evaluated {
    rows: Rows,
    grid: Grid,
}

impl SeriesSet for Evaluated {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.rows.labels[index]
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        let (row, histograms) = (self.rows.row(index), self.rows.histograms.row(index));
        for (step, &value) in row.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let t_ms = self.grid.time_ms(step);
            if let Some(histogram) = histogram_rows::at(row, histograms, step) {
                out.histograms.push(t_ms, without_hint(histogram));
            } else {
                out.timestamps_ms.push(t_ms);
                out.values.push(value);
            }
        }
        Ok(())
    }
}

/// What is known of resets since the sample before says nothing if that one was left out, or if
/// the sample is taken several times.
fn without_hint(histogram: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    let mut histogram = Arc::clone(histogram);
    if matches!(histogram.reset_hint, ResetHint::Reset | ResetHint::NoReset) {
        Arc::make_mut(&mut histogram).reset_hint = ResetHint::Unknown;
    }
    histogram
}
