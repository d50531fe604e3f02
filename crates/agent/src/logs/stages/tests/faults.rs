//! What is wrong with stages, and where it is told.

use super::stages_of;

#[test]
fn faults_are_told_where_they_stand() {
    for (yaml, want) in [
        ("- nosuch: {}", "p.yml:2:3: error: Unknown stage type: nosuch"),
        ("- jsn: {expressions: {a: }}", "did you mean `json`?"),
        ("- cri", "write `- cri: {}`"),
        ("- json: {}\n  regex: {}", "pipeline stage must contain only one key"),
        ("- json: {}", "JMES expression is required"),
        ("- json: {expressions: {a: 'b['}}", "could not compile JMES expression: a:"),
        ("- json: {expressions: {a: }, source: ''}", "empty source"),
        ("- json: {expression: {a: }}", "did you mean `expressions`?"),
        ("- logfmt: {}", "logfmt mapping or regex is required"),
        ("- regex: {}", "expression is required"),
        ("- regex: {expression: '(?P<ts[0-9]+).*'}", "could not compile regular expression"),
        (
            "- pattern: {pattern: ' x '}",
            "failed to parse pattern: at least one capture is required",
        ),
        ("- labels: {'a-b': }", "invalid label name: a-b"),
        ("- labels: {}", "label stage config cannot be empty"),
        ("- static_labels: {}", "static_labels stage config cannot be empty"),
        ("- labelallow: []", "labelkeep stage config cannot be empty"),
        ("- timestamp: {format: Unix}", "timestamp source value is required"),
        ("- timestamp: {source: t}", "timestamp format is required"),
        ("- timestamp: {source: t, format: '%Y'}", "shows nothing of a time"),
        ("- timestamp: {source: t, format: Unix, location: Mars/X}", "invalid location specified"),
        ("- timestamp: {source: t, format: Unix, location: ../x}", "the host has no such zone"),
        ("- timestamp: {source: t, format: Unix, action_on_failure: x}", "supported values are"),
        ("- output: {}", "output source value is required if output is specified"),
        ("- template: {template: x}", "template source value is required"),
        ("- template: {source: a, template: '{{ x }}'}", "function \"x\" not defined"),
        ("- replace: {replace: x}", "expression is required"),
        ("- match: {stages: [{docker: }]}", "selector statement required for match stage"),
        ("- match: {selector: '{a=\"b\"}'}", "match stage requires at least one additional stage"),
        ("- match: {selector: '{a=b}', action: drop}", "invalid selector syntax for match stage"),
        (
            "- match: {selector: 'rate({a=\"b\"}[1m])', action: drop}",
            "it selects numbers and no lines",
        ),
        (
            "- match: {selector: '{a=\"b\"}', action: drop, stages: [{docker: }]}",
            "match stage configured to drop entries cannot contains stages",
        ),
        ("- match: {selector: '{a=\"b\"}', action: x}", "should be 'keep' or 'drop'"),
        (
            "- match: {selector: '{a=\"b\"}', pipeline_name: '', action: drop}",
            "cannot be an empty string",
        ),
        ("- drop: {}", "drop stage config must contain at least one of"),
        ("- drop: {value: x}", "must contain `source` if `value` is specified"),
        ("- drop: {source: a, value: x, expression: y}", "cannot both be defined"),
        ("- drop: {longer_than: 3x}", "is not a size"),
        ("- limit: {rate: 0, burst: 1}", "limit stage failed to parse rate or burst"),
        (
            "- limit: {rate: 1, burst: 1, by_label_name: a}",
            "When ratelimiting by label, drop must be true",
        ),
        ("- multiline: {}", "must define `firstline` regular expression"),
        ("- multiline: {firstline: x, max_wait_time: 3}", "time: invalid duration"),
        ("- sampling: {rate: 2}", "Sampling Rate must be between 0.0 and 1.0, received 2"),
        ("- tenant: {}", "label, source or value config are required"),
        ("- tenant: {source: a, value: b}", "mutually exclusive"),
        ("- metrics: {m: {type: Gauge}}", "gauge action must be defined"),
        ("- metrics: {m: {type: summary}}", "invalid metric type 'summary'"),
        ("- metrics: {m: {type: Counter, config: {action: dec}}}", "action dec is not valid"),
        (
            "- metrics: {m: {type: Counter, config: {action: inc, match_all: true, value: x}}}",
            "cannot be combined with `value`",
        ),
        (
            "- metrics: {m: {type: Counter, config: {action: add, count_entry_bytes: true}}}",
            "can only be set with `match_all: true`",
        ),
        (
            "- metrics: {m: {type: Histogram, config: {buckets: [2, 1]}}}",
            "must be in increasing order",
        ),
        (
            "- metrics: {m: {type: Counter, max_idle_duration: 10ms, config: {action: inc}}}",
            "max_idle_duration less than 1s not allowed",
        ),
        ("- truncate: {rule: [{limit: 0}]}", "limit must be greater than zero"),
        ("- truncate: {rule: []}", "at least one truncate rule must be defined"),
    ] {
        let told = stages_of(yaml).expect_err(yaml);
        assert!(told.contains(want), "{yaml}: {told}");
        assert!(told.starts_with("p.yml:2:") || yaml.contains('\n'), "{yaml}: {told}");
    }
}
