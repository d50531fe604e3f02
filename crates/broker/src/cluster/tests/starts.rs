//! Starts where not everything can be read.

use catalog::NewSegment;

use super::*;

/// A start that goes on without them would say that they never were.
#[test]
fn a_start_fails_where_a_newer_program_wrote_or_the_store_is_another() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let running = start(&runtime, &site, 1, &disk);
    send(&running.broker, &batch("s", START_MS, 1.0)).recv().expect("answered").expect("stored");
    running.stop(&runtime, &site, 1);
    let objects_of_it = std::mem::take(&mut *site.objects.lock());
    let refused = try_start(&runtime, &site, 1, &disk).err().expect("nothing is there");
    let words = "none of the 1 segments that this broker acknowledged is in the store";
    assert!(format!("{refused:#}").contains(words), "{refused:#}");
    site.members.lock().remove(&1);
    *site.objects.lock() = objects_of_it;

    let disk = MemoryDisk::new();
    let (site, old) = (Arc::<Site>::default(), site);
    let running = start(&runtime, &site, 1, &disk);
    let (key, mut bytes) = {
        let objects = old.objects.lock();
        let (_, bytes) = objects.first_key_value().expect("the segment");
        (catalog::segment_key(BrokerId(1), 1, 0), bytes.to_vec())
    };
    // As a program of next year writes it.
    bytes[8] += 1;
    let new = NewSegment {
        broker: BrokerId(1),
        epoch: 1,
        seq: 0,
        size_bytes: bytes.len() as u64,
        checksum: codec::checksum(&bytes),
        rows: 1,
        range: TimeRange::new(START_MS, START_MS + 1),
        marks: Vec::new(),
    };
    site.objects.lock().insert(key.clone(), bytes.into());
    let add = Command::AddSegment(new);
    runtime.block_on(running.consensus.propose(add, Duration::from_secs(5))).expect("a leader");
    running.stop(&runtime, &site, 1);
    let refused = try_start(&runtime, &site, 1, &disk).err().expect("it cannot be read");
    assert!(format!("{refused:#}").contains("segment has format version 2"), "{refused:#}");
    assert_eq!(objects(&site, "segments/"), [key]);
}

/// One object that is lost, damaged or not given must not keep a broker from all others.
#[test]
fn a_start_goes_on_without_what_the_store_does_not_give_and_says_so() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let running = start(&runtime, &site, 1, &disk);
    let store = |broker: &Broker, t_ms| {
        send(broker, &batch("s", t_ms, 1.0)).recv().expect("answered").expect("stored");
    };
    store(&running.broker, START_MS);
    flush(&running.broker);
    wait_for_segments(&site, 0);
    store(&running.broker, START_MS + 1);
    store(&running.broker, START_MS + 2);
    store(&running.broker, START_MS + 3);
    running.stop(&runtime, &site, 1);
    let block = objects(&site, "blocks/").remove(0);
    let segments = objects(&site, "segments/");
    let why = || "503".to_owned();
    site.kept_back.lock().extend([
        (block.clone(), StoreFault::Damaged(why())),
        (segments[0].clone(), StoreFault::Damaged(why())),
        (segments[1].clone(), StoreFault::Unavailable(why())),
    ]);
    let began = Instant::now();
    let again = start(&runtime, &site, 1, &disk);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let times: Vec<i64> = read(&again.broker).into_keys().map(|(_, t_ms)| t_ms).collect();
    assert_eq!(times, [START_MS + 3]);
    assert_eq!(again.broker.recovered().unusable_frames, 2);
    let missing = |broker: &Broker| broker.reader(DEFAULT_TENANT).missing(TimeRange::all()).len();
    assert_eq!(missing(&again.broker), 3, "a block and two segments");
    flush(&again.broker);
    assert_eq!(missing(&again.broker), 3);
    again.stop(&runtime, &site, 1);
    site.kept_back.lock().clear();
    let whole = start(&runtime, &site, 1, &disk);
    assert_eq!(read(&whole.broker).len(), 4);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}
