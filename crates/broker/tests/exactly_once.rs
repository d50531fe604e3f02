//! Agents that resend, brokers that die: every batch is stored, and stored once.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use blockstore::{BlobError, BlobInfo, Disk, DiskFile, MemoryDisk, ReadAt};
use broker::{BatchIdentity, Broker, CommitError, Delivery, Incarnation, Lane};
use model::DEFAULT_TENANT;
use support::*;

/// Agents, each with both lanes.
const AGENTS: usize = 3;
/// Batches of each lane.
const BATCHES: u64 = 6;
/// Batches on their way in one lane.
const WINDOW: usize = 3;
/// Rows of a batch.
const ROWS: usize = 4;

type Row = (usize, i64, f64);
/// Lane of an agent: index of the agent, lane.
type Place = (usize, Lane);

/// Rows that no other batch has. A new series now and then, so that frames depend on others.
fn rows((agent, lane): Place, seq: u64) -> Vec<Row> {
    let base = 100 * agent + 50 * (lane as usize - 1) + seq as usize / 2;
    let t_ms = START_MS + 10 * seq as i64;
    (0..ROWS).map(|n| (base + n, t_ms + n as i64, seq as f64 + n as f64 / 10.0)).collect()
}

fn identity((agent, lane): Place, seq: u64, after_seq: u64) -> BatchIdentity {
    let incarnation = Incarnation([agent as u8; 16]);
    BatchIdentity { agent: format!("agent-{agent}").into(), incarnation, lane, seq, after_seq }
}

fn deliver(
    broker: &Broker,
    identity: &BatchIdentity,
    rows: &[Row],
) -> Receiver<Result<Delivery, CommitError>> {
    let (sender, receiver) = channel();
    broker.ingest_from_agent(DEFAULT_TENANT, identity, &batch(rows), move |result| {
        let _ = sender.send(result);
    });
    receiver
}

/// What an agent may have forgotten: everything up to here is acknowledged.
type Acknowledged = Arc<Mutex<BTreeMap<Place, u64>>>;

/// The world at the moment of a cut: the disk and what agents had heard.
type Cut = (MemoryDisk, BTreeMap<Place, u64>);

/// A disk that remembers how it, and what was acknowledged, looked before one of its steps.
struct WatchedDisk {
    disk: MemoryDisk,
    watch: Watch,
}

#[derive(Clone)]
struct Watch {
    disk: MemoryDisk,
    acknowledged: Acknowledged,
    cut_at: u64,
    taken: Arc<Mutex<Option<Cut>>>,
    take: fn(&MemoryDisk, u64) -> MemoryDisk,
}

impl Watch {
    fn look(&self) {
        if self.disk.steps() == self.cut_at {
            // What was acknowledged first: it is durable in a disk that is looked at later.
            let acknowledged = self.acknowledged.lock().expect("no panic").clone();
            let disk = (self.take)(&self.disk, self.cut_at);
            self.taken.lock().expect("no panic").get_or_insert((disk, acknowledged));
        }
    }
}

impl Disk for WatchedDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, BlobError> {
        self.watch.look();
        let file = self.disk.create(path)?;
        Ok(Box::new(WatchedFile { file, watch: self.watch.clone() }))
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        self.disk.open(path)
    }

    fn list(&self, directory: &str) -> Result<Vec<BlobInfo>, BlobError> {
        self.disk.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.rename(from, to)
    }

    fn link(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.link(from, to)
    }

    fn rename_directory(&self, from: &str, to: &str) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.rename_directory(from, to)
    }

    fn remove_directory(&self, directory: &str) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.remove_directory(directory)
    }

    fn remove(&self, path: &str) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.remove(path)
    }

    fn truncate(&self, path: &str, size_bytes: u64) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.truncate(path, size_bytes)
    }

    fn sync_directory(&self, directory: &str) -> Result<(), BlobError> {
        self.watch.look();
        self.disk.sync_directory(directory)
    }

    fn free_space_bytes(&self) -> Result<u64, BlobError> {
        self.disk.free_space_bytes()
    }
}

struct WatchedFile {
    file: Box<dyn DiskFile>,
    watch: Watch,
}

impl DiskFile for WatchedFile {
    fn append(&mut self, parts: &[&[u8]]) -> Result<(), BlobError> {
        self.watch.look();
        self.file.append(parts)
    }

    fn sync_data(&mut self) -> Result<(), BlobError> {
        self.watch.look();
        self.file.sync_data()
    }

    fn truncate(&mut self, size_bytes: u64) -> Result<(), BlobError> {
        self.watch.look();
        self.file.truncate(size_bytes)
    }
}

/// One lane of an agent on one connection.
struct Stream {
    place: Place,
    next: u64,
    sent: u64,
    under_way: Vec<(u64, Receiver<Result<Delivery, CommitError>>)>,
}

impl Stream {
    /// Connects: what the broker has may leave the spool, the rest is sent again.
    fn connect(broker: &Broker, place: Place, acknowledged: &Acknowledged) -> Stream {
        let BatchIdentity { agent, incarnation, .. } = identity(place, 1, 0);
        let (sender, receiver) = channel();
        broker.agent_marks(&agent, incarnation, move |marks| {
            let _ = sender.send(marks);
        });
        let marks = receiver.recv().expect("answered").expect("not stopping");
        let through = match place.1 {
            Lane::Live => marks.live_through,
            Lane::Backlog => marks.backlog_through,
        };
        let mut acknowledged = acknowledged.lock().expect("no panic");
        let spooled_after = acknowledged.entry(place).or_default();
        *spooled_after = through.max(*spooled_after);
        let next = *spooled_after + 1;
        Stream { place, next, sent: 0, under_way: Vec::new() }
    }

    fn send(&mut self, broker: &Broker) {
        let identity = identity(self.place, self.next, self.sent);
        let answer = deliver(broker, &identity, &rows(self.place, self.next));
        self.under_way.push((self.next, answer));
        self.sent = self.next;
        self.next += 1;
    }

    /// Hears the oldest answer.
    fn hear(&mut self, acknowledged: &Acknowledged) -> Delivery {
        let (seq, answer) = self.under_way.remove(0);
        let delivery = answer.recv().expect("answered").expect("stored");
        acknowledged.lock().expect("no panic").insert(self.place, seq);
        delivery
    }
}

/// All agents send what is left, in turns. `chance` decides who is slow.
fn send_everything(broker: &Broker, acknowledged: &Acknowledged, mut chance: u64) {
    let places = (0..AGENTS).flat_map(|agent| Lane::ALL.map(|lane| (agent, lane)));
    let mut streams: Vec<Stream> =
        places.map(|place| Stream::connect(broker, place, acknowledged)).collect();
    while streams.iter().any(|s| s.next <= BATCHES || !s.under_way.is_empty()) {
        for stream in &mut streams {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let coin = chance >> 33;
            if coin.is_multiple_of(7) {
                // The link breaks; what is under way may arrive all the same.
                *stream = Stream::connect(broker, stream.place, acknowledged);
            } else if stream.next <= BATCHES
                && stream.under_way.len() < WINDOW
                && !coin.is_multiple_of(3)
            {
                stream.send(broker);
            } else if !stream.under_way.is_empty() {
                stream.hear(acknowledged);
            }
        }
    }
}

fn expected() -> Samples {
    let mut model = Samples::new();
    for agent in 0..AGENTS {
        for (lane, seq) in Lane::ALL.into_iter().flat_map(|l| (1..=BATCHES).map(move |s| (l, s))) {
            note(&mut model, &rows((agent, lane), seq));
        }
    }
    model
}

clock!(CUTS, cuts_ms);

/// A run on `disk` until everything is sent; yields the world before step `cut_at`, if there was
/// one, and how many steps there were.
fn run(
    disk: MemoryDisk,
    heard: BTreeMap<Place, u64>,
    cut_at: u64,
    take: fn(&MemoryDisk, u64) -> MemoryDisk,
    flush_interval_ms: i64,
) -> (Option<Cut>, u64) {
    let acknowledged: Acknowledged = Arc::new(Mutex::new(heard));
    let taken = Arc::default();
    let watch = Watch {
        disk: disk.clone(),
        acknowledged: Arc::clone(&acknowledged),
        cut_at,
        taken: Arc::clone(&taken),
        take,
    };
    let watched = Arc::new(WatchedDisk { disk: disk.clone(), watch });
    let broker = open_on(&watched, config("unused".as_ref(), cuts_ms, flush_interval_ms));
    send_everything(&broker, &acknowledged, cut_at);
    assert_same(&read_all(&broker), &expected(), &format!("in the run that is cut at {cut_at}"));
    assert_eq!(
        metric(&broker, "watchfire_broker_samples_duplicate_total"),
        0.0,
        "cut at {cut_at}: the marks left no sample for the heads to sort out"
    );
    broker.stop();
    let taken = taken.lock().expect("no panic").take();
    (taken, disk.steps())
}

fn check_after(cut: Cut, cut_at: u64, flush_interval_ms: i64) {
    // Once more, at some step of the restart or soon after.
    let (second, _) = run(cut.0, cut.1, cut_at % 23, MemoryDisk::crash, flush_interval_ms);
    let Some((disk, heard)) = second else { return };
    let (_, _) = run(disk.clone(), heard, u64::MAX, MemoryDisk::crash, flush_interval_ms);
    if flush_interval_ms == NEVER_MS {
        let broker = open_on(&Arc::new(disk), config("unused".as_ref(), cuts_ms, NEVER_MS));
        let count = AGENTS as u64 * 2 * BATCHES * ROWS as u64;
        assert_eq!(broker.recovered().samples, count, "cut at {cut_at}: twice in the log");
    }
}

#[test]
fn a_power_cut_at_any_step_loses_no_batch_and_doubles_none() {
    CUTS.store(START_MS + HOUR_MS, SeqCst);
    let (_, steps) = run(MemoryDisk::new(), BTreeMap::new(), u64::MAX, MemoryDisk::crash, NEVER_MS);
    let mut cuts = 0;
    for cut_at in 0..steps {
        let first = run(MemoryDisk::new(), BTreeMap::new(), cut_at, MemoryDisk::crash, NEVER_MS).0;
        if let Some(cut) = first {
            cuts += 1;
            check_after(cut, cut_at, NEVER_MS);
        }
    }
    assert!(cuts > 30, "{cuts} cuts in {steps} steps");
}

#[test]
fn a_kill_at_any_step_and_a_power_cut_after_it_lose_and_double_nothing() {
    CUTS.store(START_MS + HOUR_MS, SeqCst);
    let kill = |disk: &MemoryDisk, _| disk.kill();
    let (_, steps) = run(MemoryDisk::new(), BTreeMap::new(), u64::MAX, kill, NEVER_MS);
    for cut_at in 0..steps {
        if let (Some(cut), _) = run(MemoryDisk::new(), BTreeMap::new(), cut_at, kill, NEVER_MS) {
            check_after(cut, cut_at, NEVER_MS);
        }
    }
}

#[test]
fn marks_live_through_flushes_and_cuts_in_them() {
    CUTS.store(START_MS + HOUR_MS, SeqCst);
    for cut_at in (0..120).step_by(3) {
        if let (Some(cut), _) =
            run(MemoryDisk::new(), BTreeMap::new(), cut_at, MemoryDisk::crash, 1)
        {
            check_after(cut, cut_at, 1);
        }
    }
}
