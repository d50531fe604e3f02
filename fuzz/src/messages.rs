//! Binary messages with samples.

use std::collections::BTreeMap;

use model::{Histogram, LabelForm, Limits, MetricBatch};
use wire::nhcb::Converter;
use wire::protobuf_exposition::{Options, Parser};
use wire::{WireError, decode_labels};

use crate::text::{check_batch, look_at};

pub(crate) fn protobuf_exposition(bytes: &[u8]) {
    for (keep_classic, ignore_native) in [(false, false), (true, false), (false, true)] {
        let options = Options { keep_classic, ignore_native, type_and_unit_labels: keep_classic };
        let mut parser = Parser::new(bytes, options);
        let mut converter = Converter::new(keep_classic);
        let mut visit = |entry: wire::Entry<'_>| {
            look_at(&entry);
            Ok::<(), WireError>(())
        };
        while let Ok(Some(entry)) = parser.next_entry() {
            let _ = converter.push(entry, &mut visit);
        }
        let _ = converter.finish(&mut visit);
        let mut batch = MetricBatch::default();
        let (extra, limits) = (BTreeMap::new(), Limits::default());
        let decoded =
            wire::protobuf_exposition::decode(bytes, 1, &extra, options, &limits, &mut batch);
        check_batch(&batch, decoded.is_ok());
        // Classic lines repeat labels, which the decoder bounds.
        assert!(batch.label_bytes.len() <= 64 << 20, "{} bytes", batch.label_bytes.len());
        if decoded.is_ok() {
            as_agent_batch(&batch);
        }
    }
}

pub(crate) fn remote_write(bytes: &[u8]) {
    let mut batch = MetricBatch::default();
    let decoded = wire::remote_write::decode(bytes.to_vec(), &Limits::default(), &mut batch);
    check_batch(&batch, decoded.is_ok());
    let Ok(summary) = decoded else { return };
    assert_eq!(summary.samples, batch.samples());
    assert_eq!(summary.histograms, batch.histograms.len());
    let mut written = Vec::new();
    wire::remote_write::encode(&batch, &mut written).expect("labels are copied as they are");
    let mut again = MetricBatch::default();
    wire::remote_write::decode(written, &Limits::default(), &mut again).expect("own bytes");
    assert_eq!(floats(&again), floats(&batch));
    assert_eq!(histograms(&again), histograms(&batch));
    assert_eq!(again.metadata, batch.metadata);
}

pub(crate) fn agent_batch(bytes: &[u8]) {
    let mut batch = MetricBatch::default();
    let decoded = wire::agent_batch::decode(bytes, &Limits::default(), &mut batch);
    check_batch(&batch, decoded.is_ok());
    if decoded.is_ok() {
        as_agent_batch(&batch);
    }
}

/// Any batch with valid labels survives the way from an agent to a broker.
fn as_agent_batch(batch: &MetricBatch) {
    if batch.series.iter().any(|series| series.form != LabelForm::Packed) {
        return;
    }
    let mut bytes = Vec::new();
    wire::agent_batch::encode(batch, &mut bytes);
    let mut again = MetricBatch::default();
    match wire::agent_batch::decode(&bytes, &Limits::default(), &mut again) {
        Ok(()) => {
            assert_eq!(floats(&again), floats(batch));
            // The format leaves out what contradicts itself; a broker would refuse it.
            let mut valid = batch.clone();
            valid.histograms.retain(|sample| sample.histogram.validate().is_ok());
            assert_eq!(histograms(&again), histograms(&valid));
            assert_eq!(again.metadata, batch.metadata);
        }
        // An agent splits what is too large; nothing else is wrong with own bytes.
        Err(error) => assert!(error.is_limit(), "{error}"),
    }
}

type Floats = Vec<(String, Vec<i64>, Vec<u64>)>;

/// Every entry that has rows, with its labels as text so that forms do not matter.
fn floats(batch: &MetricBatch) -> Floats {
    let rows = |series: &model::SeriesRows| {
        series.first_row as usize..(series.first_row + series.rows) as usize
    };
    batch
        .series
        .iter()
        .map(|series| {
            let labels = shown(series.form, batch.label_bytes_of(series));
            let values = batch.values[rows(series)].iter().map(|value| value.to_bits()).collect();
            (labels, batch.timestamps_ms[rows(series)].to_vec(), values)
        })
        .collect()
}

fn shown(form: LabelForm, bytes: &[u8]) -> String {
    match decode_labels(form, bytes, &Limits::default()) {
        Ok(labels) => labels.to_string(),
        Err(_) => format!("{bytes:?}"),
    }
}

/// Histograms as text with their sums and float counts as bits, which NaN survives.
fn histograms(batch: &MetricBatch) -> Vec<String> {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    batch
        .histograms
        .iter()
        .map(|sample| {
            let labels = shown(sample.form, batch.label_bytes_of_histogram(sample));
            let counts = match &sample.histogram {
                Histogram::Integer(h) => format!("{} {:?} {:?}", h.count, h.positive, h.negative),
                Histogram::Float(h) => {
                    let sides = (bits(&h.positive), bits(&h.negative));
                    format!("{} {} {sides:?}", h.count.to_bits(), h.zero_count.to_bits())
                }
            };
            let sum = sample.histogram.sum().to_bits();
            let layout = sample.histogram.layout();
            let zero = layout.zero_threshold.to_bits();
            format!(
                "{labels} {} {sum} {counts} {} {zero} {:?} {:?} {:?}",
                sample.t_ms,
                layout.schema,
                layout.positive,
                layout.negative,
                bits(&layout.custom_bounds)
            )
        })
        .collect()
}
