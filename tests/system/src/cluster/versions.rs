//! Programs of two versions in one cluster: replaced one by one while it is written to, back again while
//! not all are replaced, and refused with words where that is over. The next version is this program,
//! which says and writes the next numbers when it is told to: builds with debug assertions can do that.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::refusals::refused;
use super::site::{Site, join_token, launch};
use crate::harness::{Scratch, free_address, random::Random};

const PATIENCE: Duration = Duration::from_secs(40);
/// Restarts of whoever leads until a certain one of three does.
const TURNS: usize = 12;

/// Replaces the program of one broker under writes; everything is there afterwards.
fn replace(site: &mut Site, at: usize, is_next: bool) -> Result<()> {
    site.write_while(|members| {
        sleep(Duration::from_millis(300));
        members[at].stop()?;
        members[at].install(is_next);
        members[at].start_again()?;
        sleep(Duration::from_millis(300));
        Ok(())
    })?;
    site.check_counts_soon()
}

pub(super) fn beside_each_other(scratch: &Scratch) -> Result<String> {
    let mut site = Site::start(scratch, Random::seed())?;
    replace(&mut site, 2, true).context("the first one is replaced")?;
    // What a newer one says as the leader, the older ones understand.
    for turn in 0.. {
        let leader = site.leader()?;
        if leader == 2 {
            break;
        }
        ensure!(turn < TURNS, "the newer one never leads");
        replace(&mut site, leader, false)?;
    }
    site.write_while(|_| {
        sleep(Duration::from_secs(2));
        Ok(())
    })?;
    site.check().context("the newer one leads")?;
    replace(&mut site, 2, false).context("back, while others are older")?;
    for at in [2, 0, 1] {
        replace(&mut site, at, true).with_context(|| format!("broker {} is replaced", at + 1))?;
    }
    // All are newer, and from now on they say so.
    site.write_while(|_| {
        sleep(Duration::from_secs(1));
        Ok(())
    })?;
    site.members[1].stop()?;
    site.members[1].install(false);
    let said = site.members[1].refused_again(PATIENCE).context("it is too old by now")?;
    for words in ["has version 7", "up to 6", "use a newer one"] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    let (old, _) = launch(scratch, "old", free_address()?)?;
    let token = join_token(&site.members[0].data, "broker")?;
    let seed = site.members[0].peers.to_string();
    let join = ["--store", &site.store.clone(), "--join", &seed, "--join-token", &token];
    let words = ["feature level 4, this program knows 3", "start this broker with the version of"];
    refused(&old.arguments(&join), &words)?;
    site.members[1].install(true);
    site.members[1].start_again()?;
    replace(&mut site, 0, true)?;
    site.check()?;
    Ok(format!("{} samples, 0 lost, 0 doubled", site.acknowledged_samples()))
}
