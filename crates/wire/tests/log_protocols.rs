//! Lines of other systems than Loki: OTLP, Elasticsearch, JSON lines, syslog, the journal.

use expect_test::{Expect, expect};
use model::{LogBatch, LogLimits, LogRecord};
use wire::logs::syslog::{self, SyslogOptions};
use wire::logs::{FieldOptions, LogContext, LogPushError, LogSummary};
use wire::logs::{elastic_bulk, journal_export, json_line, otlp_logs};

/// 2023-11-14T22:13:20Z.
const NOW_NS: i64 = 1_700_000_000_000_000_000;

fn context(limits: &LogLimits) -> LogContext<'_> {
    LogContext { limits, levels: None, now_ns: NOW_NS }
}

/// One line per stream or line of a batch, times since now.
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

/// The batch and what is refused.
fn check(
    decode: impl FnOnce(&LogContext<'_>, &mut LogBatch) -> Result<LogSummary, LogPushError>,
    wanted: Expect,
) {
    let limits = LogLimits::default();
    let mut batch = LogBatch::default();
    let text = match decode(&context(&limits), &mut batch) {
        Ok(summary) => {
            assert_eq!(summary.lines, batch.lines());
            summary.refusals.text()
        }
        Err(error) => {
            assert!(batch.is_empty());
            format!("{} {error}", error.status)
        }
    };
    wanted.assert_eq(&format!("{}{text}", shown(&batch)));
}

fn otlp_json(json: &str, options: &otlp_logs::OtlpLogOptions, wanted: Expect) {
    let body = wire::otlp::logs_to_protobuf(json.as_bytes()).expect("valid JSON");
    check(|context, batch| otlp_logs::decode(&body, options, context, batch), wanted);
}

#[test]
fn otlp_records_and_their_resources() {
    let json = r#"{"resourceLogs":[{
        "scopeLogs":[{
            "logRecords":[
                {"timeUnixNano":"1700000000000000001","observedTimeUnixNano":"1700000000000000009",
                 "severityNumber":"SEVERITY_NUMBER_WARN2","severityText":"Warn",
                 "body":{"stringValue":"a line"},
                 "attributes":[
                    {"key":"http.method","value":{"stringValue":"GET"}},
                    {"key":"map","value":{"kvlistValue":{"values":[
                        {"key":"a.b","value":{"intValue":"1"}},
                        {"key":"c","value":{"kvlistValue":{"values":[{"key":"d","value":{"boolValue":true}}]}}}]}}},
                    {"key":"list","value":{"arrayValue":{"values":[{"intValue":1},{"stringValue":"x"}]}}}],
                 "droppedAttributesCount":2,"flags":1,
                 "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","eventName":"e"},
                {"observedTimeUnixNano":"1700000000000000002","severityNumber":9,
                 "body":{"kvlistValue":{"values":[{"key":"k","value":{"doubleValue":1.5}}]}},
                 "traceId":"00000000000000000000000000000000"},
                {"body":{"bytesValue":"AAE="}},
                {"timeUnixNano":"18446744073709551615"}],
            "scope":{"name":"lib","version":"1","attributes":[{"key":"s","value":{"intValue":7}}],"droppedAttributesCount":3}}],
        "resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"shop"}},
            {"key":"k8s.pod.name","value":{"stringValue":"pod-1"}},
            {"key":"os.type","value":{"stringValue":"linux"}}]}},
      {"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000000","body":{"stringValue":"bare"}}]}]}]}"#;
    otlp_json(
        json,
        &otlp_logs::OtlpLogOptions::default(),
        expect![[r#"
            {k8s_pod_name="pod-1", service_name="shop"}
            1 "a line" http_method=GET map_a_b=1 map_c_d=true list=[1,"x"] observed_timestamp=1700000000000000009 severity_number=14 severity_text=Warn dropped_attributes_count=2 flags=1 trace_id=5b8efff798038103d269b633813fc60c span_id=eee19b7ec3c1b174 event_name=e os_type=linux s=7 scope_name=lib scope_version=1 scope_dropped_attributes_count=3
            2 "{\"k\":1.5}" severity_number=9 os_type=linux s=7 scope_name=lib scope_version=1 scope_dropped_attributes_count=3
            0 "AAE=" os_type=linux s=7 scope_name=lib scope_version=1 scope_dropped_attributes_count=3
            {service_name="unknown_service"}
            0 "bare"
            entry for stream '{k8s_pod_name="pod-1", service_name="shop"}' has timestamp too new: 2262-04-11T23:47:16Z"#]],
    );
    let options = otlp_logs::OtlpLogOptions {
        label_attributes: vec!["os.type".to_owned()],
        dropped_attributes: ["http.method", "map", "list", "s", "service.name", "k8s.pod.name"]
            .map(str::to_owned)
            .into(),
        severity_text_as_label: true,
    };
    let body = wire::otlp::logs_to_protobuf(json.as_bytes()).expect("valid JSON");
    let limits = LogLimits::default();
    let mut batch = LogBatch::default();
    otlp_logs::decode(&body, &options, &context(&limits), &mut batch).expect("valid");
    let text = shown(&batch);
    let streams: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    // The text of a severity is of its record only.
    assert_eq!(
        streams,
        [
            r#"{os_type="linux", service_name="unknown_service", severity_text="Warn"}"#,
            r#"{os_type="linux", service_name="unknown_service"}"#,
            r#"{service_name="unknown_service"}"#
        ]
    );
    for dropped in ["http_method", "map_", "list=", " s="] {
        assert!(!text.contains(dropped), "{dropped}");
    }
}

#[test]
fn otlp_that_is_none_is_refused_whole() {
    let options = otlp_logs::OtlpLogOptions::default();
    // A resource that is a number; a record whose time is one.
    for body in [&[0x08, 1][..], &[0x0a, 6, 0x12, 4, 0x12, 2, 0x08, 1], &[0x0a, 9]] {
        let limits = LogLimits::default();
        let mut batch = LogBatch::default();
        let error = otlp_logs::decode(body, &options, &context(&limits), &mut batch);
        let error = error.expect_err("no request");
        assert_eq!((error.status, batch.is_empty()), (400, true), "{error}");
        assert!(error.text.starts_with("malformed OTLP logs request at byte"), "{error}");
    }
    for json in ["", "[]", r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"flags":-1}]}]}]}"#] {
        assert!(wire::otlp::logs_to_protobuf(json.as_bytes()).is_err(), "{json}");
    }
    check(|context, batch| otlp_logs::decode(&[], &options, context, batch), expect![""]);
}

#[test]
fn metadata_that_records_share_is_measured_before_it_is_copied() {
    let long = "x".repeat(70 << 10);
    let json = format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"a","value":{{"stringValue":"{long}"}}}}]}},
            "scopeLogs":[{{"logRecords":[{{"body":{{"stringValue":"a"}}}},{{"body":{{"stringValue":"b"}}}}]}}]}}]}}"#
    );
    otlp_json(
        &json,
        &otlp_logs::OtlpLogOptions::default(),
        expect![[
            r#"2 errors like: stream '{service_name="unknown_service"}' has structured metadata too large: '71681' bytes, limit: '65536' bytes. Please see `limits_config.max_structured_metadata_size` or contact your Loki administrator to increase it"#
        ]],
    );
}

#[test]
fn json_lines_with_their_fields() {
    let body = concat!(
        r#"{"_time":"2023-11-14T22:13:20.000000005Z","_msg":"a line","app":"shop","user":{"id":7},"n":null,"e":""}"#,
        "\n\n  \r\n",
        r#"{"app":"shop","l":[1],"time":1700000000}"#,
        "\nfoo\n[1]\n",
        r#"{"_msg":"x","_time":"yesterday"}"#,
        "\n",
        r#"{"message":"no newline","host.name":"a","host":{"name":"b"}}"#,
    );
    check(
        |context, batch| {
            json_line::decode(body.as_bytes(), &FieldOptions::default(), context, batch)
        },
        expect![[r#"
            {app="shop", service_name="shop"}
            5 "a line" user_id=7
            0 "{\"app\":\"shop\",\"l\":[1],\"time\":1700000000}"
            {host_name="a", service_name="unknown_service"}
            0 "no newline"
            1 errors like: line 5: expected ident at column 2; 1 errors like: line 6: invalid type: sequence, expected an object of fields at column 0; 1 errors like: cannot parse timestamp from field "_time": "yesterday""#]],
    );
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let options = FieldOptions {
        message: named(&["a.text", "b"]),
        time: named(&["at"]),
        stream: named(&["s"]),
        ignored: named(&["secret"]),
        extra: vec![("s".to_owned(), "own".to_owned()), ("dc".to_owned(), "1".to_owned())],
    };
    let body =
        r#"{"b":"second","a":{"text":"first"},"at":"0","s":"theirs","secret":"x","_msg":"m"}"#;
    check(
        |context, batch| json_line::decode(body.as_bytes(), &options, context, batch),
        expect![[r#"
            {s="own", service_name="unknown_service"}
            0 "first" b=second key_msg=m dc=1
        "#]],
    );
}

fn bulk(body: &str) -> Result<(String, String), LogPushError> {
    let limits = LogLimits::default();
    let mut batch = LogBatch::default();
    let options = FieldOptions::default();
    let summary =
        elastic_bulk::decode(body.as_bytes(), "own", &options, &context(&limits), &mut batch)?;
    Ok((shown(&batch), summary.answer(3)))
}

#[test]
fn bulk_items_one_by_one() {
    let body = r#"{"create":{"_index":"logs"}}
{"@timestamp":"2023-11-14T22:13:20.000Z","message":"one","host":{"name":"h"}}

{ "index" : { "_id" : "1" } }
{"@timestamp":1700000000123,"message":"two"}
{"create":{}}
foobar
{"delete":{"_index":"logs","_id":"1"}}
{"update":{"_id":"1"}}
{"doc":{}}
{"create":{}}
{"@timestamp":"2023-11-14","message":"three"}"#;
    let (lines, answer) = bulk(body).expect("valid");
    expect![[r#"
        {host_name="h", service_name="unknown_service"}
        0 "one"
        {service_name="unknown_service"}
        123000000 "two"
        -80000000000000 "three"
    "#]]
    .assert_eq(&lines);
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["took"], &answer["errors"]), (&3.into(), &true.into()));
    let items = answer["items"].as_array().expect("a list");
    let short: Vec<String> = items
        .iter()
        .map(|item| {
            let (action, outcome) = item.as_object().and_then(|o| o.iter().next()).expect("one");
            format!(
                "{action} {} {} {} {}",
                outcome["_index"], outcome["status"], outcome["result"], outcome["error"]["reason"]
            )
        })
        .collect();
    expect![[r#"
        create "logs" 201 "created" null
        index "own" 201 "created" null
        create "own" 400 null "expected ident at column 2"
        delete "logs" 400 null "lines are only added here; [delete] is not known"
        update "own" 400 null "lines are only added here; [update] is not known"
        create "own" 201 "created" null"#]]
    .assert_eq(&short.join("\n"));
}

#[test]
fn bulk_requests_that_are_none() {
    for (body, wanted) in [
        ("", "no requests added"),
        ("{}", "Malformed action/metadata line [1]"),
        ("{\"creat\":{}}\n{}", "Malformed action/metadata line [1]"),
        ("{\"create\":{},\"index\":{}}\n{}", "Malformed action/metadata line [1]"),
        ("{\"create\":{}}\n{\"message\":\"x\"}\nx", "Malformed action/metadata line [3]"),
        ("{\"create\":{}}", "must be terminated by a newline"),
        ("{\"create\":{}}\n\n", "must be terminated by a newline"),
    ] {
        let error = bulk(body).expect_err(body);
        assert!(error.status == 400 && error.text.contains(wanted), "{body}: {error}");
        let answer: serde_json::Value =
            serde_json::from_str(&elastic_bulk::error_answer(&error)).expect("JSON");
        assert_eq!(answer["status"], 400);
        assert_eq!(answer["error"]["root_cause"][0]["reason"], error.text.as_str());
    }
}

#[test]
fn messages_of_syslog() {
    let messages: [&[u8]; 10] = [
        b"<165>1 2023-11-14T22:13:20.000000003Z host app 123 ID47 [ex@1 a=\"3\" b=\"x\\\"y\\]z\"][o c=\"\"] \xef\xbb\xbfa [message]",
        b"<34>1 - - su - - - 'su root' failed",
        b"<34>Nov 14 22:13:20 host su[230]: a message",
        b"<13>Nov  5 01:02:03 host kernel: [1.2] text",
        b"<13>Nov 14 22:13:20 cron: no host",
        b"<13>2023-11-15T06:13:20+08:00 host app: RFC 3339",
        b"<191>app[7]: without a time",
        b"not a message \xff",
        b"<999>x",
        b"<14>1 2023-11-14T22:13:20Z host app - - [broken message",
    ];
    check(
        |context, batch| {
            syslog::decode(messages.into_iter(), &SyslogOptions::default(), context, batch)
        },
        expect![[r#"
            {app_name="app", facility="local4", hostname="host", service_name="app"}
            3 "a [message]" severity=notice proc_id=123 msg_id=ID47 ex_1_a=3 ex_1_b=x"y]z o_c= detected_level=info
            {app_name="su", facility="auth", service_name="su"}
            0 "'su root' failed" severity=crit detected_level=critical
            {app_name="su", facility="auth", hostname="host", service_name="su"}
            0 "a message" severity=crit proc_id=230 detected_level=critical
            {app_name="kernel", facility="user", hostname="host", service_name="kernel"}
            -853877000000000 "[1.2] text" severity=notice detected_level=info
            {app_name="cron", facility="user", service_name="cron"}
            0 "no host" severity=notice detected_level=info
            {app_name="app", facility="user", hostname="host", service_name="app"}
            0 "RFC 3339" severity=notice detected_level=info
            {app_name="app", facility="local7", service_name="app"}
            1 "without a time" severity=debug proc_id=7 detected_level=debug
            {facility="user", service_name="unknown_service"}
            2 "not a message �" severity=notice detected_level=info
            3 "<999>x" severity=notice detected_level=info
            4 "1 2023-11-14T22:13:20Z host app - - [broken message" severity=info detected_level=info
        "#]],
    );
}

#[test]
fn the_year_of_old_times_is_the_nearest_that_is_not_to_come() {
    let at = |now: &str, message: &str, offset_seconds: i32| {
        let now_ns = model::parse_rfc3339_ms(now).expect("valid") * 1_000_000;
        let options = SyslogOptions { offset_seconds, ..SyslogOptions::default() };
        let read = syslog::parse(message.as_bytes(), &options, now_ns);
        read.timestamp_ns.map(|ns| model::rfc3339(ns / 1_000_000))
    };
    for (now, message, offset_seconds, wanted) in [
        ("2024-01-01T00:10:00Z", "<13>Dec 31 23:59:00 h a: x", 0, "2023-12-31T23:59:00.000Z"),
        ("2023-12-31T23:59:00Z", "<13>Jan  1 00:00:30 h a: x", 0, "2024-01-01T00:00:30.000Z"),
        ("2025-03-01T00:00:00Z", "<13>Feb 29 10:00:00 h a: x", 0, "2024-02-29T10:00:00.000Z"),
        ("2024-03-01T00:00:00Z", "<13>Feb 29 10:00:00 h a: x", 0, "2024-02-29T10:00:00.000Z"),
        ("2024-06-01T00:00:00Z", "<13>Jun  1 08:00:00 h a: x", 28_800, "2024-06-01T00:00:00.000Z"),
    ] {
        let found = at(now, message, offset_seconds);
        assert_eq!(found.as_deref(), Some(wanted), "{now} {message}");
    }
}

fn journal(body: &[u8], wanted: Expect) {
    check(|context, batch| journal_export::decode(body, context, batch), wanted);
}

#[test]
fn entries_of_the_journal() {
    let body = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1700000000000001\n_HOSTNAME=h\n_SYSTEMD_UNIT=a.service\n\
        PRIORITY=3\n_PID=7\nSYSLOG_IDENTIFIER=a\nMESSAGE=a=b\n\n\n\
        _HOSTNAME=h\nMESSAGE\n\x05\0\0\0\0\0\0\0a\n\nb\xff\nEMPTY=\n\n\
        _HOSTNAME=h\nNO_MESSAGE=1\n\n\
        MESSAGE=last\n";
    journal(
        body,
        expect![[r#"
            {hostname="h", service_name="unknown_service", syslog_identifier="a", systemd_unit="a.service"}
            1000 "a=b" severity=err detected_level=error priority=3 pid=7
            {hostname="h", service_name="unknown_service"}
            0 "a\n\nb�" empty=
            {service_name="unknown_service"}
            1 "last"
        "#]],
    );
}

#[test]
fn a_damaged_journal_keeps_what_stood_before() {
    for damaged in [
        &b"MESSAGE\n\x05\0\0"[..],
        b"MESSAGE\n\x05\0\0\0\0\0\0\0abc\n",
        b"MESSAGE\n\x02\0\0\0\0\0\0\0abc\n",
        b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffabc\n",
        b"MESSAGE=x",
        b"message=x\n",
        b"1A=x\n",
        b"=x\n",
        b"MESSAGE=x\n__REALTIME_TIMESTAMP=now\n",
        b"MESSAGE=x\n__REALTIME_TIMESTAMP=9223372036854775807\n",
    ] {
        let body = [b"MESSAGE=kept\n\n", damaged].concat();
        let limits = LogLimits::default();
        let mut batch = LogBatch::default();
        let summary = journal_export::decode(&body, &context(&limits), &mut batch).expect("told");
        let text = summary.refusals.text();
        assert_eq!((summary.lines, summary.refusals.lines()), (1, 1), "{damaged:?}: {text}");
        assert!(text.starts_with("malformed journal export at byte "), "{text}");
    }
}
