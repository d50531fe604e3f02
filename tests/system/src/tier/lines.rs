//! No line that is written to a file is lost or doubled on its way to a broker, whatever is killed while
//! the file is rotated.
//!
//! The ledger is a number in each line. Whoever writes rotates as well, by all the ways there are, while
//! agent and broker are killed in turn; in the end each number must be read back once, in its stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::kills::join_token;
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, Server, free_address, now_ms};
use crate::rotating::{Writing, number_of};

const ROUNDS: usize = 100;
/// Flushes all the time, so that kills hit them too.
const BROKER: &str = "storage:\n  flush_interval: 500ms\nlogs:\n  collect: false\n";
/// What one answer may hold.
const PAGE: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn agent_config(directory: &Path, pattern: &str) -> String {
    format!(
        "agent:\n  enabled: false\nlogs:\n  containers: false\n  journal: {{enabled: false}}\n  files:\n    \
         - paths: ['{}/{pattern}']\n      labels: {{job: ledger}}\n",
        directory.display()
    )
}

/// An agent and its broker.
pub(super) fn over_rotations(scratch: &Scratch) -> Result<String> {
    let logs = scratch.join("logs");
    fs::create_dir_all(&logs)?;
    let (peers, listen) = (free_address()?, free_address()?);
    let (broker_data, agent_data) = (scratch.join("broker/data"), scratch.join("agent/data"));
    for data in [&broker_data, &agent_data] {
        fs::create_dir_all(data.parent().expect("a directory of its own"))?;
    }
    let broker = Launch::broker(&broker_data).config(BROKER).arguments(&[
        "--listen",
        &listen.to_string(),
        "--peer-listen",
        &peers.to_string(),
    ]);
    let mut running_broker = broker.start()?;
    let token = join_token(&broker_data, "agent")?;
    let agent = Launch::agent(&agent_data).config(&agent_config(&logs, "app.log*")).arguments(&[
        "--broker",
        &peers.to_string(),
        "--join",
        &token,
    ]);
    let mut running_agent = agent.start()?;
    let began_ms = now_ms();
    let seed = Random::seed();
    let writing = Writing::start(&logs, seed)?;
    let mut random = Random::new(seed);
    let mut kills = [0, 0];
    for _ in 0..ROUNDS {
        sleep(Duration::from_millis(random.below(200)));
        let is_agent = random.below(2) == 0;
        if is_agent {
            running_agent = restarted(&agent, running_agent, &mut random)?;
        } else {
            running_broker = restarted(&broker, running_broker, &mut random)?;
        }
        kills[usize::from(is_agent)] += 1;
    }
    let (written, rotations) = writing.end()?;
    let client = running_broker.client();
    let found = settled(&client, written, began_ms).with_context(|| format!("seed {seed}"))?;
    running_agent.stop()?;
    running_broker.stop()?;
    Ok(format!(
        "{} brokers and {} agents killed over {rotations} rotations: {found} lines, each once; seed {seed}",
        kills[0], kills[1]
    ))
}

/// A process that has all roles.
pub(super) fn all_in_one(scratch: &Scratch) -> Result<String> {
    let logs = scratch.join("logs");
    fs::create_dir_all(&logs)?;
    let listen = free_address()?;
    let config = format!(
        "storage:\n  flush_interval: 500ms\nlogs:\n  containers: false\n  journal: {{enabled: false}}\n  \
         files:\n    - paths: ['{}/app.log*']\n      labels: {{job: ledger}}\n",
        logs.display()
    );
    let launch = Launch::all(&scratch.join("data"))
        .config(&config)
        .arguments(&["--listen", &listen.to_string()]);
    let mut running = launch.start()?;
    let began_ms = now_ms();
    let seed = Random::seed();
    let writing = Writing::start(&logs, seed)?;
    let mut random = Random::new(seed);
    for _ in 0..ROUNDS / 4 {
        sleep(Duration::from_millis(random.below(300)));
        running = restarted(&launch, running, &mut random)?;
    }
    let (written, rotations) = writing.end()?;
    let found =
        settled(&running.client(), written, began_ms).with_context(|| format!("seed {seed}"))?;
    running.stop()?;
    Ok(format!(
        "{} kills over {rotations} rotations: {found} lines, each once; seed {seed}",
        ROUNDS / 4
    ))
}

/// Kills a process and starts it anew.
fn restarted(launch: &Launch, running: Server, random: &mut Random) -> Result<Server> {
    running.kill()?;
    sleep(Duration::from_millis(random.below(100)));
    launch.start()
}

/// Waits until all lines are there, and a moment longer, so that none comes a second time.
pub(super) fn settled(client: &Client, written: u64, began_ms: i64) -> Result<u64> {
    let begin = Instant::now();
    loop {
        let found = numbers(client, began_ms)?;
        let missing: Vec<u64> =
            (0..written).filter(|number| !found.contains_key(number)).take(10).collect();
        if missing.is_empty() {
            break;
        }
        let count = found.len();
        ensure!(
            begin.elapsed() < PATIENCE,
            "{count} of {written} lines; {missing:?} and others lack"
        );
        sleep(Duration::from_millis(300));
    }
    sleep(Duration::from_secs(2));
    let found = numbers(client, began_ms)?;
    let doubled: Vec<_> = found.iter().filter(|(_, times)| **times != 1).take(10).collect();
    ensure!(doubled.is_empty(), "lines that are there more than once: {doubled:?}");
    ensure!(found.len() as u64 == written, "{} lines, {written} were written", found.len());
    Ok(written)
}

/// How often each number was read back.
fn numbers(client: &Client, began_ms: i64) -> Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    let mut from_ns = (began_ms - 60_000) * 1_000_000;
    let end_ns = (now_ms() + 60_000) * 1_000_000;
    loop {
        let target = format!(
            "/loki/api/v1/query_range?query=%7Bjob%3D%22ledger%22%7D&limit={PAGE}&direction=forward&\
             start={from_ns}&end={end_ns}"
        );
        let data = client.get_data(&target)?;
        let (mut lines, mut last_ns) = (0, from_ns);
        for stream in data["result"].as_array().context("streams")? {
            for value in stream["values"].as_array().context("lines")? {
                let time_ns: i64 = value[0].as_str().context("a time")?.parse()?;
                let line = value[1].as_str().context("a line")?;
                *found.entry(number_of(line)?).or_insert(0) += 1;
                last_ns = last_ns.max(time_ns);
                lines += 1;
            }
        }
        if lines < PAGE {
            return Ok(found);
        }
        // No two lines that were read of a file have one time.
        from_ns = last_ns + 1;
    }
}
