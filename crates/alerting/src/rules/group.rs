//! A group: what it has, when it is due, and what evaluating it changes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use model::Labels;

use super::alert::Notice;
use super::alerting_rule::{Alerts, Round};
use super::limits::{AlertBudget, RuleLimits, Share};
use super::recording_rule;
use super::rule_set::GroupKey;
use super::sample::Sample;
use super::schedule::{CatchUp, CatchUpLimits, Schedule};
use super::spec::{GroupSpec, RuleSpec};
use super::text::Expand;

/// How a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nobody has evaluated it yet.
    Unknown,
    /// Its last evaluation went well.
    Good,
    /// Its last evaluation failed.
    Bad,
}

impl Health {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Good => "ok",
            Health::Bad => "err",
        }
    }
}

/// What evaluating a rule needs beside its result.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Expands templates.
    pub expand: &'a dyn Expand,
    /// `global.external_labels`.
    pub external_labels: &'a Labels,
    /// Where this system is reached from outside.
    pub external_url: &'a str,
    /// Limits of all rules.
    pub limits: &'a RuleLimits,
    /// The shortest time between two notices of one alert; Prometheus' default is a minute.
    pub resend_delay_ms: i64,
}

/// When an evaluation began, by the wall clock, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    /// How long.
    pub took: Duration,
}

/// One evaluation of a group: queries to ask, stage after stage.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Which group.
    pub key: GroupKey,
    /// For which time, milliseconds since the epoch.
    pub at_ms: i64,
    /// For which time to ask queries: earlier by the group's offset.
    pub query_at_ms: i64,
    /// How many evaluations before this one nobody made.
    pub missed: u64,
    /// Whether it is for a time of the past, so that the group's present is none of its business.
    pub is_after_the_fact: bool,
    /// The group as it was when this began.
    pub spec: Arc<GroupSpec>,
}

impl Evaluation {
    /// Indices of rules whose queries may be asked at once, stage after stage. What the rules of a
    /// stage yield must be written before those of the next are asked.
    pub fn stages(&self) -> &[Vec<usize>] {
        &self.spec.stages
    }

    /// What to ask for a rule.
    pub fn expression(&self, rule: usize) -> &Arc<str> {
        &self.spec.rules[rule].expression.text
    }
}

/// What a rule's result leads to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// To be written; marks of series that have ended come last.
    pub samples: Vec<Sample>,
    /// To be sent.
    pub notices: Vec<Notice>,
}

/// A group of rules with its state.
#[derive(Debug)]
pub struct Group {
    pub(super) key: GroupKey,
    pub(super) spec: Arc<GroupSpec>,
    pub(super) rules: Vec<RuleState>,
    /// Series of rules that are no longer in the group.
    pub(super) ended: Vec<Labels>,
    pub(super) schedule: Schedule,
    /// After how many more evaluations the state before the last stop is asked for.
    pub(super) restores_in: Option<u8>,
    /// For which time it was last evaluated.
    pub(super) evaluated_for_ms: Option<i64>,
    pub(super) timing: Timing,
    pub(super) last_samples: u64,
}

/// A rule's state.
#[derive(Debug)]
pub(super) struct RuleState {
    pub(super) health: Health,
    pub(super) last_error: Option<String>,
    pub(super) timing: Timing,
    /// The series that its last evaluation wrote.
    pub(super) series: HashSet<Labels>,
    /// Those of an evaluation that is not known to be written yet.
    writing: Option<HashSet<Labels>>,
    /// For which time the result was that `series` are of.
    applied_for_ms: Option<i64>,
    /// Its alerts, if it makes any.
    pub(super) alerts: Option<Alerts>,
    /// Whether what was there before the last stop is known.
    pub(super) is_restored: bool,
    pub(super) evaluations: u64,
    pub(super) failures: u64,
}

impl RuleState {
    fn new(spec: &RuleSpec, budget: &Arc<AlertBudget>, is_restored: bool) -> Self {
        let alerts = || Alerts::new(Share::new(Arc::clone(budget)));
        RuleState {
            health: Health::Unknown,
            last_error: None,
            timing: Timing::default(),
            series: HashSet::new(),
            writing: None,
            applied_for_ms: None,
            alerts: spec.is_alerting().then(alerts),
            is_restored,
            evaluations: 0,
            failures: 0,
        }
    }

    fn fail(&mut self, error: String) {
        self.health = Health::Bad;
        self.last_error = Some(error);
        self.failures += 1;
    }
}

impl Group {
    /// A group whose first evaluation comes after `now_ms`. If it is to restore, it asks for
    /// `ALERTS_FOR_STATE` after its second evaluation, and writes no `ALERTS` before.
    pub fn new(spec: GroupSpec, now_ms: i64, restores: bool, budget: &Arc<AlertBudget>) -> Self {
        let has_alerts = spec.rules.iter().any(RuleSpec::is_alerting);
        let state = |rule: &RuleSpec| RuleState::new(rule, budget, !restores);
        Group {
            key: GroupKey { file: spec.file.clone(), name: spec.name.clone() },
            rules: spec.rules.iter().map(state).collect(),
            ended: Vec::new(),
            schedule: Schedule::new(spec.interval_ms, spec.offset_ms, now_ms),
            restores_in: (restores && has_alerts).then_some(2),
            evaluated_for_ms: None,
            timing: Timing::default(),
            last_samples: 0,
            spec: Arc::new(spec),
        }
    }

    /// Its file and name.
    pub fn key(&self) -> &GroupKey {
        &self.key
    }

    /// What it says.
    pub fn spec(&self) -> &Arc<GroupSpec> {
        &self.spec
    }

    /// When it is due next, milliseconds since the epoch.
    pub fn due_ms(&self) -> i64 {
        self.schedule.due_ms
    }

    /// For which time it was last evaluated, milliseconds since the epoch.
    pub fn evaluated_for_ms(&self) -> Option<i64> {
        self.evaluated_for_ms
    }

    /// How many evaluations were due so far, and how many of them nobody made.
    pub fn iterations(&self) -> (u64, u64) {
        (self.schedule.iterations, self.schedule.missed)
    }

    /// How often rules of it were evaluated, and how often that failed.
    pub fn evaluations(&self) -> (u64, u64) {
        let sum = |count: fn(&RuleState) -> u64| self.rules.iter().map(count).sum();
        (sum(|rule| rule.evaluations), sum(|rule| rule.failures))
    }

    /// The error of a rule's last evaluation, if it failed.
    pub fn last_error(&self, rule: usize) -> Option<&str> {
        self.rules.get(rule)?.last_error.as_deref()
    }

    /// How a rule is.
    pub fn health(&self, rule: usize) -> Option<Health> {
        self.rules.get(rule).map(|rule| rule.health)
    }

    /// The alerts of a rule, resolved ones included; none for a recording rule.
    pub fn alerts(&self, rule: usize) -> impl Iterator<Item = &super::Alert> {
        let alerts = self.rules.get(rule).and_then(|rule| rule.alerts.as_ref());
        alerts.into_iter().flat_map(|alerts| alerts.by_labels.values())
    }

    /// The evaluation that is due at `now_ms`, if one is; it then counts as begun.
    pub fn begin(&mut self, now_ms: i64) -> Option<Evaluation> {
        let tick = self.schedule.tick(now_ms)?;
        self.last_samples = 0;
        Some(Evaluation { missed: tick.missed, ..self.evaluation_at(tick.at_ms) })
    }

    /// An evaluation for a time of the past, as [`Group::catch_up`] names some; regular ones may come
    /// before and after. Where one for a later time was applied already, it only writes samples.
    pub fn evaluation_after_the_fact(&self, at_ms: i64) -> Evaluation {
        Evaluation { is_after_the_fact: true, ..self.evaluation_at(at_ms) }
    }

    /// An evaluation for a time of the caller's choice, for tests.
    pub fn evaluation_at(&self, at_ms: i64) -> Evaluation {
        Evaluation {
            key: self.key.clone(),
            at_ms,
            query_at_ms: at_ms.saturating_sub(self.spec.query_offset_ms),
            missed: 0,
            is_after_the_fact: false,
            spec: Arc::clone(&self.spec),
        }
    }

    /// Takes the result of a rule's query: what is to be written and sent. Call
    /// [`Group::written`] when it is written.
    ///
    /// A failed query changes no alert. Nothing happens if the group has been replaced by another
    /// since the evaluation began.
    pub fn apply(
        &mut self,
        evaluation: &Evaluation,
        rule: usize,
        result: Result<Vec<Sample>, String>,
        timing: Timing,
        with: &Surroundings<'_>,
    ) -> Applied {
        if !Arc::ptr_eq(&evaluation.spec, &self.spec) || rule >= self.rules.len() {
            return Applied::default();
        }
        let spec = Arc::clone(&self.spec);
        let (at_ms, written_at_ms) = (evaluation.at_ms, evaluation.query_at_ms);
        let rule_spec = &spec.rules[rule];
        let state = &mut self.rules[rule];
        state.timing = timing;
        state.evaluations += 1;
        let samples = result.and_then(|result| match &mut state.alerts {
            None => recording_rule::evaluate(rule_spec, result, spec.limit, with.limits),
            Some(alerts) => {
                let round = Round {
                    rule: rule_spec,
                    at_ms,
                    written_at_ms,
                    limit: spec.limit,
                    limits: with.limits,
                    expand: with.expand,
                    external_labels: with.external_labels,
                    external_url: with.external_url,
                    is_restored: state.is_restored,
                };
                alerts.evaluate(&round, &result)
            }
        });
        let mut samples = match samples {
            Ok(samples) => samples,
            Err(error) => {
                state.fail(error);
                return Applied::default();
            }
        };
        state.health = Health::Good;
        state.last_error = None;
        self.last_samples += samples.len() as u64;
        let text = &rule_spec.expression.text;
        let send = |alert: &mut super::Alert| {
            alert.send(at_ms, with.resend_delay_ms, spec.interval_ms, text)
        };
        let alerts = state.alerts.iter_mut();
        let notices =
            alerts.flat_map(|alerts| alerts.by_labels.values_mut()).filter_map(send).collect();
        // What was written for a later time is what there is: nothing of it ends in the past.
        let is_later = |applied_ms: i64| applied_ms > at_ms;
        if evaluation.is_after_the_fact && self.rules[rule].applied_for_ms.is_some_and(is_later) {
            return Applied { samples, notices };
        }
        let written: HashSet<Labels> = samples.iter().map(|sample| sample.labels.clone()).collect();
        let state = &self.rules[rule];
        let mut gone: Vec<Labels> = state
            .series
            .iter()
            // What another rule of the group writes has not ended.
            .filter(|series| !written.contains(series) && !self.is_written_by_another(rule, series))
            .cloned()
            .collect();
        gone.sort_unstable();
        samples.extend(gone.into_iter().map(|series| Sample::stale(series, written_at_ms)));
        let state = &mut self.rules[rule];
        (state.writing, state.applied_for_ms) = (Some(written), Some(at_ms));
        Applied { samples, notices }
    }

    fn is_written_by_another(&self, rule: usize, series: &Labels) -> bool {
        let twins = self.spec.twins.get(&rule).into_iter().flat_map(|twins| twins.iter());
        let mut others = twins.filter(|twin| **twin != rule);
        others.any(|twin| self.rules[*twin].series.contains(series))
    }

    /// Whether the last evaluation of any of its rules wrote a series. What a series can be of is
    /// told by its name, which costs less to look at than all of its labels.
    pub(super) fn writes(&self, series: &Labels) -> bool {
        let name = series.metric_name().unwrap_or_default();
        let is_of_alerts = name == super::ALERTS || name == super::ALERTS_FOR_STATE;
        let alert = series.get(super::ALERT_NAME);
        let mut rules = self.spec.rules.iter().zip(&self.rules);
        rules.any(|(spec, state)| {
            let may = match spec.is_alerting() {
                true => is_of_alerts && alert == Some(spec.name.as_str()),
                false => spec.name == name,
            };
            may && state.series.contains(series)
        })
    }

    /// Says whether the samples of a rule were written. If they were not, its health is bad, and
    /// series that ended are marked again next time, as are those that may have been written in part.
    pub fn written(&mut self, evaluation: &Evaluation, rule: usize, outcome: Result<(), String>) {
        if !Arc::ptr_eq(&evaluation.spec, &self.spec) {
            return;
        }
        let Some(state) = self.rules.get_mut(rule) else { return };
        let Some(written) = state.writing.take() else { return };
        match outcome {
            Ok(()) => state.series = written,
            Err(error) => {
                // Some of them may be there all the same, so they too must end some day.
                state.series.extend(written);
                state.fail(error);
            }
        }
    }

    /// Ends an evaluation: yields the marks that end series of rules which are no longer there. If
    /// they cannot be written, hand their labels to [`Group::end_later`].
    pub fn finish(&mut self, evaluation: &Evaluation, timing: Timing) -> Vec<Sample> {
        if !Arc::ptr_eq(&evaluation.spec, &self.spec) {
            return Vec::new();
        }
        if evaluation.is_after_the_fact {
            self.evaluated_for_ms = self.evaluated_for_ms.max(Some(evaluation.at_ms));
            return Vec::new();
        }
        self.timing = timing;
        self.evaluated_for_ms = Some(evaluation.at_ms);
        if let Some(evaluations) = &mut self.restores_in {
            *evaluations = evaluations.saturating_sub(1);
        }
        let ended = std::mem::take(&mut self.ended);
        let ended = ended.into_iter().filter(|series| !self.writes(series));
        ended.map(|series| Sample::stale(series, evaluation.query_at_ms)).collect()
    }

    /// Marks series as ended with the next evaluation.
    pub fn end_later(&mut self, series: impl IntoIterator<Item = Labels>) {
        self.ended.extend(series);
    }

    /// How many samples its last evaluation wrote, marks of ends aside.
    pub fn samples(&self) -> u64 {
        self.last_samples
    }

    /// For which times its recording rules can be evaluated after the fact: those since it was last
    /// evaluated, as far as the limits allow. None if it never was, or has no such rule.
    ///
    /// Each is an evaluation after the fact ([`Group::evaluation_after_the_fact`]) of which only the rules
    /// that record are asked: an alert that nobody was told of in time is no news.
    pub fn catch_up(&self, now_ms: i64, limits: CatchUpLimits) -> CatchUp {
        let records = self.spec.rules.iter().any(|rule| !rule.is_alerting());
        match self.evaluated_for_ms {
            Some(last_ms) if records => self.schedule.catch_up(last_ms, now_ms, limits),
            _ => CatchUp::default(),
        }
    }

    /// Takes everything over that an earlier form of the group knew: alerts and series of rules
    /// with the same name and labels, the first of several with the first, and so on. Series of
    /// other rules end with the next evaluation.
    pub(super) fn take_over(&mut self, mut from: Group) {
        self.timing = from.timing;
        self.evaluated_for_ms = from.evaluated_for_ms;
        self.restores_in = self.restores_in.and(from.restores_in);
        self.schedule.iterations = from.schedule.iterations;
        self.schedule.missed = from.schedule.missed;
        self.ended = std::mem::take(&mut from.ended);
        let mut known: Vec<Option<(String, RuleState)>> = from
            .spec
            .rules
            .iter()
            .zip(from.rules)
            .map(|(spec, state)| Some((spec.identity(), state)))
            .collect();
        let mut places: std::collections::HashMap<String, Vec<usize>> = Default::default();
        for (index, one) in known.iter().enumerate().rev() {
            if let Some((identity, _)) = one {
                places.entry(identity.clone()).or_default().push(index);
            }
        }
        for (spec, state) in self.spec.rules.iter().zip(&mut self.rules) {
            let place = places.get_mut(&spec.identity()).and_then(Vec::pop);
            let Some((_, before)) = place.and_then(|place| known[place].take()) else { continue };
            state.series = before.series;
            state.is_restored = before.is_restored || state.is_restored;
            if let (Some(alerts), Some(before)) = (&mut state.alerts, before.alerts) {
                alerts.by_labels = before.by_labels;
                alerts.recount();
            }
        }
        for (_, gone) in known.into_iter().flatten() {
            self.ended.extend(gone.series);
        }
    }

    /// All series that it wrote, for marking them as ended.
    pub(super) fn into_series(self) -> Vec<Labels> {
        let of_rules = self.rules.into_iter().flat_map(|rule| rule.series);
        of_rules.chain(self.ended).collect()
    }
}
