//! Chunks of floats: times as differences of differences, values as the bits that change.
//!
//! Source: Prometheus `tsdb/chunkenc/xor.go`, `tsdb/docs/format/chunks.md`.

use super::bits::{BitReader, BitWriter, Xor, fits};
use super::{MAX_SAMPLES, Samples};

/// Appends the data of one chunk. The columns are of equal length, from 1 to [`MAX_SAMPLES`], with
/// ascending times.
pub(super) fn encode(timestamps_ms: &[i64], values: &[f64], out: &mut Vec<u8>) {
    debug_assert!(timestamps_ms.len() == values.len() && values.len() <= MAX_SAMPLES);
    out.extend_from_slice(&(values.len() as u16).to_be_bytes());
    let mut out = BitWriter::new(out);
    let mut column = Xor::first(values[0]);
    out.varint(timestamps_ms[0]);
    out.float(values[0]);
    let mut delta_before = 0_i64;
    for (index, pair) in timestamps_ms.windows(2).enumerate() {
        let delta = pair[1].wrapping_sub(pair[0]);
        if index == 0 {
            out.uvarint(delta as u64);
        } else {
            put_change(&mut out, delta.wrapping_sub(delta_before));
        }
        delta_before = delta;
        column.write(&mut out, values[index + 1]);
    }
}

/// Widths of the difference of two differences, after one more one each.
const WIDTHS: [u32; 3] = [14, 17, 20];

fn put_change(out: &mut BitWriter<'_>, change: i64) {
    if change == 0 {
        return out.bits(0, 1);
    }
    match WIDTHS.iter().position(|&width| fits(change, width)) {
        Some(place) => {
            out.bits((1 << (place + 2)) - 2, place as u32 + 2);
            out.bits(change as u64, WIDTHS[place]);
        }
        None => {
            out.bits(0b1111, 4);
            out.bits(change as u64, 64);
        }
    }
}

/// Appends the samples of a chunk's data, the number at its start taken away.
pub(super) fn decode(
    count: usize,
    from: &mut BitReader<'_>,
    out: &mut Samples,
) -> Result<(), &'static str> {
    if count == 0 {
        return Ok(());
    }
    let mut t_ms = from.varint()?;
    let mut column = Xor::first(from.float()?);
    out.push(t_ms, f64::from_bits(column.bits()));
    let mut delta = 0_i64;
    for index in 1..count {
        if index == 1 {
            delta = from.uvarint()? as i64;
        } else {
            delta = delta.wrapping_add(change(from)?);
        }
        t_ms = t_ms.wrapping_add(delta);
        out.push(t_ms, column.read(from)?);
    }
    Ok(())
}

fn change(from: &mut BitReader<'_>) -> Result<i64, &'static str> {
    let mut ones = 0;
    while ones < 4 && from.bit()? {
        ones += 1;
    }
    match ones {
        0 => Ok(0),
        4 => Ok(from.bits(64)? as i64),
        ones => from.signed(WIDTHS[ones - 1]),
    }
}
