//! The data of one machine moves into a cluster, while it is written to.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::site::launch;
use crate::harness::process::binary;
use crate::harness::random::Random;
use crate::harness::{Launch, Scratch, Server, free_address, now_ms};
use crate::ledger::Ledger;

/// Of the one machine, which keeps more than the cluster.
const CONFIG: &str = "storage:\n  flush_interval: 1s\n  retention: 1000d\n";
const DAY_MS: i64 = 86_400_000;

/// Runs `watchfire migrate`; yields what it said.
fn migrate(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(binary()).arg("migrate").args(arguments).output().context("start migrate")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "migrate {arguments:?}: {said}");
    Ok(said)
}

/// Names and contents of the blocks below a data directory.
fn blocks(data: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name(), std::fs::read(entry.path())?))
    };
    std::fs::read_dir(data.join("blocks/metrics"))?.map(read).collect()
}

fn for_seconds(seconds: u64) -> Result<()> {
    sleep(Duration::from_secs(seconds));
    Ok(())
}

/// Writes lines with the numbers `from..to`, a millisecond apart, that are told apart by nothing but their numbers.
fn push_lines(server: &Server, from: usize, to: usize) -> Result<()> {
    let values: Vec<[String; 2]> = (from..to)
        .map(|number| [format!("{}000000", now_ms() + number as i64), format!("line {number}")])
        .collect();
    let body =
        json!({ "streams": [{ "stream": { "app": "mover" }, "values": values }] }).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer = server.client().post("/loki/api/v1/push", &headers, body.as_bytes())?;
    ensure!(answer.status == 204, "lines: {} {}", answer.status, answer.text());
    Ok(())
}

/// # Errors
/// Not all lines below `count` are there, each once.
fn check_lines(server: &Server, count: usize) -> Result<()> {
    let query = [("query", "{app=\"mover\"}"), ("limit", "5000"), ("direction", "forward")];
    let told = server.client().data("/loki/api/v1/query_range", &query)?;
    let streams = told["result"].as_array().context("no result")?;
    let mut lines: Vec<&str> = streams
        .iter()
        .flat_map(|stream| stream["values"].as_array().into_iter().flatten())
        .filter_map(|value| value[1].as_str())
        .collect();
    let mut wanted: Vec<String> = (0..count).map(|number| format!("line {number}")).collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    ensure!(
        lines == wanted,
        "{} lines are there, and {count} were written: {lines:?}",
        lines.len()
    );
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
    let arguments =
        ["--from", &from, "--to", &url, "--url", &to, "--lang", "en", "--allow-expired"];
    let old = |days: i64| format!("old{{days=\"{days}\"}} 1 {}\n", now_ms() - days * DAY_MS);
    let old = (old(400) + &old(100)).into_bytes();
    let taken =
        one.client().post("/api/v1/import/prometheus", &[("Content-Type", "text/plain")], &old)?;
    ensure!(taken.status / 100 == 2, "old samples: {} {}", taken.status, taken.text());
    push_lines(&one, 0, 300)?;
    ledger.write_while(one.client(), || for_seconds(3))?;
    let refused = migrate(&arguments[..8]);
    let refused = format!("{:#}", refused.err().context("some of it is too old")?);
    for words in ["with 1 samples are older than the cluster keeps anything (365 d)", "(15 d)"] {
        ensure!(refused.contains(words), "{refused}");
    }
    // Writes go on, and so do flushes and merges.
    let first = ledger.write_while(one.client(), || migrate(&arguments))?;
    ensure!(first.contains("moved in"), "{first}");
    check_lines(&cluster, 300)?;
    push_lines(&one, 300, 400)?;
    ledger.write_while(cluster.client(), || for_seconds(1))?;
    let nothing = migrate(&[&arguments[..], &["--dry-run"]].concat())?;
    ensure!(nothing.contains("nothing moves"), "{nothing}");
    // Nobody uses the directory now: it makes the copy itself, and leaves everything as it was.
    one.stop()?;
    let before = blocks(&data)?;
    migrate(&[&arguments[..], &["--dry-run"]].concat())?;
    let after = blocks(&data)?;
    ensure!(before.iter().all(|block| after.contains(block)), "{before:?} became {after:?}");
    let second = migrate(&arguments)?;
    let third = migrate(&[&arguments[..], &["--last"]].concat())?;
    ensure!(third.contains("0 blocks with 0 samples and 0 lines"), "all of it is there: {third}");
    ledger.check(cluster.client())?;
    check_lines(&cluster, 400)?;
    let left = std::fs::read_dir(data.join("snapshots"))?.count();
    ensure!(left == 0, "{left} copies stay");
    let ended = migrate(&arguments);
    let ended = format!("{:#}", ended.err().context("it moved after the last run")?);
    ensure!(ended.contains("the move of that store was ended"), "{ended}");
    let kept =
        cluster.client().data("/api/v1/query", &[("query", "count_over_time(old[200d])")])?;
    ensure!(kept["result"].as_array().is_some_and(|kept| kept.len() == 1), "{kept}");
    // Another cluster has blocks of the same names: nothing may be written over them.
    let other_url = format!("file://{}", scratch.join("other-store").display());
    let (broker, _) = launch(scratch, "other", free_address()?)?;
    let other = broker.arguments(&["--store", &other_url]).start()?;
    let mixed = migrate(&["--from", &from, "--to", &url, "--url", &at(&other), "--lang", "en"]);
    let mixed = format!("{:#}", mixed.err().context("it wrote into another cluster's store")?);
    ensure!(mixed.contains("is the store of cluster"), "{mixed}");
    other.stop()?;
    // To a machine that is in no cluster nothing moves.
    let alone = Launch::broker(&scratch.join("alone")).start()?;
    let wrong = migrate(&["--from", &from, "--to", &url, "--url", &at(&alone)]);
    let wrong = format!("{:#}", wrong.err().context("it moved to one machine")?);
    ensure!(wrong.contains("ask a broker of the cluster"), "{wrong}");
    cluster.stop()?;
    let line =
        |said: &str| said.lines().find(|line| line.contains(" blocks with ")).map(str::to_owned);
    Ok(format!(
        "{} samples acknowledged and 400 lines, 0 lost, 0 doubled; {} | {}",
        ledger.acknowledged_samples(),
        line(&first).unwrap_or_default(),
        line(&second).unwrap_or_default()
    ))
}
