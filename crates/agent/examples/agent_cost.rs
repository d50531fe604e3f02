//! Prints what the whole agent costs on this host: collecting, packing, spooling, shipping over
//! mutual TLS, once a second. The agent is a process of its own; the broker that takes its batches
//! runs in this one and is not counted.
//! `cargo run -p watchfire-agent --release --example agent_cost [seconds [windows]]`

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::{
    Agent, AgentConfig, Pace, ReductionRule, SpoolConfig, Statistic, TierConfig, WindowRule,
    WindowsConfig,
};
use model::{MatchOp, Matcher};
use support::ModelBroker;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Tells the agent's process where the broker is.
const CHILD: &str = "WATCHFIRE_COST_OF_AGENT";

/// Left out at the beginning: first passes read and describe what later ones know.
const WARM_UP: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    if let Ok(arguments) = std::env::var(CHILD) {
        return tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(run_agent(&arguments));
    }
    let seconds = std::env::args().nth(1).map_or(Ok(30), |text| text.parse())?;
    let windows = std::env::args().nth(2).is_some();
    tokio::runtime::Runtime::new()?.block_on(measure(seconds, windows))
}

async fn run_agent(arguments: &str) -> Result<()> {
    let (data, rest) = arguments.split_once(',').ok_or("directory and broker")?;
    let (broker, windows) = rest.split_once(',').ok_or("broker and windows")?;
    let data = Path::new(data);
    let brokers = vec![broker.to_owned()];
    let identity = net::join(&data.join("tls"), &brokers, None, "host", net::Role::Agent).await?;
    let config = TierConfig {
        host: Some(AgentConfig::default()),
        spool_directory: data.join("spool"),
        spool: SpoolConfig::default(),
        logs: None,
        windows: if windows == "true" { every_series()? } else { WindowsConfig::default() },
        brokers,
        labels: Default::default(),
        version: "0.1.0".to_owned(),
        config_hash: String::new(),
    };
    let agent = Agent::start(config, &identity)?;
    let mut stdout = std::io::stdout();
    loop {
        // As many figures as are needed when the parent ends; they are read when it does.
        tokio::time::sleep(Duration::from_secs(5)).await;
        for row in agent.rows().iter().filter(|row| row.value != 0.0) {
            let labels: Vec<_> = row.labels.iter().map(|(_, value)| *value).collect();
            writeln!(stdout, "{} {} {}", row.name, labels.join(","), row.value)?;
        }
        writeln!(stdout)?;
    }
}

/// One window and one reduction over all there is.
fn every_series() -> Result<WindowsConfig> {
    let all = vec![Matcher::new("__name__", MatchOp::Regex, "node_.*")?];
    let rule = WindowRule {
        matchers: all.clone(),
        window_ms: 60_000,
        step_ms: 10_000,
        statistics: vec![Statistic::Min, Statistic::Max, Statistic::Mean],
        replaces: false,
    };
    let reduction = ReductionRule {
        matchers: all,
        tolerance: 0.0,
        relative_tolerance: 0.0,
        heartbeat_ms: 60_000,
        pace: Pace::OnChange,
    };
    Ok(WindowsConfig { windows: vec![rule], reductions: vec![reduction] })
}

async fn measure(seconds: u64, windows: bool) -> Result<()> {
    let broker = ModelBroker::start(4 << 20).await;
    let data = tempfile::tempdir()?;
    broker.join(&data.path().join("tls")).await;
    let arguments = format!("{},{},{windows}", data.path().display(), broker.address);
    let mut child = Command::new(std::env::current_exe()?)
        .env(CHILD, arguments)
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("piped")?).lines();
    let figures =
        std::thread::spawn(move || lines.map_while(std::io::Result::ok).collect::<Vec<_>>());
    tokio::time::sleep(WARM_UP).await;
    let before = (cpu_ticks(child.id())?, broker.stored().received());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = (cpu_ticks(child.id())?, broker.stored().received());
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    child.kill()?;
    child.wait()?;
    let mut stdout = std::io::stdout();
    let figures = figures.join().map_err(|_| "the reader ended")?;
    for line in figures.rsplit(String::is_empty).nth(1).unwrap_or(&[]) {
        writeln!(stdout, "{line}")?;
    }
    for line in status.lines().filter(|line| line.contains("Rss") || line.contains("RSS")) {
        writeln!(stdout, "{line}")?;
    }
    let passes = (after.1.0 - before.1.0) as f64;
    let ms = (after.0 - before.0) as f64 * 1_000.0 / rustix::param::clock_ticks_per_second() as f64;
    writeln!(
        stdout,
        "{passes} batches in {seconds} s: {:.2} ms of CPU and {:.0} bytes each",
        ms / passes,
        (after.1.1 - before.1.1) as f64 / passes
    )?;
    Ok(())
}

/// User and system time of a process.
fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().ok_or("a stat line")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}
