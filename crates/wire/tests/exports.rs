//! What is exported, and that it is what was imported.

use std::sync::Arc;

use model::{
    BucketLayout, FloatHistogram, Histogram, Labels, Limits, MetricBatch, ResetHint,
    STALE_NAN_BITS, Span,
};
use proptest::prelude::*;
use wire::{Refusals, csv_export, decode_labels, json_lines};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("valid labels")
}

#[test]
fn lines_look_as_those_of_victoriametrics() {
    let mut out = Vec::new();
    let series = labels(&[("__name__", "up"), ("job", "a\n\"b\"")]);
    let values = [1.0, 0.5, 1e21, f64::NAN, f64::from_bits(STALE_NAN_BITS), f64::NEG_INFINITY];
    json_lines::push_values(&mut out, &series, &[1, 2, 3, 4, 5, 6], &values, &[]);
    let want = "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\\n\\\"b\\\"\"},\"values\":[1,0.5,1e+21,\
                \"NaN\",null,\"-Infinity\"],\"timestamps\":[1,2,3,4,5,6]}\n";
    assert_eq!(String::from_utf8(out).expect("text"), want);
    let mut none = Vec::new();
    json_lines::push_values(&mut none, &series, &[], &[], &[]);
    assert!(none.is_empty());
    let mut started = Vec::new();
    json_lines::push_values(
        &mut started,
        &labels(&[("__name__", "c")]),
        &[7, 8],
        &values[..2],
        &[5],
    );
    let want = "{\"metric\":{\"__name__\":\"c\"},\"values\":[1,0.5],\"timestamps\":[7,8],\
                \"startTimestamps\":[5]}\n";
    assert_eq!(String::from_utf8(started).expect("text"), want);
}

#[test]
fn a_long_series_has_several_lines() {
    let (times, values): (Vec<_>, Vec<_>) = (0..25_000).map(|n| (n, n as f64)).unzip();
    let mut out = Vec::new();
    json_lines::push_values(&mut out, &labels(&[("__name__", "m")]), &times, &values, &[]);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 3);
    let mut batch = MetricBatch::default();
    let refusals = json_lines::decode(&out, &Limits::default(), &mut batch).expect("small");
    assert!(refusals.is_empty() && batch.series.len() == 3);
    assert_eq!((batch.timestamps_ms, batch.values), (times, values));
}

#[test]
fn rows_of_csv() {
    let columns = csv_export::Columns::parse(
        "__name__,job,none,__value__,__timestamp__:unix_s,__timestamp__:unix_ms,\
         __timestamp__:unix_ns,__timestamp__:rfc3339",
    )
    .expect("valid");
    let mut out = Vec::new();
    let series = labels(&[("__name__", "up"), ("job", "a,\"b\"")]);
    columns.push(&mut out, &series, &[1_700_000_000_000, 1_700_000_000_500], &[1.5, f64::INFINITY]);
    let want = "up,\"a,\"\"b\"\"\",,1.5,1700000000,1700000000000,1700000000000000000,\
                2023-11-14T22:13:20.000Z\n\
                up,\"a,\"\"b\"\"\",,+Inf,1700000000.5,1700000000500,1700000000500000000,\
                2023-11-14T22:13:20.500Z\n";
    assert_eq!(String::from_utf8(out).expect("text"), want);
    // As VictoriaMetrics has them.
    let plain = "__timestamp__,__timestamp__:custom:02/01/2006 15:04:05.000,__value__";
    let mut out = Vec::new();
    let columns = csv_export::Columns::parse(plain).expect("valid");
    columns.push(&mut out, &series, &[1_700_000_000_500], &[1.5]);
    assert_eq!(out, b"1700000000500,14/11/2023 22:13:20.500,1.5\n");
    for wrong in ["", "a,,b", "__timestamp__:soon", "__timestamp__:custom:soon"] {
        csv_export::Columns::parse(wrong).expect_err(wrong);
    }
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<f64>(),
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
        1 => Just(f64::INFINITY),
        1 => Just(-0.0),
    ]
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let hint = prop_oneof![
        Just(ResetHint::Unknown),
        Just(ResetHint::Reset),
        Just(ResetHint::NoReset),
        Just(ResetHint::Gauge),
    ];
    let counts = || proptest::collection::vec(0.0..1e9, 0..6);
    let bounds = proptest::collection::vec(-1e3..1e3, 0..4);
    let numbers = (0.0..1.0, 0.0..1e6, 0.0..1e6, -1e9..1e9);
    (-53..9, numbers, counts(), counts(), bounds, hint).prop_map(
        |(schema, (zero_threshold, zero_count, count, sum), positive, negative, bounds, hint)| {
            let spans = |counts: &[f64]| match counts.len() as u32 {
                0 => Vec::new(),
                len => vec![Span { offset: -3, len }],
            };
            let layout = BucketLayout {
                schema,
                zero_threshold,
                positive: spans(&positive),
                negative: spans(&negative),
                custom_bounds: bounds,
            };
            FloatHistogram {
                layout: Arc::new(layout),
                reset_hint: hint,
                count,
                zero_count,
                sum,
                positive,
                negative,
            }
        },
    )
}

/// NaNs that are no markers have one form.
fn bits(value: f64) -> u64 {
    if value.is_nan() && value.to_bits() != STALE_NAN_BITS {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

proptest! {
    #[test]
    fn lines_read_back_as_they_were(
        job in ".{0,12}",
        samples in proptest::collection::vec((any::<i64>(), any_float()), 1..20),
        starts_ms in proptest::collection::vec(0..3_i64, 0..8),
        histograms in proptest::collection::vec((any::<i64>(), any_histogram()), 1..8),
    ) {
        let series = labels(&[("__name__", "m"), ("job", &job)]);
        let (times, values): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let (histogram_times, histograms): (Vec<_>, Vec<_>) =
            histograms.into_iter().map(|(t_ms, histogram)| (t_ms, Arc::new(histogram))).unzip();
        let mut out = Vec::new();
        let of_values = &starts_ms[..starts_ms.len().min(values.len())];
        json_lines::push_values(&mut out, &series, &times, &values, of_values);
        let of_histograms = &starts_ms[..starts_ms.len().min(histograms.len())];
        json_lines::push_histograms(&mut out, &series, &histogram_times, &histograms, of_histograms);
        let (limits, mut batch) = (Limits::default(), MetricBatch::default());
        prop_assert_eq!(json_lines::decode(&out, &limits, &mut batch), Ok(Refusals::default()));
        prop_assert_eq!((batch.series.len(), batch.histograms.is_empty()), (1, false));
        let read = batch.values.iter().copied().map(bits);
        prop_assert!(read.eq(values.iter().copied().map(bits)));
        prop_assert_eq!(&batch.timestamps_ms, &times);
        for row in 0..times.len() {
            prop_assert_eq!(batch.start_ms(row), of_values.get(row).copied().unwrap_or(0));
        }
        for (sample, start_ms) in batch.histograms.iter().zip(of_histograms) {
            prop_assert_eq!(sample.start_ms.unwrap_or(0), *start_ms);
        }
        prop_assert_eq!(batch.histograms.len(), histograms.len());
        for ((sample, t_ms), want) in batch.histograms.iter().zip(histogram_times).zip(histograms) {
            prop_assert_eq!(sample.t_ms, t_ms);
            let mut want = (*want).clone();
            if want.reset_hint == ResetHint::NoReset {
                want.reset_hint = ResetHint::Unknown;
            }
            prop_assert_eq!(&sample.histogram, &Histogram::Float(want));
            let start = sample.labels_start as usize;
            let bytes = &batch.label_bytes[start..start + sample.labels_len as usize];
            prop_assert_eq!(decode_labels(sample.form, bytes, &limits), Ok(series.clone()));
        }
    }
}
