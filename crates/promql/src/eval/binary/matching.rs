//! Arithmetic and comparisons between two vectors.
//!
//! Series are matched once for all steps: both sides are cut into groups of equal matching
//! labels, and each pair within a group is computed as a whole row. Only groups in which several
//! series of the "one" side take turns over time need a look at each step.

use std::collections::HashMap;
use std::sync::Arc;

use model::{FloatHistogram, Labels, LabelsBuilder};

use super::super::arithmetic::{Arithmetic, ScalarOp};
use super::super::context::Context;
use super::super::format::label_set;
use super::super::grouping::{Keys, LabelChoice};
use super::super::histogram_rows::HistogramRow;
use super::super::operation::{self, Element, Operator, Remark, Remarks, Yield};
use super::super::output::METADATA;
use super::super::rows::{ABSENT, Rows, has_any, is_absent};
use super::super::scratch::Scratch;
use super::super::stream::Row;
use super::one_side::{Clash, OneSide};
use crate::ast::{Cardinality, VectorMatching};
use crate::engine::EvalError;

/// The labels two elements must share to match.
pub(super) fn choice_of(matching: &VectorMatching) -> LabelChoice {
    if matching.on {
        LabelChoice::only(&matching.labels)
    } else {
        LabelChoice::without(&matching.labels)
    }
}

/// The matching labels of an element as shown in errors and used for filled elements: with
/// `ignoring` the metric's name is left out too.
fn match_labels(matching: &VectorMatching, labels: &Labels) -> Labels {
    choice_of(matching).labels(labels)
}

/// Evaluates `op` at all steps.
pub(super) fn evaluate(
    context: &Context<'_>,
    operator: Operator,
    matching: &VectorMatching,
    left: &Rows,
    right: &Rows,
) -> Result<Rows, EvalError> {
    // From here on there is a "many" side and a "one" side; for one-to-one, left is "many".
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    // Upstream swaps the sides for `group_right` but not the fill values: `fill_right` is always
    // what the "one" side gets. Its tests pin that down.
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    let join = Join { operator, matching, many, one, swapped, fill_many, fill_one };
    let groups = join.groups()?;
    let parts = context.pieces(0..groups.len(), |piece, scratch| {
        let mut part = Rows::empty(context, many.steps)?;
        let mut remarks = Remarks::default();
        for group in &groups[piece] {
            context.check_cancelled()?;
            join.group(group, scratch, &mut remarks, &mut part)?;
        }
        Ok((part, remarks))
    })?;
    let (parts, of_parts): (Vec<Rows>, Vec<Remarks>) = parts.into_iter().unzip();
    let mut remarks = Remarks::default();
    of_parts.into_iter().for_each(|part| remarks.merge(part));
    context.note(|notes| remarks.tell(&operator, notes));
    join.collect(context, parts)
}

struct Join<'j> {
    operator: Operator,
    matching: &'j VectorMatching,
    many: &'j Rows,
    one: &'j Rows,
    /// Whether the "one" side stands on the left.
    swapped: bool,
    fill_many: Option<f64>,
    fill_one: Option<f64>,
}

/// Where remarks about the elements of a series go.
struct Noted<'r> {
    remarks: &'r mut Remarks,
    /// The place of the series in the order in which elements are taken.
    place: u64,
}

/// Elements of the "one" side that met nobody come after all of the "many" side.
const AFTER_MANY: u64 = 1 << 32;

impl Noted<'_> {
    fn take(&mut self, (found, remark): (Yield, Option<Remark>), step: usize) -> Yield {
        self.remarks.note(remark, step, self.place);
        found
    }
}

/// Series with equal matching labels.
struct Group {
    many: Vec<u32>,
    one: OneSide,
}

impl Join<'_> {
    fn groups(&self) -> Result<Vec<Group>, EvalError> {
        let choice = choice_of(self.matching);
        let mut keys = Keys::default();
        let mut members: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
        for (rows, is_many) in [(self.many, true), (self.one, false)] {
            for (index, labels) in rows.labels.iter().enumerate() {
                let (number, new) = keys.number(&choice, labels);
                if new {
                    members.push((Vec::new(), Vec::new()));
                }
                let (many, one) = &mut members[number];
                if is_many { many.push(index as u32) } else { one.push(index as u32) }
            }
        }
        if self.fills_nothing() && (self.many.len() == 0 || self.one.len() == 0) {
            return Ok(Vec::new());
        }
        let contested = members.iter().any(|(_, one)| one.len() > 1);
        let active = if contested { self.active_steps() } else { Vec::new() };
        members
            .into_iter()
            .map(|(many, one)| {
                let one = OneSide::new(self.one, one, &active)
                    .map_err(|clash| self.many_to_many(&clash))?;
                Ok(Group { many, one })
            })
            .collect()
    }

    /// At which steps matching takes place at all: with nothing on the "many" side and nothing
    /// to fill in for it, duplicates on the other side do no harm.
    fn active_steps(&self) -> Vec<bool> {
        let mut active = vec![!self.fills_nothing(); self.many.steps];
        for index in 0..self.many.len() {
            for (active, value) in active.iter_mut().zip(self.many.row(index)) {
                *active |= !is_absent(*value);
            }
        }
        active
    }

    fn fills_nothing(&self) -> bool {
        self.fill_many.is_none() && self.fill_one.is_none()
    }

    fn many_to_many(&self, clash: &Clash) -> EvalError {
        let labels = |index: u32| &self.one.labels[index as usize];
        let side = if self.swapped { "left" } else { "right" };
        EvalError::Execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the \
             operation: [{}, {}];many-to-many matching not allowed: matching labels must be \
             unique on one side",
            label_set(&match_labels(self.matching, labels(clash.later))),
            label_set(labels(clash.later)),
            label_set(labels(clash.earlier)),
        ))
    }

    fn many_row(&self, index: u32) -> Row<'_> {
        let index = index as usize;
        Row { values: self.many.row(index), histograms: self.many.histograms.row(index) }
    }

    /// Computes all pairs of a group.
    fn group(
        &self,
        group: &Group,
        scratch: &mut Scratch,
        remarks: &mut Remarks,
        part: &mut Rows,
    ) -> Result<(), EvalError> {
        let histograms = group.one.histograms(self.one);
        let one_row = group.one.row(self.one).map(|values| Row { values, histograms });
        self.check_many(group, one_row)?;
        let Scratch { row, histogram_row, .. } = scratch;
        for &many in &group.many {
            let many_row = self.many_row(many);
            let many_labels = &self.many.labels[many as usize];
            let drop_name = self.drop_name(self.many.drop_name[many as usize]);
            if let Some(one_row) = one_row {
                for &one in &group.one.members {
                    let mut noted = Noted { remarks, place: u64::from(many) };
                    self.pair(many_row, one_row, &mut noted, (row, histogram_row));
                    if group.one.members.len() > 1 {
                        for (step, value) in row.iter_mut().enumerate() {
                            if !group.one.is_owner(step, one) {
                                *value = ABSENT;
                            }
                        }
                    }
                    let labels = || self.result_labels(many_labels, &self.one.labels[one as usize]);
                    push(part, (row, histogram_row), labels, drop_name)?;
                }
            }
            if let Some(fill) = self.fill_one {
                let others = one_row.map(|row| row.values);
                let mut noted = Noted { remarks, place: u64::from(many) };
                self.fill(many_row, others, fill, false, &mut noted, (row, histogram_row));
                let labels = || {
                    let filled = match_labels(self.matching, many_labels);
                    self.result_labels(many_labels, &filled)
                };
                push(part, (row, histogram_row), labels, drop_name)?;
            }
        }
        if let (Some(fill), Some(one_row)) = (self.fill_many, one_row) {
            self.fill_missing_many(group, one_row, fill, scratch, remarks, part)?;
        }
        Ok(())
    }

    /// Elements of the "one" side that met nobody are paired with the fill value.
    fn fill_missing_many(
        &self,
        group: &Group,
        one_row: Row<'_>,
        fill: f64,
        scratch: &mut Scratch,
        remarks: &mut Remarks,
        part: &mut Rows,
    ) -> Result<(), EvalError> {
        let mut met = vec![ABSENT; self.one.steps];
        for &many in &group.many {
            let many_row = self.many_row(many);
            for (step, (met, &value)) in met.iter_mut().zip(many_row.values).enumerate() {
                // A meeting of which nothing comes is none.
                if !is_absent(value) && self.succeeds(many_row, Some(one_row), step) {
                    *met = value;
                }
            }
        }
        let Scratch { row, histogram_row, .. } = scratch;
        for &one in &group.one.members {
            let mut noted = Noted { remarks, place: u64::from(one) + AFTER_MANY };
            self.fill(one_row, Some(&met), fill, true, &mut noted, (row, histogram_row));
            for (step, value) in row.iter_mut().enumerate() {
                if !group.one.is_owner(step, one) {
                    *value = ABSENT;
                }
            }
            let one_labels = &self.one.labels[one as usize];
            let labels =
                || self.result_labels(&match_labels(self.matching, one_labels), one_labels);
            push(part, (row, histogram_row), labels, self.drop_name(false))?;
        }
        Ok(())
    }

    /// `row[i] = op(values[i], fill)` where `others` has nothing.
    fn fill(
        &self,
        values: Row<'_>,
        others: Option<&[f64]>,
        fill: f64,
        values_are_one: bool,
        noted: &mut Noted<'_>,
        (row, histogram_row): (&mut Vec<f64>, &mut HistogramRow),
    ) {
        let is_met = |step: usize| others.is_some_and(|others| !is_absent(others[step]));
        row.clear();
        histogram_row.clear();
        if values.histograms.is_empty() && !self.is_trim() {
            row.extend(values.values.iter().enumerate().map(|(step, &value)| {
                if is_absent(value) || is_met(step) {
                    ABSENT
                } else if values_are_one {
                    self.element(fill, value)
                } else {
                    self.element(value, fill)
                }
            }));
            return;
        }
        let fill = Element::Float(fill);
        self.each(values.values.len(), (row, histogram_row), |step| {
            let element = Element::at(values.values, values.histograms, step)?;
            let (many, one) = if values_are_one { (fill, element) } else { (element, fill) };
            (!is_met(step)).then(|| noted.take(self.between(many, one), step))
        });
    }

    /// Fills rows by what `f` yields at each step.
    fn each(
        &self,
        steps: usize,
        (row, histogram_row): (&mut Vec<f64>, &mut HistogramRow),
        mut f: impl FnMut(usize) -> Option<Yield>,
    ) {
        row.resize(steps, ABSENT);
        histogram_row.resize(steps, None);
        let mut any = false;
        for (step, (value, histogram)) in row.iter_mut().zip(&mut *histogram_row).enumerate() {
            let found = f(step).unwrap_or(Yield::Nothing);
            any |= matches!(found, Yield::Histogram(_));
            found.put(value, histogram);
        }
        if !any {
            histogram_row.clear();
        }
    }

    fn is_trim(&self) -> bool {
        matches!(self.operator.op, ScalarOp::Trim(_))
    }

    /// Fills rows by `op(many, one)` at all steps.
    fn pair(
        &self,
        many: Row<'_>,
        one: Row<'_>,
        noted: &mut Noted<'_>,
        (row, histogram_row): (&mut Vec<f64>, &mut HistogramRow),
    ) {
        row.clear();
        histogram_row.clear();
        if !many.histograms.is_empty() || !one.histograms.is_empty() || self.is_trim() {
            return self.each(many.values.len(), (row, histogram_row), |step| {
                let many = Element::at(many.values, many.histograms, step)?;
                let one = Element::at(one.values, one.histograms, step)?;
                Some(noted.take(self.between(many, one), step))
            });
        }
        let (many, one) = (many.values, one.values);
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        // The common operators get loops of their own, without a branch inside.
        match self.operator.op {
            ScalarOp::Arithmetic(Arithmetic::Div) => zip(left, right, row, |l, r| l / r),
            ScalarOp::Arithmetic(Arithmetic::Mul) => zip(left, right, row, |l, r| l * r),
            ScalarOp::Arithmetic(Arithmetic::Add) => zip(left, right, row, |l, r| l + r),
            ScalarOp::Arithmetic(Arithmetic::Sub) => zip(left, right, row, |l, r| l - r),
            op => zip(left, right, row, |l, r| between_elements(op, l, r)),
        }
    }

    fn between(&self, many: Element<'_>, one: Element<'_>) -> (Yield, Option<Remark>) {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        operation::between(self.operator.op, left, right)
    }

    /// Whether the two have elements at `step`, the "one" side perhaps a filled one, that the
    /// operator can be applied to. A comparison that does not hold is one that was made.
    fn succeeds(&self, many: Row<'_>, one: Option<Row<'_>>, step: usize) -> bool {
        let Some(many) = Element::at(many.values, many.histograms, step) else { return false };
        let found = one.and_then(|one| Element::at(one.values, one.histograms, step));
        match (many, found.or(self.fill_one.map(Element::Float))) {
            (_, None) => false,
            (Element::Float(_), Some(Element::Float(_))) => !self.is_trim(),
            (many, Some(one)) => !self.between(many, one).1.is_some_and(Remark::is_failure),
        }
    }

    fn element(&self, many: f64, one: f64) -> f64 {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        between_elements(self.operator.op, left, right)
    }

    /// At each step, "many" elements that meet the same "one" element must yield different
    /// labels; in one-to-one matching there may be only one of them.
    fn check_many(&self, group: &Group, one_row: Option<Row<'_>>) -> Result<(), EvalError> {
        if group.many.len() < 2 || (one_row.is_none() && self.fill_one.is_none()) {
            return Ok(());
        }
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let none = Labels::empty();
        let mut by_labels: HashMap<Labels, Vec<u32>> = HashMap::new();
        for &many in &group.many {
            let labels = if one_to_one {
                none.clone()
            } else {
                let one =
                    group.one.members.first().map_or(&none, |one| &self.one.labels[*one as usize]);
                self.result_labels(&self.many.labels[many as usize], one)
            };
            by_labels.entry(labels).or_default().push(many);
        }
        for same in by_labels.values().filter(|same| same.len() > 1) {
            if self.overlap(same, one_row) {
                return Err(EvalError::Execution(
                    if one_to_one {
                        "multiple matches for labels: many-to-one matching must be explicit \
                         (group_left/group_right)"
                    } else {
                        "multiple matches for labels: grouping labels must ensure unique matches"
                    }
                    .to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Whether two of `series` have a partner at the same step that they can be computed with.
    fn overlap(&self, series: &[u32], one_row: Option<Row<'_>>) -> bool {
        let mut seen = vec![false; self.many.steps];
        for &many in series {
            let many = self.many_row(many);
            for (step, seen) in seen.iter_mut().enumerate() {
                if self.succeeds(many, one_row, step) {
                    if *seen {
                        return true;
                    }
                    *seen = true;
                }
            }
        }
        false
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let arithmetic = matches!(self.operator.op, ScalarOp::Arithmetic(_));
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let named = |name: &str| self.matching.labels.iter().any(|label| label == name);
        let kept = many.filter(|name| {
            !(arithmetic && METADATA.contains(&name))
                && (!one_to_one || named(name) == self.matching.on)
        });
        if self.matching.include.is_empty() {
            return kept;
        }
        let mut builder = LabelsBuilder::from_labels(&kept);
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        builder.build()
    }

    /// Whether a result loses the metric's name in the end; arithmetic has taken it already.
    fn drop_name(&self, many: bool) -> bool {
        many || matches!(self.operator.op, ScalarOp::Bool(_))
    }

    fn collect(&self, context: &Context<'_>, parts: Vec<Rows>) -> Result<Rows, EvalError> {
        let mut rows = Rows::empty(context, self.many.steps)?;
        let total: usize = parts.iter().map(|part| part.values.len()).sum();
        rows.values.reserve_exact(total);
        let mut weight = 0;
        for mut part in parts {
            weight += part.values.len() + part.histograms.weight();
            drop(part.reservation);
            rows.reservation.resize(weight)?;
            rows.histograms.append(rows.labels.len(), std::mem::take(&mut part.histograms));
            rows.labels.extend(part.labels);
            rows.drop_name.extend(part.drop_name);
            rows.values.extend(part.values);
        }
        rows.merge_same_labels()?;
        Ok(rows)
    }
}

/// Keeps a row if it has any value; labels are made only then.
fn push(
    part: &mut Rows,
    (row, histograms): (&[f64], &[Option<Arc<FloatHistogram>>]),
    labels: impl FnOnce() -> Labels,
    drop_name: bool,
) -> Result<(), EvalError> {
    if has_any(row) { part.push(labels(), drop_name, row, histograms) } else { Ok(()) }
}

#[inline(always)]
fn zip(left: &[f64], right: &[f64], row: &mut Vec<f64>, f: impl Fn(f64, f64) -> f64) {
    row.extend(left.iter().zip(right).map(|(&left, &right)| {
        if is_absent(left) | is_absent(right) { ABSENT } else { f(left, right) }
    }));
}

/// The operator between two elements, where a comparison without `bool` keeps the left value.
fn between_elements(op: ScalarOp, left: f64, right: f64) -> f64 {
    match op {
        ScalarOp::Filter(comparison) if comparison.holds(left, right) => left,
        ScalarOp::Filter(_) => ABSENT,
        op => op.between_scalars(left, right),
    }
}
