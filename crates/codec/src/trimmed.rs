//! Trimmed float columns: each value without the zero bytes at the end of its bit pattern.
//!
//! For rows of *different* series, where neighbours have nothing in common that [`crate::encode_f64s`]
//! could use: most values of a scrape are small whole numbers, and those end in zeros. It costs
//! about a nanosecond per value, so it may stand on the path of every write.

use crate::error::located;
use crate::varint::take_bytes;
use crate::{CodecError, MAX_COLUMN_LEN, check_count};

/// Appends `count` values, bit-exact for every pattern; half a byte to eight and a half bytes each.
///
/// # Panics
/// `values` does not yield exactly `count` values; `count` is above [`MAX_COLUMN_LEN`].
pub fn encode_trimmed_f64s(count: usize, values: impl Iterator<Item = f64>, out: &mut Vec<u8>) {
    assert!(count <= MAX_COLUMN_LEN, "a column has at most {MAX_COLUMN_LEN} values");
    let lengths = out.len();
    out.resize(lengths + count.div_ceil(2), 0);
    let mut at = out.len();
    // Room for every value in full; cut off at the end.
    out.resize(at + 8 * count, 0);
    let mut given = 0;
    for value in values {
        assert!(given < count, "more than the {count} values announced");
        let bits = value.to_bits();
        let len = 8 - (bits.trailing_zeros() as usize / 8).min(8);
        out[lengths + given / 2] |= (len as u8) << (4 * (given % 2));
        out[at..at + 8].copy_from_slice(&bits.to_be_bytes());
        at += len;
        given += 1;
    }
    assert!(given == count, "{given} values instead of the {count} announced");
    out.truncate(at);
}

/// Takes a column of `count` values and appends them to `out`. `out` is as before after an error;
/// `input` is then anywhere. Memory follows the bytes that are there: a value takes half a byte.
///
/// # Errors
/// Truncation; lengths the format does not allow; `count` above [`MAX_COLUMN_LEN`].
pub fn decode_trimmed_f64s(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    check_count(count)?;
    let start = out.len();
    located(input, |input| decode_values(input, count, out)).inspect_err(|_| out.truncate(start))
}

fn decode_values(input: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let invalid = |found| CodecError::Invalid { offset: 0, field: "length of a value", found };
    let lengths = take_bytes(input, count.div_ceil(2))?;
    out.reserve(count);
    for row in 0..count {
        let len = usize::from(lengths[row / 2] >> (4 * (row % 2)) & 0x0f);
        if len > 8 {
            return Err(invalid(len as u64));
        }
        // Fast path: a whole word can be read and what is not of this value shifted out.
        let bits = match input.first_chunk::<8>() {
            Some(word) if len > 0 => {
                let bits = u64::from_be_bytes(*word) >> (64 - 8 * len) << (64 - 8 * len);
                *input = &input[len..];
                bits
            }
            _ => {
                let mut word = [0; 8];
                word[..len].copy_from_slice(take_bytes(input, len)?);
                u64::from_be_bytes(word)
            }
        };
        out.push(f64::from_bits(bits));
    }
    match lengths.last() {
        Some(last) if count % 2 == 1 && last >> 4 != 0 => Err(invalid(u64::from(last >> 4))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_pattern() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0_i64..1_000).prop_map(|n| (n as f64).to_bits()),
            (any::<u64>(), 0_u32..64).prop_map(|(bits, shift)| bits << shift),
        ]
    }

    proptest! {
        #[test]
        fn any_values_come_back(
            patterns in proptest::collection::vec(any_pattern(), 0..200),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut out = vec![0xaa];
            let values = patterns.iter().map(|&bits| f64::from_bits(bits));
            encode_trimmed_f64s(patterns.len(), values, &mut out);
            let (mut input, mut back) = (&out[1..], vec![1.0]);
            decode_trimmed_f64s(&mut input, patterns.len(), &mut back).expect("own bytes");
            prop_assert!(input.is_empty());
            let found: Vec<u64> = back[1..].iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(&found, &patterns);
            if out.len() > 1 {
                let mut input = &out[1..1 + cut.index(out.len() - 1)];
                prop_assert!(decode_trimmed_f64s(&mut input, patterns.len(), &mut back).is_err());
                prop_assert_eq!(back.len(), 1 + patterns.len());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), count in 0_usize..100,
        ) {
            let _ = decode_trimmed_f64s(&mut &bytes[..], count, &mut Vec::new());
        }
    }

    #[test]
    fn small_numbers_are_short_and_false_lengths_refused() {
        let mut out = Vec::new();
        encode_trimmed_f64s(3, [0.0, 1.0, 3.0].into_iter(), &mut out);
        assert_eq!(out, [0x20, 0x02, 0x3f, 0xf0, 0x40, 0x08]);
        for bad in [&[0x09, 0][..], &[0x10]] {
            let error = decode_trimmed_f64s(&mut &bad[..], 1, &mut Vec::new());
            assert!(matches!(error, Err(CodecError::Invalid { .. })), "{error:?}");
        }
    }
}
