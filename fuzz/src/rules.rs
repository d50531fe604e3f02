//! Rules: their files, files of tests, and the state that outlives a restart.

use alerting::rules::{Defaults, RuleSet, Snapshot, compile_groups};
use ruletest::TestFile;
use ruletest::notation::series::{Item, parse_items, parse_metric};
use ruletest::notation::{histogram, series};
use settings::prometheus::rules::{self, RuleChecks, RuleFormat};

use crate::configuration::check_faults;
use crate::input::text_of;

const RULES: &[u8] = b"groups:\n- name: g\n  interval: 30s\n  labels: {team: x}\n  rules:\n  - record: a:b\n    expr: |\n      sum(\n        a\n      )\n  - alert: Down\n    expr: up == 0\n    for: 5m\n    keep_firing_for: 1h\n    annotations: {s: '{{ $labels.job }} {{ $value | humanize }}'}\n";

/// A file of rules: what can be read compiles, and every rule has its place in the order.
pub(crate) fn rule_file(bytes: &[u8]) {
    for format in [RuleFormat::Prometheus, RuleFormat::Ruler] {
        let checks = RuleChecks { format, ..ruletest::checks() };
        match rules::parse("fuzz.yml", bytes, &checks) {
            Ok(loaded) => {
                let compiled = compile_groups(
                    "fuzz.yml",
                    &loaded.file,
                    Defaults::default(),
                    &ruletest::compile,
                );
                for spec in compiled.expect("expressions were checked") {
                    let in_order: usize = spec.stages.iter().map(Vec::len).sum();
                    assert_eq!(in_order, spec.rules.len());
                }
            }
            Err(faults) => check_faults(&faults, bytes),
        }
        if let Err(faults) = rules::parse_group("fuzz.yml", bytes, &checks) {
            check_faults(&faults, bytes);
        }
    }
}

pub(crate) fn rule_file_seeds() -> Vec<Vec<u8>> {
    vec![RULES.to_vec(), b"name: g\nrules:\n- {record: a, expr: '1'}\n".to_vec()]
}

/// A file of tests, and, as a text, the series of one.
pub(crate) fn rule_test(bytes: &[u8]) {
    if let Err(faults) = TestFile::parse("fuzz.yml", bytes) {
        check_faults(&faults, bytes);
    }
    let text = text_of(bytes);
    // A repetition is bounded; here it would only take time.
    if text.contains('x') {
        return;
    }
    if let Ok((labels, _)) = parse_metric(text) {
        let (again, _) =
            parse_metric(&labels.to_string()).expect("labels are printed as they are read");
        assert_eq!(again, labels);
        let _ = series::parse_series(text);
    }
    for item in parse_items(text).unwrap_or_default() {
        if let Item::Histogram(literal) = item {
            let printed = histogram::print(&literal.histogram);
            let again = histogram::parse(&printed).expect("a histogram is printed as it is read");
            assert_eq!(histogram::print(&again.histogram), printed);
        }
    }
}

pub(crate) fn rule_test_seeds() -> Vec<Vec<u8>> {
    let file = "rule_files: [r.yml]\ntests:\n- interval: 1m\n  start_timestamp: 2024-01-01T00:00:00Z\n  input_series: \
                [{series: 'up{a=\"b\"}', values: '1 2'}]\n  promql_expr_test: [{expr: up, exp_samples: \
                [{value: 1}]}]\n";
    let histogram = "{{schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] offset:-3 \
                     n_buckets:[4.1 5] n_offset:-5 counter_reset_hint:gauge}}";
    let texts = [file, "up{a=\"b\", \"c.d\"='e'} 1 2+3 _ stale", histogram];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A saved state: what can be read is taken up, and goes on.
pub(crate) fn rule_state(bytes: &[u8]) {
    let Ok(saved) = serde_json::from_slice::<Snapshot>(bytes) else { return };
    let loaded = rules::parse("f.yml", RULES, &ruletest::checks()).expect("the rules are right");
    let compiled = compile_groups("f.yml", &loaded.file, Defaults::default(), &ruletest::compile);
    let specs = compiled.expect("the rules compile");
    let mut set = RuleSet::new();
    set.load(specs, saved.taken_at_ms.clamp(0, 4_102_444_800_000), true);
    if set.restore(&saved, 1_700_000_000_000).is_ok() {
        let again = set.snapshot(1_700_000_000_000);
        let again = serde_json::to_vec(&again).expect("a state is JSON");
        assert!(serde_json::from_slice::<Snapshot>(&again).is_ok());
        for (_, group) in set.groups() {
            let _ = serde_json::to_string(&group.lock().view(true)).expect("a group is JSON");
        }
    }
}

pub(crate) fn rule_state_seeds() -> Vec<Vec<u8>> {
    let saved = serde_json::json!({
        "version": 1, "taken_at_ms": 1_699_999_990_000_i64,
        "groups": [{
            "file": "f.yml", "name": "g", "evaluated_for_ms": 1_699_999_980_000_i64,
            "rules": [
                {"name": "a:b", "labels": {"team": "x"}, "series": [{"__name__": "a:b"}]},
                {"name": "Down", "labels": {"team": "x"}, "alerts": [{
                    "state": "firing", "labels": {"alertname": "Down", "job": "j"}, "value": "0",
                    "annotations": {"s": "j 0"}, "active_at_ms": 1_699_999_000_000_i64,
                    "fired_at_ms": 1_699_999_300_000_i64, "last_sent_at_ms": 1_699_999_970_000_i64
                }]}
            ]
        }]
    });
    vec![serde_json::to_vec(&saved).expect("a seed is JSON")]
}
