//! What all tenants share is not one tenant's: whoever comes later finds room, and whoever has too much
//! is told so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Client, Launch, Scratch};
use crate::live::websocket::WebSocket;

const PATIENCE: Duration = Duration::from_secs(20);
/// Subscriptions that one connection may hold.
const OF_A_CONNECTION: u64 = 64;

fn two(client: Client) -> (Client, Client) {
    (client.for_tenant("greedy"), client.for_tenant("modest"))
}

/// Subscribes until it is refused; yields how many were taken, the refusal, and the connections.
fn fill(client: &Client, what: &Value) -> Result<(u64, String, Vec<WebSocket>)> {
    let mut sockets = Vec::new();
    for number in 0.. {
        if number % OF_A_CONNECTION == 0 {
            sockets.push(WebSocket::open(client)?);
        }
        let socket = sockets.last_mut().context("there is one by now")?;
        let mut request = json!({"type": "subscribe", "id": number});
        for (key, value) in what.as_object().context("an object")? {
            request[key] = value.clone();
        }
        socket.send(&request)?;
        // Answers come in the order of requests: an error to this one does before that to the next,
        // which is one about an id that is not subscribed.
        let probe = json!({"type": "subscribe", "id": number, "selector": "{"});
        socket.send(&probe)?;
        let answer = socket.expect("error", PATIENCE)?;
        let error = answer["error"].as_str().unwrap_or_default();
        if error.contains("greedy") {
            return Ok((number, error.to_owned(), sockets));
        }
        ensure!(error.contains("already subscribed"), "{answer}");
    }
    unreachable!("there is a limit")
}

/// Live subscriptions: one tenant opens all it can, and another one still sees its samples.
pub(super) fn live(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let (greedy, modest) = two(server.client());
    let (selectors, refusal, _open) = fill(&greedy, &json!({"selector": "{__name__=\"m\"}"}))?;
    ensure!(selectors == 1_024, "{selectors} selectors: {refusal}");
    ensure!(refusal.contains("limit is 1024") && refusal.contains("close some"), "{refusal}");
    let expr = json!({"expr": "vector(1)", "interval_ms": 3_600_000});
    let (expressions, refusal, _open) = fill(&greedy, &expr)?;
    ensure!(expressions == 256, "{expressions} expressions: {refusal}");
    ensure!(refusal.contains("limit is 256") && refusal.contains("unsubscribe"), "{refusal}");
    let mut socket = WebSocket::subscribe(&modest, r#"{__name__="m"}"#)?;
    socket.send(&json!({"type": "subscribe", "id": 2, "expr": "vector(7)"}))?;
    let result = socket.expect("result", PATIENCE)?;
    ensure!(result["result"][0]["value"][1] == "7", "{result}");
    let stored = modest.post("/api/v1/import/prometheus", &[], b"m 5\n")?;
    ensure!(stored.status == 204, "{}: {}", stored.status, stored.text());
    let samples = socket.expect("samples", PATIENCE)?;
    ensure!(samples["samples"][0][2] == 5.0, "{samples}");
    server.stop()?;
    Ok(format!("{selectors} selectors, {expressions} expressions of one"))
}

/// Metadata: one tenant has as much as it can, and that of another is kept.
pub(super) fn metadata(scratch: &Scratch) -> Result<String> {
    const FAMILIES: usize = 4_500;
    let server = Launch::broker(&scratch.join("data")).start()?;
    let (greedy, modest) = two(server.client());
    let help = "x".repeat(4_096);
    let family = |n| format!("# HELP m{n} {help}\n# TYPE m{n} gauge\nm{n} 1\n");
    let send = |client: &Client, body: String| -> Result<()> {
        let answer = client.post("/api/v1/import/prometheus", &[], body.as_bytes())?;
        ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
        Ok(())
    };
    send(&greedy, (0..FAMILIES).map(family).collect())?;
    send(&modest, "# HELP small A word.\n# TYPE small counter\nsmall 1\n".to_owned())?;
    let known = greedy.get_data("/api/v1/metadata")?;
    let known = known.as_object().map_or(0, serde_json::Map::len);
    ensure!((4_000..FAMILIES).contains(&known), "{known} families of the greedy tenant");
    let small = modest.get_data("/api/v1/metadata")?;
    ensure!(small["small"][0]["help"] == "A word.", "{small}");
    let counted = server.client().metric("watchfire_broker_metadata_refused_total")?;
    ensure!(counted == (FAMILIES - known) as f64, "{counted} refusals, {known} known");
    let log = server.stderr();
    ensure!(log.contains("the tenant greedy has") && log.contains("send fewer"), "{log}");
    server.stop()?;
    Ok(format!("{known} families of 4 KiB of one"))
}

/// Groups of the Pushgateway: one tenant pushes all it can, and another one still pushes.
pub(super) fn pushgateway(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let (greedy, modest) = two(server.client());
    let body = format!("# HELP m {}\n# TYPE m gauge\nm 1\n", "x".repeat(1_000_000));
    let mut pushed = 0;
    let refused = loop {
        let answer = greedy.post(&format!("/metrics/job/j{pushed}"), &[], body.as_bytes())?;
        if answer.status != 200 {
            break answer;
        }
        pushed += 1;
    };
    let text = refused.text();
    ensure!(refused.status == 413 && pushed == 67, "{pushed} groups, {}: {text}", refused.status);
    for part in ["bytes in groups of the tenant greedy", "limit is 67108864", "delete groups"] {
        ensure!(text.contains(part), "{text}");
    }
    let answer = modest.post("/metrics/job/j", &[], b"m 1\n")?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    server.stop()?;
    Ok(format!("{pushed} groups of 1 MB of one"))
}
