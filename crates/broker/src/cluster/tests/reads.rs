//! Reads at any broker: complete, or told not to be.

use std::sync::atomic::AtomicI64;

use model::{
    BucketLayout, CensusOrder, CensusRequest, Exemplar, Histogram, IntegerHistogram, NameSearch,
    SearchAlgorithm, SearchOrder,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::Reader;

pub(super) struct Three {
    pub(super) brokers: Vec<Option<Running>>,
    pub(super) site: Arc<Site>,
    /// Last: brokers end on it.
    pub(super) runtime: Runtime,
}

impl Three {
    pub(super) fn start() -> Three {
        let (runtime, site) = (runtime(), Arc::<Site>::default());
        let start = |id| Some(start(&runtime, &site, id, &MemoryDisk::new()));
        let brokers = (1..=3).map(start).collect();
        Three { brokers, site, runtime }
    }

    pub(super) fn at(&self, id: usize) -> &Broker {
        &self.brokers[id - 1].as_ref().expect("it runs").broker
    }

    pub(super) fn kill(&mut self, id: usize) {
        let running = self.brokers[id - 1].take().expect("it runs");
        running.kill(&self.runtime, &self.site, id as u64);
    }

    fn running(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().flatten().map(|running| &running.broker)
    }

    /// What every broker reads: the same, and nothing is missing.
    #[track_caller]
    pub(super) fn read(&self) -> BTreeMap<(String, i64), f64> {
        let mut all = self.running().map(whole);
        let first = all.next().expect("one runs");
        all.for_each(|other| assert_eq!(other, first));
        first
    }
}

pub(super) fn stored(broker: &Broker, batch: &MetricBatch) {
    send(broker, batch).recv().expect("answered").expect("stored");
}

pub(super) fn read_with(reader: &Reader) -> BTreeMap<(String, i64), f64> {
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let selected = reader.select(&[matcher], TimeRange::all()).expect("readable");
    let mut samples = BTreeMap::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        selected.read(index, &mut times, &mut values).expect("readable");
        let series = labels.get("series").expect("all have it").to_owned();
        for (t_ms, value) in times.into_iter().zip(values) {
            let before = samples.insert((series.clone(), t_ms), value);
            assert_eq!(before, None, "{series} at {t_ms} is there twice");
        }
    }
    samples
}

#[track_caller]
pub(super) fn whole(broker: &Broker) -> BTreeMap<(String, i64), f64> {
    let reader = broker.reader(DEFAULT_TENANT);
    let found = read_with(&reader);
    assert_eq!(reader.missing(TimeRange::all()), [] as [String; 0]);
    found
}

pub(super) fn series_is(value: &str) -> Vec<Matcher> {
    vec![Matcher::new("series", MatchOp::Equal, value).expect("no regex")]
}

#[test]
fn what_one_acknowledged_all_can_read_and_a_dead_ones_segments_are_read() {
    let mut three = Three::start();
    let mut expected = BTreeMap::new();
    let mut write = |three: &Three, id: usize, series: &str, t_ms: i64| {
        stored(three.at(id), &batch(series, START_MS + t_ms, t_ms as f64));
        expected.insert((series.to_owned(), START_MS + t_ms), t_ms as f64);
        expected.clone()
    };
    for t_ms in 0..12 {
        let id = 1 + t_ms as usize % 3;
        let expected = write(&three, id, ["a", "b"][t_ms as usize % 2], t_ms);
        assert_eq!(whole(three.at(1 + (id % 3))), expected, "another broker sees it at once");
    }
    // The same sample at two brokers is one.
    stored(three.at(1), &batch("both", START_MS, 1.0));
    stored(three.at(2), &batch("both", START_MS, 1.0));
    let mut expected = write(&three, 3, "both", 0);
    expected.insert(("both".to_owned(), START_MS), 1.0);
    assert_eq!(three.read().len(), expected.len());
    flush(three.at(1));
    stored(three.at(1), &batch("after", START_MS + 50, 50.0));
    expected.insert(("after".to_owned(), START_MS + 50), 50.0);
    three
        .at(2)
        .delete_series(DEFAULT_TENANT, &[series_is("b")], TimeRange::all())
        .expect("a leader");
    expected.retain(|(series, _), _| series != "b");
    assert_eq!(
        three.read().into_keys().collect::<Vec<_>>(),
        expected.keys().cloned().collect::<Vec<_>>()
    );
    stored(three.at(2), &batch("b", START_MS + 60, 60.0));
    expected.insert(("b".to_owned(), START_MS + 60), 60.0);
    // It may have led: another one is elected while the first query waits.
    three.kill(2);
    for _ in 0..2 {
        let found = three.read();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    }
    let read_before = three
        .at(1)
        .inner
        .clustered
        .as_ref()
        .expect("it is one")
        .peers
        .counters
        .segments_read
        .load(Ordering::Relaxed);
    assert!(read_before > 0);
    // A delete hides what the dead one has, also where its segments were read before.
    three
        .at(3)
        .delete_series(DEFAULT_TENANT, &[series_is("both")], TimeRange::all())
        .expect("a leader");
    expected.retain(|(series, _), _| series != "both");
    assert_eq!(three.read().keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let read_after = three
        .at(1)
        .inner
        .clustered
        .as_ref()
        .expect("it is one")
        .peers
        .counters
        .segments_read
        .load(Ordering::Relaxed);
    assert_eq!(read_after, read_before, "what was read once is kept");
    assert!(three.site.faults.lock().is_empty(), "{:?}", three.site.faults.lock());
}

#[test]
fn what_cannot_be_read_is_told() {
    let mut three = Three::start();
    stored(three.at(1), &batch("one", START_MS, 1.0));
    stored(three.at(3), &batch("three", START_MS, 3.0));
    three.site.silent.lock().insert(3);
    let began = Instant::now();
    assert_eq!(three.read().len(), 2, "its segments have it");
    let began_again = Instant::now();
    assert_eq!(three.read().len(), 2);
    let (first, second) = (began_again - began, began_again.elapsed());
    assert!(
        first < Duration::from_secs(5) && second < Duration::from_secs(1),
        "{first:?} {second:?}"
    );
    three.site.silent.lock().clear();
    three.kill(3);
    three.site.is_down.store(true, Ordering::Relaxed);
    // It was read above, and begins anew.
    *three.at(1).inner.clustered.as_ref().expect("it is one").peers.known.lock() = BTreeMap::new();
    let ask = || {
        let reader = three.at(1).reader(DEFAULT_TENANT);
        let found = read_with(&reader);
        assert_eq!(found.into_keys().map(|(series, _)| series).collect::<Vec<_>>(), ["one"]);
        let missing = reader.missing(TimeRange::all());
        assert_eq!(missing.len(), 1, "{missing:?}");
        for part in ["partial answer", "broker b3", "segments from number 0 on"] {
            assert!(missing[0].contains(part), "{missing:?}");
        }
        assert!(!reader.misses_nothing());
    };
    // One waits for the store, not one after the other.
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(ask);
        }
    });
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
    three.site.is_down.store(false, Ordering::Relaxed);
    assert_eq!(three.read().len(), 2);
    // One that is gone is told, and the others are read.
    let other = three.at(2).reader(DEFAULT_TENANT);
    stored(three.at(1), &batch("late", START_MS, 1.0));
    assert_eq!(read_with(&other).len(), 3);
    let of_three = objects(&three.site, &format!("segments/{}/", BrokerId(3)));
    assert_eq!(of_three.len(), 1);
    three.site.objects.lock().remove(&of_three[0]);
    let third = &three.brokers[1].as_ref().expect("it runs").broker;
    *third.inner.clustered.as_ref().expect("it is one").peers.known.lock() = BTreeMap::new();
    let reader = third.reader(DEFAULT_TENANT);
    assert_eq!(read_with(&reader).len(), 2);
    let missing = reader.missing(TimeRange::all());
    assert!(missing.len() == 1 && missing[0].contains("its segment 0 with 1 rows"), "{missing:?}");
}

#[test]
fn flushes_between_reads_lose_and_double_nothing() {
    let three = Three::start();
    let is_over = AtomicBool::new(false);
    let acknowledged = [const { AtomicI64::new(0) }; 3];
    std::thread::scope(|scope| {
        for id in 1..=3 {
            let (three, is_over, acknowledged) = (&three, &is_over, &acknowledged);
            scope.spawn(move || {
                for t_ms in 0..i64::MAX {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let series = format!("s{id}");
                    stored(three.at(id), &batch(&series, START_MS + t_ms, t_ms as f64));
                    acknowledged[id - 1].store(t_ms + 1, Ordering::Release);
                    if t_ms % 4 == 3 {
                        flush(three.at(id));
                    }
                }
            });
        }
        let readers: Vec<_> = (1..=3)
            .map(|id| {
                let (three, acknowledged) = (&three, &acknowledged);
                scope.spawn(move || {
                    for _ in 0..25 {
                        let before: Vec<i64> =
                            acknowledged.iter().map(|one| one.load(Ordering::Acquire)).collect();
                        let found = whole(three.at(id));
                        for (of, before) in (1..).zip(before) {
                            let series = format!("s{of}");
                            let there = found.range((series.clone(), 0)..(series, i64::MAX));
                            let times: Vec<i64> = there.map(|((_, t), _)| t - START_MS).collect();
                            let count = i64::try_from(times.len()).expect("few");
                            assert!(
                                count >= before,
                                "broker {id} lacks {before} - {count} of s{of}"
                            );
                            assert!(times.into_iter().eq(0..count), "a hole in s{of}");
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a reader failed");
    });
    let written: i64 = acknowledged.iter().map(|one| one.load(Ordering::Relaxed)).sum();
    assert_eq!(three.read().len() as i64, written);
    assert!(three.site.faults.lock().is_empty(), "{:?}", three.site.faults.lock());
}

#[test]
fn histograms_starts_names_exemplars_and_counts_come_from_all() {
    let three = Three::start();
    let labels =
        |series: &str| Labels::from_pairs([("__name__", "m"), ("series", series)]).expect("valid");
    let mut given = MetricBatch::default();
    let mut histogram = IntegerHistogram::empty(BucketLayout::default().into());
    (histogram.count, histogram.zero_count, histogram.sum) = (3, 3, 4.5);
    let histogram = Histogram::Integer(histogram);
    given.push_histogram(&labels("h"), START_MS, Some(START_MS - 1_000), histogram.clone());
    given.push(&labels("f"), START_MS, 1.0);
    let exemplar = Exemplar {
        labels: Labels::from_pairs([("trace_id", "x")]).expect("valid"),
        value: 2.0,
        t_ms: START_MS,
        is_dated: true,
    };
    given.push_exemplar(&labels("f"), &exemplar);
    stored(three.at(1), &given);
    // Once more at another one: one sample.
    stored(three.at(2), &given);
    stored(three.at(2), &batch("own", START_MS, 1.0));
    for when in ["from heads", "from blocks and heads"] {
        for broker in three.running() {
            let reader = broker.reader(DEFAULT_TENANT);
            let selected = reader.select(&series_is("h"), TimeRange::all()).expect("readable");
            let (mut times, mut values) = (Vec::new(), Vec::new());
            let mut histograms = metricstore::HistogramColumns::default();
            selected.read_all(0, &mut times, &mut values, &mut histograms).expect("readable");
            assert_eq!((selected.len(), times.len(), histograms.len()), (1, 0, 1), "{when}");
            assert_eq!(histograms.start_ms, [START_MS - 1_000], "{when}");
            assert!(histograms.histograms[0].says_the_same(&histogram), "{when}");
            let all = TimeRange::all();
            let names = reader.label_names(&[], all, 10).expect("memory");
            assert_eq!(names, ["__name__", "series"], "{when}");
            let values = reader.label_values("series", &[], all, 2).expect("memory");
            assert_eq!(values, ["f", "h"], "{when}");
            let search = NameSearch {
                terms: vec!["ow".to_owned()],
                algorithm: SearchAlgorithm::Subsequence,
                threshold: 0.0,
                folds_case: false,
                order: SearchOrder::Ascending,
                limit: 5,
            };
            let found = reader.search(Some("series"), &[], all, &search).expect("memory");
            assert_eq!(found.len(), 1, "{when}");
            assert_eq!(reader.series(&[], all, 10).expect("memory").len(), 3, "{when}");
            let exemplars = reader.exemplars(&[series_is("f")], all).expect("memory");
            assert_eq!(exemplars.len(), 1, "{when}: {exemplars:?}");
            assert_eq!(exemplars[0].exemplars, std::slice::from_ref(&exemplar), "{when}");
            let request = CensusRequest {
                selectors: Vec::new(),
                range: all,
                before: None,
                limit: 10,
                order: CensusOrder::Count,
                focus: None,
            };
            let census = reader.census(&request).expect("memory");
            assert_eq!(census.series.count, 3, "{when}");
            let (cardinality, head) = reader.cardinality(10).expect("memory");
            assert!(cardinality.series >= 3 && head.range.contains(START_MS), "{when}");
            assert_eq!(reader.missing(all), [] as [String; 0]);
        }
        flush(three.at(1));
    }
}

#[test]
fn names_of_tenants_metadata_and_agents_follow_the_catalog() {
    let three = Three::start();
    let name = TenantName::parse("acme").expect("a name");
    let tenant = three.at(1).tenant_for_write(name).expect("room");
    let mut given = batch("s", START_MS, 1.0);
    given.metadata.push(model::MetricMetadata {
        metric: "m".to_owned(),
        kind: model::MetricType::Counter,
        help: "helps".to_owned(),
        unit: "bytes".to_owned(),
    });
    let (reply, answer) = channel();
    three.at(1).ingest(tenant, &given, move |result| _ = reply.send(result));
    answer.recv().expect("answered").expect("stored");
    let end = Instant::now() + Duration::from_secs(10);
    for id in [2, 3] {
        let broker = three.at(id);
        while broker.metadata(tenant).is_empty()
            || !broker.tenants().iter().any(|row| row.name == name)
        {
            assert!(Instant::now() < end, "broker {id} does not follow");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(broker.metadata(tenant)[0].help, "helps");
        assert_eq!(broker.tenant_id(name), tenant);
        let found = broker.reader(tenant).select(&series_is("s"), TimeRange::all());
        assert_eq!(found.expect("readable").len(), 1);
    }
}

/// What somebody does to the brokers.
#[derive(Debug, Clone)]
enum Step {
    Write { at: usize, minute: i64 },
    Delete { at: usize, minute: i64 },
    Flush { at: usize },
    Ask { at: usize },
}

#[test]
fn results_that_are_kept_hold_until_they_are_told_not_to() {
    let three = Three::start();
    let step = prop_oneof![
        6 => (1..=3_usize, 0..90_i64).prop_map(|(at, minute)| Step::Write { at, minute }),
        1 => (1..=3_usize, 1..90_i64).prop_map(|(at, minute)| Step::Delete { at, minute }),
        1 => (1..=3_usize).prop_map(|at| Step::Flush { at }),
        6 => (1..=3_usize).prop_map(|at| Step::Ask { at }),
    ];
    let mut runner =
        TestRunner::new(Config { cases: 6, failure_persistence: None, ..Config::default() });
    let number = AtomicI64::new(0);
    // By broker: the number of changes before the result was read, and the result.
    let kept = Mutex::new(BTreeMap::<usize, (u64, u64, BTreeMap<(String, i64), f64>)>::new());
    let run = |steps: Vec<Step>| {
        for step in steps {
            let unique = number.fetch_add(1, Ordering::Relaxed);
            match step {
                Step::Write { at, minute } => {
                    let t_ms = START_MS - minute * 60_000 - unique % 60_000;
                    stored(three.at(at), &batch("s", t_ms, unique as f64));
                }
                Step::Delete { at, minute } => {
                    let range = TimeRange::new(START_MS - minute * 60_000, START_MS);
                    let deleted =
                        three.at(at).delete_series(DEFAULT_TENANT, &[series_is("s")], range);
                    deleted.expect("a leader");
                }
                Step::Flush { at } => flush(three.at(at)),
                Step::Ask { at } => {
                    let broker = three.at(at);
                    let known = kept.lock().get(&at).cloned();
                    let since = known.as_ref().map_or(u64::MAX, |(_, number, _)| *number);
                    let changes = broker.changes_since(since, TimeRange::all());
                    let found = whole(broker);
                    if let Some((store, _, before)) = known {
                        prop_assert_eq!(store, changes.store);
                        let is_told =
                            |t_ms: i64| changes.ranges.iter().any(|(r, _)| r.contains(t_ms));
                        let differs =
                            |place: &&(String, i64)| before.get(*place) != found.get(*place);
                        let places = before.keys().chain(found.keys()).filter(differs);
                        for (_, t_ms) in places {
                            prop_assert!(is_told(*t_ms), "{} was not told", t_ms - START_MS);
                        }
                    }
                    kept.lock().insert(at, (changes.store, changes.number, found));
                }
            }
        }
        Ok(())
    };
    runner.run(&prop::collection::vec(step, 30..60), run).expect("no change is left out");
}
