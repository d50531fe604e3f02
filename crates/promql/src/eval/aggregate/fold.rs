//! Aggregations that fold each series into its group's steps: nothing of the input is kept.
//!
//! Series are cut into pieces of fixed size. Each piece folds into groups of its own, and pieces
//! are merged in order; so a result never depends on the number of threads or their timing.

use model::Labels;

use super::super::context::Context;
use super::super::grouping::{Keys, LabelChoice};
use super::super::histogram_rows::{self, HistogramRows};
use super::super::kahan::{self, Mean};
use super::super::rows::{ABSENT, Rows, has_any, is_absent};
use super::super::stream::{Row, Stream};
use super::histogram_fold::{Found, FoundOf, HistogramFold};
use crate::ast::{AggregateOp, Span};
use crate::engine::EvalError;
use crate::profile::Strategy;

/// What to fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
}

impl Fold {
    pub(crate) fn from_op(op: AggregateOp) -> Option<Self> {
        Some(match op {
            AggregateOp::Sum => Fold::Sum,
            AggregateOp::Avg => Fold::Avg,
            AggregateOp::Count => Fold::Count,
            AggregateOp::Min => Fold::Min,
            AggregateOp::Max => Fold::Max,
            AggregateOp::Group => Fold::Group,
            AggregateOp::Stddev => Fold::Stddev,
            AggregateOp::Stdvar => Fold::Stdvar,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Fold::Sum => "sum",
            Fold::Avg => "avg",
            Fold::Count => "count",
            Fold::Min => "min",
            Fold::Max => "max",
            Fold::Group => "group",
            Fold::Stddev => "stddev",
            Fold::Stdvar => "stdvar",
        }
    }
}

/// Aggregates `input`; groups come in the order their first series has.
pub(crate) fn fold(
    context: &Context<'_>,
    input: &Stream,
    choice: &LabelChoice,
    op: Fold,
    span: Span,
) -> Result<Rows, EvalError> {
    let steps = input.steps();
    let mut groups = Groups::default();
    let mut reservation = context.reserve(0)?;
    let wave_len = context.wave();
    for start in (0..input.len()).step_by(wave_len) {
        let wave = start..(start + wave_len).min(input.len());
        let pieces = context.pieces(wave, |piece, scratch| {
            let mut partial = Groups::default();
            let mut room = context.reserve(0)?;
            let mut floats = Vec::new();
            let mut findings = Found::default();
            for index in piece {
                let Some(row) = input.row(context, index, scratch)? else { continue };
                let labels = input.labels(index);
                let group = partial.group(choice, labels, op, steps);
                group.drop_name |= input.drops_name(index);
                if row.histograms.is_empty() {
                    group.accumulator.add(op, row.values);
                } else {
                    group.add_mixed(op, row, &mut floats, &mut findings.of(labels));
                    partial.weight += histogram_rows::weight(row.histograms);
                }
                room.resize(partial.size(steps))?;
            }
            findings.tell(span, &mut scratch.notes);
            Ok((partial, room))
        })?;
        for (piece, room) in pieces {
            let mut findings = Found::default();
            groups.merge(choice, piece, op, &mut findings);
            context.note(|notes| findings.tell(span, notes));
            drop(room);
            reservation.resize(groups.size(steps))?;
        }
    }
    input.note_end(context, Strategy::Fused);
    let mut rows = Rows {
        steps,
        labels: Vec::with_capacity(groups.list.len()),
        drop_name: Vec::with_capacity(groups.list.len()),
        values: Vec::with_capacity(groups.list.len() * steps),
        histograms: HistogramRows::default(),
        reservation,
    };
    let mut has_empty = false;
    let mut findings = Found::default();
    for (index, group) in groups.list.into_iter().enumerate() {
        rows.labels.push(choice.labels(&group.member));
        rows.drop_name.push(group.drop_name);
        group.accumulator.finish(op, steps, &mut rows.values);
        if let Some(histograms) = group.histograms {
            let values = &mut rows.values[index * steps..];
            let row = histograms.finish(values, &mut findings.of(&group.member));
            rows.histograms.set(index, row);
        }
        // Where nothing but histograms came, an aggregation of floats yields nothing.
        has_empty |= group.is_mixed && !has_any(rows.row(index));
    }
    context.note(|notes| findings.tell(span, notes));
    if has_empty {
        rows.remove_empty();
    }
    Ok(rows)
}

#[derive(Default)]
struct Groups {
    keys: Keys,
    list: Vec<Group>,
    /// What the histograms of all groups may count in the budget.
    weight: usize,
}

struct Group {
    /// Labels of its first series.
    member: Labels,
    drop_name: bool,
    accumulator: Accumulator,
    /// What `sum` or `avg` has of histograms.
    histograms: Option<HistogramFold>,
    /// Whether any series had histograms.
    is_mixed: bool,
}

impl Group {
    /// Adds a series that has histograms.
    #[inline(never)]
    fn add_mixed(
        &mut self,
        op: Fold,
        row: Row<'_>,
        floats: &mut Vec<f64>,
        findings: &mut FoundOf<'_>,
    ) {
        self.is_mixed = true;
        if matches!(op, Fold::Count | Fold::Group) {
            // Both count, and the marks of histograms are no absent values.
            return self.accumulator.add(op, row.values);
        }
        let (floats, any) = row.floats(floats);
        self.accumulator.add(op, floats);
        if !any {
            return;
        }
        if matches!(op, Fold::Sum | Fold::Avg) {
            self.histograms
                .get_or_insert_with(|| HistogramFold::new(op == Fold::Avg, floats.len()))
                .add(row, findings);
        } else {
            findings.note_ignored(op.as_str());
        }
    }
}

impl Groups {
    /// What it counts in the budget.
    fn size(&self, steps: usize) -> usize {
        self.list.len().saturating_mul(steps).saturating_add(self.weight)
    }

    fn group(
        &mut self,
        choice: &LabelChoice,
        labels: &Labels,
        op: Fold,
        steps: usize,
    ) -> &mut Group {
        // Without grouping labels there is one group and nothing to look up.
        let number = if choice.is_nothing() { 0 } else { self.keys.number(choice, labels).0 };
        if number == self.list.len() {
            self.list.push(Group {
                member: labels.clone(),
                drop_name: false,
                accumulator: Accumulator::new(op, steps),
                histograms: None,
                is_mixed: false,
            });
        }
        &mut self.list[number]
    }

    fn merge(&mut self, choice: &LabelChoice, piece: Groups, op: Fold, findings: &mut Found) {
        self.weight += piece.weight;
        for mut group in piece.list {
            let number =
                if choice.is_nothing() { 0 } else { self.keys.number(choice, &group.member).0 };
            match self.list.get_mut(number) {
                None => self.list.push(group),
                Some(known) => {
                    known.drop_name |= group.drop_name;
                    known.accumulator.merge(op, &group.accumulator);
                    known.is_mixed |= group.is_mixed;
                    match (&mut known.histograms, group.histograms.take()) {
                        (Some(histograms), Some(more)) => {
                            histograms.merge(more, &mut findings.of(&group.member));
                        }
                        (none @ None, more) => *none = more,
                        (Some(_), None) => {}
                    }
                }
            }
        }
    }
}

/// What a group has seen so far, in columns over the steps. Columns an operator does not need
/// stay empty.
struct Accumulator {
    /// Sum, mean or extremum.
    main: Vec<f64>,
    /// Compensation of the sum, or sum of squared differences from the mean.
    extra: Vec<f64>,
    count: Vec<u32>,
    /// Steps whose sum would have overflowed and which therefore hold a running mean. Empty as
    /// long as there are none.
    incremental: Vec<bool>,
}

impl Accumulator {
    fn new(op: Fold, steps: usize) -> Self {
        let column = |wanted: bool, initial: f64| vec![initial; if wanted { steps } else { 0 }];
        let (extremum, spread) =
            (matches!(op, Fold::Min | Fold::Max), matches!(op, Fold::Stddev | Fold::Stdvar));
        let summed = matches!(op, Fold::Sum | Fold::Avg);
        // Minus zero is the one number that adds nothing to any other.
        let initial = if extremum { ABSENT } else { -0.0 };
        Accumulator {
            main: column(extremum || spread || summed, initial),
            extra: column(spread || summed, 0.0),
            count: vec![0; if extremum { 0 } else { steps }],
            incremental: Vec::new(),
        }
    }

    fn add(&mut self, op: Fold, row: &[f64]) {
        match op {
            Fold::Count | Fold::Group => {}
            Fold::Sum => add_up(row, &mut self.main, &mut self.extra),
            Fold::Avg if self.would_overflow(row) => self.add_to_means(row),
            Fold::Avg => add_up(row, &mut self.main, &mut self.extra),
            Fold::Min => extremum(row, &mut self.main, |new, old| new < old),
            Fold::Max => extremum(row, &mut self.main, |new, old| new > old),
            Fold::Stddev | Fold::Stdvar => {
                // Counts the row itself, since it needs the count in between.
                return self.add_to_spread(row);
            }
        }
        for (count, value) in self.count.iter_mut().zip(row) {
            *count += u32::from(!is_absent(*value));
        }
    }

    fn merge(&mut self, op: Fold, other: &Accumulator) {
        match op {
            Fold::Count | Fold::Group => {}
            Fold::Sum => {
                let sums = self.main.iter_mut().zip(&mut self.extra);
                for ((sum, extra), (value, value_extra)) in
                    sums.zip(other.main.iter().zip(&other.extra))
                {
                    (*sum, *extra) = kahan::add(*value, *sum, *extra + value_extra);
                }
            }
            Fold::Avg => {
                for step in 0..self.main.len() {
                    let mut mean = self.mean(step);
                    mean.merge(other.mean(step));
                    self.set_mean(step, mean);
                }
                return;
            }
            Fold::Min => extremum(&other.main, &mut self.main, |new, old| new < old),
            Fold::Max => extremum(&other.main, &mut self.main, |new, old| new > old),
            Fold::Stddev | Fold::Stdvar => return self.merge_spread(other),
        }
        for (count, more) in self.count.iter_mut().zip(&other.count) {
            *count += more;
        }
    }

    fn finish(&self, op: Fold, steps: usize, out: &mut Vec<f64>) {
        let counted = |step: usize, value: f64| {
            if self.count[step] == 0 { ABSENT } else { value }
        };
        out.extend((0..steps).map(|step| match op {
            Fold::Min | Fold::Max => self.main[step],
            Fold::Group => counted(step, 1.0),
            Fold::Count => counted(step, f64::from(self.count[step])),
            Fold::Sum => counted(step, self.main[step] + self.extra[step]),
            Fold::Avg => counted(step, self.mean(step).value()),
            Fold::Stdvar => counted(step, self.extra[step] / f64::from(self.count[step])),
            Fold::Stddev => counted(step, (self.extra[step] / f64::from(self.count[step])).sqrt()),
        }));
    }

    fn would_overflow(&self, row: &[f64]) -> bool {
        !self.incremental.is_empty()
            || row.iter().zip(&self.main).fold(false, |any, (value, sum)| {
                any | (!is_absent(*value) & (value + sum).is_infinite())
            })
    }

    /// Adds to running means, which takes over from sums at steps that overflow.
    fn add_to_means(&mut self, row: &[f64]) {
        for (step, &value) in row.iter().enumerate() {
            if !is_absent(value) {
                let mut mean = self.mean(step);
                mean.add(value);
                self.set_mean(step, mean);
            }
        }
        // The caller counts the row; `set_mean` did already.
        for (count, value) in self.count.iter_mut().zip(row) {
            *count -= u32::from(!is_absent(*value));
        }
    }

    fn mean(&self, step: usize) -> Mean {
        Mean {
            count: f64::from(self.count[step]),
            sum: self.main[step],
            compensation: self.extra[step],
            incremental: self.incremental.get(step).copied().unwrap_or(false),
        }
    }

    fn set_mean(&mut self, step: usize, mean: Mean) {
        self.count[step] = mean.count as u32;
        self.main[step] = mean.sum;
        self.extra[step] = mean.compensation;
        if mean.incremental && self.incremental.is_empty() {
            self.incremental.resize(self.main.len(), false);
        }
        if let Some(incremental) = self.incremental.get_mut(step) {
            *incremental = mean.incremental;
        }
    }

    fn add_to_spread(&mut self, row: &[f64]) {
        for (step, &value) in row.iter().enumerate() {
            if is_absent(value) {
                continue;
            }
            self.count[step] += 1;
            let delta = value - self.main[step];
            self.main[step] += delta / f64::from(self.count[step]);
            self.extra[step] += delta * (value - self.main[step]);
        }
    }

    /// Chan's formula for the spread of two sets together.
    fn merge_spread(&mut self, other: &Accumulator) {
        for step in 0..self.main.len() {
            let (count, more) = (f64::from(self.count[step]), f64::from(other.count[step]));
            if more == 0.0 {
                continue;
            }
            if count == 0.0 {
                self.count[step] = other.count[step];
                self.main[step] = other.main[step];
                self.extra[step] = other.extra[step];
                continue;
            }
            let delta = other.main[step] - self.main[step];
            self.main[step] += delta * (more / (count + more));
            self.extra[step] += other.extra[step] + delta * delta * (count * more / (count + more));
            self.count[step] += other.count[step];
        }
    }
}

/// Adds a row to compensated sums. No branch depends on the data, so it can be vectorised.
fn add_up(row: &[f64], sums: &mut [f64], compensations: &mut [f64]) {
    for ((value, sum), compensation) in row.iter().zip(sums).zip(compensations) {
        let value = if is_absent(*value) { -0.0 } else { *value };
        (*sum, *compensation) = kahan::add(value, *sum, *compensation);
    }
}

/// Keeps the values that beat the ones before; NaN is beaten by everything.
fn extremum(row: &[f64], best: &mut [f64], beats: impl Fn(f64, f64) -> bool) {
    for (&value, best) in row.iter().zip(best) {
        let better = !is_absent(value) & (beats(value, *best) | best.is_nan());
        *best = if better { value } else { *best };
    }
}
