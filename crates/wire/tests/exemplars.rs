//! Exemplars of every protocol: whose they become, with which labels, value and time.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use model::{LabelForm, Limits, MetricBatch};
use serde_json::{Value, json};
use wire::otlp::Options;
use wire::{
    decode_exemplar_labels, decode_labels, openmetrics, otlp, remote_write, remote_write_2,
};

fn printed(batch: &MetricBatch) -> String {
    let limits = Limits::default();
    let mut out = String::new();
    for exemplar in &batch.exemplars {
        let series = batch.label_bytes_of_exemplar(exemplar);
        let series = decode_labels(exemplar.form, series, &limits).expect("labels of a test");
        let own = decode_exemplar_labels(exemplar.own_form, batch.own_label_bytes(exemplar));
        let own = own.map_or_else(|error| error.to_string(), |labels| labels.to_string());
        let dated = if exemplar.is_dated { "" } else { " undated" };
        let (value, t_ms) = (exemplar.value, exemplar.t_ms);
        out.push_str(&format!("{series} # {own} {value} @{t_ms}{dated}\n"));
    }
    out
}

fn check(batch: &MetricBatch, expected: &Expect) {
    expected.assert_eq(&printed(batch));
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 0x80, "one length byte");
    [&[tag, content.len() as u8], content].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(0x0a, &[field(0x0a, name.as_bytes()), field(0x12, value.as_bytes())].concat())
}

fn value_and_time(value: f64, t_ms: u8) -> Vec<u8> {
    [&[0x11][..], &value.to_le_bytes(), &[0x18, t_ms]].concat()
}

#[test]
fn of_remote_write_1() {
    // Behind the samples, in front of them, alone, with labels apart; the last has no time.
    let sample = field(0x12, &[&[0x09][..], &1.0_f64.to_le_bytes(), &[0x10, 1]].concat());
    let first = field(0x1a, &[label("trace_id", "a"), value_and_time(0.5, 7)].concat());
    let second =
        field(0x1a, &[label("b", "2"), value_and_time(f64::NAN, 8), label("a", "1")].concat());
    let bare = field(0x1a, &[]);
    let name = label("__name__", "m");
    let series = [
        [&name[..], &sample, &first, &second].concat(),
        [&first[..], &name, &sample, &label("x", "y")].concat(),
        [&name[..], &bare].concat(),
    ];
    let body: Vec<u8> = series.iter().flat_map(|series| field(0x0a, series)).collect();
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    let summary = remote_write::decode(body.clone(), &limits, &mut batch).expect("a request");
    assert_eq!((summary.series, summary.exemplars, summary.exemplars_left_out), (2, 4, 0));
    check(
        &batch,
        &expect![[r#"
            m # {trace_id="a"} 0.5 @7
            m # {a="1", b="2"} NaN @8
            m{x="y"} # {trace_id="a"} 0.5 @7
            m # {} 0 @0 undated
        "#]],
    );
    for cut in 0..body.len() {
        let _ = remote_write::decode(body[..cut].to_vec(), &limits, &mut batch);
    }
    let wrong = field(0x0a, &[&name[..], &field(0x1a, &[0x10, 1])].concat());
    assert!(remote_write::decode(wrong, &limits, &mut batch).is_err(), "a value of the wrong type");
    assert!(batch.exemplars.is_empty());
}

#[test]
fn of_remote_write_2() {
    let symbols = ["", "__name__", "m", "trace_id", "a", "x", "y"];
    let symbols: Vec<u8> = symbols.iter().flat_map(|text| field(0x22, text.as_bytes())).collect();
    let sample = field(0x12, &[&[0x09][..], &1.0_f64.to_le_bytes(), &[0x10, 1]].concat());
    let exemplar =
        |refs: &[u8]| field(0x22, &[&field(0x0a, refs)[..], &value_and_time(0.5, 7)].concat());
    let unpacked = field(0x22, &[&[0x08, 5, 0x08, 6][..], &value_and_time(2.0, 9)].concat());
    let name = field(0x0a, &[1, 2]);
    let series = [
        [&name[..], &sample, &exemplar(&[3, 4]), &unpacked, &exemplar(&[])].concat(),
        // A reference that leads nowhere, in the exemplar and in the series.
        [&name[..], &sample, &exemplar(&[3, 99]), &exemplar(&[3])].concat(),
        [&field(0x0a, &[1, 99])[..], &sample, &exemplar(&[3, 4])].concat(),
        // No sample; and the labels last.
        [&name[..], &exemplar(&[3, 4])].concat(),
        [&exemplar(&[5, 6])[..], &sample, &field(0x0a, &[1, 2, 5, 6])].concat(),
    ];
    let series: Vec<u8> = series.iter().flat_map(|series| field(0x2a, series)).collect();
    let body = [symbols, series].concat();
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    let summary =
        remote_write_2::decode(&body, remote_write_2::Options::default(), &limits, &mut batch)
            .expect("a request");
    assert_eq!((summary.floats, summary.exemplars, summary.exemplars_left_out), (3, 5, 0));
    check(
        &batch,
        &expect![[r#"
            m # {trace_id="a"} 0.5 @7
            m # {x="y"} 2 @9
            m # {} 0.5 @7
            m # {trace_id="a"} 0.5 @7
            m{x="y"} # {x="y"} 0.5 @7
        "#]],
    );
    let reasons: Vec<_> = summary
        .refusals
        .iter()
        .map(|r| format!("{} {}: {}", r.series, r.samples, r.reason))
        .collect();
    expect![[r#"
        1 0: in an exemplar, a label reference points outside the symbols of the request
        1 0: in an exemplar, a label reference without its partner: there must be two per label
        1 1: a label reference points outside the symbols of the request"#]]
    .assert_eq(&reasons.join("\n"));
    for cut in 0..body.len() {
        let _ = remote_write_2::decode(
            &body[..cut],
            remote_write_2::Options::default(),
            &limits,
            &mut batch,
        );
    }
}

#[test]
fn of_openmetrics() {
    let text = "# TYPE a histogram\n\
                a_bucket{le=\"1\"} 1 # {trace_id=\"x\\\"\",b=\"2\"} 0.5 1.5\n\
                a_bucket{le=\"+Inf\"} 2 9 # {} 3\n\
                # TYPE c counter\n\
                c_total 1 # {t=\"\",d=\"1\",d=\"1\"} 1\n# EOF\n";
    let mut batch = MetricBatch::default();
    let extra = BTreeMap::from([("job".to_owned(), "j".to_owned())]);
    let summary = openmetrics::decode(text.as_bytes(), 77, &extra, &Limits::default(), &mut batch);
    assert_eq!(summary.expect("valid text").exemplars, 3);
    check(
        &batch,
        &expect![[r#"
            a_bucket{job="j", le="1.0"} # {b="2", trace_id="x\""} 0.5 @1500
            a_bucket{job="j", le="+Inf"} # {} 3 @9000 undated
            c_total{job="j"} # invalid labels: duplicate label name "d"; every label name may appear once per series 1 @77 undated
        "#]],
    );
}

fn otlp_batch(metrics: Value, options: &Options) -> (MetricBatch, otlp::Summary) {
    let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    let body = otlp::to_protobuf(request.to_string().as_bytes()).expect("JSON of OTLP");
    let mut batch = MetricBatch::default();
    let summary = otlp::decode(&body, options, &Limits::default(), None, &mut batch);
    (batch, summary.expect("a well-formed request"))
}

#[test]
fn of_otlp() {
    let trace = "0102030405060708090a0b0c0d0e0f10";
    let traced = |value: f64, t_ms: u64| {
        json!({"asDouble": value, "timeUnixNano": t_ms * 1_000_000, "traceId": trace,
               "spanId": "a1A2a3a4a5a6a7a8", "filteredAttributes": [
                   {"key": "user.id", "value": {"intValue": 7}}]})
    };
    let long = json!({"asInt": "-3", "spanId": "0000000000000000", "filteredAttributes": [
        {"key": "long", "value": {"stringValue": "x".repeat(125)}}]});
    let histogram = json!({"aggregationTemporality": 2, "dataPoints": [{
        "timeUnixNano": 9_000_000, "count": 6, "sum": 4.5, "bucketCounts": [1, 2, 3],
        "explicitBounds": [0.5, 10],
        "exemplars": [traced(20.0, 5), traced(0.5, 6), traced(7.0, 4), traced(0.1, 3), {}]}]});
    let metrics = json!([
        {"name": "n", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
            {"timeUnixNano": 9_000_000, "asInt": 1, "exemplars": [long, traced(1.0, 8)]}]}},
        {"name": "h", "histogram": histogram},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": 9_000_000, "count": 1, "sum": 1, "scale": 0,
             "positive": {"offset": 0, "bucketCounts": [1]}, "exemplars": [traced(1.5, 8)]}]}},
        // Refused: there are no deltas here.
        {"name": "d", "sum": {"aggregationTemporality": 1, "dataPoints": [
            {"timeUnixNano": 9_000_000, "asInt": 1, "exemplars": [traced(1.0, 8)]}]}},
    ]);
    let (batch, summary) = otlp_batch(metrics.clone(), &Options::default());
    assert_eq!((summary.exemplars, summary.exemplars_left_out), (7, 1));
    check(
        &batch,
        &expect![[r#"
            n_total # {} -3 @9 undated
            n_total # {span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10", "user.id"="7"} 1 @8
            h_bucket{le="0.5"} # {span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10", "user.id"="7"} 0.1 @3
            h_bucket{le="0.5"} # {span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10", "user.id"="7"} 0.5 @6
            h_bucket{le="10"} # {span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10", "user.id"="7"} 7 @4
            h_bucket{le="+Inf"} # {span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10", "user.id"="7"} 20 @5
            e # {span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10", "user.id"="7"} 1.5 @8
        "#]],
    );
    let options = Options { convert_histograms_to_nhcb: true, ..Options::default() };
    let (batch, _) = otlp_batch(metrics, &options);
    let of_h = batch.exemplars.iter().filter(|exemplar| {
        let labels = batch.label_bytes_of_exemplar(exemplar);
        labels == b"\x08__name__\x01h" && exemplar.form == LabelForm::Pairs
    });
    assert_eq!(of_h.count(), 4, "all of a histogram in one piece belong to it");
    let wrong = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "n", "gauge": {
        "dataPoints": [{"asInt": 1, "exemplars": [{"asInt": 1, "traceId": "xy"}]}]}}]}]}]});
    let error = otlp::to_protobuf(wrong.to_string().as_bytes()).expect_err("no digits");
    assert!(error.to_string().contains("hexadecimal"), "{error}");
}

#[test]
fn a_batch_holds_a_bounded_number() {
    let many: Vec<u8> = (0..(1 << 17) + 5).flat_map(|_| [0x1a, 0]).collect();
    let mut series = label("__name__", "m");
    series.extend_from_slice(&many);
    let mut body = vec![0x0a];
    let mut len = series.len();
    while len >= 0x80 {
        body.push(len as u8 | 0x80);
        len >>= 7;
    }
    body.push(len as u8);
    body.extend_from_slice(&series);
    let mut batch = MetricBatch::default();
    let summary = remote_write::decode(body, &Limits::default(), &mut batch).expect("a request");
    assert_eq!((summary.exemplars, summary.exemplars_left_out), (1 << 17, 5));
}
