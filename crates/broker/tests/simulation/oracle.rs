//! What is held against a cluster, and against what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blockstore::SegmentName;
use broker::Broker;
use catalog::State;
use consensus::Consensus;
use model::{DEFAULT_TENANT, TimeRange};
use tokio::time::{Instant, sleep, timeout};

use crate::clients::{Fate, Place};
use crate::duties::check_steps;
use crate::lines::check_lines;
use crate::search::Report;
use crate::world::World;
use crate::{BEGAN, Cluster, query, statuses};

impl Cluster {
    /// Holds what the catalog refers to against what is in the store, where all of it must be; yields who
    /// leads, and the keys. `None` if there is no leader that can be asked.
    pub(crate) async fn check_objects(&self) -> Option<(Consensus, Vec<String>)> {
        let members: Vec<Consensus> = self.world.members.lock().values().cloned().collect();
        let leader = members.into_iter().find(Consensus::is_leader)?;
        // Whose power goes meanwhile never hears of anything.
        let patience = Duration::from_secs(2);
        timeout(patience, leader.catch_up(patience)).await.ok()?.ok()?;
        if leader.read(|state| state.quarantined().len() > 0) {
            self.world.count("blocks are set aside");
        }
        // Nothing happens in between: there is one thread.
        let needed: Vec<String> = leader.read(|state| {
            let blocks = state.blocks().chain(state.quarantined()).map(|block| block.key());
            let segments = state.brokers().flat_map(|(id, broker)| {
                let key = move |(seq, segment): (&u64, &catalog::Segment)| {
                    catalog::segment_key(id, segment.epoch, *seq)
                };
                broker.segments.iter().map(key)
            });
            let unread = state.unread_segments();
            let unread = unread.map(|(id, seq, one)| catalog::segment_key(id, one.epoch, seq));
            blocks.chain(segments).chain(unread).collect()
        });
        let objects = self.world.objects.lock();
        let missing: Vec<&String> =
            needed.iter().filter(|key| !objects.contains_key(*key)).collect();
        assert!(missing.is_empty(), "the catalog refers to {missing:?}, which were removed");
        drop(objects);
        Some((leader, needed))
    }

    /// What is in the store and nothing refers to, without segments that may yet come to count.
    async fn garbage(&self) -> Vec<String> {
        let (leader, needed) = self.check_objects().await.expect("a leader");
        let needed: BTreeSet<String> = needed.into_iter().collect();
        let mut kept: Vec<String> = self.world.objects.lock().keys().cloned().collect();
        kept.retain(|key| {
            let is_garbage = SegmentName::of_key(key).is_none_or(|name| {
                let SegmentName { broker, epoch, seq } = name;
                leader.read(|state| state.is_orphaned_segment(broker, epoch, seq))
            });
            is_garbage && !needed.contains(key)
        });
        kept
    }

    /// Holds who leads now against who led in the same term.
    pub(crate) fn check_leaders(&mut self) {
        for (id, member) in &*self.world.members.lock() {
            if member.is_leader() {
                let term = member.status().term;
                let known = *self.leaders.entry(term).or_insert(*id);
                assert_eq!(known, *id, "two leaders in term {term}");
            }
        }
    }

    /// What all brokers that run have counted.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let rows = |broker: &Broker| broker.metrics().into_iter().filter(|row| row.name == name);
        self.site.brokers.lock().values().flat_map(rows).map(|row| row.value).sum()
    }

    /// Lets time pass until no broker lacks anything, if that comes about.
    pub(crate) async fn until_whole(&mut self, of: u64) {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            self.pass(Duration::from_secs(1)).await;
            // Whoever learns only now that another one took it over begins anew, and has read nothing yet.
            self.all_open(of).await;
            let brokers: Vec<Broker> = self.site.brokers.lock().values().cloned().collect();
            let lacks = |broker: &Broker| {
                !broker.reader(DEFAULT_TENANT).missing(TimeRange::all()).is_empty()
            };
            if !brokers.iter().any(lacks) || Instant::now() >= end {
                return;
            }
        }
    }

    /// Lets time pass until the store has nothing that nothing refers to.
    pub(crate) async fn until_clean(&mut self) {
        let late = self.world.late_until.lock().saturating_duration_since(Instant::now());
        self.pass(late + Duration::from_secs(1)).await;
        // Whoever looks for it may hang in a list that the store did not give, and has the lease meanwhile.
        let end = Instant::now() + Duration::from_secs(355);
        loop {
            let garbage = self.garbage().await;
            if garbage.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "nothing refers to {garbage:?}");
            self.pass(Duration::from_secs(3)).await;
        }
    }

    /// What it went through.
    pub(crate) fn report(&self, done: &BTreeMap<&str, u64>, merges: f64, adopted: f64) -> Report {
        let failed = self.failed.lock().clone();
        assert!(failed.is_empty(), "{failed:?}");
        let told = self.site.told.lock();
        let objects = self.world.objects.lock();
        let blocks = objects.keys().filter(|key| key.starts_with("blocks")).count();
        let duration = BEGAN.get().expect("it began").elapsed();
        let faults = self.world.faults.lock();
        let harms = done.iter().filter(|(harm, _)| !matches!(**harm, "start" | "heal"));
        let line = format!(
            "{} s, {done:?}, {merges} merges, {adopted} adopted, {} taken over, store {:?}, {} batches, {} \
             pushes' rows, {} known, {} deletes, {blocks} blocks, {} queries, {} of them partial, {} failed, {} \
             in calm, {} lines, {} named pushes, {} deletes of lines, a \
             duty taken {} times for {} steps, refused {:?}",
            duration.as_secs(),
            self.taken_over,
            *faults,
            told.batches.len(),
            told.stored.len(),
            told.known,
            told.deletes,
            told.queries,
            told.partial,
            told.unread,
            told.in_calm,
            told.lines.stored.len(),
            told.lines.named.len(),
            told.lines.deletes,
            told.duty.takes,
            told.duty.steps(),
            told.refusals,
        );
        let faults = harms.map(|(_, times)| times).sum::<u64>() + faults.values().sum::<u64>();
        Report { line, faults, duration }
    }

    /// Holds what can be read at every broker against what was told.
    pub(crate) async fn check(&self, when: &str) {
        let brokers: Vec<Broker> = self.site.brokers.lock().values().cloned().collect();
        for broker in &brokers {
            let (found, missing) = query(broker, Duration::ZERO).await;
            assert!(missing.is_empty(), "{when}: {missing:?}\n{}", statuses(&self.world));
            let found = found.unwrap_or_else(|error| panic!("{when}: {error}"));
            self.check_found(&found, when);
            check_lines(broker, &self.site, when).await;
            check_steps(broker, &self.site, when);
        }
    }

    pub(crate) fn check_found(&self, found: &BTreeMap<Place, f64>, when: &str) {
        let told = self.site.told.lock();
        for (place, value) in found {
            assert_eq!(told.sent.get(place), Some(value), "{when}: {place:?} is invented");
        }
        for place in &told.stored {
            assert!(found.contains_key(place), "{when}: {place:?} is lost");
        }
        for (batch, attempts) in &told.attempts {
            let is_there = |rows: &&Vec<Place>| {
                let rows_there = rows.iter().filter(|row| found.contains_key(*row)).count();
                assert!(
                    rows_there == 0 || rows_there == rows.len(),
                    "{when}: a part of {batch:?} is there"
                );
                rows_there > 0
            };
            let times = attempts.iter().filter(is_there).count();
            assert!(times <= 1, "{when}: {batch:?} is stored {times} times");
            assert!(times == 1 || !told.batches.contains_key(batch), "{when}: {batch:?} is lost");
        }
        for (place, fate) in &told.deletable {
            match fate {
                Fate::Stored => assert!(found.contains_key(place), "{when}: {place:?} is lost"),
                Fate::Deleted => assert!(!found.contains_key(place), "{when}: {place:?} is back"),
                Fate::Sent | Fate::Doubtful => {}
            }
        }
    }
}

pub(crate) async fn check_catalogs(world: &World) {
    let members: Vec<(u64, Consensus)> =
        world.members.lock().iter().map(|(id, c)| (*id, c.clone())).collect();
    // Flushes go on: the same moment is looked for.
    for _ in 0..20 {
        for (id, consensus) in &members {
            let caught_up = consensus.catch_up(Duration::from_secs(20)).await;
            assert!(caught_up.is_ok(), "broker {id}: {caught_up:?}");
        }
        let states: Vec<State> = members.iter().map(|(_, c)| c.read(State::clone)).collect();
        if states.iter().all(|state| state.version() == states[0].version()) {
            assert!(states.iter().all(|state| *state == states[0]), "catalogs differ");
            return;
        }
        sleep(Duration::from_millis(700)).await;
    }
    panic!("catalogs never reach the same version");
}
