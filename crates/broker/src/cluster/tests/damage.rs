//! Blocks that cannot be read: here, or in the store; for a moment, or for long.

use std::sync::mpsc;

use catalog::BlockId;

use super::*;
use crate::maintenance::{Damaged, Unfinished};

/// A broker with one block of one sample.
fn with_block(runtime: &Runtime, site: &Arc<Site>) -> (Running, BlockId, String) {
    let running = start(runtime, site, 1, &MemoryDisk::new());
    let stored = send(&running.broker, &batch("s", START_MS, 1.0)).recv().expect("answered");
    stored.expect("stored");
    flush(&running.broker);
    let id = running.consensus.read(|state| state.blocks().next().expect("a block").id);
    let key = objects(site, "blocks/").remove(0);
    (running, id, key)
}

fn missing(broker: &Broker) -> usize {
    broker.reader(DEFAULT_TENANT).missing(TimeRange::all()).len()
}

fn wait(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Keeps the applier from its work until what it yields is dropped.
fn hold_applier(broker: &Broker) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let clustered = broker.inner.clustered.as_ref().expect("a cluster");
    let wait = Box::new(move || _ = held.recv());
    assert!(clustered.events.send(Event::Then(wait)).is_ok());
    release
}

#[test]
fn what_is_damaged_on_the_way_is_shown_again_and_missed_until_then() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let (running, id, key) = with_block(&runtime, &site);
    let broker = &running.broker;
    site.bad_copies.lock().insert(key);
    // Of one that is only late the store is asked by whoever waits for it.
    let meta = running.consensus.read(|state| *state.block(id).expect("listed"));
    broker.inner.damaged.lock().insert(id, Damaged { meta, left: Unfinished::Open });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(site.opened_past_copies.load(Ordering::Relaxed), 0);

    let release = hold_applier(broker);
    broker.inner.wake.damaged(id);
    assert_eq!((read(broker).len(), missing(broker)), (0, 1), "it is taken out at once");
    wait("it is read in the store", Duration::from_secs(5), || site.bad_copies.lock().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((read(broker).len(), missing(broker)), (0, 1), "it is not shown yet");
    drop(release);
    wait("it is missed no more", Duration::from_secs(5), || missing(broker) == 0);
    assert_eq!(read(broker).len(), 1);
    assert_eq!(running.consensus.read(|state| state.quarantined().len()), 0);
    // Found once more: it is taken out, but the store is not read again and again for it.
    let before = site.opened_past_copies.load(Ordering::Relaxed);
    broker.inner.wake.damaged(id);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(missing(broker), 1);
    assert_eq!(site.opened_past_copies.load(Ordering::Relaxed), before);
}

#[test]
fn a_flush_that_waits_keeps_no_damaged_block_in() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let (running, id, key) = with_block(&runtime, &site);
    site.objects.lock().remove(&key);
    let release = hold_applier(&running.broker);
    let (reply, flushed) = crossbeam_channel::bounded(1);
    assert!(running.broker.inner.wake.send(Wake::Flush(reply)));
    std::thread::sleep(Duration::from_millis(100));
    assert!(flushed.try_recv().is_err());
    running.broker.inner.wake.damaged(id);
    assert_eq!((read(&running.broker).len(), missing(&running.broker)), (0, 1));
    drop(release);
    flushed.recv().expect("it answers").expect("it flushes");
}

#[test]
fn a_block_is_set_aside_for_all_when_it_is_damaged_for_long_and_comes_back_when_it_is_whole() {
    const AFTER: Duration = Duration::from_millis(2_400);
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    site.damaged_after_ms.store(AFTER.as_millis() as u64, Ordering::Relaxed);
    let (one, id, key) = with_block(&runtime, &site);
    let two = start(&runtime, &site, 2, &MemoryDisk::new());
    let is_set_aside = || one.consensus.read(|state| state.quarantined().len() == 1);
    assert_eq!(read(&two.broker).len(), 1);

    // The store does not have it for a moment.
    let object = site.objects.lock().remove(&key).expect("it is there");
    one.broker.inner.wake.damaged(id);
    std::thread::sleep(AFTER / 2);
    assert_eq!((is_set_aside(), missing(&one.broker), missing(&two.broker)), (false, 1, 0));
    site.objects.lock().insert(key.clone(), object.clone());
    wait("it is shown again", AFTER, || missing(&one.broker) == 0);
    assert_eq!(read(&one.broker).len(), 1);

    // For long.
    std::thread::sleep(AFTER / 3);
    site.objects.lock().remove(&key);
    one.broker.inner.wake.damaged(id);
    let began = Instant::now();
    wait("it is set aside", 4 * AFTER, is_set_aside);
    assert!(began.elapsed() >= AFTER, "{:?}", began.elapsed());
    for broker in [&one.broker, &two.broker] {
        wait("all leave it out", Duration::from_secs(5), || read(broker).is_empty());
        assert_eq!(missing(broker), 1);
    }
    // Somebody restores it.
    site.objects.lock().insert(key, object);
    for broker in [&one.broker, &two.broker] {
        wait("it is listed again", 4 * AFTER, || missing(broker) == 0 && read(broker).len() == 1);
    }
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}
