//! Names found by a part of them, and what is proposed while a query is written.

use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{executor, get, post, router};

/// The lines of an answer.
async fn lines(path: &str) -> (u16, Vec<Value>) {
    let request = Request::get(path).body(Body::empty()).expect("a valid request");
    let response = router(executor()).oneshot(request).await.expect("a router always answers");
    let status = response.status().as_u16();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    let body = response.into_body().collect().await.expect("a body in memory").to_bytes();
    let text = std::str::from_utf8(&body).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(status != 200 || kind == "application/x-ndjson; charset=utf-8", "{kind}");
    (status, lines)
}

#[tokio::test]
async fn names_are_searched_as_prometheus_does_it() {
    let (status, all) = lines("/api/v1/search/metric_names").await;
    let names = json!({"results": [
        {"name": "http.odd"}, {"name": "http_requests_total"}, {"name": "node_cpu_seconds"},
        {"name": "rpc_seconds_bucket"},
    ]});
    let end = json!({"status": "success", "has_more": false});
    assert_eq!((status, all), (200, vec![names, end.clone()]));
    let (_, found) = lines(
        "/api/v1/search/metric_names?search[]=http&search[]=sec&sort_by=score&include_score=true\
         &include_metadata=true&limit=3&batch_size=2",
    )
    .await;
    let first = json!({"results": [
        {"name": "http.odd", "score": 1.0},
        // The family of a counter has no suffix.
        {"name": "http_requests_total", "score": 1.0, "type": "counter",
         "help": "What http_requests is."},
    ]});
    assert_eq!(found[0], first);
    assert_eq!(found[1]["results"][0]["name"], "rpc_seconds_bucket");
    assert_eq!(found[2..], [json!({"status": "success", "has_more": true})]);
    let (_, found) =
        lines("/api/v1/search/metric_names?search[]=REQUESTS&case_sensitive=false").await;
    assert_eq!(found[0]["results"], json!([{"name": "http_requests_total"}]));
    let (_, found) = lines("/api/v1/search/label_names?sort_by=alpha&sort_dir=dsc").await;
    assert_eq!(found[0]["results"], json!([{"name": "s"}, {"name": "__name__"}]));
    let (_, found) = lines("/api/v1/search/label_values?label=s&limit=2&start=0").await;
    let warnings = json!(["partial answer: a block was damaged"]);
    assert_eq!(
        found[0],
        json!({"results": [{"value": "0"}, {"value": "1"}], "warnings": warnings})
    );
    assert_eq!(found[1]["has_more"], true);
    let (_, found) = lines("/api/v1/search/label_values?label=s&search[]=none").await;
    assert_eq!(found, [json!({"results": []}), end]);
}

#[tokio::test]
async fn a_search_that_makes_no_sense_is_refused() {
    for (path, error) in [
        ("label_values", "missing required parameter \"label\""),
        ("metric_names?sort_by=size", "invalid sort_by \"size\" for metric_names"),
        ("metric_names?sort_by=score", "sort_by=score requires search[] to be set"),
        ("metric_names?sort_dir=asc", "sort_dir is only valid when sort_by is set"),
        ("metric_names?search[]=a&sort_by=score&sort_dir=asc", "not supported for sort_by=score"),
        ("metric_names?sort_by=alpha&sort_dir=up", "invalid sort_dir \"up\""),
        ("metric_names?fuzz_threshold=101", "invalid fuzz_threshold \"101\": must be 0-100"),
        ("metric_names?fuzz_alg=x", "must be one of [subsequence jarowinkler]"),
        ("metric_names?limit=-1", "invalid limit \"-1\": must be non-negative integer"),
        ("metric_names?limit=100001", "limit 100001 exceeds the maximum (100000"),
        ("metric_names?batch_size=x", "invalid batch_size \"x\""),
        ("metric_names?include_metadata=maybe", "invalid include_metadata \"maybe\""),
        ("label_names?start=2&end=1", "end timestamp must not be before start timestamp"),
        ("label_names?match[]=a%7B", "parse error"),
    ] {
        let (status, answer) = get(&format!("/api/v1/search/{path}")).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && told.contains(error), "{path}: {answer}");
    }
    let many = format!("/api/v1/search/label_names?{}", "search[]=x&".repeat(33));
    let (_, answer) = get(&many).await;
    assert_eq!(answer["error"], "too many search[] terms: got 33, maximum is 32");
}

/// What is proposed: where it goes, and label, kind and text of each item.
async fn proposed(query: &str, more: &str) -> (Value, Vec<(String, String, String)>) {
    let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let (status, answer) = get(&format!("/api/v1/completions?query={query}{more}")).await;
    assert_eq!(status, 200, "{answer}");
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let items = answer["data"]["items"].as_array().expect("a list");
    let items = items.iter().map(|i| (text(i, "label"), text(i, "kind"), text(i, "insert")));
    let items = items.collect();
    (answer["data"].clone(), items)
}

fn item(label: &str, kind: &str, insert: &str) -> (String, String, String) {
    (label.to_owned(), kind.to_owned(), insert.to_owned())
}

#[tokio::test]
async fn what_is_proposed_fits_the_place() {
    let (data, items) = proposed("sum(htt", "").await;
    assert_eq!((&data["from"], &data["to"]), (&json!(4), &json!(7)));
    let metrics = [
        item("http.odd", "metric", "{\"http.odd\"}"),
        item("http_requests_total", "metric", "http_requests_total"),
    ];
    assert_eq!(items[..2], metrics);
    // The family of a counter has no suffix.
    assert_eq!(data["items"][1]["detail"], "counter");
    assert_eq!(data["items"][1]["help"], "What http_requests is.");
    let (data, items) = proposed("rpc_seconds", "").await;
    assert_eq!(items[0], item("rpc_seconds_bucket", "metric", "rpc_seconds_bucket"));
    assert_eq!(
        (&data["items"][0]["unit"], &data["items"][0]["detail"]),
        (&json!("seconds"), &json!("histogram"))
    );
    let (data, items) = proposed("😀 rat", "&pos=6&lang=zh").await;
    assert_eq!((&data["from"], &data["to"]), (&json!(3), &json!(6)));
    assert_eq!(items[0], item("rate", "function", "rate("));
    assert_eq!(data["items"][0]["detail"], "(range vector) instant vector");
    assert_eq!(data["items"][0]["help"], "计数器在区间内的平均每秒增量，已处理重置。");
    let (_, items) = proposed("m{", "").await;
    assert_eq!(items, [item("s", "label", "s=")]);
    let (_, items) = proposed("m{s=\"\"}", "&pos=5&limit=2").await;
    assert_eq!(items, [item("0", "value", "0"), item("1", "value", "1")]);
    let (_, items) = proposed("sum by (s", "").await;
    assert_eq!(items, [item("s", "label", "s")]);
    let (_, items) = proposed("m[5", "").await;
    assert!(items.contains(&item("5m", "duration", "5m")), "{items:?}");
    let (_, items) = proposed("m off", "").await;
    assert_eq!(items, [item("offset", "keyword", "offset ")]);
    let (_, items) = proposed("m{s ", "").await;
    assert_eq!(items[3], item("!~", "operator", "!~"));
    let (_, items) = proposed("", "").await;
    assert_eq!((items[0].1.as_str(), items.len()), ("metric", 4 + 14 + 90));
    let (_, items) = proposed("# m", "").await;
    assert!(items.is_empty());
}

#[tokio::test]
async fn a_place_beyond_the_query_is_refused() {
    for (path, error) in [
        ("query=m&pos=2", "pos 2 is beyond the end of the query"),
        ("query=m&pos=x", "pos must be a number"),
        ("query=m&lang=fr", "unknown lang"),
        ("query=m&start=x", "invalid time value"),
    ] {
        let (status, answer) = get(&format!("/api/v1/completions?{path}")).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && told.contains(error), "{path}: {answer}");
    }
    let (status, answer) =
        post("/api/v1/completions", format!("query={}", "m".repeat(200_000))).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().expect("an error").contains("131072"), "{answer}");
}
