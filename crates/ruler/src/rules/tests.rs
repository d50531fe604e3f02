mod config_api;
mod managed;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use alerting::notify::{Notification, NotifiedAlert, Outcome};
use alerting::rules::{Behind, ForStateSeries};
use alerting::templates::rule::{QueryExemplar, QueryLine};
use model::Matcher;
use ruletest::{MemorySource, Point};
use settings::alertmanager::MatcherMode;
use settings::prometheus::Surroundings;

use super::*;
use crate::keep::Boxed;
use crate::notify::{Deliver, NotifyConfiguration, Tested};
use crate::shelf::Shelf;

const PROMQL: RuleLanguage = RuleLanguage::Promql;

/// Files in memory, which may change.
#[derive(Default)]
struct InMemory(Mutex<BTreeMap<String, String>>);

impl Surroundings for InMemory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let files = self.0.lock();
        let text = path.to_str().and_then(|path| files.get(path));
        text.map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.0.lock().keys().cloned().collect())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// PromQL over samples in memory.
#[derive(Default)]
struct Samples {
    memory: Mutex<MemorySource>,
    /// Expressions that fail.
    failing: Mutex<Option<&'static str>>,
}

fn point(sample: &Sample) -> Point {
    match &sample.histogram {
        Some(histogram) => Point::Histogram(Arc::clone(histogram)),
        None => Point::Float(sample.value),
    }
}

impl Queries for Samples {
    fn ask<'a>(
        &'a self,
        _: RuleLanguage,
        text: &'a str,
        t_ms: i64,
    ) -> Boxed<'a, Result<Vec<Sample>, String>> {
        Box::pin(async move {
            if self.failing.lock().is_some_and(|failing| text.contains(failing)) {
                return Err("the store is away".to_owned());
            }
            let expr = promql::parse(text).map_err(|error| error.to_string())?;
            ruletest::answer(&self.memory.lock(), &expr, t_ms, 60_000)
        })
    }

    fn last_samples<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Boxed<'a, Result<Vec<ForStateSeries>, String>> {
        Box::pin(async move {
            let memory = self.memory.lock();
            let mut found = Vec::new();
            for (labels, points) in memory.iter() {
                let value = |name: &str| labels.get(name).unwrap_or_default();
                if !matchers.iter().all(|matcher| matcher.matches(value(&matcher.name))) {
                    continue;
                }
                let within = points.filter(|(t_ms, _)| (start_ms..=end_ms).contains(t_ms));
                if let Some((t_ms, Point::Float(value))) = within.last() {
                    found.push(ForStateSeries { labels: labels.clone(), t_ms, value: *value });
                }
            }
            Ok(found)
        })
    }

    fn lines_behind<'a>(
        &'a self,
        behind: Behind<'a>,
        _: usize,
    ) -> Boxed<'a, Result<Vec<QueryLine>, String>> {
        let line = behind.expression.to_owned();
        Box::pin(async move { Ok(vec![QueryLine { t_ns: 0, line, labels: Vec::new() }]) })
    }

    fn lines_of<'a>(
        &'a self,
        text: &'a str,
        range: Duration,
        _: i64,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryLine>, String>> {
        let line = format!("{text} {range:?} {most}");
        Box::pin(async move { Ok(vec![QueryLine { t_ns: 0, line, labels: Vec::new() }]) })
    }

    fn exemplars_behind<'a>(
        &'a self,
        behind: Behind<'a>,
        _: usize,
    ) -> Boxed<'a, Result<Vec<QueryExemplar>, String>> {
        let series = behind.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let labels = vec![("trace_id".to_owned(), behind.expression.to_owned())];
        let one = QueryExemplar { t_ms: behind.at_ms, value: 0.5, labels, series };
        Box::pin(async move { Ok(vec![one]) })
    }
}

impl Store for Samples {
    fn write(&self, samples: Vec<Sample>) -> Boxed<'_, Result<Option<String>, String>> {
        Box::pin(async move {
            let mut memory = self.memory.lock();
            for sample in samples {
                // In any order, as the store takes them; of twins the first counts.
                let _ = memory.insert(&sample.labels, sample.t_ms, point(&sample));
            }
            Ok(None)
        })
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Deliver for Told {
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        _: Option<&'static str>,
        _: i64,
    ) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            for one in notification.alerts.iter() {
                let (labels, annotations) = (&one.alert.labels, &one.alert.annotations);
                let of = |name| labels.get(name).unwrap_or_default();
                let summary = annotations.get("summary").map_or("", String::as_str);
                let sign = if one.resolved { "-" } else { "" };
                let text = format!("{sign}{} {} {summary}", of("alertname"), of("region"));
                self.0.lock().push(text);
            }
            Outcome::Delivered { store: None }
        })
    }

    fn test<'a>(&'a self, _: &'a str, _: Arc<[NotifiedAlert]>, _: i64) -> Boxed<'a, Vec<Tested>> {
        Box::pin(async { Vec::new() })
    }
}

struct Bench {
    rules: Rules,
    notifications: Notifications,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct World {
    files: Arc<InMemory>,
    samples: Arc<Samples>,
    told: Arc<Told>,
}

fn settings() -> RuleSettings {
    RuleSettings {
        promql_files: vec!["rules.yml".to_owned()],
        logql_files: Vec::new(),
        defaults: Defaults::default(),
        builtin_off: None,
        external_labels: Labels::from_pairs([("region", "here")]).expect("a label"),
        alert_relabel_configs: Vec::new(),
        external_url: "http://w".to_owned(),
        limits: RuleLimits::default(),
        resend_delay: Duration::from_millis(100),
        catch_up: CatchUpLimits::default(),
        groups_at_once: 4,
        managed: ManagedLimits::default(),
    }
}

impl World {
    fn with(rules: &str) -> World {
        let world = World::default();
        world.write(rules);
        world
    }

    fn read(&self, settings: RuleSettings) -> Result<PreparedRules, Faults> {
        PreparedRules::read(settings, &(Arc::clone(&self.files) as Files))
    }

    fn write(&self, rules: &str) {
        self.files.0.lock().insert("rules.yml".to_owned(), rules.to_owned());
    }

    /// Lets a series have a value from now on.
    fn set(&self, name: &str, value: f64) {
        let labels = Labels::from_pairs([("__name__", name)]).expect("a label");
        let now_ms = Clock::default().now_ms();
        let appended = self.samples.memory.lock().append(&labels, now_ms, Point::Float(value));
        appended.expect("time goes on");
    }

    fn open(&self, shelf: &Arc<Shelf>) -> Result<Bench, Faults> {
        let yaml = "route: {receiver: r, group_wait: 1ms, group_interval: 1ms, repeat_interval: 1h}\n\
                    receivers: [{name: r, webhook_configs: [{url: 'http://h/'}]}]\n";
        self.files.0.lock().insert("a.yml".to_owned(), yaml.to_owned());
        let files: Files = Arc::clone(&self.files) as _;
        let mode = MatcherMode::Fallback;
        let configuration = NotifyConfiguration::load(Path::new("a.yml"), mode, Arc::clone(&files))
            .expect("a test's configuration");
        let clock = Arc::new(Clock::default());
        let (notifications, driver) = Notifications::open(
            Arc::clone(shelf) as _,
            &configuration,
            Arc::clone(&self.told) as _,
            alerting::notify::Limits::default(),
            Arc::clone(&clock),
            Duration::ZERO,
        )
        .expect("what was kept can be read");
        let (rules, _) = Rules::open(Parts {
            alertmanagers: Alertmanagers::default(),
            prepared: self.read(settings())?,
            forgets_at_once: true,
            keep: Arc::clone(shelf) as _,
            queries: Arc::clone(&self.samples) as _,
            store: Arc::clone(&self.samples) as _,
            notifications: notifications.clone(),
            clock,
        });
        let driving = tokio::spawn(async move {
            let _ = driver.run().await;
        });
        let evaluating = tokio::spawn(rules.clone().run());
        Ok(Bench { rules, notifications, tasks: vec![evaluating, driving] })
    }
}

impl Bench {
    /// As a kill: nothing more happens.
    async fn kill(self) {
        self.rules.stop();
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        self.notifications.stop();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// Waits for something that is so sooner or later.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

const CHAIN: &str = "groups:\n- name: g\n  interval: 50ms\n  rules:\n  - {record: 'b', expr: 'a * 2'}\n\
                     \x20 - {record: 'c', expr: 'b + 1'}\n  - alert: High\n    expr: c > 4\n    \
                     annotations: {summary: 'c is {{ $value }}, b {{ query \"b\" | first | value }}'}\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_writes_is_read_by_the_next_one_and_somebody_is_told() {
    let world = World::with(CHAIN);
    world.set("a", 2.0);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    until("it is told", || !world.told.0.lock().is_empty()).await;
    assert_eq!(world.told.0.lock()[0], "High here c is 5, b 4");
    world.set("a", 1.0);
    until("its end is told", || world.told.0.lock().len() > 1).await;
    assert!(world.told.0.lock()[1].starts_with("-High here"), "{:?}", world.told.0.lock());
    let shown = bench.rules.groups(true);
    assert_eq!((shown.len(), shown[0].view.rules.len()), (1, 3));
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_answered_leaves_its_alerts_as_they_are() {
    let world = World::with(CHAIN);
    world.set("a", 2.0);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    until("it fires", || bench.rules.alerts().len() == 1).await;
    *world.samples.failing.lock() = Some("> 4");
    let failed = || {
        let shown = serde_json::to_string(&bench.rules.groups(false)[0].view).expect("JSON");
        shown.contains("the store is away")
    };
    until("it fails", failed).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.rules.alerts().len(), 1);
    *world.samples.failing.lock() = None;
    until("it is well again", || !failed()).await;
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_and_nothing_told_again_over_kills() {
    let rules =
        CHAIN.replace("expr: c > 4\n", "expr: c > 4\n    for: 500ms\n    keep_firing_for: 1h\n");
    let world = World::with(&rules);
    world.set("a", 2.0);
    let shelf = Shelf::new();
    // It waits for half a second altogether, over starts that each last for less.
    for _ in 0..6 {
        let bench = world.open(&shelf).expect("the rules are right");
        tokio::time::sleep(Duration::from_millis(250)).await;
        bench.kill().await;
    }
    let bench = world.open(&shelf).expect("the rules are right");
    until("it fires", || bench.rules.alerts().iter().any(|alert| alert.state == "firing")).await;
    until("it is told", || !world.told.0.lock().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.kill().await;
    // Only what keeps it firing holds it now, over a restart as well.
    world.set("a", 1.0);
    for _ in 0..3 {
        let bench = world.open(&shelf).expect("the rules are right");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let alerts = bench.rules.alerts();
        assert_eq!((alerts.len(), alerts[0].state), (1, "firing"));
        bench.kill().await;
    }
    assert_eq!(world.told.0.lock().len(), 1, "{:?}", world.told.0.lock());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_an_alert_is_in_its_annotations() {
    let summary = "{{ range exemplars 1 }}{{ .Labels.trace_id }} of {{ .Series.__name__ }}{{ end }}: \
                   {{ range linesOf \"{}\" \"1m\" 2 }}{{ .Line }}{{ end }} {{ lines 1 }}";
    let rules = CHAIN.replace("c is {{ $value }}, b {{ query \"b\" | first | value }}", summary);
    let world = World::with(&rules);
    world.set("a", 2.0);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    until("it is told", || !world.told.0.lock().is_empty()).await;
    let told = world.told.0.lock()[0].clone();
    // The last is for rules over lines, and says so.
    assert!(told.contains("error calling lines: a rule over samples counts no lines"), "{told}");
    bench.kill().await;
    let rules = rules.replace(" {{ lines 1 }}", "");
    let world = World::with(&rules);
    world.set("a", 2.0);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    until("it is told", || !world.told.0.lock().is_empty()).await;
    assert_eq!(world.told.0.lock()[0], "High here c > 4 of c: {} 60s 2");
    bench.kill().await;
}

#[test]
fn a_rule_asks_for_no_more_than_it_may() {
    use alerting::rules::Evidence;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (samples, labels) = (Samples::default(), Labels::empty());
    let behind = Behind { expression: "x", labels: &labels, at_ms: 0 };
    // Each evaluation of a rule may ask anew.
    for _ in 0..2 {
        let found = evidence::Found::new(&samples, runtime.handle(), RuleLanguage::Logql);
        let lines = || found.lines(behind, 1).expect("it is no error").len();
        let asked: usize = (0..150).map(|_| lines()).sum();
        assert_eq!(asked, 100);
        assert_eq!(found.left_out(), 50);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_rules_are_caught_up() {
    let world = World::with(CHAIN);
    world.set("a", 1.0);
    let shelf = Shelf::new();
    let bench = world.open(&shelf).expect("the rules are right");
    until("it is evaluated", || world.samples.memory.lock().iter().count() >= 3).await;
    bench.rules.inner.save_times().await;
    bench.kill().await;
    let stopped_ms = Clock::default().now_ms();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let began_ms = Clock::default().now_ms();
    let bench = world.open(&shelf).expect("the rules are right");
    let caught_up = || {
        let memory = world.samples.memory.lock();
        let is_c = |labels: &Labels| labels.metric_name() == Some("c");
        let Some((_, points)) = memory.iter().find(|(labels, _)| is_c(labels)) else { return 0 };
        points.filter(|(t_ms, _)| (stopped_ms + 60..began_ms - 60).contains(t_ms)).count()
    };
    until("what was missed is there", || caught_up() >= 8).await;
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_whole_or_nothing() {
    let world = World::with(CHAIN);
    world.set("a", 1.0);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    until("it is evaluated", || world.samples.memory.lock().iter().count() >= 3).await;
    world.write("groups: [{name: g, rules: [{record: b, expr: 'a +'}]}]");
    let faults = world.read(settings()).err().expect("it is no expression");
    assert!(faults.render().contains("rules.yml:1:"), "{}", faults.render());
    assert_eq!(bench.rules.groups(false)[0].view.rules.len(), 3);
    world.write("groups: [{name: other, interval: 50ms, rules: [{record: d, expr: a}]}]");
    let prepared = world.read(settings()).expect("it is right");
    let read = bench.rules.put(prepared).await;
    assert_eq!((read.changes.added, read.changes.removed), (1, 1));
    let ended = || {
        let memory = world.samples.memory.lock();
        let is_b = |labels: &Labels| labels.metric_name() == Some("b");
        let Some((_, points)) = memory.iter().find(|(labels, _)| is_b(labels)) else {
            return false;
        };
        matches!(points.last(), Some((_, Point::Float(value))) if model::is_stale_nan(*value))
    };
    until("what nobody writes any more has ended", ended).await;
    bench.kill().await;
}

#[test]
fn labels_of_alerts_that_leave_are_relabeled() {
    let yaml = "- {regex: replica, action: labeldrop}\n\
                - {source_labels: [region, team], regex: 'here;quiet', action: drop}\n";
    let names = settings::NameValidation::Utf8;
    let rules = settings::relabel::parse_rules("r.yml", yaml.as_bytes(), names);
    let settings = RuleSettings { alert_relabel_configs: rules.expect("rules"), ..settings() };
    let mut work = LabelBuffer::new();
    let mut told = |pairs: &[(&str, &str)]| {
        let labels = Labels::from_pairs(pairs.iter().copied()).expect("labels");
        let told = leaving(&labels, &settings, &mut work)?;
        Some(told.iter().map(|(name, value)| format!("{name}={value}")).collect::<BTreeSet<_>>())
    };
    let set = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect());
    assert_eq!(told(&[("alertname", "A"), ("replica", "1")]), set(&["alertname=A", "region=here"]));
    assert_eq!(told(&[("alertname", "A"), ("team", "quiet")]), None);
    // Its own labels win over those of the server.
    assert_eq!(
        told(&[("region", "there"), ("team", "quiet")]),
        set(&["region=there", "team=quiet"])
    );
    assert_eq!(told(&[("region", "there")]), set(&["region=there"]));
}
