//! Groups that users keep.

use std::sync::atomic::Ordering;

use super::*;
use crate::keep::KeepError;

/// A group that writes `a + <more>` as `<series>`.
fn group(name: &str, series: &str, more: u32) -> String {
    format!("name: {name}\ninterval: 50ms\nrules:\n- record: {series}\n  expr: a + {more}\n")
}

impl Bench {
    async fn keep(&self, namespace: &str, yaml: &str) -> Result<(), ManagedError> {
        self.rules.keep_group(PROMQL, namespace.to_owned(), yaml.to_owned()).await
    }

    async fn forget(&self, namespace: &str, name: &str) -> Result<(), ManagedError> {
        self.rules.forget_group(PROMQL, namespace.to_owned(), name.to_owned()).await
    }

    /// Files and names of all groups that are evaluated.
    fn evaluated(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .rules
            .groups(false)
            .iter()
            .map(|one| format!("{}/{}{}", one.view.file, one.view.name, mark(one.is_managed)))
            .collect();
        all.sort();
        all
    }
}

fn mark(is_managed: bool) -> &'static str {
    if is_managed { " *" } else { "" }
}

impl World {
    /// The last value of a series.
    fn last(&self, name: &str) -> Option<f64> {
        let memory = self.samples.memory.lock();
        let is_it = |labels: &Labels| labels.metric_name() == Some(name);
        let (_, points) = memory.iter().find(|(labels, _)| is_it(labels))?;
        match points.last()? {
            (_, Point::Float(value)) => Some(*value),
            _ => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_evaluated_at_once_and_after_kills_until_it_is_forgotten() {
    let world = World::with(CHAIN);
    world.set("a", 2.0);
    let shelf = Shelf::new();
    let bench = world.open(&shelf).expect("the rules are right");
    bench.keep("team/one", &group("g", "d", 1)).await.expect("it is kept");
    until("it is evaluated", || world.last("d") == Some(3.0)).await;
    bench.kill().await;
    let bench = world.open(&shelf).expect("the rules are right");
    assert_eq!(bench.evaluated(), ["rules.yml/g", "team/one/g *"]);
    // The same name again is another text of the same group.
    bench.keep("team/one", &group("g", "d", 7)).await.expect("it is kept");
    until("the change is evaluated", || world.last("d") == Some(9.0)).await;
    bench.kill().await;
    let bench = world.open(&shelf).expect("the rules are right");
    let kept = bench.rules.managed_group(PROMQL, "team/one", "g").expect("it is there");
    assert_eq!(&*kept.yaml, group("g", "d", 7));
    world.set("a", 3.0);
    until("it is evaluated again", || world.last("d") == Some(10.0)).await;
    bench.forget("team/one", "g").await.expect("it was there");
    assert_eq!(bench.forget("team/one", "g").await, Err(ManagedError::NoGroup));
    until("its series ends", || world.last("d").is_some_and(model::is_stale_nan)).await;
    bench.kill().await;
    let bench = world.open(&shelf).expect("the rules are right");
    assert_eq!(bench.evaluated(), ["rules.yml/g"]);
    assert_eq!(shelf.list("alerting/managed/"), []);
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_files_leaves_what_is_kept() {
    let world = World::with(CHAIN);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    bench.keep("team", &group("one", "d", 1)).await.expect("it is kept");
    let prepared = world.read(settings()).expect("the files are right");
    // What comes in between counts as well.
    bench.keep("team", &group("two", "e", 1)).await.expect("it is kept");
    bench.forget("team", "one").await.expect("it was there");
    let read = bench.rules.put(prepared).await;
    assert_eq!((read.changes.kept, read.changes.removed), (2, 0));
    assert_eq!(bench.evaluated(), ["rules.yml/g", "team/two *"]);
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_changes_nothing() {
    let world = World::with(CHAIN);
    let shelf = Shelf::new();
    let bench = world.open(&shelf).expect("the rules are right");
    bench.keep("team", &group("g", "d", 1)).await.expect("it is kept");
    let refused = |yaml: String| {
        let bench = &bench;
        async move { bench.keep("team", &yaml).await.expect_err("it is wrong").to_string() }
    };
    for (yaml, words) in [
        (group("g", "d", 1).replace("a + 1", "a +"), "could not parse expression"),
        (group("g", "d", 1).replace("record", "recrod"), "recrod"),
        ("name: g\nrules: []\n".to_owned(), "rule group 'g' has no rules"),
        ("rules: [{record: b, expr: a}]\n".to_owned(), "Groupname must not be empty"),
        (String::new(), "Groupname must not be empty"),
        (format!("source_tenants: [x]\n{}", group("g", "d", 1)), "source_tenants"),
        (group(&"g".repeat(2_000), "d", 1), "the limit is 1024"),
    ] {
        let why = refused(yaml).await;
        assert!(why.contains(words), "{why}");
    }
    let why = bench.keep("rules.yml", &group("g", "d", 1)).await.expect_err("it is in a file");
    assert!(why.to_string().contains("comes from a file"), "{why}");
    shelf.writes_left.store(0, Ordering::SeqCst);
    let failed = bench.keep("team", &group("other", "e", 1)).await;
    assert!(matches!(failed, Err(ManagedError::NotKept(KeepError::Unavailable(_)))), "{failed:?}");
    let failed = bench.forget("team", "g").await;
    assert!(matches!(failed, Err(ManagedError::NotKept(_))), "{failed:?}");
    shelf.writes_left.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(bench.evaluated(), ["rules.yml/g", "team/g *"]);
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_new_groups_and_not_for_changes() {
    let world = World::with(CHAIN);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    let limits = ManagedLimits { max_groups: 2, max_rules_per_group: 1 };
    let prepared = world.read(RuleSettings { managed: limits, ..settings() });
    bench.rules.put(prepared.expect("the files are right")).await;
    for name in ["one", "two", "one"] {
        bench.keep("team", &group(name, "d", 1)).await.expect("it is kept");
    }
    let why = bench.keep("other", &group("three", "d", 1)).await.expect_err("it is one too many");
    assert!(
        why.to_string().starts_with("per-user rule groups limit (limit: 2 actual: 3) exceeded")
    );
    let two = format!("{}- record: e\n  expr: a\n", group("two", "d", 1));
    let why = bench.keep("team", &two).await.expect_err("it has one rule too many");
    let words = "per-user rules per rule group limit (limit: 1 actual: 2) exceeded";
    assert!(why.to_string().starts_with(words), "{why}");
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_write_at_once_lose_nothing() {
    let world = World::with(CHAIN);
    let shelf = Shelf::new();
    let bench = world.open(&shelf).expect("the rules are right");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let rules = bench.rules.clone();
        writers.spawn(async move {
            for number in 0..10 {
                let yaml = group(&format!("g{writer}-{number}"), "d", number);
                rules.keep_group(PROMQL, "team".to_owned(), yaml).await.expect("it is kept");
                let shared = group("shared", "e", writer * 100 + number);
                rules.keep_group(PROMQL, "team".to_owned(), shared).await.expect("it is kept");
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.expect("a writer does not panic");
    }
    let before = bench.rules.managed(PROMQL, Some("team"));
    assert_eq!(before.len(), 81);
    bench.kill().await;
    let bench = world.open(&shelf).expect("the rules are right");
    assert_eq!(bench.rules.managed(PROMQL, Some("team")), before);
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_of_no_use_any_more_is_told_and_stops_no_start() {
    let world = World::with(CHAIN);
    let shelf = Shelf::new();
    let bench = world.open(&shelf).expect("the rules are right");
    for name in ["bad", "good", "g"] {
        bench.keep("team", &group(name, "d", 1)).await.expect("it is kept");
    }
    bench.kill().await;
    // What was an expression once may be none to a later version.
    let of = |name: &str| {
        let key = GroupKey { file: "team".to_owned(), name: name.to_owned() };
        format!("alerting/managed/{}", saving::name(PROMQL, &key))
    };
    let bytes = shelf.keys.lock()[&of("bad")][2..].to_vec();
    let mut stored: serde_json::Value = saving::unpacked(&bytes).expect("it was packed here");
    stored["yaml"] = group("bad", "d", 1).replace("a + 1", "a +").into();
    let packed = saving::packed(&stored).expect("JSON");
    shelf.keys.lock().insert(of("bad"), [&[1, 0][..], &packed].concat());
    shelf.keys.lock().insert(of("gone"), vec![1, 0, 9, 9]);
    let bench = world.open(&shelf).expect("a start");
    assert_eq!(bench.evaluated(), ["rules.yml/g", "team/g *", "team/good *"]);
    let kept = bench.rules.managed_group(PROMQL, "team", "bad").expect("it is kept");
    assert!(kept.fault.expect("it has a fault").contains("could not parse expression"));
    bench.keep("team", &group("bad", "d", 1)).await.expect("it is put right");
    assert_eq!(bench.evaluated().len(), 4);
    bench.forget("team", "bad").await.expect("it was there");
    let namespace = |name: &str| bench.rules.forget_namespace(PROMQL, name.to_owned());
    namespace("team").await.expect("there are some");
    assert_eq!(namespace("team").await, Err(ManagedError::NoNamespace));
    assert_eq!(bench.evaluated(), ["rules.yml/g"]);
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_the_group_as_well_goes_before() {
    let world = World::with(CHAIN);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    bench.keep("rules.yml", &group("mine", "d", 1)).await.expect("it is kept");
    let more =
        CHAIN.replace("groups:\n", "groups:\n- {name: mine, rules: [{record: z, expr: a}]}\n");
    world.write(&more);
    let prepared = world.read(settings()).expect("the files are right");
    let read = bench.rules.put(prepared).await;
    assert!(read.warnings[0].message.contains("comes from elsewhere"), "{:?}", read.warnings);
    assert_eq!(bench.evaluated(), ["rules.yml/g", "rules.yml/mine"]);
    // Forgetting it takes nothing from the file.
    bench.forget("rules.yml", "mine").await.expect("it is kept");
    assert_eq!(bench.evaluated(), ["rules.yml/g", "rules.yml/mine"]);
    bench.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_a_rule_would_do_and_does_nothing() {
    let world = World::with(CHAIN);
    world.set("a", 2.0);
    let bench = world.open(&Shelf::new()).expect("the rules are right");
    until("it is evaluated", || world.last("c") == Some(5.0)).await;
    let yaml = "name: p\nrules:\n- record: twice\n  expr: a * 2\n- alert: Odd\n  expr: c > 4\n  for: 1h\n  labels: \
                {severity: '{{ $value | humanize }}'}\n  annotations: {summary: '{{ query \"b\" | first | value }} \
                of {{ $externalURL }}'}\n";
    let preview = |line| {
        let (rules, yaml) = (bench.rules.clone(), yaml.to_owned());
        async move {
            let found = rules.preview(PROMQL, "n".to_owned(), yaml, line).await;
            found.expect("it is right")
        }
    };
    let alerting = preview(Some(7)).await.rule.expect("a rule");
    let shown = serde_json::to_value(&alerting.view).expect("JSON");
    assert_eq!((alerting.index, alerting.samples), (1, 1));
    assert_eq!(shown["alerts"][0]["annotations"]["summary"], "4 of http://w", "{shown}");
    assert_eq!(shown["alerts"][0]["labels"]["severity"], "5", "{shown}");
    let recording = preview(Some(1)).await.rule.expect("a rule");
    assert_eq!(recording.series.len(), 1);
    assert_eq!(recording.series[0].0.metric_name(), Some("twice"));
    assert_eq!(preview(None).await.rule, None);
    assert_eq!((world.last("twice"), bench.evaluated().len()), (None, 1));
    bench.kill().await;
}
