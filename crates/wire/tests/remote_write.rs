//! Remote write 1.0: what is encoded comes back, and what is damaged is an error.

use model::{
    BucketLayout, Histogram, HistogramSample, IntegerHistogram, LabelForm, Labels, Limits,
    MetricBatch, MetricMetadata, MetricType, ResetHint, STALE_NAN_BITS, Span,
};
use proptest::prelude::*;
use wire::remote_write::{decode, encode};
use wire::{WireError, decode_labels};

/// Each entry of the batch as labels and samples, values as bits.
fn series_of(batch: &MetricBatch) -> Vec<(Labels, Vec<(i64, u64)>)> {
    let limits = Limits::default();
    let samples = |first: u32, rows: u32| {
        (first as usize..(first + rows) as usize)
            .map(|row| (batch.timestamps_ms[row], batch.values[row].to_bits()))
            .collect()
    };
    batch
        .series
        .iter()
        .map(|series| {
            let labels = decode_labels(series.form, batch.label_bytes_of(series), &limits)
                .expect("labels of a test are valid");
            (labels, samples(series.first_row, series.rows))
        })
        .collect()
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 0x80, "one length byte");
    [&[tag, content.len() as u8], content].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(0x0a, &[field(0x0a, name.as_bytes()), field(0x12, value.as_bytes())].concat())
}

fn sample(t_ms: u8, value: f64) -> Vec<u8> {
    field(0x12, &[&[0x09][..], &value.to_le_bytes(), &[0x10, t_ms]].concat())
}

fn decoded(body: &[u8]) -> (MetricBatch, wire::remote_write::Summary) {
    let mut batch = MetricBatch::default();
    let summary =
        decode(body.to_vec(), &Limits::default(), &mut batch).expect("a well-formed request");
    (batch, summary)
}

#[test]
fn labels_that_do_not_stand_together_are_brought_together() {
    let stray = [label("b", "2"), sample(1, 1.0), label("__name__", "m"), sample(2, 2.0)].concat();
    let plain = [label("__name__", "n"), sample(3, 3.0)].concat();
    let (batch, summary) = decoded(&[field(0x0a, &stray), field(0x0a, &plain)].concat());
    let printed: Vec<_> = series_of(&batch).iter().map(|(l, s)| format!("{l} {s:?}")).collect();
    assert_eq!(
        printed,
        [
            format!("m{{b=\"2\"}} {:?}", [(1, 1.0_f64.to_bits()), (2, 2.0_f64.to_bits())]),
            format!("n {:?}", [(3, 3.0_f64.to_bits())]),
        ]
    );
    assert_eq!((summary.series, summary.samples), (2, 3));
}

#[test]
fn exemplars_alone_make_no_entry_of_samples() {
    let series = [label("__name__", "m"), field(0x1a, &[]), field(0x1a, &[])];
    let (batch, summary) = decoded(&field(0x0a, &series.concat()));
    assert_eq!((summary.exemplars, summary.histograms), (2, 0));
    assert!(batch.series.is_empty(), "no samples, no entry");
}

#[test]
fn histograms_are_read_in_every_spelling() {
    // Count 3, sum 1.5, schema -1, zero count 1; spans at -2 and 1; deltas 1, 0 unpacked, -1 packed.
    let message = [
        &[0x08, 3, 0x19][..],
        &1.5_f64.to_le_bytes(),
        &[0x20, 1, 0x30, 1, 0x5a, 4, 0x08, 3, 0x10, 2, 0x5a, 4, 0x08, 2, 0x10, 1],
        &[0x60, 2, 0x60, 0, 0x62, 1, 1, 0x70, 3, 0x78, 9],
    ]
    .concat();
    let series = [label("a", "1"), field(0x22, &message), label("__name__", "m")].concat();
    let (batch, summary) = decoded(&field(0x0a, &series));
    assert_eq!((summary.samples, summary.histograms, batch.series.len()), (1, 1, 0));
    let sample = &batch.histograms[0];
    let labels =
        decode_labels(sample.form, batch.label_bytes_of_histogram(sample), &Limits::default());
    assert_eq!(labels.expect("valid labels").to_string(), "m{a=\"1\"}");
    assert_eq!((sample.t_ms, sample.start_ms), (9, None));
    let Histogram::Integer(histogram) = &sample.histogram else { panic!("whole counts") };
    assert_eq!((histogram.count, histogram.zero_count, histogram.sum), (3, 1, 1.5));
    assert_eq!(histogram.positive, [1, 1, 0]);
    assert_eq!(histogram.reset_hint, ResetHint::Gauge);
    let spans: Vec<_> = histogram.layout.positive.iter().map(|s| (s.offset, s.len)).collect();
    assert_eq!((histogram.layout.schema, spans), (-1, vec![(-2, 2), (1, 1)]));
}

#[test]
fn unknown_fields_and_odd_orders_are_read() {
    // Timestamp before value, an unknown field, defaults left out, a tag longer than needed.
    let odd = [&[0x10, 5, 0x09][..], &2.5_f64.to_le_bytes(), &[0x18, 1]].concat();
    let series = [label("__name__", "m"), field(0x12, &odd), field(0x12, &[])].concat();
    let body = [&[0x8a, 0x00, series.len() as u8][..], &series, &[0x5d, 0, 0, 0, 0]].concat();
    let (batch, _) = decoded(&body);
    assert_eq!(series_of(&batch)[0].1, [(5, 2.5_f64.to_bits()), (0, 0)]);
}

#[test]
fn faults_are_placed_and_leave_the_batch_empty() {
    let good = field(0x0a, &[label("__name__", "m"), sample(1, 1.0)].concat());
    let check = |tail: &[u8], expected: &str| {
        let mut batch = MetricBatch::default();
        batch.push(&Labels::empty(), 1, 1.0);
        let error = decode([&good, tail].concat(), &Limits::default(), &mut batch)
            .expect_err("must be refused");
        assert_eq!(error.to_string(), format!("malformed remote write 1.0 request at {expected}"));
        assert_eq!(batch, MetricBatch::default());
    };
    let end = good.len();
    check(&[0x0a, 5], &format!("byte {}: length runs past the end of its message", end + 1));
    check(&[0x0b], &format!("byte {end}: wire type is not supported"));
    check(&[0x02, 0], &format!("byte {end}: invalid field number"));
    check(
        &[0x0a, 2, 0x12, 9],
        &format!("byte {}: length runs past the end of its message", end + 3),
    );
    check(
        &[0x0a, 4, 0x12, 2, 0x08, 1],
        &format!("byte {}: field of a sample has the wrong type", end + 4),
    );
    check(&[0x80], &format!("byte {end}: varint is cut off"));
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let limits = Limits { max_body_bytes: 3, ..Limits::default() };
    let error = decode(vec![0; 4], &limits, &mut MetricBatch::default()).expect_err("4 > 3");
    assert!(matches!(&error, WireError::Limit { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "remote write body of 4 bytes exceeds the limit of 3 bytes; lower the sender's \
         `queue_config.max_samples_per_send` or raise `limits.max_body_bytes`"
    );
}

#[test]
fn metadata_is_decoded_and_bounded() {
    let metadata = MetricMetadata {
        metric: "http_requests".to_owned(),
        kind: MetricType::StateSet,
        help: "Help é".to_owned(),
        unit: "bytes".to_owned(),
    };
    let batch = MetricBatch { metadata: vec![metadata], ..MetricBatch::default() };
    let mut body = Vec::new();
    encode(&batch, &mut body).expect("a valid batch");
    assert_eq!(decoded(&body).0.metadata, batch.metadata);
    let flood = [0x1a, 0].repeat(100_001);
    let error = decode(flood, &Limits::default(), &mut MetricBatch::default());
    assert!(error.expect_err("too many").is_limit());
    let flood = field(0x0a, &[label("__name__", "m"), [0x22, 0].repeat(40)].concat()).repeat(2_501);
    let error = decode(flood, &Limits::default(), &mut MetricBatch::default());
    assert!(error.expect_err("too many").is_limit());
}

fn histograms() -> impl Strategy<Value = Histogram> {
    let counts = proptest::collection::vec(0..1_000_000_u64, 0..6);
    let numbers = (any::<u64>(), any::<f64>(), -4..9_i32, 0..4_u64, any::<bool>());
    (numbers, counts.clone(), counts).prop_map(
        |((count, sum, schema, hint, is_float), positive, negative)| {
            let span = |counts: &[u64]| vec![Span { offset: -3, len: counts.len() as u32 }];
            let layout = BucketLayout {
                schema,
                zero_threshold: 1e-9,
                positive: span(&positive),
                negative: span(&negative),
                custom_bounds: if hint == 3 { vec![1.0, 2.5] } else { Vec::new() },
            };
            let mut histogram = IntegerHistogram::empty(layout.into());
            histogram.count = count;
            histogram.zero_count = count / 3;
            histogram.sum = sum;
            (histogram.positive, histogram.negative) = (positive, negative);
            histogram.reset_hint = ResetHint::from_number(hint).expect("there are four");
            let histogram = Histogram::Integer(histogram);
            if is_float { Histogram::Float(histogram.to_float()) } else { histogram }
        },
    )
}

/// Each histogram of the batch with its labels; sums as bits.
fn histograms_of(batch: &MetricBatch) -> Vec<String> {
    let shown = |sample: &HistogramSample| {
        let labels =
            decode_labels(sample.form, batch.label_bytes_of_histogram(sample), &Limits::default());
        let sum = sample.histogram.sum().to_bits();
        format!("{:?} {} {sum} {:?}", labels, sample.t_ms, sample.histogram)
    };
    batch.histograms.iter().map(shown).collect()
}

prop_compose! {
    fn batches()(
        series in proptest::collection::vec(
            (
                proptest::collection::btree_map("[a-z]{1,8}", "[ -~é]{1,150}", 0..6),
                proptest::collection::vec(
                    (any::<i64>(), prop_oneof![any::<u64>(), Just(STALE_NAN_BITS)]),
                    1..4,
                ),
            ),
            0..8,
        ),
        histograms in proptest::collection::vec((any::<i64>(), histograms()), 0..4),
    ) -> MetricBatch {
        let mut batch = MetricBatch::default();
        for (mut pairs, samples) in series {
            pairs.insert("__name__".to_owned(), "metric".to_owned());
            let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
                .expect("names are unique");
            for (index, (t_ms, bits)) in samples.into_iter().enumerate() {
                if index == 0 {
                    batch.push(&labels, t_ms, f64::from_bits(bits));
                } else {
                    batch.timestamps_ms.push(t_ms);
                    batch.values.push(f64::from_bits(bits));
                    batch.series.last_mut().expect("pushed before").rows += 1;
                }
            }
        }
        let labels = Labels::from_pairs([("__name__", "histogram")]).expect("one label");
        for (t_ms, histogram) in histograms {
            batch.push_histogram(&labels, t_ms, None, histogram);
        }
        batch
    }
}

proptest! {
    #[test]
    fn round_trips_bit_exact(batch in batches()) {
        let mut body = Vec::new();
        encode(&batch, &mut body).expect("a valid batch");
        let (back, summary) = decoded(&body);
        prop_assert_eq!(series_of(&back), series_of(&batch));
        prop_assert_eq!(histograms_of(&back), histograms_of(&batch));
        prop_assert_eq!(summary.samples, batch.samples());
        prop_assert!(back.series.iter().all(|s| s.form == LabelForm::RemoteWrite1));
        // Labels as they came are also written as they came.
        let mut again = Vec::new();
        encode(&back, &mut again).expect("a valid batch");
        prop_assert_eq!(again, body);
    }

    #[test]
    fn damage_never_panics_and_rows_stay_consistent(
        batch in batches(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut body = Vec::new();
        encode(&batch, &mut body).expect("a valid batch");
        for (at, byte) in flips {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        body.truncate(cut.index(body.len() + 1));
        let mut out = MetricBatch::default();
        if decode(body, &Limits::default(), &mut out).is_ok() {
            let mut rows = 0;
            for series in &out.series {
                prop_assert_eq!(series.first_row, rows);
                rows += series.rows;
                let _ = decode_labels(series.form, out.label_bytes_of(series), &Limits::default());
            }
            let _ = histograms_of(&out);
            prop_assert_eq!(rows as usize, out.rows());
            prop_assert_eq!(out.values.len(), out.rows());
        }
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(body, &Limits::default(), &mut MetricBatch::default());
    }
}
