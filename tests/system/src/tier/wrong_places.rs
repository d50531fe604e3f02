//! Agents that are pointed at the wrong port, and processes at another one's directory: what they say.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::kills::join_token;
use crate::harness::process::binary;
use crate::harness::{Launch, Scratch, free_address};

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn wrong_places_are_named(scratch: &Scratch) -> Result<String> {
    // Plain HTTP on loopback, HTTPS on every address.
    let directory = |name: &str| -> Result<_> {
        std::fs::create_dir_all(scratch.join(name))?;
        Ok(scratch.join(&format!("{name}/data")))
    };
    let plain_data = directory("plain")?;
    let plain = Launch::broker(&plain_data).start()?;
    let token = join_token(&plain_data, "agent")?;
    let at = plain.client().address().to_string();
    let agent_data = directory("agent")?;
    let told = refused(&["agent", "--broker", &at, "--join", &token], &agent_data)?;
    ensure!(told.contains("answers as a server without TLS"), "{told}");
    ensure!(told.contains("9596 unless it was chosen otherwise"), "{told}");

    let (at, peers) = (free_address()?.to_string(), free_address()?.to_string());
    let everywhere = at.replace("127.0.0.1", "0.0.0.0");
    let open_data = directory("open")?;
    let open = Launch::broker(&open_data)
        .arguments(&["--listen", &everywhere, "--peer-listen", &peers])
        .spawn()?;
    let begin = Instant::now();
    let token = loop {
        match join_token(&open_data, "agent") {
            Ok(token) => break token,
            Err(error) if begin.elapsed() > PATIENCE => bail!("{error:#}: {}", open.stderr()),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    };
    let told = refused(&["agent", "--broker", &at, "--join", &token], &agent_data)?;
    ensure!(told.contains("answers as an HTTPS server"), "{told}");
    // One that has joined says so as well, and goes on collecting.
    let agent =
        Launch::agent(&agent_data).arguments(&["--broker", &peers, "--join", &token]).start()?;
    agent.stop()?;
    let agent = Launch::agent(&agent_data).arguments(&["--broker", &at]).start()?;
    let begin = Instant::now();
    while !agent.stderr().contains("answers as an HTTPS server") {
        ensure!(begin.elapsed() < PATIENCE, "{}", agent.stderr());
        sleep(Duration::from_millis(50));
    }
    agent.stop()?;
    open.stop()?;
    plain.stop()?;

    // Directories of others.
    for place in [agent_data.clone(), agent_data.join("spool"), agent_data.join("spool/x")] {
        let told = refused(&["broker"], &place)?;
        ensure!(told.contains("the directory of an agent"), "{}: {told}", place.display());
    }
    let told = refused(&["agent", "--broker", &peers], &plain_data)?;
    ensure!(told.contains("the directory of a broker"), "{told}");
    Ok("2 wrong ports, 4 wrong directories".to_owned())
}

/// What a process that cannot start says.
fn refused(words: &[&str], data: &Path) -> Result<String> {
    let mut child = Command::new(binary())
        .args(words)
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start watchfire")?;
    let begin = Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > PATIENCE {
            child.kill()?;
            bail!("{words:?} goes on");
        }
        sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    ensure!(!output.status.success(), "{words:?} ended well");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
