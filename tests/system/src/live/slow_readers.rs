//! Readers that stop reading: bounded memory, told what they missed, and nobody else slowed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::pushes::wait_subscribed;
use super::websocket::WebSocket;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

const READERS: usize = 50;
const SERIES: usize = 2_000;
/// How long they do not read; longer where the machine is too slow to fill all buffers.
const STALL: Duration = Duration::from_secs(5);
const LONGEST_STALL: Duration = Duration::from_secs(25);
const MAX_GROWTH_BYTES: u64 = 32 << 20;

/// Fifty readers stop reading under a feed of many thousands of samples per second.
pub(super) fn slow_readers(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    // What the feed itself costs the store must not count: its series and buffers come first.
    let fed = AtomicU64::new(0);
    feed(&client, &fed, Duration::from_secs(1))?;
    let head_before = head_bytes(&client)?;
    let before = resident_bytes(&server)?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let reader = WebSocket::subscribe(&client, r#"{__name__="fast"}"#)?;
        reader.keep_little()?;
        readers.push(reader);
    }
    wait_subscribed(&client, READERS as f64)?;
    let fed_before = fed.load(Ordering::Relaxed);
    let done = AtomicBool::new(false);
    let highest = std::thread::scope(|scope| -> Result<u64> {
        let watch = scope.spawn(|| -> Result<u64> {
            let mut highest = 0;
            while !done.load(Ordering::Relaxed) {
                // The head keeps what was fed, readers or not.
                let head = head_bytes(&client)?.saturating_sub(head_before);
                highest = highest.max(resident_bytes(&server)?.saturating_sub(before + head));
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(highest)
        });
        let fed_well = overrun(&client, &fed);
        done.store(true, Ordering::Relaxed);
        let highest = watch.join().expect("the watcher does not panic")?;
        fed_well.map(|()| highest)
    })?;
    let fed = fed.load(Ordering::Relaxed) - fed_before;
    // Each is told everything it missed; a few stand for all, as reading on takes time.
    for socket in readers.iter_mut().step_by(READERS / 5) {
        account(socket, fed)?;
    }
    server.stop()?;
    let growth_mb = highest as f64 / f64::from(1 << 20);
    ensure!(highest < MAX_GROWTH_BYTES, "resident memory grew by {growth_mb:.1} MiB");
    Ok(format!("{READERS} stalled readers under {fed} samples: +{growth_mb:.1} MiB"))
}

/// Feeds until every reader must have missed something.
fn overrun(client: &Client, fed: &AtomicU64) -> Result<()> {
    let begin = Instant::now();
    feed(client, fed, STALL)?;
    let wanted = (READERS * SERIES * 4) as f64;
    while client.metric("watchfire_broker_live_samples_missed_total")? < wanted {
        ensure!(begin.elapsed() < LONGEST_STALL, "readers that do not read missed nothing");
        feed(client, fed, Duration::from_secs(1))?;
    }
    Ok(())
}

/// Reads on after the stall: everything fed either arrives or was reported missed.
fn account(socket: &mut WebSocket, fed: u64) -> Result<()> {
    let (mut received, mut missed) = (0, 0);
    let begin = Instant::now();
    while received + missed < fed {
        ensure!(begin.elapsed() < Duration::from_secs(20), "{received} + {missed} of {fed} came");
        let message = socket.receive(Duration::from_secs(5))?.with_context(|| {
            format!("{received} samples and {missed} missed are not the {fed} that were sent")
        })?;
        match message["type"].as_str() {
            Some("samples") => received += message["samples"].as_array().map_or(0, Vec::len) as u64,
            Some("missed") => missed += message["samples"].as_u64().unwrap_or_default(),
            _ => {}
        }
    }
    ensure!(received + missed == fed, "{received} + {missed} is more than the {fed} sent");
    ensure!(missed > 0, "a reader that slept missed nothing");
    Ok(())
}

/// Writes as fast as the server takes it.
fn feed(client: &Client, fed: &AtomicU64, time: Duration) -> Result<()> {
    let series: Vec<String> = (0..SERIES).map(|number| number.to_string()).collect();
    let begin = Instant::now();
    let mut last_ms = 0;
    while begin.elapsed() < time {
        let t_ms = now_ms().max(last_ms + 1);
        last_ms = t_ms;
        let body = series.iter().fold(WriteBody::new(), |body, number| {
            body.series(&[("__name__", "fast"), ("number", number)], &[(t_ms, t_ms as f64)])
        });
        let response = client.write(&body.snappy())?;
        ensure!(response.status == 204, "{}: {}", response.status, response.text());
        fed.fetch_add(SERIES as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn head_bytes(client: &Client) -> Result<u64> {
    Ok(client.metric("watchfire_broker_head_bytes")? as u64)
}

fn resident_bytes(server: &Server) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line
        .and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok())
        .context("no VmRSS in the process' status")?;
    Ok(kilobytes * 1_024)
}
