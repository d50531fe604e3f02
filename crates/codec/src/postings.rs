//! Postings: strictly ascending ordinals, as runs or as packed gaps.
//!
//! Ordinals are assigned in sorted label order, so the series of one metric, job or target are
//! neighbours, and most lists are a handful of runs.

use crate::bitpack::BLOCK_LEN;
use crate::block;
use crate::error::located;
use crate::varint::{put_u64, take_bytes, take_u64};
use crate::{CodecError, MAX_COLUMN_LEN, check_count};

const RUNS: u8 = 0;
const PACKED: u8 = 1;

/// Appends `ordinals`, which must be strictly ascending, in the smaller of two forms. Nothing is
/// appended for none.
///
/// # Panics
/// More than [`MAX_COLUMN_LEN`] ordinals, or not strictly ascending ones.
pub fn encode_postings(ordinals: &[u32], out: &mut Vec<u8>) {
    assert!(ordinals.len() <= MAX_COLUMN_LEN, "a list has at most {MAX_COLUMN_LEN} ordinals");
    assert!(ordinals.is_sorted_by(|a, b| a < b), "postings are strictly ascending");
    if ordinals.is_empty() {
        return;
    }
    let start = out.len();
    encode_runs(ordinals, out);
    let runs_len = out.len() - start;
    // A run that pays for itself is longer than the bytes it takes; no packed list is below one
    // bit per ordinal, except where gaps are all equal, which is found by trying.
    if runs_len > 8 {
        encode_packed(ordinals, out);
        let packed_len = out.len() - start - runs_len;
        if packed_len < runs_len {
            out.drain(start..start + runs_len);
        } else {
            out.truncate(start + runs_len);
        }
    }
}

fn encode_runs(ordinals: &[u32], out: &mut Vec<u8>) {
    out.push(RUNS);
    let mut next = 0_u64;
    for run in ordinals.chunk_by(|a, b| *b - *a == 1) {
        let length = run.len() as u64;
        put_u64(out, u64::from(run[0]) - next);
        put_u64(out, length - 1);
        next = u64::from(run[0]) + length;
    }
}

fn encode_packed(ordinals: &[u32], out: &mut Vec<u8>) {
    out.push(PACKED);
    put_u64(out, ordinals[0].into());
    let mut gaps = [0_i64; BLOCK_LEN];
    let mut previous = ordinals[0];
    for chunk in ordinals[1..].chunks(BLOCK_LEN) {
        for (gap, &ordinal) in gaps.iter_mut().zip(chunk) {
            *gap = i64::from(ordinal - previous - 1);
            previous = ordinal;
        }
        let gaps = &gaps[..chunk.len()];
        block::encode(gaps, block::plan(gaps), out);
    }
}

/// Takes `count` ordinals and appends them to `out`, strictly ascending. `out` grows by `count`
/// at most and is as before after an error; `input` is then anywhere.
///
/// # Errors
/// Truncation; ordinals that do not fit 32 bits or do not add up to `count`; `count` above
/// [`MAX_COLUMN_LEN`].
pub fn decode_postings(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<u32>,
) -> Result<(), CodecError> {
    check_count(count)?;
    if count == 0 {
        return Ok(());
    }
    let start = out.len();
    located(input, |input| match take_bytes(input, 1)?[0] {
        RUNS => decode_runs(input, count, out),
        PACKED => decode_packed(input, count, out),
        kind => {
            Err(CodecError::Invalid { offset: 0, field: "kind of postings", found: kind.into() })
        }
    })
    .inspect_err(|_| out.truncate(start))
}

fn decode_runs(input: &mut &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), CodecError> {
    let mut left = count as u64;
    let mut next = 0_u64;
    while left > 0 {
        let first = next.saturating_add(take_u64(input)?);
        let length = take_u64(input)?.saturating_add(1);
        if length > left {
            return Err(CodecError::Invalid { offset: 0, field: "length of a run", found: length });
        }
        let last = ordinal(first.saturating_add(length - 1))?;
        out.extend(first as u32..=last);
        next = u64::from(last) + 1;
        left -= length;
    }
    Ok(())
}

fn decode_packed(input: &mut &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), CodecError> {
    let mut previous = ordinal(take_u64(input)?)?;
    out.reserve(count);
    out.push(previous);
    let mut left = count - 1;
    let mut gaps = [0_i64; BLOCK_LEN];
    while left > 0 {
        let len = left.min(BLOCK_LEN);
        block::decode(input, len, &mut gaps)?;
        for &gap in &gaps[..len] {
            // A negative gap becomes huge and is refused with the rest.
            previous = ordinal((u64::from(previous) + 1).saturating_add(gap as u64))?;
            out.push(previous);
        }
        left -= len;
    }
    Ok(())
}

fn ordinal(number: u64) -> Result<u32, CodecError> {
    u32::try_from(number).map_err(|_| CodecError::Invalid {
        offset: 0,
        field: "ordinal",
        found: number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(ordinals: &[u32]) -> usize {
        let mut out = vec![7];
        encode_postings(ordinals, &mut out);
        let mut back = vec![9];
        let mut input = &out[1..];
        decode_postings(&mut input, ordinals.len(), &mut back).expect("own bytes");
        assert!(input.is_empty());
        assert_eq!(&back[1..], ordinals);
        for cut in 1..out.len() {
            let result = decode_postings(&mut &out[1..cut], ordinals.len(), &mut back);
            assert!(result.is_err(), "{cut} of {}", out.len());
            assert_eq!(back.len(), ordinals.len() + 1);
        }
        out.len() - 1
    }

    #[test]
    fn runs_and_strides_are_short() {
        assert_eq!(check(&[]), 0);
        assert_eq!(check(&[0]), 3);
        assert_eq!(check(&[u32::MAX - 1, u32::MAX]), 7);
        assert_eq!(check(&(5..100_000).collect::<Vec<_>>()), 5);
        // Every tenth series: eight blocks of two bytes each.
        assert_eq!(check(&(0..1_000).map(|i| 10 * i).collect::<Vec<_>>()), 18);
    }

    #[test]
    fn ordinals_beyond_32_bits_are_refused() {
        for bytes in [
            &[RUNS, 0xff, 0xff, 0xff, 0xff, 0x0f, 1][..],
            &[RUNS, 0, 5],
            &[PACKED, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0],
            &[PACKED, 5, 0, 9],
            &[2, 0, 0],
        ] {
            assert!(decode_postings(&mut &bytes[..], 2, &mut Vec::new()).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn sets_survive(
            set in proptest::collection::btree_set(0_u32..5_000, 0..600),
            factor in prop_oneof![Just(1_u32), 1_u32..800_000],
        ) {
            let ordinals: Vec<u32> = set.into_iter().map(|v| v * factor).collect();
            check(&ordinals);
        }

        #[test]
        fn any_bytes_decode_to_ascending_ordinals_or_fail(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            kind in 0_u8..3,
            count in 0_usize..400,
        ) {
            let bytes = [&[kind], &bytes[..]].concat();
            let mut out = Vec::new();
            if decode_postings(&mut bytes.as_slice(), count, &mut out).is_ok() {
                prop_assert_eq!(out.len(), count);
                prop_assert!(out.is_sorted_by(|a, b| a < b));
            } else {
                prop_assert!(out.is_empty());
            }
        }
    }
}
