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
        pushes: Vec::new(),
    };
    site.objects.lock().insert(key.clone(), bytes.into());
    let add = Command::AddSegment(Box::new(new));
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

fn unread(running: &Running) -> Vec<(BrokerId, u64)> {
    running.consensus.read(|state| state.unread_segments().map(|(id, seq, _)| (id, seq)).collect())
}

fn wait(what: &str, seconds: u64, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nobody has to restart anything for it.
#[test]
fn a_missing_segment_becomes_a_block_when_the_store_gives_it_again() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let running = start(&runtime, &site, 1, &disk);
    let store = |broker: &Broker, series: &str, t_ms| {
        send(broker, &batch(series, t_ms, 1.0)).recv().expect("answered").expect("stored");
    };
    store(&running.broker, "s", START_MS);
    store(&running.broker, "gone", START_MS);
    running.stop(&runtime, &site, 1);
    let segments = objects(&site, "segments/");
    for key in &segments {
        let fault = StoreFault::Damaged("503".to_owned());
        site.kept_back.lock().insert(key.clone(), fault);
    }
    let again = start(&runtime, &site, 1, &disk);
    store(&again.broker, "s", START_MS + 1);
    flush(&again.broker);
    assert_eq!(unread(&again), [(BrokerId(1), 0), (BrokerId(1), 1)]);
    // What is deleted meanwhile is not back with them.
    let matcher = Matcher::new("series", MatchOp::Equal, "gone").expect("no regex");
    let deleted = again.broker.delete_series(DEFAULT_TENANT, &[vec![matcher]], TimeRange::all());
    deleted.expect("a leader");
    again.broker.clean_deleted().expect("nothing is in the way");
    assert_eq!(again.consensus.read(|state| state.tombstones().len()), 1);
    site.kept_back.lock().clear();
    wait("they are read again", 40, || unread(&again).is_empty());
    wait("both samples are there", 10, || {
        let times: Vec<(String, i64)> = read(&again.broker).into_keys().collect();
        times == [("s".to_owned(), START_MS), ("s".to_owned(), START_MS + 1)]
    });
    assert_eq!(again.broker.reader(DEFAULT_TENANT).missing(TimeRange::all()).len(), 0);
    assert_eq!(again.consensus.read(|state| state.tombstones().len()), 0);
    wait("their objects go", 10, || objects(&site, "segments/").is_empty());
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn a_missing_segment_is_forgotten_when_its_retention_is_over() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    let propose = |command: Command| {
        let agreed = running.consensus.propose(command, Duration::from_secs(5));
        runtime.block_on(agreed).expect("a leader")
    };
    let info = running
        .consensus
        .read(|state| state.broker(BrokerId(1)).expect("it is there").info.clone());
    let broker = BrokerId(77);
    propose(Command::SetBroker { broker, info: Box::new(info) });
    let Outcome::Epoch(epoch) = propose(Command::BeginLog { broker }) else { panic!("no epoch") };
    for (seq, start_ms) in [(0, 0), (1, START_MS)] {
        propose(Command::AddSegment(Box::new(NewSegment {
            broker,
            epoch,
            seq,
            size_bytes: 100,
            checksum: 9,
            rows: 1,
            range: TimeRange::new(start_ms, start_ms + 1),
            marks: Vec::new(),
            pushes: Vec::new(),
        })));
    }
    let (added, unread_seqs) = (Vec::new(), vec![0, 1]);
    let flush = Command::FlushLog {
        broker,
        epoch,
        through: 2,
        added,
        deletes_through: 0,
        unread: unread_seqs,
    };
    propose(flush);
    // While it is listed it may come back any moment, and its clock may be the right one.
    propose(Command::RemoveBroker { broker });
    wait("the old one is forgotten", 10, || unread(&running) == [(broker, 1)]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(unread(&running), [(broker, 1)]);
}
