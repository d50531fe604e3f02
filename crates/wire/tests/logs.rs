//! Lines of every protocol, from bytes to batches.

use model::{LogBatch, LogLimits, LogRecord};
use wire::logs::{LineLevels, LogContext, LogPushError, LogSummary};
use wire::logs::{json_line, loki_json, loki_push};

const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// Knows a few words, and finds them in lines.
struct Words;

impl LineLevels for Words {
    fn of_word(&self, word: &str) -> Option<&'static str> {
        match word.to_ascii_lowercase().as_str() {
            "err" | "error" => Some("error"),
            "warning" | "warn" => Some("warn"),
            "info" => Some("info"),
            _ => None,
        }
    }

    fn of_line(&self, line: &str, severity_number: Option<&str>) -> &'static str {
        match severity_number {
            Some("17") => "error",
            _ if line.contains("error") => "error",
            _ => "unknown",
        }
    }
}

fn context(limits: &LogLimits) -> LogContext<'_> {
    LogContext { limits, levels: None, now_ns: NOW_NS }
}

/// One line per stream or line of a batch.
fn shown(batch: &LogBatch) -> String {
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let mut out = String::new();
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(labels) => out.push_str(&format!("{labels}\n")),
            LogRecord::Line { timestamp_ns, line } => {
                let line = String::from_utf8_lossy(line);
                out.push_str(&format!("{} {line:?}", timestamp_ns - NOW_NS));
                for (name, value) in &metadata {
                    out.push_str(&format!(" {name}={value}"));
                }
                out.push('\n');
            }
        }
    }
    out
}

fn json(body: &str, limits: &LogLimits) -> (Result<LogSummary, LogPushError>, String) {
    let mut batch = LogBatch::default();
    let summary = loki_json::decode(body.as_bytes(), &context(limits), &mut batch);
    (summary, shown(&batch))
}

fn without_service() -> LogLimits {
    LogLimits { discover_service_name: Vec::new(), ..LogLimits::default() }
}

mod loki {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_push_in_json() {
        let body = r#"{"other":1,"streams":[
            {"stream":{"app":"shop","env":"a"},"values":[
                ["1700000000000000000","one"],
                ["1700000000000000001","t\"wo é",{"trace.id":"7","x":""}]]},
            {"values":[["1700000000000000000","early"]],"stream":{"app":"b","app":"c"}}]}"#;
        let (summary, lines) = json(body, &LogLimits::default());
        let summary = summary.expect("valid");
        assert_eq!((summary.lines, summary.line_bytes), (3, 15));
        assert!(summary.refusals.is_empty());
        expect![[r#"
            {app="shop", env="a", service_name="shop"}
            0 "one"
            1 "t\"wo é" trace_id=7 x=
            {app="c", service_name="c"}
            0 "early"
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn values_of_labels_may_be_no_strings() {
        let body = r#"{"streams":[{"stream":{"t":1,"e":1.50e3,"b":true,"n":null,"l":[1, "\n"],"s":"\u00e9"},
            "values":[["1700000000000000000","one"]]}]}"#;
        let (summary, lines) = json(body, &without_service());
        assert!(summary.expect("valid").refusals.is_empty());
        expect![[r#"
            {b="true", e="1.50e3", l="[1, \"\\n\"]", n="null", s="é", t="1"}
            0 "one"
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn what_is_at_fault_is_told_and_the_rest_is_kept() {
        let body = r#"{"streams":[
            {"stream":{},"values":[["1700000000000000000","a"],["1700000000000000000","b"]]},
            {"stream":{"a-b":"c"},"values":[["1700000000000000000","a"]]},
            {"stream":{"a":"b"},"values":[
                ["1.5","a"],[1,"a"],["1"],["1","a",{},4],["1",2],["1","a",{"m":1}],["1","a",[]],
                ["99999999999999999999","a"],["1700000000000000000","kept"]]},
            {"stream":{"a":"c"},"values":null}, {}]}"#;
        let (summary, lines) = json(body, &without_service());
        let summary = summary.expect("valid JSON");
        assert_eq!(summary.refusals.lines(), 11);
        expect![[r#"
            {a="b"}
            0 "kept"
        "#]]
        .assert_eq(&lines);
        let texts: Vec<String> = summary
            .refusals
            .iter()
            .map(|group| format!("{} {} {}", group.errors, group.reason.as_str(), group.text))
            .collect();
        expect![[r#"
            1 missing_labels error at least one label pair is required per stream
            1 invalid_labels error parsing labels '{a-b="c"}' with error: 1:3: parse error: unexpected character inside braces: '-'
            1 malformed error reading entry timestamp: strconv.ParseInt: parsing "1.5": invalid syntax
            1 malformed error reading entry timestamp: it must be a string of nanoseconds
            2 malformed error reading entry: array must have at least 2 and up to 3 values
            1 malformed error reading entry: the line must be a string
            2 malformed error reading entry: structured metadata must be an object of strings
            1 malformed error reading entry timestamp: strconv.ParseInt: parsing "99999999999999999999": value out of range"#]]
        .assert_eq(&texts.join("\n"));
    }

    #[test]
    fn what_is_no_push_is_refused_whole() {
        for (body, status) in [
            ("", 400),
            ("[]", 400),
            ("{", 400),
            ("{}", 422),
            (r#"{"streams":[]}"#, 422),
            (r#"{"streams":null}"#, 422),
            (r#"{"streams":123}"#, 400),
            (r#"{"streams":[{"values":"x"}]}"#, 400),
            (r#"{"streams":[{"stream":"{a=\"b\"}","values":[]}]}"#, 400),
            (r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","a"]]}]} x"#, 400),
        ] {
            let (summary, lines) = json(body, &LogLimits::default());
            assert_eq!(summary.expect_err(body).status, status, "{body}");
            assert_eq!(lines, "", "{body}");
        }
        let limits = LogLimits { max_body_bytes: 3, ..LogLimits::default() };
        let error = json("{  }", &limits).0.expect_err("too large");
        assert_eq!(error.status, 413);
        assert!(
            error.text.starts_with("request body too large: 4 bytes, limit: 3 bytes"),
            "{error}"
        );
    }

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    fn entry(seconds: u64, nanos: u64, rest: &[Vec<u8>]) -> Vec<u8> {
        let mut time = vec![0x08];
        varint(seconds, &mut time);
        time.push(0x10);
        varint(nanos, &mut time);
        field(2, &[field(1, &time), rest.concat()].concat())
    }

    fn protobuf(body: &[u8], limits: &LogLimits) -> (Result<LogSummary, LogPushError>, String) {
        let mut batch = LogBatch::default();
        let summary = loki_push::decode(body, &context(limits), &mut batch);
        (summary, shown(&batch))
    }

    #[test]
    fn a_push_in_protobuf() {
        let pair = field(3, &[field(1, b"trace.id"), field(2, b"7")].concat());
        let parsed = field(4, &[field(1, b"p"), field(2, b"7")].concat());
        let entries = [
            entry(1_700_000_000, 5, &[field(2, b"one\xff"), pair, parsed]),
            entry(1_700_000_000, 1_000_000_000, &[field(2, b"no time")]),
            entry(u64::MAX >> 1, 0, &[]),
        ];
        // The labels stand behind the entries.
        let stream = [entries.concat(), field(1, b"{app=\"shop\"}"), vec![0x18, 1]].concat();
        let broken = [field(1, b"{app=}"), entry(1_700_000_000, 0, &[])].concat();
        let bad_text = [field(1, b"{a=\"\xff\"}"), entry(1_700_000_000, 0, &[])].concat();
        let body =
            [field(1, &stream), field(1, &broken), field(1, &bad_text), field(2, b"f")].concat();
        let (summary, lines) = protobuf(&body, &without_service());
        let summary = summary.expect("valid");
        expect![[r#"
            {app="shop"}
            5 "one�" trace_id=7
        "#]]
        .assert_eq(&lines);
        expect![[r#"2 errors like: timestamp of an entry is out of range; 1 errors like: error parsing labels '{app=}' with error: 1:6: parse error: unexpected "}" in label set, expected string; 1 errors like: error parsing labels '{a="�"}' with error: invalid UTF-8 encoding"#]]
        .assert_eq(&summary.refusals.text());
        for (cut, status) in [(0, 422), (body.len() - 1, 400), (30, 400)] {
            let (error, lines) = protobuf(&body[..cut], &LogLimits::default());
            assert_eq!((error.expect_err("cut off").status, lines.as_str()), (status, ""), "{cut}");
        }
        assert_eq!(
            protobuf(&[0x08, 1], &LogLimits::default()).0.expect_err("no stream").status,
            422
        );
        let wrong = field(1, &[0x08, 1]);
        assert_eq!(protobuf(&wrong, &LogLimits::default()).0.expect_err("wrong type").status, 400);
    }

    mod own_bytes {
        use super::*;
        use model::Labels;
        use proptest::prelude::*;

        type Line = (i64, Vec<u8>, Vec<(String, String)>);

        fn batches() -> impl Strategy<Value = Vec<(String, Vec<Line>)>> {
            let pairs = prop::collection::vec(("[a-c]{1,2}", "(\\PC|[\\x00-\\x1f\"]){0,3}"), 0..3);
            let time = -1_000_000_000_i64..1_000_000_000;
            let line = (time, prop::collection::vec(any::<u8>(), 0..9), pairs);
            prop::collection::vec(
                ("(\\PC|[\\x00-\\x1f\"`]){1,3}", prop::collection::vec(line, 1..5)),
                1..4,
            )
        }

        proptest! {
            #[test]
            fn come_back(streams in batches(), flip in any::<prop::sample::Index>(), bit in 1_u8..) {
                let mut batch = LogBatch::default();
                for (label, lines) in &streams {
                    batch.stream(&Labels::from_pairs([("app", label.as_str())]).expect("valid"));
                    for (time, line, pairs) in lines {
                        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                        batch.push_with(NOW_NS + time, line, pairs).expect("it is small");
                    }
                }
                let mut body = Vec::new();
                loki_push::encode(&batch, &mut body);
                let mut back = LogBatch::default();
                let limits = without_service();
                let summary = loki_push::decode(&body, &context(&limits), &mut back).expect("own bytes");
                prop_assert!(summary.refusals.is_empty(), "{}", summary.refusals.text());
                prop_assert_eq!(summary.lines, batch.lines());
                // A stream that goes on is not begun anew, and equal lines are moved apart.
                if summary.moved_lines == 0 {
                    let lines = |batch: &LogBatch| {
                        let text = shown(batch);
                        text.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
                    };
                    prop_assert_eq!(lines(&back), lines(&batch));
                }
                let at = flip.index(body.len());
                body[at] ^= bit;
                let decoded = loki_push::decode(&body, &context(&limits), &mut back);
                prop_assert!(decoded.is_ok() || back.is_empty());
            }
        }
    }
}

mod limits {
    use super::*;

    /// The text of the only refusal of a push of one line.
    fn refusal(labels: &str, value: &str, limits: &LogLimits) -> String {
        let body = format!(r#"{{"streams":[{{"stream":{labels},"values":[{value}]}}]}}"#);
        let (summary, lines) = json(&body, limits);
        let summary = summary.expect("valid JSON");
        assert_eq!((summary.lines, summary.refusals.lines(), lines.as_str()), (0, 1, ""), "{body}");
        summary.refusals.text()
    }

    const LINE: &str = r#"["1700000000000000000","abc",{"a":"b","c":"d"}]"#;

    #[test]
    fn each_is_told_in_lokis_words() {
        let none = without_service();
        let second = 1_000_000_000;
        let of_age = LogLimits { max_age_ns: Some(60 * second), ..none.clone() };
        assert_eq!(
            refusal(r#"{"a":"b"}"#, r#"["1699999939000000000","x"]"#, &of_age),
            "entry for stream '{a=\"b\"}' has timestamp too old: 2023-11-14T22:12:19Z, oldest \
             acceptable timestamp is: 2023-11-14T22:12:20Z"
        );
        assert_eq!(
            refusal(r#"{"a":"b"}"#, r#"["1700000600000000001","x"]"#, &none),
            "entry for stream '{a=\"b\"}' has timestamp too new: 2023-11-14T22:23:20Z"
        );
        let short = LogLimits { max_line_bytes: 2, ..none.clone() };
        assert_eq!(
            refusal(r#"{"a":"b"}"#, LINE, &short),
            "max entry size '2' bytes exceeded for stream '{a=\"b\"}' while adding an entry with \
             length '3' bytes"
        );
        let bare = LogLimits { allow_structured_metadata: false, ..none.clone() };
        assert_eq!(
            refusal(r#"{"a":"b"}"#, LINE, &bare),
            "stream '{a=\"b\"}' includes structured metadata, but this feature is disallowed. Please \
             see `limits_config.allow_structured_metadata` or contact your Loki administrator to \
             enable it"
        );
        let small = LogLimits { max_structured_metadata_bytes: 3, ..none.clone() };
        assert_eq!(
            refusal(r#"{"a":"b"}"#, LINE, &small),
            "stream '{a=\"b\"}' has structured metadata too large: '4' bytes, limit: '3' bytes. Please \
             see `limits_config.max_structured_metadata_size` or contact your Loki administrator to \
             increase it"
        );
        let few = LogLimits { max_structured_metadata_entries: 1, ..none.clone() };
        assert_eq!(
            refusal(r#"{"a":"b"}"#, LINE, &few),
            "stream '{a=\"b\"}' has too many structured metadata labels: '2', limit: '1'. Please see \
             `limits_config.max_structured_metadata_entries_count` or contact your Loki administrator \
             to increase it"
        );
        let names = LogLimits { max_label_names: 1, ..LogLimits::default() };
        assert_eq!(
            refusal(r#"{"app":"b","c":"d"}"#, LINE, &names),
            "entry for stream '{app=\"b\", c=\"d\", service_name=\"b\"}' has 2 label names; limit 1"
        );
        let brief = LogLimits { max_label_name_bytes: 2, max_label_value_bytes: 3, ..none.clone() };
        assert_eq!(
            refusal(r#"{"abc":"b"}"#, LINE, &brief),
            "stream '{abc=\"b\"}' has label name too long: 'abc'"
        );
        assert_eq!(
            refusal(r#"{"a":"bcde"}"#, LINE, &brief),
            "stream '{a=\"bcde\"}' has label value too long: 'bcde'"
        );
        let missing = "error at least one label pair is required per stream";
        assert_eq!(refusal("{}", LINE, &LogLimits::default()), missing);
        assert_eq!(refusal(r#"{"a":""}"#, LINE, &LogLimits::default()), missing);
    }

    #[test]
    fn lines_at_a_limit_are_taken() {
        let second = 1_000_000_000;
        let limits = LogLimits {
            max_age_ns: Some(60 * second),
            max_line_bytes: 3,
            max_structured_metadata_bytes: 4,
            max_structured_metadata_entries: 2,
            max_label_names: 1,
            max_label_name_bytes: 12,
            max_label_value_bytes: 3,
            ..LogLimits::default()
        };
        let body = r#"{"streams":[{"stream":{"app":"abc"},"values":[
            ["1699999940000000000","abc",{"a":"b","c":"d"}],["1700000600000000000","abc"]]}]}"#;
        let summary = json(body, &limits).0.expect("valid");
        assert_eq!((summary.lines, summary.refusals.text().as_str()), (2, ""));
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let body = r#"{"streams":[{"stream":{"a":"b"},"values":[
            ["1700000000000000000","abcdé"],["1700000000000000001","abcde"],["1700000000000000002","abcdeé"]]}]}"#;
        let cut = |identifier: &str| {
            let limits = LogLimits {
                max_line_bytes: 5,
                truncate_lines: true,
                truncate_identifier: identifier.to_owned(),
                ..without_service()
            };
            let (summary, lines) = json(body, &limits);
            let summary = summary.expect("valid");
            assert!(summary.refusals.is_empty());
            (lines, summary.truncated_lines, summary.truncated_bytes)
        };
        assert_eq!(cut(""), ("{a=\"b\"}\n0 \"abcd\"\n1 \"abcde\"\n2 \"abcde\"\n".to_owned(), 2, 4));
        assert_eq!(cut("..").0, "{a=\"b\"}\n0 \"abc..\"\n1 \"abcde\"\n2 \"abc..\"\n");
        assert_eq!(cut("far too long").0, cut("").0);
    }

    #[test]
    fn equal_lines_of_one_time_are_two() {
        let body = r#"{"streams":[
            {"stream":{"a":"b"},"values":[["1700000000000000000","x"],["1700000000000000000","x"],
                ["1700000000000000000","y"],["1700000000000000001","x"]]},
            {"stream":{"a":"c"},"values":[["1700000000000000000","x"]]},
            {"stream":{"a":"b"},"values":[["1700000000000000000","x"]]}]}"#;
        let (summary, lines) = json(body, &without_service());
        assert_eq!(summary.expect("valid").moved_lines, 3);
        let wanted = "{a=\"b\"}\n0 \"x\"\n1 \"x\"\n0 \"y\"\n2 \"x\"\n{a=\"c\"}\n0 \"x\"\n{a=\"b\"}\n3 \"x\"\n";
        assert_eq!(lines, wanted);
    }

    #[test]
    fn levels_are_found_in_their_order() {
        let body = r#"{"streams":[
            {"stream":{"a":"b"},"values":[
                ["1700000000000000000","an error"],
                ["1700000000000000001","an error",{"level":"Warning"}],
                ["1700000000000000002","an error",{"Level":"odd"}],
                ["1700000000000000003","an error",{"detected_level":"ERR","level":"info"}],
                ["1700000000000000004","nothing",{"severity_number":"17"}],
                ["1700000000000000005","an error",{"detected_level":"odd"}],
                ["1700000000000000006","nothing",{"severity_text":"ERR"}],
                ["1700000000000000007","an error",{"log_level":"warning"}]]},
            {"stream":{"level":"info"},"values":[["1700000000000000000","an error",{"level":"warn"}]]}]}"#;
        let limits = without_service();
        let levels = LogContext { levels: Some(&Words), ..context(&limits) };
        let mut batch = LogBatch::default();
        loki_json::decode(body.as_bytes(), &levels, &mut batch).expect("valid");
        let text = shown(&batch);
        let found: Vec<&str> =
            text.lines().filter_map(|line| line.split("detected_level=").nth(1)).collect();
        let found: Vec<&str> = found.iter().filter_map(|rest| rest.split(' ').next()).collect();
        assert_eq!(
            found,
            ["error", "warn", "odd", "error", "error", "odd", "error", "warn", "info"]
        );
        let off = LogLimits { discover_log_levels: false, ..without_service() };
        let levels = LogContext { levels: Some(&Words), ..context(&off) };
        loki_json::decode(body.as_bytes(), &levels, &mut batch).expect("valid");
        assert_eq!(shown(&batch).matches("detected_level=").count(), 2);
    }

    #[test]
    fn a_batch_that_is_full_is_an_error_and_empty() {
        // Metadata of the resource is written once per record.
        let limits = LogLimits { max_structured_metadata_bytes: 0, ..LogLimits::default() };
        let long = "x".repeat(1 << 20);
        let mut body = String::new();
        for _ in 0..300 {
            body.push_str("{\"_msg\":\"a\",\"app\":\"a\"}\n");
        }
        let options = wire::logs::FieldOptions {
            extra: vec![("big".to_owned(), long)],
            ..wire::logs::FieldOptions::default()
        };
        let mut batch = LogBatch::default();
        let error = json_line::decode(body.as_bytes(), &options, &context(&limits), &mut batch);
        let error = error.expect_err("300 MiB");
        assert_eq!((error.status, batch.is_empty()), (413, true));
        assert!(error.text.contains("lines of one batch"), "{error}");
    }
}
