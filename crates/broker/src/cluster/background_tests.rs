//! Background work of brokers on real threads and a real clock; faults under seeds are in
//! `tests/simulation`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blockstore::MemoryDisk;
use bytes::Bytes;
use catalog::{BlockId, BrokerId, Command, Signal, State, segment_key};
use model::{DEFAULT_TENANT, MatchOp, Matcher, TenantName, TimeRange};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::leases::{Leases, NoResult};
use super::tests::{
    Running, START_MS, Site, Told, batch, flush, objects, read, runtime, send, start,
    wait_for_segments,
};
use super::*;
use crate::commit::CommitError;

type Samples = BTreeMap<(String, i64), f64>;

fn wait(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn three(runtime: &Runtime, site: &Arc<Site>, disks: &[MemoryDisk; 3]) -> [Running; 3] {
    let running = [1, 2, 3].map(|id| start(runtime, site, id, &disks[id as usize - 1]));
    wait("all are alive", 20, || {
        let sees_all =
            |one: &Running| one.broker.cluster_ring().expect("a cluster").0.brokers().len() == 3;
        running.iter().all(sees_all)
    });
    running
}

/// Writes one sample to a broker and remembers it.
fn write(running: &Running, sent: &mut Samples, series: &str, t_ms: i64) {
    let value = t_ms as f64 / 7.0;
    let answer = send(&running.broker, &batch(series, t_ms, value));
    answer.recv().expect("answered").expect("stored");
    sent.insert((series.to_owned(), t_ms), value);
}

fn state<T>(running: &Running, read: impl FnOnce(&State) -> T) -> T {
    running.consensus.read(read)
}

fn blocks(running: &Running) -> usize {
    state(running, |state| state.blocks().len())
}

#[test]
fn blocks_of_all_brokers_are_merged_by_one_and_shown_by_all() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = three(&runtime, &site, &Default::default());
    let mut sent = Samples::new();
    for round in 0..2 {
        for (number, one) in running.iter().enumerate() {
            write(one, &mut sent, &format!("s{number}"), START_MS + round);
            flush(&one.broker);
        }
    }
    // Six flushes of a window that is open: the first four, at least, are one.
    wait("they are merged", 20, || blocks(&running[0]) <= 3);
    for one in &running {
        wait("each shows all", 10, || {
            one.broker.inner.shards.totals().rows == 0 && read(&one.broker) == sent
        });
    }
    // What was merged is removed from the store, and nothing else.
    wait("inputs are removed", 20, || {
        let listed: Vec<String> = state(&running[0], |s| s.blocks().map(|b| b.key()).collect());
        objects(&site, "blocks/") == listed
    });
    let merges =
        |one: &Running| one.broker.inner.maintenance_counters.merges.load(Ordering::Relaxed);
    let merged: Vec<u64> = running.iter().map(merges).collect();
    assert_eq!(merged.iter().filter(|merges| **merges > 0).count(), 1, "{merged:?}");
    wait_for_segments(&site, 0);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

/// The store refuses a block of one tenant: the other does not wait for that.
#[test]
fn a_merge_that_fails_keeps_no_other_waiting() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let one = start(&runtime, &site, 1, &MemoryDisk::new());
    let mut sent = Samples::new();
    let other = TenantName::parse("other").expect("a name");
    let other = one.broker.tenant_for_write(other).expect("room");
    for round in 0..4 {
        write(&one, &mut sent, "s", START_MS + round);
        let (reply, answer) = std::sync::mpsc::channel();
        let given = batch("s", START_MS + round, 1.0);
        one.broker.ingest(other, &given, move |result| _ = reply.send(result));
        answer.recv().expect("answered").expect("stored");
        if round == 3 {
            // Behind the two of the flush comes the first of a merge.
            site.refuses_block.store(3, Ordering::Relaxed);
        }
        flush(&one.broker);
    }
    let counters = &one.broker.inner.maintenance_counters;
    let failed = || counters.merge_failures.load(Ordering::Relaxed);
    wait("the first fails", 5, || failed() == 1);
    wait("the other tenant's are merged", 5, || blocks(&one) == 5);
    wait("it is tried again", 15, || blocks(&one) == 2);
    assert_eq!((failed(), read(&one.broker)), (1, sent));
}

#[test]
fn what_a_dead_broker_left_becomes_blocks_and_is_not_doubled_when_it_comes_back() {
    let (runtime, site, disks) = (runtime(), Arc::<Site>::default(), <[MemoryDisk; 3]>::default());
    let [one, two, three] = three(&runtime, &site, &disks);
    let mut sent = Samples::new();
    for t_ms in 0..5 {
        write(&two, &mut sent, "s", START_MS + t_ms);
    }
    let matcher = Matcher::new("series", MatchOp::Equal, "s").expect("no regex");
    let (range, selectors) = (TimeRange::new(START_MS, START_MS + 1), [vec![matcher]]);
    one.broker.delete_series(DEFAULT_TENANT, &selectors, range).expect("a leader");
    sent.remove(&("s".to_owned(), START_MS));
    let epoch = |running: &Running| {
        state(running, |state| state.broker(BrokerId(2)).map(|broker| broker.epoch))
    };
    let before = epoch(&one);
    // Gone, without a word. The store does not give one of its segments for a while.
    site.members.lock().remove(&2);
    runtime.block_on(two.consensus.stop());
    drop(two);
    let segments = objects(&site, &format!("segments/{}/", BrokerId(2)));
    let busy = StoreFault::Refused("no".to_owned());
    site.kept_back.lock().insert(segments[1].clone(), busy);
    let left = |running: &Running| {
        state(running, |state| state.broker(BrokerId(2)).map_or(0, |b| b.segments.len()))
    };
    assert_eq!(left(&one), 5);
    wait("somebody begins to take them over", 60, || epoch(&one) > before);
    let begun = epoch(&one);
    std::thread::sleep(Duration::from_secs(1));
    site.kept_back.lock().clear();
    // A failure does not make it a broker that has just started: it would have 12 s again.
    wait("it is tried again soon", 11, || left(&one) == 0);
    assert_eq!(epoch(&one), begun, "its log was begun once");
    for other in [&one, &three] {
        wait("all see them", 10, || read(&other.broker) == sent);
    }
    let two = start(&runtime, &site, 2, &disks[1]);
    assert_eq!(two.broker.recovered().samples, 0);
    write(&two, &mut sent, "s", START_MS + 9);
    flush(&two.broker);
    for running in [&one, &two, &three] {
        wait("all see all", 10, || read(&running.broker) == sent);
    }
    let rows: u64 = state(&one, |state| state.blocks().map(|block| block.rows).sum());
    assert_eq!(rows, sent.len() as u64, "nothing is in two blocks");
    wait_for_segments(&site, 0);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn what_nothing_refers_to_is_removed_and_nothing_else() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    let mut sent = Samples::new();
    write(&running, &mut sent, "s", START_MS);
    flush(&running.broker);
    write(&running, &mut sent, "s", START_MS + 1);
    // A block of a merge that never counted, and the segment of a broker that never was.
    let ids = Command::ReserveIds { count: 1 };
    runtime.block_on(running.consensus.propose(ids, Duration::from_secs(5))).expect("a leader");
    let orphan = state(&running, |state| BlockId(state.next_block().0 - 1));
    let garbage = [orphan.key(Signal::Metrics), segment_key(BrokerId(77), 0, 3)];
    // Who knows what these are? One may yet be added, the other was not written by us.
    let own = state(&running, |state| state.broker(BrokerId(1)).expect("it is there").epoch);
    let stays = [
        BlockId(orphan.0 + 1_000).key(Signal::Metrics),
        segment_key(BrokerId(1), own, 1_000),
        "blocks/metrics/README".to_owned(),
        "elsewhere/of/others".to_owned(),
    ];
    for key in garbage.iter().chain(&stays) {
        site.objects.lock().insert(key.clone(), Bytes::from_static(b"?"));
    }
    let is_there = |key: &String| site.objects.lock().contains_key(key);
    // Not before nothing has referred to them for 3 s.
    let young = Instant::now() + Duration::from_millis(2_900);
    while Instant::now() < young {
        assert!(garbage.iter().all(is_there), "they may be somebody's who is about to say so");
        std::thread::sleep(Duration::from_millis(50));
    }
    wait("they are removed", 60, || !garbage.iter().any(is_there));
    std::thread::sleep(Duration::from_secs(5));
    assert!(stays.iter().all(is_there));
    assert_eq!(read(&running.broker), sent);
    let clustered = running.broker.inner.clustered.as_ref().expect("a cluster");
    assert_eq!(clustered.counters.orphans_removed.load(Ordering::Relaxed), 2);
    running.stop(&runtime, &site, 1);
}

#[test]
fn a_broker_is_drained_and_everything_stays() {
    let (runtime, site, disks) = (runtime(), Arc::<Site>::default(), <[MemoryDisk; 3]>::default());
    let [one, two, three] = three(&runtime, &site, &disks);
    let mut sent = Samples::new();
    for running in [&one, &two, &three] {
        write(running, &mut sent, "s", START_MS + running.consensus.status().id as i64);
    }
    let leader = one.consensus.status().leader.expect("there is one");
    let (staying, leaving): (Vec<&Running>, Vec<&Running>) =
        [&one, &two, &three].into_iter().partition(|one| one.consensus.status().id != leader);
    let leaving = leaving[0];
    let mut progress = runtime.block_on(leaving.broker.drain()).expect("there are others");
    let refused = send(&leaving.broker, &batch("s", START_MS, 0.0)).recv().expect("answered");
    let refused = refused.expect_err("it leaves");
    assert_eq!(refused, CommitError::Draining);
    assert!(refused.to_string().contains("draining, use another broker"), "{refused}");
    let left = runtime.block_on(async {
        let left = progress.wait_for(|now| now.step == DrainStep::Left);
        tokio::time::timeout(Duration::from_secs(60), left).await.map(|now| now.is_ok())
    });
    assert_eq!(left, Ok(true), "{:?}", leaving.broker.drain_progress());
    assert_eq!(leaving.broker.drain_progress().expect("a cluster").segments, 0);
    for one in &staying {
        wait("the others forget it", 20, || {
            state(one, |state| state.broker(BrokerId(leader)).is_none())
                && one.consensus.status().members.len() == 2
                && one.consensus.status().leader.is_some_and(|now| now != leader)
        });
        wait("they have what it had", 10, || {
            let own = one.consensus.status().id as i64;
            let found = read(&one.broker);
            // Those of the other one that stays are in its head.
            [own, leader as i64].iter().all(|t| found.contains_key(&("s".into(), START_MS + t)))
        });
    }
    write(staying[0], &mut sent, "s", START_MS + 10);
    assert!(left_cluster(&disks[leader as usize - 1]).is_some());
    // The last one cannot leave: nobody would be there.
    let both = async {
        let [one, two] = [0, 1].map(|place| staying[place].broker.drain());
        tokio::join!(one, two)
    };
    let (one, two) = runtime.block_on(both);
    let refused: Vec<DrainError> =
        [&one, &two].iter().filter_map(|r| r.as_ref().err().cloned()).collect();
    assert_eq!(refused, [DrainError::Last], "asked at the same moment, one of them stays");
    let stays = staying[usize::from(two.is_err())];
    write(stays, &mut sent, "s", START_MS + 11);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn a_broker_that_is_lost_is_taken_out_when_nothing_of_it_is_left() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let [one, two, three] = three(&runtime, &site, &Default::default());
    let mut sent = Samples::new();
    write(&three, &mut sent, "s", START_MS);
    let lost = |silent: u64| {
        let silent = Duration::from_secs(silent);
        let told = one.broker.remove_lost_after("b3", silent);
        runtime.block_on(told)
    };
    assert!(matches!(lost(0), Err(LostError::Alive { .. })), "it lives");
    let all = ["1", "2", "3"].map(str::to_owned);
    assert_eq!(one.broker.addresses_for_agents(), all);
    three.kill(&runtime, &site, 3);
    wait("it is silent", 20, || one.broker.cluster_members().iter().any(|one| !one.is_alive));
    assert_eq!(one.broker.addresses_for_agents(), all[..2], "agents are not sent there");
    assert!(matches!(lost(60), Err(LostError::Alive { .. })), "it may be starting again");
    assert!(matches!(lost(0), Err(LostError::Unflushed { segments: 1, .. })));
    // Somebody makes blocks of what it left.
    wait("it is taken out", 40, || lost(0).is_ok());
    assert!(state(&one, |state| state.broker(BrokerId(3)).is_none()));
    wait("its vote is gone", 10, || {
        [&one, &two].iter().all(|one| one.consensus.status().members.len() == 2)
    });
    wait("what it took is there", 10, || read(&one.broker) == sent);
    let unknown = runtime.block_on(two.broker.remove_lost("b3")).expect_err("it is gone");
    assert_eq!(unknown.to_string(), r#"there is no broker "b3"; there are b1, b2"#);
    assert!(matches!(runtime.block_on(two.broker.remove_lost("b2")), Err(LostError::Alive { .. })));
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn deletes_are_cleaned_wherever_the_blocks_came_from() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let one = start(&runtime, &site, 1, &MemoryDisk::new());
    let two = start(&runtime, &site, 2, &MemoryDisk::new());
    let mut sent = Samples::new();
    for (running, series) in [(&one, "a"), (&two, "b"), (&two, "c")] {
        write(running, &mut sent, series, START_MS);
        flush(&running.broker);
    }
    let matcher = Matcher::new("series", MatchOp::Equal, "b").expect("no regex");
    one.broker.delete_series(DEFAULT_TENANT, &[vec![matcher]], TimeRange::all()).expect("a leader");
    sent.remove(&("b".to_owned(), START_MS));
    one.broker.clean_deleted().expect("nothing is in the way");
    wait("nothing is left to hide", 10, || state(&one, |state| state.tombstones().len() == 0));
    let rows: u64 = state(&one, |state| state.blocks().map(|block| block.rows).sum());
    assert_eq!(rows, sent.len() as u64);
    for running in [&one, &two] {
        wait("each shows what is left", 10, || read(&running.broker) == sent);
    }
}

#[test]
fn the_result_of_who_lost_the_lease_is_refused() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let one = start(&runtime, &site, 1, &MemoryDisk::new());
    let two = start(&runtime, &site, 2, &MemoryDisk::new());
    const OVER: Duration = Duration::from_millis(200);
    let of = |own: u64, now_ms: fn() -> i64| {
        let consensus = if own == 1 { one.consensus.clone() } else { two.consensus.clone() };
        Leases::new(BrokerId(own), consensus, now_ms).over_after(OVER)
    };
    // The first one's clock is a day ahead: who waits for it does not look at that.
    let (first, second) = (of(1, || START_MS + 86_400_000), of(2, || START_MS));
    runtime.block_on(async {
        let mine = first.take("job".to_owned()).await.expect("it is free");
        assert!(second.take("job".to_owned()).await.is_none(), "it is held");
        let put = |value: &[u8]| {
            let (key, value) = ("k".to_owned(), value.to_vec());
            Command::Put { key, value, expected: catalog::Expected::Any }
        };
        mine.propose(put(b"mine")).await.expect("it is held");
        // Renewed, it is another one's no more than before.
        tokio::time::sleep(OVER).await;
        assert_eq!(mine.leases.propose(&mine.job, mine.claim()).await, Some(mine.term));
        assert!(second.take("job".to_owned()).await.is_none(), "it is held");
        // Later somebody else has it, and the first one wakes up.
        let end = Instant::now() + 50 * OVER;
        let theirs = loop {
            tokio::time::sleep(OVER).await;
            if let Some(theirs) = second.take("job".to_owned()).await {
                break theirs;
            }
            assert!(Instant::now() < end, "it is over");
        };
        assert_eq!(mine.leases.propose(&mine.job, mine.claim()).await, None);
        assert!(matches!(mine.propose(put(b"late")).await, Err(NoResult::Refused(_))));
        theirs.propose(put(b"theirs")).await.expect("it is held");
        mine.give().await;
        theirs.propose(put(b"theirs too")).await.expect("nobody else could give it back");
        // The process ends without giving it back, and nobody wants it again: the others do.
        drop(theirs);
        first.consensus.catch_up(Duration::from_secs(5)).await.expect("a leader");
        assert_eq!(first.abandoned(), []);
        tokio::time::sleep(61 * OVER).await;
        let abandoned = first.abandoned();
        assert_eq!(abandoned.len(), 1, "{abandoned:?}");
        first.give_back(abandoned).await;
        assert_eq!(first.consensus.read(|state| state.lease("job").cloned()), None);
    });
    let value = state(&two, |state| state.get("k").expect("it was put").value.clone());
    assert_eq!(value, b"theirs too");
}

#[test]
fn one_broker_has_a_duty_and_what_it_writes_later_does_not_count() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let disks = [MemoryDisk::new(), MemoryDisk::new(), MemoryDisk::new()];
    let [one, two, three] = three(&runtime, &site, &disks);
    const OVER: Duration = Duration::from_secs(1);
    let duty =
        |running: &Running| running.broker.duty("evaluating").expect("a cluster").over_after(OVER);
    let (first, second) = (duty(&one), duty(&two));
    runtime.block_on(async {
        assert_eq!(first.holder(), Holder::Nobody);
        let mine = first.take().await.expect("it is free");
        assert!(mine.is_sure());
        assert_eq!(first.holder(), Holder::Own);
        mine.put("d/a".to_owned(), b"mine".to_vec()).await.expect("it is held");
        let end = Instant::now() + 2 * OVER;
        while Instant::now() < end {
            assert!(second.take().await.is_none(), "it is renewed");
            mine.renew().await.expect("it is held");
            tokio::time::sleep(OVER / 10).await;
        }
        let name = one.broker.cluster_members()[0].name.clone();
        assert!(matches!(second.holder(), Holder::Other { name: other, .. } if other == name));
        // It stands still, and another takes it up with all that was written.
        let end = Instant::now() + 20 * OVER;
        let theirs = loop {
            if let Some(theirs) = second.take().await {
                break theirs;
            }
            assert!(Instant::now() < end, "it is over");
            tokio::time::sleep(OVER / 10).await;
        };
        assert_eq!(two.broker.get_key("d/a").expect("it was put").value, b"mine");
        theirs.put("d/a".to_owned(), b"theirs".to_vec()).await.expect("it is held");
        assert_eq!(mine.put("d/a".to_owned(), b"late".to_vec()).await, Err(DutyError::Lost));
        assert_eq!(mine.delete("d/a".to_owned()).await, Err(DutyError::Lost));
        assert_eq!(mine.renew().await, Err(DutyError::Lost));
        mine.give().await;
        // What is given back is the next one's at once.
        theirs.give().await;
        let third = duty(&three);
        let end = Instant::now() + OVER;
        while third.take().await.is_none() {
            assert!(Instant::now() < end, "it was given back");
            tokio::time::sleep(OVER / 50).await;
        }
    });
    assert_eq!(three.broker.get_key("d/a").expect("it was put").value, b"theirs");
}

#[test]
fn brokers_see_who_is_alive() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let (first, disk) = (MemoryDisk::new(), MemoryDisk::new());
    let one = start(&runtime, &site, 1, &first);
    let two = start(&runtime, &site, 2, &disk);
    let alive = |broker: &Broker| -> Vec<u64> {
        let members = broker.cluster_members();
        members.iter().filter(|member| member.is_alive).map(|member| member.id.0).collect()
    };
    let wait = |expected: &[u64], within: Duration| {
        let end = Instant::now() + within;
        while alive(&one.broker) != expected {
            assert!(Instant::now() < end, "{:?}", one.broker.cluster_members());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait(&[1, 2], Duration::from_secs(5));
    let (ring, own) = one.broker.cluster_ring().expect("a cluster");
    assert_eq!((ring.brokers().len(), own), (2, BrokerId(1)));
    let epoch = |broker: &Broker| broker.cluster_members()[1].epoch;
    let before = epoch(&one.broker);
    // One that stops says so; its leadership, if it had it, passes on without it.
    two.stop(&runtime, &site, 2);
    wait(&[1], Duration::from_secs(1));
    assert_eq!(one.broker.cluster_ring().expect("a cluster").0.brokers().len(), 1);
    let two = start(&runtime, &site, 2, &disk);
    wait(&[1, 2], Duration::from_secs(5));
    assert!(epoch(&one.broker) > before);
    let own: Vec<bool> = two.broker.cluster_members().iter().map(|m| m.is_own).collect();
    assert_eq!(own, [false, true]);
}

/// A day of a busy tenant: the outcome would be too large for memory as one block.
#[test]
fn a_day_that_is_too_large_for_one_block_becomes_several() {
    const DAY_MS: i64 = 86_400_000;
    const SERIES: u32 = 9_000;
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let told: Told = Box::new(|_, background| background.max_merge_bytes = 8 << 10);
    site.told.lock().insert(1, told);
    let running = start(&runtime, &site, 1, &disk);
    let mut sent = Samples::new();
    let begin_ms = START_MS.div_euclid(DAY_MS) * DAY_MS - 2 * DAY_MS;
    for hour in 0..3 {
        let t_ms = begin_ms + hour * 7 * 3_600_000;
        let mut all = model::MetricBatch::default();
        for number in 0..SERIES {
            let (series, value) = (format!("s{number:04}"), f64::from(number * 7 + hour as u32));
            let labels = [("__name__", "m"), ("series", series.as_str())];
            let labels = model::Labels::from_pairs(labels).expect("valid");
            all.push(&labels, t_ms, value);
            sent.insert((series, t_ms), value);
        }
        send(&running.broker, &all).recv().expect("answered").expect("stored");
        flush(&running.broker);
    }
    let levels = || state(&running, |state| state.blocks().map(|b| b.level).collect::<Vec<_>>());
    wait("the day is merged", 30, || levels().iter().all(|level| *level == 5));
    let merged = levels().len();
    assert!(merged > 2, "{merged} blocks");
    assert_eq!(state(&running, |state| state.blocks().map(|b| b.rows).sum::<u64>()), 27_000);
    wait("all is there", 10, || read(&running.broker) == sent);
    let merges = || running.broker.inner.maintenance_counters.merges.load(Ordering::Relaxed);
    let before = merges();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((merges(), levels().len()), (before, merged), "that is all there is to do");
    // Each of them is written anew alone, beside the others.
    let matcher = Matcher::new("series", MatchOp::Equal, "s0007").expect("no regex");
    running
        .broker
        .delete_series(DEFAULT_TENANT, &[vec![matcher]], TimeRange::all())
        .expect("a leader");
    sent.retain(|(series, _), _| series != "s0007");
    running.broker.clean_deleted().expect("nothing is in the way");
    assert_eq!(levels().len(), merged);
    wait("what is left is there", 10, || read(&running.broker) == sent);
    running.stop(&runtime, &site, 1);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}
