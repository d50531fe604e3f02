//! Lines of logs at a console of a process of its own.

use axum::body::Body;
use http::{Request, StatusCode};
use model::{DEFAULT_TENANT, Labels, LogBatch};
use serde_json::Value;

use super::super::now_ms;
use super::support::{Way, ask, json, send};
use super::{Broker, Pair, Router, Shown, Stored};

/// Lines of two streams, of now.
async fn fill(pair: &Pair) {
    let now_ns = now_ms() * 1_000_000;
    let mut batch = LogBatch::default();
    for app in ["db", "web"] {
        batch.stream(&Labels::from_pairs([("app", app)]).expect("valid"));
        for n in 0..20 {
            let line = format!(r#"{{"n":{n},"app":"{app}"}}"#);
            let trace = n.to_string();
            let t_ns = now_ns - (20 - n) * 1_000_000_000;
            batch.push(t_ns, line.as_bytes(), &[("trace_id", &trace)]).expect("short");
        }
    }
    store(&pair.stored.broker, batch).await;
}

async fn store(broker: &Broker, batch: LogBatch) {
    let broker = broker.clone();
    let stored = tokio::task::spawn_blocking(move || {
        let (done, stored) = std::sync::mpsc::channel();
        broker.ingest_logs(DEFAULT_TENANT, batch, None, move |result| {
            let _ = done.send(result.is_ok());
        });
        stored.recv().expect("answered")
    });
    assert!(stored.await.expect("done"));
}

/// An answer without what differs each time.
async fn answer(router: &Router, path: &str) -> Value {
    let mut found = json(router, path).await;
    if let Some(data) = found["data"].as_object_mut() {
        data.remove("stats");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_at_a_console_are_those_of_its_broker() {
    let pair = Pair::start("{}").await;
    fill(&pair).await;
    let end = now_ms() / 1_000 + 1;
    let range = format!("start={}&end={end}", end - 600);
    for path in [
        format!("query_range?query=%7Bapp%3D%22web%22%7D%20%7C%20json&limit=7&{range}"),
        format!(
            "query_range?query=%7B%7D%20%7C%3D%20%22db%22&encoding_flags=categorize-labels&{range}"
        ),
        format!(
            "query_range?query=sum(count_over_time(%7Bapp%3D~%22.%2B%22%7D%5B1m%5D))&step=60&{range}"
        ),
        format!("query?query=vector(1)%2Bvector(1)&time={end}"),
        format!("labels?{range}"),
        format!("label/app/values?{range}"),
        format!("series?match%5B%5D=%7Bapp%3D%22db%22%7D&{range}"),
        format!("index/stats?query=%7Bapp%3D%22db%22%7D&{range}"),
        format!("detected_fields?query=%7Bapp%3D%22db%22%7D&{range}"),
        "status/buildinfo".to_owned(),
    ] {
        let path = format!("/loki/api/v1/{path}");
        let direct = answer(&pair.stored.direct, &path).await;
        assert_eq!(direct, answer(&pair.shown.remote, &path).await, "{path}");
    }
    let refused = "/loki/api/v1/query_range?query=%7Bapp%3D";
    assert_eq!(ask(&pair.stored.direct, refused).await, ask(&pair.shown.remote, refused).await);
    // Forms and the header are passed on as well.
    let form = format!("query=%7Bapp%3D%22db%22%7D&limit=1&{range}");
    let request = Request::post("/loki/api/v1/query_range")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-loki-response-encoding-flags", "categorize-labels")
        .body(Body::from(form));
    let (status, body) = send(&pair.shown.remote, request.expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let found: Value = serde_json::from_str(&body).expect("JSON");
    let metadata = &found["data"]["result"][0]["values"][0][2]["structuredMetadata"];
    assert_eq!(metadata["trace_id"], "19", "{body}");
    let (status, _) = ask(&pair.shown.remote, "/loki/api/v1/delete").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
}

/// Messages of a tail, as they come.
struct Tailed {
    body: axum::body::BodyDataStream,
    read: String,
}

impl Tailed {
    async fn open(router: &Router, query: &str) -> Tailed {
        let request = Request::get(format!("/loki/api/v1/tail?format=ndjson&query={query}"));
        let mut request = request.body(Body::empty()).expect("a request");
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 40_000));
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        let answer = tower::ServiceExt::oneshot(router.clone(), request).await.expect("answers");
        let status = answer.status();
        if status != StatusCode::OK {
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("whole");
            panic!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Tailed { body: answer.into_body().into_data_stream(), read: String::new() }
    }

    /// The next one that says something.
    async fn next(&mut self) -> Value {
        loop {
            if let Some((line, rest)) = self.read.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.read = rest;
                if !line.is_empty() {
                    return serde_json::from_str(&line).expect("JSON");
                }
                continue;
            }
            let piece = futures_util::StreamExt::next(&mut self.body);
            let piece = tokio::time::timeout(std::time::Duration::from_secs(30), piece).await;
            let piece = piece.expect("something is told").expect("it does not end").expect("whole");
            self.read.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_as_they_come_pass_through_a_console_and_outlive_a_broker() {
    let stored = Stored::start("{}", 2).await;
    let (first, second) = (Way::to(stored.address(0)).await, Way::to(stored.address(1)).await);
    let brokers = format!("{},{}", first.address, second.address);
    let token = stored.token().await;
    let shown = Shown::start(&["--broker", &brokers, "--join", &token], "{}").await;
    let mut tailed =
        Tailed::open(&shown.remote, "%7Bapp%3D%22web%22%7D%20%7C%3D%20%22line%22").await;
    let line = |n: i64| {
        let mut batch = LogBatch::default();
        batch.stream(&Labels::from_pairs([("app", "web")]).expect("valid"));
        batch.push(now_ms() * 1_000_000, format!("line {n}").as_bytes(), &[]).expect("short");
        batch.push(now_ms() * 1_000_000, b"another", &[]).expect("short");
        batch
    };
    let text = |message: &Value| message["streams"][0]["values"][0][1].as_str().map(str::to_owned);
    store(&stored.broker, line(1)).await;
    assert_eq!(text(&tailed.next().await).as_deref(), Some("line 1"));
    store(&stored.broker, line(2)).await;
    let message = tailed.next().await;
    assert_eq!((text(&message).as_deref(), message.get("warnings")), (Some("line 2"), None));
    first.cut();
    let lost = tailed.next().await;
    assert!(lost["warnings"][0].as_str().is_some_and(|words| words.contains("does not answer")));
    let found = tailed.next().await;
    assert!(found["warnings"][0].as_str().is_some_and(|words| words.contains("answers again")));
    store(&stored.broker, line(3)).await;
    let mut message = tailed.next().await;
    // What bears a time of the moment between may come again.
    while text(&message).as_deref() == Some("line 2") {
        message = tailed.next().await;
    }
    assert_eq!(text(&message).as_deref(), Some("line 3"), "{message}");
    let refused = "/loki/api/v1/tail?format=ndjson&query=%7Bapp%3D";
    let (status, body) = ask(&shown.remote, refused).await;
    assert_eq!((status, body), ask(&stored.direct, refused).await);
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
