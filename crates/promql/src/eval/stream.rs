//! Vectors before they are computed: series whose rows are made on demand.
//!
//! A selector, a function over its ranges and everything applied value by value on top stays a
//! [`Stream`]. Whoever needs the rows pulls them one series at a time into a reused buffer; an
//! aggregation therefore never holds the matrix it aggregates.

use std::sync::{Arc, Mutex, PoisonError};

use model::{FloatHistogram, Labels};

use super::context::{Context, PIECE, Reservation};
use super::histogram_rows::{self, HistogramRow, HistogramRows};
use super::profiler::NodeId;
use super::row_map::RowMap;
use super::rows::{ABSENT, Rows, has_any};
use super::scratch::Scratch;
use super::selected::Selected;
use crate::engine::EvalError;
use crate::profile::Strategy;

/// A range over which [`PIECE`] rows are a piece of work …
const SHORT_MS: i64 = 6 * 3_600_000;
/// … and how many are one at least.
const MIN_PIECE: usize = 4;

/// Series with rows yet to be computed.
pub(crate) struct Stream {
    origin: Origin,
    /// What is applied to each row, and for which node.
    maps: Vec<(RowMap, NodeId)>,
    /// Whether what was applied changes the meaning of the values, so that no series keeps its
    /// metric name in the end.
    drops_names: bool,
}

/// Boxed, because evaluation goes as deep as the parser lets it, and holds streams on its way.
enum Origin {
    Rows(Box<Rows>),
    Selected(Box<Selected>),
}

impl Stream {
    pub(crate) fn from_rows(rows: Rows) -> Self {
        Stream { origin: Origin::Rows(Box::new(rows)), maps: Vec::new(), drops_names: false }
    }

    /// `drops_names` tells whether the leaf changes the meaning of the values.
    pub(crate) fn from_selected(selected: Selected, drops_names: bool) -> Self {
        Stream { origin: Origin::Selected(Box::new(selected)), maps: Vec::new(), drops_names }
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
        self.maps.push((map, NodeId::NONE));
        self
    }

    /// What was applied last is for `node`: it is that node's stream now.
    pub(crate) fn claim(&mut self, context: &Context<'_>, node: NodeId) {
        let Some(profiler) = &context.profiler else { return };
        let mut unclaimed = false;
        for (_, of_map) in self.maps.iter_mut().filter(|(_, of_map)| *of_map == NodeId::NONE) {
            *of_map = node;
            unclaimed = true;
        }
        match &mut self.origin {
            Origin::Selected(selected) if selected.nodes.rows == NodeId::NONE => {
                selected.nodes.rows = node;
                unclaimed = true;
            }
            Origin::Rows(rows) if self.maps.is_empty() => profiler.set_out(node, rows.len()),
            _ => {}
        }
        if unclaimed {
            profiler.counts_out(node);
        }
    }

    /// All rows were computed: notes how, and what it took from the store.
    pub(crate) fn note_end(&self, context: &Context<'_>, strategy: Strategy) {
        let Some(profiler) = &context.profiler else { return };
        self.maps.iter().for_each(|(_, node)| profiler.note_strategy(*node, strategy));
        if let Origin::Selected(selected) = &self.origin {
            profiler.note_strategy(selected.nodes.rows, strategy);
            if selected.drop_name.is_none() {
                profiler.note_strategy(selected.nodes.samples, strategy);
                profiler.counts_out(selected.nodes.samples);
                profiler.note_reads(selected.nodes.samples, &*selected.set);
            }
        }
    }

    /// Whether rows are made on demand.
    pub(crate) fn is_lazy(&self) -> bool {
        matches!(self.origin, Origin::Selected(_))
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
                let is_filled = selected.fill(context, index, scratch)?;
                if !is_filled {
                    scratch.switch_back();
                    return Ok(None);
                }
            }
        }
        for (map, node) in &self.maps {
            scratch.switch(*node);
            map.apply(&mut scratch.row, &mut scratch.histogram_row, &mut scratch.notes);
            if scratch.profile.is_some() && has_any(&scratch.row) {
                scratch.count_out(*node);
            }
        }
        scratch.switch_back();
        let (values, histograms) = (scratch.row.as_slice(), scratch.histogram_row.as_slice());
        Ok(has_any(values).then_some(Row { values, histograms }))
    }

    /// How many rows are worth a piece of work, where these do not depend on one another: few if a row
    /// takes a month of samples, or a query of few series would keep one thread busy and no other.
    fn piece(&self) -> usize {
        let Origin::Selected(selected) = &self.origin else { return PIECE };
        let short_ones = selected.grid.span_ms().max(1) / SHORT_MS;
        (PIECE / usize::try_from(short_ones).unwrap_or(PIECE).max(1)).max(MIN_PIECE)
    }

    /// Computes all rows; series without any value are left out.
    pub(crate) fn materialise(self, context: &Context<'_>) -> Result<Rows, EvalError> {
        if let (Origin::Rows(_), true) = (&self.origin, self.maps.is_empty()) {
            let Origin::Rows(mut rows) = self.origin else { return Rows::empty(context, 0) };
            if self.drops_names {
                rows.drop_name.fill(true);
            }
            return Ok(*rows);
        }
        let (len, steps, piece) = (self.len(), self.steps(), self.piece());
        let mut reservation = context.reserve_rows(len, steps)?;
        let mut values = vec![ABSENT; len * steps];
        // Each piece locks its own part once, so no thread ever waits.
        let parts: Vec<Mutex<&mut [f64]>> =
            values.chunks_mut((piece * steps).max(1)).map(Mutex::new).collect();
        let pieces = context.tasks(len.div_ceil(piece), |number, scratch| {
            let mut filled = Filled::default();
            let Some(part) = parts.get(number) else { return Ok(filled) };
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for (index, target) in (number * piece..len).zip(part.chunks_exact_mut(steps)) {
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
        self.note_end(context, Strategy::Rows);
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
