//! What an alerting rule makes of a result.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Labels, METRIC_NAME};

use super::ALERT_NAME;
use super::alert::{Alert, AlertState, Annotations, RESOLVED_RETENTION_MS};
use super::label_merge::merge;
use super::limits::{RuleLimits, Share};
use super::sample::Sample;
use super::spec::RuleSpec;
use super::text::{Depends, Expand, TextData};

/// The alerts of one rule.
#[derive(Debug)]
pub(super) struct Alerts {
    /// By their labels, so that what is written and sent has an order.
    pub(super) by_labels: BTreeMap<Labels, Alert>,
    /// Texts of samples that came before, by the labels of the sample.
    expanded: HashMap<Labels, Expanded>,
    /// What those texts saw of the configuration: `$externalLabels` and `$externalURL`.
    expanded_with: (Labels, String),
    share: Share,
}

/// What the texts of a rule became for a sample.
#[derive(Debug, Clone)]
struct Expanded {
    labels: Labels,
    annotations: Annotations,
    /// The sample's value, as bits: equal ones have equal texts.
    value_bits: u64,
    /// Whether this round saw the sample.
    is_current: bool,
}

/// One evaluation.
pub(super) struct Round<'a> {
    pub(super) rule: &'a RuleSpec,
    /// For which time.
    pub(super) at_ms: i64,
    /// Which time the samples it writes bear.
    pub(super) written_at_ms: i64,
    /// The group's limit, 0 for none.
    pub(super) limit: usize,
    pub(super) limits: &'a RuleLimits,
    pub(super) expand: &'a dyn Expand,
    pub(super) external_labels: &'a Labels,
    pub(super) external_url: &'a str,
    /// Whether `ALERTS` is written: not before what was there at the last stop is known.
    pub(super) is_restored: bool,
}

impl Alerts {
    pub(super) fn new(share: Share) -> Self {
        let expanded_with = (Labels::empty(), String::new());
        Alerts { by_labels: BTreeMap::new(), expanded: HashMap::new(), expanded_with, share }
    }

    /// How many are pending or firing.
    pub(super) fn active(&self) -> usize {
        self.by_labels.values().filter(|alert| alert.is_active()).count()
    }

    /// Counts those that came in another way than by an evaluation.
    pub(super) fn recount(&mut self) {
        let active = self.active();
        self.share.settle(active);
    }

    /// Takes a result; yields what is to be written.
    ///
    /// # Errors
    /// Two samples make the same alert, or a limit is passed. Above the group's own limit all alerts
    /// are forgotten, as in Prometheus; otherwise they are as they were.
    pub(super) fn evaluate(
        &mut self,
        round: &Round<'_>,
        result: &[Sample],
    ) -> Result<Vec<Sample>, String> {
        let limits = round.limits;
        if result.len() > limits.max_alerts_per_rule {
            return Err(format!(
                "the rule yields {} alerts; rules.max_alerts_per_rule is {}: aggregate more, or \
                 raise it",
                result.len(),
                limits.max_alerts_per_rule
            ));
        }
        // Before texts are expanded, which may ask queries for each of them.
        if round.limit > 0 && result.len() > round.limit {
            return Err(self.forget_all(round.limit, result.len()));
        }
        self.forget_texts_of_before(round);
        let mut current: BTreeMap<Labels, (Annotations, f64)> = BTreeMap::new();
        for sample in result {
            let (labels, annotations) = self.texts(round, sample);
            if current.insert(labels, (annotations, sample.value)).is_some() {
                let message =
                    "vector contains metrics with the same labelset after applying alert labels";
                return Err(message.to_owned());
            }
        }
        self.forget_texts();
        self.fits(round, &current)?;
        let samples = self.advance(round, current);
        self.forget_resolved(limits.max_alerts_per_rule);
        let active = self.active();
        if round.limit > 0 && active > round.limit {
            return Err(self.forget_all(round.limit, active));
        }
        self.share.settle(active);
        Ok(samples)
    }

    /// Forgets all alerts, since they are more than the group's limit; yields what is told.
    fn forget_all(&mut self, limit: usize, count: usize) -> String {
        self.by_labels.clear();
        self.recount();
        format!("exceeded limit of {limit} with {count} alerts")
    }

    /// Makes sure that there is room for those of a result and those that go on without.
    fn fits(
        &mut self,
        round: &Round<'_>,
        current: &BTreeMap<Labels, (Annotations, f64)>,
    ) -> Result<(), String> {
        let may_stay = |alert: &Alert| alert.held_for > 0 || round.rule.keep_firing_for_ms > 0;
        let staying = self.by_labels.iter().filter(|(labels, alert)| {
            alert.is_active() && may_stay(alert) && !current.contains_key(labels)
        });
        let count = current.len() + staying.count();
        let limits = round.limits;
        if count > limits.max_alerts_per_rule {
            return Err(format!(
                "the rule has {count} alerts with those that keep_firing_for keeps; \
                 rules.max_alerts_per_rule is {}: aggregate more, keep shorter, or raise it",
                limits.max_alerts_per_rule
            ));
        }
        self.share.reserve(count, limits.max_alerts)
    }

    /// Forgets the oldest of too many resolved alerts, as they are where each evaluation yields
    /// others.
    fn forget_resolved(&mut self, max: usize) {
        let resolved = self.by_labels.iter().filter_map(|(labels, alert)| {
            alert.resolved_at_ms.map(|resolved_ms| (resolved_ms, labels))
        });
        let count = resolved.clone().count();
        if count <= max {
            return;
        }
        let mut resolved: Vec<(i64, Labels)> =
            resolved.map(|(resolved_ms, labels)| (resolved_ms, labels.clone())).collect();
        resolved.sort_unstable();
        for (_, labels) in &resolved[..count - max] {
            self.by_labels.remove(labels);
        }
    }

    /// Moves every alert on.
    fn advance(
        &mut self,
        round: &Round<'_>,
        current: BTreeMap<Labels, (Annotations, f64)>,
    ) -> Vec<Sample> {
        let at_ms = round.at_ms;
        for (labels, (annotations, value)) in &current {
            match self.by_labels.get_mut(labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = *value;
                    alert.annotations = Arc::clone(annotations);
                }
                _ => {
                    let alert = Alert::new(labels.clone(), Arc::clone(annotations), *value, at_ms);
                    self.by_labels.insert(labels.clone(), alert);
                }
            }
        }
        let mut samples = Vec::with_capacity(current.len() * 2);
        self.by_labels.retain(|labels, alert| {
            if current.contains_key(labels) {
                alert.keep_firing_since_ms = None;
                alert.held_for = 0;
            } else if !stays(alert, round) {
                return is_kept(alert, at_ms);
            }
            let has_held = at_ms.saturating_sub(alert.active_at_ms) >= round.rule.hold_ms;
            match alert.state {
                AlertState::Pending if has_held && current.contains_key(labels) => {
                    alert.enter(AlertState::Firing);
                    alert.fired_at_ms = Some(at_ms);
                }
                // The rule now says `for` a longer time.
                AlertState::Firing if !has_held => {
                    alert.enter(AlertState::Pending);
                    alert.fired_at_ms = None;
                    alert.last_sent_at_ms = None;
                    alert.keep_firing_since_ms = None;
                }
                _ => {}
            }
            if round.is_restored {
                let [state, since] = alert.series.clone();
                let t_ms = round.written_at_ms;
                let since_s = alert.active_at_ms.div_euclid(1_000) as f64;
                samples.push(Sample::float(state, t_ms, 1.0));
                samples.push(Sample::float(since, t_ms, since_s));
            }
            true
        });
        samples
    }

    /// The labels and annotations of the alert that a sample makes. What cannot have changed since
    /// the sample came last is not expanded again.
    fn texts(&mut self, round: &Round<'_>, sample: &Sample) -> (Labels, Annotations) {
        let rule = round.rule;
        let value_bits = sample.value.to_bits();
        let is_number = sample.histogram.is_none();
        let known = self.expanded.get_mut(&sample.labels).filter(|_| is_number);
        let is_same_value = known.as_ref().is_some_and(|known| known.value_bits == value_bits);
        let holds = |depends: Depends| {
            depends < Depends::Value || (is_same_value && depends == Depends::Value)
        };
        let data = TextData {
            labels: &sample.labels,
            external_labels: round.external_labels,
            external_url: round.external_url,
            value: sample.value,
            histogram: sample.histogram.as_deref(),
            at_ms: round.at_ms,
            expression: &rule.expression.text,
            asked_at_ms: round.written_at_ms,
        };
        if let Some(known) = known {
            known.is_current = true;
            known.value_bits = value_bits;
            if !holds(rule.labels_depend) {
                known.labels = expand_labels(round, &data);
            }
            if !rule.annotations_depend.iter().all(|depends| holds(*depends)) {
                let texts = rule.annotations.iter().zip(&rule.annotations_depend);
                let annotations = texts.zip(known.annotations.iter());
                let annotations =
                    annotations.map(|(((name, text), depends), before)| match holds(*depends) {
                        true => before.clone(),
                        false => (name.clone(), expand(round, text, &data)),
                    });
                known.annotations = annotations.collect();
            }
            return (known.labels.clone(), Arc::clone(&known.annotations));
        }
        let labels = expand_labels(round, &data);
        let texts = rule.annotations.iter();
        let annotations: Annotations =
            texts.map(|(name, text)| (name.clone(), expand(round, text, &data))).collect();
        if is_number {
            let (labels, annotations) = (labels.clone(), Arc::clone(&annotations));
            let known = Expanded { labels, annotations, value_bits, is_current: true };
            self.expanded.insert(sample.labels.clone(), known);
        }
        (labels, annotations)
    }

    /// Forgets all texts if the configuration has changed that they see: a group whose rules say what they
    /// said goes on over a reload.
    fn forget_texts_of_before(&mut self, round: &Round<'_>) {
        let (labels, url) = &self.expanded_with;
        if labels != round.external_labels || url != round.external_url {
            self.expanded.clear();
            self.expanded_with = (round.external_labels.clone(), round.external_url.to_owned());
        }
    }

    /// Forgets the texts of samples that did not come this time.
    fn forget_texts(&mut self) {
        self.expanded.retain(|_, known| std::mem::take(&mut known.is_current));
    }
}

/// One text of a rule.
fn expand(round: &Round<'_>, text: &str, data: &TextData<'_>) -> String {
    // Most texts are no templates.
    let mut expanded = match text.contains("{{") {
        false => text.to_owned(),
        true => match round.expand.expand(&round.rule.name, text, data) {
            Ok(expanded) => expanded,
            Err(error) => format!("<error expanding template: {error}>"),
        },
    };
    cut(&mut expanded, round.limits.max_text_bytes);
    expanded
}

/// The labels of an alert: those of its sample, and those that the rule sets.
fn expand_labels(round: &Round<'_>, data: &TextData<'_>) -> Labels {
    let rule = round.rule;
    let of_rule = rule.labels.iter().filter(|(name, _)| name != ALERT_NAME);
    let mut set: Vec<(&str, String)> =
        of_rule.map(|(name, text)| (name.as_str(), expand(round, text, data))).collect();
    set.push((ALERT_NAME, rule.name.clone()));
    set.push((METRIC_NAME, String::new()));
    set.sort_unstable();
    merge(data.labels, set.iter().map(|(name, value)| (*name, value.as_str())))
}

/// Whether an alert that its expression no longer yields goes on all the same.
fn stays(alert: &mut Alert, round: &Round<'_>) -> bool {
    if alert.held_for > 0 {
        alert.held_for -= 1;
        return alert.is_active();
    }
    let keep_ms = round.rule.keep_firing_for_ms;
    if alert.state != AlertState::Firing || keep_ms == 0 {
        return false;
    }
    let since_ms = *alert.keep_firing_since_ms.get_or_insert(round.at_ms);
    round.at_ms.saturating_sub(since_ms) < keep_ms
}

/// Ends an alert; whether it is kept, for others to hear of its end.
fn is_kept(alert: &mut Alert, at_ms: i64) -> bool {
    if alert.state == AlertState::Pending {
        return false;
    }
    let resolved_ms = *alert.resolved_at_ms.get_or_insert(at_ms);
    if alert.state != AlertState::Inactive {
        alert.enter(AlertState::Inactive);
    }
    at_ms.saturating_sub(resolved_ms) <= RESOLVED_RETENTION_MS
}

/// Shortens a text to at most `max` bytes.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}
