//! Pairs of replicas: one of them is stored, no time twice, through outages, backlogs and kills.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use blockstore::MemoryDisk;
use broker::{Broker, BrokerConfig, HaConfig, IngestOutcome};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TimeRange};
use support::chance::Chance;
use support::*;

clock!(NOW, now_ms);
clock!(STILL, still_ms);

const SCRAPE_MS: i64 = 5_000;

fn settings(now_ms: fn() -> i64) -> BrokerConfig {
    let config = config(std::path::Path::new("/nowhere"), now_ms, NEVER_MS);
    BrokerConfig { ha: Some(HaConfig { max_clusters: 2, ..HaConfig::default() }), ..config }
}

fn labels_of(cluster: &str, replica: &str, job: &str) -> Labels {
    let pairs = [("__name__", "m"), ("__replica__", replica), ("cluster", cluster), ("job", job)];
    Labels::from_pairs(pairs.into_iter().filter(|(_, value)| !value.is_empty())).expect("valid")
}

fn store(broker: &Broker, batch: &MetricBatch) -> IngestOutcome {
    let (sender, receiver) = channel();
    broker.ingest(DEFAULT_TENANT, batch, move |result| {
        let _ = sender.send(result);
    });
    receiver.recv().expect("an answer").expect("stored or left out")
}

fn stored(broker: &Broker) -> BTreeMap<String, Vec<(i64, f64)>> {
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let selected = broker.reader(DEFAULT_TENANT).select(&[matcher], TimeRange::all());
    let selected = selected.expect("readable");
    let read = |(index, labels): (usize, &Labels)| {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values).expect("readable");
        (labels.to_string(), timestamps.into_iter().zip(values).collect())
    };
    selected.labels().iter().enumerate().map(read).collect()
}

/// One of the pair: what it scraped and has not written yet.
#[derive(Default)]
struct Replica {
    waiting: Vec<(i64, f64)>,
    is_away: bool,
}

#[test]
fn no_time_is_stored_twice_and_nothing_acknowledged_is_lost() {
    let mut changes_of_all = 0;
    for seed in 0..30 {
        let mut chance = Chance(seed);
        NOW.store(START_MS, SeqCst);
        let mut disk = Arc::new(MemoryDisk::new());
        let mut broker = open_on(&disk, settings(now_ms));
        let mut replicas = [Replica::default(), Replica::default()];
        let mut expected: Vec<(i64, f64)> = Vec::new();
        // Who was stored, in the order of batches.
        let mut stints: Vec<f64> = Vec::new();
        for step in 0..120 {
            NOW.fetch_add(SCRAPE_MS, SeqCst);
            for (index, replica) in replicas.iter_mut().enumerate() {
                let value = index as f64;
                replica.waiting.push((now_ms() - 1_000 + 37 * index as i64, value));
                // Outages last some steps: shorter and longer than the timeout.
                if chance.below(8) == 0 {
                    replica.is_away = !replica.is_away;
                }
                if replica.is_away {
                    continue;
                }
                let sent = std::mem::take(&mut replica.waiting);
                let labels = labels_of("c", ["a", "b"][index], "j");
                let mut batch = MetricBatch::default();
                let (times, values): (Vec<_>, Vec<_>) = sent.iter().copied().unzip();
                batch.push_rows(&labels, &times, &values);
                let outcome = store(&broker, &batch);
                assert!(outcome.rejects.is_empty(), "{outcome:?}");
                let left_out = outcome.deduplicated as usize;
                assert_eq!(outcome.appended.appended as usize, sent.len() - left_out);
                // What is left out of the elected one is of a time of which the other's is stored.
                expected.extend(&sent[left_out..]);
                if left_out < sent.len() && stints.last() != Some(&value) {
                    stints.push(value);
                }
            }
            if chance.below(20) == 0 {
                disk = Arc::new(disk.crash(seed * 1_000 + step));
                broker = open_on(&disk, settings(now_ms));
            }
        }
        let all = stored(&broker);
        let samples = &all[&labels_of("c", "", "j").to_string()];
        assert_eq!(all.len(), 1, "the replica's label is gone: {:?}", all.keys());
        assert_eq!(*samples, expected, "seed {seed}: in order of time, and nothing else");
        let mut changes: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
        changes.dedup();
        assert_eq!(changes, stints, "seed {seed}: the replicas' times do not overlap");
        changes_of_all += stints.len() - 1;
    }
    assert!(changes_of_all > 60, "the test has but {changes_of_all} failovers");
}

#[test]
fn what_is_of_no_pair_is_stored_as_it_is() {
    let broker = open_on(&Arc::new(MemoryDisk::new()), settings(still_ms));
    let mut batch = MetricBatch::default();
    let t_ms = START_MS;
    for (cluster, replica, job) in
        [("", "a", "1"), ("c", "", "2"), ("c", "a", "3"), ("c", "b", "4"), ("d", "b", "5")]
    {
        batch.push(&labels_of(cluster, replica, job), t_ms, 1.0);
    }
    batch.push(&labels_of("e", "x", "6"), t_ms, 1.0);
    batch.push_histogram(&labels_of("e", "x", "7"), t_ms, None, model::Histogram::stale());
    let outcome = store(&broker, &batch);
    assert_eq!((outcome.appended.appended, outcome.deduplicated), (4, 1));
    assert_eq!(outcome.note, "replicas did not match, rejecting sample: replica=b, elected=a");
    let complaint = outcome.complaint().expect("a third cluster");
    assert!(
        complaint.starts_with("2 samples refused: too many HA clusters: 2 are known")
            && complaint.contains("ha_tracker.max_clusters")
            && complaint.contains("cluster=\"e\""),
        "{complaint}"
    );
    let names: Vec<_> = stored(&broker).into_keys().collect();
    assert_eq!(
        names,
        [
            labels_of("", "a", "1").to_string(),
            labels_of("c", "", "2").to_string(),
            labels_of("c", "", "3").to_string(),
            labels_of("d", "", "5").to_string(),
        ]
    );
    assert!(!outcome.is_deduplicated(), "something was stored");
    let mut batch = MetricBatch::default();
    batch.push(&labels_of("c", "b", "4"), t_ms, 1.0);
    assert!(store(&broker, &batch).is_deduplicated());
    assert_eq!(metric(&broker, "watchfire_broker_ha_samples_deduplicated_total"), 2.0);
    assert_eq!(metric(&broker, "watchfire_broker_ha_samples_refused_total"), 2.0);
    assert_eq!(metric(&broker, "watchfire_broker_ha_clusters"), 2.0);
    assert_eq!(metric(&broker, "watchfire_broker_ha_elections_total"), 2.0);
}

clock!(MANY, many_ms);

/// A label of replicas that differs in each series must not hold everybody up.
#[test]
fn a_batch_may_have_as_many_replicas_as_series() {
    const REPLICAS: usize = 100_000;
    let broker = open_on(&Arc::new(MemoryDisk::new()), settings(many_ms));
    let mut batch = MetricBatch::default();
    for job in ["x", "y"] {
        for replica in 0..REPLICAS {
            batch.push(&labels_of("c", &replica.to_string(), job), START_MS, replica as f64);
        }
    }
    let outcome = store(&broker, &batch);
    // The first one is elected, for both of its series.
    assert_eq!(outcome.appended.appended, 2);
    assert_eq!(outcome.deduplicated, 2 * (REPLICAS as u64 - 1));
    assert!(stored(&broker).values().all(|samples| *samples == [(START_MS, 0.0)]));
}

clock!(RENAMED, renamed_ms);

/// Other labels name other replicas: none of them waits for one that cannot come any more. Where pairs are
/// told apart again, the elected one has the whole timeout to come back.
#[test]
fn a_reload_of_labels_keeps_no_replica_out() {
    RENAMED.store(START_MS, SeqCst);
    let broker = open_on(&Arc::new(MemoryDisk::new()), settings(renamed_ms));
    let put = |ha: Option<HaConfig>| {
        let mut settings = broker.adjustable();
        settings.ha = ha;
        broker.put_settings(broker.prepare_settings(settings).expect("nothing may fail"));
    };
    let push = |label: &str, replica: &str| {
        let pairs = [("__name__", "m"), (label, replica), ("cluster", "c")];
        let mut batch = MetricBatch::default();
        RENAMED.fetch_add(1_000, SeqCst);
        batch.push(&Labels::from_pairs(pairs).expect("valid"), renamed_ms(), 1.0);
        store(&broker, &batch).appended.appended
    };
    assert_eq!((push("__replica__", "a"), push("__replica__", "b")), (1, 0));
    put(Some(HaConfig { replica_label: "prometheus".to_owned(), ..HaConfig::default() }));
    assert_eq!((push("prometheus", "0"), push("prometheus", "1")), (1, 0));
    // Neither another timeout nor none at all changes who is elected.
    let label = "prometheus".to_owned();
    let other = HaConfig { replica_label: label, max_clusters: 7, ..HaConfig::default() };
    put(Some(other.clone()));
    assert_eq!((push("prometheus", "1"), push("prometheus", "0")), (0, 1));
    put(None);
    RENAMED.fetch_add(40_000, SeqCst);
    put(Some(other));
    assert_eq!((push("prometheus", "1"), push("prometheus", "0")), (0, 1));
    broker.stop();
}
