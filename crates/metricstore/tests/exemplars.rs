//! The exemplars that are kept, against a list that is searched; their file; their way through the
//! log.

use std::sync::Arc;

use catalog::{LabelCondition, Signal, Tombstone};
use metricstore::{
    Admission, Delete, ExemplarFileError, ExemplarStore, LogDecoder, LogEncoder, MetricError,
    NewSeries, Registry, ResolvedBatch, Standing,
};
use model::{
    DEFAULT_TENANT, Exemplar, Labels, Limits, MatchOp, Matcher, MetricBatch, SeriesExemplars,
    TenantId, TimeRange,
};
use proptest::prelude::*;

const OTHER_TENANT: TenantId = TenantId(7);

fn series(n: u32) -> Labels {
    let n = n.to_string();
    Labels::from_pairs([("__name__", "m"), ("n", n.as_str())]).expect("labels")
}

fn exemplar(trace: u32, value: f64, t_ms: i64, is_dated: bool) -> Exemplar {
    let trace = format!("{trace:032x}");
    let labels = Labels::from_pairs([("trace_id", trace.as_str())]).expect("labels");
    Exemplar { labels, value, t_ms, is_dated }
}

/// What Prometheus' description of its storage says, word by word, over a list.
#[derive(Default)]
struct Naive {
    max: usize,
    all: Vec<(TenantId, Labels, Exemplar)>,
}

impl Naive {
    fn push(&mut self, tenant: TenantId, series: &Labels, exemplar: Exemplar) -> Standing {
        let same = |entry: &&(TenantId, Labels, Exemplar)| entry.0 == tenant && entry.1 == *series;
        if let Some((_, _, newest)) = self.all.iter().rev().find(same) {
            if exemplar.repeats(newest) {
                return Standing::Repeated;
            }
            if exemplar.is_before(newest) {
                return Standing::OutOfOrder;
            }
        }
        self.all.push((tenant, series.clone(), exemplar));
        if self.all.len() > self.max {
            self.all.remove(0);
        }
        Standing::New
    }

    fn select(
        &self,
        tenant: TenantId,
        matcher: &Matcher,
        range: TimeRange,
    ) -> Vec<SeriesExemplars> {
        let mut found: std::collections::BTreeMap<Labels, Vec<Exemplar>> = Default::default();
        for (of, labels, exemplar) in &self.all {
            let value = labels.get(&matcher.name).unwrap_or("");
            if *of == tenant && matcher.matches(value) && range.contains(exemplar.t_ms) {
                found.entry(labels.clone()).or_default().push(exemplar.clone());
            }
        }
        let of = |(labels, exemplars)| SeriesExemplars { labels, exemplars };
        found.into_iter().map(of).collect()
    }
}

fn select(
    store: &ExemplarStore,
    tenant: TenantId,
    matcher: &Matcher,
    range: TimeRange,
) -> Vec<SeriesExemplars> {
    let mut found = Vec::new();
    let selectors = [vec![matcher.clone()]];
    // In two steps, as a reader does that lets writers in between.
    let half = store.places() / 2;
    store.collect(0..half, tenant, &selectors, range, &mut found);
    store.collect(half..usize::MAX, tenant, &selectors, range, &mut found);
    found.sort_by(|a, b| a.labels.cmp(&b.labels));
    found
}

fn file_of(store: &ExemplarStore) -> Vec<u8> {
    let mut file = Vec::new();
    store.snapshot().encode(&mut file);
    file
}

fn loaded(max: usize, file: &[u8]) -> ExemplarStore {
    let mut store = ExemplarStore::new(max, 3);
    store.load(file).expect("a file that was just written");
    store
}

type Given = (bool, u32, u32, u8, i64, bool);

fn given() -> impl Strategy<Value = Vec<Given>> {
    // Few series, traces, values and times, so that they repeat and stand in any order.
    let one = (any::<bool>(), 0..6_u32, 0..3_u32, 0..3_u8, 0..40_i64, any::<bool>());
    proptest::collection::vec(one, 0..120)
}

fn value(n: u8) -> f64 {
    [1.0, 2.0, f64::NAN][usize::from(n)]
}

proptest! {
    #[test]
    fn the_store_is_as_a_searched_list(
        given in given(),
        max in 1..30_usize,
        range in (0..40_i64, 0..40_i64),
        pattern in prop_oneof![Just("[0-2]"), Just(".*"), Just("5")],
    ) {
        let mut store = ExemplarStore::new(max, 1);
        let mut naive = Naive { max, ..Naive::default() };
        for (is_other, n, trace, v, t_ms, is_dated) in given {
            let tenant = if is_other { OTHER_TENANT } else { DEFAULT_TENANT };
            let exemplar = exemplar(trace, value(v), t_ms, is_dated);
            let wanted = naive.push(tenant, &series(n), exemplar.clone());
            prop_assert_eq!(store.standing(tenant, &series(n), &exemplar), wanted);
            prop_assert_eq!(store.push(tenant, &series(n), exemplar), wanted);
            prop_assert!(store.len() <= max);
        }
        prop_assert_eq!(store.len(), naive.all.len());
        let matcher = Matcher::new("n", MatchOp::Regex, pattern).expect("a pattern");
        let again = loaded(max, &file_of(&store));
        for tenant in [DEFAULT_TENANT, OTHER_TENANT] {
            for range in [TimeRange::new(range.0, range.1), TimeRange::all()] {
                let wanted = shown(&naive.select(tenant, &matcher, range));
                prop_assert_eq!(shown(&select(&store, tenant, &matcher, range)), wanted.clone());
                prop_assert_eq!(shown(&select(&again, tenant, &matcher, range)), wanted);
            }
        }
        prop_assert_eq!(file_of(&again), file_of(&loaded(max, &file_of(&again))));
    }

    #[test]
    fn what_a_delete_hides_is_forgotten(given in given(), range in (0..40_i64, 0..40_i64)) {
        let mut store = ExemplarStore::new(1_000, 1);
        let mut left = ExemplarStore::new(1_000, 2);
        let hidden = TimeRange::new(range.0, range.1);
        for &(is_other, n, trace, v, t_ms, is_dated) in &given {
            let tenant = if is_other { OTHER_TENANT } else { DEFAULT_TENANT };
            let exemplar = exemplar(trace, value(v), t_ms, is_dated);
            let is_hidden = tenant == DEFAULT_TENANT && n < 3 && hidden.contains(t_ms);
            let standing = store.push(tenant, &series(n), exemplar.clone());
            if standing == Standing::New && !is_hidden {
                // One without a time of its own may repeat the one before what is hidden.
                left.push(tenant, &series(n), exemplar);
            }
        }
        store.forget_deleted(&delete("[0-2]", hidden));
        let all = Matcher::new("n", MatchOp::Regex, ".*").expect("a pattern");
        for tenant in [DEFAULT_TENANT, OTHER_TENANT] {
            let found = select(&store, tenant, &all, TimeRange::all());
            prop_assert_eq!(shown(&found), shown(&select(&left, tenant, &all, TimeRange::all())));
        }
        prop_assert_eq!(store.series(), left.series());
    }

    #[test]
    fn any_bytes_are_no_file_or_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut store = ExemplarStore::new(10, 1);
        prop_assert!(store.load(&bytes).is_err() && store.is_empty());
    }
}

/// With NaN as bits, so that it equals itself.
fn shown(found: &[SeriesExemplars]) -> Vec<(Labels, Labels, u64, i64, bool)> {
    let flat = found.iter().flat_map(|series| {
        series.exemplars.iter().map(|e| {
            (series.labels.clone(), e.labels.clone(), e.value.to_bits(), e.t_ms, e.is_dated)
        })
    });
    flat.collect()
}

fn delete(pattern: &str, range: TimeRange) -> Delete {
    let condition =
        LabelCondition { name: "n".to_owned(), op: MatchOp::Regex, value: pattern.to_owned() };
    Delete::new(Arc::new(Tombstone {
        number: 1,
        tenant: DEFAULT_TENANT,
        signal: Signal::Metrics,
        range,
        at_ms: 0,
        selectors: vec![vec![condition]],
    }))
    .expect("a pattern")
}

#[test]
fn long_labels_of_many_series_are_bounded_as_well() {
    let mut store = ExemplarStore::new(2_000, 1);
    for n in 0..2_000_u32 {
        let long = format!("{n:05}{}", "x".repeat(8_000));
        let labels = Labels::from_pairs([("__name__", long.as_str())]).expect("labels");
        store.push(DEFAULT_TENANT, &labels, exemplar(n, 1.0, i64::from(n), true));
    }
    let kept = store.len();
    assert!((200..260).contains(&kept), "{kept} of 8 kB each are kept, 2 MB are allowed");
    assert_eq!(store.oldest_ms(), Some(2_000 - kept as i64));
}

#[test]
fn a_file_that_is_damaged_anywhere_is_refused_and_a_newer_one_is_told_apart() {
    let mut store = ExemplarStore::new(100, 1);
    for n in 0..20 {
        store.push(DEFAULT_TENANT, &series(n % 4), exemplar(n, 1.0, i64::from(n), true));
    }
    let file = file_of(&store);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let mut into = ExemplarStore::new(100, 1);
            let error = into.load(&damaged).expect_err("a flipped bit");
            assert!(matches!(error, ExemplarFileError::Damaged(_)), "{at}.{bit}: {error}");
            assert!(into.is_empty());
        }
        assert!(ExemplarStore::new(100, 1).load(&file[..at]).is_err(), "cut at {at}");
    }
    let mut newer = file[..file.len() - 4].to_vec();
    newer[8] = 2;
    newer.extend_from_slice(&codec::checksum(&newer).to_le_bytes());
    let error = ExemplarStore::new(100, 1).load(&newer).expect_err("a newer version");
    assert!(matches!(error, ExemplarFileError::Newer { found: 2, supported: 1 }), "{error}");
}

/// A batch with two series, resolved; the second exemplar is of a series that has no samples.
fn resolved(registry: &Registry) -> (ResolvedBatch, metricstore::ExemplarRefusals) {
    let mut batch = MetricBatch::default();
    batch.push(&series(1), 1_000, 1.0);
    batch.push(&series(2), 1_000, 2.0);
    let long = "x".repeat(model::MAX_EXEMPLAR_CHARS - 8);
    let labels = |value: &str| Labels::from_pairs([("trace_id", value)]).expect("labels");
    let of = |labels, t_ms| Exemplar { labels, value: 0.5, t_ms, is_dated: true };
    batch.push_exemplar(&series(1), &of(labels("a"), 900));
    batch.push_exemplar(&series(9), &of(labels("b"), 900));
    batch.push_exemplar(&series(2), &of(labels(&long), 901));
    batch.push_exemplar(&series(2), &of(labels(&format!("{long}é")), 902));
    batch.push_exemplar(&series(2), &of(Labels::empty(), i64::MAX));
    batch.push_exemplar(&series(2), &of(Labels::empty(), 903));
    let limits = Limits::default();
    let admission = Admission {
        limits: &limits,
        now_ms: 2_000,
        oldest_ms: 0,
        new_series: NewSeries::ANY,
        name: |_, _| String::new(),
    };
    let decode = |_, bytes: &[u8]| Labels::from_packed(bytes).map_err(|error| error.to_string());
    let mut out = ResolvedBatch::default();
    registry.resolve(DEFAULT_TENANT, &batch, 2, admission, &decode, &mut out);
    let refusals =
        registry.resolve_exemplars(DEFAULT_TENANT, &batch, admission, &decode, &decode, &mut out);
    (out, refusals)
}

#[test]
fn exemplars_go_through_the_log_and_what_cannot_be_kept_is_told() {
    let registry = Registry::new(5);
    let (batch, refusals) = resolved(&registry);
    assert_eq!((refusals.unknown_series, refusals.too_long, refusals.out_of_bounds), (1, 1, 1));
    assert_eq!(refusals.malformed, 0);
    assert_eq!(registry.active_series(DEFAULT_TENANT), 2, "exemplars make no series");
    let times: Vec<i64> = batch.exemplars.iter().map(|row| row.exemplar.t_ms).collect();
    assert_eq!(times, [900, 901, 903]);

    let mut payload = Vec::new();
    LogEncoder::new().encode(&batch, &registry, &mut payload);
    // Another process: other ordinals.
    let other = Registry::new(6);
    other.intern(DEFAULT_TENANT, &series(77), 0);
    let mut out = ResolvedBatch::default();
    LogDecoder::new().decode(&payload, &other, 2, 2_000, &mut out).expect("what was written");
    assert_eq!(out.rows(), 2);
    let plain = |batch: &ResolvedBatch| -> Vec<(Labels, Exemplar)> {
        let rows = batch.exemplars.iter();
        rows.map(|row| (row.series.clone(), row.exemplar.clone())).collect()
    };
    assert_eq!(plain(&out), plain(&batch));
    for cut in 0..payload.len() {
        let cut = LogDecoder::new().decode(&payload[..cut], &other, 2, 2_000, &mut out);
        assert!(matches!(cut, Err(MetricError::Payload { .. })) && out.is_empty());
    }
}
