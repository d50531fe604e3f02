//! A broker leaves: one that starts on the way is taken back in, one that starts afterwards is refused.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::site::{Site, join_token, launch, until_taken};
use crate::harness::process::binary;
use crate::harness::random::Random;
use crate::harness::{Client, Launch, Scratch, free_address};

const PATIENCE: Duration = Duration::from_secs(40);
const DRAIN: &str = "/api/v1/cluster/drain";

fn drain(client: Client, arguments: &[&str]) -> Result<String> {
    let url = format!("http://{}", client.address());
    let mut command = Command::new(binary());
    command.args(["drain", "--url", &url, "--lang", "en"]).args(arguments);
    let output = command.output().context("start watchfire drain")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "watchfire drain {arguments:?}: {said}");
    Ok(said)
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so().with_context(|| what.to_owned())? {
        ensure!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The members that one broker tells of: name, whether it drains, whether it is only counted still.
fn members(client: Client) -> Result<Vec<(String, bool, bool)>> {
    let status = client.get_data("/api/v1/status/cluster")?;
    let members = status["members"].as_array().context("no members")?;
    let is = |one: &Value, field: &str| one[field] == true;
    let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
    Ok(members.iter().map(|one| (name(one), is(one, "isDraining"), is(one, "hasLeft"))).collect())
}

pub(super) fn drain_and_start(scratch: &Scratch) -> Result<String> {
    let mut site = Site::start(scratch, Random::seed())?;
    site.write_while(|_| {
        sleep(Duration::from_secs(1));
        Ok(())
    })?;
    let first = site.members[0].client();
    let of_third = |draining: bool| {
        move |(name, drains, _): &(String, bool, bool)| name == "broker-3" && *drains == draining
    };

    // An agent that is there goes to another one, although this one still answers.
    let token = join_token(&site.members[2].data, "agent")?;
    std::fs::create_dir_all(scratch.join("agent"))?;
    let agent = Launch::agent(&scratch.join("agent/data")).config("agent:\n  interval: 200ms\n");
    let seed = site.members[2].peers.to_string();
    let agent = agent.arguments(&["--broker", &seed, "--join", &token]).start()?;
    let shipped = || -> Result<f64> {
        let name = "watchfire_agent_ship_acknowledged_batches_total{lane=\"live\"}";
        agent.client().metric(name)
    };
    until("the agent sends", || Ok(shipped()? > 3.0))?;

    // No block can be made: it stays on its way.
    let (blocks, away) = (scratch.join("store/blocks"), scratch.join("store/blocks.away"));
    std::fs::rename(&blocks, &away).context("there are blocks")?;
    std::fs::write(&blocks, "")?;
    until_taken(site.members[2].client(), 1.0)?;
    site.members[2].client().data(DRAIN, &[("name", "broker-3")])?;
    let leaves = || Ok(members(first)?.iter().any(of_third(true)));
    until("the others know that it drains", leaves)?;
    let before = shipped()?;
    // How far it is is told by the others, with what keeps it.
    let keeps = || -> Result<bool> {
        let status = first.get_data("/api/v1/status/cluster")?;
        let members = status["members"].as_array().context("no members")?;
        let third = members.iter().find(|one| one["name"] == "broker-3").context("it is listed")?;
        let drain = &third["report"]["drain"];
        let passed_on = first.get_data(&format!("{DRAIN}?name=broker-3"))?;
        let is_told = |one: &Value| one["step"] == "flushing" && one["segments"].as_u64() > Some(0);
        let is_kept = drain["trouble"].as_str().is_some_and(|why| why.contains("blocks"));
        let findings = status["findings"].as_array().context("no findings")?;
        let is_found = findings.iter().any(|one| one["code"] == "drain_stuck");
        Ok(is_found && is_told(drain) && is_told(&passed_on) && is_kept)
    };
    until("the others tell how far it is, and why not further", keeps)?;
    until("the agent sends to another one", || Ok(shipped()? > before + 5.0))?;
    agent.stop()?;
    site.members[2].kill()?;
    std::fs::remove_file(&blocks)?;
    std::fs::rename(&away, &blocks)?;
    site.members[2].start_again()?;
    let third = site.members[2].client();
    ensure!(members(first)?.iter().any(of_third(false)), "it still drains: {:?}", members(first)?);
    ensure!(third.get_data(DRAIN)?["step"] == "serving", "{}", third.get_data(DRAIN)?);
    until_taken(third, 2.0)?;

    // Who lives is no lost one.
    let refused = drain(first, &["--lost", "broker-3"]).err().context("it lives")?;
    ensure!(format!("{refused:#}").contains("not lost"), "{refused:#}");
    let unknown = drain(first, &["broker-9"]).err().context("there is none")?;
    ensure!(format!("{unknown:#}").contains("there is no broker"), "{unknown:#}");
    // Any broker passes it on.
    let said = drain(first, &["broker-3"])?;
    let revoked = "has left the cluster and its certificate is revoked";
    ensure!(said.contains(revoked), "{said}");
    let again = drain(third, &["broker-3"])?;
    ensure!(again.contains(revoked), "asked twice: {again}");
    site.members[2].stop()?;
    let said = site.members[2].refused_again(PATIENCE)?;
    for words in ["drained and has left", "remove its data directory", "join token"] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    // Also where the file is gone that says so, as after a restore: nobody takes its certificate.
    std::fs::remove_file(site.members[2].data.join("left-cluster")).context("it said so")?;
    let said = site.members[2].refused_again(PATIENCE)?;
    for words in ["certificate is revoked", "remove its data directory", "--role broker"] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    let gone = site.members.pop().context("three")?;
    let left = members(first)?;
    ensure!(left.len() == 2 && left.iter().all(|one| !one.1 && !one.2), "{left:?}");
    until_taken(site.members[1].client(), 3.0)?;
    // Its name is free for a machine that is set up anew.
    std::fs::remove_dir_all(&gone.data)?;
    site.add(scratch, "broker-3")?;
    until_taken(site.members[2].client(), 4.0)?;
    until("it is a broker under its old name", || {
        let back = members(first)?;
        Ok(back.len() == 3 && back.iter().any(of_third(false)))
    })?;
    site.check()?;
    // Where no majority is, whoever changes something is told so before they give up.
    site.members[1].kill()?;
    site.members[2].kill()?;
    let begin = Instant::now();
    let refused = join_token(&site.members[0].data, "agent").err().context("nobody agrees")?;
    let (said, took) = (format!("{refused:#}"), begin.elapsed());
    ensure!(said.contains("leader"), "{said}");
    ensure!(took < Duration::from_secs(5), "it took {took:?}: {said}");
    Ok(format!("{} samples, none lost", site.acknowledged_samples()))
}

/// As docs/operating/security.md says.
pub(super) fn authority(scratch: &Scratch) -> Result<String> {
    let url = format!("file://{}", scratch.join("store").display());
    let (mut brokers, mut token) = (Vec::new(), None::<(String, String)>);
    for name in ["first", "second"] {
        let peers = free_address()?;
        let (again, data) = launch(scratch, name, peers)?;
        let mut start = again.clone().arguments(&["--store", &url]);
        if let Some((seed, token)) = &token {
            start = start.arguments(&["--join", seed, "--join-token", token]);
        }
        let running = start.start()?;
        if token.is_none() {
            token = Some((peers.to_string(), join_token(&data, "broker")?));
        }
        brokers.push((again, data, Some(running)));
    }
    for (_, _, running) in &mut brokers {
        running.take().expect("it runs").stop()?;
    }
    let (again, data, _) = &brokers[1];
    let key = data.join("tls/ca-key.pem");
    std::fs::remove_file(&key)?;
    let mut server = again.spawn()?;
    ensure!(!server.wait_end(PATIENCE)?.success(), "it started without the authority's key");
    let said = server.stderr();
    ensure!(said.contains("ca-key.pem is gone") && said.contains("another broker"), "{said}");
    ensure!(!key.exists(), "it made a key of its own");

    // A new authority for all: made by a broker that nobody needs.
    let new = scratch.join("new/data");
    std::fs::create_dir_all(scratch.join("new"))?;
    Launch::broker(&new).start()?.stop()?;
    for (_, data, _) in &brokers {
        replace(&data.join("tls"), &new.join("tls"))?;
    }
    for (again, _, running) in &mut brokers {
        *running = Some(again.spawn()?);
    }
    for (_, _, running) in &mut brokers {
        running.as_mut().expect("it was started").wait_ready()?;
    }
    let clients: Vec<Client> =
        brokers.iter().map(|(_, _, running)| running.as_ref().expect("it runs").client()).collect();
    for client in &clients {
        until_taken(*client, 1.0)?;
        let status = client.get_data("/api/v1/status/cluster")?;
        let told = status["members"].as_array().context("no members")?;
        let answer = told.iter().filter(|one| one["report"].is_object()).count();
        ensure!(answer == 2, "not all answer: {status}");
    }
    let old = token.map(|(_, token)| token).context("there was one")?;
    ensure!(join_token(&brokers[0].1, "agent")? != old, "tokens name the authority");
    for (_, _, running) in brokers {
        running.context("it runs")?.stop()?;
    }
    Ok("a missing key is refused, a new authority takes its place".to_owned())
}

fn replace(tls: &Path, new: &Path) -> Result<()> {
    for entry in std::fs::read_dir(tls)? {
        std::fs::remove_file(entry?.path())?;
    }
    for file in ["ca.pem", "ca-key.pem"] {
        std::fs::copy(new.join(file), tls.join(file)).with_context(|| file.to_owned())?;
    }
    if std::fs::read_dir(tls)?.count() != 2 {
        bail!("more than the authority is left");
    }
    Ok(())
}
