//! Whole numbers byte by byte: all highest bytes, then the next ones. Behind a compressor that counts bytes, a column
//! of which some values are frequent takes what it has to say, where packed bits take what the widest value needs.

use codec::CodecError;
use codec::varint::{put_i64, take_bytes, take_i64};

/// Each value minus the least one.
const DIRECT: u8 = 0;
/// Each value minus the one before it, minus the least such difference.
const DELTA: u8 = 1;
/// An integer column of `codec`.
const PACKED: u8 = 2;

/// So many of the first numbers tell whether it is worth to pack all of them.
const PART: usize = 1_024;

/// Bits that a byte which occurs adds to the table of a compressor.
const TABLE_BITS: f64 = 5.0;

/// How many bits values take in planes, if each byte costs what its frequency says.
fn planes_bits(values: impl Iterator<Item = u64> + Clone, width: usize) -> f64 {
    (0..width)
        .map(|plane| bytes_bits(values.clone().map(|value| (value >> (8 * plane)) as u8)))
        .sum()
}

/// How many bits bytes take, if each costs what its frequency says.
pub(crate) fn bytes_bits(bytes: impl Iterator<Item = u8>) -> f64 {
    let mut counts = [0_u32; 256];
    let mut total = 0_u32;
    for byte in bytes {
        counts[usize::from(byte)] += 1;
        total += 1;
    }
    let total = f64::from(total);
    let of_byte = |count: &u32| {
        let count = f64::from(*count);
        count * (total / count).log2() + TABLE_BITS
    };
    counts.iter().filter(|count| **count > 0).map(of_byte).sum()
}

fn width_of(most: u64) -> usize {
    (64 - most.leading_zeros() as usize).div_ceil(8)
}

/// Numbers above their least one, and how many bytes the largest has then.
struct Offsets {
    least: i64,
    width: usize,
}

impl Offsets {
    fn of(values: impl Iterator<Item = i64> + Clone) -> Self {
        let least = values.clone().min().unwrap_or(0);
        let most = values.max().unwrap_or(0);
        Offsets { least, width: width_of(most.wrapping_sub(least) as u64) }
    }

    fn each<'a>(
        &self,
        values: impl Iterator<Item = i64> + Clone + 'a,
    ) -> impl Iterator<Item = u64> + Clone + 'a {
        let least = self.least;
        values.map(move |value| value.wrapping_sub(least) as u64)
    }

    fn put(&self, values: impl Iterator<Item = i64> + Clone, out: &mut Vec<u8>) {
        put_i64(out, self.least);
        out.push(self.width as u8);
        for plane in (0..self.width).rev() {
            out.extend(self.each(values.clone()).map(|value| (value >> (8 * plane)) as u8));
        }
    }
}

/// Appends numbers, of which there is one at least, in the way that a compressor makes the least of, and yields about
/// how many bytes that will be.
pub(crate) fn put_planes(values: &[i64], out: &mut Vec<u8>) -> usize {
    let differences = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let direct = Offsets::of(values.iter().copied());
    let delta = Offsets::of(differences.clone());
    let direct_bits = planes_bits(direct.each(values.iter().copied()), direct.width);
    let delta_bits = planes_bits(delta.each(differences.clone()), delta.width);
    let least_bytes = (direct_bits.min(delta_bits) / 8.0) as usize;
    let start = out.len();
    out.push(PACKED);
    // Fast path: packed numbers are rarely less, and to pack some of them tells.
    let part = &values[..values.len().min(PART)];
    codec::encode_i64s(part, out);
    let of_part = (out.len() - start) * values.len() / part.len().max(1);
    if of_part / 2 <= least_bytes {
        if part.len() < values.len() {
            out.truncate(start + 1);
            codec::encode_i64s(values, out);
        }
        if out.len() - start <= least_bytes {
            return out.len() - start;
        }
    }
    out.truncate(start);
    if direct_bits <= delta_bits {
        out.push(DIRECT);
        direct.put(values.iter().copied(), out);
    } else {
        out.push(DELTA);
        put_i64(out, values.first().copied().unwrap_or(0));
        delta.put(differences, out);
    }
    least_bytes
}

/// Takes so many numbers that [`put_planes`] wrote.
///
/// # Errors
/// They are damaged.
pub(crate) fn take_planes(input: &mut &[u8], count: usize) -> Result<Vec<i64>, CodecError> {
    let mut values = Vec::new();
    match take_bytes(input, 1)?[0] {
        PACKED => codec::decode_i64s(input, count, &mut values)?,
        DIRECT => take_offsets(input, count, &mut values)?,
        DELTA => {
            let first = take_i64(input)?;
            let Some(differences) = count.checked_sub(1) else { return Ok(values) };
            take_offsets(input, differences, &mut values)?;
            let mut last = first;
            for value in &mut values {
                let next = last.wrapping_add(*value);
                *value = last;
                last = next;
            }
            values.push(last);
        }
        other => return Err(invalid("way in which numbers are written", u64::from(other))),
    }
    Ok(values)
}

fn take_offsets(input: &mut &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let least = take_i64(input)?;
    let width = usize::from(take_bytes(input, 1)?[0]);
    if width > 8 {
        return Err(invalid("bytes of a number", width as u64));
    }
    let bytes = take_bytes(input, count.saturating_mul(width))?;
    // Fast path: most numbers of lines are small.
    match width {
        0 => out.resize(count, least),
        1 => out.extend(bytes.iter().map(|low| least.wrapping_add(i64::from(*low)))),
        2 => {
            let (high, low) = bytes.split_at(count);
            let value = |(high, low): (&u8, &u8)| i64::from(*high) << 8 | i64::from(*low);
            out.extend(high.iter().zip(low).map(|pair| least.wrapping_add(value(pair))));
        }
        _ => {
            let mut values = vec![0_u64; count];
            for plane in bytes.chunks_exact(count.max(1)) {
                values.iter_mut().zip(plane).for_each(|(v, byte)| *v = *v << 8 | u64::from(*byte));
            }
            out.extend(values.into_iter().map(|value| least.wrapping_add(value as i64)));
        }
    }
    Ok(())
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[i64]) -> u8 {
        let mut out = Vec::new();
        put_planes(values, &mut out);
        let mut input = out.as_slice();
        assert_eq!(take_planes(&mut input, values.len()).expect("it was written so"), values);
        assert!(input.is_empty());
        out[0]
    }

    #[test]
    fn numbers_choose_how_they_are_written() {
        let skewed: Vec<i64> = (0..5_000_i64).map(|n| (n * 7_919 % 100).pow(3) / 300).collect();
        assert_eq!(check(&skewed), DIRECT);
        let mut sum = 0;
        let steps = skewed.iter().map(|n| {
            sum += n % 7;
            sum
        });
        assert_eq!(check(&steps.collect::<Vec<_>>()), DELTA);
        assert_eq!(check(&(0..5_000).map(|n| n * n * 1_000_003).collect::<Vec<i64>>()), PACKED);
        check(&[i64::MIN, i64::MAX, 0, -1]);
        check(&[7]);
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            small in prop::collection::vec(-300_i64..300, 1..60),
            large in prop::collection::vec(any::<i64>(), 0..9),
        ) {
            check(&small);
            check(&[small, large].concat());
        }

        #[test]
        fn damaged_numbers_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            mode in 0_u8..4,
            count in 0_usize..20,
        ) {
            let bytes = [&[mode][..], &bytes].concat();
            if let Ok(values) = take_planes(&mut bytes.as_slice(), count) {
                prop_assert_eq!(values.len(), count);
            }
        }
    }
}
