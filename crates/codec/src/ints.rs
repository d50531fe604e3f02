//! Integer columns: constant, linear, or residuals of order 0, 1 or 2 in patched blocks.

use crate::bitpack::{BLOCK_LEN, packed_len};
use crate::block;
use crate::error::located;
use crate::varint::{put_i64, put_u64, take_bytes, take_i64, take_i64s, take_u64, zigzag};
use crate::{CodecError, MAX_COLUMN_LEN, check_count};

/// Bit 3 of the mode byte: a scale follows `first`.
const SCALED: u8 = 0x08;

/// Blocks that are looked at to choose the order of a column's residuals.
const SAMPLED_BLOCKS: usize = 4;

/// Residuals of a block of which the median counts as typical.
const PROBES: usize = 9;

/// Differences of differences need two values before a block.
const MAX_ORDER: usize = 2;

/// What a column's mode byte says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Raw = 0,
    Constant = 1,
    Linear = 2,
    Direct = 3,
    Delta = 4,
    DeltaOfDelta = 5,
    DeltaBytes = 6,
    DeltaOfDeltaBytes = 7,
}

/// How residuals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// In blocks of packed bits: small as they are, and fast.
    Bits,
    /// As varints, byte by byte: larger, and much smaller behind a compressor, which sees bytes.
    Bytes,
}

impl Kind {
    /// The blocked kind whose residuals are differences of `order`.
    const BLOCKED: [Kind; MAX_ORDER + 1] = [Kind::Direct, Kind::Delta, Kind::DeltaOfDelta];

    /// Order of the kind's residuals, if it has blocks.
    fn order(self) -> Option<usize> {
        match self {
            Kind::DeltaBytes => Some(1),
            Kind::DeltaOfDeltaBytes => Some(2),
            _ => Kind::BLOCKED.iter().position(|kind| *kind == self),
        }
    }

    /// Whether its residuals are varints.
    fn is_bytes(self) -> bool {
        matches!(self, Kind::DeltaBytes | Kind::DeltaOfDeltaBytes)
    }

    /// Fewest values a column of this kind has.
    fn min_count(self) -> usize {
        match self {
            Kind::Raw | Kind::Constant => 1,
            Kind::Linear | Kind::Direct | Kind::Delta | Kind::DeltaBytes => 2,
            Kind::DeltaOfDelta | Kind::DeltaOfDeltaBytes => 3,
        }
    }
}

/// Appends `values` as one column: timestamps, counters, or any other integers. Nothing is
/// appended for no values; at most 8 bytes per value and 1 byte more, 11 bytes if all are equal.
///
/// # Panics
/// More than [`MAX_COLUMN_LEN`] values.
pub fn encode_i64s(values: &[i64], out: &mut Vec<u8>) {
    encode_with(values, Packing::Bits, out);
}

/// As [`encode_i64s`], with residuals as `packing` says.
pub(crate) fn encode_with(values: &[i64], packing: Packing, out: &mut Vec<u8>) {
    assert!(values.len() <= MAX_COLUMN_LEN, "a column has at most {MAX_COLUMN_LEN} values");
    let Some((&first, rest)) = values.split_first() else { return };
    let start = out.len();
    let step = rest.first().map_or(0, |second| second.wrapping_sub(first));
    if step == 0 && rest.iter().all(|&v| v == first) {
        // Alike for any count, which constant float columns rely on; so never raw.
        out.push(Kind::Constant as u8);
        put_i64(out, first);
        return;
    }
    if values.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        out.push(Kind::Linear as u8);
        put_i64(out, first);
        put_i64(out, step);
    } else {
        Residuals::of(values).encode(packing, out);
    }
    // Wild values cost more as varints or packed than as they are, however few there are.
    if out.len() - start > 1 + 8 * values.len() {
        out.truncate(start);
        out.push(Kind::Raw as u8);
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
}

/// A column that is neither constant nor linear, seen as scaled distances from its first value.
struct Residuals<'a> {
    values: &'a [i64],
    scale: u64,
    /// `scale` is `odd << shift`, and division by `odd` is multiplication by `inverse`.
    shift: u32,
    inverse: i64,
}

impl<'a> Residuals<'a> {
    fn of(values: &'a [i64]) -> Self {
        let scale = common_divisor(values);
        let shift = scale.trailing_zeros();
        Residuals { values, scale, shift, inverse: inverse_of_odd(scale >> shift) as i64 }
    }

    /// Writes into the front of `buffer` the differences of `order` that end at values
    /// `at..at + len`, `at >= order` and `at >= 1`.
    fn fill(&self, order: usize, at: usize, len: usize, buffer: &mut [i64; BLOCK_LEN + MAX_ORDER]) {
        let first = self.values[0];
        let window = &self.values[at - order..at + len];
        for (slot, value) in buffer.iter_mut().zip(window) {
            *slot = (value.wrapping_sub(first) >> self.shift).wrapping_mul(self.inverse);
        }
        for pass in 0..order {
            for i in 0..len + order - 1 - pass {
                buffer[i] = buffer[i + 1].wrapping_sub(buffer[i]);
            }
        }
    }

    /// Calls `visit` with the start and length of the blocks of `order`, every `stride`-th one.
    fn for_each_block(&self, order: usize, stride: usize, mut visit: impl FnMut(usize, usize)) {
        let start = order.max(1);
        for at in (start..self.values.len()).step_by(stride * BLOCK_LEN) {
            visit(at, BLOCK_LEN.min(self.values.len() - at));
        }
    }

    /// The order that some blocks suggest. Planning them would be exact, and several times as slow.
    fn choose_order(&self) -> usize {
        let stride = self.values.len().div_ceil(BLOCK_LEN * SAMPLED_BLOCKS);
        let mut buffer = [0; BLOCK_LEN + MAX_ORDER];
        let mut best = (usize::MAX, 0);
        for (order, kind) in Kind::BLOCKED.iter().enumerate() {
            if self.values.len() < kind.min_count() {
                break;
            }
            let mut size = 0;
            self.for_each_block(order, stride, |at, len| {
                self.fill(order, at, len, &mut buffer);
                size += estimated_size(&buffer[..len]);
            });
            best = best.min((size, order));
        }
        best.1
    }

    fn encode(&self, packing: Packing, out: &mut Vec<u8>) {
        let (order, kind) = match (self.choose_order(), packing) {
            (order, Packing::Bits) => (order, Kind::BLOCKED[order]),
            (2, Packing::Bytes) => (2, Kind::DeltaOfDeltaBytes),
            (_, Packing::Bytes) => (1, Kind::DeltaBytes),
        };
        let scaled = if self.scale > 1 { SCALED } else { 0 };
        out.push(kind as u8 | scaled);
        put_i64(out, self.values[0]);
        if self.scale > 1 {
            put_u64(out, self.scale);
        }
        let mut buffer = [0; BLOCK_LEN + MAX_ORDER];
        if order == 2 {
            self.fill(1, 1, 1, &mut buffer);
            put_i64(out, buffer[0]);
        }
        self.for_each_block(order, 1, |at, len| {
            self.fill(order, at, len, &mut buffer);
            let residuals = &buffer[..len];
            match packing {
                Packing::Bits => block::encode(residuals, block::plan(residuals), out),
                Packing::Bytes => residuals.iter().for_each(|residual| put_i64(out, *residual)),
            }
        });
    }
}

/// About what a frame around a typical residual will need: bytes of the cheapest width, if values
/// are told apart by their significant bits only.
fn estimated_size(residuals: &[i64]) -> usize {
    // The median of a few; not the middle of the extremes, which outliers move.
    let mut probes: [i64; PROBES] =
        std::array::from_fn(|i| residuals[i * (residuals.len() - 1) / (PROBES - 1)]);
    probes.sort_unstable();
    let typical = probes[PROBES / 2];
    let mut counts = [0_usize; 65];
    let (mut low, mut high) = (typical, typical);
    for &value in residuals {
        counts[significant_bits(zigzag(value.wrapping_sub(typical)))] += 1;
        low = low.min(value);
        high = high.max(value);
    }
    // Without patches the frame starts at the lowest value, and the estimate is exact.
    let mut best =
        packed_len(residuals.len(), significant_bits(high.wrapping_sub(low) as u64) as u32);
    let mut patches = 0;
    for (width, count) in counts.iter().enumerate().rev() {
        best = best.min(packed_len(residuals.len(), width as u32) + patches);
        patches += count * (1 + width.div_ceil(7));
    }
    best
}

fn significant_bits(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

/// The greatest number that divides every value's distance from the first. Stops at the first
/// proof that it is 1, so columns without one cost a few divisions.
fn common_divisor(values: &[i64]) -> u64 {
    let mut divisor = 0_u64;
    for value in &values[1..] {
        let mut a = value.wrapping_sub(values[0]).unsigned_abs();
        if a == 0 {
            continue;
        }
        let mut b = divisor;
        while b != 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

/// The number whose wrapping product with `odd` is 1.
fn inverse_of_odd(odd: u64) -> u64 {
    // Newton's iteration: an odd number is its own inverse modulo 8, each step doubles the bits.
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

/// Takes a column of `count` values and appends them to `out`. `out` grows by `count` values at
/// most and is as before after an error; `input` is then anywhere.
///
/// # Errors
/// Truncation; fields the format does not allow; `count` above [`MAX_COLUMN_LEN`].
pub fn decode_i64s(input: &mut &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let start = out.len();
    check_count(count)?;
    out.reserve(count);
    located(input, |input| decode_blocks(input, count, |block| out.extend_from_slice(block)))
        .inspect_err(|_| out.truncate(start))
}

/// Takes a column and hands its values to `sink`, at most [`BLOCK_LEN`] at a time.
pub(crate) fn decode_blocks(
    input: &mut &[u8],
    count: usize,
    sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    decode_first_blocks(input, count, count, sink)
}

/// The value of all in a column, if it says that there is one only; then `input` is behind it.
pub(crate) fn take_constant(input: &mut &[u8]) -> Result<Option<i64>, CodecError> {
    if input.first() != Some(&(Kind::Constant as u8)) {
        return Ok(None);
    }
    *input = &input[1..];
    take_i64(input).map(Some)
}

/// As [`decode_blocks`], of a column of `count` values the blocks that hold the first `wanted`;
/// `input` is then anywhere.
pub(crate) fn decode_first_blocks(
    input: &mut &[u8],
    count: usize,
    wanted: usize,
    mut sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    if count == 0 || wanted == 0 {
        return Ok(());
    }
    let mode = take_bytes(input, 1)?[0];
    let (kind, scaled) = parse_mode(mode)?;
    if count < kind.min_count() {
        return Err(CodecError::Invalid {
            offset: 0,
            field: "count of values for the column's kind",
            found: count as u64,
        });
    }
    if kind == Kind::Raw {
        return decode_raw(input, count, sink);
    }
    let first = take_i64(input)?;
    let Some(order) = kind.order() else {
        let step = if kind == Kind::Linear { take_i64(input)? } else { 0 };
        emit_linear(first, step, wanted, sink);
        return Ok(());
    };
    let scale = if scaled { take_scale(input)? } else { 1 };
    sink(&[first]);
    let mut sums = Sums { slope: 0, distance: 0 };
    if order == 2 {
        sums.slope = take_i64(input)?;
        sums.distance = sums.slope;
        sink(&[first.wrapping_add(sums.distance.wrapping_mul(scale))]);
    }
    let mut left = count - order.max(1);
    // Those that nobody wants.
    let behind = count - wanted.min(count);
    let mut buffer = [0_i64; BLOCK_LEN];
    while left > behind {
        let len = left.min(BLOCK_LEN);
        if kind.is_bytes() {
            take_i64s(input, &mut buffer[..len])?;
        } else {
            block::decode(input, len, &mut buffer)?;
        }
        sums.undo_differences(order, &mut buffer[..len]);
        // Distances from zero in steps of one are the values already.
        if first != 0 || scale != 1 {
            for value in &mut buffer {
                *value = first.wrapping_add(value.wrapping_mul(scale));
            }
        }
        sink(&buffer[..len]);
        left -= len;
    }
    Ok(())
}

/// Running sums that turn differences back into distances from the first value.
struct Sums {
    slope: i64,
    distance: i64,
}

impl Sums {
    fn undo_differences(&mut self, order: usize, residuals: &mut [i64]) {
        match order {
            0 => {}
            1 => {
                for value in residuals {
                    self.distance = self.distance.wrapping_add(*value);
                    *value = self.distance;
                }
            }
            _ => {
                for value in residuals {
                    self.slope = self.slope.wrapping_add(*value);
                    self.distance = self.distance.wrapping_add(self.slope);
                    *value = self.distance;
                }
            }
        }
    }
}

fn parse_mode(mode: u8) -> Result<(Kind, bool), CodecError> {
    let scaled = mode & SCALED != 0;
    let kind = match mode & !SCALED {
        0 => Kind::Raw,
        1 => Kind::Constant,
        2 => Kind::Linear,
        3 => Kind::Direct,
        4 => Kind::Delta,
        5 => Kind::DeltaOfDelta,
        6 => Kind::DeltaBytes,
        7 => Kind::DeltaOfDeltaBytes,
        _ => return Err(invalid_mode(mode)),
    };
    if scaled && kind.order().is_none() {
        return Err(invalid_mode(mode));
    }
    Ok((kind, scaled))
}

#[cold]
fn invalid_mode(mode: u8) -> CodecError {
    CodecError::Invalid { offset: 0, field: "mode of an integer column", found: mode.into() }
}

fn take_scale(input: &mut &[u8]) -> Result<i64, CodecError> {
    let scale = take_u64(input)?;
    if scale < 2 {
        return Err(CodecError::Invalid { offset: 0, field: "scale", found: scale });
    }
    // Arithmetic is modulo 2^64, so the bits are all that matters.
    Ok(scale as i64)
}

fn decode_raw(
    input: &mut &[u8],
    count: usize,
    mut sink: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    let bytes = take_bytes(input, 8 * count)?;
    let mut buffer = [0_i64; BLOCK_LEN];
    for words in bytes.as_chunks::<8>().0.chunks(BLOCK_LEN) {
        for (slot, word) in buffer.iter_mut().zip(words) {
            *slot = i64::from_le_bytes(*word);
        }
        sink(&buffer[..words.len()]);
    }
    Ok(())
}

fn emit_linear(first: i64, step: i64, count: usize, mut sink: impl FnMut(&[i64])) {
    let mut buffer: [i64; BLOCK_LEN] =
        std::array::from_fn(|i| first.wrapping_add(step.wrapping_mul(i as i64)));
    let stride = step.wrapping_mul(BLOCK_LEN as i64);
    let mut left = count;
    while left > 0 {
        let len = left.min(BLOCK_LEN);
        sink(&buffer[..len]);
        for value in &mut buffer {
            *value = value.wrapping_add(stride);
        }
        left -= len;
    }
}
