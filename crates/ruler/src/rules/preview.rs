//! What a rule would do now: evaluated by the engine that evaluates all rules, in a group of its own, whose
//! results nobody stores and nobody is told.

use std::sync::Arc;
use std::time::Instant;

use alerting::rules::{AlertBudget, Group, RuleView, Sample, Timing, go_scientific};
use model::Labels;
use parking_lot::Mutex;
use settings::Faults;
use settings::prometheus::rules::RuleKind;

use super::evaluation::Answered;
use super::{RuleLanguage, Rules, sources};

/// Samples of an expression that are looked at. Each may make an alert, whose templates may ask queries.
const MOST_SAMPLES: usize = 20;

/// A group that is not there yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Its name.
    pub name: String,
    /// Kind, name and first line of its rules.
    pub rules: Vec<(RuleKind, String, usize)>,
    /// One of them, evaluated now, if one was asked for.
    pub rule: Option<PreviewedRule>,
}

/// A rule that was evaluated in vain.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewedRule {
    /// Which one.
    pub index: usize,
    /// How it is shown: its health, its error, its alerts.
    pub view: RuleView,
    /// The series it would write, by labels with the value; of a rule that alerts, none.
    pub series: Vec<(Labels, String)>,
    /// How many samples its expression yields; of more than a few only the first ones are looked at.
    pub samples: usize,
}

impl Rules {
    /// Reads a group as if it was to be kept, and evaluates the rule that stands at a line of it, counted
    /// from 1.
    ///
    /// # Errors
    /// What is wrong with the group.
    pub async fn preview(
        &self,
        language: RuleLanguage,
        namespace: String,
        yaml: String,
        line: Option<usize>,
    ) -> Result<Preview, Faults> {
        let defaults = self.inner.settings.read().defaults;
        // A large group takes a while.
        let compile = move || sources::compile_managed(language, &namespace, &yaml, defaults);
        let compiled = tokio::task::spawn_blocking(compile).await;
        let (group, spec) =
            compiled.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let rules: Vec<(RuleKind, String, usize)> =
            group.rules.iter().map(|rule| (rule.kind, rule.name.clone(), rule.line)).collect();
        let at = line.map(|line| rules.iter().rposition(|(_, _, first)| *first <= line));
        let rule = match at {
            None => None,
            // Above the first rule is the head of the group.
            Some(index) => {
                let budget = Arc::new(AlertBudget::default());
                let group = Group::new(spec, self.inner.clock.now_ms(), false, &budget);
                self.evaluate_apart(language, group, index.unwrap_or(0)).await
            }
        };
        Ok(Preview { name: group.name, rules, rule })
    }

    async fn evaluate_apart(
        &self,
        language: RuleLanguage,
        group: Group,
        rule: usize,
    ) -> Option<PreviewedRule> {
        let started_ms = self.inner.clock.now_ms();
        let evaluation = group.evaluation_at(started_ms);
        let text = Arc::clone(evaluation.expression(rule));
        let began = Instant::now();
        let mut result = self.inner.queries.ask(language, &text, evaluation.query_at_ms).await;
        let timing = Timing { started_ms, took: began.elapsed() };
        let samples = result.as_ref().map_or(0, Vec::len);
        if let Ok(samples) = &mut result {
            samples.truncate(MOST_SAMPLES);
        }
        let (group, inner) = (Arc::new(Mutex::new(group)), Arc::clone(&self.inner));
        let apply = move || {
            let answered = vec![Answered { rule, result, timing }];
            let mut applied = inner.apply(language, &group, &evaluation, answered);
            let written = applied.pop().map(|(_, one)| one.samples).unwrap_or_default();
            let view = group.lock().view(true).rules.into_iter().nth(rule);
            (view, written)
        };
        // Templates may ask queries, and wait for them.
        let (view, written) = tokio::task::spawn_blocking(apply).await.ok()?;
        let view = view?;
        let series = match &view {
            RuleView::Recording { .. } => written.into_iter().map(series).collect(),
            RuleView::Alerting { .. } => Vec::new(),
        };
        Some(PreviewedRule { index: rule, view, series, samples })
    }
}

fn series(sample: Sample) -> (Labels, String) {
    let value = match &sample.histogram {
        Some(histogram) => promql::histogram_text(histogram),
        None => go_scientific(sample.value),
    };
    (sample.labels, value)
}
