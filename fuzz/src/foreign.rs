//! What other systems send: remote write 2.0, OTLP, lines, JSON and files.

use model::{Limits, MetricBatch};
use wire::csv_import::Format;
use wire::influx::{self, Precision};
use wire::otlp::{self, Deltas, Options};
use wire::parquet_export::ParquetWriter;
use wire::{csv_import, datadog, graphite, json_lines, opentsdb, parquet_import};

use crate::text::check_batch;

pub(crate) fn remote_write_2(bytes: &[u8]) {
    let mut batch = MetricBatch::default();
    let options = wire::remote_write_2::Options { type_and_unit_labels: true };
    let described = wire::remote_write_2::decode(bytes, options, &Limits::default(), &mut batch);
    let options = wire::remote_write_2::Options::default();
    let decoded = wire::remote_write_2::decode(bytes, options, &Limits::default(), &mut batch);
    // Labels take more room with type and unit, and are else the same batch.
    if let (Ok(described), Ok(decoded)) = (&described, &decoded) {
        assert_eq!((described.floats, described.histograms), (decoded.floats, decoded.histograms));
    }
    check_batch(&batch, decoded.is_ok());
    let Ok(summary) = decoded else { return };
    assert_eq!((summary.floats, summary.histograms), (batch.rows(), batch.histograms.len()));
    assert_eq!(summary.metadata, batch.metadata.len());
    // The same series as a request of 1.0 hold the same samples.
    let mut written = Vec::new();
    // Symbols may unfold to more than a body of 1.0 can hold.
    let is_small = batch.label_bytes.len() < 8 << 20;
    if is_small && wire::remote_write::encode(&batch, &mut written).is_ok() {
        let mut again = MetricBatch::default();
        let decoded = wire::remote_write::decode(written, &Limits::default(), &mut again);
        assert_eq!(decoded.expect("own bytes").samples, batch.samples());
    }
}

pub(crate) fn otlp_metrics(bytes: &[u8]) {
    let translated = otlp::to_protobuf(bytes);
    for body in [bytes, translated.as_deref().unwrap_or_default()] {
        let options = [
            Options::default(),
            Options {
                promote_all_resource_attributes: true,
                promote_scope_metadata: true,
                convert_histograms_to_nhcb: true,
                ..Options::default()
            },
        ];
        for options in &options {
            let (mut batch, mut deltas) = (MetricBatch::default(), Deltas::default());
            let limits = Limits::default();
            let decoded = otlp::decode(body, options, &limits, Some(&mut deltas), &mut batch);
            check_batch(&batch, decoded.is_ok());
            // What is not stored, or fails, leaves no total behind.
            if let Ok(summary) = decoded {
                if !deltas.is_empty() {
                    assert!(otlp::has_deltas(body), "totals without deltas");
                }
                deltas.take_back(summary.applied);
            }
            assert!(deltas.is_empty());
        }
    }
}

pub(crate) fn influx_lines(bytes: &[u8]) {
    for precision in [Precision::Nanoseconds, Precision::Hours] {
        let mut batch = MetricBatch::default();
        let options = influx::Options { precision, now_ms: 1, database: "db" };
        let decoded = influx::decode(bytes, options, &Limits::default(), &mut batch);
        check_batch(&batch, decoded.is_ok());
        // Every line is taken or named.
        let summary = decoded.expect("below every limit");
        let has_line = bytes.split(|b| *b == b'\n').any(|line| {
            let line = line.trim_ascii();
            !line.is_empty() && line[0] != b'#'
        });
        let is_told =
            !batch.series.is_empty() || !summary.refusals.is_empty() || summary.texts_left_out > 0;
        assert!(is_told || !has_line, "a line is lost");
    }
}

pub(crate) fn imports(bytes: &[u8]) {
    let limits = Limits::default();
    let mut batch = MetricBatch::default();
    let is_ok = graphite::decode(bytes, 1, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    let is_ok = opentsdb::decode_lines(bytes, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    let is_ok = opentsdb::decode(bytes, 0, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    let is_ok = json_lines::decode(bytes, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    let is_ok = datadog::decode_one(bytes, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    let is_ok = datadog::decode_two(bytes, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    let is_ok = datadog::decode_two_protobuf(bytes, &limits, &mut batch).is_ok();
    check_batch(&batch, is_ok);
    // The first line describes the columns of the others.
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    if let Ok(Ok(format)) = std::str::from_utf8(&bytes[..end]).map(Format::parse) {
        let lines = &bytes[(end + 1).min(bytes.len())..];
        let is_ok = csv_import::decode(lines, &format, 1, &limits, &mut batch).is_ok();
        check_batch(&batch, is_ok);
    }
}

pub(crate) fn parquet(bytes: &[u8]) {
    // So small that limits are within reach, too.
    let limits = Limits { max_body_bytes: 256 << 10, ..Limits::default() };
    let mut batch = MetricBatch::default();
    let decoded = parquet_import::decode(bytes, &limits, &mut batch);
    check_batch(&batch, decoded.is_ok());
    assert!(batch.rows() * 16 + batch.label_bytes.len() <= 8 * limits.max_body_bytes);
    if decoded.is_err() {
        return;
    }
    // What is written of it reads the same, but for what an export leaves out.
    let (mut writer, mut file, mut wanted) = (ParquetWriter::new(), Vec::new(), Vec::new());
    for series in &batch.series {
        let labels = wire::decode_labels(series.form, batch.label_bytes_of(series), &limits);
        let rows = series.first_row as usize..(series.first_row + series.rows) as usize;
        let (times, values) = (&batch.timestamps_ms[rows.clone()], &batch.values[rows]);
        if let Ok(labels) = labels {
            writer.push(&labels, times, values, &mut file);
            wanted.extend(times.iter().zip(values.iter().map(|value| value.to_bits())));
        }
    }
    writer.finish(&mut file);
    let wanted: Vec<(i64, u64)> = wanted.into_iter().map(|(t_ms, bits)| (*t_ms, bits)).collect();
    let mut again = MetricBatch::default();
    let decoded = parquet_import::decode(&file, &Limits::default(), &mut again);
    assert!(decoded.expect("own file").is_empty());
    let read = again.timestamps_ms.iter().copied().zip(again.values.iter().map(|v| v.to_bits()));
    assert!(read.eq(wanted));
}
