//! Series of the source and what a selector, or a function over its ranges, makes of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::{FloatHistogram, Labels};

use super::annotations::{Finding, Findings};
use super::context::Context;
use super::grid::{Grid, Reference};
use super::histogram_rows;
use super::histogram_statistics;
use super::profiler::{NodeId, samples_of};
use super::rollup::{RangeCall, smooth, smooth_histograms};
use super::rows::{ABSENT, HISTOGRAM, has_any, is_absent};
use super::scratch::Scratch;
use super::windows::{Reach, Windows};
use crate::ast::Span;
use crate::engine::EvalError;
use crate::source::{Columns, SeriesSet};
use crate::value::Annotation;

/// Series of the source and what is computed from their samples.
pub(crate) struct Selected {
    pub(crate) set: Arc<dyn SeriesSet>,
    pub(crate) grid: Grid,
    pub(crate) reference: Reference,
    pub(crate) leaf: Leaf,
    /// Per series, whether its samples are no longer values of the metric; `None` for stored ones.
    pub(crate) drop_name: Option<Vec<bool>>,
    /// Remarked once some series has a value.
    pub(crate) remark: Remark,
    /// Whether of histograms only count, sum and resets matter.
    pub(crate) statistics: bool,
    /// The selector.
    pub(crate) span: Span,
    /// The selector or subquery that has the samples, and what is made of them.
    pub(crate) nodes: Nodes,
}

/// Whose time and samples are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nodes {
    /// The selector or subquery.
    pub(crate) samples: NodeId,
    /// What computes rows of them; the same node if the selector does itself.
    pub(crate) rows: NodeId,
}

impl Nodes {
    /// Samples of `node`, for whoever comes to have the rows.
    pub(crate) fn of(node: NodeId) -> Nodes {
        Nodes { samples: node, rows: NodeId::NONE }
    }
}

/// How samples become a row.
pub(crate) enum Leaf {
    /// The last sample within the lookback.
    Value { lookback_ms: i64 },
    /// The time of that sample, seconds.
    Timestamp { lookback_ms: i64 },
    /// When that sample began at zero, seconds; 0 if not known.
    Start { lookback_ms: i64 },
    /// The value at the very time, interpolated between the samples around it. What there is to
    /// remark is about `span`.
    Smoothed { lookback_ms: i64, span: Span },
    /// A function over ranges.
    Range(RangeCall),
}

/// What is worth telling the user once a selected series yields a value.
pub(crate) enum Remark {
    None,
    /// What is not a counter, by its name or by its label `__type__`.
    NonCounter {
        span: Span,
        by_type: bool,
    },
    /// Texts that hold for any series.
    Always(Vec<Annotation>),
}

impl Selected {
    /// What the windows of the leaf reach.
    pub(crate) fn reach(&self) -> Reach {
        self.leaf.reach()
    }

    /// Computes the row of series `index` into `scratch.row`, and into `scratch.histogram_row` if it
    /// has histograms; `false` if it is empty throughout.
    pub(crate) fn fill(
        &self,
        context: &Context<'_>,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<bool, EvalError> {
        scratch.columns.clear();
        scratch.switch(self.nodes.samples);
        self.set.read(index, &mut scratch.columns)?;
        if !self.leaf.wants_starts(context.options.use_start_timestamps) {
            scratch.columns.forget_starts();
        }
        // Also if none of them is in the range, so that the same is told of a day whether or not other days
        // are asked for with it.
        if scratch.columns.is_coarse {
            scratch.notes.add(coarse(self.span));
        }
        let samples = scratch.columns.samples();
        scratch.samples_read += samples as u64;
        if samples == 0 {
            return Ok(false);
        }
        if self.drop_name.is_none() && self.nodes.samples != self.nodes.rows {
            scratch.count_out(self.nodes.samples);
        }
        scratch.switch(self.nodes.rows);
        context.check_columns(samples)?;
        scratch.peak_columns = scratch.peak_columns.max(samples);
        let has_rows = !scratch.columns.rows.is_empty();
        if self.leaf.skips_stale() && !has_rows {
            drop_stale(&mut scratch.columns);
        }
        scratch.windows.update(
            &scratch.columns.timestamps_ms,
            &self.grid,
            self.reference,
            self.reach(),
        );
        let cancelled = context.options.cancelled;
        // Nearly all series are of floats alone, and of those nothing else is looked at.
        if let (Leaf::Range(call), true) = (&self.leaf, has_rows) {
            call.evaluate_rows(&self.grid, self.reference, cancelled, scratch)?;
        } else if scratch.columns.histograms.is_empty() && !self.looks_at_starts(&scratch.columns) {
            self.leaf.evaluate(&self.grid, self.reference, cancelled, scratch)?;
        } else {
            self.fill_mixed(index, cancelled, scratch)?;
        }
        if scratch.profile.is_some() {
            self.count_samples(samples, scratch);
        }
        if !has_any(&scratch.row) {
            return Ok(false);
        }
        scratch.count_out(self.nodes.rows);
        self.remark.note(self.set.labels(index), scratch);
        Ok(true)
    }

    /// Counts what was read, and what each step looks at.
    #[cold]
    fn count_samples(&self, samples: usize, scratch: &mut Scratch) {
        let Scratch { profile, columns, windows, histogram_windows, row, histogram_row, .. } =
            scratch;
        let Some(local) = profile else { return };
        // The points of a subquery were read from nowhere.
        if self.drop_name.is_none() {
            local.count_read(self.nodes.samples, samples);
        }
        let histograms = &columns.histograms.histograms;
        match &self.leaf {
            Leaf::Range(_) => local.look_at((0..self.grid.steps()).map(|step| {
                let histograms = match histograms.is_empty() {
                    true => &[][..],
                    false => &histograms[histogram_windows.range(step)],
                };
                let weight: usize = histograms.iter().map(|one| samples_of(one)).sum();
                windows.range(step).len() + weight
            })),
            Leaf::Value { .. }
            | Leaf::Timestamp { .. }
            | Leaf::Start { .. }
            | Leaf::Smoothed { .. } => {
                local.look_at(row.iter().enumerate().map(
                    |(step, value)| match histogram_rows::at(row, histogram_row, step) {
                        Some(histogram) => samples_of(histogram),
                        None => usize::from(!is_absent(*value)),
                    },
                ));
            }
        }
    }

    fn looks_at_starts(&self, columns: &Columns) -> bool {
        !columns.starts_ms.is_empty() && matches!(self.leaf, Leaf::Range(_))
    }

    /// As [`Selected::fill`], of a series that has histograms or tells when its samples began.
    #[inline(never)]
    fn fill_mixed(
        &self,
        index: usize,
        cancelled: &AtomicBool,
        scratch: &mut Scratch,
    ) -> Result<(), EvalError> {
        if self.statistics {
            histogram_statistics::strip(&mut scratch.columns.histograms);
        }
        scratch.histogram_windows.update(
            &scratch.columns.histograms.timestamps_ms,
            &self.grid,
            self.reference,
            self.reach(),
        );
        let name = self.set.labels(index).metric_name().unwrap_or("");
        match &self.leaf {
            Leaf::Range(call) => {
                call.evaluate_mixed(&self.grid, self.reference, cancelled, name, scratch)
            }
            Leaf::Smoothed { span, .. } => {
                let mut findings = Findings::default();
                self.smooth(scratch, &mut findings);
                findings.tell(name, *span, &mut scratch.notes);
                Ok(())
            }
            Leaf::Value { .. } | Leaf::Timestamp { .. } | Leaf::Start { .. } => {
                self.leaf.evaluate(&self.grid, self.reference, cancelled, scratch)?;
                self.add_histograms(scratch);
                Ok(())
            }
        }
    }

    /// Puts histograms into the row where they are later than the floats.
    fn add_histograms(&self, scratch: &mut Scratch) {
        let Scratch { columns, windows, histogram_windows, row, histogram_row, .. } = scratch;
        let Columns { timestamps_ms, histograms, .. } = columns;
        let last = |windows: &Windows, step: usize| windows.range(step).next_back();
        histogram_row.resize(row.len(), None);
        let mut any = false;
        for (step, value) in row.iter_mut().enumerate() {
            let Some(at) = last(histogram_windows, step) else { continue };
            let t_ms = histograms.timestamps_ms[at];
            if last(windows, step).is_some_and(|float| timestamps_ms[float] > t_ms) {
                continue;
            }
            let histogram = &histograms.histograms[at];
            *value = match self.leaf {
                _ if histogram.is_stale() => ABSENT,
                Leaf::Timestamp { .. } => t_ms as f64 / 1000.0,
                Leaf::Start { .. } => start_seconds(&histograms.starts_ms, at),
                _ => {
                    histogram_row[step] = Some(Arc::clone(histogram));
                    any = true;
                    HISTOGRAM
                }
            };
        }
        if !any {
            histogram_row.clear();
        }
    }

    /// A `smoothed` selector. Between a float and a histogram there is no line, so a window that
    /// has both yields nothing.
    fn smooth(&self, scratch: &mut Scratch, findings: &mut Findings) {
        let Scratch { columns, windows, histogram_windows, row, histogram_row, .. } = scratch;
        let Columns { timestamps_ms, values, histograms, .. } = columns;
        row.clear();
        histogram_row.resize(self.grid.steps(), None);
        let mut any = false;
        for (step, target) in histogram_row.iter_mut().enumerate() {
            let (floats, window) = (windows.range(step), histogram_windows.range(step));
            let at_ms = self.reference.of(self.grid.time_ms(step));
            if window.is_empty() {
                row.push(smooth(&timestamps_ms[floats.clone()], &values[floats], at_ms));
                continue;
            }
            if !floats.is_empty() {
                findings.note(Finding::Mixed);
                row.push(ABSENT);
                continue;
            }
            let times = &histograms.timestamps_ms[window.clone()];
            *target = smooth_histograms(times, &histograms.histograms[window], at_ms, findings);
            any |= target.is_some();
            row.push(if target.is_some() { HISTOGRAM } else { ABSENT });
        }
        if !any {
            histogram_row.clear();
        }
    }
}

/// When sample `index` began at zero, seconds; 0 if not known.
fn start_seconds(starts_ms: &[i64], index: usize) -> f64 {
    starts_ms.get(index).map_or(0.0, |start_ms| *start_ms as f64 / 1000.0)
}

impl Leaf {
    /// How far the samples of a step may be from the time it refers to.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Leaf::Value { lookback_ms }
            | Leaf::Timestamp { lookback_ms }
            | Leaf::Start { lookback_ms } => Reach::back(*lookback_ms),
            Leaf::Smoothed { lookback_ms, .. } => {
                Reach { back_ms: *lookback_ms, ahead_ms: *lookback_ms }
            }
            Leaf::Range(call) => call.reach(),
        }
    }

    /// Whether it matters when samples began at zero. `in_use` is the option of the query.
    pub(crate) fn wants_starts(&self, in_use: bool) -> bool {
        match self {
            Leaf::Start { .. } => true,
            Leaf::Range(call) => {
                in_use && call.extension.is_none() && call.function.looks_at_starts()
            }
            Leaf::Value { .. } | Leaf::Timestamp { .. } | Leaf::Smoothed { .. } => false,
        }
    }

    /// Whether stale markers are no samples at all; an instant selector instead has no value
    /// where the last sample is one.
    fn skips_stale(&self) -> bool {
        matches!(self, Leaf::Smoothed { .. } | Leaf::Range(_))
    }

    fn evaluate(
        &self,
        grid: &Grid,
        reference: Reference,
        cancelled: &AtomicBool,
        scratch: &mut Scratch,
    ) -> Result<(), EvalError> {
        if let Leaf::Range(call) = self {
            return call.evaluate(grid, reference, cancelled, scratch);
        }
        let Scratch { columns, windows, row, .. } = scratch;
        let Columns { timestamps_ms, values, starts_ms, .. } = columns;
        row.clear();
        let bounds = windows.starts().iter().zip(windows.ends());
        match self {
            Leaf::Value { .. } => row.extend(bounds.map(|(&start, &end)| {
                // A stale marker is the absent value, so it needs no test.
                if start < end { values[end as usize - 1] } else { ABSENT }
            })),
            Leaf::Timestamp { .. } => row.extend(bounds.map(|(&start, &end)| {
                if start < end && !is_absent(values[end as usize - 1]) {
                    timestamps_ms[end as usize - 1] as f64 / 1000.0
                } else {
                    ABSENT
                }
            })),
            Leaf::Start { .. } => row.extend(bounds.map(|(&start, &end)| {
                if start < end && !is_absent(values[end as usize - 1]) {
                    start_seconds(starts_ms, end as usize - 1)
                } else {
                    ABSENT
                }
            })),
            Leaf::Smoothed { .. } => {
                row.extend(bounds.enumerate().map(|(step, (&start, &end))| {
                    let window = start as usize..end as usize;
                    let at_ms = reference.of(grid.time_ms(step));
                    smooth(&timestamps_ms[window.clone()], &values[window], at_ms)
                }));
            }
            Leaf::Range(_) => {}
        }
        Ok(())
    }
}

impl Remark {
    fn note(&self, labels: &Labels, scratch: &mut Scratch) {
        match self {
            Remark::None => {}
            Remark::Always(annotations) => {
                for annotation in annotations {
                    scratch.notes.add(annotation.clone());
                }
            }
            Remark::NonCounter { span, by_type } => {
                let Some(name) = labels.metric_name() else { return };
                if !has_float(&scratch.row, &scratch.histogram_row) {
                    return;
                }
                if *by_type {
                    let kind = labels.get("__type__").unwrap_or("");
                    let noted = scratch.noted_name.strip_suffix(kind);
                    let is_noted = noted.and_then(|noted| noted.strip_suffix('\0')) == Some(name);
                    if !is_noted && !matches!(kind, "counter" | "histogram") {
                        scratch.notes.add(not_a_counter_by_type(name, kind, *span));
                        scratch.noted_name = format!("{name}\0{kind}");
                    }
                    return;
                }
                let counter = ["_total", "_sum", "_count", "_bucket"];
                if name == scratch.noted_name || counter.iter().any(|end| name.ends_with(end)) {
                    return;
                }
                name.clone_into(&mut scratch.noted_name);
                scratch.notes.add(Annotation::info(
                    format_args!(
                        "metric might not be a counter, \
                         name does not end in _total/_sum/_count/_bucket: {}",
                        super::format::quoted(name)
                    ),
                    *span,
                ));
            }
        }
    }
}

fn not_a_counter_by_type(name: &str, kind: &str, span: Span) -> Annotation {
    let (name, kind) = (super::format::quoted(name), super::format::quoted(kind));
    Annotation::info(
        format_args!(
            "metric might not be a counter, __type__ label is not set to \"counter\" or \
             \"histogram\", got {kind}: {name}"
        ),
        span,
    )
}

/// Whether some step has a value that is no histogram.
fn has_float(row: &[f64], histograms: &[Option<Arc<FloatHistogram>>]) -> bool {
    let is_float =
        |step: usize| !is_absent(row[step]) && histogram_rows::at(row, histograms, step).is_none();
    histograms.is_empty() || (0..row.len()).any(is_float)
}

/// What is told where the last samples of windows stand for all.
pub(crate) fn coarse(span: Span) -> Annotation {
    Annotation::info(
        "some samples are past their retention and kept as rollups only, the last one of each window \
         was used; functions over ranges are exact where ranges and steps are multiples of the \
         rollups' resolution",
        span,
    )
}

/// Removes stale markers.
pub(crate) fn drop_stale(columns: &mut Columns) {
    if !columns.histograms.is_empty() {
        columns.histograms.retain(|_, histogram| !histogram.is_stale());
    }
    if !columns.values.iter().any(|value| is_absent(*value)) {
        return;
    }
    let mut kept = 0;
    if !columns.starts_ms.is_empty() {
        columns.starts_ms.resize(columns.values.len(), 0);
    }
    for index in 0..columns.values.len() {
        if !is_absent(columns.values[index]) {
            columns.values[kept] = columns.values[index];
            columns.timestamps_ms[kept] = columns.timestamps_ms[index];
            if let Some(&start_ms) = columns.starts_ms.get(index) {
                columns.starts_ms[kept] = start_ms;
            }
            kept += 1;
        }
    }
    columns.values.truncate(kept);
    columns.timestamps_ms.truncate(kept);
    columns.starts_ms.truncate(kept);
}
