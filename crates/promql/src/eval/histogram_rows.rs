//! Native histograms of vectors over time, beside the rows of floats.

use std::sync::Arc;

use model::FloatHistogram;

use super::rows::HISTOGRAM;

/// A histogram or none at each step.
pub(crate) type HistogramRow = Vec<Option<Arc<FloatHistogram>>>;

/// What a histogram counts in a query's budget of samples, 16 bytes each.
pub(crate) fn weight_of(histogram: &FloatHistogram) -> usize {
    4 + histogram.bucket_count() / 2
}

/// What the histograms of a row count; one that stands at several steps in a row is held once.
pub(crate) fn weight(row: &[Option<Arc<FloatHistogram>>]) -> usize {
    let mut before: Option<&Arc<FloatHistogram>> = None;
    let mut weight = 0;
    for histogram in row.iter().flatten() {
        if before.is_none_or(|before| !Arc::ptr_eq(before, histogram)) {
            weight += weight_of(histogram);
        }
        before = Some(histogram);
    }
    weight
}

/// Histograms of several series. Empty if none of them has any, which is nearly always so.
#[derive(Debug, Default)]
pub(crate) struct HistogramRows {
    /// By series; a series without histograms has an empty row. May end before the last series.
    rows: Vec<HistogramRow>,
}

impl HistogramRows {
    /// Whether no series has histograms.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The histograms of series `index`; empty if it has none.
    pub(crate) fn row(&self, index: usize) -> &[Option<Arc<FloatHistogram>>] {
        self.rows.get(index).map_or(&[], Vec::as_slice)
    }

    /// Gives series `index` histograms.
    pub(crate) fn set(&mut self, index: usize, row: HistogramRow) {
        if row.is_empty() {
            return;
        }
        if self.rows.len() <= index {
            self.rows.resize_with(index + 1, Vec::new);
        }
        self.rows[index] = row;
    }

    /// Forgets the histograms of series `index` at steps where `values` has no mark of one.
    pub(crate) fn settle(&mut self, index: usize, values: &[f64]) {
        let Some(row) = self.rows.get_mut(index) else { return };
        let mut any = false;
        for (histogram, value) in row.iter_mut().zip(values) {
            if value.to_bits() == HISTOGRAM.to_bits() {
                any |= histogram.is_some();
            } else {
                *histogram = None;
            }
        }
        if !any {
            row.clear();
        }
    }

    /// Adds those of `other`, whose series come behind the first `series`.
    pub(crate) fn append(&mut self, series: usize, other: HistogramRows) {
        for (index, row) in other.rows.into_iter().enumerate() {
            self.set(series + index, row);
        }
    }

    /// What all of them count in the budget.
    pub(crate) fn weight(&self) -> usize {
        self.rows.iter().map(|row| weight(row)).sum()
    }

    /// Moves the row of series `from` to `to`.
    pub(crate) fn move_row(&mut self, from: usize, to: usize) {
        if from < self.rows.len() {
            self.rows.swap(from, to);
            self.rows[from].clear();
        } else if to < self.rows.len() {
            self.rows[to].clear();
        }
    }

    /// Adds the histograms of series `from` to those of `to`, which has none at the same steps.
    pub(crate) fn merge(&mut self, to: usize, from: usize) {
        let Some(row) = self.rows.get_mut(from).map(std::mem::take) else { return };
        if self.row(to).is_empty() {
            self.set(to, row);
            return;
        }
        for (target, histogram) in self.rows[to].iter_mut().zip(row) {
            *target = target.take().or(histogram);
        }
    }

    /// Keeps the first `series`.
    pub(crate) fn truncate(&mut self, series: usize) {
        self.rows.truncate(series);
    }

    /// Puts the series into the order of `order`, a permutation of their indices.
    pub(crate) fn reorder(&mut self, order: &[usize]) {
        if !self.is_empty() {
            self.rows.resize_with(order.len(), Vec::new);
            self.rows = order.iter().map(|&i| std::mem::take(&mut self.rows[i])).collect();
        }
    }

    /// Repeats the only step `steps` times.
    pub(crate) fn broadcast(&mut self, steps: usize) {
        for row in &mut self.rows {
            if let [only] = row.as_slice() {
                *row = vec![only.clone(); steps];
            }
        }
    }
}

/// The histogram at `step` of a row of floats and the histograms beside it, if there is one.
pub(crate) fn at<'r>(
    values: &[f64],
    histograms: &'r [Option<Arc<FloatHistogram>>],
    step: usize,
) -> Option<&'r Arc<FloatHistogram>> {
    // A float may have the very bits of the mark, so the histogram decides.
    let histogram = histograms.get(step)?.as_ref();
    histogram.filter(|_| values[step].to_bits() == HISTOGRAM.to_bits())
}
