//! Nothing that an agent collects is lost, doubled or reordered, whatever is killed and cut, and a
//! console shows it or says that it cannot.
//!
//! The ledger is the clock: an agent that lives collects at every tick of its interval, and each
//! pass yields one sample of `node_time_seconds` whose value is the time. So every second of an
//! agent's life must be in the store, in order; only where the agent itself was killed may a pass
//! be missing that had not reached its spool yet.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::link::Link;
use crate::harness::process::binary;
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, Server, free_address, now_ms};

/// Kills and cuts together.
const ROUNDS: usize = 100;
const INTERVAL_MS: i64 = 200;
/// A pass on a machine that compiles and tests at the same time may be this late.
const LATE_MS: i64 = 1_500;
const AGENT: &str = "agent:\n  interval: 200ms\n  instance: web-1\n";
/// Flushes all the time, so that kills hit them too.
const BROKER: &str = "storage:\n  flush_interval: 500ms\n";

struct Tier {
    broker: Launch,
    agent: Launch,
    console: Launch,
    running_broker: Option<Server>,
    running_agent: Option<Server>,
    running_console: Option<Server>,
    link: Link,
    /// From before each kill of the agent until it collects again.
    agent_away: Vec<(i64, i64)>,
}

impl Tier {
    fn start(scratch: &Scratch) -> Result<Tier> {
        let peers = free_address()?;
        let listen = free_address()?;
        let (broker_data, agent_data) = (scratch.join("broker/data"), scratch.join("agent/data"));
        let console_data = scratch.join("console/data");
        for data in [&broker_data, &agent_data, &console_data] {
            std::fs::create_dir_all(data.parent().expect("a directory of its own"))?;
        }
        let broker = Launch::broker(&broker_data).config(BROKER).arguments(&[
            "--listen",
            &listen.to_string(),
            "--peer-listen",
            &peers.to_string(),
        ]);
        let running_broker = broker.start()?;
        let link = Link::to(peers)?;
        let token = join_token(&broker_data, "agent")?;
        let agent = Launch::agent(&agent_data).config(AGENT).arguments(&[
            "--broker",
            &link.address().to_string(),
            "--join",
            &token,
        ]);
        let running_agent = Some(agent.start()?);
        let running_broker = Some(running_broker);
        let token = join_token(&broker_data, "console")?;
        let console = Launch::console(&console_data).arguments(&[
            "--broker",
            &link.address().to_string(),
            "--join",
            &token,
        ]);
        let running_console = Some(console.start()?);
        Ok(Tier {
            broker,
            agent,
            console,
            running_broker,
            running_agent,
            running_console,
            link,
            agent_away: Vec::new(),
        })
    }

    fn client(&self) -> Client {
        self.running_broker.as_ref().expect("it runs between the rounds").client()
    }

    fn kill_broker(&mut self, away: Duration) -> Result<()> {
        self.running_broker.take().expect("it runs").kill()?;
        sleep(away);
        self.running_broker = Some(self.broker.start()?);
        Ok(())
    }

    fn kill_agent(&mut self) -> Result<()> {
        let killed_ms = now_ms();
        self.running_agent.take().expect("it runs").kill()?;
        self.running_agent = Some(self.agent.start()?);
        self.agent_away.push((killed_ms - INTERVAL_MS, now_ms()));
        Ok(())
    }

    fn through_console(&self) -> Client {
        self.running_console.as_ref().expect("it runs between the rounds").client()
    }

    fn kill_console(&mut self) -> Result<()> {
        self.running_console.take().expect("it runs").kill()?;
        self.running_console = Some(self.console.start()?);
        Ok(())
    }

    /// Whatever was just killed or cut: a console answers, or says that no broker does.
    fn ask_console(&self) -> Result<()> {
        let form = [("query", "node_time_seconds")];
        let (status, answer) = self.through_console().envelope("/api/v1/query", &form)?;
        let error = answer["error"].as_str().unwrap_or_default();
        let is_clear = status == 503 && error.contains("no broker answers");
        ensure!(status == 200 || is_clear, "the console answers {status}: {answer}");
        Ok(())
    }

    /// Waits until the broker has everything the agent has collected by now.
    fn wait_caught_up(&self) -> Result<()> {
        let begin = Instant::now();
        let wanted_ms = now_ms();
        loop {
            let data =
                self.client().data("/api/v1/query", &[("query", "timestamp(node_load1)")])?;
            let newest = data["result"][0]["value"][1].as_str().and_then(|s| s.parse::<f64>().ok());
            let agents: Value = serde_json::from_slice(&self.client().get("/api/v1/agents")?.body)?;
            let agent = &agents["data"]["agents"][0];
            let is_behind = agent["lagSeconds"].as_f64().is_none_or(|lag| lag > 1.5);
            if newest.is_some_and(|s| s * 1e3 > wanted_ms as f64) && !is_behind {
                return Ok(());
            }
            ensure!(begin.elapsed() < Duration::from_secs(30), "not caught up: {agents}");
            sleep(Duration::from_millis(100));
        }
    }
}

/// What `watchfire token create` prints for the next host.
pub(super) fn join_token(data: &std::path::Path, role: &str) -> Result<String> {
    let output = Command::new(binary())
        .args(["token", "create", "--role", role, "--data"])
        .arg(data)
        .output()
        .context("start watchfire token create")?;
    let text = String::from_utf8(output.stdout)?;
    let token = text.split_once("--join ").and_then(|(_, rest)| rest.split_whitespace().next());
    token.map(str::to_owned).with_context(|| {
        format!("no token in {text:?}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

pub(super) fn kills_and_cuts(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut tier = Tier::start(scratch)?;
    let begin_ms = now_ms();
    let mut counts = [0; 5];
    for _ in 0..ROUNDS {
        sleep(Duration::from_millis(random.below(500)));
        let what = random.below(5) as usize;
        counts[what] += 1;
        let away = Duration::from_millis(random.below(700));
        match what {
            0 => tier.kill_broker(away)?,
            1 => tier.kill_agent()?,
            2 => tier.kill_console()?,
            3 => tier.link.cut(),
            _ => {
                tier.link.stall(true);
                sleep(away);
                tier.link.stall(false);
            }
        }
        tier.ask_console().with_context(|| format!("seed {seed}"))?;
    }
    sleep(Duration::from_secs(2));
    let end_ms = now_ms();
    tier.wait_caught_up().with_context(|| format!("seed {seed}"))?;
    let stored = samples_of(&tier.client(), "node_time_seconds{instance=\"web-1\"}[1h]")?;
    check_passes(&stored, begin_ms, end_ms, &tier.agent_away)
        .with_context(|| format!("seed {seed}"))?;
    let shown = samples_of(&tier.through_console(), "node_time_seconds{instance=\"web-1\"}[1h]")?;
    ensure!(shown.starts_with(&stored), "the console shows something else; seed {seed}");
    let doubled = tier.client().metric("watchfire_broker_samples_duplicate_total")?;
    ensure!(doubled == 0.0, "{doubled} samples reached the store twice; seed {seed}");
    let [broker, agent, console, cut, stalled] = counts;
    tier.running_console.take().expect("it runs").stop()?;
    tier.running_agent.take().expect("it runs").stop()?;
    tier.running_broker.take().expect("it runs").stop()?;
    Ok(format!(
        "{broker} brokers, {agent} agents and {console} consoles killed, {cut} cuts, {stalled} stalls; {} passes over \
         {} s, none lost; seed {seed}",
        stored.len(),
        (end_ms - begin_ms) / 1_000
    ))
}

/// Time and value of each sample of the one series that a range selector finds.
pub(crate) fn samples_of(client: &Client, query: &str) -> Result<Vec<(i64, f64)>> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let series = data["result"].as_array().context("a matrix")?;
    ensure!(series.len() == 1, "{} series", series.len());
    let values = series[0]["values"].as_array().context("samples")?;
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    values
        .iter()
        .map(|pair| {
            let t_ms = (pair[0].as_f64().context("a time")? * 1e3).round() as i64;
            Ok((t_ms, number(&pair[1]).context("a value")?))
        })
        .collect()
}

/// Whether a pass of each interval is there, in order, but for the times when the agent was away.
pub(crate) fn check_passes(
    stored: &[(i64, f64)],
    begin_ms: i64,
    end_ms: i64,
    away: &[(i64, i64)],
) -> Result<()> {
    ensure!(stored.len() > 10, "{} passes", stored.len());
    let (first, last) = (stored[0].0, stored[stored.len() - 1].0);
    ensure!(first <= begin_ms + LATE_MS, "begins {} ms late", first - begin_ms);
    ensure!(last >= end_ms - LATE_MS, "ends {} ms early", end_ms - last);
    for pair in stored.windows(2) {
        let [(before_ms, before), (after_ms, after)] = [pair[0], pair[1]];
        if after <= before {
            bail!(
                "the pass at {after_ms} says {after}, the one before it, at {before_ms}, {before}"
            );
        }
        let is_excused = away.iter().any(|(from, until)| before_ms < *until && *from < after_ms);
        let limit_ms = INTERVAL_MS + LATE_MS;
        ensure!(
            is_excused || after_ms - before_ms <= limit_ms,
            "no pass between {before_ms} and {after_ms}, and the agent ran; away {away:?}"
        );
    }
    Ok(())
}
