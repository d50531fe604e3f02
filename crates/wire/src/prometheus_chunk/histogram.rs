//! Chunks of native histograms: the buckets once, then columns of counts.
//!
//! Source: Prometheus `tsdb/chunkenc/{histogram,float_histogram,histogram_meta}.go`.

use std::sync::Arc;

use model::histogram::{FloatHistogram, MAX_BUCKETS};
use model::{BucketLayout, Histogram, IntegerHistogram, NativeHistogram, ResetHint, Span};

use super::bits::{BitReader, BitWriter, CUT_OFF, Xor};
use super::{MAX_SAMPLES, Samples};

/// The two highest bits of a chunk's flags: what is known about a reset before its first sample.
/// No sample after the first may be one at which counts started again.
const RESET: u8 = 0b1000_0000;
const NO_RESET: u8 = 0b0100_0000;
const GAUGE: u8 = 0b1100_0000;

/// How many of `histograms`, from the first on, fit one chunk: they share a layout, and none but
/// the first may have started again at zero.
pub(super) fn run_length(histograms: &[Arc<FloatHistogram>]) -> usize {
    let pairs = histograms.windows(2).take(MAX_SAMPLES - 1);
    1 + pairs.take_while(|pair| continues(&pair[0], &pair[1])).count()
}

fn continues(before: &FloatHistogram, after: &FloatHistogram) -> bool {
    let same_layout = Arc::ptr_eq(&before.layout, &after.layout) || before.layout == after.layout;
    if !same_layout || before.is_stale() || after.is_stale() {
        return false;
    }
    let is_gauge = |histogram: &FloatHistogram| histogram.reset_hint == ResetHint::Gauge;
    if is_gauge(before) || is_gauge(after) {
        return is_gauge(before) && is_gauge(after);
    }
    let rises = |before: &[f64], after: &[f64]| before.iter().zip(after).all(|(b, a)| a >= b);
    after.reset_hint != ResetHint::Reset
        && after.count >= before.count
        && after.zero_count >= before.zero_count
        && rises(&before.positive, &after.positive)
        && rises(&before.negative, &after.negative)
}

/// Appends the data of one chunk of floats; the histograms are as many as [`run_length`] says.
pub(super) fn encode(timestamps_ms: &[i64], histograms: &[Arc<FloatHistogram>], out: &mut Vec<u8>) {
    out.extend_from_slice(&(histograms.len() as u16).to_be_bytes());
    let first = &histograms[0];
    out.push(match first.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => RESET,
        ResetHint::NoReset => NO_RESET,
        ResetHint::Gauge => GAUGE,
    });
    let mut out = BitWriter::new(out);
    if first.is_stale() {
        // A marker has neither buckets nor counts.
        put_layout(&mut out, &BucketLayout::default());
        out.varbit(timestamps_ms[0]);
        out.float(0.0);
        out.float(0.0);
        return out.float(first.sum);
    }
    put_layout(&mut out, &first.layout);
    out.varbit(timestamps_ms[0]);
    let mut columns: Vec<Xor> = Vec::with_capacity(3 + first.bucket_count());
    for value in numbers(first) {
        out.float(value);
        columns.push(Xor::first(value));
    }
    let mut delta_before = 0_i64;
    for (times, histogram) in timestamps_ms.windows(2).zip(&histograms[1..]) {
        let delta = times[1].wrapping_sub(times[0]);
        out.varbit(delta.wrapping_sub(delta_before));
        delta_before = delta;
        for (column, value) in columns.iter_mut().zip(numbers(histogram)) {
            column.write(&mut out, value);
        }
    }
}

/// All numbers of a histogram in the order in which a chunk has them.
fn numbers(histogram: &FloatHistogram) -> impl Iterator<Item = f64> + '_ {
    let buckets = histogram.positive.iter().chain(&histogram.negative).copied();
    [histogram.count, histogram.zero_count, histogram.sum].into_iter().chain(buckets)
}

fn put_layout(out: &mut BitWriter<'_>, layout: &BucketLayout) {
    put_zero_threshold(out, layout.zero_threshold);
    out.varbit(layout.schema.into());
    for spans in [&layout.positive, &layout.negative] {
        out.uvarbit(spans.len() as u64);
        for span in spans {
            out.uvarbit(span.len.into());
            out.varbit(span.offset.into());
        }
    }
    if layout.is_custom() {
        out.uvarbit(layout.custom_bounds.len() as u64);
        layout.custom_bounds.iter().for_each(|&bound| put_bound(out, bound));
    }
}

/// Powers of two from 2^-243 to 2^10 take one byte, as does 0.
fn put_zero_threshold(out: &mut BitWriter<'_>, threshold: f64) {
    let bits = threshold.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i64 - 1023, bits << 12);
    if bits == 0 {
        out.bits(0, 8);
    } else if fraction == 0 && (-243..=10).contains(&exponent) {
        out.bits((exponent + 244) as u64, 8);
    } else {
        out.bits(255, 8);
        out.float(threshold);
    }
}

fn zero_threshold(from: &mut BitReader<'_>) -> Result<f64, &'static str> {
    Ok(match from.bits(8)? {
        0 => 0.0,
        255 => from.float()?,
        exponent => 2_f64.powi(exponent as i32 - 244),
    })
}

/// Thousandths up to this take at most four bytes.
const MAX_THOUSANDTHS: f64 = 33_554_430.0;

fn put_bound(out: &mut BitWriter<'_>, bound: f64) {
    let thousandths = (bound * 1_000.0).round();
    // Only what reads back as the same bound.
    let is_exact = (thousandths / 1_000.0).to_bits() == bound.to_bits();
    if is_exact && (0.0..=MAX_THOUSANDTHS).contains(&thousandths) {
        return out.uvarbit(thousandths as u64 + 1);
    }
    out.bits(0, 1);
    out.float(bound);
}

fn bound(from: &mut BitReader<'_>) -> Result<f64, &'static str> {
    match from.uvarbit()? {
        0 => from.float(),
        thousandths => Ok((thousandths - 1) as f64 / 1_000.0),
    }
}

fn layout(from: &mut BitReader<'_>) -> Result<BucketLayout, &'static str> {
    let mut layout = BucketLayout { zero_threshold: zero_threshold(from)?, ..Default::default() };
    let schema = from.varbit()?;
    layout.schema =
        i32::try_from(schema).map_err(|_| "a histogram's schema does not fit 32 bits")?;
    layout.positive = spans(from)?;
    layout.negative = spans(from)?;
    if layout.is_custom() {
        let count = from.uvarbit()?;
        // Nothing is allocated for a count: every bound takes bits of the chunk.
        for _ in 0..count {
            layout.custom_bounds.push(bound(from)?);
        }
    }
    let (positive, negative) = layout.bucket_counts();
    if positive + negative > MAX_BUCKETS {
        return Err("a histogram has more than 65,536 buckets");
    }
    Ok(layout)
}

fn spans(from: &mut BitReader<'_>) -> Result<Vec<Span>, &'static str> {
    let count = from.uvarbit()?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let len = u32::try_from(from.uvarbit()?);
        let offset = i32::try_from(from.varbit()?);
        let (Ok(len), Ok(offset)) = (len, offset) else {
            return Err("a span of a histogram does not fit 32 bits");
        };
        spans.push(Span { offset, len });
    }
    Ok(spans)
}

/// Times of a chunk: each as the difference of differences.
#[derive(Default)]
struct Times {
    t_ms: i64,
    delta: i64,
}

impl Times {
    fn next(&mut self, from: &mut BitReader<'_>, index: usize) -> Result<i64, &'static str> {
        if index == 0 {
            self.t_ms = from.varbit()?;
        } else {
            self.delta = self.delta.wrapping_add(from.varbit()?);
            self.t_ms = self.t_ms.wrapping_add(self.delta);
        }
        Ok(self.t_ms)
    }
}

/// A column of whole numbers, each as the difference of differences.
#[derive(Clone, Default)]
struct Whole {
    value: i64,
    delta: i64,
}

impl Whole {
    fn next(&mut self, from: &mut BitReader<'_>) -> Result<i64, &'static str> {
        self.delta = self.delta.wrapping_add(from.varbit()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(self.value)
    }
}

/// What is known about resets at sample `index` of a chunk with these flags.
fn reset_hint(flags: u8, index: usize) -> ResetHint {
    match (flags & GAUGE, index) {
        (GAUGE, _) => ResetHint::Gauge,
        (_, 1..) => ResetHint::NoReset,
        (RESET, _) => ResetHint::Reset,
        // The chunk before may be gone, so that nothing is known even where the chunk says more.
        _ => ResetHint::Unknown,
    }
}

/// Appends the samples of a chunk of whole counts, the number at its start taken away.
pub(super) fn decode_integers(
    count: usize,
    from: &mut BitReader<'_>,
    out: &mut Samples,
) -> Result<(), &'static str> {
    let flags = from.bits(8)? as u8;
    if count == 0 {
        return Ok(());
    }
    let layout = Arc::new(layout(from)?);
    let (positive, negative) = layout.bucket_counts();
    let mut buckets = vec![Whole::default(); enough_bits(from, positive + negative)?];
    let (mut times, mut total, mut zero) = (Times::default(), Whole::default(), Whole::default());
    let mut sum = Xor::default();
    for index in 0..count {
        let t_ms = times.next(from, index)?;
        let value = if index == 0 {
            total.value = from.uvarbit()? as i64;
            zero.value = from.uvarbit()? as i64;
            let value = from.float()?;
            sum = Xor::first(value);
            value
        } else {
            total.next(from)?;
            zero.next(from)?;
            sum.read(from)?
        };
        if model::is_stale_nan(value) {
            out.push_histogram(t_ms, Histogram::stale());
            continue;
        }
        for bucket in &mut buckets {
            if index == 0 {
                bucket.value = from.varbit()?;
            } else {
                bucket.next(from)?;
            }
        }
        // Each bucket is the difference to its neighbour.
        let absolute = |buckets: &[Whole]| {
            IntegerHistogram::from_deltas(buckets.iter().map(|bucket| bucket.value))
        };
        let histogram = NativeHistogram {
            layout: Arc::clone(&layout),
            reset_hint: reset_hint(flags, index),
            count: total.value as u64,
            zero_count: zero.value as u64,
            sum: value,
            positive: absolute(&buckets[..positive]),
            negative: absolute(&buckets[positive..]),
        };
        out.push_histogram(t_ms, Histogram::Integer(histogram));
    }
    Ok(())
}

/// As [`decode_integers`], for counts that are fractions.
pub(super) fn decode_floats(
    count: usize,
    from: &mut BitReader<'_>,
    out: &mut Samples,
) -> Result<(), &'static str> {
    let flags = from.bits(8)? as u8;
    if count == 0 {
        return Ok(());
    }
    let layout = Arc::new(layout(from)?);
    let (positive, negative) = layout.bucket_counts();
    let mut buckets = vec![Xor::default(); enough_bits(from, positive + negative)?];
    let mut times = Times::default();
    let mut heads = [Xor::default(), Xor::default(), Xor::default()];
    for index in 0..count {
        let t_ms = times.next(from, index)?;
        let mut next = |column: &mut Xor| -> Result<f64, &'static str> {
            if index > 0 {
                return column.read(from);
            }
            let value = from.float()?;
            *column = Xor::first(value);
            Ok(value)
        };
        let [total, zero, sum] = &mut heads;
        let (total, zero, sum) = (next(total)?, next(zero)?, next(sum)?);
        if model::is_stale_nan(sum) {
            out.push_histogram(t_ms, Histogram::stale());
            continue;
        }
        let mut counts = buckets.iter_mut().map(next).collect::<Result<Vec<f64>, _>>()?;
        let histogram = NativeHistogram {
            layout: Arc::clone(&layout),
            reset_hint: reset_hint(flags, index),
            count: total,
            zero_count: zero,
            sum,
            negative: counts.split_off(positive),
            positive: counts,
        };
        out.push_histogram(t_ms, Histogram::Float(histogram));
    }
    Ok(())
}

/// `buckets`, if the chunk goes on for at least a bit for each: otherwise the number is a lie.
fn enough_bits(from: &BitReader<'_>, buckets: usize) -> Result<usize, &'static str> {
    if from.left() < buckets { Err(CUT_OFF) } else { Ok(buckets) }
}
