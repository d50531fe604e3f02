//! Segments in one store and blocks in another: kill -9, and a store of segments that is away.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::site::{Place, Site, until_taken};
use crate::harness::{Scratch, WriteBody, free_address, now_ms, random::Random};

const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Files below a directory of a store.
fn files(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.path().is_dir() {
        true => files(&entry.path()),
        false => 1,
    };
    entries.flatten().map(count).sum()
}

pub(super) fn two_stores(scratch: &Scratch) -> Result<String> {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let url = |name: &str| format!("file://{}", scratch.join(name).display());
    let segments: &'static str = Box::leak(url("fast").into_boxed_str());
    let place = |_| {
        let mut place = Place::here(free_address()?)?;
        place.environment = vec![("WATCHFIRE_STORE_SEGMENTS", segments)];
        Ok(place)
    };
    let places = (0..3).map(place).collect::<Result<Vec<_>>>()?;
    let mut site = Site::start_at(scratch, seed, url("store"), &places)?;
    for round in 0..ROUNDS {
        let victim = if round == 0 { 0 } else { random.below(3) as usize };
        let (before, away) = (random.below(700), random.below(1_500));
        site.write_while(|members| {
            sleep(Duration::from_millis(before));
            members[victim].kill()?;
            until_taken(members[(victim + 1) % 3].client(), round as f64)?;
            sleep(Duration::from_millis(away));
            members[victim].start_again()
        })
        .with_context(|| format!("seed {seed}, round {round}"))?;
        site.check_counts().with_context(|| format!("seed {seed}, round {round}"))?;
    }
    let [fast, store] = ["fast", "store"].map(|name| scratch.join(name));
    let blocks = files(&store.join("blocks"));
    ensure!(blocks > 0, "nothing was flushed");
    ensure!(!store.join("segments").exists(), "segments lie with the blocks");
    ensure!(files(&fast.join("segments")) > 0, "there are no segments");
    ensure!(!fast.join("blocks").exists(), "blocks lie with the segments");

    // Nothing can be written there: each write is told so, and what was stored is read.
    std::fs::rename(&fast, scratch.join("away"))?;
    std::fs::write(&fast, "in the way")?;
    let client = site.members[0].client();
    let body = WriteBody::new().series(&[("__name__", "refused")], &[(now_ms(), 1.0)]).snappy();
    let answer = client.write(&body)?;
    let (status, text) = (answer.status, answer.text());
    ensure!([503, 507].contains(&status), "{status}: {text}");
    ensure!(text.contains("segments/") && text.contains("fast"), "it does not say where: {text}");
    site.check_counts().context("while the store of the segments is away")?;
    std::fs::remove_file(&fast)?;
    std::fs::rename(scratch.join("away"), &fast)?;
    for member in &site.members {
        until_taken(member.client(), 99.0)?;
    }

    // A start without a word of it remembers; one that is told otherwise is refused.
    site.members[1].stop()?;
    site.members[1].start_again()?;
    site.check().with_context(|| format!("seed {seed}"))?;
    let page = "watchfire_objects_requests_total{store=\"segments\",operation=\"put\"}";
    let begin = Instant::now();
    while site.members[1].client().metric(page)? == 0.0 {
        ensure!(begin.elapsed() < PATIENCE, "it writes no segments");
        until_taken(site.members[1].client(), 98.0)?;
    }
    Ok(format!(
        "{ROUNDS} kills, {} samples, 0 lost, 0 doubled; {blocks} blocks in one store, segments in the \
         other; while that was away: {status}",
        site.acknowledged_samples()
    ))
}
