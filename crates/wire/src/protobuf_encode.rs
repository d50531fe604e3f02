//! Families of metrics in protobuf, as scrapers that want native histograms ask for them.
//!
//! Source: <https://github.com/prometheus/client_model>, `io/prometheus/client/metrics.proto`:
//!
//! ```text
//! family, behind its length:
//! MetricFamily { 1: name, 3: type, 4: metric { 1: label { 1: name, 2: value }, 5: untyped { 1: value },
//!                6: timestamp_ms, 7: histogram } }
//! Histogram { 2: sample_sum, 3: bucket, 4: sample_count_float, 5: schema, 6: zero_threshold,
//!             8: zero_count_float, 9: negative_span, 11: negative_count, 12: positive_span, 14: positive_count }
//! Span { 1: offset, 2: length }
//! Bucket { 2: upper_bound, 4: cumulative_count_float }
//! ```

use model::{FloatHistogram, ResetHint, Span};

use crate::name_escaping::NameEscaping;
use crate::protobuf::{push_bytes, push_varint};
use crate::text_encode::classic_buckets;

/// What an answer in this format says it is.
pub const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
                                proto=io.prometheus.client.MetricFamily; encoding=delimited";

// Numbers of `MetricType`.
const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;
const GAUGE_HISTOGRAM: u64 = 5;

/// The value of a sample.
#[derive(Debug, Clone, Copy)]
pub enum Sample<'a> {
    /// A float of no known type.
    Float(f64),
    /// A native histogram. The format has none with custom bounds, so such a one becomes classic, as
    /// Prometheus has it.
    Histogram(&'a FloatHistogram),
}

impl Sample<'_> {
    fn family_type(&self) -> u64 {
        match self {
            Sample::Float(_) => UNTYPED,
            Sample::Histogram(histogram) if histogram.reset_hint == ResetHint::Gauge => {
                GAUGE_HISTOGRAM
            }
            Sample::Histogram(_) => HISTOGRAM,
        }
    }
}

/// Writes families one after the other. Samples of a name and kind have to follow one another to be
/// one family.
#[derive(Debug, Default)]
pub struct FamilyEncoder {
    /// Name and type of the family at hand.
    open: Option<(String, u64)>,
    family: Vec<u8>,
    metric: Vec<u8>,
    names: NameEscaping,
}

impl FamilyEncoder {
    /// Nothing yet; names will be escaped like this.
    pub fn new(names: NameEscaping) -> Self {
        FamilyEncoder { names, ..Self::default() }
    }

    /// Adds a sample; a family that is complete is put behind `out`.
    pub fn push<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        sample: Sample<'_>,
        t_ms: i64,
        out: &mut Vec<u8>,
    ) {
        let kind = sample.family_type();
        if self.open.as_ref().is_none_or(|(open, open_kind)| open != name || *open_kind != kind) {
            self.finish(out);
            push_bytes(&mut self.family, 1 << 3 | 2, self.names.metric(name).as_bytes());
            self.family.push(3 << 3);
            push_varint(&mut self.family, kind);
            self.open = Some((name.to_owned(), kind));
        }
        self.metric.clear();
        for (name, value) in labels {
            let name = &*self.names.label(name);
            let mut label = Vec::with_capacity(name.len() + value.len() + 4);
            push_bytes(&mut label, 1 << 3 | 2, name.as_bytes());
            push_bytes(&mut label, 2 << 3 | 2, value.as_bytes());
            push_bytes(&mut self.metric, 1 << 3 | 2, &label);
        }
        match sample {
            Sample::Float(value) => {
                let mut untyped = Vec::with_capacity(9);
                push_double(&mut untyped, 1, value);
                push_bytes(&mut self.metric, 5 << 3 | 2, &untyped);
            }
            Sample::Histogram(histogram) => {
                let encode =
                    if histogram.layout.is_custom() { encode_classic } else { encode_histogram };
                push_bytes(&mut self.metric, 7 << 3 | 2, &encode(histogram));
            }
        }
        self.metric.push(6 << 3);
        push_varint(&mut self.metric, t_ms as u64);
        push_bytes(&mut self.family, 4 << 3 | 2, &self.metric);
    }

    /// Ends the last family.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            push_varint(out, self.family.len() as u64);
            out.append(&mut self.family);
        }
    }
}

fn encode_histogram(histogram: &FloatHistogram) -> Vec<u8> {
    let layout = &histogram.layout;
    let mut out = Vec::with_capacity(64 + 8 * histogram.bucket_count());
    push_double(&mut out, 2, histogram.sum);
    push_double(&mut out, 4, histogram.count);
    out.push(5 << 3);
    push_varint(&mut out, zigzag(layout.schema));
    push_double(&mut out, 6, layout.zero_threshold);
    push_double(&mut out, 8, histogram.zero_count);
    for (spans, counts, span_tag, counts_tag) in [
        (&layout.negative, &histogram.negative, 9 << 3 | 2, 11 << 3 | 2),
        (&layout.positive, &histogram.positive, 12 << 3 | 2, 14 << 3 | 2),
    ] {
        spans.iter().for_each(|span| push_bytes(&mut out, span_tag, &encode_span(*span)));
        if !counts.is_empty() {
            let packed: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
            push_bytes(&mut out, counts_tag, &packed);
        }
    }
    // Without buckets it would be taken for a classic one; an empty span says what it is.
    if layout.positive.is_empty() && layout.negative.is_empty() {
        push_bytes(&mut out, 12 << 3 | 2, &encode_span(Span::default()));
    }
    out
}

/// Without the bucket up to infinity, which is what the count says.
fn encode_classic(histogram: &FloatHistogram) -> Vec<u8> {
    let mut out = Vec::with_capacity(18 + 20 * histogram.layout.custom_bounds.len());
    push_double(&mut out, 2, histogram.sum);
    push_double(&mut out, 4, histogram.count);
    let mut bucket = Vec::with_capacity(18);
    for (bound, below) in classic_buckets(histogram) {
        bucket.clear();
        push_double(&mut bucket, 2, bound);
        push_double(&mut bucket, 4, below);
        push_bytes(&mut out, 3 << 3 | 2, &bucket);
    }
    out
}

fn encode_span(span: Span) -> Vec<u8> {
    let mut out = vec![1 << 3];
    push_varint(&mut out, zigzag(span.offset));
    out.push(2 << 3);
    push_varint(&mut out, span.len.into());
    out
}

fn push_double(out: &mut Vec<u8>, number: u8, value: f64) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn zigzag(value: i32) -> u64 {
    ((value << 1) ^ (value >> 31)) as u32 as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use model::{BucketLayout, Histogram, Limits, MetricBatch};

    use super::*;
    use crate::{decode_labels, protobuf_exposition};

    #[test]
    fn the_scraper_reads_what_is_written() {
        let layout = BucketLayout {
            schema: -2,
            zero_threshold: 0.25,
            positive: vec![Span { offset: -3, len: 2 }, Span { offset: 4, len: 1 }],
            negative: vec![Span { offset: 0, len: 1 }],
            ..BucketLayout::default()
        };
        let mut histogram = FloatHistogram::empty(Arc::new(layout));
        (histogram.positive, histogram.negative) = (vec![1.5, 2.0, 3.0], vec![4.0]);
        (histogram.count, histogram.zero_count, histogram.sum) = (11.5, 1.0, -7.0);
        let empty = FloatHistogram::empty(Arc::default());
        let mut gauge = histogram.clone();
        gauge.reset_hint = ResetHint::Gauge;
        let (mut out, mut encoder) = (Vec::new(), FamilyEncoder::new(NameEscaping::AllowUtf8));
        for (name, sample) in [
            ("a", Sample::Float(1.0)),
            ("a", Sample::Float(f64::NEG_INFINITY)),
            ("a", Sample::Histogram(&histogram)),
            ("b", Sample::Histogram(&empty)),
            ("b", Sample::Histogram(&gauge)),
        ] {
            encoder.push(name, [("l", "1"), ("m", "ä")], sample, -5, &mut out);
        }
        encoder.finish(&mut out);
        let mut batch = MetricBatch::default();
        let (extra, options) = (BTreeMap::new(), protobuf_exposition::Options::default());
        protobuf_exposition::decode(&out, 9, &extra, options, &Limits::default(), &mut batch)
            .expect("an exposition");
        assert_eq!(batch.values, [1.0, f64::NEG_INFINITY]);
        assert_eq!(batch.timestamps_ms, [-5, -5]);
        let found: Vec<_> = batch
            .histograms
            .iter()
            .map(|sample| {
                let bytes = batch.label_bytes_of_histogram(sample);
                let labels = decode_labels(sample.form, bytes, &Limits::default());
                (labels.expect("labels").to_string(), sample.t_ms, sample.histogram.clone())
            })
            .collect();
        let expected = [("a", histogram), ("b", empty), ("b", gauge)].map(|(name, histogram)| {
            (format!("{name}{{l=\"1\", m=\"ä\"}}"), -5, Histogram::Float(histogram))
        });
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((&found.0, found.1), (&expected.0, expected.1));
            let (mut a, mut b) = (found.2.clone(), expected.2.clone());
            a.compact(0);
            b.compact(0);
            // One without observations is read as one of whole counts.
            let [x, y] = [&a, &b].map(|one| Histogram::Float(one.to_float()));
            assert!(x.says_the_same(&y), "{a:?} and {b:?}");
            assert_eq!(a.reset_hint() == ResetHint::Gauge, b.reset_hint() == ResetHint::Gauge);
        }
        assert_eq!(found.len(), expected.len());
    }
}
