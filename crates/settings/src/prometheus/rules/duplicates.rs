//! Rules that are there twice.

use super::{DuplicateRule, RuleGroup};
use crate::diagnostic::Diagnostic;

/// A name, labels, and the place of the rule that has them.
pub(super) struct Named {
    pub(super) metric: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) place: Diagnostic,
}

/// All rules that have the name and the labels of one before them, sorted by those.
///
/// `places` are those of the rules, group by group.
pub(super) fn find(groups: &[RuleGroup], places: Vec<Diagnostic>) -> Vec<DuplicateRule> {
    let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let mut all: Vec<Named> = rules
        .zip(places)
        .map(|((group, rule), place)| Named {
            metric: rule.name.clone(),
            labels: group.labels_of(rule),
            place,
        })
        .collect();
    let key = |one: &Named| (one.metric.clone(), one.labels.clone());
    all.sort_by_cached_key(key);
    let mut found: Vec<DuplicateRule> = Vec::new();
    let mut before: Option<Named> = None;
    for one in all {
        let is_same = |before: &Named| before.metric == one.metric && before.labels == one.labels;
        if before.as_ref().is_some_and(is_same) {
            let (metric, labels) = (one.metric.clone(), one.labels.clone());
            found.push(DuplicateRule { metric, labels, place: one.place.clone() });
        }
        before = Some(one);
    }
    found
}
