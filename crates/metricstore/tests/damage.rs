//! Damaged bytes: an error or the right answer, never a panic, never a wrong answer.

use std::sync::Arc;

use blockstore::{BlockError, BlockFormat, InMemory};
use metricstore::{
    Admission, BlockSource, Deletes, FlushPlan, HeadSnapshot, HistogramColumns, LogDecoder,
    LogEncoder, MetricError, MetricFormat, NewSeries, Registry, ResolvedBatch, Selected, Shard,
};
use model::{DEFAULT_TENANT, LabelForm, Labels, Limits, MetricBatch, TenantId, TimeRange};
use proptest::prelude::*;

fn labels(series: usize) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("instance", format!("host-{series}").as_str())])
        .expect("labels")
}

fn decode(_: LabelForm, bytes: &[u8]) -> Result<Labels, String> {
    Labels::from_packed(bytes).map_err(|error| error.to_string())
}

fn resolve(registry: &Registry, batch: &MetricBatch, limits: &Limits) -> ResolvedBatch {
    let mut resolved = ResolvedBatch::default();
    let admission = Admission {
        limits,
        now_ms: 10_000_000,
        oldest_ms: 0,
        new_series: NewSeries::ANY,
        name: |_, _| String::new(),
    };
    registry.resolve(DEFAULT_TENANT, batch, 1, admission, &decode, &mut resolved);
    resolved
}

fn batch(series: usize, steps: i64) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for step in 0..steps {
        for series in 0..series {
            let value = (series as f64 + 0.25) * (step % 11) as f64;
            batch.push(&labels(series), 1_000 + step * 15_000 + series as i64 % 2, value);
        }
    }
    batch
}

/// The same, of which it is known when they began: `of` yields it for the time of each sample.
fn started(series: usize, steps: i64, of: impl Fn(i64) -> i64) -> MetricBatch {
    let mut batch = batch(series, steps);
    batch.starts_ms = batch.timestamps_ms.iter().map(|&t_ms| of(t_ms)).collect();
    batch
}

/// The bytes of a block with a few series.
fn block_bytes(batch: &MetricBatch) -> Vec<u8> {
    let registry = Registry::new(1);
    let mut shard = Shard::new(0, 1);
    shard.append(&resolve(&registry, batch, &Limits::default()).shards[0]);
    let plan = FlushPlan::new(shard.cut(), &Deletes::default(), &registry);
    assert_eq!(plan.blocks().len(), 1);
    let mut out = InMemory::default();
    plan.write(&plan.blocks()[0], &MetricFormat::new(1), &registry, &mut out).expect("flush");
    out.0
}

/// Labels, times, values as bits, starts.
type Samples = Vec<(Labels, Vec<i64>, Vec<u64>, Vec<i64>)>;

fn read_all(bytes: Vec<u8>) -> Result<Samples, String> {
    let block = MetricFormat::new(2).open(Arc::new(InMemory(bytes))).map_err(|e| e.to_string())?;
    let source = BlockSource { id: Arc::from("a"), block: Arc::new(block), deletes_through: 0 };
    let registry = Registry::new(1);
    let head = HeadSnapshot {
        deletes: Deletes::default(),
        tenant: DEFAULT_TENANT,
        series: registry.select(DEFAULT_TENANT, &[]),
        chunks: Vec::new(),
    };
    let selected = Selected::new(&registry, head, &[source], &[], TimeRange::all(), usize::MAX)
        .map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    for (index, labels) in selected.labels().iter().enumerate() {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let mut starts_ms = Vec::new();
        selected
            .read_with_starts(
                index,
                (&mut timestamps, &mut values),
                &mut starts_ms,
                &mut HistogramColumns::default(),
            )
            .map_err(|error| error.to_string())?;
        let bits = values.iter().map(|v| v.to_bits()).collect();
        all.push((labels.clone(), timestamps, bits, starts_ms));
    }
    Ok(all)
}

#[test]
fn every_flipped_byte_of_a_block_is_noticed() {
    // Some begin anew with each sample.
    let batch = started(5, 40, |t_ms| if t_ms % 2 == 0 { 77 } else { t_ms - 1 });
    let bytes = block_bytes(&batch);
    let good = read_all(bytes.clone()).expect("own block");
    assert_eq!(good.len(), 5);
    assert!(good.iter().all(|series| series.3.len() == 40 && series.3[0] != 0));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let read = read_all(damaged);
            assert!(read.is_err(), "byte {at} of {} flipped by {flip:#x}", bytes.len());
        }
    }
    for len in 0..bytes.len() {
        assert!(read_all(bytes[..len].to_vec()).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn what_began_nowhere_costs_nothing_and_what_stands_still_next_to_nothing() {
    let payload = |batch: &MetricBatch| {
        let registry = Registry::new(1);
        let resolved = resolve(&registry, batch, &Limits::default());
        let mut out = Vec::new();
        LogEncoder::new().encode(&resolved, &registry, &mut out);
        out
    };
    let plain = batch(200, 100);
    let unknown = started(200, 100, |_| 0);
    assert_eq!(payload(&plain), payload(&unknown));
    assert_eq!(block_bytes(&plain), block_bytes(&unknown));
    let (log, block) = (payload(&plain), block_bytes(&plain));
    assert_eq!(log[0], 1, "the version of payloads that have only floats");
    // 20,000 samples of one process: a version and one run; a page, and its place in the table.
    let one = started(200, 100, |_| 900);
    let (with, bytes) = (payload(&one), block_bytes(&one));
    assert_eq!(with[0], 4);
    assert!(with.len() <= log.len() + 8, "{} bytes instead of {}", with.len(), log.len());
    assert!(bytes.len() <= block.len() + 64, "{} bytes instead of {}", bytes.len(), block.len());
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = block_bytes(&batch(1, 1));
    let footer = bytes.len() - 128;
    bytes[footer + 119] = 9;
    let sum = codec::checksum(&bytes[footer..footer + 120]).to_le_bytes();
    bytes[footer + 120..footer + 124].copy_from_slice(&sum);
    let error = MetricFormat::new(1).open(Arc::new(InMemory(bytes))).expect_err("version 9");
    assert!(matches!(error, BlockError::Version { found: 9, supported: 1 }), "{error}");
}

#[test]
fn payloads_carry_every_bit_to_another_registry() {
    let registry = Registry::new(1);
    let mut encoder = LogEncoder::new();
    let mut batch = MetricBatch::default();
    let odd = [
        0.0,
        -0.0,
        1.0,
        0.1,
        f64::MIN_POSITIVE,
        f64::from_bits(model::STALE_NAN_BITS),
        f64::from_bits(0x7ff8_0000_dead_beef),
        f64::NEG_INFINITY,
        f64::from_bits(1),
    ];
    for (row, value) in odd.iter().enumerate() {
        batch.push(&labels(row % 4), row as i64 * 1_000, *value);
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let resolved = resolve(&registry, &batch, &Limits::default());
    encoder.encode(&resolved, &registry, &mut first);
    encoder.encode(&resolved, &registry, &mut second);
    assert!(second.len() + 30 < first.len(), "labels are written once per file");

    let other = Registry::new(2);
    let mut decoder = LogDecoder::new();
    for payload in [&first, &second] {
        let mut out = ResolvedBatch::default();
        decoder.decode(payload, &other, 3, 0, &mut out).expect("own payload");
        assert_eq!(out.tenant, DEFAULT_TENANT);
        let mut rows: Vec<_> = out
            .shards
            .iter()
            .flat_map(|rows| rows.timestamps_ms.iter().zip(&rows.values))
            .map(|(t, v)| (*t, v.to_bits()))
            .collect();
        rows.sort_unstable();
        let expected: Vec<_> =
            odd.iter().enumerate().map(|(i, v)| (i as i64 * 1_000, v.to_bits())).collect();
        assert_eq!(rows, expected);
    }
    let mut out = ResolvedBatch::default();
    let error = LogDecoder::new().decode(&second, &other, 1, 0, &mut out).expect_err("undefined");
    assert!(error.to_string().contains("was defined in no payload"), "{error}");
    let mut newer = first;
    newer[0] = 7;
    let error = decoder.decode(&newer, &other, 1, 0, &mut out).expect_err("version 7");
    assert!(matches!(error, MetricError::PayloadVersion { found: 7, supported: 4 }));
}

#[test]
fn limits_reject_what_exceeds_them_and_nothing_else() {
    let registry = Registry::new(1);
    let limits = Limits { max_active_series: 2, max_future_ms: 5, ..Limits::default() };
    let mut batch = MetricBatch::default();
    for series in 0..4 {
        batch.push(&labels(series), 1_000, 1.0);
    }
    batch.push(&labels(0), 10_000_006, 1.0);
    batch.push(&labels(0), -1, 1.0);
    batch.push(&labels(0), 10_000_005, 1.0);
    let resolved = resolve(&registry, &batch, &limits);
    assert_eq!(resolved.rows(), 3);
    let rejects: Vec<_> =
        resolved.rejects.iter().map(|r| (r.reason.as_str(), r.series, r.samples)).collect();
    assert_eq!(rejects.len(), 3);
    assert!(rejects[0].0.contains("limits.max_active_series is 2"));
    assert_eq!((rejects[0].1, rejects[0].2), (2, 2));
    assert!(rejects[1].0.contains("limits.max_future_ms (5 ms)"));
    assert!(rejects[2].0.contains("older than the retention"));
    assert_eq!(registry.active_series(DEFAULT_TENANT), 2);
    assert_eq!(registry.active_series(TenantId(1)), 0);
}

#[test]
fn labels_with_too_many_values_reject_series_and_names_do_not() {
    let registry = Registry::new(1);
    let limits = Limits { max_values_per_label: 2, ..Limits::default() };
    let resolved = |series: &[(&str, &str)]| {
        let mut batch = MetricBatch::default();
        for &(name, value) in series {
            let labels = Labels::from_pairs([("__name__", name), ("path", value)]).expect("valid");
            batch.push(&labels, 1_000, 1.0);
        }
        resolve(&registry, &batch, &limits)
    };
    let names = ["a", "b", "c", "d", "e"].map(|name| (name, "/"));
    let taken = resolved(&names);
    assert_eq!((taken.rows(), taken.rejects.len()), (5, 0), "{:?}", taken.rejects);
    let taken = resolved(&[("a", "/x"), ("a", "/y"), ("f", "/x")]);
    assert_eq!((taken.rows(), taken.rejects.len()), (2, 1));
    let reason = &taken.rejects[0].reason;
    assert!(
        reason.contains("\"path\" has 2 values, which is limits.max_values_per_label"),
        "{reason}"
    );
}

#[test]
fn what_is_looked_up_during_a_release_is_not_idle_whatever_the_clock_says_by_then() {
    const HOUR_MS: i64 = 3_600_000;
    let registry = Registry::new(1);
    let (now_ms, ahead_ms) = (1_000 * HOUR_MS, 1_240 * HOUR_MS);
    let old = registry.intern(DEFAULT_TENANT, &labels(0), now_ms);
    let kept = registry.intern(DEFAULT_TENANT, &labels(1), now_ms);
    let releasing = registry.begin_release(ahead_ms);
    assert_eq!(registry.idle(ahead_ms, HOUR_MS), [old, kept]);
    // The clock is set right meanwhile.
    assert_eq!(registry.intern(DEFAULT_TENANT, &labels(1), now_ms), kept);
    assert_eq!(registry.idle(ahead_ms, HOUR_MS), [old]);
    assert_eq!(registry.release(&[old, kept], ahead_ms, HOUR_MS), 1);
    drop(releasing);
    assert_eq!(registry.select(DEFAULT_TENANT, &[]).ordinals(), [kept]);
    // What is looked up later counts by the clock again.
    let later = registry.intern(DEFAULT_TENANT, &labels(2), now_ms);
    assert_eq!(registry.idle(now_ms + 2 * HOUR_MS, HOUR_MS), [later]);
}

#[test]
fn idle_series_are_released_and_their_ordinals_used_again() {
    const HOUR_MS: i64 = 3_600_000;
    let registry = Registry::new(1);
    let now_ms = 1_000 * HOUR_MS;
    let old = registry.intern(DEFAULT_TENANT, &labels(0), now_ms);
    let kept = registry.intern(DEFAULT_TENANT, &labels(1), now_ms);
    let later_ms = now_ms + 3 * HOUR_MS;
    assert_eq!(registry.intern(DEFAULT_TENANT, &labels(1), later_ms), kept);
    assert_eq!(registry.idle(later_ms, 2 * HOUR_MS), [old]);
    assert_eq!(registry.release(&[old, kept], later_ms, 2 * HOUR_MS), 1);
    assert_eq!(registry.select(DEFAULT_TENANT, &[]).ordinals(), [kept]);
    let fresh = registry.intern(DEFAULT_TENANT, &labels(2), later_ms);
    assert!(![old, kept].contains(&fresh), "an ordinal rests before it is used again");
    let reused = registry.intern(DEFAULT_TENANT, &labels(0), later_ms + HOUR_MS);
    assert_eq!(reused, old);
    assert_eq!(registry.active_series(DEFAULT_TENANT), 3);
}

proptest! {
    #[test]
    fn garbage_is_no_payload(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let registry = Registry::new(1);
        let mut out = ResolvedBatch::default();
        let _ = LogDecoder::new().decode(&bytes, &registry, 2, 0, &mut out);

        let mut payload = Vec::new();
        let resolved = resolve(&registry, &batch(3, 4), &Limits::default());
        LogEncoder::new().encode(&resolved, &registry, &mut payload);
        let at = at.index(payload.len());
        let mut decoder = LogDecoder::new();
        prop_assert!(decoder.decode(&payload[..at], &registry, 2, 0, &mut out).is_err());
        prop_assert_eq!(out.rows(), 0);
        payload[at] ^= flip;
        // The log's checksum would have refused it; here it only must not panic.
        let _ = decoder.decode(&payload, &registry, 2, 0, &mut out);
    }
}
