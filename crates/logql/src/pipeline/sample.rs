//! Samples of lines: `unwrap`, and the labels samples are grouped by.

use super::entry::{Category, StageError, State};
use super::names::{Name, Names};
use super::number::{NumberError, parse_bytes, parse_duration_ns, parse_float, seconds};

/// How a label becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// `unwrap x`
    Float,
    /// `unwrap bytes(x)`
    Bytes,
    /// `unwrap duration(x)` and `unwrap duration_seconds(x)`, in seconds
    Duration,
}

/// Makes a label of a line its sample. A line without that label is dropped; one whose label is no
/// number has an error and the sample 0.
#[derive(Debug, Clone)]
pub struct Unwrap {
    label: String,
    name: Name,
    conversion: Conversion,
}

impl Unwrap {
    /// Unwraps `label`.
    pub fn new(label: &str, conversion: Conversion) -> Self {
        Unwrap { label: label.to_owned(), name: Name::default(), conversion }
    }

    /// Name of the label.
    pub fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn bind(&mut self, names: &mut Names) {
        self.name = names.intern(&self.label);
    }

    /// Yields whether the line stays.
    pub(crate) fn process(&self, origin: &str, state: &mut State) -> bool {
        let Some((value, _)) = state.get(origin, self.name) else { return false };
        if value.is_empty() {
            return false;
        }
        let converted = match self.conversion {
            Conversion::Float => parse_float(value),
            Conversion::Bytes => parse_bytes(value).map(|bytes| bytes as f64),
            Conversion::Duration => parse_duration_ns(value).map(seconds),
        };
        match converted {
            Ok(sample) => state.set_sample(sample),
            Err(NumberError(details)) => {
                state.set_error(StageError::SampleExtraction, &details);
                state.set_sample(0.0);
            }
        }
        true
    }
}

/// Which labels samples keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// `by (…)`: these. With none, samples have no labels.
    By(Vec<String>),
    /// `without (…)`: all but these. With none, all.
    Without(Vec<String>),
}

/// A grouping with names as numbers.
#[derive(Debug, Clone)]
pub(crate) enum BoundGrouping {
    By(Vec<Name>),
    Without(Vec<Name>),
}

impl BoundGrouping {
    /// `unwrapped` is the label the sample comes from: without being asked for, it is no label of
    /// the sample.
    pub(crate) fn new(grouping: &Grouping, unwrapped: Option<&str>, names: &mut Names) -> Self {
        match grouping {
            Grouping::By(labels) => {
                BoundGrouping::By(labels.iter().map(|label| names.intern(label)).collect())
            }
            Grouping::Without(labels) => {
                let all = labels.iter().map(String::as_str).chain(unwrapped);
                BoundGrouping::Without(all.map(|label| names.intern(label)).collect())
            }
        }
    }

    /// Whether a sample keeps the label.
    pub(crate) fn keeps(&self, name: Name, value: &str) -> bool {
        match self {
            // An empty label is none to group by.
            BoundGrouping::By(names) => names.contains(&name) && !value.is_empty(),
            BoundGrouping::Without(names) => !names.contains(&name),
        }
    }
}

/// Labels of the sample; all, if the line has an error, which would get lost otherwise.
pub(crate) fn for_each_grouped<'a>(
    state: &'a State,
    origin: &'a str,
    grouping: &BoundGrouping,
    mut take: impl FnMut(&'a str, &'a str, Category),
) {
    let all = state.has_error();
    state.for_each(origin, |name, value, category| {
        if all || grouping.keeps(name, value) {
            take(state.names.text(name), value, category);
        }
    });
}
