//! kill -9 at random, the leader first: nothing acknowledged is lost, doubled or invented, and writes
//! go on at the others.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::site::{Site, until_taken};
use crate::harness::{Scratch, random::Random};

const ROUNDS: usize = 10;
/// An election on a machine that compiles at the same time; the figure of each run is printed.
const RESUME: Duration = Duration::from_secs(15);

pub(super) fn kills(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut site = Site::start(scratch, seed)?;
    let mut resumed = Vec::new();
    for round in 0..ROUNDS {
        // The founder leads at first.
        let victim = if round == 0 { 0 } else { random.below(3) as usize };
        let (before, away) = (random.below(700), random.below(1_500));
        let took = site
            .write_while(|members| {
                sleep(Duration::from_millis(before));
                members[victim].kill()?;
                let other = members[(victim + 1) % 3].client();
                let took = until_taken(other, round as f64)?;
                sleep(Duration::from_millis(away));
                members[victim].start_again()?;
                Ok(took)
            })
            .with_context(|| format!("seed {seed}, round {round}"))?;
        ensure!(took < RESUME, "writes resumed after {took:?}, seed {seed}, round {round}");
        resumed.push(took);
        site.check_counts().with_context(|| format!("seed {seed}, round {round}"))?;
    }
    site.check().with_context(|| format!("seed {seed}"))?;
    resumed.sort();
    Ok(format!(
        "{ROUNDS} kills, {} samples, 0 lost, 0 doubled; writes resumed after {:.1} s at the median and \
         {:.1} s at most",
        site.acknowledged_samples(),
        resumed[ROUNDS / 2].as_secs_f64(),
        resumed[ROUNDS - 1].as_secs_f64()
    ))
}
