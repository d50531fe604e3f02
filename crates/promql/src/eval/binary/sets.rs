//! `and`, `or`, `unless`.

use std::sync::{Mutex, PoisonError};

use model::Labels;

use super::super::arithmetic::SetOp;
use super::super::context::{Context, PIECE};
use super::super::grouping::Keys;
use super::super::rows::{ABSENT, Rows, is_absent};
use super::matching::choice_of;
use crate::ast::VectorMatching;
use crate::engine::EvalError;

/// Evaluates a set operator at all steps.
pub(super) fn evaluate(
    context: &Context<'_>,
    op: SetOp,
    matching: &VectorMatching,
    mut left: Rows,
    mut right: Rows,
) -> Result<Rows, EvalError> {
    let choice = choice_of(matching);
    let mut keys = Keys::default();
    let mut number = |labels: &Labels| keys.number(&choice, labels).0;
    let left_keys: Vec<usize> = left.labels.iter().map(&mut number).collect();
    let right_keys: Vec<usize> = right.labels.iter().map(&mut number).collect();
    let groups = keys.len();
    match op {
        SetOp::And => {
            let present = Presence::of(context, &right, &right_keys, groups)?;
            present.mask(context, &mut left, &left_keys, true)?;
            left.remove_empty();
            Ok(left)
        }
        SetOp::Unless => {
            let present = Presence::of(context, &right, &right_keys, groups)?;
            present.mask(context, &mut left, &left_keys, false)?;
            left.remove_empty();
            Ok(left)
        }
        SetOp::Or => {
            let present = Presence::of(context, &left, &left_keys, groups)?;
            present.mask(context, &mut right, &right_keys, false)?;
            right.remove_empty();
            let histograms = left.histograms.weight() + right.histograms.weight();
            let total = (left.len() + right.len()).saturating_mul(left.steps);
            left.reservation.resize(total.saturating_add(histograms))?;
            left.histograms.append(left.labels.len(), std::mem::take(&mut right.histograms));
            left.labels.append(&mut right.labels);
            left.drop_name.append(&mut right.drop_name);
            left.values.append(&mut right.values);
            // A series may come from the left at some steps and from the right at others.
            left.merge_same_labels()?;
            Ok(left)
        }
    }
}

/// At which steps each group has an element, one bit per step.
struct Presence {
    words: usize,
    bits: Vec<u64>,
}

impl Presence {
    fn of(
        context: &Context<'_>,
        rows: &Rows,
        keys: &[usize],
        groups: usize,
    ) -> Result<Self, EvalError> {
        let words = rows.steps.div_ceil(64);
        let mut bits = vec![0; groups * words];
        for (index, group) in keys.iter().enumerate() {
            if index % PIECE == 0 {
                context.check_cancelled()?;
            }
            let bits = &mut bits[group * words..(group + 1) * words];
            for (word, values) in bits.iter_mut().zip(rows.row(index).chunks(64)) {
                for (bit, value) in values.iter().enumerate() {
                    *word |= u64::from(!is_absent(*value)) << bit;
                }
            }
        }
        Ok(Presence { words, bits })
    }

    /// Removes the values at steps where the group's presence is not `wanted`.
    fn mask(
        &self,
        context: &Context<'_>,
        rows: &mut Rows,
        keys: &[usize],
        wanted: bool,
    ) -> Result<(), EvalError> {
        let steps = rows.steps;
        let len = rows.len();
        let parts: Vec<Mutex<&mut [f64]>> =
            rows.values.chunks_mut((PIECE * steps).max(1)).map(Mutex::new).collect();
        context.pieces(0..len, |piece, _| {
            let Some(part) = parts.get(piece.start / PIECE) else { return Ok(()) };
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, &group) in part.chunks_exact_mut(steps).zip(&keys[piece]) {
                let bits = &self.bits[group * self.words..(group + 1) * self.words];
                for (word, values) in bits.iter().zip(row.chunks_mut(64)) {
                    for (bit, value) in values.iter_mut().enumerate() {
                        if (word >> bit & 1 == 1) != wanted {
                            *value = ABSENT;
                        }
                    }
                }
            }
            Ok(())
        })?;
        drop(parts);
        rows.settle_histograms();
        Ok(())
    }
}
