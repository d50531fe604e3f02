//! The protobuf exposition: lines as text would have them, faults in Prometheus' words, no panic.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Histogram, Limits, MetricBatch, ResetHint};
use proptest::prelude::*;
use wire::nhcb::Converter;
use wire::protobuf_exposition::{Options, Parser, decode};
use wire::{Entry, WireError, exposition};

/// A field with content of any length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        out.push(len as u8 & 0x7f | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(content);
    out
}

fn double(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn label(name: &[u8], value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, name), field(2, value)].concat())
}

/// A message with its length before it.
fn delimited(message: &[u8]) -> Vec<u8> {
    field(0, message)[1..].to_vec()
}

fn family(name: &str, kind: u8, metrics: &[Vec<u8>]) -> Vec<u8> {
    let head = [field(1, name.as_bytes()), field(2, b"help"), number(3, kind)].concat();
    let metrics: Vec<u8> = metrics.iter().flat_map(|metric| field(4, metric)).collect();
    delimited(&[head, metrics].concat())
}

/// Entries as lines of text, with the histograms of those that have one.
fn lines(input: &[u8], options: Options) -> Result<Vec<String>, WireError> {
    let mut parser = Parser::new(input, options);
    let mut lines = Vec::new();
    while let Some(entry) = parser.next_entry()? {
        lines.push(line(&entry));
    }
    Ok(lines)
}

fn line(entry: &Entry<'_>) -> String {
    match entry {
        Entry::Help { metric, text } => format!("# HELP {metric} {text}"),
        Entry::Type { metric, kind } => format!("# TYPE {metric} {}", kind.as_str()),
        Entry::Unit { metric, unit } => format!("# UNIT {metric} {unit}"),
        Entry::Comment(_) => "#".to_owned(),
        Entry::Series(series) => {
            let labels = series.labels().map_or_else(|e| e.to_string(), |l| l.to_string());
            let t_ms = series.timestamp_ms.map_or_else(String::new, |t_ms| format!(" {t_ms}"));
            format!("{labels} {}{t_ms}", series.value)
        }
        Entry::Histogram(series) => {
            let labels = series.labels().map_or_else(|e| e.to_string(), |l| l.to_string());
            let float = series.histogram.to_float();
            format!("{labels} {{count:{}, sum:{}}} {:?}", float.count, float.sum, float.positive)
        }
    }
}

/// Classic buckets at 1 and 2.5, native ones at indices 3 and 4, created at 7.5 s.
fn both_kinds() -> Vec<u8> {
    let bucket = |count, bound| field(3, &[number(1, count), double(2, bound)].concat());
    let span = field(12, &[number(1, 6), number(2, 2)].concat());
    let created = field(15, &[number(1, 7), vec![0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]].concat());
    let histogram = [
        number(1, 3),
        double(2, 4.5),
        bucket(1, 1.0),
        bucket(3, 2.5),
        number(5, 4),
        span,
        number(13, 2),
        number(13, 2),
        created,
    ]
    .concat();
    [label(b"a", b"\\n\"x"), field(7, &histogram)].concat()
}

#[test]
fn complex_metrics_are_lines() {
    let quantile = field(3, &[double(1, 0.5), double(2, 9.0)].concat());
    let summary = field(4, &[number(1, 8), double(2, 16.0), quantile].concat());
    let input = [
        family("c_total", 0, &[[field(3, &double(1, 3.0)), number(6, 99)].concat()]),
        family("empty", 1, &[]),
        family("s", 2, &[summary]),
        family("h", 4, &[both_kinds()]),
        family("u", 3, &[field(5, &double(1, f64::INFINITY)), Vec::new()]),
    ]
    .concat();
    let classic = Options { ignore_native: true, ..Options::default() };
    assert_eq!(
        lines(&input, classic).expect("well-formed"),
        [
            "# HELP c_total help",
            "# TYPE c_total counter",
            "c_total 3 99",
            "# HELP s help",
            "# TYPE s summary",
            "s_count 8",
            "s_sum 16",
            "s{quantile=\"0.5\"} 9",
            "# HELP h help",
            "# TYPE h histogram",
            "h_count{a=\"\\\\n\\\"x\"} 3",
            "h_sum{a=\"\\\\n\\\"x\"} 4.5",
            "h_bucket{a=\"\\\\n\\\"x\", le=\"1.0\"} 1",
            "h_bucket{a=\"\\\\n\\\"x\", le=\"2.5\"} 3",
            "h_bucket{a=\"\\\\n\\\"x\", le=\"+Inf\"} 3",
            "# HELP u help",
            "# TYPE u unknown",
            "u inf",
            "u 0",
        ]
    );
    let native = lines(&family("h", 4, &[both_kinds()]), Options::default());
    assert_eq!(
        native.expect("well-formed")[2..],
        ["h{a=\"\\\\n\\\"x\"} {count:3, sum:4.5} [1.0, 2.0]"]
    );
    let keep = Options { keep_classic: true, ..Options::default() };
    assert_eq!(lines(&family("h", 4, &[both_kinds()]), keep).expect("well-formed").len(), 8);
}

#[test]
fn a_batch_has_histograms_with_start_and_hint() {
    let input = [family("h", 4, &[both_kinds()]), family("g", 5, &[both_kinds()])].concat();
    let (limits, mut batch) = (Limits::default(), MetricBatch::default());
    let extra = BTreeMap::from([("job".to_owned(), "j".to_owned())]);
    let options = Options { type_and_unit_labels: true, ..Options::default() };
    let summary = decode(&input, 77, &extra, options, &limits, &mut batch).expect("well-formed");
    assert_eq!((summary.samples, summary.histograms, summary.metadata), (2, 2, 2));
    let hints = batch.histograms.iter().map(|sample| sample.histogram.reset_hint());
    assert!(hints.eq([ResetHint::Unknown, ResetHint::Gauge]));
    let sample = &batch.histograms[1];
    assert_eq!((sample.t_ms, sample.start_ms), (77, Some(7_500)));
    assert_eq!(sample.histogram.validate(), Ok(()));
    let bytes = batch.label_bytes_of_histogram(sample);
    let labels = wire::decode_labels(sample.form, bytes, &limits).expect("valid labels");
    assert_eq!(labels.to_string(), "g{__type__=\"gaugehistogram\", a=\"\\\\n\\\"x\", job=\"j\"}");
}

#[test]
fn a_unit_need_not_be_in_the_name() {
    let metric = field(4, &field(2, &double(1, 1.0)));
    for (unit, expected) in [(&b"bytes"[..], "bytes"), (b"\xff", "")] {
        let family = [field(1, b"m_total"), field(5, unit), metric.clone()].concat();
        let (limits, mut batch) = (Limits::default(), MetricBatch::default());
        decode(&delimited(&family), 0, &BTreeMap::new(), Options::default(), &limits, &mut batch)
            .expect("Prometheus takes it");
        let units: Vec<&str> = batch.metadata.iter().map(|about| about.unit.as_str()).collect();
        assert_eq!((batch.samples(), units), (1, vec![expected]));
    }
}

#[test]
fn faults_are_worded_as_in_prometheus() {
    let check = |input: &[u8], expected: &str| {
        let (limits, mut batch) = (Limits::default(), MetricBatch::default());
        let none = BTreeMap::new();
        let error = decode(input, 0, &none, Options::default(), &limits, &mut batch)
            .expect_err("must be refused");
        assert_eq!(error.to_string(), expected);
        assert_eq!(batch, MetricBatch::default(), "emptied");
    };
    let metric = field(4, &field(2, &double(1, 1.0)));
    let with = |fields: &[Vec<u8>]| delimited(&[&fields.concat()[..], &metric].concat());
    check(&with(&[]), "invalid metric name: ");
    check(&with(&[field(1, b"m\xff")]), "invalid metric name: m\u{fffd}");
    check(&with(&[field(1, b"m"), field(2, b"\xff")]), "invalid help for metric \"m\": \u{fffd}");
    check(&with(&[field(1, b"m"), number(3, 9)]), "unknown metric type for metric \"m\": 9");
    check(&family("m", 1, &[label(b"", b"x")]), "invalid labels: invalid label name: ");
    check(
        &family("m", 1, &[label(b"a", b"\xfe")]),
        "invalid labels: invalid label value: \u{fffd}",
    );
    check(
        &[5, 0],
        "malformed protobuf exposition at byte 0: length runs past the end of its message",
    );
    check(
        &family("m", 1, &[field(2, &number(1, 1))]),
        "malformed protobuf exposition at byte 16: field of a number has the wrong type",
    );
}

#[test]
fn labels_are_not_copied_without_end() {
    let long = label(b"a", &[b'x'; 60_000]);
    let buckets = field(3, &[]).repeat(20_000);
    let input = family("h", 4, &[[long, field(7, &buckets)].concat()]);
    let error = lines(&input, Options::default()).expect_err("a gigabyte of labels");
    assert!(error.is_limit(), "{error}");
}

#[test]
fn the_corpus_never_panics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let text = std::fs::read_to_string(path.join("prom-protobuf.jsonl")).unwrap_or_default();
    for case in text.lines() {
        let case: serde_json::Value = serde_json::from_str(case).expect("the corpus is JSON lines");
        let seed = case["text"].as_str().unwrap_or_default().as_bytes();
        // A seed is one string of a message, so it stands wherever strings stand.
        let label = label(seed, seed);
        let inputs = [
            seed.to_vec(),
            delimited(seed),
            family(&String::from_utf8_lossy(seed), 1, std::slice::from_ref(&label)),
            family("m", 4, &[[label, field(7, seed)].concat()]),
        ];
        for input in inputs {
            let _ = lines(&input, Options::default());
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = lines(&body, Options::default());
        let _ = lines(&delimited(&body), Options::default());
        let _ = lines(&family("h", 4, &[field(7, &body)]), Options::default());
    }

    #[test]
    fn damage_never_panics(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
        keep_classic in any::<bool>(),
    ) {
        let mut input = family("h", 4, &[both_kinds(), both_kinds()]);
        for (at, byte) in flips {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input.truncate(cut.index(input.len() + 1));
        let options = Options { keep_classic, ..Options::default() };
        if lines(&input, options).is_ok() {
            let (limits, mut batch) = (Limits::default(), MetricBatch::default());
            let decoded = decode(&input, 0, &BTreeMap::new(), options, &limits, &mut batch);
            prop_assert!(decoded.is_ok());
            for sample in &batch.histograms {
                // Whatever it says, validation decides without a panic.
                let _ = sample.histogram.validate();
                let mut coarse = sample.histogram.clone();
                let _ = coarse.coarsen(-4);
            }
        }
    }
}

/// The entries of a text exposition after conversion, as lines.
fn converted(text: &str, keep_classic: bool) -> Vec<String> {
    let mut parser = exposition::Parser::new(text.as_bytes());
    let mut converter = Converter::new(keep_classic);
    let mut lines = Vec::new();
    let mut keep = |entry: Entry<'_>| {
        lines.push(line(&entry));
        Ok::<(), WireError>(())
    };
    while let Some(entry) = parser.next_entry().expect("well-formed") {
        converter.push(entry, &mut keep).expect("kept");
    }
    converter.finish(&mut keep).expect("kept");
    lines
}

const CLASSIC: &str = "# TYPE h histogram
h_bucket{a=\"1\",le=\"1\"} 2
h_bucket{a=\"1\",le=\"+Inf\"} 5
h_sum{a=\"1\"} 7.5
h_count{a=\"1\"} 5
h_bucket{a=\"2\",le=\"1\"} 3
h_bucket{a=\"2\",le=\"+Inf\"} 2
h_count{a=\"2\"} 2
h_other 1
";

#[test]
fn classic_histograms_become_native_ones() {
    assert_eq!(
        converted(CLASSIC, false),
        ["# TYPE h histogram", "h{a=\"1\"} {count:5, sum:7.5} [2.0, 3.0]", "h_other 1"],
        "the second one is not cumulative"
    );
    let kept = converted(CLASSIC, true);
    assert_eq!(kept.len(), 10);
    assert_eq!(kept[5], "h{a=\"1\"} {count:5, sum:7.5} [2.0, 3.0]");
    let gauge = CLASSIC.replace("histogram", "gauge");
    assert_eq!(converted(&gauge, false).len(), 9, "only histograms are converted");
}

#[test]
fn what_is_native_is_not_converted_again() {
    let input = family("h", 4, &[both_kinds()]);
    let options = Options { keep_classic: true, ..Options::default() };
    let mut parser = Parser::new(&input, options);
    let mut converter = Converter::new(false);
    let mut lines = Vec::new();
    let mut keep = |entry: Entry<'_>| {
        lines.push(line(&entry));
        Ok::<(), WireError>(())
    };
    while let Some(entry) = parser.next_entry().expect("well-formed") {
        converter.push(entry, &mut keep).expect("kept");
    }
    converter.finish(&mut keep).expect("kept");
    assert_eq!(lines.len(), 8, "the classic series stay: {lines:?}");
}

proptest! {
    /// Against the obvious: differences of neighbouring cumulative counts.
    #[test]
    fn conversion_takes_differences(
        counts in proptest::collection::vec(0..50_u32, 1..8),
        half in any::<bool>(),
        order in any::<u64>(),
    ) {
        let scale = if half { 0.5 } else { 1.0 };
        let mut total = 0.0;
        let mut buckets = Vec::new();
        for (place, count) in counts.iter().enumerate() {
            total += f64::from(*count) * scale;
            let is_last = place + 1 == counts.len();
            let bound = if is_last { "+Inf".to_owned() } else { format!("{place}.25") };
            buckets.push(format!("h_bucket{{le=\"{bound}\"}} {total}\n"));
        }
        // Buckets may come in any order.
        let turn = order as usize % buckets.len();
        buckets.rotate_left(turn);
        let text = format!("# TYPE h histogram\n{}h_count {total}\nh_sum 1\n", buckets.concat());
        let mut parser = exposition::Parser::new(text.as_bytes());
        let mut converter = Converter::new(false);
        let mut found = None;
        let mut keep = |entry: Entry<'_>| {
            if let Entry::Histogram(series) = entry {
                found = Some(series.histogram.clone());
            }
            Ok::<(), WireError>(())
        };
        while let Some(entry) = parser.next_entry().expect("well-formed") {
            converter.push(entry, &mut keep).expect("kept");
        }
        converter.finish(&mut keep).expect("kept");
        let histogram = found.expect("a histogram");
        prop_assert_eq!(histogram.validate(), Ok(()));
        let is_whole = (total / 1.0).fract() == 0.0;
        prop_assert!(is_whole || matches!(histogram, Histogram::Float(_)));
        let float = histogram.to_float();
        let found: Vec<f64> =
            float.buckets().map(|bucket| bucket.count).filter(|count| *count > 0.0).collect();
        let expected: Vec<f64> = counts
            .iter()
            .map(|count| f64::from(*count) * scale)
            .filter(|count| *count > 0.0)
            .collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(float.count, total);
    }
}
