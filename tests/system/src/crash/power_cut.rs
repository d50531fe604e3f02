//! Power cuts: the disk keeps what was synced and loses, in any order, what was not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{BUSY, WRITERS};
use crate::harness::image::Image;
use crate::harness::random::Random;
use crate::harness::{Launch, Scratch, Server};
use crate::ledger::Ledger;

const CUTS: usize = 22;
const DISK_MEGABYTES: u64 = 96;

/// Freezes the program while it is written to, copies its disk, and boots from the copy.
pub(super) fn power_cut(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let mut image = Image::create(scratch.path(), DISK_MEGABYTES)?;
    let data = image.path().join("data");
    let launch = Launch::broker(&data).config(BUSY).beside(scratch.path());
    let mut ledger = Ledger::new(&scratch.join("ledger"), WRITERS, seed)?;
    for cut in 1..=CUTS {
        let server = launch.start()?;
        ledger.check(server.client()).with_context(|| format!("after {} cuts", cut - 1))?;
        let life = Duration::from_millis(100 + random.below(900));
        let disk = ledger.write_while(server.client(), || {
            std::thread::sleep(life);
            freeze(&server)?;
            let disk = image.snapshot()?;
            server.kill()?;
            Ok(disk)
        })?;
        image.boot_from(&disk)?;
    }
    let server = launch.start()?;
    ledger.check(server.client()).context("after the last cut")?;
    server.stop()?;
    Ok(format!(
        "{CUTS} cuts, {} samples acknowledged, 0 lost, 0 doubled, 0 invented; seed {seed}",
        ledger.acknowledged_samples()
    ))
}

/// Stops the program between two instructions and waits until it stands still.
fn freeze(server: &Server) -> Result<()> {
    server.signal(Signal::STOP);
    let path = format!("/proc/{}/stat", server.pid()?);
    let begin = Instant::now();
    loop {
        let stat = std::fs::read_to_string(&path).context("read the process' state")?;
        if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(10), "the program does not stop: {stat}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
