//! Which rules of a group may run at once.

use std::collections::HashMap;

use model::{METRIC_NAME, MatchOp, Matcher};

use super::spec::RuleSpec;
use super::{ALERT_NAME, ALERTS, ALERTS_FOR_STATE};

/// Puts rules into stages: those of one stage may run at once, and each stage after the one before
/// it, without any rule seeing what it would not see if they ran one after the other.
///
/// Of two rules the later one waits if it reads what the earlier one writes, if it writes what the
/// earlier one reads (which would otherwise see new samples too early), or if both write the same
/// series. Yields indices of `rules`, each once, ascending in each stage.
pub fn stages(rules: &[RuleSpec]) -> Vec<Vec<usize>> {
    let mut writers: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut twins: HashMap<(bool, &str), Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        for name in outputs(rule) {
            writers.entry(name).or_default().push(index);
        }
        twins.entry((rule.is_alerting(), &rule.name)).or_default().push(index);
    }
    // For each rule the earlier ones it must not run beside of.
    let mut waits: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    let mut conflict = |one: usize, other: usize| {
        if one != other {
            waits[one.max(other)].push(one.min(other));
        }
    };
    for same in twins.values() {
        same.windows(2).for_each(|pair| conflict(pair[0], pair[1]));
    }
    for (reader, rule) in rules.iter().enumerate() {
        for selector in &rule.expression.selectors {
            for writer in written_by(selector, &writers) {
                if may_read(selector, &rules[writer]) {
                    conflict(reader, writer);
                }
            }
        }
    }
    let mut stage_of = vec![0_usize; rules.len()];
    let mut stages: Vec<Vec<usize>> = Vec::new();
    for index in 0..rules.len() {
        let stage = waits[index].iter().map(|earlier| stage_of[*earlier] + 1).max().unwrap_or(0);
        stage_of[index] = stage;
        if stages.len() <= stage {
            stages.resize_with(stage + 1, Vec::new);
        }
        stages[stage].push(index);
    }
    stages
}

/// The names of the series that a rule writes.
fn outputs(rule: &RuleSpec) -> impl Iterator<Item = &str> {
    let names: [Option<&str>; 2] = if rule.is_alerting() {
        [Some(ALERTS), Some(ALERTS_FOR_STATE)]
    } else {
        [Some(rule.name.as_str()), None]
    };
    names.into_iter().flatten()
}

/// Rules that write series of a name that a selector may select.
fn written_by(selector: &[Matcher], writers: &HashMap<&str, Vec<usize>>) -> Vec<usize> {
    let on_name: Vec<&Matcher> = selector.iter().filter(|m| m.name == METRIC_NAME).collect();
    if let Some(exact) = on_name.iter().find(|m| m.op == MatchOp::Equal) {
        return writers.get(exact.value.as_str()).cloned().unwrap_or_default();
    }
    let may = |name: &str| on_name.iter().all(|matcher| matcher.matches(name));
    writers.iter().filter(|(name, _)| may(name)).flat_map(|(_, by)| by.iter().copied()).collect()
}

/// Whether what a selector says of an alert's name lets it select those of a rule.
fn may_read(selector: &[Matcher], rule: &RuleSpec) -> bool {
    let on_alert = selector.iter().filter(|matcher| matcher.name == ALERT_NAME);
    !rule.is_alerting() || on_alert.into_iter().all(|matcher| matcher.matches(&rule.name))
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::{alerting, recording};
    use super::*;

    #[test]
    fn independent_rules_run_at_once() {
        let rules = [
            recording("a", "m1"),
            recording("b", "m2"),
            recording("c", "a"),
            alerting("D", "c"),
            alerting("E", "m3"),
        ];
        assert_eq!(stages(&rules), [vec![0, 1, 4], vec![2], vec![3]]);
    }

    #[test]
    fn what_is_read_before_it_is_written_stays_so() {
        let rules = [recording("a", "b"), recording("b", "m")];
        assert_eq!(stages(&rules), [[0], [1]]);
        let rules = [recording("a", "m"), recording("a", "n")];
        assert_eq!(stages(&rules), [[0], [1]]);
    }

    #[test]
    fn a_selector_without_a_name_sees_everything() {
        let rules = [recording("a", "m"), recording("b", "n"), recording("c", "{job=\"x\"}")];
        assert_eq!(stages(&rules), [vec![0, 1], vec![2]]);
        let rules = [recording("a", "m"), recording("b", "{__name__=~\"x.*\"}")];
        assert_eq!(stages(&rules), [[0, 1]]);
        let rules = [recording("a", "m"), recording("b", "{__name__=~\"a|x\"}")];
        assert_eq!(stages(&rules), [[0], [1]]);
    }

    #[test]
    fn alerts_are_read_after_they_are_written() {
        let rules = [alerting("A", "m"), recording("n", "ALERTS"), recording("o", "m")];
        assert_eq!(stages(&rules), [vec![0, 2], vec![1]]);
        let other = "ALERTS{alertname=\"B\"}";
        let rules = [alerting("A", "m"), recording("n", other), alerting("A", "m")];
        assert_eq!(stages(&rules), [vec![0, 1], vec![2]]);
        assert!(stages(&[]).is_empty());
    }

    /// What each rule reads if rules run in the order `order`, each reading what `name` was written
    /// last: by which rule, in which of two evaluations.
    fn reads(rules: &[(u8, Vec<u8>)], order: &[usize]) -> Vec<Vec<Option<(usize, u8)>>> {
        let mut written: HashMap<u8, (usize, u8)> = HashMap::new();
        let mut seen = vec![Vec::new(); rules.len()];
        for evaluation in 0..2 {
            for &index in order {
                let (output, inputs) = &rules[index];
                let read = inputs.iter().map(|input| written.get(input).copied());
                seen[index].extend(read.collect::<Vec<_>>());
                written.insert(*output, (index, evaluation));
            }
        }
        seen
    }

    proptest::proptest! {
        /// In whatever order the rules of a stage run, each reads what it would read if all ran one
        /// after the other.
        #[test]
        fn no_rule_sees_another_order(
            rules in proptest::collection::vec(
                (0_u8..6, proptest::collection::vec(0_u8..6, 0..3)), 0..9),
            backwards in proptest::bool::ANY,
        ) {
            let specs: Vec<RuleSpec> = rules
                .iter()
                .map(|(output, inputs)| {
                    let mut rule = recording(&format!("m{output}"), "up");
                    rule.expression.selectors = inputs
                        .iter()
                        .flat_map(|input| recording("x", &format!("m{input}")).expression.selectors)
                        .collect();
                    rule
                })
                .collect();
            let mut stages = stages(&specs);
            if backwards {
                stages.iter_mut().for_each(|stage| stage.reverse());
            }
            let order: Vec<usize> = stages.into_iter().flatten().collect();
            let in_turn: Vec<usize> = (0..rules.len()).collect();
            proptest::prop_assert_eq!(order.len(), rules.len());
            proptest::prop_assert_eq!(reads(&rules, &order), reads(&rules, &in_turn));
        }
    }
}
