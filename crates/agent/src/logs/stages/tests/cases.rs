//! What stages do, case by case: as YAML of Promtail, lines in, lines out.

const NGINX: &str =
    r#"11.11.11.11 - frank [25/Jan/2000:14:00:01 -0500] "GET /1986.js HTTP/1.1" 200 932"#;

/// The stage each case is about, the configuration, labels, lines, and what comes out.
pub(super) type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
    &'static [&'static str],
);

pub(super) const CASES: &[Case] = &[
    (
        "docker",
        "- docker: {}",
        &[("job", "d")],
        &[
            r#"{"log":"level=info msg=\"x\"\n","stream":"stderr","time":"2019-04-30T02:12:41.8443515Z"}"#,
            r#"{"log":"log message\n","stream":"stderr","time":"hi!"}"#,
            "i'm not json!",
            r#"{"msg": "test"}"#,
        ],
        &[
            "level=info msg=\"x\"\n {job=\"d\", stream=\"stderr\"} @1556590361844351500",
            "log message\n {job=\"d\", stream=\"stderr\"}",
            "i'm not json! {job=\"d\"}",
            "{\"msg\": \"test\"} {job=\"d\"}",
        ],
    ),
    (
        "cri",
        "- cri: {}\n- labels: {flags: }",
        &[],
        &[
            "2019-01-01T01:00:00.000000001Z stderr P i'm a log",
            "2019-01-01T01:00:00.000000002Z stdout F other",
            "2019-01-01T01:00:00.000000003Z stderr F ging line",
            "2019-01-01T01:00:00.000000004Z stdout  F  spaced",
            "no cri",
        ],
        &[
            "other {flags=\"F\", stream=\"stdout\"} @1546304400000000002",
            "i'm a logging line {flags=\"F\", stream=\"stderr\"} @1546304400000000003",
            "spaced {flags=\"F\", stream=\"stdout\"} @1546304400000000004",
            "no cri",
        ],
    ),
    (
        "cri",
        "- cri: {max_partial_line_size: 5, max_partial_line_size_truncate: true}",
        &[],
        &["2019-01-01T01:00:00Z stdout P abcd", "2019-01-01T01:00:00Z stdout F efgh"],
        &["abcde {stream=\"stdout\"} @1546304400000000000"],
    ),
    (
        "json",
        "- json:\n    expressions: {level: , app: app.name, first: 'tags[0]', all: tags, n: n, \
         big: id, no: nothing, f: f, b: ok}\n- labels: {level: , app: , first: , all: , n: , big: , \
         no: , f: , b: }",
        &[],
        &[
            r#"{"level":"warn","app":{"name":"loki"},"tags":["a","b"],"n":1.50,"id":1234567890123456789,"ok":true,"f":1e3}"#,
            r#"{"level":"x" broken"#,
            "[1]",
        ],
        &[
            r#"{"level":"warn","app":{"name":"loki"},"tags":["a","b"],"n":1.50,"id":1234567890123456789,"ok":true,"f":1e3} {all="[\"a\",\"b\"]", app="loki", b="true", big="1234567890123456789", f="1000", first="a", level="warn", n="1.5"}"#,
            r#"{"level":"x" broken"#,
            "[1]",
        ],
    ),
    (
        "json",
        "- json: {expressions: {a: }, drop_malformed: true}",
        &[],
        &["{\"a\": 1}", "oops", "{\"a\": 1"],
        &["{\"a\": 1}"],
    ),
    (
        "json",
        "- json: {expressions: {inner: }}\n- json: {expressions: {x: }, source: inner}\n- labels: {x: }",
        &[],
        &[r#"{"inner": "{\"x\": \"deep\"}"}"#, r#"{"inner": {"x": "object"}}"#],
        &[
            r#"{"inner": "{\"x\": \"deep\"}"} {x="deep"}"#,
            r#"{"inner": {"x": "object"}} {x="object"}"#,
        ],
    ),
    (
        "logfmt",
        "- logfmt: {mapping: {level: , message: msg}}\n- labels: {level: , message: }",
        &[],
        &["time=1 level=warn msg=\"a \\\"b\\\"\" x", "level=info ===broken msg=lost"],
        &[
            "time=1 level=warn msg=\"a \\\"b\\\"\" x {level=\"warn\", message=\"a \\\"b\\\"\"}",
            "level=info ===broken msg=lost {level=\"info\"}",
        ],
    ),
    (
        "logfmt",
        "- logfmt: {regex: '^u'}\n- labels: {user: , url: , other: }",
        &[],
        &["user=me other=1 url=/x"],
        &["user=me other=1 url=/x {url=\"/x\", user=\"me\"}"],
    ),
    (
        "regex",
        "- regex: {expression: '^(?P<ip>\\S+) .* \"(?P<action>\\S+)'}\n- labels: {ip: , method: action}",
        &[("filename", "/f")],
        &[NGINX, "nothing"],
        &[
            r#"11.11.11.11 - frank [25/Jan/2000:14:00:01 -0500] "GET /1986.js HTTP/1.1" 200 932 {filename="/f", ip="11.11.11.11", method="GET"}"#,
            "nothing {filename=\"/f\"}",
        ],
    ),
    (
        "regex",
        "- regex: {expression: 'pods/(?P<pod>[^/]+)', source: filename}\n- labels: {pod: }",
        &[("filename", "/var/log/pods/web-1/0.log")],
        &["x"],
        &["x {filename=\"/var/log/pods/web-1/0.log\", pod=\"web-1\"}"],
    ),
    (
        "regex",
        "- regex: {expression: '(?P<app>\\w+)', labels_from_groups: true}",
        &[("app", "old")],
        &["new"],
        &["new {app=\"new\"}"],
    ),
    (
        "pattern",
        "- pattern: {pattern: '<ip> - <user> [<_>] \"<method> <_>'}\n- labels: {ip: , user: , method: }",
        &[],
        &[NGINX],
        &[
            r#"11.11.11.11 - frank [25/Jan/2000:14:00:01 -0500] "GET /1986.js HTTP/1.1" 200 932 {ip="11.11.11.11", method="GET", user="frank"}"#,
        ],
    ),
    (
        "timestamp",
        "- regex: {expression: '^(?P<t>.*)$'}\n- timestamp: {source: t, format: RFC3339Nano}",
        &[],
        &["2012-11-01T22:08:41.123456789+04:00", "soon", "2012-11-01T22:08:41Z"],
        &[
            "2012-11-01T22:08:41.123456789+04:00 @1351793321123456789",
            "soon @1351793321123456790",
            "2012-11-01T22:08:41Z @1351807721000000000",
        ],
    ),
    (
        "timestamp",
        "- regex: {expression: '^(?P<t>.*)$'}\n- timestamp: {source: t, format: Unix, \
         fallback_formats: [UnixMs, '2006-01-02'], action_on_failure: skip}",
        &[],
        &["1562708916.5", "1562708916", "x", "2019-07-09", "1562708916.000000123"],
        &[
            "1562708916.5 @1562708916500000000",
            "1562708916 @1562708916000000000",
            "x",
            "2019-07-09 @1562630400000000000",
            "1562708916.000000123 @1562708916000000123",
        ],
    ),
    (
        "timestamp",
        "- regex: {expression: '^(?P<t>.*)$'}\n- timestamp: {source: t, format: 'Jan _2 15:04:05'}",
        &[],
        &["Mar  5 10:20:30", "Dec 31 23:59:59"],
        &["Mar  5 10:20:30 @1709634030000000000", "Dec 31 23:59:59 @1735689599000000000"],
    ),
    (
        "labels",
        "- labels: {copy: job, missing: nosuch}",
        &[("job", "j")],
        &["x"],
        &["x {copy=\"j\", job=\"j\"}"],
    ),
    (
        "static_labels",
        "- static_labels: {cluster: c, empty: }",
        &[("job", "j")],
        &["x"],
        &["x {cluster=\"c\", job=\"j\"}"],
    ),
    ("labeldrop", "- labeldrop: [a, c]", &[("a", "1"), ("b", "2")], &["x"], &["x {b=\"2\"}"]),
    ("labelallow", "- labelallow: [a, c]", &[("a", "1"), ("b", "2")], &["x"], &["x {a=\"1\"}"]),
    (
        "structured_metadata",
        "- json: {expressions: {id: , n: }}\n- structured_metadata: {trace: id, job: , n: }",
        &[("job", "j"), ("app", "a")],
        &["{\"id\":\"abc\",\"n\":null}"],
        &["{\"id\":\"abc\",\"n\":null} {app=\"a\"} [job=j,trace=abc]"],
    ),
    (
        "structured_metadata_drop",
        "- structured_metadata: {a: , b: }\n- structured_metadata_drop: [a]",
        &[("a", "1"), ("b", "2")],
        &["x"],
        &["x [b=2]"],
    ),
    (
        "multiline",
        "- multiline: {firstline: '^START'}",
        &[("s", "1")],
        &["before", "START 1", "more", "", "START 2", "end"],
        &["before {s=\"1\"}", "START 1\nmore\n {s=\"1\"}", "START 2\nend {s=\"1\"}"],
    ),
    (
        "multiline",
        "- multiline: {firstline: '^START', max_lines: 2}",
        &[],
        &["START 1", "a", "b", "c", "START 2"],
        &["START 1\na", "b\nc", "START 2"],
    ),
    (
        "match",
        "- match:\n    selector: '{app=\"a\"} |~ \"err.*\"'\n    stages:\n    - static_labels: {hit: y}",
        &[("app", "a")],
        &["error", "fine"],
        &["error {app=\"a\", hit=\"y\"}", "fine {app=\"a\"}"],
    ),
    (
        "match",
        "- match: {selector: '{app=~\"a|b\", no!=\"x\"} | json | n > 2', action: drop}",
        &[("app", "b")],
        &["{\"n\":3}", "{\"n\":1}"],
        &["{\"n\":1} {app=\"b\"}"],
    ),
    (
        "match",
        "- match:\n    selector: '{app=\"other\"}'\n    stages: [{labeldrop: [app]}]\n- match:\n    \
         selector: '{app=\"a\"}'\n    stages:\n    - regex: {expression: '(?P<w>\\w+)'}\n    - labels: {w: }",
        &[("app", "a")],
        &["word"],
        &["word {app=\"a\", w=\"word\"}"],
    ),
    ("drop", "- drop: {expression: '.*debug.*'}", &[], &["a debug", "info"], &["info"]),
    (
        "drop",
        "- json: {expressions: {level: , n: }}\n- drop: {source: [level, n], separator: '-', \
         expression: '^(debug-1|-)$'}",
        &[],
        &["{\"level\":\"debug\",\"n\":1}", "{\"level\":\"debug\",\"n\":2}", "{}"],
        &["{\"level\":\"debug\",\"n\":2}", "{}"],
    ),
    (
        "drop",
        "- json: {expressions: {level: }}\n- drop: {source: level, value: 'a.b'}",
        &[],
        &["{\"level\":\"a.b\"}", "{\"level\":\"axb\"}"],
        &["{\"level\":\"axb\"}"],
    ),
    ("drop", "- drop: {longer_than: 3b}", &[], &["1234", "123"], &["123"]),
    ("drop", "- drop: {older_than: 24h, expression: old}", &[], &["old", "new"], &["new"]),
    ("drop", "- drop: {source: job}", &[("job", "x")], &["gone"], &[]),
    ("sampling", "- sampling: {rate: 0}", &[], &["a", "b"], &[]),
    ("limit", "- limit: {rate: 1, burst: 2, drop: true}", &[], &["1", "2", "3"], &["1", "2"]),
    (
        "replace",
        "- replace: {expression: '11.11.11.11 - (\\S+) .*', replace: dummy}",
        &[],
        &[NGINX],
        &[r#"11.11.11.11 - dummy [25/Jan/2000:14:00:01 -0500] "GET /1986.js HTTP/1.1" 200 932"#],
    ),
    (
        "replace",
        "- replace:\n    expression: '^(?P<ip>\\S+) \\S+ (?P<user>\\S+) .* (?P<status>\\d{3}) \\d+$'\n    \
         replace: '{{ if eq .Value \"200\" }}{{ Replace .Value \"200\" \"HttpStatusOk\" -1 }}{{ else }}{{ \
         .Value | ToUpper }}{{ end }}'\n- labels: {user: , status: }",
        &[],
        &[NGINX],
        &[
            r#"11.11.11.11 - FRANK [25/Jan/2000:14:00:01 -0500] "GET /1986.js HTTP/1.1" HttpStatusOk 932 {status="HttpStatusOk", user="FRANK"}"#,
        ],
    ),
    (
        "replace",
        "- replace: {expression: '(a|b|c)', replace: ''}",
        &[],
        &["abc", "xay"],
        &["", "xy"],
    ),
    (
        "replace",
        "- json: {expressions: {msg: }}\n- replace: {expression: '(secret)', source: msg, replace: \
         '*{{ .Value | len }}*'}\n- output: {source: msg}",
        &[],
        &["{\"msg\":\"a secret b\"}"],
        &["a *6* b"],
    ),
    (
        "output",
        "- json: {expressions: {message: , n: , gone: }}\n- output: {source: message}\n- output: {source: gone}",
        &[],
        &["{\"message\":\"hello\"}", "plain"],
        &["hello", "plain"],
    ),
    (
        "template",
        "- json: {expressions: {app: , level: }}\n- template: {source: app, template: '{{ .Value | \
         ToUpper }} doki'}\n- template: {source: new, template: '{{ .app }}/{{ .level }}/{{ .no }}'}\n\
         - labels: {app: , new: }",
        &[],
        &["{\"app\":\"loki\",\"level\":\"WARN\"}"],
        &[
            "{\"app\":\"loki\",\"level\":\"WARN\"} {app=\"LOKI doki\", new=\"LOKI doki/WARN/<no value>\"}",
        ],
    ),
    (
        "template",
        "- template: {source: job, template: ''}\n- template: {source: e, template: '{{ .Entry }}!{{ len \
         .Entry }}'}\n- labels: {again: job, e: }",
        &[("job", "j")],
        &["line"],
        &["line {e=\"line!4\", job=\"j\"}"],
    ),
    (
        "pack",
        "- pack: {labels: [pod, missing], ingest_timestamp: false}",
        &[("app", "a"), ("pod", "p\"1")],
        &["a \"line\"\n"],
        &["{\"pod\":\"p\\\"1\",\"_entry\":\"a \\\"line\\\"\\n\"} {app=\"a\"}"],
    ),
    ("pack", "- pack: {labels: []}", &[], &["x"], &["{\"_entry\":\"x\"} @1709634030000000000"]),
    (
        "tenant",
        "- json: {expressions: {customer: }}\n- tenant: {source: customer}",
        &[],
        &["{\"customer\":\"t1\"}", "{\"customer\":\"not valid\"}", "{}"],
        &["{\"customer\":\"t1\"} ~t1", "{\"customer\":\"not valid\"}", "{}"],
    ),
    ("tenant", "- tenant: {value: fixed}", &[], &["x"], &["x ~fixed"]),
    ("tenant", "- tenant: {label: ns}", &[("ns", "n1")], &["x"], &["x {ns=\"n1\"} ~n1"]),
    ("decolorize", "- decolorize: {}", &[], &["\x1b[31mred\x1b[0m", "plain"], &["red", "plain"]),
    (
        "eventlogmessage",
        "- json: {expressions: {message: }}\n- eventlogmessage: {}\n- labels: {Image: , Process_ID: , \
         message_extracted: }",
        &[],
        &[r#"{"message":"title\r\nImage: C:\\x.exe\r\nProcess ID: 7\r\nmessage: again"}"#],
        &[
            r#"{"message":"title\r\nImage: C:\\x.exe\r\nProcess ID: 7\r\nmessage: again"} {Image="C:\\x.exe", Process_ID="7", message_extracted="again"}"#,
        ],
    ),
    (
        "luhn",
        "- luhn: {delimiters: ' -'}",
        &[],
        &["card 4242-4242 4242 4242, next 4242424242424241 short 42"],
        &["card **REDACTED**, next 4242424242424241 short 42"],
    ),
    (
        "truncate",
        "- truncate:\n    rule:\n    - {limit: 6B, suffix: '..'}\n    - {limit: 2B, source_type: label, \
         sources: [a]}\n- labels: {truncated: }",
        &[("a", "long"), ("b", "long")],
        &["0123456789"],
        &["0123.. {a=\"lo\", b=\"long\", truncated=\"label,line\"}"],
    ),
    (
        "split_json",
        "- split_json: {}",
        &[],
        &[r#"[{"a":"],"}, 1 , "x,y", null]"#, "[1", "no"],
        &[r#"{"a":"],"}"#, "1", "\"x,y\"", "null", "[1", "no"],
    ),
];
