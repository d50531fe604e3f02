//! Vectors before they are computed: series whose rows are made on demand.
//!
//! A selector, a function over its ranges and everything applied value by value on top stays a
//! [`Stream`]. Whoever needs the rows pulls them one series at a time into a reused buffer; an
//! aggregation therefore never holds the matrix it aggregates.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use model::Labels;

use super::context::{Context, PIECE};
use super::grid::{Grid, Reference};
use super::rollup::{RangeCall, smooth};
use super::row_map::RowMap;
use super::rows::{ABSENT, Rows, has_any, is_absent};
use super::scratch::Scratch;
use super::windows::Reach;
use crate::ast::Span;
use crate::engine::EvalError;
use crate::source::{Columns, SeriesSet};
use crate::value::Annotation;

/// Series with rows yet to be computed.
pub(crate) struct Stream {
    origin: Origin,
    maps: Vec<RowMap>,
    /// Whether what was applied changes the meaning of the values, so that no series keeps its
    /// metric name in the end.
    drops_names: bool,
}

enum Origin {
    Rows(Rows),
    Selected(Selected),
}

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
}

/// How samples become a row.
pub(crate) enum Leaf {
    /// The last sample within the lookback.
    Value { lookback_ms: i64 },
    /// The time of that sample, seconds.
    Timestamp { lookback_ms: i64 },
    /// The value at the very time, interpolated between the samples around it.
    Smoothed { lookback_ms: i64 },
    /// A function over ranges.
    Range(RangeCall),
}

/// What is worth telling the user once a selected series yields a value.
pub(crate) enum Remark {
    None,
    /// A metric name that is not a counter's.
    NonCounter(Span),
    /// Texts that hold for any series.
    Always(Vec<Annotation>),
}

impl Stream {
    pub(crate) fn from_rows(rows: Rows) -> Self {
        Stream { origin: Origin::Rows(rows), maps: Vec::new(), drops_names: false }
    }

    /// `drops_names` tells whether the leaf changes the meaning of the values.
    pub(crate) fn from_selected(selected: Selected, drops_names: bool) -> Self {
        Stream { origin: Origin::Selected(selected), maps: Vec::new(), drops_names }
    }

    /// Number of series, those without any value included.
    pub(crate) fn len(&self) -> usize {
        match &self.origin {
            Origin::Rows(rows) => rows.len(),
            Origin::Selected(selected) => selected.set.len(),
        }
    }

    pub(crate) fn steps(&self) -> usize {
        match &self.origin {
            Origin::Rows(rows) => rows.steps,
            Origin::Selected(selected) => selected.grid.steps(),
        }
    }

    pub(crate) fn labels(&self, index: usize) -> &Labels {
        match &self.origin {
            Origin::Rows(rows) => &rows.labels[index],
            Origin::Selected(selected) => selected.set.labels(index),
        }
    }

    /// Whether series `index` loses its metric name in the end.
    pub(crate) fn drops_name(&self, index: usize) -> bool {
        self.drops_names
            || match &self.origin {
                Origin::Rows(rows) => rows.drop_name[index],
                Origin::Selected(selected) => {
                    selected.drop_name.as_ref().is_some_and(|names| names[index])
                }
            }
    }

    /// Applies `map` to every row.
    pub(crate) fn map(mut self, map: RowMap) -> Self {
        self.drops_names |= map.drops_names();
        self.maps.push(map);
        self
    }

    /// The row of series `index`, valid until the next call with the same scratch. `None` if it
    /// has no value at any step. A scratch serves one stream.
    pub(crate) fn row<'s>(
        &'s self,
        context: &Context<'_>,
        index: usize,
        scratch: &'s mut Scratch,
    ) -> Result<Option<&'s [f64]>, EvalError> {
        match &self.origin {
            Origin::Rows(rows) if self.maps.is_empty() => return Ok(Some(rows.row(index))),
            Origin::Rows(rows) => {
                scratch.row.clear();
                scratch.row.extend_from_slice(rows.row(index));
            }
            Origin::Selected(selected) => {
                context.check_cancelled()?;
                if !selected.fill(context, index, scratch)? {
                    return Ok(None);
                }
            }
        }
        for map in &self.maps {
            map.apply(&mut scratch.row);
        }
        Ok(has_any(&scratch.row).then_some(&scratch.row[..]))
    }

    /// Computes all rows; series without any value are left out.
    pub(crate) fn materialise(self, context: &Context<'_>) -> Result<Rows, EvalError> {
        if let (Origin::Rows(_), true) = (&self.origin, self.maps.is_empty()) {
            let Origin::Rows(mut rows) = self.origin else { return Rows::empty(context, 0) };
            if self.drops_names {
                rows.drop_name.fill(true);
            }
            return Ok(rows);
        }
        let (len, steps) = (self.len(), self.steps());
        let reservation = context.reserve_rows(len, steps)?;
        let mut values = vec![ABSENT; len * steps];
        // Each piece locks its own part once, so no thread ever waits.
        let parts: Vec<Mutex<&mut [f64]>> =
            values.chunks_mut((PIECE * steps).max(1)).map(Mutex::new).collect();
        let present = context.pieces(0..len, |piece, scratch| {
            let mut present = Vec::with_capacity(piece.len());
            let Some(part) = parts.get(piece.start / PIECE) else { return Ok(present) };
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for (index, target) in piece.zip(part.chunks_exact_mut(steps)) {
                let row = self.row(context, index, scratch)?;
                if let Some(row) = row {
                    target.copy_from_slice(row);
                }
                present.push(row.is_some());
            }
            Ok(present)
        })?;
        drop(parts);
        let mut rows = Rows {
            steps,
            labels: (0..len).map(|index| self.labels(index).clone()).collect(),
            drop_name: (0..len).map(|index| self.drops_name(index)).collect(),
            values,
            reservation,
        };
        if present.iter().flatten().any(|present| !present) {
            rows.remove_empty();
        }
        Ok(rows)
    }
}

impl Selected {
    /// What the windows of the leaf reach.
    pub(crate) fn reach(&self) -> Reach {
        self.leaf.reach()
    }

    /// Computes the row of series `index` into `scratch.row`; `false` if it is empty throughout.
    fn fill(
        &self,
        context: &Context<'_>,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<bool, EvalError> {
        scratch.columns.clear();
        self.set.read(index, &mut scratch.columns)?;
        let samples = scratch.columns.values.len();
        scratch.samples_read += samples as u64;
        if samples == 0 {
            return Ok(false);
        }
        context.check_columns(samples)?;
        scratch.peak_columns = scratch.peak_columns.max(samples);
        if self.leaf.skips_stale() {
            drop_stale(&mut scratch.columns);
        }
        scratch.windows.update(
            &scratch.columns.timestamps_ms,
            &self.grid,
            self.reference,
            self.reach(),
        );
        self.leaf.evaluate(&self.grid, self.reference, context.options.cancelled, scratch)?;
        if !has_any(&scratch.row) {
            return Ok(false);
        }
        self.remark.note(self.set.labels(index), scratch);
        Ok(true)
    }
}

impl Leaf {
    /// How far the samples of a step may be from the time it refers to.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Leaf::Value { lookback_ms } | Leaf::Timestamp { lookback_ms } => {
                Reach::back(*lookback_ms)
            }
            Leaf::Smoothed { lookback_ms } => {
                Reach { back_ms: *lookback_ms, ahead_ms: *lookback_ms }
            }
            Leaf::Range(call) => call.reach(),
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
        let Columns { timestamps_ms, values } = columns;
        row.clear();
        let bounds = windows.starts.iter().zip(&windows.ends);
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
            Remark::NonCounter(span) => {
                let Some(name) = labels.metric_name() else { return };
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

/// Removes stale markers.
pub(crate) fn drop_stale(columns: &mut Columns) {
    if !columns.values.iter().any(|value| is_absent(*value)) {
        return;
    }
    let mut kept = 0;
    for index in 0..columns.values.len() {
        if !is_absent(columns.values[index]) {
            columns.values[kept] = columns.values[index];
            columns.timestamps_ms[kept] = columns.timestamps_ms[index];
            kept += 1;
        }
    }
    columns.values.truncate(kept);
    columns.timestamps_ms.truncate(kept);
}
