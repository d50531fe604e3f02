//! Type and unit of metrics as labels, from OTLP and remote write 2.0, where that is asked for.

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use blockstore::MemoryDisk;
use broker::{Broker, BrokerConfig};
use http::{Request, StatusCode, header};
use model::{DEFAULT_TENANT, Labels, MetricMetadata, MetricType, TimeRange};
use serde_json::json;
use support::*;
use tower::ServiceExt;
use wire::remote_write_request::{OutgoingSeries, RequestBuilder};

clock!(LABELS, labels_ms);

async fn post(router: &Router, path: &str, headers: &[(&str, &str)], body: Vec<u8>) {
    let mut request = Request::post(path);
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body)).expect("a request");
    let answer = router.clone().oneshot(request).await.expect("answers");
    assert!(matches!(answer.status(), StatusCode::OK | StatusCode::NO_CONTENT), "{answer:?}");
}

/// What is stored of a metric that comes by OTLP and by remote write 2.0.
async fn stored(broker: &Broker, name: &str) -> Vec<String> {
    let router = net::auth::without_login(broker::routes(broker).into_router());
    let time = (START_MS * 1_000_000).to_string();
    let metrics = json!([{"name": format!("{name}.otlp"), "unit": "s",
        "gauge": {"dataPoints": [{"timeUnixNano": time, "asInt": "1"}]}}]);
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).to_string();
    let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
    post(&router, "/v1/metrics", &json, body.into_bytes()).await;

    let labels = Labels::from_pairs([("__name__", format!("{name}_written").as_str())]);
    let metadata = MetricMetadata {
        metric: format!("{name}_written"),
        kind: MetricType::Counter,
        unit: "bytes".to_owned(),
        ..MetricMetadata::default()
    };
    let mut request = RequestBuilder::two();
    request.push(&OutgoingSeries {
        labels: &labels.expect("valid"),
        floats: &[(START_MS, 1.0)],
        starts_ms: &[],
        histograms: &[],
        exemplars: &[],
        metadata: Some(&metadata),
    });
    let headers = [
        (
            header::CONTENT_TYPE.as_str(),
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
        (header::CONTENT_ENCODING.as_str(), "snappy"),
    ];
    post(&router, "/api/v1/write", &headers, request.finish().expect("small")).await;

    let all = [model::Matcher::new("__name__", model::MatchOp::Regex, format!("{name}_.*"))];
    let selected = broker
        .reader(DEFAULT_TENANT)
        .select(&all.map(|matcher| matcher.expect("a regex")), TimeRange::all());
    let mut names: Vec<_> =
        selected.expect("readable").labels().iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn type_and_unit_become_labels_where_asked_for() {
    let settings = || config("unused".as_ref(), labels_ms, NEVER_MS);
    let broker = open_on(&Arc::new(MemoryDisk::new()), settings());
    assert_eq!(stored(&broker, "a").await, ["a_otlp_seconds", "a_written"]);
    let with = BrokerConfig { type_and_unit_labels: true, ..settings() };
    let broker = open_on(&Arc::new(MemoryDisk::new()), with);
    let labelled = |name: &str| {
        [
            format!("{name}_otlp_seconds{{__type__=\"gauge\", __unit__=\"seconds\"}}"),
            format!("{name}_written{{__type__=\"counter\", __unit__=\"bytes\"}}"),
        ]
    };
    assert_eq!(stored(&broker, "a").await, labelled("a"));
    // The section `otlp` of the configuration says nothing about it.
    broker.set_otlp_options(wire::otlp::Options::default());
    assert_eq!(stored(&broker, "b").await, labelled("b"));
}
