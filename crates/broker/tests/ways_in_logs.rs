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
use model::{DEFAULT_TENANT, Labels, LogBatch, TenantId};
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
