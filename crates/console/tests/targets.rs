//! The API about what is scraped: Prometheus' JSON, key by key.

use std::sync::Arc;

use axum::body::Body;
use console::{
    About, ActiveTarget, Console, Data, DroppedTarget, Executor, Families, LiveFeed, RelabelStep,
    Snapshot, TargetMetadata, Targets, Work,
};
use http::Request;
use http_body_util::BodyExt;
use model::{Labels, Limits, Matcher, MetricMetadata, MetricType, TenantName};
use promql::SourceError;
use serde_json::{Value, json};
use settings::NameValidation;
use settings::relabel::{Action, Regex, RelabelConfig, RelabelFields};
use tower::ServiceExt;

/// No samples at all.
struct Empty;

impl Data for Empty {
    fn snapshot(&self, _: TenantName, _: &Work) -> Result<Arc<dyn Snapshot>, SourceError> {
        Err(SourceError::Storage("there is none".to_owned()))
    }

    fn metadata(&self, _: TenantName) -> Result<Families, SourceError> {
        Ok(Families::default())
    }

    fn subscribe(&self, _: TenantName, _: Vec<Matcher>) -> Result<Box<dyn LiveFeed>, SourceError> {
        Err(SourceError::Storage("there is none".to_owned()))
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("good labels")
}

/// Two targets of job `j`, one of which answers, and one of job `k` that is dropped.
struct Three;

impl Targets for Three {
    fn pools(&self) -> Vec<String> {
        vec!["j".to_owned(), "k".to_owned()]
    }

    fn active(&self, pool: Option<&str>) -> Vec<ActiveTarget> {
        if pool.is_some_and(|pool| pool != "j") {
            return Vec::new();
        }
        vec![
            ActiveTarget {
                pool: "j".to_owned(),
                discovered: labels(&[("__address__", "localhost:1"), ("__scheme__", "http")]),
                labels: labels(&[("instance", "localhost:1"), ("job", "j")]),
                url: "http://localhost:1/metrics".to_owned(),
                scraped_by: None,
                health: "up",
                last_error: String::new(),
                last_scrape_ms: Some(1_700_000_000_123),
                last_duration_seconds: 0.0125,
                interval: "15s".to_owned(),
                timeout: "10s".to_owned(),
            },
            ActiveTarget {
                pool: "j".to_owned(),
                labels: labels(&[("instance", "b:1"), ("job", "j")]),
                url: "http://b:1/metrics".to_owned(),
                health: "unknown",
                ..ActiveTarget::default()
            },
        ]
    }

    fn dropped(&self, pool: Option<&str>) -> Vec<DroppedTarget> {
        let discovered = labels(&[("__address__", "c:1")]);
        let dropped = DroppedTarget { pool: "k".to_owned(), discovered };
        Some(dropped).filter(|_| pool.is_none_or(|pool| pool == "k")).into_iter().collect()
    }

    fn dropped_counts(&self) -> Vec<(String, usize)> {
        vec![("j".to_owned(), 0), ("k".to_owned(), 1)]
    }

    fn metadata(
        &self,
        keep: &dyn Fn(&Labels) -> bool,
        metric: Option<&str>,
        limit: usize,
    ) -> Vec<TargetMetadata> {
        let mut found = Vec::new();
        for target in self.active(None).iter().filter(|target| keep(&target.labels)) {
            for (name, help) in [("a", "What a is."), ("b", "What b is.")] {
                if metric.is_none_or(|metric| metric == name) {
                    let metadata = MetricMetadata {
                        metric: name.to_owned(),
                        kind: MetricType::Gauge,
                        help: help.to_owned(),
                        unit: String::new(),
                    };
                    found.push(TargetMetadata { target: target.labels.clone(), metadata });
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    fn relabel_steps(&self, pool: &str, given: &Labels) -> Option<Vec<RelabelStep>> {
        let rule = |fields| RelabelConfig::new(fields, NameValidation::Utf8).expect("a rule");
        let copy = rule(RelabelFields {
            source_labels: vec!["a".to_owned()],
            target_label: "b".to_owned(),
            ..RelabelFields::default()
        });
        let drop = rule(RelabelFields {
            source_labels: vec!["a".to_owned()],
            regex: Regex::new("x").expect("a regex"),
            action: Action::Drop,
            ..RelabelFields::default()
        });
        (pool == "j").then(|| {
            vec![
                RelabelStep { rule: copy, output: given.clone(), keep: true },
                RelabelStep { rule: drop, output: Labels::empty(), keep: false },
            ]
        })
    }
}

fn console() -> Console {
    let executor = Arc::new(Executor::new(
        Arc::new(Empty),
        Limits::default(),
        governor::Governor::unlimited(),
        4,
        2,
    ));
    let about = About { hostname: "h".to_owned(), ..About::default() };
    Console::new(executor, about, || 0, Box::new(|| 0))
}

async fn ask(console: Console, path: &str) -> (u16, Value) {
    let routes = console::api_routes(&Arc::new(console));
    let router = net::auth::without_login(routes.into_router());
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("a router always answers");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body in memory").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

async fn get(path: &str) -> (u16, Value) {
    ask(console().with_targets(Arc::new(Three)), path).await
}

async fn data(path: &str) -> Value {
    let (status, mut answer) = get(path).await;
    assert_eq!((status, &answer["status"]), (200, &json!("success")), "{path}");
    answer["data"].take()
}

#[tokio::test]
async fn targets_are_told_as_prometheus_tells_them() {
    let active = json!([
        {
            "discoveredLabels": { "__address__": "localhost:1", "__scheme__": "http" },
            "labels": { "instance": "localhost:1", "job": "j" },
            "scrapePool": "j",
            "scrapeUrl": "http://localhost:1/metrics",
            "globalUrl": "http://h:1/metrics",
            "lastError": "",
            "lastScrape": "2023-11-14T22:13:20.123Z",
            "lastScrapeDuration": 0.0125,
            "health": "up",
            "scrapeInterval": "15s",
            "scrapeTimeout": "10s",
        },
        {
            "discoveredLabels": {},
            "labels": { "instance": "b:1", "job": "j" },
            "scrapePool": "j",
            "scrapeUrl": "http://b:1/metrics",
            "globalUrl": "http://b:1/metrics",
            "lastError": "",
            "lastScrape": "0001-01-01T00:00:00Z",
            "lastScrapeDuration": 0.0,
            "health": "unknown",
            "scrapeInterval": "",
            "scrapeTimeout": "",
        },
    ]);
    let dropped = json!([{ "discoveredLabels": { "__address__": "c:1" }, "scrapePool": "k" }]);
    let all = data("/api/v1/targets").await;
    let counts = json!({ "j": 0, "k": 1 });
    assert_eq!(
        all,
        json!({
            "activeTargets": active,
            "droppedTargets": dropped,
            "droppedTargetCounts": counts,
        })
    );
    assert_eq!(data("/api/v1/targets?state=Any").await, all);
    assert_eq!(
        data("/api/v1/targets?state=active").await,
        json!({ "activeTargets": active, "droppedTargets": [], "droppedTargetCounts": null })
    );
    assert_eq!(
        data("/api/v1/targets?state=dropped&scrapePool=k").await,
        json!({ "activeTargets": [], "droppedTargets": dropped, "droppedTargetCounts": counts })
    );
    assert_eq!(data("/api/v1/targets?scrapePool=k").await["activeTargets"], json!([]));
    assert_eq!(data("/api/v1/scrape_pools").await, json!({ "scrapePools": ["j", "k"] }));
}

#[tokio::test]
async fn metadata_of_targets() {
    let rows = data("/api/v1/targets/metadata").await;
    assert_eq!(rows.as_array().expect("a list").len(), 4);
    assert_eq!(
        rows[0],
        json!({
            "target": { "instance": "localhost:1", "job": "j" },
            "metric": "a",
            "type": "gauge",
            "help": "What a is.",
            "unit": "",
        })
    );
    let path = "/api/v1/targets/metadata?metric=b&match_target=%7Binstance=%22b:1%22%7D";
    assert_eq!(
        data(path).await,
        json!([{
            "target": { "instance": "b:1", "job": "j" },
            "type": "gauge",
            "help": "What b is.",
            "unit": "",
        }])
    );
    assert_eq!(data("/api/v1/targets/metadata?limit=1").await.as_array().map(Vec::len), Some(2));
    assert_eq!(data("/api/v1/targets/metadata?limit=0").await, json!([]));
    let (status, answer) = get("/api/v1/targets/metadata?limit=x").await;
    assert_eq!((status, &answer["error"]), (400, &json!("limit must be a number")));
    let (status, answer) = get("/api/v1/targets/metadata?match_target=%7B").await;
    assert_eq!((status, &answer["errorType"]), (400, &json!("bad_data")));
}

#[tokio::test]
async fn steps_of_relabeling() {
    let labels = "%7B%22a%22:%22x%22%7D";
    let steps = data(&format!("/api/v1/targets/relabel_steps?scrapePool=j&labels={labels}")).await;
    assert_eq!(
        steps,
        json!({ "steps": [
            {
                "rule": {
                    "sourceLabels": ["a"],
                    "separator": ";",
                    "regex": "(.*)",
                    "targetLabel": "b",
                    "replacement": "$1",
                    "action": "replace",
                },
                "output": { "a": "x" },
                "keep": true,
            },
            {
                "rule": {
                    "sourceLabels": ["a"],
                    "separator": ";",
                    "regex": "x",
                    "replacement": "$1",
                    "action": "drop",
                },
                "output": {},
                "keep": false,
            },
        ] })
    );
    for (query, error) in [
        ("", "no scrapePool parameter provided"),
        ("scrapePool=j", "no labels parameter provided"),
        ("scrapePool=j&labels=%5B1%5D", "error parsing labels: "),
        ("scrapePool=x&labels=%7B%7D", "scrape pool \"x\" not found"),
    ] {
        let (status, answer) = get(&format!("/api/v1/targets/relabel_steps?{query}")).await;
        let told = answer["error"].as_str().expect("an error");
        assert!(status == 400 && told.contains(error), "{query}: {told}");
    }
}

#[tokio::test]
async fn where_nothing_is_scraped_there_is_nothing() {
    for (path, expected) in [
        (
            "/api/v1/targets",
            json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }),
        ),
        ("/api/v1/scrape_pools", json!({ "scrapePools": [] })),
        ("/api/v1/targets/metadata", json!([])),
    ] {
        let (status, answer) = ask(console(), path).await;
        assert_eq!((status, &answer["data"]), (200, &expected), "{path}");
    }
}
