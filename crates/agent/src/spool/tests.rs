//! The spool against a broker that keeps marks, over a disk whose power goes at every step.

use std::collections::{BTreeMap, BTreeSet};

use blockstore::MemoryDisk;
use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 86_400_000;
/// Names new spools in these tests, each time another.
fn random(n: u8) -> Incarnation {
    [n; 16]
}

fn small() -> SpoolConfig {
    SpoolConfig { limit_bytes: 1 << 20, disk_share_percent: 100, ..SpoolConfig::default() }
}

fn open(disk: &MemoryDisk, config: &SpoolConfig, name: u8) -> (Spool, Arc<SpoolCounters>) {
    let counters = Arc::new(SpoolCounters::default());
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let spool = Spool::open(disk, config.clone(), random(name), Arc::clone(&counters));
    (spool.expect("a spool opens on any disk"), counters)
}

fn counted(counters: &SpoolCounters, name: &str) -> f64 {
    let name = format!("watchfire_agent_spool_{name}");
    let rows = counters.rows();
    rows.iter().find(|row| row.name == name).expect("a counter of this name").value
}

fn payload(ids: &[u64], filler: usize) -> Vec<u8> {
    let count = ids.len() as u64;
    let numbers = std::iter::once(count).chain(ids.iter().copied());
    let mut bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    bytes.resize(bytes.len() + filler, 0xaa);
    bytes
}

fn ids(payload: &[u8]) -> Vec<u64> {
    let at = |i: usize| u64::from_le_bytes(payload[8 * i..8 * i + 8].try_into().expect("eight"));
    (1..=at(0) as usize).map(at).collect()
}

fn batch(payload: &[u8]) -> NewBatch<'_> {
    NewBatch { created_ms: 1_000, samples: ids(payload).len(), payload }
}

#[derive(Debug, Clone)]
enum Op {
    Put(Lane, usize),
    Stage(usize),
    Seal,
    /// Reads a few batches of each lane and sends them.
    Send(usize),
    /// What was sent is acknowledged, all of it or all but one.
    Ack(bool),
    /// The stream broke: the broker says what it has.
    Reconnect,
    /// The process is killed.
    Restart,
    /// Time passes, or the clock is set back.
    Clock(i64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Backlog)];
    prop_oneof![
        4 => (lane, 0..2_000_usize).prop_map(|(lane, len)| Op::Put(lane, len)),
        4 => (0..2_000_usize).prop_map(Op::Stage),
        2 => Just(Op::Seal),
        4 => (1..5_usize).prop_map(Op::Send),
        3 => any::<bool>().prop_map(Op::Ack),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Restart),
        1 => (-2_000..2_000_i64).prop_map(Op::Clock),
    ]
}

/// What the broker has.
#[derive(Default, Clone)]
struct Broker {
    marks: BTreeMap<(Incarnation, u8), u64>,
    /// What each number was first seen with.
    contents: BTreeMap<(Incarnation, u8, u64), Vec<u8>>,
    stored: BTreeSet<u64>,
    last_id: BTreeMap<u8, u64>,
}

impl Broker {
    fn receive(&mut self, incarnation: Incarnation, lane: Lane, record: &Record) {
        let key = (incarnation, lane as u8, record.seq);
        let known = self.contents.entry(key).or_insert_with(|| record.payload.to_vec());
        assert_eq!(ids(known), ids(&record.payload), "{lane:?} {}: two batches", record.seq);
        let mark = self.marks.entry((incarnation, lane as u8)).or_default();
        if record.seq <= *mark {
            return;
        }
        *mark = record.seq;
        for id in ids(&record.payload) {
            assert!(self.stored.insert(id), "{id} is stored twice");
            let last = self.last_id.insert(lane as u8, id);
            assert!(last < Some(id), "{last:?} before {id} in {lane:?}");
        }
    }
}

struct World {
    disk: MemoryDisk,
    spool: Spool,
    broker: Broker,
    config: SpoolConfig,
    now_ms: i64,
    next_id: u64,
    /// What was durable once.
    owed: BTreeSet<u64>,
    /// What is staged, and in which group it will be.
    group: Vec<u64>,
    starts: u8,
}

impl World {
    fn new(disk: MemoryDisk) -> Self {
        let config = small();
        let (spool, _) = open(&disk, &config, 1);
        World {
            disk,
            spool,
            broker: Broker::default(),
            config,
            now_ms: 50 * DAY_MS,
            next_id: 1,
            owed: BTreeSet::new(),
            group: Vec::new(),
            starts: 1,
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// `is_on` says whether the machine still runs; what it does afterwards binds nobody.
    fn step(&mut self, op: &Op, is_on: &dyn Fn() -> bool) {
        match *op {
            Op::Put(lane, filler) => {
                self.seal(is_on);
                let id = self.id();
                let kept = self.spool.put(lane, batch(&payload(&[id], filler)), self.now_ms);
                if kept == Kept::Disk {
                    self.owed.insert(id);
                }
            }
            Op::Stage(filler) => {
                let id = self.id();
                if self.spool.stage(batch(&payload(&[id], filler)), self.now_ms) {
                    self.owed.insert(id);
                    self.group.push(id);
                }
            }
            Op::Seal => self.seal(is_on),
            Op::Send(count) => self.send(count, is_on),
            Op::Ack(all) => self.ack(u64::from(!all)),
            Op::Reconnect => {
                self.ack(0);
                Lane::SENT.into_iter().for_each(|lane| self.spool.rewind(lane));
            }
            Op::Restart => {
                if is_on() {
                    self.restart(self.disk.clone());
                }
            }
            Op::Clock(by_ms) => self.now_ms += by_ms,
        }
    }

    fn seal(&mut self, is_on: &dyn Fn() -> bool) {
        if self.group.is_empty() {
            return;
        }
        let through = self.spool.last_staged();
        let kept = self.spool.seal(batch(&payload(&self.group, 0)), through, self.now_ms);
        assert!(kept == Kept::Disk || !is_on());
        self.group.clear();
    }

    fn send(&mut self, count: usize, is_on: &dyn Fn() -> bool) {
        for lane in Lane::SENT {
            for _ in 0..count {
                let Some(record) = self.spool.next(lane).filter(|_| is_on()) else { break };
                self.broker.receive(*self.spool.incarnation(), lane, &record);
            }
        }
    }

    fn ack(&mut self, less: u64) {
        for lane in Lane::SENT {
            let key = (*self.spool.incarnation(), lane as u8);
            let mark = self.broker.marks.get(&key).copied().unwrap_or_default();
            self.spool.acknowledge(lane, mark.saturating_sub(less));
        }
    }

    /// Starts on what is on the disk, as the pipeline does.
    fn restart(&mut self, disk: MemoryDisk) {
        self.starts += 1;
        self.disk = disk;
        let (spool, counters) = open(&self.disk, &self.config, self.starts);
        self.spool = spool;
        self.group.clear();
        for name in ["damaged_ranges_total", "lost_batches_total", "dropped_batches_total"] {
            assert_eq!(counted(&counters, name), 0.0, "{name}");
        }
        // Three passes to a batch.
        let (mut found, mut through) = (Vec::new(), 0);
        while let Some(pass) = self.spool.next_staged() {
            found.extend(ids(&pass.payload));
            through = pass.seq;
            if found.len() == 3 {
                self.spool.seal(batch(&payload(&found, 0)), through, self.now_ms);
                found.clear();
            }
        }
        if !found.is_empty() {
            self.spool.seal(batch(&payload(&found, 0)), through, self.now_ms);
        }
    }

    /// Everything is sent and acknowledged; nothing is missing.
    fn drain(&mut self) {
        self.seal(&|| true);
        self.send(usize::MAX, &|| true);
        self.ack(0);
        let missing: Vec<_> = self.owed.difference(&self.broker.stored).collect();
        assert!(missing.is_empty(), "{missing:?} were durable and are lost");
        assert_eq!(self.spool.oldest_ms(), None);
        self.spool.put(Lane::Live, batch(&payload(&[], 0)), self.now_ms);
        let files = self.disk.list("").expect("memory");
        assert!(files.len() <= 1, "only the file that carries the name stays: {files:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_is_lost_or_doubled_wherever_the_power_goes(
        ops in proptest::collection::vec(any_op(), 4..24),
        seed in any::<u64>(),
    ) {
        let mut whole = World::new(MemoryDisk::new());
        ops.iter().for_each(|op| whole.step(op, &|| true));
        let steps = whole.disk.steps();
        whole.drain();
        for cut in 0..=steps {
            let disk = MemoryDisk::new();
            disk.cut_power_after(cut);
            let mut world = World::new(disk.clone());
            let is_on = || disk.steps() <= cut;
            for op in &ops {
                // A restart takes a disk of the same name on.
                world.step(op, &is_on);
                if !is_on() {
                    break;
                }
            }
            world.restart(disk.crash(seed ^ cut));
            for op in &ops {
                world.step(op, &|| true);
            }
            world.drain();
        }
    }
}

/// A spool with `n` batches in the backlog, numbered from 1.
fn backlog(disk: &MemoryDisk, config: &SpoolConfig, n: u64) -> (Spool, Arc<SpoolCounters>) {
    let (mut spool, counters) = open(disk, config, 1);
    for id in 1..=n {
        assert_eq!(spool.put(Lane::Backlog, batch(&payload(&[id], 1_000)), 0), Kept::Disk);
    }
    (spool, counters)
}

fn read_all(spool: &mut Spool) -> Vec<u64> {
    let mut read = Vec::new();
    while let Some(record) = spool.next(Lane::Backlog) {
        read.extend(ids(&record.payload));
    }
    read
}

fn backlog_file(disk: &MemoryDisk) -> String {
    let files = disk.list("").expect("memory");
    files.into_iter().map(|info| info.key).find(|key| key.starts_with("backlog")).expect("one")
}

#[test]
fn a_damaged_middle_is_skipped_and_counted_and_the_rest_is_sent() {
    let disk = MemoryDisk::new();
    drop(backlog(&disk, &small(), 10));
    let record = RECORD_LEN;
    // One byte of the third payload, and the header of the sixth.
    disk.damage(&backlog_file(&disk), |bytes| {
        bytes[64 + 2 * record + 100] ^= 1;
        bytes[64 + 5 * record + 3] ^= 1;
    });
    let (mut spool, counters) = open(&disk, &small(), 2);
    assert_eq!(spool.incarnation(), &random(1));
    assert_eq!(read_all(&mut spool), [1, 2, 4, 5, 7, 8, 9, 10]);
    spool.rewind(Lane::Backlog);
    assert_eq!(read_all(&mut spool), [1, 2, 4, 5, 7, 8, 9, 10]);
    assert_eq!(counted(&counters, "lost_batches_total"), 1.0);
    assert_eq!(counted(&counters, "lost_samples_total"), 1.0);
    assert_eq!(counted(&counters, "damaged_ranges_total"), 2.0);
    assert_eq!(counted(&counters, "damaged_bytes_total"), 2.0 * record as f64);
}

/// Bytes of one record of [`backlog`].
const RECORD_LEN: usize = 52 + 16 + 1_000;

#[test]
fn a_batch_that_nobody_can_read_does_not_stay_for_ever() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = backlog(&disk, &small(), 2);
    assert!(spool.next(Lane::Backlog).is_some());
    disk.damage(&backlog_file(&disk), |bytes| bytes[64 + RECORD_LEN + 60] ^= 1);
    assert_eq!(spool.next(Lane::Backlog), None);
    spool.acknowledge(Lane::Backlog, 1);
    assert_eq!(spool.oldest_ms(), None);
    spool.put(Lane::Live, batch(&payload(&[3], 0)), 0);
    assert_eq!(disk.list("").expect("memory").len(), 1);
}

#[test]
fn an_unreadable_file_is_set_aside_and_its_number_not_used_again() {
    let disk = MemoryDisk::new();
    drop(backlog(&disk, &small(), 2));
    let name = backlog_file(&disk);
    disk.damage(&name, |bytes| bytes[20] ^= 1);
    let (mut spool, counters) = open(&disk, &small(), 2);
    assert_eq!(spool.next(Lane::Backlog), None);
    assert_eq!(counted(&counters, "damaged_ranges_total"), 1.0);
    assert_eq!(spool.put(Lane::Backlog, batch(&payload(&[3], 0)), 0), Kept::Disk);
    let names: Vec<_> = disk.list("").expect("memory").into_iter().map(|info| info.key).collect();
    let expected = [
        format!("backlog-{:020}.wfs", 2),
        format!("damaged-{name}"),
        format!("live-{:020}.wfs", 1),
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_newer_program_s_spool_is_refused() {
    let disk = MemoryDisk::new();
    drop(backlog(&disk, &small(), 1));
    disk.damage(&backlog_file(&disk), |bytes| {
        bytes[8] = 9;
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    });
    let opened = Spool::open(Arc::new(disk), small(), random(2), Arc::default());
    let message = opened.err().expect("refused").to_string();
    assert!(message.contains("format version 9, which this program does not know"), "{message}");
}

#[test]
fn a_full_spool_drops_what_is_oldest_or_refuses_what_is_new() {
    for (policy, first_kept) in [(FullPolicy::DropOldest, None), (FullPolicy::Pause, Some(1))] {
        let disk = MemoryDisk::new();
        let config = SpoolConfig { policy, memory_bytes: 0, ..small() };
        let (mut spool, counters) = open(&disk, &config, 1);
        for id in 1..=3_000 {
            spool.put(Lane::Backlog, batch(&payload(&[id], 1_000)), 0);
        }
        let (bytes, limit) = counters.size_and_limit_bytes();
        assert!(bytes <= limit && bytes > limit * 9 / 10 && limit == 1 << 20);
        let read = read_all(&mut spool);
        assert_eq!(read.len() as u64 + counters.missing_batches(), 3_000);
        assert_eq!(counters.missing_samples(), counters.missing_batches());
        assert!(read.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let edges = (read.first().copied(), read.last().copied());
        match first_kept {
            Some(first) => assert_eq!(edges.0, Some(first)),
            None => assert_eq!(edges.1, Some(3_000)),
        }
    }
}

#[test]
fn a_full_disk_is_survived_in_memory_and_left_by_itself() {
    let disk = MemoryDisk::new();
    let config = SpoolConfig { policy: FullPolicy::Pause, ..small() };
    let (mut spool, counters) = backlog(&disk, &config, 3);
    let used: u64 = disk.list("").expect("memory").iter().map(|info| info.size_bytes).sum();
    disk.set_capacity_bytes(Some(used + 500));
    let put = |spool: &mut Spool, id| spool.put(Lane::Backlog, batch(&payload(&[id], 1_000)), 0);
    assert_eq!(put(&mut spool, 4), Kept::Memory);
    assert_eq!(put(&mut spool, 5), Kept::Memory);
    assert_eq!(counted(&counters, "memory_batches_total"), 2.0);
    disk.set_capacity_bytes(None);
    assert_eq!(put(&mut spool, 6), Kept::Disk);
    assert_eq!(read_all(&mut spool), [1, 2, 3, 4, 5, 6], "by number, wherever they are");
    spool.rewind(Lane::Backlog);
    spool.acknowledge(Lane::Backlog, 4);
    assert_eq!(read_all(&mut spool), [5, 6]);
    // What was in memory goes with the process; what was on disk does not.
    drop(spool);
    let (mut spool, counters) = open(&disk, &config, 2);
    assert_eq!(read_all(&mut spool), [1, 2, 3, 6]);
    assert_eq!(counted(&counters, "damaged_ranges_total"), 0.0);
}

#[test]
fn a_full_disk_lets_a_start_and_the_drop_policy_make_room() {
    let disk = MemoryDisk::new();
    drop(backlog(&disk, &small(), 400));
    disk.set_capacity_bytes(Some(0));
    let (mut spool, counters) = open(&disk, &small(), 2);
    assert_eq!(spool.put(Lane::Live, batch(&payload(&[401], 100)), 0), Kept::Memory);
    let used: u64 = disk.list("").expect("memory").iter().map(|info| info.size_bytes).sum();
    disk.set_capacity_bytes(Some(used + 10_000));
    for id in 402..=600 {
        assert_eq!(spool.put(Lane::Backlog, batch(&payload(&[id], 1_000)), 0), Kept::Disk);
    }
    assert!(counters.missing_batches() > 100);
    let read = read_all(&mut spool);
    assert_eq!(read.last(), Some(&600));
}

#[test]
fn a_failed_sync_ends_all_writing() {
    let disk = MemoryDisk::new();
    let (mut spool, counters) = backlog(&disk, &small(), 3);
    disk.set_syncs_fail(true);
    assert_eq!(spool.put(Lane::Backlog, batch(&payload(&[4], 10)), 0), Kept::Memory);
    disk.set_syncs_fail(false);
    let steps = disk.steps();
    assert_eq!(spool.put(Lane::Backlog, batch(&payload(&[5], 10)), 0), Kept::Memory);
    assert!(!spool.stage(batch(&payload(&[6], 10)), 0));
    assert_eq!(read_all(&mut spool), [1, 2, 3, 4, 5]);
    spool.acknowledge(Lane::Backlog, 5);
    assert_eq!(disk.steps(), steps, "nothing was written, synced or removed");
    assert_eq!(counted(&counters, "poisoned"), 1.0);
    assert_eq!(spool.oldest_ms(), None);
}

#[test]
fn staged_passes_are_left_to_the_next_start_if_they_cannot_be_sealed() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = open(&disk, &small(), 1);
    assert!(spool.stage(batch(&payload(&[1], 10)), 0));
    disk.set_syncs_fail(true);
    let through = spool.last_staged();
    assert_eq!(spool.seal(batch(&payload(&[1], 0)), through, 0), Kept::Staged);
    disk.set_syncs_fail(false);
    assert!(!spool.stage(batch(&payload(&[2], 10)), 0));
    assert_eq!(spool.next(Lane::Backlog), None);
    let (mut spool, _) = open(&disk, &small(), 2);
    // The batch may have reached the disk in spite of the fault; then the passes are part of it.
    let staged = spool.next_staged().map(|pass| ids(&pass.payload));
    let sealed = spool.next(Lane::Backlog).map(|record| ids(&record.payload));
    assert!(staged.is_some() != sealed.is_some(), "{staged:?} {sealed:?}");
}

#[test]
fn numbers_grow_over_a_lost_tail_and_a_clock_that_was_set_back() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = open(&disk, &small(), 1);
    spool.put(Lane::Live, batch(&payload(&[1], 10)), 5_000);
    let first = spool.next(Lane::Live).expect("put").seq;
    assert_eq!(first, 5_000 << 20);
    spool.put(Lane::Live, batch(&payload(&[2], 10)), 4_000);
    assert_eq!(spool.next(Lane::Live).expect("put").seq, first + 1);
    // The disk forgets the second.
    let file = disk.list("").expect("memory")[0].key.clone();
    disk.damage(&file, |bytes| bytes.truncate(bytes.len() - 1));
    let (mut spool, counters) = open(&disk, &small(), 2);
    assert!(counted(&counters, "torn_bytes_total") > 0.0);
    spool.put(Lane::Live, batch(&payload(&[3], 10)), 5_001);
    assert_eq!(spool.next(Lane::Live).expect("first").seq, first);
    assert_eq!(spool.next(Lane::Live).expect("third").seq, 5_001 << 20);
    // A snapshot of the machine was played back: the broker is ahead.
    spool.acknowledge(Lane::Live, 9_000 << 20);
    spool.put(Lane::Live, batch(&payload(&[4], 10)), 5_002);
    assert_eq!(spool.next(Lane::Live).expect("fourth").seq, (9_000 << 20) + 1);
}

#[test]
fn marks_survive_a_restart_and_files_go_when_they_are_acknowledged() {
    let disk = MemoryDisk::new();
    let (mut spool, _) = backlog(&disk, &small(), 300);
    let files = disk.list("").expect("memory").len();
    assert!(files > 4, "{files}");
    for _ in 0..250 {
        spool.next(Lane::Backlog);
    }
    spool.acknowledge(Lane::Backlog, 250);
    assert!(disk.list("").expect("memory").len() < files);
    spool.put(Lane::Live, batch(&payload(&[1_000], 10)), 0);
    drop(spool);
    let (mut spool, _) = open(&disk, &small(), 2);
    assert_eq!(spool.backlog.acknowledged(), 250);
    assert_eq!(read_all(&mut spool), (251..=300).collect::<Vec<_>>());
}
