//! Both text formats into batches: what is written comes back, and what is wrong has a line.

use std::collections::BTreeMap;

use model::{Labels, Limits, MetricBatch, MetricType};
use proptest::prelude::*;
use wire::text_encode::TextEncoder;
use wire::{WireError, decode_labels, exposition, openmetrics};

fn series_of(batch: &MetricBatch) -> Vec<(String, i64, f64)> {
    batch
        .series
        .iter()
        .map(|series| {
            let bytes = batch.label_bytes_of(series);
            let labels = decode_labels(series.form, bytes, &Limits::default()).expect("valid");
            let row = series.first_row as usize;
            (labels.to_string(), batch.timestamps_ms[row], batch.values[row])
        })
        .collect()
}

fn prometheus(text: &str, extra: &[(&str, &str)]) -> Result<MetricBatch, WireError> {
    let extra: BTreeMap<_, _> =
        extra.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let mut batch = MetricBatch::default();
    exposition::decode(text.as_bytes(), 1_000, &extra, &Limits::default(), &mut batch)?;
    Ok(batch)
}

#[test]
fn extra_labels_are_added_replaced_and_removed() {
    let text = "m{b=\"1\",job=\"x\",gone=\"y\",empty=\"\"} 2\nn 3 -5\n";
    let extra = [("job", "mine"), ("a", "0"), ("gone", "")];
    let batch = prometheus(text, &extra).expect("valid text");
    assert_eq!(
        series_of(&batch),
        [
            (r#"m{a="0", b="1", job="mine"}"#.to_owned(), 1_000, 2.0),
            (r#"n{a="0", job="mine"}"#.to_owned(), -5, 3.0),
        ]
    );
}

#[test]
fn duplicate_labels_are_seen_when_the_series_is() {
    let batch = prometheus("m{a=\"1\",a=\"2\"} 1\nn 1\n", &[]).expect("well-formed text");
    let check = |index: usize| {
        let series = &batch.series[index];
        decode_labels(series.form, batch.label_bytes_of(series), &Limits::default())
    };
    assert!(check(0).expect_err("a twice").to_string().contains("duplicate label name \"a\""));
    assert!(check(1).is_ok());
}

#[test]
fn names_in_quotes_may_go_on_over_line_feeds() {
    let read = |text: &str| {
        let mut batch = MetricBatch::default();
        let extra = BTreeMap::new();
        openmetrics::decode(text.as_bytes(), 7, &extra, &Limits::default(), &mut batch)
            .map(|_| series_of(&batch))
    };
    let found = read("{\"a\nb\",\"c\nd\"=\"e\"} 1\n# EOF\n").expect("valid names");
    assert_eq!(found, [(r#"{"a\nb", "c\nd"="e"}"#.to_owned(), 7, 1.0)]);
    // Those of exemplars, and values, end with the line.
    read("a_total 1 # {\"b\nc\"=\"d\"} 1\n# EOF\n").expect_err("a line feed in a label's name");
    read("a{b=\"c\nd\"} 1\n# EOF\n").expect_err("a line feed in a label's value");
}

#[test]
fn metadata_of_a_family_is_put_together() {
    let text = "# HELP a_seconds Help.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                a_seconds_bucket{le=\"1\"} 1 # {trace_id=\"x\"} 0.5\n# TYPE b gauge\nb 1\n# EOF\n";
    let mut batch = MetricBatch::default();
    let limits = Limits::default();
    let summary = openmetrics::decode(text.as_bytes(), 7, &BTreeMap::new(), &limits, &mut batch)
        .expect("valid text");
    assert_eq!((summary.samples, summary.metadata, summary.exemplars), (2, 2, 1));
    let first = &batch.metadata[0];
    assert_eq!((&*first.metric, &*first.help, &*first.unit), ("a_seconds", "Help.", "seconds"));
    assert_eq!((first.kind, batch.metadata[1].kind), (MetricType::Histogram, MetricType::Gauge));
    assert_eq!(series_of(&batch)[0].0, r#"a_seconds_bucket{le="1.0"}"#);
}

#[test]
fn bounds_are_written_as_prometheus_writes_them() {
    for (written, stored) in [
        ("1", "1.0"),
        ("1e6", "1e+06"),
        ("123456", "123456.0"),
        ("0.00001", "1e-05"),
        ("0.0001", "0.0001"),
        ("+Inf", "+Inf"),
        ("x", "x"),
    ] {
        let text = format!("# TYPE h histogram\nh_bucket{{le=\"{written}\"}} 1\n");
        let batch = prometheus(&text, &[]).expect("valid text");
        assert_eq!(series_of(&batch)[0].0, format!("h_bucket{{le=\"{stored}\"}}"));
    }
}

#[test]
fn errors_name_the_line_and_leave_the_batch_empty() {
    let mut batch = MetricBatch::default();
    batch.push(&Labels::empty(), 1, 1.0);
    let text = b"a 1\n# a comment\nb{c=\"d\ne\"} x\n";
    let error = exposition::decode(text, 0, &BTreeMap::new(), &Limits::default(), &mut batch)
        .expect_err("x is no number");
    assert_eq!(
        error.to_string(),
        "line 4: strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \
         \"b{c=\\\"d\\ne\\\"} x\""
    );
    assert_eq!(batch, MetricBatch::default());
}

#[test]
fn labels_added_to_many_series_are_bounded() {
    let limits = Limits { max_body_bytes: 4_000, ..Limits::default() };
    let extra = BTreeMap::from([("a".to_owned(), "x".repeat(100))]);
    let text = "a 1\n".repeat(1_000);
    let mut batch = MetricBatch::default();
    let error = exposition::decode(text.as_bytes(), 0, &extra, &limits, &mut batch);
    assert!(error.expect_err("100 kB of labels").is_limit());
}

proptest! {
    #[test]
    fn what_the_encoder_writes_is_read_back(
        series in proptest::collection::vec(
            (
                "[a-z.é \"\\\\\n]{1,8}",
                proptest::collection::btree_map("[a-z.é \"\\\\\n]{1,8}", "[ -~é\n\t]{1,20}", 0..4),
                any::<f64>(),
                proptest::option::of(any::<i64>()),
            ),
            0..6,
        )
    ) {
        let mut text = Vec::new();
        let mut encoder = TextEncoder::new(&mut text);
        let mut expected = Vec::new();
        for (name, labels, value, t_ms) in &series {
            let pairs = labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            encoder.sample_at(name, pairs.clone(), *value, *t_ms);
            let labels = Labels::from_pairs(pairs.chain([("__name__", name.as_str())]))
                .expect("names are unique");
            expected.push((labels.to_string(), t_ms.unwrap_or(1_000), *value));
        }
        let text = String::from_utf8(text).expect("the encoder writes UTF-8");
        let batch = prometheus(&text, &[]).expect("own text is valid");
        let found = series_of(&batch);
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!((&found.0, found.1), (&expected.0, expected.1));
            let both_nan = found.2.is_nan() && expected.2.is_nan();
            prop_assert!(both_nan || found.2.to_bits() == expected.2.to_bits());
        }
    }

    #[test]
    fn text_like_bytes_never_panic(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "#", " ", "# ", "HELP ", "TYPE ", "UNIT ", "EOF", "\n", "a", "{", "}", "=", ",",
                "\"", "\\", "\"v\"", " 1", " # {", "\t", "\0", "é", "-", "NaN", "_created",
                "# TYPE a counter\n", "a_created 1\n", "a_total{b=\"c\"} 1 2\n",
            ]),
            0..24,
        ),
        noise in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut bytes = pieces.concat().into_bytes();
        bytes.extend_from_slice(&noise);
        bytes.extend_from_slice(b"\n# EOF\n");
        let mut prometheus = exposition::Parser::new(&bytes);
        while let Ok(Some(_)) = prometheus.next_entry() {}
        let mut folding = openmetrics::Parser::new(&bytes).fold_created();
        while let Ok(Some(entry)) = folding.next_entry() {
            if let wire::Entry::Series(series) = entry {
                let _ = series.labels();
            }
        }
        let mut batch = MetricBatch::default();
        let limits = Limits::default();
        let _ = openmetrics::decode(&bytes, 0, &BTreeMap::new(), &limits, &mut batch);
        let _ = exposition::decode(&bytes, 0, &BTreeMap::new(), &limits, &mut batch);
    }
}
