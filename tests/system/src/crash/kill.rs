//! kill -9 at random moments.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{BUSY, WRITERS};
use crate::harness::random::Random;
use crate::harness::{Launch, Scratch};
use crate::ledger::Ledger;

const KILLS: usize = 110;
/// Every so many kills all samples are read back, not only counted.
const THOROUGH: usize = 30;

/// The work that kills are to interrupt, as the program counts it.
const WORK: [(&str, &str); 3] = [
    ("flushes", "watchfire_broker_flushes_total"),
    ("merges", "watchfire_broker_merges_total"),
    ("log files removed", "watchfire_blockstore_log_files_removed_total"),
];

/// Kills the program while it is written to, again and again on the same data.
pub(super) fn kill(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let launch = Launch::broker(&scratch.join("data")).config(BUSY);
    let mut ledger = Ledger::new(&scratch.join("ledger"), WRITERS, seed)?;
    let mut ready = Vec::with_capacity(KILLS);
    let mut work = [0.0; WORK.len()];
    for cycle in 1..=KILLS {
        let server = launch.start()?;
        ready.push(server.ready_after());
        let client = server.client();
        let checked = match cycle % THOROUGH {
            0 => ledger.check(client),
            _ => ledger.check_counts(client),
        };
        checked.with_context(|| format!("after {} kills", cycle - 1))?;
        let life = Duration::from_millis(30 + random.below(370));
        ledger.write_while(client, || {
            std::thread::sleep(life);
            for (sum, (_, metric)) in work.iter_mut().zip(WORK) {
                *sum += client.metric(metric)?;
            }
            server.kill()
        })?;
    }
    finish(&launch, &mut ledger)?;
    for (sum, (what, _)) in work.iter().zip(WORK) {
        ensure!(*sum > 0.0, "no {what} happened: the kills interrupted nothing");
    }
    ready.sort_unstable();
    let p99 = ready[ready.len() * 99 / 100];
    Ok(format!(
        "{KILLS} kills, {} samples acknowledged, 0 lost, 0 doubled, 0 invented; {} flushes, {} \
         merges; ready p99 {:.0} ms; seed {seed}",
        ledger.acknowledged_samples(),
        work[0],
        work[1],
        p99.as_secs_f64() * 1e3
    ))
}

/// The last word: everything is there, after the batches in doubt were sent again, and still
/// after a clean stop.
fn finish(launch: &Launch, ledger: &mut Ledger) -> Result<()> {
    let server = launch.start()?;
    ledger.check(server.client()).context("after the last kill")?;
    let statuses = ledger.write_once(server.client())?;
    ensure!(statuses == [204].into(), "batches in doubt, sent again, are answered {statuses:?}");
    ledger.check(server.client()).context("after sending again")?;
    server.stop()?;
    let server = launch.start()?;
    ledger.check(server.client()).context("after a clean stop")?;
    server.stop()
}
