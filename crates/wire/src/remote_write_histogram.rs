//! The message `Histogram` of remote write, 1.0 and 2.0.
//!
//! ```text
//! Histogram  { oneof count { uint64 count_int = 1; double count_float = 2 }; double sum = 3;
//!              sint32 schema = 4; double zero_threshold = 5;
//!              oneof zero_count { uint64 zero_count_int = 6; double zero_count_float = 7 }
//!              repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9;
//!              repeated double negative_counts = 10;
//!              repeated BucketSpan positive_spans = 11; repeated sint64 positive_deltas = 12;
//!              repeated double positive_counts = 13;
//!              ResetHint reset_hint = 14; int64 timestamp = 15; repeated double custom_values = 16;
//!              int64 start_timestamp = 17, in 2.0 only }
//! BucketSpan { sint32 offset = 1; uint32 length = 2 }
//! ```

use std::sync::Arc;

use model::{
    BucketLayout, Count, FloatHistogram, Histogram, IntegerHistogram, NativeHistogram, ResetHint,
    Span,
};

use crate::histogram_fields::{Side, doubles, push_sint, sint32};
use crate::protobuf::{Fault, Field, each_message, push_bytes, push_varint};

/// The fields of a message as they come.
#[derive(Default)]
struct Message {
    count_int: u64,
    count_float: f64,
    /// Whether the count came as a float, which makes all counts floats.
    is_float: bool,
    zero_count_int: u64,
    zero_count_float: f64,
    sum: f64,
    layout: BucketLayout,
    negative: Side,
    positive: Side,
    reset_hint: ResetHint,
    timestamp_ms: i64,
    start_ms: Option<i64>,
}

/// Reads the message at `start..end`: timestamp and start in milliseconds, and the histogram, which
/// is not validated.
pub(crate) fn decode(
    input: &[u8],
    start: usize,
    end: usize,
) -> Result<(i64, Option<i64>, Histogram), Fault> {
    let mut message = Message::default();
    each_message(input, start..end, |number, field| message.take(input, number, field, start))?;
    Ok(message.finish())
}

impl Message {
    fn take(&mut self, input: &[u8], number: u64, field: Field, start: usize) -> Result<(), Fault> {
        match (number, field) {
            (1, Field::Varint(count)) => (self.count_int, self.is_float) = (count, false),
            (2, Field::Fixed64(bits)) => {
                (self.count_float, self.is_float) = (f64::from_bits(bits), true);
            }
            (3, Field::Fixed64(bits)) => self.sum = f64::from_bits(bits),
            (4, Field::Varint(schema)) => self.layout.schema = sint32(schema),
            (5, Field::Fixed64(bits)) => self.layout.zero_threshold = f64::from_bits(bits),
            (6, Field::Varint(count)) => self.zero_count_int = count,
            (7, Field::Fixed64(bits)) => self.zero_count_float = f64::from_bits(bits),
            (8..=10, field) => self.negative.read(input, number - 8, field, start)?,
            (11..=13, field) => self.positive.read(input, number - 11, field, start)?,
            // An open enum: a hint from a newer sender says nothing.
            (14, Field::Varint(hint)) => {
                self.reset_hint = ResetHint::from_number(hint).unwrap_or_default();
            }
            (15, Field::Varint(t_ms)) => self.timestamp_ms = t_ms as i64,
            (16, Field::Fixed64(bits)) => self.layout.custom_bounds.push(f64::from_bits(bits)),
            (16, Field::Bytes { start, end }) => {
                doubles(input, start, end, &mut self.layout.custom_bounds)?;
            }
            (17, Field::Varint(t_ms)) => self.start_ms = (t_ms != 0).then_some(t_ms as i64),
            (1..=17, _) => return Err((start, "field of a histogram has the wrong type")),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> (i64, Option<i64>, Histogram) {
        self.layout.positive = std::mem::take(&mut self.positive.spans);
        self.layout.negative = std::mem::take(&mut self.negative.spans);
        let layout = Arc::new(self.layout);
        let (reset_hint, sum) = (self.reset_hint, self.sum);
        let histogram = if self.is_float {
            Histogram::Float(FloatHistogram {
                layout,
                reset_hint,
                count: self.count_float,
                zero_count: self.zero_count_float,
                sum,
                positive: self.positive.counts,
                negative: self.negative.counts,
            })
        } else {
            Histogram::Integer(IntegerHistogram {
                layout,
                reset_hint,
                count: self.count_int,
                zero_count: self.zero_count_int,
                sum,
                positive: self.positive.absolute(),
                negative: self.negative.absolute(),
            })
        };
        (self.timestamp_ms, self.start_ms, histogram)
    }
}

/// Appends the message of a histogram.
pub(crate) fn encode(t_ms: i64, histogram: &Histogram, out: &mut Vec<u8>) {
    match histogram {
        Histogram::Integer(histogram) => {
            tagged(out, 1, histogram.count);
            encode_common(histogram, out);
            tagged(out, 6, histogram.zero_count);
            let deltas = |counts: &[u64]| {
                let mut packed = Vec::new();
                IntegerHistogram::to_deltas(counts).for_each(|delta| push_sint(&mut packed, delta));
                packed
            };
            push_bytes(out, 9 << 3 | 2, &deltas(&histogram.negative));
            push_bytes(out, 12 << 3 | 2, &deltas(&histogram.positive));
        }
        Histogram::Float(histogram) => {
            double(out, 2, histogram.count);
            encode_common(histogram, out);
            double(out, 7, histogram.zero_count);
            push_bytes(out, 10 << 3 | 2, &packed(&histogram.negative));
            push_bytes(out, 13 << 3 | 2, &packed(&histogram.positive));
        }
    }
    tagged(out, 14, histogram.reset_hint() as u64);
    tagged(out, 15, t_ms as u64);
    let bounds = &histogram.layout().custom_bounds;
    if !bounds.is_empty() {
        // The first field whose tag takes two bytes.
        push_varint(out, 16 << 3 | 2);
        push_varint(out, 8 * bounds.len() as u64);
        out.extend_from_slice(&packed(bounds));
    }
}

fn encode_common<N: Count>(histogram: &NativeHistogram<N>, out: &mut Vec<u8>) {
    let layout = &histogram.layout;
    double(out, 3, histogram.sum);
    out.push(4 << 3);
    push_sint(out, layout.schema.into());
    double(out, 5, layout.zero_threshold);
    let spans = |out: &mut Vec<u8>, tag: u8, spans: &[Span]| {
        for span in spans {
            let mut message = vec![0x08];
            push_sint(&mut message, span.offset.into());
            tagged(&mut message, 2, span.len.into());
            push_bytes(out, tag, &message);
        }
    };
    spans(out, 8 << 3 | 2, &layout.negative);
    spans(out, 11 << 3 | 2, &layout.positive);
}

fn tagged(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    push_varint(out, value);
}

fn double(out: &mut Vec<u8>, number: u8, value: f64) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn packed(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect()
}
