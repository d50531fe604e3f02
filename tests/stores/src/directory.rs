//! `file://`: processes that are killed, and disks that lose their power.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use objects::{Purpose, StoreOptions};
use rustix::process::{Pid, Signal, kill_process};

use crate::contract;
use crate::harness::image::Image;
use crate::harness::random::Random;
use crate::harness::{Group, Scratch, open, options, run};
use crate::writer::{self, Writer};

pub(crate) const GROUP: Group = Group {
    name: "directory",
    tests: &[("contract", contract), ("kill", kill), ("power-cut", power_cut), ("full", full)],
};

const KILLS: usize = 25;
const CUTS: usize = 12;
const DISK_MEGABYTES: u64 = 256;

fn truth() -> StoreOptions {
    StoreOptions { purpose: Purpose::Truth, ..options() }
}

fn contract(scratch: &Scratch) -> Result<String> {
    let url = format!("file://{}", scratch.join("store").display());
    run(async { contract::check(&open(&url, truth()).await?).await })?;
    Ok("holds".to_owned())
}

fn kill(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let url = format!("file://{}", scratch.join("store").display());
    let (mut confirmed, mut orphans) = (0, 0);
    for _ in 0..KILLS {
        // Two processes share the directory, as brokers do.
        let (one, other) = (Writer::start(&url)?, Writer::start(&url)?);
        std::thread::sleep(Duration::from_millis(50 + random.below(250)));
        let mut keys = one.kill()?;
        keys.extend(other.kill()?);
        orphans += run(async {
            let store = open(&url, truth()).await?;
            let orphans = writer::check(&store, &keys).await?;
            for info in store.list("crash/").await? {
                store.delete(&info.key).await?;
            }
            Ok(orphans)
        })
        .with_context(|| format!("seed {seed}"))?;
        confirmed += keys.len();
    }
    ensure!(confirmed > KILLS, "only {confirmed} objects were confirmed");
    Ok(format!("{KILLS} kills of two, {confirmed} confirmed, 0 lost, 0 torn, {orphans} orphans"))
}

fn power_cut(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut image = Image::create(scratch.path(), DISK_MEGABYTES)?;
    let url = format!("file://{}", image.path().join("store").display());
    let mut confirmed = 0;
    for _ in 0..CUTS {
        let writer = Writer::start(&url)?;
        std::thread::sleep(Duration::from_millis(100 + random.below(400)));
        freeze(writer.id())?;
        let disk = image.snapshot()?;
        let keys = writer.kill()?;
        image.boot_from(&disk)?;
        confirmed += keys.len();
        run(async {
            let store = open(&url, truth()).await?;
            writer::check(&store, &keys).await?;
            for info in store.list("crash/").await? {
                store.delete(&info.key).await?;
            }
            Ok(())
        })
        .with_context(|| format!("seed {seed}"))?;
    }
    ensure!(confirmed > CUTS, "only {confirmed} objects were confirmed");
    Ok(format!("{CUTS} cuts, {confirmed} confirmed, 0 lost, 0 torn"))
}

/// Stops a process between two instructions and waits until it stands still.
fn freeze(id: u32) -> Result<()> {
    let pid = Pid::from_raw(id.cast_signed()).context("a process has a number")?;
    kill_process(pid, Signal::STOP)?;
    let begin = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(10), "it does not stop: {stat}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A disk that is full, and one that a fault made read-only.
fn full(scratch: &Scratch) -> Result<String> {
    let image = Image::create(scratch.path(), 16)?;
    let url = format!("file://{}", image.path().join("store").display());
    run(async {
        let store = open(&url, truth()).await?;
        store.put("a/first", contract::body(1, 1 << 20).into()).await?;
        let mut told = None;
        for number in 0..16 {
            let (key, bytes) = (format!("a/{number}"), contract::body(number, 1 << 20));
            if let Err(error) = store.put(&key, bytes.into()).await {
                told = Some(error);
                break;
            }
        }
        let error = told.context("16 MiB fit into 16 MiB of disk")?;
        ensure!(error.kind() == "full" && error.to_string().contains("free space"), "{error}");
        store.delete("a/0").await?;
        store.put("a/again", contract::body(1, 1 << 19).into()).await?;
        image.break_down()?;
        let error = store.put("a/broken", vec![1; 9].into()).await.err();
        let error = error.context("a read-only file system took an object")?;
        ensure!(
            error.kind() == "read_only" || error.kind() == "refused",
            "{}: {error}",
            error.kind()
        );
        ensure!(store.get("a/first").await? == contract::body(1, 1 << 20));
        Ok(format!("full and {} are told, what is there is read", error.kind()))
    })
}
