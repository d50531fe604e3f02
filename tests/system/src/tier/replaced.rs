//! A broker that was set up anew: the agents of the one before must say what is wrong.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::kills::join_token;
use crate::harness::process::binary;
use crate::harness::{Launch, Scratch, free_address};

const PATIENCE: Duration = Duration::from_secs(40);
/// Attempts come within seconds; the log must not have a line for each.
const WATCHED: Duration = Duration::from_secs(8);
/// Far below the time that servers give to requests under way, 10 s.
const STOP_TIME: Duration = Duration::from_secs(6);
const WORDS: &str = "belongs to another installation";

pub(super) fn replaced_broker(scratch: &Scratch) -> Result<String> {
    let peers = free_address()?.to_string();
    let in_place = |name: &str| -> Result<Launch> {
        std::fs::create_dir_all(scratch.join(name))?;
        let data = scratch.join(&format!("{name}/data"));
        Ok(Launch::broker(&data).arguments(&["--peer-listen", &peers]))
    };
    let first = in_place("first")?.start()?;
    let token = join_token(&scratch.join("first/data"), "agent")?;
    std::fs::create_dir_all(scratch.join("agent"))?;
    let agent_data = scratch.join("agent/data");
    let agent = Launch::agent(&agent_data)
        .config("agent:\n  interval: 200ms\n")
        .arguments(&["--broker", &peers, "--join", &token])
        .start()?;
    let metric = |name: &str| agent.client().metric(&format!("watchfire_agent_ship_{name}"));
    let wait = |name: &str, wanted: f64| -> Result<()> {
        let begin = Instant::now();
        while metric(name)? != wanted {
            ensure!(begin.elapsed() < PATIENCE, "{name} is not {wanted}: {}", agent.stderr());
            sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    wait("connected", 1.0)?;
    ensure!(metric("refused")? == 0.0, "refused while connected");
    first.kill()?;
    let second = in_place("second")?.start()?;
    wait("refused", 1.0)?;
    sleep(WATCHED);
    let said = agent.stderr();
    let lines = said.lines().filter(|line| line.contains(WORDS)).count();
    ensure!(lines == 1, "said {lines} times in {WATCHED:?}: {said}");
    ensure!(said.contains("watchfire token create"), "no remedy: {said}");
    let output = Command::new(binary())
        .args(["doctor", "--lang", "en", "--broker", &peers, "--data"])
        .arg(&agent_data)
        .output()
        .context("start watchfire doctor")?;
    let doctor = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(doctor.contains(WORDS), "doctor does not say it: {doctor}");
    agent.stop()?;

    // The remedy it names.
    let token = join_token(&scratch.join("second/data"), "agent")?;
    let agent = Launch::agent(&agent_data)
        .config("agent:\n  interval: 200ms\n")
        .arguments(&["--broker", &peers, "--join", &token])
        .start()?;
    let begin = Instant::now();
    while agent.client().metric("watchfire_agent_ship_connected")? != 1.0 {
        ensure!(begin.elapsed() < PATIENCE, "not connected again: {}", agent.stderr());
        sleep(Duration::from_millis(50));
    }
    // An agent that is connected does not hold up the end of its broker.
    let begin = Instant::now();
    second.stop()?;
    ensure!(begin.elapsed() < STOP_TIME, "the broker took {:?} to stop", begin.elapsed());
    agent.stop()?;
    Ok("named once in the log, in /metrics and by doctor; a new token mends it".to_owned())
}
