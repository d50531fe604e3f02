//! A broker that is away for an hour, in a minute: a target exposes sixty passes of data, with their
//! times, in each second, and the agent that scrapes it keeps them until the broker is back.
//!
//! The ledger is the target's: times and values follow from the number of the pass, which comes a
//! second after the one before it. By default twenty minutes of twenty series pass; with `RUN_SLOW_TESTS` an hour of
//! a thousand, which is about what a host has.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::kills::{join_token, samples_of};
use crate::harness::random::mix;
use crate::harness::{Client, Launch, Scratch, free_address, now_ms};

/// Between the times of two passes.
const STEP_MS: i64 = 1_000;
/// Sixty times as fast as time: a scrape each two seconds.
const PASSES_PER_SCRAPE: usize = 120;
const POLL: Duration = Duration::from_millis(50);
/// For one step of the test on a machine that also compiles.
const PATIENCE: Duration = Duration::from_secs(180);
/// What the agent collects while the hour replays may be this old where it is stored.
const FRESH_MS: i64 = 2_000;
const SPOOL_LIMIT_BYTES: usize = 32 << 20;

pub(super) fn hour_away(scratch: &Scratch) -> Result<String> {
    let is_long = std::env::var_os("RUN_SLOW_TESTS").is_some();
    let (passes, series) = if is_long { (3_600, 1_000) } else { (1_200, 20) };
    let (peers, listen) = (free_address()?, free_address()?);
    let (broker_data, agent_data) = (scratch.join("broker/data"), scratch.join("agent/data"));
    for data in [&broker_data, &agent_data] {
        std::fs::create_dir_all(data.parent().expect("a directory of its own"))?;
    }
    let (listen, peers) = (listen.to_string(), peers.to_string());
    let launch =
        Launch::broker(&broker_data).arguments(&["--listen", &listen, "--peer-listen", &peers]);
    let broker = launch.start()?;
    let target = Target::start(passes, series)?;
    let file = scratch.join("prometheus.yml");
    std::fs::write(
        &file,
        format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\n\
             scrape_configs: [{{job_name: hour, static_configs: [{{targets: ['{}']}}]}}]\n",
            target.address
        ),
    )?;
    let file = file.to_str().context("a path in UTF-8")?;
    let config =
        format!("agent:\n  instance: web-1\n  spool:\n    limit_bytes: {SPOOL_LIMIT_BYTES}\n");
    let token = join_token(&broker_data, "agent")?;
    let agent = Launch::agent(&agent_data)
        .config(&config)
        .arguments(&["--broker", &peers, "--join", &token, "--prometheus-config", file])
        .start()?;
    let mut spool = Spool { agent: agent.client(), most_bytes: 0.0 };
    wait("the agent is connected", || {
        Ok(agent.client().metric("watchfire_agent_ship_connected")? > 0.0)
    })?;
    broker.kill()?;
    target.begin();
    wait("the hour is over", || {
        spool.look()?;
        Ok(target.served() == passes)
    })?;
    // The last scrape is with the agent by the next one.
    sleep(Duration::from_secs(3));
    let spooled = agent.client().metric("watchfire_agent_spool_samples_total")?;
    let back = Instant::now();
    let broker = launch.start()?;
    let client = broker.client();
    wait("fresh samples are stored", || Ok(age_ms(&client)? < FRESH_MS))?;
    let (fresh_after, replay) = (back.elapsed(), Instant::now());
    let mut oldest_ms = 0;
    wait("the hour is stored", || {
        spool.look()?;
        oldest_ms = oldest_ms.max(age_ms(&client)?);
        let one = format!("count_over_time(hour{{series=\"{}\"}}[2h])", series - 1);
        Ok(instant(&client, &one)? >= passes as f64)
    })?;
    let replayed_in = replay.elapsed();
    ensure!(oldest_ms < FRESH_MS, "while the hour replayed, the newest was {oldest_ms} ms old");
    check(&client, &target, passes, series)?;
    let faults = agent.client().metric("watchfire_agent_spool_dropped_samples_total")?
        + agent.client().metric("watchfire_agent_spool_lost_samples_total")?;
    ensure!(faults == 0.0, "the spool gave {faults} samples up");
    agent.stop()?;
    broker.stop()?;
    Ok(format!(
        "{passes} s x {series} series away, {spooled} samples in at most {:.1} MB of spool; fresh \
         again {:.1} s after the broker's start, the hour replayed {:.1} s later, the newest never \
         over {:.1} s old, none lost or doubled",
        spool.most_bytes / 1e6,
        fresh_after.as_secs_f64(),
        replayed_in.as_secs_f64(),
        oldest_ms as f64 / 1e3
    ))
}

/// Every pass is in every series once, at its time; nothing came twice.
fn check(client: &Client, target: &Target, passes: usize, series: usize) -> Result<()> {
    for number in 0..series {
        let stored = samples_of(client, &format!("hour{{series=\"{number}\"}}[2h]"))?;
        ensure!(stored.len() == passes, "series {number}: {} passes, not {passes}", stored.len());
        for (pass, (t_ms, value)) in stored.into_iter().enumerate() {
            let wanted = (target.first_ms + STEP_MS * pass as i64, value_of(number, pass));
            ensure!((t_ms, value) == wanted, "series {number}: {t_ms} {value}, not {wanted:?}");
        }
    }
    let doubled = client.metric("watchfire_broker_samples_duplicate_total")?;
    ensure!(doubled == 0.0, "{doubled} samples reached the store twice");
    let refused = client.metric("watchfire_broker_samples_rejected_total")?;
    ensure!(refused == 0.0, "the broker refused {refused} samples");
    Ok(())
}

/// How old the newest pass of the agent's own host is where it is stored.
fn age_ms(client: &Client) -> Result<i64> {
    let newest = instant(client, "timestamp(node_time_seconds{instance=\"web-1\"})")?;
    Ok(now_ms() - (newest * 1e3) as i64)
}

/// The value of the one series of an answer; 0 if there is none.
fn instant(client: &Client, query: &str) -> Result<f64> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let value = &data["result"][0]["value"][1];
    value.as_str().map_or(Ok(0.0), |text| text.parse().context("a number"))
}

fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so().with_context(|| format!("wait until {what}"))? {
        if begin.elapsed() > PATIENCE {
            bail!("after {PATIENCE:?} it is not so that {what}");
        }
        sleep(POLL);
    }
    Ok(())
}

/// Keeps an eye on the spool's size.
struct Spool {
    agent: Client,
    most_bytes: f64,
}

impl Spool {
    fn look(&mut self) -> Result<()> {
        let bytes = self.agent.metric("watchfire_agent_spool_bytes")?;
        ensure!(bytes <= SPOOL_LIMIT_BYTES as f64, "the spool has {bytes} bytes");
        self.most_bytes = self.most_bytes.max(bytes);
        Ok(())
    }
}

/// Exposes the hour.
struct Target {
    address: SocketAddr,
    first_ms: i64,
    /// Passes served; [`WAITING`] before the hour begins.
    next: Arc<AtomicUsize>,
}

/// The hour has not begun.
const WAITING: usize = usize::MAX;

impl Target {
    /// Serves until the process ends.
    fn start(passes: usize, series: usize) -> Result<Target> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let next = Arc::new(AtomicUsize::new(WAITING));
        let first_ms = now_ms() - passes as i64 * STEP_MS;
        let served = Arc::clone(&next);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let first = served.load(Ordering::Relaxed);
                let last = match first {
                    WAITING => WAITING,
                    first => (first + PASSES_PER_SCRAPE).min(passes),
                };
                let range = if first == WAITING { 0..0 } else { first..last };
                // What was not written as a whole was not scraped, and comes again.
                if answer(&mut stream, &exposition(first_ms, range, series)).is_ok() {
                    // The test may have begun the hour meanwhile.
                    let _ =
                        served.compare_exchange(first, last, Ordering::Relaxed, Ordering::Relaxed);
                }
            }
        });
        Ok(Target { address, first_ms, next })
    }

    fn begin(&self) {
        self.next.store(0, Ordering::Relaxed);
    }

    fn served(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}

fn exposition(first_ms: i64, passes: std::ops::Range<usize>, series: usize) -> String {
    let mut body = "# TYPE hour gauge\n".to_owned();
    for pass in passes {
        let t_ms = first_ms + STEP_MS * pass as i64;
        for number in 0..series {
            let value = value_of(number, pass);
            body.push_str(&format!("hour{{series=\"{number}\"}} {value} {t_ms}\n"));
        }
    }
    body
}

/// Nothing that a codec could guess.
fn value_of(series: usize, pass: usize) -> f64 {
    (mix((series as u64) << 32 | pass as u64) % 1_000_000_007) as f64 / 1_000.0
}

fn answer(stream: &mut TcpStream, body: &str) -> Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(stream.flush()?)
}
