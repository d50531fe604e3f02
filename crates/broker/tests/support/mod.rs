//! A broker under test, and the naive model beside it: a map from series and time to the bits that
//! were committed first.
#![allow(dead_code, reason = "every test binary uses a part of this")]

pub(crate) mod chance;
pub(crate) mod site;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use blockstore::Disk;
use broker::{Broker, BrokerConfig, CommitError, IngestOutcome};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, MetricBatch, TimeRange};

pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-11-21, at the start of a window of two hours.
pub(crate) const START_MS: i64 = 1_795_219_200_000;
/// So long that nothing is flushed unless the test wants it.
pub(crate) const NEVER_MS: i64 = DAY_MS;

/// A clock of a test's own: `clock!(CLOCK, now_ms)` defines the time and the function that tells it.
#[macro_export]
macro_rules! clock {
    ($clock:ident, $now_ms:ident) => {
        static $clock: std::sync::atomic::AtomicI64 =
            std::sync::atomic::AtomicI64::new($crate::support::START_MS);
        fn $now_ms() -> i64 {
            $clock.load(std::sync::atomic::Ordering::SeqCst)
        }
    };
}

pub(crate) fn config(data: &Path, now_ms: fn() -> i64, flush_interval_ms: i64) -> BrokerConfig {
    BrokerConfig {
        flush_interval_ms,
        max_exemplars: 1_000,
        remote_write_limit_bytes: 1 << 30,
        shards: 3,
        rollups: Vec::new(),
        ..BrokerConfig::new(data.to_owned(), now_ms)
    }
}

pub(crate) fn open(config: BrokerConfig) -> Broker {
    Broker::open(config, Arc::default()).expect("the store opens")
}

pub(crate) fn open_on(disk: &Arc<impl Disk + 'static>, config: BrokerConfig) -> Broker {
    Broker::open_on(Arc::clone(disk) as Arc<dyn Disk>, config, Arc::default()).expect("opens")
}

pub(crate) fn labels(series: usize) -> Labels {
    let (number, job) = (series.to_string(), if series.is_multiple_of(2) { "even" } else { "odd" });
    Labels::from_pairs([("__name__", "m"), ("job", job), ("series", &number)]).expect("valid")
}

pub(crate) type Answer = Result<IngestOutcome, CommitError>;

/// Sends a batch and yields where its answer will come.
pub(crate) fn send(broker: &Broker, batch: &MetricBatch) -> Receiver<Answer> {
    let (sender, receiver) = channel();
    broker.ingest(DEFAULT_TENANT, batch, move |result| {
        let _ = sender.send(result);
    });
    receiver
}

pub(crate) fn ingest(broker: &Broker, rows: &[(usize, i64, f64)]) -> Answer {
    send(broker, &batch(rows)).recv().expect("every batch is answered")
}

pub(crate) fn batch(rows: &[(usize, i64, f64)]) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for &(series, t_ms, value) in rows {
        batch.push(&labels(series), t_ms, value);
    }
    batch
}

pub(crate) type Samples = BTreeMap<(String, i64), u64>;

/// Notes rows as the contract says: the first value of a series and time stays.
pub(crate) fn note(model: &mut Samples, rows: &[(usize, i64, f64)]) {
    for &(series, t_ms, value) in rows {
        model.entry((labels(series).to_string(), t_ms)).or_insert(value.to_bits());
    }
}

/// Everything the broker has. Fails if a time comes twice.
pub(crate) fn read_all(broker: &Broker) -> Samples {
    read(broker, TimeRange::all())
}

pub(crate) fn read(broker: &Broker, range: TimeRange) -> Samples {
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let selected =
        broker.reader(DEFAULT_TENANT).select(&[matcher], range).expect("every block is readable");
    let mut samples = Samples::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut timestamps, &mut values).expect("every block is readable");
        assert!(timestamps.is_sorted_by(|a, b| a < b), "{labels}: times ascend and differ");
        for (t_ms, value) in timestamps.into_iter().zip(values) {
            samples.insert((labels.to_string(), t_ms), value.to_bits());
        }
    }
    samples
}

/// Fails with the first difference instead of two maps of thousands of samples.
#[track_caller]
pub(crate) fn assert_same(found: &Samples, expected: &Samples, when: &str) {
    let lost = expected.iter().find(|(key, bits)| found.get(key) != Some(bits));
    let invented = found.iter().find(|(key, _)| !expected.contains_key(key));
    assert!(
        lost.is_none() && invented.is_none(),
        "{when}: {} samples found, {} expected; lost or changed: {lost:?}, invented: {invented:?}",
        found.len(),
        expected.len(),
    );
}

pub(crate) fn metric(broker: &Broker, name: &str) -> f64 {
    let rows = broker.metrics();
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no metric {name}")).value
}

/// Waits until a metric satisfies `done`; maintenance works on a thread of its own.
#[track_caller]
pub(crate) fn wait_for(broker: &Broker, name: &str, done: impl Fn(f64) -> bool) {
    wait_until(name, || done(metric(broker, name)));
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until nothing is left in the head.
#[track_caller]
pub(crate) fn wait_for_empty_head(broker: &Broker) {
    wait_for(broker, "watchfire_broker_head_samples", |samples| samples == 0.0);
}
