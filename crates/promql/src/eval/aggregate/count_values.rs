//! `count_values`: how often each value occurs.

use model::{Labels, LabelsBuilder};
use std::collections::HashMap;

use super::super::context::Context;
use super::super::format::{histogram_text, plain};
use super::super::grouping::LabelChoice;
use super::super::histogram_rows;
use super::super::rows::{ABSENT, Rows, is_absent};
use crate::engine::EvalError;
use crate::plan::AggregatePlan;

/// Counts equal values of each group; the value becomes the label `label`.
pub(super) fn evaluate(
    context: &Context<'_>,
    input: &Rows,
    plan: &AggregatePlan<'_>,
    label: &str,
) -> Result<Rows, EvalError> {
    let choice = if plan.without {
        LabelChoice::without(plan.grouping)
    } else {
        let names: Vec<String> =
            plan.grouping.iter().map(String::as_str).chain([label]).map(str::to_owned).collect();
        LabelChoice::only(&names)
    };
    let steps = input.steps;
    let mut rows = Rows::empty(context, steps)?;
    let mut row_of: HashMap<Labels, usize> = HashMap::new();
    // Labels are made once per series and value, however many steps have that value.
    let mut row_of_value: HashMap<u64, usize> = HashMap::new();
    for index in 0..input.len() {
        context.check_cancelled()?;
        row_of_value.clear();
        let histograms = input.histograms.row(index);
        for (step, &value) in input.row(index).iter().enumerate() {
            if is_absent(value) {
                continue;
            }
            let mut find = |text: &str| {
                let mut builder = LabelsBuilder::from_labels(&input.labels[index]);
                builder.set(label, text);
                let labels = choice.labels(&builder.build());
                let next = row_of.len();
                let row = *row_of.entry(labels.clone()).or_insert(next);
                if row == next {
                    rows.reservation.resize((next + 1).saturating_mul(steps))?;
                    rows.labels.push(labels);
                    rows.drop_name.push(false);
                    rows.values.resize((next + 1) * steps, ABSENT);
                }
                Ok::<usize, EvalError>(row)
            };
            let row =
                if let Some(histogram) = histogram_rows::at(input.row(index), histograms, step) {
                    find(&histogram_text(histogram))?
                } else if let Some(row) = row_of_value.get(&value.to_bits()) {
                    *row
                } else {
                    let row = find(&plain(value))?;
                    row_of_value.insert(value.to_bits(), row);
                    row
                };
            let count = &mut rows.values[row * steps + step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
    }
    Ok(rows)
}
