//! Expositions as text, and the path of a push.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use model::{Labels, Limits, METRIC_NAME, MetricBatch};
use wire::nhcb::Converter;
use wire::text_encode::TextEncoder;
use wire::{Entry, WireError, decode_labels, exposition};

use crate::input::text_of;

/// When samples without a timestamp are taken to be from.
const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) fn exposition(bytes: &[u8]) {
    for keeps_classic in [false, true] {
        let mut parser = exposition::Parser::new(bytes);
        let mut converter = Converter::new(keeps_classic);
        while let Ok(Some(entry)) = parser.next_entry() {
            look_at(&entry);
            let _ = converter.push(entry, visit);
        }
        let _ = converter.finish(visit);
    }
    let mut batch = MetricBatch::default();
    let extra = BTreeMap::new();
    let decoded = exposition::decode(bytes, NOW_MS, &extra, &Limits::default(), &mut batch);
    check_batch(&batch, decoded.is_ok());
    if let Ok(summary) = decoded {
        assert_eq!(summary.samples, batch.samples());
        written_back(&batch);
    }
    // Labels of the target take part in every series.
    let extra =
        BTreeMap::from([("job".to_owned(), "j".to_owned()), ("a".to_owned(), String::new())]);
    let mut labelled = MetricBatch::default();
    let again = exposition::decode(bytes, NOW_MS, &extra, &Limits::default(), &mut labelled);
    check_batch(&labelled, again.is_ok());
}

pub(crate) fn openmetrics(bytes: &[u8]) {
    let mut plain = wire::openmetrics::Parser::new(bytes);
    while let Ok(Some(entry)) = plain.next_entry() {
        look_at(&entry);
    }
    let mut parser = wire::openmetrics::Parser::new(bytes).fold_created();
    let mut converter = Converter::new(true);
    while let Ok(Some(entry)) = parser.next_entry() {
        look_at(&entry);
        let _ = converter.push(entry, visit);
    }
    let _ = converter.finish(visit);
    let mut batch = MetricBatch::default();
    let (extra, limits) = (BTreeMap::new(), Limits::default());
    let decoded = wire::openmetrics::decode(bytes, NOW_MS, &extra, &limits, &mut batch);
    check_batch(&batch, decoded.is_ok());
    if decoded.is_ok() {
        written_back(&batch);
    }
}

fn visit(entry: Entry<'_>) -> Result<(), WireError> {
    look_at(&entry);
    Ok(())
}

/// Reads what is lazy in an entry. A histogram that conversion made must be a valid one unless its
/// source contradicted itself, which validation then says.
pub(crate) fn look_at(entry: &Entry<'_>) {
    match entry {
        Entry::Series(series) => {
            let _ = series.labels();
        }
        Entry::Histogram(series) => {
            let _ = series.labels();
            if series.histogram.validate().is_ok() {
                let _ = series.histogram.to_float();
            }
        }
        _ => {}
    }
}

/// What holds for every batch out of a decoder: after an error nothing is in it, and what the
/// series point at is there.
pub(crate) fn check_batch(batch: &MetricBatch, is_ok: bool) {
    if !is_ok {
        assert_eq!(*batch, MetricBatch::default(), "an error leaves the batch empty");
    }
    assert_eq!(batch.timestamps_ms.len(), batch.values.len());
    let mut rows = 0;
    for series in &batch.series {
        assert_eq!(series.first_row as usize, rows, "rows follow one another");
        rows += series.rows as usize;
        let _ = decode_labels(series.form, batch.label_bytes_of(series), &Limits::default());
    }
    assert_eq!(rows, batch.rows());
    for sample in &batch.histograms {
        let labels = batch.label_bytes_of_histogram(sample);
        let _ = decode_labels(sample.form, labels, &Limits::default());
    }
}

type Sample = (Labels, i64, u64);

/// The float samples whose labels are valid and have a name.
fn samples(batch: &MetricBatch) -> Vec<Sample> {
    let mut samples = Vec::new();
    for series in &batch.series {
        let bytes = batch.label_bytes_of(series);
        let Ok(labels) = decode_labels(series.form, bytes, &Limits::default()) else { continue };
        if labels.metric_name().is_none() {
            continue;
        }
        for row in series.first_row as usize..(series.first_row + series.rows) as usize {
            let value = batch.values[row];
            // Text has one NaN.
            let value = if value.is_nan() { f64::NAN } else { value };
            samples.push((labels.clone(), batch.timestamps_ms[row], value.to_bits()));
        }
    }
    samples
}

/// Own text of the samples reads back as the same samples.
fn written_back(batch: &MetricBatch) {
    let wanted = samples(batch);
    let mut text = Vec::new();
    let mut encoder = TextEncoder::new(&mut text);
    for (labels, t_ms, value) in &wanted {
        let name = labels.metric_name().expect("filtered");
        let others = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        encoder.sample_at(name, others, f64::from_bits(*value), Some(*t_ms));
    }
    let mut again = MetricBatch::default();
    let limits = Limits::default();
    exposition::decode(&text, 0, &BTreeMap::new(), &limits, &mut again).unwrap_or_else(|error| {
        panic!("own text is refused: {error}\n{}", String::from_utf8_lossy(&text))
    });
    assert_eq!(samples(&again), wanted, "{}", String::from_utf8_lossy(&text));
}

pub(crate) fn grouping_key(bytes: &[u8]) {
    let Ok(labels) = wire::grouping_key::parse(text_of(bytes)) else { return };
    assert!(labels.get("job").is_some_and(|job| !job.is_empty()));
    // Both ways of writing any labels: escaped byte by byte, and base64.
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let mut plain = format!("job/{}", escaped(&labels["job"]));
    let mut encoded = format!("job@base64/{}", base64_of(&labels["job"]));
    for (name, value) in labels.iter().filter(|(name, _)| *name != "job") {
        // A trailing slash is no empty value, so an empty one can only be written as base64; and
        // a name that ends like the mark of base64 needs the mark.
        if !value.is_empty() && !name.ends_with("@base64") {
            plain.push_str(&format!("/{}/{}", escaped(name), escaped(value)));
        } else {
            plain.push_str(&format!("/{}@base64/{}", escaped(name), base64_of(value)));
        }
        encoded.push_str(&format!("/{}@base64/{}", escaped(name), base64_of(value)));
    }
    for path in [plain, encoded] {
        assert_eq!(wire::grouping_key::parse(&path).as_ref(), Ok(&labels), "{path}");
    }
}

fn base64_of(text: &str) -> String {
    match text {
        "" => "=".to_owned(),
        text => BASE64_URL_SAFE.encode(text),
    }
}
