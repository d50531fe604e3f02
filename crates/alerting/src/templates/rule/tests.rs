//! Templates of rules as a whole.

use std::collections::BTreeMap;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn run(text: &str) -> Result<String, TemplateError> {
    let data = RuleTemplate {
        labels: labels(&[("instance", "h1:9100"), ("job", "node")]),
        external_labels: labels(&[("region", "eu")]),
        external_url: "http://w:9595/p".to_owned(),
        value: SampleValue::Float(0.25),
        now_ms: 1_700_000_000_500,
        limits: Limits::default(),
    };
    let mut queries = |text: &str, now_ms: i64| match text {
        "up" => Ok(vec![
            QuerySample {
                labels: labels(&[("instance", "b")]),
                value: SampleValue::Float(now_ms as f64),
            },
            QuerySample {
                labels: labels(&[("instance", "a"), ("__value__", "x")]),
                value: SampleValue::Histogram("{count:1, sum:2}".to_owned()),
            },
        ]),
        other => Err(format!("no {other}")),
    };
    expand("__alert_Test", text, &data, &mut queries)
}

#[test]
fn rules_see_labels_values_and_queries() {
    for (text, want) in [
        ("{{ $labels.instance }} {{ .Labels.job }} {{ $labels.no }}", "h1:9100 node "),
        ("{{ $value | humanizePercentage }} {{ .Value }}", "25% 0.25"),
        (
            "{{ $externalLabels.region }} {{ $externalURL }} {{ externalURL }}{{ pathPrefix }}",
            "eu http://w:9595/p http://w:9595/p/p",
        ),
        (
            "{{ with query \"up\" }}{{ . | first | value }} {{ . | first | label \"instance\" }}{{ end }}",
            "1.7000000005e+12 b",
        ),
        (
            "{{ range query \"up\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }} {{ end }}",
            "a={count:1, sum:2} b=1.7000000005e+12 ",
        ),
        ("{{ query \"up\" | sortByLabel \"instance\" | first | strvalue }}", "x"),
        (
            "{{ now }} {{ (toTime now).Unix }} {{ toDuration \"1.5\" }}",
            "1.7000000005e+09 1700000000 1.5s",
        ),
        ("{{ parseDuration \"-1h\" }} {{ urlQueryEscape \"a b\" }}", "-3600 a+b"),
        ("{{ args 1 \"x\" }}", "map[arg0:1 arg1:x]"),
        ("no action", "no action"),
    ] {
        assert_eq!(run(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn failures_are_told_as_prometheus_tells_them() {
    for (text, want) in [
        (
            "{{ query \"down\" }}",
            "error executing template __alert_Test: template: __alert_Test:1:115: executing \"__alert_Test\" at <query \"down\">: error calling query: no down",
        ),
        (
            "{{ nope }}",
            "error parsing template __alert_Test: template: __alert_Test:1: function \"nope\" not defined",
        ),
        (
            "{{ label \"a\" nil }}",
            "error executing template __alert_Test: template: __alert_Test:1:115: executing \"__alert_Test\" at <label \"a\" nil>: error calling label: runtime error: invalid memory address or nil pointer dereference",
        ),
        (
            "{{ tmpl \"a\" . }}",
            "error parsing template __alert_Test: template: __alert_Test:1: function \"tmpl\" not defined",
        ),
    ] {
        assert_eq!(run(text).expect_err(text).to_string(), want, "{text}");
    }
}

#[test]
fn texts_are_checked_when_rules_are_loaded() {
    assert_eq!(check("Instance {{ $labels.instance }} down"), Ok(()));
    let error = check_named("__alert_A", "{{ $label.instance }}").expect_err("no variable");
    assert_eq!(error.to_string(), "template: __alert_A:1: undefined variable \"$label\"");
    assert!(check("{{$labels.quantile * 100}}").is_err());
}

#[test]
fn an_expansion_cannot_eat_the_process() {
    for text in [
        "{{ range 100000000 }}x{{ end }}",
        "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}",
        "{{ $x := args }}{{ range 1000 }}{{ $x = args $x $x }}{{ end }}{{ $x }}",
        "{{ range 90000 }}{{ $y := query \"up\" }}{{ end }}",
    ] {
        assert!(run(text).is_err(), "{text}");
    }
}
