//! Values and times at their edges.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::expect;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

/// What Prometheus writes where a series ends (`model/value/value.go`, `StaleNaN`).
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// What arithmetic makes, and what Prometheus calls `NormalNaN`.
const QUIET_NAN: u64 = 0x7ff8_0000_0000_0001;

fn write(client: Client, name: &str, samples: &[(i64, f64)]) -> Result<(u16, String)> {
    let body = WriteBody::new().series(&[("__name__", name)], samples);
    let answer = client.write(&body.snappy())?;
    Ok((answer.status, answer.text()))
}

/// NaNs keep their bits. JSON shows them all as `NaN`, but sending one again is no error only if
/// the very same bits are stored.
pub(super) fn nan(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let server = launch.start()?;
    let payloads = [
        QUIET_NAN,
        STALE,
        0x7ff8_0000_0000_0000,
        0xfff8_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        0xffff_ffff_ffff_ffff,
        0x7ff8_dead_beef_cafe,
    ];
    let now = now_ms();
    let samples: Vec<(i64, f64)> =
        (0..).zip(payloads).map(|(at, bits)| (now + at, f64::from_bits(bits))).collect();
    let (status, text) = write(server.client(), "payload", &samples)?;
    ensure!(status == 204, "{text}");
    same_bits(&server, &samples).context("in memory")?;
    server.kill()?;
    let server = launch.start()?;
    same_bits(&server, &samples).context("after a crash")?;
    let read = range(server.client(), "payload[1m]", now + 1_000)?;
    let shown: Vec<&str> = read.iter().filter_map(|sample| sample[1].as_str()).collect();
    // The stale marker is no sample; all others are.
    ensure!(shown == ["NaN"; 6], "{shown:?} is shown");
    let numbers: Vec<(i64, f64)> = [f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX]
        .iter()
        .zip(0..)
        .map(|(&value, at)| (now + at, value))
        .collect();
    ensure!(write(server.client(), "edge", &numbers)?.0 == 204, "edge values are refused");
    let read = range(server.client(), "edge[1m]", now + 1_000)?;
    for ((_, sent), found) in numbers.iter().zip(&read) {
        let found: f64 = found[1].as_str().context("a value is text")?.parse()?;
        ensure!(found.to_bits() == sent.to_bits(), "{sent} comes back as {found}");
    }
    ensure!(read.len() == numbers.len(), "{} edge values come back", read.len());
    server.stop()?;
    Ok(format!("{} payloads kept, across a crash too", payloads.len()))
}

fn same_bits(server: &Server, samples: &[(i64, f64)]) -> Result<()> {
    for &(t_ms, value) in samples {
        let bits = value.to_bits();
        let (status, text) = write(server.client(), "payload", &[(t_ms, value)])?;
        ensure!(status == 204, "{bits:#x} sent again is answered {status}: {text}");
        let other = f64::from_bits(bits ^ 4);
        let (status, text) = write(server.client(), "payload", &[(t_ms, other)])?;
        ensure!(
            status == 400 && text.contains("duplicate sample"),
            "{:#x} over {bits:#x} is answered {status}: {text}",
            other.to_bits()
        );
    }
    Ok(())
}

/// A stale marker ends a series for instant queries at once, in memory, after a crash and in
/// blocks; an ordinary NaN does not.
pub(super) fn stale(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let server = launch.start()?;
    let start = now_ms() - 60_000;
    let (ended, going_on) = (f64::from_bits(STALE), f64::from_bits(QUIET_NAN));
    let samples = [(start, 1.0), (start + 10_000, ended), (start + 20_000, 3.0)];
    ensure!(write(server.client(), "ends", &samples)?.0 == 204, "stale marker refused");
    let samples = [(start, 1.0), (start + 10_000, going_on)];
    ensure!(write(server.client(), "goes_on", &samples)?.0 == 204, "NaN refused");
    staleness(server.client(), start).context("in memory")?;
    server.kill()?;
    let server = launch.config("storage:\n  flush_interval: 100ms\n").start()?;
    staleness(server.client(), start).context("after a crash")?;
    let begin = std::time::Instant::now();
    while server.client().metric("watchfire_broker_head_samples")? > 0.0 {
        ensure!(begin.elapsed().as_secs() < 20, "the head is not flushed: {}", server.stderr());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    staleness(server.client(), start).context("in blocks")?;
    server.stop()?;
    Ok("ends a series in memory, after a crash and in blocks".to_owned())
}

fn staleness(client: Client, start: i64) -> Result<()> {
    let expected = [
        ("ends", 5_000, json!(["1"])),
        ("ends", 15_000, json!([])),
        ("ends", 25_000, json!(["3"])),
        ("goes_on", 15_000, json!(["NaN"])),
        ("count_over_time(ends[1m])", 30_000, json!(["2"])),
        ("count_over_time(goes_on[1m])", 30_000, json!(["2"])),
    ];
    for (expression, offset_ms, values) in expected {
        let time = seconds(start + offset_ms);
        let found = client.data("/api/v1/query", &[("query", expression), ("time", &time)])?;
        let rows = found["result"].as_array().context("result is an array")?;
        let found: Vec<&Value> = rows.iter().map(|row| &row["value"][1]).collect();
        ensure!(json!(found) == values, "{expression} at +{offset_ms} ms is {found:?}");
    }
    Ok(())
}

/// Times outside of what is kept are refused with a reason; the others of the request are stored.
pub(super) fn timestamps(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let now = now_ms();
    let day = 86_400_000;
    let cases = [
        (i64::MIN, "storage.retention"),
        (-1, "storage.retention"),
        (0, "storage.retention"),
        (now - 16 * day, "storage.retention"),
        (now + 11 * 60_000, "limits.max_future_ms"),
        (now + 365 * day, "limits.max_future_ms"),
        (i64::MAX, "limits.max_future_ms"),
    ];
    for (number, (t_ms, word)) in (1..).zip(cases) {
        let body = WriteBody::new()
            .series(&[("__name__", "time")], &[(t_ms, 1.0), (now - number, 2.0)])
            .snappy();
        expect(&client.write(&body)?, 400, &[word, "the other samples"])
            .with_context(|| format!("time {t_ms}"))?;
        let stored = range(client, "time[1h]", now)?.len() as i64;
        ensure!(stored == number, "{stored} of {number} good samples are stored");
    }
    // The oldest and the newest that are allowed, and what a query at the ends of time does.
    let edges = [(now - 14 * day, 1.0), (now + 9 * 60_000, 1.0)];
    ensure!(write(client, "edges", &edges)?.0 == 204, "allowed times are refused");
    for time in ["-9223372036854775", "9223372036854775", "0", "1e300", "NaN", "-Inf"] {
        let (status, answer) =
            client.envelope("/api/v1/query", &[("query", "edges"), ("time", time)])?;
        ensure!(matches!(status, 200 | 400), "a query at {time} is answered {status}: {answer}");
    }
    server.stop()?;
    Ok(format!("{} times refused by name, the rest stored", cases.len()))
}

/// Samples of the one series that `selector` finds at `time_ms`.
fn range(client: Client, selector: &str, time_ms: i64) -> Result<Vec<Value>> {
    let time = seconds(time_ms);
    let found = client.data("/api/v1/query", &[("query", selector), ("time", &time)])?;
    let rows = found["result"].as_array().context("result is an array")?;
    ensure!(rows.len() == 1, "{selector} finds {} series", rows.len());
    rows[0]["values"].as_array().cloned().context("values are an array")
}

fn seconds(t_ms: i64) -> String {
    format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000)
}
