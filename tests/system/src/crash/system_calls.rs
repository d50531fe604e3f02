//! kill -9 exactly at the Nth sync, rename or unlink.
//!
//! strace counts calls per thread: N syncs are those of whichever thread gets there first, the
//! committer's as a rule. Syncs of directories, renames and unlinks are those of a start, of
//! flushes, of merges and of the log's rotation. `--seccomp-bpf` would be faster, but with it
//! strace 6.1 does not deliver the signal.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::{BUSY, WRITERS};
use crate::harness::{Launch, Scratch};
use crate::ledger::Ledger;

/// Stores worked on at the same time; each takes every second point.
const LANES: u32 = 2;
/// A point that is not reached in this time never will be.
const PATIENCE: Duration = Duration::from_secs(60);
/// Every so many points all samples are read back, not only counted.
const THOROUGH: u32 = 10;

pub(super) fn syncs(scratch: &Scratch) -> Result<String> {
    sweep(scratch, "fdatasync,fsync", 1..=100)
}

pub(super) fn directory_syncs(scratch: &Scratch) -> Result<String> {
    sweep(scratch, "fsync", 1..=30)
}

pub(super) fn renames(scratch: &Scratch) -> Result<String> {
    sweep(scratch, "rename,renameat,renameat2", 1..=30)
}

pub(super) fn unlinks(scratch: &Scratch) -> Result<String> {
    sweep(scratch, "unlink,unlinkat", 1..=30)
}

fn sweep(scratch: &Scratch, calls: &str, points: RangeInclusive<u32>) -> Result<String> {
    let samples = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let points = points.clone().filter(move |point| point % LANES == lane);
                let directory = scratch.join(&format!("lane-{lane}"));
                scope.spawn(move || sweep_lane(&directory, calls, points))
            })
            .collect();
        lanes.into_iter().try_fold(0, |sum, lane| {
            Ok::<_, anyhow::Error>(sum + lane.join().map_err(|_| anyhow!("a lane panicked"))??)
        })
    })?;
    Ok(format!(
        "{} points, {samples} samples acknowledged, 0 lost, 0 doubled, 0 invented",
        points.count()
    ))
}

/// Yields how many samples were acknowledged.
fn sweep_lane(directory: &Path, calls: &str, points: impl Iterator<Item = u32>) -> Result<u64> {
    std::fs::create_dir_all(directory).context("make the lane's directory")?;
    let launch = Launch::broker(&directory.join("data")).config(BUSY);
    let mut ledger = Ledger::new(&directory.join("ledger"), WRITERS, 0)?;
    for (done, point) in (1..).zip(points) {
        die_at(&launch, calls, point, &mut ledger)
            .with_context(|| format!("point {point} of {calls}"))?;
        let server = launch.start().with_context(|| format!("after point {point} of {calls}"))?;
        let checked = match done % THOROUGH {
            0 => ledger.check(server.client()),
            _ => ledger.check_counts(server.client()),
        };
        checked.with_context(|| format!("after point {point} of {calls}"))?;
        server.kill()?;
    }
    let server = launch.start()?;
    ledger.check(server.client()).with_context(|| format!("after all points of {calls}"))?;
    server.stop()?;
    Ok(ledger.acknowledged_samples())
}

/// Writes until the program is killed as it enters one of `calls` for the `point`th time.
fn die_at(launch: &Launch, calls: &str, point: u32, ledger: &mut Ledger) -> Result<()> {
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:signal=KILL:when={point}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let mut server = launch.clone().under(&strace).spawn()?;
    if let Err(error) = server.wait_ready() {
        // Dead before it was ready: the point lies in the start.
        ensure!(!server.is_running(), error);
        return Ok(());
    }
    let client = server.client();
    ledger.write_while(client, || server.wait_end(PATIENCE).map(drop))
}
