use std::io;
use std::path::PathBuf;

use super::*;

/// Files in memory.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, String>);

impl Surroundings for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.0.get(path).map(|text| text.clone().into_bytes());
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.0.keys().filter(|path| path.parent() == Some(directory));
        let names = names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn options() -> TestOptions {
    TestOptions::default()
}

const RULES: &str = "groups:\n- name: g\n  rules:\n  - alert: Down\n    expr: up == 0\n    for: 2m\n    labels: \
                     {severity: page}\n    annotations: {s: '{{ $labels.job }} of {{ query `count(up)` | first | value }}'}\n  - record: \
                     a:sum\n    expr: sum(a)\n";

fn run(test: &str) -> FileReport {
    run_with(test, &options())
}

fn run_with(test: &str, options: &TestOptions) -> FileReport {
    let files = [("d/t.yml", test), ("d/r.yml", RULES)];
    let files = files.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
    run_file(Path::new("d/t.yml"), &Files(files.into()), options)
}

fn failures(report: &FileReport) -> Vec<&str> {
    report.all_failures().collect()
}

const ALERTS: &str = "rule_files: ['*r.yml']\ntests:\n- interval: 1m\n  input_series:\n  - series: up{job=\"x\"}\n    \
                      values: 1 0x5\n  - series: a{b=\"1\"}\n    values: 1+1x5\n  alert_rule_test:\n  - \
                      eval_time: 2m\n    alertname: Down\n  - eval_time: 3m30s\n    alertname: Down\n    \
                      exp_alerts:\n    - exp_labels: {job: x, severity: page}\n      exp_annotations: {s: x \
                      of 1}\n";

#[test]
fn alerts_and_series_are_compared() {
    assert_eq!(failures(&run(ALERTS)), Vec::<&str>::new());
    let wrong = run(&ALERTS.replace("exp_labels: {job: x", "exp_labels: {job: y"));
    let [failure] = failures(&wrong)[..] else { panic!("{wrong:?}") };
    let want = "    alertname: Down, time: 3m30s, \n        exp:[\n            0:\n              \
                Labels:{alertname=\"Down\", job=\"y\", severity=\"page\"}\n              \
                Annotations:{s=\"x of 1\"}\n            ], \n        got:[\n            0:\n              \
                Labels:{alertname=\"Down\", job=\"x\", severity=\"page\"}\n              \
                Annotations:{s=\"x of 1\"}\n            ]";
    assert_eq!(failure, want);
    let options = TestOptions { diff: true, ..options() };
    let wrong = run_with(&ALERTS.replace("exp_labels: {job: x", "exp_labels: {job: y"), &options);
    assert!(failures(&wrong)[0].contains("\n            -   Labels:"), "{wrong:?}");
    assert!(failures(&wrong)[0].contains("\n            +   Labels:"), "{wrong:?}");
}

fn expression(series: &str, values: &str, case: &str) -> FileReport {
    run(&format!(
        "rule_files: [r.yml]\nfuzzy_compare: false\ntests:\n- interval: 30s\n  input_series: [{{series: \
         '{series}', values: '{values}'}}]\n  promql_expr_test: [{case}]\n"
    ))
}

#[test]
fn expressions_are_compared() {
    let ok = |report: FileReport| assert_eq!(failures(&report), Vec::<&str>::new());
    ok(expression("a", "1 2 3", "{expr: a, eval_time: 1m, exp_samples: [{labels: a, value: 3}]}"));
    ok(expression(
        "a",
        "1 2 3",
        "{expr: 'a:sum', eval_time: 1m, exp_samples: [{labels: 'a:sum', value: 3}]}",
    ));
    ok(expression("a", "1", "{expr: 'time()', eval_time: 5m, exp_samples: [{value: 300}]}"));
    ok(expression("a", "1", "{expr: nosuch, eval_time: 1m}"));
    let histogram = "{{schema:1 count:2 sum:3 buckets:[1 1]}}";
    let case = "{expr: a, eval_time: 1m, exp_samples: [{labels: a, histogram: '{{schema:1 count:2 sum:3 \
                buckets:[1 1] counter_reset_hint:not_reset}}'}]}";
    ok(expression("a", &format!("{histogram}x2"), case));
    for (case, said) in [
        (
            "{expr: a, exp_samples: [{labels: a, value: 2}]}",
            "exp: {__name__=\"a\"} 2E+00\n        got: {__name__=\"a\"} 1E+00",
        ),
        ("{expr: a}", "exp: nil"),
        ("{expr: 'a +'}", "err: 1:4: parse error"),
        ("{expr: 'a[1m]'}", "err: rule result is not a vector or scalar"),
        ("{expr: a, exp_samples: [{labels: 'a b'}]}", "err: labels \"a b\": unexpected"),
        ("{expr: a, exp_samples: [{labels: a, histogram: '1'}]}", "expected histogram, got 1"),
        ("{expr: a, exp_samples: [{labels: a, histogram: '1 2'}]}", "expected 1 value, got 2"),
    ] {
        let report = expression("a", "1", case);
        let failures = failures(&report);
        assert!(failures.len() == 1 && failures[0].contains(said), "{case}: {failures:?}");
    }
}

#[test]
fn what_cannot_run_is_told() {
    for (test, said) in [
        ("tests: [{input_series: [{series: 'a{', values: 1}]}]", "series \"a{\""),
        ("tests: [{input_series: [{series: a, values: x}]}]", "value \"x\""),
        ("tests: [{input_series: [{series: a b, values: 1}]}]", "unexpected \"b\""),
        ("group_eval_order: [a, a]", "group name repeated in evaluation order: a"),
        ("tests: [{alert_rule_test: [{eval_time: 1m}]}]", "attribute alertname at eval_time 1m"),
        ("rule_files: [t.yml]\ntests: [{}]", "field rule_files not found"),
        ("test: []", "did you mean `tests`?"),
        (
            "tests: [{promql_expr_test: [{expr: '1', eval_time: 200y}]}]",
            "at most 10000000 are made",
        ),
    ] {
        let report = run(test);
        assert!(failures(&report).iter().any(|one| one.contains(said)), "{test}: {report:?}");
        assert!(!report.is_success());
    }
    assert_eq!(run("rule_files: [none*.yml]").warnings, ["no file match pattern d/none*.yml"]);
    let missing = run_file(Path::new("no.yml"), &Files::default(), &options());
    assert!(failures(&missing)[0].contains("cannot be read"));
}

#[test]
fn tests_are_chosen_by_name() {
    let file = "tests:\n- name: one\n  promql_expr_test: [{expr: '1'}]\n- name: two\n";
    let names = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|one| (*one).to_owned()).collect();
        let run = TestOptions::named(&patterns).expect("they are regular expressions");
        let report = run_with(file, &TestOptions { run, ..options() });
        (report.tests.len(), report.is_success())
    };
    assert_eq!(names(&[]), (2, false));
    assert_eq!(names(&["tw"]), (1, true));
    assert_eq!(names(&["^w", "one"]), (1, false));
    assert_eq!(names(&["three"]), (0, true));
    assert!(TestOptions::named(&["(".to_owned()]).is_err());
}

#[test]
fn what_is_switched_off_is_refused() {
    let off = Features { at_modifier: false, negative_offset: false };
    let options = TestOptions { features: off, ..options() };
    for (expr, said) in [
        ("a @ 5", "@ modifier is disabled"),
        ("sum(rate(a[5m] @ end()))", "@ modifier is disabled"),
        ("max_over_time(a[1m:1s] offset -1m)", "negative offset is disabled"),
    ] {
        let file = format!("tests: [{{promql_expr_test: [{{expr: '{expr}'}}]}}]");
        let report = run_with(&file, &options);
        assert!(failures(&report)[0].contains(said), "{report:?}");
        assert!(run(&file).is_success());
    }
}

#[test]
fn samples_are_shown_for_debugging() {
    let options = TestOptions { debug: true, ..options() };
    let report = run_with(
        "tests: [{input_series: [{series: 'a{b=\"c\"}', values: '1 stale'}], \
                           promql_expr_test: [{expr: nosuch, eval_time: 1m}]}]",
        &options,
    );
    assert_eq!(report.tests[0].notes, ["a{b=\"c\"} 1@0 stale@60000"]);
    assert_eq!(report.tests[0].name, "unnamed#0");
}

#[test]
fn rules_see_series_that_end_and_other_rules() {
    let test = "rule_files: [r.yml]\ntests:\n- input_series:\n  - {series: 'up{job=\"x\"}', values: '0x4 stale'}\n  \
                - {series: a, values: '1 _x3 stale 5'}\n  promql_expr_test:\n  - expr: ALERTS\n    eval_time: \
                1m\n    exp_samples: [{labels: 'ALERTS{alertname=\"Down\", alertstate=\"pending\", job=\"x\", \
                severity=\"page\"}', value: 1}]\n  - expr: ALERTS_FOR_STATE\n    eval_time: 3m\n    \
                exp_samples: [{labels: 'ALERTS_FOR_STATE{alertname=\"Down\", job=\"x\", severity=\"page\"}', \
                value: 0}]\n  - {expr: ALERTS, eval_time: 5m}\n  - {expr: a, eval_time: 4m}\n  - {expr: 'a:sum', \
                eval_time: 4m}\n  - {expr: 'a:sum', eval_time: 5m, exp_samples: [{labels: 'a:sum', value: \
                5}]}\n";
    assert_eq!(failures(&run(test)), Vec::<&str>::new());
}

#[test]
fn groups_are_evaluated_in_the_order_that_is_named() {
    let rules = "groups:\n- {name: late, rules: [{record: b, expr: a + 1}]}\n- {name: early, rules: [{record: a, \
                 expr: time()}]}\n";
    let test = |order: &str, value: u32| {
        format!(
            "rule_files: [r.yml]\ngroup_eval_order: [{order}]\nevaluation_interval: 1d\ntests: \
             [{{promql_expr_test: [{{expr: b, eval_time: 1d, exp_samples: [{{labels: b, value: \
             {value}}}]}}]}}]"
        )
    };
    let run = |test: String| {
        let files = [("d/t.yml", test), ("d/r.yml", rules.to_owned())];
        let files = files.map(|(path, text)| (PathBuf::from(path), text));
        run_file(Path::new("d/t.yml"), &Files(files.into()), &options())
    };
    assert_eq!(failures(&run(test("early, late", 86_401))), Vec::<&str>::new());
    // The other way round the value of the day before is out of sight.
    assert!(!run(test("late, early", 86_401)).is_success());
}

#[test]
fn fuzzy_numbers_may_be_neighbours() {
    assert!(is_equal(3.0, 2.999_999_999_999_999_6, true));
    assert!(!is_equal(3.0, 2.999_999_999_999_999_6, false));
    assert!(!is_equal(3.0, 2.999_999_999_999_998_7, true));
    assert!(!is_equal(f64::NAN, f64::NAN, true));
}

#[test]
fn the_world_outside_is_seen_by_templates() {
    let rules = "groups: [{name: g, rules: [{alert: A, expr: vector(7), annotations: {s: '{{ \
                 $externalLabels.dc }} {{ $externalURL }} {{ $value }}'}}]}]";
    let test = "rule_files: [r.yml]\ntests: [{external_labels: {dc: x}, external_url: http://w, \
                alert_rule_test: [{eval_time: 0, alertname: A, exp_alerts: [{exp_annotations: {s: x \
                http://w 7}}]}]}]";
    let files = [("d/t.yml", test), ("d/r.yml", rules)];
    let files = files.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
    let report = run_file(Path::new("d/t.yml"), &Files(files.into()), &options());
    assert_eq!(failures(&report), Vec::<&str>::new());
}
