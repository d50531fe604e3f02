//! Agents' batches: what is packed comes back, what is damaged is an error, bytes stay.

use std::path::Path;

use model::{
    BucketLayout, Exemplar, Histogram, HistogramSample, IntegerHistogram, LabelForm, Labels,
    Limits, MetricBatch, MetricMetadata, MetricType, SeriesRows, Span,
};
use proptest::prelude::*;
use wire::WireError;
use wire::agent_batch::{VERSION, decode, encode};

fn encoded(batch: &MetricBatch) -> Vec<u8> {
    let mut out = b"kept".to_vec();
    encode(batch, &mut out);
    assert_eq!(&out[..4], b"kept");
    out.split_off(4)
}

fn decoded(bytes: &[u8]) -> Result<MetricBatch, WireError> {
    let mut out = MetricBatch::default();
    out.push(&Labels::empty(), 1, 1.0);
    let result = decode(bytes, &Limits::default(), &mut out);
    if result.is_err() {
        assert_eq!(out, MetricBatch::default(), "emptied");
    }
    result.map(|()| out)
}

/// One series of a batch: labels, times, values as bits, starts.
type Rows = (Vec<u8>, Vec<i64>, Vec<u64>, Vec<i64>);

/// Each entry of the batch, wherever its rows lie.
fn series_of(batch: &MetricBatch) -> Vec<Rows> {
    let rows =
        |series: &SeriesRows| series.first_row as usize..(series.first_row + series.rows) as usize;
    let bits = |series| batch.values[rows(series)].iter().map(|v| v.to_bits()).collect();
    batch
        .series
        .iter()
        .map(|series| {
            assert_eq!(series.form, LabelForm::Packed);
            let times = batch.timestamps_ms[rows(series)].to_vec();
            let starts_ms = rows(series).map(|row| batch.start_ms(row)).collect();
            (batch.label_bytes_of(series).to_vec(), times, bits(series), starts_ms)
        })
        .collect()
}

fn any_labels() -> impl Strategy<Value = Vec<u8>> {
    let pairs = proptest::collection::btree_map("[a-c]{1,3}", "[a-zé]{1,12}", 0..5);
    prop_oneof![
        8 => pairs.prop_map(|pairs| {
            let pairs = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            Labels::from_pairs(pairs).expect("names are unique").as_packed().to_vec()
        }),
        // Whatever an agent sends is checked later.
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn any_metadata() -> impl Strategy<Value = MetricMetadata> {
    let kind = prop_oneof![
        Just(MetricType::Unknown),
        Just(MetricType::Counter),
        Just(MetricType::GaugeHistogram),
        Just(MetricType::StateSet),
    ];
    ("[a-z_é]{0,9}", kind, ".{0,20}", "[a-z]{0,4}")
        .prop_map(|(metric, kind, help, unit)| MetricMetadata { metric, kind, help, unit })
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let counts = proptest::collection::vec(0..100_000_u64, 0..5);
    (counts, any::<f64>(), any::<bool>(), -4..9).prop_map(|(counts, sum, is_float, schema)| {
        let spans = vec![Span { offset: -7, len: counts.len() as u32 }];
        let layout = BucketLayout { schema, positive: spans, ..BucketLayout::default() };
        let mut histogram = IntegerHistogram::empty(layout.into());
        histogram.count = counts.iter().sum();
        histogram.sum = sum;
        histogram.positive = counts;
        let histogram = Histogram::Integer(histogram);
        if is_float { Histogram::Float(histogram.to_float()) } else { histogram }
    })
}

/// Each histogram of the batch with its labels; sums as bits.
fn histograms_of(batch: &MetricBatch) -> Vec<String> {
    let shown = |sample: &HistogramSample| {
        assert_eq!(sample.form, LabelForm::Packed);
        let labels = batch.label_bytes_of_histogram(sample);
        let (t_ms, start_ms) = (sample.t_ms, sample.start_ms);
        let sum = sample.histogram.sum().to_bits();
        format!("{labels:?} {t_ms} {start_ms:?} {sum} {:?}", sample.histogram)
    };
    batch.histograms.iter().map(shown).collect()
}

fn any_batch() -> impl Strategy<Value = MetricBatch> {
    let histogram = (any_labels(), any::<i64>(), proptest::option::of(1..9_i64), any_histogram());
    let histograms = proptest::collection::vec(histogram, 0..4);
    let start = prop_oneof![3 => 0..3_i64, 1 => any::<i64>()];
    let starts_ms = proptest::collection::vec(start, 0..60);
    (any_floats(), starts_ms, histograms).prop_map(|(mut batch, starts_ms, histograms)| {
        // Of some rows, or of none, it is known when they began.
        batch.starts_ms = starts_ms;
        batch.starts_ms.truncate(batch.rows());
        for (labels, t_ms, start_ms, histogram) in histograms {
            batch.histograms.push(HistogramSample {
                labels_start: batch.label_bytes.len() as u32,
                labels_len: labels.len() as u32,
                form: LabelForm::Packed,
                t_ms,
                start_ms,
                histogram,
            });
            batch.label_bytes.extend_from_slice(&labels);
        }
        batch
    })
}

fn any_floats() -> impl Strategy<Value = MetricBatch> {
    let time = prop_oneof![Just(1_795_219_200_000), any::<i64>()];
    let value = prop_oneof![(0_i64..1_000).prop_map(|n| (n as f64).to_bits()), any::<u64>()];
    let rows = proptest::collection::vec((time, value), 0..6);
    let series = proptest::collection::vec((any_labels(), rows), 0..30);
    let metadata = proptest::collection::vec(any_metadata(), 0..3);
    (series, metadata, any::<bool>()).prop_map(|(series, metadata, backwards)| {
        let mut batch = MetricBatch { metadata, ..MetricBatch::default() };
        // Rows need not lie in the order of the series.
        let order: Vec<usize> = (0..series.len()).collect();
        let order = if backwards { order.into_iter().rev().collect() } else { order };
        let empty = SeriesRows {
            labels_start: 0,
            labels_len: 0,
            form: LabelForm::Packed,
            first_row: 0,
            rows: 0,
        };
        batch.series = vec![empty; series.len()];
        for at in order {
            let (labels, rows) = &series[at];
            batch.series[at] = SeriesRows {
                labels_start: batch.label_bytes.len() as u32,
                labels_len: labels.len() as u32,
                form: LabelForm::Packed,
                first_row: batch.rows() as u32,
                rows: rows.len() as u32,
            };
            batch.label_bytes.extend_from_slice(labels);
            batch.timestamps_ms.extend(rows.iter().map(|row| row.0));
            batch.values.extend(rows.iter().map(|row| f64::from_bits(row.1)));
        }
        batch
    })
}

proptest! {
    #[test]
    fn any_batch_comes_back(batch in any_batch()) {
        let back = decoded(&encoded(&batch)).expect("own bytes");
        prop_assert_eq!(series_of(&back), series_of(&batch));
        prop_assert_eq!(histograms_of(&back), histograms_of(&batch));
        prop_assert_eq!(&back.metadata, &batch.metadata);
        let again = decoded(&encoded(&back)).expect("own bytes");
        prop_assert_eq!(series_of(&again), series_of(&back));
    }

    #[test]
    fn damage_is_noticed(batch in any_batch(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = encoded(&batch);
        let at = at.index(bytes.len());
        prop_assert!(decoded(&bytes[..at]).is_err());
        bytes[at] ^= 1_u8 << bit;
        let is_noticed = matches!(decoded(&bytes), Err(WireError::Malformed { .. }));
        prop_assert!(is_noticed);
    }

    #[test]
    fn any_body_is_refused_or_read(
        batch in any_batch(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        noise in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut body = body_of(&encoded(&batch));
        for (at, byte) in cuts {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        for body in [body, noise] {
            // The checksum fits, so only the fields themselves can refuse.
            if let Ok(back) = decoded(&sealed(VERSION, &body)) {
                let again = decoded(&encoded(&back)).expect("own bytes");
                prop_assert_eq!(series_of(&again), series_of(&back));
            }
        }
    }
}

/// A body in a right envelope.
fn sealed(version: u8, body: &[u8]) -> Vec<u8> {
    let frame = zstd::encode_all(body, 1).expect("a Vec takes every byte");
    sealed_frame(version, body.len(), &frame)
}

fn sealed_frame(version: u8, len: usize, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![version];
    codec::varint::put_u64(&mut bytes, len as u64);
    bytes.extend_from_slice(frame);
    bytes.extend_from_slice(&codec::checksum(&bytes).to_le_bytes());
    bytes
}

/// The other way; the length is in front of the frame, which begins with zstd's magic.
fn body_of(bytes: &[u8]) -> Vec<u8> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let frame = bytes.windows(4).position(|window| window == MAGIC).expect("a frame");
    zstd::decode_all(&bytes[frame..bytes.len() - 4]).expect("a good frame")
}

fn sample_batch() -> MetricBatch {
    let mut batch = MetricBatch::default();
    let t_ms = 1_795_219_200_000;
    for (cpu, value) in [("0", 1.5), ("1", 0.1 + 0.2), ("10", f64::NAN)] {
        let labels = Labels::from_pairs([("__name__", "cpu_seconds_total"), ("cpu", cpu)]);
        batch.push(&labels.expect("valid"), t_ms, value);
    }
    let up = Labels::from_pairs([("__name__", "up"), ("job", "a")]).expect("valid");
    batch.push(&up, t_ms + 1_000, 1.0);
    batch.metadata.push(MetricMetadata {
        metric: "cpu_seconds_total".to_owned(),
        kind: MetricType::Counter,
        help: "Time spent.".to_owned(),
        unit: "seconds".to_owned(),
    });
    batch
}

/// What version 1 looks like stays. zstd's own output may change between its versions, so bodies
/// are compared. `UPDATE_EXPECT=1` writes the file of a new version.
#[test]
fn batches_keep_their_bytes() {
    let bytes = encoded(&sample_batch());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/agent_batch.v1");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &bytes).expect("golden files can be written");
    }
    let golden = std::fs::read(&path).expect("the golden file exists");
    assert_eq!(body_of(&bytes), body_of(&golden), "the format changed");
    let back = decoded(&golden).expect("version 1 can be read");
    assert_eq!(series_of(&back), series_of(&sample_batch()));
    assert_eq!(back.metadata, sample_batch().metadata);
}

/// The section of histograms, byte by byte, as the format draws it.
#[test]
fn histograms_keep_their_bytes() {
    let mut batch = MetricBatch::default();
    let layout = BucketLayout {
        schema: 3,
        positive: vec![Span { offset: 0, len: 1 }],
        ..BucketLayout::default()
    };
    let mut histogram = IntegerHistogram::empty(layout.into());
    (histogram.count, histogram.sum, histogram.positive) = (2, 0.5, vec![2]);
    let labels = |job| Labels::from_pairs([("__name__", "h"), ("job", job)]).expect("unique");
    batch.push_histogram(&labels("a"), 5, Some(4), Histogram::Integer(histogram.clone()));
    batch.push_histogram(&labels("b"), 6, None, Histogram::Integer(histogram.clone()));
    // What is no histogram is left out.
    histogram.count = 3;
    batch.push_histogram(&labels("c"), 7, None, Histogram::Integer(histogram));
    let body = body_of(&encoded(&batch));
    let sum = [0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
    let first = [
        &[0, 17, 8][..],
        b"__name__\x01h\x03job\x01a",
        &[10, 8, 1, 6, 0, 1, 0, 1, 0, 0, 2, 0],
        &sum,
        &[4],
    ]
    .concat();
    let second = [&[16, 1][..], b"b", &[2, 7, 0, 0, 2, 0], &sum, &[4]].concat();
    let section = [&[2][..], &first, &second].concat();
    assert_eq!(body, [&[3, section.len() as u8][..], &section].concat());
    let back = decoded(&encoded(&batch)).expect("own bytes");
    assert_eq!(histograms_of(&back), histograms_of(&batch)[..2]);
}

/// The section of exemplars, byte by byte, as the format draws it.
#[test]
fn exemplars_keep_their_bytes() {
    let labels = |job| Labels::from_pairs([("__name__", "h"), ("job", job)]).expect("unique");
    let own = Labels::from_pairs([("trace_id", "ab")]).expect("unique");
    let exemplar = |labels, t_ms, is_dated| Exemplar { labels, value: 0.5, t_ms, is_dated };
    let mut batch = MetricBatch::default();
    batch.push_exemplar(&labels("a"), &exemplar(own, 5, true));
    batch.push_exemplar(&labels("b"), &exemplar(Labels::empty(), 4, false));
    let value = [0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
    let first = [
        &[0, 17, 8][..],
        b"__name__\x01h\x03job\x01a",
        &[12, 8],
        b"trace_id\x02ab",
        &[10, 1],
        &value,
    ]
    .concat();
    let second = [&[16, 1][..], b"b", &[0, 1, 0], &value].concat();
    let section = [&[2][..], &first, &second].concat();
    let bytes = encoded(&batch);
    assert_eq!(body_of(&bytes), [&[4, section.len() as u8][..], &section].concat());
    let back = decoded(&bytes).expect("own bytes");
    assert_eq!(encoded(&back), bytes);
    let times: Vec<_> = back.exemplars.iter().map(|e| (e.t_ms, e.is_dated, e.value)).collect();
    assert_eq!(times, [(5, true, 0.5), (4, false, 0.5)]);
    for cut in 0..section.len() {
        let body = [&[4, cut as u8][..], &section[..cut]].concat();
        assert!(matches!(decoded(&sealed(VERSION, &body)), Err(WireError::Malformed { .. })));
    }
}

#[test]
fn what_is_newer_is_not_called_damaged() {
    let version = decoded(&sealed(2, b"whatever")).expect_err("version 2 is unknown");
    let section = decoded(&sealed(VERSION, &[6, 1, 0])).expect_err("section 6 is unknown");
    for error in [version, section] {
        assert!(matches!(error, WireError::Newer { .. }), "{error}");
        assert!(error.to_string().contains("upgrade brokers before agents"), "{error}");
    }
    assert!(matches!(decoded(&sealed(0, b"")), Err(WireError::Malformed { .. })));
}

#[test]
fn sections_stand_once_and_in_order() {
    let body = body_of(&encoded(&sample_batch()));
    let twice = [&body[..], &body[..]].concat();
    let error = decoded(&sealed(VERSION, &twice)).expect_err("section 1 after 2");
    assert!(error.to_string().contains("ascending order"), "{error}");
    assert_eq!(decoded(&sealed(VERSION, &[])), Ok(MetricBatch::default()));
}

#[test]
fn a_small_payload_cannot_demand_much_memory() {
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let refused = |bytes: &[u8]| {
        let mut out = MetricBatch::default();
        let error = decode(bytes, &limits, &mut out).expect_err("refused");
        let taken =
            out.label_bytes.capacity() + 20 * out.series.capacity() + 16 * out.values.capacity();
        assert!(taken <= 3 << 20, "{taken} bytes for {} of payload", bytes.len());
        error
    };
    // A bomb, honest and not about its size.
    let zeros = vec![0; 64 << 20];
    let frame = zstd::encode_all(&zeros[..], 1).expect("a Vec takes every byte");
    assert!(refused(&sealed_frame(VERSION, zeros.len(), &frame)).is_limit());
    assert!(refused(&sealed_frame(VERSION, usize::MAX, &frame)).is_limit());
    assert!(matches!(
        refused(&sealed_frame(VERSION, 1 << 20, &frame)),
        WireError::Compression { .. }
    ));
    // Labels that share all with the ones before: 2 bytes each, 60,000 when unfolded.
    let labels = vec![b'x'; 60_000];
    let mut batch = MetricBatch::default();
    for _ in 0..1_000 {
        batch.series.push(SeriesRows {
            labels_start: 0,
            labels_len: 60_000,
            form: LabelForm::Packed,
            first_row: 0,
            rows: 0,
        });
    }
    batch.label_bytes = labels;
    let bytes = encoded(&batch);
    assert!(bytes.len() < 1_000);
    assert!(refused(&bytes).is_limit());
    // As many samples as a column may have, of a series without labels.
    let mut many = vec![1, 0, 0];
    codec::encode_i64s(&[1 << 24], &mut many);
    codec::encode_i64s(&[0; 2], &mut many);
    let mut body = vec![1, many.len() as u8];
    body.extend_from_slice(&many);
    assert!(refused(&sealed(VERSION, &body)).is_limit());
}

#[test]
#[should_panic(expected = "packed")]
fn label_bytes_of_other_protocols_are_refused() {
    let mut batch = sample_batch();
    batch.series[0].form = LabelForm::RemoteWrite1;
    encoded(&batch);
}
