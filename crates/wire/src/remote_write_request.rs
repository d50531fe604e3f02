//! Requests of a remote write sender, both versions; the messages are drawn in
//! [`crate::remote_write`] and [`crate::remote_write_2`].
//!
//! Labels are sorted, unique and not empty because [`Labels`] are. A series holds floats or
//! histograms, not both: that is left to the caller, as is the order of timestamps.

use std::collections::HashMap;

use model::{Exemplar, Histogram, Labels, MetricMetadata};

use crate::protobuf::{push_bytes, push_varint, varint_len};
use crate::remote_write::{encode_labels, encode_metadata, encode_sample, metric_type_number};
use crate::{WireError, remote_write_histogram};

/// One series of a request.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingSeries<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Time in milliseconds and value of its floats, the oldest first.
    pub floats: &'a [(i64, f64)],
    /// When the first so many of the floats began at zero, milliseconds since the epoch; 0 if nobody
    /// knows, as of those behind its end. Version 1 has no place for it.
    pub starts_ms: &'a [i64],
    /// Its native histograms, the oldest first.
    pub histograms: &'a [OutgoingHistogram<'a>],
    /// Its exemplars, the oldest first.
    pub exemplars: &'a [&'a Exemplar],
    /// What is known about its metric. Version 1 has it in requests of its own.
    pub metadata: Option<&'a MetricMetadata>,
}

/// One native histogram of a request.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingHistogram<'a> {
    /// Milliseconds since the epoch.
    pub t_ms: i64,
    /// When its counts began at zero, milliseconds since the epoch; 0 if nobody knows. Version 1
    /// has no place for it.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: &'a Histogram,
}

/// A request under construction.
#[derive(Debug)]
pub enum RequestBuilder {
    /// `prometheus.WriteRequest`.
    One(Vec<u8>),
    /// `io.prometheus.write.v2.Request`.
    Two(Symbols, Vec<u8>),
}

/// The texts of a request of version 2, each once.
#[derive(Debug)]
pub struct Symbols {
    numbers: HashMap<Box<str>, u32>,
    /// The field `symbols` with all of them.
    encoded: Vec<u8>,
}

impl RequestBuilder {
    /// A request of version 1.
    pub fn one() -> Self {
        RequestBuilder::One(Vec::new())
    }

    /// A request of version 2.
    pub fn two() -> Self {
        let mut symbols = Symbols { numbers: HashMap::new(), encoded: Vec::new() };
        // The specification reserves number 0 for "nothing".
        symbols.number("");
        RequestBuilder::Two(symbols, Vec::new())
    }

    /// Appends a series.
    pub fn push(&mut self, series: &OutgoingSeries<'_>) {
        let mut message = Vec::with_capacity(64 + 24 * series.floats.len());
        match self {
            RequestBuilder::One(out) => {
                encode_labels(series.labels.iter(), &mut message);
                push_samples(series, false, &mut message);
                for exemplar in series.exemplars {
                    let mut encoded = Vec::new();
                    encode_labels(exemplar.labels.iter(), &mut encoded);
                    push_exemplar(exemplar, encoded, 3 << 3 | 2, &mut message);
                }
                push_bytes(out, 1 << 3 | 2, &message);
            }
            RequestBuilder::Two(symbols, out) => {
                symbols.push_labels(series.labels, &mut message);
                push_samples(series, true, &mut message);
                for exemplar in series.exemplars {
                    let mut encoded = Vec::new();
                    symbols.push_labels(&exemplar.labels, &mut encoded);
                    push_exemplar(exemplar, encoded, 4 << 3 | 2, &mut message);
                }
                if let Some(metadata) = series.metadata {
                    push_bytes(&mut message, 5 << 3 | 2, &symbols.metadata(metadata));
                }
                push_bytes(out, 5 << 3 | 2, &message);
            }
        }
    }

    /// Appends what is known about a metric; requests of version 2 have it with each series and
    /// take nothing here.
    pub fn push_metadata(&mut self, metadata: &MetricMetadata) {
        if let RequestBuilder::One(out) = self {
            encode_metadata(metadata, out);
        }
    }

    /// The message as it goes over the wire: one snappy block.
    ///
    /// # Errors
    /// [`WireError::Limit`] above 4 GiB, which the format cannot hold.
    pub fn finish(self) -> Result<Vec<u8>, WireError> {
        let message = match self {
            RequestBuilder::One(message) => message,
            RequestBuilder::Two(symbols, series) => {
                let mut message = symbols.encoded;
                message.extend_from_slice(&series);
                message
            }
        };
        snap::raw::Encoder::new().compress_vec(&message).map_err(|_| WireError::Limit {
            what: format!("remote write request of {} bytes", message.len()),
            limit: "4 GiB".to_owned(),
            remedy: "lower max_samples_per_send",
        })
    }
}

fn push_samples(series: &OutgoingSeries<'_>, with_start: bool, message: &mut Vec<u8>) {
    let histogram_tag = if with_start { 3 << 3 | 2 } else { 4 << 3 | 2 };
    let starts_ms = if with_start { series.starts_ms } else { &[] };
    let starts_ms = starts_ms.iter().copied().chain(std::iter::repeat(0));
    for (&float, start_ms) in series.floats.iter().zip(starts_ms) {
        encode_sample(float, start_ms, message);
    }
    let mut encoded = Vec::new();
    for one in series.histograms {
        encoded.clear();
        remote_write_histogram::encode(one.t_ms, one.histogram, &mut encoded);
        if with_start && one.start_ms != 0 {
            push_varint(&mut encoded, 17 << 3);
            push_varint(&mut encoded, one.start_ms as u64);
        }
        push_bytes(message, histogram_tag, &encoded);
    }
}

/// Appends an exemplar whose labels are in `encoded`; both versions have the rest in common.
fn push_exemplar(exemplar: &Exemplar, mut encoded: Vec<u8>, tag: u8, message: &mut Vec<u8>) {
    // The same numbers as those of a sample, one higher.
    encoded.push(2 << 3 | 1);
    encoded.extend_from_slice(&exemplar.value.to_le_bytes());
    encoded.push(3 << 3);
    push_varint(&mut encoded, exemplar.t_ms as u64);
    push_bytes(message, tag, &encoded);
}

impl Symbols {
    /// Appends `labels_refs`.
    fn push_labels(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        let mut references = Vec::new();
        for (name, value) in labels.iter() {
            push_varint(&mut references, self.number(name).into());
            push_varint(&mut references, self.number(value).into());
        }
        push_bytes(out, 1 << 3 | 2, &references);
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = u32::try_from(self.numbers.len()).expect("a request is far below 4 GiB");
        self.numbers.insert(text.into(), number);
        push_bytes(&mut self.encoded, 4 << 3 | 2, text.as_bytes());
        number
    }

    fn metadata(&mut self, metadata: &MetricMetadata) -> Vec<u8> {
        let (help, unit) = (self.number(&metadata.help), self.number(&metadata.unit));
        let fields = [(1, metric_type_number(metadata.kind)), (3, help.into()), (4, unit.into())];
        let mut out =
            Vec::with_capacity(fields.map(|(_, value)| 1 + varint_len(value)).iter().sum());
        for (number, value) in fields {
            out.push(number << 3);
            push_varint(&mut out, value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{BucketLayout, IntegerHistogram, Limits, MetricBatch, MetricType, ResetHint, Span};

    use super::*;
    use crate::{remote_write, remote_write_2};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("labels")
    }

    fn histogram() -> Histogram {
        let layout = BucketLayout {
            schema: 2,
            zero_threshold: 0.001,
            positive: vec![Span { offset: -1, len: 2 }],
            ..BucketLayout::default()
        };
        Histogram::Integer(IntegerHistogram {
            layout: Arc::new(layout),
            reset_hint: ResetHint::Gauge,
            count: 8,
            zero_count: 1,
            sum: 12.5,
            positive: vec![4, 3],
            negative: Vec::new(),
        })
    }

    /// Both series, as a request holds them.
    fn fill(builder: &mut RequestBuilder, metadata: &MetricMetadata) {
        let histogram = histogram();
        builder.push(&OutgoingSeries {
            labels: &labels(&[("__name__", "a_total"), ("x", "a_total"), ("z", "日本")]),
            floats: &[(-5, f64::from_bits(0x7ff0_0000_0000_0002)), (1_700_000_000_000, 1.5)],
            starts_ms: &[-9],
            histograms: &[],
            exemplars: &[&exemplar()],
            metadata: Some(metadata),
        });
        builder.push(&OutgoingSeries {
            labels: &labels(&[("__name__", "h"), ("x", "1")]),
            floats: &[],
            starts_ms: &[],
            histograms: &[OutgoingHistogram { t_ms: 7, start_ms: 3, histogram: &histogram }],
            exemplars: &[],
            metadata: None,
        });
    }

    fn exemplar() -> Exemplar {
        let labels = labels(&[("trace_id", "日本"), ("x", "a_total")]);
        Exemplar { labels, value: -0.5, t_ms: 1_700_000_000_001, is_dated: true }
    }

    fn metadata() -> MetricMetadata {
        MetricMetadata {
            metric: "a_total".to_owned(),
            kind: MetricType::Counter,
            help: "two\nlines".to_owned(),
            unit: String::new(),
        }
    }

    fn check(batch: &MetricBatch, with_start: bool) {
        let shown: Vec<_> = batch
            .series
            .iter()
            .filter(|series| series.rows > 0)
            .map(|series| {
                let labels = crate::decode_labels(
                    series.form,
                    batch.label_bytes_of(series),
                    &Limits::default(),
                );
                labels.expect("labels").to_string()
            })
            .collect();
        assert_eq!(shown, ["a_total{x=\"a_total\", z=\"日本\"}"]);
        assert_eq!(batch.timestamps_ms, [-5, 1_700_000_000_000]);
        let starts_ms: &[i64] = if with_start { &[-9] } else { &[] };
        assert_eq!(batch.starts_ms, starts_ms);
        let bits: Vec<_> = batch.values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, [0x7ff0_0000_0000_0002, 1.5_f64.to_bits()]);
        let [sample] = batch.histograms.as_slice() else { panic!("one histogram") };
        assert_eq!((sample.t_ms, sample.start_ms), (7, with_start.then_some(3)));
        assert_eq!(sample.histogram, histogram());
    }

    #[test]
    fn the_receiver_reads_what_the_sender_writes() {
        let unpack =
            |bytes: &[u8]| snap::raw::Decoder::new().decompress_vec(bytes).expect("snappy");
        let mut one = RequestBuilder::one();
        fill(&mut one, &metadata());
        one.push_metadata(&metadata());
        let mut batch = MetricBatch::default();
        let message = unpack(&one.finish().expect("small"));
        remote_write::decode(message, &Limits::default(), &mut batch).expect("a request");
        check(&batch, false);
        assert_eq!(batch.metadata, [metadata()]);

        let mut two = RequestBuilder::two();
        fill(&mut two, &metadata());
        let message = unpack(&two.finish().expect("small"));
        // The first symbol is empty, and each text is there once.
        assert_eq!(message[..2], [4 << 3 | 2, 0]);
        assert_eq!(message.windows(7).filter(|window| *window == b"a_total").count(), 1);
        let mut batch = MetricBatch::default();
        remote_write_2::decode(
            &message,
            remote_write_2::Options::default(),
            &Limits::default(),
            &mut batch,
        )
        .expect("a request");
        check(&batch, true);
        assert_eq!(batch.metadata, [metadata()]);
    }
}
