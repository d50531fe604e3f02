//! Lines go to other systems besides the broker, and get there whatever is away or killed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Client, Launch, Scratch, now_ms};

const PATIENCE: Duration = Duration::from_secs(40);
/// Lines between two events.
const STEP: u64 = 400;

fn write(path: &Path, next: &mut u64) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut text = String::new();
    for _ in 0..STEP {
        text.push_str(&format!("line {next}\n"));
        *next += 1;
    }
    file.write_all(text.as_bytes()).context("write lines")
}

/// How often each line is there.
fn lines(client: &Client, query: &str) -> Result<BTreeMap<String, u64>> {
    let (from_ns, end_ns) = ((now_ms() - 3_600_000) * 1_000_000, (now_ms() + 60_000) * 1_000_000);
    let (from_ns, end_ns) = (from_ns.to_string(), end_ns.to_string());
    let form = [
        ("query", query),
        ("start", from_ns.as_str()),
        ("end", end_ns.as_str()),
        ("limit", "5000"),
    ];
    let data = client.data("/loki/api/v1/query_range", &form)?;
    let mut found = BTreeMap::new();
    for stream in data["result"].as_array().context("streams")? {
        for value in stream["values"].as_array().context("lines")? {
            let line = value[1].as_str().context("a line")?;
            *found.entry(line.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(found)
}

/// Waits until all lines are there, each once.
fn settled(client: &Client, query: &str, written: u64) -> Result<()> {
    let begin = Instant::now();
    loop {
        let found = lines(client, query)?;
        let twins = found.iter().filter(|(_, times)| **times != 1).count();
        ensure!(twins == 0, "{query}: {twins} lines are there more than once");
        if found.len() as u64 == written {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "{query}: {} lines of {written} after {PATIENCE:?}",
            found.len()
        );
        sleep(Duration::from_millis(200));
    }
}

pub(super) fn outlive_kills(scratch: &Scratch) -> Result<String> {
    for directory in ["here", "there"] {
        std::fs::create_dir_all(scratch.join(directory))?;
    }
    let (away, log) = (crate::harness::free_address()?.to_string(), scratch.join("app.log"));
    let pauses = "batch_wait: 50ms, min_backoff_period: 50ms, max_backoff_period: 200ms";
    let config = format!(
        "logs:\n  containers: false\n  journal: {{enabled: false}}\n  files:\n    \
         - paths: ['{}']\n      labels: {{job: ledger}}\n  sinks:\n    \
         - {{type: loki, url: 'http://{away}', {pauses}}}\n    \
         - {{type: otlp, url: 'http://{away}/otlp/v1/logs', tenant_id: otlp, {pauses}}}\n",
        log.display()
    );
    let launch = Launch::all(&scratch.join("here/data")).config(&config);
    let mut next = 0;
    write(&log, &mut next)?;
    let here = launch.start()?;
    // The system that is away holds up nobody.
    settled(&here.client(), "{job=\"ledger\"}", next)?;
    here.kill()?;
    write(&log, &mut next)?;
    let here = launch.start()?;
    settled(&here.client(), "{job=\"ledger\"}", next)?;
    let there = Launch::broker(&scratch.join("there/data")).arguments(&["--listen", &away]);
    let both = |client: Client, next| {
        settled(&client, "{job=\"ledger\"}", next)?;
        settled(&client.for_tenant("otlp"), "{service_name=\"ledger\"}", next)
    };
    let running = there.start()?;
    both(running.client(), next)?;
    running.kill()?;
    write(&log, &mut next)?;
    settled(&here.client(), "{job=\"ledger\"}", next)?;
    here.kill()?;
    let running = there.start()?;
    write(&log, &mut next)?;
    let here = launch.start()?;
    both(running.client(), next)?;
    let delivered = |sink: &str| {
        let name = format!("watchfire_agent_log_sink_refused_lines_total{{sink=\"{sink}\"}}");
        here.client().metric(&name)
    };
    ensure!(delivered("loki")? + delivered("otlp")? == 0.0, "lines were refused");
    here.stop()?;
    running.stop()?;
    Ok(format!("{next} lines in three places, through three kills"))
}
