//! `quantile` over the elements of each group.

use std::ops::Range;

use super::super::context::Context;
use super::super::grouping::{Keys, LabelChoice};
use super::super::histogram_rows::HistogramRows;
use super::super::rollup;
use super::super::rows::{ABSENT, Rows, ScalarRow, is_absent};
use crate::engine::EvalError;

/// Steps gathered at a time: a row's neighbours share cache lines, so reading several steps of
/// a series together costs little more than reading one.
const BLOCK: usize = 32;

/// The φ-quantile of each group at each step.
pub(super) fn evaluate(
    context: &Context<'_>,
    input: &Rows,
    choice: &LabelChoice,
    phi: &ScalarRow,
) -> Result<Rows, EvalError> {
    let steps = input.steps;
    let mut members: Vec<Vec<u32>> = Vec::new();
    let mut keys = Keys::default();
    for (index, labels) in input.labels.iter().enumerate() {
        let number = if choice.is_nothing() { 0 } else { keys.number(choice, labels).0 };
        if number == members.len() {
            members.push(Vec::new());
        }
        members[number].push(index as u32);
    }
    let reservation = context.reserve_rows(members.len(), steps)?;
    let chunks = chunks_of(&members);
    let blocks = steps.div_ceil(BLOCK);
    let parts = context.tasks(chunks.len() * blocks, |task, _| {
        let start = task % blocks * BLOCK;
        let span = start..(start + BLOCK).min(steps);
        let mut columns = vec![Vec::new(); span.len()];
        let mut part = Vec::new();
        for members in &members[chunks[task / blocks].clone()] {
            gather(input, members, span.clone(), &mut columns);
            part.extend(span.clone().zip(&mut columns).map(|(step, column)| {
                if column.is_empty() { ABSENT } else { rollup::quantile(phi.at(step), column) }
            }));
        }
        Ok(part)
    })?;
    let mut values = vec![ABSENT; members.len() * steps];
    for (task, part) in parts.iter().enumerate() {
        let start = task % blocks * BLOCK;
        let span = start..(start + BLOCK).min(steps);
        let groups = chunks[task / blocks].clone();
        for (group, part) in groups.zip(part.chunks_exact(span.len())) {
            values[group * steps..][span.clone()].copy_from_slice(part);
        }
    }
    let first = |members: &[u32]| members[0] as usize;
    Ok(Rows {
        steps,
        labels: members.iter().map(|m| choice.labels(&input.labels[first(m)])).collect(),
        drop_name: members
            .iter()
            .map(|m| m.iter().any(|index| input.drop_name[*index as usize]))
            .collect(),
        values,
        histograms: HistogramRows::default(),
        reservation,
    })
}

/// Cuts the groups into runs with enough series each to be worth a task.
fn chunks_of(members: &[Vec<u32>]) -> Vec<Range<usize>> {
    const SERIES: usize = 512;
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let (mut start, mut series) = (0, 0);
    for (index, members) in members.iter().enumerate() {
        series += members.len();
        if series >= SERIES {
            chunks.push(start..index + 1);
            (start, series) = (index + 1, 0);
        }
    }
    if start < members.len() {
        chunks.push(start..members.len());
    }
    chunks
}

/// Fills `columns`, one per step of `span`, with the values `members` have there.
fn gather(input: &Rows, members: &[u32], span: Range<usize>, columns: &mut [Vec<f64>]) {
    columns.iter_mut().for_each(Vec::clear);
    for &member in members {
        let row = &input.row(member as usize)[span.clone()];
        for (column, &value) in columns.iter_mut().zip(row) {
            if !is_absent(value) {
                column.push(value);
            }
        }
    }
}
