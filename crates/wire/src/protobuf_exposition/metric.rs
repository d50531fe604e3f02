//! One metric of a family: its labels and, by the family's type, its value.

use std::ops::Range;
use std::sync::Arc;

use model::{BucketLayout, FloatHistogram, Histogram, IntegerHistogram, MetricType, ResetHint};

use crate::WireError;
use crate::histogram_fields::{Side, sint32};
use crate::protobuf::{Fault, Field, each_field, each_message};
use crate::text_entry::RawLabel;

/// A metric; its memory is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Metric {
    /// Where names and values lie in the input; both are UTF-8.
    pub(super) labels: Vec<RawLabel>,
    /// Milliseconds; 0 = none, as the format cannot tell the two apart.
    timestamp_ms: i64,
    /// When it began, milliseconds.
    pub(super) created_ms: Option<i64>,
    /// Of a counter, a gauge, or what has no type.
    pub(super) value: f64,
    /// Of a counter.
    pub(super) exemplar: Option<Range<usize>>,
    pub(super) summary_count: u64,
    pub(super) summary_sum: f64,
    /// Quantiles and their values.
    pub(super) quantiles: Vec<(f64, f64)>,
    pub(super) histogram: HistogramMessage,
}

/// The message `Histogram`.
#[derive(Debug, Default)]
pub(super) struct HistogramMessage {
    count: u64,
    count_float: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<BucketMessage>,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    negative: Side,
    positive: Side,
    pub(super) exemplars: Vec<Range<usize>>,
}

/// A classic bucket.
#[derive(Debug, Default)]
pub(super) struct BucketMessage {
    count: u64,
    count_float: f64,
    pub(super) upper_bound: f64,
    pub(super) exemplar: Option<Range<usize>>,
}

/// The message `Exemplar`.
#[derive(Debug, Default)]
pub(super) struct ExemplarMessage {
    pub(super) labels: Vec<RawLabel>,
    pub(super) value: f64,
    pub(super) timestamp_ms: Option<i64>,
}

/// A fault in the structure of the messages.
pub(super) fn malformed((offset, reason): Fault) -> WireError {
    WireError::Malformed { format: "protobuf exposition", offset, reason }
}

impl Metric {
    /// Reads the message at `range`, of a family of type `kind`.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        range: Range<usize>,
        kind: MetricType,
    ) -> Result<(), WireError> {
        self.clear();
        let start = range.start;
        each_message(input, range, |number, field| match (number, field) {
            (1, Field::Bytes { start, end }) => {
                self.labels.push(label(input, start..end)?);
                Ok(())
            }
            (6, Field::Varint(t_ms)) => {
                self.timestamp_ms = t_ms as i64;
                Ok(())
            }
            // What a family of another type would have says nothing.
            (2..=5 | 7, Field::Bytes { start, end }) => {
                self.read_value(input, start..end, kind, number)
            }
            (1..=7, _) => Err((start, "field of a metric has the wrong type")),
            _ => Ok(()),
        })
        .map_err(malformed)?;
        self.labels.iter().try_for_each(|label| check_label(input, label))
    }

    fn clear(&mut self) {
        let histogram = &mut self.histogram;
        histogram.buckets.clear();
        histogram.exemplars.clear();
        for side in [&mut histogram.negative, &mut histogram.positive] {
            side.clear();
        }
        self.labels.clear();
        self.quantiles.clear();
        *self = Metric {
            labels: std::mem::take(&mut self.labels),
            quantiles: std::mem::take(&mut self.quantiles),
            histogram: HistogramMessage {
                buckets: std::mem::take(&mut histogram.buckets),
                negative: std::mem::take(&mut histogram.negative),
                positive: std::mem::take(&mut histogram.positive),
                exemplars: std::mem::take(&mut histogram.exemplars),
                ..HistogramMessage::default()
            },
            ..Metric::default()
        };
    }

    fn read_value(
        &mut self,
        input: &[u8],
        range: Range<usize>,
        kind: MetricType,
        number: u64,
    ) -> Result<(), Fault> {
        match (kind, number) {
            (MetricType::Gauge, 2) | (MetricType::Counter, 3) | (MetricType::Unknown, 5) => {
                self.read_number(input, range)
            }
            (MetricType::Summary, 4) => self.read_summary(input, range),
            (MetricType::Histogram | MetricType::GaugeHistogram, 7) => {
                self.histogram.read(input, range, &mut self.created_ms)
            }
            _ => Ok(()),
        }
    }

    /// `Counter`; `Gauge` and `Untyped` have the first of its fields only.
    fn read_number(&mut self, input: &[u8], range: Range<usize>) -> Result<(), Fault> {
        let start = range.start;
        each_message(input, range, |number, field| {
            match (number, field) {
                (1, Field::Fixed64(bits)) => self.value = f64::from_bits(bits),
                (2, Field::Bytes { start, end }) => self.exemplar = Some(start..end),
                (3, Field::Bytes { start, end }) => {
                    self.created_ms = Some(timestamp_ms(input, start..end)?);
                }
                (1..=3, _) => return Err((start, "field of a number has the wrong type")),
                _ => {}
            }
            Ok(())
        })
    }

    fn read_summary(&mut self, input: &[u8], range: Range<usize>) -> Result<(), Fault> {
        let start = range.start;
        each_message(input, range, |number, field| {
            match (number, field) {
                (1, Field::Varint(count)) => self.summary_count = count,
                (2, Field::Fixed64(bits)) => self.summary_sum = f64::from_bits(bits),
                (3, Field::Bytes { start, end }) => {
                    let mut quantile = (0.0, 0.0);
                    each_field(input, start..end, |number, field| {
                        match (number, field) {
                            (1, Field::Fixed64(bits)) => quantile.0 = f64::from_bits(bits),
                            (2, Field::Fixed64(bits)) => quantile.1 = f64::from_bits(bits),
                            (1 | 2, _) => return Err("field of a quantile has the wrong type"),
                            _ => {}
                        }
                        Ok(())
                    })?;
                    self.quantiles.push(quantile);
                }
                (4, Field::Bytes { start, end }) => {
                    self.created_ms = Some(timestamp_ms(input, start..end)?);
                }
                (1..=4, _) => return Err((start, "field of a summary has the wrong type")),
                _ => {}
            }
            Ok(())
        })
    }

    /// The sample's own timestamp.
    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        (self.timestamp_ms != 0).then_some(self.timestamp_ms)
    }
}

impl HistogramMessage {
    fn read(
        &mut self,
        input: &[u8],
        range: Range<usize>,
        created_ms: &mut Option<i64>,
    ) -> Result<(), Fault> {
        let start = range.start;
        each_message(input, range, |number, field| {
            match (number, field) {
                (1, Field::Varint(count)) => self.count = count,
                (2, Field::Fixed64(bits)) => self.sum = f64::from_bits(bits),
                (3, Field::Bytes { start, end }) => {
                    self.buckets.push(BucketMessage::read(input, start..end)?);
                }
                (4, Field::Fixed64(bits)) => self.count_float = f64::from_bits(bits),
                (5, Field::Varint(schema)) => self.schema = sint32(schema),
                (6, Field::Fixed64(bits)) => self.zero_threshold = f64::from_bits(bits),
                (7, Field::Varint(count)) => self.zero_count = count,
                (8, Field::Fixed64(bits)) => self.zero_count_float = f64::from_bits(bits),
                (9..=11, field) => self.negative.read(input, number - 9, field, start)?,
                (12..=14, field) => self.positive.read(input, number - 12, field, start)?,
                (15, Field::Bytes { start, end }) => {
                    *created_ms = Some(timestamp_ms(input, start..end)?);
                }
                (16, Field::Bytes { start, end }) => self.exemplars.push(start..end),
                (1..=16, _) => return Err((start, "field of a histogram has the wrong type")),
                _ => {}
            }
            Ok(())
        })
    }

    /// Whether it says anything about native buckets. A client whose native histogram is still
    /// empty writes a span without buckets.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    /// Number of all observations.
    pub(super) fn observations(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }

    /// The native histogram, compact but not validated.
    pub(super) fn to_native(&self, is_gauge: bool) -> Histogram {
        let layout = Arc::new(BucketLayout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: self.positive.spans.clone(),
            negative: self.negative.spans.clone(),
            custom_bounds: Vec::new(),
        });
        let reset_hint = if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        let mut histogram = if self.count_float > 0.0 || self.zero_count_float > 0.0 {
            Histogram::Float(FloatHistogram {
                layout,
                reset_hint,
                count: self.count_float,
                zero_count: self.zero_count_float,
                sum: self.sum,
                positive: self.positive.counts.clone(),
                negative: self.negative.counts.clone(),
            })
        } else {
            Histogram::Integer(IntegerHistogram {
                layout,
                reset_hint,
                count: self.count,
                zero_count: self.zero_count,
                sum: self.sum,
                positive: self.positive.absolute(),
                negative: self.negative.absolute(),
            })
        };
        histogram.compact(0);
        histogram
    }
}

impl BucketMessage {
    fn read(input: &[u8], range: Range<usize>) -> Result<Self, Fault> {
        let mut bucket = BucketMessage::default();
        each_field(input, range, |number, field| {
            match (number, field) {
                (1, Field::Varint(count)) => bucket.count = count,
                (2, Field::Fixed64(bits)) => bucket.upper_bound = f64::from_bits(bits),
                (3, Field::Bytes { start, end }) => bucket.exemplar = Some(start..end),
                (4, Field::Fixed64(bits)) => bucket.count_float = f64::from_bits(bits),
                (1..=4, _) => return Err("field of a bucket has the wrong type"),
                _ => {}
            }
            Ok(())
        })?;
        Ok(bucket)
    }

    /// Number of observations up to its bound.
    pub(super) fn observations(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }
}

impl ExemplarMessage {
    /// Reads the message at `range`.
    pub(super) fn read(input: &[u8], range: Range<usize>) -> Result<Self, WireError> {
        let mut exemplar = ExemplarMessage::default();
        let start = range.start;
        each_message(input, range, |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => {
                    exemplar.labels.push(label(input, start..end)?);
                }
                (2, Field::Fixed64(bits)) => exemplar.value = f64::from_bits(bits),
                (3, Field::Bytes { start, end }) => {
                    exemplar.timestamp_ms = Some(timestamp_ms(input, start..end)?);
                }
                (1..=3, _) => return Err((start, "field of an exemplar has the wrong type")),
                _ => {}
            }
            Ok(())
        })
        .map_err(malformed)?;
        Ok(exemplar)
    }
}

fn label(input: &[u8], range: Range<usize>) -> Result<RawLabel, Fault> {
    let mut label = RawLabel { name: 0..0, value: 0..0 };
    each_field(input, range, |number, field| {
        match (number, field) {
            (1, Field::Bytes { start, end }) => label.name = start..end,
            (2, Field::Bytes { start, end }) => label.value = start..end,
            (1 | 2, _) => return Err("field of a label has the wrong type"),
            _ => {}
        }
        Ok(())
    })?;
    Ok(label)
}

fn check_label(input: &[u8], label: &RawLabel) -> Result<(), WireError> {
    let (name, value) = (&input[label.name.clone()], &input[label.value.clone()]);
    if name.is_empty() || std::str::from_utf8(name).is_err() {
        let name = String::from_utf8_lossy(name);
        return Err(WireError::Labels(format!("invalid label name: {name}")));
    }
    if std::str::from_utf8(value).is_err() {
        let value = String::from_utf8_lossy(value);
        return Err(WireError::Labels(format!("invalid label value: {value}")));
    }
    Ok(())
}

/// Milliseconds since the epoch of a `google.protobuf.Timestamp`; out of range it wraps.
fn timestamp_ms(input: &[u8], range: Range<usize>) -> Result<i64, Fault> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    each_field(input, range, |number, field| {
        match (number, field) {
            (1, Field::Varint(value)) => seconds = value as i64,
            (2, Field::Varint(value)) => nanos = value as i32,
            (1 | 2, _) => return Err("field of a timestamp has the wrong type"),
            _ => {}
        }
        Ok(())
    })?;
    Ok(seconds.wrapping_mul(1_000).wrapping_add(i64::from(nanos / 1_000_000)))
}
