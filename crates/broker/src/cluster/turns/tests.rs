//! Brokers of a cluster agree whose turn it is, on a real clock.

use std::sync::Arc;
use std::time::Duration;

use blockstore::MemoryDisk;
use tokio::time::Instant;

use super::{Turn, Turns};
use crate::cluster::tests::{Running, Site, now_ms, runtime, start};

/// Keys as targets have them.
const KEYS: [u64; 40] = {
    let mut keys = [0; 40];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        at += 1;
    }
    keys
};

/// How many keys are whose at a moment that has just come.
fn owned(turns: &[&Turns]) -> Vec<usize> {
    let at_ms = now_ms();
    let own = |turns: &Turns| KEYS.iter().filter(|key| turns.of(**key, at_ms) == Turn::Own).count();
    let doubled = KEYS
        .iter()
        .filter(|key| turns.iter().filter(|one| one.of(**key, at_ms) == Turn::Own).count() > 1);
    assert_eq!(doubled.count(), 0, "two have the same turn");
    turns.iter().map(|one| own(one)).collect()
}

fn wait(turns: &[&Turns], within: Duration, enough: impl Fn(&[usize]) -> bool) {
    let end = Instant::now() + within;
    loop {
        let owned = owned(turns);
        if enough(&owned) {
            return;
        }
        assert!(Instant::now() < end, "{owned:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn taking_part(runtime: &tokio::runtime::Runtime, running: &Running) -> Arc<Turns> {
    let _entered = runtime.enter();
    running.broker.scrape_turns(true).expect("a cluster")
}

#[test]
fn each_key_is_one_brokers_and_moves_within_ten_seconds_when_that_dies() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let disks = [(); 3].map(|()| MemoryDisk::new());
    let [one, two, three] = [1, 2, 3].map(|id| start(&runtime, &site, id, &disks[id as usize - 1]));
    let turns = [&one, &two, &three].map(|running| taking_part(&runtime, running));
    let all: Vec<&Turns> = turns.iter().map(|turns| &**turns).collect();
    // Those that were not in the first list wait for their turn.
    wait(&all, Duration::from_secs(20), |owned| {
        owned.iter().sum::<usize>() == KEYS.len() && owned.iter().all(|count| *count > 0)
    });
    let before: Vec<Turn> = KEYS.iter().map(|key| turns[0].of(*key, now_ms())).collect();
    // The last one is gone without a word.
    let [first, second, third] = turns;
    site.members.lock().remove(&3);
    runtime.block_on(three.consensus.stop());
    drop((third, three));
    wait(&[&first, &second], Duration::from_secs(10), |owned| {
        owned.iter().sum::<usize>() == KEYS.len()
    });
    // Nothing moved between those that live.
    for (key, before) in KEYS.iter().zip(before) {
        let now = first.of(*key, now_ms());
        assert!(now == before || before == Turn::Of("b3".to_owned()), "{before:?} {now:?}");
    }
}
