//! Names found by a part of them, and what is proposed while a query is written.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::import;
use crate::harness::{Client, Launch, Scratch, now_ms};

fn lines(client: &Client, target: &str) -> Result<Vec<Value>> {
    let answer = client.get(target)?;
    ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.text());
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(kind == "application/x-ndjson; charset=utf-8", "{target} is {kind}");
    answer.text().lines().map(|line| serde_json::from_str(line).context("not JSON")).collect()
}

fn names(lines: &[Value]) -> Vec<&str> {
    let rows = lines.iter().filter_map(|line| line["results"].as_array()).flatten();
    rows.filter_map(|row| row["name"].as_str()).collect()
}

/// Some series of now, and one of two days ago.
fn fill(client: &Client) -> Result<()> {
    let old_s = (now_ms() - 48 * 3_600_000) / 1_000;
    import(
        client,
        "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
         http_requests_total{code=\"200\",path=\"/a\"} 1\n\
         http_requests_total{code=\"500\",path=\"/it's \\\"b\\\"\"} 1\n\
         # HELP rpc_seconds Time of calls.\n# TYPE rpc_seconds histogram\n\
         rpc_seconds_bucket{le=\"1\"} 1\nrpc_seconds_bucket{le=\"+Inf\"} 1\n\
         rpc_seconds_count 1\nrpc_seconds_sum 1\n{\"with.dot\",\"k8s.pod\"=\"p\"} 1\n",
    )?;
    import(client, &format!("gone_total 1 {}\n", old_s * 1_000))
}

pub(super) fn searched(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    fill(&client)?;
    let all = lines(&client, "/api/v1/search/metric_names?batch_size=2&limit=5")?;
    let expected = [
        "gone_total",
        "http_requests_total",
        "rpc_seconds_bucket",
        "rpc_seconds_count",
        "rpc_seconds_sum",
    ];
    // The head counts as a whole, and it has them all.
    ensure!(names(&all) == expected && all.len() == 4, "{all:?}");
    ensure!(all[3] == json!({"status": "success", "has_more": true}), "{}", all[3]);
    let asked = "search[]=reqtot&sort_by=score&include_score=true&include_metadata=true";
    let found = lines(&client, &format!("/api/v1/search/metric_names?{asked}"))?;
    let row = &found[0]["results"][0];
    ensure!(row["name"] == "http_requests_total" && row["type"] == "counter", "{row}");
    ensure!(row["help"] == "Requests." && row["score"].as_f64() > Some(0.3), "{row}");
    let asked = "search[]=SEC&case_sensitive=false&include_metadata=true&sort_by=score";
    let found = lines(&client, &format!("/api/v1/search/metric_names?{asked}"))?;
    ensure!(names(&found).len() == 3, "{found:?}");
    ensure!(found[0]["results"][0]["type"] == "histogram", "{found:?}");
    let similar = "search[]=htpt_request&fuzz_alg=jarowinkler&fuzz_threshold=85";
    let found = lines(&client, &format!("/api/v1/search/metric_names?{similar}"))?;
    ensure!(names(&found) == ["http_requests_total"], "{found:?}");
    let labels =
        "/api/v1/search/label_names?match[]=http_requests_total&sort_by=alpha&sort_dir=dsc";
    ensure!(names(&lines(&client, labels)?) == ["path", "code", "__name__"], "labels");
    let values = "/api/v1/search/label_values?label=code&search[]=5";
    let found = lines(&client, values)?;
    ensure!(found[0] == json!({"results": [{"value": "500"}]}), "{found:?}");
    let form = "label=path&match%5B%5D=http_requests_total%7Bcode%3D%22200%22%7D";
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let answer = client.post("/api/v1/search/label_values", &kind, form.as_bytes())?;
    ensure!(answer.text().starts_with("{\"results\":[{\"value\":\"/a\"}]}\n"), "{}", answer.text());
    let none = lines(&client, "/api/v1/search/metric_names?start=0&end=1000")?;
    ensure!(none == [json!({"results": []}), json!({"status": "success", "has_more": false})]);
    server.stop()?;
    Ok("9 searches".to_owned())
}

pub(super) fn completed(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    fill(&client)?;
    // What is written, `|` being the place; what comes of the first proposal.
    let cases = [
        ("rate(http_r|", "rate(http_requests_total"),
        ("rat|", "rate("),
        ("tim|", "time()"),
        ("sum by (p|) (http_requests_total)", "sum by (path) (http_requests_total)"),
        ("http_requests_total{pa|", "http_requests_total{path="),
        ("http_requests_total{path=|", "http_requests_total{path=\"/a\""),
        (
            "http_requests_total{code=\"500\", path=\"it|",
            "http_requests_total{code=\"500\", path=\"/it's \\\"b\\\"\"",
        ),
        ("http_requests_total{path='b|'}", "http_requests_total{path='/it\\'s \"b\"'}"),
        ("wit|", "{\"with.dot\"}"),
        ("{\"with.dot\", k|}", "{\"with.dot\", \"k8s.pod\"=}"),
        ("http_requests_total[5|", "http_requests_total[5m"),
        ("http_requests_total off|", "http_requests_total offset "),
        ("up * on (code) group_l| gone", "up * on (code) group_left ( gone"),
        ("温度 + rat|", "温度 + rate("),
    ];
    for (marked, wanted) in cases {
        let (before, behind) = marked.split_once('|').context("a place")?;
        let query = format!("{before}{behind}");
        let pos = before.encode_utf16().count().to_string();
        let data = client.data("/api/v1/completions", &[("query", &query), ("pos", &pos)])?;
        let units: Vec<u16> = query.encode_utf16().collect();
        let at = |field: &str| data[field].as_u64().map(|at| at as usize).context("a place");
        let (from, to) = (at("from")?, at("to")?);
        let is_minutes = |item: &&Value| !before.ends_with("[5") || item["label"] == "5m";
        let items = data["items"].as_array().context("a list")?;
        let item = items.iter().find(is_minutes).with_context(|| format!("{marked}: {data}"))?;
        let insert = item["insert"].as_str().context("a text")?;
        let head = String::from_utf16(&units[..from])?;
        let tail = String::from_utf16(&units[to..])?;
        let became = format!("{head}{insert}{tail}");
        ensure!(became == wanted, "{marked} became {became}: {data}");
    }
    let data = client.data("/api/v1/completions", &[("query", "rpc_seconds_b")])?;
    let item = &data["items"][0];
    ensure!(item["detail"] == "histogram" && item["help"] == "Time of calls.", "{item}");
    let data = client.data("/api/v1/completions", &[("query", "rate"), ("lang", "zh")])?;
    ensure!(data["items"][0]["help"].as_str().is_some_and(|help| help.contains("每秒")), "{data}");
    let earlier = [("query", "htt"), ("start", "0"), ("end", "1000")];
    let data = client.data("/api/v1/completions", &earlier)?;
    let is_metric = |item: &Value| item["kind"] == "metric";
    ensure!(!data["items"].as_array().is_some_and(|all| all.iter().any(is_metric)), "{data}");
    server.stop()?;
    Ok(format!("{} places", cases.len() + 3))
}
