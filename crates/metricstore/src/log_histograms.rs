//! Histogram rows of a log payload, which stand behind the floats.

use std::sync::Arc;

use codec::CodecError;
use codec::varint::{put_i64, put_u64, take_bytes, take_i64, take_u64};
use model::BucketLayout;

use crate::rows::{HistogramRow, ShardRows};

/// The row has the layout of the row before.
const SAME_LAYOUT: u8 = 0;
/// A layout follows.
const NEW_LAYOUT: u8 = 1;
/// Fewest bytes of a row.
const MIN_ROW_BYTES: usize = 15;

/// Appends the histograms of all shards.
pub(crate) fn encode(shards: &[ShardRows], out: &mut Vec<u8>) {
    let rows = shards.iter().map(|shard| shard.histograms.len()).sum::<usize>();
    put_u64(out, rows as u64);
    let mut before = Before::default();
    let mut layout: Option<&Arc<BucketLayout>> = None;
    for row in shards.iter().flat_map(|shard| &shard.histograms) {
        put_i64(out, i64::from(row.ordinal) - before.number);
        put_i64(out, row.t_ms.wrapping_sub(before.t_ms));
        put_i64(out, row.start_ms.wrapping_sub(before.start_ms));
        before.number = i64::from(row.ordinal);
        (before.t_ms, before.start_ms) = (row.t_ms, row.start_ms);
        let own = row.histogram.layout();
        if layout.is_some_and(|known| Arc::ptr_eq(known, own) || known == own) {
            out.push(SAME_LAYOUT);
        } else {
            out.push(NEW_LAYOUT);
            codec::put_layout(own, out);
            layout = Some(own);
        }
        codec::put_histogram(&row.histogram, out);
    }
}

/// What a row's numbers are differences to.
#[derive(Default)]
struct Before {
    number: i64,
    t_ms: i64,
    start_ms: i64,
}

/// Takes what [`encode`] wrote; ordinals are the file's numbers, as they stand there.
pub(crate) fn decode(input: &mut &[u8], out: &mut Vec<HistogramRow>) -> Result<(), CodecError> {
    let rows = take_u64(input)?;
    if rows > (input.len() / MIN_ROW_BYTES) as u64 {
        return Err(invalid("number of histograms", rows));
    }
    let mut before = Before::default();
    let mut layout: Option<Arc<BucketLayout>> = None;
    for _ in 0..rows {
        before.number = before.number.wrapping_add(take_i64(input)?);
        before.t_ms = before.t_ms.wrapping_add(take_i64(input)?);
        before.start_ms = before.start_ms.wrapping_add(take_i64(input)?);
        let ordinal = u32::try_from(before.number)
            .map_err(|_| invalid("series number of a histogram", before.number as u64))?;
        let own = match (take_bytes(input, 1)?[0], &layout) {
            (SAME_LAYOUT, Some(known)) => Arc::clone(known),
            (NEW_LAYOUT, _) => Arc::new(codec::take_layout(input)?),
            (other, _) => return Err(invalid("kind of a histogram's layout", other.into())),
        };
        let histogram = codec::take_histogram(input, &own)?;
        layout = Some(own);
        out.push(HistogramRow { ordinal, t_ms: before.t_ms, start_ms: before.start_ms, histogram });
    }
    Ok(())
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}
