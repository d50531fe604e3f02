//! `drop` and `keep`: which labels a line keeps.

use super::entry::State;
use super::label_filter::TextMatch;
use super::names::{Name, Names};

/// Labels by name, or by name and value.
#[derive(Debug, Clone)]
pub struct LabelSelection {
    labels: Vec<Selected>,
}

#[derive(Debug, Clone)]
struct Selected {
    label: String,
    name: Name,
    value: Option<TextMatch>,
}

impl LabelSelection {
    /// Each name, with what its value has to be, if that matters.
    pub fn new(labels: Vec<(String, Option<TextMatch>)>) -> Self {
        let bound = labels.into_iter().map(|(label, value)| Selected {
            label,
            name: Name::default(),
            value,
        });
        LabelSelection { labels: bound.collect() }
    }

    /// Names of the labels, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|selected| selected.label.as_str())
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        for selected in &mut self.labels {
            selected.name = names.intern(&selected.label);
        }
    }

    /// Takes these labels away.
    pub(crate) fn drop_from(&self, origin: &str, state: &mut State) {
        for selected in &self.labels {
            let name = selected.name;
            if let Some(wanted) = &selected.value
                && !wanted.is_match(state.value_or_error(origin, name))
            {
                continue;
            }
            if state.is_error_name(name) {
                state.clear_error();
            } else if state.is_error_details_name(name) {
                state.clear_error_details();
            } else {
                state.delete(name);
            }
        }
    }

    /// Takes all other labels away, except what tells an error.
    pub(crate) fn keep_in(&self, origin: &str, state: &mut State, scratch: &mut Vec<Name>) {
        if self.labels.is_empty() {
            return;
        }
        scratch.clear();
        state.for_each(origin, |name, value, _| {
            let kept = self.labels.iter().any(|selected| {
                selected.name == name
                    && selected.value.as_ref().is_none_or(|wanted| wanted.is_match(value))
            });
            if !kept && !state.is_error_name(name) && !state.is_error_details_name(name) {
                scratch.push(name);
            }
        });
        for name in scratch.drain(..) {
            state.delete(name);
        }
    }
}
