//! Lines of logs at a console of a process of its own.

use axum::body::Body;
use http::{Request, StatusCode};
use model::{DEFAULT_TENANT, Labels, LogBatch};
use serde_json::Value;

use super::super::now_ms;
use super::support::{ask, json, send};
use super::{Pair, Router};

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
    let broker = pair.stored.broker.clone();
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
