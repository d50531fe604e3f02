//! Vectors before they are computed: series whose rows are made on demand.
//!
//! A selector, a function over its ranges and everything applied value by value on top stays a
//! [`Stream`]. Whoever needs the rows pulls them one series at a time into a reused buffer; an
//! aggregation therefore never holds the matrix it aggregates.

use std::sync::{Arc, Mutex, PoisonError};

use model::{FloatHistogram, Labels};

use super::context::{Context, PIECE, Reservation};
use super::histogram_rows::{self, HistogramRow, HistogramRows};
use super::row_map::RowMap;
use super::rows::{ABSENT, Rows, has_any};
use super::scratch::Scratch;
use super::selected::Selected;
use crate::engine::EvalError;

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
        for map in &self.maps {
            map.apply(&mut scratch.row, &mut scratch.histogram_row, &mut scratch.notes);
        }
        let (values, histograms) = (scratch.row.as_slice(), scratch.histogram_row.as_slice());
        Ok(has_any(values).then_some(Row { values, histograms }))
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
                let row = self.row(context, index, scratch)?;
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

impl<'s> Row<'s> {
    /// The values without the marks of histograms, and whether there are such. `buffer` is used
    /// only if there are.
    pub(crate) fn floats<'b>(self, buffer: &'b mut Vec<f64>) -> (&'b [f64], bool)
    where
        's: 'b,
    {
        if self.histograms.is_empty() {
            return (self.values, false);
        }
        let mut any = false;
        buffer.clear();
        buffer.extend(self.values.iter().enumerate().map(|(step, &value)| {
            let is_histogram = histogram_rows::at(self.values, self.histograms, step).is_some();
            any |= is_histogram;
            if is_histogram { ABSENT } else { value }
        }));
        (buffer, any)
    }
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
