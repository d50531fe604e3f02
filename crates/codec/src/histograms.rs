//! Columns of native histograms that have one layout: a column per bucket over time.

use std::sync::Arc;

use model::{BucketLayout, Count, FloatHistogram, Histogram, IntegerHistogram, ResetHint};

use crate::CodecError;
use crate::error::located;
use crate::floats::{decode_f64s, encode_f64s};
use crate::histogram_rows::{FLOAT, invalid, put_layout, take_layout};
use crate::ints::{decode_i64s, encode_i64s};
use crate::varint::take_bytes;

/// Most counts in one column of histograms: rows times buckets. A column of equal counts takes two
/// bytes however many there are, so this bounds what few bytes can make a decoder allocate.
pub const MAX_HISTOGRAM_CELLS: usize = 1 << 20;

/// Appends `histograms` as one column; they have one layout and one flavour. Nothing is appended
/// for none of them. About 5 ns per bucket and histogram.
///
/// # Panics
/// Layouts or flavours differ; rows times buckets are above [`MAX_HISTOGRAM_CELLS`].
pub fn encode_histograms(histograms: &[Histogram], out: &mut Vec<u8>) {
    let Some(first) = histograms.first() else { return };
    let cells = histograms.len().saturating_mul(first.bucket_count().max(1));
    assert!(cells <= MAX_HISTOGRAM_CELLS, "{cells} counts are more than a column holds");
    let layout = first.layout();
    let is_alike = |h: &Histogram| {
        let same_flavour = matches!(h, Histogram::Float(_)) == matches!(first, Histogram::Float(_));
        same_flavour && (Arc::ptr_eq(h.layout(), layout) || h.layout() == layout)
    };
    assert!(histograms.iter().all(is_alike), "a column of histograms has one layout and flavour");
    out.push(if matches!(first, Histogram::Float(_)) { FLOAT } else { 0 });
    put_layout(layout, out);
    let column = |of: &dyn Fn(&Histogram) -> i64| histograms.iter().map(of).collect::<Vec<_>>();
    encode_i64s(&column(&|histogram| histogram.reset_hint() as i64), out);
    let sums: Vec<f64> = histograms.iter().map(Histogram::sum).collect();
    encode_f64s(&sums, out);
    let integers = histograms.iter().map_while(|histogram| match histogram {
        Histogram::Integer(histogram) => Some(histogram),
        Histogram::Float(_) => None,
    });
    let floats = histograms.iter().map_while(|histogram| match histogram {
        Histogram::Float(histogram) => Some(histogram),
        Histogram::Integer(_) => None,
    });
    let integers: Vec<&IntegerHistogram> = integers.collect();
    let floats: Vec<&FloatHistogram> = floats.collect();
    encode_counts(
        &integers,
        |counts, out| {
            let counts: Vec<i64> = counts.iter().map(|&count| count as i64).collect();
            encode_i64s(&counts, out);
        },
        out,
    );
    encode_counts(&floats, encode_f64s, out);
}

/// Appends counts, zero counts, then bucket after bucket.
fn encode_counts<N: Count>(
    rows: &[&model::NativeHistogram<N>],
    encode: impl Fn(&[N], &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let Some(first) = rows.first() else { return };
    let mut column = Vec::with_capacity(rows.len());
    let mut put = |of: &dyn Fn(&model::NativeHistogram<N>) -> N| {
        column.clear();
        column.extend(rows.iter().map(|row| of(row)));
        encode(&column, out);
    };
    put(&|row| row.count);
    put(&|row| row.zero_count);
    (0..first.positive.len()).for_each(|bucket| put(&|row| row.positive[bucket]));
    (0..first.negative.len()).for_each(|bucket| put(&|row| row.negative[bucket]));
}

/// Takes a column of `count` histograms and appends them to `out`; all share one layout. `out` is
/// as before after an error; `input` is then anywhere.
///
/// # Errors
/// Truncation; fields the format does not allow; more than [`MAX_HISTOGRAM_CELLS`] counts.
pub fn decode_histograms(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<Histogram>,
) -> Result<(), CodecError> {
    if count == 0 {
        return Ok(());
    }
    located(input, |input| {
        let flags = take_bytes(input, 1)?[0];
        let layout = Arc::new(take_layout(input)?);
        let (positive, negative) = layout.bucket_counts();
        let cells = count.saturating_mul((positive + negative).max(1));
        if cells > MAX_HISTOGRAM_CELLS {
            return Err(CodecError::TooLong { count: cells, limit: MAX_HISTOGRAM_CELLS });
        }
        let mut hints = Vec::new();
        decode_i64s(input, count, &mut hints)?;
        let mut sums = Vec::new();
        decode_f64s(input, count, &mut sums)?;
        let heads = Heads { layout, hints, sums };
        match flags {
            0 => {
                let mut column = Vec::new();
                let rows = decode_counts(input, &heads, |input, counts: &mut Vec<u64>| {
                    column.clear();
                    decode_i64s(input, count, &mut column)?;
                    counts.extend(column.iter().map(|&count| count as u64));
                    Ok(())
                })?;
                out.extend(rows.into_iter().map(Histogram::Integer));
            }
            FLOAT => {
                let rows = decode_counts(input, &heads, |input, counts: &mut Vec<f64>| {
                    decode_f64s(input, count, counts)
                })?;
                out.extend(rows.into_iter().map(Histogram::Float));
            }
            other => return Err(invalid("flags of a column of histograms", other.into())),
        }
        Ok(())
    })
}

/// What is known of each histogram before its counts.
struct Heads {
    layout: Arc<BucketLayout>,
    hints: Vec<i64>,
    sums: Vec<f64>,
}

fn decode_counts<N: Count>(
    input: &mut &[u8],
    heads: &Heads,
    mut decode: impl FnMut(&mut &[u8], &mut Vec<N>) -> Result<(), CodecError>,
) -> Result<Vec<model::NativeHistogram<N>>, CodecError> {
    let (positive, negative) = heads.layout.bucket_counts();
    let mut rows = Vec::with_capacity(heads.sums.len());
    for (&hint, &sum) in heads.hints.iter().zip(&heads.sums) {
        let hint = u64::try_from(hint).ok().and_then(ResetHint::from_number);
        rows.push(model::NativeHistogram {
            layout: Arc::clone(&heads.layout),
            reset_hint: hint.ok_or(invalid("reset hint", 0))?,
            count: N::default(),
            zero_count: N::default(),
            sum,
            positive: Vec::with_capacity(positive),
            negative: Vec::with_capacity(negative),
        });
    }
    let mut column = Vec::with_capacity(rows.len());
    let mut take = |put: &dyn Fn(&mut model::NativeHistogram<N>, N)| {
        column.clear();
        decode(input, &mut column)?;
        rows.iter_mut().zip(&column).for_each(|(row, &count)| put(row, count));
        Ok::<(), CodecError>(())
    };
    take(&|row, count| row.count = count)?;
    take(&|row, count| row.zero_count = count)?;
    (0..positive).try_for_each(|_| take(&|row, count| row.positive.push(count)))?;
    (0..negative).try_for_each(|_| take(&|row, count| row.negative.push(count)))?;
    Ok(rows)
}
