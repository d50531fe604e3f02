//! Segments in one store, blocks in another.

use std::thread::sleep;

use super::*;
use crate::cluster::tiers::{FormerStore, SegmentStore};

/// A site for blocks, and one whose objects are the segments of every broker.
struct Two {
    runtime: Runtime,
    site: Arc<Site>,
    fast: Arc<Site>,
}

fn store(fast: &Arc<Site>, id: &str) -> SegmentStore {
    let store = Arc::new(Shared(Arc::clone(fast)));
    SegmentStore { store, url: format!("redis://{id}/p"), id: id.to_owned() }
}

impl Two {
    fn new() -> Two {
        let two = Two { runtime: runtime(), site: Arc::default(), fast: Arc::default() };
        for id in 1..=3 {
            // Each draws a name; the one that comes first counts.
            let apart = Some(store(&two.fast, &format!("drawn-by-{id}")));
            two.tell(id, SegmentPlaces { apart, former: FormerStore::None }, None);
        }
        two
    }

    fn tell(&self, id: u64, places: SegmentPlaces, change_kept: Option<u64>) {
        self.site.segments.lock().insert(id, places);
        let told: Told = Box::new(move |config, _| config.change_kept = change_kept);
        self.site.told.lock().insert(id, told);
    }

    fn start(&self, id: u64, disk: &MemoryDisk) -> Running {
        start(&self.runtime, &self.site, id, disk)
    }

    /// Why it does not start.
    fn refused(&self, id: u64, disk: &MemoryDisk) -> String {
        let refused = try_start(&self.runtime, &self.site, id, disk).err().expect("refused");
        let running = self.site.members.lock().remove(&id).expect("it runs");
        self.runtime.block_on(running.stop());
        format!("{refused:#}")
    }

    fn stop(&self, running: Running, id: u64) {
        running.stop(&self.runtime, &self.site, id);
    }
}

fn write(running: &Running, t_ms: i64) {
    send(&running.broker, &batch("s", START_MS + t_ms, 1.0)).recv().expect("told").expect("stored");
}

fn sent(times: impl IntoIterator<Item = i64>) -> BTreeMap<(String, i64), f64> {
    times.into_iter().map(|t_ms| (("s".to_owned(), START_MS + t_ms), 1.0)).collect()
}

fn wait(what: &str, seconds: u64, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        sleep(Duration::from_millis(50));
    }
}

fn version(running: &Running) -> u64 {
    running.consensus.read(|state| state.get("cluster/kept").expect("there").version)
}

#[test]
fn segments_are_written_read_taken_over_and_removed_in_their_own_store() {
    let (two, disks) = (Two::new(), <[MemoryDisk; 3]>::default());
    let running: Vec<Running> = (1..=3).zip(&disks).map(|(id, disk)| two.start(id, disk)).collect();
    let [one, second, third] = <[Running; 3]>::try_from(running).ok().expect("three");
    let marks = objects(&two.fast, "cluster/");
    assert_eq!(marks, ["cluster/.segments-drawn-by-1.json"], "the store has one name");
    for t_ms in 0..4 {
        write(if t_ms < 2 { &one } else { &second }, t_ms);
    }
    assert_eq!(objects(&two.fast, "segments/").len(), 4);
    assert!(objects(&two.site, "").is_empty(), "{:?}", objects(&two.site, ""));
    flush(&one.broker);
    assert_eq!(objects(&two.site, "blocks/").len(), 1);
    assert!(objects(&two.fast, "blocks/").is_empty());
    wait("what is in a block is removed", 10, || objects(&two.fast, "segments/").len() == 2);
    // A restart reads what is in no block.
    write(&third, 4);
    two.stop(third, 3);
    let third = two.start(3, &disks[2]);
    assert_eq!(third.broker.recovered().samples, 1);
    // One dies: the others read its segments, and make blocks of them.
    second.kill(&two.runtime, &two.site, 2);
    let orphan = catalog::segment_key(BrokerId(77), 0, 3);
    two.fast.objects.lock().insert(orphan.clone(), Bytes::from_static(b"?"));
    wait("all is read", 20, || read(&third.broker) == sent(0..5));
    wait("it is taken over", 60, || {
        one.consensus.read(|state| state.broker(BrokerId(2)).map_or(0, |b| b.segments.len())) == 0
    });
    wait("orphans go", 60, || !objects(&two.fast, "segments/").contains(&orphan));
    for running in [&one, &third] {
        wait("all is read from blocks", 10, || read(&running.broker) == sent(0..5));
    }
    assert!(objects(&two.site, "segments/").is_empty());
    assert!(two.site.faults.lock().is_empty(), "{:?}", two.site.faults.lock());
}

#[test]
fn a_store_of_segments_that_is_away_stops_writes_and_nothing_else() {
    let two = Two::new();
    let one = two.start(1, &MemoryDisk::new());
    write(&one, 0);
    flush(&one.broker);
    two.fast.is_full.store(true, Ordering::Relaxed);
    let refused = send(&one.broker, &batch("s", START_MS + 1, 1.0)).recv().expect("told");
    let refused = refused.expect_err("it has no place");
    assert!(refused.to_string().contains("quota is used up"), "{refused}");
    assert_eq!(read(&one.broker), sent([0]));
    two.fast.is_full.store(false, Ordering::Relaxed);
    // And the other way round: what is in no block yet waits where it is.
    write(&one, 1);
    two.site.is_full.store(true, Ordering::Relaxed);
    write(&one, 2);
    assert_eq!(read(&one.broker), sent(0..3));
    assert_eq!(objects(&two.fast, "segments/").len(), 2);
}

#[test]
fn segments_move_from_the_blocks_to_their_own_store_and_back() {
    let (two, disks) = (Two::new(), <[MemoryDisk; 2]>::default());
    let apart = two.site.segments.lock()[&1].clone();
    for id in 1..=2 {
        two.tell(id, SegmentPlaces::default(), None);
    }
    let [one, second] = [two.start(1, &disks[0]), two.start(2, &disks[1])];
    write(&one, 0);
    write(&second, 1);
    two.stop(second, 2);
    two.tell(2, apart.clone(), None);
    let refused = two.refused(2, &disks[1]);
    let first = version(&one);
    for said in [
        "This one: in redis://drawn-by-1/p (store drawn-by-1). The cluster: with the blocks",
        &format!("--change-kept {first}"),
    ] {
        assert!(refused.contains(said), "{refused}");
    }
    assert!(objects(&two.fast, "").is_empty(), "a refusal names nothing");
    two.tell(2, apart.clone(), Some(first));
    let second = two.start(2, &disks[1]);
    assert_eq!(second.broker.recovered().samples, 1, "read where it lay before");
    write(&second, 2);
    let all = |t| sent(0..t);
    wait("both read both", 10, || read(&one.broker) == all(3) && read(&second.broker) == all(3));
    // The other one still writes where it did, and does not take over what it could not read.
    write(&one, 3);
    assert_eq!(objects(&two.site, "segments/").len(), 3);
    assert_eq!(objects(&two.fast, "segments/").len(), 1);
    two.stop(one, 1);
    two.tell(1, apart, None);
    let one = two.start(1, &disks[0]);
    assert_eq!(one.broker.recovered().samples, 2);
    // Back again, without the store that has the segments of now.
    let second_version = version(&one);
    two.stop(second, 2);
    two.tell(2, SegmentPlaces::default(), Some(second_version));
    let refused = two.refused(2, &disks[1]);
    assert!(refused.contains("--former-store-segments"), "{refused}");
    let former = FormerStore::At(Arc::new(Shared(Arc::clone(&two.fast))));
    two.tell(2, SegmentPlaces { apart: None, former: former.clone() }, Some(second_version));
    let second = two.start(2, &disks[1]);
    write(&second, 4);
    wait("it reads what lies there", 10, || read(&second.broker) == sent(0..5));
    write(&one, 5);
    two.stop(one, 1);
    // This one forgets to say where it lay.
    two.tell(1, SegmentPlaces::default(), None);
    let refused = two.refused(1, &disks[0]);
    assert!(refused.contains("1 segments of this broker are not where"), "{refused}");
    two.tell(1, SegmentPlaces { apart: None, former }, None);
    let one = two.start(1, &disks[0]);
    for running in [&one, &second] {
        wait("all is there", 10, || read(&running.broker) == sent(0..6));
        flush(&running.broker);
    }
    for site in [&two.site, &two.fast] {
        wait("no segment is left", 10, || objects(site, "segments/").is_empty());
    }
    assert_eq!(read(&one.broker), sent(0..6));
    assert!(two.site.faults.lock().is_empty(), "{:?}", two.site.faults.lock());
}

#[test]
fn a_store_that_was_emptied_is_not_taken_for_the_one_it_was() {
    let (two, disk) = (Two::new(), MemoryDisk::new());
    let one = two.start(1, &disk);
    write(&one, 0);
    flush(&one.broker);
    write(&one, 1);
    let version = version(&one);
    two.stop(one, 1);
    two.fast.objects.lock().clear();
    // Each start draws a name of its own.
    let again = SegmentPlaces { apart: Some(store(&two.fast, "new")), former: FormerStore::None };
    two.tell(1, again, None);
    let refused = two.refused(1, &disk);
    assert!(refused.contains("somebody has emptied it"), "{refused}");
    let places = || two.site.segments.lock()[&1].clone();
    two.tell(1, places(), Some(version));
    let refused = two.refused(1, &disk);
    assert!(refused.contains("write `lost` instead"), "{refused}");
    two.tell(1, SegmentPlaces { former: FormerStore::Lost, ..places() }, Some(version));
    let one = two.start(1, &disk);
    assert_eq!(read(&one.broker), sent([0]));
    let state = one.consensus.read(State::clone);
    let clustered = one.broker.inner.clustered.as_ref().expect("one");
    assert_eq!(clustered.missing(&state).count(), 1, "what was lost is told");
    write(&one, 2);
    assert_eq!(read(&one.broker), sent([0, 2]));
}

/// Whoever takes over what a dead one left passes over what it cannot read: not because it was told of the
/// wrong store.
#[test]
fn who_does_not_know_the_store_takes_nothing_over() {
    let (two, disks) = (Two::new(), <[MemoryDisk; 3]>::default());
    let apart = two.site.segments.lock()[&3].clone();
    for id in 1..=3 {
        two.tell(id, SegmentPlaces::default(), None);
    }
    let [one, second] = [two.start(1, &disks[0]), two.start(2, &disks[1])];
    two.tell(3, apart.clone(), Some(version(&one)));
    let third = two.start(3, &disks[2]);
    write(&third, 0);
    write(&second, 1);
    third.kill(&two.runtime, &two.site, 3);
    let left = |running: &Running| {
        running.consensus.read(|state| state.broker(BrokerId(3)).map_or(0, |b| b.segments.len()))
    };
    sleep(Duration::from_secs(25));
    assert_eq!(
        (left(&one), left(&second)),
        (1, 1),
        "it is dead for long, and nobody passes it over"
    );
    let again = |running: Running, id: u64| {
        two.stop(running, id);
        two.tell(id, apart.clone(), None);
        two.start(id, &disks[id as usize - 1])
    };
    let (second, one) = (again(second, 2), again(one, 1));
    wait("it is taken over", 60, || left(&one) == 0);
    wait("all is there", 10, || read(&second.broker) == sent([0, 1]));
}
