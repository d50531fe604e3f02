//! Float columns: integers times one power of ten where that is exact, bit patterns where not.
//!
//! Nearly everything a monitoring system measures was printed or counted as a decimal: bytes,
//! seconds with two digits, nanoseconds. `mantissa / 10^digits` is one correctly rounded division,
//! so it gives back the very double that parsing the decimal gave, and the mantissas are small
//! regular integers. What is not decimal (NaN and stale markers, infinities, -0.0, results of
//! arithmetic) is kept beside the column by position, bit for bit.

use std::ops::Range;

use crate::bitpack::BLOCK_LEN;
use crate::error::located;
use crate::ints::{
    Packing, decode_blocks, decode_first_blocks, decode_i64s, encode_with as encode_ints,
    take_constant,
};
use crate::postings::{decode_postings, encode_postings};
use crate::varint::{put_u64, take_bytes, take_u64};
use crate::{CodecError, MAX_COLUMN_LEN, check_count};

const BITS: u8 = 0x00;
const DECIMAL: u8 = 0x20;
const PATCHED_DECIMAL: u8 = 0x40;
const DIGITS_MASK: u8 = 0x1f;

/// The powers of ten that are exactly doubles.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Values looked at to choose a column's digits.
const SAMPLE_LEN: usize = 32;

/// More digits than this are never wanted: a mantissa of so many is as long as the bit pattern.
const MAX_WANTED_DIGITS: usize = 15;

/// Up to this many digits a column without patches is surely best written as decimals.
const SURE_DIGITS: usize = 9;

/// What one more digit costs per value, in bits: far below log2(10), because most residuals of a
/// real column are zero whatever the unit.
const DIGIT_COST_BITS: usize = 1;

/// What one patch costs, in bits.
const PATCH_COST_BITS: usize = 80;

/// Appends `values` as one column, bit-exact for every pattern. Nothing is appended for no
/// values; at most 8 bytes per value and a few bytes more.
///
/// # Panics
/// More than [`MAX_COLUMN_LEN`] values.
pub fn encode_f64s(values: &[f64], out: &mut Vec<u8>) {
    encode_with(values, Packing::Bits, out);
}

/// As [`encode_f64s`], for a compressor behind it: larger as it is, and mostly smaller compressed.
/// Decoded by the same [`decode_f64s`], at about a third of the speed.
///
/// # Panics
/// As [`encode_f64s`].
pub fn encode_f64s_bytewise(values: &[f64], out: &mut Vec<u8>) {
    encode_with(values, Packing::Bytes, out);
}

fn encode_with(values: &[f64], packing: Packing, out: &mut Vec<u8>) {
    assert!(values.len() <= MAX_COLUMN_LEN, "a column has at most {MAX_COLUMN_LEN} values");
    let Some(first) = values.first() else { return };
    // Fast path, most columns: a constant column is encoded alike for any count.
    let is_constant = values.iter().all(|v| v.to_bits() == first.to_bits());
    let values = if is_constant { &values[..1] } else { values };

    let Some(digits) = choose_digits(values.iter().step_by(values.len().div_ceil(SAMPLE_LEN)))
    else {
        encode_bits(values, packing, out);
        return;
    };
    let decimal = Decimal::of(values, digits);
    if decimal.patches.is_empty() && digits <= SURE_DIGITS {
        decimal.encode(values, packing, out);
    } else {
        encode_smallest(values, decimal, packing, out);
    }
}

/// Appends the smallest of: `decimal`, decimals with the digits its patches want, bit patterns.
fn encode_smallest(values: &[f64], decimal: Decimal, packing: Packing, out: &mut Vec<u8>) {
    let mut best = Vec::new();
    encode_bits(values, packing, &mut best);
    let mut candidate = Vec::with_capacity(best.len());
    let patched = decimal.patches.iter().map(|&position| &values[position as usize]);
    let stride = decimal.patches.len().div_ceil(SAMPLE_LEN).max(1);
    let other = choose_digits(patched.step_by(stride)).filter(|digits| *digits > decimal.digits);
    for decimal in [Some(decimal), other.map(|digits| Decimal::of(values, digits))] {
        let Some(decimal) = decimal else { continue };
        if decimal.patches.len() == values.len() {
            continue;
        }
        candidate.clear();
        decimal.encode(values, packing, &mut candidate);
        if candidate.len() < best.len() {
            std::mem::swap(&mut best, &mut candidate);
        }
    }
    out.extend_from_slice(&best);
}

fn encode_bits(values: &[f64], packing: Packing, out: &mut Vec<u8>) {
    out.push(BITS);
    let patterns: Vec<i64> = values.iter().map(|&v| pattern(v)).collect();
    encode_ints(&patterns, packing, out);
}

/// A column as mantissas and the positions of values that are no decimal of these digits.
struct Decimal {
    digits: usize,
    mantissas: Vec<i64>,
    patches: Vec<u32>,
}

impl Decimal {
    fn of(values: &[f64], digits: usize) -> Self {
        let mut mantissas = Vec::with_capacity(values.len());
        let mut patches = Vec::new();
        let mut previous = 0;
        for (position, &value) in values.iter().enumerate() {
            match mantissa(value, digits) {
                Some(m) => previous = m,
                None => patches.push(position as u32),
            }
            mantissas.push(previous);
        }
        // Patches before the first decimal repeat it instead of starting the column at zero.
        let leading = patches.iter().zip(0_u32..).take_while(|(p, i)| *p == i).count();
        if let Some(&m) = mantissas.get(leading) {
            mantissas[..leading].fill(m);
        }
        Decimal { digits, mantissas, patches }
    }

    fn encode(&self, values: &[f64], packing: Packing, out: &mut Vec<u8>) {
        let kind = if self.patches.is_empty() { DECIMAL } else { PATCHED_DECIMAL };
        out.push(kind | self.digits as u8);
        encode_ints(&self.mantissas, packing, out);
        if !self.patches.is_empty() {
            put_u64(out, self.patches.len() as u64);
            encode_postings(&self.patches, out);
            let patterns: Vec<i64> =
                self.patches.iter().map(|&position| pattern(values[position as usize])).collect();
            encode_ints(&patterns, packing, out);
        }
    }
}

/// The cheapest digits for a sample, or `None` if less than half of what is finite in it is
/// decimal. What is not finite is a patch whatever the digits.
fn choose_digits<'a>(sample: impl Iterator<Item = &'a f64>) -> Option<usize> {
    let mut wanted = [0_usize; MAX_WANTED_DIGITS + 1];
    let mut total = 0;
    for &value in sample.filter(|value| value.is_finite()) {
        total += 1;
        if let Some(digits) = (0..wanted.len()).find(|&d| mantissa(value, d).is_some()) {
            wanted[digits] += 1;
        }
    }
    let mut covered = 0;
    let mut best: Option<(usize, usize)> = None;
    for (digits, &count) in wanted.iter().enumerate() {
        covered += count;
        if count > 0 && 2 * covered >= total {
            let cost = (total - covered) * PATCH_COST_BITS + total * digits * DIGIT_COST_BITS;
            best = Some(best.map_or((cost, digits), |b| b.min((cost, digits))));
        }
    }
    best.map(|(_, digits)| digits)
}

/// The integer m with m / 10^digits == value bit for bit, if there is one.
#[inline]
fn mantissa(value: f64, digits: usize) -> Option<i64> {
    // 1.5 * 2^52: adding and subtracting it rounds to an integer in two additions.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // Doubles from 2^51 on are integers or halves and must not pass through `ROUND`.
    const ROUND_LIMIT: f64 = 2_251_799_813_685_248.0;
    let power = POWERS[digits];
    let scaled = value * power;
    let rounded = if scaled.abs() < ROUND_LIMIT { (scaled + ROUND) - ROUND } else { scaled };
    // The conversion saturates and maps NaN to 0; the comparison then fails.
    let candidate = rounded as i64;
    (restore(candidate, power).to_bits() == value.to_bits()).then_some(candidate)
}

/// The one way back from a mantissa; encoder and decoder must not differ in a bit.
#[inline]
fn restore(mantissa: i64, power: f64) -> f64 {
    mantissa as f64 / power
}

fn pattern(value: f64) -> i64 {
    value.to_bits().rotate_left(1) as i64
}

fn value_of(pattern: i64) -> f64 {
    f64::from_bits((pattern as u64).rotate_right(1))
}

/// Takes a column of `count` values and appends them to `out`. `out` grows by `count` values at
/// most and is as before after an error; `input` is then anywhere.
///
/// # Errors
/// Truncation; fields the format does not allow; `count` above [`MAX_COLUMN_LEN`].
pub fn decode_f64s(input: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    check_count(count)?;
    if count == 0 {
        return Ok(());
    }
    let start = out.len();
    out.reserve(count);
    located(input, |input| decode_column(input, count, out)).inspect_err(|_| out.truncate(start))
}

/// As [`decode_f64s`], of a column of `count` values those at `places` only; what lies behind them is
/// neither read nor checked, and `input` is then anywhere.
///
/// # Errors
/// As [`decode_f64s`].
///
/// # Panics
/// `places` ends behind `count`.
pub fn decode_f64s_at(
    input: &mut &[u8],
    count: usize,
    places: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    assert!(places.end <= count, "places lie in the column");
    check_count(count)?;
    if places.is_empty() {
        return Ok(());
    }
    let start = out.len();
    out.reserve(places.len());
    located(input, |input| decode_places(input, count, places, out))
        .inspect_err(|_| out.truncate(start))
}

fn decode_places(
    input: &mut &[u8],
    count: usize,
    places: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    // Of no bytes any mode will do: taking it fails below.
    let mode = input.first().copied().unwrap_or(0);
    let power = POWERS.get(usize::from(mode & DIGITS_MASK)).copied();
    let restored: fn(i64, f64) -> f64 = match (mode & !DIGITS_MASK, power) {
        (BITS, Some(1.0)) => |pattern, _| value_of(pattern),
        (DECIMAL, Some(1.0)) => |mantissa, _| mantissa as f64,
        (DECIMAL, Some(_)) => restore,
        // Patches lie behind the column.
        _ => {
            let start = out.len();
            decode_column(input, count, out)?;
            out.truncate(start + places.end);
            out.drain(start..start + places.start);
            return Ok(());
        }
    };
    take_bytes(input, 1)?;
    // Fast path, most columns of most hosts.
    if let Some(constant) = take_constant(input)? {
        out.resize(out.len() + places.len(), restored(constant, power.unwrap_or(1.0)));
        return Ok(());
    }
    let mut at = 0;
    let mut take = |block: &[i64], out: &mut Vec<f64>, value: &dyn Fn(&[i64], &mut Vec<f64>)| {
        let end = at + block.len();
        let (first, last) = (places.start.max(at), places.end.min(end));
        if first < last {
            value(&block[first - at..last - at], out);
        }
        at = end;
    };
    match (mode & !DIGITS_MASK, power) {
        (BITS, _) => decode_first_blocks(input, count, places.end, |block| {
            take(block, out, &|some, out| out.extend(some.iter().map(|&p| value_of(p))));
        }),
        (_, None | Some(1.0)) => decode_first_blocks(input, count, places.end, |block| {
            take(block, out, &|some, out| out.extend(some.iter().map(|&m| m as f64)));
        }),
        (_, Some(power)) => decode_first_blocks(input, count, places.end, |block| {
            take(block, out, &|some, out| out.extend(some.iter().map(|&m| restore(m, power))));
        }),
    }
}

fn decode_column(input: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let mode = take_bytes(input, 1)?[0];
    let kind = mode & !DIGITS_MASK;
    let power = POWERS.get(usize::from(mode & DIGITS_MASK)).copied();
    match (kind, power) {
        (BITS, Some(1.0)) => decode_blocks(input, count, |patterns| {
            out.extend(patterns.iter().map(|&p| value_of(p)));
        }),
        // Fast path for counts of things; a division by 1 would cost as much as any other.
        (DECIMAL, Some(1.0)) => decode_blocks(input, count, |mantissas| {
            out.extend(mantissas.iter().map(|&m| m as f64));
        }),
        (DECIMAL | PATCHED_DECIMAL, Some(power)) => {
            let start = out.len();
            decode_blocks(input, count, |mantissas| {
                out.extend(mantissas.iter().map(|&m| restore(m, power)));
            })?;
            if kind == PATCHED_DECIMAL {
                decode_patches(input, &mut out[start..])?;
            }
            Ok(())
        }
        _ => Err(CodecError::Invalid {
            offset: 0,
            field: "mode of a float column",
            found: mode.into(),
        }),
    }
}

fn decode_patches(input: &mut &[u8], values: &mut [f64]) -> Result<(), CodecError> {
    let invalid = |found| CodecError::Invalid { offset: 0, field: "count of patches", found };
    let stated = take_u64(input)?;
    let count = usize::try_from(stated)
        .ok()
        .filter(|count| (1..=values.len()).contains(count))
        .ok_or(invalid(stated))?;
    let mut positions = Vec::new();
    decode_postings(input, count, &mut positions)?;
    let last = positions.last().copied().unwrap_or(0);
    if last as usize >= values.len() {
        return Err(CodecError::Invalid {
            offset: 0,
            field: "position of a patch",
            found: last.into(),
        });
    }
    let mut patterns = Vec::with_capacity(count.min(BLOCK_LEN));
    decode_i64s(input, count, &mut patterns)?;
    for (&position, &pattern) in positions.iter().zip(&patterns) {
        values[position as usize] = value_of(pattern);
    }
    Ok(())
}
