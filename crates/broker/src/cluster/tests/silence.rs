//! Brokers that do not answer for a while, and blocks that cannot be read for a while.

use std::sync::atomic::AtomicU64;

use blockstore::BlockError;
use metricstore::MetricError;
use model::NO_TENANT;
use net::rpc::FreshHead;
use net::rpc::fresh_request::Ask;

use super::reads::{Three, read_with, series_is, stored, whole};
use super::*;
use crate::cluster::signals::AnyBlock;

fn clustered(broker: &Broker) -> &Clustered {
    broker.inner.clustered.as_ref().expect("it is one")
}

fn counted(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_lacked_when_it_was_read_is_told_after_it_is_there_again() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    let broker = &running.broker;
    let own = clustered(broker);
    // Nobody but this test finds it whole.
    own.stop_jobs();
    stored(broker, &batch("s", START_MS, 1.0));
    flush(broker);
    let open = Arc::clone(&broker.inner.blocks.snapshot()[0]);
    let reader = || broker.reader(DEFAULT_TENANT);
    let error = BlockError::Corrupt { offset: 0, detail: "as if".to_owned() };
    reader().report(&MetricError::Block { block: open.meta.id.to_string().into(), error });
    assert!(broker.inner.blocks.snapshot().is_empty(), "it is taken out at once");
    let of_samples = reader();
    assert!(read_with(&of_samples).is_empty());
    let of_names = reader();
    let names = of_names.label_names(&[], TimeRange::all(), 10).expect("memory");
    assert!(names.is_empty(), "{names:?}");
    let of_before = reader();
    let range = TimeRange::new(START_MS - 2, START_MS - 1);
    assert!(of_before.select(&series_is("s"), range).expect("readable").is_empty());
    let (meta, block) = (open.meta, AnyBlock::Samples(Arc::clone(&open.block)));
    assert!(own.events.send(Event::Opened(meta, block)).is_ok());
    wait("it is shown again", || broker.inner.blocks.snapshot().len() == 1);
    broker.inner.damaged.lock().clear();
    assert_eq!(whole(broker).len(), 1);
    for reader in [of_samples, of_names] {
        let missing = reader.missing(TimeRange::all());
        assert!(missing.len() == 1 && missing[0].contains("with 1 samples"), "{missing:?}");
        assert!(!reader.misses_nothing());
    }
    assert_eq!(of_before.missing(range), [] as [String; 0]);
    assert!(of_before.misses_nothing());
}

/// It may be in a block by then that is not shown here.
#[test]
fn what_the_catalog_said_to_be_missing_while_others_were_asked_is_told() {
    let three = Three::start();
    stored(three.at(3), &batch("s", START_MS, 1.0));
    let third = BrokerId(3);
    let consensus = &clustered(three.at(1)).peers.consensus;
    let epoch = consensus.read(|state| state.broker(third).expect("listed").epoch);
    let flush = |unread| {
        let (broker, added) = (third, Vec::new());
        let (through, deletes_through) = (1, 0);
        let command = Command::FlushLog { broker, epoch, through, added, deletes_through, unread };
        let proposed = consensus.propose(command, Duration::from_secs(5));
        three.runtime.block_on(proposed).expect("a leader");
    };
    flush(vec![0]);
    let turns = &clustered(three.at(2)).answering;
    let count = u32::try_from(turns.available_permits()).expect("few");
    let all = turns.try_acquire_many(count).expect("all are free");
    three.site.asked.lock().clear();
    std::thread::scope(|scope| {
        let query = scope.spawn(|| {
            let reader = three.at(1).reader(DEFAULT_TENANT);
            read_with(&reader);
            reader.missing(TimeRange::all())
        });
        wait("it asks", || three.site.asked.lock().contains_key(&2));
        flush(Vec::new());
        let is_found = |state: &State| state.unread_segments().len() == 0;
        wait("it is found", || consensus.read(is_found));
        drop(all);
        let missing = query.join().expect("it is answered");
        assert!(missing.len() == 1 && missing[0].contains("segment 0 of broker"), "{missing:?}");
    });
    whole(three.at(1));
}

/// An answer of a broker that has too much to do.
#[test]
fn who_waits_for_a_turn_says_so_and_waits_for_nobody_who_has_gone() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    let turns = &clustered(&running.broker).answering;
    let count = turns.available_permits();
    let all = turns.try_acquire_many(u32::try_from(count).expect("few")).expect("all are free");
    let ask = Some(Ask::Head(FreshHead { limit: 1 }));
    let request = FreshRequest { to: 1, tenant: DEFAULT_TENANT.0, at_least: 0, ask };
    let mut parts = {
        let _inside = runtime.enter();
        running.broker.answer_fresh(request.clone())
    };
    runtime.block_on(async {
        for _ in 0..3 {
            let part = tokio::time::timeout(Duration::from_secs(3), parts.next()).await;
            let part = part.expect("a sign of life").expect("a part").expect("no error");
            assert!(part.piece.is_empty() && part.end.is_none());
        }
    });
    drop(parts);
    let parts = {
        let _inside = runtime.enter();
        running.broker.answer_fresh(request)
    };
    // Who has gone wants nothing when it is free again.
    std::thread::sleep(Duration::from_millis(100));
    let answered = || counted(&clustered(&running.broker).peers.counters.answered);
    assert_eq!(answered(), 0);
    drop(all);
    let parts: Vec<_> = runtime.block_on(parts.collect());
    assert!(parts.last().expect("parts").as_ref().expect("no error").end.is_some());
    wait("all turns are free", || turns.available_permits() == count);
    assert_eq!(answered(), 1);
}

#[test]
fn heads_of_a_silent_broker_are_kept_while_they_are_of_use() {
    let three = Three::start();
    for (series, t_ms) in [("a", 0), ("b", 1)] {
        stored(three.at(3), &batch(series, START_MS + t_ms, 1.0));
    }
    let others = Arc::clone(&clustered(three.at(1)).peers);
    let segments_read = || counted(&others.counters.segments_read);
    // A connection that fails in the middle costs time and nothing else.
    three.site.torn.lock().insert(3);
    assert_eq!(whole(three.at(1)).len(), 2);
    assert_eq!((segments_read(), counted(&others.counters.unanswered)), (2, 1));
    three.site.torn.lock().clear();
    let version = others.consensus.read(State::version);
    wait("it is asked again, by nobody who waits", || {
        whole(three.at(1));
        let asked = three.site.asked.lock()[&3].clone();
        assert!(asked.at_least >= version, "one that lags does not answer: {asked:?}");
        let answers = counted(&clustered(three.at(3)).peers.counters.answered);
        asked.tenant != NO_TENANT.0 && answers > 3
    });
    three.site.silent.lock().insert(3);
    three
        .at(1)
        .delete_series(DEFAULT_TENANT, &[series_is("a")], TimeRange::all())
        .expect("a leader");
    let keys = |found: BTreeMap<(String, i64), f64>| {
        found.into_keys().map(|(series, _)| series).collect::<Vec<_>>()
    };
    assert_eq!(keys(whole(three.at(1))), ["b"]);
    assert_eq!(segments_read(), 2, "it falls silent again, and what was read is there");
    stored(three.at(3), &batch("c", START_MS + 2, 1.0));
    assert_eq!(keys(whole(three.at(1))), ["b", "c"]);
    assert_eq!(segments_read(), 3);

    // As if another one had begun to take over what it has: all but the last is in blocks, and nothing is
    // left that the delete hides.
    let propose = |command| {
        let proposed = others.consensus.propose(command, Duration::from_secs(5));
        three.runtime.block_on(proposed).expect("a leader")
    };
    let third = BrokerId(3);
    let (epoch, deletes_through) = others.consensus.read(|state| {
        assert_eq!(state.tombstones().count(), 1);
        (state.broker(third).expect("listed").epoch, state.last_delete())
    });
    let flush = |through| {
        let (broker, added, unread) = (third, Vec::new(), Vec::new());
        Command::FlushLog { broker, epoch, through, added, deletes_through, unread }
    };
    propose(flush(2));
    assert_eq!(others.consensus.read(|state| state.tombstones().count()), 0);
    assert_eq!(keys(whole(three.at(1))), ["b", "c"], "what was deleted stays away");
    assert_eq!(segments_read(), 3, "what was read is kept");
    assert!(others.foreign_bytes() > 0);

    // All of it is in blocks: there are none in this test.
    propose(flush(3));
    assert!(whole(three.at(1)).is_empty());
    assert_eq!(others.foreign_bytes(), 0);
    assert!(others.known.lock().contains_key(&third));
    propose(Command::RemoveBroker { broker: third });
    assert!(whole(three.at(1)).is_empty());
    assert!(!others.known.lock().contains_key(&third), "one that comes again is another one");
}
