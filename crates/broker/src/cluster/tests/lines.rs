//! Lines of logs in a cluster: segments, heads of others, blocks, deletes, merges, brokers that die.

use catalog::{BlockId, NewBlock, Signal};
use logstore::{Entries, NsRange, Query};
use model::LogBatch;

use super::reads::{Three, stored, whole};
use super::*;
use crate::{LogOutcome, PushId};

const MS: i64 = 1_000_000;

fn app(name: &str) -> Labels {
    Labels::from_pairs([("app", name)]).expect("valid")
}

fn app_is(name: &str) -> Vec<Matcher> {
    vec![Matcher::new("app", MatchOp::Equal, name).expect("no regex")]
}

/// Lines of one stream, one a millisecond from a time on.
fn lines(name: &str, from_ms: i64, texts: &[&str]) -> LogBatch {
    let mut batch = LogBatch::default();
    batch.stream(&app(name));
    for (at, text) in (0..).zip(texts) {
        batch.push((START_MS + from_ms + at) * MS, text.as_bytes(), &[]).expect("short");
    }
    batch
}

fn push(broker: &Broker, batch: LogBatch) -> Result<LogOutcome, CommitError> {
    push_as(broker, batch, None)
}

fn push_as(
    broker: &Broker,
    batch: LogBatch,
    push: Option<PushId>,
) -> Result<LogOutcome, CommitError> {
    let (reply, answer) = channel();
    broker.ingest_logs(DEFAULT_TENANT, batch, push, move |result| _ = reply.send(result));
    answer.recv().expect("answered")
}

/// Stream, milliseconds since the start, text.
type Found = Vec<(String, i64, String)>;

fn read_lines(broker: &Broker) -> (Found, Vec<String>) {
    let selection = broker.logs_reader(DEFAULT_TENANT).select(&[], NsRange::all());
    let selection = selection.expect("there is memory");
    let query = Query::new(Vec::new(), selection.range);
    let mut entries = Entries::new(query, selection.sources).expect("readable");
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().expect("readable") {
        let name = entry.labels.get("app").expect("all have it").to_owned();
        let text = String::from_utf8(entry.line.to_vec()).expect("text");
        found.push((name, entry.timestamp_ns / MS - START_MS, text));
    }
    (found, selection.missing)
}

#[track_caller]
fn assert_lines(broker: &Broker, wanted: &[(&str, i64, &str)], when: &str) {
    let (found, missing) = read_lines(broker);
    assert_eq!(missing, [] as [String; 0], "{when}");
    let wanted: Found =
        wanted.iter().map(|(name, at, text)| (name.to_string(), *at, text.to_string())).collect();
    assert_eq!(found, wanted, "{when}");
}

#[test]
fn lines_are_there_before_and_after_a_flush_a_start_and_a_delete() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let running = start(&runtime, &site, 1, &disk);
    push(&running.broker, lines("a", 0, &["first", "second"])).expect("stored");
    // One segment may have both.
    let sample = send(&running.broker, &batch("s", START_MS, 1.0));
    push(&running.broker, lines("b", 5, &["other"])).expect("stored");
    sample.recv().expect("answered").expect("stored");
    let all = [("a", 0, "first"), ("a", 1, "second"), ("b", 5, "other")];
    assert_lines(&running.broker, &all, "in the head");
    running.stop(&runtime, &site, 1);
    let running = start(&runtime, &site, 1, &disk);
    assert_eq!(running.broker.recovered().lines, 3);
    assert_lines(&running.broker, &all, "out of segments");
    flush(&running.broker);
    // Or they would make the next flush due.
    assert_eq!(running.broker.inner.lines.heads.totals().lines, 0, "what was flushed");
    assert_eq!(objects(&site, "blocks/logs/").len(), 1);
    assert_lines(&running.broker, &all, "out of a block");
    wait_for_segments(&site, 0);
    let id = PushId::of(DEFAULT_TENANT, "", b"body");
    for was_known in [false, true] {
        let third = push_as(&running.broker, lines("a", 2, &["third"]), Some(id));
        assert_eq!(third.expect("stored").was_known, was_known);
    }
    let broker = &running.broker;
    broker.delete_logs(DEFAULT_TENANT, &[app_is("a")], TimeRange::all()).expect("agreed");
    // The same line again is a new one.
    push(broker, lines("a", 1, &["second"])).expect("stored");
    let left = [("a", 1, "second"), ("b", 5, "other")];
    assert_lines(broker, &left, "after a delete");
    running.stop(&runtime, &site, 1);
    let running = start(&runtime, &site, 1, &disk);
    assert_lines(&running.broker, &left, "after a delete and a start");
    running.broker.clean_deleted().expect("the store is up");
    assert_lines(&running.broker, &left, "cleaned");
    assert_eq!(running.broker.inner.lines.deletes.current().0.len(), 0);
    running.stop(&runtime, &site, 1);
    let running = start(&runtime, &site, 1, &disk);
    assert_lines(&running.broker, &left, "after a start out of blocks");
    assert_eq!(whole(&running.broker).len(), 1, "the sample");
    running.stop(&runtime, &site, 1);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn what_one_acknowledged_all_can_read_and_a_dead_ones_lines_become_blocks() {
    let mut three = Three::start();
    let mut wanted = Vec::new();
    for at in 0..9 {
        let (id, name) = (1 + at as usize % 3, ["a", "b"][at as usize % 2]);
        push(three.at(id), lines(name, at, &["line"])).expect("stored");
        wanted.push((name, at, "line"));
        assert_lines(three.at(1 + id % 3), &wanted, "another broker sees it at once");
    }
    // The same line at two brokers is one.
    push(three.at(1), lines("a", 0, &["line"])).expect("stored");
    push(three.at(2), lines("a", 0, &["line"])).expect("stored");
    let all = |three: &Three, wanted: &[(&str, i64, &str)], ids: &[usize], when: &str| {
        ids.iter().for_each(|id| assert_lines(three.at(*id), wanted, when));
    };
    all(&three, &wanted, &[1, 2, 3], "sent twice");
    flush(three.at(1));
    all(&three, &wanted, &[1, 2, 3], "some in blocks");
    three.at(2).delete_logs(DEFAULT_TENANT, &[app_is("b")], TimeRange::all()).expect("agreed");
    wanted.retain(|(name, ..)| *name == "a");
    all(&three, &wanted, &[1, 2, 3], "deleted at another broker");
    push(three.at(3), lines("b", 50, &["after"])).expect("stored");
    wanted.push(("b", 50, "after"));
    all(&three, &wanted, &[1, 2, 3], "stored after the delete");
    stored(three.at(3), &batch("s", START_MS, 1.0));
    three.kill(3);
    all(&three, &wanted, &[1, 2], "of its segments");
    let end = Instant::now() + Duration::from_secs(60);
    let left = |three: &Three| {
        let segments = objects(&three.site, "segments/");
        segments.iter().any(|key| key.contains("/0000000000000003/"))
    };
    while left(&three) {
        assert!(Instant::now() < end, "its segments are not made blocks");
        all(&three, &wanted, &[1, 2], "while they are");
        std::thread::sleep(Duration::from_millis(100));
    }
    all(&three, &wanted, &[1, 2], "taken over");
}

/// One line, in a batch of an agent.
fn from_agent(broker: &Broker, seq: u64, after_seq: u64) -> Result<LogOutcome, CommitError> {
    let (agent, incarnation) = ("a".into(), Incarnation([1; 16]));
    let identity = BatchIdentity { agent, incarnation, lane: Lane::Live, seq, after_seq };
    let (reply, answer) = channel();
    let batch = lines("agent", seq as i64, &["line"]);
    let told = move |result| _ = reply.send(result);
    broker.ingest_logs_from_agent(DEFAULT_TENANT, &identity, batch, told);
    answer.recv().expect("answered")
}

#[test]
fn a_batch_of_lines_counts_once_at_whichever_broker_it_comes() {
    let mut three = Three::start();
    let was_known =
        |broker: &Broker, seq| from_agent(broker, seq, seq - 1).expect("stored").was_known;
    assert!(!was_known(three.at(1), 1));
    assert!(was_known(three.at(2), 1));
    assert_eq!(from_agent(three.at(3), 3, 2), Err(CommitError::Gap { through: 1 }));
    assert!(!was_known(three.at(3), 2));
    let wanted = [("agent", 1, "line"), ("agent", 2, "line")];
    assert_lines(three.at(2), &wanted, "each once");
    // What does not count in a segment does not come back when another broker reads it.
    three.kill(3);
    assert!(was_known(three.at(1), 2));
    assert_lines(three.at(1), &wanted, "of its segments");
}

/// A line that got its time from the broker, in a request that its sender has named.
fn named(broker: &Broker, at: i64, name: &str) -> bool {
    let id = PushId::of(DEFAULT_TENANT, name, b"body");
    let (reply, answer) = channel();
    let told = move |result| _ = reply.send(result);
    broker.ingest_named_logs(DEFAULT_TENANT, lines("named", at, &["line"]), id, told);
    answer.recv().expect("answered").expect("stored").was_known
}

#[test]
fn a_named_push_counts_once_at_whichever_broker_it_comes_again() {
    let mut three = Three::start();
    assert!(!named(three.at(1), 1, "first"));
    assert!(named(three.at(2), 2, "first"), "another one stored it");
    assert!(named(three.at(1), 3, "first"), "this one stored it");
    assert!(!named(three.at(3), 4, "second"));
    let wanted = [("named", 1, "line"), ("named", 4, "line")];
    three.kill(3);
    assert!(named(three.at(2), 5, "second"), "one that is dead stored it");
    // Two brokers at the same time: whichever is agreed upon second does not count.
    let known = std::thread::scope(|scope| {
        let at = |id: usize, at: i64| {
            let broker = three.at(id);
            scope.spawn(move || named(broker, at, "third"))
        };
        let both = [at(1, 6), at(2, 6)];
        both.map(|one| one.join().expect("it does not panic"))
            .iter()
            .filter(|known| **known)
            .count()
    });
    assert_eq!(known, 1);
    let wanted = [&wanted[..], &[("named", 6, "line")]].concat();
    assert_lines(three.at(1), &wanted, "each once");
    assert_lines(three.at(2), &wanted, "each once");
    // A push whose lines bear their times need not be known elsewhere: they are the same ones.
    let id = PushId::of(DEFAULT_TENANT, "", b"timed");
    for broker in [three.at(1), three.at(2)] {
        let stored = push_as(broker, lines("timed", 9, &["line"]), Some(id)).expect("stored");
        assert!(!stored.was_known);
    }
    let wanted = [&wanted[..], &[("timed", 9, "line")]].concat();
    assert_lines(three.at(1), &wanted, "each once");
}

/// One of an older version could not read what they agree upon.
#[test]
fn beside_an_older_broker_each_knows_the_named_pushes_it_stored_itself() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    site.level.store(catalog::PUSHES_LEVEL - 1, Ordering::Relaxed);
    let running = start(&runtime, &site, 1, &disk);
    assert_eq!([1, 2].map(|at| named(&running.broker, at, "first")), [false, true]);
    running.stop(&runtime, &site, 1);
    site.level.store(0, Ordering::Relaxed);
    let running = start(&runtime, &site, 1, &disk);
    assert_eq!([3, 4].map(|at| named(&running.broker, at, "first")), [false, true]);
    running.stop(&runtime, &site, 1);
    let running = start(&runtime, &site, 1, &disk);
    assert!(named(&running.broker, 5, "first"), "the catalog knows it");
    assert_lines(&running.broker, &[("named", 1, "line"), ("named", 3, "line")], "at the end");
    running.stop(&runtime, &site, 1);
}

#[test]
fn a_cluster_with_an_older_broker_takes_no_lines() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    site.level.store(catalog::LOGS_LEVEL - 1, Ordering::Relaxed);
    let running = start(&runtime, &site, 1, &disk);
    let refused = push(&running.broker, lines("a", 0, &["first"]));
    assert_eq!(refused, Err(CommitError::OldBroker));
    let refused = running.broker.delete_logs(DEFAULT_TENANT, &[app_is("a")], TimeRange::all());
    assert_eq!(refused, Err(CommitError::OldBroker));
    assert_lines(&running.broker, &[], "nothing was stored");
    running.stop(&runtime, &site, 1);
    site.level.store(0, Ordering::Relaxed);
    let running = start(&runtime, &site, 1, &disk);
    push(&running.broker, lines("a", 0, &["first"])).expect("all are of this version");
    assert_lines(&running.broker, &[("a", 0, "first")], "all are of this version");
    running.stop(&runtime, &site, 1);
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn blocks_of_lines_are_merged_set_aside_and_removed_as_those_of_samples_are() {
    const AFTER_MS: u64 = 900;
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    site.damaged_after_ms.store(AFTER_MS, Ordering::Relaxed);
    // From a minute after the start of the clock on, and at once what is a minute old.
    let told: Told = Box::new(|config, _| config.logs_retention_ms = Some(3_600_000));
    site.told.lock().insert(1, told);
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    let broker = &running.broker;
    let blocks = || objects(&site, "blocks/logs/");
    let mut wanted = Vec::new();
    for at in 0..12 {
        push(broker, lines("a", at, &["line"])).expect("stored");
        wanted.push(("a", at, "line"));
        flush(broker);
        assert_lines(broker, &wanted, "flushed");
    }
    wait("a dozen become one, and are removed", || blocks().len() == 1);
    assert_eq!(broker.block_totals(Signal::Logs).0, 1);
    assert_lines(broker, &wanted, "merged");
    // For long enough the store does not have it.
    let (key, id) = (blocks().remove(0), |state: &State| state.blocks().next().expect("one").id);
    let id = running.consensus.read(id);
    let object = site.objects.lock().remove(&key).expect("it is there");
    broker.inner.wake.damaged(id);
    let (found, missing) = read_lines(broker);
    assert!(found.is_empty() && missing.len() == 1, "{found:?} {missing:?}");
    wait("it is set aside", || running.consensus.read(|state| state.quarantined().len() == 1));
    assert_eq!(read_lines(broker).1.len(), 1);
    site.objects.lock().insert(key, object);
    wait("it is whole and listed again", || read_lines(broker).1.is_empty());
    assert_lines(broker, &wanted, "restored");
    assert_eq!(broker.reader(DEFAULT_TENANT).missing(TimeRange::all()), [] as [String; 0]);
    // Two hours of which nothing is kept: so old lines are refused, so they come as a block does.
    let id = BlockId(running.consensus.read(State::next_block).0 + 1);
    let old = |key: &str| site.objects.lock().contains_key(key);
    let kept = blocks().remove(0);
    let bytes = site.objects.lock().get(&kept).expect("it is there").clone();
    site.objects.lock().insert(id.key(Signal::Logs), bytes.clone());
    let added = vec![NewBlock {
        id,
        tenant: DEFAULT_TENANT,
        signal: Signal::Logs,
        range: TimeRange::new(START_MS - 7_200_000, START_MS - 7_199_000),
        rows: 12,
        series: 1,
        size_bytes: bytes.len() as u64,
        level: 0,
    }];
    let add = Command::AddBlocks { added, deletes_through: 0 };
    let proposed = running.consensus.propose(add, Duration::from_secs(5));
    runtime.block_on(proposed).expect("a leader");
    wait("it is removed from the catalog", || broker.block_totals(Signal::Logs).0 == 1);
    wait("and from the store", || !old(&id.key(Signal::Logs)));
    assert!(old(&kept));
    assert_lines(broker, &wanted, "at the end");
}
