//! Readers that read: selectors, expressions, latency, errors.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::websocket::WebSocket;
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

const PATIENCE: Duration = Duration::from_secs(5);

/// From the start of the process on an empty directory until a query finds this host.
pub(super) fn first_data(scratch: &Scratch) -> Result<String> {
    let begin = Instant::now();
    let server = Launch::all(&scratch.join("data")).start()?;
    let client = server.client();
    loop {
        let found = client.data("/api/v1/query", &[("query", "node_load1")])?;
        if found["result"].as_array().is_some_and(|result| !result.is_empty()) {
            break;
        }
        ensure!(begin.elapsed() < PATIENCE, "no node_load1 after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let visible = begin.elapsed();
    server.stop()?;
    ensure!(visible <= Duration::from_secs(2), "visible after {visible:?}, wanted 2 s");
    Ok(format!("node_load1 queryable {} ms after the start", visible.as_millis()))
}

/// A selector over the host yields each second, with labels told once and equal to the API's.
pub(super) fn host_each_second(scratch: &Scratch) -> Result<String> {
    let server = Launch::all(&scratch.join("data")).start()?;
    let client = server.client();
    let mut socket = WebSocket::subscribe(&client, r#"{__name__=~"node_load.*"}"#)?;
    let series = socket.expect("series", PATIENCE)?;
    let mut told: Vec<String> = entries(&series, "series")
        .iter()
        .map(|entry| entry[1]["__name__"].as_str().unwrap_or_default().to_owned())
        .collect();
    told.sort();
    ensure!(told == ["node_load1", "node_load15", "node_load5"], "series told: {told:?}");
    let mut times = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(8);
    while times.len() < 5 && Instant::now() < deadline {
        let samples = socket.expect("samples", PATIENCE)?;
        let entries = entries(&samples, "samples");
        ensure!(entries.len() == 3, "one pass holds {} samples: {samples}", entries.len());
        times.push(entries[0][1].as_i64().unwrap_or_default());
    }
    let steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The very first pass is at once; a loaded machine is late once in a while, and says so.
    let even = |step: &i64| (700..=1_300).contains(step);
    ensure!(steps.len() == 4 && steps[1..].iter().all(even), "steps {steps:?}");
    socket.send(&json!({"type": "unsubscribe", "id": 1}))?;
    // What was under way when it was said may still arrive.
    while socket.receive(Duration::from_millis(200))?.is_some() {}
    let late = socket.receive(Duration::from_millis(1_500))?;
    ensure!(late.is_none(), "after unsubscribing came {late:?}");
    ensure!(client.metric("watchfire_broker_live_subscriptions")? == 0.0, "still subscribed");
    server.stop()?;
    Ok(format!("{} passes, {steps:?} ms apart", times.len()))
}

/// From just before a sample is sent until the frame with it was received and parsed.
pub(super) fn latency(scratch: &Scratch) -> Result<String> {
    const PUSHES: usize = 400;
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let mut socket = WebSocket::subscribe(&client, r#"{__name__="live_probe"}"#)?;
    wait_subscribed(&client, 1.0)?;
    let mut times: Vec<Duration> = Vec::with_capacity(PUSHES);
    for push in 0..PUSHES {
        let value = push as f64;
        // Writing is synchronous and waits for the disk, reading must not wait for it: the frame
        // is sent before the commit.
        let begin = Instant::now();
        let writer = std::thread::spawn(move || push_sample(&client, push, value));
        let samples = socket.expect("samples", PATIENCE)?;
        times.push(begin.elapsed());
        writer.join().expect("a writer does not panic")?;
        let got = entries(&samples, "samples")[0][2].as_f64();
        ensure!(got == Some(value), "push {push} yielded {samples}");
        // Two pushes within a millisecond would be two values for one time.
        std::thread::sleep(Duration::from_millis(2));
    }
    server.stop()?;
    times.sort_unstable();
    let at = |share: f64| times[((PUSHES as f64 * share) as usize).min(PUSHES - 1)];
    let (p50, p99) = (at(0.5), at(0.99));
    ensure!(p99 <= Duration::from_millis(50), "p50 {p50:?}, p99 {p99:?}, wanted 50 ms");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(format!("{PUSHES} pushes: p50 {:.2} ms, p99 {:.2} ms", ms(p50), ms(p99)))
}

/// Alternates between remote write and text.
fn push_sample(client: &Client, push: usize, value: f64) -> Result<()> {
    let response = if push.is_multiple_of(2) {
        let labels = [("__name__", "live_probe")];
        client.write(&WriteBody::new().series(&labels, &[(now_ms(), value)]).snappy())?
    } else {
        client.post("/api/v1/import/prometheus", &[], format!("live_probe {value}\n").as_bytes())?
    };
    ensure!(response.status == 204, "{}: {}", response.status, response.text());
    Ok(())
}

/// An expression is evaluated over durable data at its interval.
pub(super) fn expression(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    client.post("/api/v1/import/prometheus", &[], b"a{x=\"1\"} 2\na{x=\"2\"} 3\n")?;
    let mut socket = WebSocket::open(&client)?;
    let subscribe = json!({"type": "subscribe", "id": 9, "expr": "sum(a)", "interval_ms": 200});
    socket.send(&subscribe)?;
    let begin = Instant::now();
    let mut times = Vec::new();
    for _ in 0..5 {
        let result = socket.expect("result", PATIENCE)?;
        ensure!(result["id"] == 9 && result["result"][0]["value"][1] == "5", "{result}");
        times.push(result["t"].as_i64().unwrap_or_default());
    }
    ensure!(begin.elapsed() >= Duration::from_millis(700), "faster than asked for");
    ensure!(times.is_sorted(), "times go back: {times:?}");
    client.post("/api/v1/import/prometheus", &[], b"a{x=\"3\"} 10\n")?;
    let seen = (0..5).any(|_| {
        let result = socket.expect("result", PATIENCE).unwrap_or_default();
        result["result"][0]["value"][1] == "15"
    });
    ensure!(seen, "a new series never entered the result");
    socket.send(&json!({"type": "subscribe", "id": 10, "expr": "2 * 3"}))?;
    let scalar = socket_result(&mut socket, 10)?;
    ensure!(scalar["result"][0] == json!({"metric": {}, "value": scalar["result"][0]["value"]}));
    ensure!(scalar["result"][0]["value"][1] == "6", "{scalar}");
    server.stop()?;
    Ok("every 200 ms, new data included".to_owned())
}

fn socket_result(socket: &mut WebSocket, id: u64) -> Result<Value> {
    loop {
        let result = socket.expect("result", PATIENCE)?;
        if result["id"] == id {
            return Ok(result);
        }
    }
}

/// What JSON has no number for is a word.
pub(super) fn values(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let mut socket = WebSocket::subscribe(&client, r#"{__name__="v"}"#)?;
    wait_subscribed(&client, 1.0)?;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let t_ms = now_ms() - 1_000;
    let written = [0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, stale, -0.0, 1e300];
    let samples: Vec<(i64, f64)> = (t_ms..).zip(written).collect();
    let labels = [("__name__", "v"), ("quoted", "\"\\\n")];
    let response = client.write(&WriteBody::new().series(&labels, &samples).snappy())?;
    ensure!(response.status == 204, "{}", response.text());
    let series = socket.expect("series", PATIENCE)?;
    let wanted = json!([[0, {"__name__": "v", "quoted": "\"\\\n"}]]);
    ensure!(series["series"] == wanted, "{series}");
    let got = socket.expect("samples", PATIENCE)?;
    let words = [json!(0.1), json!("NaN"), json!("+Inf"), json!("-Inf"), json!("stale")];
    let words = words.into_iter().chain([json!(-0), json!(1e300)]);
    for (place, (entry, word)) in entries(&got, "samples").iter().zip(words).enumerate() {
        let same = match (entry[2].as_f64(), word.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => entry[2] == word,
        };
        ensure!(entry[0] == 0 && entry[1] == t_ms + place as i64 && same, "{entry} is not {word}");
    }
    server.stop()?;
    Ok(format!("{} kinds of values", written.len()))
}

/// Mistakes are told with the subscription's id and harm nothing else.
pub(super) fn errors_and_limits(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let mut socket = WebSocket::open(&client)?;
    let cases = [
        (json!({"type": "subscribe", "id": 1, "selector": "{a="}), 1, "parse error"),
        (json!({"type": "subscribe", "id": 2, "selector": "rate(a[5m])"}), 2, "parse error"),
        (json!({"type": "subscribe", "id": 3, "expr": "sum("}), 3, "unclosed left parenthesis"),
        (json!({"type": "subscribe", "id": 4}), 4, "either \"selector\" or \"expr\""),
        (
            json!({"type": "subscribe", "id": 5, "selector": "a", "expr": "a"}),
            5,
            "either \"selector\" or \"expr\"",
        ),
        (json!({"type": "subscribe", "id": 6, "expr": "a[5m]"}), 6, "scalar or an instant vector"),
        (json!({"type": "dance"}), 0, "not understood"),
        (json!({"type": "subscribe", "id": -1, "selector": "a"}), 0, "not understood"),
        (json!("subscribe"), 0, "not understood"),
    ];
    let count = cases.len();
    for (message, id, wanted) in cases {
        socket.send(&message)?;
        let error = socket.expect("error", PATIENCE)?;
        let text = error["error"].as_str().unwrap_or_default();
        ensure!(error["id"] == id && text.contains(wanted), "{message} yielded {error}");
    }
    // Unsubscribing what is not there is no error; id 6 still runs and says so each second.
    socket.send(&json!({"type": "unsubscribe", "id": 6}))?;
    socket.send(&json!({"type": "unsubscribe", "id": 77}))?;
    for id in 100..164 {
        socket.send(&json!({"type": "subscribe", "id": id, "selector": "live_probe"}))?;
    }
    socket.send(&json!({"type": "subscribe", "id": 164, "selector": "live_probe"}))?;
    let error = expect_error(&mut socket, 164)?;
    ensure!(error.contains("64 subscriptions"), "{error}");
    socket.send(&json!({"type": "subscribe", "id": 100, "selector": "live_probe"}))?;
    let error = expect_error(&mut socket, 100)?;
    ensure!(error.contains("already subscribed"), "{error}");
    socket.send(&json!({"type": "unsubscribe", "id": 163}))?;
    socket.send(&json!({"type": "subscribe", "id": 164, "selector": "live_probe"}))?;
    wait_subscribed(&client, 64.0)?;
    push_sample(&client, 0, 1.0)?;
    let mut reached: Vec<u64> = Vec::new();
    while reached.len() < 64 {
        reached.push(socket.expect("samples", PATIENCE)?["id"].as_u64().unwrap_or_default());
    }
    reached.sort_unstable();
    ensure!(reached == (100..163).chain([164]).collect::<Vec<_>>(), "reached {reached:?}");
    socket.send(&json!({"pad": "x".repeat(70_000)}))?;
    let refused = (0..10).any(|_| socket.receive(PATIENCE).is_err());
    ensure!(refused, "a message of 70 kB was taken");
    server.stop()?;
    Ok(format!("{count} mistakes told; 64 subscriptions served, the 65th refused"))
}

fn expect_error(socket: &mut WebSocket, id: u64) -> Result<String> {
    loop {
        let error = socket.expect("error", PATIENCE)?;
        if error["id"] == id {
            return Ok(error["error"].as_str().unwrap_or_default().to_owned());
        }
    }
}

/// Waits until the server has as many subscriptions by selector.
pub(super) fn wait_subscribed(client: &Client, count: f64) -> Result<()> {
    let begin = Instant::now();
    while client.metric("watchfire_broker_live_subscriptions")? != count {
        ensure!(begin.elapsed() < PATIENCE, "never {count} subscriptions");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn entries<'a>(message: &'a Value, name: &str) -> &'a [Value] {
    message[name].as_array().map_or(&[], Vec::as_slice)
}
