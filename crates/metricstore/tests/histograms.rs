//! Native histograms in storage: conflicts, resets, refusals, damage, bytes, sizes.

use std::sync::Arc;

use blockstore::{BlockFormat, InMemory};
use metricstore::{
    Admission, BlockSource, Deletes, FlushPlan, HeadSnapshot, HistogramColumns, LogDecoder,
    LogEncoder, MetricFormat, NewSeries, Registry, ResolvedBatch, Selected, Shard,
};
use model::{
    BucketLayout, DEFAULT_TENANT, Histogram, IntegerHistogram, Labels, Limits, MetricBatch,
    ResetHint, Span, TimeRange,
};

fn labels(host: &str) -> Labels {
    Labels::from_pairs([("__name__", "latency"), ("host", host)]).expect("labels")
}

fn layout(schema: i32, spans: &[(i32, u32)]) -> BucketLayout {
    let positive = spans.iter().map(|&(offset, len)| Span { offset, len }).collect();
    BucketLayout { schema, positive, ..BucketLayout::default() }
}

/// A histogram with these counts; all of them together are its count.
fn histogram(layout: BucketLayout, counts: &[u64], sum: f64) -> Histogram {
    let mut histogram = IntegerHistogram::empty(layout.into());
    histogram.count = counts.iter().sum();
    histogram.sum = sum;
    histogram.positive = counts.to_vec();
    Histogram::Integer(histogram)
}

fn resolve(registry: &Registry, batch: &MetricBatch) -> ResolvedBatch {
    let mut resolved = ResolvedBatch::default();
    let limits = Limits::default();
    let admission = Admission {
        limits: &limits,
        now_ms: 1_000_000,
        oldest_ms: 0,
        new_series: NewSeries::ANY,
        name: |_, _| String::new(),
    };
    let decode = |_, bytes: &[u8]| Labels::from_packed(bytes).map_err(|error| error.to_string());
    registry.resolve(DEFAULT_TENANT, batch, 1, admission, &decode, &mut resolved);
    resolved
}

fn read(registry: &Registry, shard: &Shard, blocks: &[BlockSource]) -> HistogramColumns {
    let series = registry.select(DEFAULT_TENANT, &[]);
    let chunks = vec![shard.select(series.ordinals(), TimeRange::all())];
    let head = HeadSnapshot { tenant: DEFAULT_TENANT, deletes: Deletes::default(), series, chunks };
    let selected = Selected::new(registry, head, blocks, &[], TimeRange::all(), 9).expect("select");
    let mut out = HistogramColumns::default();
    for index in 0..selected.len() {
        selected.read_all(index, &mut Vec::new(), &mut Vec::new(), &mut out).expect("read");
    }
    out
}

#[test]
fn what_is_no_histogram_is_refused_in_prometheus_words() {
    let registry = Registry::new(1);
    let mut batch = MetricBatch::default();
    let mut wrong = histogram(layout(0, &[(0, 2)]), &[1, 2], 3.0);
    if let Histogram::Integer(histogram) = &mut wrong {
        histogram.count = 7;
    }
    batch.push_histogram(&labels("wrong"), 1_000, None, wrong);
    batch.push_histogram(&labels("late"), -5, None, histogram(layout(0, &[]), &[], 0.0));
    let fine = histogram(layout(12, &[(1, 20)]), &[1; 20], 30.0);
    batch.push_histogram(&labels("fine"), 1_000, Some(900), fine);
    let unknown = histogram(layout(53, &[(0, 1)]), &[1], 1.0);
    batch.push_histogram(&labels("unknown"), 1_000, None, unknown);
    let resolved = resolve(&registry, &batch);
    let reasons: Vec<_> = resolved.rejects.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3);
    assert_eq!(
        reasons[0],
        "invalid native histogram: 3 observations found in buckets, but the Count field is 7: \
         histogram's observation count should equal the number of observations found in the \
         buckets (in absence of NaN)"
    );
    assert!(reasons[1].contains("older than the retention"), "{}", reasons[1]);
    assert!(reasons[2].contains("got schema 53"), "{}", reasons[2]);
    // One finer than any that is stored is brought down, 16 buckets to one.
    let row = &resolved.shards[0].histograms[0];
    assert_eq!((row.t_ms, row.start_ms, resolved.rows()), (1_000, 900, 1));
    assert_eq!(row.histogram, histogram(layout(8, &[(1, 2)]), &[16, 4], 30.0));
    assert_eq!(registry.active_series(DEFAULT_TENANT), 1, "no series for what is refused");
}

#[test]
fn the_first_of_a_float_and_a_histogram_wins() {
    let registry = Registry::new(1);
    let mut shard = Shard::new(0, 1);
    let bump = |counts: &[u64]| histogram(layout(0, &[(0, 2)]), counts, 1.0);
    let mut append = |floats: &[(i64, f64)], histograms: &[(i64, Histogram)]| {
        let mut batch = MetricBatch::default();
        floats.iter().for_each(|&(t_ms, value)| batch.push(&labels("a"), t_ms, value));
        for (t_ms, histogram) in histograms {
            batch.push_histogram(&labels("a"), *t_ms, None, histogram.clone());
        }
        let outcome = shard.append(&resolve(&registry, &batch).shards[0]);
        (outcome.appended, outcome.duplicates_equal, outcome.conflicts)
    };
    assert_eq!(append(&[(10, 1.0)], &[(20, bump(&[1, 2]))]), (2, 0, 0));
    assert_eq!(append(&[(20, 9.0)], &[(10, bump(&[1, 2]))]), (0, 0, 2), "one of each");
    // The same in another form: a bucket without observations is listed.
    let same = histogram(layout(0, &[(-1, 4)]), &[0, 1, 2, 0], 1.0);
    assert_eq!(append(&[], &[(20, same), (20, bump(&[1, 3]))]), (0, 1, 1));
    assert_eq!(append(&[(15, 3.0)], &[(12, bump(&[0, 1]))]), (2, 0, 0), "late, but not twice");
    let found = read(&registry, &shard, &[]);
    assert_eq!(found.timestamps_ms, [12, 20]);
    assert!(found.histograms[1].says_the_same(&bump(&[1, 2])));
}

#[test]
fn hints_that_stay_true_are_kept() {
    let registry = Registry::new(1);
    let mut shard = Shard::new(0, 1);
    let mut batch = MetricBatch::default();
    let hints = [ResetHint::NoReset, ResetHint::Reset, ResetHint::Gauge, ResetHint::Unknown];
    for (t_ms, hint) in (1..).zip(hints) {
        let mut histogram = histogram(layout(0, &[(0, 1)]), &[1], 1.0);
        histogram.set_reset_hint(hint);
        batch.push_histogram(&labels("a"), t_ms, None, histogram);
    }
    batch.push_histogram(&labels("a"), 5, None, Histogram::stale());
    shard.append(&resolve(&registry, &batch).shards[0]);
    let found = read(&registry, &shard, &[]);
    let hints: Vec<_> = found.histograms.iter().map(Histogram::reset_hint).collect();
    let expected = [ResetHint::Unknown, ResetHint::Reset, ResetHint::Gauge, ResetHint::Unknown];
    assert_eq!(hints[..4], expected);
    assert!(found.histograms[4].is_stale());
}

/// Scrapes of three hosts, one with floats too; buckets appear one after the other.
fn scrapes(steps: i64) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for step in 0..steps {
        for (host, width) in [("a", 4), ("b", 12)] {
            let buckets = (1 + step as u32).min(width);
            let counts: Vec<u64> = (0..u64::from(buckets)).map(|b| step as u64 + b).collect();
            let start_ms = (host == "a").then_some(500);
            let histogram = histogram(layout(3, &[(0, buckets)]), &counts, step as f64 / 4.0);
            batch.push_histogram(&labels(host), 1_000 + step * 1_000, start_ms, histogram);
        }
        batch.push(&labels("b"), 1_500 + step * 1_000, step as f64);
        batch.push(&labels("c"), 1_000 + step * 1_000, step as f64);
    }
    batch
}

fn block_bytes(batch: &MetricBatch) -> Vec<u8> {
    let registry = Registry::new(1);
    let mut shard = Shard::new(0, 1);
    shard.append(&resolve(&registry, batch).shards[0]);
    let plan = FlushPlan::new(shard.cut(), &Deletes::default(), &registry);
    let mut out = InMemory::default();
    plan.write(&plan.blocks()[0], &MetricFormat::new(1), &registry, &mut out).expect("flush");
    out.0
}

/// All samples of a block, or why it cannot be read.
fn read_block(bytes: Vec<u8>) -> Result<String, String> {
    let block = MetricFormat::new(2).open(Arc::new(InMemory(bytes))).map_err(|e| e.to_string())?;
    let source = BlockSource { id: Arc::from("a"), block: Arc::new(block), deletes_through: 0 };
    let registry = Registry::new(1);
    let series = registry.select(DEFAULT_TENANT, &[]);
    let head = HeadSnapshot {
        tenant: DEFAULT_TENANT,
        deletes: Deletes::default(),
        series,
        chunks: Vec::new(),
    };
    let selected = Selected::new(&registry, head, &[source], &[], TimeRange::all(), usize::MAX)
        .map_err(|error| error.to_string())?;
    shown(&selected)
}

/// All samples of what was selected, and when its floats began.
fn shown(selected: &Selected) -> Result<String, String> {
    let mut all = String::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let mut histograms = HistogramColumns::default();
        selected
            .read_all(index, &mut timestamps, &mut values, &mut histograms)
            .map_err(|error| error.to_string())?;
        all.push_str(&format!("{labels} {timestamps:?} {values:?} {histograms:?}\n"));
    }
    Ok(all)
}

#[test]
fn what_heads_have_is_the_same_as_a_block() {
    let registry = Registry::new(1);
    let mut shard = Shard::new(0, 1);
    let mut batch = scrapes(700);
    batch.push(&labels("a"), 1_500, 0.25);
    shard.append(&resolve(&registry, &batch).shards[0]);
    // Part of it is on its way into blocks.
    shard.cut();
    let mut late = MetricBatch::default();
    late.push(&labels("b"), 100, 0.5);
    late.push(&labels("d"), 700_500, f64::from_bits(model::STALE_NAN_BITS));
    shard.append(&resolve(&registry, &late).shards[0]);
    for range in [TimeRange::all(), TimeRange::new(50_000, 90_001), TimeRange::new(0, 1)] {
        let series = registry.select(DEFAULT_TENANT, &[]);
        let chunks = vec![shard.select(series.ordinals(), range)];
        let deletes = Deletes::default();
        let head = HeadSnapshot { tenant: DEFAULT_TENANT, deletes, series, chunks };
        let of_head = Selected::new(&registry, head, &[], &[], range, usize::MAX).expect("memory");
        let mut out = InMemory::default();
        let summary = of_head.write_block(&MetricFormat::new(1), &mut out).expect("memory");
        let of_block = read_block(out.0).expect("own block");
        let shown = shown(&of_head).expect("memory");
        // Series that only might have had samples leave no trace.
        let shown: Vec<&str> = shown
            .lines()
            .filter(|line| !line.contains("[] [] HistogramColumns { timestamps_ms: []"))
            .collect();
        assert_eq!(of_block.lines().collect::<Vec<_>>(), shown, "{range:?}");
        assert_eq!(summary.series, shown.len() as u64);
    }
}

#[test]
fn every_flipped_byte_of_a_block_is_noticed() {
    let bytes = block_bytes(&scrapes(30));
    let good = read_block(bytes.clone()).expect("own block");
    assert_eq!(good.lines().count(), 3);
    for at in 0..bytes.len() {
        for flip in [0x01, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(read_block(damaged).is_err(), "byte {at} of {} by {flip:#x}", bytes.len());
        }
    }
    for len in 0..bytes.len() {
        assert!(read_block(bytes[..len].to_vec()).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn payloads_keep_their_bytes() {
    let registry = Registry::new(1);
    let mut batch = MetricBatch::default();
    batch.push(&labels("a"), 7, 1.0);
    let first = histogram(layout(3, &[(0, 1)]), &[2], 0.5);
    let second = histogram(layout(3, &[(0, 1)]), &[3], 0.5);
    batch.push_histogram(&labels("a"), 8, Some(5), first);
    batch.push_histogram(&labels("b"), 8, None, second);
    let resolved = resolve(&registry, &batch);
    let mut encoder = LogEncoder::new();
    let mut payload = Vec::new();
    encoder.encode(&resolved, &registry, &mut payload);
    payload.clear();
    // The second time nothing is defined, so these are the rows alone.
    encoder.encode(&resolved, &registry, &mut payload);
    let sum = [0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
    let floats = [2, 0, 0, 1, 0, 1, 14, 2, 0x3f, 0xf0];
    let expected = [
        &floats[..],
        &[2, 0, 16, 10, 1, 6, 0, 1, 0, 1, 0, 0, 2, 0],
        &sum,
        &[4, 2, 0, 9, 0, 0, 3, 0],
        &sum,
        &[6],
    ]
    .concat();
    assert_eq!(payload, expected);

    // Floats alone are what they were before there were histograms.
    batch.histograms.clear();
    payload.clear();
    encoder.encode(&resolve(&registry, &batch), &registry, &mut payload);
    assert_eq!(payload, [&[1], &floats[1..]].concat());
}

#[test]
fn damaged_payloads_never_panic() {
    let registry = Registry::new(1);
    let resolved = resolve(&registry, &scrapes(3));
    let mut payload = Vec::new();
    LogEncoder::new().encode(&resolved, &registry, &mut payload);
    let mut out = ResolvedBatch::default();
    LogDecoder::new().decode(&payload, &registry, 1, 0, &mut out).expect("own payload");
    assert_eq!(out.shards, resolved.shards);
    for at in 0..payload.len() {
        let cut = LogDecoder::new().decode(&payload[..at], &registry, 1, 0, &mut out);
        assert!(cut.is_err() && out.rows() == 0, "cut to {at}");
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = payload.clone();
            damaged[at] ^= flip;
            // The log's checksum would have refused it.
            let _ = LogDecoder::new().decode(&damaged, &registry, 1, 0, &mut out);
        }
    }
}

#[test]
fn blocks_without_histograms_are_what_they_were() {
    let mut batch = MetricBatch::default();
    for step in 0..20_i64 {
        for host in ["a", "b", "c"] {
            batch.push(&labels(host), 1_000 + step * 15_000, (step * 7 % 5) as f64);
        }
    }
    let bytes = block_bytes(&batch);
    // zstd's output may change between its versions; this block is too small for it to pay.
    assert_eq!((bytes.len(), codec::checksum(&bytes)), FLOATS_ONLY);
}

/// Length and checksum of that block as written before there were histograms, less the statistics of
/// chunks.
const FLOATS_ONLY: (usize, u32) = (346, 1_607_238_466);
