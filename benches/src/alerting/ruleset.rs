//! Rules as teams write them: groups that record rates and shares of a region, and alert on hosts and on what was
//! recorded.

use std::fmt::Write as _;

use crate::families::{Behaviour, Fleet};

/// Rules of a group: five of each of its metrics.
const GROUP: usize = 25;
const RULES_PER_METRIC: usize = 5;
/// Regions of [`Fleet::Devops`], and all of them together.
const SCOPES: [&str; 10] = [
    "ap-northeast-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "eu-central-1",
    "eu-west-1",
    "sa-east-1",
    "us-east-1",
    "us-west-1",
    "us-west-2",
    ".+",
];

/// The label of every recorded series, by which it is told from others.
pub(super) const GROUP_LABEL: &str = "bench_group";

/// The name of a group.
pub(super) fn group_name(group: usize) -> String {
    format!("group-{group}")
}

/// A file with so many rules over series of [`Fleet::Devops`].
pub(super) fn file(rules: usize, interval_seconds: u64) -> String {
    let metrics: Vec<(&str, Behaviour)> = Fleet::Devops
        .families()
        .iter()
        .flat_map(|families| families.names.iter().map(move |name| (*name, families.behaviour)))
        .collect();
    let mut yaml = "groups:\n".to_owned();
    for rule in 0..rules {
        let (group, place) = (rule / GROUP, rule % GROUP);
        if place == 0 {
            let name = group_name(group);
            let _ = writeln!(yaml, "- name: {name}\n  interval: {interval_seconds}s\n  rules:");
        }
        let nth = group * (GROUP / RULES_PER_METRIC) + place / RULES_PER_METRIC;
        let (metric, behaviour) = metrics[nth % metrics.len()];
        let scope = SCOPES[nth / metrics.len() % SCOPES.len()];
        one(&mut yaml, group, place % RULES_PER_METRIC, metric, behaviour, scope);
    }
    yaml
}

fn one(
    yaml: &mut String,
    group: usize,
    form: usize,
    metric: &str,
    behaviour: Behaviour,
    scope: &str,
) {
    let selector = format!("{metric}{{region=~\"{scope}\"}}");
    let level = match behaviour {
        Behaviour::Counter { .. } => format!("rate({selector}[5m])"),
        _ => format!("avg_over_time({selector}[5m])"),
    };
    let recorded = format!("datacenter:{metric}:level5m");
    let (name, expression) = match form {
        0 => (recorded, format!("avg by (region, datacenter) ({level})")),
        1 => (format!("service:{metric}:max"), format!("max by (region, service) ({selector})")),
        2 => (
            format!("team:{metric}:share"),
            format!("sum by (team) ({level}) / ignoring (team) group_left sum ({level})"),
        ),
        3 => {
            let _ = writeln!(
                yaml,
                "  - alert: {metric}OfHost\n    expr: {level} > 1.9 * scalar(avg({level}))\n    for: 1m\n    \
                 labels: {{severity: warning, {GROUP_LABEL}: '{group}'}}\n    annotations:\n      \
                 summary: '{{{{ $labels.hostname }}}} in {{{{ $labels.datacenter }}}}: {metric} is {{{{ $value | humanize }}}}'"
            );
            return;
        }
        _ => {
            let _ = writeln!(
                yaml,
                "  - alert: {metric}OfDatacenter\n    expr: {recorded}{{{GROUP_LABEL}='{group}'}} > 1.2 * \
                 scalar(avg({recorded}{{{GROUP_LABEL}='{group}'}}))\n    for: 5m\n    keep_firing_for: 1m\n    \
                 labels: {{severity: page}}\n    annotations: {{summary: '{{{{ $labels.datacenter }}}}: {metric}'}}"
            );
            return;
        }
    };
    let _ = writeln!(
        yaml,
        "  - record: {name}\n    expr: {expression}\n    labels: {{{GROUP_LABEL}: '{group}'}}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_as_many_rules_and_recording_and_alerting_ones() {
        let yaml = file(60, 15);
        let count = |text: &str| yaml.matches(text).count();
        assert_eq!((count("- name: "), count("- record: "), count("- alert: ")), (3, 36, 24));
        assert!(yaml.contains("- name: group-2\n  interval: 15s\n"));
    }
}
