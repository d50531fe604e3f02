//! An agent whose broker is killed goes on at another one that it was told of, and nothing is stored
//! twice.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::site::{READS_ACROSS, Site, join_token};
use crate::harness::{Launch, Scratch, now_ms, random::Random};
use crate::tier::{check_passes, samples_of};

const AGENT: &str = "agent:\n  interval: 200ms\n  instance: web-1\n";
const SELECTOR: &str = "node_time_seconds{instance=\"web-1\"}";
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn fails_over(scratch: &Scratch) -> Result<String> {
    let mut site = Site::start(scratch, Random::seed())?;
    let token = join_token(&site.members[2].data, "agent")?;
    std::fs::create_dir_all(scratch.join("agent"))?;
    // It knows of one broker; that one tells of the others.
    let agent = Launch::agent(&scratch.join("agent/data")).config(AGENT).arguments(&[
        "--broker",
        &site.members[0].peers.to_string(),
        "--join",
        &token,
    ]);
    let agent = agent.start()?;
    let acknowledged =
        || agent.client().metric("watchfire_agent_ship_acknowledged_batches_total{lane=\"live\"}");
    let begin = Instant::now();
    while acknowledged()? < 10.0 {
        ensure!(begin.elapsed() < PATIENCE, "nothing is acknowledged: {}", agent.stderr());
        sleep(Duration::from_millis(50));
    }
    let begin_ms = now_ms();
    sleep(Duration::from_secs(1));
    site.members[0].kill()?;
    let killed = Instant::now();
    let before = acknowledged()?;
    while acknowledged()? <= before {
        ensure!(killed.elapsed() < PATIENCE, "no other broker: {}", agent.stderr());
        sleep(Duration::from_millis(10));
    }
    let away = killed.elapsed();
    site.members[0].start_again()?;
    sleep(Duration::from_secs(2));
    let end_ms = now_ms();
    sleep(Duration::from_secs(2));

    let mut stored = BTreeMap::new();
    for (at, member) in site.members.iter().enumerate() {
        let client = member.client();
        let doubled = client.metric("watchfire_broker_samples_duplicate_total")?;
        ensure!(doubled == 0.0, "{doubled} samples reached broker {} twice", at + 1);
        let found = client.data("/api/v1/query", &[("query", &format!("count({SELECTOR})"))])?;
        // One that the agent was never at has nothing fresh of it.
        if found["result"].as_array().is_some_and(|rows| !rows.is_empty()) {
            let read = samples_of(&client, &format!("{SELECTOR}[1h]"))?;
            if READS_ACROSS {
                let pairs: Vec<_> = read.iter().map(|(t_ms, _)| *t_ms).collect();
                ensure!(pairs.last().is_some_and(|last| last + 3_000 > end_ms), "{pairs:?}");
            }
            stored.extend(read.into_iter().map(|(t_ms, value)| (t_ms, value.to_bits())));
        }
    }
    let stored: Vec<(i64, f64)> =
        stored.into_iter().map(|(t_ms, bits)| (t_ms, f64::from_bits(bits))).collect();
    check_passes(&stored, begin_ms, end_ms, &[]).context("all brokers together")?;
    agent.stop()?;
    Ok(format!(
        "{} passes, each once; acknowledged again {:.1} s after the kill",
        stored.len(),
        away.as_secs_f64()
    ))
}
