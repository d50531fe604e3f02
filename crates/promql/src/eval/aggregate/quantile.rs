//! `quantile` over the elements of each group.

use super::super::context::Context;
use super::super::grouping::{Keys, LabelChoice};
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
    let blocks = steps.div_ceil(BLOCK);
    let parts = context.tasks(members.len() * blocks, |task, scratch| {
        let members = &members[task / blocks];
        let start = task % blocks * BLOCK;
        let span = start..(start + BLOCK).min(steps);
        let mut columns = vec![Vec::with_capacity(members.len()); span.len()];
        for &member in members {
            let row = &input.row(member as usize)[span.clone()];
            for (column, &value) in columns.iter_mut().zip(row) {
                if !is_absent(value) {
                    column.push(value);
                }
            }
        }
        scratch.row.clear();
        for (step, column) in span.zip(&mut columns) {
            scratch.row.push(if column.is_empty() {
                ABSENT
            } else {
                rollup::quantile(phi.at(step), column)
            });
        }
        Ok(std::mem::take(&mut scratch.row))
    })?;
    let first = |members: &[u32]| members[0] as usize;
    Ok(Rows {
        steps,
        labels: members.iter().map(|m| choice.labels(&input.labels[first(m)])).collect(),
        drop_name: members
            .iter()
            .map(|m| m.iter().any(|index| input.drop_name[*index as usize]))
            .collect(),
        values: parts.concat(),
        reservation,
    })
}
