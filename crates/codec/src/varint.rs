//! Variable-length integers (LEB128) and length-prefixed bytes.
//!
//! Every `take_` function advances `input` past what it read. After an error `input` is
//! unchanged, and the error's offset counts from its start.

use crate::CodecError;

/// Longest encoding of a `u64`.
pub const MAX_LEN: usize = 10;

/// Appends `v`: one byte below 128, at most ten.
pub fn put_u64(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends `v` after zigzag, so that small magnitudes of either sign are short.
pub fn put_i64(out: &mut Vec<u8>, v: i64) {
    put_u64(out, zigzag(v));
}

/// Appends the length of `bytes` and then `bytes`.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends numbers as runs of equal ones: the length of each, and its number less that of the run
/// before.
pub fn put_runs(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let (mut run, mut current, mut before) = (0_u64, 0_i64, 0_i64);
    let mut put_run = |run: u64, number: i64| {
        if run > 0 {
            put_u64(out, run);
            put_i64(out, number.wrapping_sub(before));
            before = number;
        }
    };
    for number in numbers {
        if number != current {
            put_run(run, current);
            (run, current) = (0, number);
        }
        run += 1;
    }
    put_run(run, current);
}

/// Takes one unsigned number.
///
/// # Errors
/// Truncation; more than ten bytes or 64 bits; a form longer than needed.
pub fn take_u64(input: &mut &[u8]) -> Result<u64, CodecError> {
    // Fast path: most lengths, gaps and bases are below 128.
    match input.first() {
        Some(&byte) if byte < 0x80 => {
            *input = &input[1..];
            Ok(u64::from(byte))
        }
        _ => take_long(input),
    }
}

fn take_long(input: &mut &[u8]) -> Result<u64, CodecError> {
    let mut value = 0_u64;
    for (index, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let shift = 7 * index as u32;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let overflows = index == MAX_LEN - 1 && byte > 1;
            let padded = index > 0 && byte == 0;
            if overflows || padded {
                return Err(CodecError::Invalid {
                    offset: index,
                    field: "last byte of a varint",
                    found: u64::from(byte),
                });
            }
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    if input.len() < MAX_LEN {
        Err(CodecError::Truncated { offset: input.len(), needed: 1 })
    } else {
        Err(CodecError::Invalid {
            offset: MAX_LEN - 1,
            field: "last byte of a varint",
            found: u64::from(input[MAX_LEN - 1]),
        })
    }
}

/// Takes one signed number.
///
/// # Errors
/// As [`take_u64`].
pub fn take_i64(input: &mut &[u8]) -> Result<i64, CodecError> {
    take_u64(input).map(unzigzag)
}

/// Takes as many signed numbers as `out` has places: about 2 ns each, whatever their lengths, and less
/// where one byte suffices.
///
/// # Errors
/// As [`take_u64`]; `out` then holds anything.
pub(crate) fn take_i64s(input: &mut &[u8], out: &mut [i64]) -> Result<(), CodecError> {
    let (mut rest, mut at) = (*input, 0);
    while at < out.len() {
        let Some(word) = rest.first_chunk::<8>() else { break };
        let word = u64::from_le_bytes(*word);
        let stops = !word & STOP_BITS;
        // Fast path: eight numbers of one byte.
        if stops == STOP_BITS && out.len() - at >= 8 {
            for (byte, slot) in out[at..at + 8].iter_mut().enumerate() {
                *slot = unzigzag(word >> (8 * byte) & 0x7f);
            }
            (rest, at) = (&rest[8..], at + 8);
            continue;
        }
        let bits = stops.trailing_zeros();
        // The last byte of a longer number is not zero. Numbers of more than eight bytes are rare.
        let is_plain = bits < 64 && (bits == 7 || word >> (bits - 7) & 0x7f != 0);
        if !is_plain {
            out[at] = take_i64(&mut rest).map_err(|e| e.shifted(input.len() - rest.len()))?;
            at += 1;
            continue;
        }
        // The seven bits of each byte move together, in pairs of bytes, then of pairs.
        let value = word & (stops ^ stops.wrapping_sub(1)) & !STOP_BITS;
        let value = (value & 0x007f_007f_007f_007f) | (value & 0x7f00_7f00_7f00_7f00) >> 1;
        let value = (value & 0x0000_3fff_0000_3fff) | (value & 0x3fff_0000_3fff_0000) >> 2;
        let value = (value & 0x0fff_ffff) | (value & 0x0fff_ffff_0000_0000) >> 4;
        out[at] = unzigzag(value);
        (rest, at) = (&rest[bits as usize / 8 + 1..], at + 1);
    }
    for slot in &mut out[at..] {
        *slot = take_i64(&mut rest).map_err(|e| e.shifted(input.len() - rest.len()))?;
    }
    *input = rest;
    Ok(())
}

/// The bits that are clear in the last byte of a number.
const STOP_BITS: u64 = 0x8080_8080_8080_8080;

/// Takes `len` bytes, borrowed from the input.
///
/// # Errors
/// Truncation.
pub fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8], CodecError> {
    match input.split_at_checked(len) {
        Some((bytes, rest)) => {
            *input = rest;
            Ok(bytes)
        }
        None => Err(CodecError::Truncated { offset: input.len(), needed: len - input.len() }),
    }
}

/// Takes a length and as many bytes, borrowed from the input.
///
/// # Errors
/// As [`take_u64`]; truncation.
pub fn take_prefixed<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], CodecError> {
    let mut rest = *input;
    let len = take_u64(&mut rest)?;
    // A length above `usize::MAX` is above what is left, too.
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let bytes = take_bytes(&mut rest, len).map_err(|e| e.shifted(input.len() - rest.len()))?;
    *input = rest;
    Ok(bytes)
}

/// Maps small magnitudes of either sign to small numbers: 0, -1, 1, -2 … become 0, 1, 2, 3 ….
pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Bytes [`put_i64`] appends for `v`.
pub(crate) fn len_i64(v: i64) -> usize {
    len_u64(zigzag(v))
}

/// Bytes [`put_u64`] appends for `v`.
pub(crate) fn len_u64(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn many_are_taken_as_one_by_one(
            values in proptest::collection::vec((any::<i64>(), 0_u32..64), 0..60),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            small in any::<bool>(),
            cut in 0_usize..600,
        ) {
            let mut bytes = Vec::new();
            for (value, shift) in &values {
                put_i64(&mut bytes, value >> if small { shift.max(&57) } else { shift });
            }
            bytes.extend_from_slice(&noise);
            bytes.truncate(cut);
            for count in [0, values.len(), values.len() + noise.len() / 2] {
                let (mut many, mut single) = (bytes.as_slice(), bytes.as_slice());
                let mut taken = vec![0; count];
                let outcome = take_i64s(&mut many, &mut taken);
                let expected: Result<Vec<i64>, CodecError> =
                    (0..count).map(|_| take_i64(&mut single)).collect();
                prop_assert_eq!(outcome.is_ok(), expected.is_ok());
                if let Ok(expected) = expected {
                    prop_assert_eq!(taken, expected);
                    prop_assert_eq!(many, single);
                } else {
                    prop_assert_eq!(many, bytes.as_slice());
                }
            }
        }

        #[test]
        fn numbers_survive(v in any::<u64>(), shift in 0_u32..64) {
            let unsigned = v >> shift;
            let signed = (v as i64) >> shift;
            let mut out = Vec::new();
            put_u64(&mut out, unsigned);
            prop_assert_eq!(out.len(), len_u64(unsigned));
            put_i64(&mut out, signed);
            prop_assert_eq!(out.len(), len_u64(unsigned) + len_i64(signed));
            let mut input = out.as_slice();
            prop_assert_eq!(take_u64(&mut input), Ok(unsigned));
            prop_assert_eq!(take_i64(&mut input), Ok(signed));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_give_a_number_of_one_form_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..16),
        ) {
            let mut input = bytes.as_slice();
            match take_u64(&mut input) {
                Ok(v) => {
                    let mut out = Vec::new();
                    put_u64(&mut out, v);
                    prop_assert_eq!(&out[..], &bytes[..bytes.len() - input.len()]);
                }
                Err(_) => prop_assert_eq!(input, &bytes[..]),
            }
        }

        #[test]
        fn prefixed_bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_bytes(&mut out, &bytes);
            let mut input = out.as_slice();
            prop_assert_eq!(take_prefixed(&mut input), Ok(&bytes[..]));
            for cut in 0..out.len() {
                let mut input = &out[..cut];
                prop_assert!(take_prefixed(&mut input).is_err());
                prop_assert_eq!(input.len(), cut);
            }
        }
    }

    #[test]
    fn errors_say_where() {
        let cases: [(&[u8], CodecError); 4] = [
            (&[], CodecError::Truncated { offset: 0, needed: 1 }),
            (&[0x80, 0x80], CodecError::Truncated { offset: 2, needed: 1 }),
            (
                &[0x80, 0],
                CodecError::Invalid { offset: 1, field: "last byte of a varint", found: 0 },
            ),
            (
                &[0xff; 12],
                CodecError::Invalid { offset: 9, field: "last byte of a varint", found: 0xff },
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(take_u64(&mut &bytes[..]), Err(expected), "{bytes:?}");
        }
        assert_eq!(
            take_prefixed(&mut &[5, 1, 2][..]),
            Err(CodecError::Truncated { offset: 3, needed: 3 })
        );
    }
}
