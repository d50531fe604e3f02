//! Rules of streaming aggregation: what is read, and where faults are.

use model::{MatchOp, Matcher};
use settings::stream_aggregation::{AggregationOutput, AggregationRule, read_rules};
use settings::yaml::Document;

fn read(text: &str) -> Result<Vec<AggregationRule>, String> {
    let document = Document::parse("f.yml", text.as_bytes()).expect("YAML");
    let parse = |text: &str| match text {
        "" => Err("nothing".to_owned()),
        text => Ok(vec![Matcher::new("__name__", MatchOp::Equal, text).expect("no regex")]),
    };
    let places = |fault: &settings::Diagnostic| {
        let help = fault.help.clone().unwrap_or_default();
        format!("{}:{}: {} ({help})", fault.line, fault.column, fault.message)
    };
    read_rules(&document, "a.rules", &parse)
        .map_err(|faults| faults.iter().map(places).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_rule_is_read_as_it_is_written_for_victoriametrics() {
    let rules = read(
        "a:\n  rules:\n  - name: n\n    match: [x, y]\n    interval: 1m\n    dedup_interval: 30s\n    \
         staleness_interval: 5m\n    without: [pod, __name__, instance]\n    outputs: [total, \
         'quantiles(0.5, 0.99)']\n    flush_on_shutdown: true\n    ignore_first_intervals: 2\n    \
         drop_input_labels: [id]\n    output_relabel_configs:\n    - {target_label: by, replacement: \
         rule}\n  - interval: 5s\n    by: [job]\n    outputs: avg\n",
    );
    let rules = rules.unwrap_or_else(|faults| panic!("{faults}"));
    let one = &rules[0];
    assert_eq!((one.interval_ms, one.interval.as_str(), one.selectors.len()), (60_000, "1m", 2));
    assert_eq!(one.without, ["instance", "pod"]);
    assert_eq!(
        one.outputs,
        [AggregationOutput::Total, AggregationOutput::Quantiles(vec![0.5, 0.99])]
    );
    assert_eq!((one.dedup_interval_ms, one.staleness_interval_ms), (30_000, 300_000));
    assert_eq!(one.ignore_first_sample_interval_ms, 300_000, "as staleness_interval");
    assert!(one.flush_on_shutdown && !one.ignore_old_samples && one.ignore_first_intervals == 2);
    assert_eq!((one.drop_input_labels.len(), one.output_relabel_configs.len()), (1, 1));
    assert!(rules[1].selectors.is_empty() && rules[1].by == ["job"]);
    assert_eq!(rules[1].staleness_interval_ms, 10_000);
    assert_ne!(rules[0].identity, rules[1].identity);
}

#[test]
fn every_fault_has_its_place() {
    for (rule, expected) in [
        ("interval: 1m", "3:5: `outputs` list must not be empty (add what is to be computed"),
        ("outputs: [avg]", "3:5: missing `interval` option (add the length"),
        (
            "interval: 1m\n    outputs: [avgg]",
            "4:15: unsupported output \"avgg\" (did you mean `avg`?)",
        ),
        (
            "interval: 1m\n    outputs: ['quantiles(2)']",
            "4:15: unsupported arguments of quantiles(2)",
        ),
        ("interval: 1m\n    outputs: [avg, avg]", "4:20: the output avg is listed twice"),
        (
            "interval: 10ms\n    outputs: [avg]",
            "3:15: 10ms is out of range; it must be from 1s to 1d",
        ),
        ("interval: soon\n    outputs: [avg]", "3:15: "),
        (
            "interval: 1m\n    outputs: [avg]\n    dedup_interval: 7s",
            "5:21: the interval 1m is no multiple of it",
        ),
        (
            "interval: 1m\n    outputs: [avg]\n    staleness_interval: 1s",
            "5:25: shorter than the interval 1m",
        ),
        (
            "interval: 1m\n    outputs: [avg]\n    by: [a]\n    without: [b]",
            "6:14: `by` and `without` cannot be used together",
        ),
        (
            "interval: 1m\n    outputs: [avg, min]\n    keep_metric_names: true",
            "5:24: with several outputs",
        ),
        ("interval: 1m\n    outputs: [avg]\n    match: ''", "5:12: no selector: nothing"),
        (
            "interval: 1m\n    outputs: [avg]\n    enable_windows: true",
            "5:21: not supported (remove it",
        ),
        (
            "interval: 1m\n    outputs: [avg]\n    drop_input: true",
            "5:17: drop_input is no key of a rule (it stands beside `rules`",
        ),
        (
            "interval: 1m\n    outputs: [avg]\n    intervall: 1m",
            "5:5: field intervall not found in type streamaggr.Config (did you mean `interval`?)",
        ),
        ("interval: 1m\n    outputs: [avg]\n    input_relabel_configs: [{action: kep}]", "5:38: "),
    ] {
        let found = read(&format!("a:\n  rules:\n  - {rule}\n")).expect_err(rule);
        assert!(found.starts_with(expected), "{rule}: {found}");
    }
    let twice =
        "a:\n  rules:\n  - {interval: 1m, outputs: [avg]}\n  - {interval: 60s, outputs: [avg]}\n";
    let found = read(twice).expect_err("twice");
    assert!(found.starts_with("4:5: the same rule twice"), "{found}");
    assert!(read("b: 1\n").expect("no rules").is_empty());
}
