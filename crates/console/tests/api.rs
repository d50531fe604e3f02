//! The query API over a small store in memory: what a client sees of limits, faults and gaps.

mod names;
mod slow_live;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use console::{About, Cardinality, Console, Data, Executor, Families, LiveFeed, Snapshot, Work};
use http::{Request, header};
use http_body_util::BodyExt;
use model::{
    BestNames, CensusEntry, CensusReport, CensusRequest, Exemplar, FoundName, Labels, Limits,
    Matcher, MetricMetadata, MetricType, NameSearch, SeriesExemplars, TenantName, TimeRange,
};
use net::Routes;
use promql::{Columns, SelectRequest, SeriesSet, Source, SourceError};
use serde_json::{Value, json};
use tower::ServiceExt;

const HOUR_MS: i64 = 3_600_000;
/// Names that are found, though they have no samples.
const METRICS: [&str; 4] =
    ["http_requests_total", "node_cpu_seconds", "rpc_seconds_bucket", "http.odd"];
const NOW_MS: i64 = 1_000 * HOUR_MS;

/// `m{s="0"}` … `m{s="4"}` with a sample each minute of the last two hours; a metric called `slow`
/// takes its time, one called `broken` panics. What is older than a day was lost.
#[derive(Clone)]
struct Memory;

fn all_labels() -> Vec<Labels> {
    let names = (0..5).map(|n: i32| n.to_string());
    names
        .map(|n| Labels::from_pairs([("__name__", "m"), ("s", n.as_str())]).expect("valid"))
        .collect()
}

fn selected(matchers: &[Matcher]) -> Vec<Labels> {
    let matches = |labels: &Labels| {
        matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
    };
    all_labels().into_iter().filter(matches).collect()
}

struct Set(Vec<Labels>, TimeRange);

impl SeriesSet for Set {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.0[index]
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        for t_ms in (NOW_MS - 2 * HOUR_MS..=NOW_MS).step_by(60_000) {
            if self.1.contains(t_ms) {
                out.timestamps_ms.push(t_ms);
                out.values.push(index as f64);
            }
        }
        Ok(())
    }

    /// What is older than a day is kept as rollups, where it was not lost.
    fn is_coarse(&self) -> bool {
        self.1.start_ms < NOW_MS - 24 * HOUR_MS
    }
}

impl Source for Memory {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let asks_for = |name: &str| request.matchers.iter().any(|m| m.matches(name));
        if asks_for("slow") && !asks_for("m") {
            std::thread::sleep(Duration::from_millis(300));
        }
        if asks_for("broken") && !asks_for("m") {
            // A panic without the noise on the screen, which takes longer than the query may.
            std::panic::resume_unwind(Box::new("a defect of the store"));
        }
        let range = TimeRange::new(request.start_ms, request.end_ms + 1);
        Ok(Arc::new(Set(selected(request.matchers), range)))
    }
}

impl Snapshot for Memory {
    fn label_names(
        &self,
        _: &[Vec<Matcher>],
        _: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        Ok(["__name__", "s"].into_iter().take(limit).map(str::to_owned).collect())
    }

    fn label_values(
        &self,
        name: &str,
        _: &[Vec<Matcher>],
        _: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, SourceError> {
        let all = all_labels();
        Ok(all.iter().filter_map(|l| l.get(name)).take(limit).map(str::to_owned).collect())
    }

    fn search(
        &self,
        of: Option<&str>,
        _: &[Vec<Matcher>],
        _: TimeRange,
        search: &NameSearch,
    ) -> Result<Vec<FoundName>, SourceError> {
        let names = match of {
            None => self.label_names(&[], TimeRange::all(), usize::MAX)?,
            Some("__name__") => METRICS.map(str::to_owned).to_vec(),
            Some(name) => self.label_values(name, &[], TimeRange::all(), usize::MAX)?,
        };
        let mut best = BestNames::new(search);
        names.iter().for_each(|name| best.offer(name));
        Ok(best.into_found())
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        _: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, SourceError> {
        Ok(selectors.iter().flat_map(|one| selected(one)).take(limit).collect())
    }

    /// One exemplar of each series, at the time of its number.
    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<SeriesExemplars>, SourceError> {
        let of = |labels: Labels| {
            let n: i64 = labels.get("s").expect("all have it").parse().expect("a number");
            let own = Labels::from_pairs([("trace_id", "\"x\"")]).expect("valid");
            let value = [0.5, 1e21, f64::NAN, f64::INFINITY, -3.0][n as usize];
            let exemplar = Exemplar { labels: own, value, t_ms: n * 1_500, is_dated: true };
            let is_in = range.contains(exemplar.t_ms);
            is_in.then(|| SeriesExemplars { labels, exemplars: vec![exemplar] })
        };
        Ok(selectors.iter().flat_map(|one| selected(one)).filter_map(of).collect())
    }

    fn missing(&self, range: TimeRange) -> Vec<String> {
        let lost = range.start_ms < NOW_MS - 24 * HOUR_MS;
        lost.then(|| "partial answer: a block was damaged".to_owned()).into_iter().collect()
    }

    fn census(&self, request: &CensusRequest) -> Result<CensusReport, SourceError> {
        let told = |name: String, count| CensusEntry { name, count, before: 2, new: 1 };
        let focus = request.focus.iter().map(|label| told(label.clone(), 3)).collect();
        Ok(CensusReport {
            series: told(String::new(), request.limit as u64),
            label_pairs: told(String::new(), request.range.start_ms.unsigned_abs()),
            series_by_metric: vec![told(
                format!("{:?}", request.order),
                request.selectors.len() as u64,
            )],
            series_by_focus_value: focus,
            ..CensusReport::default()
        })
    }

    fn cardinality(&self, _: usize) -> Result<Cardinality, SourceError> {
        Ok(Cardinality::default())
    }
}

impl Data for Memory {
    fn snapshot(&self, _: TenantName, _: &Work) -> Result<Arc<dyn Snapshot>, SourceError> {
        Ok(Arc::new(Memory))
    }

    fn metadata(&self, _: TenantName) -> Result<Families, SourceError> {
        let about = |metric: &str, kind, unit: &str| MetricMetadata {
            metric: metric.to_owned(),
            kind,
            help: format!("What {metric} is."),
            unit: unit.to_owned(),
        };
        let known = vec![
            about("http_requests", MetricType::Counter, ""),
            about("rpc_seconds", MetricType::Histogram, "seconds"),
            about("unknown_of_nobody", MetricType::Gauge, ""),
        ];
        Ok(Families { known, away: Vec::new() })
    }

    fn subscribe(&self, _: TenantName, _: Vec<Matcher>) -> Result<Box<dyn LiveFeed>, SourceError> {
        Err(SourceError::Limit("nothing is live here".to_owned()))
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

fn executor() -> Arc<Executor> {
    let limits = Limits { query_timeout_ms: 100, ..Limits::default() };
    Arc::new(Executor::new(Arc::new(Memory), limits, governor::Governor::unlimited(), 4, 2))
}

fn routes(executor: Arc<Executor>) -> Routes {
    let console = Console::new(executor, About::default(), || NOW_MS, Box::new(|| 0));
    let console = Arc::new(console);
    console::api_routes(&console).merge(console::pages(&console))
}

fn router(executor: Arc<Executor>) -> Router {
    net::auth::without_login(routes(executor).into_router())
}

async fn ask(router: &Router, request: Request<Body>) -> (u16, Value) {
    let response = router.clone().oneshot(request).await.expect("a router always answers");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body in memory").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(path: &str) -> (u16, Value) {
    let request = Request::get(path).body(Body::empty()).expect("a valid request");
    ask(&router(executor()), request).await
}

async fn post(path: &str, form: String) -> (u16, Value) {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .expect("a valid request");
    ask(&router(executor()), request).await
}

#[tokio::test]
async fn answers_say_what_is_missing_wherever_a_query_looks() {
    for query in ["m[2d]", "m%20offset%202d", "max_over_time(m[30h:1h])", "m%20@%200"] {
        let (status, answer) = get(&format!("/api/v1/query?query={query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        assert_eq!(answer["warnings"], json!(["partial answer: a block was damaged"]), "{query}");
    }
    for query in ["m", "sum(m)", "1", "m[1h]"] {
        let (_, answer) = get(&format!("/api/v1/query?query={query}")).await;
        assert_eq!(answer["warnings"], Value::Null, "{query}: {answer}");
    }
    let (_, answer) = get("/api/v1/label/s/values?start=0&limit=2").await;
    let expected = ["partial answer: a block was damaged", "results truncated due to limit"];
    assert_eq!((&answer["data"], &answer["warnings"]), (&json!(["0", "1"]), &json!(expected)));
}

#[tokio::test]
async fn lists_are_cut_to_the_limit_and_say_so() {
    let recent = format!("start={}", (NOW_MS - HOUR_MS) / 1_000);
    let truncated = json!(["results truncated due to limit"]);
    let (_, answer) = get(&format!("/api/v1/series?match[]=m&limit=1&{recent}")).await;
    assert_eq!(answer["data"], json!([{"__name__": "m", "s": "0"}]));
    assert_eq!(answer["warnings"], truncated);
    let (_, answer) = get(&format!("/api/v1/series?match[]=m&limit=5&{recent}")).await;
    assert_eq!(
        (answer["data"].as_array().map(Vec::len), &answer["warnings"]),
        (Some(5), &Value::Null)
    );
    let (_, answer) = get(&format!("/api/v1/labels?limit=1&{recent}")).await;
    assert_eq!((&answer["data"], &answer["warnings"]), (&json!(["__name__"]), &truncated));
}

#[tokio::test]
async fn exemplars_are_written_as_prometheus_writes_them() {
    let ask = |query: &str| format!("/api/v1/query_exemplars?query={query}");
    let exemplar = |value: &str, t: serde_json::Number| json!([{"labels": {"trace_id": "\"x\""}, "value": value, "timestamp": t}]);
    let series = |n: u32, value: &str, t: &str| {
        let t: serde_json::Number = serde_json::from_str(t).expect("a number");
        json!({"seriesLabels": {"__name__": "m", "s": n.to_string()}, "exemplars": exemplar(value, t)})
    };
    let all = [
        series(0, "0.5", "0"),
        series(1, "1e+21", "1.500"),
        series(2, "NaN", "3"),
        series(3, "+Inf", "4.500"),
        series(4, "-3", "6"),
    ];
    let (status, answer) = get(&ask("sum(rate(m[5m]))")).await;
    assert_eq!((status, &answer), (200, &json!({"status": "success", "data": all})));
    // The end belongs to the range; a form says the same.
    let (_, answer) = get(&format!("{}&start=1.5&end=4.5", ask("m"))).await;
    assert_eq!(answer["data"], json!(all[1..4]));
    let (_, answer) =
        post("/api/v1/query_exemplars", "query=m{s=\"1\"}/m{s=\"2\"}".to_owned()).await;
    assert_eq!(answer["data"], json!(all[1..3]));
    let (_, answer) = get(&ask("nothing")).await;
    assert_eq!(answer, json!({"status": "success", "data": []}));
    // No selector, no data.
    let (status, answer) = get(&ask("1%2B2")).await;
    assert_eq!((status, answer), (204, Value::Null));
    for (path, error) in [
        (ask("m&start=2&end=1"), "end timestamp must not be before start timestamp"),
        (ask("m%7B"), "1:3: parse error: unexpected end of input inside braces"),
        (ask(""), "no expression found in input"),
        (ask("m&start=x"), "invalid parameter \"start\": invalid time value for 'start'"),
    ] {
        let (status, answer) = get(&path).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && told.contains(error), "{path}: {answer}");
        assert_eq!(answer["errorType"], "bad_data");
    }
}

#[tokio::test]
async fn requests_of_too_many_parts_are_refused_by_name() {
    let (status, answer) = post("/api/v1/series", "match[]=m&".repeat(1_001)).await;
    assert_eq!(status, 400);
    let error = answer["error"].as_str().expect("an error");
    assert!(
        error.contains("match[]") && error.contains("1001") && error.contains("1000"),
        "{error}"
    );
    let (status, answer) = post("/api/v1/query", "a&".repeat(20_000) + "query=1").await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().expect("an error").contains("10000"), "{answer}");
    let (status, answer) = post("/api/v1/query", format!("query={}", "1".repeat(5 << 20))).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().expect("an error").contains("4194304"), "{answer}");
}

#[tokio::test]
async fn a_slow_query_times_out_and_a_defect_is_an_answer() {
    let executor = executor();
    let router = router(Arc::clone(&executor));
    let request = |query: &str| {
        let path = format!("/api/v1/query?query={query}");
        Request::get(path).body(Body::empty()).expect("a valid request")
    };
    let (status, answer) = ask(&router, request("slow")).await;
    assert_eq!((status, &answer["errorType"]), (503, &json!("timeout")), "{answer}");
    let error = answer["error"].as_str().expect("an error");
    assert!(error.contains("100 ms") && error.contains("limits.query_timeout_ms"), "{error}");
    let (status, answer) = ask(&router, request("broken")).await;
    assert_eq!((status, &answer["errorType"]), (500, &json!("internal")), "{answer}");
    let (status, _) = ask(&router, request("m")).await;
    assert_eq!(status, 200, "others are not harmed");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let rows = executor.metrics();
    let value = |name| rows.iter().find(|row| row.0 == name).expect("it is there").3;
    assert_eq!(value("watchfire_console_queries_running"), 0.0);
    assert_eq!(value("watchfire_console_queries_timed_out_total"), 1.0);
}

#[tokio::test]
async fn statistics_are_told_as_prometheus_tells_them() {
    let range = format!("start={0}&end={1}&step=30", NOW_MS / 1_000 - 60, NOW_MS / 1_000);
    let ask = |stats: &str| {
        format!("/api/v1/query_range?query=sum(sum_over_time(m%5B2m%5D))&{range}{stats}")
    };
    let (_, plain) = get(&ask("")).await;
    assert_eq!(plain["data"].get("stats"), None);
    let (_, some) = get(&ask("&stats=1")).await;
    assert_eq!(some["data"]["result"], plain["data"]["result"]);
    let stats = &some["data"]["stats"];
    assert_eq!(stats["samples"].get("totalQueryableSamplesPerStep"), None, "{stats}");
    // Five series, two samples in each of three windows, which overlap: three samples were read.
    assert_eq!(stats["samples"]["totalQueryableSamples"], json!(30));
    assert_eq!(stats["samples"]["samplesRead"], json!(15));
    let (_, all) = get(&ask("&stats=all")).await;
    let now = NOW_MS as f64 / 1_000.0;
    let steps = json!([[now - 60.0, 10], [now - 30.0, 10], [now, 10]]);
    let stats = &all["data"]["stats"];
    assert_eq!(stats["samples"]["totalQueryableSamplesPerStep"], steps);
    assert!(stats["samples"]["peakSamples"].as_u64() > Some(0), "{stats}");
    let timing = |name: &str| stats["timings"][name].as_f64().expect(name);
    let parts = ["queryPreparationTime", "innerEvalTime", "resultSortTime"].map(timing);
    assert!((timing("evalTotalTime") - parts.iter().sum::<f64>()).abs() < 1e-6, "{stats}");
    let total = timing("execQueueTime") + timing("evalTotalTime");
    assert!((timing("execTotalTime") - total).abs() < 1e-6 && total > 0.0, "{stats}");
    let (_, instant) = get("/api/v1/query?query=m&stats=all").await;
    let samples = &instant["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamplesPerStep"], json!([[now, 5]]));
}

#[tokio::test]
async fn a_query_is_explained_part_by_part() {
    let query = "topk(2, rate(m{s=~\"[0-3]\"}[5m])) > bool 1";
    let times = format!("start={0}&end={1}&step=60", NOW_MS / 1_000 - 600, NOW_MS / 1_000);
    let form = form_urlencoded::Serializer::new(times.clone()).append_pair("query", query).finish();
    let (status, answer) = post("/api/v1/query_explain", form).await;
    assert_eq!(status, 200, "{answer}");
    let data = &answer["data"];
    assert_eq!((&data["resultType"], &data["series"]), (&json!("matrix"), &json!(2)));
    assert_eq!((&data["query"], &data["step"]), (&json!(query), &json!(60.0)));
    assert_eq!(data["points"], json!(22));
    let infos = answer["infos"].as_array().expect("m is no name of a counter");
    assert!(infos[0].as_str().is_some_and(|text| text.contains("might not be a counter")));
    let mut node = &data["tree"];
    let mut shown = Vec::new();
    while !node.is_null() {
        let of = |name: &str| node[name].as_str().unwrap_or("-").to_owned();
        shown.push(format!("{} {}: {}", of("kind"), of("name"), of("strategy")));
        let text = &query[node["start"].as_u64().expect("a place") as usize
            ..node["end"].as_u64().expect("a place") as usize];
        assert_eq!(node["expr"], json!(text));
        let of = |name: &str| node[name].as_f64().expect("a figure");
        let below: f64 = node["children"]
            .as_array()
            .expect("a list")
            .iter()
            .fold(0.0, |sum, c| sum + c["total_ms"].as_f64().expect("a figure"));
        assert!((of("total_ms") - of("self_ms") - below).abs() < 0.01, "{node}");
        // The last child is the one with the data but for the comparison.
        let children = node["children"].as_array().expect("a list");
        node = children.iter().find(|c| c["type"] != "scalar").unwrap_or(&Value::Null);
    }
    let expected = [
        "binary >: rows",
        "aggregation topk: fused",
        "call rate: fused",
        "range_selector m: fused",
    ];
    assert_eq!(shown, expected);
    let selector = &data["tree"]["children"][0]["children"][1]["children"][0];
    assert_eq!((&selector["series_in"], &selector["series_out"]), (&json!(4), &json!(4)));
    let totals = &data["totals"];
    assert_eq!(selector["samples_read"], totals["samples_read"]);
    assert_eq!(totals["samples_read"], json!(60));
    assert!(totals["duration_ms"].as_f64() > Some(0.0), "{totals}");
    let (_, answer) = get("/api/v1/query_explain?query=m").await;
    assert_eq!(
        (&answer["data"]["resultType"], &answer["data"]["time"]),
        (&json!("vector"), &json!(NOW_MS as f64 / 1e3))
    );
    // As deep as the parser lets a query be.
    let deep =
        (0..300).rev().map(|depth| format!("{}m", "abs(".repeat(depth)) + &")".repeat(depth));
    let deep = deep.into_iter().find(|query| promql::parse(query).is_ok()).expect("some");
    let (status, _) = get(&format!("/api/v1/query_explain?query={deep}")).await;
    assert_eq!(status, 200, "{deep}");
    for (path, error) in [
        ("query=m%7B", "unexpected end of input inside braces"),
        ("query=m&start=0&step=1", "invalid parameter \"end\""),
        ("query=m%5B1m%5D&start=0&end=1&step=1", "must be Scalar or instant Vector"),
    ] {
        let (status, answer) = get(&format!("/api/v1/query_explain?{path}")).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && told.contains(error), "{path}: {answer}");
    }
}

#[tokio::test]
async fn whatever_reads_counts_its_samples() {
    let router = router(executor());
    let request = |path: &str| Request::get(path).body(Body::empty()).expect("a valid request");
    let recent = format!("start={}", (NOW_MS - HOUR_MS) / 1_000);
    for path in [format!("/api/v1/export?match[]=m&{recent}"), "/federate?match[]=m".to_owned()] {
        let (status, _) = ask(&router, request(&path)).await;
        assert_eq!(status, 200, "{path}");
    }
    let (_, top) = ask(&router, request("/api/v1/status/top_queries")).await;
    let rows = top["topBySumSamples"].as_array().expect("a list");
    let of = |text: &str| {
        let row = rows.iter().find(|row| row["query"].as_str().is_some_and(|q| q.contains(text)));
        row.expect("it ran")["sumSamples"].as_u64().expect("a number")
    };
    assert_eq!(of("/api/v1/export"), 5 * 61);
    assert_eq!(of("/federate"), 5 * 6);
}

#[tokio::test]
async fn exports_take_the_parameters_of_victoriametrics() {
    let router = router(executor());
    let recent = format!("start={}", (NOW_MS - HOUR_MS) / 1_000);
    let lines = async |parameters: &str| {
        let path = format!("/api/v1/export?{parameters}&{recent}");
        let request = Request::get(&path).body(Body::empty()).expect("a valid request");
        let response = router.clone().oneshot(request).await.expect("answers");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 200, "{path}: {text}");
        let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        text.lines().map(line).collect::<Vec<_>>()
    };
    let whole = lines("match[]=m").await;
    assert_eq!(whole.len(), 5);
    assert_eq!(lines("match=m").await, whole);
    assert_eq!(lines("match=m&max_rows_per_line=0").await, whole);
    let parts = lines("match=m&max_rows_per_line=20").await;
    let samples = |line: &Value| line["values"].as_array().expect("a list").len();
    assert_eq!(parts.iter().map(samples).collect::<Vec<_>>(), [20, 20, 20, 1].repeat(5));
    let timestamps = |lines: &[Value]| -> Vec<Value> {
        lines
            .iter()
            .flat_map(|line| line["timestamps"].as_array().expect("a list").clone())
            .collect()
    };
    assert_eq!(timestamps(&parts), timestamps(&whole));
    let (status, answer) = get("/api/v1/export?match=m&max_rows_per_line=x").await;
    assert!(status == 400 && answer["error"].as_str().is_some(), "{answer}");
}

#[tokio::test]
async fn exports_say_first_what_they_lack() {
    let router = router(executor());
    let recent = format!("&start={}", (NOW_MS - HOUR_MS) / 1_000);
    for (more, told) in [("", &["a block was damaged", "kept as rollups only"][..]), (&recent, &[])]
    {
        let path = format!("/api/v1/export?match[]=m{more}");
        let request = Request::get(path).body(Body::empty()).expect("a valid request");
        let response = router.clone().oneshot(request).await.expect("a router always answers");
        let warnings = response.headers().get_all(header::WARNING).iter();
        let warnings: Vec<&str> = warnings.filter_map(|value| value.to_str().ok()).collect();
        assert_eq!((response.status().as_u16(), warnings.len()), (200, told.len()), "{warnings:?}");
        assert!(
            warnings.iter().zip(told).all(|(one, wanted)| one.contains(wanted)),
            "{warnings:?}"
        );
    }
}

#[tokio::test]
async fn where_the_series_of_a_day_come_from() {
    let ask = async |query: &str| get(&format!("/api/v1/status/tsdb?{query}")).await;
    let (status, body) =
        ask("topN=7&date=1970-01-03&match%5B%5D=up&match%5B%5D=%7Ba%3D%22b%22%7D&focusLabel=pod")
            .await;
    assert_eq!(status, 200, "{body}");
    let data = &body["data"];
    assert_eq!(data["totalSeries"], 7);
    assert_eq!(data["totalLabelValuePairs"], 2 * 24 * HOUR_MS);
    assert_eq!(data["seriesCountByMetricName"], json!([{ "name": "Count", "value": 2 }]));
    assert_eq!(data["seriesCountByFocusLabelValue"], json!([{ "name": "pod", "value": 3 }]));
    assert!(data.get("newSeries").is_none());
    let (_, body) = ask("date=2026-11-28&compare=2026-11-27&sort=change").await;
    let data = &body["data"];
    let wanted = json!([{ "name": "Change", "value": 0, "previous": 2, "new": 1 }]);
    assert_eq!(data["seriesCountByMetricName"], wanted);
    let totals = ["totalSeries", "totalSeriesPrevious", "newSeries", "endedSeries"];
    assert_eq!(totals.map(|name| data[name].as_u64()), [10, 2, 1, 0].map(Some));
    for query in
        ["topN=0", "topN=x", "date=yesterday", "sort=new", "sort=size", "match%5B%5D=%7B%7D"]
    {
        let (status, body) = ask(query).await;
        assert_eq!((status, &body["errorType"]), (400, &json!("bad_data")), "{query}: {body}");
    }
    // Without any of these parameters the answer is Prometheus'.
    assert!(ask("limit=3").await.1["data"]["headStats"].is_object());
}
