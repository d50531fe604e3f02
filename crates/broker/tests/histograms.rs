//! The life of native histograms: log, head, blocks, merges, power cuts, retention, quarantine;
//! always read back against a naive model.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use blockstore::{Disk as _, MemoryDisk};
use broker::Broker;
use metricstore::HistogramColumns;
use model::{
    BucketLayout, DEFAULT_TENANT, Histogram, IntegerHistogram, MatchOp, Matcher, MetricBatch, Span,
    TimeRange,
};
use support::*;

/// What the series with this number has at a step: buckets appear with time, one series in four is
/// a float now and then.
fn histogram(series: usize, step: i64) -> Option<Histogram> {
    if series.is_multiple_of(4) && step % 5 == 3 {
        return None;
    }
    let buckets = 1 + (step as u32 + series as u32) % 9;
    let layout = BucketLayout {
        schema: 2 + i32::from(step > 40),
        zero_threshold: 1e-9,
        positive: vec![Span { offset: -(series as i32), len: buckets }],
        ..BucketLayout::default()
    };
    let mut histogram = IntegerHistogram::empty(layout.into());
    for (place, count) in histogram.positive.iter_mut().enumerate() {
        *count = 1 + step as u64 * (place as u64 + 1);
    }
    histogram.zero_count = 2;
    histogram.count = histogram.positive.iter().sum::<u64>() + 2;
    histogram.sum = step as f64 * 0.75;
    Some(Histogram::Integer(histogram))
}

/// A sample in one form, whatever layout it is read with.
fn shown(start_ms: i64, histogram: &Histogram) -> String {
    let mut histogram = histogram.clone();
    histogram.compact(0);
    format!("{start_ms} {histogram:?}")
}

type Found = BTreeMap<(String, i64), String>;

fn read_both(broker: &Broker) -> Found {
    let matcher = Matcher::new("__name__", MatchOp::Equal, "m").expect("no regex");
    let reader = broker.reader(DEFAULT_TENANT);
    let selected = reader.select(&[matcher], TimeRange::all()).expect("every block is readable");
    let mut found = Found::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let mut histograms = HistogramColumns::default();
        selected
            .read_all(index, &mut timestamps, &mut values, &mut histograms)
            .expect("every block is readable");
        for (t_ms, value) in timestamps.into_iter().zip(values) {
            found.insert((labels.to_string(), t_ms), value.to_string());
        }
        for (place, &t_ms) in histograms.timestamps_ms.iter().enumerate() {
            let sample = shown(histograms.start_ms[place], &histograms.histograms[place]);
            let before = found.insert((labels.to_string(), t_ms), sample);
            assert_eq!(before, None, "{labels} has a float and a histogram at {t_ms}");
        }
    }
    found
}

/// A scrape of `series` series at a step; the model learns what is new.
fn scrape(series: usize, step: i64, t_ms: i64, model: &mut Found) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for series in 0..series {
        let start_ms = (series % 2 == 1).then_some(START_MS);
        let sample = match histogram(series, step) {
            Some(histogram) => {
                let sample = shown(start_ms.unwrap_or(0), &histogram);
                batch.push_histogram(&labels(series), t_ms, start_ms, histogram);
                sample
            }
            None => {
                batch.push(&labels(series), t_ms, step as f64);
                (step as f64).to_string()
            }
        };
        model.entry((labels(series).to_string(), t_ms)).or_insert(sample);
    }
    batch
}

#[track_caller]
fn assert_both(broker: &Broker, model: &Found, when: &str) {
    let found = read_both(broker);
    let differs = model.iter().find(|(key, sample)| found.get(key) != Some(sample));
    let shown = differs.map(|(key, sample)| (key, sample, found.get(key)));
    assert!(shown.is_none() && found.len() == model.len(), "{when}: {shown:?}");
}

fn store(broker: &Broker, batch: &MetricBatch) -> broker::IngestOutcome {
    send(broker, batch).recv().expect("every batch is answered").expect("stored")
}

clock!(LIFE, life_ms);

#[test]
fn histograms_are_the_same_through_power_cuts_flushes_and_merges() {
    let mut disk = Arc::new(MemoryDisk::new());
    let mut model = Found::new();
    for round in 0..6_i64 {
        let flush_ms = if round % 2 == 0 { 20 } else { NEVER_MS };
        let broker = open_on(&disk, config("unused".as_ref(), life_ms, flush_ms));
        assert_both(&broker, &model, "after the power cut");
        for step in round * 12..(round + 1) * 12 {
            let t_ms = START_MS + step * 10 * MINUTE_MS;
            LIFE.store(t_ms + MINUTE_MS, SeqCst);
            let batch = scrape(10, step, t_ms, &mut model);
            let outcome = store(&broker, &batch);
            assert_eq!((outcome.appended.appended, outcome.rejects.len()), (10, 0));
            // Late: another histogram where there is a sample, and one where there is none.
            let late = scrape(3, step + 1, t_ms - 5 * MINUTE_MS, &mut model);
            store(&broker, &late);
            store(&broker, &scrape(3, step + 2, t_ms, &mut model));
        }
        if flush_ms < NEVER_MS {
            wait_for_empty_head(&broker);
        }
        assert_both(&broker, &model, "before the power cut");
        drop(broker);
        disk = Arc::new(disk.crash(round as u64));
    }
    LIFE.store(START_MS + 2 * DAY_MS, SeqCst);
    let broker = open_on(&disk, config("unused".as_ref(), life_ms, 20));
    wait_for_empty_head(&broker);
    wait_for(&broker, "watchfire_broker_merges_total", |merges| merges >= 1.0);
    assert_both(&broker, &model, "merged");
}

clock!(EXPIRY, expiry_ms);

#[test]
fn histograms_expire() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), expiry_ms, 20));
    let mut model = Found::new();
    store(&broker, &scrape(4, 0, START_MS, &mut model));
    wait_for_empty_head(&broker);
    assert_both(&broker, &model, "in a block");
    EXPIRY.store(START_MS + 15 * DAY_MS + 2 * HOUR_MS + 1, SeqCst);
    wait_for(&broker, "watchfire_broker_expired_blocks_total", |expired| expired >= 1.0);
    assert_both(&broker, &Found::new(), "expired");
    let outcome = store(&broker, &scrape(4, 0, START_MS, &mut model));
    let complaint = outcome.complaint().expect("a complaint");
    assert!(complaint.contains("4 samples refused: timestamp is older"), "{complaint}");
}

clock!(DAMAGE, damage_ms);

#[test]
fn a_damaged_block_of_histograms_is_put_aside() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), damage_ms, 20);
    let broker = open_on(&disk, config.clone());
    let mut model = Found::new();
    store(&broker, &scrape(4, 0, START_MS, &mut model));
    wait_for_empty_head(&broker);
    let mut later = Found::new();
    store(&broker, &scrape(4, 1, START_MS - 5 * HOUR_MS, &mut later));
    wait_for_empty_head(&broker);
    broker.stop();
    drop(broker);
    let path = disk.list("blocks").expect("memory").into_iter().map(|file| file.key).min();
    let path = path.expect("two blocks");
    disk.damage(&path, |bytes| {
        let middle = bytes.len() - 100;
        bytes[middle] ^= 0xff;
    });
    let broker = open_on(&disk, config);
    assert_both(&broker, &later, "without the damaged block");
    let missing = broker.reader(DEFAULT_TENANT).missing(TimeRange::all());
    assert!(missing.len() == 1 && missing[0].contains("quarantine"), "{missing:?}");
}
