//! Batches of agents: known ones, gaps, what is passed over, what is shown, what expires.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::time::Duration;

use blockstore::MemoryDisk;
use broker::{
    AgentHello, BatchIdentity, Broker, CommitError, Delivery, Incarnation, Lane, RemoveAgentError,
};
use model::{DEFAULT_TENANT, MetricBatch, MetricMetadata, TenantName};
use support::*;

const SPOOL: Incarnation = Incarnation([3; 16]);

fn identity(lane: Lane, seq: u64, after_seq: u64) -> BatchIdentity {
    BatchIdentity { agent: "web-01".into(), incarnation: SPOOL, lane, seq, after_seq }
}

fn deliver(
    broker: &Broker,
    identity: &BatchIdentity,
    batch: &MetricBatch,
) -> Result<Delivery, CommitError> {
    let (sender, receiver) = channel();
    broker.ingest_from_agent(DEFAULT_TENANT, identity, batch, move |result| {
        let _ = sender.send(result);
    });
    receiver.recv().expect("every batch is answered")
}

/// One row, at a time that says which batch it is.
fn one(seq: u64) -> MetricBatch {
    batch(&[(1, START_MS + seq as i64, seq as f64)])
}

fn live(broker: &Broker, seq: u64, after_seq: u64) -> Result<Delivery, CommitError> {
    deliver(broker, &identity(Lane::Live, seq, after_seq), &one(seq))
}

fn live_through(broker: &Broker) -> u64 {
    let (sender, receiver) = channel();
    broker.agent_marks(&"web-01".into(), SPOOL, move |marks| {
        let _ = sender.send(marks);
    });
    receiver.recv().expect("answered").expect("not stopping").live_through
}

clock!(GAPS, gaps_ms);

#[test]
fn a_refused_batch_is_never_overtaken() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), gaps_ms, NEVER_MS));
    let mut model = Samples::new();
    assert!(!live(&broker, 1, 0).expect("stored").was_known);
    disk.set_capacity_bytes(Some(0));
    assert_eq!(live(&broker, 2, 1), Err(CommitError::Full));
    disk.set_capacity_bytes(None);
    let gap = live(&broker, 3, 2);
    assert_eq!(gap, Err(CommitError::Gap { through: 1 }));
    let text = gap.expect_err("a gap").to_string();
    assert!(text.contains("stored through 1"), "{text}");
    // Those that do not follow it may pass: another lane, or the first of a stream.
    let backlog = identity(Lane::Backlog, 1, 0);
    deliver(&broker, &backlog, &batch(&[(9, START_MS, 9.0)])).expect("stored");
    note(&mut model, &[(9, START_MS, 9.0)]);
    for seq in 1..=3 {
        let delivery = live(&broker, seq, seq - 1).expect("stored");
        assert_eq!(delivery.was_known, seq == 1);
        note(&mut model, &[(1, START_MS + seq as i64, seq as f64)]);
    }
    assert_same(&read_all(&broker), &model, "in order");
    assert_eq!(metric(&broker, "watchfire_broker_agent_batches_known_total"), 1.0);
    let unfit = live(&broker, 3, 3);
    assert!(matches!(unfit, Err(CommitError::Catalog(_))), "{unfit:?}");
    broker.stop();
    assert_eq!(live(&broker, 4, 3), Err(CommitError::Stopping));
}

clock!(ROTTEN, rotten_ms);

#[test]
fn a_damaged_frame_takes_its_mark_with_it_and_no_other() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), rotten_ms, NEVER_MS);
    let broker = open_on(&disk, config.clone());
    for seq in 1..=4 {
        live(&broker, seq, seq - 1).expect("stored");
    }
    broker.stop();
    drop(broker);
    disk.damage("log/00000000000000000001.wfl", |bytes| {
        let magic = [0xf7, b'W', b'F', b'L'];
        let starts: Vec<usize> =
            (0..bytes.len() - 4).filter(|&at| bytes[at..at + 4] == magic).collect();
        // The snapshot, then four batches: the last byte of the second.
        assert_eq!(starts.len(), 5);
        bytes[starts[3] - 1] ^= 1;
    });
    let broker = open_on(&disk, config.clone());
    assert_eq!(broker.recovered().damaged_ranges, 1);
    assert_eq!((live_through(&broker), broker.recovered().samples), (1, 3));
    // Once more, out of the snapshot.
    broker.stop();
    drop(broker);
    let broker = open_on(&disk, config);
    assert_eq!(live_through(&broker), 1);
    let known: Vec<bool> =
        (1..=5).map(|seq| live(&broker, seq, seq - 1).expect("taken").was_known).collect();
    assert_eq!(known, [true, false, true, true, false]);
    assert_eq!(live_through(&broker), 5);
    let mut model = Samples::new();
    (1..=5).for_each(|seq| note(&mut model, &[(1, START_MS + seq, seq as f64)]));
    assert_same(&read_all(&broker), &model, "with what was lost sent again");
}

clock!(PASSED, passed_ms);

#[test]
fn what_leaves_no_sample_moves_the_mark_all_the_same() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), passed_ms, NEVER_MS);
    let broker = open_on(&disk, config.clone());
    PASSED.store(START_MS + HOUR_MS, SeqCst);
    let old = batch(&[(1, START_MS - 20 * DAY_MS, 1.0)]);
    let delivery = deliver(&broker, &identity(Lane::Live, 1, 0), &old).expect("taken");
    let complaint = delivery.outcome.complaint().expect("the sample is too old");
    assert!(complaint.contains("older than the retention"), "{complaint}");
    assert!(complaint.contains(r#"(the first is of m{job="odd", series="1"})"#), "{complaint}");
    let mut said = MetricBatch::default();
    said.metadata.push(MetricMetadata { metric: "m".to_owned(), ..MetricMetadata::default() });
    deliver(&broker, &identity(Lane::Live, 2, 1), &said).expect("taken");
    let (sender, receiver) = channel();
    broker.pass_over_from_agent(&identity(Lane::Live, 3, 2), move |result| {
        let _ = sender.send(result);
    });
    receiver.recv().expect("answered").expect("passed over");
    let broker = open_on(&Arc::new(disk.crash(5)), config);
    assert_eq!(live_through(&broker), 3);
    assert_eq!(broker.recovered().samples, 0);
    assert_eq!(broker.metadata(DEFAULT_TENANT).len(), 1);
    assert!(live(&broker, 3, 2).expect("acknowledged").was_known);
    live(&broker, 4, 3).expect("stored");
}

clock!(SHOWN, shown_ms);

#[tokio::test]
async fn subscribers_see_each_fresh_batch_once_and_no_backlog() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), shown_ms, NEVER_MS));
    let mut feed = broker.subscribe(TenantName::DEFAULT, Vec::new()).expect("below the limit");
    live(&broker, 1, 0).expect("stored");
    live(&broker, 1, 0).expect("known");
    let backlog = identity(Lane::Backlog, 1, 0);
    deliver(&broker, &backlog, &batch(&[(1, START_MS - 7, 0.5)])).expect("stored");
    // Shown when it came, and refused; not shown when it comes again.
    disk.set_capacity_bytes(Some(0));
    live(&broker, 2, 1).expect_err("full");
    disk.set_capacity_bytes(None);
    live(&broker, 2, 1).expect("stored");
    live(&broker, 3, 2).expect("stored");
    let mut shown = Vec::new();
    while let Ok(batch) = tokio::time::timeout(Duration::from_millis(50), feed.next()).await {
        shown.extend(batch.samples.iter().map(|sample| sample.1 - START_MS));
    }
    assert_eq!(shown, [1, 2, 3]);
}

clock!(EXPIRED, expired_ms);

#[test]
fn marks_outlive_the_retention_by_a_day() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), expired_ms, 20));
    live(&broker, 5, 0).expect("stored");
    wait_for_empty_head(&broker);
    EXPIRED.store(START_MS + 15 * DAY_MS + 2 * HOUR_MS + 1, SeqCst);
    wait_for(&broker, "watchfire_broker_expired_blocks_total", |expired| expired == 1.0);
    assert_eq!(live_through(&broker), 5);
    EXPIRED.store(START_MS + 16 * DAY_MS + HOUR_MS, SeqCst);
    wait_until("the mark to expire", || live_through(&broker) == 0);
    // The agent counts on; nothing tells it that it was forgotten.
    live(&broker, 6, 0).expect("taken");
    assert_eq!(live_through(&broker), 6);
}

clock!(GONE, gone_ms);

#[tokio::test]
async fn an_agent_taken_off_the_list_is_back_when_it_connects_and_its_marks_stay() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), gone_ms, NEVER_MS);
    let mut broker = open_on(&disk, config.clone());
    let hello = AgentHello {
        name: "web-01".into(),
        incarnation: SPOOL,
        address: "192.0.2.1:5".to_owned(),
        hostname: "web-01".to_owned(),
        version: "1".to_owned(),
        labels: std::collections::BTreeMap::new(),
        config_hash: String::new(),
        started_ms: START_MS,
        certificate_expires_ms: 0,
    };
    let names = |broker: &Broker| -> Vec<String> {
        broker.fleet().into_iter().map(|row| row.name).collect()
    };
    let session = broker.agent_connected(&hello);
    live(&broker, 1, 0).expect("stored");
    let refused = broker.remove_agent("web-01").await;
    assert!(matches!(refused, Err(RemoveAgentError::Connected(_))), "{refused:?}");
    drop(session);
    broker.remove_agent("web-01").await.expect("it is away");
    assert_eq!(names(&broker), [""; 0]);
    for unknown in ["web-01", "web-02"] {
        let refused = broker.remove_agent(unknown).await;
        assert!(matches!(refused, Err(RemoveAgentError::Unknown(_))), "{refused:?}");
    }
    // Twice: out of the log, and out of the state at its beginning.
    for _ in 0..2 {
        broker.stop();
        drop(broker);
        broker = open_on(&disk, config.clone());
        assert_eq!(names(&broker), [""; 0], "its marks put nobody on the list");
        assert!(live(&broker, 1, 0).expect("stored before").was_known);
    }
    drop(broker.agent_connected(&hello));
    assert_eq!(names(&broker), ["web-01"]);
    broker.stop();
    drop(broker);
    assert_eq!(names(&open_on(&disk, config)), ["web-01"]);
}
