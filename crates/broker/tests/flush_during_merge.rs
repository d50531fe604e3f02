//! A merge of many samples holds up no flush.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blockstore::MemoryDisk;
use broker::Broker;
use support::*;

clock!(CLOCK, now_ms);

const SERIES: usize = 300;
const QUARTER_MS: i64 = 6 * HOUR_MS;

/// Block ids are given out when a merge or a flush begins, and blocks are listed when it is done: so a
/// block of a flush that has the higher id and comes first was written while the merge went on.
#[test]
fn flushes_go_on_while_blocks_are_merged() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config(Path::new("/nowhere"), now_ms, 5));
    let mut model = Samples::new();
    // A merge takes some tens of milliseconds, and when its turn comes is the machine's to say.
    let has_overtaken = (0..8).any(|quarter| merged_a_quarter(&broker, &mut model, quarter));
    assert!(has_overtaken, "no flush between the beginning and the end of eight merges");
    assert_same(&read_all(&broker), &model, "after flushes within merges");
    drop(broker);
    // A power cut right after.
    let broker = open_on(&Arc::new(disk.crash(1)), config(Path::new("/nowhere"), now_ms, 5));
    assert_same(&read_all(&broker), &model, "after a power cut");
    broker.stop();
}

/// Fills a quarter of a day, waits until it is merged, and yields whether something was flushed in
/// between.
fn merged_a_quarter(broker: &Broker, model: &mut Samples, quarter: i64) -> bool {
    let from_ms = START_MS + quarter * QUARTER_MS;
    for part in 0..6 {
        let rows: Vec<_> = (0..240)
            .flat_map(|at| {
                let t_ms = from_ms + part * HOUR_MS + at * 15_000;
                (0..SERIES).map(move |series| (series, t_ms, (at * 7 % 31) as f64 + part as f64))
            })
            .collect();
        CLOCK.store(from_ms + (part + 1) * HOUR_MS, Ordering::SeqCst);
        for some in rows.chunks(30_000) {
            ingest(broker, some).expect("a sound disk");
        }
        note(model, &rows);
        wait_for_empty_head(broker);
    }
    let known: BTreeSet<u64> = broker.block_metas().iter().map(|(meta, _)| meta.id.0).collect();
    // The quarter is complete.
    CLOCK.store(from_ms + QUARTER_MS + 20 * MINUTE_MS, Ordering::SeqCst);
    let mut seen: BTreeMap<u64, (u64, u8)> = BTreeMap::new();
    let started = Instant::now();
    let is_done = |seen: &BTreeMap<u64, (u64, u8)>| seen.values().any(|(_, level)| *level == 4);
    for look in 0.. {
        // Of another series than the quarters: what they say at these times must not differ.
        let now = now_ms() + look;
        ingest(broker, &[(SERIES, now, look as f64)]).expect("a sound disk");
        note(model, &[(SERIES, now, look as f64)]);
        for (meta, _) in broker.block_metas() {
            if !known.contains(&meta.id.0) {
                seen.entry(meta.id.0).or_insert((look as u64, meta.level));
            }
        }
        if is_done(&seen) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{seen:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    seen.iter().any(|(merged, (listed, level))| {
        let is_later =
            |(id, (at, level)): (&u64, &(u64, u8))| id > merged && at < listed && *level == 0;
        *level > 0 && seen.iter().any(is_later)
    })
}
