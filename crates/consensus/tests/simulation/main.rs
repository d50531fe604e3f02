//! A cluster on one thread with a clock of its own: members that lose power or are killed, between
//! two polls or in the middle of what they write, disks that forget what was not synced, disks that
//! are lost, members that are taken out and come back, links that are cut in one or both directions,
//! lose and delay.
//!
//! What is held against it: a command that was acknowledged is in the end in the state of every
//! member, one that was told "nothing was changed" in none; all members apply the same commands in
//! the same order, also those that came back; one leader per term; when all links are whole again,
//! commands go through within seconds.
#![expect(clippy::print_stderr, reason = "figures of a search, shown with --nocapture")]

mod scenarios;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::{Command, Expected, Outcome, State};
use consensus::{ProposeError, seed_chance};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::world::{Cluster, member};

/// What became of commands, by key.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

fn put(number: u64) -> Command {
    let (key, value) = (format!("k/{number}"), number.to_le_bytes().to_vec());
    Command::Put { key, value, expected: Expected::Absent }
}

async fn run(seed: u64, of: u64, rounds: u64) -> String {
    seed_chance(seed);
    let mut cluster = Cluster::new(seed, of);
    let first = cluster.start(1).await;
    first.begin().await.expect("the first begins");
    for id in 2..=of {
        let joining = cluster.start(id).await;
        let seeds = [member(1)];
        joining.join(&seeds, Duration::from_secs(30)).await.expect("it is taken in");
    }
    let told = Arc::new(Mutex::new(Told::default()));
    let mut number = 0;
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..rounds {
        let harm = cluster.harm().await;
        *done.entry(harm).or_default() += 1;
        for _ in 0..1 + cluster.dice.below(6) {
            let running = cluster.running();
            if !running.is_empty() {
                number += 1;
                let at = cluster.dice.below(running.len() as u64) as usize;
                let (at, told) = (running[at].1.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    let outcome = at.propose(put(number), Duration::from_secs(4)).await;
                    let mut told = told.lock();
                    match outcome {
                        Ok(_) => told.acknowledged.insert(number),
                        Err(ProposeError::NoLeader(_)) => told.refused.insert(number),
                        Err(ProposeError::Unknown(_) | ProposeError::Stopping) => {
                            told.unknown.insert(number)
                        }
                        Err(ProposeError::Catalog(error)) => panic!("seed {seed}: {error}"),
                    };
                });
            }
            cluster.check_leaders();
            let pause = 20 + cluster.dice.below(1_500);
            sleep(Duration::from_millis(pause)).await;
            cluster.check_leaders();
        }
    }
    cluster.heal();
    cluster.start_all().await;
    let healed = Instant::now();
    let away = cluster.away();
    let mut running = cluster.running().into_iter();
    let any = running.find(|(id, _)| Some(*id) != away).expect("all run").1;
    let mut last = any.propose(put(0), Duration::from_secs(20)).await;
    if let Err(ProposeError::Unknown(_)) = last {
        // What was agreed upon came with a snapshot.
        let caught_up = any.catch_up(Duration::from_secs(20)).await;
        assert!(caught_up.is_ok(), "seed {seed}: {caught_up:?}\n{}", statuses(&cluster));
        if any.read(|state| state.get("k/0").is_some()) {
            last = Ok(Outcome::Done);
        }
    }
    let took = healed.elapsed();
    assert!(last.is_ok(), "seed {seed}: healed, and yet {last:?}\n{}", statuses(&cluster));
    // Until what was on its way is told, and those that left are back.
    sleep(Duration::from_secs(10)).await;
    for _ in 0..60 {
        if cluster.away().is_some() {
            sleep(Duration::from_secs(1)).await;
        }
    }
    assert!(cluster.away().is_none(), "seed {seed}: somebody is not back\n{}", statuses(&cluster));
    for (id, consensus) in cluster.running() {
        let caught_up = consensus.catch_up(Duration::from_secs(20)).await;
        assert!(
            caught_up.is_ok(),
            "seed {seed}, member {id}: {caught_up:?}\n{}",
            statuses(&cluster)
        );
    }
    cluster.check_leaders();
    let is_changing = || cluster.running().iter().any(|(_, c)| c.status().is_changing_voters);
    for _ in 0..4 {
        if is_changing() {
            sleep(Duration::from_millis(2_600)).await;
        }
    }
    assert!(!is_changing(), "seed {seed}: a change was left\n{}", statuses(&cluster));
    let surprises = cluster.world.surprises.lock().clone();
    assert!(surprises.is_empty(), "seed {seed}: {surprises:?}");
    let told = told.lock();
    let states: Vec<State> = cluster.running().iter().map(|(_, c)| c.read(State::clone)).collect();
    for state in &states {
        assert!(*state == states[0], "seed {seed}: members differ");
        for (key, value) in state.keys("k/") {
            let number: u64 = key[2..].parse().expect("a key of this test");
            assert_eq!(value.value, number.to_le_bytes(), "seed {seed}: invented");
            assert!(!told.refused.contains(&number), "seed {seed}: {key} was refused and is there");
        }
        for number in &told.acknowledged {
            assert!(state.get(&format!("k/{number}")).is_some(), "seed {seed}: {number} is lost");
        }
    }
    format!(
        "{done:?} {:?} acknowledged {} refused {} unknown {} terms {} healed in {took:?} at {}",
        cluster.leaders,
        told.acknowledged.len(),
        told.refused.len(),
        told.unknown.len(),
        cluster.leaders.len(),
        states[0].version(),
    )
}

fn statuses(cluster: &Cluster) -> String {
    cluster.running().iter().map(|(id, c)| format!("{id}: {:?}\n", c.status())).collect()
}

/// Lets something happen on this thread, on a clock of its own.
fn on_one_thread<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let told = runtime.block_on(story);
    runtime.shutdown_background();
    told
}

#[test]
fn faults_lose_nothing() {
    let first: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    for seed in first..first + count {
        let of = [3, 5, 4][seed as usize % 3];
        let line = on_one_thread(run(seed, of, 30));
        eprintln!("seed {seed} of {of}: {line}");
    }
}
