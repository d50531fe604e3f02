//! Queries that succeed, and their limits.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{import, launch};
use crate::harness::{Client, Launch, Scratch};

/// Long enough in any build to be looked at while it runs, and to be stopped.
const LONG: &str = "quantile_over_time(0.5, vector(1)[6h:1s])";
const STEPS: [(&str, &str); 3] = [("start", "0"), ("end", "11000"), ("step", "1")];

/// Texts of times and of values, as they go in and come out.
pub(super) fn times_and_numbers(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let cases: &[(&str, &str, &str)] = &[
        ("1", "0", r#""scalar","result":[0,"1"]"#),
        ("1%2B1", "4", r#""scalar","result":[4,"2"]"#),
        ("1", "1435781451.781", r#""scalar","result":[1435781451.781,"1"]"#),
        ("1", "1.5e9", r#""scalar","result":[1500000000,"1"]"#),
        ("1", "-1", r#""scalar","result":[-1,"1"]"#),
        ("1", "2015-07-01T20:10:51.781Z", r#""scalar","result":[1435781451.781,"1"]"#),
        ("1", "2015-07-01T20:10:51.7814567Z", r#""scalar","result":[1435781451.781,"1"]"#),
        ("1", "2015-07-02T04:10:51%2B08:00", r#""scalar","result":[1435781451,"1"]"#),
        ("1%2F0", "0", r#""scalar","result":[0,"+Inf"]"#),
        ("-1%2F0", "0", r#""scalar","result":[0,"-Inf"]"#),
        ("0%2F0", "0", r#""scalar","result":[0,"NaN"]"#),
        ("0.1", "0", r#""scalar","result":[0,"0.1"]"#),
        ("1e21", "0", r#""scalar","result":[0,"1000000000000000000000"]"#),
        ("1e-7", "0", r#""scalar","result":[0,"0.0000001"]"#),
        ("vector(1e21)", "0", r#""vector","result":[{"metric":{},"value":[0,"1e+21"]}]"#),
        ("vector(1e-7)", "0", r#""vector","result":[{"metric":{},"value":[0,"1e-07"]}]"#),
        ("vector(0.1)", "0.05", r#""vector","result":[{"metric":{},"value":[0.050,"0.1"]}]"#),
        ("%22a%5Cn%22", "0", r#""string","result":[0,"a\n"]"#),
        (
            "vector(1)%5B2s:1s%5D",
            "2",
            r#""matrix","result":[{"metric":{},"values":[[1,"1"],[2,"1"]]}]"#,
        ),
    ];
    for (query, time, data) in cases {
        let answer = client.get(&format!("/api/v1/query?query={query}&time={time}"))?;
        let wanted = format!(r#"{{"status":"success","data":{{"resultType":{data}}}}}"#);
        ensure!(answer.text() == wanted, "{query} at {time}: {}", answer.text());
    }
    for (step, values) in [
        ("5", r#"[0,"1"],[5,"1"],[10,"1"]"#),
        ("10s", r#"[0,"1"],[10,"1"]"#),
        ("0.1m", r#"[0,"1"],[6,"1"]"#),
        ("1h30m", r#"[0,"1"]"#),
        ("2500ms", r#"[0,"1"],[2.500,"1"],[5,"1"],[7.500,"1"],[10,"1"]"#),
    ] {
        let target = format!(
            "/api/v1/query_range?query=1&start=1970-01-01T00:00:00Z&end=10.000&step={step}"
        );
        let answer = client.get(&target)?;
        if step == "0.1m" {
            ensure!(answer.status == 400, "durations have no decimals: {}", answer.text());
            continue;
        }
        let wanted = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{values}]}}]}}}}"#
        );
        ensure!(answer.text() == wanted, "step {step}: {}", answer.text());
    }
    server.stop()?;
    Ok(format!("{} instants and 5 steps", cases.len()))
}

/// A GET, a POST form and a POST with its parameters in the URL answer the same.
pub(super) fn get_and_post(scratch: &Scratch) -> Result<String> {
    let server = launch(scratch).start()?;
    let client = server.client();
    import(&client, "a{x=\"1\"} 1 100000\na{x=\"2\"} 2 100000\nb 3 100000\n")?;
    let asked = [
        ("/api/v1/query", "query=a&time=100"),
        ("/api/v1/query_range", "query=sum(a)&start=90&end=110&step=5"),
        ("/api/v1/labels", "match[]=a&match[]=b"),
        ("/api/v1/series", "match[]=a&match[]=b"),
        ("/api/v1/format_query", "query=sum(a)by(x)"),
        ("/api/v1/parse_query", "query=sum(a)by(x)"),
    ];
    let headers = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    for (path, query) in asked {
        let target = format!("{path}?{query}");
        let got = client.get(&target)?;
        ensure!(got.status == 200, "GET {target}: {}", got.text());
        let data: Value = serde_json::from_slice(&got.body)?;
        ensure!(data["status"] == "success", "{data}");
        for (kind, posted) in [
            ("form", client.post(path, &headers, query.as_bytes())?),
            ("URL", client.post(&target, &[], &[])?),
        ] {
            ensure!(posted.body == got.body, "POST by {kind} of {target}: {}", posted.text());
        }
    }
    // A form wins over the URL, as in Go's FormValue.
    let both = client.post("/api/v1/query?query=1&time=0", &headers, b"query=2")?;
    ensure!(both.text().contains(r#"[0,"2"]"#), "{}", both.text());
    server.stop()?;
    Ok(format!("{} paths", asked.len()))
}

/// `limit` cuts with a warning, `stats` tells what a query cost.
pub(super) fn limit_and_stats(scratch: &Scratch) -> Result<String> {
    let server = launch(scratch).start()?;
    let client = server.client();
    let lines: String = (0..10).map(|x| format!("a{{x=\"{x}\"}} {x} 100000\n")).collect();
    import(&client, &lines)?;
    for (path, rest) in [
        ("/api/v1/query", "query=a&time=100"),
        ("/api/v1/query_range", "query=a&start=90&end=110&step=5"),
        ("/api/v1/series", "match[]=a"),
        ("/api/v1/label/x/values", ""),
        ("/api/v1/labels", ""),
    ] {
        let all = if path.ends_with("labels") { 2 } else { 10 };
        for (limit, wanted) in [(1, 1), (all, all), (all + 1, all), (0, all)] {
            let answer = client.get(&format!("{path}?{rest}&limit={limit}"))?;
            let body: Value = serde_json::from_slice(&answer.body)?;
            let list = body["data"]["result"].as_array().or_else(|| body["data"].as_array());
            let count = list.map_or(0, Vec::len);
            ensure!(count == wanted, "{path} limit {limit}: {count} of {wanted}");
            let warning = json!(["results truncated due to limit"]);
            let told = body.get("warnings") == Some(&warning);
            ensure!(told == (wanted < all), "{path} limit {limit}: {body}");
        }
    }
    let plain = client.data("/api/v1/query", &[("query", "a"), ("time", "100")])?;
    ensure!(plain.get("stats").is_none(), "statistics nobody asked for: {plain}");
    let asked = [("query", "sum(a)"), ("time", "100"), ("stats", "all")];
    let stats = client.data("/api/v1/query", &asked)?["stats"].take();
    ensure!(stats["samples"]["totalQueryableSamples"] == 10, "{stats}");
    ensure!(stats["samples"]["peakSamples"].as_u64() >= Some(1), "{stats}");
    ensure!(stats["timings"]["execTotalTime"].as_f64() > Some(0.0), "{stats}");
    let regex = [("query", "rate(a[1m])"), ("time", "100")];
    let (_, info) = client.envelope("/api/v1/query", &regex)?;
    let infos = json!([
        "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"a\" (1:6)"
    ]);
    ensure!(info.get("infos").is_none_or(|told| *told == infos), "{info}");
    server.stop()?;
    Ok("5 paths cut, statistics told".to_owned())
}

/// A query that takes longer than it may is 503.
pub(super) fn timeout(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data"))
        .config("limits:\n  query_timeout_ms: 700\n")
        .start()?;
    let client = server.client();
    let mut figures = Vec::new();
    for (timeout, least_ms) in [("0", 0), ("-1", 0), ("100ms", 100), ("0.3", 300), ("1h", 700)] {
        let begin = Instant::now();
        let form: Vec<_> =
            STEPS.into_iter().chain([("query", LONG), ("timeout", timeout)]).collect();
        let (status, body) = client.envelope("/api/v1/query_range", &form)?;
        let took = begin.elapsed();
        let text = body["error"].as_str().unwrap_or_default();
        ensure!(status == 503 && body["errorType"] == "timeout", "{timeout}: {status} {body}");
        ensure!(text.starts_with("query timed out in expression evaluation"), "{text}");
        let least = Duration::from_millis(least_ms);
        ensure!(took >= least && took < least + Duration::from_secs(1), "{timeout}: {took:?}");
        figures.push(format!("{timeout}: {} ms", took.as_millis()));
    }
    let quiet = wait_quiet(&client)?;
    ensure!(quiet < Duration::from_secs(1), "what timed out still ran for {quiet:?}");
    server.stop()?;
    Ok(figures.join(", "))
}

/// A client that closes its connection stops its query.
pub(super) fn cancellation(scratch: &Scratch) -> Result<String> {
    let server = launch(scratch).start()?;
    let client = server.client();
    let mut longest = Duration::ZERO;
    for method in ["GET", "POST"] {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(STEPS)
            .append_pair("query", LONG)
            .finish();
        let mut stream = client.connect()?;
        let host = client.address();
        let request = if method == "GET" {
            format!("GET /api/v1/query_range?{form} HTTP/1.1\r\nHost: {host}\r\n\r\n")
        } else {
            format!(
                "POST /api/v1/query_range HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
                form.len()
            )
        };
        stream.write_all(request.as_bytes())?;
        let begin = Instant::now();
        while client.metric("watchfire_console_queries_running")? == 0.0 {
            ensure!(begin.elapsed() < Duration::from_secs(5), "{method}: the query never ran");
        }
        // Into the middle of the evaluation.
        std::thread::sleep(Duration::from_millis(300));
        ensure!(client.metric("watchfire_console_queries_running")? == 1.0, "too short a query");
        drop(stream);
        longest = longest.max(wait_quiet(&client)?);
    }
    ensure!(longest < Duration::from_secs(1), "stopped after {longest:?}, wanted 1 s");
    ensure!(client.metric("watchfire_console_queries_cancelled_total")? == 2.0, "not counted");
    server.stop()?;
    Ok(format!("stopped within {} ms", longest.as_millis()))
}

/// Waits until no query runs and yields how long that took.
fn wait_quiet(client: &Client) -> Result<Duration> {
    let begin = Instant::now();
    while client.metric("watchfire_console_queries_running")? > 0.0 {
        ensure!(begin.elapsed() < Duration::from_secs(10), "a query still runs after 10 s");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(begin.elapsed())
}
