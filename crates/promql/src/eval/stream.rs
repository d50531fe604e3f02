//! Vectors before they are computed: series whose rows are made on demand.
//!
//! A selector, a function over its ranges and everything applied value by value on top stays a
//! [`Stream`]. Whoever needs the rows pulls them one series at a time into a reused buffer; an
//! aggregation therefore never holds the matrix it aggregates.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use model::{FloatHistogram, Labels};

use super::context::{Context, PIECE, Reservation};
use super::grid::{Grid, Reference};
use super::histogram_rows::{self, HistogramRow, HistogramRows};
use super::rollup::{RangeCall, smooth};
use super::row_map::RowMap;
use super::rows::{ABSENT, HISTOGRAM, Rows, has_any, is_absent};
use super::scratch::Scratch;
use super::windows::{Reach, Windows};
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
    ///
    /// # Errors
    /// Also where the series has native histograms: for whoever can compute with floats only.
    pub(crate) fn row<'s>(
        &'s self,
        context: &Context<'_>,
        index: usize,
        scratch: &'s mut Scratch,
    ) -> Result<Option<&'s [f64]>, EvalError> {
        match self.row_all(context, index, scratch)? {
            Some(row) if !row.histograms.is_empty() => Err(not_for_histograms(self.labels(index))),
            row => Ok(row.map(|row| row.values)),
        }
    }

    /// As [`Stream::row`], histograms included.
    pub(crate) fn row_all<'s>(
        &'s self,
        context: &Context<'_>,
        index: usize,
        scratch: &'s mut Scratch,
    ) -> Result<Option<Row<'s>>, EvalError> {
        scratch.histogram_row.clear();
        match &self.origin {
            Origin::Rows(rows) if self.maps.is_empty() => {
                return Ok(Some(Row {
                    values: rows.row(index),
                    histograms: rows.histograms.row(index),
                }));
            }
            Origin::Rows(rows) => {
                scratch.row.clear();
                scratch.row.extend_from_slice(rows.row(index));
                scratch.histogram_row.extend_from_slice(rows.histograms.row(index));
            }
            Origin::Selected(selected) => {
                context.check_cancelled()?;
                if !selected.fill(context, index, scratch)? {
                    return Ok(None);
                }
            }
        }
        if !self.maps.is_empty() && !scratch.histogram_row.is_empty() {
            return Err(not_for_histograms(self.labels(index)));
        }
        for map in &self.maps {
            map.apply(&mut scratch.row);
        }
        let (values, histograms) = (scratch.row.as_slice(), scratch.histogram_row.as_slice());
        Ok(has_any(values).then_some(Row { values, histograms }))
    }

    /// Computes all rows; series without any value are left out.
    ///
    /// # Errors
    /// Also where a series has native histograms: for whoever can compute with floats only.
    pub(crate) fn materialise(self, context: &Context<'_>) -> Result<Rows, EvalError> {
        let rows = self.materialise_all(context)?;
        match (0..rows.len()).find(|&index| !rows.histograms.row(index).is_empty()) {
            Some(index) => Err(not_for_histograms(&rows.labels[index])),
            None => Ok(rows),
        }
    }

    /// As [`Stream::materialise`], histograms included.
    pub(crate) fn materialise_all(self, context: &Context<'_>) -> Result<Rows, EvalError> {
        if let (Origin::Rows(_), true) = (&self.origin, self.maps.is_empty()) {
            let Origin::Rows(mut rows) = self.origin else { return Rows::empty(context, 0) };
            if self.drops_names {
                rows.drop_name.fill(true);
            }
            return Ok(rows);
        }
        let (len, steps) = (self.len(), self.steps());
        let mut reservation = context.reserve_rows(len, steps)?;
        let mut values = vec![ABSENT; len * steps];
        // Each piece locks its own part once, so no thread ever waits.
        let parts: Vec<Mutex<&mut [f64]>> =
            values.chunks_mut((PIECE * steps).max(1)).map(Mutex::new).collect();
        let pieces = context.pieces(0..len, |piece, scratch| {
            let mut filled = Filled::default();
            let Some(part) = parts.get(piece.start / PIECE) else { return Ok(filled) };
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for (index, target) in piece.zip(part.chunks_exact_mut(steps)) {
                let row = self.row_all(context, index, scratch)?;
                filled.has_empty |= row.is_none();
                let Some(row) = row else { continue };
                target.copy_from_slice(row.values);
                if !row.histograms.is_empty() {
                    filled.take(context, index, row.histograms)?;
                }
            }
            Ok(filled)
        })?;
        drop(parts);
        let has_empty = pieces.iter().any(|piece| piece.has_empty);
        let mut histograms = HistogramRows::default();
        for (index, row) in pieces.into_iter().flat_map(|piece| piece.histograms) {
            histograms.set(index, row);
        }
        reservation.resize(len * steps + histograms.weight())?;
        let mut rows = Rows {
            steps,
            labels: (0..len).map(|index| self.labels(index).clone()).collect(),
            drop_name: (0..len).map(|index| self.drops_name(index)).collect(),
            values,
            histograms,
            reservation,
        };
        if has_empty {
            rows.remove_empty();
        }
        Ok(rows)
    }
}

/// The steps of one series.
#[derive(Clone, Copy)]
pub(crate) struct Row<'s> {
    pub(crate) values: &'s [f64],
    /// Where values are the mark of one, the histograms; empty if there are none.
    pub(crate) histograms: &'s [Option<Arc<FloatHistogram>>],
}

/// What filling a piece of rows yields beside their values.
#[derive(Default)]
struct Filled {
    has_empty: bool,
    histograms: Vec<(usize, HistogramRow)>,
    /// Room for the histograms, until all of them are counted together.
    reservation: Option<Reservation>,
}

impl Filled {
    fn take(
        &mut self,
        context: &Context<'_>,
        index: usize,
        row: &[Option<Arc<FloatHistogram>>],
    ) -> Result<(), EvalError> {
        let reservation = match &mut self.reservation {
            Some(reservation) => reservation,
            none => none.insert(context.reserve(0)?),
        };
        reservation.grow(histogram_rows::weight(row))?;
        self.histograms.push((index, row.to_vec()));
        Ok(())
    }
}

/// Why a query fails that would have to compute with histograms what it can only with floats.
pub(crate) fn not_for_histograms(labels: &Labels) -> EvalError {
    EvalError::Execution(format!(
        "{labels} has native histograms, from which this query cannot be computed yet: select them \
         as they are, or through histogram_count, histogram_sum, histogram_avg, \
         histogram_quantile or histogram_fraction, or leave the series out"
    ))
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
        let samples = scratch.columns.samples();
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
        if !scratch.columns.histograms.is_empty() {
            self.add_histograms(index, scratch)?;
        }
        if !has_any(&scratch.row) {
            return Ok(false);
        }
        self.remark.note(self.set.labels(index), scratch);
        Ok(true)
    }

    /// Puts histograms into the row of series `index` where they are later than the floats.
    #[cold]
    fn add_histograms(&self, index: usize, scratch: &mut Scratch) -> Result<(), EvalError> {
        let shows_time = match self.leaf {
            Leaf::Value { .. } => false,
            Leaf::Timestamp { .. } => true,
            Leaf::Smoothed { .. } | Leaf::Range(_) => {
                return Err(not_for_histograms(self.set.labels(index)));
            }
        };
        let Scratch { columns, windows, histogram_windows, row, histogram_row, .. } = scratch;
        let Columns { timestamps_ms, histograms, .. } = columns;
        histogram_windows.update(
            &histograms.timestamps_ms,
            &self.grid,
            self.reference,
            self.reach(),
        );
        let last = |windows: &Windows, step: usize| {
            let (start, end) = (windows.starts[step] as usize, windows.ends[step] as usize);
            (start < end).then(|| end - 1)
        };
        let mut found = vec![None; row.len()];
        let mut has_any = false;
        for (step, value) in row.iter_mut().enumerate() {
            let Some(at) = last(histogram_windows, step) else { continue };
            let t_ms = histograms.timestamps_ms[at];
            if last(windows, step).is_some_and(|float| timestamps_ms[float] > t_ms) {
                continue;
            }
            let histogram = &histograms.histograms[at];
            if histogram.is_stale() {
                *value = ABSENT;
            } else if shows_time {
                *value = t_ms as f64 / 1000.0;
            } else {
                *value = HISTOGRAM;
                found[step] = Some(Arc::clone(histogram));
                has_any = true;
            }
        }
        if has_any {
            *histogram_row = found;
        }
        Ok(())
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
        let Columns { timestamps_ms, values, .. } = columns;
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
    if !columns.histograms.is_empty() {
        columns.histograms.retain(|_, histogram| !histogram.is_stale());
    }
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
