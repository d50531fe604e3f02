//! What Grafana's Loki data source asks, in its order and forms; and lines as they come.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Client, Launch, Scratch, now_ms};
use crate::live::websocket::WebSocket;

const SELECTOR: &str = r#"{app="shop"}"#;

/// Stores lines, a second apart, the newest now.
fn push(client: &Client, lines: &[&str], metadata: &Value) -> Result<()> {
    let now_ns = now_ms() * 1_000_000;
    let first_ns = now_ns - lines.len() as i64 * 1_000_000_000;
    let values: Vec<Value> = (1..)
        .zip(lines)
        .map(|(n, line)| json!([(first_ns + n * 1_000_000_000).to_string(), line, metadata]))
        .collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]});
    let headers = [("Content-Type", "application/json")];
    let answer = client.post("/loki/api/v1/push", &headers, body.to_string().as_bytes())?;
    ensure!(answer.status == 204, "push: {} {}", answer.status, answer.text());
    Ok(())
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs.iter().copied()).finish()
}

/// Asks as Grafana does: with the header that wants labels by category, and steps in milliseconds.
fn ask(client: &Client, path: &str, pairs: &[(&str, &str)]) -> Result<Value> {
    let target = format!("/loki/api/v1/{path}?{}", encoded(pairs));
    let headers = [("X-Loki-Response-Encoding-Flags", "categorize-labels")];
    let answer = client.request("GET", &target, &headers, &[])?;
    ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.text());
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Save & test, the query editor, a page of lines with its histogram, before and after a kill.
pub(super) fn data_source(scratch: &Scratch) -> Result<String> {
    let data = scratch.join("data");
    let server = Launch::broker(&data).start()?;
    let client = server.client();
    let test = ask(&client, "query", &[("query", "vector(1)+vector(1)"), ("time", "4")])?;
    ensure!(test["data"]["result"] == json!([{"metric": {}, "value": [4, "2"]}]), "{test}");
    let lines = [
        r#"{"level":"error","status":500,"msg":"needle <b>"}"#,
        r#"{"level":"info","status":200,"msg":"fine"}"#,
        "level=info msg=\"not JSON\"",
    ];
    push(&client, &lines, &json!({"trace_id": "t1"}))?;
    let limits = ask(&client, "drilldown-limits", &[])?;
    ensure!(limits["limits"]["retention_period"] == "31d", "{limits}");
    session(&client)?;
    let other = client.for_tenant("other");
    let found = ask(&other, "query_range", &[("query", SELECTOR)])?;
    ensure!(found["data"]["result"] == json!([]), "another tenant sees {found}");
    server.kill()?;
    let server = Launch::broker(&data).start()?;
    session(&server.client())?;
    server.stop()?;
    Ok("save & test, editor, lines, histogram; again after a kill".to_owned())
}

fn session(client: &Client) -> Result<()> {
    let labels = ask(client, "labels", &[("query", SELECTOR)])?;
    ensure!(labels["data"] == json!(["app", "service_name"]), "{labels}");
    let series = ask(client, "series", &[("match[]", SELECTOR)])?;
    ensure!(series["data"] == json!([{"app": "shop", "service_name": "shop"}]), "{series}");
    let stats = ask(client, "index/stats", &[("query", SELECTOR)])?;
    ensure!(stats["streams"] == 1 && stats["entries"] == 3, "{stats}");
    let query = r#"{app="shop"} | json | __error__="" | status >= 500"#;
    let found = ask(client, "query_range", &[("query", query), ("direction", "backward")])?;
    ensure!(found["data"]["encodingFlags"] == json!(["categorize-labels"]), "{found}");
    let result = &found["data"]["result"];
    ensure!(result[0]["stream"] == json!({"app": "shop", "service_name": "shop"}), "{result}");
    let extra = &result[0]["values"][0][2];
    let metadata = json!({"detected_level": "error", "trace_id": "t1"});
    ensure!(extra["structuredMetadata"] == metadata, "{extra}");
    ensure!(extra["parsed"]["status"] == "500", "{extra}");
    let histogram = r#"sum by (level, detected_level) (count_over_time({app="shop"} | drop __error__[10000ms]))"#;
    let found = ask(client, "query_range", &[("query", histogram), ("step", "10000ms")])?;
    let series = found["data"]["result"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |level: &str| -> u64 {
        let values = series.iter().filter(|one| one["metric"]["detected_level"] == level);
        let points = values.flat_map(|one| one["values"].as_array().into_iter().flatten());
        points.filter_map(|point| point[1].as_str()?.parse::<u64>().ok()).sum()
    };
    ensure!((of("error"), of("info")) == (1, 2), "{found}");
    let wrong =
        client.get(&format!("/loki/api/v1/query_range?{}", encoded(&[("query", "{app=")])))?;
    ensure!(
        wrong.status == 400 && wrong.text().contains("parse error at line 1"),
        "{}",
        wrong.text()
    );
    ensure!(wrong.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    Ok(())
}

/// Lines of before come first, then those that come, and no line twice.
pub(super) fn tail(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    push(&client, &["one", "two"], &json!({}))?;
    let target = format!("/loki/api/v1/tail?{}", encoded(&[("query", r#"{app="shop"} != "no""#)]));
    let mut socket = WebSocket::open_at(&client, &target)?;
    let mut found = Vec::new();
    let mut wait = |socket: &mut WebSocket, wanted: &[&str]| -> Result<()> {
        while found.len() < wanted.len() {
            let message = socket.receive(Duration::from_secs(10))?;
            let Some(message) = message else { anyhow::bail!("{found:?} came, not {wanted:?}") };
            ensure!(message.get("dropped_entries").is_none(), "{message}");
            for stream in message["streams"].as_array().into_iter().flatten() {
                for value in stream["values"].as_array().into_iter().flatten() {
                    found.push(value[1].as_str().unwrap_or_default().to_owned());
                }
            }
        }
        ensure!(found == wanted, "{found:?} came, not {wanted:?}");
        Ok(())
    };
    wait(&mut socket, &["one", "two"])?;
    push(&client, &["three", "no", "four"], &json!({}))?;
    wait(&mut socket, &["one", "two", "three", "four"])?;
    push(&client, &["five"], &json!({}))?;
    wait(&mut socket, &["one", "two", "three", "four", "five"])?;
    let plain = client.get(&target)?;
    ensure!(plain.status == 400, "without an upgrade: {}", plain.status);
    server.stop()?;
    Ok("lines of before and new ones".to_owned())
}
