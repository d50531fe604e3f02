//! Requests that the program makes: whatever leads there, a cloud's metadata service is never
//! asked, and credentials stay with the host they are for.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Launch, Scratch};

const SECRET: &str = "canary-of-redirects";

pub(super) fn outgoing(scratch: &Scratch) -> Result<String> {
    let other = Host::start(None)?;
    let host = Host::start(Some(other.address))?;
    let (here, elsewhere) = (host.address, other.address);
    let file = scratch.join("prometheus.yml");
    let targets = |target: &str| format!("static_configs: [{{targets: ['{target}']}}]");
    let local = targets(&here.to_string());
    let yaml = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
scrape_configs:
- job_name: named
  {}
- job_name: disguised
  {}
- job_name: redirected
  metrics_path: /to-metadata
  {local}
- job_name: found
  http_sd_configs: [{{url: 'http://{here}/sd'}}]
- job_name: asked
  http_sd_configs: [{{url: 'http://169.254.169.254/sd'}}]
- job_name: elsewhere
  metrics_path: /to-other
  basic_auth: {{username: u, password: {SECRET}}}
  http_headers: {{X-Key: {{secrets: [{SECRET}]}}}}
  {local}
- job_name: proxied
  proxy_url: http://169.254.169.254:3128
  {local}
",
        targets("169.254.169.254:80"),
        targets("[::ffff:a9fe:a9fe]:80"),
    );
    std::fs::write(&file, yaml)?;
    let server = Launch::broker(&scratch.join("data"))
        .arguments(&["--prometheus-config", file.to_str().context("a path in UTF-8")?])
        .start()?;
    let client = server.client();
    let begin = Instant::now();
    let active = loop {
        let data = client.get_data("/api/v1/targets?state=active")?;
        let active = data["activeTargets"].as_array().context("no targets")?.clone();
        let all_known = active.iter().all(|target| target["health"] != "unknown");
        if all_known && active.len() == 6 && server.stderr().contains("169.254.169.254/sd") {
            break active;
        }
        ensure!(begin.elapsed() < Duration::from_secs(30), "not all were scraped: {active:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    for target in &active {
        let job = target["scrapePool"].as_str().unwrap_or_default();
        let error = target["lastError"].as_str().unwrap_or_default();
        if job == "elsewhere" {
            ensure!(target["health"] == "up", "a redirect was not followed: {error}");
        } else {
            ensure!(target["health"] == "down", "{job} was answered");
            ensure!(error.contains("metadata service"), "{job} failed for another reason: {error}");
        }
    }
    let log = server.stderr();
    let told = log.lines().find(|line| line.contains("169.254.169.254/sd")).unwrap_or_default();
    ensure!(told.contains("metadata service"), "discovery does not say why: {told}");
    let first = host.received.lock().expect("no thread panicked").clone();
    ensure!(
        first.contains("Basic ") || first.contains("basic "),
        "no credentials were sent at all"
    );
    let second = other.received.lock().expect("no thread panicked").clone();
    ensure!(second.contains("GET /metrics"), "the other host, {elsewhere}, was never asked");
    let lower = second.to_ascii_lowercase();
    ensure!(!lower.contains("authorization") && !lower.contains(SECRET), "{second}");
    let up: Value = client.data("/api/v1/query", &[("query", "sum(up)")])?;
    ensure!(up["result"][0]["value"][1] == "1", "{up}");
    server.stop()?;
    Ok("six ways to a metadata service refused, credentials stayed with their host".to_owned())
}

/// Answers scrapes, lists of targets and redirects, and keeps what came.
struct Host {
    address: SocketAddr,
    received: Arc<Mutex<String>>,
}

impl Host {
    fn start(other: Option<SocketAddr>) -> Result<Host> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever hangs up is not missed.
                let _ = answer(stream, other, &keep);
            }
        });
        Ok(Host { address, received })
    }
}

fn answer(
    stream: TcpStream,
    other: Option<SocketAddr>,
    keep: &Mutex<String>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    keep.lock().expect("no thread panicked").push_str(&head);
    let redirect = |to: String| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n");
    let ok = |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
    let (head, body) = match (head.split(' ').nth(1).unwrap_or_default(), other) {
        ("/to-metadata", _) => (redirect("http://169.254.169.254/latest/".to_owned()), ""),
        ("/to-other", Some(other)) => (redirect(format!("http://{other}/metrics")), ""),
        ("/sd", _) => (ok("application/json"), "[{\"targets\":[\"169.254.169.254:80\"]}]"),
        _ => (ok("text/plain; version=0.0.4"), "up_here 1\n"),
    };
    let rest = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    reader.into_inner().write_all((head + &rest).as_bytes())
}
