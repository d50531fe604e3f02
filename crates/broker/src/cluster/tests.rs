//! Brokers of a cluster on real threads and a real clock, with a store in memory; faults under seeds are
//! in `tests/simulation`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use std::time::Duration;

use blockstore::{BlobError, BlobInfo, BlobWriter, MemoryDisk, ReadAt};
use bytes::Bytes;
use catalog::{BrokerId, BrokerInfo, BrokerState, CatalogError, Command, Expected, Outcome, State};
use consensus::{Call, ConsensusConfig, Member, Observer, Transport, TransportError};
use futures_util::StreamExt;
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TenantName, TimeRange};
use net::rpc::{FreshRequest, LiveLinesRequest, LiveRequest};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tonic::Status;

use shared::Shared;

use super::*;
use crate::commit::{CommitError, Message};
use crate::maintenance::Wake;
use crate::{BatchIdentity, Delivery, Incarnation, IngestOutcome, Lane};

mod bounds;
mod damage;
mod kept;
mod lines;
mod live;
mod moves;
mod nearest;
mod pushes;
mod reads;
mod shared;
mod silence;
mod starts;
mod tails;
mod tiers;

pub(super) const START_MS: i64 = 1_795_219_200_000;

/// All brokers of a test, and the store between them.
#[derive(Default)]
pub(super) struct Site {
    pub(super) members: Mutex<BTreeMap<u64, Consensus>>,
    pub(super) objects: Mutex<BTreeMap<String, Bytes>>,
    is_full: AtomicBool,
    /// It gives nothing.
    is_down: AtomicBool,
    /// Who answers what others ask.
    feeds: Mutex<BTreeMap<u64, Arc<CatalogFeed>>>,
    /// Those that take questions and say nothing.
    silent: Mutex<BTreeSet<u64>>,
    /// Those whose answers end in the middle.
    torn: Mutex<BTreeSet<u64>>,
    /// What was asked last of each.
    asked: Mutex<BTreeMap<u64, FreshRequest>>,
    /// Objects that the store does not give, and what it says.
    pub(super) kept_back: Mutex<BTreeMap<String, StoreFault>>,
    /// Objects of which what is kept nearer than the store is damaged.
    bad_copies: Mutex<BTreeSet<String>>,
    /// How often blocks were opened past what is kept of them.
    opened_past_copies: AtomicUsize,
    /// Milliseconds after which what is damaged is believed to be; 0 as in the program.
    damaged_after_ms: AtomicU64,
    /// Feature level of brokers that start; 0 for that of this program.
    pub(super) level: AtomicU32,
    /// After so many blocks, one more is refused; 0 or less: none.
    pub(super) refuses_block: AtomicI64,
    /// What brokers are told otherwise than the others.
    pub(super) told: Mutex<BTreeMap<u64, Told>>,
    /// Most marks in one segment.
    most_marks: AtomicUsize,
    /// Where brokers keep segments, if not with the blocks.
    pub(super) segments: Mutex<BTreeMap<u64, SegmentPlaces>>,
    pub(super) faults: Mutex<Vec<String>>,
}

pub(super) type Told = Box<dyn Fn(&mut BrokerConfig, &mut Background) + Send>;

fn member(id: u64) -> Member {
    Member { name: format!("b{id}"), address: id.to_string(), zone: String::new() }
}

/// A minute after the first samples, and going on.
pub(super) fn now_ms() -> i64 {
    static BEGAN: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = BEGAN.get_or_init(std::time::Instant::now).elapsed();
    START_MS + 60_000 + i64::try_from(elapsed.as_millis()).expect("a test")
}

/// Hears what the catalog applies before the broker does.
struct Watching {
    feed: Arc<CatalogFeed>,
    site: Arc<Site>,
}

impl Observer for Watching {
    fn applied(&self, command: &Command, outcome: &Result<Outcome, CatalogError>, state: &State) {
        if let Command::AddSegment(new) = command {
            self.site.most_marks.fetch_max(new.marks.len(), Ordering::Relaxed);
        }
        self.feed.applied(command, outcome, state);
    }

    fn replaced(&self, state: &State) {
        self.feed.replaced(state);
    }
}

/// A broker as one process runs it.
pub(super) struct Running {
    pub(super) broker: Broker,
    pub(super) consensus: Consensus,
}

pub(super) fn start(runtime: &Runtime, site: &Arc<Site>, id: u64, disk: &MemoryDisk) -> Running {
    try_start(runtime, site, id, disk).expect("it opens")
}

fn try_start(runtime: &Runtime, site: &Arc<Site>, id: u64, disk: &MemoryDisk) -> Result<Running> {
    let shared = Shared(Arc::clone(site));
    let feed = CatalogFeed::new(BrokerId(id));
    let observer = Watching { feed: Arc::clone(&feed), site: Arc::clone(site) };
    let observer: Arc<dyn Observer> = Arc::new(observer);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let failed = Arc::clone(site);
    runtime.block_on(async move {
        let config = ConsensusConfig::new(id, member(id));
        let transport = Arc::new(shared.clone());
        let no_failure = Arc::new(|_: &consensus::Failure<'_>| {});
        let started =
            Consensus::start(Arc::clone(&disk), config, transport, observer, no_failure).await;
        let consensus = started.expect("an empty disk");
        shared.0.members.lock().insert(id, consensus.clone());
        if id == 1 {
            consensus.begin().await.expect("the first");
        } else if !consensus.is_member().await.expect("it runs") {
            let joined = consensus.join(&[member(1)], Duration::from_secs(10)).await;
            joined.expect("it is taken in");
        }
        let info = BrokerInfo {
            name: format!("b{id}"),
            address: id.to_string(),
            http_address: String::new(),
            zone: String::new(),
            version: "1.2.3".to_owned(),
            feature_level: match failed.level.load(Ordering::Relaxed) {
                0 => catalog::FEATURE_LEVEL,
                level => level,
            },
            state: BrokerState::Active,
        };
        let set = Command::SetBroker { broker: BrokerId(id), info: Box::new(info) };
        consensus.propose(set, Duration::from_secs(10)).await.expect("there is a leader");
        shared.0.feeds.lock().insert(id, Arc::clone(&feed));
        let mut config = BrokerConfig {
            shards: 2,
            flush_interval_ms: 86_400_000,
            ..BrokerConfig::new("unused".into(), now_ms)
        };
        let mut background = Background {
            every: Duration::from_millis(100),
            adopt_after: Duration::from_secs(12),
            orphan_age: Duration::from_secs(3),
            damaged_after: match failed.damaged_after_ms.load(Ordering::Relaxed) {
                0 => Background::default().damaged_after,
                millis => Duration::from_millis(millis),
            },
            ..Background::default()
        };
        if let Some(told) = shared.0.told.lock().get(&id) {
            told(&mut config, &mut background);
        }
        let segments = shared.0.segments.lock().get(&id).cloned().unwrap_or_default();
        let parts = ClusterParts {
            consensus: consensus.clone(),
            feed,
            peers: Arc::new(shared.clone()),
            store: Arc::new(shared.clone()),
            segments,
            blobs: Arc::new(shared),
            disk,
            work: Work::Threads,
            keep_flushed: Duration::from_millis(200),
            background,
            on_fault: Arc::new(move |why| failed.faults.lock().push(why.to_owned())),
        };
        let opened = Broker::open_clustered(parts, config, Arc::default()).await;
        Ok(Running { broker: opened?, consensus })
    })
}

impl Running {
    /// Ends as a process does that is told to stop.
    pub(super) fn stop(self, runtime: &Runtime, site: &Site, id: u64) {
        self.broker.stop();
        runtime.block_on(self.broker.stopped());
        site.members.lock().remove(&id);
        runtime.block_on(self.consensus.stop());
    }

    /// Ends as a process does that is killed.
    pub(super) fn kill(self, runtime: &Runtime, site: &Site, id: u64) {
        site.members.lock().remove(&id);
        site.feeds.lock().remove(&id);
        runtime.block_on(self.consensus.stop());
    }
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("tokio")
}

pub(super) fn batch(series: &str, t_ms: i64, value: f64) -> MetricBatch {
    let labels = Labels::from_pairs([("__name__", "m"), ("series", series)]).expect("valid");
    let mut batch = MetricBatch::default();
    batch.push(&labels, t_ms, value);
    batch
}

pub(super) type Answer = Result<IngestOutcome, CommitError>;

pub(super) fn send(broker: &Broker, batch: &MetricBatch) -> Receiver<Answer> {
    let (reply, answer) = channel();
    broker.ingest(DEFAULT_TENANT, batch, move |result| _ = reply.send(result));
    answer
}

pub(super) fn read(broker: &Broker) -> BTreeMap<(String, i64), f64> {
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let selected = broker.reader(DEFAULT_TENANT).select(&[matcher], TimeRange::all());
    let selected = selected.expect("readable");
    let mut samples = BTreeMap::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut times, &mut values).expect("readable");
        let series = labels.get("series").expect("all have it").to_owned();
        samples.extend(times.into_iter().zip(values).map(|(t, v)| ((series.clone(), t), v)));
    }
    samples
}

pub(super) fn flush(broker: &Broker) {
    let (reply, answer) = crossbeam_channel::bounded(1);
    assert!(broker.inner.wake.send(Wake::Flush(reply)));
    answer.recv().expect("it answers").expect("it flushes");
}

pub(super) fn objects(site: &Site, prefix: &str) -> Vec<String> {
    site.objects.lock().keys().filter(|key| key.starts_with(prefix)).cloned().collect()
}

/// Until flushed segments are removed, which takes a moment.
pub(super) fn wait_for_segments(site: &Site, count: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while objects(site, "segments/").len() != count {
        assert!(Instant::now() < end, "{:?}", objects(site, "segments/"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_acknowledged_is_there_before_and_after_a_flush_and_a_start() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let running = start(&runtime, &site, 1, &disk);
    let mut expected = BTreeMap::new();
    for t_ms in 0..400 {
        let (t_ms, value) = (START_MS + t_ms, t_ms as f64);
        let series = format!("s{}", t_ms % 7);
        let sent = send(&running.broker, &batch(&series, t_ms, value));
        expected.insert((series, t_ms), value);
        if t_ms % 50 == 0 {
            sent.recv().expect("answered").expect("stored");
            let found = read(&running.broker);
            assert_eq!(found.len(), expected.len(), "what came before is there as well");
        }
        if t_ms == START_MS + 200 {
            flush(&running.broker);
            assert!(!objects(&site, "blocks/").is_empty());
        }
    }
    // Many batches share a segment.
    assert!(objects(&site, "segments/").len() < 200, "{:?}", objects(&site, "segments/"));
    running.stop(&runtime, &site, 1);
    let again = start(&runtime, &site, 1, &disk);
    assert_eq!(read(&again.broker), expected);
    let recovered = again.broker.recovered();
    assert!(recovered.samples > 0 && recovered.samples < 400, "{recovered:?}");
    assert_eq!((recovered.blocks, recovered.unusable_frames), (1, 0));
    flush(&again.broker);
    again.broker.inner.shards.settle();
    assert_eq!(again.broker.inner.shards.totals().rows, 0);
    assert_eq!(read(&again.broker), expected);
    // Nobody needs the segments any more.
    wait_for_segments(&site, 0);
    again.stop(&runtime, &site, 1);
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn brokers_agree_about_batches_of_agents_deletes_keys_and_tenants() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let one = start(&runtime, &site, 1, &MemoryDisk::new());
    let two = start(&runtime, &site, 2, &MemoryDisk::new());
    let deliver = |broker: &Broker, seq: u64, after_seq: u64| {
        let (agent, incarnation) = ("a".into(), Incarnation([1; 16]));
        let identity = BatchIdentity { agent, incarnation, lane: Lane::Live, seq, after_seq };
        let (reply, answer) = channel();
        let batch = batch("agent", START_MS + seq as i64, 1.0);
        broker.ingest_from_agent(DEFAULT_TENANT, &identity, &batch, move |result| {
            let _ = reply.send(result.map(|Delivery { was_known, .. }| was_known));
        });
        answer.recv().expect("answered")
    };
    assert_eq!(deliver(&one.broker, 1, 0), Ok(false));
    assert_eq!(deliver(&two.broker, 1, 0), Ok(true));
    assert_eq!(deliver(&two.broker, 3, 2), Err(CommitError::Gap { through: 1 }));
    assert_eq!(deliver(&two.broker, 2, 1), Ok(false));
    let (reply, marks) = channel();
    one.broker.agent_marks(&"a".into(), Incarnation([1; 16]), move |m| _ = reply.send(m));
    assert_eq!(marks.recv().expect("answered").expect("a leader").live_through, 2);

    one.broker.put_key("k", b"v".to_vec(), Expected::Absent).expect("it is new");
    runtime.block_on(two.consensus.catch_up(Duration::from_secs(5))).expect("a leader");
    assert_eq!(two.broker.get_key("k").expect("agreed upon").value, b"v");
    let conflict = two.broker.put_key("k", Vec::new(), Expected::Absent);
    assert!(conflict.expect_err("it is there").is_version_conflict());

    let matcher = Matcher::new("series", MatchOp::Equal, "agent").expect("no regex");
    let all = TimeRange::all();
    two.broker.delete_series(DEFAULT_TENANT, &[vec![matcher]], all).expect("a leader");
    assert!(read(&two.broker).is_empty());
    // The other one follows: a write that is acknowledged there comes after it.
    send(&one.broker, &batch("agent", START_MS + 50, 2.0))
        .recv()
        .expect("answered")
        .expect("stored");
    assert_eq!(read(&one.broker).len(), 1);

    let name = |name: &str| TenantName::parse(name).expect("a name");
    std::thread::scope(|scope| {
        let (one, two) = (&one.broker, &two.broker);
        let ids = |broker: &Broker, own: &str| {
            let own = broker.tenant_for_write(name(own)).expect("room");
            (own, broker.tenant_for_write(name("both")).expect("room"))
        };
        let first = scope.spawn(move || ids(one, "first"));
        let second = ids(two, "second");
        let first = first.join().expect("no panic");
        assert_eq!(first.1, second.1, "one name, one number");
        assert!(first.0 != second.0 && first.0 != first.1 && second.0 != first.1, "{first:?}");
    });
    assert_eq!(one.broker.tenant_id(name("second")), two.broker.tenant_id(name("second")));
    assert!(site.faults.lock().is_empty(), "{:?}", site.faults.lock());
}

#[test]
fn a_store_that_says_no_is_named_and_nothing_is_acknowledged() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    site.is_full.store(true, Ordering::Relaxed);
    let refused = send(&running.broker, &batch("s", START_MS, 1.0)).recv().expect("answered");
    let refused = refused.expect_err("the store is full");
    assert_eq!(
        refused.to_string(),
        "nothing of this request was stored, send it again later: the store failed: the bucket's \
         quota is used up: raise it"
    );
    assert!(refused.retry_after_seconds().is_some());
    assert!(read(&running.broker).is_empty());
    site.is_full.store(false, Ordering::Relaxed);
    send(&running.broker, &batch("s", START_MS, 1.0)).recv().expect("answered").expect("stored");
    assert_eq!(read(&running.broker).len(), 1);
}

#[test]
fn a_damaged_segment_is_left_out_of_a_start_and_counted() {
    let (runtime, site, disk) = (runtime(), Arc::<Site>::default(), MemoryDisk::new());
    let running = start(&runtime, &site, 1, &disk);
    for t_ms in [START_MS, START_MS + 1, START_MS + 2] {
        send(&running.broker, &batch("s", t_ms, 1.0)).recv().expect("answered").expect("stored");
    }
    running.stop(&runtime, &site, 1);
    let segments = objects(&site, "segments/");
    assert_eq!(segments.len(), 3);
    let whole = site.objects.lock()[&segments[1]].clone();
    let mut damaged = whole.to_vec();
    damaged[60] ^= 1;
    site.objects.lock().insert(segments[1].clone(), damaged.into());
    let again = start(&runtime, &site, 1, &disk);
    assert_eq!(again.broker.recovered().unusable_frames, 1);
    assert_eq!(again.broker.corruptions(), 1);
    let times: Vec<i64> = read(&again.broker).into_keys().map(|(_, t_ms)| t_ms).collect();
    assert_eq!(times, [START_MS, START_MS + 2]);
    // It is flushed past, stays for who wants to look at it, and answers say that it is missing.
    flush(&again.broker);
    wait_for_segments(&site, 1);
    assert_eq!(objects(&site, "segments/"), [segments[1].clone()]);
    let missing = |broker: &Broker| {
        broker.reader(DEFAULT_TENANT).missing(TimeRange::new(START_MS + 1, START_MS + 2))
    };
    assert!(
        missing(&again.broker)[0].contains("segment 1 of broker"),
        "{:?}",
        missing(&again.broker)
    );
    assert!(again.broker.reader(DEFAULT_TENANT).missing(TimeRange::new(0, START_MS)).is_empty());
    again.stop(&runtime, &site, 1);
    // Restored from a copy: the next start reads it, and it goes into blocks with what comes.
    site.objects.lock().insert(segments[1].clone(), whole);
    let restored = start(&runtime, &site, 1, &disk);
    assert_eq!((read(&restored.broker).len(), missing(&restored.broker).len()), (3, 0));
    send(&restored.broker, &batch("s", START_MS + 3, 1.0))
        .recv()
        .expect("answered")
        .expect("stored");
    flush(&restored.broker);
    wait_for_segments(&site, 0);
    assert_eq!((read(&restored.broker).len(), missing(&restored.broker).len()), (4, 0));
}

#[test]
fn who_was_taken_over_acknowledges_nothing_any_more() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    send(&running.broker, &batch("s", START_MS, 1.0)).recv().expect("answered").expect("stored");
    let taken = Command::BeginLog { broker: BrokerId(1) };
    runtime.block_on(running.consensus.propose(taken, Duration::from_secs(5))).expect("a leader");
    let refused = send(&running.broker, &batch("s", START_MS + 1, 1.0)).recv().expect("answered");
    assert!(matches!(refused, Err(CommitError::Fenced(_))), "{refused:?}");
    assert!(!site.faults.lock().is_empty());
}

#[test]
fn what_waits_is_bounded_and_the_largest_batch_passes() {
    let (messages, mut taken) = unbounded_channel();
    let (asked, _) = unbounded_channel();
    let budget = Arc::new(Budget::new(3_000));
    let (budget_of, counters) = (Arc::clone(&budget), Arc::default());
    let is_draining = Arc::default();
    let queue = ClusterQueue { messages, asked, budget: budget_of, is_draining, counters };
    let (told, answers) = channel();
    let write = |rows: usize| {
        let mut batch = Box::new(metricstore::ResolvedBatch::default());
        batch.reset(DEFAULT_TENANT, 1);
        (0..rows).for_each(|row| batch.shards[0].push(0, row as i64, 0.0));
        let told = told.clone();
        let done = Box::new(move |result: Result<_, CommitError>| {
            let _ = told.send(result.map(|_: crate::commit::Stored| ()));
        });
        assert!(queue.send(Message::Write { batch, input: None, mark: None, done }).is_ok());
    };
    write(1_000);
    assert!(answers.try_recv().is_err(), "larger than all, and alone: it waits");
    write(1);
    let refused = answers.try_recv().expect("answered at once").expect_err("too much waits");
    assert!(matches!(refused, CommitError::StoreBehind { limit_bytes: 3_000, .. }), "{refused}");
    assert_eq!(refused.retry_after_seconds(), Some(1));
    let Some(Message::Write { done, .. }) = taken.blocking_recv() else { panic!("one was taken") };
    done(Err(CommitError::Stopping));
    assert_eq!(
        (answers.try_recv().expect("answered"), budget.used()),
        (Err(CommitError::Stopping), 0)
    );
    write(1);
    assert!(answers.try_recv().is_err() && budget.used() > 0, "there is room again");
}
