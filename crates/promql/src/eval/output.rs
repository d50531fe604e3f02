//! From rows to the value a query yields.

use std::sync::Arc;

use model::{Labels, METRIC_NAME};

use super::context::Context;
use super::grid::Grid;
use super::histogram_rows;
use super::rows::{Rows, ScalarRow, is_absent};
use crate::engine::EvalError;
use crate::value::{InstantSample, QueryValue, RangeSeries};

/// Labels that say what a metric is, and are dropped together with its name.
/// Source: `schema.IsMetadataLabel` of Prometheus 3.
pub(super) const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// `labels` without the metric's name, type and unit.
pub(super) fn unnamed(labels: &Labels) -> Labels {
    labels.filter(|name| !METADATA.contains(&name))
}

/// Drops the names of all series that should lose theirs.
fn drop_names(rows: &mut Rows) -> Result<(), EvalError> {
    if !rows.drop_name.contains(&true) {
        return Ok(());
    }
    for (labels, drop) in rows.labels.iter_mut().zip(&rows.drop_name) {
        if *drop {
            *labels = unnamed(labels);
        }
    }
    rows.merge_same_labels()
}

/// The vector of an instant query, in the order of `rows`.
pub(super) fn vector(mut rows: Rows, t_ms: i64) -> Result<QueryValue, EvalError> {
    drop_names(&mut rows)?;
    let histograms = rows.histograms;
    let samples = rows
        .labels
        .into_iter()
        .zip(rows.values)
        .enumerate()
        .filter(|(_, (_, value))| !is_absent(*value))
        .map(|(index, (labels, value))| {
            let histogram = histogram_rows::at(&[value], histograms.row(index), 0).cloned();
            InstantSample { labels, t_ms, value, histogram }
        })
        .collect();
    Ok(QueryValue::Vector(samples))
}

/// The matrix of a range query, sorted by labels.
pub(super) fn matrix(
    context: &Context<'_>,
    mut rows: Rows,
    grid: &Grid,
) -> Result<QueryValue, EvalError> {
    drop_names(&mut rows)?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by(|a, b| rows.labels[*a].cmp(&rows.labels[*b]));
    let pieces = context.pieces(0..order.len(), |piece, _| {
        Ok(order[piece].iter().map(|&index| series(&rows, index, grid)).collect::<Vec<_>>())
    })?;
    Ok(QueryValue::Matrix(pieces.into_iter().flatten().collect()))
}

fn series(rows: &Rows, index: usize, grid: &Grid) -> RangeSeries {
    let row = rows.row(index);
    let labels = rows.labels[index].clone();
    let of_series = rows.histograms.row(index);
    let present = row.iter().filter(|value| !is_absent(**value)).count();
    if present == row.len() && of_series.is_empty() {
        // Most series have a value at every step.
        let timestamps_ms = (0..row.len()).map(|step| grid.time_ms(step)).collect();
        let (values, histograms) = (row.to_vec(), Vec::new());
        return RangeSeries { labels, timestamps_ms, values, histograms };
    }
    let mut timestamps_ms = Vec::with_capacity(present);
    let mut values = Vec::with_capacity(present);
    let mut histograms = Vec::new();
    for (step, &value) in row.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
        let t_ms = grid.time_ms(step);
        if let Some(histogram) = histogram_rows::at(row, of_series, step) {
            histograms.push((t_ms, Arc::clone(histogram)));
        } else {
            timestamps_ms.push(t_ms);
            values.push(value);
        }
    }
    RangeSeries { labels, timestamps_ms, values, histograms }
}

/// A scalar over a range: one series without labels.
pub(super) fn scalar_matrix(scalar: &ScalarRow, grid: &Grid) -> QueryValue {
    QueryValue::Matrix(vec![RangeSeries {
        labels: Labels::empty(),
        timestamps_ms: (0..grid.steps()).map(|step| grid.time_ms(step)).collect(),
        values: (0..grid.steps()).map(|step| scalar.at(step)).collect(),
        histograms: Vec::new(),
    }])
}
