//! Where series come from: what is asked, and figures.

use crate::{Matcher, TimeRange};

/// In what order the largest entries of a list are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CensusOrder {
    /// By how many there are.
    #[default]
    Count,
    /// By how many there are that were not before.
    New,
    /// By the difference, in either direction.
    Change,
}

/// Which series are counted, and what is told of them.
#[derive(Debug, Clone)]
pub struct CensusRequest {
    /// Series that satisfy all matchers of any of them; all series if there are none.
    pub selectors: Vec<Vec<Matcher>>,
    /// When the series had samples.
    pub range: TimeRange,
    /// The time to compare with.
    pub before: Option<TimeRange>,
    /// Most entries of each list.
    pub limit: usize,
    /// Which entries those are.
    pub order: CensusOrder,
    /// A label whose values are counted.
    pub focus: Option<String>,
}

/// A name and how much of something it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CensusEntry {
    /// The name.
    pub name: String,
    /// How many there are.
    pub count: u64,
    /// How many there were before.
    pub before: u64,
    /// How many of those there are were not before.
    pub new: u64,
}

/// Figures of series. Each list holds the largest in the order that was wanted, equal ones in order
/// of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CensusReport {
    /// Series; the name is empty.
    pub series: CensusEntry,
    /// Distinct pairs of a label name and a value; the name is empty.
    pub label_pairs: CensusEntry,
    /// Series per metric name.
    pub series_by_metric: Vec<CensusEntry>,
    /// Series per label name.
    pub series_by_label: Vec<CensusEntry>,
    /// Series per `name=value`.
    pub series_by_pair: Vec<CensusEntry>,
    /// Distinct values per label name.
    pub values_by_label: Vec<CensusEntry>,
    /// Series per value of the label in focus.
    pub series_by_focus_value: Vec<CensusEntry>,
}
