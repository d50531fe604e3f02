//! Queries that run are listed, and end when they are stopped or when whoever asked has gone.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

/// Takes minutes and little memory: 300 series, 361 steps, and 3,600 steps in each.
const SLOW: &str = "sum(sum_over_time(rate(slow[5m])[1h:1s]))";
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// What a stopped query may still take.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn by_number(scratch: &Scratch) -> Result<String> {
    let server = start(scratch)?;
    let client = server.client();
    let asking = std::thread::spawn(move || {
        let form = slow_form();
        let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
        client.envelope("/api/v1/query_range", &form)
    });
    let query = listed(client)?;
    let id = query["id"].as_str().context("a query has an id")?.to_owned();
    for (field, is_right) in [
        ("duration", query["duration"].as_str().is_some_and(|text| text.ends_with('s'))),
        ("remote_addr", query["remote_addr"].as_str().is_some_and(|a| a.starts_with("127.0.0.1:"))),
        ("query", query["query"] == SLOW),
        ("step", query["step"] == 10_000),
    ] {
        ensure!(is_right, "{field} is wrong: {query}");
    }
    let wrong = client.request("DELETE", &path("0000000000000001"), &[], &[])?;
    ensure!(wrong.status == 404, "an unknown number was answered {}", wrong.status);
    let stopped = Instant::now();
    let answer = client.request("DELETE", &path(&id), &[], &[])?;
    ensure!(answer.status == 200, "stopping was answered {}: {}", answer.status, answer.text());
    let (status, answer) = asking.join().expect("no panic")?;
    let took = stopped.elapsed();
    let text = answer["error"].as_str().unwrap_or_default();
    ensure!(status == 499 && text.contains("stopped by an administrator"), "{status}: {answer}");
    ensure!(took < ENDED_WITHIN, "it went on for {took:?}");
    ended(client)?;
    let top: Value = serde_json::from_slice(&client.get("/api/v1/status/top_queries")?.body)?;
    let longest = &top["topBySumDuration"][0];
    ensure!(longest["query"] == SLOW && longest["timeRangeSeconds"] == 3_600, "{top}");
    server.stop()?;
    Ok(format!("ended {took:.0?} after it was stopped"))
}

pub(super) fn by_leaving(scratch: &Scratch) -> Result<String> {
    let server = start(scratch)?;
    let client = server.client();
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(slow_form()).finish();
    let mut stream = client.connect()?;
    let request = format!("GET /api/v1/query_range?{form} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    listed(client)?;
    let left = Instant::now();
    drop(stream);
    ended(client)?;
    let took = left.elapsed();
    let cancelled = client.metric("watchfire_console_queries_cancelled_total")?;
    ensure!(cancelled == 1.0, "{cancelled} queries count as cancelled");
    server.stop()?;
    Ok(format!("ended {took:.0?} after its client left"))
}

fn start(scratch: &Scratch) -> Result<Server> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let now = now_ms();
    let mut body = WriteBody::new();
    for number in 0..300 {
        let number = number.to_string();
        let samples: Vec<(i64, f64)> =
            (0..240).map(|step| (now - step * 15_000, step as f64)).rev().collect();
        body = body.series(&[("__name__", "slow"), ("n", &number)], &samples);
    }
    let answer = server.client().write(&body.snappy())?;
    ensure!(answer.status == 204, "{}", answer.text());
    Ok(server)
}

fn slow_form() -> [(&'static str, String); 4] {
    let now = now_ms() / 1_000;
    let times = [("start", (now - 3_600).to_string()), ("end", now.to_string())];
    let [start, end] = times;
    [("query", SLOW.to_owned()), start, end, ("step", "10".to_owned())]
}

fn path(id: &str) -> String {
    format!("/api/v1/status/active_queries/{id}")
}

fn running(client: Client) -> Result<Vec<Value>> {
    let answer = client.get("/api/v1/status/active_queries")?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    Ok(answer["data"].as_array().context("a list")?.clone())
}

fn listed(client: Client) -> Result<Value> {
    let begin = Instant::now();
    loop {
        if let Some(query) = running(client)?.into_iter().next() {
            return Ok(query);
        }
        ensure!(begin.elapsed() < LISTED_WITHIN, "the query is not listed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ended(client: Client) -> Result<()> {
    let begin = Instant::now();
    while !running(client)?.is_empty() {
        ensure!(begin.elapsed() < ENDED_WITHIN, "it still runs: {:?}", running(client)?);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
