//! What `sum` and `avg` make of histograms, at all steps of a group.
//!
//! Source: `aggregation` of Prometheus' `promql/engine.go`.

use std::sync::Arc;

use model::{FloatHistogram, Labels, ResetHint};

use super::super::annotations::{Finding, Findings, Notes};
use super::super::histogram_rows::{self, HistogramRow};
use super::super::histogram_sum::{HistogramMean, HistogramSum};
use super::super::rows::{ABSENT, HISTOGRAM, is_absent};
use super::super::stream::Row;
use crate::ast::Span;
use crate::value::Annotation;

/// The histograms of a group, added up at each step.
pub(super) struct HistogramFold {
    mean: bool,
    steps: Vec<Option<Box<State>>>,
}

struct State {
    total: Total,
    /// There are exponential and custom buckets, so nothing comes of it.
    incompatible: bool,
    reset_seen: bool,
    no_reset_seen: bool,
}

enum Total {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

impl HistogramFold {
    pub(super) fn new(mean: bool, steps: usize) -> Self {
        HistogramFold { mean, steps: std::iter::repeat_with(|| None).take(steps).collect() }
    }

    /// Adds the histograms of a series.
    pub(super) fn add(&mut self, row: Row<'_>, findings: &mut FoundOf<'_>) {
        for (step, state) in self.steps.iter_mut().enumerate() {
            let Some(histogram) = histogram_rows::at(row.values, row.histograms, step) else {
                continue;
            };
            match state {
                Some(state) => state.add(histogram, findings),
                none => *none = Some(Box::new(State::new(self.mean, histogram))),
            }
        }
    }

    /// Adds what another piece of the group has added up.
    pub(super) fn merge(&mut self, other: HistogramFold, findings: &mut FoundOf<'_>) {
        for (state, other) in self.steps.iter_mut().zip(other.steps) {
            match (state, other) {
                (Some(state), Some(other)) => state.merge(&other, findings),
                (none @ None, other) => *none = other,
                (Some(_), None) => {}
            }
        }
    }

    /// Puts the results into `values`, where those of the floats of the group are.
    pub(super) fn finish(self, values: &mut [f64], findings: &mut FoundOf<'_>) -> HistogramRow {
        let mut row = HistogramRow::new();
        row.resize(self.steps.len(), None);
        for ((state, value), target) in self.steps.into_iter().zip(values).zip(&mut row) {
            let Some(state) = state else { continue };
            if !is_absent(*value) {
                findings.note(Finding::MixedGroup);
                *value = ABSENT;
                continue;
            }
            if state.reset_seen && state.no_reset_seen {
                findings.note(Finding::Collision);
            }
            if state.incompatible {
                continue;
            }
            let mut total = match state.total {
                Total::Sum(sum) => sum.finish(),
                Total::Mean(mean) => mean.finish(),
            };
            total.compact(0);
            *value = HISTOGRAM;
            *target = Some(Arc::new(total));
        }
        row
    }
}

impl State {
    fn new(mean: bool, first: &FloatHistogram) -> Self {
        let total = if mean {
            Total::Mean(HistogramMean::new(first))
        } else {
            Total::Sum(HistogramSum::new(first))
        };
        let (incompatible, reset_seen, no_reset_seen) = (false, false, false);
        let mut state = State { total, incompatible, reset_seen, no_reset_seen };
        state.see(first.reset_hint);
        state
    }

    fn see(&mut self, hint: ResetHint) {
        self.reset_seen |= hint == ResetHint::Reset;
        self.no_reset_seen |= hint == ResetHint::NoReset;
    }

    fn add(&mut self, histogram: &FloatHistogram, findings: &mut FoundOf<'_>) {
        if self.incompatible {
            return;
        }
        self.see(histogram.reset_hint);
        let added = match &mut self.total {
            Total::Sum(sum) => sum.add(histogram),
            Total::Mean(mean) => mean.add(histogram),
        };
        self.note(added.ok(), findings);
    }

    fn merge(&mut self, other: &State, findings: &mut FoundOf<'_>) {
        self.reset_seen |= other.reset_seen;
        self.no_reset_seen |= other.no_reset_seen;
        if self.incompatible || other.incompatible {
            self.incompatible = true;
            return;
        }
        let added = match (&mut self.total, &other.total) {
            (Total::Sum(sum), Total::Sum(other)) => sum.merge(other).ok(),
            (Total::Mean(mean), Total::Mean(other)) => mean.merge(other).ok(),
            _ => None,
        };
        self.note(added, findings);
    }

    /// `reconciled` is `None` if histograms cannot be added.
    fn note(&mut self, reconciled: Option<bool>, findings: &mut FoundOf<'_>) {
        match reconciled {
            Some(true) => findings.note(Finding::ReconciledGroup),
            Some(false) => {}
            None => {
                findings.note(Finding::MixedSchemas);
                self.incompatible = true;
            }
        }
    }
}

/// What is found out in a piece of work, by metric name.
#[derive(Default)]
pub(super) struct Found {
    by_name: Vec<(String, Findings)>,
    /// The aggregation that passes over histograms.
    ignored: Option<&'static str>,
}

/// The same about the series at hand.
pub(super) struct FoundOf<'f> {
    found: &'f mut Found,
    labels: &'f Labels,
}

impl Found {
    pub(super) fn of<'f>(&'f mut self, labels: &'f Labels) -> FoundOf<'f> {
        FoundOf { found: self, labels }
    }

    /// Puts everything into words.
    pub(super) fn tell(self, span: Span, notes: &mut Notes) {
        if let Some(name) = self.ignored {
            let text = format_args!("ignored histogram in {name} aggregation");
            notes.add(Annotation::info(text, span));
        }
        for (name, findings) in self.by_name {
            findings.tell(&name, span, notes);
        }
    }
}

impl FoundOf<'_> {
    #[cold]
    fn note(&mut self, finding: Finding) {
        let name = self.labels.metric_name().unwrap_or("");
        let by_name = &mut self.found.by_name;
        match by_name.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, findings)) => findings.note(finding),
            None => {
                let mut findings = Findings::default();
                findings.note(finding);
                by_name.push((name.to_owned(), findings));
            }
        }
    }

    /// Notes that the aggregation called `name` passed over a histogram.
    pub(super) fn note_ignored(&mut self, name: &'static str) {
        self.found.ignored = Some(name);
    }
}
