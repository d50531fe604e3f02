//! Blocks: up to 128 signed residuals in a frame of reference, with outliers patched.
//!
//! The frame (base and width) that costs the fewest bytes is searched among all widths: residuals
//! are sorted, so the values a width can hold are a window, and those outside become patches.

use crate::CodecError;
use crate::bitpack::{self, BLOCK_LEN, MAX_WIDTH};
use crate::varint::{len_i64, put_i64, take_bytes, take_i64};

/// Bit 7 of a block's first byte: patches follow the packed values.
const PATCHED: u8 = 0x80;

/// Bytes a patch occupies at least: its position and one byte of offset.
const MIN_PATCH_LEN: usize = 2;

/// How a block will be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    base: i64,
    width: u32,
    /// Encoded bytes, all in.
    pub(crate) size: usize,
}

/// Finds the frame for `residuals` (1 to [`BLOCK_LEN`] of them) that costs the fewest bytes, or
/// nearly so. About 2 µs for a full block, mostly the sort.
pub(crate) fn plan(residuals: &[i64]) -> Frame {
    // Fast path: what does not change, or changes evenly.
    if residuals.iter().all(|&v| v == residuals[0]) {
        return Frame { base: residuals[0], width: 0, size: 1 + len_i64(residuals[0]) };
    }
    let mut buffer = [0_i64; BLOCK_LEN];
    let sorted = &mut buffer[..residuals.len()];
    sorted.copy_from_slice(residuals);
    sorted.sort_unstable();

    let widest = bits_needed(sorted[0], sorted[sorted.len() - 1]);
    let mut best = cost(sorted, 0, sorted.len(), widest);
    for width in (0..widest).rev() {
        let (start, end) = fullest_window(sorted, width);
        let patches = sorted.len() - (end - start);
        // Narrower frames only have more patches, so once these alone cost as much as the best
        // frame there is no better one. A patch above the window is at least this long; one just
        // below it may be shorter, which is why the search may end a little early.
        if patches * (1 + (width as usize + 2).div_ceil(7)) >= best.size {
            break;
        }
        if patches * MIN_PATCH_LEN + bitpack::packed_len(sorted.len(), width) < best.size {
            let candidate = cost(sorted, start, end, width);
            if candidate.size < best.size {
                best = candidate;
            }
        }
    }
    best
}

/// Bits that hold every offset from `low` up to `high`.
fn bits_needed(low: i64, high: i64) -> u32 {
    u64::BITS - (high.wrapping_sub(low) as u64).leading_zeros()
}

/// The window of `sorted` with the most values whose offsets from its first fit `width` bits,
/// `width < 64`.
fn fullest_window(sorted: &[i64], width: u32) -> (usize, usize) {
    let reach = (1_u64 << width) - 1;
    let (mut start, mut best) = (0, (0, 0));
    for (end, &value) in sorted.iter().enumerate() {
        while value.wrapping_sub(sorted[start]) as u64 > reach {
            start += 1;
        }
        if end + 1 - start > best.1 - best.0 {
            best = (start, end + 1);
        }
    }
    best
}

/// The frame that packs `sorted[start..end]` and patches the rest.
fn cost(sorted: &[i64], start: usize, end: usize, width: u32) -> Frame {
    let base = sorted[start];
    let outside = sorted[..start].iter().chain(&sorted[end..]);
    let patches: usize = outside.map(|v| 1 + len_i64(v.wrapping_sub(base))).sum();
    let size = 1
        + len_i64(base)
        + bitpack::packed_len(sorted.len(), width)
        + usize::from(patches > 0)
        + patches;
    Frame { base, width, size }
}

/// Appends `residuals` in `frame`, which [`plan`] made for them: exactly `frame.size` bytes.
pub(crate) fn encode(residuals: &[i64], frame: Frame, out: &mut Vec<u8>) {
    let mut packed = [0_u64; BLOCK_LEN];
    let mut patches = [0_u8; BLOCK_LEN];
    let mut patch_count = 0;
    let reach = u64::MAX.checked_shr(u64::BITS - frame.width).unwrap_or(0);
    for (index, &value) in residuals.iter().enumerate() {
        let offset = value.wrapping_sub(frame.base) as u64;
        if value >= frame.base && offset <= reach {
            packed[index] = offset;
        } else {
            patches[patch_count] = index as u8;
            patch_count += 1;
        }
    }
    let patches = &patches[..patch_count];
    out.push(frame.width as u8 | if patches.is_empty() { 0 } else { PATCHED });
    put_i64(out, frame.base);
    bitpack::pack(&packed[..residuals.len()], frame.width, out);
    if !patches.is_empty() {
        out.push(patches.len() as u8);
        out.extend_from_slice(patches);
        for &index in patches {
            put_i64(out, residuals[usize::from(index)].wrapping_sub(frame.base));
        }
    }
}

/// Takes one block of `len` residuals (1 to [`BLOCK_LEN`]) into the front of `out`.
///
/// # Errors
/// Truncation; width above 64; patches out of order or outside the block. Offsets count from
/// `input` as it is when the error is returned.
pub(crate) fn decode(
    input: &mut &[u8],
    len: usize,
    out: &mut [i64; BLOCK_LEN],
) -> Result<(), CodecError> {
    let head = take_bytes(input, 1)?[0];
    let width = u32::from(head & !PATCHED);
    if width > MAX_WIDTH {
        return Err(CodecError::Invalid { offset: 0, field: "bit width", found: width.into() });
    }
    let base = take_i64(input)?;
    let mut packed = [0_u64; BLOCK_LEN];
    bitpack::unpack(input, len, width, &mut packed)?;
    for (slot, &offset) in out.iter_mut().zip(&packed) {
        *slot = base.wrapping_add(offset as i64);
    }
    if head & PATCHED != 0 {
        patch(input, base, &mut out[..len])?;
    }
    Ok(())
}

fn patch(input: &mut &[u8], base: i64, out: &mut [i64]) -> Result<(), CodecError> {
    let count = usize::from(take_bytes(input, 1)?[0]);
    let positions = take_bytes(input, count)?;
    let ascending = positions.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = positions.last().is_some_and(|&last| usize::from(last) < out.len());
    if !ascending || !inside {
        return Err(CodecError::Invalid {
            offset: 0,
            field: "list of patch positions (length)",
            found: count as u64,
        });
    }
    for &position in positions {
        out[usize::from(position)] = base.wrapping_add(take_i64(input)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn residuals() -> impl Strategy<Value = Vec<i64>> {
        let narrow = (any::<i64>(), 0_u32..64).prop_map(|(v, shift)| v >> shift);
        let mostly_small = prop_oneof![9 => -8_i64..8, 1 => any::<i64>()];
        let offset = (any::<i64>(), 0_i64..16).prop_map(|(base, v)| (base & !0xff) + v);
        prop_oneof![
            proptest::collection::vec(any::<i64>(), 1..=128),
            proptest::collection::vec(narrow, 1..=128),
            proptest::collection::vec(mostly_small, 1..=128),
            proptest::collection::vec(offset, 128),
        ]
    }

    /// The cheapest frame over every width and every base that is one of the values.
    fn cheapest_by_trial(residuals: &[i64]) -> usize {
        let mut sorted = residuals.to_vec();
        sorted.sort_unstable();
        let mut best = usize::MAX;
        for width in 0..=64_u32 {
            let (start, end) =
                if width == 64 { (0, sorted.len()) } else { fullest_window(&sorted, width) };
            best = best.min(cost(&sorted, start, end, width).size);
        }
        best
    }

    proptest! {
        #[test]
        fn survives_at_the_planned_and_nearly_least_size(residuals in residuals()) {
            let frame = plan(&residuals);
            let least = cheapest_by_trial(&residuals);
            prop_assert!(least <= frame.size && frame.size <= least + least / 8 + 4);
            let mut out = Vec::new();
            encode(&residuals, frame, &mut out);
            prop_assert_eq!(out.len(), frame.size);
            let mut back = [0; BLOCK_LEN];
            let mut input = out.as_slice();
            decode(&mut input, residuals.len(), &mut back).expect("own bytes");
            prop_assert!(input.is_empty());
            prop_assert_eq!(&back[..residuals.len()], &residuals[..]);
        }

        #[test]
        fn any_bytes_decode_or_fail(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            len in 1_usize..=128,
        ) {
            let _ = decode(&mut bytes.as_slice(), len, &mut [0; BLOCK_LEN]);
        }
    }
}
