//! Loki's API over a broker: what a client of Loki sees.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use blockstore::{Disk, MemoryDisk};
use broker::{Broker, BrokerConfig};
use console::{About, Console, Executor};
use governor::Governor;
use http::{HeaderMap, Request, StatusCode};
use model::{DEFAULT_TENANT, Labels, Limits, LogBatch};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::source::{BrokerData, BrokerStorage};

mod completions;
mod legacy;
mod splits;

const SECOND_NS: i64 = 1_000_000_000;
/// A full hour.
const START_S: i64 = 1_700_002_800;

fn now_ms() -> i64 {
    (START_S + 3_600) * 1_000
}

/// A broker with some lines, and the API over it.
pub(super) struct Server {
    broker: Broker,
    router: Router,
    runtime: tokio::runtime::Runtime,
}

/// A line: seconds after the start, text, structured metadata.
type Line<'a> = (f64, &'a str, &'a [(&'a str, &'a str)]);

impl Server {
    fn new() -> Server {
        Server::at(now_ms)
    }

    /// With a broker for which it is this time.
    fn at(broker_now_ms: fn() -> i64) -> Server {
        let config =
            BrokerConfig { shards: 1, ..BrokerConfig::new("unused".into(), broker_now_ms) };
        let disk = Arc::new(MemoryDisk::new()) as Arc<dyn Disk>;
        let broker = Broker::open_on(disk, config, Arc::default()).expect("an empty disk");
        let data = Arc::new(BrokerData(broker.clone()));
        let executor = Executor::new(data, Limits::default(), Governor::unlimited(), 4, 2);
        let about = About::default();
        let console = Console::new(Arc::new(executor), about, now_ms, Box::new(|| 0));
        let storage = Arc::new(BrokerStorage(broker.clone()));
        let administration = console::Administration { storage, now_ms, random: || 0 };
        let routes = console::log_routes(&Arc::new(console))
            .merge(console::administration_routes(administration));
        let router = net::auth::without_login(routes.into_router());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Server { broker, router, runtime }
    }

    fn push(&self, labels: &[(&str, &str)], lines: &[Line<'_>]) {
        let mut batch = LogBatch::default();
        batch.stream(&Labels::from_pairs(labels.iter().copied()).expect("valid"));
        for (seconds, text, metadata) in lines {
            let t_ns = START_S * SECOND_NS + (seconds * 1e9) as i64;
            batch.push(t_ns, text.as_bytes(), metadata).expect("short");
        }
        let (done, stored) = std::sync::mpsc::channel();
        self.broker.ingest_logs(DEFAULT_TENANT, batch, None, move |result| {
            let _ = done.send(result.is_ok());
        });
        assert!(stored.recv().expect("answered"));
    }

    fn ask(&self, path: &str, pairs: &[(&str, &str)], headers: &HeaderMap) -> (StatusCode, String) {
        self.ask_by("GET", path, pairs, headers)
    }

    fn ask_by(
        &self,
        method: &str,
        path: &str,
        pairs: &[(&str, &str)],
        headers: &HeaderMap,
    ) -> (StatusCode, String) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs);
        let prefix = if path.starts_with('/') { "" } else { "/loki/api/v1/" };
        let uri = format!("{prefix}{path}?{}", query.finish());
        let request = Request::builder().method(method).uri(uri);
        let mut request = request.body(Body::empty()).expect("sound");
        request.headers_mut().extend(headers.clone());
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("infallible");
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 24).await.expect("in memory");
            (status, String::from_utf8(body.to_vec()).expect("text"))
        })
    }

    fn json_with(&self, path: &str, pairs: &[(&str, &str)], headers: &HeaderMap) -> Value {
        let mut all = vec![("start", START), ("end", END)];
        all.extend(pairs);
        let (status, body) = self.ask(path, &all, headers);
        assert_eq!(status, StatusCode::OK, "{path} {pairs:?}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub(super) fn json(&self, path: &str, pairs: &[(&str, &str)]) -> Value {
        self.json_with(path, pairs, &HeaderMap::new())
    }

    #[track_caller]
    pub(super) fn refused(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, String) {
        let (status, body) = self.ask(path, pairs, &HeaderMap::new());
        (status.as_u16(), body)
    }
}

const START: &str = "1700002800";
const END: &str = "1700006400";

fn ns(seconds: f64) -> String {
    (START_S * SECOND_NS + (seconds * 1e9) as i64).to_string()
}

/// Two applications; one has JSON and metadata.
pub(super) fn filled() -> Server {
    let server = Server::new();
    let info = &[("detected_level", "info"), ("trace_id", "t1")][..];
    let error = &[("detected_level", "error"), ("trace_id", "t2")][..];
    server.push(
        &[("app", "web"), ("env", "prod")],
        &[
            (1.0, r#"{"status":200,"took":"15ms","path":"/a"}"#, info),
            (2.0, r#"{"status":500,"took":"250ms","path":"/b"}"#, error),
            (61.0, r#"{"status":200,"took":"20ms","path":"/a"}"#, info),
        ],
    );
    server.push(
        &[("app", "db"), ("env", "prod")],
        &[(1.5, "level=info msg=\"checkpoint 1\"", &[]), (3.0, "plain <needle> line", &[])],
    );
    server
}

#[test]
fn lines_come_as_loki_yields_them() {
    let server = filled();
    let pairs = [("query", r#"{env="prod"}"#), ("limit", "3")];
    let found = server.json("query_range", &pairs);
    assert_eq!(found["data"]["resultType"], "streams");
    // The newest three, by labels and metadata.
    assert_eq!(
        found["data"]["result"],
        json!([
            {"stream": {"app": "db", "env": "prod"}, "values": [[ns(3.0), "plain <needle> line"]]},
            {"stream": {"app": "web", "detected_level": "error", "env": "prod", "trace_id": "t2"},
             "values": [[ns(2.0), r#"{"status":500,"took":"250ms","path":"/b"}"#]]},
            {"stream": {"app": "web", "detected_level": "info", "env": "prod", "trace_id": "t1"},
             "values": [[ns(61.0), r#"{"status":200,"took":"20ms","path":"/a"}"#]]},
        ])
    );
    let summary = &found["data"]["stats"]["summary"];
    assert_eq!(summary["totalEntriesReturned"], 3);
    assert!(summary["totalLinesProcessed"].as_u64() >= Some(3), "{summary}");
    let forward = [("query", r#"{app="web"} | json | drop took, trace_id, detected_level"#)];
    let forward = [forward[0], ("limit", "2"), ("direction", "forward")];
    let found = server.json("query_range", &forward);
    assert_eq!(
        found["data"]["result"],
        json!([
            {"stream": {"app": "web", "env": "prod", "path": "/a", "status": "200"},
             "values": [[ns(1.0), r#"{"status":200,"took":"15ms","path":"/a"}"#]]},
            {"stream": {"app": "web", "env": "prod", "path": "/b", "status": "500"},
             "values": [[ns(2.0), r#"{"status":500,"took":"250ms","path":"/b"}"#]]},
        ])
    );
}

#[test]
fn labels_stand_by_category_if_a_client_asks_for_it() {
    let server = filled();
    let mut headers = HeaderMap::new();
    let flags = "categorize-labels".parse().expect("valid");
    headers.insert("x-loki-response-encoding-flags", flags);
    let pairs = [("query", r#"{app=~"web|db"} | json | status=500 or msg="x""#)];
    let found = server.json_with("query_range", &pairs, &headers);
    assert_eq!(found["data"]["encodingFlags"], json!(["categorize-labels"]));
    let line = r#"{"status":500,"took":"250ms","path":"/b"}"#;
    assert_eq!(
        found["data"]["result"],
        json!([{
            "stream": {"app": "web", "env": "prod"},
            "values": [[ns(2.0), line, {
                "structuredMetadata": {"detected_level": "error", "trace_id": "t2"},
                "parsed": {"path": "/b", "status": "500", "took": "250ms"},
            }]],
        }])
    );
    let pairs = [("query", r#"{app="db"} |= "needle""#)];
    let found = server.json_with("query_range", &pairs, &headers);
    let values = &found["data"]["result"][0]["values"];
    assert_eq!(*values, json!([[ns(3.0), "plain <needle> line", {}]]));
}

#[test]
fn fields_and_texts_are_found_without_a_selector() {
    let server = filled();
    let found = server.json("query_range", &[("query", r#"{} |= "needle""#)]);
    assert_eq!(found["data"]["result"][0]["values"][0][0], ns(3.0));
    for (query, lines) in [
        (r#"{env="prod"} | trace_id="t2""#, 1),
        (r#"{env="prod"} | trace_id="t1", detected_level="info""#, 2),
        // A label of the stream is asked for in the same way.
        (r#"{env="prod"} | app="web""#, 3),
        (r#"{env="prod"} | app="web" | trace_id="t2""#, 1),
        (r#"{env="prod"} | trace_id="none""#, 0),
        (r#"{env="prod"} |~ "needle|checkpoint""#, 2),
        (r#"{env="prod"} != "status""#, 2),
    ] {
        let found = server.json("query_range", &[("query", query)]);
        let streams = found["data"]["result"].as_array().expect("a list");
        let of = |stream: &Value| stream["values"].as_array().map_or(0, Vec::len);
        assert_eq!(streams.iter().map(of).sum::<usize>(), lines, "{query}");
    }
}

#[test]
fn numbers_are_matrices_vectors_and_scalars() {
    let server = filled();
    let volume = [("query", r#"sum by (detected_level) (count_over_time({app="web"}[1m]))"#)];
    let volume = [volume[0], ("step", "60000ms")];
    let found = server.json("query_range", &volume);
    assert_eq!(found["data"]["resultType"], "matrix");
    let minute = |minutes: i64| START_S + 60 * minutes;
    assert_eq!(
        found["data"]["result"],
        json!([
            {"metric": {"detected_level": "error"}, "values": [[minute(1), "1"]]},
            {"metric": {"detected_level": "info"}, "values": [[minute(1), "1"], [minute(2), "1"]]},
        ])
    );
    let at = (START_S + 120).to_string();
    let instant = |query: &str| server.json("query", &[("query", query), ("time", &at)]);
    assert_eq!(
        instant(r#"sum(bytes_over_time({app="db"}[5m]))"#)["data"]["result"],
        json!([{"metric": {}, "value": [START_S + 120, "48"]}])
    );
    assert_eq!(
        instant(r#"quantile_over_time(1, {app="web"} | json | unwrap duration(took) [5m]) by ()"#)
            ["data"]["result"],
        json!([{"metric": {}, "value": [START_S + 120, "0.25"]}])
    );
    let one = instant("vector(1)+vector(1)");
    assert_eq!(one["data"]["resultType"], "vector");
    assert_eq!(one["data"]["result"], json!([{"metric": {}, "value": [START_S + 120, "2"]}]));
    let scalar = instant("1+1");
    let (kind, result) = (&scalar["data"]["resultType"], &scalar["data"]["result"]);
    assert_eq!((kind, result), (&json!("scalar"), &json!([START_S + 120, "2"])));
    // Steps are at multiples of themselves, whatever the range is.
    let moved = [("query", r#"count_over_time({app="db"}[1m])"#), ("step", "1m")];
    let moved = [moved[0], moved[1], ("start", "1700002833"), ("end", "1700002875")];
    let (_, body) = server.ask("query_range", &moved, &HeaderMap::new());
    let found: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        found["data"]["result"],
        json!([{"metric": {"app": "db", "env": "prod"}, "values": [[minute(1), "2"]]}])
    );
}

#[test]
fn refusals_have_lokis_words_and_status() {
    let server = filled();
    for (path, pairs, status, text) in [
        (
            "query_range",
            &[("query", "{app=")][..],
            400,
            "parse error at line 1, col 6: syntax error: unexpected $end, expecting STRING",
        ),
        (
            "query_range",
            &[("query", r#"{app="a"}"#), ("limit", "5001")],
            400,
            "max entries limit per query exceeded, limit > max_entries_limit_per_query (5001 > 5000)",
        ),
        (
            "query_range",
            &[("query", r#"{a="b"}"#), ("limit", "-1")],
            400,
            "limit must be a positive value",
        ),
        (
            "query",
            &[("query", r#"{app="a"}"#)],
            400,
            "log queries are not supported as an instant query type, please change your query to a range query type",
        ),
        (
            "labels",
            &[("start", "x")],
            400,
            "could not parse 'start' parameter: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "series",
            &[("match[]", "{")],
            400,
            "parse error at line 1, col 2: syntax error: unexpected $end, expecting IDENTIFIER or }",
        ),
    ] {
        let (found_status, found) = server.refused(path, pairs);
        assert_eq!((found_status, found.as_str()), (status, text), "{path} {pairs:?}");
    }
    let query = [("query", r#"sum(rate({app="db"} | json [5m])) by (x)"#), ("time", "1700002920")];
    let (status, text) = server.refused("query", &query);
    assert_eq!(status, 400);
    assert!(text.starts_with("pipeline error: 'JSONParserErr' for series: "), "{text}");
}

#[test]
fn names_values_and_series_are_those_of_streams() {
    let server = filled();
    assert_eq!(server.json("labels", &[])["data"], json!(["app", "env"]));
    assert_eq!(server.json("label/app/values", &[])["data"], json!(["db", "web"]));
    let of_web = [("query", r#"{app="web"}"#)];
    assert_eq!(server.json("label/app/values", &of_web)["data"], json!(["web"]));
    assert_eq!(
        server.json("series", &[("match[]", r#"{app="db"}"#)])["data"],
        json!([{"app": "db", "env": "prod"}])
    );
    let none = [("start", "1600000000"), ("end", "1600000001")];
    let (_, body) = server.ask("labels", &none, &HeaderMap::new());
    assert_eq!(body, r#"{"status":"success","data":[]}"#);
}

#[test]
fn volumes_are_exact() {
    let server = filled();
    let stats = server.json("index/stats", &[("query", r#"{env="prod"}"#)]);
    let web_bytes = 40 + 41 + 40;
    let expected = (json!(2), json!(5), json!(web_bytes + 48));
    assert_eq!(
        (stats["streams"].clone(), stats["entries"].clone(), stats["bytes"].clone()),
        expected
    );
    let volume = server.json("index/volume", &[("query", "{}"), ("targetLabels", "app")]);
    let end_s = START_S + 3_600;
    assert_eq!(
        volume["data"]["result"],
        json!([
            {"metric": {"app": "web"}, "value": [end_s, web_bytes.to_string()]},
            {"metric": {"app": "db"}, "value": [end_s, "48"]},
        ])
    );
    let by_label = [("query", "{}"), ("aggregateBy", "labels"), ("limit", "1")];
    let volume = server.json("index/volume", &by_label);
    assert_eq!(volume["data"]["result"][0]["value"][1], (web_bytes + 48).to_string());
    let range = [("query", r#"{app="web"}"#), ("step", "1m")];
    let volume = server.json("index/volume_range", &range);
    assert_eq!(
        volume["data"]["result"],
        json!([{"metric": {"app": "web"}, "values": [
            [(START_S + 60) as f64 - 0.001, "81"], [(START_S + 120) as f64 - 0.001, "40"],
        ]}])
    );
}

#[test]
fn fields_and_patterns_are_found_in_lines() {
    let server = filled();
    let labels = server.json("detected_labels", &[]);
    assert_eq!(
        labels["detectedLabels"],
        json!([{"label": "app", "cardinality": 2}, {"label": "env", "cardinality": 1}])
    );
    let fields = server.json("detected_fields", &[("query", r#"{app="web"}"#)]);
    let names = |fields: &Value| -> Vec<String> {
        let all = fields["fields"].as_array().expect("a list").iter();
        all.map(|one| format!("{} {} {}", one["label"], one["type"], one["cardinality"])).collect()
    };
    assert_eq!(
        names(&fields),
        [
            r#""detected_level" "string" 2"#,
            r#""path" "string" 2"#,
            r#""status" "int" 2"#,
            r#""took" "duration" 3"#,
            r#""trace_id" "string" 2"#,
        ]
    );
    let values = server.json("detected_field/path/values", &[("query", r#"{app="web"}"#)]);
    assert_eq!(values["values"], json!(["/a", "/b"]));
    for user in 0..3 {
        let line = format!("user {user} logged in from host {user}");
        server.push(&[("app", "auth")], &[(f64::from(user) + 5.0, &line, &[])]);
    }
    let patterns = server.json("patterns", &[("query", r#"{app="auth"}"#), ("step", "1m")]);
    assert_eq!(
        patterns["data"],
        json!([{"pattern": "user <_> logged in from host <_>", "samples": [[START_S, 3]]}])
    );
}

#[test]
fn clients_learn_what_they_talk_to() {
    let server = Server::new();
    let info = server.json("status/buildinfo", &[]);
    assert!(info["version"].as_str().is_some_and(|version| version.starts_with("3.")), "{info}");
    let pretty = server.json("format_query", &[("query", r#"{a="b"}|="x""#)]);
    assert_eq!(pretty, json!({"status": "success", "data": "{a=\"b\"} |= \"x\""}));
    let limits = server.json("drilldown-limits", &[]);
    assert_eq!(limits["limits"]["max_entries_limit_per_query"], 5_000);
}

/// Every line of a stream's answer: time and text.
fn lines_of(found: &Value) -> Vec<(String, String)> {
    let streams = found["data"]["result"].as_array().expect("a list");
    let values = streams.iter().flat_map(|one| one["values"].as_array().expect("a list"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    values.map(|value| (text(&value[0]), text(&value[1]))).collect()
}

#[test]
fn pages_are_all_lines_once() {
    let server = Server::new();
    for pod in ["a", "b", "c"] {
        let lines: Vec<(f64, String)> =
            (0..40).map(|n| (f64::from(n / 4), format!("{pod} line {n}"))).collect();
        let lines: Vec<Line<'_>> =
            lines.iter().map(|(t, text)| (*t, text.as_str(), &[][..])).collect();
        server.push(&[("app", "x"), ("pod", pod)], &lines);
    }
    for direction in ["forward", "backward"] {
        let (mut cursor, mut all, mut pages) = ("first".to_owned(), Vec::new(), 0);
        loop {
            let pairs = [
                ("query", r#"{app="x"} != "line 7""#),
                ("limit", "7"),
                ("direction", direction),
                ("cursor", cursor.as_str()),
            ];
            let found = server.json("query_range", &pairs);
            let mut page = lines_of(&found);
            assert!(page.len() <= 7);
            page.sort();
            if direction == "backward" {
                page.reverse();
            }
            all.extend(page.into_iter().map(|(_, text)| text));
            pages += 1;
            match found["data"]["nextCursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        all.sort();
        let mut wanted: Vec<String> = ["a", "b", "c"]
            .iter()
            .flat_map(|pod| (0..40).map(move |n| format!("{pod} line {n}")))
            .filter(|text| !text.contains("line 7"))
            .collect();
        wanted.sort();
        assert_eq!(all, wanted, "{direction}");
        assert!(pages >= 117 / 7, "{pages}");
    }
    let bad = [("query", r#"{app="x"}"#), ("cursor", "7")];
    assert_eq!(server.refused("query_range", &bad).0, 400);
}

#[test]
fn equal_lines_are_yielded_once_if_somebody_wants_that() {
    let server = Server::new();
    let lines = [(1.0, "took 5 ms", &[][..]), (2.0, "took 7 ms", &[]), (3.0, "took 5 ms", &[])];
    server.push(&[("app", "x")], &lines);
    for (dedup, times) in
        [("none", &[1.0, 2.0, 3.0][..]), ("exact", &[1.0, 2.0]), ("numbers", &[1.0])]
    {
        let pairs = [("query", r#"{app="x"}"#), ("direction", "forward"), ("dedup", dedup)];
        let found = lines_of(&server.json("query_range", &pairs));
        let found: Vec<String> = found.into_iter().map(|(time, _)| time).collect();
        assert_eq!(found, times.iter().map(|t| ns(*t)).collect::<Vec<_>>(), "{dedup}");
    }
}

#[test]
fn lines_around_a_line_are_in_order() {
    let server = filled();
    let at = ns(2.0);
    let pairs = [("query", r#"{env="prod"}"#), ("time", &at), ("before", "1"), ("after", "1")];
    let mut found = lines_of(&server.json("context", &pairs));
    found.sort();
    let times: Vec<String> = found.into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [ns(1.5), ns(2.0), ns(3.0)]);
}

#[test]
fn an_export_has_every_line() {
    let server = Server::new();
    let texts: Vec<String> = (0..6_000).map(|n| format!("line {n}")).collect();
    let lines: Vec<Line<'_>> =
        (0..).zip(&texts).map(|(n, text)| (f64::from(n) / 10.0, text.as_str(), &[][..])).collect();
    server.push(&[("app", "x")], &lines);
    let pairs = [("query", r#"{app="x"} | label_format n="1""#), ("start", START), ("end", END)];
    let (status, body) = server.ask("export", &pairs, &HeaderMap::new());
    assert_eq!(status, StatusCode::OK, "{body}");
    let rows: Vec<Value> =
        body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 6_000);
    assert_eq!(
        rows[1],
        json!({"timestamp": ns(0.1), "line": "line 1", "labels": {"app": "x"},
               "structuredMetadata": {}, "parsed": {"n": "1"}})
    );
    let raw = [
        pairs[0],
        pairs[1],
        pairs[2],
        ("format", "raw"),
        ("limit", "2"),
        ("direction", "backward"),
    ];
    let (_, body) = server.ask("export", &raw, &HeaderMap::new());
    assert_eq!(body, "line 5999\nline 5998\n");
    assert_eq!(server.refused("export", &[("query", "vector(1)")]).0, 400);
}

#[test]
fn deleted_lines_are_gone_and_listed() {
    let server = filled();
    let none = HeaderMap::new();
    let delete = |query: &str| {
        let pairs = [("query", query), ("start", START), ("end", END)];
        server.ask_by("POST", "delete", &pairs, &none)
    };
    assert_eq!(delete(r#"{env="prod"} |= "needle""#).0, StatusCode::NO_CONTENT);
    assert_eq!(delete(r#"{app="web"} |~ "status.:2\\d\\d""#).0, StatusCode::NO_CONTENT);
    let left = lines_of(&server.json("query_range", &[("query", r#"{env="prod"}"#)]));
    let mut times: Vec<String> = left.into_iter().map(|(time, _)| time).collect();
    times.sort();
    assert_eq!(times, [ns(1.5), ns(2.0)]);
    let count = [("query", r#"sum(count_over_time({env="prod"}[2h]))"#), ("time", END)];
    assert_eq!(server.json("query", &count)["data"]["result"][0]["value"][1], "2");
    let listed = server.json("delete", &[]);
    assert_eq!(listed[0]["query"], r#"{env="prod"} |= "needle""#);
    assert_eq!(listed[1]["query"], r#"{app="web"} |~ "status.:2\\d\\d""#);
    let id = listed[0]["request_id"].as_str().expect("text").to_owned();
    let cancel = |id: &str| server.ask_by("DELETE", "delete", &[("request_id", id)], &none);
    assert_eq!(cancel(&id).0, StatusCode::BAD_REQUEST);
    assert_eq!(cancel("77777777").0, StatusCode::NOT_FOUND);
    for (pairs, text) in [
        (&[("start", START)][..], "query not set"),
        (&[("query", r#"{a="b"}"#)], "start time not set"),
        (
            &[("query", r#"{a="b"}"#), ("start", "9"), ("end", "8")],
            "start time can't be greater than end time",
        ),
    ] {
        assert_eq!(server.ask_by("POST", "delete", pairs, &none).1, text);
    }
}
