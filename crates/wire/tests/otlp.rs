//! OTLP metrics: what each kind becomes, written as JSON, which passes through protobuf.

use expect_test::{Expect, expect};
use model::{Histogram, Limits, MetricBatch};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::decode_labels;
use wire::otlp::{Deltas, Options, Summary, TranslationStrategy, decode, has_deltas, to_protobuf};

fn body(request: &Value) -> Vec<u8> {
    to_protobuf(request.to_string().as_bytes()).expect("JSON of OTLP")
}

fn request(resource: Value, metrics: Value) -> Value {
    json!({"resourceMetrics": [{
        "resource": {"attributes": resource},
        "scopeMetrics": [{
            "scope": {"name": "lib", "version": "1", "attributes": attributes(&[("a.b", "c")])},
            "metrics": metrics,
            "schemaUrl": "http://schema",
        }],
    }]})
}

fn attributes(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

fn take(request: &Value, options: &Options, deltas: Option<&mut Deltas>) -> (MetricBatch, Summary) {
    let mut batch = MetricBatch::default();
    let summary = decode(&body(request), options, &Limits::default(), deltas, &mut batch);
    (batch, summary.expect("a well-formed request"))
}

fn printed(batch: &MetricBatch, summary: &Summary) -> String {
    let labels = |form, bytes: &[u8]| match decode_labels(form, bytes, &Limits::default()) {
        Ok(labels) => labels.to_string(),
        Err(error) => error.to_string(),
    };
    let mut out = String::new();
    for series in &batch.series {
        let row = series.first_row as usize;
        let name = labels(series.form, batch.label_bytes_of(series));
        let (value, t_ms) = (batch.values[row], batch.timestamps_ms[row]);
        let stale = if model::is_stale_nan(value) { " stale" } else { "" };
        out.push_str(&format!("{name} {value}{stale} @{t_ms}\n"));
    }
    for sample in &batch.histograms {
        let name = labels(sample.form, batch.label_bytes_of_histogram(sample));
        let Histogram::Integer(h) = &sample.histogram else { unreachable!("counts are whole") };
        let buckets: Vec<_> =
            h.buckets().map(|b| format!("({}, {}]: {}", b.lower, b.upper, b.count)).collect();
        out.push_str(&format!(
            "{name} count {} sum {} {} @{} since {:?}\n",
            h.count,
            h.sum,
            buckets.join(" "),
            sample.t_ms,
            sample.start_ms
        ));
        assert!(sample.histogram.validate().is_ok());
    }
    for metadata in &batch.metadata {
        let kind = metadata.kind.as_str();
        out.push_str(&format!(
            "# {} {kind} {:?} {:?}\n",
            metadata.metric, metadata.help, metadata.unit
        ));
    }
    for refused in summary.refusals.iter() {
        out.push_str(&format!("{} × {}: {}\n", refused.series, refused.reason, refused.first));
    }
    out
}

fn check(request: &Value, options: &Options, expected: Expect) {
    let (batch, summary) = take(request, options, Some(&mut Deltas::default()));
    expected.assert_eq(&printed(&batch, &summary));
}

fn service() -> Value {
    attributes(&[
        ("service.name", "shop"),
        ("service.namespace", "eu"),
        ("service.instance.id", "i-1"),
        ("host.name", "web-1"),
    ])
}

#[test]
fn what_accumulates_tells_when_it_began() {
    let of = |kind: &str, temporality: u8, point: Value| {
        let mut point = point;
        point["startTimeUnixNano"] = json!("3000000");
        point["timeUnixNano"] = json!("5000000");
        json!({"name": kind, kind: {"isMonotonic": true, "aggregationTemporality": temporality,
               "dataPoints": [point]}})
    };
    let number = json!({"asInt": "7"});
    let buckets =
        json!({"count": "1", "sum": 1.0, "bucketCounts": ["1", "0"], "explicitBounds": [1.0]});
    let starts = |metrics: Value| {
        let metrics = request(service(), metrics);
        let (batch, _) = take(&metrics, &Options::default(), Some(&mut Deltas::default()));
        (0..batch.rows()).map(|row| batch.start_ms(row)).collect::<Vec<_>>()
    };
    // The last row is `target_info`.
    assert_eq!(starts(json!([of("sum", 2, number.clone())])), [3, 0]);
    assert_eq!(starts(json!([of("histogram", 2, buckets)])), [3, 3, 3, 3, 0]);
    assert_eq!(starts(json!([of("summary", 0, json!({"count": "1", "sum": 1.0}))])), [3, 3, 0]);
    // A gauge began nowhere, and a delta at the end of the one before.
    assert_eq!(starts(json!([of("gauge", 0, number.clone())])), [0, 0]);
    assert_eq!(starts(json!([of("sum", 1, number)])), [0, 0]);
}

#[test]
fn numbers() {
    let point = |value: Value, t: &str| {
        let mut point =
            json!({"timeUnixNano": t, "attributes": attributes(&[("http.method", "GET")])});
        point.as_object_mut().expect("an object").extend(value.as_object().expect("one").clone());
        point
    };
    let metrics = json!([
        {"name": "http.server.active", "description": "Active.", "unit": "{request}",
         "gauge": {"dataPoints": [point(json!({"asDouble": 1.5}), "1700000000123456789")]}},
        {"name": "http.requests", "unit": "1", "sum": {"isMonotonic": true, "aggregationTemporality": 2,
         "dataPoints": [point(json!({"asInt": "-3"}), "5000000"), point(json!({"flags": 1}), "6000000")]}},
        {"name": "queue.size", "sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
         "dataPoints": [point(json!({"asInt": 7}), "5000000")]}},
        {"name": "untimed", "sum": {"dataPoints": [point(json!({"asInt": 7}), "5000000")]}},
        {"name": "...", "gauge": {"dataPoints": [point(json!({"asInt": 7}), "5000000")]}},
    ]);
    check(
        &request(service(), metrics),
        &Options::default(),
        expect![[r#"
            http_server_active{http_method="GET", instance="i-1", job="eu/shop"} 1.5 @1700000000123
            http_requests_total{http_method="GET", instance="i-1", job="eu/shop"} -3 @5
            http_requests_total{http_method="GET", instance="i-1", job="eu/shop"} NaN stale @6
            queue_size{http_method="GET", instance="i-1", job="eu/shop"} 7 @5
            target_info{host_name="web-1", instance="i-1", job="eu/shop"} 1 @1700000000123
            # http_server_active gauge "Active." ""
            # http_requests_total counter "" ""
            # queue_size gauge "" ""
            1 × a metric without aggregation temporality: untimed
            1 × nothing is left of a metric's name: ...
        "#]],
    );
}

/// What Prometheus 3.14 stores with `--enable-feature=type-and-unit-labels`.
#[test]
fn type_and_unit_become_labels() {
    let point = json!({"timeUnixNano": "5000000", "asInt": "1", "attributes":
        attributes(&[("__type__", "own"), ("__unit__", "own"), ("a", "1")])});
    let histogram = json!({"timeUnixNano": "5000000", "count": "1", "sum": 1.0,
        "bucketCounts": ["1", "0"], "explicitBounds": [1.0]});
    let exponential = json!({"timeUnixNano": "5000000", "count": 0, "sum": 0, "scale": 0});
    let metrics = json!([
        {"name": "g", "unit": "By/s", "gauge": {"dataPoints": [point]}},
        {"name": "n", "unit": "{x}", "sum": {"aggregationTemporality": 2, "dataPoints": [point]}},
        {"name": "c", "unit": "s", "sum": {"isMonotonic": true, "aggregationTemporality": 2,
         "dataPoints": [point]}},
        {"name": "h", "unit": "ms", "histogram": {"aggregationTemporality": 2,
         "dataPoints": [histogram]}},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2,
         "dataPoints": [exponential]}},
        {"name": "s", "unit": "1", "summary": {"dataPoints": [{"timeUnixNano": "5000000",
         "count": 2, "sum": 3, "quantileValues": [{"quantile": 0.5, "value": 1}]}]}},
    ]);
    let options = Options { type_and_unit_labels: true, ..Options::default() };
    let resource = attributes(&[
        ("service.name", "shop"),
        ("host.name", "web-1"),
        ("__type__", "own"),
        ("__unit__", "own"),
    ]);
    let (batch, summary) = take(&request(resource, metrics), &options, None);
    let printed = printed(&batch, &summary);
    let series: Vec<_> = printed.lines().filter(|line| !line.starts_with('#')).collect();
    expect![[r#"
        g_bytes_per_second{__type__="gauge", __unit__="bytes_per_second", a="1", job="shop"} 1 @5
        n{__type__="gauge", __unit__="own", a="1", job="shop"} 1 @5
        c_seconds_total{__type__="counter", __unit__="seconds", a="1", job="shop"} 1 @5
        h_milliseconds_sum{__type__="histogram", __unit__="milliseconds", job="shop"} 1 @5
        h_milliseconds_count{__type__="histogram", __unit__="milliseconds", job="shop"} 1 @5
        h_milliseconds_bucket{__type__="histogram", __unit__="milliseconds", job="shop", le="1"} 1 @5
        h_milliseconds_bucket{__type__="histogram", __unit__="milliseconds", job="shop", le="+Inf"} 1 @5
        s_sum{__type__="summary", job="shop"} 3 @5
        s_count{__type__="summary", job="shop"} 2 @5
        s{__type__="summary", job="shop", quantile="0.5"} 1 @5
        target_info{__unit__="own", host_name="web-1", job="shop"} 1 @5
        e{__type__="histogram", job="shop"} count 0 sum 0  @5 since None
    "#]].assert_eq(&(series.join("\n") + "\n"));
}

#[test]
fn histograms_and_summaries() {
    let metrics = json!([
        {"name": "latency", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [{
            "timeUnixNano": 2_000_000, "startTimeUnixNano": "1000000", "count": "6", "sum": 4.5,
            "bucketCounts": ["1", 2, "3"], "explicitBounds": [0.5, 10], "exemplars": [{}, {}],
            "attributes": attributes(&[("le", "taken")])}]}},
        {"name": "size", "unit": "By", "exponentialHistogram": {"aggregationTemporality": 2,
         "dataPoints": [{"timeUnixNano": "3000000", "startTimeUnixNano": "1000000", "count": 9,
            "sum": 20, "scale": 0, "zeroCount": "1", "zeroThreshold": 0.25,
            "positive": {"offset": 1, "bucketCounts": ["2", 0, 5]},
            "negative": {"offset": -1, "bucketCounts": [1]}}]}},
        {"name": "old", "summary": {"dataPoints": [{"timeUnixNano": "4000000", "count": 2, "sum": 3,
            "quantileValues": [{"quantile": 0.5, "value": 1}, {"quantile": 0.99, "value": "NaN"}]}]}},
    ]);
    let request = request(attributes(&[]), metrics);
    check(
        &request,
        &Options::default(),
        expect![[r#"
            latency_seconds_sum 4.5 @2
            latency_seconds_count 6 @2
            latency_seconds_bucket{le="0.5"} 1 @2
            latency_seconds_bucket{le="10"} 3 @2
            latency_seconds_bucket{le="+Inf"} 6 @2
            old_sum 3 @4
            old_count 2 @4
            old{quantile="0.5"} 1 @4
            old{quantile="0.99"} NaN @4
            size_bytes count 9 sum 20 (-1, -0.5]: 1 (-0.25, 0.25]: 1 (2, 4]: 2 (8, 16]: 5 @3 since Some(1)
            # latency_seconds histogram "" "seconds"
            # size_bytes histogram "" "bytes"
            # old summary "" ""
        "#]],
    );
    let (batch, summary) = take(&request, &Options::default(), None);
    assert_eq!((summary.exemplars_left_out, summary.points, batch.samples()), (2, 3, 10));
    assert!(batch.exemplars.is_empty(), "without a value there is nothing to keep");
    let options = Options { convert_histograms_to_nhcb: true, ..Options::default() };
    let (batch, summary) = take(&request, &options, None);
    let text = printed(&batch, &summary);
    let line = text.lines().find(|line| line.starts_with("latency")).expect("the histogram");
    expect![[r#"latency_seconds{le="taken"} count 6 sum 4.5 (-inf, 0.5]: 1 (0.5, 10]: 2 (10, inf]: 3 @2 since Some(1)"#]]
        .assert_eq(line);
}

#[test]
fn deltas_become_totals() {
    let of = |t: u64, value: u64| {
        let point = |more: Value| {
            let mut point = json!({"timeUnixNano": t * 1_000_000, "startTimeUnixNano": 1_000_000});
            point
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("one").clone());
            point
        };
        request(
            attributes(&[]),
            json!([
                {"name": "c", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
                 "dataPoints": [point(json!({"asInt": value}))]}},
                {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [
                 point(json!({"count": value, "bucketCounts": [value, 0], "explicitBounds": [1]}))]}},
                {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
                 point(json!({"count": value, "positive": {"bucketCounts": [value]}}))]}},
            ]),
        )
    };
    assert!(has_deltas(&body(&of(1, 1))));
    assert!(!has_deltas(&body(&request(attributes(&[]), json!([])))));
    assert!(!has_deltas(&[0xff; 20]));
    let mut deltas = Deltas::default();
    take(&of(5, 2), &Options::default(), Some(&mut deltas));
    let (batch, summary) = take(&of(6, 3), &Options::default(), Some(&mut deltas));
    let expected = expect![[r#"
        c_total 5 @6
        h_count 5 @6
        h_bucket{le="1"} 5 @6
        h_bucket{le="+Inf"} 5 @6
        e count 5 sum 0 (1, 2]: 5 @6 since None
        # c_total counter "" ""
        # h histogram "" ""
        # e histogram "" ""
    "#]];
    expected.assert_eq(&printed(&batch, &summary));
    // What was not stored is taken back, and counts when it comes again.
    deltas.take_back(summary.applied);
    let (batch, summary) = take(&of(6, 3), &Options::default(), Some(&mut deltas));
    expected.assert_eq(&printed(&batch, &summary));
    let (batch, summary) = take(&of(6, 3), &Options::default(), Some(&mut deltas));
    assert_eq!(batch.samples(), 0);
    let refused: u64 = summary.refusals.iter().map(|refused| refused.series).sum();
    assert_eq!(refused, 5, "not newer: {}", printed(&batch, &summary));
    let (batch, _) = take(&of(7, 1), &Options::default(), None);
    assert_eq!(batch.samples(), 0, "without totals nothing is taken");
}

#[test]
fn names_labels_and_scopes_follow_the_options() {
    let nested = json!({"kvlistValue": {"values": [
        {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "x"}, {}]}}},
        {"key": "a", "value": {"intValue": "1"}}, {"key": "a", "value": {"intValue": "2"}},
    ]}});
    let metrics = json!([{"name": "m.n", "unit": "ms", "gauge": {"dataPoints": [{
    "timeUnixNano": 1_000_000, "asInt": 1, "attributes": [
        {"key": "b.x", "value": {"boolValue": true}}, {"key": "b_x", "value": {"doubleValue": 0.5}},
        {"key": "raw", "value": {"bytesValue": "AAE="}}, {"key": "deep", "value": nested},
        {"key": "job", "value": {"stringValue": "gives way"}},
        {"key": "host.name", "value": {"stringValue": "point's"}},
    ]}]}}]);
    let request = request(service(), metrics);
    let options = Options {
        promote_resource_attributes: vec!["host.name".to_owned(), "service.name".to_owned()],
        ..Options::default()
    };
    check(
        &request,
        &options,
        expect![[r#"
            m_n_milliseconds{b_x="true;0.5", deep="{\"a\":2,\"list\":[1,\"x\",null]}", host_name="point's", instance="i-1", job="eu/shop", raw="AAE=", service_name="shop"} 1 @1
            target_info{host_name="web-1", instance="i-1", job="eu/shop"} 1 @1
            # m_n_milliseconds gauge "" "milliseconds"
        "#]],
    );
    let options = Options {
        translation_strategy: TranslationStrategy::NoUtf8EscapingWithSuffixes,
        promote_all_resource_attributes: true,
        ignore_resource_attributes: vec!["service.namespace".to_owned()],
        keep_identifying_resource_attributes: true,
        promote_scope_metadata: true,
        ..Options::default()
    };
    check(
        &request,
        &options,
        expect![[r#"
            {"m.n_milliseconds", "b.x"="true", b_x="0.5", deep="{\"a\":2,\"list\":[1,\"x\",null]}", "host.name"="point's", instance="i-1", job="eu/shop", "otel_scope_a.b"="c", otel_scope_name="lib", otel_scope_schema_url="http://schema", otel_scope_version="1", raw="AAE=", "service.instance.id"="i-1", "service.name"="shop"} 1 @1
            target_info{"host.name"="web-1", instance="i-1", job="eu/shop", "service.instance.id"="i-1", "service.name"="shop", "service.namespace"="eu"} 1 @1
            # m.n_milliseconds gauge "" "milliseconds"
        "#]],
    );
}

#[test]
fn json_that_is_no_request_is_named() {
    for (json, wanted) in [
        ("[]", "expected an object"),
        ("{\"resourceMetrics\": 1}", "cannot be a number"),
        (
            "{\"resourceMetrics\": [{\"resource\": {\"attributes\": [{\"key\": 5}]}}]}",
            "cannot be a number",
        ),
        ("{", "line 1"),
        ("{} x", "trailing"),
    ] {
        let error = to_protobuf(json.as_bytes()).expect_err(json).to_string();
        assert!(error.contains(wanted), "{json}: {error}");
    }
    assert_eq!(
        to_protobuf(b"{\"unknown\": {\"a\": [1]}, \"resourceMetrics\": null}"),
        Ok(Vec::new())
    );
}

#[test]
fn labels_cannot_grow_without_bound() {
    let long = "x".repeat(100_000);
    let bounds: Vec<_> = (0..2_000).collect();
    let point = json!({"timeUnixNano": 1, "count": 1, "explicitBounds": bounds,
        "bucketCounts": vec![1; 2_001], "attributes": attributes(&[("a", &long)])});
    let histogram = json!({"aggregationTemporality": 2, "dataPoints": [point]});
    let request = request(attributes(&[]), json!([{"name": "h", "histogram": histogram}]));
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let mut batch = MetricBatch::default();
    let error = decode(&body(&request), &Options::default(), &limits, None, &mut batch);
    assert!(error.expect_err("too much").is_limit());
    assert!(batch.series.is_empty() && batch.label_bytes.capacity() < 32 << 20);
}

proptest! {
    #[test]
    fn damage_never_panics(
        random in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let metrics = json!([
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
                {"timeUnixNano": 5_000_000, "count": 1, "scale": 30, "positive": {"offset": -70, "bucketCounts": [1, 0, 2]}}]}},
            {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": 5_000_000, "count": 1, "bucketCounts": [1, 0], "explicitBounds": [1]}]}},
        ]);
        let mut damaged = body(&request(service(), metrics));
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        for bytes in [&random, &damaged] {
            let mut batch = MetricBatch::default();
            let mut deltas = Deltas::default();
            has_deltas(bytes);
            let _ = decode(bytes, &Options::default(), &Limits::default(), Some(&mut deltas), &mut batch);
            for series in &batch.series {
                let _ = decode_labels(series.form, batch.label_bytes_of(series), &Limits::default());
            }
            let _ = to_protobuf(bytes);
        }
    }
}

/// As `protojson` of Go with `UseProtoNames`, and `preserving_proto_field_name` of Python, write it.
#[test]
fn names_of_the_proto_files_are_taken_too() {
    let point = json!({"attributes": [{"key": "k", "value": {"kvlistValue": {"values": [
        {"key": "b", "value": {"bytesValue": "AQ=="}}, {"key": "i", "value": {"intValue": "1"}}]}}}],
        "startTimeUnixNano": "1", "timeUnixNano": "2", "count": "3", "sum": 1.5, "flags": 0});
    let with = |more: Value| {
        let mut point = point.clone();
        let more = more.as_object().expect("an object").clone();
        point.as_object_mut().expect("an object").extend(more);
        point
    };
    let exemplar = json!([{"timeUnixNano": "2", "asInt": "1", "spanId": "01", "traceId": "02",
        "filteredAttributes": attributes(&[("a", "b")])}]);
    let all = request(
        attributes(&[("service.name", "s")]),
        json!([
            {"name": "n", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [with(json!({"asInt": "7"})), with(json!({"asDouble": 7.5}))]}},
            {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                with(json!({"bucketCounts": ["1"], "explicitBounds": [], "exemplars": exemplar}))]}},
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [with(json!({"zeroCount": "1",
                "zeroThreshold": 0.5, "positive": {"offset": 1, "bucketCounts": ["2"]}}))]}},
            {"name": "s", "summary": {"dataPoints": [
                with(json!({"quantileValues": [{"quantile": 0.5, "value": 2}]}))]}},
        ]),
    );
    let renamed = with_proto_names(&all).to_string();
    for name in ["resource_metrics", "scope_metrics", "schema_url", "data_points", "as_int"] {
        assert!(renamed.contains(&format!("\"{name}\":")), "{renamed}");
    }
    assert_eq!(to_protobuf(renamed.as_bytes()).expect("JSON"), body(&all));
    let (batch, summary) = take(&with_proto_names(&all), &Options::default(), None);
    assert!(summary.points == 5 && batch.series.len() > 5, "{summary:?}");
    assert!(summary.refusals.is_empty() && batch.histograms.len() == 1, "{summary:?}");
}

fn with_proto_names(json: &Value) -> Value {
    let renamed = |name: &str| {
        name.chars().fold(String::new(), |mut out, letter| {
            if letter.is_ascii_uppercase() {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
            out
        })
    };
    match json {
        Value::Array(list) => list.iter().map(with_proto_names).collect(),
        Value::Object(map) => {
            let fields = map.iter().map(|(name, value)| (renamed(name), with_proto_names(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
