//! Every decoder on a corpus of bad inputs, where that lies beside the repository.
//!
//! `reject` must be an error, `accept` none; whatever else is expected, nothing may panic and no
//! more than the cap may come out.

mod cases;

use std::collections::BTreeMap;
use std::io::Read;

use cases::{cases, check};
use model::{Limits, MetricBatch};
use wire::decompress::{Encoding, decompress};
use wire::influx::{self, Precision};
use wire::{
    Refusals, WireError, datadog, decode_labels, exposition, graphite, json_lines, openmetrics,
    opentsdb, otlp, remote_write,
};

/// What a store does with a batch: it looks at the labels of every series.
fn check_labels(batch: &MetricBatch) -> Result<(), WireError> {
    for series in &batch.series {
        decode_labels(series.form, batch.label_bytes_of(series), &Limits::default())?;
    }
    Ok(())
}

#[test]
fn prometheus_text() {
    // VictoriaMetrics' dialect is stricter in some places and laxer in others; Prometheus decides.
    check(
        "prom-text",
        |case| case.source.starts_with("VictoriaMetrics"),
        |bytes| {
            let (limits, mut batch) = (Limits::default(), MetricBatch::default());
            exposition::decode(bytes, 0, &BTreeMap::new(), &limits, &mut batch)?;
            check_labels(&batch)
        },
    );
}

#[test]
fn openmetrics_text() {
    check(
        "openmetrics",
        |_| false,
        |bytes| {
            let (limits, mut batch) = (Limits::default(), MetricBatch::default());
            openmetrics::decode(bytes, 0, &BTreeMap::new(), &limits, &mut batch)?;
            check_labels(&batch)
        },
    );
}

#[test]
fn remote_write_requests() {
    check(
        "remote-write-v1",
        |_| false,
        |bytes| {
            let limits = Limits::default();
            let mut batch = MetricBatch::default();
            remote_write::decode(bytes.to_vec(), &limits, &mut batch)?;
            for series in &batch.series {
                decode_labels(series.form, batch.label_bytes_of(series), &limits)?;
            }
            Ok(())
        },
    );
}

/// What a decoder leaves out is refused as well.
fn refused(refusals: &Refusals) -> Result<(), WireError> {
    let first = refusals.iter().next();
    let fault = first.map(|one| WireError::Text { line: 1, message: one.reason.clone() });
    fault.map_or(Ok(()), Err)
}

#[test]
fn lines_and_json_of_other_systems() {
    let limits = Limits::default();
    let options = influx::Options { precision: Precision::Nanoseconds, now_ms: 0, database: "" };
    let mut batch = MetricBatch::default();
    check(
        "influx-line",
        |_| false,
        |bytes| {
            refused(&influx::decode(bytes, options, &limits, &mut MetricBatch::default())?.refusals)
        },
    );
    check(
        "graphite",
        |_| false,
        |bytes| refused(&graphite::decode(bytes, 0, &limits, &mut MetricBatch::default())?),
    );
    check(
        "opentsdb",
        |_| false,
        |bytes| refused(&opentsdb::decode_lines(bytes, &limits, &mut MetricBatch::default())?),
    );
    check(
        "opentsdb-http",
        // VictoriaMetrics refuses numbers as values of tags; here they are texts.
        |case| {
            case.bytes
                == br#"{"metric": "aaa", "timestamp": 1122, "value": 0.45, "tags": {"foo": 1}}"#
        },
        |bytes| {
            refused(&opentsdb::decode(bytes, 0, &limits, &mut MetricBatch::default())?.refusals)
        },
    );
    check(
        "datadog-v1",
        |_| false,
        |bytes| refused(&datadog::decode_one(bytes, &limits, &mut MetricBatch::default())?),
    );
    check(
        "datadog-v2",
        |_| false,
        |bytes| refused(&datadog::decode_two(bytes, &limits, &mut MetricBatch::default())?),
    );
    check(
        "vm-jsonline",
        // No lines are no fault.
        |case| case.bytes.trim_ascii().is_empty(),
        |bytes| refused(&json_lines::decode(bytes, &limits, &mut MetricBatch::default())?),
    );
    // The corpus has requests of other signals; as metrics they are empty or broken.
    for case in cases("otlp-json") {
        if let Ok(body) = otlp::to_protobuf(&case.bytes) {
            let _ = otlp::decode(&body, &otlp::Options::default(), &limits, None, &mut batch);
        }
    }
}

#[test]
fn compressed_bodies() {
    let cap = Limits::default().max_body_bytes;
    for (protocol, encoding) in [
        ("snappy-block", Encoding::SnappyBlock),
        ("gzip", Encoding::Gzip),
        ("zstd", Encoding::Zstd),
    ] {
        check(
            protocol,
            |_| false,
            |bytes| {
                // The corpus keeps its largest bomb wrapped in zlib.
                let mut unwrapped = Vec::new();
                let is_wrapped = encoding == Encoding::SnappyBlock
                    && flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut unwrapped).is_ok();
                let bytes = if is_wrapped { &unwrapped } else { bytes };
                let mut out = Vec::new();
                let result = decompress(encoding, bytes, cap, &mut out);
                assert!(out.capacity() <= 4 * cap, "took {} bytes", out.capacity());
                result
            },
        );
    }
}
