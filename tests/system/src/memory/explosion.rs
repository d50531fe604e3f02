//! Millions of new series and heavy queries against a process in 512 MiB.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::control_group::ControlGroup;
use super::heavy_queries::{self, Outcomes};
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

const GROUP_BYTES: u64 = 512 << 20;
/// Three quarters of it, the default of `memory.limit_bytes`.
const LIMIT_BYTES: u64 = GROUP_BYTES / 100 * 75;
/// What anonymous memory must be below when series and queries are gone.
const AFTER_BYTES: u64 = 200 << 20;

const SERIES: u64 = 2_000_000;
const SERIES_PER_REQUEST: u64 = 5_000;
const WRITERS: u64 = 3;
/// Enough for a slow machine; what was sent by then is told.
const EXPLOSION_TIME: Duration = Duration::from_secs(75);
const QUERY_TIME: Duration = Duration::from_secs(25);
/// Series are forgotten in the second full minute without samples, and looked for every 10 s.
const FORGET_TIME: Duration = Duration::from_secs(240);

/// What became of the requests of the explosion.
#[derive(Default)]
struct Sent {
    series: AtomicU64,
    stored: AtomicU64,
    refused_in_part: AtomicU64,
    refused_as_a_whole: AtomicU64,
    head_full: AtomicU64,
}

pub(super) fn explosion(scratch: &Scratch) -> Result<String> {
    let group = ControlGroup::make(GROUP_BYTES);
    let config = "storage:\n  flush_interval: 10s\nmemory:\n  idle_series: 1m\n";
    let launch = Launch::broker(&scratch.join("data"));
    let (launch, how) = match &group {
        Ok(group) => {
            let words = group.enter();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            (launch.config(config).under(&words), "control group")
        }
        // Without a group of its own, a limit of the configuration stands for it.
        Err(error) => {
            println!("  {error:#}; the limit is configured instead");
            let config = format!("{config}  limit_bytes: {LIMIT_BYTES}\n");
            (launch.config(&config), "configured limit")
        }
    };
    let mut server = launch.start()?;
    let client = server.client();
    let limit = client.metric("watchfire_governor_limit_bytes")?;
    ensure!(limit == LIMIT_BYTES as f64, "memory.limit_bytes is {limit}, not {LIMIT_BYTES}");

    let steady = Steady::default();
    let sent = Sent::default();
    let peak = AtomicU64::new(0);
    let (outcomes, after) = std::thread::scope(|scope| -> Result<(Outcomes, u64)> {
        let _guard = StopOnDrop(&steady.stop);
        let writing = scope.spawn(|| steady.write(client));
        let measuring = scope.spawn(|| measure(client, &steady.stop, &peak));
        let begin = Instant::now();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let sent = &sent;
                scope.spawn(move || explode(client, writer, begin, sent))
            })
            .collect();
        for writer in writers {
            writer.join().expect("a writer does not panic")?;
        }
        let outcomes = heavy_queries::run(client, QUERY_TIME)?;
        let after = wait_until_forgotten(client)?;
        steady.stop.store(true, Ordering::Relaxed);
        writing.join().expect("no panic")?;
        measuring.join().expect("no panic");
        Ok((outcomes, after))
    })
    .with_context(|| server.stderr())?;
    ensure!(server.is_running(), "the process ended: {}", server.stderr());
    if let Ok(group) = &group {
        ensure!(group.kills()? == 0, "the kernel killed in the group");
    }
    let written = steady.written.load(Ordering::Relaxed);
    let found = counted(client, "count_over_time(steady[1h])")?;
    ensure!(found == written, "{found} of {written} samples of the steady series are there");
    stop(server)?;
    drop(group);

    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    ensure!(of(&sent.refused_in_part) + of(&sent.refused_as_a_whole) > 0, "nothing was refused");
    ensure!(of(&sent.refused_as_a_whole) > 0, "no request was refused as a whole");
    ensure!(outcomes.answered > 0, "no heavy query was answered");
    Ok(format!(
        "{how}: {} series sent, {} requests stored, {} in part (400), {} refused (429), {} while \
         the head was full (503); {outcomes}; {written} samples of a steady series, none lost; at \
         most {} MiB, {} MiB after",
        of(&sent.series),
        of(&sent.stored),
        of(&sent.refused_in_part),
        of(&sent.refused_as_a_whole),
        of(&sent.head_full),
        of(&peak) >> 20,
        after >> 20
    ))
}

/// Sends series that nobody sent before, until all are sent or time is up.
fn explode(client: Client, writer: u64, begin: Instant, sent: &Sent) -> Result<()> {
    let mut first = writer * SERIES_PER_REQUEST;
    while first < SERIES && begin.elapsed() < EXPLOSION_TIME {
        let now = now_ms();
        let mut body = WriteBody::new();
        for number in first..first + SERIES_PER_REQUEST {
            let (pod, container) = (format!("pod-{:x}", number / 20), format!("c{}", number % 20));
            let id = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let labels = [
                ("__name__", "explosion"),
                ("container", container.as_str()),
                ("id", id.as_str()),
                ("job", "cadvisor"),
                ("namespace", "default"),
                ("pod", pod.as_str()),
            ];
            body = body.series(&labels, &[(now, number as f64)]);
        }
        let answer = client.write(&body.snappy())?;
        sent.series.fetch_add(SERIES_PER_REQUEST, Ordering::Relaxed);
        let text = answer.text();
        let (count, words): (_, &[&str]) = match answer.status {
            204 => (&sent.stored, &[]),
            400 => (
                &sent.refused_in_part,
                &["memory.limit_bytes", "explosion", "the other samples of the request are stored"],
            ),
            429 => {
                ensure!(answer.header("retry-after") == Some("10"), "429 without Retry-After");
                (
                    &sent.refused_as_a_whole,
                    &["memory.limit_bytes", "explosion", "nothing of the request is stored"],
                )
            }
            503 => (&sent.head_full, &["the limit is"]),
            status => bail!("new series were answered {status}: {text}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        for word in words {
            ensure!(text.contains(word), "{} does not say {word:?}: {text}", answer.status);
        }
        first += WRITERS * SERIES_PER_REQUEST;
    }
    Ok(())
}

/// A series that was there before and has to be written and read all the time.
#[derive(Default)]
struct Steady {
    stop: AtomicBool,
    written: AtomicU64,
}

impl Steady {
    fn write(&self, client: Client) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let written = self.written.load(Ordering::Relaxed);
            let labels = [("__name__", "steady"), ("job", "node")];
            let body = WriteBody::new().series(&labels, &[(now_ms(), written as f64)]).snappy();
            let answer = client.write(&body)?;
            // The only reason to wait that concerns everybody.
            if answer.status == 503 && answer.text().contains("the head holds") {
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
            ensure!(
                answer.status == 204,
                "the steady series was answered {}: {}",
                answer.status,
                answer.text()
            );
            self.written.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Notes the most memory the process ever had, as it says itself.
fn measure(client: Client, stop: &AtomicBool, peak: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(bytes) = client.metric("watchfire_governor_measured_bytes") {
            peak.fetch_max(bytes as u64, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the series of the explosion are forgotten and memory is given back; yields how much is
/// left.
fn wait_until_forgotten(client: Client) -> Result<u64> {
    let begin = Instant::now();
    loop {
        let series = client.metric("watchfire_broker_head_series")?;
        let bytes = client.metric("watchfire_governor_measured_bytes")? as u64;
        // Series that came after room was made stay for longer: then the head is not nearly full.
        if bytes < AFTER_BYTES {
            return Ok(bytes);
        }
        ensure!(
            begin.elapsed() < FORGET_TIME,
            "after {FORGET_TIME:?} there are {series} series and {} MiB",
            bytes >> 20
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn counted(client: Client, query: &str) -> Result<u64> {
    let found = client.data("/api/v1/query", &[("query", query)])?;
    let value = found["result"][0]["value"][1].as_str().context("one series")?;
    value.parse().context("a number")
}

/// It runs below a shell that became it, so it is stopped by its group.
fn stop(server: Server) -> Result<()> {
    server.stop()
}
