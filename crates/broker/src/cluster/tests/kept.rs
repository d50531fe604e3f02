//! What a cluster keeps does not follow from what one broker is told, nor from one clock.

use std::thread::sleep;

use catalog::{Ring, RingBroker};

use super::*;
use crate::cluster::jobs::RETENTION_PLACE;

const KEY: &str = "cluster/kept";

fn put(running: &Running, runtime: &Runtime, value: &[u8]) {
    let (key, value) = (KEY.to_owned(), value.to_vec());
    let put = Command::Put { key, value, expected: Expected::Any };
    runtime.block_on(running.consensus.propose(put, Duration::from_secs(5))).expect("a leader");
}

fn held(running: &Running) -> (String, u64) {
    running.consensus.read(|state| {
        let entry = state.get(KEY).expect("the first one put it");
        (String::from_utf8(entry.value.clone()).expect("words"), entry.version)
    })
}

fn merges(running: &Running) -> u64 {
    running.broker.inner.maintenance_counters.merges.load(Ordering::Relaxed)
}

#[test]
fn a_broker_that_keeps_something_else_does_not_start_until_it_is_to_change_that() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let one = start(&runtime, &site, 1, &MemoryDisk::new());
    let (words, version) = held(&one);
    let tell = |change_kept: Option<u64>| {
        let told: Told = Box::new(move |config: &mut BrokerConfig, _: &mut Background| {
            config.retention.time_ms = Some(400 * 86_400_000);
            config.rollups.clear();
            config.change_kept = change_kept;
        });
        site.told.lock().insert(2, told);
    };
    let disk = MemoryDisk::new();
    // Also one that was to change what held once, and whose flag was left where it was.
    for change_kept in [None, Some(version + 1)] {
        tell(change_kept);
        let refused = try_start(&runtime, &site, 2, &disk).err().expect("it would keep more");
        let refused = format!("{refused:#}");
        for said in [
            "This one: retention 400d, of any size; rollups none; downsampling none",
            "The cluster: retention 15d, of any size; rollups 5m for 365d; downsampling none",
            &format!("--change-kept {version}"),
        ] {
            assert!(refused.contains(said), "{refused}");
        }
        let running = site.members.lock().remove(&2).expect("it runs");
        runtime.block_on(running.stop());
    }
    assert_eq!(one.consensus.read(|state| state.broker(BrokerId(2)).map(|b| b.epoch)), Some(0));
    tell(Some(version));
    let two = start(&runtime, &site, 2, &disk);
    assert_ne!(held(&two).0, words);
    two.stop(&runtime, &site, 2);
    // The flag does not matter any more, neither here nor where it was forgotten.
    start(&runtime, &site, 2, &disk).stop(&runtime, &site, 2);
}

#[test]
fn a_broker_that_is_told_otherwise_by_now_merges_and_removes_nothing() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let one = start(&runtime, &site, 1, &MemoryDisk::new());
    let (words, _) = held(&one);
    put(&one, &runtime, b"everything");
    for t_ms in 0..4 {
        send(&one.broker, &batch("s", START_MS + t_ms, 1.0)).recv().expect("told").expect("stored");
        flush(&one.broker);
    }
    sleep(Duration::from_secs(2));
    assert_eq!(merges(&one), 0);
    put(&one, &runtime, words.as_bytes());
    let end = Instant::now() + Duration::from_secs(10);
    while merges(&one) == 0 {
        assert!(Instant::now() < end, "four blocks are due");
        sleep(Duration::from_millis(20));
    }
}

fn years_ahead_ms() -> i64 {
    now_ms() + 1_000 * 86_400_000
}

#[test]
fn one_wrong_clock_removes_nothing() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let broker = |id| RingBroker { id: BrokerId(id), zone: String::new() };
    let ring = Ring::new([1, 2, 3].map(broker));
    let wrong = ring.owner(RETENTION_PLACE).expect("three").0;
    site.told.lock().insert(wrong, Box::new(|config, _| config.now_ms = years_ahead_ms));
    let running = [1, 2, 3].map(|id| start(&runtime, &site, id, &MemoryDisk::new()));
    let right = &running[usize::from(wrong == 1)];
    send(&right.broker, &batch("s", START_MS, 1.0)).recv().expect("told").expect("stored");
    flush(&right.broker);
    let blocks = || right.consensus.read(|state| state.blocks().len());
    assert_eq!(blocks(), 1);
    sleep(Duration::from_secs(8));
    assert_eq!(blocks(), 1, "it is a minute old, whatever one of them says");
    let clustered = running[wrong as usize - 1].broker.inner.clustered.as_ref().expect("one");
    let (_, ahead_ms) = clustered.members.clocks();
    assert_eq!(ahead_ms.len(), 2);
    assert!(ahead_ms.iter().all(|ms| (ms + 1_000 * 86_400_000).abs() < 10_000), "{ahead_ms:?}");
}
