//! Native histograms one after the other: the form they have in logs, batches and open tails.
//!
//! A layout is a few dozen bytes, the counts one or two bytes per bucket. About 2 ns per bucket.

use std::sync::Arc;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, MAX_BUCKETS, MAX_SCHEMA, MIN_SCHEMA};
use model::{BucketLayout, FloatHistogram, Histogram, IntegerHistogram, ResetHint, Span};

use crate::CodecError;
use crate::error::located;
use crate::varint::{put_i64, put_u64, take_bytes, take_i64, take_u64};

/// The zero threshold that instrumented programs use: 2^-128.
const USUAL_THRESHOLD: f64 = 2.938735877055719e-39;

/// Bit 0 of a histogram's first byte: counts are floats. Bits 1 and 2 are the reset hint.
pub(crate) const FLOAT: u8 = 0x01;
const HINT_SHIFT: u32 = 1;

/// Appends a layout.
pub fn put_layout(layout: &BucketLayout, out: &mut Vec<u8>) {
    put_i64(out, i64::from(layout.schema));
    match layout.zero_threshold {
        zero if zero.to_bits() == 0 => out.push(0),
        USUAL_THRESHOLD => out.push(1),
        other => {
            out.push(2);
            out.extend_from_slice(&other.to_bits().to_le_bytes());
        }
    }
    for spans in [&layout.positive, &layout.negative] {
        put_u64(out, spans.len() as u64);
        for span in spans {
            put_i64(out, i64::from(span.offset));
            put_u64(out, u64::from(span.len));
        }
    }
    if layout.is_custom() {
        put_u64(out, layout.custom_bounds.len() as u64);
        crate::encode_f64s(&layout.custom_bounds, out);
    }
}

/// Takes a layout. Its spans ascend and have at most [`MAX_BUCKETS`] buckets, so nothing declared
/// by it needs to be doubted further.
///
/// # Errors
/// Truncation; a layout that no histogram has.
pub fn take_layout(input: &mut &[u8]) -> Result<BucketLayout, CodecError> {
    located(input, |input| {
        let schema = take_i64(input)?;
        let is_custom = schema == i64::from(CUSTOM_BUCKETS_SCHEMA);
        if !is_custom && !(i64::from(MIN_SCHEMA)..=i64::from(MAX_SCHEMA)).contains(&schema) {
            return Err(invalid("schema of a histogram", schema as u64));
        }
        let zero_threshold = match take_bytes(input, 1)?[0] {
            0 => 0.0,
            1 => USUAL_THRESHOLD,
            2 => take_f64(input)?,
            other => return Err(invalid("kind of zero threshold", other.into())),
        };
        let positive = take_spans(input)?;
        let negative = take_spans(input)?;
        let mut custom_bounds = Vec::new();
        if is_custom {
            let count = usize::try_from(take_u64(input)?).unwrap_or(usize::MAX);
            if count > MAX_BUCKETS {
                return Err(invalid("number of custom bounds", count as u64));
            }
            crate::decode_f64s(input, count, &mut custom_bounds)?;
        }
        let layout = BucketLayout {
            // In range, as was seen above.
            schema: schema as i32,
            zero_threshold,
            positive,
            negative,
            custom_bounds,
        };
        let (positive, negative) = layout.bucket_counts();
        if positive + negative > MAX_BUCKETS {
            return Err(invalid("number of buckets", (positive + negative) as u64));
        }
        Ok(layout)
    })
}

fn take_spans(input: &mut &[u8]) -> Result<Vec<Span>, CodecError> {
    let count = take_u64(input)?;
    // A span takes two bytes at least, so memory follows the bytes that are there.
    if count > input.len() as u64 / 2 {
        return Err(invalid("number of spans", count));
    }
    let mut spans = Vec::with_capacity(count as usize);
    let mut end = 0_i64;
    for number in 0..count {
        let offset = take_i64(input)?;
        let len = take_u64(input)?;
        let (Ok(offset), Ok(len)) = (i32::try_from(offset), u32::try_from(len)) else {
            return Err(invalid("span of buckets", len));
        };
        end += i64::from(offset) + i64::from(len);
        if (number > 0 && offset < 0) || i32::try_from(end).is_err() {
            return Err(invalid("offset of a span", offset as u64));
        }
        spans.push(Span { offset, len });
    }
    Ok(spans)
}

/// Appends a histogram without its layout.
pub fn put_histogram(histogram: &Histogram, out: &mut Vec<u8>) {
    out.push(flags(histogram));
    match histogram {
        Histogram::Integer(histogram) => {
            put_u64(out, histogram.count);
            put_u64(out, histogram.zero_count);
            put_f64(out, histogram.sum);
            for side in [&histogram.positive, &histogram.negative] {
                IntegerHistogram::to_deltas(side).for_each(|delta| put_i64(out, delta));
            }
        }
        Histogram::Float(histogram) => {
            put_f64(out, histogram.count);
            put_f64(out, histogram.zero_count);
            put_f64(out, histogram.sum);
            for side in [&histogram.positive, &histogram.negative] {
                side.iter().for_each(|&count| put_f64(out, count));
            }
        }
    }
}

/// Takes a histogram that has `layout`, which [`take_layout`] yielded or validation passed.
///
/// # Errors
/// Truncation; flags the format does not have.
pub fn take_histogram(
    input: &mut &[u8],
    layout: &Arc<BucketLayout>,
) -> Result<Histogram, CodecError> {
    located(input, |input| {
        let (is_float, reset_hint) = parse_flags(take_bytes(input, 1)?[0])?;
        let (positive, negative) = layout.bucket_counts();
        // A bucket takes a byte at least, so memory follows the bytes that are there.
        if positive + negative > input.len() {
            return Err(CodecError::Truncated {
                offset: input.len(),
                needed: positive + negative - input.len(),
            });
        }
        if is_float {
            let (count, zero_count, sum) = (take_f64(input)?, take_f64(input)?, take_f64(input)?);
            return Ok(Histogram::Float(FloatHistogram {
                layout: Arc::clone(layout),
                reset_hint,
                count,
                zero_count,
                sum,
                positive: (0..positive).map(|_| take_f64(input)).collect::<Result<_, _>>()?,
                negative: (0..negative).map(|_| take_f64(input)).collect::<Result<_, _>>()?,
            }));
        }
        let (count, zero_count, sum) = (take_u64(input)?, take_u64(input)?, take_f64(input)?);
        Ok(Histogram::Integer(IntegerHistogram {
            layout: Arc::clone(layout),
            reset_hint,
            count,
            zero_count,
            sum,
            positive: take_deltas(input, positive)?,
            negative: take_deltas(input, negative)?,
        }))
    })
}

fn take_deltas(input: &mut &[u8], buckets: usize) -> Result<Vec<u64>, CodecError> {
    let mut counts = Vec::with_capacity(buckets);
    let mut count = 0_u64;
    for _ in 0..buckets {
        count = count.wrapping_add(take_i64(input)? as u64);
        counts.push(count);
    }
    Ok(counts)
}

/// The first byte of a histogram.
fn flags(histogram: &Histogram) -> u8 {
    let float = if matches!(histogram, Histogram::Float(_)) { FLOAT } else { 0 };
    float | (histogram.reset_hint() as u8) << HINT_SHIFT
}

fn parse_flags(byte: u8) -> Result<(bool, ResetHint), CodecError> {
    let hint = ResetHint::from_number(u64::from(byte >> HINT_SHIFT));
    let hint = hint.ok_or(invalid("flags of a histogram", byte.into()))?;
    Ok((byte & FLOAT != 0, hint))
}

pub(crate) fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn take_f64(input: &mut &[u8]) -> Result<f64, CodecError> {
    let mut bits = [0; 8];
    bits.copy_from_slice(take_bytes(input, 8)?);
    Ok(f64::from_bits(u64::from_le_bytes(bits)))
}

pub(crate) fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}
