//! One evaluation of one group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alerting::notify::PostedAlert;
use alerting::rules::{
    Applied, Evaluation, GroupKey, Notice, RuleTemplates, Sample, SharedGroup, Surroundings, Timing,
};
use alerting::templates::Limits;
use settings::relabel::LabelBuffer;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::evidence::Found;
use super::waiting::locked;
use super::{Inner, RuleLanguage, RuleSettings, leaving, links};

/// Queries of one stage that are asked at once.
const QUERIES_AT_ONCE: usize = 4;

/// An evaluation that begins.
pub(super) type Begun = (RuleLanguage, GroupKey, SharedGroup, Evaluation);

/// What a rule's query came to.
pub(super) struct Answered {
    pub(super) rule: usize,
    pub(super) result: Result<Vec<Sample>, String>,
    pub(super) timing: Timing,
}

impl Inner {
    /// Evaluates a group for a time: stage after stage, asks, applies, writes, tells.
    pub(super) async fn evaluate(
        self: &Arc<Self>,
        language: RuleLanguage,
        group: &SharedGroup,
        evaluation: &Evaluation,
    ) {
        let began = Instant::now();
        let started_ms = self.clock.now_ms();
        self.counters.began(
            language,
            &evaluation.key,
            evaluation.missed,
            started_ms - evaluation.at_ms,
        );
        for stage in evaluation.stages() {
            self.evaluate_stage(language, group, evaluation, stage).await;
        }
        self.restore(language, group).await;
        let timing = Timing { started_ms, took: began.elapsed() };
        let ended = locked(group).finish(evaluation, timing);
        if !ended.is_empty() {
            let labels: Vec<model::Labels> = ended.iter().map(|one| one.labels.clone()).collect();
            if let Err(error) = self.store.write(ended).await {
                tracing::warn!(
                    "the ends of series of rules are stored with the next evaluation: {error}"
                );
                locked(group).end_later(labels);
            }
        }
        self.counters.ended(language, &evaluation.key, timing, locked(group).samples());
    }

    async fn evaluate_stage(
        self: &Arc<Self>,
        language: RuleLanguage,
        group: &SharedGroup,
        evaluation: &Evaluation,
        stage: &[usize],
    ) {
        let answered = self.ask(language, evaluation, stage).await;
        // Templates may ask queries, and wait for them.
        let (inner, shared, begun) = (Arc::clone(self), Arc::clone(group), evaluation.clone());
        let apply = move || inner.apply(language, &shared, &begun, answered);
        let applied = match tokio::task::spawn_blocking(apply).await {
            Ok(applied) => applied,
            Err(panic) => {
                tracing::error!(%panic, "rules could not be applied");
                return;
            }
        };
        let mut samples = Vec::new();
        let mut notices = Vec::new();
        let rules: Vec<usize> = applied.iter().map(|(rule, _)| *rule).collect();
        for (rule, one) in applied {
            samples.extend(one.samples);
            notices.extend(one.notices.into_iter().map(|notice| (rule, notice)));
        }
        let written = match samples.is_empty() {
            true => Ok(None),
            false => self.store.write(samples).await,
        };
        if let Ok(Some(left_out)) = &written {
            tracing::warn!(group = %evaluation.key, "of what rules yield was left out: {left_out}");
        }
        let outcome = written.map(drop);
        {
            let mut group = locked(group);
            for rule in rules {
                group.written(evaluation, rule, outcome.clone());
                if group.last_error(rule).is_some() {
                    self.counters.failed(language, &evaluation.key);
                }
            }
        }
        self.counters.evaluated(language, &evaluation.key, stage.len());
        self.tell(language, evaluation, notices);
    }

    /// Asks the queries of a stage.
    async fn ask(
        self: &Arc<Self>,
        language: RuleLanguage,
        evaluation: &Evaluation,
        stage: &[usize],
    ) -> Vec<Answered> {
        let mut answered = Vec::with_capacity(stage.len());
        let ask = |rule: usize| {
            let (inner, text) = (Arc::clone(self), Arc::clone(evaluation.expression(rule)));
            let t_ms = evaluation.query_at_ms;
            async move {
                let (began, started_ms) = (Instant::now(), inner.clock.now_ms());
                let result = inner.queries.ask(language, &text, t_ms).await;
                Answered { rule, result, timing: Timing { started_ms, took: began.elapsed() } }
            }
        };
        // The usual group asks one after the other: many groups are under way at once.
        if stage.len() < 2 * QUERIES_AT_ONCE {
            for rule in stage {
                answered.push(ask(*rule).await);
            }
            return answered;
        }
        let mut under_way = JoinSet::new();
        for rule in stage {
            if under_way.len() >= QUERIES_AT_ONCE
                && let Some(Ok(one)) = under_way.join_next().await
            {
                answered.push(one);
            }
            under_way.spawn(ask(*rule));
        }
        while let Some(one) = under_way.join_next().await {
            answered.extend(one.ok());
        }
        // As in the file, so that of two rules that write one series the later one counts.
        answered.sort_unstable_by_key(|one| one.rule);
        answered
    }

    /// Applies answers. Blocks while templates ask.
    pub(super) fn apply(
        self: &Arc<Self>,
        language: RuleLanguage,
        group: &SharedGroup,
        evaluation: &Evaluation,
        answered: Vec<Answered>,
    ) -> Vec<(usize, Applied)> {
        let settings = Arc::clone(&self.settings.read());
        let RuleSettings { external_labels, external_url, limits, resend_delay, .. } = &*settings;
        let runtime = Handle::current();
        let query =
            |text: &str, t_ms: i64| runtime.block_on(self.queries.ask(language, text, t_ms));
        let mut applied = Vec::with_capacity(answered.len());
        for Answered { rule, result, timing } in answered {
            let evidence = Found::new(&*self.queries, &runtime, language);
            let templates = RuleTemplates {
                query: &query,
                evidence: &evidence,
                histogram_text: promql::histogram_text,
                limits: Limits::default(),
            };
            let with = Surroundings {
                expand: &templates,
                external_labels,
                external_url,
                limits,
                resend_delay_ms: i64::try_from(resend_delay.as_millis()).unwrap_or(i64::MAX),
            };
            // Rule by rule, so that whoever looks at the group waits for the templates of one at most.
            let one = locked(group).apply(evaluation, rule, result, timing, &with);
            applied.push((rule, one));
            self.counters.evidence_left_out(evidence.left_out());
        }
        applied
    }

    /// Hands alerts, each with its rule, to the notifier, and to Alertmanagers elsewhere.
    fn tell(&self, language: RuleLanguage, evaluation: &Evaluation, notices: Vec<(usize, Notice)>) {
        if notices.is_empty() {
            return;
        }
        let settings = Arc::clone(&self.settings.read());
        let ns = |ms: i64| ms.saturating_mul(1_000_000);
        let mut work = LabelBuffer::new();
        let posted = notices.into_iter().filter_map(|(rule, notice)| {
            let Notice { labels, expression, starts_at_ms, .. } = &notice;
            let of_rule = &evaluation.spec.rules[rule].labels;
            let path = links::of_alert(language, expression, labels, of_rule, *starts_at_ms);
            Some(PostedAlert {
                labels: leaving(&notice.labels, &settings, &mut work)?,
                annotations: notice.annotations.iter().cloned().collect(),
                starts_at_ns: Some(ns(notice.starts_at_ms)),
                ends_at_ns: Some(ns(notice.ends_at_ms)),
                generator_url: format!("{}{path}", settings.external_url),
            })
        });
        let posted: Vec<PostedAlert> = posted.collect();
        self.alertmanagers.send(&posted);
        self.notifications.post_alerts_of_rules(posted);
    }

    /// Once after a start without a state of our own: alerts go on as `ALERTS_FOR_STATE` says, which
    /// Prometheus wrote, or data that was imported.
    async fn restore(&self, language: RuleLanguage, group: &SharedGroup) {
        let now_ms = self.clock.now_ms();
        let requests = locked(group).restore_requests(now_ms);
        let Some(requests) = requests else { return };
        for request in requests {
            let range = (request.start_ms, request.end_ms);
            match self.queries.last_samples(&request.matchers, range.0, range.1).await {
                Ok(series) => locked(group).restore_rule(request.rule, now_ms, &series),
                Err(error) => tracing::warn!(
                    "since when alerts of {} rules fire could not be read, so they wait anew: {error}",
                    language.as_str()
                ),
            }
        }
        locked(group).restored();
    }

    /// Evaluates recording rules for the time in which nobody did, the oldest first.
    pub(super) async fn catch_up(self: Arc<Self>) {
        let limits = self.settings.read().catch_up;
        let groups: Vec<(RuleLanguage, GroupKey, SharedGroup)> = {
            let sets = locked(&self.sets);
            sets.each().map(|(one, key, group)| (one, key.clone(), Arc::clone(group))).collect()
        };
        for (language, key, group) in groups {
            let plan = locked(&group).catch_up(self.clock.now_ms(), limits);
            if plan.timestamps_ms.is_empty() {
                continue;
            }
            let began = Instant::now();
            tracing::info!(
                group = %key,
                evaluations = plan.timestamps_ms.len(),
                too_old = plan.skipped,
                "recording rules are evaluated for the time in which nobody did"
            );
            for at_ms in plan.timestamps_ms {
                if locked(&self.sets).is_stopped {
                    return;
                }
                let evaluation = locked(&group).evaluation_after_the_fact(at_ms);
                self.evaluate_late(language, &group, &evaluation).await;
            }
            let (language, took) = (language.as_str(), began.elapsed());
            tracing::info!(group = %key, language, ?took, "recording rules are caught up");
        }
    }

    async fn evaluate_late(
        self: &Arc<Self>,
        language: RuleLanguage,
        group: &SharedGroup,
        evaluation: &Evaluation,
    ) {
        for stage in evaluation.stages() {
            let rules = &evaluation.spec.rules;
            let recording: Vec<usize> =
                stage.iter().copied().filter(|rule| !rules[*rule].is_alerting()).collect();
            if !recording.is_empty() {
                self.evaluate_stage(language, group, evaluation, &recording).await;
            }
        }
        // What is due has priority.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
