//! Inhibition: alerts that mute others. Source: Alertmanager, `inhibit/inhibit.go`.
//!
//! Each alert knows which rules it is a source or a target of, with the values of the labels that
//! must be equal; per rule, sources with the same values are sorted by their ends. So a check is a
//! look-up per rule, and an alert that changes moves in the rules it is part of and in no other.

use std::collections::{BTreeSet, HashMap};

use model::Labels;
use settings::alertmanager::{InhibitRule, LabelMatcher};

use super::Fingerprint;

/// The rules, and the alerts that are sources of them.
#[derive(Debug, Default)]
pub(crate) struct Inhibitor {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    rule: InhibitRule,
    /// Per source of the rule.
    sources: Vec<HashMap<Labels, Sources>>,
}

/// Alerts with the same values, by their ends.
#[derive(Debug, Default)]
struct Sources {
    /// Those that are no target of the rule.
    one_sided: BTreeSet<(i64, Fingerprint)>,
    /// Those that are. They do not mute alerts that are sources as well: an alert would mute
    /// itself, or two each other.
    two_sided: BTreeSet<(i64, Fingerprint)>,
}

/// What one alert is in the rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    sources: Vec<SourceRole>,
    targets: Vec<TargetRole>,
}

#[derive(Debug, Clone)]
struct SourceRole {
    rule: usize,
    source: usize,
    equal: Labels,
    two_sided: bool,
}

#[derive(Debug, Clone)]
struct TargetRole {
    rule: usize,
    /// Per source of the rule: the values, and whether the alert is that source, too.
    sources: Vec<(Labels, bool)>,
}

impl Inhibitor {
    pub(crate) fn new(rules: &[InhibitRule]) -> Inhibitor {
        let rules = rules.iter().map(|rule| Rule {
            rule: rule.clone(),
            sources: rule.sources.iter().map(|_| HashMap::new()).collect(),
        });
        Inhibitor { rules: rules.collect() }
    }

    /// What an alert with these labels is in the rules.
    pub(crate) fn roles(&self, labels: &Labels) -> Roles {
        let mut roles = Roles::default();
        for (at, Rule { rule, .. }) in self.rules.iter().enumerate() {
            let is_target = LabelMatcher::all_match(&rule.target_matchers, labels);
            let mut sources = Vec::with_capacity(rule.sources.len());
            for (source, of) in rule.sources.iter().enumerate() {
                let is_source = LabelMatcher::all_match(&of.matchers, labels);
                let equal = labels.filter(|name| of.equal.iter().any(|equal| equal == name));
                if is_source {
                    let equal = equal.clone();
                    roles.sources.push(SourceRole {
                        rule: at,
                        source,
                        equal,
                        two_sided: is_target,
                    });
                }
                sources.push((equal, is_source));
            }
            if is_target {
                roles.targets.push(TargetRole { rule: at, sources });
            }
        }
        roles
    }

    /// Adds an alert to the rules it is a source of.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, roles: &Roles, ends_at_ns: i64) {
        for role in &roles.sources {
            let sources = &mut self.rules[role.rule].sources[role.source];
            let sources = sources.entry(role.equal.clone()).or_default();
            sources.side(role.two_sided).insert((ends_at_ns, fingerprint));
        }
    }

    /// Takes an alert out of the rules; `ends_at_ns` is what it was added with.
    pub(crate) fn remove(&mut self, fingerprint: Fingerprint, roles: &Roles, ends_at_ns: i64) {
        for role in &roles.sources {
            let all = &mut self.rules[role.rule].sources[role.source];
            if let Some(sources) = all.get_mut(&role.equal) {
                sources.side(role.two_sided).remove(&(ends_at_ns, fingerprint));
                if sources.one_sided.is_empty() && sources.two_sided.is_empty() {
                    all.remove(&role.equal);
                }
            }
        }
    }

    /// The alerts that mute one with these roles: those of the first rule that does.
    pub(crate) fn inhibited_by(&self, roles: &Roles, now_ns: i64) -> Vec<Fingerprint> {
        let by_rule = roles.targets.iter().filter_map(|target| {
            let rule = &self.rules[target.rule];
            let firing = target.sources.iter().zip(&rule.sources).map(|((equal, both), all)| {
                all.get(equal).and_then(|sources| sources.firing(!both, now_ns))
            });
            firing.collect::<Option<Vec<Fingerprint>>>().filter(|all| !all.is_empty())
        });
        by_rule.into_iter().next().unwrap_or_default()
    }
}

impl Sources {
    fn side(&mut self, two_sided: bool) -> &mut BTreeSet<(i64, Fingerprint)> {
        if two_sided { &mut self.two_sided } else { &mut self.one_sided }
    }

    /// The alert that fires longest, if any does.
    fn firing(&self, with_two_sided: bool, now_ns: i64) -> Option<Fingerprint> {
        let two_sided = self.two_sided.last().filter(|_| with_two_sided);
        let last = self.one_sided.last().into_iter().chain(two_sided).max()?;
        (last.0 > now_ns).then_some(last.1)
    }
}

#[cfg(test)]
mod tests {
    use model::MatchOp;
    use settings::alertmanager::InhibitSource;

    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split(' ').filter(|pair| !pair.is_empty());
        Labels::from_pairs(pairs.map(|pair| pair.split_once('=').expect("a pair"))).expect("labels")
    }

    fn matchers(text: &str) -> Vec<LabelMatcher> {
        let labels = labels(text);
        let matcher = |(name, value)| LabelMatcher::new(name, MatchOp::Equal, value);
        labels.iter().map(|pair| matcher(pair).expect("no expression")).collect()
    }

    fn source(of: &str, equal: &[&str]) -> InhibitSource {
        let equal = equal.iter().map(|name| (*name).to_owned()).collect();
        InhibitSource { matchers: matchers(of), equal }
    }

    fn rule(sources: Vec<InhibitSource>, target: &str) -> InhibitRule {
        InhibitRule { name: String::new(), sources, target_matchers: matchers(target) }
    }

    /// Whether an alert is muted at 10 by those that end when it is said.
    fn muted(rules: &[InhibitRule], alerts: &[(&str, i64)], target: &str) -> bool {
        let mut inhibitor = Inhibitor::new(rules);
        for (text, ends_at_ns) in alerts {
            let labels = labels(text);
            let roles = inhibitor.roles(&labels);
            inhibitor.insert(Fingerprint::of(&labels), &roles, *ends_at_ns);
        }
        let roles = inhibitor.roles(&labels(target));
        !inhibitor.inhibited_by(&roles, 10).is_empty()
    }

    #[test]
    fn sources_that_fire_mute_targets_with_equal_labels() {
        let rules = [rule(vec![source("s=1", &["e"])], "t=1")];
        assert!(muted(&rules, &[("s=1 e=x", 11)], "t=1 e=x"));
        assert!(!muted(&rules, &[("s=1 e=x", 10)], "t=1 e=x"));
        assert!(!muted(&rules, &[("s=1 e=y", 11)], "t=1 e=x"));
        assert!(!muted(&rules, &[("s=2 e=x", 11)], "t=1 e=x"));
        // A label that is absent is equal to one that is absent.
        assert!(muted(&rules, &[("s=1", 11)], "t=1"));
        // One that ended does not hide one that fires.
        assert!(muted(&rules, &[("s=1 e=x a=1", 5), ("s=1 e=x a=2", 11)], "t=1 e=x"));
    }

    #[test]
    fn alerts_do_not_mute_themselves_or_each_other() {
        let rules = [rule(vec![source("s=1", &["e"])], "t=1")];
        assert!(!muted(&rules, &[("s=1 t=1 e=x", 11)], "s=1 t=1 e=x"));
        assert!(!muted(&rules, &[("s=1 t=1 e=x a=1", 11)], "s=1 t=1 e=x a=2"));
        // One that is both is muted by one that is not, whatever else there is.
        let alerts = [("s=1 t=1 e=x a=1", 99), ("s=1 e=x", 11)];
        assert!(muted(&rules, &alerts, "s=1 t=1 e=x a=2"));
        // And it mutes what is only a target.
        assert!(muted(&rules, &[("s=1 t=1 e=x", 11)], "t=1 e=x"));
    }

    #[test]
    fn several_sources_must_all_fire() {
        let rules = [rule(vec![source("s=1", &["e"]), source("s=2", &[])], "t=1")];
        assert!(!muted(&rules, &[("s=1 e=x", 11)], "t=1 e=x"));
        assert!(muted(&rules, &[("s=1 e=x", 11), ("s=2 e=y", 11)], "t=1 e=x"));
    }

    #[test]
    fn a_rule_of_nothing_mutes_nothing_but_by_others() {
        // An empty rule matches everything on both sides.
        let rules = [rule(vec![source("", &[])], "")];
        assert!(!muted(&rules, &[("a=b", 11)], "a=b"));
        assert!(!muted(&[], &[("a=b", 11)], "a=b"));
    }

    #[test]
    fn alerts_leave_the_rules() {
        let mut inhibitor = Inhibitor::new(&[rule(vec![source("s=1", &["e"])], "t=1")]);
        let source = labels("s=1 e=x");
        let (fingerprint, roles) = (Fingerprint::of(&source), inhibitor.roles(&source));
        inhibitor.insert(fingerprint, &roles, 11);
        let target = inhibitor.roles(&labels("t=1 e=x"));
        assert_eq!(inhibitor.inhibited_by(&target, 10), [fingerprint]);
        inhibitor.remove(fingerprint, &roles, 11);
        assert!(inhibitor.inhibited_by(&target, 10).is_empty());
        assert!(inhibitor.rules[0].sources[0].is_empty());
    }
}
