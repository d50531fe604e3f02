//! The data of one machine moves into a cluster, while it is written to.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::site::{free_address, launch};
use crate::harness::process::binary;
use crate::harness::random::Random;
use crate::harness::{Launch, Scratch, Server};
use crate::ledger::Ledger;

const CONFIG: &str = "storage:\n  flush_interval: 1s\n";

/// Runs `watchfire migrate`; yields what it said.
fn migrate(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(binary()).arg("migrate").args(arguments).output().context("start migrate")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "migrate {arguments:?}: {said}");
    Ok(said)
}

fn for_seconds(seconds: u64) -> Result<()> {
    sleep(Duration::from_secs(seconds));
    Ok(())
}

pub(super) fn one_machine(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut ledger = Ledger::new(&scratch.join("ledger.txt"), 2, seed)?;
    let data = scratch.join("one");
    let one = Launch::broker(&data).config(CONFIG).start()?;
    let url = format!("file://{}", scratch.join("store").display());
    let (broker, _) = launch(scratch, "broker", free_address()?)?;
    let cluster = broker.arguments(&["--store", &url]).start()?;
    let at = |server: &Server| format!("http://{}", server.client().address());
    let (from, to) = (format!("file://{}", data.display()), at(&cluster));
    let arguments = ["--from", &from, "--to", &url, "--url", &to];
    ledger.write_while(one.client(), || for_seconds(3))?;
    // Writes go on, and so do flushes and merges.
    let first = ledger.write_while(one.client(), || migrate(&arguments))?;
    ensure!(first.contains("moved in"), "{first}");
    ledger.write_while(cluster.client(), || for_seconds(1))?;
    let nothing = migrate(&[&arguments[..], &["--dry-run"]].concat())?;
    ensure!(nothing.contains("nothing moves"), "{nothing}");
    // Nobody uses the directory now: it makes the copy itself.
    one.stop()?;
    let second = migrate(&arguments)?;
    let third = migrate(&arguments)?;
    ensure!(third.contains("0 blocks with 0 samples"), "all of it is there: {third}");
    ledger.check(cluster.client())?;
    let left = std::fs::read_dir(data.join("snapshots"))?.count();
    ensure!(left == 0, "{left} copies stay");
    // To a machine that is in no cluster nothing moves.
    let alone = Launch::broker(&scratch.join("alone")).start()?;
    let wrong = migrate(&["--from", &from, "--to", &url, "--url", &at(&alone)]);
    let wrong = format!("{:#}", wrong.err().context("it moved to one machine")?);
    ensure!(wrong.contains("ask a broker of the cluster"), "{wrong}");
    cluster.stop()?;
    let line =
        |said: &str| said.lines().find(|line| line.contains(" blocks with ")).map(str::to_owned);
    Ok(format!(
        "{} samples acknowledged, 0 lost, 0 doubled; {} | {}",
        ledger.acknowledged_samples(),
        line(&first).unwrap_or_default(),
        line(&second).unwrap_or_default()
    ))
}
