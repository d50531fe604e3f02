//! The Pushgateway's API over its routes, and what of it is there after a power cut.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use blockstore::MemoryDisk;
use broker::{Broker, Pushgateway};
use http::{Request, StatusCode};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TimeRange, is_stale_nan};
use serde_json::Value;
use support::*;
use tower::ServiceExt;

clock!(PUSHES, pushes_ms);

fn tick() {
    PUSHES.fetch_add(1_000, Ordering::SeqCst);
}

struct Gateway {
    broker: Broker,
    router: Router,
}

impl Gateway {
    fn on(disk: &Arc<MemoryDisk>) -> Gateway {
        let broker = open_on(disk, config("unused".as_ref(), pushes_ms, NEVER_MS));
        let gateway = Pushgateway::start(broker.clone(), Duration::from_secs(3_600));
        let routes = broker::pushgateway_routes(&gateway);
        Gateway { broker, router: net::auth::without_login(routes.into_router()) }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        tick();
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned()));
        let request = request.expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("answers");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn is_done(&self, method: &str, path: &str, body: &str) {
        let (status, told) = self.call(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {told}");
    }

    /// The newest value of each series of a metric; none for one that ended.
    fn newest(&self, metric: &str) -> BTreeMap<String, Option<f64>> {
        let matcher = Matcher::new("__name__", MatchOp::Equal, metric).expect("no regex");
        let reader = self.broker.reader(DEFAULT_TENANT);
        let selected = reader.select(&[matcher], TimeRange::all()).expect("readable");
        let labels = selected.labels().iter().enumerate();
        labels
            .map(|(index, labels)| {
                let (mut timestamps, mut values) = (Vec::new(), Vec::new());
                selected.read(index, &mut timestamps, &mut values).expect("readable");
                let last = *values.last().expect("a series has samples");
                (labels.to_string(), (!is_stale_nan(last)).then_some(last))
            })
            .collect()
    }
}

fn values(pairs: &[(&str, Option<f64>)]) -> BTreeMap<String, Option<f64>> {
    pairs.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_replace_as_their_methods_say_and_survive_a_power_cut() {
    let disk = Arc::new(MemoryDisk::new());
    let gateway = Gateway::on(&disk);
    let two = "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\n# TYPE b gauge\nb 3\n";
    gateway.is_done("PUT", "/metrics/job/j/instance/i", two).await;
    // POST leaves the other families, PUT does not.
    gateway.is_done("POST", "/metrics/job/j/instance/i", "# TYPE a counter\na{x=\"1\"} 4\n").await;
    let (one, two) = (r#"a{instance="i", job="j", x="1"}"#, r#"a{instance="i", job="j", x="2"}"#);
    assert_eq!(gateway.newest("a"), values(&[(one, Some(4.0)), (two, None)]));
    assert_eq!(gateway.newest("b"), values(&[(r#"b{instance="i", job="j"}"#, Some(3.0))]));
    gateway.is_done("PUT", "/metrics/job/j/instance/i", "# TYPE a counter\na{x=\"1\"} 5\n").await;
    assert_eq!(gateway.newest("b"), values(&[(r#"b{instance="i", job="j"}"#, None)]));
    gateway.is_done("PUT", "/metrics/job@base64/ay8x", "c 1\n").await;

    let (status, told) = gateway.call("POST", "/metrics/job/j", "# TYPE a gauge\na 1\n").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(told.contains("inconsistent with existing metrics"), "{told}");
    let (status, told) = gateway.call("POST", "/metrics/instance/j", "a 1\n").await;
    assert!(status == StatusCode::BAD_REQUEST && told.contains("/metrics/job/JOB"), "{told}");
    let (status, told) = gateway.call("POST", "/metrics/job/j", "d 1 1000\n").await;
    assert!(status == StatusCode::BAD_REQUEST && told.contains("timestamps"), "{told}");

    let before = gateway.call("GET", "/pushgateway/metrics", "").await.1;
    drop(gateway);
    let gateway = Gateway::on(&Arc::new(disk.crash(3)));
    let (status, text) = gateway.call("GET", "/pushgateway/metrics", "").await;
    assert_eq!((status, &text), (StatusCode::OK, &before));
    assert!(text.contains("a{instance=\"i\",job=\"j\",x=\"1\"} 5\n"), "{text}");
    assert!(
        text.contains("c{job=\"k/1\",instance=\"\"} 1\n") && text.contains("push_time_seconds{"),
        "{text}"
    );
    // It is one exposition: each family stands once.
    assert_eq!(text.matches("# TYPE push_time_seconds gauge").count(), 1, "{text}");

    let listed: Value =
        serde_json::from_str(&gateway.call("GET", "/api/v1/metrics", "").await.1).expect("JSON");
    let groups = listed["data"].as_array().expect("groups");
    assert_eq!(groups.len(), 3, "{listed}");
    let group = groups.iter().find(|group| group["labels"]["instance"] == "i").expect("listed");
    assert_eq!(group["a"]["type"], "COUNTER");
    assert_eq!(group["a"]["metrics"][0]["value"], "5");
    assert_eq!(group["last_push_successful"], true);
    let failed = groups
        .iter()
        .find(|group| group["labels"].as_object().is_some_and(|l| l.len() == 1 && l["job"] == "j"));
    assert_eq!(failed.expect("noted")["last_push_successful"], false);

    gateway.is_done("DELETE", "/metrics/job/j/instance/i", "").await;
    assert_eq!(gateway.newest("a")[one], None);
    gateway.is_done("DELETE", "/metrics/job/j/instance/i", "").await;
    gateway.is_done("PUT", "/api/v1/admin/wipe", "").await;
    let (_, text) = gateway.call("GET", "/pushgateway/metrics", "").await;
    assert_eq!(text, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_a_size() {
    let gateway = Gateway::on(&Arc::new(MemoryDisk::new()));
    let large: String = (0..40_000).map(|n| format!("m{{number=\"{n:020}\"}} 1\n")).collect();
    let (status, told) = gateway.call("PUT", "/metrics/job/j", &large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(told.contains("bytes in one group, the limit is 1048576"), "{told}");
    assert_eq!(gateway.call("GET", "/pushgateway/metrics", "").await.1, "");
}
