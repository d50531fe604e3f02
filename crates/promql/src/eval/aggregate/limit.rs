//! `limitk` and `limit_ratio`: parts of a group chosen without looking at values.

use super::super::context::Context;
use super::super::grouping::{Keys, LabelChoice};
use super::super::label_hash::label_hash;
use super::super::rows::{ABSENT, Rows, ScalarRow, is_absent};
use super::super::stream::Stream;
use crate::engine::EvalError;

/// The first `k[step]` elements of each group; one entry of `k` stands for all steps.
pub(super) fn first_k(
    context: &Context<'_>,
    input: Stream,
    choice: &LabelChoice,
    k: &[usize],
) -> Result<Rows, EvalError> {
    let mut rows = input.materialise(context)?;
    let steps = rows.steps;
    let mut keys = Keys::default();
    let mut taken: Vec<usize> = Vec::new();
    for (labels, row) in rows.labels.iter().zip(rows.values.chunks_exact_mut(steps.max(1))) {
        let group = if choice.is_nothing() { 0 } else { keys.number(choice, labels).0 };
        if taken.len() < (group + 1) * steps {
            taken.resize((group + 1) * steps, 0);
        }
        for (step, value) in row.iter_mut().enumerate() {
            if is_absent(*value) {
                continue;
            }
            let taken = &mut taken[group * steps + step];
            if *taken < k[step.min(k.len() - 1)] {
                *taken += 1;
            } else {
                *value = ABSENT;
            }
        }
    }
    rows.settle_histograms();
    rows.remove_empty();
    Ok(rows)
}

/// The share `ratio` of all elements, chosen by the hash of their labels; a negative ratio
/// yields the elements that `1 + ratio` leaves out.
pub(super) fn ratio(
    context: &Context<'_>,
    input: Stream,
    ratio: &ScalarRow,
) -> Result<Rows, EvalError> {
    let mut rows = input.materialise(context)?;
    let steps = rows.steps;
    for (labels, row) in rows.labels.iter().zip(rows.values.chunks_exact_mut(steps.max(1))) {
        let place = label_hash(labels) as f64 / u64::MAX as f64;
        for (step, value) in row.iter_mut().enumerate() {
            let ratio = ratio.at(step).clamp(-1.0, 1.0);
            let chosen = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
            if !chosen || ratio == 0.0 {
                *value = ABSENT;
            }
        }
    }
    rows.settle_histograms();
    rows.remove_empty();
    Ok(rows)
}
