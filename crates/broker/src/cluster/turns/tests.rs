//! Brokers of a cluster agree whose turn it is, on a real clock; and on one that is told, whatever happens to
//! their links and clocks.

use std::sync::Arc;
use std::time::Duration;

use blockstore::MemoryDisk;
use catalog::{BrokerId, Ring};
use proptest::prelude::*;
use tokio::time::Instant;

use super::rows::{Candidate, Rows, owner};
use super::{OwnLease, Turn, Turns, millis};
use crate::cluster::members::ALIVE_FOR;
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
    three.broker.inner.clustered.as_ref().expect("a cluster").members.end();
    // Its process goes on asking whose turn it is. What it has until its lease is over is nobody else's.
    wait(&[&first, &second, &third], Duration::from_secs(8), |owned| {
        owned[2] == 0 && owned.iter().sum::<usize>() == KEYS.len()
    });
    drop((third, three));
    // Nothing moved between those that live.
    for (key, before) in KEYS.iter().zip(before) {
        let now = first.of(*key, now_ms());
        assert!(now == before || before == Turn::Of("b3".to_owned()), "{before:?} {now:?}");
    }
}

/// What the catalog has agreed upon, and when.
#[derive(Clone)]
enum Agreed {
    Lease(usize, i64),
    Lists(Vec<(i64, Ring)>),
}

/// A broker whose links are cut and mended; its process goes on all the time.
struct Partaker {
    is_willing: bool,
    is_cut: bool,
    /// Its clock is ahead by so much.
    ahead_ms: i64,
    /// So long after the leader it applies what was agreed upon.
    lag_ms: i64,
    /// How many entries it has applied.
    applied: usize,
    /// When its next proposal begins.
    proposes_ms: i64,
    /// When the leader saw its lease change.
    renewed_ms: i64,
    /// What it has read last.
    lease: Option<OwnLease>,
    lists: Vec<(i64, Ring)>,
}

const BEGIN: i64 = 1_000_000;
const BROKERS: usize = 4;

/// Lets 100 ms pass again and again, and something happen now and then; yields what was done by whom: its key,
/// its time and the broker.
fn play(seed: u64, events: &[(usize, u8, i64)]) -> Vec<(u64, i64, usize)> {
    let mut chance = seed;
    let mut draw = |below: i64| {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) as i64 % below
    };
    let began = Instant::now();
    let at = |now_ms: i64| began + Duration::from_millis((now_ms - BEGIN) as u64);
    let alive_ms = millis(ALIVE_FOR);
    let mut partakers: Vec<Partaker> = (0..BROKERS)
        .map(|_| Partaker {
            is_willing: true,
            is_cut: false,
            ahead_ms: draw(9) * 100 - 400,
            lag_ms: draw(700),
            applied: 0,
            proposes_ms: BEGIN,
            renewed_ms: BEGIN,
            lease: None,
            lists: Vec::new(),
        })
        .collect();
    let mut log: Vec<(i64, Agreed)> = Vec::new();
    // On their way, with the moment at which they are agreed upon.
    let mut renewals: Vec<(i64, usize, i64)> = Vec::new();
    let mut list: Option<(i64, Rows)> = None;
    let mut rows = Rows::default();
    let mut done = Vec::new();
    let mut now_ms = BEGIN;
    for &(who, what, wait_ms) in events {
        match what {
            0 => partakers[who].is_cut = true,
            1 => partakers[who].is_cut = false,
            // A moment in between, in which it is heard: or not.
            2 => {
                partakers[who].is_cut = !partakers[who].is_cut;
                partakers[who].proposes_ms = now_ms;
            }
            _ => partakers[who].is_willing = what == 3,
        }
        let end_ms = now_ms + wait_ms;
        while now_ms < end_ms {
            now_ms += 100;
            for (id, one) in partakers.iter_mut().enumerate() {
                if !one.is_cut && now_ms >= one.proposes_ms {
                    let agreed_ms = now_ms + draw(1_200);
                    renewals.push((agreed_ms, id, now_ms + one.ahead_ms + alive_ms));
                    one.proposes_ms = agreed_ms.max(now_ms + 1_000);
                }
            }
            // The leader, which is none of them.
            for (_, id, until_ms) in renewals.extract_if(.., |(agreed_ms, ..)| *agreed_ms <= now_ms)
            {
                partakers[id].renewed_ms = now_ms;
                log.push((now_ms, Agreed::Lease(id, until_ms)));
            }
            match list.take() {
                Some((agreed_ms, revised)) if agreed_ms <= now_ms => {
                    log.push((now_ms, Agreed::Lists(revised.rings())));
                    rows = revised;
                }
                Some(later) => list = Some(later),
                None => {
                    let candidate = |(id, one): (usize, &Partaker)| Candidate {
                        id: BrokerId(id as u64),
                        is_alive: now_ms - one.renewed_ms < alive_ms,
                        is_willing: one.is_willing,
                    };
                    let candidates: Vec<Candidate> =
                        partakers.iter().enumerate().map(candidate).collect();
                    list = rows.revised(&candidates, now_ms).map(|rows| (now_ms + draw(900), rows));
                }
            }
            for (id, one) in partakers.iter_mut().enumerate() {
                let before = one.lease.map(|lease| lease.until_ms);
                let mut until_ms = before;
                while !one.is_cut
                    && let Some((agreed_ms, agreed)) = log.get(one.applied)
                    && agreed_ms + one.lag_ms <= now_ms
                {
                    match agreed {
                        Agreed::Lease(of, until) if *of == id => until_ms = Some(*until),
                        Agreed::Lease(..) => {}
                        Agreed::Lists(lists) => one.lists.clone_from(lists),
                    }
                    one.applied += 1;
                }
                let own_ms = now_ms + one.ahead_ms;
                if until_ms != before {
                    let next = |until_ms| OwnLease::next(one.lease, until_ms, own_ms, at(now_ms));
                    one.lease = until_ms.map(next);
                }
                if one.lease.is_some_and(|lease| lease.is_sure(own_ms, at(now_ms))) {
                    let owned = KEYS[..8].iter().filter(|key| {
                        owner(&one.lists, **key, own_ms) == Some(BrokerId(id as u64))
                    });
                    done.extend(owned.map(|key| (*key, own_ms, id)));
                }
            }
        }
    }
    done.sort_unstable();
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Brokers drain, are cut off, come back for a moment, and their clocks differ. What the leader writes
    /// crosses with what they say. Whatever happens, no scrape is done by two.
    #[test]
    fn no_moment_has_two_owners(
        seed in any::<u64>(),
        events in prop::collection::vec((0..BROKERS, 0..5_u8, 200..7_000_i64), 1..40),
    ) {
        let done = play(seed, &events);
        let doubled = done.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
        prop_assert!(doubled.is_none(), "{doubled:?}");
    }
}

/// With links that hold nearly every scrape is done; who is cut off for good is replaced soon.
#[test]
fn nearly_every_moment_has_an_owner() {
    for seed in 0..20 {
        let quiet = [(0, 1, 30_000), (1, 0, 30_000)];
        let done = play(seed, &quiet);
        for key in &KEYS[..8] {
            let times = done.iter().filter(|(of, ..)| of == key).map(|(_, t_ms, _)| *t_ms);
            let times: Vec<i64> = times.filter(|t_ms| *t_ms > BEGIN + 15_000).collect();
            let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(gap.is_some_and(|gap| gap <= 7_000), "seed {seed}: {gap:?}");
            assert!(times.last().is_some_and(|last| *last > BEGIN + 59_000), "seed {seed}");
        }
    }
}
