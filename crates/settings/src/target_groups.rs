//! Groups of targets as discovery yields them.

use model::Labels;

/// Targets that share labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// The labels of each target; `__address__` is its host and port.
    pub targets: Vec<Labels>,
    /// Labels of all targets; a label of the target itself wins.
    pub labels: Labels,
    /// What identifies the group among those of its mechanism: a new group of the same source
    /// replaces the old one.
    pub source: String,
}
