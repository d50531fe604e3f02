//! A console in a process of its own says what the broker says, over a real socket.

mod federated;
mod logs;
mod support;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use broker::Broker;
use http::{Request, StatusCode};
use model::{
    BucketLayout, DEFAULT_TENANT, Histogram, IntegerHistogram, Labels, MetricBatch, MetricMetadata,
    MetricType, Span,
};

use super::now_ms;
use support::{Shown, Stored, ask, send};

struct Pair {
    stored: Stored,
    shown: Shown,
}

impl Pair {
    async fn start(yaml: &str) -> Pair {
        let stored = Stored::start(yaml, 1).await;
        let (token, address) = (stored.token().await, stored.address(0));
        let shown = Shown::start(&["--broker", &address, "--join", &token], yaml).await;
        Pair { stored, shown }
    }

    async fn same(&self, path: &str) -> String {
        let ask_both =
            async || (ask(&self.stored.direct, path).await, ask(&self.shown.remote, path).await);
        let (mut direct, mut remote) = ask_both().await;
        // What a flush changes between the two is not what is compared.
        for _ in 0..5 {
            if direct == remote {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            (direct, remote) = ask_both().await;
        }
        assert_eq!(direct, remote, "{path}");
        remote.1
    }
}

fn labels(name: &str, series: usize) -> Labels {
    let (series, job) = (series.to_string(), if series.is_multiple_of(3) { "a" } else { "b" });
    Labels::from_pairs([("__name__", name), ("job", job), ("series", &series)]).expect("valid")
}

fn histogram(series: usize, step: i64) -> Histogram {
    let layout = BucketLayout {
        schema: 1 + i32::from(step > 40),
        zero_threshold: 1e-9,
        positive: vec![Span { offset: -2, len: 1 + (step as u32 + series as u32) % 9 }],
        ..BucketLayout::default()
    };
    let mut histogram = IntegerHistogram::empty(layout.into());
    for (place, count) in histogram.positive.iter_mut().enumerate() {
        *count = 1 + step as u64 * (place as u64 + 1);
    }
    histogram.count = histogram.positive.iter().sum();
    histogram.sum = step as f64 * 0.75;
    Histogram::Integer(histogram)
}

/// Floats, histograms, both in one series, and metadata; the first half ends up in blocks.
fn fill(broker: &Broker, end_ms: i64) {
    for step in 0..60 {
        let t_ms = end_ms - (59 - step) * 15_000;
        let mut batch = MetricBatch::default();
        for series in 0..40 {
            let value = match series % 4 {
                0 => (step * 7919 % 1_000) as f64,
                1 => (step as f64 * 0.1).sin(),
                2 if step % 9 == 0 => f64::from_bits(model::STALE_NAN_BITS),
                2 => f64::NAN,
                _ => step as f64,
            };
            batch.push(&labels("gauge_m", series), t_ms, value);
            batch.push(&labels("counter_total", series), t_ms, (step * 3) as f64);
            // Some know when they began, one of them of its second half alone; some begin now and then.
            batch.set_last_start(match series {
                5 if step <= 30 => 0,
                5 | 6 => end_ms - 3_600_000,
                7 => end_ms - (59 - step / 7 * 7) * 15_000 - 7_001,
                _ => 0,
            });
        }
        for series in 0..9 {
            let is_float = series == 4 && step % 5 == 3;
            match is_float {
                true => batch.push(&labels("latency", series), t_ms, 1.0),
                false => {
                    batch.push_histogram(
                        &labels("latency", series),
                        t_ms,
                        // Some know when they began, one of them of its second half alone.
                        (series % 3 == 1 && (series > 1 || step > 30)).then_some(t_ms - 7_001),
                        histogram(series, step),
                    );
                }
            }
        }
        batch.metadata.push(MetricMetadata {
            metric: "counter_total".to_owned(),
            kind: MetricType::Counter,
            help: "What \"counts\".".to_owned(),
            unit: String::new(),
        });
        let (done, stored) = std::sync::mpsc::channel();
        broker.ingest(DEFAULT_TENANT, &batch, move |result| {
            let _ = done.send(result.map(|outcome| outcome.complaint()));
        });
        assert_eq!(stored.recv().expect("answered").expect("stored"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_says_what_the_broker_says() {
    let yaml = "enable_features: [use-start-timestamps]\nstorage:\n  flush_interval: 100ms\n";
    let pair = Pair::start(yaml).await;
    let end_ms = now_ms();
    let filled = pair.stored.broker.clone();
    tokio::task::spawn_blocking(move || fill(&filled, end_ms)).await.expect("filled");
    let (start, end) = ((end_ms - 900_000) / 1_000, end_ms / 1_000);
    let queries = [
        "gauge_m",
        "gauge_m{series=~\"1.|2\",job!=\"a\"}",
        "sum by (job) (rate(counter_total[2m]))",
        "latency",
        "histogram_quantile(0.9, latency)",
        "start_timestamp(latency)",
        "start_timestamp(counter_total)",
        "resets(counter_total[5m])",
        "increase(counter_total{series=~\"5|6|7\"}[2m])",
        "increase(latency[1m])",
        "histogram_count(latency) + on (series) group_left gauge_m",
        "max_over_time(gauge_m[10m:30s])",
        "topk(3, gauge_m offset 2m)",
        "absent(nothing)",
        "vector(1)",
        "sum(gauge_m) / 0",
        "gauge_m[2m]",
        "label_replace(gauge_m, \"a\", \"$1\", \"series\", \"(.).*\")",
    ];
    let encode = |text: &str| form_urlencoded(text);
    for query in queries {
        let q = encode(query);
        pair.same(&format!("/api/v1/query?query={q}&time={end}")).await;
        if !query.ends_with("[2m]") {
            let path = format!("/api/v1/query_range?query={q}&start={start}&end={end}&step=15");
            let body = pair.same(&path).await;
            assert!(body.contains("\"success\""), "{query}: {body}");
        }
    }
    // What the console kept of the queries above holds until something changes.
    let kept = |metrics: &str| -> f64 {
        let line =
            metrics.lines().find(|l| l.starts_with("watchfire_console_cache_hit_steps_total"));
        let value = line.and_then(|line| line.rsplit(' ').next()).expect("it is there");
        value.parse().expect("a number")
    };
    let q = encode("sum by (job) (counter_total)");
    let old = format!("start={}&end={}&step=15", start / 60 * 60, end / 60 * 60 - 300);
    let path = format!("/api/v1/query_range?query={q}&{old}");
    let first = pair.same(&path).await;
    let before = kept(&ask(&pair.shown.remote, "/metrics").await.1);
    assert_eq!(pair.same(&path).await, first);
    assert!(kept(&ask(&pair.shown.remote, "/metrics").await.1) > before);
    let late = pair.stored.broker.clone();
    tokio::task::spawn_blocking(move || {
        let mut batch = MetricBatch::default();
        batch.push(&labels("counter_total", 99), end_ms - 600_000, 1e6);
        let (done, stored) = std::sync::mpsc::channel();
        late.ingest(DEFAULT_TENANT, &batch, move |result| {
            let _ = done.send(result.is_ok());
        });
        assert!(stored.recv().expect("answered"));
    })
    .await
    .expect("stored");
    assert_ne!(pair.same(&path).await, first);
    let q = encode("sum by (job) (rate(counter_total[2m]))");
    let path = format!("/api/v1/query_explain?query={q}&start={start}&end={end}&step=15");
    let mut told = Vec::new();
    for router in [&pair.stored.direct, &pair.shown.remote] {
        let (status, body) = ask(router, &path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let selector = &body["data"]["tree"]["children"][0]["children"][0];
        let number = |name: &str| selector[name].as_u64().expect("a number");
        // A flush moves samples from the head to blocks meanwhile, but they are somewhere.
        assert!(number("head_series") + number("chunks") >= 40, "{selector}");
        assert!(number("bytes_read") > 0 && number("blocks") <= number("chunks"), "{selector}");
        told.push((
            number("series_in"),
            number("samples_read"),
            body["data"]["stats"]["samples"].clone(),
        ));
    }
    assert_eq!(told[0], told[1]);
    // The oldest step may be before the range, which is cut to seconds.
    assert!(told[0].0 == 41 && told[0].1 > 40 * 59, "{told:?}");
    let started = encode("start_timestamp(latency{series=\"7\"})");
    let body = pair.same(&format!("/api/v1/query?query={started}&time={end}")).await;
    assert!(body.contains("\"series\":\"7\"") && !body.contains(",\"0\"]"), "{body}");
    // 42, 49 and 56 of the last 20 steps begin anew, which no value tells.
    let resets = encode("resets(counter_total{series=~\"6|7\"}[5m])");
    let body = pair.same(&format!("/api/v1/query?query={resets}&time={end}")).await;
    assert!(body.contains(",\"0\"]") && body.contains(",\"3\"]"), "{body}");
    for path in [
        "/api/v1/labels",
        "/api/v1/labels?limit=2",
        "/api/v1/label/series/values",
        "/api/v1/label/series/values?match[]=latency",
        "/api/v1/series?match[]=latency&match[]=gauge_m",
        "/api/v1/metadata",
        "/api/v1/search/metric_names?search[]=gauge&sort_by=score&include_score=1&start=0",
        "/api/v1/search/label_names?match[]=latency&sort_by=alpha&sort_dir=dsc&start=0",
        "/api/v1/search/label_values?label=series&search[]=1&limit=3&start=0",
        "/api/v1/completions?query=sum(gau&start=0",
        "/api/v1/completions?query=latency%7Bseries%3D%221&start=0&limit=2",
        "/api/v1/status/tsdb",
        "/api/v1/targets",
        "/api/v1/targets?state=active",
        "/api/v1/targets/metadata",
        "/api/v1/targets/relabel_steps",
        "/api/v1/scrape_pools",
        "/api/v1/agents",
        "/api/v1/metrics",
        "/api/v1/views",
        "/pushgateway/metrics",
        "/federate?match[]=counter_total",
        "/-/ready",
    ] {
        pair.same(path).await;
    }
    let census = "topN=3&date=1970-01-01&compare=2020-01-01&sort=new&focusLabel=series";
    let body = pair.same(&format!("/api/v1/status/tsdb?{census}&match[]=gauge_m")).await;
    assert!(body.contains("\"totalSeries\":40") && body.contains("\"newSeries\":40"), "{body}");
    let pushed = Request::put("/metrics/job/backup").body(Body::from("last_run 7\n"));
    let (status, text) = send(&pair.stored.direct, pushed.expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(pair.same("/api/v1/metrics").await.contains("last_run"));
    // What a console cannot do it refuses, and says where to go.
    for request in [
        Request::post("/api/v1/write"),
        Request::put("/metrics/job/x"),
        Request::post("/api/v1/import/prometheus"),
    ] {
        let request = request.body(Body::from("x 1\n")).expect("a request");
        let (status, text) = send(&pair.shown.remote, request).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{text}");
        assert!(text.contains("Send to http://b:9595 instead"), "{text}");
    }
    pair.stored.broker.stop();
}

fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_named_and_a_broker_that_is_gone_is_an_error_at_once() {
    let mut pair = Pair::start("limits:\n  max_query_bytes: 1048576\n").await;
    let filled = pair.stored.broker.clone();
    let end_ms = now_ms();
    tokio::task::spawn_blocking(move || {
        let mut batch = MetricBatch::default();
        for series in 0..40 {
            for step in 0..9_000_i64 {
                let noise = (step as u64 + series as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
                let value = f64::from_bits(0x3ff0_0000_0000_0000 | noise);
                batch.push(&labels("gauge_m", series), end_ms - 9_000 + step, value);
            }
        }
        let (done, stored) = std::sync::mpsc::channel();
        filled.ingest(DEFAULT_TENANT, &batch, move |result| {
            let _ = done.send(result.is_ok());
        });
        assert!(stored.recv().expect("answered"));
    })
    .await
    .expect("filled");
    let query = form_urlencoded("avg_over_time(gauge_m[1m])");
    let path = format!("/api/v1/query?query={query}&time={}", end_ms as f64 / 1e3);
    let (status, text) = ask(&pair.shown.remote, &path).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
    assert!(text.contains("limits.max_query_bytes"), "{text}");
    let query = form_urlencoded("avg_over_time(gauge_m{series=\"1\"}[1m])");
    let small = format!("/api/v1/query?query={query}&time={}", end_ms as f64 / 1e3);
    pair.same(&small).await;
    let held = ask(&pair.shown.remote, "/metrics").await.1;
    assert!(held.contains("\nwatchfire_console_held_bytes 0\n"), "all is given back: {held}");
    pair.stored.stop_port(0).await;
    let begin = Instant::now();
    let (status, text) = ask(&pair.shown.remote, &small).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.contains("no broker answers; tried 127.0.0.1:"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    while console::Data::ready(&pair.shown.brokers).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "still ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, text) = ask(&pair.shown.remote, "/-/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.starts_with("not ready: no broker answers"), "{text}");
    let (status, text) = ask(&pair.shown.remote, "/api/v1/agents").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    pair.stored.broker.stop();
}
