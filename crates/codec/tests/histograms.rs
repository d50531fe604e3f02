//! Histograms by row and by column: what went in comes out, bit for bit, and damage is an error.

use std::sync::Arc;

use codec::{
    MAX_HISTOGRAM_CELLS, decode_histograms, encode_histograms, put_histogram, put_layout,
    take_histogram, take_layout,
};
use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{BucketLayout, FloatHistogram, Histogram, IntegerHistogram, ResetHint, Span};
use proptest::prelude::*;

fn spans() -> impl Strategy<Value = Vec<Span>> {
    proptest::collection::vec((0..40_i32, 0..6_u32), 0..4).prop_map(|spans| {
        let span = |(index, (offset, len))| Span {
            offset: if index == 0 { offset - 20 } else { offset },
            len,
        };
        spans.into_iter().enumerate().map(span).collect()
    })
}

fn layout() -> impl Strategy<Value = Arc<BucketLayout>> {
    let threshold = prop_oneof![Just(0.0), Just(2.938735877055719e-39), any::<f64>()];
    let exponential = (-4..=8_i32, threshold, spans(), spans()).prop_map(
        |(schema, zero_threshold, positive, negative)| BucketLayout {
            schema,
            zero_threshold,
            positive,
            negative,
            custom_bounds: Vec::new(),
        },
    );
    let custom = proptest::collection::vec(0..100_u32, 0..8).prop_map(|steps| BucketLayout {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive: vec![Span { offset: 0, len: steps.len() as u32 + 1 }],
        custom_bounds: steps
            .iter()
            .scan(0.0, |bound, step| {
                *bound += 0.1 + f64::from(*step);
                Some(*bound)
            })
            .collect(),
        ..BucketLayout::default()
    });
    prop_oneof![3 => exponential, 1 => custom].prop_map(Arc::new)
}

fn hint() -> impl Strategy<Value = ResetHint> {
    prop_oneof![Just(ResetHint::Unknown), Just(ResetHint::Reset), Just(ResetHint::Gauge)]
}

fn sum() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        (0..9_999_i32).prop_map(|sum| f64::from(sum) / 100.0),
        Just(f64::from_bits(model::STALE_NAN_BITS)),
    ]
}

fn integer(layout: Arc<BucketLayout>) -> impl Strategy<Value = Histogram> {
    let (positive, negative) = layout.bucket_counts();
    let count = prop_oneof![9 => 0..200_u64, 1 => any::<u64>()];
    let counts = move |len| proptest::collection::vec(count.clone(), len);
    let numbers = (any::<u64>(), 0..9_u64, sum(), hint());
    (numbers, counts(positive), counts(negative)).prop_map(
        move |((count, zero_count, sum, reset_hint), positive, negative)| {
            let layout = Arc::clone(&layout);
            Histogram::Integer(IntegerHistogram {
                layout,
                reset_hint,
                count,
                zero_count,
                sum,
                positive,
                negative,
            })
        },
    )
}

fn float(layout: Arc<BucketLayout>) -> impl Strategy<Value = Histogram> {
    let (positive, negative) = layout.bucket_counts();
    let counts = |len| proptest::collection::vec(any::<f64>(), len);
    let numbers = (any::<f64>(), any::<f64>(), sum(), hint());
    (numbers, counts(positive), counts(negative)).prop_map(
        move |((count, zero_count, sum, reset_hint), positive, negative)| {
            let layout = Arc::clone(&layout);
            Histogram::Float(FloatHistogram {
                layout,
                reset_hint,
                count,
                zero_count,
                sum,
                positive,
                negative,
            })
        },
    )
}

fn column() -> impl Strategy<Value = Vec<Histogram>> {
    layout().prop_flat_map(|layout| {
        let integers = proptest::collection::vec(integer(Arc::clone(&layout)), 1..200).boxed();
        let floats = proptest::collection::vec(float(layout), 1..40).boxed();
        prop_oneof![3 => integers, 1 => floats]
    })
}

/// Every bit of the histograms, NaN included.
fn bits(histograms: &[Histogram]) -> String {
    let bits = |histogram: &Histogram| {
        let float = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let counts = match histogram {
            Histogram::Integer(h) => {
                format!("i {} {} {:?} {:?}", h.count, h.zero_count, h.positive, h.negative)
            }
            Histogram::Float(h) => format!(
                "f {} {} {:?} {:?}",
                h.count.to_bits(),
                h.zero_count.to_bits(),
                float(&h.positive),
                float(&h.negative)
            ),
        };
        let layout = histogram.layout();
        format!(
            "{counts} {} {:?} {} {layout:?}\n",
            histogram.sum().to_bits(),
            histogram.reset_hint(),
            layout.zero_threshold.to_bits(),
        )
    };
    histograms.iter().map(bits).collect()
}

proptest! {
    #[test]
    fn columns_survive(histograms in column()) {
        let mut bytes = vec![0xaa];
        encode_histograms(&histograms, &mut bytes);
        bytes.push(0xbb);
        let mut input = &bytes[1..];
        let mut found = Vec::new();
        decode_histograms(&mut input, histograms.len(), &mut found).expect("own bytes");
        prop_assert_eq!(input, [0xbb]);
        prop_assert_eq!(bits(&found), bits(&histograms));
        prop_assert!(found.iter().all(|h| Arc::ptr_eq(h.layout(), found[0].layout())));
    }

    #[test]
    fn rows_survive(histograms in column()) {
        let mut bytes = Vec::new();
        put_layout(histograms[0].layout(), &mut bytes);
        histograms.iter().for_each(|histogram| put_histogram(histogram, &mut bytes));
        let mut input = bytes.as_slice();
        let layout = Arc::new(take_layout(&mut input).expect("own layout"));
        let take = |_| take_histogram(&mut input, &layout).expect("own histogram");
        let found: Vec<_> = (0..histograms.len()).map(take).collect();
        prop_assert!(input.is_empty());
        prop_assert_eq!(bits(&found), bits(&histograms));
    }

    #[test]
    fn damage_is_an_error_or_other_numbers(
        histograms in column(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        count in 0..1_000_000_usize,
    ) {
        let mut bytes = Vec::new();
        encode_histograms(&histograms, &mut bytes);
        let mut out = Vec::new();
        let at = at.index(bytes.len());
        prop_assert!(decode_histograms(&mut &bytes[..at], histograms.len(), &mut out).is_err());
        prop_assert!(out.is_empty());
        let _ = decode_histograms(&mut bytes.as_slice(), count, &mut Vec::new());
        bytes[at] ^= flip;
        let _ = decode_histograms(&mut bytes.as_slice(), histograms.len(), &mut out);
        let cells: usize = out.iter().map(Histogram::bucket_count).sum();
        prop_assert!(cells <= MAX_HISTOGRAM_CELLS);
    }

    #[test]
    fn garbage_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut input = bytes.as_slice();
        if let Ok(layout) = take_layout(&mut input) {
            let _ = take_histogram(&mut input, &Arc::new(layout));
        }
        let _ = decode_histograms(&mut bytes.as_slice(), 3, &mut Vec::new());
    }
}

/// A client's histogram of request times, scraped `rows` times.
fn latencies(rows: usize) -> Vec<Histogram> {
    let layout = Arc::new(BucketLayout {
        schema: 3,
        zero_threshold: 2.938735877055719e-39,
        positive: vec![Span { offset: -60, len: 30 }, Span { offset: 2, len: 6 }],
        ..BucketLayout::default()
    });
    let mut state = 7_u64;
    let mut histogram = IntegerHistogram::empty(layout);
    let mut all = Vec::new();
    for _ in 0..rows {
        for bucket in 0..histogram.positive.len() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let near = 20_u64.saturating_sub((bucket as u64).abs_diff(14));
            let grown = (state >> 33) % (near / 3 + 1);
            histogram.positive[bucket] += grown;
            histogram.count += grown;
            histogram.sum += grown as f64 * 1e-3 * (bucket as f64 + 0.37);
        }
        all.push(Histogram::Integer(histogram.clone()));
    }
    all
}

#[test]
fn a_busy_histogram_takes_about_half_a_byte_per_bucket() {
    let histograms = latencies(128);
    let mut bytes = Vec::new();
    encode_histograms(&histograms, &mut bytes);
    let cells = histograms.len() * histograms[0].bucket_count();
    let per_row = bytes.len() / histograms.len();
    assert!(
        bytes.len() * 10 < cells * 7,
        "{} bytes for {cells} counts, {per_row} a row",
        bytes.len()
    );

    let mut rows = Vec::new();
    histograms.iter().for_each(|histogram| put_histogram(histogram, &mut rows));
    assert!(rows.len() < cells * 2, "{} bytes for {cells} counts", rows.len());
}

#[test]
fn bytes_are_as_the_format_draws_them() {
    let layout = Arc::new(BucketLayout {
        schema: 3,
        zero_threshold: 2.938735877055719e-39,
        positive: vec![Span { offset: -1, len: 2 }, Span { offset: 3, len: 1 }],
        negative: vec![Span { offset: 0, len: 1 }],
        custom_bounds: Vec::new(),
    });
    let histogram = |counts: [u64; 4], sum| {
        Histogram::Integer(IntegerHistogram {
            layout: Arc::clone(&layout),
            reset_hint: ResetHint::Gauge,
            count: counts.iter().sum(),
            zero_count: 0,
            sum,
            positive: counts[..3].to_vec(),
            negative: counts[3..].to_vec(),
        })
    };
    let rows = [histogram([1, 5, 2, 0], 0.5), histogram([2, 5, 3, 0], 1.5)];
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    let mut bytes = Vec::new();
    put_layout(&layout, &mut bytes);
    assert_eq!(hex(&bytes), "06 01 02 01 02 06 01 01 00 01");
    bytes.clear();
    put_histogram(&rows[0], &mut bytes);
    assert_eq!(hex(&bytes), "06 08 00 00 00 00 00 00 00 e0 3f 02 08 05 00");
    bytes.clear();
    encode_histograms(&rows, &mut bytes);
    assert_eq!(
        hex(&bytes),
        "00 06 01 02 01 02 06 01 01 00 01 01 06 21 02 0a 14 02 10 04 01 00 02 02 02 01 0a \
         02 04 02 01 00"
    );
}
