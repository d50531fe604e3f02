//! Exemplars of a log payload, which stand behind the histograms.

use codec::CodecError;
use codec::varint::{put_bytes, put_i64, put_u64, take_bytes, take_i64, take_prefixed, take_u64};
use model::{Exemplar, Labels};

use crate::rows::ExemplarRow;

/// The time is that of the reading.
const UNDATED: u8 = 0;
/// The source told the time.
const DATED: u8 = 1;
/// Fewest bytes of an exemplar without the number of its series.
const MIN_BYTES: usize = 11;

/// Appends exemplars with the numbers of their series.
pub(crate) fn encode(rows: &[ExemplarRow], out: &mut Vec<u8>) {
    put_u64(out, rows.len() as u64);
    let (mut number, mut before_ms) = (0_i64, 0_i64);
    for row in rows {
        put_i64(out, i64::from(row.ordinal) - number);
        number = i64::from(row.ordinal);
        put(&row.exemplar, &mut before_ms, out);
    }
}

/// Appends an exemplar behind one with the time `before_ms`, which becomes its own.
pub(crate) fn put(exemplar: &Exemplar, before_ms: &mut i64, out: &mut Vec<u8>) {
    put_i64(out, exemplar.t_ms.wrapping_sub(*before_ms));
    *before_ms = exemplar.t_ms;
    out.push(if exemplar.is_dated { DATED } else { UNDATED });
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
    put_bytes(out, exemplar.labels.as_packed());
}

/// Takes what [`encode`] wrote: numbers of series, as they stand in the file, and exemplars.
pub(crate) fn decode(input: &mut &[u8], out: &mut Vec<(u32, Exemplar)>) -> Result<(), CodecError> {
    let rows = take_u64(input)?;
    if rows > (input.len() / (MIN_BYTES + 1)) as u64 {
        return Err(invalid("number of exemplars", rows));
    }
    let (mut number, mut before_ms) = (0_i64, 0_i64);
    for _ in 0..rows {
        number = number.wrapping_add(take_i64(input)?);
        let ordinal = u32::try_from(number)
            .map_err(|_| invalid("series number of an exemplar", number as u64))?;
        out.push((ordinal, take(input, &mut before_ms)?));
    }
    Ok(())
}

/// Takes what [`put`] wrote.
pub(crate) fn take(input: &mut &[u8], before_ms: &mut i64) -> Result<Exemplar, CodecError> {
    *before_ms = before_ms.wrapping_add(take_i64(input)?);
    let is_dated = match take_bytes(input, 1)?[0] {
        UNDATED => false,
        DATED => true,
        other => return Err(invalid("kind of an exemplar's time", other.into())),
    };
    let value = take_bytes(input, 8)?.try_into().expect("eight bytes were asked for");
    let value = f64::from_bits(u64::from_le_bytes(value));
    let labels = take_prefixed(input)?;
    let labels = Labels::from_packed(labels)
        .map_err(|_| invalid("labels of an exemplar, bytes", labels.len() as u64))?;
    Ok(Exemplar { labels, value, t_ms: *before_ms, is_dated })
}

/// Most exemplars that `bytes` can hold.
pub(crate) fn most_in(bytes: usize) -> usize {
    bytes / MIN_BYTES
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}
