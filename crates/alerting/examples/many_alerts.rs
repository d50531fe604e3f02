//! What evaluating many rules costs, queries aside: `cargo run --release -p watchfire-alerting
//! --example many_alerts`.
//!
//! 5,000 rules with ten alerts each, whose annotations are templates; then one rule with 50,000.

#![allow(clippy::print_stdout, reason = "a program that measures prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a program that measures asks the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alerting::rules::{
    Defaults, Expression, GroupSpec, NoEvidence, RuleLimits, RuleSet, RuleTemplates, Sample,
    Surroundings, Timing, compile_groups,
};
use model::{Labels, Matcher};
use settings::prometheus::rules::{Rule, RuleFile, RuleGroup, RuleKind};

fn specs(groups: usize, rules: usize) -> Vec<GroupSpec> {
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let rule = |index: usize| Rule {
        kind: RuleKind::Alerting,
        name: format!("Alert{index}"),
        expr: format!("metric_{index} > 0"),
        hold: Duration::from_secs(300),
        keep_firing_for: Duration::ZERO,
        labels: vec![pair("severity", "page")],
        annotations: vec![
            pair("summary", "{{ $labels.instance }} of {{ $labels.job }} is down"),
            pair("description", "it is {{ $value | humanize }} now"),
        ],
        line: 1,
    };
    let group = |index: usize| RuleGroup {
        name: format!("group{index}"),
        interval: Some(Duration::from_secs(15)),
        rules: (0..rules).map(|rule_index| rule(index * rules + rule_index)).collect(),
        ..RuleGroup::default()
    };
    let file = RuleFile { namespace: None, groups: (0..groups).map(group).collect() };
    let compile = |text: &str| {
        let name = text.split(' ').next().unwrap_or_default();
        let matcher = Matcher::new("__name__", model::MatchOp::Equal, name);
        let selectors = vec![matcher.into_iter().collect()];
        Ok(Expression { text: Arc::from(text), selectors })
    };
    compile_groups("f.yml", &file, Defaults::default(), &compile).expect("the rules compile")
}

fn samples(count: usize, value: f64) -> Vec<Sample> {
    let labels = |index: usize| {
        let instance = format!("host-{index}.example.com:9100");
        let pairs = [("__name__", "metric"), ("instance", instance.as_str()), ("job", "node")];
        Labels::from_pairs(pairs).expect("the labels are right")
    };
    (0..count).map(|index| Sample::float(labels(index), 0, value)).collect()
}

fn measure(what: &str, groups: usize, rules: usize, alerts: usize) {
    let began = Instant::now();
    let mut set = RuleSet::new();
    set.load(specs(groups, rules), 0, false);
    println!("{what}: loaded in {:.1?}", began.elapsed());
    let query = |_: &str, _: i64| Ok(Vec::new());
    let templates = RuleTemplates {
        query: &query,
        evidence: &NoEvidence,
        histogram_text: |_| String::new(),
        limits: alerting::templates::Limits::default(),
    };
    let (limits, external) = (RuleLimits::default(), Labels::empty());
    let with = Surroundings {
        expand: &templates,
        external_labels: &external,
        external_url: "http://localhost:9595",
        limits: &limits,
        resend_delay_ms: 60_000,
    };
    for (round, value) in [(1, 1.0), (2, 1.0), (3, 2.0), (30, 2.0), (31, 2.0)] {
        let result = samples(alerts, value);
        let began = Instant::now();
        let (mut written, mut sent) = (0, 0);
        for (_, group) in set.groups() {
            let mut group = group.lock();
            let evaluation = group.evaluation_at(round * 15_000);
            for rule in 0..evaluation.spec.rules.len() {
                let result = Ok(result.clone());
                let applied = group.apply(&evaluation, rule, result, Timing::default(), &with);
                group.written(&evaluation, rule, Ok(()));
                written += applied.samples.len();
                sent += applied.notices.len();
            }
            group.finish(&evaluation, Timing::default());
        }
        println!(
            "{what}: evaluation {round}: {:.1?}, {written} samples, {sent} notices",
            began.elapsed()
        );
    }
    let began = Instant::now();
    let saved = serde_json::to_vec(&set.snapshot(0)).expect("a state is JSON");
    println!("{what}: state of {} bytes in {:.1?}", saved.len(), began.elapsed());
}

fn main() {
    measure("5,000 rules of 10 alerts", 500, 10, 10);
    measure("1 rule of 50,000 alerts", 1, 1, 50_000);
}
