//! Series with a value, or none, at each step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::labels::SampleLabels;

/// A series.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) labels: SampleLabels,
    /// One for each step.
    pub(super) values: Vec<Option<f64>>,
}

/// Series, no two with the same labels.
#[derive(Debug, Clone, Default)]
pub(super) struct Matrix {
    pub(super) series: Vec<Series>,
    /// Whether their order means something.
    pub(super) is_ordered: bool,
}

impl Matrix {
    /// One series without labels.
    pub(super) fn constant(value: f64, steps: usize) -> Self {
        let series = Series { labels: SampleLabels::default(), values: vec![Some(value); steps] };
        Matrix { series: vec![series], is_ordered: false }
    }

    /// Leaves out series without a value.
    pub(super) fn without_empty(mut self) -> Self {
        self.series.retain(|series| series.values.iter().any(Option::is_some));
        self
    }
}

/// Sets of labels, numbered as they come.
#[derive(Debug, Default)]
pub(super) struct Numbered {
    numbers: HashMap<SampleLabels, usize>,
    labels: Vec<SampleLabels>,
}

impl Numbered {
    pub(super) fn number(&mut self, labels: SampleLabels) -> usize {
        let next = self.labels.len();
        match self.numbers.entry(labels) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.labels.push(new.key().clone());
                *new.insert(next)
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn into_labels(self) -> Vec<SampleLabels> {
        self.labels
    }
}
