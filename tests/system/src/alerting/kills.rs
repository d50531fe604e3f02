//! kill -9 while alerts come and groups are told: no acknowledged alert is lost, and nothing is told
//! twice but what was told right before a kill, so that nobody could write that down any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Listener, fire, firing, launch};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch};

const KILLS: usize = 100;
/// Between a message and its being written down there is one sync; a busy machine takes its time.
const IN_DOUBT: Duration = Duration::from_secs(2);
/// A start takes longer than this, so that what comes within it behind a kill was sent before.
const READ_LATE: Duration = Duration::from_millis(50);

pub(super) fn alerts_outlive_kills(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    run(scratch, seed).with_context(|| format!("seed {seed}"))
}

fn run(scratch: &Scratch, seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let listener = Listener::start()?;
    let configuration = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 60ms, group_interval: 150ms, \
         repeat_interval: 10h}}\n\
         receivers:\n- name: hook\n  webhook_configs: [{{url: '{}'}}]\n",
        listener.url()
    );
    let (launch, _) = launch(scratch, &configuration)?;
    let mut acknowledged = BTreeSet::new();
    let mut kills: Vec<Instant> = Vec::new();
    for cycle in 0..KILLS {
        let server = launch.start().with_context(|| format!("after {cycle} kills"))?;
        let client = server.client();
        let life = Duration::from_millis(20 + random.below(400));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(client, cycle, life));
            std::thread::sleep(life);
            let killed = server.kill();
            kills.push(Instant::now());
            acknowledged.extend(writer.join().expect("a writer does not panic"));
            killed
        })?;
    }
    let server = launch.start()?;
    let told = wait_for_all(&listener, &acknowledged)?;
    // What is told late is told now.
    std::thread::sleep(Duration::from_secs(1));
    let repeated = check_repeats(&listener, &kills)?;
    let alerts = server.client().get("/api/v2/alerts")?;
    let listed: serde_json::Value = serde_json::from_slice(&alerts.body)?;
    let listed = listed.as_array().map_or(0, Vec::len);
    ensure!(listed >= acknowledged.len(), "{listed} alerts of {} are left", acknowledged.len());
    server.stop()?;
    Ok(format!(
        "{KILLS} kills, {} alerts acknowledged, 0 lost; {told} messages, {repeated} told again \
         because of a kill between message and sync; seed {seed}",
        acknowledged.len()
    ))
}

/// Posts alerts of names of their own until the server is gone. Yields those that were acknowledged.
fn write(client: Client, cycle: usize, life: Duration) -> Vec<String> {
    let (begin, mut acknowledged) = (Instant::now(), Vec::new());
    for number in 0.. {
        let names: Vec<String> = (0..3).map(|one| format!("A{cycle}-{number}-{one}")).collect();
        match fire(client, &names) {
            Ok(true) => acknowledged.extend(names),
            // It is being killed, or was.
            Ok(false) | Err(_) if begin.elapsed() + Duration::from_millis(50) >= life => break,
            Ok(false) | Err(_) => {}
        }
        if begin.elapsed() > life + Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    acknowledged
}

/// Waits until each of these was told; yields the number of messages.
fn wait_for_all(listener: &Listener, names: &BTreeSet<String>) -> Result<usize> {
    ensure!(!names.is_empty(), "nothing was acknowledged");
    let begin = Instant::now();
    loop {
        let told = listener.told()?;
        let known: BTreeSet<String> =
            told.iter().flat_map(|(_, message)| firing(message).into_keys()).collect();
        let missing = names.difference(&known).count();
        if missing == 0 {
            return Ok(told.len());
        }
        if begin.elapsed() > Duration::from_secs(60) {
            let first: Vec<_> = names.difference(&known).take(5).collect();
            bail!("{missing} acknowledged alerts were never told, such as {first:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Between two messages of one alert there must be a kill, right behind the first. Yields how many there
/// are.
fn check_repeats(listener: &Listener, kills: &[Instant]) -> Result<usize> {
    let mut last: BTreeMap<String, Instant> = BTreeMap::new();
    let mut repeated = 0;
    for (received, message) in listener.told()? {
        for (name, count) in firing(&message) {
            ensure!(count == 1, "{name} is {count} times in one message");
            if let Some(before) = last.insert(name.clone(), received.at) {
                // What was sent right before a kill may be read right behind it.
                let is_excused = kills.iter().any(|kill| {
                    *kill < received.at
                        && *kill + READ_LATE > before
                        && kill.saturating_duration_since(before) < IN_DOUBT
                });
                let last = kills.iter().rev().find(|kill| **kill <= before);
                let next = kills.iter().find(|kill| **kill > before);
                ensure!(
                    is_excused,
                    "{name} was told again after {:?}; the first message came {:?} behind a kill and \
                     {:?} before the next",
                    received.at - before,
                    last.map(|kill| before - *kill),
                    next.map(|kill| *kill - before)
                );
                repeated += 1;
            }
        }
    }
    Ok(repeated)
}
