//! Deltas over OTLP: what is stored of them and what counts in their totals.

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use blockstore::MemoryDisk;
use http::{Request, StatusCode, header};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange};
use serde_json::{Value, json};
use support::*;
use tower::ServiceExt;

clock!(DELTAS, deltas_ms);

async fn send(router: Router, series: &str, t_ms: i64, delta: f64) -> (StatusCode, Value) {
    let attributes = json!([{"key": "s", "value": {"stringValue": series}}]);
    let time = (t_ms * 1_000_000).to_string();
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "c", "sum": {
        "aggregationTemporality": 1, "isMonotonic": true,
        "dataPoints": [{"timeUnixNano": time, "asDouble": delta, "attributes": attributes}],
    }}]}]}]});
    let request = Request::post("/v1/metrics").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let response = router.oneshot(request).await.expect("answers");
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_that_is_not_stored_does_not_count() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), deltas_ms, NEVER_MS));
    let router = net::auth::without_login(broker::otlp_routes(&broker).into_router());
    let future_ms = START_MS + 366 * 24 * 3_600_000;
    let (status, told) = send(router.clone(), "a", future_ms, 100.0).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(told["partialSuccess"]["rejectedDataPoints"], "1", "{told}");
    // Nor is what comes after it taken for older; and many at once all have their turn.
    let sends = ["a", "b", "c", "d", "e", "f"]
        .map(|series| tokio::spawn(send(router.clone(), series, START_MS, 5.0)));
    for sent in sends {
        assert_eq!(sent.await.expect("no panic"), (StatusCode::OK, json!({})));
    }
    let matcher = Matcher::new("__name__", MatchOp::Equal, "c_total").expect("no regex");
    let reader = broker.reader(DEFAULT_TENANT);
    let selected = reader.select(&[matcher], TimeRange::all()).expect("readable");
    assert_eq!(selected.labels().len(), 6);
    for index in 0..6 {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values).expect("readable");
        assert_eq!((timestamps, values), (vec![START_MS], vec![5.0]));
    }
}
