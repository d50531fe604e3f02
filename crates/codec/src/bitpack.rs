//! Packs numbers of a fixed width in bits.
//!
//! Two layouts, drawn in `docs/formats/codec.md`. A full block of 128 numbers of at most 32 bits
//! uses four lanes, which the compiler turns into 128-bit vector shifts; all else is one bit
//! string. Unpacking is specialised per width, because with the width known every shift and mask
//! is a constant and no branch is left.

use crate::CodecError;
use crate::varint::take_bytes;

/// Numbers in a full block.
pub const BLOCK_LEN: usize = 128;

/// Widest number the four-lane layout holds.
const MAX_LANE_WIDTH: u32 = 32;

/// Widest number of all.
pub const MAX_WIDTH: u32 = 64;

/// Bytes that `len` numbers of `width` bits occupy.
pub fn packed_len(len: usize, width: u32) -> usize {
    (len * width as usize).div_ceil(8)
}

/// Appends `values`, `width` bits each: [`packed_len`] bytes.
///
/// # Panics
/// More than [`BLOCK_LEN`] values, or `width` above 64. Bits above `width` must be zero; they are
/// not checked and would spill into neighbours.
pub fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    assert!(values.len() <= BLOCK_LEN && width <= MAX_WIDTH, "callers pack blocks of 64-bit words");
    if width == 0 {
        return;
    }
    match <&[u64; BLOCK_LEN]>::try_from(values) {
        Ok(block) if width <= MAX_LANE_WIDTH => pack_lanes(block, width, out),
        _ => pack_string(values, width, out),
    }
}

/// Takes `len` numbers of `width` bits into the front of `out`; the rest of `out` is unspecified.
///
/// # Errors
/// Truncation; `width` above 64.
///
/// # Panics
/// `len` above [`BLOCK_LEN`].
pub fn unpack(
    input: &mut &[u8],
    len: usize,
    width: u32,
    out: &mut [u64; BLOCK_LEN],
) -> Result<(), CodecError> {
    if width > MAX_WIDTH {
        return Err(CodecError::Invalid { offset: 0, field: "bit width", found: width.into() });
    }
    let packed = take_bytes(input, packed_len(len, width))?;
    if width == 0 {
        out.fill(0);
    } else if len == BLOCK_LEN && width <= MAX_LANE_WIDTH {
        unpack_lanes(packed, width, out);
    } else {
        unpack_string(packed, len, width, out);
    }
    Ok(())
}

fn pack_lanes(values: &[u64; BLOCK_LEN], width: u32, out: &mut Vec<u8>) {
    let mut words = [0_u32; BLOCK_LEN];
    for (row, lanes) in values.chunks_exact(4).enumerate() {
        let bit = row * width as usize;
        let (word, shift) = (bit / 32, bit % 32);
        for (lane, &value) in lanes.iter().enumerate() {
            let shifted = value << shift;
            words[4 * word + lane] |= shifted as u32;
            if shift + width as usize > 32 {
                words[4 * (word + 1) + lane] |= (shifted >> 32) as u32;
            }
        }
    }
    out.extend(words[..4 * width as usize].iter().flat_map(|word| word.to_le_bytes()));
}

fn pack_string(values: &[u64], width: u32, out: &mut Vec<u8>) {
    let mut pending = 0_u128;
    let mut pending_bits = 0;
    for &value in values {
        pending |= u128::from(value) << pending_bits;
        pending_bits += width;
        if pending_bits >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            pending_bits -= 64;
        }
    }
    let left = pending_bits.div_ceil(8) as usize;
    out.extend_from_slice(&(pending as u64).to_le_bytes()[..left]);
}

fn unpack_string(packed: &[u8], len: usize, width: u32, out: &mut [u64; BLOCK_LEN]) {
    // A padded copy lets every value be read as one whole word, the last one too.
    let mut padded = [0_u8; BLOCK_LEN * 8 + 16];
    padded[..packed.len()].copy_from_slice(packed);
    let mask = u64::MAX >> (64 - width);
    let mut bit = 0_usize;
    for slot in &mut out[..len] {
        let (byte, shift) = (bit / 8, bit % 8);
        let word = u64::from_le_bytes(padded[byte..byte + 8].try_into().expect("eight bytes"));
        // Doubling the shift in two steps keeps it below 64 when `shift` is 0.
        let spill = (u64::from(padded[byte + 8]) << 1) << (63 - shift);
        *slot = ((word >> shift) | spill) & mask;
        bit += width as usize;
    }
}

/// Runs `$body` for each row of a four-lane block with `$row` a constant.
macro_rules! for_each_row {
    ($row:ident, $body:block) => {
        for_each_row!(@ $row, $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
            16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@ $row:ident, $body:block, $($index:literal)*) => {
        $({ const $row: usize = $index; $body })*
    };
}

fn unpack_width<const WIDTH: usize>(packed: &[u8], out: &mut [u64; BLOCK_LEN]) {
    let mut words = [[0_u32; 4]; 32];
    for (word, bytes) in words[..WIDTH].iter_mut().zip(packed.as_chunks::<16>().0) {
        for (lane, bytes) in word.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *lane = u32::from_le_bytes(*bytes);
        }
    }
    let mask = u32::MAX >> (32 - WIDTH);
    let (rows, _) = out.as_chunks_mut::<4>();
    for_each_row!(ROW, {
        let (word, shift) = (ROW * WIDTH / 32, ROW * WIDTH % 32);
        for lane in 0..4 {
            let low = words[word][lane] >> shift;
            let value = if shift + WIDTH > 32 {
                low | words[(word + 1) % 32][lane] << ((32 - shift) % 32)
            } else {
                low
            };
            rows[ROW][lane] = u64::from(value & mask);
        }
    });
}

fn unpack_lanes(packed: &[u8], width: u32, out: &mut [u64; BLOCK_LEN]) {
    macro_rules! dispatch {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_width::<$width>(packed, out),)*
                _ => unreachable!("callers keep the width within 1..=32"),
            }
        };
    }
    dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
              17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The layouts as the format document words them, bit by bit.
    fn pack_bit_by_bit(values: &[u64], width: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; (values.len() * width).div_ceil(8)];
        for (index, value) in values.iter().enumerate() {
            for bit in 0..width {
                let place = if values.len() == 128 && width <= 32 {
                    let (lane, row) = (index % 4, index / 4);
                    let (word, in_word) = ((row * width + bit) / 32, (row * width + bit) % 32);
                    32 * (4 * word + lane) + in_word
                } else {
                    index * width + bit
                };
                bytes[place / 8] |= ((value >> bit & 1) as u8) << (place % 8);
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn agrees_with_the_drawn_layout(
            values in proptest::collection::vec(any::<u64>(), 128),
            len in prop_oneof![Just(128_usize), 0_usize..=128],
        ) {
            for width in 0..=64_u32 {
                let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
                let values: Vec<u64> = values[..len].iter().map(|v| v & mask).collect();
                let mut packed = Vec::new();
                pack(&values, width, &mut packed);
                prop_assert_eq!(&packed, &pack_bit_by_bit(&values, width as usize));
                let mut out = [u64::MAX; 128];
                let mut input = packed.as_slice();
                unpack(&mut input, len, width, &mut out).expect("own bytes");
                prop_assert!(input.is_empty());
                prop_assert_eq!(&out[..len], &values[..]);
                if let Some(short) = packed.len().checked_sub(1) {
                    prop_assert!(unpack(&mut &packed[..short], len, width, &mut out).is_err());
                }
            }
            prop_assert!(unpack(&mut &[0; 2000][..], len, 65, &mut [0; 128]).is_err());
        }
    }
}
