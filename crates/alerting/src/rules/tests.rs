//! Groups over many evaluations.

use std::cell::Cell;
use std::time::Duration;

use model::Labels;
use parking_lot::MutexGuard;
use settings::prometheus::rules::{Rule, RuleGroup, RuleKind};

use super::spec::tests::{compiled, group, rule};
use super::*;

mod goes_on;

const MIN: i64 = 60_000;

/// Expands `{{ $value }}` and counts how often it is asked.
#[derive(Default)]
struct Counting(Cell<usize>);

impl Expand for Counting {
    fn expand(&self, _: &str, text: &str, data: &TextData<'_>) -> Result<String, String> {
        self.0.set(self.0.get() + 1);
        if text.contains("broken") {
            return Err("no".to_owned());
        }
        let instance = data.labels.get("instance").unwrap_or_default();
        let text = text.replace("{{ $value }}", &data.value.to_string());
        Ok(text.replace("{{ $labels.instance }}", instance))
    }
}

/// One rule set, one group `g` at the full minutes, and what it writes and sends.
struct Bench {
    set: RuleSet,
    expand: Counting,
    limits: RuleLimits,
    external: Labels,
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("a test's labels")
}

fn up(instance: &str, value: f64) -> Sample {
    Sample::float(labels(&[("__name__", "up"), ("instance", instance)]), 0, value)
}

fn alert_rule(hold_min: u64, keep_min: u64) -> Rule {
    Rule {
        hold: Duration::from_secs(hold_min * 60),
        keep_firing_for: Duration::from_secs(keep_min * 60),
        ..rule(RuleKind::Alerting, "Down", "up")
    }
}

fn aligned(rules: Vec<Rule>) -> RuleGroup {
    RuleGroup { align_evaluation_time: true, ..group("g", rules) }
}

fn key() -> GroupKey {
    GroupKey { file: "f.yml".to_owned(), name: "g".to_owned() }
}

impl Bench {
    fn new(rules: Vec<Rule>) -> Self {
        Bench::with(aligned(rules), false)
    }

    fn with(group: RuleGroup, restores: bool) -> Self {
        let mut set = RuleSet::new();
        set.load(compiled(vec![group]), 0, restores);
        let limits = RuleLimits::default();
        Bench { set, expand: Counting::default(), limits, external: Labels::empty() }
    }

    fn group(&mut self) -> MutexGuard<'_, Group> {
        self.set.group(&key()).expect("the group is there").lock()
    }

    /// Hands over what one rule yields.
    fn apply(
        &mut self,
        evaluation: &Evaluation,
        rule: usize,
        result: Result<Vec<Sample>, String>,
    ) -> Applied {
        let Bench { set, expand, limits, external } = self;
        let with = Surroundings {
            expand,
            external_labels: external,
            external_url: "http://w",
            limits,
            resend_delay_ms: MIN,
        };
        let mut group = set.group(&key()).expect("the group is there").lock();
        group.apply(evaluation, rule, result, Timing::default(), &with)
    }

    /// Evaluates for a minute; the first rule yields `result`.
    fn run(&mut self, minute: i64, result: Result<Vec<Sample>, String>) -> Applied {
        let evaluation = self.group().evaluation_at(minute * MIN);
        let mut applied = self.apply(&evaluation, 0, result);
        let mut group = self.group();
        group.written(&evaluation, 0, Ok(()));
        applied.samples.extend(group.finish(&evaluation, Timing::default()));
        drop(group);
        applied
    }

    fn states(&mut self) -> Vec<(AlertState, i64)> {
        let group = self.group();
        group.alerts(0).map(|alert| (alert.state, alert.active_at_ms / MIN)).collect()
    }
}

fn shown(applied: &Applied) -> Vec<String> {
    let show = |sample: &Sample| match sample.is_stale() {
        true => format!("{} ends", sample.labels),
        false => format!("{} {}", sample.labels, sample.value),
    };
    applied.samples.iter().map(show).collect()
}

#[test]
fn an_alert_waits_fires_and_is_resolved() {
    let mut bench = Bench::new(vec![alert_rule(2, 0)]);
    let first = bench.run(1, Ok(vec![up("a", 0.5)]));
    assert_eq!(
        shown(&first),
        [
            r#"ALERTS{alertname="Down", alertstate="pending", instance="a"} 1"#,
            r#"ALERTS_FOR_STATE{alertname="Down", instance="a"} 60"#
        ]
    );
    assert_eq!(first.notices, []);
    bench.run(2, Ok(vec![up("a", 0.5)]));
    let firing = bench.run(3, Ok(vec![up("a", 0.7)]));
    assert_eq!(
        shown(&firing),
        [
            r#"ALERTS{alertname="Down", alertstate="firing", instance="a"} 1"#,
            r#"ALERTS_FOR_STATE{alertname="Down", instance="a"} 60"#,
            r#"ALERTS{alertname="Down", alertstate="pending", instance="a"} ends"#
        ]
    );
    let [notice] = firing.notices.as_slice() else { panic!("{firing:?}") };
    assert_eq!((notice.starts_at_ms, notice.ends_at_ms), (3 * MIN, 7 * MIN));
    assert!(!notice.is_resolved);
    let over = bench.run(4, Ok(vec![]));
    assert_eq!(over.samples.iter().filter(|sample| sample.is_stale()).count(), 2);
    assert!(over.notices[0].is_resolved && over.notices[0].ends_at_ms == 4 * MIN);
    assert_eq!(bench.states(), [(AlertState::Inactive, 1)]);
    // Told again each time the delay has passed, for a quarter of an hour.
    let told: Vec<usize> =
        (5..=21).map(|minute| bench.run(minute, Ok(vec![])).notices.len()).collect();
    assert_eq!(told.iter().sum::<usize>(), 7, "{told:?}");
    assert_eq!(bench.states(), []);
    // Pending ones are forgotten without a word.
    bench.run(30, Ok(vec![up("a", 1.0)]));
    assert_eq!(bench.run(31, Ok(vec![])).notices, []);
    assert_eq!(bench.states(), []);
}

#[test]
fn a_query_that_fails_changes_no_alert() {
    let mut bench = Bench::new(vec![alert_rule(0, 0)]);
    bench.run(1, Ok(vec![up("a", 1.0)]));
    assert_eq!(bench.group().health(0), Some(Health::Good));
    let failed = bench.run(2, Err("too slow".to_owned()));
    assert_eq!(failed, Applied::default());
    assert_eq!(bench.states(), [(AlertState::Firing, 1)]);
    assert_eq!(bench.group().health(0), Some(Health::Bad));
    assert_eq!(bench.group().last_error(0), Some("too slow"));
    assert_eq!(bench.group().evaluations(), (2, 1));
    assert_eq!(bench.run(3, Ok(vec![up("a", 1.0)])).samples.len(), 2);
    assert_eq!(bench.group().last_error(0), None);
}

#[test]
fn what_kept_firing_ends_when_its_time_is_over() {
    let mut bench = Bench::new(vec![alert_rule(0, 3)]);
    bench.run(1, Ok(vec![up("a", 1.0)]));
    for minute in 2..5 {
        assert_eq!(bench.run(minute, Ok(vec![])).samples.len(), 2, "minute {minute}");
    }
    assert_eq!(bench.states(), [(AlertState::Firing, 1)]);
    bench.run(5, Ok(vec![]));
    assert_eq!(bench.states(), [(AlertState::Inactive, 1)]);
    // What comes back in between begins anew to be kept.
    let mut bench = Bench::new(vec![alert_rule(0, 3)]);
    for (minute, is_there) in [(1, true), (2, false), (3, true), (4, false), (6, false)] {
        bench.run(minute, Ok(if is_there { vec![up("a", 1.0)] } else { vec![] }));
    }
    assert_eq!(bench.states(), [(AlertState::Firing, 1)]);
}

#[test]
fn texts_are_expanded_when_something_changed() {
    let mut texts = alert_rule(0, 0);
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    texts.annotations = vec![pair("a", "{{ $labels.instance }} down"), pair("b", "plain")];
    let mut bench = Bench::new(vec![texts.clone()]);
    bench.run(1, Ok(vec![up("x", 1.0)]));
    bench.run(2, Ok(vec![up("x", 2.0)]));
    assert_eq!(bench.expand.0.get(), 1);
    texts.annotations[1].1 = "{{ $value }}".to_owned();
    texts.labels = vec![pair("gone", ""), pair("l", "{{ \"broken\" }}")];
    let mut bench = Bench::new(vec![texts]);
    bench.run(1, Ok(vec![up("x", 1.0)]));
    bench.run(2, Ok(vec![up("x", 1.0)]));
    assert_eq!(bench.expand.0.get(), 3);
    // Only one of the texts sees the value.
    bench.run(3, Ok(vec![up("x", 2.0)]));
    assert_eq!(bench.expand.0.get(), 4);
    let group = bench.group();
    let alert = group.alerts(0).next().expect("it fires");
    assert_eq!(alert.annotations[1].1, "2");
    assert_eq!(alert.labels.get("l"), Some("<error expanding template: no>"));
    assert_eq!(alert.value, 2.0);
}

#[test]
fn limits_are_kept() {
    let mut limited = aligned(vec![alert_rule(0, 0)]);
    limited.limit = 1;
    let mut bench = Bench::with(limited, false);
    bench.run(1, Ok(vec![up("a", 1.0)]));
    assert_eq!(bench.run(2, Ok(vec![up("a", 1.0), up("b", 1.0)])), Applied::default());
    assert_eq!(bench.group().last_error(0), Some("exceeded limit of 1 with 2 alerts"));
    assert_eq!(bench.states(), []);
    let mut bench = Bench::new(vec![alert_rule(0, 0)]);
    bench.limits = RuleLimits { max_alerts_per_rule: 2, max_alerts: 1, ..RuleLimits::default() };
    bench.run(1, Ok(vec![up("a", 1.0)]));
    assert_eq!(bench.set.active_alerts(), 1);
    bench.run(2, Ok(vec![up("a", 1.0), up("b", 1.0)]));
    let error = bench.group().last_error(0).unwrap_or_default().to_owned();
    assert!(error.contains("rules.max_alerts is 1"), "{error}");
    bench.run(3, Ok(vec![up("a", 1.0), up("b", 1.0), up("c", 1.0)]));
    let error = bench.group().last_error(0).unwrap_or_default().to_owned();
    assert!(error.contains("rules.max_alerts_per_rule is 2"), "{error}");
    // Above limits that are not the group's, alerts are as they were.
    assert_eq!(bench.states(), [(AlertState::Firing, 1)]);
    bench.run(4, Ok(vec![]));
    assert_eq!(bench.set.active_alerts(), 0);
}

#[test]
fn what_is_kept_and_what_is_over_is_bounded_too() {
    let mut bench = Bench::new(vec![alert_rule(0, 60)]);
    bench.limits = RuleLimits { max_alerts_per_rule: 2, ..RuleLimits::default() };
    bench.run(1, Ok(vec![up("a", 1.0)]));
    bench.run(2, Ok(vec![up("b", 1.0)]));
    assert_eq!(bench.states().len(), 2);
    bench.run(3, Ok(vec![up("c", 1.0)]));
    let error = bench.group().last_error(0).unwrap_or_default().to_owned();
    assert!(error.contains("has 3 alerts with those that keep_firing_for keeps"), "{error}");
    assert_eq!(bench.states().len(), 2);
    let mut bench = Bench::new(vec![alert_rule(0, 0)]);
    bench.limits = RuleLimits { max_alerts_per_rule: 2, ..RuleLimits::default() };
    for (minute, name) in (1..).zip(["a", "b", "c", "d", "e"]) {
        bench.run(minute, Ok(vec![up(name, 1.0)]));
    }
    let names: Vec<String> =
        bench.group().alerts(0).map(|alert| alert.labels.to_string()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].contains("\"c\""), "{names:?}");
}

#[test]
fn twins_are_an_error() {
    let mut bench = Bench::new(vec![alert_rule(0, 0)]);
    let named = |name: &str| Sample::float(labels(&[("__name__", name)]), 0, 1.0);
    bench.run(1, Ok(vec![named("a"), named("b")]));
    let error = bench.group().last_error(0).unwrap_or_default().to_owned();
    assert!(error.ends_with("same labelset after applying alert labels"), "{error}");
    assert_eq!(bench.set.active_alerts(), 0);
}

#[test]
fn series_end_when_they_are_no_longer_written() {
    let mut bench = Bench::new(vec![rule(RuleKind::Recording, "r", "up")]);
    assert_eq!(shown(&bench.run(1, Ok(vec![up("a", 1.0), up("b", 2.0)]))).len(), 2);
    let second = bench.run(2, Ok(vec![up("b", 3.0)]));
    assert_eq!(shown(&second), [r#"r{instance="b"} 3"#, r#"r{instance="a"} ends"#]);
    // What could not be written is told, and its end comes again.
    let evaluation = bench.group().evaluation_at(3 * MIN);
    let third = bench.apply(&evaluation, 0, Ok(vec![]));
    assert_eq!(shown(&third), [r#"r{instance="b"} ends"#]);
    bench.group().written(&evaluation, 0, Err("disk full".to_owned()));
    assert_eq!(bench.group().last_error(0), Some("disk full"));
    assert_eq!(shown(&bench.run(4, Ok(vec![]))), [r#"r{instance="b"} ends"#]);
}

#[test]
fn what_a_twin_goes_on_writing_has_not_ended() {
    let twin = || rule(RuleKind::Recording, "r", "up");
    let mut bench = Bench::new(vec![twin(), twin()]);
    bench.run(1, Ok(vec![up("a", 1.0), up("b", 1.0)]));
    let evaluation = bench.group().evaluation_at(MIN);
    bench.apply(&evaluation, 1, Ok(vec![up("a", 1.0)]));
    bench.group().written(&evaluation, 1, Ok(()));
    assert_eq!(shown(&bench.run(2, Ok(vec![]))), [r#"r{instance="b"} ends"#]);
}

#[test]
fn offsets_shift_queries_and_what_is_written() {
    let mut shifted = aligned(vec![alert_rule(0, 0)]);
    shifted.query_offset = Some(Duration::from_secs(30));
    let mut bench = Bench::with(shifted, false);
    assert_eq!(bench.group().evaluation_at(5 * MIN).query_at_ms, 5 * MIN - 30_000);
    let applied = bench.run(5, Ok(vec![up("a", 1.0)]));
    assert!(applied.samples.iter().all(|sample| sample.t_ms == 5 * MIN - 30_000));
    assert_eq!(bench.states(), [(AlertState::Firing, 5)]);
}

#[test]
fn a_reload_keeps_what_stays() {
    let record = || rule(RuleKind::Recording, "r", "up");
    let mut bench = Bench::new(vec![alert_rule(9, 0), record()]);
    bench.run(1, Ok(vec![up("a", 1.0)]));
    let same = compiled(vec![aligned(vec![alert_rule(9, 0), record()])]);
    let changes = bench.set.load(same, 2 * MIN, false);
    assert_eq!(changes, Changes { kept: 1, ..Changes::default() });
    // `for` is another now, and the recording rule is gone.
    let changes = bench.set.load(compiled(vec![aligned(vec![alert_rule(1, 0)])]), 2 * MIN, false);
    assert_eq!(changes, Changes { changed: 1, ..Changes::default() });
    let applied = bench.run(2, Ok(vec![up("a", 1.0)]));
    assert_eq!(bench.states(), [(AlertState::Firing, 1)]);
    assert_eq!(applied.notices.len(), 1);
    // A longer `for` makes it wait again.
    bench.set.load(compiled(vec![aligned(vec![alert_rule(5, 0)])]), 2 * MIN, false);
    bench.run(3, Ok(vec![up("a", 1.0)]));
    assert_eq!(bench.states(), [(AlertState::Pending, 1)]);
    // Another rule in its place: what it wrote ends.
    bench.set.load(compiled(vec![aligned(vec![record()])]), 3 * MIN, false);
    let applied = bench.run(4, Ok(vec![up("a", 1.0)]));
    let ended = shown(&applied).into_iter().filter(|line| line.ends_with("ends")).count();
    assert_eq!(ended, 2, "{applied:?}");
    // No group at all: its series end two intervals later, at the time of the removal.
    let changes = bench.set.load(Vec::new(), 10 * MIN, false);
    assert_eq!(changes, Changes { removed: 1, ..Changes::default() });
    assert_eq!(bench.set.next_due_ms(), Some(12 * MIN));
    assert_eq!(bench.set.retire(12 * MIN - 1), []);
    let ended = bench.set.retire(12 * MIN);
    assert_eq!((ended.len(), ended[0].t_ms, ended[0].is_stale()), (1, 10 * MIN, true));
    assert_eq!(bench.set.next_due_ms(), None);
}

#[test]
fn an_evaluation_that_a_reload_overtook_changes_nothing() {
    let mut bench = Bench::new(vec![alert_rule(0, 0)]);
    let old = bench.group().evaluation_at(MIN);
    bench.set.load(compiled(vec![aligned(vec![alert_rule(1, 0)])]), MIN, false);
    let applied = bench.apply(&old, 0, Ok(vec![up("a", 1.0)]));
    assert_eq!(applied, Applied::default());
    assert_eq!(bench.group().finish(&old, Timing::default()), []);
    assert_eq!(bench.states(), []);
}

/// The same rules in a process that starts later, with what the first one left.
fn restarted(before: &Bench, rules: Vec<Rule>, at_min: i64) -> (Bench, usize) {
    let saved = serde_json::to_vec(&before.set.snapshot(at_min * MIN)).expect("it is JSON");
    let saved: Snapshot = serde_json::from_slice(&saved).expect("it is a snapshot");
    let mut bench = Bench::with(aligned(rules), true);
    let count = bench.set.restore(&saved, at_min * MIN).expect("it is of this version");
    (bench, count)
}

#[test]
fn a_firing_alert_outlives_a_restart() {
    let mut before = Bench::new(vec![alert_rule(5, 10)]);
    for minute in 1..=7 {
        before.run(minute, Ok(vec![up("a", 1.0)]));
    }
    let (mut after, count) = restarted(&before, vec![alert_rule(5, 10)], 12);
    assert_eq!(count, 1);
    assert_eq!(after.states(), [(AlertState::Firing, 1)]);
    // Data is not there yet: that says nothing.
    let applied = after.run(13, Ok(vec![]));
    assert_eq!(applied.samples.len(), 2);
    assert_eq!(applied.notices[0].starts_at_ms, 6 * MIN);
    after.run(14, Ok(vec![up("a", 1.0)]));
    assert_eq!(after.states(), [(AlertState::Firing, 1)]);
    after.run(15, Ok(vec![]));
    after.run(24, Ok(vec![]));
    assert_eq!(after.states(), [(AlertState::Firing, 1)]);
    after.run(25, Ok(vec![]));
    assert_eq!(after.states(), [(AlertState::Inactive, 1)]);
}

#[test]
fn keeping_goes_on_after_a_restart() {
    let mut before = Bench::new(vec![alert_rule(0, 10)]);
    before.run(1, Ok(vec![up("a", 1.0)]));
    for minute in 2..=8 {
        before.run(minute, Ok(vec![]));
    }
    // Kept since minute 2, for six minutes when it stopped at 8; the stop does not count.
    let (mut after, _) = restarted(&before, vec![alert_rule(0, 10)], 28);
    for minute in 29..=31 {
        after.run(minute, Ok(vec![]));
        assert_eq!(after.states(), [(AlertState::Firing, 1)], "minute {minute}");
    }
    after.run(32, Ok(vec![]));
    assert_eq!(after.states(), [(AlertState::Inactive, 1)]);
}

#[test]
fn waiting_goes_on_after_a_restart() {
    let mut before = Bench::new(vec![alert_rule(30, 0)]);
    for minute in 1..=11 {
        before.run(minute, Ok(vec![up("a", 1.0)]));
    }
    // It waited ten minutes and was not looked at for nine: so it is as if it began at 10.
    let (mut after, _) = restarted(&before, vec![alert_rule(30, 0)], 20);
    assert_eq!(after.states(), [(AlertState::Pending, 10)]);
    after.run(39, Ok(vec![up("a", 1.0)]));
    assert_eq!(after.states(), [(AlertState::Pending, 10)]);
    after.run(40, Ok(vec![up("a", 1.0)]));
    assert_eq!(after.states(), [(AlertState::Firing, 10)]);
    // One that does not come back is forgotten once data should be there.
    let (mut after, _) = restarted(&before, vec![alert_rule(30, 0)], 20);
    for minute in 21..=23 {
        after.run(minute, Ok(vec![]));
    }
    assert_eq!(after.states(), []);
    // After too long a stop nothing of it is worth anything, but its series end.
    let (mut after, count) = restarted(&before, vec![alert_rule(30, 0)], 90);
    assert_eq!((count, after.states()), (0, vec![]));
    let applied = after.run(91, Ok(vec![]));
    assert_eq!(applied.samples.iter().filter(|sample| sample.is_stale()).count(), 2);
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let mut bench = Bench::new(vec![alert_rule(0, 0)]);
    let snapshot = Snapshot { version: 99, ..bench.set.snapshot(0) };
    let error = bench.set.restore(&snapshot, 0).expect_err("nobody knows version 99");
    assert!(error.to_string().contains("version 99"), "{error}");
}

#[test]
fn without_a_snapshot_the_store_is_asked() {
    let mut bench = Bench::with(aligned(vec![alert_rule(30, 0)]), true);
    let first = bench.run(100, Ok(vec![up("a", 1.0)]));
    assert_eq!(first.samples, []);
    assert!(bench.group().restore_requests(100 * MIN).is_none());
    bench.run(101, Ok(vec![up("a", 1.0)]));
    let requests = bench.group().restore_requests(101 * MIN).expect("it is time");
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((request.start_ms, request.end_ms), (41 * MIN, 101 * MIN));
    let shown: Vec<String> =
        request.matchers.iter().map(|m| format!("{}={}", m.name, m.value)).collect();
    assert_eq!(shown, ["__name__=ALERTS_FOR_STATE", "alertname=Down"]);
    let found = |since_min: i64, stopped_min: i64| ForStateSeries {
        labels: labels(&[("__name__", ALERTS_FOR_STATE), ("alertname", "Down"), ("instance", "a")]),
        t_ms: stopped_min * MIN,
        value: (since_min * 60) as f64,
    };
    let at = |bench: &mut Bench, series: ForStateSeries| {
        bench.group().restore_rule(0, 101 * MIN, &[series]);
        bench.states()[0].1
    };
    // It had fired: it fires at once. It waited long: ten minutes more. It waited shortly: the rest.
    assert_eq!(at(&mut bench, found(50, 81)), 50);
    assert_eq!(at(&mut bench, found(50, 75)), 101 + 10 - 30);
    assert_eq!(at(&mut bench, found(50, 60)), 50 + 41);
    let gone = ForStateSeries { value: f64::from_bits(model::STALE_NAN_BITS), ..found(1, 1) };
    assert_eq!(at(&mut bench, gone), 91);
    bench.group().restored();
    assert!(bench.group().restore_requests(101 * MIN).is_none());
    assert_eq!(bench.run(102, Ok(vec![up("a", 1.0)])).samples.len(), 2);
}

#[test]
fn missed_evaluations_of_recording_rules_are_planned() {
    let mut bench = Bench::new(vec![rule(RuleKind::Recording, "r", "up")]);
    assert_eq!(bench.group().catch_up(0, CatchUpLimits::default()), CatchUp::default());
    bench.run(1, Ok(vec![up("a", 1.0)]));
    let (after, _) = restarted(&bench, vec![rule(RuleKind::Recording, "r", "up")], 1);
    let mut set = RuleSet::new();
    set.load(compiled(vec![aligned(vec![rule(RuleKind::Recording, "r", "up")])]), 5 * MIN, true);
    set.restore(&after.set.snapshot(5 * MIN), 5 * MIN).expect("it is of this version");
    let group = set.group(&key()).expect("the group is there").lock();
    let plan = group.catch_up(5 * MIN, CatchUpLimits::default());
    assert_eq!(plan.timestamps_ms, [2, 3, 4, 5].map(|minute| minute * MIN));
    assert_eq!(group.due_ms(), 6 * MIN);
}

#[test]
fn groups_are_shown_as_prometheus_shows_them() {
    let mut shown = alert_rule(1, 2);
    shown.labels = vec![("severity".to_owned(), "page".to_owned())];
    let mut bench = Bench::new(vec![shown, rule(RuleKind::Recording, "r", "up")]);
    bench.run(1, Ok(vec![up("a", 1.5)]));
    let json = serde_json::to_value(bench.group().view(true)).expect("it is JSON");
    let want = serde_json::json!({
        "name": "g", "file": "f.yml", "interval": 60.0, "limit": 0, "evaluationTime": 0.0,
        "lastEvaluation": "0001-01-01T00:00:00Z",
        "rules": [
            {
                "type": "alerting", "name": "Down", "query": "up", "duration": 60.0,
                "keepFiringFor": 120.0, "labels": {"severity": "page"}, "annotations": {},
                "state": "pending", "health": "ok", "evaluationTime": 0.0,
                "lastEvaluation": "0001-01-01T00:00:00Z",
                "alerts": [{
                    "labels": {"alertname": "Down", "instance": "a", "severity": "page"},
                    "annotations": {}, "state": "pending", "value": "1.5e+00",
                    "activeAt": "1970-01-01T00:01:00.000Z"
                }]
            },
            {
                "type": "recording", "name": "r", "query": "up", "health": "unknown",
                "evaluationTime": 0.0, "lastEvaluation": "0001-01-01T00:00:00Z"
            }
        ]
    });
    assert_eq!(json, want);
    assert_eq!(bench.group().alert_views().count(), 1);
}

proptest::proptest! {
    /// Whatever a snapshot says, taking it up and going on does not fail.
    #[test]
    fn no_snapshot_stops_anything(
        times in proptest::collection::vec(proptest::option::of(proptest::num::i64::ANY), 7),
        state in 0_usize..3,
        label in ".{0,8}",
        value in ".{0,8}",
        now_min in 0_i64..60_000_000,
    ) {
        let state = ["inactive", "pending", "firing"][state];
        let saved = serde_json::json!({
            "version": 1, "taken_at_ms": times[0].unwrap_or(0),
            "groups": [{
                "file": "f.yml", "name": "g", "evaluated_for_ms": times[1],
                "rules": [{
                    "name": "Down", "labels": {}, "series": [{"a": label}],
                    "alerts": [{
                        "state": state, "labels": {"alertname": "Down", label: value}, "value": value,
                        "active_at_ms": times[2].unwrap_or(now_min * MIN), "fired_at_ms": times[3],
                        "resolved_at_ms": times[4], "keep_firing_since_ms": times[5],
                        "last_sent_at_ms": times[6]
                    }]
                }]
            }]
        });
        let saved: Snapshot = serde_json::from_value(saved).expect("it has the right shape");
        let mut bench = Bench::new(vec![alert_rule(5, 10), rule(RuleKind::Recording, "r", "up")]);
        bench.set.restore(&saved, now_min * MIN).expect("it is of this version");
        for minute in 1..5 {
            bench.run(now_min + minute, Ok(vec![up("a", 1.0)]));
        }
        let plan = bench.group().catch_up(now_min * MIN, CatchUpLimits::default());
        proptest::prop_assert!(plan.timestamps_ms.len() <= 1_000);
        proptest::prop_assert!(serde_json::to_string(&bench.group().view(true)).is_ok());
    }
}
