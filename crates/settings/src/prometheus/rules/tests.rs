use super::*;
use crate::Severity;

fn expression(text: &str) -> Result<(), ExpressionFault> {
    match text.find('$') {
        Some(at) => {
            let message = format!("1:{}: parse error: unexpected character: '$'", at + 1);
            Err(ExpressionFault { message, span: Some((at, at + 1)) })
        }
        None => Ok(()),
    }
}

fn template(alert: &str, text: &str) -> Result<(), String> {
    if text.contains("{{ $nosuch") {
        return Err(format!("template: __alert_{alert}:1: undefined variable \"$nosuch\""));
    }
    Ok(())
}

fn checks() -> RuleChecks<'static> {
    RuleChecks {
        names: NameValidation::Utf8,
        format: RuleFormat::Prometheus,
        ignore_unknown_fields: false,
        expression: &expression,
        template: &template,
    }
}

fn faults(yaml: &str) -> Vec<(usize, usize, String)> {
    match parse("r.yml", yaml.as_bytes(), &checks()) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            faults.iter().map(|one| (one.line, one.column, one.message.clone())).collect()
        }
    }
}

#[track_caller]
fn one_fault(yaml: &str, line: usize, column: usize, said: &str) {
    let found = faults(yaml);
    let [(at_line, at_column, message)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((*at_line, *at_column), (line, column), "{message}");
    assert!(message.contains(said), "{message}");
}

#[test]
fn a_file_is_read_whole() {
    let yaml = "groups:\n- name: a\n  interval: 30s\n  query_offset: 1m\n  limit: 3\n  labels: {team: x, \
                tier: 1}\n  rules:\n  - record: b:c\n    expr: sum(d)\n    labels: {tier: ''}\n  - alert: E\n    \
                expr: up == 0\n    for: 5m\n    keep_firing_for: 1h\n    annotations: {s: '{{ $value }}'}\n- \
                name: empty\n";
    let loaded = parse("r.yml", yaml.as_bytes(), &checks()).expect("the file is right");
    let [a, empty] = loaded.file.groups.as_slice() else { panic!("{loaded:?}") };
    assert_eq!(a.interval, Some(Duration::from_secs(30)));
    assert_eq!((a.query_offset, a.limit, a.line), (Some(Duration::from_secs(60)), 3, 2));
    let [record, alert] = a.rules.as_slice() else { panic!("{a:?}") };
    assert_eq!((record.kind, record.name.as_str(), record.line), (RuleKind::Recording, "b:c", 8));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(a.labels_of(record), [pair("team", "x"), pair("tier", "")]);
    assert_eq!((alert.kind, alert.hold.as_secs()), (RuleKind::Alerting, 300));
    assert_eq!(alert.keep_firing_for.as_secs(), 3_600);
    assert_eq!(empty.rules, []);
    assert_eq!((empty.interval, empty.query_offset), (None, None));
    assert_eq!(parse("r.yml", b"", &checks()).expect("nothing is no fault").file.groups, []);
}

#[test]
fn faults_have_places_and_words() {
    let rule = |text: &str| format!("groups:\n- name: g\n  rules:\n  - {text}\n");
    one_fault(
        &rule("{record: r, expr: a $ b}"),
        4,
        25,
        "group \"g\", rule 1, \"r\": could not parse",
    );
    one_fault(&rule("{expr: 1}"), 4, 6, "one of 'record' or 'alert' must be set");
    one_fault(&rule("{record: r, alert: a, expr: 1}"), 4, 14, "only one of 'record' and 'alert'");
    one_fault(&rule("{record: r}"), 4, 6, "field 'expr' must be set in rule");
    one_fault(&rule("{record: r, expr: 1, for: 1m}"), 4, 26, "invalid field 'for' in recording");
    one_fault(
        &rule("{record: r, expr: 1, annotations: {a: b}}"),
        4,
        26,
        "invalid field 'annotations'",
    );
    one_fault(&rule("{record: 'r{', expr: 1}"), 4, 14, "braces present in the recording rule name");
    one_fault(
        &rule("{record: r, expr: 1, labels: {__name__: x}}"),
        4,
        35,
        "invalid label name: __name__",
    );
    one_fault(&rule("{alert: a, expr: 1, annotation: {}}"), 4, 25, "field annotation not found");
    one_fault(&rule("{alert: a, expr: 1, for: soon}"), 4, 30, "not a valid duration string");
    let text = "{alert: a, expr: 1, annotations: {d: '{{ $nosuch }}'}}";
    one_fault(&rule(text), 4, 42, "annotation \"d\": template: __alert_a:1");
    one_fault("groups:\n- rules: []\n", 2, 3, "Groupname must not be empty");
    one_fault("groups:\n- name: a\n- name: a\n", 3, 9, "groupname: \"a\" is repeated");
    one_fault("groups:\n- name: a\n  labels: {'': b}\n", 3, 12, "invalid label name: ");
    one_fault("group: []\n", 1, 1, "field group not found in type rulefmt.RuleGroups");
    one_fault("groups: [\n", 1, 9, "yaml");
}

#[test]
fn a_place_in_a_block_is_that_of_the_file() {
    let yaml = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: |\n      sum(\n        $x\n      )\n";
    one_fault(yaml, 7, 9, "unexpected character");
}

#[test]
fn names_may_have_to_be_plain() {
    let checks = RuleChecks { names: NameValidation::Legacy, ..checks() };
    let yaml = "groups: [{name: g, rules: [{record: a.b, expr: 1, labels: {'c.d': e}}]}]";
    let found = parse("r.yml", yaml.as_bytes(), &checks).expect_err("both names are wrong");
    let said: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
    assert!(said[0].ends_with("invalid recording rule name: a.b"), "{said:?}");
    assert!(said[1].ends_with("invalid label name: c.d"), "{said:?}");
}

#[test]
fn unknown_keys_may_be_passed_over() {
    let checks = RuleChecks { ignore_unknown_fields: true, ..checks() };
    let yaml = "a: 1\ngroups: [{name: g, b: 2, rules: [{record: r, expr: 1, c: 3}]}]";
    assert!(parse("r.yml", yaml.as_bytes(), &checks).is_ok());
}

#[test]
fn rulers_know_more_keys() {
    let yaml = "namespace: n\ngroups:\n- name: g\n  source_tenants: [a, b]\n  evaluation_delay: 1m\n  \
                align_evaluation_time_on_interval: true\n  remote_write: [{url: x}]\n  rules: []\n";
    assert_eq!(faults(yaml).len(), 5);
    let checks = RuleChecks { format: RuleFormat::Ruler, ..checks() };
    let loaded = parse("r.yml", yaml.as_bytes(), &checks).expect("the file is right");
    assert_eq!(loaded.file.namespace.as_deref(), Some("n"));
    let group = &loaded.file.groups[0];
    assert_eq!(group.source_tenants, ["a", "b"]);
    assert!(group.align_evaluation_time && group.query_offset == Some(Duration::from_secs(60)));
    assert_eq!(loaded.warnings.len(), 2);
    let body = b"name: g\ninterval: 1m\nrules:\n- alert: A\n  expr: up\n";
    let group = parse_group("body", body, &checks).expect("the group is right");
    assert_eq!((group.name.as_str(), group.rules.len()), ("g", 1));
    assert!(parse_group("body", b"", &checks).is_err());
    assert!(parse_group("body", b"name: ''", &checks).is_err());
}

#[test]
fn twins_and_second_documents_are_told() {
    let yaml = "groups:\n- name: g\n  labels: {a: b}\n  rules:\n  - {record: r, expr: 1}\n  - {record: s, expr: \
                1}\n- name: h\n  rules:\n  - {record: r, expr: 2, labels: {a: b}}\n---\n";
    let loaded = parse("r.yml", yaml.as_bytes(), &checks()).expect("the file is right");
    let [twin] = loaded.duplicates.as_slice() else { panic!("{:?}", loaded.duplicates) };
    assert_eq!((twin.metric.as_str(), twin.place.line), ("r", 9));
    assert_eq!(twin.labels, [("a".to_owned(), "b".to_owned())]);
    assert!(loaded.warnings.iter().all(|one| one.severity == Severity::Warning));
    assert_eq!(loaded.warnings.len(), 1);
}
