//! What is counted of rules, under the names Prometheus gives them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alerting::rules::{GroupKey, SharedGroup, Timing};
use parking_lot::Mutex;
use wire::text_encode::TextEncoder;

use super::waiting::locked;
use super::{RuleLanguage, Rules};

/// Upper bounds of how late evaluations begin, seconds.
const BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct RuleCounters {
    groups: Mutex<BTreeMap<(RuleLanguage, GroupKey), OfGroup>>,
    late: Mutex<([u64; BUCKETS.len()], u64, f64)>,
    states_not_written: AtomicU64,
    evidence_left_out: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct OfGroup {
    iterations: u64,
    missed: u64,
    evaluations: u64,
    failures: u64,
    /// Milliseconds since 1970.
    last_began_ms: i64,
    last_seconds: f64,
    last_samples: u64,
    late_seconds: f64,
}

impl RuleCounters {
    fn group(&self, language: RuleLanguage, key: &GroupKey, change: impl FnOnce(&mut OfGroup)) {
        let mut groups = self.groups.lock();
        match groups.get_mut(&(language, key.clone())) {
            Some(group) => change(group),
            None => change(groups.entry((language, key.clone())).or_default()),
        }
    }

    pub(super) fn began(&self, language: RuleLanguage, key: &GroupKey, missed: u64, late_ms: i64) {
        let late = late_ms.max(0) as f64 / 1_000.0;
        self.group(language, key, |group| {
            group.iterations += 1 + missed;
            group.missed += missed;
            group.late_seconds = late;
        });
        let mut all = self.late.lock();
        for (bound, count) in BUCKETS.iter().zip(&mut all.0) {
            *count += u64::from(late <= *bound);
        }
        all.1 += 1;
        all.2 += late;
    }

    pub(super) fn ended(
        &self,
        language: RuleLanguage,
        key: &GroupKey,
        timing: Timing,
        samples: u64,
    ) {
        self.group(language, key, |group| {
            group.last_began_ms = timing.started_ms;
            group.last_seconds = timing.took.as_secs_f64();
            group.last_samples = samples;
        });
    }

    pub(super) fn evaluated(&self, language: RuleLanguage, key: &GroupKey, rules: usize) {
        self.group(language, key, |group| group.evaluations += rules as u64);
    }

    pub(super) fn failed(&self, language: RuleLanguage, key: &GroupKey) {
        self.group(language, key, |group| group.failures += 1);
    }

    pub(super) fn evidence_left_out(&self, asked: u64) {
        self.evidence_left_out.fetch_add(asked, Ordering::Relaxed);
    }

    pub(super) fn state_not_written(&self) {
        self.states_not_written.fetch_add(1, Ordering::Relaxed);
    }
}

/// A group: its name, its language, what was counted, and its interval with the number of its rules.
type Row = (String, RuleLanguage, OfGroup, (i64, usize));

/// Writes everything in Prometheus' text format.
pub(crate) fn render(rules: &Rules, out: &mut TextEncoder<'_>) {
    let counters = &rules.inner.counters;
    let groups: Vec<((RuleLanguage, GroupKey), SharedGroup)> = {
        let sets = locked(&rules.inner.sets);
        let all = sets.each();
        all.map(|(language, key, group)| ((language, key.clone()), Arc::clone(group))).collect()
    };
    let (there, intervals): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .map(|(place, group)| {
            let group = locked(&group);
            (place, (group.spec().interval_ms, group.spec().rules.len()))
        })
        .unzip();
    let mut counted = counters.groups.lock();
    // Of groups that are gone nothing is told any more.
    let known: std::collections::BTreeSet<_> = there.iter().cloned().collect();
    counted.retain(|place, _| known.contains(place));
    let rows: Vec<Row> = there
        .into_iter()
        .zip(intervals)
        .map(|(place, more)| {
            let counted = counted.get(&place).cloned().unwrap_or_default();
            (place.1.to_string(), place.0, counted, more)
        })
        .collect();
    drop(counted);
    let mut each =
        |name: &str, kind: &str, help: &str, of: &dyn Fn(&OfGroup, (i64, usize)) -> f64| {
            out.family(name, kind, help);
            for (group, language, row, more) in &rows {
                let labels = [("rule_group", group.as_str()), ("language", language.as_str())];
                // Prometheus knows no other language: its groups are called as it calls them.
                let is_promql = *language == RuleLanguage::Promql;
                let labels = if is_promql { &labels[..1] } else { &labels[..] };
                out.sample(name, labels, of(row, *more));
            }
        };
    each(
        "prometheus_rule_group_iterations_total",
        "counter",
        "Evaluations of a group that were due.",
        &|row, _| row.iterations as f64,
    );
    each(
        "prometheus_rule_group_iterations_missed_total",
        "counter",
        "Evaluations of a group that nobody made because the one before took too long.",
        &|row, _| row.missed as f64,
    );
    each("prometheus_rule_evaluations_total", "counter", "Evaluations of rules.", &|row, _| {
        row.evaluations as f64
    });
    each(
        "prometheus_rule_evaluation_failures_total",
        "counter",
        "Evaluations of rules that failed.",
        &|row, _| row.failures as f64,
    );
    each(
        "prometheus_rule_group_last_evaluation_timestamp_seconds",
        "gauge",
        "When the last evaluation of a group began, seconds since 1970.",
        &|row, _| row.last_began_ms as f64 / 1_000.0,
    );
    each(
        "prometheus_rule_group_last_duration_seconds",
        "gauge",
        "How long the last evaluation of a group took.",
        &|row, _| row.last_seconds,
    );
    each(
        "prometheus_rule_group_last_evaluation_samples",
        "gauge",
        "Samples that the last evaluation of a group yielded.",
        &|row, _| row.last_samples as f64,
    );
    each(
        "prometheus_rule_group_interval_seconds",
        "gauge",
        "How often a group is evaluated.",
        &|_, (interval_ms, _)| interval_ms as f64 / 1_000.0,
    );
    each("prometheus_rule_group_rules", "gauge", "Rules of a group.", &|_, (_, rules)| {
        rules as f64
    });
    each(
        "watchfire_ruler_group_lag_seconds",
        "gauge",
        "How much later than due the last evaluation of a group began.",
        &|row, _| row.late_seconds,
    );
    let name = "watchfire_ruler_lag_seconds";
    out.family(name, "histogram", "How much later than due evaluations began.");
    let late = *counters.late.lock();
    for (bound, count) in BUCKETS.iter().zip(late.0) {
        let bound = bound.to_string();
        out.sample(&format!("{name}_bucket"), &[("le", &bound)], count as f64);
    }
    out.sample(&format!("{name}_bucket"), &[("le", "+Inf")], late.1 as f64);
    out.sample(&format!("{name}_sum"), &[], late.2);
    out.sample(&format!("{name}_count"), &[], late.1 as f64);
    let name = "watchfire_ruler_rule_states_not_written_total";
    out.family(name, "counter", "Attempts in vain to write down the state of rules.");
    out.sample(name, &[], counters.states_not_written.load(Ordering::Relaxed) as f64);
    let name = "watchfire_ruler_evidence_left_out_total";
    out.family(
        name,
        "counter",
        "How often lines or exemplars behind an alert were not looked for, because its rule had asked for \
         too many.",
    );
    out.sample(name, &[], counters.evidence_left_out.load(Ordering::Relaxed) as f64);
}
