//! What each protocol's sender of lines is told, over its route, and what is stored of it.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use axum::Router;
use axum::body::{Body, to_bytes};
use blockstore::MemoryDisk;
use broker::{Broker, BrokerConfig};
use http::{Request, StatusCode};
use logstore::{Entries, NsRange, Query};
use model::{DEFAULT_TENANT, Labels, Limits, LogBatch, LogLimits, TenantId, TenantName};
use serde_json::json;
use support::*;
use tower::ServiceExt;

const MS: i64 = 1_000_000;
const PUSH: &str = "/loki/api/v1/push";

clock!(STILL, still_ms);
clock!(LATER, later_ms);

struct Ways {
    broker: Broker,
    router: Router,
}

impl Ways {
    fn new() -> Ways {
        Ways::with(config("unused".as_ref(), still_ms, NEVER_MS))
    }

    fn with(config: BrokerConfig) -> Ways {
        let broker = open_on(&Arc::new(MemoryDisk::new()), config);
        let router = net::auth::without_login(broker::routes(&broker).into_router());
        Ways { broker, router }
    }

    async fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (StatusCode, String) {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("answers");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends JSON to a path and wants everything to be stored.
    async fn push(&self, path: &str, body: String) {
        let answer = self.send(path, &[("content-type", "application/json")], body).await;
        assert_eq!(answer, (StatusCode::NO_CONTENT, String::new()), "{path}");
    }

    /// All lines of a tenant, each with the labels of its stream and its metadata.
    fn lines(&self, tenant: TenantId) -> Vec<String> {
        let reader = self.broker.logs_reader(tenant);
        let selection = reader.select(&[], NsRange::all()).expect("there is memory");
        let query = Query::new(Vec::new(), selection.range);
        let mut entries = Entries::new(query, selection.sources.clone()).expect("readable");
        let mut lines = Vec::new();
        while let Some(entry) = entries.next_entry().expect("readable") {
            let metadata: Vec<String> =
                entry.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let after_ms = (entry.timestamp_ns - START_MS * MS) as f64 / MS as f64;
            let line = String::from_utf8_lossy(entry.line);
            let labels = &entry.labels;
            lines.push(format!("{after_ms} {labels} {line} [{}]", metadata.join(" ")));
        }
        lines
    }

    /// Lines that were pushed without a time: what they say, but not when.
    fn texts(&self) -> Vec<String> {
        let lines = self.lines(DEFAULT_TENANT);
        lines.iter().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
    }
}

fn of(t_ns: i64, line: &str) -> String {
    json!({"streams": [{"stream": {"app": "a"}, "values": [[t_ns.to_string(), line]]}]}).to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_loki_are_stored_in_each_of_their_forms() {
    let ways = Ways::new();
    let at = |ms: i64| (START_MS + ms) * MS;
    ways.push(PUSH, of(at(1), "level=error json")).await;
    let json = [("content-type", "application/json; charset=utf-8"), ("content-encoding", "gzip")];
    let (status, _) = ways.send(PUSH, &json, gzip(of(at(2), "gzip").as_bytes())).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let protobuf = |ms, line: &str| {
        let mut batch = LogBatch::default();
        batch.stream(&Labels::from_pairs([("app", "a")]).expect("valid"));
        batch.push(at(ms), line.as_bytes(), &[("trace_id", "7")]).expect("short");
        let mut message = Vec::new();
        wire::logs::loki_push::encode(&batch, &mut message);
        snap::raw::Encoder::new().compress_vec(&message).expect("short")
    };
    for (path, headers, body) in [
        (PUSH, &[("content-type", "application/x-protobuf")][..], protobuf(3, "plain")),
        ("/api/prom/push", &[("content-encoding", "snappy")], protobuf(4, "named")),
        (PUSH, &[("content-encoding", "gzip")], gzip(&protobuf(5, "twice"))),
    ] {
        let answer = ways.send(path, headers, body).await;
        assert_eq!(answer, (StatusCode::NO_CONTENT, String::new()), "{headers:?}");
    }
    let legacy = json!({"streams": [{"labels": "{app=\"a\"}", "entries":
        [{"ts": "2026-11-21T00:00:00.006Z", "line": "legacy"}]}]});
    ways.push("/api/prom/push", legacy.to_string()).await;
    let stream = "{app=\"a\", service_name=\"a\"}";
    let wanted = [
        format!("1 {stream} level=error json [detected_level=error]"),
        format!("2 {stream} gzip [detected_level=unknown]"),
        format!("3 {stream} plain [detected_level=unknown trace_id=7]"),
        format!("4 {stream} named [detected_level=unknown trace_id=7]"),
        format!("5 {stream} twice [detected_level=unknown trace_id=7]"),
        format!("6 {stream} legacy [detected_level=unknown]"),
    ];
    assert_eq!(ways.lines(DEFAULT_TENANT), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_push_that_is_partly_wrong_the_rest_is_stored_and_the_answer_says_what_is_not() {
    let ways = Ways::with(config("unused".as_ref(), later_ms, NEVER_MS));
    let good = (START_MS * MS).to_string();
    let far = ((START_MS + HOUR_MS) * MS).to_string();
    let push = json!({"streams": [
        {"stream": {"app": "a"}, "values": [[good, "good"], [far, "far"]]},
        {"stream": {}, "values": [[good, "nobody's"]]},
    ]});
    let json = [("content-type", "application/json")];
    let wanted = "entry for stream '{app=\"a\", service_name=\"a\"}' has timestamp too new: \
        2026-11-21T01:00:00Z";
    for _ in 0..2 {
        // One that comes again is told the same: it might be taken whole by now.
        let (status, text) = ways.send(PUSH, &json, push.to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("at least one label pair is required per stream"), "{text}");
        assert!(text.ends_with('\n'), "{text:?}");
        let stored = "0 {app=\"a\", service_name=\"a\"} good [detected_level=unknown]";
        assert_eq!(ways.lines(DEFAULT_TENANT), [stored]);
    }
    // When the far line is not far any more, the same bytes bring it.
    LATER.fetch_add(HOUR_MS, SeqCst);
    let (status, _) = ways.send(PUSH, &json, push.to_string()).await;
    assert_eq!((status, ways.lines(DEFAULT_TENANT).len()), (StatusCode::BAD_REQUEST, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_push_is_refused_in_lokis_words() {
    let ways = Ways::new();
    let json = ("content-type", "application/json");
    for (headers, body, status, text) in [
        (&[json][..], "{", 400, "loghttp.PushRequest: "),
        (&[json], "{\"streams\":[]}", 422, "at least one valid stream is required for ingestion\n"),
        (&[], "no snappy", 400, "snappy"),
        (&[], " {\"streams\":[]}", 400, "send it with the header Content-Type: application/json\n"),
        (&[json, ("content-encoding", "br")], "{}", 400, "Content-Encoding \"br\" not supported\n"),
    ] {
        let (found, answer) = ways.send(PUSH, headers, body).await;
        assert_eq!(found.as_u16(), status, "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
    assert_eq!(ways.lines(DEFAULT_TENANT), Vec::<String>::new());
}

/// As senders do that got no answer; and as two of them do that say the same, which is told apart by time.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_comes_again_is_one_and_equal_lines_of_one_push_are_all_kept() {
    let ways = Ways::new();
    let at = (START_MS * MS).to_string();
    let twice = json!([[at, "x"], [at, "x"]]);
    let push = json!({"streams": [{"stream": {"app": "a"}, "values": twice}]}).to_string();
    for _ in 0..3 {
        ways.push(PUSH, push.clone()).await;
    }
    assert_eq!(ways.lines(DEFAULT_TENANT).len(), 2);
    ways.push(PUSH, of((START_MS + 1) * MS, "x")).await;
    assert_eq!(ways.lines(DEFAULT_TENANT).len(), 3);
    // Another tenant's are its own.
    let headers = [("content-type", "application/json"), ("x-scope-orgid", "acme")];
    let (status, text) = ways.send(PUSH, &headers, push).await;
    assert_eq!((status, text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(ways.lines(DEFAULT_TENANT).len(), 3);
    assert_eq!(ways.lines(TenantId(DEFAULT_TENANT.0 + 1)).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_opentelemetry_come_over_http_and_grpc() {
    let ways = Ways::new();
    let at = |ms: i64| ((START_MS + ms) * MS).to_string();
    let resource = json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "host.arch", "value": {"stringValue": "arm"}}]});
    let record = |ms: i64, line: &str| json!({"timeUnixNano": at(ms), "severityNumber": 17, "body": {"stringValue": line}});
    let far = record(2 * HOUR_MS, "far");
    let records = json!([record(1, "over http"), far]);
    let request =
        json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]});
    let json = [("content-type", "application/json")];
    let (status, text) = ways.send("/v1/logs", &json, request.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains(r#""rejectedLogRecords":"1""#), "{text}");
    assert!(text.contains("has timestamp too new"), "{text}");
    // The same in protobuf, framed as gRPC does: `{ 1: { 1: resource, 2: { 2: { 1: time, 5: body } } } }`.
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2, content.len() as u8];
        out.extend_from_slice(content);
        out
    };
    let mut record = vec![1 << 3 | 1];
    record.extend(((START_MS + 3) as u64 * MS as u64).to_le_bytes());
    record.extend(field(5, &field(1, b"over grpc")));
    let value = field(2, &field(1, b"shop"));
    let attribute = [field(1, b"service.name"), value].concat();
    let resource = field(1, &attribute);
    let message = field(1, &[field(1, &resource), field(2, &field(2, &record))].concat());
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.extend(&message);
    let grpc = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let (status, _) = ways.send(grpc, &[("content-type", "application/grpc")], framed).await;
    assert_eq!(status, StatusCode::OK);
    let protobuf = [("content-type", "application/x-protobuf")];
    let answer = ways.send("/otlp/v1/logs", &protobuf, message).await;
    assert_eq!(answer, (StatusCode::OK, String::new()), "it came again");
    let stream = "{service_name=\"shop\"}";
    let wanted = [
        format!("1 {stream} over http [detected_level=error host_arch=arm severity_number=17]"),
        format!("3 {stream} over grpc [detected_level=unknown]"),
    ];
    assert_eq!(ways.lines(DEFAULT_TENANT), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_elasticsearch_are_answered_item_by_item() {
    let ways = Ways::new();
    let request = Request::get("/elasticsearch/").body(Body::empty()).expect("a request");
    let about = ways.router.clone().oneshot(request).await.expect("answers");
    assert_eq!(about.headers()["x-elastic-product"], "Elasticsearch");
    let bulk = "{\"create\":{\"_index\":\"a\"}}\n{\"@timestamp\":\"2026-11-21T00:00:00.004Z\",\
        \"message\":\"a document\",\"host\":{\"name\":\"web\"},\"n\":7}\n\
        {\"index\":{}}\n{\"@timestamp\":\"soon\",\"message\":\"b\"}\n{\"delete\":{}}\n";
    let kind = [("content-type", "application/x-ndjson")];
    let (status, text) = ways.send("/insert/elasticsearch/logs/_bulk", &kind, bulk).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let of = |index: usize, action: &str| answer["items"][index][action]["status"].as_u64();
    assert_eq!(
        (of(0, "create"), of(1, "index"), of(2, "delete")),
        (Some(201), Some(400), Some(400))
    );
    assert_eq!(answer["errors"], true);
    assert_eq!(answer["items"][1]["index"]["_index"], "logs");
    let stream = "{host_name=\"web\", service_name=\"unknown_service\"}";
    let wanted = format!("4 {stream} a document [detected_level=unknown n=7]");
    assert_eq!(ways.lines(DEFAULT_TENANT), [wanted]);
    let (status, text) = ways.send("/elasticsearch/_bulk", &kind, "no action\n").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("Malformed action/metadata line [1]"), "{text}");
}

/// Nobody but the sender can tell whether what has no time is the same.
#[tokio::test(flavor = "multi_thread")]
async fn lines_without_a_time_are_stored_each_time_unless_the_sender_names_the_request() {
    let ways = Ways::new();
    let path = "/insert/jsonline?_stream_fields=app";
    let body = "{\"app\":\"a\",\"_msg\":\"tick\",\"user\":{\"id\":\"7\"}}\n";
    let stored = "{app=\"a\", service_name=\"a\"} tick [detected_level=unknown user_id=7]";
    for count in 1..=3 {
        let (status, text) = ways.send(path, &[], body).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "{}"));
        assert_eq!(ways.texts(), vec![stored; count]);
    }
    for (key, count) in [("first", 4), ("first", 4), ("second", 5), ("second", 5)] {
        let (status, _) = ways.send(path, &[("idempotency-key", key)], body).await;
        assert_eq!((status, ways.texts().len()), (StatusCode::OK, count), "{key}");
    }
    // With other fields as labels the same bytes are something else.
    let (status, _) = ways.send("/insert/jsonline", &[("idempotency-key", "second")], body).await;
    assert_eq!((status, ways.texts().len()), (StatusCode::OK, 6));
    let (status, text) = ways.send("/insert/jsonline?extra_fields=x", &[], body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("name=value"), "{text}");
    let partly = format!("no object\n{body}");
    let (status, text) = ways.send(path, &[], partly).await;
    assert_eq!((status, ways.texts().len()), (StatusCode::BAD_REQUEST, 7), "{text}");
}

/// What is answered 429 comes again as a whole, and lines without a time would get another one then.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_lines_without_a_time_is_within_the_limit_of_streams_or_not_stored() {
    let limits = LogLimits { max_streams: 2, ..LogLimits::default() };
    let ways = Ways::with(limited(limits));
    let path = "/insert/jsonline?_stream_fields=app";
    let line = |app: &str| format!("{{\"app\":\"{app}\",\"_msg\":\"tick\"}}\n");
    let three = ["a", "b", "c"].map(line).concat();
    let acme = [("x-scope-orgid", "acme")];
    let id = TenantId(DEFAULT_TENANT.0 + 1);
    for _ in 0..2 {
        let (status, text) = ways.send(path, &acme, three.clone()).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
        assert!(text.contains("when trying to create stream {app=\\\"c\\\""), "{text}");
        assert!(text.contains("nothing of this request was stored"), "{text}");
        assert_eq!(ways.lines(id).len(), 0);
    }
    for (body, count) in [(line("a"), 1), ([line("a"), line("c")].concat(), 3)] {
        let (status, text) = ways.send(path, &acme, body).await;
        assert_eq!((status, ways.lines(id).len()), (StatusCode::OK, count), "{text}");
    }
    let (status, text) = ways.send(path, &acme, line("b")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
    // One line without a time is enough; with times those of the other streams are stored.
    let at = |app: &str| {
        format!("{{\"app\":\"{app}\",\"_msg\":\"tock\",\"_time\":\"{}\"}}\n", START_MS * MS)
    };
    let (status, _) = ways.send(path, &acme, [at("a"), line("b")].concat()).await;
    assert_eq!((status, ways.lines(id).len()), (StatusCode::TOO_MANY_REQUESTS, 3));
    for _ in 0..2 {
        let (status, _) = ways.send(path, &acme, [at("a"), at("b")].concat()).await;
        assert_eq!((status, ways.lines(id).len()), (StatusCode::TOO_MANY_REQUESTS, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_stored_piece_by_piece_however_long_it_is() {
    let ways = Ways::new();
    let mut journal = Vec::new();
    let entries = 20_000_i64;
    for number in 0..entries {
        let micros = (START_MS + number) * 1_000;
        let text = "x".repeat(100);
        write!(journal, "__CURSOR=s={number}\n__REALTIME_TIMESTAMP={micros}\n_HOSTNAME=web\n")
            .expect("memory");
        if number % 3 == 0 {
            journal.extend(b"MESSAGE\n");
            journal.extend((text.len() as u64 + 2).to_le_bytes());
            journal.extend(format!("{text}\n\n\n\n").bytes());
        } else {
            write!(journal, "MESSAGE={text}\nPRIORITY=3\n\n").expect("memory");
        }
    }
    assert!(journal.len() > 3 << 20);
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        journal.chunks(7_001).map(|piece| Ok(piece.to_vec())).collect();
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let kind = [("content-type", "application/vnd.fdo.journal")];
    let answer = ways.send("/upload", &kind, body).await;
    assert_eq!(answer, (StatusCode::ACCEPTED, "OK.\n".to_owned()));
    let lines = ways.lines(DEFAULT_TENANT);
    assert_eq!(lines.len(), entries as usize);
    assert!(lines[1].contains("[detected_level=error priority=3 severity=err]"), "{}", lines[1]);
    let damaged = "__REALTIME_TIMESTAMP=1795219200000000\nMESSAGE=good\n\nno field\n";
    let (status, text) = ways.send("/insert/journald/upload", &kind, damaged).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert!(text.contains("malformed journal export"), "{text}");
    assert_eq!(ways.lines(DEFAULT_TENANT).len(), entries as usize + 1);
}

/// Tenants with limits of lines of their own; others have those of all.
fn limited(logs: LogLimits) -> BrokerConfig {
    let limits = Limits { logs: Arc::new(logs), ..Limits::default() };
    let mut config = config("unused".as_ref(), still_ms, NEVER_MS);
    config.tenants.limits.insert(TenantName::parse("acme").expect("a name"), Arc::new(limits));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_fast_is_told_so_and_nothing_is_stored() {
    let limits = LogLimits { ingestion_rate_bytes: 100, ..LogLimits::default() };
    let ways = Ways::with(limited(limits));
    let acme = [("content-type", "application/json"), ("x-scope-orgid", "acme")];
    let id = TenantId(DEFAULT_TENANT.0 + 1);
    let line = "x".repeat(950);
    let (status, _) = ways.send(PUSH, &acme, of(START_MS * MS, &line)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "ten seconds' worth may come at once");
    let too_much = of((START_MS + 1) * MS, &line);
    let request = Request::post(PUSH).header("x-scope-orgid", "acme");
    let request =
        request.header("content-type", "application/json").body(Body::from(too_much.clone()));
    let answer = ways.router.clone().oneshot(request.expect("a request")).await.expect("answers");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 =
        answer.headers()["retry-after"].to_str().expect("text").parse().expect("a number");
    assert!((1..=10).contains(&seconds), "{seconds}");
    let (_, text) = ways.send(PUSH, &acme, too_much.clone()).await;
    let wanted = "ingestion rate limit exceeded for user acme (limit: 100 bytes/sec) while attempting to \
        ingest '1' lines totaling '";
    assert!(text.starts_with(wanted), "{text}");
    // Each protocol in its own shape, so that its senders try again.
    let bulk = format!("{{\"index\":{{}}}}\n{{\"message\":\"{line}\"}}\n");
    let (status, text) = ways.send("/elasticsearch/_bulk", &acme, bulk).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(text.contains("es_rejected_execution_exception"), "{text}");
    let record = json!({"body": {"stringValue": line}});
    let otlp = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).to_string();
    let (status, text) = ways.send("/v1/logs", &acme, otlp).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(text.contains(r#""code":14"#), "{text}");
    assert_eq!(ways.lines(id).len(), 1);
    ways.push(PUSH, too_much).await;
    assert_eq!(ways.lines(DEFAULT_TENANT).len(), 1, "others have no such limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_too_many_or_too_fast_lose_their_lines_alone() {
    let limits = LogLimits {
        max_streams: 2,
        stream_rate_bytes: 10,
        stream_burst_bytes: 40,
        max_line_bytes: 30,
        truncate_lines: true,
        discover_log_levels: false,
        ..LogLimits::default()
    };
    let ways = Ways::with(limited(limits));
    let at = |ms: i64| ((START_MS + ms) * MS).to_string();
    let long = "y".repeat(100);
    let push = json!({"streams": [
        {"stream": {"app": "a"}, "values": [[at(1), "twenty letters of one"], [at(2), long]]},
        {"stream": {"app": "b"}, "values": [[at(3), "short"]]},
        {"stream": {"app": "c"}, "values": [[at(4), "one too many"]]},
    ]});
    let acme = [("content-type", "application/json"), ("x-scope-orgid", "acme")];
    let (status, text) = ways.send(PUSH, &acme, push.to_string()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
    for wanted in [
        "Per stream rate limit exceeded (limit: 10B/sec) while attempting to ingest for stream \
         '{app=\"a\", service_name=\"a\"}' totaling 30B",
        "total ignored: 1 out of 2 for stream: {app=\"a\"",
        "maximum active stream limit exceeded when trying to create stream {app=\"c\"",
        "user: 'acme'",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let id = TenantId(DEFAULT_TENANT.0 + 1);
    let wanted = [
        "1 {app=\"a\", service_name=\"a\"} twenty letters of one []",
        "3 {app=\"b\", service_name=\"b\"} short []",
    ];
    assert_eq!(ways.lines(id), wanted);
    let mut page = Vec::new();
    ways.broker.render_tenants(None, &mut wire::text_encode::TextEncoder::new(&mut page));
    let page = String::from_utf8(page).expect("text");
    for wanted in [
        "lines_discarded_total{tenant=\"acme\",reason=\"per_stream_rate_limit\"} 1",
        "bytes_discarded_total{tenant=\"acme\",reason=\"stream_limit\"} 12",
        "log_lines_total{tenant=\"acme\"} 2",
    ] {
        assert!(page.contains(wanted), "{wanted} in {page}");
    }
}
