//! Pipelines as a whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn run(
    stages: Vec<Stage>,
    stream: Pairs<'_>,
    metadata: Pairs<'_>,
    line: &[u8],
) -> Option<(String, BTreeMap<String, String>)> {
    let mut pipeline = Pipeline::new(stages, 7);
    pipeline.set_stream(stream.iter().copied());
    let entry = pipeline.process(0, line, metadata.iter().copied())?;
    let mut labels = BTreeMap::new();
    entry.for_each_label(|name, value, _| {
        assert_eq!(labels.insert(name.to_owned(), value.to_owned()), None, "{name} twice");
    });
    Some((String::from_utf8_lossy(entry.line()).into_owned(), labels))
}

/// Checks the labels of a line that stays as it is.
fn check(stages: Vec<Stage>, stream: Pairs<'_>, metadata: Pairs<'_>, line: &str, want: Pairs<'_>) {
    let (text, labels) = run(stages, stream, metadata, line.as_bytes()).expect("the line stays");
    assert_eq!(text, line);
    let want: BTreeMap<String, String> =
        want.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(labels, want, "{line}");
}

fn logfmt(strict: bool, keep_empty: bool) -> Stage {
    Stage::Logfmt(LogfmtOptions { strict, keep_empty })
}

#[test]
fn the_stream_goes_before_metadata_goes_before_what_is_parsed() {
    check(
        vec![],
        &[("foo", "bar")],
        &[("foo", "baz"), ("y", "1")],
        "",
        &[("foo", "bar"), ("foo_extracted", "baz"), ("y", "1")],
    );
    let line = r#"{"app":"foo","pod":"parsed"}"#;
    check(
        vec![Stage::Json],
        &[],
        &[("pod", "sm")],
        line,
        &[("app", "foo"), ("pod", "sm"), ("pod_extracted", "parsed")],
    );
    check(
        vec![Stage::Json],
        &[("pod", "stream")],
        &[("pod", "sm")],
        line,
        &[("app", "foo"), ("pod", "stream"), ("pod_extracted", "parsed")],
    );
}

#[test]
fn json_is_flattened() {
    let line = r#"{"a":{"b-c":{"d":"e"},"l":[1]},"n":-1.50,"t":true,"z":null,"1x":"\u00e9","s":"�","a":9}"#;
    check(
        vec![Stage::Json],
        &[],
        &[],
        line,
        &[("a_b_c_d", "e"), ("n", "-1.50"), ("t", "true"), ("_1x", "é"), ("s", " "), ("a", "9")],
    );
    check(vec![Stage::Json], &[], &[], r#"{" ":{"foo":"bar"}}"#, &[("foo", "bar")]);
    check(vec![Stage::Json], &[], &[], r#"{"a":"1","a":"2"}"#, &[("a", "1")]);
    check(
        vec![Stage::Json],
        &[],
        &[],
        r#"{"a":"1","b":{"c":"2""#,
        &[
            ("a", "1"),
            ("__error__", "JSONParserErr"),
            ("__error_details__", "Value looks like object, but can't find closing '}' symbol"),
        ],
    );
}

#[test]
fn a_line_of_deep_objects_does_no_harm() {
    let deep = r#"{"a":"#.repeat(50_000);
    let (_, labels) = run(vec![Stage::Json], &[], &[], deep.as_bytes()).expect("the line stays");
    assert_eq!(labels["__error__"], "JSONParserErr");
    let closed = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let (_, labels) = run(vec![Stage::Json], &[], &[], closed.as_bytes()).expect("the line stays");
    assert!(labels.is_empty());
}

#[test]
fn many_names_are_forgotten_between_lines() {
    let mut pipeline = Pipeline::new(vec![Stage::Json], 1);
    pipeline.set_stream([("id", "x")]);
    for round in 0..40 {
        let pairs: Vec<String> = (0..1_000).map(|at| format!("\"k{round}_{at}\":{at}")).collect();
        let line = format!("{{\"id\":1,{}}}", pairs.join(","));
        let entry = pipeline.process(0, line.as_bytes(), []).expect("the line stays");
        assert_eq!(entry.label("id"), Some("x"));
        assert_eq!(entry.label("id_extracted"), Some("1"));
        assert_eq!(entry.label(&format!("k{round}_999")), Some("999"));
    }
    assert!(pipeline.state.names.len() < 12_000);
}

#[test]
fn logfmt_makes_labels_of_pairs() {
    check(
        vec![logfmt(false, false)],
        &[("foo", "bar")],
        &[],
        "foo=1 a.b=2 c d=\"x\" d=9",
        &[("foo", "bar"), ("foo_extracted", "1"), ("a_b", "2"), ("d", "x")],
    );
    check(vec![logfmt(false, true)], &[], &[], "c d=1", &[("c", ""), ("d", "1")]);
    check(
        vec![logfmt(true, false)],
        &[],
        &[],
        "a=1 =x b=2",
        &[
            ("a", "1"),
            ("__error__", "LogfmtParserErr"),
            ("__error_details__", "logfmt syntax error at pos 5 : unexpected '='"),
        ],
    );
    let (_, labels) = run(vec![logfmt(false, false)], &[], &[], b"foo=b\xffr").expect("stays");
    assert_eq!(labels["foo"], "b r");
}

#[test]
fn fields_and_paths_make_empty_labels_of_what_is_missing() {
    let fields = LogfmtFields::new(
        LogfmtOptions::default(),
        vec![
            ("l".into(), "level".into()),
            ("app".into(), "app".into()),
            ("no".into(), "no".into()),
        ],
    );
    check(
        vec![Stage::LogfmtFields(fields)],
        &[("app", "x")],
        &[],
        "app=foo level=error",
        &[("app", "x"), ("app_extracted", "foo"), ("l", "error"), ("no", "")],
    );
    let path = |text| parse_json_path(text).expect("a path");
    let paths = JsonPaths::new(vec![
        ("a".into(), path("x[1].y")),
        ("b".into(), path("x")),
        ("no".into(), path("x.y")),
        ("app".into(), path("app")),
    ]);
    check(
        vec![Stage::JsonPaths(paths)],
        &[("app", "x")],
        &[],
        r#"{"x":[1,{"y":"z\n"}],"app":"q"}"#,
        &[
            ("a", "z\n"),
            ("b", r#"[1,{"y":"z\n"}]"#),
            ("no", ""),
            ("app", "x"),
            ("app_extracted", "q"),
        ],
    );
}

#[test]
fn patterns_and_expressions_make_labels_of_captures() {
    let pattern = PatternParser::new("<_> \"<method> <path>\" <code>").expect("a pattern");
    check(
        vec![Stage::Pattern(pattern)],
        &[("method", "m")],
        &[],
        "x \"GET /a\" 200",
        &[("method", "m"), ("method_extracted", "GET"), ("path", "/a"), ("code", "200")],
    );
    let regexp = RegexpParser::new(r"(?P<a>\w+)=(?P<b>\d*)(?P<c>x)?").expect("an expression");
    check(vec![Stage::Regexp(regexp)], &[], &[], "q k=12", &[("a", "k"), ("b", "12"), ("c", "")]);
    for (expression, error) in [
        ("w.*", "at least one named capture must be supplied"),
        ("(?P<1a>x)", "invalid extracted label name '1a'"),
        ("(", "error parsing regexp: missing closing ): `(`"),
    ] {
        assert_eq!(RegexpParser::new(expression).expect_err(expression).to_string(), error);
    }
}

#[test]
fn unpack_replaces_the_line() {
    let line = br#"{"n":1,"app":"foo","a.b":"c","_entry":"some \"message\""}"#;
    let (text, labels) = run(vec![Stage::Unpack], &[("app", "x")], &[], line).expect("stays");
    assert_eq!(text, "some \"message\"");
    assert_eq!(labels.len(), 3);
    assert_eq!((labels["app_extracted"].as_str(), labels["a_b"].as_str()), ("foo", "c"));
    check(vec![Stage::Unpack], &[], &[], r#"{"app":"foo"}"#, &[]);
    check(
        vec![Stage::Unpack],
        &[],
        &[],
        "x",
        &[
            ("__error__", "JSONParserErr"),
            ("__error_details__", "expecting json object(6), but it is not"),
        ],
    );
    // A parser behind it reads what was packed.
    let line = br#"{"_entry":"a=1 b=2"}"#;
    let (_, labels) =
        run(vec![Stage::Unpack, logfmt(false, false)], &[], &[], line).expect("stays");
    assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("1", "2"));
}

#[test]
fn label_filters_compare() {
    let text = |label, wanted: &str| LabelFilter::text(label, TextMatch::Equal(wanted.into()));
    let slow = LabelFilter::duration_ns("took", Comparison::Greater, 1_000_000_000);
    let failed = LabelFilter::number("status", Comparison::GreaterOrEqual, 500.0);
    let large = LabelFilter::bytes("size", Comparison::Greater, 1_000);
    let filter = || slow.clone().or(failed.clone()).and(text("method", "GET")).or(large.clone());
    let kept = |line: &str| {
        run(vec![logfmt(false, false), Stage::LabelFilter(filter())], &[], &[], line.as_bytes())
            .is_some()
    };
    assert!(kept("took=2s status=200 method=GET"));
    assert!(kept("took=2ms status=500 method=GET"));
    assert!(!kept("took=2ms status=200 method=GET"));
    assert!(!kept("took=2s method=POST"));
    assert!(kept("size=2kB") && !kept("size=1kB") && !kept(""));
    check(
        vec![Stage::LabelFilter(LabelFilter::number("a", Comparison::Greater, 1.0))],
        &[("a", "x")],
        &[],
        "",
        &[
            ("a", "x"),
            ("__error__", "LabelFilterErr"),
            ("__error_details__", "strconv.ParseFloat: parsing \"x\": invalid syntax"),
        ],
    );
    let no_error = TextMatch::not_regex(".+").expect("an expression");
    let no_error = Stage::LabelFilter(LabelFilter::text(ERROR_LABEL, no_error));
    assert!(run(vec![Stage::Json, no_error.clone()], &[], &[], b"x").is_none());
    assert!(run(vec![Stage::Json, no_error], &[], &[], b"{}").is_some());
    let ip = |pattern| LabelFilter::ip("addr", IpMatcher::new(pattern).expect("a pattern"));
    let kept =
        |filter| run(vec![Stage::LabelFilter(filter)], &[("addr", "10.1.2.3")], &[], b"").is_some();
    assert!(kept(ip("10.0.0.0/8")) && !kept(ip("11.0.0.0/8")));
    assert!(!kept(LabelFilter::text("addr", TextMatch::regex("10").expect("an expression"))));
}

#[test]
fn labels_are_dropped_and_kept() {
    let selection = |labels: &[(&str, Option<&str>)]| {
        LabelSelection::new(
            labels
                .iter()
                .map(|(name, value)| {
                    ((*name).to_owned(), value.map(|value| TextMatch::Equal(value.to_owned())))
                })
                .collect(),
        )
    };
    let stream: Pairs<'_> = &[("app", "foo"), ("env", "prod")];
    check(
        vec![Stage::Drop(selection(&[("app", None), ("env", Some("x"))]))],
        stream,
        &[("a", "1")],
        "",
        &[("env", "prod"), ("a", "1")],
    );
    check(
        vec![Stage::Keep(selection(&[("app", None), ("env", Some("x"))]))],
        stream,
        &[("a", "1")],
        "",
        &[("app", "foo")],
    );
    check(
        vec![Stage::Json, Stage::Drop(selection(&[("__error__", None)]))],
        &[],
        &[],
        "x",
        &[("__error_details__", "Value looks like object, but can't find closing '}' symbol")],
    );
    // What was dropped may be made again.
    check(
        vec![Stage::Drop(selection(&[("app", None)])), logfmt(false, false)],
        stream,
        &[],
        "app=1",
        &[("app_extracted", "1"), ("env", "prod")],
    );
}

#[test]
fn terminals_sequences_are_taken_out() {
    let line = "\x1b[31mred\x1b[0m plain \u{9b}1mbold é\x1b]0;title\x07!";
    let (text, _) = run(vec![Stage::Decolorize], &[], &[], line.as_bytes()).expect("stays");
    assert_eq!(text, "red plain bold é!");
    check(vec![Stage::Decolorize], &[], &[], "plain é", &[]);
}

#[test]
fn parsers_stop_when_they_have_what_is_needed() {
    let mut pipeline = Pipeline::new(vec![Stage::Json], 1);
    pipeline.set_stream([("app", "x")]);
    pipeline.set_required(Some(&["b_c".to_owned(), "app".to_owned()]));
    let line = br#"{"a":1,"b":{"c":2,"d":3}"#;
    let entry = pipeline.process(0, line, []).expect("stays");
    assert_eq!((entry.label("b_c"), entry.label("a"), entry.label("b_d")), (Some("2"), None, None));
    pipeline.set_required(Some(&[]));
    let entry = pipeline.process(0, b"no json", []).expect("stays");
    assert_eq!(entry.error(), None);
    assert!(entry.has_stream_labels_only());
    pipeline.set_required(None);
    assert!(pipeline.process(0, b"no json", []).expect("stays").error().is_some());
}

#[test]
fn a_line_that_is_no_utf8_stays_as_it_is() {
    let line = b"a=\xff b=1";
    let mut pipeline = Pipeline::new(vec![logfmt(false, false)], 1);
    let entry = pipeline.process(5, line, []).expect("stays");
    assert_eq!((entry.line(), entry.label("a"), entry.timestamp_ns()), (&line[..], Some(" "), 5));
}

fn any_stages() -> Vec<Stage> {
    vec![
        Stage::Json,
        logfmt(true, true),
        Stage::Regexp(RegexpParser::new(r"(?P<re>[^ ]*)é?(?P<more>.*)").expect("valid")),
        Stage::Pattern(PatternParser::new("<p>=<q> <r>").expect("valid")),
        Stage::JsonPaths(JsonPaths::new(vec![(
            "j".into(),
            parse_json_path("a.b[0]").expect("valid"),
        )])),
        Stage::LabelFilter(
            LabelFilter::number("a", Comparison::Less, 3.0)
                .or(LabelFilter::bytes("b", Comparison::Less, 3))
                .or(LabelFilter::text("a", TextMatch::NotEqual("x".into()))),
        ),
        Stage::Unpack,
        Stage::Decolorize,
        logfmt(false, false),
        Stage::Json,
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_a_pipeline_panic(lines in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            r#"\{("[a-c_]{1,2}":("[^"]{0,6}"|1|\[1\]|\{"_entry":"x"\}),?){0,4}\}?"#.prop_map(String::into_bytes),
            r#"([abc]="?[^"]{0,4}"? ?){0,5}"#.prop_map(String::into_bytes),
        ],
        1..6,
    )) {
        let mut pipeline = Pipeline::new(any_stages(), 3);
        pipeline.set_stream([("a", "stream"), ("q", "1")]);
        for line in &lines {
            if let Some(entry) = pipeline.process(0, line, [("b", "meta"), ("", "")]) {
                entry.for_each_label(|_, _, _| {});
            }
        }
    }
}
