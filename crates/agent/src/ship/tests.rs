//! The agent's side against a broker that keeps the rules of `ingest.proto`, with kills and cuts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blockstore::{Disk, MemoryDisk};
use model::Labels;
use net::rpc::{Ack, Refusal, Welcome};

use super::*;
use crate::spool::SpoolConfig;

const SERIES: usize = 12;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the broker has, on its own disk: it survives its process.
#[derive(Default)]
struct Store {
    marks: BTreeMap<([u8; 16], i32), u64>,
    /// By series: the timestamps, and how often each came.
    samples: BTreeMap<Vec<u8>, BTreeMap<i64, u32>>,
    /// By lane and series: the timestamp stored last.
    last_ms: BTreeMap<(i32, Vec<u8>), i64>,
    refused: BTreeSet<i64>,
    payload_bytes: u64,
}

impl Store {
    fn mark(&self, incarnation: [u8; 16], lane: i32) -> u64 {
        self.marks.get(&(incarnation, lane)).copied().unwrap_or_default()
    }

    /// Stores a batch by the rules; the answer to the agent.
    fn receive(&mut self, incarnation: [u8; 16], batch: &rpc::Batch) -> broker_message::Message {
        let mark = self.mark(incarnation, batch.lane);
        let ack = |through_seq| {
            let lane = batch.lane;
            broker_message::Message::Ack(Ack { lane, through_seq, ..Ack::default() })
        };
        if batch.seq <= mark {
            return ack(mark);
        }
        assert!(batch.after_seq < batch.seq);
        if batch.after_seq > mark {
            return broker_message::Message::Refusal(Refusal {
                lane: batch.lane,
                seq: batch.seq,
                reason: "a batch before it is missing".to_owned(),
                permanent: false,
                retry_after_ms: 100,
            });
        }
        let mut samples = MetricBatch::default();
        wire::agent_batch::decode(&batch.payload, &Limits::default(), &mut samples)
            .expect("what the agent packed");
        for series in &samples.series {
            let labels = samples.label_bytes_of(series).to_vec();
            for row in series.first_row as usize..(series.first_row + series.rows) as usize {
                let t_ms = samples.timestamps_ms[row];
                let last = self.last_ms.insert((batch.lane, labels.clone()), t_ms);
                assert!(last < Some(t_ms), "lane {}: {last:?} before {t_ms}", batch.lane);
                *self.samples.entry(labels.clone()).or_default().entry(t_ms).or_default() += 1;
            }
        }
        self.payload_bytes += batch.payload.len() as u64;
        self.marks.insert((incarnation, batch.lane), batch.seq);
        ack(batch.seq)
    }

    fn newest_ms(&self) -> i64 {
        let newest = |times: &BTreeMap<i64, u32>| times.keys().next_back().copied();
        self.samples.values().filter_map(newest).max().unwrap_or(i64::MIN)
    }
}

struct World {
    disk: MemoryDisk,
    shipping: Shipping,
    store: Store,
    to_broker: VecDeque<rpc::Batch>,
    to_agent: VecDeque<broker_message::Message>,
    is_open: bool,
    window_bytes: u64,
    now: Now,
    labels: Vec<Labels>,
    /// Timestamps of passes that were durable when `keep` returned.
    kept: BTreeSet<i64>,
    seed: u64,
}

impl World {
    fn new(seed: u64, window_bytes: u64) -> Self {
        let now = Now { at: Instant::now(), wall_ms: 1_700_000_000_000 };
        let disk = MemoryDisk::new();
        let name = |n: usize| format!("device{n}");
        let labels = |n: usize| Labels::from_pairs([("__name__", "node_x"), ("d", &name(n))]);
        World {
            shipping: start(&disk, seed, now),
            disk,
            store: Store::default(),
            to_broker: VecDeque::new(),
            to_agent: VecDeque::new(),
            is_open: false,
            window_bytes,
            now,
            labels: (0..SERIES).map(|n| labels(n).expect("labels")).collect(),
            kept: BTreeSet::new(),
            seed,
        }
    }

    fn pass_ms(&mut self, by_ms: u64) {
        self.now.at += Duration::from_millis(by_ms);
        self.now.wall_ms += by_ms as i64;
    }

    /// One pass of the collectors.
    fn collect(&mut self) {
        let mut batch = MetricBatch::default();
        for (n, labels) in self.labels.iter().enumerate() {
            batch.push(labels, self.now.wall_ms, (n as i64 * self.now.wall_ms) as f64);
        }
        self.shipping.keep(&batch, self.now);
        self.kept.insert(self.now.wall_ms);
    }

    fn connect(&mut self) {
        if self.is_open {
            return;
        }
        self.is_open = true;
        self.shipping.opened(self.now);
        let incarnation = self.shipping.incarnation();
        self.to_agent.push_back(broker_message::Message::Welcome(Welcome {
            live_through_seq: self.store.mark(incarnation, 1),
            backlog_through_seq: self.store.mark(incarnation, 2),
            window_bytes: self.window_bytes,
            ..Welcome::default()
        }));
    }

    /// The link is cut, or the broker killed: what is under way is gone.
    fn cut(&mut self) {
        self.is_open = false;
        self.to_broker.clear();
        self.to_agent.clear();
        self.shipping.closed();
    }

    /// The agent hears and sends.
    fn run_agent(&mut self) {
        while let Some(message) = self.to_agent.pop_front() {
            let message = BrokerMessage { message: Some(message) };
            if self.shipping.received(message, self.now) != Verdict::Continue {
                return self.cut();
            }
        }
        if self.shipping.tick(self.now) != Verdict::Continue {
            return self.cut();
        }
        while let Some((_, message)) = self.shipping.next_message(self.now) {
            let Some(agent_message::Message::Batch(batch)) = message.message else {
                panic!("only batches come from here")
            };
            self.to_broker.push_back(batch);
        }
        let under_way: usize = self.to_broker.iter().map(|batch| batch.payload.len()).sum();
        let most = self.window_bytes.max(MIN_WINDOW_BYTES);
        assert!(under_way as u64 <= most || self.to_broker.len() == 1, "{under_way} bytes");
    }

    /// The broker takes as many bytes as the link brings.
    fn run_broker(&mut self, mut bytes: u64) {
        let incarnation = self.shipping.incarnation();
        // As the agent's stream does: live batches overtake those still waiting in it.
        self.to_broker.make_contiguous().sort_by_key(|batch| batch.lane);
        while let Some(batch) = self.to_broker.front() {
            let size = batch.payload.len() as u64;
            if size > bytes {
                // The rest of it comes the next time.
                return;
            }
            bytes -= size;
            let answer = self.store.receive(incarnation, batch);
            self.to_broker.pop_front();
            self.to_agent.push_back(answer);
        }
    }

    /// The agent is killed and started again; the power may have gone as well.
    fn kill_agent(&mut self, power: bool) {
        self.cut();
        if power {
            self.disk = self.disk.crash(self.seed);
        }
        self.seed = self.seed.wrapping_mul(31).wrapping_add(7);
        self.shipping = start(&self.disk, self.seed, self.now);
    }

    /// Everything arrives.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            self.connect();
            self.run_agent();
            self.run_broker(u64::MAX);
            if self.to_agent.is_empty() && self.shipping.is_drained() {
                break;
            }
            self.pass_ms(100);
        }
        self.check();
    }

    fn check(&self) {
        for times in self.store.samples.values() {
            let doubled: Vec<_> = times.iter().filter(|(_, count)| **count != 1).collect();
            assert!(doubled.is_empty(), "doubled: {doubled:?}");
            let stored: BTreeSet<_> = times.keys().copied().collect();
            let wanted: BTreeSet<_> = self.kept.difference(&self.store.refused).copied().collect();
            let lost: Vec<_> = wanted.difference(&stored).collect();
            assert!(lost.is_empty(), "lost: {lost:?}");
            assert!(stored.is_subset(&wanted), "never collected");
        }
    }
}

fn start(disk: &MemoryDisk, seed: u64, now: Now) -> Shipping {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&seed.to_le_bytes());
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = SpoolConfig { disk_share_percent: 100, ..SpoolConfig::default() };
    let spool = Spool::open(disk, config, name, Arc::default()).expect("opens");
    Shipping::new(spool, seed, Arc::default(), now)
}

/// How many histories are played.
fn seeds() -> u64 {
    if std::env::var_os("RUN_SLOW_TESTS").is_some() { 3_000 } else { 40 }
}

#[test]
fn kills_and_cuts_lose_and_double_nothing() {
    let (mut kills, mut cuts, mut passes) = (0, 0, 0);
    for seed in 0..seeds() {
        let mut chance = Chance(seed);
        let mut world = World::new(seed, 4_000);
        let mut is_up = true;
        for _ in 0..400 {
            match chance.below(100) {
                0 => {
                    world.kill_agent(chance.one_in(2));
                    kills += 1;
                }
                1..=3 => {
                    world.cut();
                    cuts += 1;
                }
                4 | 5 => {
                    // The broker's machine is down for a while.
                    is_up = !is_up;
                    world.cut();
                }
                6..=9 => world.pass_ms(chance.below(20_000)),
                10..=39 => world.run_agent(),
                40..=64 => world.run_broker(chance.below(6_000)),
                65..=74 if is_up => world.connect(),
                _ => {
                    world.pass_ms(1_000 + chance.below(3));
                    world.collect();
                    passes += 1;
                }
            }
        }
        world.settle();
    }
    assert!(kills > 100 && cuts > 300 && passes > 3_000, "{kills} {cuts} {passes}");
}

#[test]
fn an_hour_away_comes_back_beside_fresh_data() {
    // A link of 16 kB/s, on which an hour of passes takes its time.
    let per_tenth = 1_600;
    let mut world = World::new(1, 64 << 10);
    world.settle();
    world.cut();
    for _ in 0..3_600 {
        world.pass_ms(1_000);
        world.collect();
        world.run_agent();
    }
    assert!(world.store.samples.is_empty());
    let (mut tenths, mut oldest_ms) = (0, 0);
    while tenths < 40 || !world.shipping.is_drained() {
        world.connect();
        if tenths % 10 == 5 {
            world.collect();
        }
        world.run_agent();
        world.run_broker(per_tenth);
        world.run_agent();
        world.pass_ms(100);
        if tenths > 20 {
            oldest_ms = oldest_ms.max(world.now.wall_ms - world.store.newest_ms());
        }
        tenths += 1;
        assert!(tenths < 6_000, "the backlog does not come to an end");
    }
    assert!(oldest_ms < 2_000, "fresh data was {oldest_ms} ms old");
    world.check();
    let per_pass = world.store.payload_bytes as usize / world.kept.len();
    assert!(per_pass < 80, "gathered passes take {per_pass} bytes each");
}

#[test]
fn a_broker_that_falls_silent_is_left_and_a_slow_one_gets_the_backlog_lane() {
    let mut world = World::new(1, 1 << 20);
    world.settle();
    for second in 0..40 {
        world.pass_ms(1_000);
        world.collect();
        world.run_agent();
        assert_eq!(world.is_open, second < 30, "{second}");
        // From the sixth second on the passes are gathered for the backlog.
        let live = world.to_broker.iter().filter(|batch| batch.lane == 1).count();
        assert!(live <= 6, "{live}");
    }
    world.settle();
    let lanes: BTreeSet<_> = world.store.marks.keys().map(|(_, lane)| *lane).collect();
    assert_eq!(lanes, BTreeSet::from([1, 2]));
}

#[test]
fn a_batch_that_can_never_be_stored_is_counted_and_passed() {
    let mut world = World::new(1, 1 << 20);
    world.settle();
    for _ in 0..4 {
        world.pass_ms(1_000);
        world.collect();
        world.run_agent();
    }
    let batches: Vec<_> = world.to_broker.drain(..).collect();
    let counters = Arc::clone(&world.shipping.counters);
    let incarnation = world.shipping.incarnation();
    let refuse = |seq| {
        broker_message::Message::Refusal(Refusal {
            lane: 1,
            seq,
            reason: "series limit".to_owned(),
            permanent: true,
            ..Refusal::default()
        })
    };
    // The second is refused before the first is acknowledged; the others follow on it.
    world.to_agent.push_back(refuse(batches[1].seq));
    world.run_agent();
    assert!(!world.shipping.is_drained(), "the first is still under way");
    let answer = world.store.receive(incarnation, &batches[0]);
    world.to_agent.push_back(answer);
    // The broker passes over it.
    world.store.marks.insert((incarnation, 1), batches[1].seq);
    world.store.refused.insert(batches[1].created_ms);
    for batch in &batches[2..] {
        let answer = world.store.receive(incarnation, batch);
        world.to_agent.push_back(answer);
    }
    world.run_agent();
    assert!(world.shipping.is_drained());
    assert_eq!((counters.refused_batches(), counters.refused_samples()), (1, SERIES as u64));
    assert_eq!(counters.acknowledged_batches(), 3);
    world.settle();
}

#[test]
fn a_broker_cannot_acknowledge_what_it_was_not_sent() {
    let mut world = World::new(1, 1 << 20);
    world.settle();
    world.pass_ms(1_000);
    world.collect();
    let ack = Ack { lane: 1, through_seq: u64::MAX, ..Ack::default() };
    world.to_agent.push_back(broker_message::Message::Ack(ack));
    world.to_agent.push_back(broker_message::Message::Ack(Ack { lane: 9, ..Ack::default() }));
    world.run_agent();
    assert!(!world.shipping.is_drained());
    world.settle();
}
