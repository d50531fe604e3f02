//! Prometheus, a broker that it writes to, one that scrapes the same target, and two remotes that this
//! one writes to keep the same exemplars.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::Scraper;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// How often the target shows something new.
const STEPS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn same_exemplars(scratch: &Scratch) -> Result<String> {
    let target = Target::start()?;
    let scrape_config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nscrape_configs:\n\
         - job_name: t\n  static_configs: [{{targets: ['{}']}}]\n",
        target.address
    );
    let written = Launch::broker(&scratch.join("written")).start()?;
    let forwarded = Launch::broker(&scratch.join("forwarded")).start()?;
    let empty = scratch.join("empty.yml");
    std::fs::write(&empty, "global: {scrape_interval: 1m}\n")?;
    let flags = ["--enable-feature=exemplar-storage", "--web.enable-remote-write-receiver"];
    let remote = Scraper::named(scratch, "remote", &empty.display().to_string(), &flags)?;
    let own = scratch.join("scraped.yml");
    let remote_write = |client: &Client, more: &str| {
        format!(
            "- url: http://{}/api/v1/write\n  send_exemplars: true\n  queue_config: \
             {{batch_send_deadline: 200ms}}\n{more}",
            client.address()
        )
    };
    let version_2 = "  protobuf_message: io.prometheus.write.v2.Request\n";
    std::fs::write(
        &own,
        format!(
            "{scrape_config}remote_write:\n{}{}",
            remote_write(&remote.client, ""),
            remote_write(&forwarded.client(), version_2)
        ),
    )?;
    let own = own.display().to_string();
    let scraped = Launch::broker(&scratch.join("scraped"))
        .arguments(&["--prometheus-config", &own])
        .start()?;
    let file = scratch.join("prometheus.yml");
    std::fs::write(
        &file,
        format!("{scrape_config}remote_write:\n{}", remote_write(&written.client(), "")),
    )?;
    let file = file.display().to_string();
    let prometheus = Scraper::with(scratch, &file, &["--enable-feature=exemplar-storage"])?;
    let theirs = prometheus.client;
    let ours = [written.client(), scraped.client(), forwarded.client(), remote.client];
    let mut found = 0;
    for step in 0..=STEPS {
        target.show(step);
        // Each has seen this step before the target goes on.
        let trace = format!("of-counter-{step}");
        for client in ours.iter().chain([&theirs]) {
            wait_until(&format!("{trace} at {}", client.address()), || {
                Ok(answer(client, "c_total")?.to_string().contains(&trace))
            })?;
        }
    }
    for query in [
        "c_total",
        "rate(h_bucket{le=\"0.5\"}[5m]) / on () group_left () c_total",
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
        "{__name__=~\"c_total|undated_total\"}",
        "up",
    ] {
        let wanted = answer(&theirs, query)?;
        for client in &ours {
            let ours = answer(client, query)?;
            let address = client.address();
            ensure!(ours == wanted, "{address}, {query}: {ours} instead of Prometheus' {wanted}");
        }
        found += wanted.as_array().map_or(0, Vec::len);
    }
    ensure!(found == 7, "{found} series with exemplars");
    // Without a selector there is nothing to say.
    for client in [theirs, written.client(), scraped.client()] {
        let answer = client.get("/api/v1/query_exemplars?query=1%2B1")?;
        ensure!((answer.status, answer.text().as_str()) == (204, ""), "{answer:?}");
    }
    // A range cuts the same from both.
    let all = answer(&theirs, "c_total")?;
    let times = all[0]["exemplars"].as_array().context("exemplars")?;
    ensure!(times.len() as u64 == STEPS + 1, "{all}");
    let middle = times[1]["timestamp"].to_string();
    for client in [written.client(), scraped.client()] {
        let form = [("query", "c_total"), ("start", &*middle), ("end", &*middle)];
        let wanted = theirs.data("/api/v1/query_exemplars", &form)?;
        let ours = client.data("/api/v1/query_exemplars", &form)?;
        ensure!(ours == wanted && ours[0]["exemplars"] == Value::from(&times[1..2]), "{ours}");
    }
    // Shown in each scrape, stored once.
    let stored = scraped.client().metric("watchfire_broker_exemplars_stored_total")?;
    let repeated = scraped.client().metric("watchfire_broker_exemplars_repeated_total")?;
    ensure!(repeated >= 2.0, "{stored} stored, {repeated} repeated");
    let metrics = scraped.client().get("/metrics")?.text();
    let sent = |line: &&str| line.starts_with("prometheus_remote_storage_exemplars_total{");
    let sent: Vec<&str> = metrics.lines().filter(sent).collect();
    ensure!(
        sent.len() == 2 && sent.iter().all(|line| line.ends_with(&format!(" {stored}"))),
        "{sent:?}"
    );
    drop(prometheus);
    drop(remote);
    written.stop()?;
    scraped.stop()?;
    forwarded.stop()?;
    Ok(format!("{found} series with exemplars, {stored} stored, {repeated} repetitions left out"))
}

/// The answer without the times of exemplars that have none of their own, which are those of
/// scrapes.
fn answer(client: &Client, query: &str) -> Result<Value> {
    let mut data = client.data("/api/v1/query_exemplars", &[("query", query)])?;
    for series in data.as_array_mut().into_iter().flatten() {
        if series["seriesLabels"]["__name__"] == "undated_total" {
            for exemplar in series["exemplars"].as_array_mut().into_iter().flatten() {
                exemplar["timestamp"] = Value::Null;
            }
        }
    }
    Ok(data)
}

fn wait_until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Shows OpenMetrics whose exemplars change with the step.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    step: Arc<AtomicU64>,
    served: Arc<AtomicU64>,
}

impl Target {
    /// Serves until the process ends.
    pub(crate) fn start() -> Result<Target> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let step = Arc::new(AtomicU64::new(0));
        let begin_ms = now_ms() - 60_000;
        let served = Arc::new(AtomicU64::new(0));
        let (shown, answered) = (Arc::clone(&step), Arc::clone(&served));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let body = exposition(begin_ms, shown.load(Ordering::Relaxed));
                let served = Arc::clone(&answered);
                std::thread::spawn(move || {
                    // A scraper that goes away is its own affair.
                    if serve(stream, &body).is_ok() {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Target { address, step, served })
    }

    /// From now on it shows other exemplars.
    pub(crate) fn show(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// How often it was scraped.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// Times are those of observations, so everyone stores the same.
fn exposition(begin_ms: i64, step: u64) -> String {
    let at = |offset_ms: i64| {
        let t_ms = begin_ms + 5_000 * step as i64 + offset_ms;
        format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000)
    };
    let (first, second, third) = (at(1), at(250), at(500));
    format!(
        "# TYPE c counter\n\
         c_total {step} # {{trace_id=\"of-counter-{step}\"}} 1.5 {first}\n\
         # TYPE h histogram\n\
         h_bucket{{le=\"0.5\"}} {step} # {{trace_id=\"quick {step}\",span_id=\"ü\"}} 0.25 {second}\n\
         h_bucket{{le=\"+Inf\"}} {step} # {{}} 1e+21 {third}\n\
         h_count {step}\nh_sum 1\n\
         # TYPE undated counter\n\
         undated_total 7 # {{trace_id=\"of-step-{step}\"}} {step}\n\
         # TYPE long counter\n\
         long_total 7 # {{trace_id=\"{}\"}} 1 {first}\n# EOF\n",
        "x".repeat(121)
    )
}

fn serve(mut stream: TcpStream, body: &str) -> Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; \
         charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}
